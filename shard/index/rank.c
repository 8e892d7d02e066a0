/* Exact distances of rows of a snapshot: from the mirror, asked for some rows ahead of use, because rows come from anywhere in
 * memory; what it lacks is read from RocksDB together, and mirrored. RocksDB has the newest vector of an id: it may be newer than
 * the row, and then no later snapshot holds that row.
 * Rows that are named by id are looked up in the table of places under its lock, and then read without it. */
#include "index/rank.h"

#include "index/record.h"

#include <math.h>
#include <time.h>

enum {
    TOGETHER = 64, /* rows looked up before the first is used; misses read together */
    AHEAD = 6,     /* rows asked for before they are used */
    LINE_BYTES = 64,
    LOOK_UP_WAIT_NS = 50000, /* about what reading a few dozen vectors from RocksDB's cache costs */
};
#define NOWHERE UINT32_MAX

/* ---- what is not mirrored ---- */
struct misses {
    gy_points *points;
    const float *query; /* NULL: only mirror */
    float *out;
    size_t count;
    gyre_point_id ids[TOGETHER];
    size_t index[TOGETHER]; /* in out */
    gy_segment *mirrors[TOGETHER];
    size_t places[TOGETHER];
};

static gyre_status take_miss(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct misses *misses = self;
    gy_points *points = misses->points;
    float vector[GYRE_DIM_MAX];
    if (!value.data) {
        if (misses->query)
            misses->out[misses->index[i]] = INFINITY;
        return GYRE_OK;
    }
    gyre_status status = gy_vector_decode(value, points->dim, vector, err);
    if (status == GYRE_OK)
        status = gyre_vector_check(points->metric, vector, points->dim, i, err);
    if (status != GYRE_OK) {
        char text[GYRE_UUID_TEXT_BYTES];
        return gyre_wrap(err, GYRE_CORRUPT, "point %s", gyre_point_id_format(&misses->ids[i], text));
    }
    if (misses->query)
        misses->out[misses->index[i]] = gyre_distance(points->metric, vector, misses->query, points->dim);
    gy_segment_put(misses->mirrors[i], misses->places[i], vector);
    return GYRE_OK;
}

static gyre_status read_misses(struct misses *misses, gyre_error *err)
{
    if (misses->count)
        GY_TRY(gy_store_get_many(misses->points->store, NULL, GY_FAMILY_VECTORS, misses->ids, sizeof *misses->ids, misses->count,
                                 misses->query != NULL, take_miss, misses, err));
    misses->count = 0;
    return GYRE_OK;
}

static gyre_status add_miss(struct misses *misses, const struct gy_chunk *chunk, size_t place, size_t index, gyre_error *err)
{
    misses->ids[misses->count] = chunk->ids[place];
    misses->index[misses->count] = index;
    misses->mirrors[misses->count] = chunk->mirror;
    misses->places[misses->count] = place;
    return ++misses->count == TOGETHER ? read_misses(misses, err) : GYRE_OK;
}

/* ---- ranking ---- */
static inline void fetch(const float *row, size_t bytes)
{
    const char *at = (const char *)row;
    for (size_t i = 0; row && i < bytes; i += LINE_BYTES)
        __builtin_prefetch(at + i);
}

gyre_status gy_points_rank(gy_points *points, const gy_snapshot *snapshot, const float *query, const uint32_t *slots,
                           size_t count, float *out, gyre_error *err)
{
    GY_TRY(gy_points_need_vectors(points, "exact distances", err));
    struct misses misses = {.points = points, .query = query, .out = out};
    const float *rows[TOGETHER];
    size_t bytes = points->dim * sizeof(float);
    for (size_t done = 0; done < count; done += TOGETHER) {
        size_t n = count - done < TOGETHER ? count - done : TOGETHER;
        for (size_t i = 0; i < n; i++) {
            const struct gy_chunk *chunk = gy_snapshot_at(snapshot, slots[done + i] / GY_CHUNK_ROWS);
            size_t place = slots[done + i] % GY_CHUNK_ROWS;
            rows[i] = gy_segment_row(chunk->mirror, place);
            if (!rows[i])
                GY_TRY(add_miss(&misses, chunk, place, done + i, err));
            else if (i < AHEAD)
                fetch(rows[i], bytes);
        }
        for (size_t i = 0; i < n; i++) {
            if (i + AHEAD < n)
                fetch(rows[i + AHEAD], bytes);
            if (rows[i])
                out[done + i] = gy_vectors_distance(points->vectors, rows[i], query);
        }
    }
    return read_misses(&misses, err);
}

/* ---- ranking by id ---- */

/* Where points are now: slots[i] is NOWHERE for one that is not there. The snapshot that has them, held; NULL if the table is
 * being changed for longer than reading from RocksDB would cost. */
static gy_snapshot *look_up(gy_points *points, const gyre_point_id *ids, size_t count, uint32_t *slots)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until); /* the only clock of pthread_mutex_timedlock */
    until.tv_nsec += LOOK_UP_WAIT_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (pthread_mutex_timedlock(&points->apply_mu, &until) != 0)
        return NULL;
    gy_snapshot *snapshot = points->broken ? NULL : gy_points_snapshot(points); /* they may differ once an apply has failed */
    for (size_t i = 0; snapshot && i < count; i++)
        if (!gy_places_find(&points->places, snapshot, &ids[i], &slots[i]))
            slots[i] = NOWHERE;
    pthread_mutex_unlock(&points->apply_mu);
    return snapshot;
}

/* At most TOGETHER. */
static gyre_status measure_group(gy_points *points, const float *query, const gyre_point_id *ids, size_t count, float *out,
                                 gyre_error *err)
{
    uint32_t slots[TOGETHER], there[TOGETHER];
    float distances[TOGETHER];
    size_t there_count = 0;
    GY_AUTO(gy_snapshot) *snapshot = look_up(points, ids, count, slots);
    if (!snapshot)
        return gy_points_distances_stored(points, query, ids, count, out, err);
    for (size_t i = 0; i < count; i++)
        if (slots[i] != NOWHERE)
            there[there_count++] = slots[i];
    GY_TRY(gy_points_rank(points, snapshot, query, there, there_count, distances, err));
    for (size_t i = 0, next = 0; i < count; i++)
        out[i] = slots[i] == NOWHERE ? INFINITY : distances[next++];
    return GYRE_OK;
}

gyre_status gy_points_distances(gy_points *points, const float *query, const gyre_point_id *ids, size_t count, float *out,
                                gyre_error *err)
{
    GY_TRY(gy_points_need_vectors(points, "exact distances", err));
    for (size_t done = 0; done < count; done += TOGETHER) {
        size_t group = count - done < TOGETHER ? count - done : TOGETHER;
        GY_TRY(measure_group(points, query, ids + done, group, out + done, err));
    }
    return GYRE_OK;
}

gyre_status gy_points_mirror_chunk(gy_points *points, const gy_snapshot *snapshot, size_t number, size_t *mirrored,
                                   gyre_error *err)
{
    struct misses misses = {.points = points};
    const struct gy_chunk *chunk = gy_snapshot_at(snapshot, number);
    for (size_t place = 0; chunk && place < chunk->rows; place++)
        if (gy_chunk_holds(&snapshot->codebook->layout, chunk, place) && !gy_segment_row(chunk->mirror, place)) {
            GY_TRY(add_miss(&misses, chunk, place, 0, err));
            ++*mirrored;
        }
    return read_misses(&misses, err);
}
