/* Evener loads: replicas that leave fuller nodes, primaries that hand over. */
#include "placement/plan_nodes.h"

#include <stdlib.h>

/* ---- balance ---- */

static uint64_t load(const struct gy_plan_node *node) { return node->bytes + node->replicas * GY_REPLICA_LOAD_BYTES; }

bool gy_plan_settled(const struct gy_plan_shard_view *shard, const struct gy_plan_world *world)
{
    if (shard->config->split.shard)
        return false;
    for (uint32_t i = 0; i < shard->config->member_count; i++) {
        const struct gy_member *member = &shard->config->members[i];
        const struct gy_plan_fact *fact = &shard->facts[i];
        const struct gy_plan_node *node = gy_plan_node_named(world, member->node);
        if (member->leaving || !node || !node->up || fact->presence != GY_PRESENCE_HELD || fact->lost || fact->restoring ||
            fact->troubled_since_ns || (member->kind == GY_MEMBER_FULL && !member->in_sync))
            return false;
    }
    return true;
}

/* A member that may move, and where to. */
struct candidate {
    size_t shard;
    uint32_t member;
    const struct gy_plan_node *from, *to;
    uint64_t bytes;
};

static bool better(const struct candidate *a, const struct candidate *b)
{
    if (!b->from)
        return true;
    if (load(a->from) != load(b->from))
        return load(a->from) > load(b->from);
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes;
    int names = strcmp(a->from->name, b->from->name);
    return names < 0 || (names == 0 && a->shard < b->shard);
}

bool gy_plan_balance(const struct gy_plan_shard_view *shards, size_t count, const struct gy_plan_world *world, size_t *shard,
                     struct gy_shard_config *next)
{
    struct candidate best = {0};
    for (size_t s = 0; s < count; s++) {
        if (!gy_plan_settled(&shards[s], world) || shards[s].config->member_count == GY_MEMBERS_MAX)
            continue;
        const struct gy_shard_config *config = shards[s].config;
        for (uint32_t i = 0; i < config->member_count; i++) {
            /* the place that is best once the member has left: its zone is free again, its node is the one it leaves */
            struct gy_shard_config without = *config;
            without.members[i].leaving = true;
            size_t to = gy_plan_best_node(&without, world, 0);
            if (to == GY_NO_NODE)
                break;
            struct candidate found = {s, i, gy_plan_node_named(world, config->members[i].node), &world->nodes[to],
                                      shards[s].facts[i].bytes + GY_REPLICA_LOAD_BYTES};
            uint64_t from_load = load(found.from), to_load = load(found.to);
            bool notable = from_load > to_load && from_load - to_load >= to_load / 4;
            if (notable && from_load - to_load >= 2 * found.bytes && better(&found, &best))
                best = found;
        }
    }
    if (!best.from)
        return false;
    *shard = best.shard;
    gy_plan_member_move(shards[best.shard].config, best.member, best.to->name, next);
    return true;
}

/* ---- primaries ---- */

static const char *primary_node(const struct gy_shard_config *config) { return gy_config_member(config, config->primary)->node; }

/* How many shards a node orders the writes of. */
static size_t primaries_on(const struct gy_plan_shard_view *shards, size_t count, const char *node)
{
    size_t primaries = 0;
    for (size_t s = 0; s < count; s++)
        primaries += strcmp(primary_node(shards[s].config), node) == 0;
    return primaries;
}

/* A shard whose primary on node `from` may hand over to a member on node `to`; count: none. *id: that member. */
static size_t shard_between(const struct gy_plan_shard_view *shards, size_t count, const struct gy_plan_world *world,
                            const char *from, const char *to, uint32_t *id)
{
    for (size_t s = 0; s < count; s++) {
        const struct gy_shard_config *config = shards[s].config;
        if (strcmp(primary_node(config), from) != 0 || !gy_plan_settled(&shards[s], world))
            continue;
        for (uint32_t i = 0; i < config->member_count; i++)
            if (config->members[i].in_sync && strcmp(config->members[i].node, to) == 0) {
                *id = config->members[i].id;
                return s;
            }
    }
    return count;
}

bool gy_plan_hand_over(const struct gy_plan_shard_view *shards, size_t count, const struct gy_plan_world *world, size_t *shard,
                       struct gy_shard_config *next)
{
    size_t *primaries = calloc(world->node_count + 1, sizeof *primaries), best_difference = 0, best_shard = count;
    uint32_t best_id = 0;
    const char *best_from = NULL, *best_to = NULL;
    for (size_t i = 0; primaries && i < world->node_count; i++)
        primaries[i] = primaries_on(shards, count, world->nodes[i].name);
    for (size_t i = 0; primaries && i < world->node_count * world->node_count; i++) {
        size_t f = i / world->node_count, t = i % world->node_count;
        const struct gy_plan_node *from = &world->nodes[f], *to = &world->nodes[t];
        if (primaries[f] < primaries[t] + 2 || !to->up || to->draining)
            continue;
        size_t difference = primaries[f] - primaries[t];
        int names = best_from ? strcmp(from->name, best_from) : 0;
        if (names == 0 && best_to)
            names = strcmp(to->name, best_to);
        if (difference < best_difference || (difference == best_difference && names > 0))
            continue;
        uint32_t id;
        size_t found = shard_between(shards, count, world, from->name, to->name, &id);
        if (found == count)
            continue;
        best_difference = difference, best_shard = found, best_id = id;
        best_from = from->name, best_to = to->name;
    }
    free(primaries);
    if (best_shard == count)
        return false;
    *shard = best_shard;
    *next = *shards[best_shard].config;
    next->epoch++;
    next->primary = best_id, next->primary_since = next->epoch;
    return true;
}
