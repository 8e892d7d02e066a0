/* routing: where a point lives and whom to ask, as an immutable view that requests hold while they run.
 *
 * A point's shard is the one whose range has gy_point_hash of its id under the cluster's placement key; the ranges of a view's
 * shards are a partition of all hashes. A view is made anew when the catalog, a node's address or a replica's state changes; a
 * request keeps the one it began with, and the connections in it, until it releases it. A newer one may have more shards:
 * see renew.h.
 * Threads  any */
#ifndef GY_ROUTING_H
#define GY_ROUTING_H

#include "catalog/probe_cost.h"
#include "gyre/bus.h"
#include "gyre/codebook.h"
#include "gyre/point_id.h"
#include "gyre/shard_config.h"
#include "routing/load.h"

typedef struct gy_routing gy_routing;

/* A replica that a request may turn to. */
struct gy_route_member {
    uint32_t id;
    const char *node;
    gy_member_kind kind;
    bool in_sync;
    bool up;       /* its node reports, and says that it has the replica */
    gy_peer *peer; /* its node's connection; NULL while the node has never reported since this coordinator started */
    struct gy_load *load;        /* its node's; NULL if peer is */
    struct gy_member_seen *seen; /* what requests have seen of it */
};

struct gy_route_shard {
    uint64_t epoch;
    const char *node;                      /* of the primary */
    gy_peer *peer;                         /* its connection, or NULL */
    uint32_t primary;                      /* its id */
    const struct gy_route_member *members; /* [member_count] by id, the primary among them */
    uint32_t member_count;
    struct gy_shard_seen *seen;
    struct gy_hash_range range;            /* never {0, 0}: replicas that own less than all are to say so */
};

struct gy_route_start {
    uint64_t first; /* hash */
    uint32_t shard; /* that has the hashes from there to the next start */
};

typedef struct gy_route {
    uint64_t collection_id;
    const char *collection;
    gyre_metric metric;
    uint32_t dim;
    uint32_t shard_count;
    const struct gy_route_shard *shards; /* [shard_count] */
    const struct gy_route_start *starts; /* [shard_count] ascending from hash 0 */
    const gyre_codebook *codebook;       /* the newest published; its rotation serves every version of the collection */
    const struct gy_probe_cost *probe_costs; /* [probe_cost_count] of its lists; see probe_cost.h */
    uint32_t probe_cost_count;
    bool allow_approximate;              /* as if every search said so */
    gy_pace *pace;
    uint8_t placement_key[16];
} gy_route;

/* The view of a collection, held until released. GYRE_INVALID for a name that cannot be one, GYRE_NOT_FOUND "collection 'x' does
 * not exist". */
GYRE_CHECKED gyre_status gy_route_hold(gy_routing *routing, const char *collection, const gy_route **out, gyre_error *err);
void gy_route_release(const gy_route *route);
/* Holds a view that is held once more. */
const gy_route *gy_route_again(const gy_route *route);
/* Waits until there is a newer view of the route's collection than *route, until_ns at most, and holds it instead: true. False if
 * there is none then, or, before that, as soon as the collection is dropped: *route stays held. */
bool gy_route_await(gy_routing *routing, const gy_route **route, int64_t until_ns);
/* Shows what requests do in metrics from now on. */
void gy_routing_show(gy_routing *routing, gy_metrics *metrics);
uint32_t gy_route_shard_of(const gy_route *route, const gyre_point_id *id);
/* The ranges of shards[count] as requests have them: the first hash of each, then the last of each; malloc'ed, NULL without memory. */
uint64_t *gy_route_ends(const gy_route *route, const uint32_t *shards, size_t count);

/* The connection of a shard's primary. Without one, GYRE_UNAVAILABLE with what is wrong with its node only: gy_shard_failure
 * (failure.h) names shard and node. */
GYRE_CHECKED gyre_status gy_route_peer(const gy_route *route, uint32_t shard, gy_peer **out, gyre_error *err);

#endif
