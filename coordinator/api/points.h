/* points: the Points service: upsert, import, get, delete, count, search. */
#ifndef GY_API_POINTS_H
#define GY_API_POINTS_H

#include "api/unary.h"
#include "routing/routing.h"

typedef struct gy_points_service gy_points_service;

enum { GY_POINTS_METHODS = 7 };

/* Writes have a pool of their own: neither those that wait for a shard nor a full-speed import keep searches waiting. */
GYRE_CHECKED gyre_status gy_points_service_new(gy_points_service **out, gy_routing *routing, gy_pool *reads, gy_pool *writes,
                                               gy_metrics *metrics, gyre_error *err);
/* Writes its methods at out[0…GY_POINTS_METHODS-1]. */
void gy_points_service_methods(gy_points_service *service, struct gy_rpc_method *out);
/* After the server is closed. */
void gy_points_service_free(gy_points_service *service);

#endif
