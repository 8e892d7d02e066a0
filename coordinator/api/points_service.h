/* points_service: what the files of the Points service share. */
#ifndef GY_API_POINTS_SERVICE_H
#define GY_API_POINTS_SERVICE_H

#include "api/convert.h"
#include "api/points.h"
#include "routing/renew.h"
#include "search/gather.h"

#include "gyre/node/node.pb-c.h"

#include <stdatomic.h>

enum { GY_POINTS_UNARY = GY_POINTS_METHODS - 1 /* all but Import */, GY_POINTS_UNARY_WRITES = 2 /* the first of them */ };

enum { GY_CLIENT_BYTES = 16 };

struct gy_points_service {
    gy_routing *routing;
    gy_search_gather *gather;
    gy_pool *reads, *writes;
    struct gy_unary unary[GY_POINTS_UNARY];
    uint8_t client[GY_CLIENT_BYTES]; /* of this process, for writes of clients that have none */
    atomic_uint_least64_t requests;  /* numbered so far, of that client */
    gy_metric *points_written, *points_deleted, *queries, *codes_scanned, *vectors_read;
};

gy_unary_handler gy_points_upsert, gy_points_delete, gy_points_get, gy_points_count, gy_points_search_batch;
gy_unary_starter gy_points_search;

/* The Import stream (points_import.c). */
void gy_points_import_on_message(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size);
void gy_points_import_on_gone(void *self, gy_rpc_call *call);

/* What a write needs beside its points. */
struct gy_write_call {
    const gy_route *route;      /* held; when a shard was split meanwhile, a newer one in the end */
    ProtobufCBinaryData client; /* as sent, with its number: to recognise a write that is sent again */
    uint64_t request;
    uint64_t *seqs;             /* [route->shard_count], malloc'ed: raised to what was written */
    int64_t deadline_ns;
    gy_rpc_call *rpc;           /* whose cancelling ends it */
};
/* Checks points and writes them, grouped by shard, in parallel; answers when every shard has acknowledged (points_write.c). */
GYRE_CHECKED gyre_status gy_points_store(struct gy_points_service *service, struct gy_write_call *call,
                                         Gyre__V1__Point *const *points, size_t count, gyre_error *err);

/* How long a call waits for newer views. */
struct gy_renewal gy_points_renewal(struct gy_points_service *service, gy_rpc_call *call, int64_t deadline_ns);
/* The token of seqs, malloc'ed. */
GYRE_CHECKED gyre_status gy_token_write(const gy_route *route, const uint64_t *seqs, ProtobufCBinaryData *token, gyre_error *err);

/* Whether the client has gone; arg is a gy_rpc_call. */
bool gy_points_cancelled(void *arg);

#endif
