/* query: a query against one quantizer. One allocation holds the query, the lookup tables of the scan and what the coder prepares for
 * estimates. */
#include "query_internal.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

/* Keeps every product of the fast test within a float (GYRE_NORM_MAX is chosen with it). */
static const float epsilon_max = 1e4f;

/* A margin that survives the roundings of the fast test: 8·2^-24 < 1e-6. */
static float upper(double value) { return nextafterf((float)(value * (1 + 1e-6)), INFINITY); }

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

static gyre_status options_check(const gyre_quantizer *quantizer, const gyre_query_options *options, gyre_error *err)
{
    if (!(options->epsilon > 0 && options->epsilon <= epsilon_max) && options->bound != GYRE_BOUND_CERTAIN)
        return gyre_fail(err, GYRE_INVALID, "epsilon is %g; it must be above 0 and at most %g", (double)options->epsilon,
                         (double)epsilon_max);
    if ((unsigned)options->bound > GYRE_BOUND_CERTAIN)
        return gyre_fail(err, GYRE_INVALID, "bound is %d; it must be plain (1), calibrated (2) or certain (3)", (int)options->bound);
    uint8_t scan = options->scan_bits, refine = options->refine_bits;
    if (scan && scan != 4 && scan != 6 && scan != 8)
        return gyre_fail(err, GYRE_INVALID, "scan_bits is %d; it must be 4, 6 or 8", scan);
    if (refine && refine != 4 && refine != 6 && refine != 8)
        return gyre_fail(err, GYRE_INVALID, "refine_bits is %d; it must be 4, 6, 8, or 0 for float", refine);
    if (gyre_codebook_is_learned(quantizer->codebook) && options->bound != GYRE_BOUND_CERTAIN && !options->epsilon_is_measured)
        return gyre_fail(err, GYRE_PRECONDITION,
                         "codebook %u has a learned rotation, for which no law of the error holds: ask for the certain bound, or measure "
                         "epsilon on held-out near pairs",
                         gyre_codebook_version(quantizer->codebook));
    const struct gy_coder *coder = quantizer->coder[0];
    if (coder->unrotated && !coder->spread && options->bound != GYRE_BOUND_CERTAIN && !options->epsilon_is_measured)
        return gyre_fail(err, GYRE_PRECONDITION,
                         "codec %s codes vectors that no rotation made random, so no law of its error holds: ask for the certain bound, or "
                         "measure epsilon on held-out near pairs",
                         quantizer->codec->name);
    return GYRE_OK;
}

/* The form of the bound: a code whose error is spread over parts has no one cosine to solve for, and takes the plain form. */
static gyre_bound_kind bound_of(const gyre_quantizer *quantizer, const gyre_query_options *options)
{
    gyre_bound_kind bound = options->bound ? options->bound : GYRE_BOUND_PLAIN;
    return bound == GYRE_BOUND_CALIBRATED && quantizer->coder[0]->spread ? GYRE_BOUND_PLAIN : bound;
}

/* Tables of nibbles in the order of the coder, into the order of the kernels. */
static void fill_lookup(const uint8_t (*nibbles)[16], size_t pair_count, uint8_t *lookup)
{
    for (size_t byte = 0; byte < 2 * pair_count; byte++)
        for (size_t half = 0; half < 2; half++) {
            uint8_t *table = lookup + byte / 2 * GY_LOOKUP_PAIR_BYTES + half * 64 + byte % 2 * 32;
            memcpy(table, nibbles[2 * byte + half], 16);
            memcpy(table + 16, table, 16);
        }
}

/* Float arithmetic against exact arithmetic, in units of the sizes that enter: the sums of gyre_distance (dim/16 + 6 additions
 * a lane), the few operations of an estimate, and the rotation, which keeps lengths to 4e-6 (codec/MATH.md section 5.5), each
 * doubled. It is about 1e-4 of a usual half width, and all of it where a row has no error of its own.
 *
 * Among denormals an operation errs by up to 2^-150 whatever the sizes: dim of them in a distance, sqrt(dim) in each factor of <y,z>
 * from the rotation, 2^8·dim times that of D in the largest sum of a scan. tiny is above all of these, and below all that is not. */
static void allow_for_rounding(gyre_query *query, gyre_metric metric, uint32_t dim)
{
    double share = gy_rounding_share(dim), tiny = gy_rounding_tiny(dim);
    if (metric == GYRE_L2) { /* |x-q|^2 <= 2(R^2 + G^2), add = R^2 */
        query->rounding_base = share * query->g2;
        query->rounding_add = share;
    } else { /* |<x,q>| <= |c||q| + R|q|, and the parts of the estimate are no larger */
        double length = sqrt(query->query2), mean = sqrt(query->mean2);
        query->rounding_base = share * (length * mean + (metric == GYRE_COSINE ? 1 : 0));
        query->rounding_s = share * (length + mean);
    }
    query->rounding_base += tiny * (1 + sqrt(query->g2));
    query->rounding_s += tiny;
}

/* The rounded query in the planes of kernels/misses.h. */
static void fill_planes(const gyre_quantizer *quantizer, const float *y, uint32_t bits, size_t code_bytes, uint8_t *planes,
                        struct gy_misses *misses)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    uint8_t u[GYRE_DIM_MAX];
    quantizer->coder[0]->levels(y, dim, bits, u);
    *misses = (struct gy_misses){planes, bits, code_bytes};
    memset(planes, 0, gy_misses_plane_bytes(code_bytes, bits));
    for (uint32_t i = 0; i < dim; i++)
        for (size_t plane = 0; plane < bits; plane++) {
            size_t at = gy_misses_offset(code_bytes, plane, i / 8 / GY_MISSES_BYTES) + i / 8 % GY_MISSES_BYTES;
            planes[at] = (uint8_t)(planes[at] | (u[i] >> plane & 1) << i % 8);
        }
}

static uint32_t scan_bits(const gyre_query_options *options) { return options->scan_bits ? options->scan_bits : 4; }

/* Of the tables of a scan, and of the planes that do the same for sign codes. */
static size_t scan_bytes(const gyre_quantizer *quantizer, const gyre_query_options *options)
{
    if (!quantizer->coder[0]->nibbles)
        return 0;
    size_t code_bytes = gyre_codec_scan_code_bytes(quantizer->codec, gy_quantizer_dim(quantizer));
    size_t plane_bytes = quantizer->coder[0]->levels ? gy_misses_plane_bytes(code_bytes, scan_bits(options)) : 0;
    return 2 * gy_pair_count(code_bytes) * GY_LOOKUP_PAIR_BYTES + plane_bytes;
}

void gy_query_place_scan(gyre_query *query)
{
    struct gy_scan *scan = &query->scan;
    bool certain = query->bound == GYRE_BOUND_CERTAIN; /* a + b <= sqrt(2·(a^2 + b^2)) */
    scan->base = (float)query->base;
    scan->per_e =
        query->factor * (certain ? sqrt(2 * query->g2 * (query->quantizer->dim - 1.0)) : query->epsilon * sqrt(query->g2));
    scan->rounding_base = query->rounding_base;
    scan->rounding_add = query->rounding_add;
    scan->rounding_s = query->rounding_s * query->reach;
    scan->per_e_up = upper(scan->per_e);
    scan->per_s_up = upper(scan->per_s + scan->rounding_s);
    scan->rounding_add_up = scan->rounding_add > 0 ? upper(scan->rounding_add) : 0; /* add may be negative */
    scan->rounding_base_up = upper(scan->rounding_base);
}

/* The scan of the first plane.
 *   lookups  [scan_bytes], 64-byte aligned */
static gyre_status prepare_scan(gyre_query *query, const float *y, const gyre_query_options *options, uint8_t *lookups, gyre_error *err)
{
    const gyre_quantizer *quantizer = query->quantizer;
    uint32_t dim = gy_quantizer_dim(quantizer);
    size_t code_bytes = gyre_codec_scan_code_bytes(quantizer->codec, dim), pair_count = gy_pair_count(code_bytes);
    uint32_t bits = scan_bits(options);
    uint8_t(*tables)[16] = calloc(2 * 4 * pair_count, 16);
    if (!tables)
        return gyre_fail(err, GYRE_NO_MEMORY, "query: tables of %zu bytes of code", code_bytes);
    struct gy_nibbles nibbles = {.low = tables, .high = tables + 4 * pair_count, .reach = sqrt(dim)};
    quantizer->coder[0]->nibbles(quantizer, quantizer->state[0], y, bits, &nibbles);
    struct gy_scan *scan = &query->scan;
    size_t lookup_bytes = pair_count * GY_LOOKUP_PAIR_BYTES;
    fill_lookup((const uint8_t(*)[16])nibbles.low, pair_count, lookups);
    fill_lookup((const uint8_t(*)[16])nibbles.high, pair_count, lookups + lookup_bytes);
    free(tables);
    if (quantizer->coder[0]->levels)
        fill_planes(quantizer, y, bits, code_bytes, lookups + 2 * lookup_bytes, &query->misses);

    double step = nibbles.step, per_s = query->factor * query->epsilon * step * sqrt(nibbles.positions / 12.0);
    if (query->bound == GYRE_BOUND_CERTAIN)
        per_s = query->factor * M_SQRT2 * step / 2 * nibbles.positions;
    *scan = (struct gy_scan){
        .lookup = {lookups, lookups + lookup_bytes},
        .lookup_count = bits > 4 ? 2 : 1,
        .pair_count = pair_count,
        .block_bytes = gy_block_bytes(code_bytes),
        .levels = nibbles.levels,
        .step = (float)(query->factor * step / 2),
        .per_s = per_s,
    };
    query->reach = nibbles.reach;
    gy_query_place_scan(query);
    return GYRE_OK;
}

static size_t prepared_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    const struct gy_coder *coder = quantizer->coder[1] ? quantizer->coder[1] : quantizer->coder[0];
    return coder->query_bytes ? coder->query_bytes(quantizer, bits) : gy_float_query_bytes(quantizer, bits);
}

static void prepare_estimates(gyre_query *query, const float *y, uint32_t bits, void *prepared)
{
    const gyre_quantizer *quantizer = query->quantizer;
    size_t plane = quantizer->coder[1] ? 1 : 0;
    const struct gy_coder *coder = quantizer->coder[plane];
    query->prepared = prepared;
    if (coder->query_prepare)
        coder->query_prepare(quantizer, quantizer->state[plane], y, bits, prepared, &query->step);
    else
        gy_float_query_prepare(quantizer, y, bits, prepared, &query->step);
}

gyre_status gyre_query_new(gyre_query **out, const gyre_quantizer *quantizer, const float *query, const float *rotated,
                           const gyre_query_options *options, gyre_error *err)
{
    const gyre_codebook *codebook = quantizer->codebook;
    uint32_t dim = gyre_codebook_dim(codebook);
    gyre_metric metric = gyre_codebook_metric(codebook);
    GY_TRY(options_check(quantizer, options, err));
    GY_TRY(gyre_vector_check(GYRE_L2, query, dim, 0, err));
    if (rotated && gyre_vector_check(GYRE_L2, rotated, dim, 0, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_INVALID, "rotated query");

    float y[GYRE_DIM_MAX], residual[GYRE_DIM_MAX];
    const float *mean = gyre_codebook_mean(codebook), *rotated_mean = gyre_codebook_rotated_mean(codebook);
    for (uint32_t i = 0; i < dim; i++)
        residual[i] = query[i] - mean[i];
    if (!gy_quantizer_rotates(quantizer))
        memcpy(y, residual, dim * sizeof *y);
    else {
        if (!rotated) {
            gyre_rotation_apply(gyre_codebook_rotation(codebook), query, y);
            rotated = y;
        }
        for (uint32_t i = 0; i < dim; i++)
            y[i] = rotated[i] - rotated_mean[i];
    }

    size_t lookup_bytes = scan_bytes(quantizer, options), vector_bytes = aligned(dim * sizeof *query);
    size_t bytes =
        aligned(sizeof(gyre_query)) + vector_bytes + lookup_bytes + aligned(prepared_bytes(quantizer, options->refine_bits));
    GY_AUTO(gyre_query) *made = aligned_alloc(64, bytes);
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "query of dim %u: %zu bytes", dim, bytes);
    uint8_t *vector = (uint8_t *)made + aligned(sizeof(gyre_query)), *lookups = vector + vector_bytes;
    memcpy(vector, query, dim * sizeof *query);
    double center = gy_sum_products(mean, query, dim), g2 = gy_sum_squares(residual, dim);
    *made = (gyre_query){
        .quantizer = quantizer,
        .bytes = bytes,
        .vector = (const float *)(const void *)vector,
        .base = metric == GYRE_L2 ? g2 : metric == GYRE_IP ? -center : 1 - center,
        .factor = metric == GYRE_L2 ? 2 : 1,
        .g2 = g2,
        .g = sqrt(g2),
        .query2 = gy_sum_squares(query, dim),
        .mean2 = gy_sum_squares(mean, dim),
        .y2 = g2,
        .epsilon = (double)options->epsilon,
        .bound = bound_of(quantizer, options),
    };
    allow_for_rounding(made, metric, dim);
    made->rounding_row = made->rounding_s + (made->rounding_add > 0 ? made->rounding_add * made->g : 0);
    if (lookup_bytes)
        GY_TRY(prepare_scan(made, y, options, lookups, err));
    prepare_estimates(made, y, options->refine_bits, lookups + lookup_bytes);
    *out = GY_TAKE(made);
    return GYRE_OK;
}

void gyre_query_free(gyre_query *query) { free(query); }
