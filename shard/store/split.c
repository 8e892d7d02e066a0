/* RocksDB's files are written once: links to them are a replica of their own as soon as its few meta records say so. They are
 * rewritten under a hidden name; a rename is the moment. */
#include "store/split.h"

#include "store/disk.h"
#include "store/rocks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct splitting {
    gy_store *store;
    struct gy_new_replica child;
    struct gy_range_record range;
    uint64_t epoch, seq;
};

static gyre_status check(const struct splitting *splitting, const char *path, gyre_error *err)
{
    const gy_store *store = splitting->store;
    struct gy_hash_range range = splitting->range.owned;
    struct gy_range_record of_store;
    bool quantized;
    GY_TRY(gy_new_replica_check(&splitting->child, &quantized, err));
    if (quantized != store->quantized)
        return gyre_fail(err, GYRE_INVALID, "member %u is %s in the configuration and %s on disk", splitting->child.member,
                         quantized ? "quantized" : "full", store->quantized ? "quantized" : "full");
    gy_store_range(store, &of_store);
    if (range.first > range.last || !gy_range_covers(of_store.content, range))
        return gyre_fail(err, GYRE_INVALID, "hashes %016" PRIx64 " to %016" PRIx64 " cannot be split from %016" PRIx64
                         " to %016" PRIx64, range.first, range.last, of_store.content.first, of_store.content.last);
    uint64_t applied = gy_store_applied_seq(store);
    if (applied + 1 != splitting->seq)
        return gyre_fail(err, GYRE_PRECONDITION, "split at seq %" PRIu64 "; %" PRIu64 " is applied", splitting->seq, applied);
    if (gy_directory_exists(path))
        return gyre_fail(err, GYRE_EXISTS, "%s exists", path);
    return gy_disk_check(store->path, GY_DISK_FLOOR_BYTES, "splitting a replica", err);
}

/* What is the child's own, and no log. */
static gyre_status rewrite(const struct splitting *splitting, gy_store *made, gyre_error *err)
{
    uint8_t first[8] = {0}, behind[9];
    memset(behind, 0xff, sizeof behind);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    gy_meta_put_new(made, batch, &splitting->child, made->quantized, splitting->epoch, splitting->seq);
    gy_meta_put_applied(made, batch, splitting->seq, made->point_count, &made->digest);
    gy_meta_put_range(made, batch, &splitting->range);
    rocksdb_writebatch_delete_range_cf(batch, made->families[GY_FAMILY_LOG], (const char *)first, sizeof first,
                                       (const char *)behind, sizeof behind);
    char *complaint = NULL;
    rocksdb_write(made->db, made->write_volatile, batch, &complaint);
    rocksdb_writebatch_destroy(batch);
    GY_TRY(gy_rocks_check(&complaint, err, "split"));
    made->applied_seq = splitting->seq; /* which the flush looks for on disk */
    return gy_store_flush(made, err);
}

static gyre_status make(const struct splitting *splitting, const char *hidden, gyre_error *err)
{
    gy_store *opened = NULL;
    GY_TRY(gy_directory_remove(hidden, err)); /* of a crash in here */
    GY_TRY(gy_store_link(splitting->store, hidden, err));
    GY_TRY(gy_store_open(&opened, splitting->store->env, hidden, err));
    GY_AUTO(gy_store) *made = opened;
    if (made->applied_seq + 1 != splitting->seq)
        return gyre_fail(err, GYRE_INTERNAL, "split at seq %" PRIu64 "; its files hold %" PRIu64, splitting->seq,
                         made->applied_seq);
    return rewrite(splitting, made, err);
}

gyre_status gy_store_split(gy_store *store, const char *path, const struct gy_store_identity *child,
                           const struct gy_shard_config *config, struct gy_hash_range range, const uint8_t *hash_key,
                           uint64_t epoch, uint64_t seq, gyre_error *err)
{
    struct splitting splitting = {
        .store = store,
        .child = {child, store->member, config},
        .range = {.owned = range, .content = range, .foreign = true},
        .epoch = epoch,
        .seq = seq,
    };
    memcpy(splitting.range.hash_key, hash_key, GY_HASH_KEY_BYTES);
    GY_TRY(check(&splitting, path, err));
    char *hidden;
    GY_TRY(gy_directory_hidden(&hidden, path, "creating", err));
    gyre_status status = make(&splitting, hidden, err);
    if (status == GYRE_OK && rename(hidden, path) != 0)
        status = gyre_fail(err, GYRE_INTERNAL, "%s cannot be renamed to %s: %s", hidden, path, strerror(errno));
    if (status == GYRE_OK)
        status = gy_directory_sync_parent(path, err);
    else
        GY_IGNORE(gy_directory_remove(hidden, NULL)); /* hidden: the next one, or the next start, tries again */
    free(hidden);
    return status;
}
