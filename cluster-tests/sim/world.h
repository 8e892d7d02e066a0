/* world: everything of one run, virtual time, and the loop. A run is a pure function of its seed and its plant.
 *
 * Endpoints are nodes, then coordinators, then clients. Each has a life: the number of its process. An event that belongs to an
 * earlier life is dropped, one that meets a frozen process waits until it goes on.
 * Threads  one */
#ifndef GY_SIM_WORLD_H
#define GY_SIM_WORLD_H

#include "catalog.h"
#include "checks.h"
#include "clients.h"
#include "coordinator.h"
#include "events.h"
#include "node.h"
#include "plant.h"
#include "random.h"

#include <setjmp.h>
#include <stdio.h>

enum {
    GY_SIM_NODES_MAX = 6,
    GY_SIM_COORDINATORS_MAX = 2,
    GY_SIM_FIRST_COORDINATOR = GY_SIM_NODES_MAX,
    GY_SIM_FIRST_CLIENT = GY_SIM_FIRST_COORDINATOR + GY_SIM_COORDINATORS_MAX,
    GY_SIM_ENDPOINTS = GY_SIM_FIRST_CLIENT + GY_SIM_CLIENTS_MAX,
};

/* What happened in a run: a world in which nothing did shows nothing. */
struct gy_sim_counts {
    uint64_t configurations, promotions, crashes, cuts, damages, restores, tails_cut, writes, unknown, gets, dead_shards,
        splits, switches, children, aborted;
};

/* How hard this run's world is. Rates are per mille of messages or of disk operations, gaps are mean times between events. */
struct gy_sim_weather {
    uint32_t drop, duplicate, late; /* messages */
    int64_t delay_ns, late_ns;      /* usual, and of late ones, at most */
    int64_t sync_ns;                /* of a disk, usual at most; now and then a hundred times that */
    uint32_t sync_fails;            /* per 100,000 */
    int64_t crash_gap_ns, cut_gap_ns, freeze_gap_ns, damage_gap_ns, full_gap_ns, coordinator_gap_ns, catalog_gap_ns,
        operator_gap_ns, jump_gap_ns, split_gap_ns; /* 0: never */
    int64_t trouble_ns;             /* how long one lasts, at most */
    int64_t call_ns;                /* until an unanswered message counts as failed */
    uint32_t log_keep;              /* entries that a trim leaves */
    bool blocking;                  /* a driver hands nothing in while something is on its way to its disk */
};

struct gy_sim {
    uint64_t seed, random;
    gy_sim_plant plant;
    struct gy_sim_weather weather;
    struct gy_sim_events events;
    int64_t now_ns, heal_ns, end_ns;
    bool healed, quiet; /* quiet: clients begin nothing any more */
    uint64_t steps, calls;
    struct gy_sim_counts counts;

    uint32_t node_count, coordinator_count, client_count;
    uint32_t family_count, shard_count; /* shards of the beginning, and of the catalog: the next one has this number */
    uint32_t families[GY_SIM_SHARDS_MAX], parents[GY_SIM_SHARDS_MAX];
    uint32_t life[GY_SIM_ENDPOINTS];
    int64_t frozen_until_ns[GY_SIM_ENDPOINTS];
    uint32_t cuts;  /* under way */
    uint16_t loss[GY_SIM_ENDPOINTS][GY_SIM_ENDPOINTS]; /* [from][to] per mille of messages; 1000: also those on their way */
    struct gy_sim_node nodes[GY_SIM_NODES_MAX];
    struct gy_sim_coordinator coordinators[GY_SIM_COORDINATORS_MAX];
    struct gy_sim_client clients[GY_SIM_CLIENTS_MAX];
    struct gy_sim_catalog catalog;
    struct gy_sim_wishes wishes;
    struct gy_sim_checks checks;
    struct gy_replica_actions actions; /* of the step that is being done */

    /* What went wrong. */
    jmp_buf out;
    bool failed;
    void *scratch[2]; /* of a check that may end the run */
    char invariant[64], story[512];
    FILE *trace; /* NULL: none */
};

/* Runs it. false: an invariant does not hold; invariant, story and now_ns say which, what, when. */
bool gy_sim_run_seed(struct gy_sim *sim, uint64_t seed, gy_sim_plant plant, FILE *trace);
void gy_sim_fini(struct gy_sim *sim);

/* Schedules an event for owner's present life, `after_ns` from now; run gets it with its object, number and shard. */
void gy_sim_after(struct gy_sim *sim, int64_t after_ns, uint8_t owner, gy_sim_run *run, uint32_t shard, uint64_t number,
                  void *object);
/* The same for something that a driver hands in. */
void gy_sim_after_to_replica(struct gy_sim *sim, int64_t after_ns, uint8_t owner, gy_sim_run *run, uint32_t shard,
                             uint64_t number);
/* The run ends here: the invariant does not hold. */
void gy_sim_fail(struct gy_sim *sim, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

void gy_sim_write_trace(struct gy_sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Costs nothing unless somebody reads it. */
#define GY_SIM_TRACE(sim, ...)                        \
    do {                                              \
        if ((sim)->trace)                             \
            gy_sim_write_trace((sim), __VA_ARGS__);   \
    } while (0)

const char *gy_sim_endpoint_name(uint8_t endpoint);
/* Whether the endpoint has a process. */
bool gy_sim_up(const struct gy_sim *sim, uint8_t endpoint);

static inline int64_t gy_sim_ms(int64_t ms) { return ms * GY_MILLISECOND_NS; }

#endif
