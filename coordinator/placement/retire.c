/* Nodes that go: drained, with another in their place, and forgotten when the catalog gives them nothing any more. */
#include "placement/state.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the record ---- */

/* Puts the node's record into the catalog, or takes it out. Under catalog_mu. */
static gyre_status commit_record(gy_placement *placement, struct gy_node_entry *node, const struct gy_node_record *record,
                                 gyre_error *err)
{
    char key[sizeof GY_NODE_PREFIX + GY_NAME_BYTES_MAX];
    snprintf(key, sizeof key, "%s%s", GY_NODE_PREFIX, node->name);
    if (!record && !node->revision)
        return GYRE_OK;
    gy_bytes value = {0};
    uint64_t revision;
    if (record)
        GY_TRY(gy_node_record_encode(record, &value, err));
    struct gy_catalog_change change = {key, node->revision, record ? &value : NULL};
    gyre_status status = gy_table_commit_changes(placement, &change, 1, &revision, err);
    gy_bytes_free(&value);
    GY_TRY(status);
    node->revision = record ? revision : 0;
    return GYRE_OK;
}

static struct gy_node_entry *find(gy_placement *placement, const char *name, gyre_error *err)
{
    struct gy_node_entry *node = gy_table_node(placement, name);
    if (node && !node->removed)
        return node;
    gyre_fail(err, GYRE_NOT_FOUND, "node %s was never heard of", name);
    return NULL;
}

/* ---- what may not be ---- */

static gyre_status check_heir(gy_placement *placement, const struct gy_node_entry *node, const char *name, gyre_error *err)
{
    GY_TRY(gy_primary_name_check(name, err));
    const struct gy_node_entry *heir = find(placement, name, err);
    if (!heir)
        return GYRE_NOT_FOUND;
    if (heir == node)
        return gyre_fail(err, GYRE_PRECONDITION, "node %s cannot take its own replicas", name);
    if (heir->health.state != GY_NODE_UP)
        return gyre_fail(err, GYRE_PRECONDITION, "node %s, which shall take the replicas, is down", name);
    if (heir->draining)
        return gyre_fail(err, GYRE_PRECONDITION, "node %s, which shall take the replicas, is draining itself", name);
    return GYRE_OK;
}

/* Whether a member in sync is up on another node. */
static bool survives(const struct gy_collection_entry *entry, uint32_t shard, const struct gy_node_entry *node)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    for (uint32_t m = 0; m < config->member_count; m++) {
        const struct gy_member_entry *member = &entry->shards[shard].members[m];
        if (config->members[m].in_sync && member->node != node && gy_table_member_up(member))
            return true;
    }
    return false;
}

/* Refuses to give up a node that is away with what nobody else has. Under mu. */
static gyre_status check_copies(gy_placement *placement, const struct gy_node_entry *node, gyre_error *err)
{
    const struct gy_collection_entry *entry, *next, *first = NULL;
    uint32_t first_shard = 0, lost = 0;
    uint64_t points = 0;
    if (node->health.state == GY_NODE_UP)
        return GYRE_OK;
    HASH_ITER(hh, placement->collections, entry, next)
        for (uint32_t i = 0; i < entry->record.spec.shards; i++) {
            bool has = false;
            for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++)
                has |= entry->shards[i].members[m].node == node && entry->record.shards[i].members[m].in_sync;
            if (!has || survives(entry, i, node))
                continue;
            if (!lost++)
                first = entry, first_shard = i;
            points += gy_table_primary(entry, i)->points;
        }
    if (!lost)
        return GYRE_OK;
    return gyre_fail(err, GYRE_PRECONDITION,
                     "node %s is down and has the last copies in sync of %u shard%s, the first of them shard %u of '%s': %llu "
                     "points as last reported would be lost; start it again, or give them up first with gyre recover or "
                     "gyre collection drop",
                     node->name, lost, lost == 1 ? "" : "s", first_shard, first->record.spec.name, (unsigned long long)points);
}

/* ---- drained ---- */

static gyre_status check_drain(gy_placement *placement, const struct gy_placement_drain *drain, struct gy_node_entry **out,
                               gyre_error *err)
{
    struct gy_node_entry *node = *out = find(placement, drain->node, err);
    if (!node)
        return GYRE_NOT_FOUND;
    if (drain->undo)
        return GYRE_OK;
    if (*drain->heir)
        GY_TRY(check_heir(placement, node, drain->heir, err));
    return drain->for_good || *drain->heir ? check_copies(placement, node, err) : GYRE_OK;
}

gyre_status gy_placement_drain(gy_placement *placement, const struct gy_placement_drain *drain, uint32_t *members,
                               gyre_error *err)
{
    GY_TRY(gy_primary_name_check(drain->node, err));
    pthread_mutex_lock(&placement->catalog_mu);
    pthread_mutex_lock(&placement->mu);
    struct gy_node_entry *node;
    gyre_status status = check_drain(placement, drain, &node, err);
    pthread_mutex_unlock(&placement->mu);
    struct gy_node_record record = {.draining = true};
    if (!drain->undo && status == GYRE_OK)
        snprintf(record.heir, sizeof record.heir, "%s", drain->heir); /* a node's name, which fits */
    if (status == GYRE_OK)
        status = commit_record(placement, node, drain->undo ? NULL : &record, err);
    if (status == GYRE_OK) {
        pthread_mutex_lock(&placement->mu);
        node->draining = !drain->undo;
        memcpy(node->heir, record.heir, sizeof node->heir);
        *members = (uint32_t)node->given;
        gy_table_node_changed(placement, node);
        pthread_cond_broadcast(&placement->changed);
        pthread_mutex_unlock(&placement->mu);
        gy_log(GY_LOG_INFO, drain->undo ? "node_undrained" : "node_draining", "node=%s replicas=%u heir=%s", drain->node,
               *members, *record.heir ? record.heir : "-");
    }
    pthread_mutex_unlock(&placement->catalog_mu);
    return status;
}

/* ---- removed ---- */

gyre_status gy_placement_remove_node(gy_placement *placement, const char *name, gyre_error *err)
{
    GY_TRY(gy_primary_name_check(name, err));
    gy_link *link = NULL;
    pthread_mutex_lock(&placement->catalog_mu);
    pthread_mutex_lock(&placement->mu);
    struct gy_node_entry *node = find(placement, name, err);
    gyre_status status = node ? GYRE_OK : GYRE_NOT_FOUND;
    if (node && node->given)
        status = gyre_fail(err, GYRE_PRECONDITION, "node %s is to have %llu replicas; drain it first", name,
                           (unsigned long long)node->given);
    if (status == GYRE_OK && !node->draining) /* a new collection could choose it now */
        status = gyre_fail(err, GYRE_PRECONDITION, "node %s does not drain; drain it first", name);
    pthread_mutex_unlock(&placement->mu);
    if (status == GYRE_OK)
        status = commit_record(placement, node, NULL, err);
    if (status == GYRE_OK) {
        pthread_mutex_lock(&placement->mu);
        node->removed = true;
        node->draining = false;
        node->heir[0] = '\0';
        node->health = (gy_node_health){0};
        node->held_count = 0, node->points = 0;
        link = GY_TAKE(node->link);
        pthread_cond_broadcast(&placement->changed);
        pthread_mutex_unlock(&placement->mu);
        gy_log(GY_LOG_INFO, "node_removed", "node=%s", name);
    }
    pthread_mutex_unlock(&placement->catalog_mu);
    gy_link_release(link);
    return status;
}
