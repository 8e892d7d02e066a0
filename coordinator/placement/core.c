#include "placement/core.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- where shards go ---- */

/* A binary heap of nodes, fewest replicas first, then by name: as many steps as shards, whatever the number of nodes. */
struct heap {
    const struct gy_placement_node *nodes;
    uint64_t *replicas; /* [count of nodes] */
    size_t *order;
    size_t count;
};

static bool before(const struct heap *heap, size_t a, size_t b)
{
    if (heap->replicas[a] != heap->replicas[b])
        return heap->replicas[a] < heap->replicas[b];
    return strcmp(heap->nodes[a].name, heap->nodes[b].name) < 0;
}

static void sift_down(struct heap *heap, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap->count; child++)
            if (before(heap, heap->order[child], heap->order[least]))
                least = child;
        if (least == at)
            return;
        size_t moved = heap->order[at];
        heap->order[at] = heap->order[least];
        heap->order[least] = moved;
        at = least;
    }
}

gyre_status gy_placement_assign(const struct gy_placement_node *nodes, size_t count, uint32_t shards, size_t *node_of_shard,
                                gyre_error *err)
{
    struct heap heap = {
        .nodes = nodes, .replicas = calloc(count + 1, sizeof *heap.replicas), .order = calloc(count + 1, sizeof *heap.order)};
    gyre_status status = GYRE_OK;
    if (!heap.replicas || !heap.order)
        status = gyre_fail(err, GYRE_NO_MEMORY, "placement over %zu nodes", count);
    for (size_t i = 0; status == GYRE_OK && i < count; i++) {
        heap.replicas[i] = nodes[i].replicas;
        if (nodes[i].up)
            heap.order[heap.count++] = i;
    }
    if (status == GYRE_OK && heap.count == 0)
        status = gyre_fail(err, GYRE_PRECONDITION, "none of %zu nodes is up", count);
    for (size_t i = heap.count; i-- > 0 && status == GYRE_OK;)
        sift_down(&heap, i);
    for (uint32_t shard = 0; status == GYRE_OK && shard < shards; shard++) {
        node_of_shard[shard] = heap.order[0];
        heap.replicas[heap.order[0]]++;
        sift_down(&heap, 0);
    }
    free(heap.replicas);
    free(heap.order);
    return status;
}

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
