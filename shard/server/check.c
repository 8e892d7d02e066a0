/* What requests have in common: packed rows, packed ids, what a collection's vectors are. */
#include "server/incoming.h"

#include <assert.h>
#include <inttypes.h>

bool gy_learn_facts(gy_node *node, uint64_t collection_id, uint32_t shard, uint32_t *dim, gyre_metric *metric)
{
    gy_hosted *hosted;
    if (gy_node_hold(node, collection_id, shard, &hosted, NULL) != GYRE_OK)
        return false;
    gy_points *points = gy_replica_points(gy_hosted_replica(hosted));
    *dim = gy_points_dim(points);
    *metric = gy_points_metric(points);
    gy_node_release(node, hosted);
    return true;
}

gyre_status gy_check_behind(uint64_t applied_seq, uint64_t min_seq, gyre_error *err)
{
    if (applied_seq < min_seq)
        return gyre_fail(err, GYRE_UNAVAILABLE, "the replica is behind: it has applied seq %" PRIu64 "; min_seq is %" PRIu64,
                         applied_seq, min_seq);
    return GYRE_OK;
}

gyre_status gy_check_range(uint64_t hash_first, uint64_t hash_last, gyre_error *err)
{
    if (hash_first > hash_last)
        return gyre_fail(err, GYRE_INVALID, "hash_first is %016" PRIx64 " and hash_last %016" PRIx64, hash_first, hash_last);
    return GYRE_OK;
}

gyre_status gy_check_ranges(size_t n_shards, const uint64_t *hash_firsts, size_t n_hash_firsts, const uint64_t *hash_lasts,
                            size_t n_hash_lasts, gyre_error *err)
{
    if (n_hash_firsts != n_hash_lasts || (n_hash_firsts && n_hash_firsts != n_shards))
        return gyre_fail(err, GYRE_INVALID, "%zu hash_firsts, %zu hash_lasts; there must be one for each of %zu shards, or none",
                         n_hash_firsts, n_hash_lasts, n_shards);
    for (size_t i = 0; i < n_hash_firsts; i++) {
        gyre_status status = gy_check_range(hash_firsts[i], hash_lasts[i], err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "shards[%zu]", i);
    }
    return GYRE_OK;
}

/* A part may serve its points, and be written to, while the primary that gives them up has still to apply that it does: from the
 * intent on it answers for what it keeps only. */
static gyre_status check_kept(gy_replica *replica, const gyre_point_id *ids, size_t count, gyre_error *err)
{
    struct gy_shard_config config;
    gy_replica_config(replica, &config);
    struct gy_hash_range kept = gy_config_kept_range(&config);
    for (size_t i = 0; i < count && !gy_range_is_all(kept); i++)
        if (!gy_range_has(kept, gy_point_hash(config.hash_key, &ids[i])))
            return gy_replica_fail_foreign(replica, err);
    return GYRE_OK;
}

gyre_status gy_check_had(gy_replica *replica, const gyre_point_id *ids, size_t count, bool newest, gyre_error *err)
{
    gy_points *points = gy_replica_points(replica);
    for (size_t i = 0; i < count; i++)
        if (!(newest ? gy_points_owns(points, &ids[i]) : gy_points_has_id(points, &ids[i])))
            return gy_replica_fail_foreign(replica, err);
    return newest ? check_kept(replica, ids, count, err) : GYRE_OK;
}

const float *gy_floats(const ProtobufCBinaryData *data)
{
    assert((uintptr_t)data->data % _Alignof(float) == 0);
    return (const float *)(const void *)data->data;
}

const uint32_t *gy_numbers(const ProtobufCBinaryData *data)
{
    assert((uintptr_t)data->data % _Alignof(uint32_t) == 0);
    return (const uint32_t *)(const void *)data->data;
}

ProtobufCBinaryData gy_as_bytes(float *values, size_t count)
{
    uint8_t *bytes = (uint8_t *)values;
    for (size_t i = 0; i < count; i++) {
        float value = values[i];
        gy_store_f32(bytes + i * sizeof value, value);
    }
    return (ProtobufCBinaryData){count * sizeof *values, bytes};
}

gyre_status gy_check_vectors(const char *field, const ProtobufCBinaryData *data, gyre_metric metric, uint32_t dim,
                             size_t rows_max, size_t *rows, gyre_error *err)
{
    size_t row_bytes = (size_t)dim * sizeof(float);
    if (data->len == 0 || data->len % row_bytes != 0)
        return gyre_fail(err, GYRE_INVALID, "%s has %zu bytes; it needs whole rows of %u dimensions, %zu bytes each", field,
                         data->len, dim, row_bytes);
    *rows = data->len / row_bytes;
    if (*rows > rows_max)
        return gyre_fail(err, GYRE_INVALID, "%s has %zu rows; the limit is %zu", field, *rows, rows_max);
    for (size_t i = 0; i < *rows; i++) {
        gyre_status status = gyre_vector_check(metric, gy_floats(data) + i * dim, dim, i, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "%s", field);
    }
    return GYRE_OK;
}

gyre_status gy_check_ids(const char *field, const ProtobufCBinaryData *data, size_t ids_max, size_t *count, gyre_error *err)
{
    if (data->len == 0 || data->len % GYRE_ID_BYTES != 0)
        return gyre_fail(err, GYRE_INVALID, "%s has %zu bytes; it needs whole ids of %d bytes", field, data->len, GYRE_ID_BYTES);
    *count = data->len / GYRE_ID_BYTES;
    if (*count > ids_max)
        return gyre_fail(err, GYRE_INVALID, "%s has %zu ids; the limit is %zu", field, *count, ids_max);
    for (size_t i = 0; i < *count; i++) {
        gyre_status status = gyre_point_id_check(data->data + i * GYRE_ID_BYTES, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "%s[%zu]", field, i);
    }
    return GYRE_OK;
}
