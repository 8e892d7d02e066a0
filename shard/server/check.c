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
