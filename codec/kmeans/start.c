/* start: k-means++: centroids are drawn from vectors with probability in proportion to their squared distance to those drawn
 * before.
 *
 * It is expected within O(log k) of the best objective, where vectors drawn uniformly miss small groups that Lloyd then never
 * finds. (Trying several candidates a draw, the greedy form, costs as many times more; balance.c mends what one draw missed.) It
 * looks at 8 vectors a list: 8·k^2·dim operations, a small part of one iteration.
 *
 * Draws go by batches, so that the vectors are read once for 16 centroids: a candidate is drawn in proportion to its distance
 * before the batch, and kept with probability distance now / distance then, which is a draw in proportion to the distance now.
 * Source   Arthur & Vassilvitskii, SODA 2007 */
#include "kmeans/training.h"

#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

enum {
    SEEDS_PER_LIST = 8,
    SEED_BATCH = 16, /* centroids drawn between two passes over the candidates */
    SEED_TRIES = 64, /* draws of a batch */
};

static float distance(const float *a, const float *b, uint32_t dim) { return gy_kernels_current()->vector->l2(a, b, dim); }

struct start {
    struct gy_training *t;
    size_t count;       /* candidates: points at equal steps; t->spread holds their distances */
    double *cumulative; /* [count] sums of the distances before the batch */
    const float *batch[SEED_BATCH];
    size_t batch_count;
};

static const float *candidate(const struct start *start, size_t j)
{
    return gy_point(&start->t->points, j * start->t->count / start->count);
}

/* The least distance of x to the batch, or known if that is less. */
static float nearest_of_batch(const struct start *start, const float *x, float known)
{
    for (size_t b = 0; b < start->batch_count; b++) {
        float next = distance(x, start->batch[b], start->t->points.dim);
        if (next < known)
            known = next;
    }
    return known;
}

static void lower_distances(void *work, size_t part)
{
    struct start *start = work;
    for (size_t j = part * GY_PART_POINTS; j < start->count && j < (part + 1) * GY_PART_POINTS; j++)
        start->t->spread[j] = nearest_of_batch(start, candidate(start, j), start->t->spread[j]);
}

/* The candidate in whose share of the sum of distances a number falls. */
static size_t at_cumulative(const struct start *start, double sum)
{
    size_t low = 0, high = start->count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (start->cumulative[middle] > sum)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Draws up to most new centroids; at least one, unless every candidate is a centroid already (0). */
static size_t draw_batch(struct start *start, size_t most)
{
    struct gy_training *t = start->t;
    double sum = 0;
    for (size_t j = 0; j < start->count; j++)
        start->cumulative[j] = sum += (double)t->spread[j];
    start->batch_count = 0;
    if (!(sum > 0))
        return 0;
    for (size_t tries = 0; tries < SEED_TRIES && start->batch_count < most && start->batch_count < SEED_BATCH; tries++) {
        size_t j = at_cumulative(start, gy_training_uniform(t) * sum);
        float now = nearest_of_batch(start, candidate(start, j), t->spread[j]);
        if (gy_training_uniform(t) * (double)t->spread[j] < (double)now)
            start->batch[start->batch_count++] = candidate(start, j);
    }
    return start->batch_count;
}

gyre_status gy_training_start(struct gy_training *t, gyre_error *err)
{
    struct start start = {.t = t, .count = t->count / t->k > SEEDS_PER_LIST ? t->k * SEEDS_PER_LIST : t->count};
    start.cumulative = malloc(start.count * sizeof *start.cumulative);
    if (!start.cumulative)
        return gyre_fail(err, GYRE_NO_MEMORY, "k-means: %zu candidates", start.count);
    for (size_t j = 0; j < start.count; j++)
        t->spread[j] = INFINITY;
    start.batch[0] = candidate(&start, gy_training_below(t, start.count));
    start.batch_count = 1;
    gyre_status status = GYRE_OK;
    size_t chosen = 0, row_bytes = t->points.dim * sizeof(float);
    for (;;) {
        for (size_t b = 0; b < start.batch_count; b++)
            memcpy(gy_training_row(t, chosen++), start.batch[b], row_bytes);
        if (chosen == t->k)
            break;
        if ((status = gy_training_report(t, 0, err)) != GYRE_OK)
            break;
        gy_training_run(t, gy_ceil_div(start.count, GY_PART_POINTS), lower_distances, &start);
        if (draw_batch(&start, t->k - chosen) == 0) { /* fewer different vectors than lists: the rest is empty */
            start.batch[0] = candidate(&start, gy_training_below(t, start.count));
            start.batch_count = 1;
        }
    }
    free(start.cumulative);
    return status;
}
