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
                                               &export->state.digest, &export->state.codebook_version, err);
    if (status == GYRE_OK)
        status = gy_meta_read_range(store, options, &export->state.range, err);
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
    gy_store_u32_be(first, export->state.codebook_version);
    gy_store_u32_be(behind, export->state.codebook_version);
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

/* ---- points with their vectors ---- */

static rocksdb_iterator_t *walk_from(const gy_export *export, const rocksdb_readoptions_t *options, enum gy_family family,
                                     const uint8_t *id)
{
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(export->store->db, options, export->store->families[family]);
    if (id)
        rocksdb_iter_seek(iterator, (const char *)id, GYRE_ID_BYTES);
    else
        rocksdb_iter_seek_to_first(iterator);
    return iterator;
}

static gyre_status ended_well(const rocksdb_iterator_t *iterator, enum gy_family family, gyre_error *err)
{
    char *complaint = NULL;
    rocksdb_iter_get_error(iterator, &complaint);
    return gy_rocks_check(&complaint, err, gy_family_name(family));
}

/* Both families are walked side by side, by id. Where many points are known, stepping over their vectors would read what nobody
 * wants: behind a known point the vectors' iterator jumps. */
static gyre_status join(rocksdb_iterator_t *vectors, bool *behind, struct gy_export_point *point, gyre_error *err)
{
    if (*behind)
        rocksdb_iter_seek(vectors, (const char *)point->id, GYRE_ID_BYTES);
    else if (rocksdb_iter_valid(vectors))
        rocksdb_iter_next(vectors);
    *behind = false;
    if (!rocksdb_iter_valid(vectors))
        GY_TRY(ended_well(vectors, GY_FAMILY_VECTORS, err));
    size_t key_bytes = 0;
    const char *key = rocksdb_iter_valid(vectors) ? rocksdb_iter_key(vectors, &key_bytes) : NULL;
    if (!key || key_bytes != GYRE_ID_BYTES || memcmp(key, point->id, GYRE_ID_BYTES) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "a point of version %" PRIu64 " has no vector", gy_load_u64(point->value));
    point->vector = rocksdb_iter_value(vectors, &point->vector_bytes);
    return GYRE_OK;
}

/* The hashes that are wanted. */
struct wanted {
    struct gy_hash_range range;
    uint8_t key[GY_HASH_KEY_BYTES];
    bool all; /* there is nothing else */
};

static gyre_status find_wanted(const gy_export *export, struct gy_hash_range range, struct wanted *out, gyre_error *err)
{
    const struct gy_range_record *record = &export->state.range;
    *out = (struct wanted){.range = range.first == 0 && range.last == 0 ? record->owned : range};
    if (!gy_range_covers(record->content, out->range))
        return gyre_fail(err, GYRE_ABORTED, "the points asked for are no longer all of this shard: it was split");
    out->all = (!record->foreign && gy_range_covers(out->range, record->owned)) ||
               !gy_store_hash_key(export->store, record, out->key) || gy_range_is_all(out->range);
    return GYRE_OK;
}

static bool is_wanted(const struct wanted *wanted, const uint8_t *id)
{
    gyre_point_id copy;
    memcpy(copy.bytes, id, sizeof copy.bytes);
    return gy_range_has(wanted->range, gy_point_hash(wanted->key, &copy));
}

gyre_status gy_export_read_points(gy_export *export, const uint8_t *after, uint64_t since, struct gy_hash_range range,
                                  size_t bytes_max, gy_on_export_point *visit, void *self, bool *done, gyre_error *err)
{
    struct wanted wanted;
    if (export->without_vectors)
        return gyre_fail(err, GYRE_INVALID, "points are wanted of a copy without vectors");
    GY_TRY(find_wanted(export, range, &wanted, err));
    rocksdb_readoptions_t *options = options_at(export), *ahead = options_at(export);
    rocksdb_readoptions_set_readahead_size(ahead, READ_AHEAD_BYTES);
    rocksdb_iterator_t *points = walk_from(export, ahead, GY_FAMILY_POINTS, after),
                       *vectors = walk_from(export, since ? options : ahead, GY_FAMILY_VECTORS, after);
    gyre_status status = GYRE_OK;
    bool behind = true, full = false;
    for (size_t bytes = 0, count = 0; status == GYRE_OK && rocksdb_iter_valid(points); rocksdb_iter_next(points)) {
        size_t id_bytes;
        struct gy_export_point point = {0};
        point.id = (const uint8_t *)rocksdb_iter_key(points, &id_bytes);
        point.value = rocksdb_iter_value(points, &point.value_bytes);
        if (id_bytes != GYRE_ID_BYTES || point.value_bytes < sizeof(uint64_t)) {
            status = gyre_fail(err, GYRE_CORRUPT, "a point of %zu key and %zu value bytes", id_bytes, point.value_bytes);
            break;
        }
        if (after && memcmp(point.id, after, GYRE_ID_BYTES) == 0)
            continue;
        if (!wanted.all && !is_wanted(&wanted, point.id)) {
            behind = true;
            continue;
        }
        bool known = gy_load_u64(point.value) <= since;
        if (!known)
            status = join(vectors, &behind, &point, err);
        size_t point_bytes = GYRE_ID_BYTES + (known ? 0 : point.value_bytes + point.vector_bytes);
        full = count && point_bytes > bytes_max - bytes;
        if (status != GYRE_OK || full)
            break;
        behind |= known;
        bytes += point_bytes < bytes_max - bytes ? point_bytes : bytes_max - bytes;
        count++;
        status = visit(self, &point, err);
    }
    if (status == GYRE_OK && !full)
        status = ended_well(points, GY_FAMILY_POINTS, err);
    rocksdb_iter_destroy(vectors);
    rocksdb_iter_destroy(points);
    rocksdb_readoptions_destroy(ahead);
    rocksdb_readoptions_destroy(options);
    GY_TRY(status);
    *done = !full;
    return GYRE_OK;
}
