/* dithered: subtractive dither, 2 to 4 bits: each coordinate is shifted by noise that encoder and decoder share, rounded to a
 * uniform grid, and shifted back, so that its error is uniform over a step and independent of it, as long as the grid reaches.
 * Source  Roberts 1962; Schuchman 1964
 * Bytes   FORMAT.md, "dithered"
 *
 * With x_i = z_i·sqrt(dim)/R, a grid over -T…T in 2^bits steps of D = 2T/2^bits, and a dither f_i, uniform in (-1/2, 1/2) steps:
 *     k_i = clip(floor(x_i/D + f_i + 2^(bits-1)))          zb_i = (k_i + 1/2 - 2^(bits-1) - f_i)·D/sqrt(dim)
 * What lies beyond the grid is clipped: T is where that costs as much as a finer grid would gain. The scale is R, the code's
 * own: it errs by a little bias and by something that the law of section 0 does not know exactly; the certain bound holds. */
#include "codebook_internal.h"
#include "quantizers/levels.h"
#include "rotations/keystream.h"

#include <math.h>
#include <stdlib.h>

/* T of 2, 3 and 4 bits (MATH.md 2.7). */
static const float reach[GY_LEVEL_BITS_MAX + 1] = {0, 0, 2.2f, 3.0f, 3.4f};

struct dither {
    float per_unit, step; /* 1/D, and D/sqrt(dim) */
    float shift[];        /* [dim] f */
};

static gyre_status open(const gyre_quantizer *quantizer, void **state, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer), bits = gyre_quantizer_codec(quantizer)->bits;
    struct dither *dither = malloc(sizeof *dither + dim * sizeof *dither->shift);
    if (!dither)
        return gyre_fail(err, GYRE_NO_MEMORY, "dither of dim %u", dim);
    float half = (float)(1u << (bits - 1));
    dither->per_unit = half / reach[bits];
    dither->step = (float)((double)reach[bits] / (double)half / sqrt(dim));
    struct gy_keystream stream;
    gy_keystream_start(&stream, gy_codebook_seed(gyre_quantizer_codebook(quantizer)), "DITH", dim, 0);
    for (uint32_t i = 0; i < dim; i++)
        dither->shift[i] = ((float)(gy_keystream_u32(&stream) >> 9) + 0.5f) * 0x1p-23f - 0.5f; /* exact: 24 bits */
    sodium_memzero(&stream, sizeof stream);
    *state = dither;
    return GYRE_OK;
}

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return gy_levels_bytes(codec->bits, dim); }

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code) { return gy_levels_valid(code, dim, codec->bits); }

static void values_of(const struct dither *dither, const uint8_t *indices, uint32_t dim, uint32_t bits, float *zb)
{
    float half = (float)(1u << (bits - 1));
    for (uint32_t i = 0; i < dim; i++)
        zb[i] = ((float)indices[i] + 0.5f - half - dither->shift[i]) * dither->step;
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)scratch;
    const struct dither *dither = state;
    uint32_t dim = gy_quantizer_dim(quantizer), bits = gyre_quantizer_codec(quantizer)->bits;
    float half = (float)(1u << (bits - 1)), top = 2 * half - 1, per_unit = residual->per_unit * dither->per_unit;
    uint8_t indices[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++) {
        float at = residual->z[i] * per_unit + dither->shift[i] + half;
        indices[i] = (uint8_t)(at > 0 ? at < top ? at : top : 0);
    }
    gy_levels_pack(indices, dim, bits, code);
    values_of(dither, indices, dim, bits, zb);
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    uint32_t dim = gy_quantizer_dim(quantizer), bits = gyre_quantizer_codec(quantizer)->bits;
    uint8_t indices[GYRE_DIM_MAX];
    gy_levels_unpack(code->code, dim, bits, indices);
    values_of(state, indices, dim, bits, zb);
}

const struct gy_coder gy_coder_dithered = {
    .code_bytes = code_bytes,
    .open = open,
    .close = free,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_OWN,
};
