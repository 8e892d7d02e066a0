/* quantizer: what all codecs have in common on the way from a vector to its row and back: checks, centring, rotation, factors.
 *
 * Factors are computed in double from sums in one fixed order (sums.h) and stored in float; e is stored rounded up, so that storage
 * never shrinks a bound. What each scale means is in quantizers/coder.h. */
#include "gyre/quantizer.h"

#include "layout.h"
#include "metric_internal.h"
#include "quantizers/coder.h"
#include "quantizer_internal.h"
#include "sums.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>

/* Below this R a unit scale would leave the range of a float; coders then see z times a power of two, which changes no code. */
static const double tiny_norm = 1e-30;

static const struct gy_coder *coder_of(const gyre_quantizer *quantizer, size_t plane) { return quantizer->coder[plane]; }

const gyre_codec *gyre_quantizer_codec(const gyre_quantizer *quantizer) { return quantizer->codec; }
const gyre_codebook *gyre_quantizer_codebook(const gyre_quantizer *quantizer) { return quantizer->codebook; }
const void *gy_quantizer_state(const gyre_quantizer *quantizer, size_t plane) { return quantizer->state[plane]; }

bool gy_quantizer_rotates(const gyre_quantizer *quantizer)
{
    return !coder_of(quantizer, 0)->unrotated || gyre_codebook_is_learned(quantizer->codebook);
}

bool gy_quantizer_folds(const gyre_quantizer *quantizer)
{
    return !coder_of(quantizer, 0)->unrotated && !coder_of(quantizer, 0)->spread;
}

gyre_status gy_quantizer_new_bare(gyre_quantizer **out, const gyre_codec *codec, const gyre_codebook *codebook, gyre_error *err)
{
    GY_AUTO(gyre_quantizer) *quantizer = calloc(1, sizeof *quantizer);
    if (!quantizer)
        return gyre_fail(err, GYRE_NO_MEMORY, "quantizer");
    quantizer->codec = codec;
    quantizer->codebook = codebook;
    quantizer->coder[0] = gy_coder_first(codec);
    quantizer->coder[1] = gy_coder_second(codec);
    uint32_t dim = quantizer->dim = gyre_codebook_dim(codebook);
    quantizer->code_bytes[0] = gyre_codec_scan_code_bytes(codec, dim);
    quantizer->code_bytes[1] = gyre_codec_refine_code_bytes(codec, dim);
    for (size_t plane = 0; plane < GY_PLANES; plane++) {
        const struct gy_coder *coder = quantizer->coder[plane];
        if (coder && coder->check && coder->check(codec, dim, err) != GYRE_OK)
            return gyre_wrap(err, GYRE_INVALID, "codec %s", codec->name);
        if (coder && coder->scratch_bytes)
            quantizer->scratch_bytes = GY_MAX(quantizer->scratch_bytes, coder->scratch_bytes(codec, dim));
    }
    *out = GY_TAKE(quantizer);
    return GYRE_OK;
}

gyre_status gy_quantizer_open_states(gyre_quantizer *quantizer, gyre_error *err)
{
    for (size_t plane = 0; plane < GY_PLANES; plane++) {
        const struct gy_coder *coder = coder_of(quantizer, plane);
        if (coder && coder->open && !quantizer->state[plane])
            GY_TRY(coder->open(quantizer, &quantizer->state[plane], err));
    }
    return GYRE_OK;
}

gyre_status gyre_quantizer_new(gyre_quantizer **out, const gyre_codec *codec, const gyre_codebook *codebook, gyre_error *err)
{
    if (gyre_codec_is_trained(codec))
        return gyre_fail(err, GYRE_INVALID, "codec %s learns from data: train it", codec->name);
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    GY_TRY(gy_quantizer_new_bare(&quantizer, codec, codebook, err));
    GY_TRY(gy_quantizer_open_states(quantizer, err));
    *out = GY_TAKE(quantizer);
    return GYRE_OK;
}

gyre_status gyre_quantizer_train(gyre_quantizer **out, const gyre_codec *codec, const gyre_codebook *codebook, const float *sample,
                                 size_t n, gyre_error *err)
{
    if (!gyre_codec_is_trained(codec))
        return gyre_quantizer_new(out, codec, codebook, err);
    uint32_t dim = gyre_codebook_dim(codebook);
    gyre_metric metric = gyre_codebook_metric(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    GY_TRY(gy_quantizer_new_bare(&quantizer, codec, codebook, err));
    if (n == 0 || n > SIZE_MAX / dim / sizeof(float))
        return gyre_fail(err, GYRE_INVALID, "codec %s: a sample of %zu vectors", codec->name, n);
    for (size_t i = 0; i < n; i++)
        GY_TRY(gyre_vector_check(metric, sample + i * dim, dim, i, err));
    float *residuals = malloc(n * dim * sizeof *residuals);
    if (!residuals)
        return gyre_fail(err, GYRE_NO_MEMORY, "codec %s: a sample of %zu vectors of dim %u", codec->name, n, dim);
    for (size_t i = 0; i < n; i++) {
        float *residual = residuals + i * dim;
        gyre_vector_normalize(metric, sample + i * dim, residual, dim);
        for (uint32_t j = 0; j < dim; j++)
            residual[j] -= mean[j];
    }
    gyre_status status = quantizer->coder[0]->train(quantizer, residuals, n, &quantizer->state[0], err);
    free(residuals);
    if (status == GYRE_OK)
        *out = GY_TAKE(quantizer);
    return status;
}

void gyre_quantizer_free(gyre_quantizer *quantizer)
{
    if (!quantizer)
        return;
    for (size_t plane = 0; plane < GY_PLANES; plane++)
        if (quantizer->state[plane])
            coder_of(quantizer, plane)->close(quantizer->state[plane]);
    free(quantizer);
}

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

/* |z - s·zb|^2 from the differences themselves, in the order of sums.h. */
static double sum_left(const float *z, const float *zb, double s, uint32_t dim)
{
    double lane[8] = {0};
    for (uint32_t i = 0; i < dim; i++) {
        double left = (double)z[i] - s * (double)zb[i];
        lane[i % 8] += left * left;
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* s and e of a code (quantizers/coder.h), z and r2 in the coder's scale; unscale undoes it. */
static void store_scale(const struct gy_coder *coder, const struct gy_residual *residual, const float *zb, uint32_t dim, double unscale,
                        uint8_t *s_at, uint8_t *e_at)
{
    double r2 = residual->r2, s = 0, left = 0; /* left: |z - s·zb|^2 */
    double along, nu2;
    gy_sum_pair(residual->z, zb, dim, &along, &nu2);
    /* So small that the rotation rounds it away: nothing to err. */
    bool nothing = along == 0 && gy_sum_magnitudes(residual->z, dim) == 0;
    switch (coder->scale) {
    case GY_SCALE_UNBIASED:
        if (along > 0) {
            s = r2 / along;
            left = r2 * (nu2 * r2 / (along * along) - 1.0);
        } else if (!nothing)
            left = r2;
        break;
    case GY_SCALE_SHRUNK:
        if (along > 0)
            s = along / nu2;
        left = nothing ? 0 : r2 - s * along;
        break;
    case GY_SCALE_OWN:
        s = sqrt(r2);
        left = nothing ? 0 : r2 - 2 * s * along + s * s * nu2;
        break;
    }
    /* The rotation keeps lengths to about 10^-6, and so much of R^2 a difference of sums may miss: nothing beside the error of a coarse
     * code, all of it where a code is nearly exact. */
    if (!nothing && left < r2 * 0x1p-10)
        left = sum_left(residual->z, zb, s, dim);
    /* One coordinate at the unbiased scale is exact; at another it has nothing to share its error with. */
    double degrees = dim > 1 ? dim - 1.0 : coder->scale == GY_SCALE_UNBIASED ? INFINITY : 1;
    double e = left > 0 ? sqrt(left / degrees) : 0;
    gy_store_f32(s_at, (float)(s * unscale));
    gy_store_u16(e_at, bf16_up(e * unscale));
}

/* What residuals are taken from, and how rows tell. */
struct frame {
    const float *reference; /* [dim] c */
    const float *offset;    /* rows of a list: [dim] d = P (c - mean). Else NULL */
    size_t row_bytes;
};

/* Stores the add of a plane whose s is stored: of the reference, the query's <y,zb> knows only the mean, and what it lacks,
 * <d,zb>, is folded in here, by the s that estimates will take. */
static void store_add(const struct frame *frame, double add, double factor, const float *zb, uint32_t dim, const uint8_t *s_at,
                      uint8_t *add_at)
{
    double folded = frame->offset ? factor * ((double)gy_load_f32(s_at) * gy_sum_products(frame->offset, zb, dim)) : 0;
    if (folded != 0) /* an add of -0 stays one, as in other rows */
        add += folded;
    gy_store_f32(add_at, (float)add);
}

/* vector is normalised and checked. */
static void encode_one(const gyre_quantizer *quantizer, const struct frame *frame, const float *vector, uint8_t *row,
                       void *scratch)
{
    const gyre_codebook *codebook = quantizer->codebook;
    uint32_t dim = gyre_codebook_dim(codebook);
    float plain[GYRE_DIM_MAX], rotated[GYRE_DIM_MAX], zb[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        plain[i] = vector[i] - frame->reference[i];
    double along_reference, r2;
    gy_sum_pair(frame->reference, plain, dim, &along_reference, &r2);
    if (gy_quantizer_rotates(quantizer))
        gyre_rotation_apply(gyre_codebook_rotation(codebook), plain, rotated);
    else
        memcpy(rotated, plain, dim * sizeof *plain);

    size_t code_bytes = gyre_codec_scan_code_bytes(quantizer->codec, dim);
    uint8_t *factors = row + code_bytes, *refine = factors + GY_ROW_FACTOR_BYTES;
    bool l2 = gyre_codebook_metric(codebook) == GYRE_L2;
    double add = l2 ? r2 : -along_reference, factor = l2 ? 2 : 1;
    memset(row, 0, frame->row_bytes);
    gy_store_f32(factors + GY_ROW_R2, (float)r2);

    struct gy_residual residual = {.z = rotated, .r2 = r2};
    double unscale = 1;
    if (r2 > 0 && r2 < tiny_norm * tiny_norm) {
        for (uint32_t i = 0; i < dim; i++)
            rotated[i] *= 0x1p120f;
        residual.r2 *= 0x1p240;
        unscale = 0x1p-120;
    }
    residual.per_unit = r2 > 0 ? (float)sqrt(dim / residual.r2) : 0;
    coder_of(quantizer, 0)->encode(quantizer, quantizer->state[0], &residual, row, zb, scratch);
    if (r2 > 0)
        store_scale(coder_of(quantizer, 0), &residual, zb, dim, unscale, factors + GY_ROW_S, factors + GY_ROW_E);
    store_add(frame, add, factor, zb, dim, factors + GY_ROW_S, factors + GY_ROW_ADD);
    const struct gy_coder *second = coder_of(quantizer, 1);
    if (second) {
        uint8_t *behind = refine + gyre_codec_refine_code_bytes(quantizer->codec, dim);
        residual.signs = row;
        second->encode(quantizer, quantizer->state[1], &residual, refine, zb, scratch);
        if (r2 > 0)
            store_scale(second, &residual, zb, dim, unscale, behind + GY_REFINE_S, behind + GY_REFINE_E);
        if (frame->offset)
            store_add(frame, add, factor, zb, dim, behind + GY_REFINE_S, behind + GY_REFINE_ADD);
    }
}

static gyre_status encode_rows(const gyre_quantizer *quantizer, const struct frame *frame, const float *vectors, size_t n,
                               size_t first_row, uint8_t *rows, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    gyre_metric metric = gyre_codebook_metric(quantizer->codebook);
    void *scratch = NULL;
    if (quantizer->scratch_bytes && !(scratch = aligned_alloc(64, (quantizer->scratch_bytes + 63) / 64 * 64)))
        return gyre_fail(err, GYRE_NO_MEMORY, "codec %s: %zu bytes", quantizer->codec->name, quantizer->scratch_bytes);
    float normal[GYRE_DIM_MAX];
    gyre_status status = GYRE_OK;
    for (size_t i = 0; i < n && status == GYRE_OK; i++) {
        const float *vector = vectors + i * dim;
        status = gy_vector_prepare(metric, vector, normal, dim, first_row + i, err);
        if (status == GYRE_OK)
            encode_one(quantizer, frame, normal, rows + i * frame->row_bytes, scratch);
    }
    free(scratch);
    return status;
}

gyre_status gyre_quantizer_encode(const gyre_quantizer *quantizer, const float *vectors, size_t n, size_t first_row,
                                  uint8_t *rows, gyre_error *err)
{
    const struct frame frame = {.reference = gyre_codebook_mean(quantizer->codebook),
                                .row_bytes = gyre_codec_row_bytes(quantizer->codec, gy_quantizer_dim(quantizer))};
    return encode_rows(quantizer, &frame, vectors, n, first_row, rows, err);
}

gyre_status gyre_quantizer_encode_list(const gyre_quantizer *quantizer, const float *reference, const float *vectors, size_t n,
                                       size_t first_row, uint8_t *rows, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    const float *mean = gyre_codebook_mean(quantizer->codebook);
    if (!gy_quantizer_folds(quantizer))
        return gyre_fail(err, GYRE_INVALID,
                         "codec %s cannot code rows of lists: its estimates are not sums over one rotated residual",
                         quantizer->codec->name);
    if (gyre_vector_check(GYRE_L2, reference, dim, 0, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_INVALID, "reference of a list");
    float offset[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        offset[i] = reference[i] - mean[i];
    gyre_rotation_apply(gyre_codebook_rotation(quantizer->codebook), offset, offset);
    const struct frame frame = {reference, offset, gyre_codec_list_row_bytes(quantizer->codec, dim)};
    return encode_rows(quantizer, &frame, vectors, n, first_row, rows, err);
}

void gyre_quantizer_decode(const gyre_quantizer *quantizer, const uint8_t *row, float *out)
{
    const gyre_codebook *codebook = quantizer->codebook;
    uint32_t dim = gyre_codebook_dim(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    struct gy_row parts;
    gy_row_open(quantizer, row, &parts);
    float zb[GYRE_DIM_MAX];
    coder_of(quantizer, parts.plane)->decode(quantizer, quantizer->state[parts.plane], &parts.code, zb);
    double s = (double)parts.s, r2 = (double)parts.r2;
    if (s > 0 && coder_of(quantizer, parts.plane)->scale == GY_SCALE_UNBIASED) {
        double nu2 = gy_sum_squares(zb, dim);
        s = fmin(r2 / (s * nu2), 2 * sqrt(r2 / nu2)); /* R·rho/nu^2; at most R/nu, whatever a received row says */
    }
    for (uint32_t i = 0; i < dim; i++)
        zb[i] = (float)((double)zb[i] * s);
    if (gy_quantizer_rotates(quantizer))
        gyre_rotation_invert(gyre_codebook_rotation(codebook), zb, out);
    else
        memcpy(out, zb, dim * sizeof *zb);
    for (uint32_t i = 0; i < dim; i++)
        out[i] += mean[i];
}
