/* The table as messages of the public API. Blocks are malloc's, so that gy_wire_free frees them. */
#include "placement/state.h"

#include "gyre/lifecycle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { HASH_TEXT_BYTES = 17 };

static int compare_names(const void *a, const void *b)
{
    const struct gy_collection_entry *x = *(struct gy_collection_entry *const *)a, *y = *(struct gy_collection_entry *const *)b;
    return strcmp(x->record.spec.name, y->record.spec.name);
}

static bool reachable(const struct gy_node_entry *node)
{
    return node->health.state == GY_NODE_UP && node->link && gy_peer_up(gy_link_peer(node->link));
}

/* Room for count pointers in a repeated field; NULL without memory. */
static void *pointers(size_t count) { return calloc(count + 1, sizeof(void *)); }

static bool describe_spec(const struct gy_collection_spec *spec, Gyre__V1__CollectionSpec **out)
{
    Gyre__V1__CollectionSpec *sent = *out = malloc(sizeof *sent);
    if (!sent)
        return false;
    gyre__v1__collection_spec__init(sent);
    sent->name = strdup(spec->name);
    sent->codec = strdup(spec->codec);
    sent->dim = spec->dim;
    sent->metric = (Gyre__V1__Metric)spec->metric;
    sent->bits = spec->bits;
    sent->shards = spec->shards;
    sent->copies = spec->copies;
    sent->quantized = spec->quantized;
    sent->min_copies = gy_plan_min_copies(&(struct gy_plan_wish){spec->copies, spec->quantized, spec->min_copies});
    sent->allow_approximate = spec->allow_approximate;
    return sent->name && sent->codec;
}

static bool describe_member(const struct gy_collection_entry *entry, uint32_t shard, uint32_t index, Gyre__V1__MemberInfo **out)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    const struct gy_member *configured = &config->members[index];
    const struct gy_member_entry *member = &entry->shards[shard].members[index];
    Gyre__V1__MemberInfo *sent = *out = malloc(sizeof *sent);
    if (!sent)
        return false;
    gyre__v1__member_info__init(sent);
    sent->id = configured->id;
    sent->node = strdup(configured->node);
    sent->quantized = configured->kind == GY_MEMBER_QUANTIZED;
    sent->primary = configured->id == config->primary;
    sent->in_sync = configured->in_sync, sent->leaving = configured->leaving;
    sent->reachable = reachable(member->node) && gy_table_member_up(member);
    sent->restoring = member->restoring;
    sent->applied_seq = member->applied_seq;
    return sent->node != NULL;
}

static bool describe_shard(const struct gy_collection_entry *entry, uint32_t index, Gyre__V1__ShardInfo **out)
{
    const struct gy_shard_config *config = &entry->record.shards[index];
    const struct gy_member_entry *primary = gy_table_primary(entry, index);
    const char *obstacle = entry->shards[index].obstacle;
    if (!obstacle && gy_split_has_child(&entry->record, index)) /* which is not shown itself */
        obstacle = entry->shards[config->split.shard].obstacle;
    char first[HASH_TEXT_BYTES], last[HASH_TEXT_BYTES];
    snprintf(first, sizeof first, "%016" PRIx64, config->range.first);
    snprintf(last, sizeof last, "%016" PRIx64, config->range.last);
    Gyre__V1__ShardInfo *sent = *out = malloc(sizeof *sent);
    if (!sent)
        return false;
    gyre__v1__shard_info__init(sent);
    sent->shard = index;
    sent->epoch = config->epoch;
    sent->min_copies = config->min_copies;
    sent->primary = strdup(primary->node->name);
    sent->reachable = reachable(primary->node) && !primary->lost && !primary->troubled_since_ns;
    sent->points = gy_table_shard_points(entry, index);
    sent->hash_first = strdup(first), sent->hash_last = strdup(last);
    sent->splitting_into = config->split.shard;
    sent->foreign_points = primary->foreign;
    sent->applied_seq = primary->applied_seq;
    sent->codebook_version = primary->codebook_version;
    sent->unclean_epoch = config->unclean_epoch, sent->unclean_unix_ms = config->unclean_unix_ms;
    sent->obstacle = strdup(obstacle ? obstacle : "");
    sent->members = pointers(config->member_count);
    bool whole = sent->primary && sent->obstacle && sent->members && sent->hash_first && sent->hash_last;
    for (uint32_t i = 0; whole && i < config->member_count; i++)
        whole = describe_member(entry, index, i, &sent->members[sent->n_members++]);
    return whole;
}

static bool describe_probe_costs(const gy_collection_record *record, Gyre__V1__Collection *out)
{
    out->probe_costs = pointers(record->probe_cost_count);
    for (uint32_t i = 0; out->probe_costs && i < record->probe_cost_count; i++) {
        Gyre__V1__ProbeCost *sent = out->probe_costs[i] = malloc(sizeof *sent);
        if (!sent)
            return false;
        gyre__v1__probe_cost__init(sent);
        sent->recall = record->probe_costs[i].recall, sent->lists = record->probe_costs[i].lists;
        out->n_probe_costs++;
    }
    return out->probe_costs != NULL;
}

static bool describe_training(const struct gy_collection_entry *entry, Gyre__V1__Collection *out)
{
    if (!entry->training)
        return true;
    Gyre__V1__Training *sent = out->training = malloc(sizeof *sent);
    if (!sent)
        return false;
    gyre__v1__training__init(sent);
    sent->phase = strdup(entry->training_phase ? entry->training_phase : "queued");
    sent->done = entry->training_phase ? entry->training_done : 0;
    return sent->phase != NULL;
}

gyre_status gy_describe_collection(const struct gy_collection_entry *entry, Gyre__V1__Collection **out, gyre_error *err)
{
    Gyre__V1__Collection *sent = malloc(sizeof *sent);
    if (!sent)
        return gyre_fail(err, GYRE_NO_MEMORY, "description of '%s'", entry->record.spec.name);
    gyre__v1__collection__init(sent);
    sent->id = entry->record.id;
    sent->points = gy_table_points(entry);
    sent->codebook_version = entry->record.codebook_version;
    sent->lists = entry->record.lists;
    bool whole = describe_spec(&entry->record.spec, &sent->spec) && describe_probe_costs(&entry->record, sent) &&
                 describe_training(entry, sent);
    uint32_t shown = gy_collection_shown_shards(&entry->record);
    sent->shards = pointers(shown);
    if (whole)
        sent->spec->shards = shown;
    for (uint32_t i = 0; whole && sent->shards && i < shown; i++)
        whole = describe_shard(entry, i, &sent->shards[sent->n_shards++]);
    if (!whole || !sent->shards) {
        gy_wire_free(sent);
        return gyre_fail(err, GYRE_NO_MEMORY, "description of '%s'", entry->record.spec.name);
    }
    *out = sent;
    return GYRE_OK;
}

gyre_status gy_placement_get(gy_placement *placement, const char *name, Gyre__V1__Collection **out, gyre_error *err)
{
    struct gy_collection_entry *entry;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = gy_table_active(placement, name, &entry, err);
    if (status == GYRE_OK)
        status = gy_describe_collection(entry, out, err);
    pthread_mutex_unlock(&placement->mu);
    return status;
}

/* The active collections by name; under mu. */
static struct gy_collection_entry **active(gy_placement *placement, size_t *count)
{
    struct gy_collection_entry **entries = pointers(HASH_COUNT(placement->collections)), *entry, *next;
    *count = 0;
    if (!entries)
        return NULL;
    HASH_ITER(hh, placement->collections, entry, next)
        if (entry->record.state == GY_COLLECTION_ACTIVE)
            entries[(*count)++] = entry;
    qsort(entries, *count, sizeof(struct gy_collection_entry *), compare_names);
    return entries;
}

static gyre_status describe_list(gy_placement *placement, Gyre__V1__ListCollectionsReply *sent, gyre_error *err)
{
    size_t count;
    struct gy_collection_entry **entries = active(placement, &count);
    sent->collections = pointers(count);
    gyre_status status =
        entries && sent->collections ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "list of %zu collections", count);
    for (size_t i = 0; status == GYRE_OK && i < count; i++) {
        status = gy_describe_collection(entries[i], &sent->collections[i], err);
        if (status == GYRE_OK)
            sent->n_collections++;
    }
    free(entries);
    return status;
}

gyre_status gy_placement_list(gy_placement *placement, Gyre__V1__ListCollectionsReply **out, gyre_error *err)
{
    Gyre__V1__ListCollectionsReply *sent = malloc(sizeof *sent);
    if (!sent)
        return gyre_fail(err, GYRE_NO_MEMORY, "list of collections");
    gyre__v1__list_collections_reply__init(sent);
    pthread_mutex_lock(&placement->mu);
    gyre_status status = describe_list(placement, sent, err);
    pthread_mutex_unlock(&placement->mu);
    if (status != GYRE_OK) {
        gy_wire_free(sent);
        return status;
    }
    *out = sent;
    return GYRE_OK;
}

/* ---- the cluster ---- */

static bool describe_node(const gy_placement *placement, const struct gy_node_entry *node, int64_t now_ns,
                          Gyre__V1__NodeInfo **out)
{
    Gyre__V1__NodeInfo *sent = *out = malloc(sizeof *sent);
    if (!sent)
        return false;
    gyre__v1__node_info__init(sent);
    int64_t heard_ns = node->health.state == GY_NODE_UNKNOWN ? placement->born_ns : node->health.reported_ns;
    sent->name = strdup(node->name);
    sent->state = node->health.state == GY_NODE_UP ? GYRE__V1__NODE_STATE__NODE_STATE_UP : GYRE__V1__NODE_STATE__NODE_STATE_DOWN;
    sent->address = strdup(node->address);
    sent->http_address = strdup(node->http_address);
    sent->version = strdup(node->version);
    sent->simd = strdup(node->simd);
    sent->zone = strdup(node->zone);
    sent->draining = node->draining;
    sent->members = (uint32_t)node->given;
    sent->heir = strdup(node->heir);
    sent->replicas = (uint32_t)(node->health.state == GY_NODE_UNKNOWN ? node->given : node->held_count);
    sent->points = node->points;
    sent->resident_bytes = node->resident_bytes;
    sent->disk_free_bytes = node->disk_free_bytes;
    sent->since_report_ms = (uint64_t)((now_ns - heard_ns) / GY_MILLISECOND_NS);
    return sent->name && sent->address && sent->http_address && sent->version && sent->simd && sent->zone && sent->heir;
}

static int compare_infos(const void *a, const void *b)
{
    return strcmp((*(Gyre__V1__NodeInfo *const *)a)->name, (*(Gyre__V1__NodeInfo *const *)b)->name);
}

static bool describe_cluster(gy_placement *placement, Gyre__V1__ClusterStatusReply *sent)
{
    sent->version = strdup(gy_version());
    sent->catalog = strdup(placement->catalog->backend);
    sent->cluster = strdup(gy_placement_cluster_id(placement));
    sent->nodes = pointers(HASH_COUNT(placement->nodes));
    if (!sent->version || !sent->catalog || !sent->cluster || !sent->nodes)
        return false;
    sent->coordinators = pointers(placement->coordinator_count);
    if (!sent->coordinators)
        return false;
    for (size_t i = 0; i < placement->coordinator_count; i++) {
        Gyre__V1__CoordinatorInfo *info = sent->coordinators[sent->n_coordinators] = malloc(sizeof *info);
        if (!info)
            return false;
        gyre__v1__coordinator_info__init(info);
        sent->n_coordinators++;
        info->address = strdup(placement->coordinators[i].grpc);
        info->bus_address = strdup(placement->coordinators[i].bus);
        info->leads = placement->coordinators[i].leads;
        if (!info->address || !info->bus_address)
            return false;
    }
    int64_t now_ns = gy_now_ns();
    struct gy_node_entry *node, *next_node;
    HASH_ITER(hh, placement->nodes, node, next_node)
        if (!node->removed && !describe_node(placement, node, now_ns, &sent->nodes[sent->n_nodes++]))
            return false;
    qsort(sent->nodes, sent->n_nodes, sizeof *sent->nodes, compare_infos);
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        if (entry->record.state == GY_COLLECTION_ACTIVE) {
            sent->collections++;
            sent->points += gy_table_points(entry);
        }
    return true;
}

gyre_status gy_placement_status(gy_placement *placement, Gyre__V1__ClusterStatusReply **out, gyre_error *err)
{
    Gyre__V1__ClusterStatusReply *sent = malloc(sizeof *sent);
    if (!sent)
        return gyre_fail(err, GYRE_NO_MEMORY, "cluster status");
    gyre__v1__cluster_status_reply__init(sent);
    pthread_mutex_lock(&placement->mu);
    bool whole = describe_cluster(placement, sent);
    pthread_mutex_unlock(&placement->mu);
    if (!whole) {
        gy_wire_free(sent);
        return gyre_fail(err, GYRE_NO_MEMORY, "cluster status");
    }
    *out = sent;
    return GYRE_OK;
}
