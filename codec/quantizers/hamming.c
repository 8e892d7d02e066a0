/* hamming: sign bits compared with sign bits, the baseline: two directions at an angle of theta differ in a share theta/pi of
 * their signs after a random rotation, so <g,r> ~ R·G·cos(pi·ham/dim).
 * Source  Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002
 * Bytes   FORMAT.md, "hamming": the sign plane
 *
 * The estimate is not linear in the query, so no residual bounds its error and no law is known to hold; |<g,r>| <= R·G is all
 * that is certain, and all that low and high say. zb_i = ±1/sqrt(dim), the scale is R, for those who decode. */
#include "kernels/kernels.h"
#include "layout.h"
#include "quantizers/levels.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return gy_levels_bytes(codec->bits, dim); }

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code) { return gy_levels_valid(code, dim, codec->bits); }

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)state;
    uint32_t dim = gy_quantizer_dim(quantizer);
    float value = (float)(1 / sqrt(dim));
    gy_kernels_current()->signs->unpack(code->code, dim, zb);
    for (uint32_t i = 0; i < dim; i++)
        zb[i] *= value;
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)scratch;
    gy_kernels_current()->signs->pack(residual->z, gy_quantizer_dim(quantizer), code);
    decode(quantizer, state, &(struct gy_code){.code = code}, zb);
}

/* cos(pi·x), 0 <= x <= 1/2, to 10^-15: no two libraries round theirs alike, and an estimate must not depend on the machine. */
static double cos_pi(double x)
{
    double square = M_PI * x * M_PI * x, sum = 0;
    for (int n = 22; n > 0; n -= 2) /* 1 - x^2/2·(1 - x^2/12·(1 - …)) */
        sum = (1 - sum) * square / ((n - 1) * n);
    return 1 - sum;
}

/* The state: cos(pi·ham/dim), [dim + 1]. */
static gyre_status open(const gyre_quantizer *quantizer, void **state, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    double *cosines = malloc((dim + 1) * sizeof *cosines);
    if (!cosines)
        return gyre_fail(err, GYRE_NO_MEMORY, "cosines of dim %u", dim);
    for (uint32_t ham = 0; ham <= dim; ham++)
        cosines[ham] = 2 * ham <= dim ? cos_pi((double)ham / dim) : -cos_pi((double)(dim - ham) / dim);
    *state = cosines;
    return GYRE_OK;
}

/* The query's signs are behind it. */
struct prepared {
    double length; /* G */
};

static size_t query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    (void)bits;
    return sizeof(struct prepared) + gy_sign_bytes(gy_quantizer_dim(quantizer));
}

/* Signs are not rounded further, whatever the bits. */
static void query_prepare(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, void *prepared,
                          double *step)
{
    (void)state, (void)bits;
    uint32_t dim = gy_quantizer_dim(quantizer);
    struct prepared *query = prepared;
    query->length = sqrt(gy_sum_squares(y, dim));
    gy_kernels_current()->signs->pack(y, dim, (uint8_t *)(query + 1));
    *step = 0;
}

static double dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    const double *cosines = state;
    const struct prepared *query = prepared;
    const uint8_t *asked = (const uint8_t *)(query + 1), *stored = code->code;
    size_t bytes = gy_sign_bytes(gy_quantizer_dim(quantizer)), i = 0;
    uint32_t ham = 0;
    for (; i + 8 <= bytes; i += 8)
        ham += gy_ones(gy_load_u64(asked + i) ^ gy_load_u64(stored + i));
    for (; i < bytes; i++)
        ham += gy_ones(asked[i] ^ stored[i]);
    return query->length * cosines[ham];
}

static void spread(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code, double s,
                   double *random, double *certain)
{
    const struct prepared *query = prepared;
    *random = 0;
    *certain = s * (query->length + fabs(dot(quantizer, state, prepared, code)));
}

const struct gy_coder gy_coder_hamming = {
    .code_bytes = code_bytes,
    .open = open,
    .close = free,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_OWN,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
    .spread = spread,
};
