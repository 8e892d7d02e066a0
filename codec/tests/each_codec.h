/* each_codec: what tests over every codec of gyre_codec_list share: a quantizer, trained where it must be, the planes of a row,
 * what they stand for, and which law holds for them. */
#ifndef GYRE_CODEC_TESTS_EACH_CODEC_H
#define GYRE_CODEC_TESTS_EACH_CODEC_H

#include "quantizer_internal.h"
#include "quantizers/segments.h"
#include "sums.h"
#include "support.h"

/* Whether the codec can serve the dim at all: some need a multiple of something. */
static UNUSED bool codec_serves(const gyre_codec *codec, uint32_t dim)
{
    const struct gy_coder *coders[GY_PLANES] = {gy_coder_first(codec), gy_coder_second(codec)};
    for (size_t plane = 0; plane < GY_PLANES; plane++)
        if (coders[plane] && coders[plane]->check && coders[plane]->check(codec, dim, NULL) != GYRE_OK)
            return false;
    return codec->kind != GYRE_SEGMENTS || dim <= 1024; /* beyond, its matrices take a test too long */
}

/* Segments want much data and take long to learn. A state like one of theirs: components that fall off, the coordinates as
 * they are. */
static UNUSED gyre_quantizer *any_segments(const gyre_codec *codec, const gyre_codebook *codebook)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gy_quantizer_new_bare(&quantizer, codec, codebook, &err));
    double *variances = must_alloc(dim * sizeof *variances);
    for (uint32_t i = 0; i < dim; i++)
        variances[i] = 1 / (i + 1.0);
    struct gy_segments_plan plan;
    must(gy_segments_plan_make(&plan, variances, dim, quantizer->code_bytes[0], &err));
    free(variances);
    float *basis = calloc((size_t)plan.rows * dim, sizeof *basis);
    assert_non_null(basis);
    for (uint32_t i = 0; i < plan.rows; i++)
        basis[i * dim + i] = 1;
    struct gy_segments *segments = NULL;
    must(gy_segments_new(&segments, codebook, &plan, &basis, &err));
    quantizer->state[0] = segments;
    return GY_TAKE(quantizer);
}

/* Codewords that no k-means made. */
static UNUSED gyre_quantizer *any_pq(const gyre_codec *codec, const gyre_codebook *codebook)
{
    uint32_t dim = gyre_codebook_dim(codebook), p = codec->block, padded = (dim + p - 1) / p * p;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gy_quantizer_new_bare(&quantizer, codec, codebook, &err));
    size_t count = (size_t)padded * 256;
    uint8_t *words = must_alloc(4 * count);
    for (size_t i = 0; i < count; i++) {
        bool beyond = i / (256 * p) * p + i % p >= dim;
        gy_store_f32(words + 4 * i, beyond ? 0 : (float)fmax(-1, fmin(1, random_normal() / sqrt(dim))));
    }
    must(quantizer->coder[0]->state_decode(quantizer, words, 4 * count, &quantizer->state[0], &err));
    free(words);
    return GY_TAKE(quantizer);
}

/* Bound to a codebook, with a state of its kind if it learns. */
static UNUSED gyre_quantizer *any_quantizer(const gyre_codec *codec, const gyre_codebook *codebook)
{
    if (codec->kind == GYRE_SEGMENTS)
        return any_segments(codec, codebook);
    if (codec->kind == GYRE_PQ)
        return any_pq(codec, codebook);
    gyre_quantizer *quantizer = NULL;
    must(gyre_quantizer_new(&quantizer, codec, codebook, &err));
    return quantizer;
}

static UNUSED size_t plane_count(const gyre_codec *codec) { return gyre_codec_has_refinement(codec) ? 2 : 1; }

/* One plane of a row taken apart. */
struct plane {
    const struct gy_coder *coder;
    const void *state;
    struct gy_code code;
    size_t code_bytes;
    double s, e, add, r2;
};

static UNUSED struct plane row_plane(const gyre_quantizer *quantizer, const uint8_t *row, size_t index)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    uint32_t dim = gy_quantizer_dim(quantizer);
    size_t scan_bytes = gyre_codec_scan_code_bytes(codec, dim), refine_bytes = gyre_codec_refine_code_bytes(codec, dim);
    const uint8_t *factors = row + scan_bytes, *refine = factors + GY_ROW_FACTOR_BYTES;
    struct plane plane = {.coder = quantizer->coder[index],
                          .state = quantizer->state[index],
                          .add = (double)gy_load_f32(factors + GY_ROW_ADD),
                          .r2 = (double)gy_load_f32(factors + GY_ROW_R2)};
    if (index == 0) {
        plane.code = (struct gy_code){NULL, row};
        plane.code_bytes = scan_bytes;
        plane.s = (double)gy_load_f32(factors + GY_ROW_S);
        plane.e = (double)gy_bf16_float(gy_load_u16(factors + GY_ROW_E));
    } else {
        plane.code = (struct gy_code){row, refine};
        plane.code_bytes = refine_bytes;
        plane.s = (double)gy_load_f32(refine + refine_bytes + GY_REFINE_S);
        plane.e = (double)gy_bf16_float(gy_load_u16(refine + refine_bytes + GY_REFINE_E));
    }
    return plane;
}

static UNUSED void plane_decode(const gyre_quantizer *quantizer, const struct plane *plane, float *zb)
{
    plane->coder->decode(quantizer, plane->state, &plane->code, zb);
}

/* z = P (x - c) as quantizer.c makes it, of a vector as a client gives it, and R^2. */
static UNUSED double rotated_residual(const gyre_quantizer *quantizer, const float *vector, float *z)
{
    const gyre_codebook *codebook = gyre_quantizer_codebook(quantizer);
    uint32_t dim = gyre_codebook_dim(codebook);
    float plain[GYRE_DIM_MAX];
    gyre_vector_normalize(gyre_codebook_metric(codebook), vector, plain, dim);
    for (uint32_t i = 0; i < dim; i++)
        plain[i] -= gyre_codebook_mean(codebook)[i];
    double r2 = gy_sum_squares(plain, dim);
    if (gy_quantizer_rotates(quantizer))
        gyre_rotation_apply(gyre_codebook_rotation(codebook), plain, z);
    else
        memcpy(z, plain, dim * sizeof *z);
    return r2;
}

/* Whether codec/MATH.md section 0 speaks of the codec's best plane: any code of the rotated residual at the unbiased scale. By
 * name, not by what the coder says of itself. */
static UNUSED bool has_law(const gyre_codec *codec)
{
    switch ((gyre_codec_kind)codec->kind) {
    case GYRE_RABITQ:
    case GYRE_BLOCKQUANT:
    case GYRE_ADDITIVE:
    case GYRE_SIGNBLOCK:
    case GYRE_TRELLIS:
    case GYRE_SIGNTRELLIS: return true;
    case GYRE_EDEN: return codec->variant != GYRE_VARIANT_BIASED;
    default: return false;
    }
}

/* Whether a probabilistic bound is claimed: by the law, or by the law of each part. */
static UNUSED bool has_bound(const gyre_codec *codec) { return has_law(codec) || codec->kind == GYRE_SEGMENTS; }

/* Whether estimates are s·<y,zb>: all but those whose estimator is not linear in a decoded code. */
static UNUSED bool is_linear(const gyre_codec *codec) { return codec->kind != GYRE_HAMMING; }

#endif
