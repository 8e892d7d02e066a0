/* The one path by which committed operations reach RAM and disk.
 *
 * prepare: memory, lists and rows of all upserts, before anything changes → upsert, delete: holes made, rows appended, in copies
 * of the chunks → put_codes → one batch {points, vectors, codes, applied seq} → publish.
 * The digest follows: what an operation replaces is taken out of it, what it brings is added. What a place held is known in RAM but
 * for version, payload and a vector that is not mirrored: those are read together, before the batch is written.
 * A failure before the publish leaves every reader with the state before; the points are then broken, because places were given
 * out already, and refuse further batches: the replica stops and is opened anew. */
#include "index/codes.h"
#include "index/digest.h"
#include "index/encode.h"
#include "index/sieve.h"
#include "index/state.h"

#include <inttypes.h>
#include <stdlib.h>

struct touch {
    uint32_t slot;
    uint64_t seq;
};

/* An upsert of the batch: in its order. */
struct upserted {
    const struct gy_operation *operation;
    uint64_t version;
    uint32_t slot;
};

/* Which upsert of the batch put a slot: open addressing. */
struct put_table {
    uint32_t *upserts; /* [mask + 1] index + 1; 0: empty */
    uint32_t mask;
};

struct applying {
    gy_points *points;
    gy_snapshot *next;
    gy_batch *batch;
    struct gy_codes codes;
    struct touch *touched; /* [2 · count]: an overwrite changes two places */
    size_t touched_count;
    const float **vectors; /* [count] of the upserts, in their order */
    uint32_t *lists;       /* [count] of these */
    uint8_t *rows;         /* [count][row_bytes] of these */
    struct upserted *upserted; /* [count] */
    size_t upserted_count;
    struct put_table put;
    gyre_point_id *old_points, *old_vectors; /* [count] replaced, and not in RAM */
    size_t old_point_count, old_vector_count;
    uint64_t applied_seq;
    const struct gy_range_record *range; /* that holds after it; NULL: as before */
    bool forgets;                        /* deletes what is not owned, and only that */
};

static void applying_fini(struct applying *applying)
{
    gy_snapshot_release(applying->next);
    gy_codes_fini(&applying->codes);
    gy_batch_free(applying->batch);
    free(applying->touched);
    free(applying->vectors);
    free(applying->lists);
    free(applying->rows);
    free(applying->upserted);
    free(applying->put.upserts);
    free(applying->old_points);
    free(applying->old_vectors);
}

/* ---- digest ---- */
static bool put_table_init(struct put_table *table, size_t count)
{
    size_t places = 16;
    while (places < 2 * count)
        places *= 2;
    table->mask = (uint32_t)(places - 1);
    table->upserts = calloc(places, sizeof *table->upserts);
    return table->upserts;
}

/* Where the slot's upsert is, or the empty place for it. */
static uint32_t *put_table_at(const struct applying *applying, uint32_t slot)
{
    uint32_t at = slot * UINT32_C(2654435769) & applying->put.mask;
    while (applying->put.upserts[at] && applying->upserted[applying->put.upserts[at] - 1].slot != slot)
        at = (at + 1) & applying->put.mask;
    return &applying->put.upserts[at];
}

/* What upsert u brings. */
static void sum_upsert(const struct applying *applying, size_t u, struct gy_digest *out)
{
    const struct gy_points *points = applying->points;
    const struct upserted *upserted = &applying->upserted[u];
    const struct gy_operation *operation = upserted->operation;
    size_t row_bytes = applying->next->codebook->layout.row_bytes;
    const char *payload = operation->payload ? operation->payload : "";
    *out = (struct gy_digest){
        .points = gy_point_sum(&operation->id, upserted->version, payload, strlen(payload)),
        .codes = gy_code_sum(&operation->id, applying->lists[u], applying->rows + u * row_bytes, row_bytes),
    };
    if (!points->quantized)
        out->vectors = gy_vector_sum(&operation->id, operation->vector, points->dim);
}

static void digest_add(struct gy_digest *digest, const struct gy_digest *more)
{
    gy_sum_add(&digest->points, more->points);
    gy_sum_add(&digest->codes, more->codes);
    gy_sum_add(&digest->vectors, more->vectors);
}

static void digest_subtract(struct gy_digest *digest, const struct gy_digest *less)
{
    gy_sum_subtract(&digest->points, less->points);
    gy_sum_subtract(&digest->codes, less->codes);
    gy_sum_subtract(&digest->vectors, less->vectors);
}

/* Takes what a slot holds out of the digest, or notes what has to be read for that. A slot is put once, so the batch's own are in
 * its table. */
static void take_out(struct applying *applying, const gyre_point_id *id, uint32_t slot)
{
    gy_points *points = applying->points;
    struct gy_digest *digest = &applying->next->digest, gone;
    const struct gy_layout *layout = &applying->next->codebook->layout;
    uint32_t upsert = *put_table_at(applying, slot);
    if (upsert) {
        sum_upsert(applying, upsert - 1, &gone);
        digest_subtract(digest, &gone);
        return;
    }
    const struct gy_chunk *chunk = gy_snapshot_at(applying->next, slot / GY_CHUNK_ROWS);
    uint8_t row[GY_ROW_BYTES_MAX];
    gy_chunk_row(layout, chunk, slot % GY_CHUNK_ROWS, row);
    gy_sum_subtract(&digest->codes, gy_code_sum(id, chunk->list, row, layout->row_bytes));
    applying->old_points[applying->old_point_count++] = *id;
    if (points->quantized)
        return;
    const float *vector = gy_segment_row(chunk->mirror, slot % GY_CHUNK_ROWS);
    if (vector)
        gy_sum_subtract(&digest->vectors, gy_vector_sum(id, vector, points->dim));
    else
        applying->old_vectors[applying->old_vector_count++] = *id;
}

static gyre_status is_missing(const gyre_point_id *id, const char *what, gyre_error *err)
{
    char text[GYRE_UUID_TEXT_BYTES];
    return gyre_fail(err, GYRE_CORRUPT, "point %s: its %s is missing on disk", gyre_point_id_format(id, text), what);
}

static gyre_status take_out_point(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct applying *applying = self;
    const gyre_point_id *id = &applying->old_points[i];
    uint64_t version;
    struct gy_slice payload;
    if (!value.data)
        return is_missing(id, "record", err);
    GY_TRY(gy_point_decode(value, &version, &payload, err));
    gy_sum_subtract(&applying->next->digest.points, gy_point_sum(id, version, payload.data, payload.bytes));
    return GYRE_OK;
}

static gyre_status take_out_vector(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct applying *applying = self;
    const gyre_point_id *id = &applying->old_vectors[i];
    uint32_t dim = applying->points->dim;
    float vector[GYRE_DIM_MAX];
    if (!value.data)
        return is_missing(id, "vector", err);
    GY_TRY(gy_vector_decode(value, dim, vector, err));
    gy_sum_subtract(&applying->next->digest.vectors, gy_vector_sum(id, vector, dim));
    return GYRE_OK;
}

static gyre_status digest_finish(struct applying *applying, gyre_error *err)
{
    gy_store *store = applying->points->store;
    GY_TRY(gy_store_get_many(store, NULL, GY_FAMILY_POINTS, applying->old_points, sizeof *applying->old_points,
                             applying->old_point_count, false, take_out_point, applying, err));
    return gy_store_get_many(store, NULL, GY_FAMILY_VECTORS, applying->old_vectors, sizeof *applying->old_vectors,
                             applying->old_vector_count, false, take_out_vector, applying, err);
}

/* ---- preparing ---- */

static bool upserts(const struct gy_operation *operation)
{
    return operation->vector || operation->row;
}

/* Lists and rows that came ready made: from another node, so they are looked at. */
static gyre_status take_rows(struct applying *applying, const struct gy_operation *operations, size_t count, gyre_error *err)
{
    const struct gy_shared_codebook *codebook = applying->points->current->codebook;
    const struct gy_layout *layout = &codebook->layout;
    uint32_t version = gyre_codebook_version(codebook->codebook), lists = gyre_codebook_lists(codebook->codebook);
    for (size_t i = 0, u = 0; i < count; i++) {
        const struct gy_operation *operation = &operations[i];
        if (!operation->row)
            continue;
        if (operation->codebook_version != version)
            return gyre_fail(err, GYRE_PRECONDITION, "operation %zu has a row of codebook %u; the codes here are in %u", i,
                             operation->codebook_version, version);
        if (operation->list >= lists)
            return gyre_fail(err, GYRE_INVALID, "operation %zu: list %u; the codebook has %u", i, operation->list, lists);
        gyre_status status = gyre_codec_list_row_check(layout->codec, layout->dim, operation->row, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, GYRE_INVALID, "operation %zu: row", i);
        applying->lists[u] = operation->list;
        memcpy(applying->rows + u++ * layout->row_bytes, operation->row, layout->row_bytes);
    }
    return GYRE_OK;
}

/* The list and the row of every upsert. */
static gyre_status encode(struct applying *applying, const struct gy_operation *operations, size_t count, gyre_error *err)
{
    gy_points *points = applying->points;
    size_t vectors = 0;
    for (size_t i = 0; i < count; i++) {
        if (points->quantized ? operations[i].vector != NULL : operations[i].row != NULL)
            return gyre_fail(err, GYRE_INVALID, "operation %zu has a %s; the replica is %s", i,
                             points->quantized ? "vector" : "row of a code", points->quantized ? "quantized" : "full");
        if (operations[i].vector)
            applying->vectors[vectors++] = operations[i].vector;
    }
    if (points->quantized)
        return take_rows(applying, operations, count, err);
    return gy_encode(points->current->codebook, applying->vectors, vectors, applying->lists, applying->rows, err);
}

/* What is not owned only goes: what is foreign is counted once, when it becomes so. */
static gyre_status check_owned(const struct applying *applying, const struct gy_operation *operations, size_t count,
                               gyre_error *err)
{
    const gy_snapshot *current = applying->points->current;
    for (size_t i = 0; i < count && !gy_range_is_all(current->owning.record.owned); i++)
        if (gy_snapshot_owns(current, &operations[i].id) == applying->forgets)
            return gyre_fail(err, GYRE_INVALID, "operation %zu is on a point that is %s", i,
                             applying->forgets ? "owned" : "not of this shard");
    return GYRE_OK;
}

/* Everything that can fail for want of much memory or for a bad vector, before anything is changed. */
static gyre_status prepare(struct applying *applying, const struct gy_operation *operations, size_t count, gyre_error *err)
{
    gy_points *points = applying->points;
    gy_snapshot *current = points->current; /* only who holds apply_mu replaces it */
    size_t row_bytes = current->codebook->layout.row_bytes;
    GY_TRY(check_owned(applying, operations, count, err));
    GY_TRY(gy_places_reserve(&points->places, current, count, err));
    GY_TRY(gy_dirty_reserve(&points->dirty, points->tracking ? count : 0, err));
    applying->next = gy_snapshot_copy(current);
    applying->batch = gy_batch_new();
    applying->touched = malloc((2 * count + 1) * sizeof *applying->touched);
    applying->vectors = malloc((count + 1) * sizeof *applying->vectors);
    applying->lists = malloc((count + 1) * sizeof *applying->lists);
    applying->rows = malloc((count + 1) * row_bytes);
    applying->upserted = malloc((count + 1) * sizeof *applying->upserted);
    applying->old_points = malloc((count + 1) * sizeof *applying->old_points);
    applying->old_vectors = malloc((count + 1) * sizeof *applying->old_vectors);
    if (!applying->next || !applying->touched || !applying->vectors || !applying->lists || !applying->rows ||
        !applying->upserted || !applying->old_points || !applying->old_vectors || !put_table_init(&applying->put, count))
        return gyre_fail(err, GYRE_NO_MEMORY, "batch of %zu operations", count);
    GY_TRY(gy_codes_init(&applying->codes, points->store, applying->batch, current->codebook, err));
    return encode(applying, operations, count, err);
}

static gyre_status remove_point(struct applying *applying, const gyre_point_id *id, uint64_t version, bool *found,
                                gyre_error *err)
{
    gy_points *points = applying->points;
    uint32_t slot;
    *found = gy_places_find(&points->places, applying->next, id, &slot);
    if (!*found)
        return GYRE_OK;
    take_out(applying, id, slot);
    GY_TRY(gy_places_remove(&points->places, applying->next, id, slot, err));
    applying->touched[applying->touched_count++] = (struct touch){slot, version};
    return GYRE_OK;
}

static gyre_status upsert(struct applying *applying, const struct gy_operation *operation, uint64_t version, gyre_error *err)
{
    gy_points *points = applying->points;
    size_t u = applying->upserted_count;
    const uint8_t *code = applying->rows + u * applying->next->codebook->layout.row_bytes;
    struct gy_digest brought;
    uint32_t slot;
    bool known;
    GY_TRY(remove_point(applying, &operation->id, version, &known, err));
    GY_TRY(gy_places_put(&points->places, applying->next, applying->lists[u], &operation->id, code, &slot, err));
    applying->upserted[u] = (struct upserted){operation, version, slot};
    *put_table_at(applying, slot) = (uint32_t)++applying->upserted_count;
    sum_upsert(applying, u, &brought);
    digest_add(&applying->next->digest, &brought);
    applying->touched[applying->touched_count++] = (struct touch){slot, version};
    gy_segment_put(gy_snapshot_at(applying->next, slot / GY_CHUNK_ROWS)->mirror, slot % GY_CHUNK_ROWS, operation->vector);
    uint8_t header[GY_POINT_HEADER_BYTES];
    gy_store_u64(header, version);
    const char *payload = operation->payload ? operation->payload : "";
    struct gy_slice id = {&operation->id, sizeof operation->id}, pieces[] = {{header, sizeof header}, {payload, strlen(payload)}};
    gy_batch_put_pieces(applying->batch, points->store, GY_FAMILY_POINTS, id, pieces, 2);
    if (!points->quantized)
        gy_batch_put(applying->batch, points->store, GY_FAMILY_VECTORS, id,
                     (struct gy_slice){operation->vector, points->dim * sizeof(float)});
    return GYRE_OK;
}

static gyre_status delete(struct applying *applying, const gyre_point_id *id, uint64_t version, bool *deleted, gyre_error *err)
{
    gy_points *points = applying->points;
    GY_TRY(remove_point(applying, id, version, deleted, err));
    if (!*deleted)
        return GYRE_OK;
    gy_batch_delete(applying->batch, points->store, GY_FAMILY_POINTS, (struct gy_slice){id, sizeof *id});
    if (!points->quantized)
        gy_batch_delete(applying->batch, points->store, GY_FAMILY_VECTORS, (struct gy_slice){id, sizeof *id});
    return GYRE_OK;
}

static int by_slot(const void *a, const void *b)
{
    const struct touch *x = a, *y = b;
    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* The touched places of one chunk: as rows, or the whole chunk if that has many; an empty chunk goes. */
static gyre_status put_chunk(struct applying *applying, const struct touch *touched, size_t count, gyre_error *err)
{
    uint32_t number = touched->slot / GY_CHUNK_ROWS;
    struct gy_chunk *chunk = gy_snapshot_own(applying->next, number, 0);
    if (!chunk)
        return gyre_fail(err, GYRE_NO_MEMORY, "chunk %u", number);
    if (!chunk->held) {
        gy_codes_delete(&applying->codes, chunk, number);
        return gy_places_drop(&applying->points->places, applying->next, number, err);
    }
    gy_compaction_ask(applying->points, chunk, number);
    if (chunk->outstanding + count >= GY_PACK_ROWS) {
        gy_codes_pack(&applying->codes, chunk, number, applying->applied_seq);
        return GYRE_OK;
    }
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || touched[i + 1].slot != touched[i].slot) /* the last word on the place */
            gy_codes_row(&applying->codes, chunk, touched[i].slot, touched[i].seq);
    return GYRE_OK;
}

static gyre_status put_codes(struct applying *applying, gyre_error *err)
{
    struct touch *touched = applying->touched;
    size_t count = applying->touched_count;
    qsort(touched, count, sizeof *touched, by_slot);
    for (size_t from = 0, to; from < count; from = to) {
        for (to = from + 1; to < count && touched[to].slot / GY_CHUNK_ROWS == touched[from].slot / GY_CHUNK_ROWS;)
            to++;
        GY_TRY(put_chunk(applying, touched + from, to - from, err));
    }
    return GYRE_OK;
}

static void put_requests(struct applying *applying, struct gy_request_changes *requests, const uint64_t *versions, size_t count,
                         const bool *deleted)
{
    size_t i = 0;
    for (size_t r = 0; r < requests->noted_count; r++) {
        struct gy_request *request = &requests->noted[r];
        for (request->deleted = 0; i < count && versions[i] <= request->seq; i++)
            request->deleted += versions[i] == request->seq && deleted[i];
    }
    gy_batch_put_requests(applying->batch, applying->points->store, requests);
}

/* What is owned from now on, and how much of what is there is not. */
static void put_range(struct applying *applying)
{
    struct gy_owning *owning = &applying->next->owning;
    if (!applying->range)
        return;
    owning->record = *applying->range;
    if (!applying->forgets) {
        gy_snapshot_count_foreign(applying->next);
        return;
    }
    owning->foreign -= applying->points->current->points - applying->next->points;
    owning->beyond = owning->foreign; /* content is owned */
    owning->record.foreign = owning->foreign > 0;
}

static gyre_status apply(struct applying *applying, const struct gy_operation *operations, const uint64_t *versions, size_t count,
                         struct gy_request_changes *requests, bool *deleted, gyre_error *err)
{
    gy_points *points = applying->points;
    for (size_t i = 0; i < count; i++) {
        deleted[i] = false;
        if (upserts(&operations[i]))
            GY_TRY(upsert(applying, &operations[i], versions[i], err));
        else
            GY_TRY(delete(applying, &operations[i].id, versions[i], &deleted[i], err));
    }
    GY_TRY(digest_finish(applying, err));
    GY_TRY(put_codes(applying, err));
    if (requests)
        put_requests(applying, requests, versions, count, deleted);
    put_range(applying);
    applying->next->applied_seq = applying->applied_seq;
    GY_TRY(gy_store_commit_applied(points->store, applying->batch, applying->applied_seq, applying->next->points,
                                   &applying->next->digest, applying->range ? &applying->next->owning.record : NULL, err));
    if (points->tracking)
        for (size_t i = 0; i < count; i++)
            points->dirty.ids[points->dirty.count++] = operations[i].id;
    return GYRE_OK;
}

/* A batch from beginning to end. */
static gyre_status run(struct applying *applying, const struct gy_operation *operations, const uint64_t *versions, size_t count,
                       struct gy_request_changes *requests, bool *deleted, gyre_error *err)
{
    gy_points *points = applying->points;
    pthread_mutex_lock(&points->apply_mu);
    gyre_status status = points->broken ? gyre_fail(err, GYRE_PRECONDITION,
                                                    "an earlier batch failed; the replica must be opened anew")
                                        : prepare(applying, operations, count, err);
    if (status == GYRE_OK) {
        status = apply(applying, operations, versions, count, requests, deleted, err);
        points->broken = status != GYRE_OK;
        if (status == GYRE_OK)
            gy_points_publish(points, GY_TAKE(applying->next));
    }
    atomic_store(&points->table_bytes, gy_places_bytes(&points->places));
    pthread_mutex_unlock(&points->apply_mu);
    applying_fini(applying);
    return status;
}

gyre_status gy_points_apply(gy_points *points, const struct gy_operation *operations, const uint64_t *versions, size_t count,
                            uint64_t applied_seq, struct gy_request_changes *requests, bool *deleted, gyre_error *err)
{
    struct applying applying = {.points = points, .applied_seq = applied_seq};
    return run(&applying, operations, versions, count, requests, deleted, err);
}

/* ---- what is owned: only whoever applies changes it ---- */

/* Of two ranges what is in both; false: nothing. */
static bool common(struct gy_hash_range a, struct gy_hash_range b, struct gy_hash_range *out)
{
    if (gy_range_is_all(a) || gy_range_is_all(b)) {
        *out = gy_range_is_all(a) ? b : a;
        return true;
    }
    *out = (struct gy_hash_range){a.first > b.first ? a.first : b.first, a.last < b.last ? a.last : b.last};
    return out->first <= out->last;
}

gyre_status gy_points_narrow(gy_points *points, struct gy_hash_range range, const uint8_t *hash_key, uint64_t applied_seq,
                             gyre_error *err)
{
    GY_AUTO(gy_snapshot) *current = gy_points_snapshot(points);
    struct gy_range_record record = current->owning.record;
    struct gy_hash_range owned = record.owned;
    if (range.first > range.last || !common(owned, range, &record.owned))
        return gyre_fail(err, GYRE_INVALID, "hashes %016" PRIx64 " to %016" PRIx64 " are to be left of %016" PRIx64
                         " to %016" PRIx64, range.first, range.last, owned.first, owned.last);
    if (!gy_range_is_all(owned) && memcmp(record.hash_key, hash_key, sizeof record.hash_key) != 0)
        return gyre_fail(err, GYRE_INVALID, "the key of the hashes is another one than before");
    memcpy(record.hash_key, hash_key, sizeof record.hash_key);
    struct applying applying = {.points = points, .applied_seq = applied_seq, .range = &record};
    return run(&applying, NULL, NULL, 0, NULL, NULL, err);
}

gyre_status gy_points_forget(gy_points *points, const gyre_point_id *ids, size_t count, uint64_t applied_seq, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *current = gy_points_snapshot(points);
    struct gy_range_record record = current->owning.record;
    struct gy_operation *operations = calloc(count + 1, sizeof *operations);
    uint64_t *versions = malloc((count + 1) * sizeof *versions);
    bool *deleted = malloc(count + 1);
    gyre_status status = operations && versions && deleted ? GYRE_OK
                                                           : gyre_fail(err, GYRE_NO_MEMORY, "batch of %zu operations", count);
    size_t foreign = 0;
    for (size_t i = 0; i < count && status == GYRE_OK; i++)
        if (!gy_snapshot_owns(current, &ids[i])) {
            versions[foreign] = applied_seq;
            operations[foreign++].id = ids[i];
        }
    record.content = record.owned;
    struct applying applying = {.points = points, .applied_seq = applied_seq, .range = &record, .forgets = true};
    if (status == GYRE_OK)
        status = run(&applying, operations, versions, foreign, NULL, deleted, err);
    free(operations);
    free(versions);
    free(deleted);
    return status;
}
