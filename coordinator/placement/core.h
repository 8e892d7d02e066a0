/* core: decides which nodes are alive, what a node must be told, and when a collection is trained. Where replicas go: plan.h.
 *
 * Pure: no I/O, clock, thread or random source; time comes in arguments. The driver does what it says, a simulator can do the
 * same, and both see the same answers.
 * Threads  none: whoever owns the state calls */
#ifndef GY_PLACEMENT_CORE_H
#define GY_PLACEMENT_CORE_H

#include "gyre/clock.h"
#include "gyre/base.h"

/* ---- which nodes are alive ----
 *
 *      UNKNOWN --report--> UP --silent too long--> DOWN --report--> UP
 *
 * Too long is GY_HEARTBEATS_MISSED_MAX heartbeats, and never less than GY_NODE_SILENT_NS_MIN: a short heartbeat makes news
 * travel faster, it does not make a busy machine look dead. */
enum { GY_HEARTBEATS_MISSED_MAX = 6 };
#define GY_NODE_SILENT_NS_MIN (3 * GY_SECOND_NS)

typedef enum gy_node_state { GY_NODE_UNKNOWN, GY_NODE_UP, GY_NODE_DOWN } gy_node_state;

typedef struct gy_node_health {
    gy_node_state state;
    int64_t reported_ns; /* when it last reported; meaningless while UNKNOWN */
} gy_node_health;

/* Both return whether the state changed. Time that steps back is taken as no time passed. */
bool gy_node_health_reported(gy_node_health *health, int64_t now_ns);
bool gy_node_health_tick(gy_node_health *health, int64_t now_ns, int64_t heartbeat_ns);
/* When the next tick can change something; GY_NEVER if only a report can. */
int64_t gy_node_health_due_ns(const gy_node_health *health, int64_t heartbeat_ns);

/* ---- what a node must be told ---- */

/* A replica the catalog gives to the node. */
struct gy_wanted_replica {
    uint64_t collection_id;
    uint32_t shard;
    uint64_t epoch;
    uint32_t codebook_version;
    int64_t told_ns; /* when it was last told this, by this coordinator and this start of the node; 0: never */
};

/* A replica it says it has. */
struct gy_held_replica {
    uint64_t collection_id;
    uint32_t shard;
    uint64_t epoch;
    uint32_t codebook_version;
};

typedef enum gy_replica_verdict {
    GY_REPLICA_GOOD,
    GY_REPLICA_ENSURE, /* missing, of an older epoch or in an older codebook: tell it */
    GY_REPLICA_WAIT,   /* the same, but it was told a while ago and may be at it */
} gy_replica_verdict;
/* When it is told again. Re-encoding takes minutes, and its message carries a codebook of up to 64 MiB. */
#define GY_ENSURE_AGAIN_NS (5 * GY_SECOND_NS)
#define GY_REENCODE_AGAIN_NS (60 * GY_SECOND_NS)

/* held: what the node reported of that replica, NULL if nothing. A replica that is newer than wanted is good: the report of an
 * older configuration must never be answered by going back. */
gy_replica_verdict gy_replica_judge(const struct gy_wanted_replica *wanted, const struct gy_held_replica *held, int64_t now_ns);

/* Whether a replica of this collection is rubbish: the catalog gave the id ([first, next)) and no longer has the collection. An
 * id from elsewhere is never dropped: it may be all that is left of another catalog. */
static inline bool gy_replica_orphaned(uint64_t collection_id, bool exists, uint64_t first_id, uint64_t next_id)
{
    return !exists && collection_id >= first_id && collection_id < next_id;
}

/* ---- when a collection is trained ---- */

/* The first mean is taken at so many points (sampling error of a mean falls as 1/sqrt(n): 3 % of the spread here), the first
 * lists are made at GY_TRAIN_LISTS_POINTS_MIN (below, a scan of every code costs less than choosing), and both anew whenever the
 * collection has grown GY_TRAIN_GROWTH times since: lists are then a third of what the rule below says at worst, which costs a
 * scan little. */
enum { GY_TRAIN_POINTS_MIN = 1000, GY_TRAIN_LISTS_POINTS_MIN = 20000, GY_TRAIN_GROWTH = 10 };
bool gy_training_due(uint64_t trained_at_points, uint64_t points);

/* How many lists a collection gets: the power of two nearest to 2·sqrt(points), as choosing lists (sqrt(points) centroids) and
 * scanning them then cost about the same; at least GY_LIST_POINTS_MIN points a list and shard, for a list is scanned in blocks;
 * centroids of at most GY_CENTROIDS_BYTES_MAX, since every node holds them and every message of a codebook carries them. 1, which
 * is no partition, below GY_TRAIN_LISTS_POINTS_MIN.
 *   asked  by a person: that many, if 1…gy_training_lists_max and at most one a point; 0: by the rule
 * GYRE_INVALID for more than gy_training_lists_max, GYRE_PRECONDITION for more lists than points. */
enum { GY_LIST_POINTS_MIN = 32, GY_CENTROIDS_BYTES_MAX = 64 << 20, GY_TRAIN_LISTS_MAX = 65536 };
uint32_t gy_training_lists_max(uint32_t dim);
GYRE_CHECKED gyre_status gy_training_lists(uint64_t points, uint32_t shards, uint32_t dim, uint32_t asked, uint32_t *lists,
                                           gyre_error *err);

/* How long to wait after that many failures in a row: 1 s, 2 s, 4 s … 64 s. */
int64_t gy_training_backoff_ns(uint32_t failures);

#endif
