#include "placement/state.h"

#include "gyre/lifecycle.h"

#include <assert.h>
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
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++)
            if (entry->shards[i].members[m].node)
                entry->shards[i].members[m].node->given--;
    gy_collection_record_fini(&entry->record);
    free(entry->shards);
    free(entry);
}

/* Connects the members of a shard with their nodes. */
static bool add_members(gy_placement *placement, struct gy_collection_entry *entry, uint32_t shard)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    for (uint32_t i = 0; i < config->member_count; i++) {
        struct gy_member_entry *member = &entry->shards[shard].members[i];
        member->node = gy_table_node_add(placement, config->members[i].node);
        if (!member->node)
            return false;
        member->node->given++;
        if (entry->record.state == GY_COLLECTION_CREATING)
            member->presence = GY_PRESENCE_UNMADE;
    }
    return true;
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
    entry->replan = true;
    for (uint32_t i = 0; whole && i < entry->record.spec.shards; i++)
        whole = add_members(placement, entry, i);
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
    for (uint32_t i = 0; i < gy_collection_shown_shards(&entry->record); i++)
        points += gy_table_shard_points(entry, i);
    return points;
}

uint64_t gy_table_shard_points(const struct gy_collection_entry *entry, uint32_t shard)
{
    const struct gy_member_entry *primary = gy_table_primary(entry, shard);
    return primary->points + (entry->record.shards[shard].split.shard ? primary->foreign : 0);
}

gyre_status gy_table_publish(gy_placement *placement, struct gy_collection_entry *entry, gyre_error *err)
{
    struct gy_routing_member(*members)[GY_MEMBERS_MAX] = calloc(entry->record.spec.shards, sizeof *members);
    if (!members)
        return gyre_fail(err, GYRE_NO_MEMORY, "route of '%s'", entry->record.spec.name);
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++) {
            struct gy_member_entry *member = &entry->shards[i].members[m];
            member->routed_up = gy_table_member_up(member);
            members[i][m] = (struct gy_routing_member){member->node->link, member->routed_up, member->applied_seq};
        }
    gyre_status status = gy_routing_publish(placement->routing, &entry->record, members, err);
    free(members);
    return status;
}

void gy_table_node_changed(gy_placement *placement, const struct gy_node_entry *node)
{
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) {
        bool uses = false;
        for (uint32_t i = 0; i < entry->record.spec.shards && !uses; i++)
            for (uint32_t m = 0; m < entry->record.shards[i].member_count && !uses; m++)
                uses = entry->shards[i].members[m].node == node;
        entry->replan = true; /* a node without a member may be where the next one goes */
        gyre_error err;
        if (uses && entry->record.state == GY_COLLECTION_ACTIVE && gy_table_publish(placement, entry, &err) != GYRE_OK)
            gy_log(GY_LOG_ERROR, "route_failed", "collection=%s error=%s", entry->record.spec.name, err.text);
    }
}

/* ---- members ---- */

uint32_t gy_table_member(const struct gy_collection_entry *entry, uint32_t shard, uint32_t id)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    for (uint32_t i = 0; i < config->member_count; i++)
        if (config->members[i].id == id)
            return i;
    return GY_MEMBERS_MAX;
}

struct gy_member_entry *gy_table_primary(const struct gy_collection_entry *entry, uint32_t shard)
{
    uint32_t at = gy_table_member(entry, shard, entry->record.shards[shard].primary);
    assert(at < GY_MEMBERS_MAX); /* gy_config_check saw it */
    return &entry->shards[shard].members[at];
}

bool gy_table_member_up(const struct gy_member_entry *member)
{
    return member->node->health.state == GY_NODE_UP && member->presence == GY_PRESENCE_HELD && !member->lost &&
           !member->troubled_since_ns;
}

void gy_table_member_said(struct gy_collection_entry *entry, struct gy_member_entry *member,
                          const Gyre__Node__ReplicaStatus *said)
{
    bool serves = said->primary && !said->lost && !said->restoring && !said->waiting;
    entry->replan |= member->presence != GY_PRESENCE_HELD || member->lost != said->lost ||
                     member->restoring != said->restoring || member->troubled_since_ns || member->serves != serves ||
                     (serves && member->epoch != said->epoch);
    member->serves = serves, member->waiting = said->waiting;
    member->presence = GY_PRESENCE_HELD;
    member->missed = false;
    member->troubled_since_ns = 0;
    member->lost = said->lost, member->restoring = said->restoring;
    member->epoch = said->epoch;
    member->points = said->points, member->foreign = said->foreign;
    member->log_seq = said->log_seq, member->applied_seq = said->applied_seq;
    if (!said->waiting || said->codebook_version) /* else its codes are as the split copied them */
        member->codebook_version = said->codebook_version;
    member->digests[0] = said->digest_points, member->digests[1] = said->digest_codes;
    member->digests[2] = said->digest_vectors;
}

void gy_table_member_troubled(struct gy_collection_entry *entry, struct gy_member_entry *member, int64_t now_ns)
{
    entry->replan |= member->presence != GY_PRESENCE_HELD || member->lost || !member->troubled_since_ns;
    member->presence = GY_PRESENCE_HELD;
    member->missed = member->lost = member->restoring = member->serves = member->waiting = false;
    if (!member->troubled_since_ns)
        member->troubled_since_ns = now_ns;
}

void gy_table_config_set(gy_placement *placement, struct gy_collection_entry *entry, uint32_t shard,
                         const struct gy_shard_config *config)
{
    struct gy_shard_entry older = entry->shards[shard], *now = &entry->shards[shard];
    memset(now->members, 0, sizeof now->members);
    now->child_due_ns = 0;
    for (uint32_t i = 0; i < config->member_count; i++) {
        uint32_t at = gy_table_member(entry, shard, config->members[i].id);
        if (at < GY_MEMBERS_MAX)
            now->members[i] = older.members[at];
        else
            now->members[i] = (struct gy_member_entry){.node = gy_table_node(placement, config->members[i].node),
                                                       .presence = gy_leads(placement) ? GY_PRESENCE_UNMADE
                                                                                       : GY_PRESENCE_UNHEARD};
        now->members[i].told_ns = 0;
        if (config->split.shard != entry->record.shards[shard].split.shard)
            now->members[i].child_seq = now->members[i].childless_reports = 0;
        assert(now->members[i].node);
        now->members[i].node->given++;
        now->members[i].node->removed = false; /* planned before it was drained */
    }
    for (uint32_t i = 0; i < entry->record.shards[shard].member_count; i++)
        older.members[i].node->given--;
    entry->record.shards[shard] = *config;
    entry->replan = true;
}

gyre_status gy_table_shard_reserve(struct gy_collection_entry *entry, gyre_error *err)
{
    size_t count = (size_t)entry->record.spec.shards + 1;
    struct gy_shard_entry *shards = realloc(entry->shards, count * sizeof *shards);
    entry->shards = shards ? shards : entry->shards;
    struct gy_shard_config *configs = shards ? realloc(entry->record.shards, count * sizeof *configs) : NULL;
    entry->record.shards = configs ? configs : entry->record.shards;
    return configs ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "'%s' of %zu shards", entry->record.spec.name, count);
}

void gy_table_shard_add(gy_placement *placement, struct gy_collection_entry *entry, const struct gy_shard_config *config)
{
    uint32_t shard = entry->record.spec.shards;
    const struct gy_shard_config *parent = gy_split_parent(&entry->record, shard);
    uint32_t of_parent = parent ? (uint32_t)(parent - entry->record.shards) : shard;
    struct gy_shard_entry *added = &entry->shards[shard];
    *added = (struct gy_shard_entry){0};
    for (uint32_t i = 0; i < config->member_count; i++) {
        struct gy_member_entry *member = &added->members[i];
        uint32_t at = parent ? gy_table_member(entry, of_parent, config->members[i].id) : GY_MEMBERS_MAX;
        const struct gy_member_entry *made = at < GY_MEMBERS_MAX ? &entry->shards[of_parent].members[at] : NULL;
        *member = (struct gy_member_entry){.node = gy_table_node(placement, config->members[i].node)};
        assert(member->node);
        member->node->given++;
        if (made && made->child_seq && gy_leads(placement)) {
            member->presence = GY_PRESENCE_HELD, member->waiting = true;
            member->log_seq = member->applied_seq = made->child_seq;
            member->codebook_version = made->codebook_version;
        }
    }
    entry->record.shards[shard] = *config;
    entry->record.spec.shards++;
    entry->replan = true;
}

uint64_t gy_table_replica_bytes(const struct gy_collection_entry *entry, gy_member_kind kind, uint64_t points)
{
    uint64_t code_bytes = (uint64_t)entry->record.spec.dim * entry->record.spec.bits / 8;
    return points * (code_bytes + (kind == GY_MEMBER_FULL ? entry->record.spec.dim * sizeof(float) : 0));
}

void gy_table_doubt(struct gy_collection_entry *entry)
{
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++) {
            struct gy_member_entry *member = &entry->shards[i].members[m];
            if (member->presence != GY_PRESENCE_HELD)
                member->presence = GY_PRESENCE_UNHEARD;
            member->missed = false;
            member->childless_reports = 0;
        }
}

/* ---- what plans look at ---- */

gyre_status gy_table_world(const gy_placement *placement, int64_t now_ns, struct gy_plan_node **nodes,
                           struct gy_plan_world *world, int64_t *due_ns, gyre_error *err)
{
    size_t count = HASH_COUNT(placement->nodes), i = 0;
    struct gy_plan_node *made = calloc(count + 1, sizeof *made);
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu nodes", count);
    /* A node of the catalog that was not heard of since the start counts as silent since then. */
    gy_node_health unheard = {.state = GY_NODE_UP, .reported_ns = placement->born_ns};
    int64_t unheard_down_ns = gy_node_health_due_ns(&unheard, placement->heartbeat_ms * GY_MILLISECOND_NS);
    *due_ns = GY_NEVER;
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next) {
        if (node->removed)
            continue;
        bool unknown = node->health.state == GY_NODE_UNKNOWN;
        if (unknown && now_ns < unheard_down_ns)
            *due_ns = unheard_down_ns;
        made[i++] = (struct gy_plan_node){
            .name = node->name,
            .zone = node->zone,
            .up = node->health.state == GY_NODE_UP,
            .down_since_ns = !unknown ? node->health.reported_ns : now_ns < unheard_down_ns ? GY_NEVER : placement->born_ns,
            .draining = node->draining,
            .replicas = node->given,
            .bytes = node->bytes,
            .heir = node->heir,
        };
    }
    *nodes = made;
    *world = (struct gy_plan_world){
        .nodes = made, .node_count = i, .now_ns = now_ns, .replace_after_ns = placement->replace_after_ns};
    return GYRE_OK;
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

gyre_status gy_table_commit_changes(gy_placement *placement, const struct gy_catalog_change *changes, size_t count,
                                    uint64_t *revision, gyre_error *err)
{
    gy_catalog *catalog = placement->catalog;
    if (placement->shared && (!placement->lease || !catalog->lease_held(placement->lease)))
        return gyre_fail(err, GYRE_UNAVAILABLE, "this coordinator does not lead any more; nothing was changed");
    gyre_status status = placement->shared ? catalog->commit_fenced(catalog, placement->lease, changes, count, revision, err)
                                           : catalog->commit(catalog, changes, count, revision, err);
    if (placement->shared && status == GYRE_PRECONDITION)
        return gyre_wrap(err, GYRE_UNAVAILABLE, "this coordinator does not lead any more");
    if (status == GYRE_INTERNAL)
        gy_stop_request(err ? err->text : "the catalog failed", 1);
    if (status == GYRE_DEADLINE)
        status = find_out(placement, changes[0].key, changes[0].value, changes[0].expected_revision, revision, err);
    return status;
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
    if (status == GYRE_OK)
        status = gy_table_commit_changes(placement, changes, count, revision, err);
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
    /* another coordinator that starts just now was faster: the cluster is the one that it made */
    return status == GYRE_ABORTED && placement->shared ? load_cluster(placement, err) : status;
}

gyre_status gy_table_load_codebook(gy_placement *placement, gy_collection_record *record, uint64_t *revision, gyre_error *err)
{
    char key[GY_CODEBOOK_KEY_ROOM];
    gy_bytes bytes = {0};
    gyre_status status = placement->catalog->get(placement->catalog, gy_codebook_key(key, record->id, record->codebook_version),
                                                 &bytes, revision, err);
    if (status == GYRE_OK)
        status = gy_collection_record_load_codebook(record, &bytes, err);
    gy_bytes_free(&bytes);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "catalog key '%s'", key);
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
    gy_collection_record_set_key(&record, placement->cluster.placement_key);
    gyre_status status = GYRE_OK;
    if (strcmp(stored->key + strlen(GY_COLLECTION_PREFIX), record.spec.name) != 0)
        status = gyre_fail(err, GYRE_CORRUPT, "it is the record of '%s'", record.spec.name);
    else if (record.id < placement->cluster.first_collection_id || record.id >= placement->cluster.next_collection_id ||
             gy_table_collection_of(placement, record.id))
        status = gyre_fail(err, GYRE_CORRUPT, "its id was never given, or twice");
    else if (record.state == GY_COLLECTION_ACTIVE) {
        struct gy_collection_entry *entry;
        uint64_t codebook_revision = 0;
        status = gy_table_load_codebook(placement, &record, &codebook_revision, err);
        status = status == GYRE_NOT_FOUND ? GYRE_CORRUPT : status;
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

static gyre_status load_nodes(gy_placement *placement, gyre_error *err)
{
    struct gy_catalog_list list;
    GY_TRY(placement->catalog->list(placement->catalog, GY_NODE_PREFIX, &list, err));
    gyre_status status = GYRE_OK;
    for (size_t i = 0; status == GYRE_OK && i < list.count; i++) {
        const struct gy_catalog_entry *stored = &list.entries[i];
        const char *name = stored->key + strlen(GY_NODE_PREFIX);
        struct gy_node_record record = {0};
        status = gy_primary_name_check(name, err) == GYRE_OK ? GYRE_OK : GYRE_CORRUPT;
        if (status == GYRE_OK)
            status = gy_node_record_decode(&record, stored->value.data, stored->value.size, err);
        struct gy_node_entry *node = status == GYRE_OK ? gy_table_node_add(placement, name) : NULL;
        if (node)
            node->draining = record.draining, node->revision = stored->revision;
        if (node)
            memcpy(node->heir, record.heir, sizeof node->heir);
        else if (status == GYRE_OK)
            status = gyre_fail(err, GYRE_NO_MEMORY, "node %s", name);
        if (status != GYRE_OK)
            gyre_wrap(err, status, "catalog key '%s'", stored->key);
    }
    gy_catalog_list_free(&list);
    return status;
}

gyre_status gy_table_load(gy_placement *placement, gyre_error *err)
{
    GY_TRY(load_cluster(placement, err));
    GY_TRY(gy_routing_new(&placement->routing, placement->cluster.placement_key, err));
    if (placement->shared)
        return gy_follow(placement, err);
    GY_TRY(load_nodes(placement, err));
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
