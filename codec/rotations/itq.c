/* itq: iterative quantization. With b = sign(R o) the mean cosine of the sign code is <b, R o>/sqrt(dim), averaged: of all b the
 * signs maximise it for a given R, and of all R the Procrustes solution of sum b·o^T maximises it for given b. So taking turns
 * never lowers it. Source  Gong & Lazebnik, "Iterative quantization", CVPR 2011, from R = I on top of P */
#include "rotations/learning.h"

#include <math.h>

/* The sum of |R o| over the sample; moment becomes sum b·o^T. */
static double pass(struct gy_learning *learning)
{
    double total = 0;
    gy_learning_begin(learning);
    for (size_t first = 0; first < learning->count; first += GY_LEARNING_BATCH) {
        size_t rows = gy_learning_batch(learning, first);
        for (size_t i = 0; i < rows; i++) {
            double *row = learning->out + i * learning->dim, sum = 0;
            for (uint32_t j = 0; j < learning->dim; j++) {
                sum += fabs(row[j]);
                row[j] = row[j] >= 0 ? 1 : -1;
            }
            total += sum;
        }
        gy_learning_collect(learning, rows);
    }
    return total;
}

gyre_status gyre_learn_itq(const gyre_codebook *start, const float *sample, size_t n, const gyre_learn_options *options,
                           float *matrix, gyre_error *err)
{
    struct gy_learning learning;
    GY_TRY(gy_learning_init(&learning, "itq", start, sample, n, options, err));
    gyre_status status = GYRE_OK;
    for (uint32_t i = 0; i < learning.options.iterations && status == GYRE_OK; i++) {
        double loss = 1 - pass(&learning) / ((double)learning.count * sqrt(learning.dim));
        gy_learning_procrustes(&learning);
        status = gy_learning_report(&learning, i + 1, loss, err);
    }
    if (status == GYRE_OK)
        gy_learning_finish(&learning, matrix);
    gy_learning_fini(&learning);
    return status;
}
