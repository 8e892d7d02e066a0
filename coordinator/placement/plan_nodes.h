/* plan_nodes: which node a new member goes to; shared by the files of plan.h. Pure. */
#ifndef GY_PLACEMENT_PLAN_NODES_H
#define GY_PLACEMENT_PLAN_NODES_H

#include "placement/plan.h"

#define GY_NO_NODE SIZE_MAX

/* NULL if the world does not have it. */
const struct gy_plan_node *gy_plan_node_named(const struct gy_plan_world *world, const char *name);
/* Index of the best node for a new member, counting members of the shard as if the one of id `without` were not there (0: as they
 * are); leaving ones do not count for their zone. GY_NO_NODE: no node can take one. */
size_t gy_plan_best_node(const struct gy_shard_config *config, const struct gy_plan_world *world, uint32_t without);
/* The heir of the node that members[i] is on, if that can take a member; GY_NO_NODE: it has none, or that cannot. */
size_t gy_plan_heir_of(const struct gy_shard_config *config, const struct gy_plan_world *world, uint32_t i);
/* Whether nodes[a] is less loaded than nodes[b]: fewer replicas, fewer bytes, first by name. */
bool gy_plan_node_before(const struct gy_plan_node *a, const struct gy_plan_node *b);

/* Changes of a configuration; ids stay ascending. */
void gy_plan_member_add(struct gy_shard_config *config, const char *node, gy_member_kind kind);
/* The one at i becomes leaving, a new one of its kind begins on node `to`; the epoch grows. */
void gy_plan_member_move(const struct gy_shard_config *config, uint32_t i, const char *to, struct gy_shard_config *out);
void gy_plan_member_remove(struct gy_shard_config *config, uint32_t id);
struct gy_member *gy_plan_member(struct gy_shard_config *config, uint32_t id);

#endif
