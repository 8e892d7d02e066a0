/* WRITE: straight to the replica's queue; the answer comes from the replica's thread when the write is on disk and applied. */
#include "server/incoming.h"

#include "replica/check.h"

#include <stdlib.h>

struct writing {
    gy_incoming *call;
    gy_hosted *hosted;
    size_t operation_count;
};

static void on_written(void *arg, gyre_status status, const gyre_error *err, uint64_t seq, uint64_t deleted)
{
    struct writing writing = *(struct writing *)arg;
    free(arg);
    gy_server *server = writing.call->server;
    gy_node_release(server->node, writing.hosted);
    if (status != GYRE_OK) {
        gy_incoming_fail(writing.call, status, err);
        return;
    }
    gy_counter_add(server->stats.operations_written, writing.operation_count);
    Gyre__Node__WriteReply reply = GYRE__NODE__WRITE_REPLY__INIT;
    reply.seq = seq;
    reply.deleted = deleted;
    gy_incoming_reply(writing.call, &reply.base);
}

static gyre_status hold(gy_node *node, const Gyre__Node__Write *request, gy_hosted **out, gyre_error *err)
{
    if (gy_write_is_own(request))
        return gyre_fail(err, GYRE_INVALID, "%s: only a primary writes that, by itself", request->narrow ? "narrow" : "forget");
    return gy_node_hold(node, request->collection_id, request->shard, out, err);
}

void gy_serve_write(gy_incoming *call, void *message)
{
    Gyre__Node__Write *request = message;
    gyre_error err;
    gy_hosted *hosted;
    gyre_status status = hold(call->server->node, request, &hosted, &err);
    struct writing *writing = status == GYRE_OK ? malloc(sizeof *writing) : NULL;
    if (status == GYRE_OK && !writing) {
        gy_node_release(call->server->node, hosted);
        status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a write");
    }
    if (status != GYRE_OK) {
        gy_wire_free(message);
        gy_incoming_fail(call, status, &err);
        return;
    }
    *writing = (struct writing){call, hosted, request->n_operations};
    gy_replica_write(gy_hosted_replica(hosted), request, call->deadline_ns, on_written, writing);
}
