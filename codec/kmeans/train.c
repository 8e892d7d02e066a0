/* train: Lloyd's iterations on a sample.
 *
 * Sample    one vector from each of m equal stretches of the input: no vector twice, in order, whatever order the input has.
 * Start     start.c.
 * Iterate   assign the sample; stop if nothing is gained; means of lists; balance.c. Assignments go by ranges of vectors, means by
 *           ranges of lists, each list's sum in double in order of its vectors: threads cannot change a bit.
 * Settle    after the last iteration of Lloyd only balance goes on, until no list is above the limit. The centroids returned are
 *           those of the last assignment, so what is reported is true of them. */
#include "kmeans/training.h"

#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

enum {
    SAMPLE_PER_LIST = 256, /* a mean of that many is within 1/16 of the list's own spread of the mean of all */
    ITERATIONS = 25,
    BALANCE_ROUNDS = 32,
    PART_LISTS = 64,
    BATCH_PARTS = 64, /* between two calls of progress */
};
static const double imbalance_default = 4, tolerance_default = 5e-4;

double gy_training_uniform(struct gy_training *t) { return (double)(gy_keystream_u64(&t->stream) >> 11) * 0x1p-53; }

size_t gy_training_below(struct gy_training *t, size_t count)
{
    size_t drawn = (size_t)(gy_training_uniform(t) * (double)count);
    return drawn < count ? drawn : count - 1; /* rounding */
}

void gy_training_run(struct gy_training *t, size_t parts, void (*part)(void *work, size_t i), void *work)
{
    if (t->options.run) {
        t->options.run(t->options.context, parts, part, work);
        return;
    }
    for (size_t i = 0; i < parts; i++)
        part(work, i);
}

gyre_status gy_training_report(struct gy_training *t, double done, gyre_error *err)
{
    t->progress.done = done;
    if (t->options.progress && !t->options.progress(t->options.context, &t->progress))
        return gyre_fail(err, GYRE_CANCELLED, "k-means: stopped by the caller");
    return GYRE_OK;
}

void gy_training_mean(const struct gy_training *t, const uint32_t *members, size_t count, const uint8_t *pieces, uint8_t piece,
                      float *row)
{
    const gy_assign_kernels *kernels = gy_kernels_current()->assign;
    double sums[GYRE_DIM_MAX];
    size_t found = 0;
    memset(sums, 0, t->points.dim * sizeof *sums);
    for (size_t i = 0; i < count; i++)
        if (!pieces || pieces[i] == piece) {
            kernels->accumulate(sums, gy_point(&t->points, members[i]), t->points.dim);
            found++;
        }
    for (uint32_t i = 0; found && i < t->points.dim; i++)
        row[i] = (float)(sums[i] / (double)found);
}

/* One row of each of count equal stretches of n. */
static void draw_sample(struct gy_training *t, size_t n)
{
    for (size_t p = 0; p < t->count; p++) {
        size_t first = n / t->count * p + n % t->count * p / t->count,
               end = n / t->count * (p + 1) + n % t->count * (p + 1) / t->count;
        t->sampled[p] = first + gy_training_below(t, end - first);
    }
}

/* A stretch of the parts of an assignment. */
struct stretch {
    struct gy_training *t;
    size_t first;
};

static void assign_part(void *work, size_t i)
{
    const struct stretch *stretch = work;
    struct gy_training *t = stretch->t;
    size_t part = stretch->first + i, first = part * GY_PART_POINTS, left = t->count - first;
    t->statuses[part] = gy_centroids_assign(t->centroids, &t->points, first, left < GY_PART_POINTS ? left : GY_PART_POINTS,
                                            t->list_ids + first, t->distances + first, NULL);
}

/* Points by list: a counting sort, which keeps their order. */
static void collect_members(struct gy_training *t)
{
    memset(t->starts, 0, (t->k + 1) * sizeof *t->starts);
    for (size_t p = 0; p < t->count; p++)
        t->starts[t->list_ids[p] + 1]++;
    for (size_t c = 0; c < t->k; c++)
        t->starts[c + 1] += t->starts[c];
    for (size_t p = 0; p < t->count; p++)
        t->members[t->starts[t->list_ids[p]]++] = (uint32_t)p;
    for (size_t c = t->k; c > 0; c--) /* every start has moved to the next one's */
        t->starts[c] = t->starts[c - 1];
    t->starts[0] = 0;
}

static void measure(struct gy_training *t)
{
    double sum = 0;
    for (size_t p = 0; p < t->count; p++)
        sum += (double)t->distances[p];
    t->progress.objective = sum / (double)t->count;
    t->progress.largest_list = 0;
    t->progress.empty_lists = 0;
    for (size_t c = 0; c < t->k; c++) {
        if (gy_training_list_size(t, c) > t->progress.largest_list)
            t->progress.largest_list = gy_training_list_size(t, c);
        t->progress.empty_lists += gy_training_list_size(t, c) == 0;
    }
    t->progress.iteration++;
}

static gyre_status assign_all(struct gy_training *t, gyre_error *err)
{
    size_t parts = gy_ceil_div(t->count, GY_PART_POINTS);
    gy_centroids_prepare(t->centroids);
    for (size_t first = 0; first < parts; first += BATCH_PARTS) {
        GY_TRY(gy_training_report(t, (double)first / (double)parts, err));
        gy_training_run(t, parts - first < BATCH_PARTS ? parts - first : BATCH_PARTS, assign_part, &(struct stretch){t, first});
    }
    for (size_t i = 0; i < parts; i++)
        if (t->statuses[i] != GYRE_OK)
            return gyre_fail(err, t->statuses[i], "k-means: no memory for an assignment");
    collect_members(t);
    measure(t);
    return gy_training_report(t, 0, err);
}

static void update_part(void *work, size_t part)
{
    struct gy_training *t = work;
    for (size_t c = part * PART_LISTS; c < t->k && c < (part + 1) * PART_LISTS; c++)
        gy_training_mean(t, t->members + t->starts[c], gy_training_list_size(t, c), NULL, 0, gy_training_row(t, c));
}

static gyre_status iterate(struct gy_training *t, gyre_error *err)
{
    double before = INFINITY;
    bool settled = false; /* Lloyd is done: only what is above the limit still moves */
    size_t moved = 0;
    for (uint32_t round = 0, balances = 0;; round++) {
        GY_TRY(assign_all(t, err));
        double gained = before - t->progress.objective;
        if (round == t->options.iterations_max || (round > 0 && moved == 0 && gained <= t->options.tolerance * before))
            settled = true;
        before = t->progress.objective;
        if (settled && balances++ == BALANCE_ROUNDS)
            return GYRE_OK;
        if (!settled)
            gy_training_run(t, gy_ceil_div(t->k, PART_LISTS), update_part, t);
        moved = gy_training_balance(t);
        if (settled && moved == 0)
            return GYRE_OK;
    }
}

static void training_fini(struct gy_training *t)
{
    gyre_centroids_free(t->centroids);
    free(t->sampled), free(t->list_ids), free(t->distances), free(t->members), free(t->spread);
    free(t->starts), free(t->by_size), free(t->by_cost), free(t->statuses);
    sodium_memzero(&t->stream, sizeof t->stream);
}

static gyre_status training_init(struct gy_training *t, size_t n, gyre_error *err)
{
    size_t count = t->count, k = t->k;
    t->list_ids = malloc(count * sizeof *t->list_ids);
    t->distances = malloc(count * sizeof *t->distances);
    t->members = malloc(count * sizeof *t->members);
    t->spread = malloc(count * sizeof *t->spread);
    t->starts = malloc((k + 1) * sizeof *t->starts);
    t->by_size = malloc(k * sizeof *t->by_size);
    t->by_cost = malloc(k * sizeof *t->by_cost);
    t->statuses = calloc(gy_ceil_div(count, GY_PART_POINTS), sizeof *t->statuses);
    if (count < n)
        t->sampled = malloc(count * sizeof *t->sampled);
    if (!t->list_ids || !t->distances || !t->members || !t->spread || !t->starts || !t->by_size || !t->by_cost || !t->statuses ||
        (count < n && !t->sampled))
        return gyre_fail(err, GYRE_NO_MEMORY, "k-means: a sample of %zu vectors for %zu lists", count, k);
    return gy_centroids_new_blank(&t->centroids, k, t->points.dim, err);
}

static gyre_status train(struct gy_training *t, size_t n, gyre_error *err)
{
    GY_TRY(training_init(t, n, err));
    gy_keystream_start(&t->stream, t->options.seed, "KMN1", t->points.dim, (uint32_t)t->k);
    if (t->sampled)
        draw_sample(t, n);
    t->points.rows = t->sampled;
    for (size_t p = 0; p < t->count; p++)
        GY_TRY(gyre_vector_check(GYRE_L2, gy_point(&t->points, p), t->points.dim, gy_point_row(&t->points, p), err));
    GY_TRY(gy_training_start(t, err));
    return iterate(t, err);
}

static gyre_status check(const gyre_kmeans_options *options, size_t n, uint32_t dim, size_t k, gyre_error *err)
{
    if (dim == 0 || dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "k-means: dim is %u; it must be 1 to %d", dim, GYRE_DIM_MAX);
    if (k == 0 || k > GYRE_LISTS_MAX || k > n)
        return gyre_fail(err, GYRE_INVALID, "k-means: %zu lists of %zu vectors; there must be 1 to %d, and no more than vectors",
                         k, n, GYRE_LISTS_MAX);
    if (n > SIZE_MAX / sizeof(float) / dim)
        return gyre_fail(err, GYRE_INVALID, "k-means: %zu vectors of dim %u are more than memory can hold", n, dim);
    if (!(options->tolerance >= 0) || !(options->tolerance < 1))
        return gyre_fail(err, GYRE_INVALID, "k-means: tolerance is %g; it must be at least 0 and below 1", options->tolerance);
    if (!(options->imbalance_max >= 2) && !(options->imbalance_max == 0))
        return gyre_fail(err, GYRE_INVALID, "k-means: imbalance_max is %g; it must be at least 2", options->imbalance_max);
    if (sodium_init() < 0)
        return gyre_fail(err, GYRE_INTERNAL, "k-means: libsodium cannot start");
    return GYRE_OK;
}

/* Points of the sample: 32 bits number them. */
static size_t sample_size(const gyre_kmeans_options *options, size_t n, size_t k)
{
    size_t most = options->sample_per_list > UINT32_MAX / k ? UINT32_MAX : options->sample_per_list * k;
    return n < most ? n : most;
}

/* A share of the sample, not rounded up; INFINITY gives all of it. */
static size_t list_limit(const gyre_kmeans_options *options, size_t count, size_t k)
{
    double limit = options->imbalance_max * (double)count / (double)k;
    return limit < (double)count ? (size_t)limit : count;
}

gyre_status gyre_kmeans_train(const gyre_kmeans_options *options, const float *vectors, size_t n, uint32_t dim, size_t k,
                              float *centroids, gyre_kmeans_progress *result, gyre_error *err)
{
    GY_TRY(check(options, n, dim, k, err));
    struct gy_training t = {.options = *options, .k = k, .points = {.vectors = vectors, .dim = dim}};
    if (t.options.sample_per_list == 0)
        t.options.sample_per_list = SAMPLE_PER_LIST;
    if (t.options.iterations_max == 0)
        t.options.iterations_max = ITERATIONS;
    if (t.options.tolerance == 0)
        t.options.tolerance = tolerance_default;
    if (t.options.imbalance_max == 0)
        t.options.imbalance_max = imbalance_default;
    t.count = sample_size(&t.options, n, k);
    t.limit = list_limit(&t.options, t.count, k);
    t.progress = (gyre_kmeans_progress){.sample = t.count, .list_limit = t.limit};
    gyre_status status = train(&t, n, err);
    if (status == GYRE_OK) {
        memcpy(centroids, gy_centroids_rows(t.centroids), k * dim * sizeof *centroids);
        if (result)
            *result = t.progress;
    }
    training_fini(&t);
    return status;
}
