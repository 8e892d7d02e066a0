/* Creation and dropping. Order of events, and what a crash between them leaves:
 *   create  record "creating" → replicas made → record "active" → route published → answered
 *           (a restart forgets the record; replicas already made are dropped when their nodes report)
 *   drop    record "dropping" → route withdrawn → replicas dropped → record away → answered
 *           (a restart removes the record; replicas still there are dropped when their nodes report) */
#include "placement/state.h"

#include <inttypes.h>
#include <stdlib.h>

/* Time to make the replicas for a caller that gave none: each is a database with its first synced writes. */
#define CREATE_DEADLINE_NS (30 * GY_SECOND_NS)
#define CREATE_PER_SHARD_NS (500 * GY_MILLISECOND_NS)
/* Dropping does not wait longer than this for a node that is frozen. */
#define DROP_DEADLINE_NS (10 * GY_SECOND_NS)

/* Why no shard can be placed at all. */
static gyre_status check_any_up(const gy_placement *placement, const struct gy_plan_world *world, gyre_error *err)
{
    const char *bus = placement->bus ? gy_bus_address(placement->bus) : "";
    for (size_t i = 0; i < world->node_count; i++)
        if (world->nodes[i].up)
            return GYRE_OK;
    if (world->node_count == 0)
        return gyre_fail(err, GYRE_PRECONDITION, "no shard daemon has joined; start gyre-shard with --coordinators %s", bus);
    return gyre_fail(err, GYRE_PRECONDITION,
                     "none of the %zu shard daemons known is up; start gyre-shard with --coordinators %s", world->node_count,
                     bus);
}

/* Chooses the nodes, under mu. */
static gyre_status assign(gy_placement *placement, gy_collection_record *record, gyre_error *err)
{
    const struct gy_collection_spec *spec = &record->spec;
    record->shards = calloc(spec->shards, sizeof *record->shards);
    if (!record->shards)
        return gyre_fail(err, GYRE_NO_MEMORY, "placement of %u shards", spec->shards);
    struct gy_plan_node *nodes;
    struct gy_plan_world world;
    int64_t due_ns;
    GY_TRY(gy_table_world(placement, gy_now_ns(), &nodes, &world, &due_ns, err));
    struct gy_plan_wish wish = {spec->copies, spec->quantized, spec->min_copies};
    gyre_status status = check_any_up(placement, &world, err);
    if (status == GYRE_OK)
        status = gy_plan_begin(&wish, &world, spec->shards, record->shards, err);
    if (status == GYRE_OK)
        gy_collection_record_set_key(record, placement->cluster.placement_key);
    free(nodes);
    return status;
}

static bool any_up(const gy_placement *placement)
{
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next)
        if (node->health.state == GY_NODE_UP)
            return true;
    return false;
}

/* A coordinator that has just started knows its nodes from the catalog and hears of them within a heartbeat: worth waiting for.
 */
static void await_first_report(gy_placement *placement, int64_t deadline_ns)
{
    int64_t until_ns = placement->born_ns + GY_NODE_SILENT_NS_MIN;
    until_ns = deadline_ns < until_ns ? deadline_ns : until_ns;
    pthread_mutex_lock(&placement->mu);
    while (placement->nodes && !any_up(placement) && !placement->stopping && gy_placement_wait(placement, until_ns)) {
    }
    pthread_mutex_unlock(&placement->mu);
}

static gyre_status check_free(gy_placement *placement, const char *name, gyre_error *err)
{
    const struct gy_collection_entry *entry = gy_table_collection(placement, name);
    if (!entry)
        return GYRE_OK;
    return gyre_fail(err, GYRE_EXISTS, "collection '%s' %s", name,
                     entry->record.state == GY_COLLECTION_CREATING   ? "is being made"
                     : entry->record.state == GY_COLLECTION_DROPPING ? "is still being dropped"
                                                                     : "exists");
}

/* The codebook that a collection begins with: centred on the origin, without lists. */
static gyre_status first_codebook(gy_collection_record *record, const uint8_t seed[GYRE_SEED_BYTES], gyre_error *err)
{
    gyre_codebook *made;
    GY_AUTO(gy_codebook) *codebook = NULL;
    GY_TRY(gyre_codebook_new(&made, record->spec.metric, record->spec.dim, 1, seed, NULL, err));
    GY_TRY(gy_codebook_new(&codebook, made, err));
    return gy_collection_record_set_codebook(record, codebook, err);
}

/* Builds the record and puts it into catalog and table as "creating". Under catalog_mu; record is left for the caller to fini. */
static gyre_status begin_create(gy_placement *placement, const struct gy_collection_spec *spec, gy_collection_record *record,
                                gyre_error *err)
{
    pthread_mutex_lock(&placement->mu);
    record->spec = *spec;
    gyre_status status = placement->stopping ? gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is stopping")
                                             : check_free(placement, spec->name, err);
    if (status == GYRE_OK)
        status = assign(placement, record, err);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    struct gy_cluster_record cluster = placement->cluster;
    record->id = cluster.next_collection_id++;
    record->state = GY_COLLECTION_CREATING;
    GY_TRY(first_codebook(record, cluster.rotation_seed, err));
    uint64_t revision;
    struct gy_table_change making = {.name = spec->name, .record = record, .new_codebook = true, .cluster = &cluster};
    GY_TRY(gy_table_commit(placement, &making, &revision, err));
    struct gy_collection_entry *entry;
    pthread_mutex_lock(&placement->mu);
    placement->cluster.next_collection_id = cluster.next_collection_id;
    status = gy_table_collection_add(placement, record, revision, revision, &entry, err);
    pthread_mutex_unlock(&placement->mu);
    if (status != GYRE_OK) { /* out of memory: the record must not stay where nobody looks */
        struct gy_table_change removal = {.name = spec->name,
                                          .revision = revision,
                                          .collection_id = cluster.next_collection_id - 1,
                                          .codebook_revision = revision,
                                          .codebook_version = 1};
        GY_IGNORE(gy_table_commit(placement, &removal, &revision, NULL));
    }
    return status;
}

/* Changes the state of an entry in catalog and table. Under catalog_mu. */
static gyre_status move(gy_placement *placement, struct gy_collection_entry *entry, gy_collection_state state, gyre_error *err)
{
    gy_collection_record changed = entry->record; /* borrows; nobody else changes it under catalog_mu */
    changed.state = state;
    uint64_t revision;
    struct gy_table_change change = {.name = changed.spec.name, .revision = entry->revision, .record = &changed};
    GY_TRY(gy_table_commit(placement, &change, &revision, err));
    pthread_mutex_lock(&placement->mu);
    entry->record.state = state;
    entry->revision = revision;
    entry->replan = true;
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    return GYRE_OK;
}

static gyre_status finish_create(gy_placement *placement, uint64_t id, gyre_error *err)
{
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, id);
    pthread_mutex_unlock(&placement->mu);
    /* one that is being made can neither be dropped nor trained: it is still there, unless another coordinator led meanwhile */
    if (!entry || entry->record.state != GY_COLLECTION_CREATING)
        return gyre_fail(err, GYRE_UNAVAILABLE, "another coordinator has come to lead meanwhile");
    GY_TRY(move(placement, entry, GY_COLLECTION_ACTIVE, err));
    pthread_mutex_lock(&placement->mu);
    gyre_status status = gy_table_publish(placement, entry, err);
    pthread_mutex_unlock(&placement->mu);
    return status;
}

/* Takes an entry out of catalog and table, unless somebody else did. If the catalog refuses, a restart does it. */
static gyre_status forget(gy_placement *placement, uint64_t id, gyre_error *err)
{
    pthread_mutex_lock(&placement->catalog_mu);
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, id);
    pthread_mutex_unlock(&placement->mu);
    uint64_t revision;
    gyre_status status = GYRE_OK;
    if (entry) {
        struct gy_table_change removal = gy_table_removal(entry);
        status = gy_table_commit(placement, &removal, &revision, err);
    }
    if (status == GYRE_OK && entry) {
        gy_routing_withdraw(placement->routing, entry->record.spec.name);
        pthread_mutex_lock(&placement->mu);
        gy_table_collection_remove(placement, entry);
        pthread_cond_broadcast(&placement->changed);
        pthread_mutex_unlock(&placement->mu);
    }
    pthread_mutex_unlock(&placement->catalog_mu);
    return status;
}

/* One that could neither be made nor be forgotten, because the catalog does not answer: a drop takes it away, or a restart. */
static void give_up(gy_placement *placement, uint64_t id)
{
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, id);
    if (entry)
        entry->record.state = GY_COLLECTION_DROPPING;
    pthread_mutex_unlock(&placement->mu);
}

gyre_status gy_placement_create(gy_placement *placement, const struct gy_collection_spec *spec, int64_t deadline_ns,
                                Gyre__V1__Collection **out, gyre_error *err)
{
    GY_TRY(gy_collection_spec_check(spec, err));
    await_first_report(placement, deadline_ns);
    gy_collection_record record = {0};
    pthread_mutex_lock(&placement->catalog_mu);
    gyre_status status = begin_create(placement, spec, &record, err);
    uint64_t id = placement->cluster.next_collection_id - 1;
    pthread_mutex_unlock(&placement->catalog_mu);
    gy_collection_record_fini(&record);
    GY_TRY(status);
    int64_t own_ns = CREATE_DEADLINE_NS + (int64_t)spec->shards * CREATE_PER_SHARD_NS;
    status = gy_ensure_all(placement, id, gy_placement_deadline(deadline_ns, own_ns), NULL, err);
    if (status == GYRE_OK) {
        pthread_mutex_lock(&placement->catalog_mu);
        status = finish_create(placement, id, err);
        pthread_mutex_unlock(&placement->catalog_mu);
    }
    if (status == GYRE_OK) {
        gy_log(GY_LOG_INFO, "collection_created", "collection=%s id=%" PRIu64 " dim=%u metric=%s shards=%u", spec->name, id,
               spec->dim, gyre_metric_name(spec->metric), spec->shards);
        return gy_placement_get(placement, spec->name, out, err);
    }
    gyre_error why;
    if (forget(placement, id, &why) != GYRE_OK) {
        gy_log(GY_LOG_ERROR, "collection_not_forgotten", "collection=%s error=%s", spec->name, why.text);
        give_up(placement, id);
    }
    return gyre_wrap(err, status, "collection '%s' was not made", spec->name);
}

static gyre_status begin_drop(gy_placement *placement, const char *name, uint64_t *id, gyre_error *err)
{
    GY_TRY(gy_collection_name_check(name, err));
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection(placement, name);
    gyre_status status = GYRE_OK;
    if (!entry)
        status = gyre_fail(err, GYRE_NOT_FOUND, "collection '%s' does not exist", name);
    else if (entry->record.state == GY_COLLECTION_CREATING)
        status = gyre_fail(err, GYRE_ABORTED, "collection '%s' is being made; drop it when it is there", name);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    if (entry->record.state == GY_COLLECTION_ACTIVE) /* else another drop is at it, or one failed: both may be joined */
        GY_TRY(move(placement, entry, GY_COLLECTION_DROPPING, err));
    gy_routing_withdraw(placement->routing, name);
    *id = entry->record.id;
    return GYRE_OK;
}

gyre_status gy_placement_drop(gy_placement *placement, const char *name, int64_t deadline_ns, gyre_error *err)
{
    uint64_t id;
    pthread_mutex_lock(&placement->catalog_mu);
    gyre_status status = begin_drop(placement, name, &id, err);
    pthread_mutex_unlock(&placement->catalog_mu);
    GY_TRY(status);
    gy_drop_all(placement, id, gy_placement_deadline(deadline_ns, DROP_DEADLINE_NS));
    GY_TRY(forget(placement, id, err));
    gy_log(GY_LOG_INFO, "collection_dropped", "collection=%s id=%" PRIu64, name, id);
    return GYRE_OK;
}
