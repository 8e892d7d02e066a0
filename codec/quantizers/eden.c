/* eden: each coordinate as the nearest of the levels that are best for N(0,1), 1 to 4 bits. zb_i = that level, in units of
 * R/sqrt(dim). Unbiased with s = R^2/<z,zb>; *biased* is the same code with the scale of least squared error, whose scores
 * shrink by cos^2 (MATH.md section 0: for reconstruction, not for search). With 1 bit the code is RaBitQ's, and so are the
 * estimates.
 * Source  Vargaftik et al., "DRIVE", NeurIPS 2021, and "EDEN", ICML 2022
 * Bytes   FORMAT.md, "scalar levels" */
#include "quantizers/levels.h"

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return gy_levels_bytes(codec->bits, dim); }

static uint64_t book_hash(const gyre_codec *codec) { return gy_lloyd_max_hash(codec->bits); }

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code) { return gy_levels_valid(code, dim, codec->bits); }

static void values_of(const uint8_t *indices, uint32_t dim, uint32_t bits, float *zb)
{
    float levels[1 << GY_LEVEL_BITS_MAX];
    gy_lloyd_max_levels(bits, 1, levels);
    for (uint32_t i = 0; i < dim; i++)
        zb[i] = levels[indices[i]];
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)state, (void)scratch;
    uint32_t dim = gy_quantizer_dim(quantizer), bits = gyre_quantizer_codec(quantizer)->bits;
    uint8_t indices[GYRE_DIM_MAX];
    gy_lloyd_max_indices(residual->z, residual->per_unit, dim, bits, indices);
    gy_levels_pack(indices, dim, bits, code);
    values_of(indices, dim, bits, zb);
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)state;
    uint32_t dim = gy_quantizer_dim(quantizer), bits = gyre_quantizer_codec(quantizer)->bits;
    uint8_t indices[GYRE_DIM_MAX];
    gy_levels_unpack(code->code, dim, bits, indices);
    values_of(indices, dim, bits, zb);
}

const struct gy_coder gy_coder_eden = {
    .code_bytes = code_bytes,
    .book_hash = book_hash,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_UNBIASED,
};

const struct gy_coder gy_coder_eden_biased = {
    .code_bytes = code_bytes,
    .book_hash = book_hash,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_SHRUNK,
};
