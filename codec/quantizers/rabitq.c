/* rabitq: one sign bit per coordinate. After the rotation every coordinate carries about the same share of the vector, so each sign
 * says as much as any other. zb_i = ±1, +1 iff z_i >= 0 (-0 too).
 * Source  Gao & Long, "RaBitQ", SIGMOD 2024: encoding section 3.1, estimator and bound section 3.2, query rounding 3.3
 *
 * A scan rounds the query to y_i ~ D·(u_i - M/2), u_i in 0…M, M = 2^bits - 1, D = 2·max|y|/M, nearest (codec/MATH.md 0.3; nearest has
 * half the variance of randomised rounding). The grid is symmetric, so flipping a bit of the code turns u_i into M - u_i:
 *     zb_i·(u_i - M/2) = M/2 - h_i,   h_i = b_i ? M - u_i : u_i,   <y,zb> = D·(M/2·dim - H) = D/2·(M·dim - 2H)
 * and no count of a row's bits is needed. Padding bits are 0 in every code; with u = 0 there they add 0 to H. Beyond 4 bits u is split
 * into its low 4 bits and the rest, and so is h. */
#include "quantizers/coder.h"

#include "kernels/kernels.h"
#include "layout.h"
#include "sums.h"

#include <math.h>

static size_t code_bytes(const gyre_codec *codec, uint32_t dim)
{
    (void)codec;
    return gy_sign_bytes(dim);
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code, float *zb,
                   void *scratch)
{
    (void)state, (void)scratch;
    uint32_t dim = gy_quantizer_dim(quantizer);
    const gy_signs_kernels *kernels = gy_kernels_current()->signs;
    kernels->pack(residual->z, dim, code);
    kernels->unpack(code, dim, zb);
}

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    (void)codec;
    return dim % 8 == 0 || code[dim / 8] >> dim % 8 == 0;
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)state;
    uint32_t dim = gy_quantizer_dim(quantizer);
    gy_kernels_current()->signs->unpack(code->code, dim, zb);
}

/* u [dim] of the rounded query; returns D. */
static double round_query(const float *y, uint32_t dim, uint32_t bits, uint8_t *u)
{
    uint32_t top = (UINT32_C(1) << bits) - 1;
    double largest = (double)gy_largest_magnitude(y, dim), step = 2 * largest / top;
    for (uint32_t i = 0; i < dim; i++) {
        double level = largest > 0 ? floor((double)y[i] / step + (top / 2.0 + 0.5)) : 0;
        u[i] = (uint8_t)fmin(fmax(level, 0), top);
    }
    return step;
}

static void levels(const float *y, uint32_t dim, uint32_t bits, uint8_t *u) { round_query(y, dim, bits, u); }

/* h of the 16 values of a nibble over four coordinates. A padding coordinate has u = 0 and its bit is never 1. */
static void nibble_table(const uint32_t u[4], uint32_t top, uint8_t table[16])
{
    for (unsigned value = 0; value < 16; value++) {
        uint32_t h = 0;
        for (unsigned i = 0; i < 4; i++)
            h += value >> i & 1 ? top - u[i] : u[i];
        table[value] = (uint8_t)h;
    }
}

static void nibbles(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, struct gy_nibbles *out)
{
    (void)state;
    uint32_t dim = gy_quantizer_dim(quantizer), top = (UINT32_C(1) << bits) - 1;
    uint8_t u[GYRE_DIM_MAX];
    double step = round_query(y, dim, bits, u);
    for (size_t n = 0; n < 2 * gy_sign_bytes(dim); n++) {
        uint32_t low[4] = {0}, high[4] = {0};
        for (uint32_t i = 0; i < 4 && 4 * n + i < dim; i++) {
            low[i] = u[4 * n + i] & 15;
            high[i] = u[4 * n + i] >> 4;
        }
        nibble_table(low, 15, out->low[n]);
        if (bits > 4)
            nibble_table(high, top >> 4, out->high[n]);
    }
    out->step = step;
    out->levels = (int32_t)(top * dim);
    out->positions = dim;
}

const struct gy_coder gy_coder_rabitq = {
    .code_bytes = code_bytes,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_UNBIASED,
    .nibbles = nibbles,
    .levels = levels,
};
