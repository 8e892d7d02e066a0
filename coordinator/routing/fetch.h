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
    gy_routing *routing;       /* for newer views */
    bool with_vector, with_payload;
    const uint64_t *min_seqs;  /* [route->shard_count] what is to be seen at least; NULL: nothing in particular */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg); /* NULL: never */
    void *cancelled_arg;
};

/* Reads points by id, one message a shard; whatever has no answer yet when a shard proves to be split, over a newer view. visit
 * gets each id's place, once, and what was found, in no order. */
typedef gyre_status gy_point_visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err);
GYRE_CHECKED gyre_status gy_points_fetch(const gy_route *route, const gyre_point_id *ids, size_t count,
                                         const struct gy_fetch *fetch, gy_point_visit *visit, void *self, gyre_error *err);

/* Counting sort of places[count] by the shard of ids[place]: order[starts[s]…starts[s+1]) are those of shard s, in the order they
 * had.
 *   starts  [shard_count + 1], order [count] */
void gy_points_by_shard(const gy_route *route, const gyre_point_id *ids, const size_t *places, size_t count, size_t *starts,
                        size_t *order);

#endif
