/* points_service: what the files of the Points service share. */
#ifndef GY_API_POINTS_SERVICE_H
#define GY_API_POINTS_SERVICE_H

#include "api/convert.h"
#include "api/points.h"

#include "gyre/node/node.pb-c.h"

enum { GY_POINTS_UNARY = GY_POINTS_METHODS - 1 }; /* all but Import */

struct gy_points_service {
    gy_routing *routing;
    gy_pool *pool;
    struct gy_unary unary[GY_POINTS_UNARY];
    gy_metric *points_written, *points_deleted, *queries, *codes_scanned, *vectors_read;
};

gy_unary_handler gy_points_upsert, gy_points_delete, gy_points_get, gy_points_count, gy_points_search, gy_points_search_batch;

/* The Import stream (points_import.c). */
void gy_points_import_on_message(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size);
void gy_points_import_on_gone(void *self, gy_rpc_call *call);

/* Checks points and writes them, grouped by shard, in parallel; answers when every shard has acknowledged (points_write.c). */
GYRE_CHECKED gyre_status gy_points_store(struct gy_points_service *service, const gy_route *route, Gyre__V1__Point *const *points, size_t count,
                                         int64_t deadline_ns, gyre_error *err);

/* Reads points of a route by id, grouped by shard (points_read.c). visit gets each id's place and what was found, in no order. */
typedef gyre_status gy_point_visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err);
GYRE_CHECKED gyre_status gy_points_fetch(const gy_route *route, const gyre_point_id *ids, size_t count, bool with_vector, bool with_payload,
                                         int64_t deadline_ns, gy_point_visit *visit, void *self, gyre_error *err);

/* Counting sort of places 0…count-1 by the shard of ids[place]: order[starts[s]…starts[s+1]) are those of shard s, in place order.
 *   starts  [shard_count + 1], order [count] */
void gy_points_by_shard(const gy_route *route, const gyre_point_id *ids, size_t count, size_t *starts, size_t *order);

#endif
