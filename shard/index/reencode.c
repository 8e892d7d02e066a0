/* Re-encoding to a newer codebook, in the background, beside the codes that searches go on using.
 *
 *   1  start tracking: from now on apply notes the points it changes
 *   2  walk the full vectors by id, in stretches; assign, encode and put them into chunks of their own, write those that are full
 *      under the new version; after each stretch bring what was noted meanwhile up to date, as far as the walk has come: what
 *      lies beyond, the walk will meet as it is then
 *   3  write the chunks that are not full; catch up with what was noted, until that is little
 *   4  under the apply lock, so that nothing changes: the last of it; then one batch {chunks not yet written, meta codebook, the
 *      old version's codes deleted}; the new places and the new snapshot take over
 * Slots change: a list's chunks are new ones. A crash before 4 leaves the old codebook and chunks of a version that loading
 * deletes; after it, the new one. */
#include "index/codes.h"
#include "index/digest.h"
#include "index/encode.h"
#include "index/state.h"
#include "store/disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    GROUP_POINTS = 1024,    /* encoded together */
    STRETCH_POINTS = 65536, /* of the walk: bounds what is noted meanwhile */
    WRITE_CHUNKS = 64,      /* in one batch */
    LAST_POINTS_MAX = 256,  /* done under the apply lock: a few milliseconds */
    ROUNDS_MAX = 16,        /* of catching up, if writers outrun us: then the lock is held longer, once */
};

struct encoding {
    gy_points *points;
    struct gy_shared_codebook *codebook;
    uint32_t version;
    uint64_t seq;             /* that the chunks written are said to cover: of before the switch */
    gy_snapshot *next;        /* what will be published; nobody else has it */
    struct gy_places places;  /* of next */
    gy_batch *batch;
    struct gy_codes codes;
    uint32_t *stale;          /* [stale_count] numbers of chunks that are not on disk as they are */
    size_t stale_count, stale_room;
    uint8_t *is_stale;        /* [mark_room] by number */
    size_t mark_room;
    struct gy_dirty todo;     /* points of this round */
    uint64_t walked;          /* points the walk has met */
    gyre_point_id position;   /* the last of them */
    bool paused;              /* the walk ended with its stretch */
    /* the group that is encoded now */
    size_t group;
    gyre_point_id *ids;       /* [GROUP_POINTS] */
    float *vectors;           /* [GROUP_POINTS][dim] */
    const float **addresses;  /* [GROUP_POINTS] into vectors */
    uint32_t *lists;          /* [GROUP_POINTS] */
    uint8_t *rows;            /* [GROUP_POINTS][row_bytes] */
};

static void encoding_fini(struct encoding *encoding)
{
    gy_places_fini(&encoding->places);
    gy_snapshot_release(encoding->next);
    gy_codes_fini(&encoding->codes);
    gy_batch_free(encoding->batch);
    gy_shared_codebook_release(encoding->codebook);
    free(encoding->stale);
    free(encoding->is_stale);
    free(encoding->todo.ids);
    free(encoding->ids);
    free(encoding->vectors);
    free(encoding->addresses);
    free(encoding->lists);
    free(encoding->rows);
}

static gyre_status encoding_init(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    gy_places_init(&encoding->places, points->vectors);
    encoding->next = gy_snapshot_new(encoding->codebook);
    encoding->batch = gy_batch_new();
    encoding->ids = malloc(GROUP_POINTS * sizeof *encoding->ids);
    encoding->vectors = malloc(GROUP_POINTS * points->dim * sizeof *encoding->vectors);
    encoding->addresses = malloc(GROUP_POINTS * sizeof(const float *));
    encoding->lists = malloc(GROUP_POINTS * sizeof *encoding->lists);
    encoding->rows = malloc(GROUP_POINTS * encoding->codebook->layout.row_bytes);
    if (!encoding->next || !encoding->ids || !encoding->vectors || !encoding->addresses || !encoding->lists || !encoding->rows)
        return gyre_fail(err, GYRE_NO_MEMORY, "re-encoding");
    for (size_t i = 0; i < GROUP_POINTS; i++)
        encoding->addresses[i] = encoding->vectors + i * points->dim;
    return gy_codes_init(&encoding->codes, points->store, encoding->batch, encoding->codebook, err);
}

/* GYRE_CANCELLED if the points are closing or a still newer codebook was asked for. The disk is looked at too: the new codes come
 * to it beside the old ones, and at the end of it RocksDB may abort the process. */
static gyre_status may_go_on(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    pthread_mutex_lock(&points->mu);
    bool wanted = !points->closing && points->target_version == encoding->version;
    uint64_t free_min = points->disk_free_min;
    pthread_mutex_unlock(&points->mu);
    if (!wanted)
        return gyre_fail(err, GYRE_CANCELLED, "re-encoding to codebook %u is no longer wanted", encoding->version);
    return gy_disk_check(gy_store_path(points->store), free_min, "re-encoding", err);
}

/* ---- chunks to disk ---- */
static gyre_status mark_stale(struct encoding *encoding, uint32_t number, gyre_error *err)
{
    if (number >= encoding->mark_room) {
        size_t room = number + number / 2 + 64;
        uint8_t *marks = realloc(encoding->is_stale, room);
        if (!marks)
            return gyre_fail(err, GYRE_NO_MEMORY, "marks of %zu chunks", room);
        memset(marks + encoding->mark_room, 0, room - encoding->mark_room);
        encoding->is_stale = marks;
        encoding->mark_room = room;
    }
    if (encoding->is_stale[number])
        return GYRE_OK;
    if (encoding->stale_count == encoding->stale_room) {
        size_t room = encoding->stale_room * 2 + 64;
        uint32_t *stale = realloc(encoding->stale, room * sizeof *stale);
        if (!stale)
            return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu chunks", room);
        encoding->stale = stale;
        encoding->stale_room = room;
    }
    encoding->is_stale[number] = 1;
    encoding->stale[encoding->stale_count++] = number;
    return GYRE_OK;
}

static gyre_status write_chunk(struct encoding *encoding, uint32_t number, gyre_error *err)
{
    struct gy_chunk *chunk = gy_snapshot_own(encoding->next, number, 0); /* nobody else's: not copied */
    encoding->is_stale[number] = 0;
    if (chunk->held) {
        gy_codes_pack(&encoding->codes, chunk, number, encoding->seq);
        return GYRE_OK;
    }
    gy_codes_delete(&encoding->codes, chunk, number);
    return gy_places_drop(&encoding->places, encoding->next, number, err);
}

static gyre_status commit(struct encoding *encoding, gyre_error *err)
{
    GY_TRY(gy_store_commit(encoding->points->store, encoding->batch, err));
    gy_batch_clear(encoding->batch);
    return GYRE_OK;
}

/* Puts stale chunks, or only those that are full, into the batch, and writes the batch now and then, unless it shall grow. */
static gyre_status write_chunks(struct encoding *encoding, bool only_full, bool one_batch, gyre_error *err)
{
    size_t kept = 0, written = 0;
    for (size_t i = 0; i < encoding->stale_count; i++) {
        uint32_t number = encoding->stale[i];
        if (only_full && gy_snapshot_at(encoding->next, number)->rows < GY_CHUNK_ROWS) {
            encoding->stale[kept++] = number;
            continue;
        }
        GY_TRY(write_chunk(encoding, number, err));
        if (!one_batch && ++written % WRITE_CHUNKS == 0)
            GY_TRY(commit(encoding, err));
    }
    encoding->stale_count = kept;
    return one_batch ? GYRE_OK : commit(encoding, err);
}

/* ---- points into chunks ---- */
static gyre_status remove_point(struct encoding *encoding, const gyre_point_id *id, gyre_error *err)
{
    uint32_t slot;
    if (!gy_places_find(&encoding->places, encoding->next, id, &slot))
        return GYRE_OK;
    const struct gy_layout *layout = &encoding->next->codebook->layout;
    const struct gy_chunk *chunk = gy_snapshot_at(encoding->next, slot / GY_CHUNK_ROWS);
    uint8_t row[GY_ROW_BYTES_MAX];
    gy_chunk_row(layout, chunk, slot % GY_CHUNK_ROWS, row);
    gy_sum_subtract(&encoding->next->digest.codes, gy_code_sum(id, chunk->list, row, layout->row_bytes));
    GY_TRY(gy_places_remove(&encoding->places, encoding->next, id, slot, err));
    return mark_stale(encoding, slot / GY_CHUNK_ROWS, err);
}

/* Encodes the group and puts it in place of what there is of the same points. */
static gyre_status put_group(struct encoding *encoding, gyre_error *err)
{
    size_t row_bytes = encoding->codebook->layout.row_bytes;
    gyre_status status = gy_encode(encoding->codebook, encoding->addresses, encoding->group, encoding->lists, encoding->rows,
                                   err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "full vectors");
    GY_TRY(gy_places_reserve(&encoding->places, encoding->next, encoding->group, err));
    for (size_t i = 0; i < encoding->group; i++) {
        uint32_t slot;
        GY_TRY(remove_point(encoding, &encoding->ids[i], err));
        GY_TRY(gy_places_put(&encoding->places, encoding->next, encoding->lists[i], &encoding->ids[i],
                             encoding->rows + i * row_bytes, &slot, err));
        gy_sum_add(&encoding->next->digest.codes,
                   gy_code_sum(&encoding->ids[i], encoding->lists[i], encoding->rows + i * row_bytes, row_bytes));
        gy_segment_put(gy_snapshot_at(encoding->next, slot / GY_CHUNK_ROWS)->mirror, slot % GY_CHUNK_ROWS,
                       encoding->addresses[i]);
        GY_TRY(mark_stale(encoding, slot / GY_CHUNK_ROWS, err));
    }
    encoding->group = 0;
    gy_points *points = encoding->points;
    atomic_store(&points->progress, encoding->next->points);
    atomic_store(&points->side_bytes, encoding->next->bytes + gy_places_bytes(&encoding->places));
    return GYRE_OK;
}

/* ---- what was noted ---- */
static void swap_dirty(gy_points *points, struct encoding *encoding)
{
    struct gy_dirty taken = points->dirty;
    encoding->todo.count = 0;
    points->dirty = encoding->todo;
    encoding->todo = taken;
}

static int by_id(const void *a, const void *b)
{
    return gyre_point_id_compare(a, b);
}

static gyre_status take_vector(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct encoding *encoding = self;
    const gyre_point_id *id = &encoding->todo.ids[i];
    if (!value.data)
        return remove_point(encoding, id, err);
    GY_TRY(gy_vector_decode(value, encoding->points->dim, encoding->vectors + encoding->group * encoding->points->dim, err));
    encoding->ids[encoding->group++] = *id;
    return encoding->group < GROUP_POINTS ? GYRE_OK : put_group(encoding, err);
}

/* Brings the points of todo to what the disk says of them now; those beyond end wait for the walk (NULL: none). */
static gyre_status bring_up_to_date(struct encoding *encoding, const gyre_point_id *end, gyre_error *err)
{
    struct gy_dirty *todo = &encoding->todo;
    size_t count = 0;
    if (todo->count)
        qsort(todo->ids, todo->count, sizeof *todo->ids, by_id);
    for (size_t i = 0; i < todo->count; i++) {
        bool again = count && gyre_point_id_compare(&todo->ids[i], &todo->ids[count - 1]) == 0;
        if (!again && (!end || gyre_point_id_compare(&todo->ids[i], end) <= 0))
            todo->ids[count++] = todo->ids[i];
    }
    GY_TRY(gy_store_get_many(encoding->points->store, NULL, GY_FAMILY_VECTORS, todo->ids, sizeof *todo->ids, count, false,
                             take_vector, encoding, err));
    return put_group(encoding, err);
}

/* ---- the walk ---- */
static gyre_status walk_vector(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct encoding *encoding = self;
    gyre_point_id *id = &encoding->ids[encoding->group];
    GY_TRY(gy_vector_key_decode(key, id, err));
    if (encoding->walked && gyre_point_id_compare(id, &encoding->position) == 0)
        return GYRE_OK; /* where the stretch before ended */
    GY_TRY(gy_vector_decode(value, encoding->points->dim, encoding->vectors + encoding->group * encoding->points->dim, err));
    encoding->position = *id;
    encoding->walked++;
    if (++encoding->group == GROUP_POINTS) {
        GY_TRY(may_go_on(encoding, err));
        GY_TRY(put_group(encoding, err));
        GY_TRY(write_chunks(encoding, true, false, err));
    }
    encoding->paused = encoding->walked % STRETCH_POINTS == 0; /* the group is empty then */
    return encoding->paused ? GYRE_CANCELLED : GYRE_OK;
}

static void take_noted(struct encoding *encoding)
{
    pthread_mutex_lock(&encoding->points->apply_mu);
    swap_dirty(encoding->points, encoding);
    pthread_mutex_unlock(&encoding->points->apply_mu);
}

static gyre_status encode_all(struct encoding *encoding, gyre_error *err)
{
    gy_store *store = encoding->points->store;
    do {
        GY_TRY(may_go_on(encoding, err));
        struct gy_slice from = {0};
        if (encoding->walked)
            from = (struct gy_slice){encoding->position.bytes, sizeof encoding->position.bytes};
        encoding->paused = false;
        gyre_status status = gy_store_walk(store, GY_FAMILY_VECTORS, from, (struct gy_slice){0}, walk_vector, encoding, err);
        if (!encoding->paused)
            GY_TRY(status);
        GY_TRY(put_group(encoding, err));
        take_noted(encoding);
        GY_TRY(bring_up_to_date(encoding, encoding->paused ? &encoding->position : NULL, err));
    } while (encoding->paused);
    return write_chunks(encoding, false, false, err);
}

/* Rounds of catching up; returns with the apply lock held on success. */
static gyre_status catch_up(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    for (int round = 0;; round++) {
        GY_TRY(may_go_on(encoding, err));
        pthread_mutex_lock(&points->apply_mu);
        swap_dirty(points, encoding);
        if (encoding->todo.count <= LAST_POINTS_MAX || round == ROUNDS_MAX)
            return GYRE_OK;
        pthread_mutex_unlock(&points->apply_mu);
        GY_TRY(bring_up_to_date(encoding, NULL, err));
        GY_TRY(write_chunks(encoding, false, false, err));
    }
}

static gyre_status switch_over(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    const gy_snapshot *from = points->current; /* stays: we hold the apply lock */
    GY_TRY(bring_up_to_date(encoding, NULL, err));
    if (encoding->next->points != from->points)
        return gyre_fail(err, GYRE_CORRUPT, "%" PRIu64 " of %" PRIu64 " points have a full vector", encoding->next->points,
                         from->points);
    GY_TRY(write_chunks(encoding, false, true, err));
    struct gy_codes old = encoding->codes;
    old.version = gyre_codebook_version(from->codebook->codebook);
    gy_codes_delete_all(&old);
    encoding->next->applied_seq = from->applied_seq;
    encoding->next->digest.points = from->digest.points;
    encoding->next->digest.vectors = from->digest.vectors;
    encoding->next->owning = from->owning;
    GY_TRY(gy_store_commit_codebook(points->store, encoding->batch, encoding->codebook->codebook, &encoding->next->digest, err));
    struct gy_places places = points->places;
    points->places = encoding->places;
    encoding->places = places; /* freed with the rest */
    atomic_store(&points->table_bytes, gy_places_bytes(&points->places));
    gy_compaction_ask_all(points, encoding->next);
    gy_points_publish(points, GY_TAKE(encoding->next));
    return GYRE_OK;
}

static gyre_status run(struct encoding *encoding, gyre_error *err)
{
    gy_points *points = encoding->points;
    GY_TRY(encoding_init(encoding, err));
    pthread_mutex_lock(&points->apply_mu);
    points->tracking = true;
    points->dirty.count = 0;
    encoding->seq = points->current->applied_seq;
    atomic_store(&points->goal, points->current->points);
    pthread_mutex_unlock(&points->apply_mu);
    GY_TRY(encode_all(encoding, err));
    GY_TRY(catch_up(encoding, err));
    gyre_status status = switch_over(encoding, err);
    pthread_mutex_unlock(&points->apply_mu);
    return status;
}

/* What a run that ended early wrote under its version. */
static gyre_status discard(struct encoding *encoding, gyre_error *err)
{
    gy_batch_clear(encoding->batch);
    gy_codes_delete_all(&encoding->codes);
    return gy_store_commit(encoding->points->store, encoding->batch, err);
}

void gy_points_reencode(gy_points *points, gyre_codebook *target)
{
    gyre_error err = {0};
    struct encoding encoding = {.points = points, .version = gyre_codebook_version(target)};
    gyre_status status = gy_shared_codebook_new(&encoding.codebook, gy_store_codec(points->store), target, &err);
    if (status == GYRE_OK)
        status = run(&encoding, &err);
    pthread_mutex_lock(&points->apply_mu);
    points->tracking = false;
    pthread_mutex_unlock(&points->apply_mu);
    if (status != GYRE_OK && encoding.codes.scratch)
        GY_IGNORE(discard(&encoding, NULL)); /* the next start deletes it too */
    atomic_store(&points->progress, 0);
    atomic_store(&points->goal, 0);

    pthread_mutex_lock(&points->mu);
    if (status == GYRE_OK) {
        points->trouble[0] = 0;
    } else if (status != GYRE_CANCELLED) {
        GY_IGNORE(gyre_wrap(&err, status, "codebook %u", encoding.version)); /* returns status */
        if (status == GYRE_CORRUPT && points->damage.status == GYRE_OK)
            points->damage = err;
        memcpy(points->trouble, err.text, sizeof points->trouble);
        if (points->target_version == encoding.version) /* asking again tries again */
            points->target_version = gyre_codebook_version(points->current->codebook->codebook);
    }
    pthread_mutex_unlock(&points->mu);
    encoding_fini(&encoding);
    atomic_store(&points->side_bytes, 0);
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
        return gyre_fail(err, GYRE_INVALID, "codebook of dim %u; the replica has dim %u", gyre_codebook_dim(codebook),
                         points->dim);
    if (gyre_codebook_metric(codebook) != points->metric)
        return gyre_fail(err, GYRE_INVALID, "codebook of metric %s; the replica has %s",
                         gyre_metric_name(gyre_codebook_metric(codebook)), gyre_metric_name(points->metric));
    if (!same_rotation(codebook, current, points->dim))
        return gyre_fail(err, GYRE_INVALID, "codebook of another rotation seed than the replica's");
    if (points->quantized && gyre_codebook_version(codebook) > gyre_codebook_version(current))
        return gyre_fail(err, GYRE_PRECONDITION, "codebook %u: the replica is quantized and needs its codes from a full member",
                         gyre_codebook_version(codebook));
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
    if (points->vectors)
        gy_vectors_limit_disk(points->vectors, free_min);
}

void gy_points_trouble(gy_points *points, char *text, size_t bytes)
{
    pthread_mutex_lock(&points->mu);
    snprintf(text, bytes, "%s", points->trouble);
    pthread_mutex_unlock(&points->mu);
}
