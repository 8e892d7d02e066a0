/* What is asked for from outside: a new collection's shards, another in-sync set, a move. */
#include "placement/plan_nodes.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- begin ---- */

/* What the shards so far were given. */
struct filling {
    struct gy_plan_world world;
    struct gy_plan_node *nodes;  /* of world, with replicas counted on */
    uint32_t *fulls, *primaries; /* [node_count] */
};

/* Which of the chosen nodes still without a role gets a full member: one whose zone has the fewest of the shard's, then one that
 * was given the fewest. Were the first ones to get them, the same nodes would hold all the vectors. */
static uint32_t next_full(const struct filling *self, const size_t *chosen, const bool *full, uint32_t count)
{
    uint32_t best = count, best_zone = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t in_zone = 0;
        const char *zone = self->nodes[chosen[i]].zone;
        for (uint32_t j = 0; zone[0] && j < count; j++)
            in_zone += full[j] && strcmp(self->nodes[chosen[j]].zone, zone) == 0;
        if (full[i] || (best < count && (in_zone > best_zone ||
                                         (in_zone == best_zone && self->fulls[chosen[i]] >= self->fulls[chosen[best]]))))
            continue;
        best = i, best_zone = in_zone;
    }
    return best;
}

static gyre_status begin_shard(struct filling *self, const struct gy_plan_wish *wish, struct gy_shard_config *config,
                               gyre_error *err)
{
    *config = (struct gy_shard_config){.epoch = 1, .primary_since = 1, .next_member = 1, .min_copies = gy_plan_min_copies(wish)};
    uint32_t count = wish->copies + wish->quantized, first = count;
    size_t chosen[GY_MEMBERS_MAX];
    bool full[GY_MEMBERS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        chosen[i] = gy_plan_best_node(config, &self->world, 0);
        if (chosen[i] == GY_NO_NODE)
            return gyre_fail(err, GYRE_PRECONDITION, "%u full and %u quantized copies need %u nodes that are up; there are %u",
                             wish->copies, wish->quantized, count, i);
        gy_plan_member_add(config, self->nodes[chosen[i]].name, GY_MEMBER_QUANTIZED);
        self->nodes[chosen[i]].replicas++;
    }
    for (uint32_t n = 0; n < wish->copies; n++) {
        uint32_t i = next_full(self, chosen, full, count);
        full[i] = config->members[i].in_sync = true;
        config->members[i].kind = GY_MEMBER_FULL;
        self->fulls[chosen[i]]++;
    }
    for (uint32_t i = 0; i < count; i++)
        if (full[i] && (first == count || self->primaries[chosen[i]] < self->primaries[chosen[first]]))
            first = i;
    self->primaries[chosen[first]]++;
    config->primary = config->members[first].id;
    return GYRE_OK;
}

gyre_status gy_plan_begin(const struct gy_plan_wish *wish, const struct gy_plan_world *world, uint32_t shards,
                          struct gy_shard_config *out, gyre_error *err)
{
    struct filling self = {.world = *world,
                           .nodes = calloc(world->node_count + 1, sizeof *self.nodes),
                           .fulls = calloc(world->node_count + 1, sizeof *self.fulls),
                           .primaries = calloc(world->node_count + 1, sizeof *self.primaries)};
    self.world.nodes = self.nodes;
    gyre_status status = self.nodes && self.fulls && self.primaries
                             ? GYRE_OK
                             : gyre_fail(err, GYRE_NO_MEMORY, "placement over %zu nodes", world->node_count);
    if (status == GYRE_OK && world->node_count)
        memcpy(self.nodes, world->nodes, world->node_count * sizeof *self.nodes);
    for (uint32_t shard = 0; status == GYRE_OK && shard < shards; shard++)
        if ((status = begin_shard(&self, wish, &out[shard], err)) == GYRE_OK)
            out[shard].range = gy_range_of_shard(shard, shards);
    free(self.nodes);
    free(self.fulls);
    free(self.primaries);
    return status;
}

/* ---- in sync ---- */

gyre_status gy_plan_change_in_sync(const struct gy_shard_config *config, uint64_t epoch, uint32_t from, const uint32_t *in_sync,
                                   size_t count, struct gy_shard_config *out, gyre_error *err)
{
    if (epoch != config->epoch || from != config->primary)
        return gyre_fail(err, GYRE_ABORTED, "member %u asks in epoch %" PRIu64 "; epoch %" PRIu64 " holds, its primary is %u",
                         from, epoch, config->epoch, config->primary);
    struct gy_shard_config next = *config;
    next.epoch++;
    for (uint32_t i = 0; i < next.member_count; i++)
        next.members[i].in_sync = false;
    for (size_t i = 0; i < count; i++) {
        struct gy_member *member = gy_plan_member(&next, in_sync[i]);
        if (!member || member->kind != GY_MEMBER_FULL || member->in_sync)
            return gyre_fail(err, GYRE_INVALID, "in_sync[%zu] is %u, which is %s", i, in_sync[i],
                             !member ? "no member" : member->in_sync ? "named twice" : "a member that holds codes only");
        member->in_sync = true;
    }
    if (!gy_plan_member(&next, from)->in_sync)
        return gyre_fail(err, GYRE_INVALID, "in_sync lacks the primary, %u", from);
    *out = next;
    return GYRE_OK;
}

/* ---- move ---- */

void gy_plan_member_move(const struct gy_shard_config *config, uint32_t i, const char *to, struct gy_shard_config *out)
{
    *out = *config;
    out->epoch++;
    out->members[i].leaving = true;
    gy_plan_member_add(out, to, config->members[i].kind);
}

gyre_status gy_plan_move(const struct gy_shard_config *config, const struct gy_plan_world *world, const char *from,
                         const char *to, struct gy_shard_config *out, gyre_error *err)
{
    uint32_t at = GY_MEMBERS_MAX;
    if (config->split.shard)
        return gyre_fail(err, GYRE_PRECONDITION, "the shard is being split into shard %u; its members stay until that is over",
                         config->split.shard);
    for (uint32_t i = 0; i < config->member_count; i++) {
        if (strcmp(config->members[i].node, from) == 0)
            at = i;
        if (strcmp(config->members[i].node, to) == 0)
            return gyre_fail(err, GYRE_PRECONDITION, "node %s has a member of the shard already", to);
    }
    const struct gy_plan_node *node = gy_plan_node_named(world, to);
    if (at == GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_NOT_FOUND, "node %s has no member of the shard", from);
    if (!node)
        return gyre_fail(err, GYRE_NOT_FOUND, "node %s was never heard of", to);
    if (!node->up || node->draining)
        return gyre_fail(err, GYRE_PRECONDITION, "node %s is %s", to, node->up ? "draining" : "down");
    if (config->members[at].leaving)
        return gyre_fail(err, GYRE_PRECONDITION, "the member on node %s is leaving already", from);
    if (config->member_count == GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_PRECONDITION, "the shard has %u members, and others must go first", config->member_count);
    gy_plan_member_move(config, at, to, out);
    return GYRE_OK;
}
