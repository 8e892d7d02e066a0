/* SUM_VECTORS: what a shard adds to the collection's mean. */
#include "server/incoming.h"

#include <stdlib.h>

/* Doubles as they travel; out [count][8]. */
static void store_doubles(uint8_t *out, const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        gy_store_u64(out + i * sizeof bits, bits);
    }
}

void gy_serve_sum(gy_incoming *call, void *message)
{
    const Gyre__Node__SumVectors *request = message;
    gy_node *node = call->server->node;
    gyre_error err;
    gy_hosted *hosted;
    gyre_status status = gy_node_hold(node, request->collection_id, request->shard, &hosted, &err);
    gy_wire_free(message);
    if (status != GYRE_OK) {
        gy_incoming_fail(call, status, &err);
        return;
    }
    gy_points *points = gy_replica_points(gy_hosted_replica(hosted));
    uint32_t dim = gy_points_dim(points);
    Gyre__Node__SumVectorsReply reply = GYRE__NODE__SUM_VECTORS_REPLY__INIT;
    double *sums = calloc(dim, sizeof *sums);
    uint8_t *packed = malloc(dim * sizeof *sums);
    status = sums && packed ? gy_points_sum(points, call->deadline_ns, sums, &reply.count, &err)
                            : gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a sum of %u doubles", dim);
    status = gy_node_judge(node, hosted, status, &err);
    gy_node_release(node, hosted);
    if (status == GYRE_OK) {
        store_doubles(packed, sums, dim);
        reply.sums = (ProtobufCBinaryData){dim * sizeof *sums, packed};
        gy_incoming_reply(call, &reply.base);
    } else {
        gy_incoming_fail(call, status, &err);
    }
    free(sums);
    free(packed);
}
