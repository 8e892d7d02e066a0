/* Import: a stream of messages, each written like an Upsert before the next one is read, so that the client's flow control is the
 * shards' speed. Points of an acknowledged import are all written; of one that failed, those of the messages before the failure
 * are. */
#include "api/points_service.h"

#include <stdlib.h>

struct import {
    struct gy_points_service *service;
    gy_rpc_call *call;
    const gy_route *route; /* NULL until the first message; newer ones after splits */
    uint64_t *seqs;        /* [route->shard_count] written so far */
    uint64_t imported;
    uint8_t *data;         /* the message being written */
    size_t size;
};

static void import_finish(struct import *import, gyre_status status, const gyre_error *err)
{
    gyre_error packing = {0};
    gy_bytes reply = {0};
    if (status == GYRE_OK) {
        Gyre__V1__ImportReply done = GYRE__V1__IMPORT_REPLY__INIT;
        done.imported = import->imported;
        if (import->route)
            status = gy_token_write(import->route, import->seqs, &done.token, &packing);
        if (status == GYRE_OK)
            status = gy_wire_pack(&reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, &packing);
        free(done.token.data);
        err = &packing;
    }
    gy_rpc_finish(import->call, status, err, reply.data, reply.size);
    gy_bytes_free(&reply);
    if (import->route)
        gy_route_release(import->route);
    free(import->seqs);
    free(import->data);
    free(import);
}

static gyre_status import_message(struct import *import, const Gyre__V1__ImportRequest *request, gyre_error *err)
{
    if (!import->route)
        GY_TRY(gy_route_hold(import->service->routing, request->collection, &import->route, err));
    else if (request->collection[0] && strcmp(request->collection, import->route->collection) != 0)
        return gyre_fail(err, GYRE_INVALID, "collection '%s' in an import that began with '%s'", request->collection,
                         import->route->collection);
    /* The stream's own deadline, if any, bounds the whole; each message gets no more than an upsert would. */
    int64_t message_deadline = gy_call_deadline_ns(GY_NEVER), stream_deadline = gy_rpc_deadline_ns(import->call);
    int64_t deadline_ns = message_deadline < stream_deadline ? message_deadline : stream_deadline;
    uint64_t *before = NULL;
    uint32_t known_shards = import->route->shard_count;
    const struct gy_renewal renewal = gy_points_renewal(import->service, import->call, deadline_ns);
    GY_TRY(gy_route_token(&renewal, &import->route, request->token.data, request->token.len, &before, err));
    for (uint32_t s = 0; import->seqs && s < known_shards; s++)
        if (import->seqs[s] > before[s])
            before[s] = import->seqs[s];
    free(import->seqs);
    struct gy_write_call call = {import->route, request->client, request->request, before, deadline_ns, import->call};
    gyre_status status = gy_points_store(import->service, &call, request->points, request->n_points, err);
    import->route = call.route, import->seqs = call.seqs;
    if (status == GYRE_OK)
        import->imported += request->n_points;
    return status;
}

static void import_run(void *arg)
{
    struct import *import = arg;
    gyre_error err = {0};
    void *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__import_request__descriptor, import->data, import->size, &err);
    if (status == GYRE_OK)
        status = import_message(import, request, &err);
    gy_wire_free(request);
    if (status == GYRE_OK) {
        gy_rpc_next(import->call);
        return;
    }
    status = gyre_wrap(&err, status, "after %llu points", (unsigned long long)import->imported);
    import_finish(import, status, &err);
}

static gyre_status import_take(struct import *import, const uint8_t *bytes, size_t size, gyre_error *err)
{
    uint8_t *data = realloc(import->data, size ? size : 1);
    if (!data)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a message of %zu bytes", size);
    import->data = data, import->size = size;
    if (size)
        memcpy(data, bytes, size);
    return gy_pool_submit(import->service->writes, import_run, import, err);
}

void gy_points_import_on_message(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct import *import = gy_rpc_user(call);
    gyre_error err = {0};
    if (!import) {
        import = calloc(1, sizeof *import);
        if (!import) {
            gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for an import");
            gy_rpc_finish(call, status, &err, NULL, 0);
            return;
        }
        import->service = self, import->call = call;
        gy_rpc_set_user(call, import);
    }
    if (!bytes) {
        import_finish(import, GYRE_OK, &err);
        return;
    }
    gyre_status status = import_take(import, bytes, size, &err);
    if (status != GYRE_OK)
        import_finish(import, status, &err);
}

void gy_points_import_on_gone(void *self, gy_rpc_call *call)
{
    (void)self;
    struct import *import = gy_rpc_user(call);
    gyre_error err = {0};
    gyre_status status = gyre_fail(&err, GYRE_CANCELLED, "the client went away");
    if (import)
        import_finish(import, status, &err);
    else
        gy_rpc_finish(call, status, &err, NULL, 0);
}
