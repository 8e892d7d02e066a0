/* The table brought to what the catalog holds, on a coordinator that does not lead: somebody else makes the changes.
 *
 *   names and revisions of all keys, as of one moment → what is newer than the table's is read → table, routes → what is not
 *   there any more goes
 *
 * A codebook of tens of megabytes is read only when the record points to another version. A key is read after the listing, so it
 * may be newer than that, never older: the table goes forward only. What the nodes said of members that stay is kept; of a member
 * that is new here nothing is known, and in particular not that nothing was ever in it. */
#include "placement/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { AGAIN_MAX = 3 }; /* readings that a change ran into */

/* Revision of a key, 0 if it is not there. The list is by key. */
static uint64_t revision_of(const struct gy_catalog_list *keys, const char *key)
{
    size_t low = 0, high = keys->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(keys->entries[middle].key, key);
        if (order == 0)
            return keys->entries[middle].revision;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static gyre_status follow_cluster(gy_placement *placement, const struct gy_catalog_list *keys, gyre_error *err)
{
    struct gy_cluster_record record;
    uint64_t revision;
    gy_bytes value;
    if (revision_of(keys, GY_CLUSTER_KEY) <= placement->cluster_revision)
        return GYRE_OK;
    GY_TRY(placement->catalog->get(placement->catalog, GY_CLUSTER_KEY, &value, &revision, err));
    gyre_status status = gy_cluster_record_decode(&record, value.data, value.size, err);
    gy_bytes_free(&value);
    GY_TRY(status);
    if (strcmp(record.id, placement->cluster.id) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "the catalog is now that of another cluster");
    pthread_mutex_lock(&placement->mu);
    placement->cluster.first_collection_id = record.first_collection_id;
    placement->cluster.next_collection_id = record.next_collection_id;
    placement->cluster_revision = revision;
    pthread_mutex_unlock(&placement->mu);
    return GYRE_OK;
}

/* ---- nodes ---- */

static gyre_status follow_node(gy_placement *placement, const struct gy_catalog_entry *listed, gyre_error *err)
{
    const char *name = listed->key + strlen(GY_NODE_PREFIX);
    struct gy_node_record record = {0};
    gy_bytes value;
    uint64_t revision;
    pthread_mutex_lock(&placement->mu);
    struct gy_node_entry *node = gy_table_node(placement, name);
    bool known = node && node->revision >= listed->revision;
    pthread_mutex_unlock(&placement->mu);
    if (known)
        return GYRE_OK;
    if (gy_primary_name_check(name, err) != GYRE_OK)
        return GYRE_CORRUPT;
    gyre_status status = placement->catalog->get(placement->catalog, listed->key, &value, &revision, err);
    if (status == GYRE_NOT_FOUND) /* gone meanwhile: the next listing says so */
        return GYRE_OK;
    GY_TRY(status);
    status = gy_node_record_decode(&record, value.data, value.size, err);
    gy_bytes_free(&value);
    GY_TRY(status);
    pthread_mutex_lock(&placement->mu);
    node = gy_table_node_add(placement, name);
    if (node) {
        node->draining = record.draining, node->revision = revision;
        memcpy(node->heir, record.heir, sizeof node->heir);
        gy_table_node_changed(placement, node);
    }
    pthread_mutex_unlock(&placement->mu);
    return node ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "node %s", name);
}

/* Nodes without a record. */
static void forget_nodes(gy_placement *placement, const struct gy_catalog_list *keys)
{
    pthread_mutex_lock(&placement->mu);
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next) {
        char key[sizeof GY_NODE_PREFIX + GY_NAME_BYTES_MAX];
        snprintf(key, sizeof key, "%s%s", GY_NODE_PREFIX, node->name);
        if (!node->revision || revision_of(keys, key))
            continue;
        node->draining = false, node->revision = 0;
        node->heir[0] = 0;
        gy_table_node_changed(placement, node);
    }
    pthread_mutex_unlock(&placement->mu);
}

/* ---- collections ---- */

/* Takes a collection out of table and routes. */
static void remove_entry(gy_placement *placement, struct gy_collection_entry *entry)
{
    gy_routing_withdraw(placement->routing, entry->record.spec.name);
    pthread_mutex_lock(&placement->mu);
    gy_table_collection_remove(placement, entry);
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
}

/* Whether the codebook that the record points to is the one that the entry has. */
static bool has_codebook(const struct gy_collection_entry *entry, const gy_collection_record *record)
{
    return entry && entry->record.codebook && entry->record.id == record->id &&
           entry->record.codebook_version == record->codebook_version;
}

/* Takes over newer configurations, and those of shards that splits have made. Under mu. */
static gyre_status take_configs(gy_placement *placement, struct gy_collection_entry *entry, const gy_collection_record *record,
                                gyre_error *err)
{
    for (uint32_t i = 0; i < record->spec.shards; i++) {
        const struct gy_shard_config *config = &record->shards[i];
        bool added = i == entry->record.spec.shards;
        if (!added && config->epoch <= entry->record.shards[i].epoch)
            continue;
        for (uint32_t m = 0; m < config->member_count; m++)
            if (!gy_table_node_add(placement, config->members[m].node))
                return gyre_fail(err, GYRE_NO_MEMORY, "node %s", config->members[m].node);
        if (added) {
            GY_TRY(gy_table_shard_reserve(entry, err));
            gy_table_shard_add(placement, entry, config);
        } else {
            gy_table_config_set(placement, entry, i, config);
        }
    }
    gy_table_doubt(entry);
    return GYRE_OK;
}

/* Takes over a newer record of the collection, and its codebook if it has one. Under mu; takes what it needs of the record. */
static gyre_status take_record(gy_placement *placement, struct gy_collection_entry *entry, gy_collection_record *record,
                               uint64_t revision, uint64_t codebook_revision, gyre_error *err)
{
    if (record->spec.shards < entry->record.spec.shards)
        return gyre_fail(err, GYRE_CORRUPT, "it has %u shards; it had %u before", record->spec.shards,
                         entry->record.spec.shards);
    GY_TRY(take_configs(placement, entry, record, err));
    entry->record.spec = record->spec;
    entry->record.state = record->state;
    entry->record.trained_at_points = record->trained_at_points;
    entry->record.lists = record->lists;
    memcpy(entry->record.probe_costs, record->probe_costs, sizeof record->probe_costs);
    entry->record.probe_cost_count = record->probe_cost_count;
    entry->record.codebook_version = record->codebook_version;
    if (record->codebook) {
        gy_codebook *older = entry->record.codebook;
        entry->record.codebook = record->codebook;
        entry->codebook_revision = codebook_revision;
        record->codebook = older; /* the caller's to release */
    }
    entry->revision = revision;
    entry->replan = true;
    return GYRE_OK;
}

/* Puts a record that was read into table and routes. */
static gyre_status take(gy_placement *placement, struct gy_collection_entry *entry, gy_collection_record *record,
                        uint64_t revision, uint64_t codebook_revision, gyre_error *err)
{
    if (entry && entry->record.id != record->id) { /* dropped and made again */
        remove_entry(placement, entry);
        entry = NULL;
    }
    pthread_mutex_lock(&placement->mu);
    gyre_status status = entry ? take_record(placement, entry, record, revision, codebook_revision, err)
                               : gy_table_collection_add(placement, record, revision, codebook_revision, &entry, err);
    if (status == GYRE_OK)
        gy_table_doubt(entry);
    bool active = status == GYRE_OK && entry->record.state == GY_COLLECTION_ACTIVE;
    if (active)
        status = gy_table_publish(placement, entry, err);
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    if (status == GYRE_OK && !active)
        gy_routing_withdraw(placement->routing, entry->record.spec.name);
    return status;
}

/* GYRE_ABORTED: another change came in between, read again. */
static gyre_status follow_collection(gy_placement *placement, const struct gy_catalog_list *keys,
                                     const struct gy_catalog_entry *listed, gyre_error *err)
{
    const char *name = listed->key + strlen(GY_COLLECTION_PREFIX);
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection(placement, name); /* it stays under catalog_mu */
    pthread_mutex_unlock(&placement->mu);
    if (entry && entry->revision >= listed->revision)
        return GYRE_OK;
    gy_collection_record record = {0};
    gy_bytes value;
    uint64_t revision, codebook_revision = 0;
    gyre_status status = placement->catalog->get(placement->catalog, listed->key, &value, &revision, err);
    if (status == GYRE_NOT_FOUND)
        return GYRE_OK;
    GY_TRY(status);
    status = gy_collection_record_decode(&record, value.data, value.size, err);
    gy_bytes_free(&value);
    if (status == GYRE_OK)
        gy_collection_record_set_key(&record, placement->cluster.placement_key);
    if (status == GYRE_OK && strcmp(name, record.spec.name) != 0)
        status = gyre_fail(err, GYRE_CORRUPT, "it is the record of '%s'", record.spec.name);
    if (status == GYRE_OK && (record.id < placement->cluster.first_collection_id || record.id >= placement->cluster.next_collection_id))
        status = gyre_fail(err, revision > listed->revision ? GYRE_ABORTED : GYRE_CORRUPT, "its id was never given");
    if (status == GYRE_OK && record.state == GY_COLLECTION_ACTIVE && !has_codebook(entry, &record)) {
        status = gy_table_load_codebook(placement, &record, &codebook_revision, err);
        if (status == GYRE_NOT_FOUND) /* another was published since */
            status = GYRE_ABORTED;
    } else if (status == GYRE_OK) {
        char key[GY_CODEBOOK_KEY_ROOM]; /* one that is only to be removed is not read */
        codebook_revision = revision_of(keys, gy_codebook_key(key, record.id, record.codebook_version));
    }
    if (status == GYRE_OK)
        status = take(placement, entry, &record, revision, codebook_revision, err);
    gy_collection_record_fini(&record);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "catalog key '%s'", listed->key);
}

static void forget_collections(gy_placement *placement, const struct gy_catalog_list *keys)
{
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) { /* it changes under catalog_mu only */
        char key[sizeof GY_COLLECTION_PREFIX + GY_NAME_BYTES_MAX];
        snprintf(key, sizeof key, "%s%s", GY_COLLECTION_PREFIX, entry->record.spec.name);
        if (!revision_of(keys, key))
            remove_entry(placement, entry);
    }
}

/* ---- all of it ---- */

static bool below(const char *key, const char *prefix) { return strncmp(key, prefix, strlen(prefix)) == 0; }

/* One that cannot be read does not keep the others from being followed. */
static gyre_status follow(gy_placement *placement, const struct gy_catalog_list *keys, gyre_error *err)
{
    GY_TRY(follow_cluster(placement, keys, err));
    forget_nodes(placement, keys);
    forget_collections(placement, keys);
    gyre_status first = GYRE_OK;
    for (size_t i = 0; i < keys->count; i++) {
        const struct gy_catalog_entry *listed = &keys->entries[i];
        gyre_error why;
        gyre_status status = below(listed->key, GY_NODE_PREFIX)         ? follow_node(placement, listed, &why)
                             : below(listed->key, GY_COLLECTION_PREFIX) ? follow_collection(placement, keys, listed, &why)
                                                                        : GYRE_OK;
        if (status != GYRE_OK && first == GYRE_OK) {
            first = status;
            if (err)
                *err = why;
        }
    }
    return first;
}

gyre_status gy_follow(gy_placement *placement, gyre_error *err)
{
    gyre_status status = GYRE_ABORTED;
    for (int i = 0; i < AGAIN_MAX && status == GYRE_ABORTED; i++) {
        struct gy_catalog_list keys;
        GY_TRY(placement->catalog->keys(placement->catalog, &keys, err));
        status = follow(placement, &keys, err);
        gy_catalog_list_free(&keys);
    }
    return status;
}
