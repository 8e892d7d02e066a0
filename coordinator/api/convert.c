#include "api/convert.h"

#include <stdlib.h>

int64_t gy_call_deadline_ns(int64_t client_deadline_ns)
{
    return client_deadline_ns == GY_NEVER ? gy_now_ns() + GY_CALL_DEADLINE_NS : client_deadline_ns;
}

gyre_status gy_id_read(const Gyre__V1__PointId *sent, gyre_point_id *out, gyre_error *err)
{
    if (!sent || sent->id_case == GYRE__V1__POINT_ID__ID__NOT_SET)
        return gyre_fail(err, GYRE_INVALID, "it is missing; give num or uuid");
    if (sent->id_case == GYRE__V1__POINT_ID__ID_UUID)
        return gyre_point_id_from_uuid(out, sent->uuid, err);
    *out = gyre_point_id_from_number(sent->num);
    return GYRE_OK;
}

void gy_id_write(const gyre_point_id *id, Gyre__V1__PointId *sent, char uuid_room[GYRE_UUID_TEXT_BYTES])
{
    gyre__v1__point_id__init(sent);
    if (gyre_point_id_is_number(id)) {
        sent->id_case = GYRE__V1__POINT_ID__ID_NUM;
        sent->num = gyre_point_id_number(id);
    } else {
        sent->id_case = GYRE__V1__POINT_ID__ID_UUID;
        sent->uuid = gyre_point_id_format(id, uuid_room);
    }
}

gyre_status gy_ids_read(Gyre__V1__PointId *const *sent, size_t count, gyre_point_id **out, gyre_error *err)
{
    if (count == 0 || count > GY_POINTS_PER_REQUEST_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu ids; a request takes 1 to %d", count, GY_POINTS_PER_REQUEST_MAX);
    gyre_point_id *ids = malloc(count * sizeof *ids);
    if (!ids)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu ids", count);
    for (size_t i = 0; i < count; i++) {
        gyre_status status = gy_id_read(sent[i], &ids[i], err);
        if (status != GYRE_OK) {
            free(ids);
            return gyre_wrap(err, status, "ids[%zu]", i);
        }
    }
    *out = ids;
    return GYRE_OK;
}

gyre_status gy_vector_read(const gy_route *route, const float *vector, size_t dim, gyre_error *err)
{
    if (dim != route->dim)
        return gyre_fail(err, GYRE_INVALID, "it has %zu components; collection '%s' has dim %u", dim, route->collection,
                         route->dim);
    gyre_status status = gyre_vector_check(route->metric, vector, dim, 0, err);
    /* A matrix of one row: the caller's field says which vector it is. */
    static const char matrix_place[] = "vector: row 0 ";
    size_t bytes = sizeof matrix_place - 1;
    if (status != GYRE_OK && strncmp(err->text, matrix_place, bytes) == 0)
        memmove(err->text, err->text + bytes, strlen(err->text + bytes) + 1);
    return status;
}
