/* DROP_REPLICA: closes a replica and deletes it. One that is not here was dropped before. */
#include "server/incoming.h"

void gy_serve_drop(gy_incoming *call, void *message)
{
    const Gyre__Node__DropReplica *request = message;
    gyre_error err;
    gy_snapshots_end(call->server->snapshots, request->collection_id, request->shard);
    gyre_status status = gy_node_drop(call->server->node, request->collection_id, request->shard, request->member, &err);
    gy_wire_free(message);
    if (status != GYRE_OK) {
        gy_incoming_fail(call, status, &err);
        return;
    }
    Gyre__Node__Empty reply = GYRE__NODE__EMPTY__INIT;
    gy_incoming_reply(call, &reply.base);
}
