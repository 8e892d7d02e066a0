/* SAMPLE: vectors of a shard to train on: the same points and seed give the same. */
#include "server/incoming.h"

#include <stdlib.h>

enum {
    SAMPLE_BYTES_MAX = 64 << 20, /* of vectors in one reply: 32 Ki of 512 dimensions; training asks again with another seed */
    REPLY_HEAD_BYTES = 64,       /* of a reply beside the vectors */
};

static gyre_status check(const gy_server *server, uint32_t count, uint32_t dim, gyre_error *err)
{
    size_t bytes_max = server->message_bytes_max - REPLY_HEAD_BYTES;
    bytes_max = bytes_max < SAMPLE_BYTES_MAX ? bytes_max : SAMPLE_BYTES_MAX;
    size_t count_max = bytes_max / (dim * sizeof(float));
    if (count == 0 || count > count_max)
        return gyre_fail(err, GYRE_INVALID, "count is %u; of %u dimensions a sample has 1 to %zu vectors", count, dim, count_max);
    return GYRE_OK;
}

static gyre_status sample(const gy_server *server, gy_points *points, const Gyre__Node__Sample *request, float **vectors,
                          Gyre__Node__SampleReply *reply, gyre_error *err)
{
    uint32_t dim = gy_points_dim(points);
    GY_TRY(check(server, request->count, dim, err));
    reply->points = gy_points_count(points);
    /* No more than there are: a small replica is not asked for a large block. One more, so that none is of size zero. */
    size_t count = request->count < reply->points ? request->count : (size_t)reply->points, drawn;
    *vectors = malloc((count + 1) * dim * sizeof **vectors);
    if (!*vectors)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a sample of %zu vectors", count);
    GY_TRY(gy_points_sample(points, count, request->seed, *vectors, &drawn, err));
    reply->vectors = gy_as_bytes(*vectors, drawn * dim);
    return GYRE_OK;
}

void gy_serve_sample(gy_incoming *call, void *message)
{
    const Gyre__Node__Sample *request = message;
    gy_node *node = call->server->node;
    gyre_error err;
    gy_hosted *hosted;
    Gyre__Node__SampleReply reply = GYRE__NODE__SAMPLE_REPLY__INIT;
    float *vectors = NULL;
    gyre_status status = gy_node_hold(node, request->collection_id, request->shard, &hosted, &err);
    if (status == GYRE_OK) {
        status = sample(call->server, gy_replica_points(gy_hosted_replica(hosted)), request, &vectors, &reply, &err);
        status = gy_node_judge(node, hosted, status, &err);
        gy_node_release(node, hosted);
    }
    gy_wire_free(message);
    if (status == GYRE_OK)
        gy_incoming_reply(call, &reply.base);
    else
        gy_incoming_fail(call, status, &err);
    free(vectors);
}
