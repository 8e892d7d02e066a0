/* query: a query against one codebook, quantised to 4 bits, with its lookup tables.
 *
 * y = P q - P c is rounded to y_i ~ D·(u_i - 15/2), D = 2·max|y|/15, u_i in 0…15, nearest (codec/MATH.md 0.3; nearest has half
 * the variance of randomised rounding). The grid is symmetric, so flipping a bit of the code turns u_i into 15 - u_i:
 *     zb_i·(u_i - 15/2) = 15/2 - h_i,   h_i = b_i ? 15 - u_i : u_i,   <y,zb> = D·(15/2·dim - H) = D/2·(15·dim - 2H)
 * and no count of a row's bits is needed. Padding bits are 0 in every code; with u = 0 there they add 0 to H. */
#include "kernels/kernels.h"
#include "rabitq_layout.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

enum { LEVEL_MAX = 15 };

/* Keeps every product of the fast test within a float (GYRE_NORM_MAX is chosen with it). */
static const float epsilon_max = 1e4f;

struct gyre_rabitq_query {
    struct gy_scan scan;
    _Alignas(64) uint8_t lookup[];
};

/* A margin that survives the roundings of the fast test: 8·2^-24 < 1e-6. */
static float upper(double value) { return nextafterf((float)(value * (1 + 1e-6)), INFINITY); }

/* Writes u [padded_dim], zero behind dim; returns D. */
static double quantise(const float *y, uint32_t dim, size_t padded_dim, uint8_t *u)
{
    double largest = 0;
    for (uint32_t i = 0; i < dim; i++)
        largest = fmax(largest, fabs((double)y[i]));
    memset(u, 0, padded_dim);
    if (largest == 0)
        return 0;
    double step = 2 * largest / LEVEL_MAX;
    for (uint32_t i = 0; i < dim; i++) {
        double level = floor((double)y[i] / step + (LEVEL_MAX / 2.0 + 0.5));
        u[i] = (uint8_t)fmin(fmax(level, 0), LEVEL_MAX);
    }
    return step;
}

/* H of the 16 values of a nibble over four coordinates. A padding coordinate (beyond dim) has u = 0 and its bit is never 1. */
static void nibble_table(const uint8_t u[4], uint8_t table[16])
{
    for (unsigned bits = 0; bits < 16; bits++) {
        unsigned misses = 0;
        for (unsigned i = 0; i < 4; i++)
            misses += bits >> i & 1 ? LEVEL_MAX - u[i] : u[i];
        table[bits] = (uint8_t)misses;
    }
}

static void fill_lookup(const uint8_t *u, size_t pair_count, uint8_t *lookup)
{
    for (size_t byte = 0; byte < 2 * pair_count; byte++)
        for (size_t half = 0; half < 2; half++) {
            uint8_t *table = lookup + byte / 2 * GY_LOOKUP_PAIR_BYTES + half * 64 + byte % 2 * 32;
            nibble_table(u + 8 * byte + 4 * half, table);
            memcpy(table + 16, table, 16);
        }
}

/* Float arithmetic against exact arithmetic, in units of the sizes that enter: the sums of gyre_distance (dim/16 + 6 additions
 * a lane), the few operations of an estimate, and the rotation, which keeps lengths to 4e-6 (codec/MATH.md section 5.5), each
 * doubled. It is about 1e-4 of a usual half width, and all of it where a row has no error of its own. */
static void allow_for_rounding(struct gy_scan *scan, gyre_metric metric, uint32_t dim, double g2, double query2, double mean2)
{
    double share = (dim / 8.0 + 256) * 0x1p-24;
    if (metric == GYRE_L2) { /* |x-q|^2 <= 2(R^2 + G^2), add = R^2 */
        scan->rounding_base = share * g2;
        scan->rounding_add = share;
    } else { /* |<x,q>| <= |c||q| + R|q|, R <= s·sqrt(dim), and the parts of the estimate are no larger */
        double query = sqrt(query2), mean = sqrt(mean2);
        scan->rounding_base = share * (query * mean + (metric == GYRE_COSINE ? 1 : 0));
        scan->rounding_s = share * sqrt(dim) * (query + mean);
    }
}

gyre_status gyre_rabitq_query_new(gyre_rabitq_query **out, const gyre_codebook *codebook, const float *query,
                                  const float *rotated, float epsilon, gyre_error *err)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    gyre_metric metric = gyre_codebook_metric(codebook);
    if (!(epsilon > 0 && epsilon <= epsilon_max))
        return gyre_fail(err, GYRE_INVALID, "epsilon is %g; it must be above 0 and at most %g", (double)epsilon,
                         (double)epsilon_max);
    GY_TRY(gyre_vector_check(GYRE_L2, query, dim, 0, err));
    if (rotated && gyre_vector_check(GYRE_L2, rotated, dim, 0, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_INVALID, "rotated query");

    float y[GYRE_DIM_MAX], residual[GYRE_DIM_MAX];
    uint8_t u[GYRE_DIM_MAX];
    const float *mean = gyre_codebook_mean(codebook), *rotated_mean = gyre_codebook_rotated_mean(codebook);
    if (!rotated) {
        gyre_rotation_apply(gyre_codebook_rotation(codebook), query, y);
        rotated = y;
    }
    for (uint32_t i = 0; i < dim; i++) {
        y[i] = rotated[i] - rotated_mean[i];
        residual[i] = query[i] - mean[i];
    }

    size_t pair_count = gy_pair_count(dim);
    size_t bytes = sizeof(gyre_rabitq_query) + pair_count * GY_LOOKUP_PAIR_BYTES;
    gyre_rabitq_query *made = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "query of dim %u: %zu bytes", dim, bytes);
    double step = quantise(y, dim, pair_count * 16, u);
    fill_lookup(u, pair_count, made->lookup);

    bool l2 = metric == GYRE_L2;
    double g2 = gy_sum_squares(residual, dim);
    double center = gy_sum_products(mean, query, dim);
    double width = (l2 ? 2.0 : 1.0) * (double)epsilon;
    made->scan = (struct gy_scan){
        .lookup = made->lookup,
        .pair_count = pair_count,
        .block_bytes = gy_block_bytes(dim),
        .levels = LEVEL_MAX * (int32_t)dim,
        .base = (float)(l2 ? g2 : metric == GYRE_IP ? -center : 1 - center),
        .step = (float)(l2 ? step : step / 2),
        .per_e = width * sqrt(g2),
        .per_s = width * step * sqrt(dim / 12.0),
    };
    allow_for_rounding(&made->scan, metric, dim, g2, gy_sum_squares(query, dim), gy_sum_squares(mean, dim));
    made->scan.per_e_up = upper(made->scan.per_e);
    made->scan.per_s_up = upper(made->scan.per_s + made->scan.rounding_s);
    made->scan.rounding_add_up = made->scan.rounding_add > 0 ? upper(made->scan.rounding_add) : 0; /* add may be negative */
    made->scan.rounding_base_up = upper(made->scan.rounding_base);
    *out = made;
    return GYRE_OK;
}

void gyre_rabitq_query_free(gyre_rabitq_query *query) { free(query); }

size_t gy_rabitq_scan_with(const gy_kernels *kernels, const gyre_rabitq_query *query, const uint8_t *blocks, size_t block_count,
                           float threshold, gyre_hit *hits)
{
    return kernels->scan(&query->scan, blocks, block_count, threshold, hits);
}

size_t gyre_rabitq_scan(const gyre_rabitq_query *query, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits)
{
    return gy_rabitq_scan_with(gy_kernels_current(), query, blocks, block_count, threshold, hits);
}
