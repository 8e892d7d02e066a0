/* cayley: descent on the manifold of rotations. The loss is that of the codec itself, 1 - mean <zb, R o>/|zb|, with zb the code
 * of R o. With the codes held fixed its gradient is F = -mean (zb/|zb|)·o^T; with W = F·R^T - R·F^T
 *     R(a) = (I + a/2·W)^-1 (I - a/2·W) R
 * is a rotation for every a, and the loss falls along it at -|W|^2/2 per unit of a. The codes of R(a) are made anew, which can
 * only lower the loss further where the encoder finds the best code. A step is halved until the loss falls by a share of what its
 * slope promises (Armijo), and the next one starts from twice the last. Source  Wen & Yin, "A feasible method for optimization
 * with orthogonality constraints", 2013 */
#include "quantizers/coding.h"
#include "rotations/algebra.h"
#include "rotations/learning.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

/* The usual share of Armijo's rule; a step that was halved this often is below the rounding of the loss. */
static const double promised_share = 1e-4;
enum { HALVINGS_MAX = 24 };

/* The loss of R; moment becomes -sum (zb/|zb|)·o^T. */
static double evaluate(struct gy_learning *learning, struct gy_coding *coding)
{
    uint32_t dim = learning->dim;
    double total = 0;
    float z[GYRE_DIM_MAX], zb[GYRE_DIM_MAX];
    gy_learning_begin(learning);
    for (size_t first = 0; first < learning->count; first += GY_LEARNING_BATCH) {
        size_t rows = gy_learning_batch(learning, first);
        for (size_t i = 0; i < rows; i++) {
            double *row = learning->out + i * dim;
            for (uint32_t j = 0; j < dim; j++)
                z[j] = (float)row[j];
            gy_coding_run(coding, z, zb);
            double length = sqrt(gy_sum_squares(zb, dim));
            total += gy_sum_products(z, zb, dim) / length;
            for (uint32_t j = 0; j < dim; j++)
                row[j] = -(double)zb[j] / length;
        }
        gy_learning_collect(learning, rows);
    }
    return 1 - total / (double)learning->count;
}

/* W = (F R^T - R F^T)/count of moment F; returns |W|^2. Uses the first two matrices of work. */
static double tangent(struct gy_learning *learning, double *w)
{
    size_t dim = learning->dim;
    double *product = learning->work, squares = 0, count = (double)learning->count;
    gy_matrix_multiply_bt(product, learning->moment, learning->rotation, dim, learning->work + dim * dim);
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j < dim; j++) {
            double value = (product[i * dim + j] - product[j * dim + i]) / count;
            w[i * dim + j] = value;
            squares += value * value;
        }
    return squares;
}

/* R <- (I + a/2·W)^-1 (I - a/2·W) from. */
static void step(struct gy_learning *learning, const double *w, double a, const double *from)
{
    size_t dim = learning->dim;
    double *system = learning->work;
    for (size_t i = 0; i < dim * dim; i++)
        system[i] = -a / 2 * w[i];
    for (size_t i = 0; i < dim; i++)
        system[i * dim + i] += 1;
    gy_matrix_multiply(learning->rotation, system, from, dim);
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j < dim; j++)
            system[i * dim + j] = a / 2 * w[i * dim + j] + (i == j);
    gy_lu_factor(system, dim, learning->pivots);
    gy_lu_solve(system, learning->pivots, dim, learning->rotation, dim);
}

/* w, from: [dim][dim] each. */
static gyre_status descend(struct gy_learning *learning, struct gy_coding *coding, double *w, double *from, gyre_error *err)
{
    size_t elements = (size_t)learning->dim * learning->dim;
    double loss = evaluate(learning, coding), length = 0;
    for (uint32_t i = 0; i < learning->options.iterations; i++) {
        double slope = tangent(learning, w) / 2, before = loss;
        if (slope <= 0)
            break;
        /* The first step turns by about a radian in every plane: too far, but it is halved. */
        length = length > 0 ? 2 * length : sqrt(learning->dim / (2 * slope));
        memcpy(from, learning->rotation, elements * sizeof *from);
        int halvings = 0;
        for (; halvings < HALVINGS_MAX; halvings++, length /= 2) {
            step(learning, w, length, from);
            loss = evaluate(learning, coding);
            if (loss <= before - promised_share * length * slope)
                break;
        }
        if (halvings == HALVINGS_MAX) { /* as low as it gets */
            memcpy(learning->rotation, from, elements * sizeof *from);
            break;
        }
        GY_TRY(gy_learning_report(learning, i + 1, before, err));
    }
    return GYRE_OK;
}

gyre_status gyre_learn_cayley(const gyre_codebook *start, const gyre_codec *codec, const float *sample, size_t n,
                              const gyre_learn_options *options, float *matrix, gyre_error *err)
{
    struct gy_coding coding;
    struct gy_learning learning;
    GY_TRY(gy_coding_init(&coding, codec, start, err));
    gyre_status status = gy_learning_init(&learning, "cayley", start, sample, n, options, err);
    if (status != GYRE_OK) {
        gy_coding_fini(&coding);
        return status;
    }
    size_t elements = (size_t)learning.dim * learning.dim;
    double *w = malloc(2 * elements * sizeof *w);
    if (w)
        status = descend(&learning, &coding, w, w + elements, err);
    else
        status = gyre_fail(err, GYRE_NO_MEMORY, "cayley: dim %u", learning.dim);
    if (status == GYRE_OK)
        gy_learning_finish(&learning, matrix);
    free(w);
    gy_learning_fini(&learning);
    gy_coding_fini(&coding);
    return status;
}
