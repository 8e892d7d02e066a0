/* turboquant: *mse* is the levels of eden.c at the scale S = 1. *prod* of b bits is b - 1 of such bits and a sign sketch of
 * what they leave over, which makes the estimate unbiased: with e = z/R - zb_mse, and A of independent N(0,1),
 *     <g,r>/R ~ <y,zb_mse> + sqrt(pi/2)/dim·|e|·<A y, sign(A e)>
 * This is <y,zb> with zb = zb_mse + sqrt(pi/2)/dim·|e|·A^T sign(A e), linear in y, so the measured residual bounds it as any
 * code's; it has a variance of about (pi/2)·|e|^2/dim, more than the scale of the unbiased estimator costs (MATH.md 2.3).
 * Source  Zandieh et al., "TurboQuant", 2025, algorithms 1 and 2; "QJL", 2024
 * Bytes   FORMAT.md, "turboquant"
 *
 * Signs must be the same on every machine, and a sum near zero is on either side by its last bit: so A and e are whole
 * numbers. An entry of A is the count of heads among 64 tosses less 32, N(0,1)·4 to all that is used of it here; e is rounded
 * to 2^-15 of its largest component. Sums then fit 32 bits up to dim 2048, where A takes 4 MiB and its drawing a tenth of a
 * second; longer vectors are refused. A code takes two passes over A, a query one. */
#include "codebook_internal.h"
#include "kernels/kernels.h"
#include "layout.h"
#include "quantizers/levels.h"
#include "query_internal.h"
#include "rotations/keystream.h"
#include "sums.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { TOSSES = 64, SKETCH_DIM_MAX = 2048, WHOLE_MAX = 32767 };
_Static_assert((int64_t)TOSSES / 2 * WHOLE_MAX * SKETCH_DIM_MAX <= INT32_MAX, "sums of A e fit");

/* |e| of a unit vector and its nearest levels is well below. */
static const float rest_max = 2.0f;
static const double deviation = 4; /* of an entry of A: sqrt(TOSSES)/2 */

static bool sketches(const gyre_codec *codec) { return codec->variant == GYRE_VARIANT_PROD; }

static uint32_t level_bits(const gyre_codec *codec) { return sketches(codec) ? codec->bits - 1u : codec->bits; }

static gyre_status check(const gyre_codec *codec, uint32_t dim, gyre_error *err)
{
    if (!sketches(codec) || dim <= SKETCH_DIM_MAX)
        return GYRE_OK;
    return gyre_fail(err, GYRE_INVALID, "dim is %u; a sketch has at most %d, as its matrix is dim x dim", dim, SKETCH_DIM_MAX);
}

/* Planes of the levels | the sketch's plane | |e| f32, the last two for prod. */
static size_t code_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gy_levels_bytes(level_bits(codec), dim) + (sketches(codec) ? gy_sign_bytes(dim) + sizeof(float) : 0);
}

static uint64_t book_hash(const gyre_codec *codec) { return level_bits(codec) ? gy_lloyd_max_hash(level_bits(codec)) : 0; }

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    const uint8_t *signs = code + gy_levels_bytes(level_bits(codec), dim);
    if (!gy_levels_valid(code, dim, level_bits(codec)))
        return false;
    if (!sketches(codec))
        return true;
    float rest = gy_load_f32(signs + gy_sign_bytes(dim));
    return gy_levels_valid(signs, dim, 1) && rest >= 0 && rest <= rest_max;
}

/* The state of prod. */
struct sketch {
    float scale; /* sqrt(pi/2)/dim over the deviation of an entry */
    int8_t a[];  /* [dim][dim] */
};

static gyre_status open(const gyre_quantizer *quantizer, void **state, gyre_error *err)
{
    if (!sketches(gyre_quantizer_codec(quantizer)))
        return GYRE_OK;
    uint32_t dim = gy_quantizer_dim(quantizer);
    size_t count = (size_t)dim * dim;
    struct sketch *sketch = malloc(sizeof *sketch + count);
    if (!sketch)
        return gyre_fail(err, GYRE_NO_MEMORY, "sketch of dim %u", dim);
    sketch->scale = (float)(sqrt(M_PI_2) / (dim * deviation));
    struct gy_keystream stream;
    gy_keystream_start(&stream, gy_codebook_seed(gyre_quantizer_codebook(quantizer)), "QJL1", dim, 0);
    for (size_t i = 0; i < count; i++)
        sketch->a[i] = (int8_t)((int)gy_ones(gy_keystream_u64(&stream)) - TOSSES / 2);
    sodium_memzero(&stream, sizeof stream);
    *state = sketch;
    return GYRE_OK;
}

/* e in whole steps of its largest component / WHOLE_MAX. */
static void round_rest(const float *rest, uint32_t dim, int16_t *whole)
{
    float largest = 0;
    for (uint32_t i = 0; i < dim; i++)
        largest = fabsf(rest[i]) > largest ? fabsf(rest[i]) : largest;
    float scale = (float)WHOLE_MAX / largest;
    for (uint32_t i = 0; i < dim; i++) {
        int32_t magnitude = scale <= FLT_MAX ? (int32_t)(fabsf(rest[i]) * scale + 0.5f) : 0;
        whole[i] = (int16_t)(rest[i] < 0 ? -magnitude : magnitude);
    }
}

/* Bit j is 1 iff (A e)_j >= 0. */
static void sketch_signs(const struct sketch *sketch, const int16_t *rest, uint32_t dim, uint8_t *signs)
{
    memset(signs, 0, gy_sign_bytes(dim));
    for (uint32_t j = 0; j < dim; j++) {
        const int8_t *row = sketch->a + (size_t)j * dim;
        int32_t sum = 0;
        for (uint32_t i = 0; i < dim; i++)
            sum += row[i] * rest[i];
        signs[j / 8] |= (uint8_t)((sum >= 0) << j % 8);
    }
}

/* zb += sqrt(pi/2)/dim·|e|·A^T signs. */
static void add_sketch(const struct sketch *sketch, const uint8_t *signs, float rest, uint32_t dim, float *zb)
{
    int32_t sums[SKETCH_DIM_MAX] = {0};
    for (uint32_t j = 0; j < dim; j++) {
        const int8_t *row = sketch->a + (size_t)j * dim;
        int32_t sign = signs[j / 8] >> j % 8 & 1 ? 1 : -1;
        for (uint32_t i = 0; i < dim; i++)
            sums[i] += sign * row[i];
    }
    float scale = rest * sketch->scale;
    for (uint32_t i = 0; i < dim; i++)
        zb[i] += (float)sums[i] * scale;
}

/* zb of the levels alone. */
static void level_values(const gyre_codec *codec, uint32_t dim, const uint8_t *code, float *zb)
{
    uint32_t bits = level_bits(codec);
    if (!bits) {
        memset(zb, 0, dim * sizeof *zb);
        return;
    }
    uint8_t indices[GYRE_DIM_MAX];
    float levels[1 << GY_LEVEL_BITS_MAX];
    gy_levels_unpack(code, dim, bits, indices);
    gy_lloyd_max_levels(bits, (float)(1 / sqrt(dim)), levels);
    for (uint32_t i = 0; i < dim; i++)
        zb[i] = levels[indices[i]];
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)scratch;
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    uint32_t dim = gy_quantizer_dim(quantizer), bits = level_bits(codec);
    uint8_t *signs = code + gy_levels_bytes(bits, dim);
    if (bits) {
        uint8_t indices[GYRE_DIM_MAX];
        gy_lloyd_max_indices(residual->z, residual->per_unit, dim, bits, indices);
        gy_levels_pack(indices, dim, bits, code);
    }
    level_values(codec, dim, code, zb);
    if (!sketches(codec))
        return;
    float rest[SKETCH_DIM_MAX], to_unit = residual->per_unit * (float)(1 / sqrt(dim));
    int16_t whole[SKETCH_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        rest[i] = residual->z[i] * to_unit - zb[i];
    float length = (float)sqrt(gy_sum_squares(rest, dim));
    round_rest(rest, dim, whole);
    sketch_signs(state, whole, dim, signs);
    gy_store_f32(signs + gy_sign_bytes(dim), length);
    add_sketch(state, signs, length, dim, zb);
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    uint32_t dim = gy_quantizer_dim(quantizer);
    level_values(codec, dim, code->code, zb);
    if (sketches(codec)) {
        const uint8_t *signs = code->code + gy_levels_bytes(level_bits(codec), dim);
        add_sketch(state, signs, gy_load_f32(signs + gy_sign_bytes(dim)), dim, zb);
    }
}

/* A query of prod: y [dim], rounded as asked, then A y [dim]. */
static size_t query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    return gy_float_query_bytes(quantizer, bits) * (sketches(gyre_quantizer_codec(quantizer)) ? 2 : 1);
}

static void query_prepare(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, void *prepared,
                          double *step)
{
    const struct sketch *sketch = state;
    uint32_t dim = gy_quantizer_dim(quantizer);
    gy_float_query_prepare(quantizer, y, bits, prepared, step);
    if (!sketches(gyre_quantizer_codec(quantizer)))
        return;
    const float *rounded = prepared;
    float *sketched = (float *)prepared + dim, row[SKETCH_DIM_MAX];
    for (uint32_t j = 0; j < dim; j++) {
        for (uint32_t i = 0; i < dim; i++)
            row[i] = sketch->a[(size_t)j * dim + i];
        sketched[j] = (float)gy_sum_products(rounded, row, dim);
    }
}

static double dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    const struct sketch *sketch = state;
    const gy_kernels *kernels = gy_kernels_current();
    uint32_t dim = gy_quantizer_dim(quantizer);
    const float *y = prepared;
    double inner = 0;
    if (level_bits(codec)) {
        float zb[GYRE_DIM_MAX];
        level_values(codec, dim, code->code, zb);
        inner = (double)kernels->vector->dot(y, zb, dim);
    }
    if (!sketches(codec))
        return inner;
    const uint8_t *signs = code->code + gy_levels_bytes(level_bits(codec), dim);
    double half = (double)kernels->planes->dot_float(signs, NULL, dim, 0, y + dim); /* a plane of signs alone stands for ±1/2 */
    return inner + 2 * half * (double)sketch->scale * (double)gy_load_f32(signs + gy_sign_bytes(dim));
}

const struct gy_coder gy_coder_turboquant = {
    .check = check,
    .code_bytes = code_bytes,
    .open = open,
    .close = free,
    .book_hash = book_hash,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_OWN,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
};
