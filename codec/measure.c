/* measure: the epsilon that held-out pairs ask for.
 *
 * With t_i the error of pair i in units of what the bound multiplies by epsilon, the k-th smallest |t|, k =
 * ceil(confidence·(n+1)), covers one more pair drawn in the same way with at least that probability, whatever the law of t (the
 * argument of conformal prediction: the new pair is equally likely to have any rank among n+1). That is an average over pairs;
 * what it says of one vector is nothing. */
#include "gyre/learn.h"

#include "query_internal.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

/* A query refuses 0; any error is above this. */
static const float epsilon_min = 1e-3f;

struct pair {
    const gyre_quantizer *quantizer;
    const gyre_query *query;
    const float *y; /* [dim] P (q - c) */
    double inner;   /* <g,r> */
    gyre_bound_kind bound;
};

/* |error| of s·<y,zb> over what one epsilon is worth; 0 where there is nothing to err. */
static double error_of(const struct pair *pair, size_t plane, const struct gy_row *row)
{
    const gyre_quantizer *quantizer = pair->quantizer;
    const struct gy_coder *coder = quantizer->coder[plane];
    const void *state = quantizer->state[plane];
    float zb[GYRE_DIM_MAX];
    coder->decode(quantizer, state, &row->code, zb);
    double error = fabs((double)row->s * gy_sum_products(pair->y, zb, gy_quantizer_dim(quantizer)) - pair->inner);
    double g2 = pair->query->g2, r2 = (double)row->r2, certain = 0;
    double across2 = pair->bound == GYRE_BOUND_CALIBRATED && r2 > 0 ? fmax(0, g2 - pair->inner * pair->inner / r2) : g2;
    double unit = (double)row->e * sqrt(across2);
    if (coder->spread)
        coder->spread(quantizer, state, pair->query->prepared, &row->code, (double)row->s, &unit, &certain);
    return unit > 0 ? fmax(0, error - certain) / unit : 0;
}

/* The largest error of a pair's planes. query is normalised. */
static gyre_status measure_pair(const gyre_quantizer *quantizer, const float *vector, const float *query, size_t i,
                                gyre_bound_kind bound, uint8_t *bytes, double *out, gyre_error *err)
{
    const gyre_codebook *codebook = quantizer->codebook;
    uint32_t dim = gyre_codebook_dim(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    float g[GYRE_DIM_MAX], r[GYRE_DIM_MAX];
    GY_TRY(gyre_quantizer_encode(quantizer, vector, 1, i, bytes, err));
    gyre_vector_normalize(gyre_codebook_metric(codebook), vector, r, dim);
    for (uint32_t j = 0; j < dim; j++) {
        r[j] -= mean[j];
        g[j] = query[j] - mean[j];
    }
    GY_AUTO(gyre_query) *prepared = NULL;
    GY_TRY(gyre_query_new(&prepared, quantizer, query, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, err));
    double inner = gy_sum_products(g, r, dim);
    if (gy_quantizer_rotates(quantizer))
        gyre_rotation_apply(gyre_codebook_rotation(codebook), g, g);
    struct pair pair = {quantizer, prepared, g, inner, bound};
    struct gy_row row;
    gy_row_open(quantizer, bytes, &row);
    *out = error_of(&pair, row.plane, &row);
    if (row.plane == 0)
        return GYRE_OK;
    const uint8_t *factors = bytes + gyre_codec_scan_code_bytes(quantizer->codec, dim);
    row.code = (struct gy_code){NULL, bytes};
    row.s = gy_load_f32(factors + GY_ROW_S);
    row.e = gy_bf16_float(gy_load_u16(factors + GY_ROW_E));
    *out = fmax(*out, error_of(&pair, 0, &row));
    return GYRE_OK;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

gyre_status gyre_bound_measure(const gyre_quantizer *quantizer, const float *vectors, const float *queries, size_t n,
                               gyre_bound_kind bound, double confidence, float *epsilon, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    gyre_metric metric = gyre_codebook_metric(quantizer->codebook);
    if (bound != GYRE_BOUND_PLAIN && bound != GYRE_BOUND_CALIBRATED)
        return gyre_fail(err, GYRE_INVALID, "bound is %d; epsilon is measured for plain (1) or calibrated (2)", (int)bound);
    if (!(confidence > 0.5 && confidence < 1))
        return gyre_fail(err, GYRE_INVALID, "confidence is %g; it must be above 0.5 and below 1", confidence);
    double rank = ceil(confidence * ((double)n + 1));
    if (!(rank <= (double)n))
        return gyre_fail(err, GYRE_INVALID, "%zu pairs cannot show a confidence of %g; it takes %.0f", n, confidence,
                         ceil(confidence / (1 - confidence)));
    size_t row_bytes = gyre_codec_row_bytes(quantizer->codec, dim);
    double *errors = malloc(n * sizeof *errors);
    uint8_t *row = malloc(row_bytes);
    gyre_status status = errors && row ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "errors of %zu pairs", n);
    for (size_t i = 0; i < n && status == GYRE_OK; i++) {
        float query[GYRE_DIM_MAX];
        status = gyre_vector_check(metric, queries + i * dim, dim, i, err);
        if (status != GYRE_OK) {
            status = gyre_wrap(err, status, "query");
            break;
        }
        gyre_vector_normalize(metric, queries + i * dim, query, dim);
        status = measure_pair(quantizer, vectors + i * dim, query, i, bound, row, &errors[i], err);
    }
    if (status == GYRE_OK) {
        qsort(errors, n, sizeof *errors, by_size);
        *epsilon = fmaxf(nextafterf((float)errors[(size_t)rank - 1], INFINITY), epsilon_min);
    }
    free(errors), free(row);
    return status;
}
