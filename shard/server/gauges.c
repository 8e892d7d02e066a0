#include "server/gauges.h"

#include "gyre/lifecycle.h"

static double resident_bytes(void *node)
{
    (void)node;
    return (double)gy_resident_bytes();
}

static double disk_free_bytes(void *node)
{
    uint64_t free_bytes, total_bytes;
    if (gy_disk_free(gy_node_data_dir(node), &free_bytes, &total_bytes, NULL) != GYRE_OK)
        return 0;
    return (double)free_bytes;
}

/* Adds something up over the replicas. */
static double sum(void *node, double (*of)(const struct gy_node_status *status))
{
    struct gy_node_status *statuses;
    size_t count;
    double total = 0;
    if (gy_node_statuses(node, &statuses, &count, NULL) != GYRE_OK)
        return 0;
    for (size_t i = 0; i < count; i++)
        total += of(&statuses[i]);
    gy_node_statuses_free(statuses);
    return total;
}

static double one(const struct gy_node_status *status)
{
    (void)status;
    return 1;
}

static double one_if_troubled(const struct gy_node_status *status)
{
    return *status->message.trouble != '\0';
}

static double points_of(const struct gy_node_status *status)
{
    return (double)status->message.points;
}

static double ram_bytes_of(const struct gy_node_status *status)
{
    return (double)status->ram_bytes;
}

static double replicas(void *node)
{
    return sum(node, one);
}

static double replicas_troubled(void *node)
{
    return sum(node, one_if_troubled);
}

static double fenced(void *node)
{
    return (double)gy_node_fenced_count(node);
}

static double points(void *node)
{
    return sum(node, points_of);
}

static double foreign_of(const struct gy_node_status *status)
{
    return (double)status->message.foreign;
}

static double foreign(void *node)
{
    return sum(node, foreign_of);
}

static double codes_bytes(void *node)
{
    return sum(node, ram_bytes_of);
}

static double budget_bytes(void *node)
{
    return (double)gy_budget_max(gy_node_budget(node));
}

static double budget_used_bytes(void *node)
{
    return (double)gy_budget_used(gy_node_budget(node));
}

void gy_gauges_new(gy_metrics *metrics, gy_node *node)
{
    gy_gauge_of(metrics, "gyre_shard_resident_bytes", NULL, "Memory of the process that is in RAM.", resident_bytes, node);
    gy_gauge_of(metrics, "gyre_shard_disk_free_bytes", NULL, "Free bytes on the data directory's disk.", disk_free_bytes, node);
    gy_gauge_of(metrics, "gyre_shard_replicas", NULL, "Replicas on this node.", replicas, node);
    gy_gauge_of(metrics, "gyre_shard_replicas_troubled", NULL, "Replicas that do not serve, or not fully; the report says why.",
                replicas_troubled, node);
    gy_gauge_of(metrics, "gyre_shard_replicas_fenced", NULL, "Replicas found damaged and closed since the start.", fenced, node);
    gy_gauge_of(metrics, "gyre_shard_points", NULL, "Points in this node's replicas.", points, node);
    gy_gauge_of(metrics, "gyre_shard_foreign_points", NULL,
                "Points that are another shard's since a split, still to be deleted here.", foreign, node);
    gy_gauge_of(metrics, "gyre_shard_codes_bytes", NULL, "Codes, factors and ids held in RAM.", codes_bytes, node);
    gy_gauge_of(metrics, "gyre_shard_memory_budget_bytes", NULL, "What codes may take in RAM; beyond it writes are refused.",
                budget_bytes, node);
    gy_gauge_of(metrics, "gyre_shard_memory_budget_used_bytes", NULL,
                "Codes, what writes on their way may add, and what re-encodings will need.", budget_used_bytes, node);
}
