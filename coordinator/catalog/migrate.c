#include "catalog/migrate.h"

#include "catalog/embedded.h"
#include "catalog/etcd.h"
#include "catalog/records.h"

#include <stdio.h>

struct migration {
    gy_catalog *from, *to;
    struct gy_catalog_list wanted, present; /* keys of both, in order */
    struct gy_migrated done;
};

static const struct gy_catalog_entry *find(const struct gy_catalog_list *list, const char *key)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->entries[i].key, key) == 0)
            return &list->entries[i];
    return NULL;
}

static gyre_status put(gy_catalog *to, const char *key, uint64_t expected, const gy_bytes *value, gyre_error *err)
{
    struct gy_catalog_change change = {key, expected, value};
    return to->commit(to, &change, 1, NULL, err);
}

static bool same(const gy_bytes *a, const gy_bytes *b) { return a->size == b->size && memcmp(a->data, b->data, a->size) == 0; }

/* Brings one key over, unless an earlier run did. */
static gyre_status copy(struct migration *migration, const char *key, gyre_error *err)
{
    gy_bytes value = {0}, there = {0};
    uint64_t revision;
    GY_TRY(migration->from->get(migration->from, key, &value, &revision, err));
    uint64_t expected = 0;
    gyre_status status = GYRE_OK;
    if (find(&migration->present, key))
        status = migration->to->get(migration->to, key, &there, &expected, err);
    if (status == GYRE_OK && (!there.data || !same(&value, &there)))
        status = put(migration->to, key, expected, &value, err);
    migration->done.bytes += value.size;
    gy_bytes_free(&value);
    gy_bytes_free(&there);
    return status;
}

static gyre_status copy_all(struct migration *migration, gyre_error *err)
{
    for (size_t i = 0; i < migration->present.count; i++) { /* what the embedded catalog had when an earlier run was cut off */
        const struct gy_catalog_entry *entry = &migration->present.entries[i];
        if (!find(&migration->wanted, entry->key))
            GY_TRY(put(migration->to, entry->key, entry->revision, NULL, err));
    }
    for (size_t i = 0; i < migration->wanted.count; i++) {
        const char *key = migration->wanted.entries[i].key;
        gyre_status status = copy(migration, key, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "copying catalog key '%s'", key);
        migration->done.keys++;
    }
    return GYRE_OK;
}

static gyre_status verify_key(struct migration *migration, const char *key, gyre_error *err)
{
    gy_bytes value = {0}, there = {0};
    uint64_t revision;
    GY_TRY(migration->from->get(migration->from, key, &value, &revision, err));
    gyre_status status = migration->to->get(migration->to, key, &there, &revision, err);
    if (status == GYRE_OK && !same(&value, &there))
        status = gyre_fail(err, GYRE_CORRUPT, "catalog key '%s' reads back as %zu other bytes than the %zu that were stored", key,
                           there.size, value.size);
    gy_bytes_free(&value);
    gy_bytes_free(&there);
    return status;
}

static gyre_status verify_all(struct migration *migration, gyre_error *err)
{
    gy_catalog_list_free(&migration->present);
    GY_TRY(migration->to->keys(migration->to, &migration->present, err));
    if (migration->present.count != migration->wanted.count)
        return gyre_fail(err, GYRE_CORRUPT, "%zu keys read back; %zu were stored", migration->present.count,
                         migration->wanted.count);
    for (size_t i = 0; i < migration->wanted.count; i++)
        GY_TRY(verify_key(migration, migration->wanted.entries[i].key, err));
    return GYRE_OK;
}

/* The id that the embedded catalog's cluster record has. */
static gyre_status cluster_id(gy_catalog *from, char id[GY_CLUSTER_ID_TEXT_BYTES], gyre_error *err)
{
    gy_bytes value;
    uint64_t revision;
    struct gy_cluster_record record;
    gyre_status status = from->get(from, GY_CLUSTER_KEY, &value, &revision, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status == GYRE_NOT_FOUND ? GYRE_PRECONDITION : status, "there is nothing to migrate");
    status = gy_cluster_record_decode(&record, value.data, value.size, err);
    gy_bytes_free(&value);
    GY_TRY(status);
    memcpy(id, record.id, sizeof record.id);
    return GYRE_OK;
}

static gyre_status migrate(struct migration *migration, const char *path, const struct gy_etcd_options *options, gyre_error *err)
{
    char moved_to[GY_MOVED_TO_BYTES_MAX + 1], place[GY_MOVED_TO_BYTES_MAX + 1], id[GY_CLUSTER_ID_TEXT_BYTES];
    if (snprintf(place, sizeof place, "etcd %s, prefix %s", options->endpoints, options->prefix) >= (int)sizeof place)
        return gyre_fail(err, GYRE_INVALID, "etcd-endpoints and etcd-prefix have more than %d bytes", GY_MOVED_TO_BYTES_MAX);
    GY_TRY(gy_embedded_open_moved(&migration->from, path, moved_to, err));
    GY_TRY(cluster_id(migration->from, id, err));
    if (moved_to[0] && strcmp(moved_to, place) != 0)
        return gyre_fail(err, GYRE_PRECONDITION, "catalog %s has moved to %s already", path, moved_to);
    /* One that has moved is old: it goes nowhere else, and where it went only the mark may be left to take away. */
    gyre_status status = gy_etcd_open_for_migration(&migration->to, options, id, !moved_to[0], err);
    if (status != GYRE_OK)
        return moved_to[0] ? gyre_wrap(err, status, "catalog %s has moved to %s already", path, moved_to) : status;
    GY_TRY(migration->from->keys(migration->from, &migration->wanted, err));
    GY_TRY(migration->to->keys(migration->to, &migration->present, err));
    GY_TRY(copy_all(migration, err));
    GY_TRY(verify_all(migration, err));
    GY_TRY(gy_embedded_mark_moved(migration->from, place, err));
    return gy_etcd_end_migration(migration->to, err);
}

gyre_status gy_catalog_migrate(const char *path, const struct gy_etcd_options *options, struct gy_migrated *migrated,
                               gyre_error *err)
{
    if (!gy_embedded_exists(path))
        return gyre_fail(err, GYRE_PRECONDITION, "there is nothing to migrate: no catalog at %s", path);
    struct migration migration = {0};
    gyre_status status = migrate(&migration, path, options, err);
    gy_catalog_list_free(&migration.wanted);
    gy_catalog_list_free(&migration.present);
    gy_catalog_close(migration.from);
    gy_catalog_close(migration.to);
    if (status == GYRE_OK)
        *migrated = migration.done;
    return status;
}
