/* jl: the first few coordinates of the rotated vector and none of the rest: a random projection. Of dim coordinates *byte*
 * keeps an eighth, as bytes, and *float* a thirty-second, as f32, so that both take one bit a dimension. zb_i = dim/kept·z_i/R
 * where z_i is kept, 0 elsewhere, so that <g,r> ~ R·<y,zb>; the scale is R.
 * Source  Johnson & Lindenstrauss 1984
 * Bytes   FORMAT.md, "jl"
 *
 * What can be said of the error. It is <y, R·zb - z>: of both what is not kept and what is kept and inflated, whose length
 * |R·zb - z| is measured and stored as for every code, so the certain bound holds, and is wide. As a law it is only nearly
 * right: over rotations the estimate is unbiased, but its error has a part along r, the deviation of the kept share from
 * kept/dim, which the direction of the query does not average away: near pairs err by sqrt(2/kept)·<g,r> more. */
#include "kernels/kernels.h"
#include "quantizers/coder.h"

#include <math.h>

/* x = z·sqrt(dim)/R is about N(0,1): bytes reach to four deviations. */
static const float bytes_per_unit = 31.75f;
/* No coordinate of a unit vector is larger than 1; the rest is room for rounding. */
static const float unit_max = 1.001f;

static bool keeps_floats(const gyre_codec *codec) { return codec->variant == GYRE_VARIANT_FLOAT; }

static uint32_t kept(const gyre_codec *codec, uint32_t dim) { return (dim + codec->block - 1u) / codec->block; }

static size_t code_bytes(const gyre_codec *codec, uint32_t dim)
{
    return kept(codec, dim) * (keeps_floats(codec) ? sizeof(float) : 1);
}

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    for (uint32_t i = 0; i < kept(codec, dim); i++)
        if (keeps_floats(codec) ? !(fabsf(gy_load_f32(code + 4 * i)) <= unit_max) : code[i] == 0x80)
            return false;
    return true;
}

/* The coordinates that are kept, as they enter zb. */
static void values_of(const gyre_codec *codec, uint32_t dim, const uint8_t *code, float *values)
{
    double inflation = (double)dim / kept(codec, dim);
    float per_byte = (float)(inflation / (double)bytes_per_unit / sqrt(dim));
    for (uint32_t i = 0; i < kept(codec, dim); i++)
        values[i] = keeps_floats(codec) ? gy_load_f32(code + 4 * i) * (float)inflation : (float)(int8_t)code[i] * per_byte;
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)state;
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    uint32_t dim = gy_quantizer_dim(quantizer), count = kept(codec, dim);
    values_of(codec, dim, code->code, zb);
    memset(zb + count, 0, (dim - count) * sizeof *zb);
}

static uint8_t byte_of(float x)
{
    float magnitude = fabsf(x) * bytes_per_unit + 0.5f;
    int level = magnitude < 127 ? (int)magnitude : 127;
    return (uint8_t)(x < 0 ? -level : level);
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)scratch;
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    uint32_t dim = gy_quantizer_dim(quantizer);
    float to_unit = residual->per_unit * (float)(1 / sqrt(dim));
    for (uint32_t i = 0; i < kept(codec, dim); i++)
        if (keeps_floats(codec))
            gy_store_f32(code + 4 * i, residual->z[i] * to_unit);
        else
            code[i] = byte_of(residual->z[i] * residual->per_unit);
    decode(quantizer, state, &(struct gy_code){.code = code}, zb);
}

/* prepared is y: what is not kept is not read. */
static double dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    (void)state;
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    uint32_t dim = gy_quantizer_dim(quantizer);
    float values[GYRE_DIM_MAX];
    values_of(codec, dim, code->code, values);
    return (double)gy_kernels_current()->vector->dot(prepared, values, kept(codec, dim));
}

const struct gy_coder gy_coder_jl = {
    .code_bytes = code_bytes,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_OWN,
    .dot = dot,
};
