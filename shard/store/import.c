/* Rows come in the order of families and keys, so what the meta records say (the codebook, the seq) is known when the rows that
 * must agree with it come, and a row that comes twice or out of its turn shows.
 *
 * They are written without a write-ahead log, in batches, into a hidden directory; who the replica is and the empty log's base go
 * with the last batch; one flush, one rename. A crash before the rename leaves a hidden directory that the next one deletes. */
#include "store/rocks.h"

#include "gyre/metric.h"
#include "gyre/wire.h"
#include "store/copy.h"
#include "store/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BATCH_BYTES = 4 << 20,
    KEY_BYTES_MAX = 32,
    CODE_KEY_BYTES = 9,
    CODE_VALUE_BYTES_MAX = 2 << 20, /* a packed chunk of the longest rows has 1.3 MB */
    POINT_VERSION_BYTES = 8,
    REQUEST_KEY_BYTES = 8,
    KEY_TEXT_BYTES = 2 * KEY_BYTES_MAX + 1,
};

struct gy_import {
    gy_store_env *env;
    char *path, *hidden;
    struct gy_store_identity identity;
    struct gy_shard_config config;
    struct gy_new_replica replica; /* of the two before */
    uint64_t epoch, seq;
    gy_store *store;               /* the hidden one; NULL once it is closed */
    rocksdb_writebatch_t *batch;
    size_t batch_bytes;
    uint64_t points, vectors;      /* rows taken */
    bool any, finished;
    uint32_t family;               /* of the last row */
    uint8_t key[KEY_BYTES_MAX];
    size_t key_bytes;
};

gyre_status gy_import_open(gy_import **out, gy_store_env *env, const char *path, const struct gy_store_identity *identity,
                           uint32_t member, const struct gy_shard_config *config, uint64_t epoch, uint64_t seq, gyre_error *err)
{
    gy_import *opened = calloc(1, sizeof *opened);
    if (!opened)
        return gyre_fail(err, GYRE_NO_MEMORY, "copy");
    GY_AUTO(gy_import) *import = opened;
    import->env = env, import->epoch = epoch, import->seq = seq;
    import->identity = *identity, import->config = *config;
    import->replica = (struct gy_new_replica){&import->identity, member, &import->config};
    bool quantized;
    GY_TRY(gy_new_replica_check(&import->replica, &quantized, err));
    import->path = strdup(path);
    if (!import->path)
        return gyre_fail(err, GYRE_NO_MEMORY, "path of %s", path);
    GY_TRY(gy_directory_hidden(&import->hidden, path, "creating", err));
    GY_TRY(gy_directory_remove(import->hidden, err)); /* of a crash in here */
    GY_TRY(gy_store_make(&import->store, env, import->hidden, err));
    import->store->member = member;
    import->store->quantized = quantized;
    import->batch = rocksdb_writebatch_create();
    *out = GY_TAKE(import);
    return GYRE_OK;
}

void gy_import_free(gy_import *import)
{
    if (!import)
        return;
    gy_store_close(import->store);
    if (import->batch)
        rocksdb_writebatch_destroy(import->batch);
    if (import->hidden && !import->finished)
        GY_IGNORE(gy_directory_remove(import->hidden, NULL)); /* hidden: in nobody's way, and the next one tries again */
    free(import->hidden);
    free(import->path);
    free(import);
}

/* ---- rows ---- */
static gyre_status key_size(const struct gy_row *row, size_t bytes, gyre_error *err)
{
    return row->key_bytes == bytes ? GYRE_OK
                                   : gyre_fail(err, GYRE_CORRUPT, "its key has %zu bytes, not %zu", row->key_bytes, bytes);
}

static gyre_status value_size(const struct gy_row *row, size_t bytes_min, size_t bytes_max, gyre_error *err)
{
    return row->value_bytes >= bytes_min && row->value_bytes <= bytes_max
               ? GYRE_OK
               : gyre_fail(err, GYRE_CORRUPT, "its value has %zu bytes; it has %zu to %zu", row->value_bytes, bytes_min,
                           bytes_max);
}

static gyre_status check_id(const struct gy_row *row, gyre_error *err)
{
    GY_TRY(key_size(row, GYRE_ID_BYTES, err));
    return gyre_point_id_check(row->key, err) == GYRE_OK ? GYRE_OK : gyre_wrap(err, GYRE_CORRUPT, "its key");
}

static gyre_status check_point(gy_import *import, const struct gy_row *row, gyre_error *err)
{
    GY_TRY(check_id(row, err));
    GY_TRY(value_size(row, POINT_VERSION_BYTES, POINT_VERSION_BYTES + GY_PAYLOAD_BYTES_MAX, err));
    uint64_t version = gy_load_u64(row->value);
    if (version > import->seq)
        return gyre_fail(err, GYRE_CORRUPT, "its version is %" PRIu64 "; the copy is of seq %" PRIu64, version, import->seq);
    const struct gy_range_record *range = &import->store->range;
    gyre_point_id id;
    memcpy(id.bytes, row->key, sizeof id.bytes);
    if (!range->foreign && !gy_range_is_all(range->owned) && !gy_range_has(range->owned, gy_point_hash(range->hash_key, &id)))
        return gyre_fail(err, GYRE_CORRUPT, "its point is not of the shard, which is said to hold none that are not");
    import->points++;
    return GYRE_OK;
}

static gyre_status check_vector(gy_import *import, const struct gy_row *row, gyre_error *err)
{
    float vector[GYRE_DIM_MAX];
    uint32_t dim = gyre_codebook_dim(import->store->codebook);
    if (import->store->quantized)
        return gyre_fail(err, GYRE_CORRUPT, "a quantized replica takes no vectors");
    GY_TRY(check_id(row, err));
    GY_TRY(value_size(row, dim * sizeof(float), dim * sizeof(float), err));
    memcpy(vector, row->value, row->value_bytes);
    if (gyre_vector_check(gyre_codebook_metric(import->store->codebook), vector, dim, 0, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "its value");
    import->vectors++;
    return GYRE_OK;
}

static gyre_status check_code(const gy_import *import, const struct gy_row *row, gyre_error *err)
{
    uint8_t version[4];
    gy_store_u32_be(version, gyre_codebook_version(import->store->codebook));
    GY_TRY(key_size(row, CODE_KEY_BYTES, err));
    if (memcmp(row->key, version, sizeof version) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "it is not of codebook %u", gyre_codebook_version(import->store->codebook));
    return value_size(row, 1, CODE_VALUE_BYTES_MAX, err);
}

static gyre_status check_request(const gy_import *import, const struct gy_row *row, gyre_error *err)
{
    GY_TRY(key_size(row, REQUEST_KEY_BYTES, err));
    GY_TRY(value_size(row, GY_REQUEST_BYTES, GY_REQUEST_BYTES, err));
    uint64_t seq = gy_load_u64_be(row->key);
    if (seq == 0 || seq > import->seq)
        return gyre_fail(err, GYRE_CORRUPT, "it is of seq %" PRIu64 "; the copy is of seq %" PRIu64, seq, import->seq);
    return GYRE_OK;
}

static gyre_status check(gy_import *import, const struct gy_row *row, gyre_error *err)
{
    if (row->family != GY_FAMILY_META)
        GY_TRY(gy_meta_state_whole(import->store, import->seq, err));
    switch (row->family) {
    case GY_FAMILY_META:
        return gy_meta_take_state(import->store, import->batch, (struct gy_slice){row->key, row->key_bytes},
                                  (struct gy_slice){row->value, row->value_bytes}, err);
    case GY_FAMILY_POINTS:
        return check_point(import, row, err);
    case GY_FAMILY_VECTORS:
        return check_vector(import, row, err);
    case GY_FAMILY_CODES:
        return check_code(import, row, err);
    case GY_FAMILY_REQUESTS:
        return check_request(import, row, err);
    default:
        return gyre_fail(err, GYRE_CORRUPT, "no copy has rows of this family");
    }
}

static gyre_status check_order(gy_import *import, const struct gy_row *row, gyre_error *err)
{
    if (row->family >= GY_FAMILY_COUNT || row->key_bytes == 0 || row->key_bytes > KEY_BYTES_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "there are %d families, and keys of 1 to %d bytes", GY_FAMILY_COUNT, KEY_BYTES_MAX);
    size_t common = row->key_bytes < import->key_bytes ? row->key_bytes : import->key_bytes;
    int order = import->any && row->family == import->family ? memcmp(row->key, import->key, common) : 1;
    if (import->any && (row->family < import->family || order < 0 || (order == 0 && row->key_bytes <= import->key_bytes)))
        return gyre_fail(err, GYRE_CORRUPT, "it comes behind a row of family %s that is not before it",
                         gy_family_name((enum gy_family)import->family));
    import->any = true;
    import->family = row->family;
    memcpy(import->key, row->key, import->key_bytes = row->key_bytes);
    return GYRE_OK;
}

static const char *key_text(const struct gy_row *row, char text[KEY_TEXT_BYTES])
{
    const uint8_t *key = row->key;
    size_t bytes = row->key_bytes < KEY_BYTES_MAX ? row->key_bytes : KEY_BYTES_MAX;
    text[0] = 0;
    for (size_t i = 0; i < bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", key[i]);
    return text;
}

static gyre_status write_batch(gy_import *import, gyre_error *err)
{
    char *complaint = NULL;
    GY_TRY(gy_disk_check(import->hidden, GY_DISK_FLOOR_BYTES, "copying a replica", err));
    rocksdb_write(import->store->db, import->store->write_volatile, import->batch, &complaint);
    rocksdb_writebatch_clear(import->batch);
    import->batch_bytes = 0;
    return gy_rocks_check(&complaint, err, "copy");
}

gyre_status gy_import_row(gy_import *import, const struct gy_row *row, gyre_error *err)
{
    gyre_status status = check_order(import, row, err);
    if (status == GYRE_OK)
        status = check(import, row, err);
    if (status != GYRE_OK) {
        char text[KEY_TEXT_BYTES];
        return gyre_wrap(err, status, "row of family %s (%u), key %s",
                         row->family < GY_FAMILY_COUNT ? gy_family_name((enum gy_family)row->family) : "unknown", row->family,
                         key_text(row, text));
    }
    if (row->family != GY_FAMILY_META) /* those are written as this replica's own */
        rocksdb_writebatch_put_cf(import->batch, import->store->families[row->family], row->key, row->key_bytes, row->value,
                                  row->value_bytes);
    import->batch_bytes += row->key_bytes + row->value_bytes;
    return import->batch_bytes < BATCH_BYTES ? GYRE_OK : write_batch(import, err);
}

/* ---- the end ---- */
static gyre_status check_whole(const gy_import *import, gyre_error *err)
{
    uint64_t points = import->store->point_count;
    GY_TRY(gy_meta_state_whole(import->store, import->seq, err));
    if (import->points != points || (!import->store->quantized && import->vectors != points))
        return gyre_fail(err, GYRE_CORRUPT, "copy has %" PRIu64 " points and %" PRIu64 " vectors; its state has %" PRIu64
                         " points", import->points, import->vectors, points);
    return GYRE_OK;
}

gyre_status gy_import_finish(gy_import *import, gy_store **out, gyre_error *err)
{
    GY_TRY(check_whole(import, err));
    gy_meta_put_new(import->store, import->batch, &import->replica, import->store->quantized, import->epoch, import->seq);
    GY_TRY(write_batch(import, err));
    GY_TRY(gy_store_flush(import->store, err));
    gy_store_close(import->store);
    import->store = NULL;
    if (gy_directory_exists(import->path))
        return gyre_fail(err, GYRE_EXISTS, "%s exists", import->path);
    if (rename(import->hidden, import->path) != 0)
        return gyre_fail(err, GYRE_INTERNAL, "%s cannot be renamed to %s: %s", import->hidden, import->path, strerror(errno));
    import->finished = true;
    GY_TRY(gy_directory_sync_parent(import->path, err));
    return gy_store_open(out, import->env, import->path, err);
}
