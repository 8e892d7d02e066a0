/* fetch: points by id, from the shards they live in.
 *
 * Threads  any; blocks until every shard has answered */
#ifndef GY_ROUTING_FETCH_H
#define GY_ROUTING_FETCH_H

#include "routing/routing.h"

#include "gyre/node/node.pb-c.h"

/* Where points are read. */
typedef enum gy_fetch_from {
    GY_FETCH_ANY,           /* from any replica: committed, perhaps a moment old */
    GY_FETCH_PRIMARY_FIRST, /* from the primary if it answers, else from any */
    GY_FETCH_NEWEST,        /* from the primary under its lease: everything that was acknowledged before is seen */
} gy_fetch_from;

struct gy_fetch {
    gy_fetch_from from;
    gy_routing *routing;       /* for newer views; GY_FETCH_NEWEST only */
    bool with_vector, with_payload;
    const uint64_t *min_seqs;  /* [shard_count] what is to be seen at least; NULL: nothing in particular */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg); /* NULL: never */
    void *cancelled_arg;
};

/* Reads points by id, one message a shard. visit gets each id's place and what was found, in no order. */
typedef gyre_status gy_point_visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err);
GYRE_CHECKED gyre_status gy_points_fetch(const gy_route *route, const gyre_point_id *ids, size_t count,
                                         const struct gy_fetch *fetch, gy_point_visit *visit, void *self, gyre_error *err);

/* Counting sort of places 0…count-1 by the shard of ids[place]: order[starts[s]…starts[s+1]) are those of shard s, in place
 * order.
 *   starts  [shard_count + 1], order [count] */
void gy_points_by_shard(const gy_route *route, const gyre_point_id *ids, size_t count, size_t *starts, size_t *order);

#endif
