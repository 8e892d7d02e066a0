/* estimate: rows against a query by their best plane, in double, with the bound the query asks for. */
#include "gyre/bound.h"
#include "query_internal.h"
#include "sums.h"

#include <float.h>
#include <math.h>

double gy_query_round(const float *y, uint32_t dim, uint32_t bits, int8_t *levels)
{
    double largest = (double)gy_largest_magnitude(y, dim), top = (double)((1u << (bits - 1)) - 1);
    double step = largest / top;
    for (uint32_t i = 0; i < dim; i++)
        levels[i] = largest > 0 ? (int8_t)fmin(fmax(round((double)y[i] / step), -top), top) : 0;
    return step;
}

size_t gy_float_query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    (void)bits;
    return gy_quantizer_dim(quantizer) * sizeof(float);
}

void gy_float_query_prepare(const gyre_quantizer *quantizer, const float *y, uint32_t bits, void *prepared, double *step)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    float *rounded = prepared;
    *step = 0;
    memcpy(rounded, y, dim * sizeof *y);
    if (!bits)
        return;
    int8_t levels[GYRE_DIM_MAX];
    *step = gy_query_round(y, dim, bits, levels);
    for (uint32_t i = 0; i < dim; i++)
        rounded[i] = (float)(*step * levels[i]);
}

double gy_float_query_dot(const gyre_quantizer *quantizer, const struct gy_coder *coder, const void *state, const void *prepared,
                          const struct gy_code *code)
{
    float zb[GYRE_DIM_MAX];
    coder->decode(quantizer, state, code, zb);
    return (double)gy_kernels_current()->vector->dot(prepared, zb, gy_quantizer_dim(quantizer));
}

/* A float at or beyond a double. */
static float float_below(double value)
{
    float rounded = (float)value;
    return (double)rounded > value ? nextafterf(rounded, -INFINITY) : rounded;
}
static float float_above(double value) { return -float_below(-value); }

/* R^2 and what is lost of it where it is stored among denormals: for bounds, which must not lose R with it. */
static double square_up(const struct gy_row *row) { return (double)row->r2 + (row->s > 0 ? 0x1p-149 : 0); }

/* The interval of <g,r>, estimated as inner.
 *   random   standard error of the code times sqrt(dim-1)/sqrt(1-c^2), as spread says; certain: what is to be added in any case */
static void inner_interval(const gyre_query *query, const struct gy_row *row, uint32_t dim, double inner, double random, double certain,
                           double *low, double *high)
{
    double degrees = dim > 1 ? dim - 1.0 : 1.0, r2 = square_up(row), e2 = (double)row->e * (double)row->e;
    double spread2 = r2 + e2 * degrees; /* R^2·(1 + kappa^2) = |s·zb|^2 */
    if (query->bound == GYRE_BOUND_CERTAIN) {
        double half = random * sqrt(degrees) + certain + query->step / 2 * sqrt(dim * spread2);
        *low = inner - half, *high = inner + half;
        return;
    }
    double error = query->epsilon * sqrt(random * random + query->step * query->step / 12 * spread2);
    *low = inner - error - certain, *high = inner + error + certain;
    if (query->bound == GYRE_BOUND_CALIBRATED && row->r2 >= FLT_MIN && query->g2 > 0) { /* among denormals R has lost its digits */
        double product = sqrt((double)row->r2 * query->g2);
        gyre_bound_calibrated(inner / product, error / product, low, high);
        *low = *low * product - certain, *high = *high * product + certain;
    }
}

static void estimate_row(const gyre_query *query, const struct gy_row *row, gyre_estimate *out)
{
    const gyre_quantizer *quantizer = query->quantizer;
    const struct gy_coder *coder = quantizer->coder[row->plane];
    const void *state = quantizer->state[row->plane];
    uint32_t dim = gy_quantizer_dim(quantizer);
    double dot = coder->dot ? coder->dot(quantizer, state, query->prepared, &row->code)
                            : gy_float_query_dot(quantizer, coder, state, query->prepared, &row->code);
    double inner = (double)row->s * dot, random = (double)row->e * sqrt(query->g2), certain = 0, low, high;
    if (coder->spread)
        coder->spread(quantizer, state, query->prepared, &row->code, (double)row->s, &random, &certain);
    inner_interval(query, row, dim, inner, random, certain, &low, &high);
    double fixed = (double)row->add + query->base, r2 = square_up(row), e = (double)row->e;
    double rounding = query->rounding_base + fabs((double)row->add) * query->rounding_add +
                      sqrt(r2 + e * e * dim) * (query->rounding_s + (query->rounding_add > 0 ? query->rounding_add * sqrt(query->g2) : 0));
    out->distance = (float)(fixed - query->factor * inner);
    out->low = float_below(fixed - query->factor * high - rounding);
    out->high = float_above(fixed - query->factor * low + rounding);
}

void gyre_query_estimate(const gyre_query *query, const uint8_t *const *rows, size_t n, gyre_estimate *out)
{
    for (size_t i = 0; i < n; i++) {
        struct gy_row row;
        gy_row_open(query->quantizer, rows[i], &row);
        estimate_row(query, &row, &out[i]);
    }
}

void gyre_query_refine(const gyre_query *query, const uint8_t *blocks, const uint8_t *refine_rows, const gyre_hit *hits, size_t n,
                       gyre_estimate *out)
{
    const gyre_quantizer *quantizer = query->quantizer;
    uint32_t dim = gy_quantizer_dim(quantizer);
    size_t code_bytes = gyre_codec_scan_code_bytes(quantizer->codec, dim), block_bytes = gy_block_bytes(code_bytes);
    size_t refine_code_bytes = gyre_codec_refine_code_bytes(quantizer->codec, dim);
    size_t refine_row_bytes = gyre_codec_refine_row_bytes(quantizer->codec, dim);
    uint8_t signs[GYRE_DIM_MAX / 8];
    for (size_t i = 0; i < n; i++) {
        const uint8_t *block = blocks + hits[i].row / GYRE_BLOCK_ROWS * block_bytes;
        size_t place = hits[i].row % GYRE_BLOCK_ROWS;
        const uint8_t *factors = block + gy_pair_count(code_bytes) * GY_PAIR_BYTES;
        const uint8_t *refine = refine_rows + hits[i].row * refine_row_bytes;
        for (size_t j = 0; j < code_bytes; j++)
            signs[j] = block[GYRE_BLOCK_ROWS * j + place];
        struct gy_row row = {
            .plane = 1,
            .code = {signs, refine},
            .s = gy_load_f32(refine + refine_code_bytes + GY_REFINE_S),
            .add = gy_load_f32(factors + GY_BLOCK_ADD + 4 * place),
            .r2 = gy_load_f32(factors + GY_BLOCK_R2 + 4 * place),
            .e = gy_bf16_float(gy_load_u16(refine + refine_code_bytes + GY_REFINE_E)),
        };
        estimate_row(query, &row, &out[i]);
    }
}
