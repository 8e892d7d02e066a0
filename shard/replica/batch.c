#include "replica/batch.h"

#include <stdlib.h>

static gyre_status reserve(gy_batch *batch, size_t count, gyre_error *err)
{
    if (count <= batch->room)
        return GYRE_OK;
    size_t room = batch->room * 2 > count ? batch->room * 2 : count;
    /* Each array is kept as soon as it has grown; room says what all of them have. */
    struct gy_operation *operations = realloc(batch->operations, room * sizeof *operations);
    if (operations)
        batch->operations = operations;
    uint64_t *versions = realloc(batch->versions, room * sizeof *versions);
    if (versions)
        batch->versions = versions;
    bool *deleted = realloc(batch->deleted, room * sizeof *deleted);
    if (deleted)
        batch->deleted = deleted;
    if (!operations || !versions || !deleted)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a batch of %zu operations", room);
    batch->room = room;
    return GYRE_OK;
}

gyre_status gy_batch_add(gy_batch *batch, const Gyre__Node__Write *write, uint64_t seq, gyre_error *err)
{
    GY_TRY(reserve(batch, batch->count + write->n_operations, err));
    for (size_t i = 0; i < write->n_operations; i++) {
        const Gyre__Node__Operation *from = write->operations[i];
        struct gy_operation *to = &batch->operations[batch->count];
        *to = (struct gy_operation){0};
        memcpy(to->id.bytes, from->id.data, GYRE_ID_BYTES);
        if (from->vector.len) {
            to->vector = (const float *)(const void *)from->vector.data;
            to->payload = from->payload;
        }
        batch->versions[batch->count] = seq;
        batch->deleted[batch->count] = false;
        batch->count++;
    }
    return GYRE_OK;
}

gyre_status gy_batch_apply(gy_batch *batch, gy_points *points, uint64_t seq, gyre_error *err)
{
    return gy_points_apply(points, batch->operations, batch->versions, batch->count, seq, batch->deleted, err);
}

void gy_batch_clear(gy_batch *batch)
{
    batch->count = 0;
}

void gy_batch_fini(gy_batch *batch)
{
    free(batch->operations);
    free(batch->versions);
    free(batch->deleted);
    *batch = (gy_batch){0};
}
