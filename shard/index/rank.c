/* Exact distances of rows of a snapshot: from the mirror, asked for some rows ahead of use, because rows come from anywhere in memory;
 * what it lacks is read from RocksDB together, and mirrored. RocksDB has the newest vector of an id: it may be newer than the
 * row, and then no later snapshot holds that row.  */
#include "index/rank.h"

#include "index/record.h"

#include <math.h>

enum {
    TOGETHER = 64, /* rows looked up before the first is used; misses read together */
    AHEAD = 6,     /* rows asked for before they are used */
    LINE_BYTES = 64,
};

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

gyre_status gy_points_rank(gy_points *points, const gy_snapshot *snapshot, const float *query, const uint32_t *slots, size_t count, float *out,
                           gyre_error *err)
{
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

gyre_status gy_points_mirror_chunk(gy_points *points, const gy_snapshot *snapshot, size_t number, size_t *mirrored, gyre_error *err)
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
