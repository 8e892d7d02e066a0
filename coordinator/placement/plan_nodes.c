#include "placement/plan_nodes.h"

#include <assert.h>
#include <stdio.h>

const struct gy_plan_node *gy_plan_node_named(const struct gy_plan_world *world, const char *name)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (strcmp(world->nodes[i].name, name) == 0)
            return &world->nodes[i];
    return NULL;
}

bool gy_plan_node_before(const struct gy_plan_node *a, const struct gy_plan_node *b)
{
    if (a->replicas != b->replicas)
        return a->replicas < b->replicas;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes;
    return strcmp(a->name, b->name) < 0;
}

/* Members of the shard that stay in the node's zone; SIZE_MAX if the node itself has one, leaving or not. */
static size_t members_in_zone(const struct gy_shard_config *config, const struct gy_plan_world *world, uint32_t without,
                              const struct gy_plan_node *node)
{
    size_t members = 0;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        if (member->id == without)
            continue;
        if (strcmp(member->node, node->name) == 0)
            return SIZE_MAX;
        const struct gy_plan_node *other = node->zone[0] ? gy_plan_node_named(world, member->node) : NULL;
        members += other && !member->leaving && strcmp(other->zone, node->zone) == 0;
    }
    return members;
}

size_t gy_plan_best_node(const struct gy_shard_config *config, const struct gy_plan_world *world, uint32_t without)
{
    size_t best = GY_NO_NODE, best_members = 0;
    for (size_t i = 0; i < world->node_count; i++) {
        const struct gy_plan_node *node = &world->nodes[i];
        size_t members = node->up && !node->draining ? members_in_zone(config, world, without, node) : SIZE_MAX;
        if (members == SIZE_MAX)
            continue;
        if (best != GY_NO_NODE && (members > best_members ||
                                   (members == best_members && !gy_plan_node_before(node, &world->nodes[best]))))
            continue;
        best = i, best_members = members;
    }
    return best;
}

size_t gy_plan_heir_of(const struct gy_shard_config *config, const struct gy_plan_world *world, uint32_t i)
{
    const struct gy_plan_node *node = gy_plan_node_named(world, config->members[i].node);
    const struct gy_plan_node *heir = node && node->heir && *node->heir ? gy_plan_node_named(world, node->heir) : NULL;
    if (!heir || !heir->up || heir->draining)
        return GY_NO_NODE;
    for (uint32_t m = 0; m < config->member_count; m++)
        if (strcmp(config->members[m].node, heir->name) == 0)
            return GY_NO_NODE;
    return (size_t)(heir - world->nodes);
}

void gy_plan_member_add(struct gy_shard_config *config, const char *node, gy_member_kind kind)
{
    assert(config->member_count < GY_MEMBERS_MAX);
    struct gy_member *member = &config->members[config->member_count++];
    *member = (struct gy_member){.id = config->next_member++, .kind = kind};
    snprintf(member->node, sizeof member->node, "%s", node);
}

void gy_plan_member_remove(struct gy_shard_config *config, uint32_t id)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < config->member_count; i++)
        if (config->members[i].id != id)
            config->members[kept++] = config->members[i];
    memset(&config->members[kept], 0, (config->member_count - kept) * sizeof config->members[0]);
    config->member_count = kept;
}

struct gy_member *gy_plan_member(struct gy_shard_config *config, uint32_t id)
{
    for (uint32_t i = 0; i < config->member_count; i++)
        if (config->members[i].id == id)
            return &config->members[i];
    return NULL;
}
