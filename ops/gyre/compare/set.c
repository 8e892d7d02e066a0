/* set: vectors, queries, their mean and their exact neighbours. */
#include "cli.h"
#include "compare/compare.h"
#include "vectors.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

GY_AUTO_DEFINE(gy_vectors, gy_vectors_close)

/* The rows of a file, limit at most. */
static gyre_status read_rows(const char *path, uint64_t limit, gyre_metric metric, float **out, size_t *count, uint32_t *dim, gyre_error *err)
{
    GY_AUTO(gy_vectors) *file = NULL;
    GY_TRY(gy_vectors_open(&file, path, err));
    uint64_t rows = gy_vectors_count(file);
    if (limit && rows > limit)
        rows = limit;
    if (rows > COMPARE_ROWS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%s: %" PRIu64 " rows; at most %d are compared: give a limit", path, rows, COMPARE_ROWS_MAX);
    *dim = (uint32_t)gy_vectors_dim(file);
    float *vectors = cli_alloc((size_t)rows, *dim * sizeof *vectors);
    gyre_status status = GYRE_OK;
    size_t have = 0, got = 1;
    for (; have < rows && got && status == GYRE_OK; have += got)
        status = gy_vectors_read(file, vectors + have * *dim, (size_t)rows - have, &got, err);
    for (size_t i = 0; i < have && status == GYRE_OK; i++)
        status = gyre_vector_check(metric, vectors + i * *dim, *dim, i, err);
    if (status != GYRE_OK) {
        free(vectors);
        return gyre_wrap(err, status, "%s", path);
    }
    *out = vectors;
    *count = have;
    return GYRE_OK;
}

static gyre_status make_codebook(struct compare_set *set, gyre_error *err)
{
    static const uint8_t seed[GYRE_SEED_BYTES] = "gyre codec compare";
    double *sums = cli_alloc(set->dim, sizeof *sums);
    float *vector = cli_alloc(set->dim, sizeof *vector), *mean = cli_alloc(set->dim, sizeof *mean);
    for (size_t i = 0; i < set->count; i++) {
        gyre_vector_normalize(set->metric, set->vectors + i * set->dim, vector, set->dim);
        for (uint32_t j = 0; j < set->dim; j++)
            sums[j] += (double)vector[j];
    }
    for (uint32_t j = 0; j < set->dim; j++)
        mean[j] = (float)(sums[j] / (double)set->count);
    gyre_status status = gyre_codebook_new(&set->codebook, set->metric, set->dim, 1, seed, mean, err);
    free(sums), free(vector), free(mean);
    return status;
}

/* The COMPARE_K nearest rows of one query: insertion into a short sorted list. */
static void find_truth(const struct compare_set *set, const float *query, uint32_t *rows)
{
    float best[COMPARE_K];
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        float distance = gyre_distance(set->metric, set->vectors + i * set->dim, query, set->dim);
        if (kept == COMPARE_K && !(distance < best[kept - 1]))
            continue;
        size_t at = kept < COMPARE_K ? kept++ : kept - 1;
        for (; at && distance < best[at - 1]; at--)
            best[at] = best[at - 1], rows[at] = rows[at - 1];
        best[at] = distance;
        rows[at] = (uint32_t)i;
    }
}

gyre_status compare_set_load(struct compare_set *out, gyre_metric metric, const char *vectors, uint64_t limit, const char *queries,
                             uint64_t query_limit, compare_progress *progress, void *self, gyre_error *err)
{
    struct compare_set set = {.metric = metric};
    uint32_t query_dim = 0;
    gyre_status status = read_rows(vectors, limit, metric, &set.vectors, &set.count, &set.dim, err);
    if (status == GYRE_OK)
        status = read_rows(queries, query_limit, metric, &set.queries, &set.query_count, &query_dim, err);
    if (status == GYRE_OK && query_dim != set.dim)
        status = gyre_fail(err, GYRE_INVALID, "%s has dim %u, %s has %u", queries, query_dim, vectors, set.dim);
    if (status == GYRE_OK && (set.count < COMPARE_K || !set.query_count))
        status = gyre_fail(err, GYRE_INVALID, "%zu vectors and %zu queries; %d and 1 are the least", set.count, set.query_count, COMPARE_K);
    if (status == GYRE_OK)
        status = make_codebook(&set, err);
    if (status != GYRE_OK) {
        compare_set_fini(&set);
        return status;
    }
    set.truth = cli_alloc(set.query_count * COMPARE_K, sizeof *set.truth);
    for (size_t q = 0; q < set.query_count; q++) {
        float *query = set.queries + q * set.dim;
        gyre_vector_normalize(metric, query, query, set.dim);
        find_truth(&set, query, set.truth + q * COMPARE_K);
        progress(self, q + 1, set.query_count);
    }
    *out = set;
    return GYRE_OK;
}

void compare_set_fini(struct compare_set *set)
{
    free(set->vectors);
    free(set->queries);
    free(set->truth);
    gyre_codebook_free(set->codebook);
    *set = (struct compare_set){0};
}
