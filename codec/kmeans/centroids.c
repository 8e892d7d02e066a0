/* centroids: many vectors against many centroids.
 *
 * Scores (kernels/assign.h) find the few lists that can be nearest, distances decide among them: so the answer is that of
 * comparing all distances, as gyre_distance gives them, at the price of a product of matrices. A score loses what cancels in it,
 * least_score says how much at most; o, the mean of the centroids, is subtracted from everything, so that vectors far from the
 * origin lose no more.
 *
 * Vectors are packed in tiles of 12, transposed; a chunk of tiles meets a group of panels of centroids, a block of coordinates at
 * a time, so that a block of panels (128 KiB) stays in the second-level cache for all tiles of the chunk. The sums of a group go
 * through memory between blocks; a float loses nothing there. When a group is done its scores are forgotten, so memory does not
 * grow with k. */
#include "kmeans/centroids.h"

#include "kernels/kernels.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

enum {
    CHUNK_TILES = 8,
    CHUNK_VECTORS = CHUNK_TILES * GY_ASSIGN_TILE,
    GROUP_PANELS = 32,
    GROUP_LISTS = GROUP_PANELS * GY_PANEL,
    BLOCK_PANELS = 8,
    BLOCK_DEPTH = 256, /* 128 KiB of panels, 12 KiB of a tile */
    WAITING = 8,
};

struct gyre_centroids {
    size_t count, panel_count;
    uint32_t dim;
    float *panels; /* [panel_count][dim][16] of c - o, 64-byte aligned; the others follow in the same memory */
    float *starts; /* [panel_count][16] -|c-o|^2/2; -inf behind the last */
    float *origin; /* [dim] o */
    float *rows;   /* [count][dim] */
};

static size_t least_of(size_t a, size_t b) { return a < b ? a : b; }

gyre_status gy_centroids_new_blank(gyre_centroids **out, size_t k, uint32_t dim, gyre_error *err)
{
    size_t panel_count = (k + GY_PANEL - 1) / GY_PANEL, panel_floats = panel_count * GY_PANEL;
    size_t floats = panel_floats * dim + panel_floats + (dim + 15u) / 16 * 16 + (k * dim + 15) / 16 * 16;
    GY_AUTO(gyre_centroids) *centroids = calloc(1, sizeof *centroids);
    if (!centroids || !(centroids->panels = aligned_alloc(64, floats * sizeof(float))))
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu centroids of dim %u: %zu bytes", k, dim, floats * sizeof(float));
    centroids->count = k;
    centroids->panel_count = panel_count;
    centroids->dim = dim;
    centroids->starts = centroids->panels + panel_floats * dim;
    centroids->origin = centroids->starts + panel_floats;
    centroids->rows = centroids->origin + (dim + 15u) / 16 * 16;
    *out = GY_TAKE(centroids);
    return GYRE_OK;
}

float *gy_centroids_rows(gyre_centroids *centroids) { return centroids->rows; }

/* o: the mean of the rows, summed in double in their order. */
static void find_origin(gyre_centroids *centroids)
{
    double sums[GYRE_DIM_MAX] = {0};
    const gy_assign_kernels *kernels = gy_kernels_current()->assign;
    for (size_t c = 0; c < centroids->count; c++)
        kernels->accumulate(sums, centroids->rows + c * centroids->dim, centroids->dim);
    for (uint32_t i = 0; i < centroids->dim; i++)
        centroids->origin[i] = (float)(sums[i] / (double)centroids->count);
}

void gy_centroids_prepare(gyre_centroids *centroids)
{
    uint32_t dim = centroids->dim;
    float centred[GYRE_DIM_MAX];
    find_origin(centroids);
    for (size_t c = 0; c < centroids->panel_count * GY_PANEL; c++) {
        bool exists = c < centroids->count;
        float *panel = centroids->panels + c / GY_PANEL * GY_PANEL * dim + c % GY_PANEL;
        for (uint32_t i = 0; i < dim; i++) {
            centred[i] = exists ? centroids->rows[c * dim + i] - centroids->origin[i] : 0;
            panel[(size_t)i * GY_PANEL] = centred[i];
        }
        centroids->starts[c] = exists ? (float)(-0.5 * gy_sum_squares(centred, dim)) : -INFINITY;
    }
}

gyre_status gyre_centroids_new(gyre_centroids **out, const float *centroids, size_t k, uint32_t dim, gyre_error *err)
{
    if (k == 0 || k > GYRE_LISTS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu centroids; there must be 1 to %d", k, GYRE_LISTS_MAX);
    if (dim == 0 || dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "dim is %u; it must be 1 to %d", dim, GYRE_DIM_MAX);
    for (size_t c = 0; c < k; c++)
        if (gyre_vector_check(GYRE_L2, centroids + c * dim, dim, c, err) != GYRE_OK)
            return gyre_wrap(err, GYRE_INVALID, "centroids");
    GY_AUTO(gyre_centroids) *made = NULL;
    GY_TRY(gy_centroids_new_blank(&made, k, dim, err));
    memcpy(made->rows, centroids, k * dim * sizeof *centroids);
    gy_centroids_prepare(made);
    *out = GY_TAKE(made);
    return GYRE_OK;
}

void gyre_centroids_free(gyre_centroids *centroids)
{
    if (!centroids)
        return;
    free(centroids->panels);
    free(centroids);
}

size_t gyre_centroids_count(const gyre_centroids *centroids) { return centroids->count; }
uint32_t gyre_centroids_dim(const gyre_centroids *centroids) { return centroids->dim; }

const float *gyre_centroids_row(const gyre_centroids *centroids, size_t list) { return centroids->rows + list * centroids->dim; }

/* What an assignment works with: packed vectors, their lengths, and their scores against a group. */
struct scratch {
    float *tiles;                  /* [vectors/12 up][dim][12] of x - o, 64-byte aligned; scores follow in the same memory */
    float *scores;                 /* [vectors up to a multiple of 12][score_stride] */
    size_t score_stride;           /* lists */
    double squares[CHUNK_VECTORS]; /* |x-o|^2 */
};

static gyre_status scratch_new(struct scratch *out, size_t vectors, size_t lists, uint32_t dim, gyre_error *err)
{
    size_t tiles = (vectors + GY_ASSIGN_TILE - 1) / GY_ASSIGN_TILE, tile_floats = (tiles * dim * GY_ASSIGN_TILE + 15) / 16 * 16;
    size_t bytes = ((tile_floats + tiles * GY_ASSIGN_TILE * lists) * sizeof(float) + 63) / 64 * 64;
    out->tiles = aligned_alloc(64, bytes);
    if (!out->tiles)
        return gyre_fail(err, GYRE_NO_MEMORY, "assignment to centroids of dim %u: %zu bytes", dim, bytes);
    out->scores = out->tiles + tile_floats;
    out->score_stride = lists;
    return GYRE_OK;
}

/* Lanes behind the last vector are left as they were: they are not computed. */
static void pack(const gyre_centroids *centroids, const struct gy_points *points, size_t first, size_t count,
                 struct scratch *scratch)
{
    uint32_t dim = centroids->dim;
    float centred[GYRE_DIM_MAX];
    for (size_t v = 0; v < count; v++) {
        const float *x = gy_point(points, first + v);
        float *tile = scratch->tiles + v / GY_ASSIGN_TILE * GY_ASSIGN_TILE * dim + v % GY_ASSIGN_TILE;
        for (uint32_t i = 0; i < dim; i++) {
            centred[i] = x[i] - centroids->origin[i];
            tile[(size_t)i * GY_ASSIGN_TILE] = centred[i];
        }
        scratch->squares[v] = gy_sum_squares(centred, dim);
    }
}

/* Scores of count packed vectors against panels first_panel…first_panel+panel_count-1. */
static void score_group(const gyre_centroids *centroids, const struct scratch *scratch, size_t count, size_t first_panel,
                        size_t panel_count, float *scores)
{
    const gy_assign_kernels *kernels = gy_kernels_current()->assign;
    size_t dim = centroids->dim, panel_floats = dim * GY_PANEL, stride = scratch->score_stride;
    for (size_t v = 0; v < count; v++)
        memcpy(scores + v * stride, centroids->starts + first_panel * GY_PANEL, panel_count * GY_PANEL * sizeof(float));
    for (size_t i = 0; i < dim; i += BLOCK_DEPTH)
        for (size_t p = 0; p < panel_count; p += BLOCK_PANELS) {
            const float *block = centroids->panels + (first_panel + p) * panel_floats + i * GY_PANEL;
            for (size_t v = 0; v < count; v += GY_ASSIGN_TILE)
                kernels->add_products(block, panel_floats, least_of(panel_count - p, BLOCK_PANELS),
                                      scratch->tiles + v * dim + i * GY_ASSIGN_TILE, least_of(count - v, GY_ASSIGN_TILE),
                                      least_of(dim - i, BLOCK_DEPTH), scores + v * stride + p * GY_PANEL, stride);
        }
}

/* Every list that may be as near as one with this score, or nearer, by gyre_distance, has a score not below what is returned.
 *
 * With x, c without o, and d the distance of the list with this score, such a list has |c| <= |x| + d =: r. Its score, and that
 * one, err by at most (dim+2)·u·(|x||c| + |c|^2/2) <= 1.5·(dim+2)·u·r^2 each, u = 2^-24; subtracting o and gyre_distance err by
 * less than (dim/8 + 64)·u·r^2 together; and r^2 <= 2(|x|^2 + d^2), d^2 = |x|^2 - 2·score. The rest is for second-order terms;
 * 2^-148 a coordinate is for what falls among denormals. */
static float least_score(double square, float score, size_t dim)
{
    double distance = fmax(square - 2 * (double)score, 0), share = (3.25 * (double)dim + 128) * 0x1p-24;
    double least = (double)score - share * 2.02 * (square + distance) - (double)dim * 0x1p-148;
    return nextafterf((float)least, -INFINITY);
}

/* The search for the nearest list of one vector. */
struct nearest {
    float score; /* the largest so far */
    float least; /* least_score of it */
    uint32_t list;
    float distance;
    size_t waiting_count;
    uint32_t waiting[WAITING]; /* lists whose distance may be the least; ascending, and above list */
};

static void take_waiting(const gyre_centroids *centroids, const float *x, struct nearest *nearest)
{
    const gy_vector_kernels *kernels = gy_kernels_current()->vector;
    for (size_t w = 0; w < nearest->waiting_count; w++) {
        uint32_t list = nearest->waiting[w];
        float distance = kernels->l2(x, gyre_centroids_row(centroids, list), centroids->dim);
        if (distance < nearest->distance)
            nearest->distance = distance, nearest->list = list;
    }
    nearest->waiting_count = 0;
}

/* Lets the lists of a group in: those that may be nearest. */
static void offer_group(const gyre_centroids *centroids, const float *x, double square, const float *scores, size_t first,
                        size_t count, struct nearest *nearest)
{
    const gy_assign_kernels *kernels = gy_kernels_current()->assign;
    float largest = kernels->largest(scores, count);
    if (largest > nearest->score) {
        nearest->score = largest;
        nearest->least = least_score(square, largest, centroids->dim);
    }
    if (largest < nearest->least)
        return;
    uint16_t places[GROUP_LISTS];
    size_t found = kernels->collect(scores, count, nearest->least, places);
    for (size_t f = 0; f < found; f++) {
        if (nearest->waiting_count == WAITING)
            take_waiting(centroids, x, nearest);
        nearest->waiting[nearest->waiting_count++] = (uint32_t)(first + places[f]);
    }
}

static void assign_chunk(const gyre_centroids *centroids, const struct gy_points *points, size_t first, size_t count,
                         struct scratch *scratch, uint32_t *list_ids, float *distances)
{
    struct nearest nearest[CHUNK_VECTORS];
    for (size_t v = 0; v < count; v++)
        nearest[v] = (struct nearest){.score = -INFINITY, .least = -INFINITY, .distance = INFINITY};
    pack(centroids, points, first, count, scratch);
    for (size_t p = 0; p < centroids->panel_count; p += GROUP_PANELS) {
        size_t panels = least_of(centroids->panel_count - p, GROUP_PANELS);
        score_group(centroids, scratch, count, p, panels, scratch->scores);
        for (size_t v = 0; v < count; v++)
            offer_group(centroids, gy_point(points, first + v), scratch->squares[v], scratch->scores + v * scratch->score_stride,
                        p * GY_PANEL, panels * GY_PANEL, &nearest[v]);
    }
    for (size_t v = 0; v < count; v++) {
        if (nearest[v].waiting_count == 1 && nearest[v].distance == INFINITY && !distances)
            nearest[v].list = nearest[v].waiting[0];
        else
            take_waiting(centroids, gy_point(points, first + v), &nearest[v]);
        list_ids[v] = nearest[v].list;
        if (distances)
            distances[v] = nearest[v].distance;
    }
}

gyre_status gy_centroids_assign(const gyre_centroids *centroids, const struct gy_points *points, size_t first, size_t count,
                                uint32_t *list_ids, float *distances, gyre_error *err)
{
    struct scratch scratch;
    size_t chunk = least_of(count, CHUNK_VECTORS), lists = least_of(centroids->panel_count, GROUP_PANELS) * GY_PANEL;
    GY_TRY(scratch_new(&scratch, chunk, lists, centroids->dim, err));
    for (size_t v = 0; v < count; v += chunk)
        assign_chunk(centroids, points, first + v, least_of(count - v, chunk), &scratch, list_ids + v,
                     distances ? distances + v : NULL);
    free(scratch.tiles);
    return GYRE_OK;
}

static gyre_status check_vectors(const gyre_centroids *centroids, const float *vectors, size_t n, size_t first_row,
                                 gyre_error *err)
{
    for (size_t v = 0; v < n; v++)
        GY_TRY(gyre_vector_check(GYRE_L2, vectors + v * centroids->dim, centroids->dim, first_row + v, err));
    return GYRE_OK;
}

gyre_status gyre_kmeans_assign(const gyre_centroids *centroids, const float *vectors, size_t n, size_t first_row,
                               uint32_t *list_ids, float *distances, gyre_error *err)
{
    if (n == 0)
        return GYRE_OK;
    GY_TRY(check_vectors(centroids, vectors, n, first_row, err));
    struct gy_points points = {vectors, NULL, centroids->dim};
    return gy_centroids_assign(centroids, &points, 0, n, list_ids, distances, err);
}

struct candidate {
    float distance;
    uint32_t list;
};

static int by_distance(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->distance != y->distance ? (x->distance > y->distance) - (x->distance < y->distance)
                                      : (x->list > y->list) - (x->list < y->list);
}

/* The m-th largest of count scores, by a heap of the m largest so far, the least of them on top. */
static float nth_largest(const float *scores, size_t count, size_t m, float *heap)
{
    for (size_t h = 0; h < m; h++)
        heap[h] = -INFINITY;
    for (size_t c = 0; c < count; c++) {
        if (!(scores[c] > heap[0]))
            continue;
        size_t i = 0;
        for (size_t child; (child = 2 * i + 1) < m; i = child) {
            if (child + 1 < m && heap[child + 1] < heap[child])
                child++;
            if (heap[child] >= scores[c])
                break;
            heap[i] = heap[child];
        }
        heap[i] = scores[c];
    }
    return heap[0];
}

/* What the search for several lists takes beside scores of all of them. */
struct ranking {
    struct candidate *candidates; /* [count] */
    float *heap;                  /* [m] */
    size_t m;
};

static void rank(const gyre_centroids *centroids, const float *x, double square, const float *scores,
                 const struct ranking *ranking, uint32_t *list_ids, float *distances)
{
    const gy_kernels *kernels = gy_kernels_current();
    float least = least_score(square, nth_largest(scores, centroids->count, ranking->m, ranking->heap), centroids->dim);
    size_t found = 0;
    for (size_t c = 0; c < centroids->count; c++)
        if (scores[c] >= least)
            ranking->candidates[found++] =
                (struct candidate){kernels->vector->l2(x, gyre_centroids_row(centroids, c), centroids->dim), (uint32_t)c};
    qsort(ranking->candidates, found, sizeof *ranking->candidates, by_distance);
    for (size_t j = 0; j < ranking->m; j++) {
        list_ids[j] = ranking->candidates[j].list;
        if (distances)
            distances[j] = ranking->candidates[j].distance;
    }
}

gyre_status gyre_kmeans_nearest(const gyre_centroids *centroids, const float *vectors, size_t n, size_t first_row, size_t m,
                                uint32_t *list_ids, float *distances, gyre_error *err)
{
    if (m == 0 || m > centroids->count)
        return gyre_fail(err, GYRE_INVALID, "%zu nearest of %zu lists", m, centroids->count);
    if (n == 0)
        return GYRE_OK;
    GY_TRY(check_vectors(centroids, vectors, n, first_row, err));
    struct gy_points points = {vectors, NULL, centroids->dim};
    struct scratch scratch;
    size_t chunk = least_of(n, GY_ASSIGN_TILE), lists = centroids->panel_count * GY_PANEL;
    GY_TRY(scratch_new(&scratch, chunk, lists, centroids->dim, err));
    struct ranking ranking = {malloc(centroids->count * sizeof(struct candidate)), malloc(m * sizeof(float)), m};
    bool ready = ranking.candidates && ranking.heap;
    for (size_t v = 0; ready && v < n; v += chunk) {
        size_t count = least_of(n - v, chunk);
        pack(centroids, &points, v, count, &scratch);
        for (size_t p = 0; p < centroids->panel_count; p += GROUP_PANELS)
            score_group(centroids, &scratch, count, p, least_of(centroids->panel_count - p, GROUP_PANELS),
                        scratch.scores + p * GY_PANEL);
        for (size_t w = v; w < v + count; w++)
            rank(centroids, gy_point(&points, w), scratch.squares[w - v], scratch.scores + (w - v) * lists, &ranking,
                 list_ids + w * m, distances ? distances + w * m : NULL);
    }
    free(scratch.tiles), free(ranking.candidates), free(ranking.heap);
    return ready ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "%zu nearest of %zu lists", m, centroids->count);
}
