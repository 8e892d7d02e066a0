/* Estimates, refinements and scans of every codec against the formulas of codec/MATH.md sections 0.1 to 0.3, in plain double
 * arithmetic from a row's own bytes. */
#include "each_codec.h"
#include "query_internal.h"

static const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
static const uint32_t dims[] = {8, 32, 48, 100, 131};
enum { DIMS = sizeof dims / sizeof *dims, DIM_MAX = 131, ROWS = 40 };

/* A codec, rows of it, and a query asked of it in all the ways there are. */
struct asked {
    gyre_metric metric;
    uint32_t dim;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    float stored[ROWS][DIM_MAX];
    float query[DIM_MAX], y[DIM_MAX]; /* y = P (q - c), or q - c where the codec does not rotate */
    uint8_t *rows;
    size_t row_bytes;
    double base, g2;
};

static void asked_init(struct asked *asked, const gyre_codec *codec, gyre_metric metric, uint32_t dim)
{
    float mean[DIM_MAX] = {0}, rotated[DIM_MAX];
    asked->metric = metric, asked->dim = dim;
    random_vector(mean, dim, .3 / sqrt(dim));
    asked->codebook = new_codebook(metric, dim, mean);
    asked->quantizer = any_quantizer(codec, asked->codebook);
    asked->row_bytes = gyre_codec_row_bytes(codec, dim);
    asked->rows = must_alloc(ROWS * asked->row_bytes);
    random_vector(asked->query, dim, 1);
    gyre_vector_normalize(metric, asked->query, asked->query, dim);
    for (size_t i = 0; i < ROWS; i++) {
        random_vector(asked->stored[i], dim, 1 / sqrt(dim));
        for (uint32_t j = 0; j < dim && i % 2; j++) /* every other one is near the query */
            asked->stored[i][j] += asked->query[j] * 2;
        must(gyre_quantizer_encode(asked->quantizer, asked->stored[i], 1, 0, asked->rows + i * asked->row_bytes, &err));
    }
    double center = 0;
    asked->g2 = 0;
    for (uint32_t j = 0; j < dim; j++) {
        asked->y[j] = asked->query[j] - mean[j];
        asked->g2 += (double)asked->y[j] * (double)asked->y[j];
        center += (double)asked->query[j] * (double)mean[j];
    }
    if (gy_quantizer_rotates(asked->quantizer)) {
        gyre_rotation_apply(gyre_codebook_rotation(asked->codebook), asked->query, rotated);
        for (uint32_t j = 0; j < dim; j++)
            asked->y[j] = rotated[j] - gyre_codebook_rotated_mean(asked->codebook)[j];
    }
    asked->base = metric == GYRE_L2 ? asked->g2 : metric == GYRE_IP ? -center : 1 - center;
}

static void asked_fini(struct asked *asked)
{
    free(asked->rows);
    gyre_quantizer_free(asked->quantizer);
    gyre_codebook_free(asked->codebook);
}

static gyre_query *ask(const struct asked *asked, const gyre_query_options *options)
{
    gyre_query_options all_served = *options;
    all_served.epsilon_is_measured = true;
    gyre_query *query = NULL;
    must(gyre_query_new(&query, asked->quantizer, asked->query, NULL, &all_served, &err));
    return query;
}

static void estimate(const struct asked *asked, const gyre_query_options *options, gyre_estimate out[ROWS])
{
    GY_AUTO(gyre_query) *query = ask(asked, options);
    const uint8_t *rows[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        rows[i] = asked->rows + i * asked->row_bytes;
    gyre_query_estimate(query, rows, ROWS, out);
}

typedef void check_function(const gyre_codec *codec, struct asked *asked);

/* Every codec, at every metric and some dims. */
static void for_every_codec(check_function *check)
{
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++)
        for (size_t d = 0; d < DIMS; d++)
            if (codec_serves(&codecs[c], dims[d])) {
                struct asked asked;
                asked_init(&asked, &codecs[c], metrics[(c + d) % 3], dims[d]);
                check(&codecs[c], &asked);
                asked_fini(&asked);
            }
}

static double inner_of(const struct asked *asked, const struct plane *plane, const double *y, double *magnitudes)
{
    float zb[GYRE_DIM_MAX];
    double inner = 0;
    *magnitudes = 0;
    plane_decode(asked->quantizer, plane, zb);
    for (uint32_t j = 0; j < asked->dim; j++)
        inner += y[j] * (double)zb[j], *magnitudes += fabs((double)zb[j]);
    return inner;
}

/* The query rounded as quantizers/coder.h says, to the bits asked for; returns D. */
static double rounded_query(const struct asked *asked, unsigned bits, double *y)
{
    double largest = 0, top = (double)((1 << (bits ? bits - 1 : 0)) - 1);
    for (uint32_t j = 0; j < asked->dim; j++)
        largest = fmax(largest, fabs((double)asked->y[j]));
    for (uint32_t j = 0; j < asked->dim; j++) {
        double level = bits ? (double)asked->y[j] / (largest / top) : 0;
        y[j] = bits ? largest / top * copysign(floor(fabs(level) + .5), level) : (double)asked->y[j];
    }
    return bits ? largest / top : 0;
}

static void check_distances(const gyre_codec *codec, struct asked *asked)
{
    if (!is_linear(codec))
        return;
    static const uint8_t all_bits[] = {0, 4, 6, 8};
    double factor = asked->metric == GYRE_L2 ? 2 : 1, y[DIM_MAX], exact[DIM_MAX], magnitudes;
    rounded_query(asked, 0, exact);
    for (size_t b = 0; b < sizeof all_bits; b++) {
        gyre_estimate estimates[ROWS];
        double step = rounded_query(asked, all_bits[b], y);
        estimate(asked, &(gyre_query_options){.epsilon = 2, .refine_bits = all_bits[b]}, estimates);
        for (size_t i = 0; i < ROWS; i++) {
            struct plane plane = row_plane(asked->quantizer, asked->rows + i * asked->row_bytes, plane_count(codec) - 1);
            double inner = inner_of(asked, &plane, y, &magnitudes), distance = plane.add + asked->base - factor * plane.s * inner;
            double unrounded = plane.add + asked->base - factor * plane.s * inner_of(asked, &plane, exact, &magnitudes);
            double size = plane.r2 + asked->g2 + fabs(plane.add) + fabs(asked->base);
            double error = fabs((double)estimates[i].distance - distance);
            /* A coder may round the query otherwise than to the common grid; then only the promise of section 5.6 holds. */
            if (error > 3e-6 * size && !(all_bits[b] && plane.coder->dot))
                fail_msg("%s dim %u bits %d: %g for %g", codec->name, asked->dim, all_bits[b], (double)estimates[i].distance,
                         distance);
            if (fabs((double)estimates[i].distance - unrounded) >
                factor * plane.s * step / 2 * magnitudes * 1.00001 + 3e-6 * size)
                fail_msg("%s dim %u bits %d: %g is beyond D/2·sum|zb| of %g", codec->name, asked->dim, all_bits[b],
                         (double)estimates[i].distance, unrounded);
        }
    }
}

static void estimates_are_those_of_plain_arithmetic(void **state)
{
    (void)state;
    for_every_codec(check_distances);
}

/* The interval of <g,r> by the formulas, nothing taken from the code: plain 0.1 and 0.3, calibrated 0.2, certain 0. */
static void inner_interval(gyre_bound_kind bound, double epsilon, const struct plane *plane, double g2, double step, uint32_t dim,
                           double inner, double *low, double *high)
{
    double kappa_r2 = plane->e * plane->e * (dim - 1.0), query_noise = step * step / 12 * (plane->r2 + kappa_r2);
    double half = epsilon * sqrt(plane->e * plane->e * g2 + query_noise), size = sqrt(plane->r2 * g2);
    if (bound == GYRE_BOUND_CERTAIN)
        half = sqrt(kappa_r2 * g2) + step / 2 * sqrt(dim * (plane->r2 + kappa_r2));
    *low = inner - half, *high = inner + half;
    if (bound != GYRE_BOUND_CALIBRATED)
        return;
    double c = inner / size, h = half / size, root = h * sqrt(fmax(0, 1 + h * h - c * c));
    *low = size * fmin(fmax((c - root) / (1 + h * h), -1), 1), *high = size * fmin(fmax((c + root) / (1 + h * h), -1), 1);
}

static void check_bounds(const gyre_codec *codec, struct asked *asked)
{
    if (!is_linear(codec) || !has_law(codec))
        return;
    double factor = asked->metric == GYRE_L2 ? 2 : 1, y[DIM_MAX], magnitudes;
    for (gyre_bound_kind bound = GYRE_BOUND_PLAIN; bound <= GYRE_BOUND_CERTAIN; bound++)
        for (unsigned bits = 0; bits <= 8; bits += 8) {
            gyre_estimate estimates[ROWS];
            double step = rounded_query(asked, bits, y), epsilon = .5 + (double)(random_u64() % 30) / 10;
            const gyre_query_options options = {.epsilon = (float)epsilon, .bound = bound, .refine_bits = (uint8_t)bits};
            estimate(asked, &options, estimates);
            for (size_t i = 0; i < ROWS; i++) {
                struct plane plane = row_plane(asked->quantizer, asked->rows + i * asked->row_bytes, plane_count(codec) - 1);
                if (bits && plane.coder->dot)
                    continue; /* its own rounding, its own D */
                double inner = inner_of(asked, &plane, y, &magnitudes), low, high;
                inner_interval(bound, (double)options.epsilon, &plane, asked->g2, step, asked->dim, plane.s * inner, &low, &high);
                double fixed = plane.add + asked->base, wanted_low = fixed - factor * high, wanted_high = fixed - factor * low;
                /* Never narrower than the formula; wider by what float arithmetic may lose. */
                double size = plane.r2 + asked->g2 + fabs(plane.add) + fabs(asked->base);
                double slack = (asked->dim / 8.0 + 256) * 0x1p-23 * size, tight = 3e-6 * size;
                double low_by = wanted_low - (double)estimates[i].low, high_by = (double)estimates[i].high - wanted_high;
                if (low_by < -tight || low_by > slack + tight || high_by < -tight || high_by > slack + tight)
                    fail_msg("%s dim %u bound %d bits %u: %g…%g for %g…%g", codec->name, asked->dim, (int)bound, bits,
                             (double)estimates[i].low, (double)estimates[i].high, wanted_low, wanted_high);
                if (asked->dim > 1 && !(estimates[i].low <= estimates[i].high))
                    fail_msg("%s: %g…%g", codec->name, (double)estimates[i].low, (double)estimates[i].high);
            }
        }
}

static void bounds_are_those_of_the_formulas(void **state)
{
    (void)state;
    for_every_codec(check_bounds);
}

static void check_refine(const gyre_codec *codec, struct asked *asked)
{
    if (!gyre_codec_has_refinement(codec))
        return;
    static const gyre_query_options all[] = {{.epsilon = 2},
                                             {.epsilon = 2, .bound = GYRE_BOUND_CALIBRATED, .refine_bits = 4},
                                             {.bound = GYRE_BOUND_CERTAIN, .refine_bits = 8},
                                             {.epsilon = 1, .refine_bits = 6}};
    uint8_t *blocks = new_blocks(codec, asked->dim, asked->rows, ROWS);
    size_t refine_bytes = gyre_codec_refine_row_bytes(codec, asked->dim),
           scan_bytes = gyre_codec_scan_row_bytes(codec, asked->dim);
    uint8_t *refine_rows = must_alloc(ROWS * refine_bytes);
    for (size_t i = 0; i < ROWS; i++)
        memcpy(refine_rows + i * refine_bytes, asked->rows + i * asked->row_bytes + scan_bytes, refine_bytes);
    for (size_t o = 0; o < sizeof all / sizeof *all; o++) {
        GY_AUTO(gyre_query) *query = ask(asked, &all[o]);
        gyre_estimate wanted[ROWS], refined[ROWS];
        gyre_hit hits[2 * GYRE_BLOCK_ROWS], some[ROWS];
        estimate(asked, &all[o], wanted);
        assert_int_equal(gyre_query_scan(query, blocks, 2, INFINITY, hits), ROWS);
        for (size_t i = 0; i < ROWS; i++)
            some[i] = hits[(i * 7) % ROWS]; /* hits need no order: 7 and 40 have no common divisor */
        gyre_query_refine(query, blocks, refine_rows, some, ROWS, refined);
        for (size_t i = 0; i < ROWS; i++)
            if (memcmp(&refined[i], &wanted[some[i].row], sizeof *refined) != 0)
                fail_msg("%s dim %u: row %u refined to %g, estimated at %g", codec->name, asked->dim, some[i].row,
                         (double)refined[i].distance, (double)wanted[some[i].row].distance);
    }
    free(blocks), free(refine_rows);
}

static void a_refinement_is_the_estimate_of_the_whole_row(void **state)
{
    (void)state;
    for_every_codec(check_refine);
}

/* H of a row by the query's own tables, one nibble after the other (kernels/scan.h). */
static uint32_t misses_by_tables(const struct gy_scan *scan, const uint8_t *code, size_t code_bytes)
{
    uint32_t sum[2] = {0};
    for (size_t t = 0; t < scan->lookup_count; t++)
        for (size_t j = 0; j < code_bytes; j++)
            for (size_t half = 0; half < 2; half++) {
                const uint8_t *table = scan->lookup[t] + j / 2 * GY_LOOKUP_PAIR_BYTES + half * 64 + j % 2 * 32;
                assert_memory_equal(table, table + 16, 16);
                unsigned entry = table[half ? code[j] >> 4 : code[j] & 15];
                assert_true(entry <= GY_LOOKUP_ENTRY_MAX);
                sum[t] += entry;
            }
    return sum[0] + 16 * sum[1];
}

/* Roundings in one sum of a scan: of coordinates for sign bits, of table entries for books. */
static double rounded_positions(const gyre_codec *codec, uint32_t dim)
{
    if (codec->kind == GYRE_ADDITIVE)
        return dim / 8 * 2 + (dim % 8 > 0) + (dim % 8 > 4);
    return codec->kind == GYRE_BLOCKQUANT ? (dim + codec->block - 1) / codec->block : dim;
}

static void check_scan(const gyre_codec *codec, struct asked *asked)
{
    if (!gyre_codec_scans(codec))
        return;
    double factor = asked->metric == GYRE_L2 ? 2 : 1, exact[DIM_MAX], magnitudes;
    uint8_t *blocks = new_blocks(codec, asked->dim, asked->rows, ROWS);
    size_t code_bytes = gyre_codec_scan_code_bytes(codec, asked->dim);
    rounded_query(asked, 0, exact);
    for (uint8_t bits = 4; bits <= 8; bits += 2) {
        GY_AUTO(gyre_query) *query = ask(asked, &(gyre_query_options){.epsilon = 2, .scan_bits = bits});
        gyre_hit hits[2 * GYRE_BLOCK_ROWS];
        assert_int_equal(gyre_query_scan(query, blocks, 2, INFINITY, hits), ROWS);
        assert_int_equal(query->scan.lookup_count, bits > 4 ? 2 : 1);
        double step = 2 * (double)query->scan.step / factor; /* D */
        for (size_t i = 0; i < ROWS; i++) {
            struct plane plane = row_plane(asked->quantizer, asked->rows + i * asked->row_bytes, 0);
            int32_t misses = (int32_t)misses_by_tables(&query->scan, plane.code.code, code_bytes);
            float t = (float)(query->scan.levels - 2 * misses);
            float estimated = ((float)plane.add + query->scan.base) - (float)plane.s * (query->scan.step * t);
            if (memcmp(&estimated, &hits[i].estimate, sizeof estimated) != 0)
                fail_msg("%s dim %u bits %d: estimate %g, tables say %g", codec->name, asked->dim, bits, (double)hits[i].estimate,
                         (double)estimated);
            /* The rounding of section 5.6: D/2 for each of what is summed; and section 0.3: each adds D^2/12 of variance. */
            double inner = inner_of(asked, &plane, exact, &magnitudes), positions = rounded_positions(codec, asked->dim);
            double width = 2 * factor * sqrt(plane.e * plane.e * asked->g2 + plane.s * plane.s * step * step * positions / 12);
            if ((double)hits[i].half_width < width * (1 - 1e-6) || (double)hits[i].half_width > width * 1.01 + 1e-3)
                fail_msg("%s dim %u bits %d: half width %g, wanted %g", codec->name, asked->dim, bits, (double)hits[i].half_width,
                         width);
            double off = fabs(step / 2 * (double)t - inner), size = sqrt(asked->g2) * sqrt(asked->dim);
            if (off > step / 2 * positions * 1.0001 + 1e-5 * size)
                fail_msg("%s dim %u bits %d: <y,zb> is %g, the scan has %g", codec->name, asked->dim, bits, inner,
                         step / 2 * (double)t);
        }
    }
    free(blocks);
}

static void scans_sum_their_tables_and_stay_within_the_rounding(void **state)
{
    (void)state;
    for_every_codec(check_scan);
}

/* For sign bits the tables are known exactly: H counts D by which a rounded query misses its sign (quantizers/rabitq.c). */
static void a_scan_of_signs_sums_the_rounded_query(void **state)
{
    (void)state;
    for (size_t d = 0; d < DIMS; d++) {
        struct asked asked;
        asked_init(&asked, codec_named("rabitq1"), GYRE_L2, dims[d]);
        double largest = 0;
        for (uint32_t j = 0; j < dims[d]; j++)
            largest = fmax(largest, fabs((double)asked.y[j]));
        for (uint8_t bits = 4; bits <= 8; bits += 2) {
            GY_AUTO(gyre_query) *query = ask(&asked, &(gyre_query_options){.epsilon = 2, .scan_bits = bits});
            int32_t top = (1 << bits) - 1;
            double step = 2 * largest / top;
            for (size_t i = 0; i < ROWS; i++) {
                const uint8_t *code = asked.rows + i * asked.row_bytes;
                int32_t twice = 0; /* 2·sum zb·(u - top/2) = top·dim - 2H */
                for (uint32_t j = 0; j < dims[d]; j++) {
                    int32_t u = (int32_t)floor((double)asked.y[j] / step + top / 2.0 + .5);
                    u = u < 0 ? 0 : u > top ? top : u;
                    twice += (code[j / 8] >> j % 8 & 1 ? 1 : -1) * (2 * u - top);
                }
                int32_t misses = (int32_t)misses_by_tables(&query->scan, code, rabitq1_code_bytes(dims[d]));
                assert_int_equal(query->scan.levels - 2 * misses, twice);
            }
        }
        asked_fini(&asked);
    }
}

static void check_certain(const gyre_codec *codec, struct asked *asked)
{
    if (!is_linear(codec))
        return;
    for (uint8_t bits = 0; bits <= 8; bits = bits ? (uint8_t)(bits + 2) : 4) {
        gyre_estimate estimates[ROWS];
        const gyre_query_options options = {.bound = GYRE_BOUND_CERTAIN, .refine_bits = bits, .scan_bits = bits};
        estimate(asked, &options, estimates);
        for (size_t i = 0; i < ROWS; i++) {
            float distance = gyre_distance(asked->metric, asked->stored[i], asked->query, asked->dim);
            if (!(estimates[i].low <= distance && distance <= estimates[i].high))
                fail_msg("%s dim %u metric %d bits %d: %g is not in %g…%g", codec->name, asked->dim, (int)asked->metric, bits,
                         (double)distance, (double)estimates[i].low, (double)estimates[i].high);
        }
        if (!gyre_codec_scans(codec))
            continue;
        uint8_t *blocks = new_blocks(codec, asked->dim, asked->rows, ROWS);
        GY_AUTO(gyre_query) *query = ask(asked, &options);
        gyre_hit hits[2 * GYRE_BLOCK_ROWS];
        assert_int_equal(gyre_query_scan(query, blocks, 2, INFINITY, hits), ROWS);
        for (size_t i = 0; i < ROWS; i++) {
            float distance = gyre_distance(asked->metric, asked->stored[i], asked->query, asked->dim);
            if (fabsf(distance - hits[i].estimate) > hits[i].half_width)
                fail_msg("%s dim %u metric %d bits %d: %g is not in %g ± %g of the scan", codec->name, asked->dim,
                         (int)asked->metric, bits, (double)distance, (double)hits[i].estimate, (double)hits[i].half_width);
        }
        free(blocks);
    }
}

static void the_certain_bound_is_never_violated(void **state)
{
    (void)state;
    for_every_codec(check_certain);
}

static void many_queries_in_one_pass_find_what_each_finds_alone(void **state)
{
    (void)state;
    struct asked asked;
    asked_init(&asked, codec_named("rabitq1"), GYRE_IP, 100);
    uint8_t *blocks = new_blocks(codec_named("rabitq1"), 100, asked.rows, ROWS);
    gyre_query *queries[GYRE_SCAN_QUERIES_MAX];
    gyre_hit found[GYRE_SCAN_QUERIES_MAX][2 * GYRE_BLOCK_ROWS], *hits[GYRE_SCAN_QUERIES_MAX], alone[2 * GYRE_BLOCK_ROWS];
    float thresholds[GYRE_SCAN_QUERIES_MAX];
    for (size_t q = 0; q < GYRE_SCAN_QUERIES_MAX; q++) {
        random_vector(asked.query, 100, 1);
        queries[q] = ask(&asked, &(gyre_query_options){.epsilon = 1});
        hits[q] = found[q];
        thresholds[q] = q == 3 ? INFINITY : q == 5 ? -INFINITY : (float)random_normal();
    }
    for (size_t count = 1; count <= GYRE_SCAN_QUERIES_MAX; count++) {
        size_t counts[GYRE_SCAN_QUERIES_MAX];
        gyre_query_scan_many((const gyre_query *const *)queries, count, blocks, 2, thresholds, hits, counts);
        for (size_t q = 0; q < count; q++) {
            assert_int_equal(counts[q], gyre_query_scan(queries[q], blocks, 2, thresholds[q], alone));
            assert_memory_equal(found[q], alone, counts[q] * sizeof *alone);
        }
    }
    for (size_t q = 0; q < GYRE_SCAN_QUERIES_MAX; q++)
        gyre_query_free(queries[q]);
    free(blocks);
    asked_fini(&asked);
}

static void options_that_cannot_be_met_are_refused(void **state)
{
    (void)state;
    struct asked asked;
    asked_init(&asked, codec_named("rabitq1"), GYRE_L2, 8);
    gyre_query *query = NULL;
#define REFUSED(words, ...) \
    must_fail(gyre_query_new(&query, asked.quantizer, asked.query, NULL, &(gyre_query_options){__VA_ARGS__}, &err), \
              GYRE_INVALID, words)
    REFUSED("epsilon is 0", .scan_bits = 4);
    REFUSED("epsilon is -1", .epsilon = -1);
    REFUSED("at most 10000", .epsilon = 1.1e4f);
    REFUSED("epsilon is inf", .epsilon = INFINITY);
    REFUSED("epsilon is", .epsilon = NAN);
    REFUSED("bound is 4", .epsilon = 1, .bound = (gyre_bound_kind)4);
    REFUSED("scan_bits is 5; it must be 4, 6 or 8", .epsilon = 1, .scan_bits = 5);
    REFUSED("scan_bits is 16", .epsilon = 1, .scan_bits = 16);
    REFUSED("refine_bits is 1; it must be 4, 6, 8, or 0 for float", .epsilon = 1, .refine_bits = 1);
#undef REFUSED
    assert_null(query);
    must(gyre_query_new(&query, asked.quantizer, asked.query, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, &err));
    gyre_query_free(query);
    asked_fini(&asked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_are_those_of_plain_arithmetic),
        cmocka_unit_test(bounds_are_those_of_the_formulas),
        cmocka_unit_test(a_refinement_is_the_estimate_of_the_whole_row),
        cmocka_unit_test(scans_sum_their_tables_and_stay_within_the_rounding),
        cmocka_unit_test(a_scan_of_signs_sums_the_rounded_query),
        cmocka_unit_test(the_certain_bound_is_never_violated),
        cmocka_unit_test(many_queries_in_one_pass_find_what_each_finds_alone),
        cmocka_unit_test(options_that_cannot_be_met_are_refused),
    };
    return cmocka_run_group_tests_name("codec.query", tests, NULL, NULL);
}
