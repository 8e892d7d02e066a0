/* Re-encoding to a newer codebook, in the background, beside the codes that searches go on using.
 *
 *   1  start tracking: from now on apply notes the slots it changes; hold the snapshot of that moment
 *   2  for each of its chunks: read the full vectors, encode, write the packed chunk under the new version
 *   3  catch up: take the noted slots, encode them as they are now, write their chunks; until few are noted
 *   4  under the apply lock, so that nothing changes: the last noted slots; then one batch {their chunks, meta codebook, the
 *      old version's codes deleted}; publish the new snapshot
 * A vector read in 2 or 3 may be newer than the slot it was read for, or gone; then that slot is noted, and done again.
 * A crash before 4 leaves the old codebook and chunks of a version that loading deletes; after it, the new one. */
#include "index/state.h"
#include "store/disk.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LAST_SLOTS_MAX = 256, /* done under the apply lock: a few milliseconds */
    ROUNDS_MAX = 16,      /* of catching up, if writers outrun us: then the lock is held longer, once */
};

struct encoding {
    gy_points *points;
    struct gy_shared_codebook *codebook;
    uint32_t version;
    gy_snapshot *next;       /* what will be published */
    gy_batch *batch;
    uint8_t *scratch;        /* [gy_packed_bytes] */
    float *vector;           /* [dim] */
    struct gy_dirty todo;    /* slots of this round */
    /* of the group that is read now */
    struct gy_chunk *chunk;
    gyre_point_id *ids;      /* [GY_CHUNK_ROWS] */
    uint32_t *places;        /* [GY_CHUNK_ROWS] */
    size_t group;
};

static void encoding_fini(struct encoding *encoding)
{
    gy_shared_codebook_release(encoding->codebook);
    gy_snapshot_release(encoding->next);
    gy_batch_free(encoding->batch);
    free(encoding->scratch);
    free(encoding->vector);
    free(encoding->todo.slots);
    free(encoding->ids);
    free(encoding->places);
}

/* GYRE_CANCELLED if the points are closing or a still newer codebook was asked for. */
static gyre_status still_wanted(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    pthread_mutex_lock(&points->mu);
    bool wanted = !points->closing && points->target_version == encoding->version;
    pthread_mutex_unlock(&points->mu);
    return wanted ? GYRE_OK : gyre_fail(err, GYRE_CANCELLED, "re-encoding to codebook %u is no longer wanted", encoding->version);
}

static gyre_status encode_vector(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct encoding *encoding = self;
    uint32_t dim = encoding->points->dim;
    uint8_t row[GY_ROW_BYTES_MAX];
    if (!value.data) { /* deleted since; or lost, which the count at the end shows */
        gy_chunk_clear(encoding->chunk, dim, encoding->places[i]);
        return GYRE_OK;
    }
    gyre_status status = gy_vector_decode(value, dim, encoding->vector, err);
    if (status == GYRE_OK)
        status = gyre_quantizer_encode(encoding->codebook->quantizer, encoding->vector, 1, 0, row, err);
    if (status != GYRE_OK) {
        char text[GYRE_UUID_TEXT_BYTES];
        return gyre_wrap(err, status, "point %s", gyre_point_id_format(&encoding->ids[i], text));
    }
    gy_chunk_set(encoding->chunk, dim, encoding->places[i], &encoding->ids[i], row);
    return GYRE_OK;
}

/* Brings one place of the new chunk to what from says is there; the encoding itself waits for encode_group. */
static void gather_place(struct encoding *encoding, const struct gy_chunk *from, uint32_t place)
{
    if (gy_chunk_holds(from, encoding->points->dim, place)) {
        encoding->ids[encoding->group] = from->ids[place];
        encoding->places[encoding->group++] = place;
    } else {
        gy_chunk_clear(encoding->chunk, encoding->points->dim, place);
    }
}

static gyre_status encode_group(struct encoding *encoding, gyre_error *err)
{
    return gy_store_get_many(encoding->points->store, NULL, GY_FAMILY_VECTORS, encoding->ids, sizeof *encoding->ids, encoding->group, false,
                             encode_vector, encoding, err);
}

/* The disk is looked at first: the new codes come to it beside the old ones, and at the end of it RocksDB may abort the process. */
static gyre_status begin_chunk(struct encoding *encoding, size_t number, gyre_error *err)
{
    gy_points *points = encoding->points;
    pthread_mutex_lock(&points->mu);
    uint64_t free_min = points->disk_free_min;
    pthread_mutex_unlock(&points->mu);
    GY_TRY(gy_disk_check(gy_store_path(points->store), free_min, "re-encoding", err));
    encoding->group = 0;
    encoding->chunk = gy_snapshot_own(encoding->next, encoding->points->dim, number);
    return encoding->chunk ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "chunk %zu", number);
}

/* Puts the new chunk into the batch and, unless this is the last step, writes the batch. */
static gyre_status end_chunk(struct encoding *encoding, size_t number, uint64_t seq, bool write, gyre_error *err)
{
    GY_TRY(encode_group(encoding, err));
    gy_points_pack(encoding->points, encoding->batch, encoding->chunk, number, encoding->version, seq, false, encoding->scratch);
    if (!write)
        return GYRE_OK;
    GY_TRY(gy_store_commit(encoding->points->store, encoding->batch, err));
    gy_batch_clear(encoding->batch);
    return GYRE_OK;
}

static gyre_status encode_all(struct encoding *encoding, const gy_snapshot *from, gyre_error *err)
{
    for (size_t c = 0; c < from->count; c++) {
        GY_TRY(still_wanted(encoding, err));
        GY_TRY(begin_chunk(encoding, c, err));
        for (uint32_t place = 0; place < GY_CHUNK_ROWS; place++)
            gather_place(encoding, from->chunks[c], place);
        GY_TRY(end_chunk(encoding, c, from->applied_seq, true, err));
    }
    return GYRE_OK;
}

static int by_slot(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Encodes the slots of todo as from has them. Chunks that appeared since are made on the way: all slots below a new one were
 * noted too, so no chunk is skipped. */
static gyre_status encode_slots(struct encoding *encoding, const gy_snapshot *from, bool write, gyre_error *err)
{
    struct gy_dirty *todo = &encoding->todo;
    size_t room = from->count;
    if (room > encoding->next->room) {
        gy_snapshot *grown = gy_snapshot_copy(encoding->next, room);
        if (!grown)
            return gyre_fail(err, GYRE_NO_MEMORY, "snapshot of %zu chunks", room);
        gy_snapshot_release(encoding->next);
        encoding->next = grown;
    }
    if (todo->count)
        qsort(todo->slots, todo->count, sizeof *todo->slots, by_slot);
    for (size_t i = 0; i < todo->count;) {
        size_t number = todo->slots[i] / GY_CHUNK_ROWS;
        GY_TRY(begin_chunk(encoding, number, err));
        for (; i < todo->count && todo->slots[i] / GY_CHUNK_ROWS == number; i++)
            if (i == 0 || todo->slots[i] != todo->slots[i - 1])
                gather_place(encoding, from->chunks[number], todo->slots[i] % GY_CHUNK_ROWS);
        GY_TRY(end_chunk(encoding, number, from->applied_seq, write, err));
    }
    return GYRE_OK;
}

static void swap_dirty(gy_points *points, struct encoding *encoding)
{
    struct gy_dirty taken = points->dirty;
    encoding->todo.count = 0;
    points->dirty = encoding->todo;
    encoding->todo = taken;
}

/* Rounds of catching up; returns with the apply lock held on success. */
static gyre_status catch_up(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    for (int round = 0;; round++) {
        GY_TRY(still_wanted(encoding, err));
        pthread_mutex_lock(&points->apply_mu);
        if (points->dirty.count <= LAST_SLOTS_MAX || round == ROUNDS_MAX)
            return GYRE_OK;
        swap_dirty(points, encoding);
        GY_AUTO(gy_snapshot) *from = gy_points_snapshot(points); /* has the slots just taken as noted */
        pthread_mutex_unlock(&points->apply_mu);
        GY_TRY(encode_slots(encoding, from, true, err));
    }
}

static gyre_status switch_over(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    const gy_snapshot *from = points->current; /* stays: we hold the apply lock */
    swap_dirty(points, encoding);
    GY_TRY(encode_slots(encoding, from, false, err));
    uint64_t held = 0;
    for (size_t c = 0; c < encoding->next->count; c++)
        held += encoding->next->chunks[c]->held;
    if (held != from->points || encoding->next->count != from->count)
        return gyre_fail(err, GYRE_CORRUPT, "%" PRIu64 " of %" PRIu64 " points have a full vector", held, from->points);

    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    uint32_t old = gyre_codebook_version(from->codebook->codebook);
    gy_code_key(first, old, 0, 0);
    gy_code_key(behind, old, UINT8_MAX, UINT32_MAX);
    gy_batch_delete_range(encoding->batch, points->store, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first},
                          (struct gy_slice){behind, sizeof behind});
    encoding->next->points = from->points;
    encoding->next->applied_seq = from->applied_seq;
    GY_TRY(gy_store_commit_codebook(points->store, encoding->batch, encoding->codebook->codebook, err));
    if (points->outstanding_room)
        memset(points->outstanding, 0, points->outstanding_room * sizeof *points->outstanding);
    gy_points_publish(points, GY_TAKE(encoding->next));
    return GYRE_OK;
}

static gyre_status run(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    pthread_mutex_lock(&points->apply_mu);
    points->tracking = true;
    points->dirty.count = 0;
    GY_AUTO(gy_snapshot) *from = gy_points_snapshot(points);
    pthread_mutex_unlock(&points->apply_mu);

    encoding->next = gy_snapshot_new(encoding->codebook, from->count);
    encoding->batch = gy_batch_new();
    encoding->scratch = malloc(gy_packed_bytes(points->dim));
    encoding->vector = malloc(points->dim * sizeof(float));
    encoding->ids = malloc(GY_CHUNK_ROWS * sizeof *encoding->ids);
    encoding->places = malloc(GY_CHUNK_ROWS * sizeof *encoding->places);
    if (!encoding->next || !encoding->scratch || !encoding->vector || !encoding->ids || !encoding->places)
        return gyre_fail(err, GYRE_NO_MEMORY, "re-encoding");
    GY_TRY(encode_all(encoding, from, err));
    GY_TRY(catch_up(encoding, err));
    gyre_status status = switch_over(encoding, err);
    pthread_mutex_unlock(&points->apply_mu);
    return status;
}

/* What a run that ended early wrote under its version. */
static gyre_status discard(struct encoding *encoding, gyre_error *err)
{
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    gy_code_key(first, encoding->version, 0, 0);
    gy_code_key(behind, encoding->version, UINT8_MAX, UINT32_MAX);
    gy_batch_clear(encoding->batch);
    gy_batch_delete_range(encoding->batch, encoding->points->store, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first},
                          (struct gy_slice){behind, sizeof behind});
    return gy_store_commit(encoding->points->store, encoding->batch, err);
}

static void encode_to(gy_points *points, gyre_codebook *target)
{
    gyre_error err = {0};
    struct encoding encoding = {.points = points, .version = gyre_codebook_version(target)};
    gyre_status status = gy_shared_codebook_new(&encoding.codebook, target, &err);
    if (status == GYRE_OK)
        status = run(&encoding, &err);
    pthread_mutex_lock(&points->apply_mu);
    points->tracking = false;
    pthread_mutex_unlock(&points->apply_mu);
    if (status != GYRE_OK && encoding.batch)
        GY_IGNORE(discard(&encoding, NULL)); /* the next start deletes it too */

    pthread_mutex_lock(&points->mu);
    if (status == GYRE_OK) {
        points->trouble[0] = 0;
    } else if (status != GYRE_CANCELLED) {
        GY_IGNORE(gyre_wrap(&err, status, "codebook %u", encoding.version)); /* returns status */
        memcpy(points->trouble, err.text, sizeof points->trouble);
        if (points->target_version == encoding.version) /* asking again tries again */
            points->target_version = gyre_codebook_version(points->current->codebook->codebook);
    }
    pthread_mutex_unlock(&points->mu);
    encoding_fini(&encoding);
}

void *gy_points_encoder(void *arg)
{
    gy_points *points = arg;
    pthread_mutex_lock(&points->mu);
    while (!points->closing) {
        if (!points->target) {
            pthread_cond_wait(&points->wake, &points->mu);
            continue;
        }
        gyre_codebook *target = GY_TAKE(points->target);
        pthread_mutex_unlock(&points->mu);
        encode_to(points, target);
        pthread_mutex_lock(&points->mu);
    }
    pthread_mutex_unlock(&points->mu);
    return NULL;
}

/* Equal seeds rotate every vector alike; two different ones rotate this one differently but by an accident of 2^-24 or less
 * per component. A seed is a secret, so a codebook does not lend it out for comparing. */
static bool same_rotation(const gyre_codebook *a, const gyre_codebook *b, uint32_t dim)
{
    float probe[GYRE_DIM_MAX], by_a[GYRE_DIM_MAX], by_b[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        probe[i] = (float)(i + 1);
    gyre_rotation_apply(gyre_codebook_rotation(a), probe, by_a);
    gyre_rotation_apply(gyre_codebook_rotation(b), probe, by_b);
    return memcmp(by_a, by_b, dim * sizeof *by_a) == 0;
}

gyre_status gy_points_set_codebook(gy_points *points, const gyre_codebook *codebook, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    const gyre_codebook *current = snapshot->codebook->codebook;
    if (gyre_codebook_dim(codebook) != points->dim)
        return gyre_fail(err, GYRE_INVALID, "codebook of dim %u; the replica has dim %u", gyre_codebook_dim(codebook), points->dim);
    if (gyre_codebook_metric(codebook) != points->metric)
        return gyre_fail(err, GYRE_INVALID, "codebook of metric %s; the replica has %s", gyre_metric_name(gyre_codebook_metric(codebook)),
                         gyre_metric_name(points->metric));
    if (!same_rotation(codebook, current, points->dim))
        return gyre_fail(err, GYRE_INVALID, "codebook of another rotation seed than the replica's");
    gyre_codebook *copied = NULL;
    GY_TRY(gy_codebook_copy(&copied, codebook, err));
    GY_AUTO(gyre_codebook) *copy = copied;
    pthread_mutex_lock(&points->mu);
    if (gyre_codebook_version(codebook) > points->target_version) {
        gyre_codebook *replaced = points->target;
        points->target = GY_TAKE(copy);
        points->target_version = gyre_codebook_version(codebook);
        pthread_cond_signal(&points->wake);
        copy = replaced; /* freed on the way out */
    }
    pthread_mutex_unlock(&points->mu);
    return GYRE_OK;
}

void gy_points_limit_disk(gy_points *points, uint64_t free_min)
{
    pthread_mutex_lock(&points->mu);
    points->disk_free_min = free_min;
    pthread_mutex_unlock(&points->mu);
}

void gy_points_trouble(gy_points *points, char *text, size_t bytes)
{
    pthread_mutex_lock(&points->mu);
    snprintf(text, bytes, "%s", points->trouble);
    pthread_mutex_unlock(&points->mu);
}
