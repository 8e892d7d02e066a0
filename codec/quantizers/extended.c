/* extended: Extended RaBitQ, 2 to 8 bits a coordinate, as a second plane over the sign plane of RaBitQ.
 * Source  Gao et al., "Extended RaBitQ", SIGMOD 2025: the code is the point of a scaled grid that is nearest in angle
 * Bytes   FORMAT.md, "extended"
 *
 * A coordinate has a magnitude level m_i in 0…M, M = 2^(B-1) - 1, and zb_i = ±(m_i + 1/2) by its sign bit. The grid is scaled
 * by one t for all: m_i = min(trunc(|z_i|·t), M). The fast code takes the t that is best for long Gaussian vectors. The exact
 * one is the best of all t, and with it of all codes: a best code is the nearest one at its own best scale.
 *
 * Search. Magnitudes are first rounded to whole a_i in 0…2^15-1, so that
 *     num(t) = sum a_i·(2m_i + 1)      den(t) = sum (2m_i + 1)^2      f = num^2/den = |a|^2·cos^2
 * are exact whole numbers whatever the order of the sum, and m_i = trunc(a_i·t) rises with t also in floats. When t passes
 * k/a_i, m_i becomes k: num grows by 2·a_i and den by 8k = 4t·(2·a_i). So between two t whose num and den are known, (num,
 * den) climbs from a to b with a slope that lies in 4·a.t…4·b.t: den is nowhere below either of the lines through a with the
 * lower slope and through b with the upper one. On a line f falls, then rises, so inside it is at most its value where the
 * lines cross, or at a or b. An interval whose crossing does not beat the best f seen is done with; another is halved. Halving
 * by the bits of the float is halving by ratio. That takes 15 to 40 evaluations for 2 to 4 bits and 190 for 8, where sweeping
 * all M·dim levels takes a sort of them. */
#include "kernels/kernels.h"
#include "layout.h"
#include "quantizers/coder.h"

#include <math.h>

/* 1/D of D = .9957 .5860 .3352 .1881 .1041 .0569 .0308 standard deviations: the best step for N(0,1) at 2 to 8 bits (MATH.md
 * 2.2). */
static const float steps_per_unit[9] = {0, 0, 1 / .9957f, 1 / .5860f, 1 / .3352f, 1 / .1881f, 1 / .1041f, 1 / .0569f, 1 / .0308f};

static uint32_t low_bits_of(const gyre_quantizer *quantizer) { return gyre_quantizer_codec(quantizer)->bits - 1u; }

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return (codec->bits - 1u) * gy_sign_bytes(dim); }

static size_t padded(size_t count, size_t lanes) { return (count + lanes - 1) / lanes * lanes; }

static size_t scratch_bytes(const gyre_codec *codec, uint32_t dim)
{
    return codec->variant == GYRE_VARIANT_FAST ? 0 : padded(dim, GY_GRID_LANES) * (sizeof(float) + sizeof(int16_t));
}

/* (num, den) at a t. */
struct point {
    float t;
    double num, den, quality; /* f */
};

struct search {
    const gy_planes_kernels *kernels;
    const struct gy_grid *grid;
    uint32_t dim;
    int32_t top;
    double sum; /* of a */
    struct point best;
};

/* The point at t, which is remembered if it is the best; of equals the one of lower levels. */
static struct point point_at(struct search *search, float t)
{
    int64_t along, square;
    search->kernels->score(search->grid, t, search->top, &along, &square);
    struct point point = {.t = t, .num = 2 * (double)along + search->sum, .den = 4 * (double)square + search->dim};
    point.quality = point.num * point.num / point.den;
    if (point.quality > search->best.quality || (point.quality == search->best.quality && point.num < search->best.num))
        search->best = point;
    return point;
}

/* Whether f could be as large as the best strictly between two points: by where the lines cross. The margins cover that a_i·t is
 * rounded, and f itself. */
static bool may_hold_best(const struct search *search, const struct point *a, const struct point *b)
{
    double lower = 4 * (double)a->t * (1 - 0x1p-22), upper = 4 * (double)b->t * (1 + 0x1p-22), rise = b->num - a->num;
    double x = (a->den - b->den + upper * rise) / (upper - lower);
    x = x > 0 ? x < rise ? x : rise : 0;
    double num = a->num + x;
    return num * num * (1 + 1e-12) >= search->best.quality * (a->den + lower * x);
}

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* At most 32 deep: every level halves the difference of two floats' bits. */
static void search_between(struct search *search, const struct point *a, const struct point *b)
{
    uint32_t low = float_bits(a->t), apart = float_bits(b->t) - low;
    if (a->num == b->num || apart <= 1 || !may_hold_best(search, a, b))
        return;
    uint32_t bits = low + apart / 2;
    float t;
    memcpy(&t, &bits, sizeof t);
    struct point middle = point_at(search, t);
    if (a->quality > b->quality) { /* the better half first: it raises the bar for the other */
        search_between(search, a, &middle);
        search_between(search, &middle, b);
    } else {
        search_between(search, &middle, b);
        search_between(search, a, &middle);
    }
}

/* The best t for a grid's magnitudes. guess: where to look first. */
static float best_scale(const gy_planes_kernels *kernels, const struct gy_grid *grid, uint32_t dim, int32_t top, float guess)
{
    int64_t sum, count;
    kernels->score(grid, 1, 1, &sum, &count); /* every m is 1 but where a is 0 */
    struct search search = {.kernels = kernels, .grid = grid, .dim = dim, .top = top, .sum = (double)sum};
    struct point lowest = point_at(&search, 0x1p-16f);           /* all levels 0 */
    struct point highest = point_at(&search, (float)top + 0.5f); /* all at the top, but where a is 0 */
    if (guess > lowest.t && guess < highest.t) {
        struct point middle = point_at(&search, guess);
        search_between(&search, &middle, &highest);
        search_between(&search, &lowest, &middle);
    } else
        search_between(&search, &lowest, &highest);
    return search.best.t;
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)state;
    const gy_planes_kernels *kernels = gy_kernels_current()->planes;
    uint32_t dim = gy_quantizer_dim(quantizer), low_bits = low_bits_of(quantizer);
    float scale = residual->per_unit * steps_per_unit[low_bits + 1];
    if (gyre_quantizer_codec(quantizer)->variant == GYRE_VARIANT_FAST) {
        kernels->pack(residual->z, residual->z, dim, scale, low_bits, code, zb);
        return;
    }
    struct gy_grid grid = {.steps = scratch};
    grid.whole = (void *)(grid.steps + padded(dim, GY_GRID_LANES));
    float per_step = kernels->grid(residual->z, dim, &grid);
    float t = per_step > 0 ? best_scale(kernels, &grid, dim, (1 << low_bits) - 1, scale / per_step) : 0;
    kernels->pack(residual->z, grid.steps, dim, t, low_bits, code, zb);
}

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    size_t plane_bytes = gy_sign_bytes(dim);
    for (uint32_t plane = 1; dim % 8 && plane < codec->bits; plane++)
        if (code[plane * plane_bytes - 1] >> dim % 8)
            return false;
    return true;
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)state;
    uint32_t dim = gy_quantizer_dim(quantizer), low_bits = low_bits_of(quantizer);
    for (uint32_t i = 0; i < dim; i++)
        zb[i] = gy_planes_value(gy_planes_level(code->signs, code->code, dim, low_bits, i), low_bits);
}

/* A query as dot reads it; behind it, at 64 bytes, its levels [padded] i8, or y [dim] f32 if bits is 0. */
struct prepared {
    uint32_t bits;
    double half_step; /* D/2 */
    int64_t sum;      /* of the levels */
};
enum { PREPARED_BYTES = 64 };
_Static_assert(sizeof(struct prepared) <= PREPARED_BYTES, "the levels are behind it");

static size_t query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    return PREPARED_BYTES + (bits ? padded(dim, GY_LEVEL_LANES) : dim * sizeof(float));
}

static void query_prepare(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, void *prepared,
                          double *step)
{
    (void)state;
    uint32_t dim = gy_quantizer_dim(quantizer);
    struct prepared *query = prepared;
    *query = (struct prepared){.bits = bits};
    void *values = (uint8_t *)prepared + PREPARED_BYTES;
    *step = 0;
    if (!bits) {
        memcpy(values, y, dim * sizeof *y);
        return;
    }
    int8_t *levels = values;
    memset(levels, 0, padded(dim, GY_LEVEL_LANES));
    *step = gy_query_round(y, dim, bits, levels);
    query->half_step = *step / 2;
    for (uint32_t i = 0; i < dim; i++)
        query->sum += levels[i];
}

/* <y,zb> = D·sum v_i·(u_i - top/2) = D/2·(2·sum v_i·u_i - top·sum v_i). */
static double dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    (void)state;
    const gy_planes_kernels *kernels = gy_kernels_current()->planes;
    uint32_t dim = gy_quantizer_dim(quantizer), low_bits = low_bits_of(quantizer);
    const struct prepared *query = prepared;
    const void *values = (const uint8_t *)prepared + PREPARED_BYTES;
    if (!query->bits)
        return (double)kernels->dot_float(code->signs, code->code, dim, low_bits, values);
    int64_t product = kernels->dot(code->signs, code->code, dim, low_bits, values), top = (2 << low_bits) - 1;
    return query->half_step * (double)(2 * product - top * query->sum);
}

const struct gy_coder gy_coder_extended = {
    .code_bytes = code_bytes,
    .scratch_bytes = scratch_bytes,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_UNBIASED,
    .refines_signs = true,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
};
