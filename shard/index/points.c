/* Opening, and the one path by which committed operations reach RAM and disk.
 *
 * Apply: encode → find or take slots → change copies of the chunks → one batch {points, vectors, codes, applied seq} → publish.
 * A failure before the publish leaves every reader with the state before; the points are then broken, because slots were
 * given out already, and refuse further batches: the replica stops and is opened anew. */
#include "index/state.h"
#include "store/disk.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

gyre_status gy_points_open(gy_points **out, gy_store *store, gyre_error *err)
{
    assert(gy_replica_row_bytes(GYRE_DIM_MAX) <= GY_ROW_BYTES_MAX);
    const gyre_codebook *codebook = gy_store_codebook(store);
    gy_points *points = calloc(1, sizeof *points);
    if (!points)
        return gyre_fail(err, GYRE_NO_MEMORY, "points");
    points->store = store;
    points->dim = gyre_codebook_dim(codebook);
    points->metric = gyre_codebook_metric(codebook);
    points->target_version = gyre_codebook_version(codebook);
    points->disk_free_min = GY_DISK_FLOOR_BYTES;
    pthread_mutex_init(&points->apply_mu, NULL);
    pthread_mutex_init(&points->mu, NULL);
    pthread_cond_init(&points->wake, NULL);
    gy_slots_init(&points->slots);
    gyre_status status = gy_points_load(points, err);
    if (status == GYRE_OK && pthread_create(&points->encoder, NULL, gy_points_encoder, points) != 0)
        status = gyre_fail(err, GYRE_EXHAUSTED, "thread for re-encoding cannot be started");
    if (status != GYRE_OK) {
        points->closing = true; /* no thread to wait for */
        gy_points_close(points);
        return status;
    }
    *out = points;
    return GYRE_OK;
}

void gy_points_close(gy_points *points)
{
    if (!points)
        return;
    pthread_mutex_lock(&points->mu);
    bool running = !points->closing;
    points->closing = true;
    pthread_cond_signal(&points->wake);
    pthread_mutex_unlock(&points->mu);
    if (running)
        pthread_join(points->encoder, NULL);
    gy_snapshot_release(points->current);
    gyre_codebook_free(points->target);
    gy_slots_fini(&points->slots);
    free(points->outstanding);
    free(points->dirty.slots);
    pthread_cond_destroy(&points->wake);
    pthread_mutex_destroy(&points->mu);
    pthread_mutex_destroy(&points->apply_mu);
    free(points);
}

void gy_points_publish(gy_points *points, gy_snapshot *snapshot)
{
    pthread_mutex_lock(&points->mu);
    gy_snapshot *old = points->current;
    points->current = snapshot;
    pthread_mutex_unlock(&points->mu);
    gy_snapshot_release(old); /* may free many chunks: not under the lock */
}

gy_snapshot *gy_points_snapshot(gy_points *points)
{
    pthread_mutex_lock(&points->mu);
    gy_snapshot *snapshot = gy_snapshot_hold(points->current);
    pthread_mutex_unlock(&points->mu);
    return snapshot;
}

gyre_status gy_dirty_reserve(struct gy_dirty *dirty, size_t more, gyre_error *err)
{
    if (dirty->count + more <= dirty->room)
        return GYRE_OK;
    size_t room = (dirty->count + more) * 2;
    uint32_t *slots = realloc(dirty->slots, room * sizeof *slots);
    if (!slots)
        return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu changed slots", room);
    dirty->slots = slots;
    dirty->room = room;
    return GYRE_OK;
}

void gy_points_pack(gy_points *points, gy_batch *batch, const struct gy_chunk *chunk, size_t number, uint32_t codebook_version, uint64_t seq,
                    bool has_rows, uint8_t *scratch)
{
    uint8_t key[GY_CODE_KEY_BYTES], first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    gy_packed_encode(scratch, chunk, points->dim, codebook_version, seq);
    gy_code_key(key, codebook_version, GY_CODE_PACKED, (uint32_t)number);
    gy_batch_put(batch, points->store, GY_FAMILY_CODES, (struct gy_slice){key, sizeof key},
                 (struct gy_slice){scratch, gy_packed_bytes(points->dim)});
    if (!has_rows)
        return;
    gy_code_key(first, codebook_version, GY_CODE_ROW, (uint32_t)(number * GY_CHUNK_ROWS));
    gy_code_key(behind, codebook_version, GY_CODE_ROW, (uint32_t)((number + 1) * GY_CHUNK_ROWS));
    gy_batch_delete_range(batch, points->store, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first}, (struct gy_slice){behind, sizeof behind});
}

/* ---- apply ---- */
struct touch {
    uint32_t slot;
    uint64_t seq;
};

struct applying {
    gy_points *points;
    gy_snapshot *next;
    gy_batch *batch;
    struct touch *touched; /* [count] */
    size_t touched_count;
    uint8_t *rows;         /* [count][row_bytes] codes of the upserts */
    uint8_t *scratch;      /* [gy_packed_bytes] */
    uint64_t applied_seq;
};

static void applying_fini(struct applying *applying)
{
    gy_snapshot_release(applying->next);
    gy_batch_free(applying->batch);
    free(applying->touched);
    free(applying->rows);
    free(applying->scratch);
}

/* Everything that can fail for want of memory or for a bad vector, before anything is changed. */
static gyre_status prepare(struct applying *applying, const struct gy_operation *operations, size_t count, gyre_error *err)
{
    gy_points *points = applying->points;
    gy_snapshot *current = points->current; /* only this thread and the re-encoder, which holds apply_mu, replace it */
    size_t row_bytes = gy_replica_row_bytes(points->dim);
    GY_TRY(gy_slots_reserve(&points->slots, count, err));
    size_t chunks = ((size_t)points->slots.next + count) / GY_CHUNK_ROWS + 1;
    GY_TRY(gy_points_reserve_chunks(points, chunks, err));
    GY_TRY(gy_dirty_reserve(&points->dirty, points->tracking ? count : 0, err));
    applying->next = gy_snapshot_copy(current, chunks);
    applying->batch = gy_batch_new();
    applying->touched = malloc((count + 1) * sizeof *applying->touched);
    applying->rows = malloc((count + 1) * row_bytes);
    applying->scratch = malloc(gy_packed_bytes(points->dim));
    if (!applying->next || !applying->touched || !applying->rows || !applying->scratch)
        return gyre_fail(err, GYRE_NO_MEMORY, "batch of %zu operations", count);
    for (size_t i = 0; i < count; i++)
        if (operations[i].vector)
            GY_TRY(gyre_quantizer_encode(current->codebook->quantizer, operations[i].vector, 1, i, applying->rows + i * row_bytes, err));
    return GYRE_OK;
}

static gyre_status touch(struct applying *applying, uint32_t slot, uint64_t seq, struct gy_chunk **chunk, gyre_error *err)
{
    *chunk = gy_snapshot_own(applying->next, applying->points->dim, slot / GY_CHUNK_ROWS);
    if (!*chunk)
        return gyre_fail(err, GYRE_NO_MEMORY, "chunk %u", slot / GY_CHUNK_ROWS);
    applying->touched[applying->touched_count++] = (struct touch){slot, seq};
    return GYRE_OK;
}

static gyre_status upsert(struct applying *applying, const struct gy_operation *operation, const uint8_t *row, uint64_t version, gyre_error *err)
{
    gy_points *points = applying->points;
    uint32_t slot;
    bool known = gy_slots_find(&points->slots, applying->next->chunks, &operation->id, &slot);
    if (!known)
        slot = gy_slots_take(&points->slots);
    struct gy_chunk *chunk;
    GY_TRY(touch(applying, slot, version, &chunk, err));
    gy_chunk_set(chunk, points->dim, slot % GY_CHUNK_ROWS, &operation->id, row);
    if (!known) {
        gy_slots_enter(&points->slots, &operation->id, slot);
        applying->next->points++;
    }
    uint8_t header[GY_POINT_HEADER_BYTES];
    gy_store_u64(header, version);
    const char *payload = operation->payload ? operation->payload : "";
    struct gy_slice id = {&operation->id, sizeof operation->id}, pieces[] = {{header, sizeof header}, {payload, strlen(payload)}};
    gy_batch_put_pieces(applying->batch, points->store, GY_FAMILY_POINTS, id, pieces, 2);
    gy_batch_put(applying->batch, points->store, GY_FAMILY_VECTORS, id, (struct gy_slice){operation->vector, points->dim * sizeof(float)});
    return GYRE_OK;
}

static gyre_status delete(struct applying *applying, const gyre_point_id *id, uint64_t version, bool *deleted, gyre_error *err)
{
    gy_points *points = applying->points;
    uint32_t slot;
    *deleted = gy_slots_find(&points->slots, applying->next->chunks, id, &slot);
    if (!*deleted)
        return GYRE_OK;
    struct gy_chunk *chunk;
    GY_TRY(touch(applying, slot, version, &chunk, err));
    gy_slots_remove(&points->slots, id, slot);
    gy_chunk_clear(chunk, points->dim, slot % GY_CHUNK_ROWS);
    applying->next->points--;
    gy_batch_delete(applying->batch, points->store, GY_FAMILY_POINTS, (struct gy_slice){id, sizeof *id});
    gy_batch_delete(applying->batch, points->store, GY_FAMILY_VECTORS, (struct gy_slice){id, sizeof *id});
    return GYRE_OK;
}

static void put_row(struct applying *applying, const struct touch *touched, uint32_t codebook_version)
{
    gy_points *points = applying->points;
    const struct gy_chunk *chunk = applying->next->chunks[touched->slot / GY_CHUNK_ROWS];
    size_t place = touched->slot % GY_CHUNK_ROWS;
    uint8_t key[GY_CODE_KEY_BYTES], row[GY_ROW_BYTES_MAX], record[GY_ROW_BYTES_MAX + 64];
    const gyre_point_id *id = gy_chunk_holds(chunk, points->dim, place) ? &chunk->ids[place] : NULL;
    if (id)
        gy_chunk_row(chunk, points->dim, place, row);
    gy_code_key(key, codebook_version, GY_CODE_ROW, touched->slot);
    size_t bytes = gy_row_record_encode(record, touched->seq, id, row, points->dim);
    gy_batch_put(applying->batch, points->store, GY_FAMILY_CODES, (struct gy_slice){key, sizeof key}, (struct gy_slice){record, bytes});
}

/* Writes each touched place as a row, or its whole chunk if that has many. */
static void put_codes(struct applying *applying)
{
    enum { PACKED_NOW = UINT32_MAX };
    gy_points *points = applying->points;
    uint32_t version = gyre_codebook_version(applying->next->codebook->codebook), *outstanding = points->outstanding;
    for (size_t i = 0; i < applying->touched_count; i++)
        outstanding[applying->touched[i].slot / GY_CHUNK_ROWS]++;
    for (size_t i = 0; i < applying->touched_count; i++) {
        uint32_t c = applying->touched[i].slot / GY_CHUNK_ROWS;
        if (outstanding[c] == PACKED_NOW)
            continue;
        if (outstanding[c] < GY_PACK_ROWS) {
            put_row(applying, &applying->touched[i], version);
            continue;
        }
        gy_points_pack(points, applying->batch, applying->next->chunks[c], c, version, applying->applied_seq, true, applying->scratch);
        outstanding[c] = PACKED_NOW;
    }
    for (size_t i = 0; i < applying->touched_count; i++) {
        uint32_t c = applying->touched[i].slot / GY_CHUNK_ROWS;
        if (outstanding[c] == PACKED_NOW)
            outstanding[c] = 0;
    }
}

static gyre_status apply(struct applying *applying, const struct gy_operation *operations, const uint64_t *versions, size_t count,
                         bool *deleted, gyre_error *err)
{
    gy_points *points = applying->points;
    size_t row_bytes = gy_replica_row_bytes(points->dim);
    for (size_t i = 0; i < count; i++) {
        deleted[i] = false;
        if (operations[i].vector)
            GY_TRY(upsert(applying, &operations[i], applying->rows + i * row_bytes, versions[i], err));
        else
            GY_TRY(delete(applying, &operations[i].id, versions[i], &deleted[i], err));
    }
    put_codes(applying);
    applying->next->applied_seq = applying->applied_seq;
    GY_TRY(gy_store_commit_applied(points->store, applying->batch, applying->applied_seq, applying->next->points, err));
    if (points->tracking)
        for (size_t i = 0; i < applying->touched_count; i++)
            points->dirty.slots[points->dirty.count++] = applying->touched[i].slot;
    return GYRE_OK;
}

gyre_status gy_points_apply(gy_points *points, const struct gy_operation *operations, const uint64_t *versions, size_t count,
                            uint64_t applied_seq, bool *deleted, gyre_error *err)
{
    struct applying applying = {.points = points, .applied_seq = applied_seq};
    pthread_mutex_lock(&points->apply_mu);
    gyre_status status = points->broken ? gyre_fail(err, GYRE_PRECONDITION, "an earlier batch failed; the replica must be opened anew")
                                        : prepare(&applying, operations, count, err);
    if (status == GYRE_OK) {
        status = apply(&applying, operations, versions, count, deleted, err);
        points->broken = status != GYRE_OK;
        if (status == GYRE_OK)
            gy_points_publish(points, GY_TAKE(applying.next));
    }
    pthread_mutex_unlock(&points->apply_mu);
    applying_fini(&applying);
    return status;
}

gyre_status gy_points_flush(gy_points *points, gyre_error *err)
{
    return gy_store_flush(points->store, err);
}

/* ---- facts ---- */
uint64_t gy_points_count(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return snapshot->points;
}

uint64_t gy_points_applied_seq(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return snapshot->applied_seq;
}

uint32_t gy_points_codebook_version(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return gyre_codebook_version(snapshot->codebook->codebook);
}

uint64_t gy_points_ram_bytes(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return snapshot->count * (uint64_t)gy_chunk_bytes(points->dim);
}

uint32_t gy_points_dim(gy_points *points)
{
    return points->dim;
}

gyre_metric gy_points_metric(gy_points *points)
{
    return points->metric;
}
