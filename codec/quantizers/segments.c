/* segments: principal components with unequal bits. For data whose variance lies in few directions: the components that carry
 * much get many bits, those that carry next to nothing none.
 *
 * A state, learned from a sample and stored with the quantizer, holds the principal components V (those kept, by falling
 * variance) and a plan that cuts them into segments. A segment is a small RaBitQ codec of its own: its coordinates, rotated by a
 * seeded rotation of its own, as the grid code of its bits, with a scale and an error of its own. So all of codec/MATH.md section
 * 0 holds in each segment, and
 *     <g,r> ~ sum_s s_s·<y_s,zb_s>        error: sqrt(sum_s e_s^2·G_s^2)·T  +  at most R_0·G_0 for the components dropped
 * Source  2.7 of codec/MATH.md; PCA, segments and bits by variance: SAQ, arXiv 2509.12086
 * Bytes   FORMAT.md, "segments": factors of all segments as shares of R (16 bits each), R_0, then the planes of each segment */
#include "quantizers/segments.h"

#include "codebook_internal.h"
#include "query_internal.h"
#include "rotations/dense.h"
#include "sums.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>

/* The least width of a segment: below two of them there is nothing to give unequally, and training says so. */
enum { DIM_MIN = 16 };
/* A segment with less of R^2 is not coded: it counts as error. Keeps its scale within a float whatever R is. */
static const double share_min = 1e-12;

/* A share of R in 16 bits: 0, or (2048 + m)·2^(e-42) with m the low 11 bits and e the high 5, code 0 apart. */
static double share_value(uint16_t code) { return code ? ldexp(2048 + (code & 2047), (code >> 11) - 42) : 0; }

/* The nearest share, or the least that is not below; at most the largest there is. */
static uint16_t share_code(double value, bool up)
{
    if (!(value > 0))
        return 0;
    int power;
    double scaled = ldexp(frexp(value, &power), 12), whole = up ? ceil(scaled) : floor(scaled + 0.5);
    int code = (power + 30) * 2048 + (int)whole - 2048; /* 4096 carries into the exponent */
    return (uint16_t)(code < 1 ? 1 : code > UINT16_MAX ? UINT16_MAX : code);
}

static gyre_status check(const gyre_codec *codec, uint32_t dim, gyre_error *err)
{
    if (dim < DIM_MIN)
        return gyre_fail(err, GYRE_INVALID, "dim is %u; %s takes %d and more", dim, codec->name, DIM_MIN);
    return GYRE_OK;
}

static size_t code_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gy_segment_code_bytes(dim, codec->bits) + GY_SEGMENT_FACTOR_BYTES;
}

const gyre_codec *gy_segments_rabitq(uint32_t bits)
{
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t i = 0; i < count; i++)
        if (codecs[i].kind == GYRE_RABITQ && codecs[i].bits == bits && codecs[i].variant == GYRE_VARIANT_NONE)
            return &codecs[i];
    return NULL;
}

static size_t scratch_bytes(const gyre_codec *codec, uint32_t dim)
{
    (void)codec;
    const gyre_codec *widest = gy_segments_rabitq(GY_SEGMENT_BITS_MAX);
    return gy_coder_second(widest)->scratch_bytes(widest, dim);
}

void gy_segments_free(struct gy_segments *segments)
{
    if (!segments)
        return;
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        gyre_quantizer_free(segments->segment[s].quantizer);
        gyre_codebook_free(segments->segment[s].codebook);
    }
    free(segments->basis);
    free(segments);
}

/* A seed for each segment, as two of equal width must not share a rotation. */
static gyre_status open_segment(struct gy_segment *segment, const gyre_codebook *codebook, uint32_t index, uint32_t bits,
                                gyre_error *err)
{
    uint8_t name[8] = "SEG1", seed[GYRE_SEED_BYTES];
    gy_store_u32(name + 4, index);
    crypto_generichash(seed, sizeof seed, name, sizeof name, gy_codebook_seed(codebook), GYRE_SEED_BYTES);
    gyre_status status = gyre_codebook_new(&segment->codebook, GYRE_L2, segment->dims, 1, seed, NULL, err);
    sodium_memzero(seed, sizeof seed);
    return status == GYRE_OK ? gyre_quantizer_new(&segment->quantizer, gy_segments_rabitq(bits), segment->codebook, err) : status;
}

gyre_status gy_segments_new(struct gy_segments **out, const gyre_codebook *codebook, const struct gy_segments_plan *plan,
                            float **basis, gyre_error *err)
{
    struct gy_segments *segments = calloc(1, sizeof *segments);
    if (!segments)
        return gyre_fail(err, GYRE_NO_MEMORY, "segments");
    segments->plan = *plan;
    segments->dim = gyre_codebook_dim(codebook);
    size_t at = plan->count * GY_SEGMENT_FACTOR_BYTES + (plan->rows < segments->dim ? GY_REST_BYTES : 0);
    gyre_status status = GYRE_OK;
    for (uint32_t s = 0, first = 0; s < plan->count && status == GYRE_OK; s++) {
        struct gy_segment *segment = &segments->segment[s];
        *segment = (struct gy_segment){.first = first, .dims = plan->dims[s], .code_at = at};
        status = open_segment(segment, codebook, s, plan->bits[s], err);
        first += segment->dims;
        at += gy_segment_code_bytes(segment->dims, plan->bits[s]);
    }
    if (status != GYRE_OK) {
        gy_segments_free(segments);
        return status;
    }
    segments->basis = GY_TAKE(*basis);
    *out = segments;
    return GYRE_OK;
}

static void close(void *state) { gy_segments_free(state); }

/* Its best plane. */
static size_t plane_of(const struct gy_segment *segment) { return segment->quantizer->coder[1] ? 1 : 0; }

/* The code of a segment within a row's, for its best plane. */
static struct gy_code code_of(const struct gy_segment *segment, const uint8_t *code)
{
    const uint8_t *first = code + segment->code_at;
    return plane_of(segment) ? (struct gy_code){first, first + segment->quantizer->code_bytes[0]} : (struct gy_code){NULL, first};
}

/* The factors of segment s: the place of its scale, its error two bytes behind. */
static size_t factors_at(uint32_t s) { return s * (size_t)GY_SEGMENT_FACTOR_BYTES; }
static double scale_of(const uint8_t *code, uint32_t s) { return share_value(gy_load_u16(code + factors_at(s))); }
static double error_of(const uint8_t *code, uint32_t s) { return share_value(gy_load_u16(code + factors_at(s) + 2)); }

/* Components dropped hold at most this much of |x|^2 = square, the kept ones w being given: a difference of two sums, and what
 * rounding may have made of each. */
static double rest_square(const struct gy_segments *segments, double square, const float *w)
{
    double rounding = GY_DENSE_DEFECT_MAX + segments->dim / 8.0 * 0x1p-24;
    return fmax(0, square - gy_sum_squares(w, segments->plan.rows)) + rounding * square;
}

/* Coordinates of a segment, its best code and factors; length: R. */
static void encode_segment(const struct gy_segment *segment, uint32_t s, const float *w, double r2, uint8_t *code, void *scratch)
{
    const gyre_quantizer *quantizer = segment->quantizer;
    float z[GYRE_DIM_MAX], zb[GYRE_DIM_MAX];
    gyre_rotation_apply(gyre_codebook_rotation(segment->codebook), w + segment->first, z);
    double length = sqrt(r2), square = gy_sum_squares(z, segment->dims), left = square, degrees = segment->dims - 1.0;
    uint8_t *factors = code + factors_at(s);
    if (square > share_min * r2) {
        struct gy_residual residual = {.z = z, .r2 = square, .per_unit = (float)sqrt(segment->dims / square)};
        uint8_t *plane_code = code + segment->code_at;
        for (size_t plane = 0; plane < GY_PLANES && quantizer->coder[plane]; plane++) {
            quantizer->coder[plane]->encode(quantizer, quantizer->state[plane], &residual, plane_code, zb, scratch);
            residual.signs = code + segment->code_at;
            plane_code += quantizer->code_bytes[0];
        }
        double along = gy_sum_products(z, zb, segment->dims), nu2 = gy_sum_squares(zb, segment->dims);
        gy_store_u16(factors, share_code(square / along / length, false));
        double scale = scale_of(code, s) * length; /* what readers will use, and so what the error is of */
        left = square - 2 * scale * along + scale * scale * nu2;
    }
    gy_store_u16(factors + 2, share_code(sqrt(fmax(0, left) / degrees) / length, true));
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)quantizer;
    const struct gy_segments *segments = state;
    float components[GYRE_DIM_MAX];
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        const struct gy_segment *segment = &segments->segment[s];
        float *part = components + segment->first;
        struct gy_code own = code_of(segment, code->code);
        double scale = scale_of(code->code, s);
        size_t plane = plane_of(segment);
        segment->quantizer->coder[plane]->decode(segment->quantizer, segment->quantizer->state[plane], &own, part);
        for (uint32_t i = 0; i < segment->dims; i++)
            part[i] = (float)(scale * (double)part[i]);
        gyre_rotation_invert(gyre_codebook_rotation(segment->codebook), part, part);
    }
    gy_dense_invert(segments->basis, segments->plan.rows, segments->dim, components, zb);
}

void gy_segments_encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                        float *zb, void *scratch)
{
    const struct gy_segments *segments = state;
    float w[GYRE_DIM_MAX];
    memset(code, 0, code_bytes(quantizer->codec, segments->dim));
    if (residual->r2 > 0) {
        gy_dense_apply(segments->basis, segments->plan.rows, segments->dim, residual->z, w);
        for (uint32_t s = 0; s < segments->plan.count; s++)
            encode_segment(&segments->segment[s], s, w, residual->r2, code, scratch);
        if (segments->plan.rows < segments->dim)
            gy_store_u16(code + factors_at(segments->plan.count),
                         share_code(sqrt(rest_square(segments, residual->r2, w) / residual->r2), true));
    }
    decode(quantizer, state, &(struct gy_code){NULL, code}, zb);
}

/* A query in the coordinates of the segments. */
struct prepared {
    double squares[GY_SEGMENTS_MAX]; /* G_s^2 */
    double rest;                     /* G_0 */
    float y[];                       /* [rows] */
};

static size_t query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    (void)bits;
    return sizeof(struct prepared) + gy_quantizer_dim(quantizer) * sizeof(float);
}

static void query_prepare(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, void *prepared,
                          double *step)
{
    (void)quantizer;
    const struct gy_segments *segments = state;
    struct prepared *out = prepared;
    uint32_t rows = segments->plan.rows;
    gy_dense_apply(segments->basis, rows, segments->dim, y, out->y);
    out->rest = rows < segments->dim ? sqrt(rest_square(segments, gy_sum_squares(y, segments->dim), out->y)) : 0;
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        const struct gy_segment *segment = &segments->segment[s];
        float *part = out->y + segment->first;
        gyre_rotation_apply(gyre_codebook_rotation(segment->codebook), part, part);
        out->squares[s] = gy_sum_squares(part, segment->dims);
    }
    *step = 0;
    if (!bits)
        return;
    int8_t levels[GYRE_DIM_MAX];
    *step = gy_query_round(out->y, rows, bits, levels);
    for (uint32_t i = 0; i < rows; i++)
        out->y[i] = (float)(*step * levels[i]);
}

static double dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    (void)quantizer;
    const struct gy_segments *segments = state;
    const struct prepared *query = prepared;
    double sum = 0;
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        const struct gy_segment *segment = &segments->segment[s];
        struct gy_code own = code_of(segment, code->code);
        size_t plane = plane_of(segment);
        sum += scale_of(code->code, s) * gy_float_query_dot(segment->quantizer, segment->quantizer->coder[plane],
                                                            segment->quantizer->state[plane], query->y + segment->first, &own);
    }
    return sum;
}

static void spread(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code,
                   double length, double *random, double *certain)
{
    (void)quantizer;
    const struct gy_segments *segments = state;
    const struct prepared *query = prepared;
    double squares = 0;
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        double error = error_of(code->code, s);
        squares += error * error * query->squares[s];
    }
    *random = length * sqrt(squares);
    *certain = 0;
    if (segments->plan.rows < segments->dim)
        *certain = length * query->rest * share_value(gy_load_u16(code->code + factors_at(segments->plan.count)));
}

const struct gy_coder gy_coder_segments = {
    .check = check,
    .code_bytes = code_bytes,
    .train = gy_segments_train,
    .close = close,
    .state_bytes = gy_segments_state_bytes,
    .state_encode = gy_segments_state_encode,
    .state_decode = gy_segments_state_decode,
    .scratch_bytes = scratch_bytes,
    .encode = gy_segments_encode,
    .decode = decode,
    .scale = GY_SCALE_OWN,
    .unrotated = true,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
    .spread = spread,
};
