#include "rotations/learning.h"

#include "kernels/kernels.h"
#include "rotations/algebra.h"
#include "sums.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { DEFAULT_ITERATIONS = 50, SQUARES = 6 }; /* matrices of dim^2 in one allocation */

/* The vectors as codes see them, each divided by its length: a code keeps the length apart. */
static gyre_status take_sample(struct gy_learning *learning, const gyre_codebook *start, const float *vectors, size_t n,
                               gyre_error *err)
{
    gyre_metric metric = gyre_codebook_metric(start);
    const float *mean = gyre_codebook_mean(start);
    uint32_t dim = learning->dim;
    for (size_t i = 0; i < n; i++) {
        const float *vector = vectors + i * dim;
        float *row = learning->sample + learning->count * dim;
        GY_TRY(gyre_vector_check(metric, vector, dim, i, err));
        gyre_vector_normalize(metric, vector, row, dim);
        for (uint32_t j = 0; j < dim; j++)
            row[j] -= mean[j];
        gyre_rotation_apply(gyre_codebook_rotation(start), row, row);
        double length = sqrt(gy_sum_squares(row, dim));
        if (!(length > 0))
            continue;
        for (uint32_t j = 0; j < dim; j++)
            row[j] = (float)((double)row[j] / length);
        learning->count++;
    }
    if (learning->count < dim)
        return gyre_fail(err, GYRE_INVALID, "%zu of %zu vectors differ from the mean; a rotation of dim %u needs at least %u",
                         learning->count, n, dim, dim);
    return GYRE_OK;
}

gyre_status gy_learning_init(struct gy_learning *learning, const char *name, const gyre_codebook *start, const float *sample,
                             size_t n, const gyre_learn_options *options, gyre_error *err)
{
    uint32_t dim = gyre_codebook_dim(start);
    if (gyre_codebook_is_learned(start))
        return gyre_fail(err, GYRE_INVALID, "%s: the codebook to start from has a learned rotation already", name);
    if (n < dim || n > SIZE_MAX / dim / sizeof(float))
        return gyre_fail(err, GYRE_INVALID, "%s: a sample of %zu vectors; dim %u needs at least %u", name, n, dim, dim);
    size_t square = (size_t)dim * dim, batch = (size_t)GY_LEARNING_BATCH * dim;
    *learning = (struct gy_learning){.dim = dim, .options = options ? *options : (gyre_learn_options){0}};
    if (!learning->options.iterations)
        learning->options.iterations = DEFAULT_ITERATIONS;
    learning->sample = malloc(n * dim * sizeof *learning->sample);
    learning->pivots = malloc(dim * sizeof *learning->pivots);
    learning->rotation = malloc((SQUARES * square + 2 * batch) * sizeof *learning->rotation);
    gyre_status status = GYRE_OK;
    if (!learning->sample || !learning->pivots || !learning->rotation)
        status = gyre_fail(err, GYRE_NO_MEMORY, "%s: a sample of %zu vectors of dim %u", name, n, dim);
    else if ((status = take_sample(learning, start, sample, n, err)) != GYRE_OK)
        status = gyre_wrap(err, status, "%s", name);
    if (status != GYRE_OK) {
        gy_learning_fini(learning);
        return status;
    }
    learning->transpose = learning->rotation + square;
    learning->moment = learning->rotation + 2 * square;
    learning->work = learning->rotation + 3 * square;
    learning->in = learning->rotation + SQUARES * square;
    learning->out = learning->in + batch;
    gy_matrix_identity(learning->rotation, dim);
    return GYRE_OK;
}

void gy_learning_fini(struct gy_learning *learning)
{
    free(learning->sample), free(learning->pivots), free(learning->rotation);
    *learning = (struct gy_learning){0};
}

void gy_learning_begin(struct gy_learning *learning)
{
    gy_matrix_transpose(learning->transpose, learning->rotation, learning->dim);
    memset(learning->moment, 0, (size_t)learning->dim * learning->dim * sizeof *learning->moment);
}

size_t gy_learning_load(struct gy_learning *learning, size_t first)
{
    size_t dim = learning->dim, left = learning->count - first, rows = left < GY_LEARNING_BATCH ? left : GY_LEARNING_BATCH;
    for (size_t i = 0; i < rows * dim; i++)
        learning->in[i] = (double)learning->sample[first * dim + i];
    return rows;
}

size_t gy_learning_batch(struct gy_learning *learning, size_t first)
{
    size_t dim = learning->dim, rows = gy_learning_load(learning, first);
    memset(learning->out, 0, rows * dim * sizeof *learning->out);
    gy_kernels_current()->matrix->multiply_add(learning->out, dim, 1, (struct gy_matrix_view){learning->in, dim, 1},
                                               learning->transpose, dim, rows, dim, dim);
    return rows;
}

void gy_learning_collect(struct gy_learning *learning, size_t rows)
{
    size_t dim = learning->dim;
    gy_kernels_current()->matrix->multiply_add(learning->moment, dim, 1, (struct gy_matrix_view){learning->out, 1, dim},
                                               learning->in, dim, dim, rows, dim);
}

void gy_learning_procrustes(struct gy_learning *learning)
{
    memcpy(learning->rotation, learning->moment, (size_t)learning->dim * learning->dim * sizeof *learning->moment);
    /* Sums of products of finite numbers below 2: always finite. */
    bool finite = gy_matrix_polar(learning->rotation, learning->dim, learning->work, learning->pivots);
    assert(finite);
    (void)finite;
}

gyre_status gy_learning_report(const struct gy_learning *learning, uint32_t done, double loss, gyre_error *err)
{
    const gyre_learn_options *options = &learning->options;
    if (!options->progress || options->progress(options->context, done, options->iterations, loss))
        return GYRE_OK;
    return gyre_fail(err, GYRE_CANCELLED, "stopped after %u of %u iterations", done, options->iterations);
}

void gy_learning_finish(struct gy_learning *learning, float *matrix)
{
    size_t elements = (size_t)learning->dim * learning->dim;
    memcpy(learning->moment, learning->rotation, elements * sizeof *learning->moment);
    gy_learning_procrustes(learning);
    for (size_t i = 0; i < elements; i++)
        matrix[i] = (float)learning->rotation[i];
}
