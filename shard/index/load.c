/* Loading: packed chunks first, then the rows written since, because that is their order as keys. Slots are dense: every chunk
 * up to the last has at least one record, so a hole means that something is lost. */
#include "index/state.h"

#include <inttypes.h>
#include <stdlib.h>

struct loading {
    gy_points *points;
    uint32_t version;
    struct gy_chunk **chunks; /* [count], NULL where nothing was read yet */
    uint64_t *covered;        /* [count] seq of the packed chunk */
    size_t count, room;
};

static gyre_status grow(struct loading *loading, size_t count, gyre_error *err)
{
    if (count <= loading->count)
        return GYRE_OK;
    if (count > loading->room) {
        size_t room = count + count / 2 + 16;
        struct gy_chunk **chunks = realloc(loading->chunks, room * sizeof *chunks);
        if (chunks)
            loading->chunks = chunks;
        uint64_t *covered = realloc(loading->covered, room * sizeof *covered);
        if (covered)
            loading->covered = covered;
        if (!chunks || !covered)
            return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu chunks", room);
        loading->room = room;
    }
    for (; loading->count < count; loading->count++)
        loading->chunks[loading->count] = NULL, loading->covered[loading->count] = 0;
    return GYRE_OK;
}

static gyre_status chunk_at(struct loading *loading, size_t number, struct gy_chunk **out, gyre_error *err)
{
    if (number >= GY_SLOT_COUNT_MAX / GY_CHUNK_ROWS)
        return gyre_fail(err, GYRE_CORRUPT, "chunk number %zu; the limit is %d", number, GY_SLOT_COUNT_MAX / GY_CHUNK_ROWS);
    GY_TRY(grow(loading, number + 1, err));
    if (!loading->chunks[number])
        loading->chunks[number] = gy_chunk_new(loading->points->dim);
    *out = loading->chunks[number];
    return *out ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "chunk %zu", number);
}

static gyre_status load_row(struct loading *loading, uint32_t slot, struct gy_slice value, gyre_error *err)
{
    uint32_t dim = loading->points->dim;
    struct gy_row_record row;
    struct gy_chunk *chunk;
    GY_TRY(gy_row_record_decode(value, dim, &row, err));
    GY_TRY(chunk_at(loading, slot / GY_CHUNK_ROWS, &chunk, err));
    if (row.seq <= loading->covered[slot / GY_CHUNK_ROWS])
        return GYRE_OK; /* the packed chunk has it already */
    if (row.held)
        gy_chunk_set(chunk, dim, slot % GY_CHUNK_ROWS, &row.id, row.row);
    else
        gy_chunk_clear(chunk, dim, slot % GY_CHUNK_ROWS);
    GY_TRY(gy_points_reserve_chunks(loading->points, slot / GY_CHUNK_ROWS + 1, err));
    loading->points->outstanding[slot / GY_CHUNK_ROWS]++;
    return GYRE_OK;
}

static gyre_status load_record(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct loading *loading = self;
    uint32_t version, number;
    enum gy_code_kind kind;
    GY_TRY(gy_code_key_decode(key, &version, &kind, &number, err));
    gyre_status status;
    if (kind == GY_CODE_ROW) {
        status = load_row(loading, number, value, err);
    } else {
        struct gy_chunk *chunk;
        status = chunk_at(loading, number, &chunk, err);
        if (status == GYRE_OK)
            status = gy_packed_decode(value, loading->points->dim, version, chunk, &loading->covered[number], err);
    }
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

/* ---- the index over what was loaded ---- */
static gyre_status index_slots(struct loading *loading, uint64_t *points_held, gyre_error *err)
{
    gy_points *points = loading->points;
    uint64_t held = 0;
    for (size_t c = 0; c < loading->count; c++) {
        if (!loading->chunks[c])
            return gyre_fail(err, GYRE_CORRUPT, "codes of codebook %u: chunk %zu of %zu is missing", loading->version, c, loading->count);
        held += loading->chunks[c]->held;
    }
    GY_TRY(gy_slots_reserve(&points->slots, loading->count * GY_CHUNK_ROWS, err));
    gy_slots_set_next(&points->slots, (uint32_t)(loading->count * GY_CHUNK_ROWS));
    for (size_t c = 0; c < loading->count; c++)
        for (size_t place = 0; place < GY_CHUNK_ROWS; place++) {
            uint32_t slot = (uint32_t)(c * GY_CHUNK_ROWS + place), other;
            const gyre_point_id *id = &loading->chunks[c]->ids[place];
            if (!gy_chunk_holds(loading->chunks[c], points->dim, place)) {
                gy_slots_set_free(&points->slots, slot);
                continue;
            }
            if (gy_slots_find(&points->slots, loading->chunks, id, &other)) {
                char text[GYRE_UUID_TEXT_BYTES];
                return gyre_fail(err, GYRE_CORRUPT, "point %s is in slots %u and %u", gyre_point_id_format(id, text), other, slot);
            }
            gy_slots_enter(&points->slots, id, slot);
        }
    *points_held = held;
    if (held != gy_store_point_count(points->store))
        return gyre_fail(err, GYRE_CORRUPT, "codes of %" PRIu64 " points; the replica holds %" PRIu64, held, gy_store_point_count(points->store));
    return GYRE_OK;
}

static gyre_status load(struct loading *loading, gyre_error *err)
{
    gy_points *points = loading->points;
    gyre_codebook *copy = NULL;
    struct gy_shared_codebook *codebook = NULL;
    GY_TRY(gy_codebook_copy(&copy, gy_store_codebook(points->store), err));
    GY_TRY(gy_shared_codebook_new(&codebook, copy, err));
    gy_snapshot *made = gy_snapshot_new(codebook, 0);
    gy_shared_codebook_release(codebook); /* the snapshot has its own */
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "snapshot");
    GY_AUTO(gy_snapshot) *empty = made;

    GY_TRY(delete_other_versions(points, loading->version, err));
    GY_TRY(gy_store_walk(points->store, GY_FAMILY_CODES, (struct gy_slice){0}, (struct gy_slice){0}, load_record, loading, err));
    uint64_t held = 0;
    GY_TRY(index_slots(loading, &held, err));
    GY_TRY(gy_points_reserve_chunks(points, loading->count, err));
    gy_snapshot *snapshot = gy_snapshot_new(empty->codebook, loading->count);
    if (!snapshot)
        return gyre_fail(err, GYRE_NO_MEMORY, "snapshot of %zu chunks", loading->count);
    if (loading->count)
        memcpy(snapshot->chunks, loading->chunks, loading->count * sizeof *loading->chunks);
    snapshot->count = loading->count;
    snapshot->points = held;
    snapshot->applied_seq = gy_store_applied_seq(points->store);
    loading->count = 0; /* the chunks are the snapshot's now */
    gy_points_publish(points, snapshot);
    return GYRE_OK;
}

gyre_status gy_points_load(gy_points *points, gyre_error *err)
{
    struct loading loading = {.points = points, .version = gyre_codebook_version(gy_store_codebook(points->store))};
    gyre_status status = load(&loading, err);
    for (size_t c = 0; c < loading.count; c++)
        gy_chunk_release(loading.chunks[c]);
    free(loading.chunks);
    free(loading.covered);
    return status;
}

gyre_status gy_points_reserve_chunks(gy_points *points, size_t chunks, gyre_error *err)
{
    if (chunks <= points->outstanding_room)
        return GYRE_OK;
    size_t room = chunks + chunks / 2 + 16;
    uint32_t *outstanding = realloc(points->outstanding, room * sizeof *outstanding);
    if (!outstanding)
        return gyre_fail(err, GYRE_NO_MEMORY, "counters of %zu chunks", room);
    memset(outstanding + points->outstanding_room, 0, (room - points->outstanding_room) * sizeof *outstanding);
    points->outstanding = outstanding;
    points->outstanding_room = room;
    return GYRE_OK;
}
