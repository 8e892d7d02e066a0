/* COUNT: points of each shard asked for. */
#include "server/incoming.h"

#include <inttypes.h>
#include <stdlib.h>

static struct gy_hash_range range_of(const Gyre__Node__Count *request, size_t i)
{
    return request->n_hash_firsts ? (struct gy_hash_range){request->hash_firsts[i], request->hash_lasts[i]} : GY_RANGE_OWNED;
}

/*   points, seqs  [n_shards] */
static gyre_status count(gy_node *node, const Gyre__Node__Count *request, uint64_t *points, uint64_t *seqs, gyre_error *err)
{
    for (size_t i = 0; i < request->n_shards; i++) {
        gy_hosted *hosted;
        GY_TRY(gy_node_hold(node, request->collection_id, request->shards[i], &hosted, err));
        gy_points *held = gy_replica_points(gy_hosted_replica(hosted));
        seqs[i] = gy_points_applied_seq(held);
        gyre_status status = gy_points_count_in(held, range_of(request, i), &points[i], err);
        gy_node_release(node, hosted);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "shard %u of collection %" PRIu64, request->shards[i], request->collection_id);
        GY_TRY(gy_check_behind(seqs[i], request->n_min_seqs ? request->min_seqs[i] : 0, err));
    }
    return GYRE_OK;
}

void gy_serve_count(gy_incoming *call, void *message)
{
    const Gyre__Node__Count *request = message;
    gyre_error err;
    uint64_t *points = NULL;
    gyre_status status = gy_check_ranges(request->n_shards, request->hash_firsts, request->n_hash_firsts, request->hash_lasts,
                                         request->n_hash_lasts, &err);
    if (request->n_shards == 0 || request->n_shards > GY_REQUEST_SHARDS_MAX)
        status = gyre_fail(&err, GYRE_INVALID, "%zu shards; a request names 1 to %d", request->n_shards, GY_REQUEST_SHARDS_MAX);
    else if (request->n_min_seqs && request->n_min_seqs != request->n_shards)
        status = gyre_fail(&err, GYRE_INVALID, "%zu min_seqs; there must be one for each of %zu shards, or none",
            request->n_min_seqs,
                           request->n_shards);
    else if (status == GYRE_OK && !(points = calloc(2 * request->n_shards, sizeof *points)))
        status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for %zu counts", request->n_shards);
    else if (status == GYRE_OK)
        status = count(call->server->node, request, points, points + request->n_shards, &err);
    Gyre__Node__CountReply reply = GYRE__NODE__COUNT_REPLY__INIT;
    reply.n_points = reply.n_applied_seqs = request->n_shards;
    reply.points = points;
    reply.applied_seqs = points ? points + request->n_shards : NULL;
    gy_wire_free(message);
    if (status == GYRE_OK)
        gy_incoming_reply(call, &reply.base);
    else
        gy_incoming_fail(call, status, &err);
    free(points);
}
