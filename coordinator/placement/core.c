#include "placement/core.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- which nodes are alive ---- */

static int64_t silent_ns_max(int64_t heartbeat_ns)
{
    int64_t missed_ns = GY_HEARTBEATS_MISSED_MAX * heartbeat_ns;
    return missed_ns > GY_NODE_SILENT_NS_MIN ? missed_ns : GY_NODE_SILENT_NS_MIN;
}

bool gy_node_health_reported(gy_node_health *health, int64_t now_ns)
{
    bool changed = health->state != GY_NODE_UP;
    if (health->state == GY_NODE_UNKNOWN || now_ns > health->reported_ns)
        health->reported_ns = now_ns;
    health->state = GY_NODE_UP;
    return changed;
}

bool gy_node_health_tick(gy_node_health *health, int64_t now_ns, int64_t heartbeat_ns)
{
    if (now_ns < gy_node_health_due_ns(health, heartbeat_ns))
        return false;
    health->state = GY_NODE_DOWN;
    return true;
}

int64_t gy_node_health_due_ns(const gy_node_health *health, int64_t heartbeat_ns)
{
    return health->state == GY_NODE_UP ? health->reported_ns + silent_ns_max(heartbeat_ns) : GY_NEVER;
}

/* ---- what a node must be told ---- */

gy_replica_verdict gy_replica_judge(const struct gy_wanted_replica *wanted, const struct gy_held_replica *held, int64_t now_ns)
{
    if (held && held->epoch >= wanted->epoch && held->codebook_version >= wanted->codebook_version)
        return GY_REPLICA_GOOD;
    int64_t again_ns = held && held->epoch >= wanted->epoch ? GY_REENCODE_AGAIN_NS : GY_ENSURE_AGAIN_NS;
    if (wanted->told_ns && now_ns - wanted->told_ns < again_ns)
        return GY_REPLICA_WAIT;
    return GY_REPLICA_ENSURE;
}

/* ---- when a collection is trained ---- */

bool gy_training_due(uint64_t trained_at_points, uint64_t points)
{
    if (trained_at_points == 0)
        return points >= GY_TRAIN_POINTS_MIN;
    if (trained_at_points < GY_TRAIN_LISTS_POINTS_MIN && points >= GY_TRAIN_LISTS_POINTS_MIN)
        return true;
    return points / GY_TRAIN_GROWTH >= trained_at_points;
}

uint32_t gy_training_lists_max(uint32_t dim)
{
    uint32_t fit = GY_CENTROIDS_BYTES_MAX / (dim * (uint32_t)sizeof(float));
    return fit < GY_TRAIN_LISTS_MAX ? fit : GY_TRAIN_LISTS_MAX;
}

gyre_status gy_training_lists(uint64_t points, uint32_t shards, uint32_t dim, uint32_t asked, uint32_t *lists, gyre_error *err)
{
    uint32_t most = gy_training_lists_max(dim);
    if (asked > most)
        return gyre_fail(err, GYRE_INVALID, "lists is %u; at dim %u it may be 1 to %u, or 0 for a choice by the number of points",
                         asked, dim, most);
    if (asked > points)
        return gyre_fail(err, GYRE_PRECONDITION, "%u lists of %" PRIu64 " points", asked, points);
    *lists = asked ? asked : 1;
    if (asked || points < GY_TRAIN_LISTS_POINTS_MIN)
        return GYRE_OK;
    /* 2l is nearer to 2·sqrt(p) than l is, in the logarithm, up to sqrt(2) times it: (2l)² <= 8p */
    while (2 * *lists <= most && (uint64_t)(2 * *lists) * (2 * *lists) <= 8 * points &&
           *lists * UINT64_C(2) * shards * GY_LIST_POINTS_MIN <= points)
        *lists *= 2;
    return GYRE_OK;
}

int64_t gy_training_backoff_ns(uint32_t failures)
{
    enum { DOUBLINGS_MAX = 6 };
    if (failures == 0)
        return 0;
    return GY_SECOND_NS << (failures - 1 < DOUBLINGS_MAX ? failures - 1 : DOUBLINGS_MAX);
}
