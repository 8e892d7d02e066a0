/* embedded: the catalog in a RocksDB of its own, one column family.
 *
 *   "format"      u32 format version = 1, or 2: it has moved
 *   "moved"       text: whither; format 2 only
 *   "revision"    u64 revision of the newest commit
 *   "key/" + key  u64 revision, then the value                                              (numbers little-endian)
 *
 * A commit is one synced batch under a mutex: a crash leaves it whole or absent. The log is read back in recovery mode 0: a torn
 * last record is a commit nobody was told of, any other damage is an error instead of a silently older catalog.
 * After a failed write RocksDB refuses all others until it is opened again, and whether the bytes reached the disk is unknown:
 * so are we, and every later commit fails until the process starts anew. */
#include "catalog/embedded.h"

#include "catalog/local.h"
#include "gyre/lifecycle.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FORMAT_VERSION = 1,
    FORMAT_MOVED = 2, /* a number of its own, so that versions which know of no moving do not open it */
    FORMAT_BYTES = 4,
    REVISION_BYTES = 8,
    KEY_ROOM = 4 + GY_CATALOG_KEY_BYTES_MAX, /* "key/" and the key */
    WRITE_BUFFER_BYTES = 4 << 20,
    /* RocksDB aborts when its log meets a full disk. Two write buffers, a flush of each and the largest commit fit in here. */
    DISK_FREE_MIN = 64 << 20,
};
static const char format_key[] = "format", revision_key[] = "revision", moved_key[] = "moved", key_prefix[] = "key/";

struct embedded {
    gy_catalog base;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    char *path;
    pthread_mutex_t mu;   /* one commit at a time */
    uint64_t revision;    /* guarded by mu */
    char failure[256];    /* guarded by mu; not empty: no commit any more, and why */
    struct gy_local local;
};

/* Takes RocksDB's sentence (malloc'ed there) over into err. */
static gyre_status fail_rocks(gyre_error *err, const struct embedded *self, const char *what, char *sentence)
{
    gyre_status status = strncmp(sentence, "Corruption", 10) == 0 ? GYRE_CORRUPT : GYRE_INTERNAL;
    gyre_fail(err, status, "catalog %s: %s: %s", self->path, what, sentence);
    rocksdb_free(sentence);
    return status;
}

static gyre_status check_disk(const char *path, uint64_t more_bytes, gyre_error *err)
{
    uint64_t free_bytes, total_bytes;
    GY_TRY(gy_disk_free(path, &free_bytes, &total_bytes, err));
    if (free_bytes < DISK_FREE_MIN + more_bytes)
        return gyre_fail(err, GYRE_EXHAUSTED, "catalog %s: %" PRIu64 " MiB free on its disk; it needs %" PRIu64, path,
                         free_bytes >> 20, (DISK_FREE_MIN + more_bytes) >> 20);
    return GYRE_OK;
}

static gyre_status full_key(char room[static KEY_ROOM + 1], const char *key, size_t *bytes, gyre_error *err)
{
    size_t key_bytes = strlen(key);
    if (key_bytes == 0 || key_bytes > GY_CATALOG_KEY_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "catalog key of %zu bytes; it must be 1 to %d", key_bytes, GY_CATALOG_KEY_BYTES_MAX);
    *bytes = (size_t)snprintf(room, KEY_ROOM + 1, "%s%s", key_prefix, key);
    return GYRE_OK;
}

/* *stored is NULL if there is no such key; free with rocksdb_free. */
static gyre_status read_raw(struct embedded *self, const char *key, size_t key_bytes, char **stored, size_t *bytes,
                            gyre_error *err)
{
    char *sentence = NULL;
    *stored = rocksdb_get(self->db, self->read, key, key_bytes, bytes, &sentence);
    if (sentence)
        return fail_rocks(err, self, key, sentence);
    return GYRE_OK;
}

/* A u32 or u64 that stands alone under a key; *found false if it is not there. */
static gyre_status read_number(struct embedded *self, const char *key, size_t number_bytes, bool *found, uint64_t *value,
                               gyre_error *err)
{
    char *stored = NULL;
    size_t bytes = 0;
    GY_TRY(read_raw(self, key, strlen(key), &stored, &bytes, err));
    *found = stored != NULL;
    bool sound = !stored || bytes == number_bytes;
    if (stored && sound)
        *value = number_bytes == FORMAT_BYTES ? gy_load_u32((uint8_t *)stored) : gy_load_u64((uint8_t *)stored);
    rocksdb_free(stored);
    if (!sound)
        return gyre_fail(err, GYRE_CORRUPT, "catalog %s: '%s' is %zu bytes; it must be %zu", self->path, key, bytes,
                         number_bytes);
    return GYRE_OK;
}

/* Splits a stored value; value borrows. */
static gyre_status split(const struct embedded *self, const char *key, size_t key_bytes, const char *stored, size_t bytes,
                         uint64_t *revision, gyre_error *err)
{
    *revision = bytes < REVISION_BYTES ? 0 : gy_load_u64((const uint8_t *)stored);
    if (*revision == 0)
        return gyre_fail(err, GYRE_CORRUPT, "catalog %s: '%.*s' has no revision (%zu bytes)", self->path, (int)key_bytes, key,
                         bytes);
    return GYRE_OK;
}

static gyre_status copy_value(gy_bytes *out, const char *stored, size_t bytes, gyre_error *err)
{
    uint8_t *data = malloc(bytes - REVISION_BYTES + 1);
    if (!data)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog value of %zu bytes", bytes);
    memcpy(data, stored + REVISION_BYTES, bytes - REVISION_BYTES);
    data[bytes - REVISION_BYTES] = 0;
    *out = (gy_bytes){data, bytes - REVISION_BYTES};
    return GYRE_OK;
}

static gyre_status get(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err)
{
    struct embedded *self = (struct embedded *)catalog;
    char room[KEY_ROOM + 1], *stored = NULL;
    size_t key_bytes = 0, bytes = 0;
    GY_TRY(full_key(room, key, &key_bytes, err));
    GY_TRY(read_raw(self, room, key_bytes, &stored, &bytes, err));
    if (!stored)
        return gyre_fail(err, GYRE_NOT_FOUND, "catalog has no '%s'", key);
    uint64_t found;
    gyre_status status = split(self, room, key_bytes, stored, bytes, &found, err);
    if (status == GYRE_OK)
        status = copy_value(value, stored, bytes, err);
    if (status == GYRE_OK)
        *revision = found;
    rocksdb_free(stored);
    return status;
}

static gyre_status append_entry(struct embedded *self, rocksdb_iterator_t *iterator, bool keys_only, struct gy_catalog_list *list,
                                gyre_error *err)
{
    size_t key_bytes = 0, bytes = 0;
    const char *key = rocksdb_iter_key(iterator, &key_bytes);
    const char *stored = rocksdb_iter_value(iterator, &bytes);
    struct gy_catalog_entry entry = {0};
    GY_TRY(split(self, key, key_bytes, stored, bytes, &entry.revision, err));
    struct gy_catalog_entry *grown = realloc(list->entries, (list->count + 1) * sizeof *grown);
    if (!grown)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog list of %zu entries", list->count + 1);
    list->entries = grown;
    if (!keys_only)
        GY_TRY(copy_value(&entry.value, stored, bytes, err));
    size_t prefix_bytes = sizeof key_prefix - 1;
    entry.key = strndup(key + prefix_bytes, key_bytes - prefix_bytes);
    if (!entry.key) {
        gy_bytes_free(&entry.value);
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog list of %zu entries", list->count + 1);
    }
    list->entries[list->count++] = entry;
    return GYRE_OK;
}

/* Everything whose key begins with these bytes. */
static gyre_status list_below(struct embedded *self, const char *below, size_t bytes, bool keys_only, struct gy_catalog_list *out,
                              gyre_error *err)
{
    struct gy_catalog_list found = {0};
    gyre_status status = GYRE_OK;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(self->db, self->read); /* sees one snapshot */
    for (rocksdb_iter_seek(iterator, below, bytes); status == GYRE_OK && rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t key_bytes = 0;
        const char *key = rocksdb_iter_key(iterator, &key_bytes);
        if (key_bytes < bytes || memcmp(key, below, bytes) != 0)
            break;
        status = append_entry(self, iterator, keys_only, &found, err);
    }
    char *sentence = NULL;
    rocksdb_iter_get_error(iterator, &sentence); /* an invalid iterator may be the end or a damaged block */
    rocksdb_iter_destroy(iterator);
    if (sentence)
        status = fail_rocks(err, self, "list", sentence);
    if (status == GYRE_OK)
        *out = found;
    else
        gy_catalog_list_free(&found);
    return status;
}

static gyre_status list(gy_catalog *catalog, const char *prefix, struct gy_catalog_list *out, gyre_error *err)
{
    char room[KEY_ROOM + 1];
    size_t bytes = 0;
    GY_TRY(full_key(room, prefix, &bytes, err));
    return list_below((struct embedded *)catalog, room, bytes, false, out, err);
}

static gyre_status keys(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err)
{
    return list_below((struct embedded *)catalog, key_prefix, strlen(key_prefix), true, out, err);
}

static gyre_status check_revision(struct embedded *self, const struct gy_catalog_change *change, const char *key,
                                  size_t key_bytes, gyre_error *err)
{
    char *stored = NULL;
    size_t bytes = 0;
    GY_TRY(read_raw(self, key, key_bytes, &stored, &bytes, err));
    uint64_t revision = 0;
    gyre_status status = stored ? split(self, key, key_bytes, stored, bytes, &revision, err) : GYRE_OK;
    rocksdb_free(stored);
    GY_TRY(status);
    if (revision != change->expected_revision)
        return gyre_fail(err, GYRE_ABORTED, "catalog key '%s' is at revision %" PRIu64 ", not %" PRIu64, change->key, revision,
                         change->expected_revision);
    return GYRE_OK;
}

/* Adds one change to the batch, once its expectation is found true. */
static gyre_status batch_change(struct embedded *self, rocksdb_writebatch_t *batch, const struct gy_catalog_change *change,
                                uint64_t revision, gyre_error *err)
{
    char key[KEY_ROOM + 1];
    size_t key_bytes = 0;
    GY_TRY(full_key(key, change->key, &key_bytes, err));
    GY_TRY(check_revision(self, change, key, key_bytes, err));
    if (!change->value) {
        rocksdb_writebatch_delete(batch, key, key_bytes);
        return GYRE_OK;
    }
    if (change->value->size > GY_CATALOG_VALUE_BYTES_MAX)
        return gyre_fail(err, GYRE_EXHAUSTED, "catalog value '%s' of %zu bytes; the limit is %d", change->key,
                         change->value->size, GY_CATALOG_VALUE_BYTES_MAX);
    uint8_t head[REVISION_BYTES];
    gy_store_u64(head, revision);
    const char *const keys[] = {key}, *const values[] = {(char *)head, (char *)change->value->data};
    size_t key_sizes[] = {key_bytes}, value_sizes[] = {REVISION_BYTES, change->value->size};
    rocksdb_writebatch_putv(batch, 1, keys, key_sizes, 2, values, value_sizes);
    return GYRE_OK;
}

static gyre_status commit_locked(struct embedded *self, rocksdb_writebatch_t *batch, const struct gy_catalog_change *changes,
                                 size_t count, gyre_error *err)
{
    if (self->failure[0])
        return gyre_fail(err, GYRE_INTERNAL, "catalog failed before and takes no change until it is opened again: %s",
                         self->failure);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += changes[i].value ? 2 * changes[i].value->size : 0; /* in the log, then in a table */
    GY_TRY(check_disk(self->path, bytes, err));
    for (size_t i = 0; i < count; i++)
        GY_TRY(batch_change(self, batch, &changes[i], self->revision + 1, err));
    uint8_t revision[REVISION_BYTES];
    gy_store_u64(revision, self->revision + 1);
    rocksdb_writebatch_put(batch, revision_key, strlen(revision_key), (char *)revision, sizeof revision);
    char *sentence = NULL;
    rocksdb_write(self->db, self->write, batch, &sentence);
    if (sentence) {
        snprintf(self->failure, sizeof self->failure, "%s", sentence);
        fail_rocks(err, self, "commit", sentence);
        return gyre_wrap(err, GYRE_INTERNAL, "the change may or may not have been made");
    }
    self->revision++;
    return GYRE_OK;
}

static gyre_status commit(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err)
{
    struct embedded *self = (struct embedded *)catalog;
    if (count == 0 || count > GY_CATALOG_CHANGES_MAX)
        return gyre_fail(err, GYRE_INVALID, "catalog commit of %zu changes; it must be 1 to %d", count, GY_CATALOG_CHANGES_MAX);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    pthread_mutex_lock(&self->mu);
    gyre_status status = commit_locked(self, batch, changes, count, err);
    uint64_t made_at = self->revision;
    pthread_mutex_unlock(&self->mu);
    rocksdb_writebatch_destroy(batch);
    if (status == GYRE_OK && revision)
        *revision = made_at;
    if (status == GYRE_OK)
        gy_local_reach(&self->local, made_at);
    return status;
}

static gyre_status commit_fenced(gy_catalog *catalog, const gy_catalog_lease *fence, const struct gy_catalog_change *changes,
                                 size_t count, uint64_t *revision, gyre_error *err)
{
    (void)fence; /* held as long as it is there */
    return commit(catalog, changes, count, revision, err);
}

/* ---- waiting and leases ---- */

static gyre_status embedded_wait(gy_catalog *catalog, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err)
{
    return gy_local_wait(&((struct embedded *)catalog)->local, after, deadline_ns, revision, err);
}

static void interrupt(gy_catalog *catalog) { gy_local_interrupt(&((struct embedded *)catalog)->local); }

static gyre_status lease_acquire(gy_catalog *catalog, const char *name, const char *owner, int64_t ttl_ns, gy_catalog_lease **out,
                                 gyre_error *err)
{
    return gy_local_lease_acquire(&((struct embedded *)catalog)->local, name, owner, ttl_ns, out, err);
}

static gyre_status lease_holder(gy_catalog *catalog, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                gyre_error *err)
{
    return gy_local_lease_holder(&((struct embedded *)catalog)->local, name, owner, err);
}

static gyre_status leases(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err)
{
    return gy_local_leases(&((struct embedded *)catalog)->local, out, err);
}

/* ---- opening ---- */

static void embedded_close(gy_catalog *catalog)
{
    struct embedded *self = (struct embedded *)catalog;
    if (self->db)
        rocksdb_close(self->db);
    rocksdb_options_destroy(self->options);
    rocksdb_readoptions_destroy(self->read);
    rocksdb_writeoptions_destroy(self->write);
    gy_local_fini(&self->local);
    pthread_mutex_destroy(&self->mu);
    free(self->path);
    free(self);
}

static struct embedded *embedded_new(const char *path)
{
    struct embedded *self = calloc(1, sizeof *self);
    char *copy = strdup(path);
    if (!self || !copy) {
        free(self);
        free(copy);
        return NULL;
    }
    self->path = copy;
    self->base = (gy_catalog){
        .backend = "embedded", .get = get, .list = list, .keys = keys, .commit = commit, .commit_fenced = commit_fenced,
        .wait = embedded_wait, .interrupt = interrupt, .lease_acquire = lease_acquire, .lease_held = gy_local_lease_held,
        .lease_release = gy_local_lease_release, .lease_holder = lease_holder, .leases = leases, .close = embedded_close,
    };
    pthread_mutex_init(&self->mu, NULL);
    gy_local_init(&self->local);
    self->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(self->options, 1);
    rocksdb_options_set_paranoid_checks(self->options, 1);
    rocksdb_options_set_wal_recovery_mode(self->options, 0);
    rocksdb_options_set_write_buffer_size(self->options, WRITE_BUFFER_BYTES);
    rocksdb_options_set_compression(self->options, rocksdb_no_compression);
    rocksdb_options_set_keep_log_file_num(self->options, 2);
    rocksdb_options_set_info_log_level(self->options, 2); /* warnings */
    self->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(self->read, 1);
    self->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(self->write, 1);
    return self;
}

static gyre_status read_moved(struct embedded *self, char moved_to[static GY_MOVED_TO_BYTES_MAX + 1], gyre_error *err)
{
    char *stored = NULL;
    size_t bytes = 0;
    GY_TRY(read_raw(self, moved_key, strlen(moved_key), &stored, &bytes, err));
    bool sound = stored && bytes > 0 && bytes <= GY_MOVED_TO_BYTES_MAX;
    if (sound) {
        memcpy(moved_to, stored, bytes);
        moved_to[bytes] = 0;
    }
    rocksdb_free(stored);
    return sound ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "catalog %s has moved, but does not say where", self->path);
}

/* Looks at the format of what was opened; writes it where there is nothing yet. */
static gyre_status check_format(struct embedded *self, char moved_to[static GY_MOVED_TO_BYTES_MAX + 1], gyre_error *err)
{
    moved_to[0] = 0;
    bool has_format, has_revision;
    uint64_t format = 0;
    GY_TRY(read_number(self, format_key, FORMAT_BYTES, &has_format, &format, err));
    GY_TRY(read_number(self, revision_key, REVISION_BYTES, &has_revision, &self->revision, err));
    if (has_format && format > FORMAT_MOVED)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "catalog %s has format %" PRIu64 "; this version reads up to %d", self->path,
                         format, FORMAT_MOVED);
    if (has_format && format == FORMAT_MOVED)
        return read_moved(self, moved_to, err);
    if (has_format && format == FORMAT_VERSION)
        return GYRE_OK;
    if (has_format || has_revision)
        return gyre_fail(err, GYRE_CORRUPT, "catalog %s: its format version is %s", self->path, has_format ? "0" : "missing");
    uint8_t number[FORMAT_BYTES];
    gy_store_u32(number, FORMAT_VERSION);
    char *sentence = NULL;
    rocksdb_put(self->db, self->write, format_key, strlen(format_key), (char *)number, sizeof number, &sentence);
    return sentence ? fail_rocks(err, self, "first write", sentence) : GYRE_OK;
}

gyre_status gy_embedded_open_moved(gy_catalog **out, const char *path, char moved_to[static GY_MOVED_TO_BYTES_MAX + 1],
                                   gyre_error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return gyre_fail(err, GYRE_PRECONDITION, "catalog %s cannot be made: %s", path, strerror(errno));
    GY_TRY(check_disk(path, 0, err));
    struct embedded *self = embedded_new(path);
    if (!self)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog");
    GY_AUTO(gy_catalog) *catalog = &self->base;
    char *sentence = NULL;
    self->db = rocksdb_open(self->options, path, &sentence);
    if (sentence)
        return fail_rocks(err, self, "open", sentence);
    GY_TRY(check_format(self, moved_to, err));
    gy_local_reach(&self->local, self->revision);
    *out = GY_TAKE(catalog);
    return GYRE_OK;
}

gyre_status gy_catalog_embedded_open(gy_catalog **out, const char *path, gyre_error *err)
{
    char moved_to[GY_MOVED_TO_BYTES_MAX + 1];
    GY_AUTO(gy_catalog) *catalog = NULL;
    GY_TRY(gy_embedded_open_moved(&catalog, path, moved_to, err));
    if (moved_to[0])
        return gyre_fail(err, GYRE_PRECONDITION, "catalog %s has moved to %s: start the coordinator with --catalog etcd", path,
                         moved_to);
    *out = GY_TAKE(catalog);
    return GYRE_OK;
}

gyre_status gy_embedded_mark_moved(gy_catalog *catalog, const char *moved_to, gyre_error *err)
{
    struct embedded *self = (struct embedded *)catalog;
    uint8_t number[FORMAT_BYTES];
    size_t bytes = strlen(moved_to);
    if (bytes == 0 || bytes > GY_MOVED_TO_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "the place a catalog moved to has a name of %zu bytes; it must be 1 to %d", bytes,
                         GY_MOVED_TO_BYTES_MAX);
    gy_store_u32(number, FORMAT_MOVED);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writebatch_put(batch, format_key, strlen(format_key), (char *)number, sizeof number);
    rocksdb_writebatch_put(batch, moved_key, strlen(moved_key), moved_to, bytes);
    char *sentence = NULL;
    rocksdb_write(self->db, self->write, batch, &sentence);
    rocksdb_writebatch_destroy(batch);
    return sentence ? fail_rocks(err, self, "mark as moved", sentence) : GYRE_OK;
}

bool gy_embedded_exists(const char *path)
{
    char current[4096]; /* RocksDB's file that names the others */
    return snprintf(current, sizeof current, "%s/CURRENT", path) < (int)sizeof current && access(current, F_OK) == 0;
}

void gy_catalog_list_free(struct gy_catalog_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->entries[i].key);
        gy_bytes_free(&list->entries[i].value);
    }
    free(list->entries);
    *list = (struct gy_catalog_list){NULL, 0};
}
