/* signblock: BlockQuant nested over the sign plane: every block of p magnitudes becomes the nearest of 2^((bits-1)·p) patterns,
 * and zb_i = sign_i · pattern_i with the signs of the first plane, so one scan of sign bits serves both stages.
 * Source  codec/MATH.md section 2.5 (own)          Bytes  FORMAT.md, "block codes" */
#include "quantizers/blocks.h"

#include <math.h>
#include <stdlib.h>

static uint32_t index_bits_each(const gyre_codec *codec) { return codec->bits - 1u; } /* of a coordinate */

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return gy_blocks_code_bytes(index_bits_each(codec), dim); }

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    return gy_blocks_valid(index_bits_each(codec), dim, code);
}

static gyre_status open_books(const gyre_quantizer *quantizer, void **state, gyre_error *err)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    struct gy_blocks *blocks;
    GY_TRY(gy_blocks_open(&blocks, GY_BOOK_SIGN, gy_quantizer_dim(quantizer), codec->block, codec->bits,
                          index_bits_each(codec) * codec->block, err));
    *state = blocks;
    return GYRE_OK;
}

static uint64_t book_hash(const gyre_codec *codec) { return gy_blocks_book_hash(GY_BOOK_SIGN, codec->block, codec->bits); }

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)scratch;
    uint32_t dim = gy_quantizer_dim(quantizer);
    float v[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        v[i] = fabsf(residual->z[i]) * residual->per_unit;
    gy_blocks_encode(state, v, residual->signs, code, zb);
}

const struct gy_coder gy_coder_signblock = {
    .code_bytes = code_bytes,
    .open = open_books,
    .close = free,
    .book_hash = book_hash,
    .encode = encode,
    .valid = valid,
    .decode = gy_blocks_decode,
    .scale = GY_SCALE_UNBIASED,
    .refines_signs = true,
    .dot = gy_blocks_dot,
};
