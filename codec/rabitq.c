/* rabitq: one vector to its row and back.
 *
 * r = x - c, z = P r (not scaled: signs need no scale), zb = ±1 by the sign of z, nu^2 = dim, L = sum |z_i|:
 *   rho = L/R        s = R/rho = R^2/L        kappa = sqrt(dim/rho^2 - 1)        e = R·kappa/sqrt(dim-1)
 * Everything is in double until it is stored; e is stored rounded up, so that storage never shrinks a bound. */
#include "rabitq_layout.h"
#include "sums.h"

#include <math.h>

/* What factors can reach when |x|, |c| <= GYRE_NORM_MAX, with room for rounding: R <= 2e16, L >= R, kappa <= sqrt(dim-1). */
static const float scale_max = 3e16f;
static const float square_max = 5e32f;

size_t gyre_rabitq_code_bytes(uint32_t dim) { return gy_code_bytes(dim); }
size_t gyre_rabitq_row_bytes(uint32_t dim) { return gy_code_bytes(dim) + GY_ROW_FACTOR_BYTES; }

/* The least bfloat16 that is not below a value >= 0. */
static uint16_t bf16_up(double value)
{
    float rounded = (float)value;
    if ((double)rounded < value)
        rounded = nextafterf(rounded, INFINITY);
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return (uint16_t)((bits >> 16) + ((bits & 0xffff) != 0));
}

static float bf16_float(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* vector is normalised and checked. */
static void encode_one(const gyre_codebook *codebook, const float *vector, uint8_t *row)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    float residual[GYRE_DIM_MAX], rotated[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        residual[i] = vector[i] - mean[i];
    gyre_rotation_apply(gyre_codebook_rotation(codebook), residual, rotated);

    size_t code_bytes = gy_code_bytes(dim);
    memset(row, 0, code_bytes);
    for (uint32_t i = 0; i < dim; i++)
        row[i / 8] = (uint8_t)(row[i / 8] | (rotated[i] >= 0.0f) << i % 8);

    double r2 = gy_sum_squares(residual, dim);
    double magnitudes = gy_sum_magnitudes(rotated, dim);
    double s = 0, e = 0; /* R = 0, or so small that the rotation rounds it away: nothing to estimate, nothing to err */
    if (r2 > 0 && magnitudes > 0) {
        s = r2 / magnitudes;
        double tan2 = dim * r2 / (magnitudes * magnitudes) - 1.0;
        if (dim > 1 && tan2 > 0)
            e = sqrt(r2 * tan2 / (dim - 1.0));
    }
    double add = gyre_codebook_metric(codebook) == GYRE_L2 ? r2 : -gy_sum_products(residual, mean, dim);
    uint8_t *factors = row + code_bytes;
    gy_store_f32(factors + GY_ROW_S, (float)s);
    gy_store_f32(factors + GY_ROW_ADD, (float)add);
    gy_store_f32(factors + GY_ROW_R2, (float)r2);
    gy_store_u16(factors + GY_ROW_E, bf16_up(e));
}

gyre_status gyre_rabitq_encode(const gyre_codebook *codebook, const float *vectors, size_t n, size_t first_row, uint8_t *rows,
                               gyre_error *err)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    gyre_metric metric = gyre_codebook_metric(codebook);
    float normal[GYRE_DIM_MAX];
    for (size_t i = 0; i < n; i++) {
        const float *vector = vectors + i * dim;
        GY_TRY(gyre_vector_check(metric, vector, dim, first_row + i, err));
        gyre_vector_normalize(metric, vector, normal, dim);
        encode_one(codebook, normal, rows + i * gyre_rabitq_row_bytes(dim));
    }
    return GYRE_OK;
}

static gyre_status factor_check(const char *name, float value, float low, float high, gyre_error *err)
{
    if (value >= low && value <= high) /* false for NaN */
        return GYRE_OK;
    return gyre_fail(err, GYRE_CORRUPT, "row: factor %s is %g; the limits are %g and %g", name, (double)value, (double)low,
                     (double)high);
}

gyre_status gyre_rabitq_row_check(uint32_t dim, const uint8_t *row, gyre_error *err)
{
    size_t code_bytes = gy_code_bytes(dim);
    if (dim % 8 && row[code_bytes - 1] >> dim % 8)
        return gyre_fail(err, GYRE_CORRUPT, "row: padding bits behind dim %u are not zero", dim);
    const uint8_t *factors = row + code_bytes;
    GY_TRY(factor_check("s", gy_load_f32(factors + GY_ROW_S), 0, scale_max, err));
    GY_TRY(factor_check("add", gy_load_f32(factors + GY_ROW_ADD), -square_max, square_max, err));
    GY_TRY(factor_check("r2", gy_load_f32(factors + GY_ROW_R2), 0, square_max, err));
    return factor_check("e", bf16_float(gy_load_u16(factors + GY_ROW_E)), 0, scale_max, err);
}

void gyre_rabitq_decode(const gyre_codebook *codebook, const uint8_t *row, float *out)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    const uint8_t *factors = row + gy_code_bytes(dim);
    double s = (double)gy_load_f32(factors + GY_ROW_S), r2 = (double)gy_load_f32(factors + GY_ROW_R2);
    /* R·rho/nu^2 = R^2/(s·dim), at most R; a row with s = 0 is its reference point. */
    float step = s > 0 ? (float)fmin(r2 / (s * dim), sqrt(r2)) : 0.0f;
    float signs[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        signs[i] = row[i / 8] >> i % 8 & 1 ? step : -step;
    gyre_rotation_invert(gyre_codebook_rotation(codebook), signs, out);
    for (uint32_t i = 0; i < dim; i++)
        out[i] += mean[i];
}
