/* Batches, reads and walks over RocksDB's C API. Every complaint is looked at; an iterator that ends is asked why. */
#include "store/rocks.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    KEYS_AT_ONCE = 64,           /* two of RocksDB's own groups of 32 */
    READ_AHEAD_BYTES = 4 << 20,
};

/* The C type is RocksDB's own; the name is ours, so that index/ need not see rocksdb/c.h. */
static rocksdb_writebatch_t *inner(gy_batch *batch)
{
    return (rocksdb_writebatch_t *)batch;
}

gy_batch *gy_batch_new(void)
{
    return (gy_batch *)rocksdb_writebatch_create();
}

void gy_batch_free(gy_batch *batch)
{
    if (batch)
        rocksdb_writebatch_destroy(inner(batch));
}

void gy_batch_clear(gy_batch *batch)
{
    rocksdb_writebatch_clear(inner(batch));
}

void gy_batch_put(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice key, struct gy_slice value)
{
    rocksdb_writebatch_put_cf(inner(batch), store->families[family], key.data, key.bytes, value.data, value.bytes);
}

void gy_batch_put_pieces(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice key,
                         const struct gy_slice *pieces, size_t count)
{
    enum { PIECES_MAX = 4 };
    const char *keys[] = {key.data}, *values[PIECES_MAX];
    size_t key_sizes[] = {key.bytes}, value_sizes[PIECES_MAX], used = 0;
    assert(count <= PIECES_MAX);
    for (size_t i = 0; i < count; i++)
        if (pieces[i].bytes)
            values[used] = pieces[i].data, value_sizes[used++] = pieces[i].bytes;
    rocksdb_writebatch_putv_cf(inner(batch), store->families[family], 1, keys, key_sizes, (int)used, values, value_sizes);
}

void gy_batch_delete(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice key)
{
    rocksdb_writebatch_delete_cf(inner(batch), store->families[family], key.data, key.bytes);
}

void gy_batch_delete_range(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice from, struct gy_slice to)
{
    rocksdb_writebatch_delete_range_cf(inner(batch), store->families[family], from.data, from.bytes, to.data, to.bytes);
}

gyre_status gy_store_commit(gy_store *store, gy_batch *batch, gyre_error *err)
{
    char *complaint = NULL;
    rocksdb_write(store->db, store->write_volatile, inner(batch), &complaint);
    return gy_rocks_check(&complaint, err, "write");
}

gyre_status gy_store_commit_applied(gy_store *store, gy_batch *batch, uint64_t applied_seq, uint64_t point_count,
                                    const struct gy_digest *digest, const struct gy_range_record *range, gyre_error *err)
{
    gy_meta_put_applied(store, inner(batch), applied_seq, point_count, digest);
    if (range)
        gy_meta_put_range(store, inner(batch), range);
    GY_TRY(gy_store_commit(store, batch, err));
    pthread_mutex_lock(&store->mu);
    store->applied_seq = applied_seq;
    store->point_count = point_count;
    store->digest = *digest;
    if (range)
        store->range = *range;
    pthread_mutex_unlock(&store->mu);
    return GYRE_OK;
}

gyre_status gy_store_commit_codebook(gy_store *store, gy_batch *batch, const gyre_codebook *codebook,
                                     const struct gy_digest *digest, gyre_error *err)
{
    gyre_codebook *copied = NULL;
    GY_TRY(gy_codebook_copy(&copied, codebook, err));
    GY_AUTO(gyre_codebook) *copy = copied;
    GY_TRY(gy_meta_put_codebook(store, inner(batch), codebook, err));
    gy_meta_put_applied(store, inner(batch), gy_store_applied_seq(store), gy_store_point_count(store), digest);
    GY_TRY(gy_store_commit(store, batch, err));
    pthread_mutex_lock(&store->mu);
    gyre_codebook *old = store->codebook;
    store->codebook = GY_TAKE(copy);
    store->digest = *digest;
    pthread_mutex_unlock(&store->mu);
    gyre_codebook_free(old);
    return GYRE_OK;
}

/* The applied seq as it is in files, not in memory: the memtables are passed over because they hold rows that no WAL has. */
static gyre_status read_durable_seq(gy_store *store, uint64_t *seq, gyre_error *err)
{
    enum { READ_PERSISTED_TIER = 2 };
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(options, READ_PERSISTED_TIER);
    gyre_status status = gy_meta_read_applied(store, options, seq, err);
    rocksdb_readoptions_destroy(options);
    return status;
}

/* The C API can flush one family at a time only, and flushing one alone would tear apart what belongs together (an applied seq
 * without its points). A manual compaction of a whole family, however, first flushes every family as one atom when
 * atomic_flush is on; meta is a few records, so compacting it costs nothing. That call keeps its status to itself, so what is
 * on disk is read back. fault_store kills a process after this function to hold RocksDB to it. */
gyre_status gy_store_flush(gy_store *store, gyre_error *err)
{
    uint64_t wanted = gy_store_applied_seq(store), durable;
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
    rocksdb_compact_range_cf_opt(store->db, store->families[GY_FAMILY_META], options, NULL, 0, NULL, 0);
    rocksdb_compactoptions_destroy(options);
    GY_TRY(read_durable_seq(store, &durable, err));
    if (durable < wanted)
        return gyre_fail(err, GYRE_INTERNAL, "flush failed: seq %" PRIu64 " is on disk, %" PRIu64 " is applied", durable, wanted);
    return GYRE_OK;
}

struct gy_view {
    gy_store *store;
    const rocksdb_snapshot_t *snapshot;
};

gy_view *gy_view_new(gy_store *store)
{
    gy_view *view = malloc(sizeof *view);
    if (!view)
        return NULL;
    *view = (gy_view){store, rocksdb_create_snapshot(store->db)};
    return view;
}

void gy_view_free(gy_view *view)
{
    if (!view)
        return;
    rocksdb_release_snapshot(view->store->db, view->snapshot);
    free(view);
}

static gyre_status get_group(gy_store *store, rocksdb_readoptions_t *options, enum gy_family family, const uint8_t *keys,
                             size_t key_bytes, size_t first, size_t count, gy_on_value *visit, void *self, gyre_error *err)
{
    const char *key_list[KEYS_AT_ONCE];
    size_t key_sizes[KEYS_AT_ONCE];
    rocksdb_pinnableslice_t *values[KEYS_AT_ONCE];
    char *complaints[KEYS_AT_ONCE] = {NULL};
    for (size_t i = 0; i < count; i++)
        key_list[i] = (const char *)keys + (first + i) * key_bytes, key_sizes[i] = key_bytes;
    rocksdb_batched_multi_get_cf(store->db, options, store->families[family], count, key_list, key_sizes, values, complaints,
                                 false);
    gyre_status status = GYRE_OK;
    for (size_t i = 0; i < count; i++) {
        gyre_status found = gy_rocks_check(&complaints[i], status == GYRE_OK ? err : NULL, gy_family_name(family));
        struct gy_slice value = {0};
        if (values[i])
            value.data = rocksdb_pinnableslice_value(values[i], &value.bytes);
        if (status == GYRE_OK)
            status = found == GYRE_OK ? visit(self, first + i, value, err) : found;
        if (values[i])
            rocksdb_pinnableslice_destroy(values[i]);
    }
    return status;
}

gyre_status gy_store_get_many(gy_store *store, gy_view *view, enum gy_family family, const void *keys, size_t key_bytes,
                              size_t count, bool cached, gy_on_value *visit, void *self, gyre_error *err)
{
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(options, cached);
    if (view)
        rocksdb_readoptions_set_snapshot(options, view->snapshot);
    gyre_status status = GYRE_OK;
    for (size_t i = 0; i < count && status == GYRE_OK; i += KEYS_AT_ONCE) {
        size_t group = count - i < KEYS_AT_ONCE ? count - i : KEYS_AT_ONCE;
        status = get_group(store, options, family, keys, key_bytes, i, group, visit, self, err);
    }
    rocksdb_readoptions_destroy(options);
    return status;
}

gyre_status gy_store_walk(gy_store *store, enum gy_family family, struct gy_slice from, struct gy_slice to, gy_on_record *visit,
                          void *self, gyre_error *err)
{
    return gy_store_walk_at(store, NULL, family, from, to, visit, self, err);
}

gyre_status gy_store_walk_at(gy_store *store, gy_view *view, enum gy_family family, struct gy_slice from, struct gy_slice to,
                             gy_on_record *visit, void *self, gyre_error *err)
{
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    if (view)
        rocksdb_readoptions_set_snapshot(options, view->snapshot);
    rocksdb_readoptions_set_fill_cache(options, 0);
    rocksdb_readoptions_set_readahead_size(options, READ_AHEAD_BYTES);
    if (to.data)
        rocksdb_readoptions_set_iterate_upper_bound(options, to.data, to.bytes);
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(store->db, options, store->families[family]);
    if (from.data)
        rocksdb_iter_seek(iterator, from.data, from.bytes);
    else
        rocksdb_iter_seek_to_first(iterator);
    gyre_status status = GYRE_OK;
    for (; status == GYRE_OK && rocksdb_iter_valid(iterator); rocksdb_iter_next(iterator)) {
        struct gy_slice key, value;
        key.data = rocksdb_iter_key(iterator, &key.bytes);
        value.data = rocksdb_iter_value(iterator, &value.bytes);
        status = visit(self, key, value, err);
    }
    if (status == GYRE_OK) { /* not valid: the end, or an error that looks like it */
        char *complaint = NULL;
        rocksdb_iter_get_error(iterator, &complaint);
        status = gy_rocks_check(&complaint, err, gy_family_name(family));
    }
    rocksdb_iter_destroy(iterator);
    rocksdb_readoptions_destroy(options);
    return status;
}
