/* One RocksDB snapshot, and an iterator of its own for each piece: a piece that is asked for again is the same, and a reader that
 * never comes back holds nothing but the snapshot. */
#include "store/rocks.h"

#include "store/copy.h"

#include <inttypes.h>
#include <stdlib.h>

enum { READ_AHEAD_BYTES = 2 << 20, CODE_KEY_VERSION_BYTES = 4 };

struct gy_export {
    gy_store *store;
    const rocksdb_snapshot_t *snapshot;
    struct gy_export_state state;
    uint32_t codebook_version;
    bool without_vectors;
};

static rocksdb_readoptions_t *options_at(const gy_export *export)
{
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(options, export->snapshot);
    rocksdb_readoptions_set_fill_cache(options, 0);
    return options;
}

gyre_status gy_export_open(gy_export **out, gy_store *store, bool without_vectors, gyre_error *err)
{
    if (store->quantized && !without_vectors)
        return gyre_fail(err, GYRE_PRECONDITION, "the replica is quantized: it has no vectors to copy");
    gy_export *opened = calloc(1, sizeof *opened);
    if (!opened)
        return gyre_fail(err, GYRE_NO_MEMORY, "copy");
    *opened = (gy_export){.store = store, .without_vectors = without_vectors};
    opened->snapshot = rocksdb_create_snapshot(store->db);
    GY_AUTO(gy_export) *export = opened;
    rocksdb_readoptions_t *options = options_at(export);
    gyre_status status = gy_meta_read_position(store, options, &export->state.epoch, &export->state.seq, &export->state.points,
                                               &export->codebook_version, err);
    rocksdb_readoptions_destroy(options);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "copy");
    *out = GY_TAKE(export);
    return GYRE_OK;
}

void gy_export_free(gy_export *export)
{
    if (!export)
        return;
    rocksdb_release_snapshot(export->store->db, export->snapshot);
    free(export);
}

struct gy_export_state gy_export_state(const gy_export *export)
{
    return export->state;
}

static bool exported(const gy_export *export, uint32_t family)
{
    return family != GY_FAMILY_LOG && family != GY_FAMILY_PAYLOAD_INDEX &&
           !(family == GY_FAMILY_VECTORS && export->without_vectors);
}

struct piece {
    size_t bytes, bytes_max;
    size_t rows;
    bool full;
    gy_on_row *visit;
    void *self;
};

static gyre_status take(struct piece *piece, uint32_t family, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    if (piece->rows && key.bytes + value.bytes > piece->bytes_max - piece->bytes) {
        piece->full = true;
        return GYRE_OK;
    }
    size_t bytes = key.bytes + value.bytes, room = piece->bytes_max - piece->bytes;
    piece->bytes += bytes < room ? bytes : room;
    piece->rows++;
    const struct gy_row row = {family, key.data, key.bytes, value.data, value.bytes};
    return piece->visit(piece->self, &row, err);
}

/* Codes of other codebooks are what a re-encoding is building, or left. */
static size_t bounds(const gy_export *export, uint32_t family, uint8_t first[CODE_KEY_VERSION_BYTES],
                     uint8_t behind[CODE_KEY_VERSION_BYTES + 1])
{
    if (family != GY_FAMILY_CODES)
        return 0;
    gy_store_u32_be(first, export->codebook_version);
    gy_store_u32_be(behind, export->codebook_version);
    memset(behind + CODE_KEY_VERSION_BYTES, 0xff, 1); /* above every kind */
    return CODE_KEY_VERSION_BYTES;
}

/* A family's part of the piece, from behind a key on. */
static gyre_status read_family(const gy_export *export, uint32_t family, struct gy_slice after, struct piece *piece,
                               gyre_error *err)
{
    uint8_t first[CODE_KEY_VERSION_BYTES], behind[CODE_KEY_VERSION_BYTES + 1];
    size_t bounded = bounds(export, family, first, behind);
    rocksdb_readoptions_t *options = options_at(export);
    rocksdb_readoptions_set_readahead_size(options, READ_AHEAD_BYTES);
    if (bounded)
        rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)behind, sizeof behind);
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(export->store->db, options, export->store->families[family]);
    if (bounded && (!after.bytes || memcmp(after.data, first, after.bytes < bounded ? after.bytes : bounded) < 0))
        rocksdb_iter_seek(iterator, (const char *)first, bounded);
    else if (after.bytes)
        rocksdb_iter_seek(iterator, after.data, after.bytes);
    else
        rocksdb_iter_seek_to_first(iterator);
    gyre_status status = GYRE_OK;
    for (; status == GYRE_OK && !piece->full && rocksdb_iter_valid(iterator); rocksdb_iter_next(iterator)) {
        struct gy_slice key, value;
        key.data = rocksdb_iter_key(iterator, &key.bytes);
        value.data = rocksdb_iter_value(iterator, &value.bytes);
        bool again = after.bytes && key.bytes == after.bytes && memcmp(key.data, after.data, key.bytes) == 0;
        if (!again && (family != GY_FAMILY_META || gy_meta_is_state(key)))
            status = take(piece, family, key, value, err);
    }
    if (status == GYRE_OK) {
        char *complaint = NULL;
        rocksdb_iter_get_error(iterator, &complaint);
        status = gy_rocks_check(&complaint, err, gy_family_name((enum gy_family)family));
    }
    rocksdb_iter_destroy(iterator);
    rocksdb_readoptions_destroy(options);
    return status;
}

gyre_status gy_export_read(gy_export *export, uint32_t family, const void *after, size_t after_bytes, size_t bytes_max,
                           gy_on_row *visit, void *self, bool *done, gyre_error *err)
{
    struct piece piece = {.bytes_max = bytes_max, .visit = visit, .self = self};
    struct gy_slice from = {after, after_bytes};
    if (family >= GY_FAMILY_COUNT)
        return gyre_fail(err, GYRE_INVALID, "family is %u; there are %d", family, GY_FAMILY_COUNT);
    for (; family < GY_FAMILY_COUNT && !piece.full; family++, from = (struct gy_slice){0})
        if (exported(export, family))
            GY_TRY(read_family(export, family, from, &piece, err));
    *done = !piece.full;
    return GYRE_OK;
}
