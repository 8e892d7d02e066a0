/* plan: who shall hold a shard: from its configuration, the wishes, the nodes and what is known of its members, the next
 * configuration, or none.
 *
 * Pure: no I/O, clock, thread or random source; time comes in arguments, and the order of nodes changes nothing. One change a
 * call, each one epoch; the caller commits it by compare-and-set and asks again. A member outside the in-sync set is never made
 * primary, so no acknowledged write is lost by a plan.
 * Source   reconfiguration of replica groups by a separate manager: Lin et al., "PacificA", MSR-TR-2008-25, sections 2.4, 2.5
 * Threads  none: whoever owns the state calls */
#ifndef GY_PLACEMENT_PLAN_H
#define GY_PLACEMENT_PLAN_H

#include "catalog/spec.h"

#include "gyre/clock.h"
#include "gyre/shard_config.h"

_Static_assert(GY_COPIES_MAX + GY_QUANTIZED_MAX < GY_MEMBERS_MAX, "there is room for a member that takes another's place");

/* What a collection wants of each of its shards. */
struct gy_plan_wish {
    uint32_t copies;     /* full members, 1 to GY_COPIES_MAX */
    uint32_t quantized;  /* 0 to GY_QUANTIZED_MAX */
    uint32_t min_copies; /* 1 to copies; 0: the default below */
};

/* Writes go on while one copy is away, unless there is only one. */
static inline uint32_t gy_plan_min_copies(const struct gy_plan_wish *wish)
{
    return wish->min_copies ? wish->min_copies : wish->copies > 2 ? wish->copies - 1 : 1;
}

struct gy_plan_node {
    const char *name;
    const char *zone;      /* "": a zone of its own */
    bool up;
    int64_t down_since_ns; /* if not up; GY_NEVER: not heard of yet, and not for long enough to call it down */
    bool draining;         /* gets no member, and its members move away */
    uint64_t replicas, bytes;
    const char *heir;      /* node that takes its members where it can; NULL or "": the best ones */
};

/* A primary that does not serve for so long is followed by another: as long as one whose node is silent. */
#define GY_TROUBLED_NS_MAX (3 * GY_SECOND_NS)

/* What is known of a member. */
typedef enum gy_presence {
    GY_PRESENCE_UNHEARD, /* nothing: its node did not report since the coordinator started, or what it said may be outdated */
    GY_PRESENCE_UNMADE,  /* it was just added, nothing was ever in it, and its node is still to make it */
    GY_PRESENCE_ABSENT,  /* its node reports and does not have it */
    GY_PRESENCE_HELD,
} gy_presence;
struct gy_plan_fact {
    gy_presence presence;
    bool lost;      /* held, but damaged: to come from another member */
    bool restoring; /* being built from another member */
    int64_t troubled_since_ns; /* held, but not to be opened: it does not serve, though what it has may be good; 0: it does */
    uint64_t epoch, log_seq, applied_seq;
    uint64_t bytes; /* that moving it would move */
};

struct gy_plan_world {
    const struct gy_plan_node *nodes; /* [node_count]; a node that is not there counts as not heard of */
    size_t node_count;
    int64_t now_ns;
    int64_t replace_after_ns; /* a member on a node that is down for so long is replaced */
    uint32_t moves_left;      /* so many members may begin to leave draining nodes */
};

struct gy_plan {
    bool change;
    bool move;           /* the change lets a member leave a draining node: one of moves_left */
    struct gy_shard_config next; /* if change */
    const char *reason;  /* of the change; without one, what stands in the way of the wish, or NULL. Static */
    int64_t due_ns;      /* when time alone may change this answer; GY_NEVER */
};

/* The next change of one shard. Rules, the first that applies:
 *   promote   the primary's node is down, or its replica absent or lost, or in trouble for GY_TROUBLED_NS_MAX: of the in-sync
 *             members that are up and serve, one that is not leaving, then of the longest log, then of the lowest id; members
 *             that are down, absent, lost or in trouble leave the in-sync set with it. None: no change at all, whatever else is
 *             to do
 *   wish      min_copies is another
 *   replace   a member is absent or lost, or its node down or it in trouble for replace_after_ns: out of the in-sync set first;
 *             then a new member on the best node (of one in trouble: another node) takes its place, or nobody if enough others
 *             are there
 *   add       too few members that are not leaving. If no node can take one, a leaving member stays, unless its node drains
 *   leave     enough others are in sync (quantized: held, not restoring): a leaving member goes; before that a leaving primary
 *             hands over
 *   drain     a member on a draining node becomes leaving, if another node can take it
 *   surplus   one member more than wished becomes leaving: one that has not caught up, or whose node drains, or that is not
 *             primary, or whose node has the most replicas
 * While the shard is being split, members neither come nor go: of replace only that a lost one leaves the in-sync set. But where
 * fewer than min_copies are in sync, nothing could be acknowledged, not the narrowing either: then every rule goes on, for one
 * too many may have the place of the one that is missed.
 * A member on a node with an heir is followed by one there, if that node is up, does not drain and has none of the shard.
 * Best node: up, not draining, without a member of the shard; fewest members of the shard in its zone, fewest replicas, fewest
 * bytes, first by name.
 *   facts  [config->member_count], in the order of the members */
void gy_plan_shard(const struct gy_shard_config *config, const struct gy_plan_wish *wish, const struct gy_plan_fact *facts,
                   const struct gy_plan_world *world, struct gy_plan *out);

/* The configurations of a new collection's shards: epoch 1, every full member in sync; members and primaries spread evenly. now
 * and moves_left of the world mean nothing.
 *   out  [shards], written
 * GYRE_PRECONDITION if fewer nodes are up and not draining than a shard has members. */
GYRE_CHECKED gyre_status gy_plan_begin(const struct gy_plan_wish *wish, const struct gy_plan_world *world, uint32_t shards,
                                       struct gy_shard_config *out, gyre_error *err);

/* The in-sync set that primary `from` asks for in `epoch`. The set that holds already is granted too: its new epoch is a barrier
 * against requests that are still under way.
 * GYRE_ABORTED: another epoch or primary holds. GYRE_INVALID: the set lacks the primary, names a stranger, one that holds codes
 * only or one twice. */
GYRE_CHECKED gyre_status gy_plan_change_in_sync(const struct gy_shard_config *config, uint64_t epoch, uint32_t from,
                                                const uint32_t *in_sync, size_t count, struct gy_shard_config *out,
                                                gyre_error *err);

/* Moves a member by hand: the one on node `from` becomes leaving, a new one of its kind begins on node `to`.
 * GYRE_NOT_FOUND: no member on from, or no node `to`. GYRE_PRECONDITION: the shard is being split; to is down, draining or has a
 * member; or it leaves already, or there are members enough for one message. */
GYRE_CHECKED gyre_status gy_plan_move(const struct gy_shard_config *config, const struct gy_plan_world *world,
                                      const char *from, const char *to, struct gy_shard_config *out, gyre_error *err);

/* Gives up what only members that are away have: of the full members that are up and serve, the one of the longest log, of
 * equals the lowest id, or the one that is named, becomes primary and the only one in sync. All others become new members on
 * their nodes: they may hold entries that it lacks, and would differ from it in silence.
 * A split that is under way goes on: the intent is in the configuration, and what a member made of the child before counts only
 * if it is the one that stays, so its history is the one that holds. If that lacks the narrowing, the new primary logs another.
 * Only once the child is configured it would be wrong to go on without the narrowing: the caller sees to that.
 *   member    0: whichever is best
 *   accepted  an operator has said that acknowledged writes may be lost
 * GYRE_PRECONDITION: a member in sync is up, or was not heard of yet; nobody can be promoted; or not accepted, and err says what
 * would be lost and what to try first. GYRE_NOT_FOUND: no such member. */
GYRE_CHECKED gyre_status gy_plan_recover(const struct gy_shard_config *config, const struct gy_plan_fact *facts,
                                         const struct gy_plan_world *world, uint32_t member, bool accepted, uint64_t unix_ms,
                                         struct gy_shard_config *out, gyre_error *err);

/* Load of a node: its bytes, and for every replica what an empty one costs. */
#define GY_REPLICA_LOAD_BYTES (UINT64_C(16) << 20)
struct gy_plan_shard_view {
    const struct gy_shard_config *config;
    const struct gy_plan_fact *facts; /* [config->member_count] */
};
/* Whether nobody of the shard leaves, joins, is missed or in trouble, and it is not being split. */
bool gy_plan_settled(const struct gy_plan_shard_view *shard, const struct gy_plan_world *world);
/* Picks a member whose leaving would even out the nodes' loads: its node has at least a quarter more than the node that would
 * take it, and still not less than that one afterwards. Of those the one from the most loaded node, then the largest. Only shards
 * whose members are all held and where nobody leaves. So a row of moves ends.
 *   next  that shard's next configuration: the member is leaving, and a new one begins
 * false: nothing to move. */
bool gy_plan_balance(const struct gy_plan_shard_view *shards, size_t count, const struct gy_plan_world *world, size_t *shard,
                     struct gy_shard_config *next);

/* Picks a primary that hands over, so that nodes order the writes of as many shards each: to a member in sync on the node with
 * the fewest primaries, from the node with the most, where these have two more at least. Each makes the sum of squares of their
 * numbers smaller, so a row of them ends. Only settled shards, and nodes that do not drain.
 *   next  that shard's next configuration
 * false: none. */
bool gy_plan_hand_over(const struct gy_plan_shard_view *shards, size_t count, const struct gy_plan_world *world, size_t *shard,
                       struct gy_shard_config *next);

/* ---- a shard becomes two ----
 *
 *   begun: split.shard is set → its primary logs a narrowing, and each member that applies it makes its part of the child, the
 *   upper half → the child is configured, hidden → it serves → switched: the shard keeps the lower half
 *
 * Nothing of it is undone. While it goes on gy_plan_shard leaves the members as they are. */

/* GYRE_PRECONDITION: it is being split already, or has too few hashes.
 *   new_shard  the number of the child: the collection's next */
GYRE_CHECKED gyre_status gy_plan_split_begin(const struct gy_shard_config *config, uint32_t new_shard,
                                             struct gy_shard_config *out, gyre_error *err);
/* The child's first configuration: the members that made it, the full ones in sync, for whoever made it has all that was
 * acknowledged before.
 *   made      [config->member_count]: whether that member has reported its part of the child
 *   made_seq  [config->member_count]: of which seq it is. Of one that made none: 0, or not 0 if it has the narrowing behind it,
 *             so that it never will (it was built from another one's rows): the child then comes about without it
 * false: not yet. */
bool gy_plan_split_child(const struct gy_shard_config *config, const bool *made, const uint64_t *made_seq,
                         struct gy_shard_config *child);
/* The shard's configuration that ends the split.
 *   child_serves  its primary reports that it serves in the child's epoch
 * false: not yet. */
bool gy_plan_split_switch(const struct gy_shard_config *config, const struct gy_shard_config *child, bool child_serves,
                          struct gy_shard_config *out);

#endif
