/* points_service: what the files of the Points service share. */
#ifndef GY_API_POINTS_SERVICE_H
#define GY_API_POINTS_SERVICE_H

#include "api/convert.h"
#include "api/points.h"
#include "search/gather.h"

#include "gyre/node/node.pb-c.h"

enum { GY_POINTS_UNARY = GY_POINTS_METHODS - 1 /* all but Import */, GY_POINTS_UNARY_WRITES = 2 /* the first of them */ };

struct gy_points_service {
    gy_routing *routing;
    gy_search_gather *gather;
    gy_pool *reads, *writes;
    struct gy_unary unary[GY_POINTS_UNARY];
    gy_metric *points_written, *points_deleted, *queries, *codes_scanned, *vectors_read;
};

gy_unary_handler gy_points_upsert, gy_points_delete, gy_points_get, gy_points_count, gy_points_search_batch;
gy_unary_starter gy_points_search;

/* The Import stream (points_import.c). */
void gy_points_import_on_message(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size);
void gy_points_import_on_gone(void *self, gy_rpc_call *call);

/* Checks points and writes them, grouped by shard, in parallel; answers when every shard has acknowledged (points_write.c). */
GYRE_CHECKED gyre_status gy_points_store(struct gy_points_service *service, const gy_route *route, Gyre__V1__Point *const *points,
                                         size_t count, int64_t deadline_ns, gyre_error *err);

#endif
