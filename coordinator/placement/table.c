#include "placement/state.h"

#include "gyre/lifecycle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct gy_node_entry *gy_table_node(gy_placement *placement, const char *name)
{
    struct gy_node_entry *node;
    HASH_FIND_STR(placement->nodes, name, node);
    return node;
}

struct gy_node_entry *gy_table_node_add(gy_placement *placement, const char *name)
{
    struct gy_node_entry *node = gy_table_node(placement, name);
    if (node)
        return node;
    node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    snprintf(node->name, sizeof node->name, "%s", name);
    HASH_ADD_STR(placement->nodes, name, node);
    return node;
}

struct gy_collection_entry *gy_table_collection(gy_placement *placement, const char *name)
{
    struct gy_collection_entry *entry;
    HASH_FIND_STR(placement->collections, name, entry);
    return entry;
}

struct gy_collection_entry *gy_table_collection_of(gy_placement *placement, uint64_t id)
{
    struct gy_collection_entry *entry;
    HASH_FIND(by_id, placement->collections_by_id, &id, sizeof id, entry);
    return entry;
}

gyre_status gy_table_active(gy_placement *placement, const char *name, struct gy_collection_entry **out, gyre_error *err)
{
    GY_TRY(gy_collection_name_check(name, err));
    struct gy_collection_entry *entry = gy_table_collection(placement, name);
    if (!entry || entry->record.state != GY_COLLECTION_ACTIVE)
        return gyre_fail(err, GYRE_NOT_FOUND, "collection '%s' does not exist", name);
    *out = entry;
    return GYRE_OK;
}

static void entry_free(struct gy_collection_entry *entry)
{
    for (uint32_t i = 0; entry->shards && i < entry->record.spec.shards; i++)
        if (entry->shards[i].node)
            entry->shards[i].node->given--;
    gy_collection_record_fini(&entry->record);
    free(entry->shards);
    free(entry);
}

gyre_status gy_table_collection_add(gy_placement *placement, gy_collection_record *record, uint64_t revision,
                                    uint64_t codebook_revision, struct gy_collection_entry **out, gyre_error *err)
{
    struct gy_collection_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return gyre_fail(err, GYRE_NO_MEMORY, "collection '%s'", record->spec.name);
    entry->shards = calloc(record->spec.shards, sizeof *entry->shards);
    bool whole = entry->shards != NULL;
    entry->record = *record;
    *record = (gy_collection_record){0};
    entry->revision = revision;
    entry->codebook_revision = codebook_revision;
    for (uint32_t i = 0; whole && i < entry->record.spec.shards; i++) {
        entry->shards[i].node = gy_table_node_add(placement, entry->record.shards[i].node);
        whole = entry->shards[i].node != NULL;
        if (whole)
            entry->shards[i].node->given++;
    }
    if (!whole) {
        gyre_fail(err, GYRE_NO_MEMORY, "collection '%s' of %u shards", entry->record.spec.name, entry->record.spec.shards);
        entry_free(entry);
        return GYRE_NO_MEMORY;
    }
    HASH_ADD_KEYPTR(hh, placement->collections, entry->record.spec.name, strlen(entry->record.spec.name), entry);
    HASH_ADD_KEYPTR(by_id, placement->collections_by_id, &entry->record.id, sizeof entry->record.id, entry);
    *out = entry;
    return GYRE_OK;
}

void gy_table_collection_remove(gy_placement *placement, struct gy_collection_entry *entry)
{
    HASH_DELETE(hh, placement->collections, entry);
    HASH_DELETE(by_id, placement->collections_by_id, entry);
    entry_free(entry);
}

uint64_t gy_table_points(const struct gy_collection_entry *entry)
{
    uint64_t points = 0;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        points += entry->shards[i].points;
    return points;
}

gyre_status gy_table_publish(gy_placement *placement, const struct gy_collection_entry *entry, gyre_error *err)
{
    gy_link **links = calloc(entry->record.spec.shards, sizeof(gy_link *));
    if (!links)
        return gyre_fail(err, GYRE_NO_MEMORY, "route of '%s'", entry->record.spec.name);
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        links[i] = entry->shards[i].node->link;
    gyre_status status = gy_routing_publish(placement->routing, &entry->record, links, err);
    free(links);
    return status;
}

void gy_table_shard_said(struct gy_shard_entry *shard, const Gyre__Node__ReplicaStatus *said)
{
    shard->held = true;
    shard->epoch = said->epoch;
    shard->points = said->points;
    shard->applied_seq = said->applied_seq;
    shard->codebook_version = said->codebook_version;
}

/* ---- catalog ---- */

struct gy_table_change gy_table_removal(const struct gy_collection_entry *entry)
{
    return (struct gy_table_change){
        .name = entry->record.spec.name, .revision = entry->revision, .collection_id = entry->record.id,
        .codebook_revision = entry->codebook_revision, .codebook_version = entry->record.codebook_version,
    };
}

/* A commit ended with GYRE_DEADLINE: reads its record again until the catalog answers, which settles it. GYRE_OK: it was made.
 * Whoever wants another change waits behind catalog_mu meanwhile; the catalog would refuse that too. */
static gyre_status find_out(gy_placement *placement, const char *key, const gy_bytes *value /* NULL: away */, uint64_t before,
                            uint64_t *revision, gyre_error *err)
{
    gyre_error why = {0};
    gy_bytes stored = {0};
    uint64_t now = 0;
    gyre_status status;
    do {
        status = placement->catalog->get(placement->catalog, key, &stored, &now, &why);
    } while ((status == GYRE_UNAVAILABLE || status == GYRE_DEADLINE) && !gy_placement_stopping(placement));
    if (status != GYRE_OK && status != GYRE_NOT_FOUND)
        return gyre_fail(err, GYRE_DEADLINE, "nobody knows whether catalog key '%s' was changed: %s", key, why.text);
    bool there = status == GYRE_OK, unchanged = now == before;
    bool made = !unchanged && there == (value != NULL) &&
                (!there || (stored.size == value->size && memcmp(stored.data, value->data, stored.size) == 0));
    gy_bytes_free(&stored);
    gy_log(GY_LOG_WARN, "catalog_commit_settled", "key=%s made=%s", key, made ? "yes" : "no");
    if (made) {
        *revision = now;
        return GYRE_OK;
    }
    if (unchanged)
        return gyre_fail(err, GYRE_UNAVAILABLE, "the catalog did not answer in time, and did not make the change");
    return gyre_fail(err, GYRE_ABORTED, "catalog key '%s' is at revision %" PRIu64 ", and not by this change", key, now);
}

gyre_status gy_table_commit(gy_placement *placement, const struct gy_table_change *change, uint64_t *revision, gyre_error *err)
{
    char key[sizeof GY_COLLECTION_PREFIX + GY_NAME_BYTES_MAX], codebook_key[GY_CODEBOOK_KEY_ROOM],
        older_key[GY_CODEBOOK_KEY_ROOM];
    snprintf(key, sizeof key, "%s%s", GY_COLLECTION_PREFIX, change->name);
    const gy_collection_record *record = change->record;
    gy_bytes value = {0}, cluster_value = {0};
    gyre_status status = record ? gy_collection_record_encode(record, &value, err) : GYRE_OK;
    if (status == GYRE_OK && change->cluster)
        status = gy_cluster_record_encode(change->cluster, &cluster_value, err);
    struct gy_catalog_change changes[4] = {{key, change->revision, record ? &value : NULL}};
    size_t count = 1;
    if (change->new_codebook)
        changes[count++] = (struct gy_catalog_change){gy_codebook_key(codebook_key, record->id, record->codebook_version), 0,
                                                      gy_codebook_bytes(record->codebook)};
    if (change->codebook_revision)
        changes[count++] = (struct gy_catalog_change){gy_codebook_key(older_key, change->collection_id, change->codebook_version),
                                                      change->codebook_revision, NULL};
    if (change->cluster)
        changes[count++] = (struct gy_catalog_change){GY_CLUSTER_KEY, placement->cluster_revision, &cluster_value};
    if (status == GYRE_OK) {
        status = placement->catalog->commit(placement->catalog, changes, count, revision, err);
        if (status == GYRE_INTERNAL)
            gy_stop_request(err ? err->text : "the catalog failed", 1);
        if (status == GYRE_DEADLINE)
            status = find_out(placement, key, record ? &value : NULL, change->revision, revision, err);
    }
    if (status == GYRE_OK && change->cluster)
        placement->cluster_revision = *revision;
    gy_bytes_free(&value);
    gy_bytes_free(&cluster_value);
    return status;
}

static gyre_status load_cluster(gy_placement *placement, gyre_error *err)
{
    gy_bytes value;
    gyre_status status = placement->catalog->get(placement->catalog, GY_CLUSTER_KEY, &value, &placement->cluster_revision, err);
    if (status == GYRE_OK) {
        status = gy_cluster_record_decode(&placement->cluster, value.data, value.size, err);
        gy_bytes_free(&value);
        return status;
    }
    if (status != GYRE_NOT_FOUND)
        return status;
    struct gy_catalog_list list;
    GY_TRY(placement->catalog->list(placement->catalog, GY_COLLECTION_PREFIX, &list, err));
    size_t collections = list.count;
    gy_catalog_list_free(&list);
    if (collections) /* new keys would send every stored point to another shard */
        return gyre_fail(err, GYRE_CORRUPT, "the catalog has %zu collections but no '%s' record", collections, GY_CLUSTER_KEY);
    gy_cluster_record_init(&placement->cluster);
    GY_TRY(gy_cluster_record_encode(&placement->cluster, &value, err));
    struct gy_catalog_change change = {GY_CLUSTER_KEY, 0, &value};
    status = placement->catalog->commit(placement->catalog, &change, 1, &placement->cluster_revision, err);
    gy_bytes_free(&value);
    return status;
}

/* Reads the codebook that an active record points to. */
static gyre_status load_codebook(gy_placement *placement, gy_collection_record *record, uint64_t *revision, gyre_error *err)
{
    char key[GY_CODEBOOK_KEY_ROOM];
    gy_bytes bytes = {0};
    gyre_status status = placement->catalog->get(placement->catalog, gy_codebook_key(key, record->id, record->codebook_version),
                                                 &bytes, revision, err);
    if (status == GYRE_OK)
        status = gy_collection_record_load_codebook(record, &bytes, err);
    gy_bytes_free(&bytes);
    if (status != GYRE_OK)
        return gyre_wrap(err, status == GYRE_NOT_FOUND ? GYRE_CORRUPT : status, "catalog key '%s'", key);
    return GYRE_OK;
}

/* Takes a collection that was half made or half dropped out of the catalog, codebook and all. Its replicas are dropped when their
 * nodes report them. */
static gyre_status load_remains(gy_placement *placement, const gy_collection_record *record, uint64_t revision, gyre_error *err)
{
    char key[GY_CODEBOOK_KEY_ROOM];
    gy_bytes bytes = {0};
    struct gy_table_change removal = {.name = record->spec.name, .revision = revision, .collection_id = record->id,
                                      .codebook_version = record->codebook_version};
    gyre_status status = placement->catalog->get(placement->catalog, gy_codebook_key(key, record->id, record->codebook_version),
                                                 &bytes, &removal.codebook_revision, err);
    gy_bytes_free(&bytes);
    if (status != GYRE_OK && status != GYRE_NOT_FOUND)
        return status;
    GY_TRY(gy_table_commit(placement, &removal, &revision, err));
    gy_log(GY_LOG_WARN, "collection_forgotten", "collection=%s reason=%s", record->spec.name,
           record->state == GY_COLLECTION_CREATING ? "half made" : "half dropped");
    return GYRE_OK;
}

static gyre_status load_collection(gy_placement *placement, const struct gy_catalog_entry *stored, gyre_error *err)
{
    gy_collection_record record = {0};
    GY_TRY(gy_collection_record_decode(&record, stored->value.data, stored->value.size, err));
    gyre_status status = GYRE_OK;
    if (strcmp(stored->key + strlen(GY_COLLECTION_PREFIX), record.spec.name) != 0)
        status = gyre_fail(err, GYRE_CORRUPT, "it is the record of '%s'", record.spec.name);
    else if (record.id < placement->cluster.first_collection_id || record.id >= placement->cluster.next_collection_id ||
             gy_table_collection_of(placement, record.id))
        status = gyre_fail(err, GYRE_CORRUPT, "its id was never given, or twice");
    else if (record.state == GY_COLLECTION_ACTIVE) {
        struct gy_collection_entry *entry;
        uint64_t codebook_revision = 0;
        status = load_codebook(placement, &record, &codebook_revision, err);
        if (status == GYRE_OK)
            status = gy_table_collection_add(placement, &record, stored->revision, codebook_revision, &entry, err);
        if (status == GYRE_OK)
            status = gy_table_publish(placement, entry, err);
    } else {
        status = load_remains(placement, &record, stored->revision, err);
    }
    gy_collection_record_fini(&record);
    return status;
}

gyre_status gy_table_load(gy_placement *placement, gyre_error *err)
{
    GY_TRY(load_cluster(placement, err));
    GY_TRY(gy_routing_new(&placement->routing, placement->cluster.placement_key, err));
    struct gy_catalog_list list;
    GY_TRY(placement->catalog->list(placement->catalog, GY_COLLECTION_PREFIX, &list, err));
    gyre_status status = GYRE_OK;
    for (size_t i = 0; status == GYRE_OK && i < list.count; i++) {
        status = load_collection(placement, &list.entries[i], err);
        if (status != GYRE_OK)
            gyre_wrap(err, status, "catalog key '%s'", list.entries[i].key);
    }
    gy_catalog_list_free(&list);
    return status;
}
