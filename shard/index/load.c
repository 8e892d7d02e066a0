/* Loading: packed chunks first, then the rows written since, then the lists of chunks, because that is their order as keys. A
 * chunk without a list or a list without a chunk, a point in two places or another number of points than the store counts mean
 * that something is lost. */
#include "index/record.h"
#include "index/sieve.h"
#include "index/state.h"

#include <inttypes.h>
#include <stdlib.h>

struct loading {
    gy_points *points;
    const struct gy_layout *layout;
    uint32_t version, lists;
    struct gy_chunk **chunks; /* [count]; NULL: free, or nothing was read yet */
    size_t count, room;
    gy_snapshot *snapshot;
};

static gyre_status grow(struct loading *loading, size_t count, gyre_error *err)
{
    if (count <= loading->count)
        return GYRE_OK;
    if (count > (size_t)GY_CHUNK_NUMBER_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "chunk number %zu; the limit is %d", count - 1, GY_CHUNK_NUMBER_MAX);
    if (count > loading->room) {
        size_t room = count + count / 2 + 16;
        struct gy_chunk **chunks = realloc(loading->chunks, room * sizeof(struct gy_chunk *));
        if (!chunks)
            return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu chunks", room);
        loading->chunks = chunks;
        loading->room = room;
    }
    while (loading->count < count)
        loading->chunks[loading->count++] = NULL;
    return GYRE_OK;
}

static gyre_status load_packed(struct loading *loading, uint32_t number, struct gy_slice value, gyre_error *err)
{
    GY_TRY(grow(loading, (size_t)number + 1, err));
    return gy_packed_decode(&loading->chunks[number], value, loading->layout, loading->version, err);
}

/* The chunk at number, made or grown so that it has place. */
static gyre_status chunk_with(struct loading *loading, size_t number, size_t place, struct gy_chunk **out, gyre_error *err)
{
    GY_TRY(grow(loading, number + 1, err));
    struct gy_chunk *chunk = loading->chunks[number];
    if (!chunk || chunk->capacity <= place) {
        struct gy_chunk *larger = chunk ? gy_chunk_copy(loading->layout, chunk, place + 1)
                                        : gy_chunk_new(loading->layout, 0, place + 1);
        if (!larger)
            return gyre_fail(err, GYRE_NO_MEMORY, "chunk %zu", number);
        gy_chunk_release(chunk);
        loading->chunks[number] = larger;
    }
    *out = loading->chunks[number];
    return GYRE_OK;
}

static gyre_status load_row(struct loading *loading, uint32_t slot, struct gy_slice value, gyre_error *err)
{
    struct gy_row_record row;
    struct gy_chunk *chunk = NULL;
    size_t place = slot % GY_CHUNK_ROWS;
    GY_TRY(gy_row_record_decode(value, loading->layout, &row, err));
    GY_TRY(chunk_with(loading, slot / GY_CHUNK_ROWS, place, &chunk, err));
    if (row.seq <= chunk->packed_seq)
        return GYRE_OK; /* the packed chunk has it already */
    if (row.held)
        gy_chunk_set(loading->layout, chunk, place, &row.id, row.row);
    else
        gy_chunk_clear(loading->layout, chunk, place);
    chunk->outstanding++;
    return GYRE_OK;
}

/* Lists come last: with its list the chunk is whole, and becomes the snapshot's. */
static gyre_status load_list(struct loading *loading, uint32_t number, struct gy_slice value, gyre_error *err)
{
    uint32_t list;
    GY_TRY(gy_list_decode(value, loading->lists, &list, err));
    if (number >= loading->count || !loading->chunks[number])
        return gyre_fail(err, GYRE_CORRUPT, "chunk of list %u has no rows", list);
    loading->chunks[number]->list = list;
    loading->chunks[number]->mirror = gy_segment_new(loading->points->vectors); /* or none */
    if (!gy_snapshot_add(loading->snapshot, number, loading->chunks[number]))
        return gyre_fail(err, GYRE_NO_MEMORY, "chunk of list %u", list);
    loading->chunks[number] = NULL;
    return GYRE_OK;
}

static gyre_status load_record(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct loading *loading = self;
    uint32_t version, number;
    enum gy_code_kind kind;
    GY_TRY(gy_code_key_decode(key, &version, &kind, &number, err));
    gyre_status status = kind == GY_CODE_PACKED ? load_packed(loading, number, value, err)
                                                : kind == GY_CODE_ROW  ? load_row(loading, number, value, err)
                                                                       : load_list(loading, number, value, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "codes of codebook %u, %s %u", version, kind == GY_CODE_ROW ? "slot" : "chunk", number);
    return GYRE_OK;
}

/* ---- what a re-encoding that did not finish left, or one that did ---- */
static gyre_status stop_at_first(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    (void)key, (void)value, (void)err;
    *(bool *)self = true;
    return GYRE_CANCELLED;
}

static gyre_status delete_between(gy_points *points, struct gy_slice from, struct gy_slice to, gyre_error *err)
{
    bool found = false;
    gyre_status status = gy_store_walk(points->store, GY_FAMILY_CODES, from, to, stop_at_first, &found, err);
    if (!found)
        return status;
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    gy_batch_delete_range(batch, points->store, GY_FAMILY_CODES, from, to);
    return gy_store_commit(points->store, batch, err);
}

static gyre_status delete_other_versions(gy_points *points, uint32_t version, gyre_error *err)
{
    uint8_t lowest[GY_CODE_KEY_BYTES] = {0}, first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES], highest[GY_CODE_KEY_BYTES + 1];
    gy_code_key(first, version, 0, 0);
    gy_code_key(behind, version, UINT8_MAX, UINT32_MAX);
    memset(highest, 0xff, sizeof highest);
    GY_TRY(delete_between(points, (struct gy_slice){lowest, sizeof lowest}, (struct gy_slice){first, sizeof first}, err));
    return delete_between(points, (struct gy_slice){behind, sizeof behind}, (struct gy_slice){highest, sizeof highest}, err);
}

static gyre_status load(struct loading *loading, gyre_error *err)
{
    gy_points *points = loading->points;
    GY_TRY(delete_other_versions(points, loading->version, err));
    GY_TRY(gy_store_walk(points->store, GY_FAMILY_CODES, (struct gy_slice){0}, (struct gy_slice){0}, load_record, loading, err));
    for (size_t c = 0; c < loading->count; c++)
        if (loading->chunks[c])
            return gyre_fail(err, GYRE_CORRUPT, "codes of codebook %u: the list of chunk %zu is missing", loading->version, c);
    uint64_t held = loading->snapshot->points, counted = gy_store_point_count(points->store);
    GY_TRY(gy_places_index(&points->places, loading->snapshot, err));
    if (held != counted)
        return gyre_fail(err, GYRE_CORRUPT, "codes of %" PRIu64 " points; the replica holds %" PRIu64, held, counted);
    loading->snapshot->applied_seq = gy_store_applied_seq(points->store);
    gy_store_digest(points->store, &loading->snapshot->digest);
    gy_store_range(points->store, &loading->snapshot->owning.record);
    if (loading->snapshot->owning.record.foreign)
        gy_snapshot_count_foreign(loading->snapshot);
    atomic_store(&points->table_bytes, gy_places_bytes(&points->places));
    gy_compaction_ask_all(points, loading->snapshot);
    gy_points_publish(points, GY_TAKE(loading->snapshot));
    return GYRE_OK;
}

gyre_status gy_points_load(gy_points *points, gyre_error *err)
{
    gyre_codebook *copy = NULL;
    struct gy_shared_codebook *codebook = NULL;
    GY_TRY(gy_codebook_copy(&copy, gy_store_codebook(points->store), err));
    GY_TRY(gy_shared_codebook_new(&codebook, gy_store_codec(points->store), copy, err));
    struct loading loading = {
        .points = points,
        .layout = &codebook->layout,
        .version = gyre_codebook_version(copy),
        .lists = gyre_codebook_lists(copy),
        .snapshot = gy_snapshot_new(codebook),
    };
    gyre_status status = loading.snapshot ? load(&loading, err) : gyre_fail(err, GYRE_NO_MEMORY, "snapshot");
    for (size_t c = 0; c < loading.count; c++)
        gy_chunk_release(loading.chunks[c]);
    free(loading.chunks);
    gy_snapshot_release(loading.snapshot);
    gy_shared_codebook_release(codebook); /* the snapshot has its own reference */
    return status;
}
