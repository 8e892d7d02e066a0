/* checks: what must hold after every step, kept cheap by looking only at what the step changed; and all of it, now and then.
 *
 * The reference is the log as it was applied first, by whoever did: every other replica must apply the same entries and come to
 * the same state, and every in-sync member of the catalog must have them on its disk. */
#ifndef GY_SIM_CHECKS_H
#define GY_SIM_CHECKS_H

#include "catalog.h"
#include "history.h"
#include "state.h"

struct gy_sim;
struct gy_sim_replica;

struct gy_sim_reference {
    bool begun;                      /* of a child: a member has made it */
    uint64_t base, base_digest;      /* where it begins: the narrowing that made it */
    struct gy_sim_state state;       /* after every entry there is */
    struct gy_sim_entry *entries;    /* [room], seqs base + 1 … state.seq */
    uint64_t *digests;               /* [room] after each */
    uint64_t room;
    uint32_t *committers;            /* [epoch_room] who committed in an epoch; 0: nobody */
    uint64_t epoch_room;
    uint64_t acknowledged;           /* newest */
    int64_t acknowledged_ns;         /* when */
};

struct gy_sim_checks {
    struct gy_sim_reference shards[GY_SIM_SHARDS_MAX];
    struct gy_sim_history histories[GY_SIM_FAMILIES_MAX][GY_SIM_KEYS];
    uint32_t owners[GY_SIM_FAMILIES_MAX][GY_SIM_KEYS]; /* shard that acknowledged a write of it last */
};

/* After a step of a core. */
void gy_sim_check_step(struct gy_sim *sim, const struct gy_sim_replica *replica, uint64_t committed_before);
/* A core wanted to be ticked: not all the time. */
void gy_sim_check_tick(struct gy_sim *sim, struct gy_sim_replica *replica);
/* A replica applied the entry and came to the state. */
void gy_sim_check_applied(struct gy_sim *sim, uint8_t node, uint32_t shard, const struct gy_sim_entry *entry,
                          const struct gy_sim_state *state);
/* A member has made its part of the child. */
void gy_sim_check_child(struct gy_sim *sim, uint8_t node, uint32_t child, const struct gy_sim_state *state);
void gy_sim_check_restored(struct gy_sim *sim, uint8_t node, uint32_t shard, const struct gy_sim_state *state);
/* A primary is about to say that this write is at this seq. */
void gy_sim_check_acknowledged(struct gy_sim *sim, const struct gy_sim_replica *replica, const struct gy_sim_entry *entry,
                               uint64_t seq, const struct gy_sim_result *result);
/* What a client is told there is: every hash is of one shard. */
void gy_sim_check_view(struct gy_sim *sim, const struct gy_shard_config *const *view);
/* What a node has on disk became less, or other. */
void gy_sim_check_member(struct gy_sim *sim, uint8_t node, uint32_t shard);
/* The catalog has a new configuration. */
void gy_sim_check_config(struct gy_sim *sim, uint32_t shard);
/* Everything that can be looked at. */
void gy_sim_check_all(struct gy_sim *sim);
/* Whether the shard is as wished: members whole, in sync and equal, and a write of after heal_ns acknowledged. *why (static). */
bool gy_sim_check_settled(struct gy_sim *sim, uint32_t shard, const char **why);
/* Whether every in-sync member is damaged: then nothing can be asked of the shard any more. */
bool gy_sim_check_dead(const struct gy_sim *sim, uint32_t shard);
/* The histories of all keys. */
void gy_sim_check_histories(struct gy_sim *sim);
void gy_sim_checks_fini(struct gy_sim *sim);

#endif
