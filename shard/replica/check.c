#include "replica/check.h"

#include "gyre/point_id.h"
#include "gyre/wire.h"

#include <assert.h>

static gyre_status check_operation(const Gyre__Node__Operation *operation, size_t i, gyre_metric metric, uint32_t dim,
                                   gyre_error *err)
{
    if (operation->id.len != GYRE_ID_BYTES)
        return gyre_fail(err, GYRE_INVALID, "id of %zu bytes; an id has %d", operation->id.len, GYRE_ID_BYTES);
    GY_TRY(gyre_point_id_check(operation->id.data, err));
    if (operation->vector.len == 0)
        return GYRE_OK; /* a delete; its payload is not looked at */
    if (operation->vector.len != (size_t)dim * sizeof(float))
        return gyre_fail(err, GYRE_INVALID, "vector of %zu bytes; the collection has %u dimensions, %zu bytes",
                         operation->vector.len, dim, (size_t)dim * sizeof(float));
    /* Every bytes field is an allocation of its own. */
    assert((uintptr_t)operation->vector.data % _Alignof(float) == 0);
    GY_TRY(gyre_vector_check(metric, (const float *)(const void *)operation->vector.data, dim, i, err));
    return gy_payload_check(operation->payload, err);
}

gyre_status gy_write_check(const Gyre__Node__Write *write, gyre_metric metric, uint32_t dim, gyre_error *err)
{
    if (write->n_operations == 0 || write->n_operations > GY_WRITE_OPERATIONS_MAX)
        return gyre_fail(err, GYRE_INVALID, "write of %zu operations; it may have 1 to %d", write->n_operations,
                         GY_WRITE_OPERATIONS_MAX);
    for (size_t i = 0; i < write->n_operations; i++) {
        gyre_status status = check_operation(write->operations[i], i, metric, dim, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "operation %zu", i);
    }
    return GYRE_OK;
}
