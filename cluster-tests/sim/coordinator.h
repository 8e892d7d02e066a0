/* coordinator: hears the nodes, makes plans (coordinator/placement), commits them to the catalog, tells the nodes. Everything it
 * knows but the catalog is gone when it stops. Two of them may be at it at once: the catalog's compare-and-set decides. */
#ifndef GY_SIM_COORDINATOR_H
#define GY_SIM_COORDINATOR_H

#include "catalog.h"

#include "placement/core.h"
#include "placement/plan.h"

struct gy_sim;
struct gy_sim_message;

enum { GY_SIM_KNOWN_NODES = 6 };

/* What a node said of its replica of a shard. */
struct gy_sim_said {
    bool heard, held, waiting, lost, restoring, serves;
    uint32_t member;
    uint64_t epoch, log_seq, applied_seq;
    struct gy_hash_range owned;
    int64_t told_ns;
};

struct gy_sim_coordinator {
    bool up;
    int64_t clock_jump_ns, started_ns;
    gy_node_health health[GY_SIM_KNOWN_NODES];
    int64_t down_since_ns[GY_SIM_KNOWN_NODES];
    uint64_t report_number[GY_SIM_KNOWN_NODES]; /* of the newest */
    struct gy_sim_said said[GY_SIM_SHARDS_MAX][GY_SIM_KNOWN_NODES];
    const struct gy_shard_config *known[GY_SIM_SHARDS_MAX]; /* NULL: the catalog was not read yet */
    uint32_t first_unmade[GY_SIM_SHARDS_MAX]; /* members from this id on were added under its eyes */
    uint32_t made[GY_SIM_SHARDS_MAX];         /* bit (id % 32) of those: its node was told to make it */
    uint64_t change_under_way[GY_SIM_SHARDS_MAX]; /* number of it; 0: none */
};

/* What people want of the shards; part of the catalog. */
struct gy_sim_wishes {
    struct gy_plan_wish shards[GY_SIM_SHARDS_MAX];
    bool draining[GY_SIM_KNOWN_NODES];
    int64_t replace_after_ns;
};

void gy_sim_coordinator_start(struct gy_sim *sim, uint8_t endpoint);
void gy_sim_coordinator_crash(struct gy_sim *sim, uint8_t endpoint);
void gy_sim_coordinator_receive(struct gy_sim *sim, struct gy_sim_message *message);
/* Somebody asks for a member of the shard to go from one node to another. */
void gy_sim_coordinator_move(struct gy_sim *sim, uint8_t endpoint, uint32_t shard, uint8_t from, uint8_t to);
/* Somebody asks for the shard to be split. */
void gy_sim_coordinator_split(struct gy_sim *sim, uint8_t endpoint, uint32_t shard);
/* The configurations of new shards. */
void gy_sim_coordinator_create(struct gy_sim *sim);

#endif
