/* codec: the table of names, and sizes from the coders. */
#include "gyre/codec.h"

#include "layout.h"
#include "quantizers/coder.h"

#include <stdio.h>

static const gyre_codec codecs[] = {
    {"rabitq1", "RaBitQ: one sign bit a dimension", GYRE_RABITQ, 1, 0, 0},
    {"rabitq2", "Extended RaBitQ, 2 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 2, 0, 0},
    {"rabitq3", "Extended RaBitQ, 3 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 3, 0, 0},
    {"rabitq4", "Extended RaBitQ, 4 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 4, 0, 0},
    {"rabitq5", "Extended RaBitQ, 5 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 5, 0, 0},
    {"rabitq6", "Extended RaBitQ, 6 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 6, 0, 0},
    {"rabitq7", "Extended RaBitQ, 7 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 7, 0, 0},
    {"rabitq8", "Extended RaBitQ, 8 bits a dimension, two planes: the best scale of each vector", GYRE_RABITQ, 8, 0, 0},
    {"rabitq2-fast", "Extended RaBitQ, 2 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 2, 0, GYRE_VARIANT_FAST},
    {"rabitq3-fast", "Extended RaBitQ, 3 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 3, 0, GYRE_VARIANT_FAST},
    {"rabitq4-fast", "Extended RaBitQ, 4 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 4, 0, GYRE_VARIANT_FAST},
    {"rabitq5-fast", "Extended RaBitQ, 5 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 5, 0, GYRE_VARIANT_FAST},
    {"rabitq6-fast", "Extended RaBitQ, 6 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 6, 0, GYRE_VARIANT_FAST},
    {"rabitq7-fast", "Extended RaBitQ, 7 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 7, 0, GYRE_VARIANT_FAST},
    {"rabitq8-fast", "Extended RaBitQ, 8 bits a dimension, two planes: one scale for all", GYRE_RABITQ, 8, 0, GYRE_VARIANT_FAST},
    {"blockquant-p4b1", "BlockQuant: 16 codewords of 4 dimensions, 1 bit a dimension", GYRE_BLOCKQUANT, 1, 4, 0},
    {"blockquant-p8b1", "BlockQuant: 256 codewords of 8 dimensions, 1 bit a dimension", GYRE_BLOCKQUANT, 1, 8, 0},
    {"blockquant-p2b2", "BlockQuant: 16 codewords of 2 dimensions, 2 bits a dimension", GYRE_BLOCKQUANT, 2, 2, 0},
    {"blockquant-p4b2", "BlockQuant: 256 codewords of 4 dimensions, 2 bits a dimension", GYRE_BLOCKQUANT, 2, 4, 0},
    {"blockquant-p4b3", "BlockQuant: 4096 codewords of 4 dimensions, 3 bits a dimension", GYRE_BLOCKQUANT, 3, 4, 0},
    {"blockquant-p2b4", "BlockQuant: 256 codewords of 2 dimensions, 4 bits a dimension", GYRE_BLOCKQUANT, 4, 2, 0},
    {"additive-p8b1", "sums of two of 16 codewords of 8 dimensions, 1 bit a dimension", GYRE_ADDITIVE, 1, 8, 0},
    {"signblock-p8b2", "signs and 256 patterns of 8 magnitudes, 2 bits a dimension, two planes", GYRE_SIGNBLOCK, 2, 8, 0},
    {"signblock-p4b3", "signs and 256 patterns of 4 magnitudes, 3 bits a dimension, two planes", GYRE_SIGNBLOCK, 3, 4, 0},
    {"signblock-p2b4", "signs and 64 patterns of 2 magnitudes, 4 bits a dimension, two planes", GYRE_SIGNBLOCK, 4, 2, 0},
    {"trellis-l6b1", "trellis of 64 states, 1 bit a dimension", GYRE_TRELLIS, 1, 6, 0},
    {"trellis-l8b1", "trellis of 256 states, 1 bit a dimension", GYRE_TRELLIS, 1, 8, 0},
    {"trellis-l8b2", "trellis of 256 states, 2 bits a dimension", GYRE_TRELLIS, 2, 8, 0},
    {"signtrellis-b2", "signs and a trellis of 256 magnitudes, 2 bits a dimension, two planes", GYRE_SIGNTRELLIS, 2, 8, 0},
    {"signtrellis-b3", "signs and a trellis of 256 magnitudes, 3 bits a dimension, two planes", GYRE_SIGNTRELLIS, 3, 8, 0},
    {"signtrellis-b4", "signs and a trellis of 256 magnitudes, 4 bits a dimension, two planes", GYRE_SIGNTRELLIS, 4, 8, 0},
    {"eden1", "EDEN, 1 bit a dimension, unbiased: the best levels for Gaussian coordinates", GYRE_EDEN, 1, 0, 0},
    {"eden2", "EDEN, 2 bits a dimension, unbiased: the best levels for Gaussian coordinates", GYRE_EDEN, 2, 0, 0},
    {"eden3", "EDEN, 3 bits a dimension, unbiased: the best levels for Gaussian coordinates", GYRE_EDEN, 3, 0, 0},
    {"eden4", "EDEN, 4 bits a dimension, unbiased: the best levels for Gaussian coordinates", GYRE_EDEN, 4, 0, 0},
    {"eden1-biased", "EDEN, 1 bit a dimension, at the scale of least squared error", GYRE_EDEN, 1, 0, GYRE_VARIANT_BIASED},
    {"eden2-biased", "EDEN, 2 bits a dimension, at the scale of least squared error", GYRE_EDEN, 2, 0, GYRE_VARIANT_BIASED},
    {"eden3-biased", "EDEN, 3 bits a dimension, at the scale of least squared error", GYRE_EDEN, 3, 0, GYRE_VARIANT_BIASED},
    {"eden4-biased", "EDEN, 4 bits a dimension, at the scale of least squared error", GYRE_EDEN, 4, 0, GYRE_VARIANT_BIASED},
    {"turboquant-mse1", "TurboQuant, 1 bit a dimension, least squared error", GYRE_TURBOQUANT, 1, 0, GYRE_VARIANT_MSE},
    {"turboquant-mse2", "TurboQuant, 2 bits a dimension, least squared error", GYRE_TURBOQUANT, 2, 0, GYRE_VARIANT_MSE},
    {"turboquant-mse3", "TurboQuant, 3 bits a dimension, least squared error", GYRE_TURBOQUANT, 3, 0, GYRE_VARIANT_MSE},
    {"turboquant-mse4", "TurboQuant, 4 bits a dimension, least squared error", GYRE_TURBOQUANT, 4, 0, GYRE_VARIANT_MSE},
    {"turboquant-prod1", "TurboQuant, 1 bit a dimension, a sketch of signs and nothing else", GYRE_TURBOQUANT, 1, 0,
     GYRE_VARIANT_PROD},
    {"turboquant-prod2", "TurboQuant, 2 bits a dimension, one of them a sketch of what the others leave", GYRE_TURBOQUANT, 2, 0,
     GYRE_VARIANT_PROD},
    {"turboquant-prod3", "TurboQuant, 3 bits a dimension, one of them a sketch of what the others leave", GYRE_TURBOQUANT, 3, 0,
     GYRE_VARIANT_PROD},
    {"turboquant-prod4", "TurboQuant, 4 bits a dimension, one of them a sketch of what the others leave", GYRE_TURBOQUANT, 4, 0,
     GYRE_VARIANT_PROD},
    {"hamming", "sign bits compared with sign bits, 1 bit a dimension: the baseline", GYRE_HAMMING, 1, 0, 0},
    {"dithered2", "uniform steps with a shared dither, 2 bits a dimension", GYRE_DITHERED, 2, 0, 0},
    {"dithered3", "uniform steps with a shared dither, 3 bits a dimension", GYRE_DITHERED, 3, 0, 0},
    {"dithered4", "uniform steps with a shared dither, 4 bits a dimension", GYRE_DITHERED, 4, 0, 0},
    {"pq-p8", "product quantization, a byte per 8 dimensions, trained on the data: the reference", GYRE_PQ, 1, 8, 0},
    {"pq-p4", "product quantization, a byte per 4 dimensions, trained on the data: the reference", GYRE_PQ, 2, 4, 0},
    {"jl-byte8", "random projection to an eighth of the dimensions, kept as bytes", GYRE_JL, 1, 8, GYRE_VARIANT_BYTE},
    {"jl-float32", "random projection to a thirty-second of the dimensions, kept as floats", GYRE_JL, 1, 32, GYRE_VARIANT_FLOAT},
    {"segments1", "principal components with unequal bits, 1 a dimension on average, trained on skewed data", GYRE_SEGMENTS, 1, 0, 0},
    {"segments2", "principal components with unequal bits, 2 a dimension on average, trained on skewed data", GYRE_SEGMENTS, 2, 0, 0},
    {"segments4", "principal components with unequal bits, 4 a dimension on average, trained on skewed data", GYRE_SEGMENTS, 4, 0, 0},
};
enum { CODECS = sizeof codecs / sizeof *codecs };

/* What factors can reach when |x|, |c| <= GYRE_NORM_MAX, with room for rounding: R <= 2e16, <z,zb> >= R, kappa <= sqrt(dim-1). */
static const float scale_max = 3e16f;
static const float square_max = 5e32f;
/* add of a row of a list: R^2 + 2·s·<d,zb>, with s·|zb| <= R·sqrt(dim) and |d| <= 2e16. */
static const float folded_max = 6e34f;

const gyre_codec *gyre_codec_list(size_t *count)
{
    if (count)
        *count = CODECS;
    return codecs;
}

gyre_status gyre_codec_find(const gyre_codec **out, const char *name, gyre_error *err)
{
    for (size_t i = 0; i < CODECS; i++)
        if (strcmp(codecs[i].name, name) == 0) {
            *out = &codecs[i];
            return GYRE_OK;
        }
    /* One of each kind: all of them would not fit the sentence. */
    char names[GYRE_ERROR_TEXT_BYTES / 2] = "";
    for (size_t i = 0, used = 0; i < CODECS && used < sizeof names; i++)
        if (i == 0 || codecs[i].kind != codecs[i - 1].kind)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", codecs[i].name);
    return gyre_fail(err, GYRE_INVALID, "there is no codec \"%.40s\"; of each kind one: %s", name, names);
}

const struct gy_coder *gy_coder_first(const gyre_codec *codec)
{
    switch ((gyre_codec_kind)codec->kind) {
    case GYRE_RABITQ:
    case GYRE_SIGNBLOCK:
    case GYRE_SIGNTRELLIS:
        return &gy_coder_rabitq;
    case GYRE_BLOCKQUANT:
        return codec->bits * codec->block == 4 ? &gy_coder_blockquant_nibble : &gy_coder_blockquant;
    case GYRE_ADDITIVE:
        return &gy_coder_additive;
    case GYRE_EDEN:
        return codec->variant == GYRE_VARIANT_BIASED ? &gy_coder_eden_biased : &gy_coder_eden;
    case GYRE_TURBOQUANT:
        return &gy_coder_turboquant;
    case GYRE_HAMMING:
        return &gy_coder_hamming;
    case GYRE_DITHERED:
        return &gy_coder_dithered;
    case GYRE_JL:
        return &gy_coder_jl;
    case GYRE_PQ:
        return &gy_coder_pq;
    case GYRE_TRELLIS:
        return &gy_coder_trellis;
    case GYRE_SEGMENTS:
        return &gy_coder_segments;
    default:
        return NULL;
    }
}

const struct gy_coder *gy_coder_second(const gyre_codec *codec)
{
    switch ((gyre_codec_kind)codec->kind) {
    case GYRE_RABITQ:
        return codec->bits > 1 ? &gy_coder_extended : NULL;
    case GYRE_SIGNBLOCK:
        return &gy_coder_signblock;
    case GYRE_SIGNTRELLIS:
        return &gy_coder_signtrellis;
    default:
        return NULL;
    }
}

bool gyre_codec_has_refinement(const gyre_codec *codec) { return gy_coder_second(codec) != NULL; }
bool gyre_codec_scans(const gyre_codec *codec) { return gy_coder_first(codec)->nibbles != NULL; }
bool gyre_codec_has_signs(const gyre_codec *codec) { return gy_coder_first(codec)->levels != NULL; }
bool gyre_codec_is_trained(const gyre_codec *codec) { return gy_coder_first(codec)->train != NULL; }

size_t gyre_codec_scan_code_bytes(const gyre_codec *codec, uint32_t dim) { return gy_coder_first(codec)->code_bytes(codec, dim); }

size_t gyre_codec_scan_row_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gyre_codec_scan_code_bytes(codec, dim) + GY_ROW_FACTOR_BYTES;
}

size_t gyre_codec_refine_code_bytes(const gyre_codec *codec, uint32_t dim)
{
    const struct gy_coder *second = gy_coder_second(codec);
    return second ? second->code_bytes(codec, dim) : 0;
}

size_t gyre_codec_refine_row_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gy_coder_second(codec) ? gyre_codec_refine_code_bytes(codec, dim) + GY_REFINE_FACTOR_BYTES : 0;
}

size_t gyre_codec_row_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gyre_codec_scan_row_bytes(codec, dim) + gyre_codec_refine_row_bytes(codec, dim);
}

size_t gyre_codec_list_refine_row_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gy_coder_second(codec) ? gyre_codec_refine_code_bytes(codec, dim) + GY_LIST_REFINE_FACTOR_BYTES : 0;
}

size_t gyre_codec_list_row_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gyre_codec_scan_row_bytes(codec, dim) + gyre_codec_list_refine_row_bytes(codec, dim);
}

static gyre_status factor_check(const char *name, float value, float low, float high, gyre_error *err)
{
    if (value >= low && value <= high) /* false for NaN */
        return GYRE_OK;
    return gyre_fail(err, GYRE_CORRUPT, "row: factor %s is %g; the limits are %g and %g", name, (double)value, (double)low,
                     (double)high);
}

/* folded: of a list. */
static gyre_status row_check(const gyre_codec *codec, uint32_t dim, const uint8_t *row, bool folded, gyre_error *err)
{
    float add_max = folded ? folded_max : square_max;
    const struct gy_coder *first = gy_coder_first(codec), *second = gy_coder_second(codec);
    if (first->valid && !first->valid(codec, dim, row))
        return gyre_fail(err, GYRE_CORRUPT, "row: no %s code of dim %u has these bytes (is padding zero?)", codec->name, dim);
    const uint8_t *factors = row + gyre_codec_scan_code_bytes(codec, dim);
    GY_TRY(factor_check("s", gy_load_f32(factors + GY_ROW_S), 0, scale_max, err));
    GY_TRY(factor_check("add", gy_load_f32(factors + GY_ROW_ADD), -add_max, add_max, err));
    GY_TRY(factor_check("r2", gy_load_f32(factors + GY_ROW_R2), 0, square_max, err));
    GY_TRY(factor_check("e", gy_bf16_float(gy_load_u16(factors + GY_ROW_E)), 0, scale_max, err));
    if (!second)
        return GYRE_OK;
    const uint8_t *refine = factors + GY_ROW_FACTOR_BYTES;
    if (second->valid && !second->valid(codec, dim, refine))
        return gyre_fail(err, GYRE_CORRUPT, "row: no second plane of a %s code of dim %u has these bytes", codec->name, dim);
    refine += gyre_codec_refine_code_bytes(codec, dim);
    GY_TRY(factor_check("s of the second plane", gy_load_f32(refine + GY_REFINE_S), 0, scale_max, err));
    GY_TRY(factor_check("e of the second plane", gy_bf16_float(gy_load_u16(refine + GY_REFINE_E)), 0, scale_max, err));
    if (!folded)
        return GYRE_OK;
    return factor_check("add of the second plane", gy_load_f32(refine + GY_REFINE_ADD), -add_max, add_max, err);
}

gyre_status gyre_codec_row_check(const gyre_codec *codec, uint32_t dim, const uint8_t *row, gyre_error *err)
{
    return row_check(codec, dim, row, false, err);
}

gyre_status gyre_codec_list_row_check(const gyre_codec *codec, uint32_t dim, const uint8_t *row, gyre_error *err)
{
    return row_check(codec, dim, row, true, err);
}
