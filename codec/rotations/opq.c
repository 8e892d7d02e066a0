/* opq: optimized product quantization. With q the code of R o by a product quantizer, the squared error |R o - q|^2 = 1 + |q|^2 -
 * 2<q, R o> falls when each block takes its nearest codeword, when codewords become the means of what they code, and when R
 * becomes the Procrustes solution of sum q·o^T; an iteration does each once. Source  Ge, He, Ke & Sun, "Optimized product
 * quantization", CVPR 2013, the non-parametric form, from R = I on top of P */
#include "codebook_internal.h"
#include "quantizers/pq_books.h"
#include "rotations/learning.h"
#include "sums.h"

#include <stdlib.h>

struct opq {
    struct gy_pq_books *books;
    struct gy_pq_means means;
    uint8_t *codes; /* [count][blocks], of one pass */
};

static gyre_status opq_init(struct opq *opq, const struct gy_learning *learning, const gyre_codebook *start,
                            const gyre_codec *codec, gyre_error *err)
{
    if (learning->count < GY_PQ_WORDS || learning->count > UINT32_MAX)
        return gyre_fail(err, GYRE_INVALID, "opq: a sample of %zu vectors; it takes %d to %u", learning->count, GY_PQ_WORDS,
                         UINT32_MAX);
    GY_TRY(gy_pq_books_new(&opq->books, learning->dim, codec->block, err));
    GY_TRY(gy_pq_means_init(&opq->means, opq->books, err));
    opq->codes = malloc(learning->count * opq->books->count);
    if (!opq->codes)
        return gyre_fail(err, GYRE_NO_MEMORY, "opq: codes of %zu vectors", learning->count);
    return gy_pq_books_draw(opq->books, learning->sample, learning->count, gy_codebook_seed(start), err);
}

static void opq_fini(struct opq *opq)
{
    gy_pq_books_free(opq->books);
    gy_pq_means_fini(&opq->means);
    free(opq->codes);
}

/* Codes of R o into codes, and the codewords to their means. Returns the mean squared error of the codes before the latter. */
static double assign(struct gy_learning *learning, struct opq *opq)
{
    uint32_t dim = learning->dim;
    double error = 0;
    float z[GYRE_DIM_MAX], q[GYRE_DIM_MAX];
    gy_learning_begin(learning);
    gy_pq_means_clear(opq->books, &opq->means);
    for (size_t first = 0; first < learning->count; first += GY_LEARNING_BATCH) {
        size_t rows = gy_learning_batch(learning, first);
        for (size_t i = 0; i < rows; i++) {
            uint8_t *code = opq->codes + (first + i) * opq->books->count;
            for (uint32_t j = 0; j < dim; j++)
                z[j] = (float)learning->out[i * dim + j];
            gy_pq_nearest(opq->books, z, code);
            gy_pq_means_add(opq->books, &opq->means, z, code);
            gy_pq_decode(opq->books, code, q);
            for (uint32_t j = 0; j < dim; j++)
                q[j] -= z[j];
            error += gy_sum_squares(q, dim);
        }
    }
    gy_pq_books_update(opq->books, &opq->means);
    return error / (double)learning->count;
}

/* R for the codes at hand. */
static void turn(struct gy_learning *learning, const struct opq *opq)
{
    uint32_t dim = learning->dim;
    float q[GYRE_DIM_MAX];
    gy_learning_begin(learning);
    for (size_t first = 0; first < learning->count; first += GY_LEARNING_BATCH) {
        size_t rows = gy_learning_load(learning, first);
        for (size_t i = 0; i < rows; i++) {
            gy_pq_decode(opq->books, opq->codes + (first + i) * opq->books->count, q);
            for (uint32_t j = 0; j < dim; j++)
                learning->out[i * dim + j] = (double)q[j];
        }
        gy_learning_collect(learning, rows);
    }
    gy_learning_procrustes(learning);
}

gyre_status gyre_learn_opq(const gyre_codebook *start, const gyre_codec *codec, const float *sample, size_t n,
                           const gyre_learn_options *options, float *matrix, gyre_error *err)
{
    if (codec->kind != GYRE_PQ)
        return gyre_fail(err, GYRE_INVALID, "opq: codec is %s; it must be a product quantizer (pq-…)", codec->name);
    struct gy_learning learning;
    struct opq opq = {0};
    GY_TRY(gy_learning_init(&learning, "opq", start, sample, n, options, err));
    gyre_status status = opq_init(&opq, &learning, start, codec, err);
    for (uint32_t i = 0; i < learning.options.iterations && status == GYRE_OK; i++) {
        double error = assign(&learning, &opq);
        turn(&learning, &opq);
        status = gy_learning_report(&learning, i + 1, error, err);
    }
    if (status == GYRE_OK)
        gy_learning_finish(&learning, matrix);
    opq_fini(&opq);
    gy_learning_fini(&learning);
    return status;
}
