/* A shard none of whose members in sync will come back: an operator's word against the promise that no write is lost. */
#include "placement/plan_nodes.h"

#include <inttypes.h>

static bool serves(const struct gy_plan_world *world, const struct gy_member *member, const struct gy_plan_fact *fact)
{
    const struct gy_plan_node *node = gy_plan_node_named(world, member->node);
    return node && node->up && fact->presence == GY_PRESENCE_HELD && !fact->lost && !fact->troubled_since_ns;
}

/* Whether its node, or what its node has of it, may just not have been heard of. */
static bool unheard(const struct gy_plan_world *world, const struct gy_member *member, const struct gy_plan_fact *fact)
{
    const struct gy_plan_node *node = gy_plan_node_named(world, member->node);
    return !node || (node->up ? fact->presence == GY_PRESENCE_UNHEARD : node->down_since_ns == GY_NEVER);
}

/* Refuses while somebody who has every acknowledged write is there or may yet turn up. *away: the first that is away. */
static gyre_status check_away(const struct gy_shard_config *config, const struct gy_plan_fact *facts,
                              const struct gy_plan_world *world, const struct gy_member **away, gyre_error *err)
{
    *away = NULL;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        if (!member->in_sync)
            continue;
        if (serves(world, member, &facts[i]))
            return gyre_fail(err, GYRE_PRECONDITION, "member %u on node %s is in sync and up: it goes on without any loss",
                             member->id, member->node);
        if (unheard(world, member, &facts[i]))
            return gyre_fail(err, GYRE_PRECONDITION, "member %u on node %s is in sync and was not heard of yet; wait a moment",
                             member->id, member->node);
        *away = *away ? *away : member;
    }
    return GYRE_OK;
}

static gyre_status choose(const struct gy_shard_config *config, const struct gy_plan_fact *facts,
                          const struct gy_plan_world *world, uint32_t member, uint32_t *out, gyre_error *err)
{
    uint32_t best = GY_MEMBERS_MAX;
    if (member && !gy_config_member(config, member))
        return gyre_fail(err, GYRE_NOT_FOUND, "the shard has no member %u", member);
    for (uint32_t i = 0; i < config->member_count; i++)
        if ((!member || config->members[i].id == member) && config->members[i].kind == GY_MEMBER_FULL &&
            serves(world, &config->members[i], &facts[i]) && !facts[i].restoring &&
            (best == GY_MEMBERS_MAX || facts[i].log_seq > facts[best].log_seq))
            best = i;
    if (best == GY_MEMBERS_MAX && member)
        return gyre_fail(err, GYRE_PRECONDITION, "member %u holds codes only, is not whole, or does not answer", member);
    if (best == GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_PRECONDITION, "no member with vectors answers: start one of its nodes, or restore a backup");
    *out = best;
    return GYRE_OK;
}

gyre_status gy_plan_recover(const struct gy_shard_config *config, const struct gy_plan_fact *facts,
                            const struct gy_plan_world *world, uint32_t member, bool accepted, uint64_t unix_ms,
                            struct gy_shard_config *out, gyre_error *err)
{
    const struct gy_member *away;
    uint32_t chosen = 0;
    GY_TRY(check_away(config, facts, world, &away, err));
    GY_TRY(choose(config, facts, world, member, &chosen, err));
    if (!accepted)
        return gyre_fail(err, GYRE_PRECONDITION,
                         "first try to bring back node %s, whose member %u has every acknowledged write; if it is gone for "
                         "good, --accept-data-loss goes on with member %u on node %s, whose log ends at %" PRIu64
                         ": later writes are lost",
                         away->node, away->id, config->members[chosen].id, config->members[chosen].node, facts[chosen].log_seq);
    struct gy_shard_config next = *config;
    next.epoch++;
    next.primary = config->members[chosen].id, next.primary_since = next.epoch;
    next.unclean_epoch = next.epoch, next.unclean_unix_ms = unix_ms;
    gy_plan_member(&next, next.primary)->in_sync = true;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *other = &config->members[i];
        if (i == chosen)
            continue;
        gy_plan_member_remove(&next, other->id);
        if (!other->leaving)
            gy_plan_member_add(&next, other->node, other->kind);
    }
    *out = next;
    return GYRE_OK;
}
