/* APPEND: a primary's entries for a follower here, answered from the replica's thread when they are on disk. */
#include "server/incoming.h"

#include <stdlib.h>

struct appending {
    gy_incoming *call;
    gy_hosted *hosted;
};

static void on_appended(void *arg, const struct gy_append_reply *answer)
{
    struct appending appending = *(struct appending *)arg;
    free(arg);
    gy_node_release(appending.call->server->node, appending.hosted);
    Gyre__Node__AppendReply reply = GYRE__NODE__APPEND_REPLY__INIT;
    reply.result = answer->result;
    reply.epoch = answer->epoch;
    reply.synced = answer->synced;
    reply.last_epoch = answer->last_epoch, reply.last_seq = answer->last_seq;
    reply.committed = answer->committed;
    reply.sent_ns = answer->sent_ns;
    gy_incoming_reply(appending.call, &reply.base);
}

void gy_serve_append(gy_incoming *call, void *message)
{
    Gyre__Node__Append *append = message;
    gyre_error err;
    gy_hosted *hosted = NULL;
    gyre_status status = gy_node_hold(call->server->node, append->collection_id, append->shard, &hosted, &err);
    struct appending *appending = status == GYRE_OK ? malloc(sizeof *appending) : NULL;
    if (status == GYRE_OK && !appending)
        status = gyre_fail(&err, GYRE_NO_MEMORY, "append");
    if (status != GYRE_OK) {
        gy_wire_free(append);
    } else {
        *appending = (struct appending){call, hosted};
        status = gy_replica_append(gy_hosted_replica(hosted), append, on_appended, appending, &err);
    }
    if (status == GYRE_OK)
        return;
    free(appending);
    if (hosted)
        gy_node_release(call->server->node, hosted);
    gy_incoming_fail(call, status, &err);
}
