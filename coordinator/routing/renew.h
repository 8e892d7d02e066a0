/* renew: when the view that a request began with proves too old, because a shard was split since.
 *
 * Replicas say so by GYRE_ABORTED, once they have given away a part of the range that they are asked about; so does a token that
 * knows of more shards. The request waits for a newer view and is asked anew, all of it: nothing is made of answers over views
 * of different ages.
 * Threads  any; blocks */
#ifndef GY_RENEW_H
#define GY_RENEW_H

#include "routing/routing.h"

/* How long a request waits for newer views. */
struct gy_renewal {
    gy_routing *routing;
    int64_t deadline_ns;          /* of the request: it is told a little earlier */
    bool (*cancelled)(void *arg); /* NULL: never */
    void *cancelled_arg;
};

/* Whether a request that ended so over *route is to be asked anew, over the newer view that *route (held) is then: it was told
 * GYRE_ABORTED, and a newer one came. If none came, *status becomes GYRE_UNAVAILABLE and err, which has the reason, says so. */
bool gy_route_renew(const struct gy_renewal *renewal, const gy_route **route, gyre_status *status, gyre_error *err);

/* Reads a token (session.h); *seqs is malloc'ed, [(*route)->shard_count]. A token that says something of more shards than *route
 * has waits for a newer view, which *route is then; GYRE_UNAVAILABLE if none comes. */
GYRE_CHECKED gyre_status gy_route_token(const struct gy_renewal *renewal, const gy_route **route, const uint8_t *token,
                                        size_t bytes, uint64_t **seqs, gyre_error *err);

#endif
