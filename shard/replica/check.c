#include "replica/check.h"

#include "gyre/point_id.h"
#include "gyre/wire.h"

#include "store/store.h"

#include <assert.h>
#include <inttypes.h>

static gyre_status check_code(const Gyre__Node__Operation *operation, const struct gy_write_rules *rules, gyre_error *err)
{
    size_t row_bytes = gyre_codec_list_row_bytes(rules->codec, rules->dim);
    if (operation->code.len != row_bytes)
        return gyre_fail(err, GYRE_INVALID, "code of %zu bytes; one has %zu", operation->code.len, row_bytes);
    if (operation->list >= rules->lists)
        return gyre_fail(err, GYRE_INVALID, "list is %u; there are %u", operation->list, rules->lists);
    gyre_status status = gyre_codec_list_row_check(rules->codec, rules->dim, operation->code.data, err);
    return status == GYRE_OK ? gy_payload_check(operation->payload, err) : gyre_wrap(err, GYRE_INVALID, "code");
}

static gyre_status check_operation(const Gyre__Node__Operation *operation, size_t i, const struct gy_write_rules *rules,
                                   gyre_error *err)
{
    uint32_t dim = rules->dim;
    if (operation->id.len != GYRE_ID_BYTES)
        return gyre_fail(err, GYRE_INVALID, "id of %zu bytes; an id has %d", operation->id.len, GYRE_ID_BYTES);
    GY_TRY(gyre_point_id_check(operation->id.data, err));
    if (rules->quantized ? operation->vector.len != 0 : operation->code.len != 0)
        return gyre_fail(err, GYRE_INVALID, rules->quantized ? "a vector, for a member that takes codes" : "a code, not a vector");
    if (operation->code.len)
        return check_code(operation, rules, err);
    if (operation->vector.len == 0)
        return GYRE_OK; /* a delete; its payload is not looked at */
    if (operation->vector.len != (size_t)dim * sizeof(float))
        return gyre_fail(err, GYRE_INVALID, "vector of %zu bytes; the collection has %u dimensions, %zu bytes",
                         operation->vector.len, dim, (size_t)dim * sizeof(float));
    /* Every bytes field is an allocation of its own. */
    assert((uintptr_t)operation->vector.data % _Alignof(float) == 0);
    GY_TRY(gyre_vector_check(rules->metric, (const float *)(const void *)operation->vector.data, dim, i, err));
    return gy_payload_check(operation->payload, err);
}

static gyre_status check_narrow(const Gyre__Node__Write *write, gyre_error *err)
{
    const Gyre__Node__Narrow *narrow = write->narrow;
    struct gy_hash_range range = {narrow->hash_first, narrow->hash_last};
    if (write->forget || write->n_operations)
        return gyre_fail(err, GYRE_INVALID, "narrow, and %s; it comes alone", write->forget ? "forget" : "operations");
    if (narrow->hash_key.len != GY_HASH_KEY_BYTES)
        return gyre_fail(err, GYRE_INVALID, "narrow: hash_key has %zu bytes; it has %d", narrow->hash_key.len, GY_HASH_KEY_BYTES);
    if (range.first > range.last || gy_range_is_all(range))
        return gyre_fail(err, GYRE_INVALID, "narrow: from %016" PRIx64 " to %016" PRIx64 "; it is a part of all hashes",
                         range.first, range.last);
    if (narrow->shard && range.last == UINT64_MAX)
        return gyre_fail(err, GYRE_INVALID, "narrow: nothing is above %016" PRIx64 " for shard %u", range.last, narrow->shard);
    return GYRE_OK;
}

static gyre_status check_forget(const Gyre__Node__Write *write, gyre_error *err)
{
    if (write->n_operations > GY_FORGET_OPERATIONS_MAX)
        return gyre_fail(err, GYRE_INVALID, "forget of %zu points; it has at most %d", write->n_operations,
                         GY_FORGET_OPERATIONS_MAX);
    for (size_t i = 0; i < write->n_operations; i++) {
        const Gyre__Node__Operation *operation = write->operations[i];
        if (operation->id.len != GYRE_ID_BYTES)
            return gyre_fail(err, GYRE_INVALID, "operation %zu: id of %zu bytes; an id has %d", i, operation->id.len,
                             GYRE_ID_BYTES);
        if (operation->vector.len || operation->code.len)
            return gyre_fail(err, GYRE_INVALID, "operation %zu: an upsert; what is forgotten is deleted", i);
        gyre_status status = gyre_point_id_check(operation->id.data, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "operation %zu", i);
    }
    return GYRE_OK;
}

static gyre_status check_own(const Gyre__Node__Write *write, gyre_error *err)
{
    if (write->client.len)
        return gyre_fail(err, GYRE_INVALID, "client of %zu bytes; a primary's own write has none", write->client.len);
    return write->narrow ? check_narrow(write, err) : check_forget(write, err);
}

gyre_status gy_write_check(const Gyre__Node__Write *write, const struct gy_write_rules *rules, gyre_error *err)
{
    if (gy_write_is_own(write))
        return check_own(write, err);
    if (write->client.len != 0 && write->client.len != GY_CLIENT_BYTES)
        return gyre_fail(err, GYRE_INVALID, "client of %zu bytes; it has %d, or none", write->client.len, GY_CLIENT_BYTES);
    if (rules->quantized && write->codebook_version != rules->codebook_version)
        return gyre_fail(err, GYRE_INVALID, "codes of codebook %u; the replica's are of %u", write->codebook_version,
                         rules->codebook_version);
    if (write->n_operations == 0 || write->n_operations > GY_WRITE_OPERATIONS_MAX)
        return gyre_fail(err, GYRE_INVALID, "write of %zu operations; it may have 1 to %d", write->n_operations,
                         GY_WRITE_OPERATIONS_MAX);
    for (size_t i = 0; i < write->n_operations; i++) {
        gyre_status status = check_operation(write->operations[i], i, rules, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "operation %zu", i);
    }
    return GYRE_OK;
}
