/* The log family: be64 seq → u64 epoch, body. The only rows that are synced: an entry is durable when _append returns, and
 * everything else on disk can be rebuilt from it.
 *
 * A log that is cut and the entries that replace its end are one batch, so that a crash leaves the old end or the new one.
 *
 * Trimming deletes the range below and remembers the last entry trimmed in meta, in one batch, so that a log trimmed to
 * nothing still knows where it ends. */
#include "store/rocks.h"

#include <assert.h>
#include <inttypes.h>

enum { KEY_BYTES = 8, EPOCH_BYTES = 8 };

/* Takes the entries from seq on, up to last, out of the log. */
static void put_cut(gy_store *store, rocksdb_writebatch_t *batch, uint64_t seq, uint64_t last)
{
    uint8_t from[KEY_BYTES], to[KEY_BYTES];
    gy_store_u64_be(from, seq);
    gy_store_u64_be(to, last + 1);
    rocksdb_writebatch_delete_range_cf(batch, store->families[GY_FAMILY_LOG], (const char *)from, KEY_BYTES, (const char *)to,
                                       KEY_BYTES);
}

gyre_status gy_store_log_append(gy_store *store, const struct gy_log_entry *entries, size_t count, bool cut, gyre_error *err)
{
    if (count == 0)
        return GYRE_OK;
    pthread_mutex_lock(&store->mu);
    uint64_t last = store->log_seq, applied = store->applied_seq;
    pthread_mutex_unlock(&store->mu);
    uint64_t first = entries[0].seq;
    assert(first == last + 1 || (cut && first <= last));
    if (first <= applied)
        return gyre_fail(err, GYRE_INTERNAL, "log cannot be cut at seq %" PRIu64 "; %" PRIu64 " is applied", first, applied);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    if (first <= last)
        put_cut(store, batch, first, last);
    for (size_t i = 0; i < count; i++) {
        assert(entries[i].seq == first + i);
        uint8_t key[KEY_BYTES], epoch[EPOCH_BYTES];
        gy_store_u64_be(key, entries[i].seq);
        gy_store_u64(epoch, entries[i].epoch);
        const char *keys[] = {(const char *)key}, *values[] = {(const char *)epoch, (const char *)entries[i].body};
        const size_t key_sizes[] = {KEY_BYTES}, value_sizes[] = {EPOCH_BYTES, entries[i].bytes};
        rocksdb_writebatch_putv_cf(batch, store->families[GY_FAMILY_LOG], 1, keys, key_sizes, entries[i].bytes ? 2 : 1, values,
                                   value_sizes);
    }
    char *complaint = NULL;
    rocksdb_write(store->db, store->write_synced, batch, &complaint);
    rocksdb_writebatch_destroy(batch);
    GY_TRY(gy_rocks_check(&complaint, err, "log append"));
    pthread_mutex_lock(&store->mu);
    store->log_epoch = entries[count - 1].epoch;
    store->log_seq = entries[count - 1].seq;
    pthread_mutex_unlock(&store->mu);
    return GYRE_OK;
}

void gy_store_log_last(gy_store *store, uint64_t *epoch, uint64_t *seq)
{
    pthread_mutex_lock(&store->mu);
    *epoch = store->log_epoch;
    *seq = store->log_seq;
    pthread_mutex_unlock(&store->mu);
}

static gyre_status decode_entry(struct gy_log_entry *entry, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    if (key.bytes != KEY_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "log key of %zu bytes; a seq has %d", key.bytes, KEY_BYTES);
    entry->seq = gy_load_u64_be(key.data);
    if (value.bytes < EPOCH_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "log entry %" PRIu64 " of %zu bytes; the epoch alone has %d", entry->seq, value.bytes,
                         EPOCH_BYTES);
    entry->epoch = gy_load_u64(value.data);
    entry->body = (const uint8_t *)value.data + EPOCH_BYTES;
    entry->bytes = value.bytes - EPOCH_BYTES;
    return GYRE_OK;
}

gyre_status gy_log_find_last(gy_store *store, gyre_error *err)
{
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(store->db, store->read, store->families[GY_FAMILY_LOG]);
    rocksdb_iter_seek_to_last(iterator);
    gyre_status status = GYRE_OK;
    if (rocksdb_iter_valid(iterator)) {
        struct gy_slice key, value;
        struct gy_log_entry entry = {0};
        key.data = rocksdb_iter_key(iterator, &key.bytes);
        value.data = rocksdb_iter_value(iterator, &value.bytes);
        status = decode_entry(&entry, key, value, err);
        if (status == GYRE_OK && entry.seq <= store->log_base)
            status = gyre_fail(err, GYRE_CORRUPT, "log ends at seq %" PRIu64 ", below %" PRIu64 ", which was trimmed", entry.seq,
                               store->log_base);
        if (status == GYRE_OK)
            store->log_epoch = entry.epoch, store->log_seq = entry.seq;
    } else {
        char *complaint = NULL;
        rocksdb_iter_get_error(iterator, &complaint);
        status = gy_rocks_check(&complaint, err, "end of the log");
    }
    rocksdb_iter_destroy(iterator);
    if (status == GYRE_OK && store->applied_seq > store->log_seq)
        status = gyre_fail(err, GYRE_CORRUPT, "log ends at seq %" PRIu64 "; the points hold seq %" PRIu64, store->log_seq,
                           store->applied_seq);
    return status;
}

gyre_status gy_log_epoch_at(gy_store *store, const rocksdb_readoptions_t *options, uint64_t seq, uint64_t *epoch,
                            gyre_error *err)
{
    uint8_t key[KEY_BYTES];
    char *complaint = NULL;
    gy_store_u64_be(key, seq);
    rocksdb_pinnableslice_t *pin = rocksdb_get_pinned_cf(store->db, options, store->families[GY_FAMILY_LOG], (const char *)key,
                                                         KEY_BYTES, &complaint);
    GY_TRY(gy_rocks_check(&complaint, err, "log entry"));
    if (!pin)
        return gyre_fail(err, GYRE_CORRUPT, "log has no entry %" PRIu64 ", which is applied", seq);
    struct gy_slice value;
    struct gy_log_entry entry = {0};
    value.data = rocksdb_pinnableslice_value(pin, &value.bytes);
    gyre_status status = decode_entry(&entry, (struct gy_slice){key, KEY_BYTES}, value, err);
    rocksdb_pinnableslice_destroy(pin);
    *epoch = entry.epoch;
    return status;
}

struct reading {
    uint64_t next;
    gyre_status (*visit)(void *self, const struct gy_log_entry *entry, gyre_error *err);
    void *self;
};

static gyre_status read_entry(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct reading *reading = self;
    struct gy_log_entry entry;
    GY_TRY(decode_entry(&entry, key, value, err));
    if (entry.seq != reading->next)
        return gyre_fail(err, GYRE_CORRUPT, "log has no entry %" PRIu64 "; the next is %" PRIu64, reading->next, entry.seq);
    reading->next++;
    return reading->visit(reading->self, &entry, err);
}

gyre_status gy_store_log_read(gy_store *store, uint64_t from,
                              gyre_status (*visit)(void *self, const struct gy_log_entry *entry, gyre_error *err), void *self,
                                  gyre_error *err)
{
    pthread_mutex_lock(&store->mu);
    uint64_t base = store->log_base, last = store->log_seq;
    pthread_mutex_unlock(&store->mu);
    if (from > last)
        return GYRE_OK;
    if (from <= base)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "log entry %" PRIu64 " is trimmed; the first is %" PRIu64, from, base + 1);
    uint8_t first[KEY_BYTES];
    gy_store_u64_be(first, from);
    struct reading reading = {from, visit, self};
    GY_TRY(gy_store_walk(store, GY_FAMILY_LOG, (struct gy_slice){first, KEY_BYTES}, (struct gy_slice){0}, read_entry, &reading,
                         err));
    if (reading.next <= last)
        return gyre_fail(err, GYRE_CORRUPT, "log ends before entry %" PRIu64 "; it was written up to %" PRIu64, reading.next,
                         last);
    return GYRE_OK;
}

static gyre_status take_epoch(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    (void)i;
    if (!value.data)
        return gyre_fail(err, GYRE_CORRUPT, "log has a gap");
    if (value.bytes < EPOCH_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "log entry of %zu bytes; the epoch alone has %d", value.bytes, EPOCH_BYTES);
    *(uint64_t *)self = gy_load_u64(value.data);
    return GYRE_OK;
}

/* ---- epochs ---- */
struct epochs {
    gy_store *store;
    uint64_t base_epoch, base, last;
};

static gyre_status epoch_at(const struct epochs *epochs, uint64_t seq, uint64_t *epoch, gyre_error *err)
{
    uint8_t key[KEY_BYTES];
    *epoch = epochs->base_epoch;
    if (seq == epochs->base)
        return GYRE_OK;
    gy_store_u64_be(key, seq);
    return gy_store_get_many(epochs->store, NULL, GY_FAMILY_LOG, key, KEY_BYTES, 1, true, take_epoch, epoch, err);
}

/* The first entry of the epoch of seq, not before the base. */
static gyre_status find_start(const struct epochs *epochs, uint64_t seq, struct gy_epoch_start *start, gyre_error *err)
{
    uint64_t low = epochs->base, high = seq; /* high has the epoch, all below low have not */
    GY_TRY(epoch_at(epochs, seq, &start->epoch, err));
    while (low < high) {
        uint64_t middle = low + (high - low) / 2, epoch;
        GY_TRY(epoch_at(epochs, middle, &epoch, err));
        if (epoch > start->epoch)
            return gyre_fail(err, GYRE_CORRUPT, "log entry %" PRIu64 " is of epoch %" PRIu64 ", entry %" PRIu64 " of %" PRIu64,
                             middle, epoch, seq, start->epoch);
        if (epoch == start->epoch)
            high = middle;
        else
            low = middle + 1;
    }
    start->first = high;
    return GYRE_OK;
}

gyre_status gy_store_log_starts(gy_store *store, struct gy_epoch_start *starts, size_t room, size_t *count, gyre_error *err)
{
    assert(room > 0);
    pthread_mutex_lock(&store->mu);
    const struct epochs epochs = {store, store->log_base_epoch, store->log_base, store->log_seq};
    pthread_mutex_unlock(&store->mu);
    size_t found = 0;
    for (uint64_t seq = epochs.last;; seq = starts[room - found].first - 1) { /* newest first, into the end of starts */
        found++;
        GY_TRY(find_start(&epochs, seq, &starts[room - found], err));
        if (found == room || starts[room - found].first == epochs.base)
            break;
    }
    memmove(starts, starts + room - found, found * sizeof *starts);
    *count = found;
    return GYRE_OK;
}

gyre_status gy_store_log_trim(gy_store *store, uint64_t below, gyre_error *err)
{
    pthread_mutex_lock(&store->mu);
    uint64_t base = store->log_base, applied = store->applied_seq;
    pthread_mutex_unlock(&store->mu);
    if (below <= base + 1)
        return GYRE_OK;
    if (below > applied + 1)
        return gyre_fail(err, GYRE_PRECONDITION, "log cannot be trimmed below seq %" PRIu64 "; only %" PRIu64 " is applied",
                         below, applied);
    uint8_t from[KEY_BYTES], to[KEY_BYTES], last[KEY_BYTES];
    uint64_t epoch = 0;
    gy_store_u64_be(from, base + 1);
    gy_store_u64_be(to, below);
    gy_store_u64_be(last, below - 1);
    GY_TRY(gy_store_get_many(store, NULL, GY_FAMILY_LOG, last, KEY_BYTES, 1, false, take_epoch, &epoch, err));

    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writebatch_delete_range_cf(batch, store->families[GY_FAMILY_LOG], (const char *)from, KEY_BYTES, (const char *)to,
                                       KEY_BYTES);
    gy_meta_put_log_base(store, batch, epoch, below - 1);
    char *complaint = NULL;
    rocksdb_write(store->db, store->write_volatile, batch, &complaint); /* lost in a crash: the entries come back, no harm */
    rocksdb_writebatch_destroy(batch);
    GY_TRY(gy_rocks_check(&complaint, err, "log trim"));
    pthread_mutex_lock(&store->mu);
    store->log_base_epoch = epoch;
    store->log_base = below - 1;
    pthread_mutex_unlock(&store->mu);
    return GYRE_OK;
}
