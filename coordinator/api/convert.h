/* convert: gyre.v1 messages to what the rest of the coordinator speaks, checked by field name. */
#ifndef GY_API_CONVERT_H
#define GY_API_CONVERT_H

#include "routing/routing.h"

#include "gyre/v1/gyre.pb-c.h"

enum { GY_POINTS_PER_REQUEST_MAX = 65536 };

/* A client's time limit; calls without one get this much. */
#define GY_CALL_DEADLINE_NS (30 * GY_SECOND_NS)
int64_t gy_call_deadline_ns(int64_t client_deadline_ns);

/* GYRE_INVALID if it is missing or no UUID. Here and in gy_vector_read the caller puts the field in front of the sentence. */
GYRE_CHECKED gyre_status gy_id_read(const Gyre__V1__PointId *sent, gyre_point_id *out, gyre_error *err);
/* Fills sent; uuid_room must live as long as sent. */
void gy_id_write(const gyre_point_id *id, Gyre__V1__PointId *sent, char uuid_room[GYRE_UUID_TEXT_BYTES]);

/* The ids of a request, checked; *out is malloc'ed. GYRE_INVALID if there are none or more than GY_POINTS_PER_REQUEST_MAX. */
GYRE_CHECKED gyre_status gy_ids_read(Gyre__V1__PointId *const *sent, size_t count, gyre_point_id **out, gyre_error *err);

/* Checks a vector of a request against the collection. */
GYRE_CHECKED gyre_status gy_vector_read(const gy_route *route, const float *vector, size_t dim, gyre_error *err);

#endif
