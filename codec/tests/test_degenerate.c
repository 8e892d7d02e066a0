/* codec/MATH.md section 5.10, over every codec: what has no direction, no length, too much of it, or one dimension. */
#include "each_codec.h"

static const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
static const uint32_t dims[] = {1, 2, 3, 131, 4096};
enum { DIMS = sizeof dims / sizeof *dims };

enum shape { ZERO, CENTROID, CONSTANT, ONE_HOT, ALTERNATING, GAUSSIAN, DENORMAL, SHAPES };
static const char *const shape_names[] = {"zero", "centroid", "constant", "one-hot", "alternating", "Gaussian", "denormal"};

static void shape_fill(enum shape shape, float size, const float *mean, uint32_t dim, float *out)
{
    for (uint32_t i = 0; i < dim; i++)
        switch (shape) {
        case ZERO: out[i] = 0; break;
        case CENTROID: out[i] = mean[i]; break;
        case CONSTANT: out[i] = size; break;
        case ONE_HOT: out[i] = i == dim / 2 ? size : 0; break;
        case ALTERNATING: out[i] = i % 2 ? -size : size; break;
        case GAUSSIAN: out[i] = size * (float)random_normal(); break;
        case DENORMAL: out[i] = i % 3 ? 0x1p-149f : -0x1p-140f; break;
        case SHAPES: break;
        }
}

/* One vector against queries of every size: nothing leaves the range of a float, intervals are intervals, and where the bound is
 * certain they hold the distance. */
static void check_vector(const gyre_quantizer *quantizer, const float *vector, const char *name)
{
    static const float sizes[] = {0, 1e-41f, 1e-20f, 1, 1e13f};
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    const gyre_codebook *codebook = gyre_quantizer_codebook(quantizer);
    gyre_metric metric = gyre_codebook_metric(codebook);
    uint32_t dim = gyre_codebook_dim(codebook);
    uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, dim));
    must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
    must(gyre_codec_row_check(codec, dim, row, &err));
    float decoded[GYRE_DIM_MAX], asked[GYRE_DIM_MAX];
    gyre_quantizer_decode(quantizer, row, decoded);
    for (uint32_t i = 0; i < dim; i++)
        if (!isfinite(decoded[i]))
            fail_msg("%s dim %u %s: component %u decodes to %g", codec->name, dim, name, i, (double)decoded[i]);
    for (size_t q = 0; q < sizeof sizes / sizeof *sizes; q++) {
        for (uint32_t i = 0; i < dim; i++)
            asked[i] = sizes[q] * (i % 3 ? 1 : -.5f);
        float distance = gyre_distance(metric, vector, asked, dim);
        for (gyre_bound_kind bound = GYRE_BOUND_PLAIN; bound <= GYRE_BOUND_CERTAIN; bound++) {
            GY_AUTO(gyre_query) *query = NULL;
            const gyre_query_options options = {.epsilon = 3, .bound = bound, .epsilon_is_measured = true};
            must(gyre_query_new(&query, quantizer, asked, NULL, &options, &err));
            gyre_estimate estimate;
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
            if (!isfinite(estimate.distance) || !(estimate.low <= estimate.high) || !isfinite(estimate.low) ||
                !isfinite(estimate.high))
                fail_msg("%s dim %u %s, query %g: %g in %g…%g", codec->name, dim, name, (double)sizes[q],
                         (double)estimate.distance, (double)estimate.low, (double)estimate.high);
            if (is_linear(codec) && bound == GYRE_BOUND_CERTAIN && !(estimate.low <= distance && distance <= estimate.high))
                fail_msg("%s dim %u metric %d %s, query %g: %g is not in %g…%g", codec->name, dim, (int)metric, name,
                         (double)sizes[q], (double)distance, (double)estimate.low, (double)estimate.high);
            if (!gyre_codec_scans(codec))
                continue;
            uint8_t *block = new_blocks(codec, dim, row, 1);
            gyre_hit hits[GYRE_BLOCK_ROWS];
            assert_int_equal(gyre_query_scan(query, block, 1, INFINITY, hits), 1);
            assert_true(isfinite(hits[0].estimate) && hits[0].half_width >= 0 && isfinite(hits[0].half_width));
            if (bound == GYRE_BOUND_CERTAIN && fabsf(distance - hits[0].estimate) > hits[0].half_width)
                fail_msg("%s dim %u metric %d %s, query %g: %g is not in %g ± %g", codec->name, dim, (int)metric, name,
                         (double)sizes[q], (double)distance, (double)hits[0].estimate, (double)hits[0].half_width);
            free(block);
        }
    }
    free(row);
}

static void every_shape_of_every_size_stays_finite_and_within_its_bound(void **state)
{
    (void)state;
    static const float sizes[] = {1e-41f, 1e-20f, 1, 1e13f};
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++)
        for (size_t d = 0; d < DIMS; d++) {
            uint32_t dim = dims[d];
            if (!codec_serves(&codecs[c], dim))
                continue;
            bool large = dim > 1000; /* one metric, one mean */
            for (size_t m = 0; m < (large ? 1 : 3); m++)
                for (int centred = large; centred < 2; centred++) {
                    float mean[GYRE_DIM_MAX] = {0}, vector[GYRE_DIM_MAX];
                    if (centred)
                        random_unit(mean, dim);
                    gyre_metric metric = metrics[(m + c) % 3];
                    GY_AUTO(gyre_codebook) *codebook = new_codebook(metric, dim, mean);
                    GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], codebook);
                    for (enum shape shape = 0; shape < SHAPES; shape++)
                        for (size_t z = 0; z < (shape <= CENTROID || shape == DENORMAL || large ? 1 : 4); z++) {
                            shape_fill(shape, sizes[large ? 2 : z], mean, dim, vector);
                            if (gyre_vector_check(metric, vector, dim, 0, NULL) == GYRE_OK)
                                check_vector(quantizer, vector, shape_names[shape]);
                            else
                                assert_int_equal(metric, GYRE_COSINE); /* which refuses what has no direction, and nothing else */
                        }
                }
        }
}

static void a_duplicate_of_the_centroid_is_exact(void **state)
{
    (void)state;
    enum { DIM = 40 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    float mean[DIM], asked[DIM], back[DIM];
    random_unit(mean, DIM), random_vector(asked, DIM, 1);
    for (size_t c = 0; c < count; c++)
        for (size_t m = 0; m < 2; m++) { /* under cosine x/|x| may differ from the mean by a rounding */
            GY_AUTO(gyre_codebook) *codebook = new_codebook(metrics[m], DIM, mean);
            GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], codebook);
            GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 3);
            uint8_t *row = must_alloc(gyre_codec_row_bytes(&codecs[c], DIM));
            must(gyre_quantizer_encode(quantizer, mean, 1, 0, row, &err));
            for (size_t p = 0; p < plane_count(&codecs[c]); p++) {
                struct plane plane = row_plane(quantizer, row, p);
                assert_true(plane.s == 0 && plane.e == 0 && plane.r2 == 0 && plane.add == 0);
            }
            gyre_quantizer_decode(quantizer, row, back);
            assert_memory_equal(back, mean, sizeof back);
            gyre_estimate estimate;
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
            float distance = gyre_distance(metrics[m], mean, asked, DIM);
            assert_true(estimate.low <= distance && distance <= estimate.high && estimate.high - estimate.low < 1e-2f);
            assert_true(fabsf(estimate.distance - distance) < 1e-4f);
            free(row);
        }
}

static void what_cannot_be_encoded_is_named_by_row_and_column(void **state)
{
    (void)state;
    enum { DIM = 24, ROWS = 3 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    GY_AUTO(gyre_codebook) *cosine = new_codebook(GYRE_COSINE, DIM, NULL), *l2 = new_codebook(GYRE_L2, DIM, NULL);
    for (size_t c = 0; c < count; c++) {
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], cosine), *l2_quantizer = any_quantizer(&codecs[c], l2);
        uint8_t *rows = must_alloc(ROWS * gyre_codec_row_bytes(&codecs[c], DIM));
        float vectors[ROWS * DIM];
        random_vector(vectors, ROWS * DIM, 1);
        vectors[2 * DIM + 17] = NAN;
        must_fail(gyre_quantizer_encode(quantizer, vectors, ROWS, 1000, rows, &err), GYRE_INVALID, "row 1002 column 17 is NaN");
        vectors[2 * DIM + 17] = -INFINITY;
        must_fail(gyre_quantizer_encode(quantizer, vectors, ROWS, 0, rows, &err), GYRE_INVALID, "row 2 column 17 is infinite");
        vectors[2 * DIM + 17] = 1e20f;
        must_fail(gyre_quantizer_encode(quantizer, vectors, ROWS, 0, rows, &err), GYRE_INVALID,
                  "row 2 has norm 1e+20; the limit is 1e+16");
        must_fail(gyre_quantizer_encode(l2_quantizer, vectors, ROWS, 0, rows, &err), GYRE_INVALID, "the limit is 1e+16");
        memset(vectors + DIM, 0, DIM * sizeof *vectors);
        must_fail(gyre_quantizer_encode(quantizer, vectors, ROWS, 0, rows, &err), GYRE_INVALID, "row 1 has norm 0");
        vectors[DIM] = 1e-31f;
        must_fail(gyre_quantizer_encode(quantizer, vectors, ROWS, 0, rows, &err), GYRE_INVALID, "cosine needs a direction");
        free(rows);
    }
}

/* Vectors that a code nearly hits: there the error is a small difference of large sums, and must not be lost in it. */
static void an_error_far_below_the_vector_is_still_bounded(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++)
        for (size_t n = 0; n < 200 && is_linear(&codecs[c]) && !gyre_codec_is_trained(&codecs[c]); n++) {
            uint32_t dim = 1 + (uint32_t)(n % 12);
            float vector[12], asked[12], zb[12];
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, dim, NULL);
            if (!codec_serves(&codecs[c], dim))
                continue;
            GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], codebook);
            uint8_t *row = must_alloc(gyre_codec_row_bytes(&codecs[c], dim));
            random_vector(vector, dim, 1), random_vector(asked, dim, 1);
            must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
            struct plane plane = row_plane(quantizer, row, plane_count(&codecs[c]) - 1);
            plane_decode(quantizer, &plane, zb);
            gyre_rotation_invert(gyre_codebook_rotation(codebook), zb, vector);
            double off = pow(10, -1 - (double)(n % 61) / 10);
            for (uint32_t i = 0; i < dim; i++)
                vector[i] += (float)(off * random_normal());
            must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
            GY_AUTO(gyre_query) *query = NULL;
            must(gyre_query_new(&query, quantizer, asked, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, &err));
            gyre_estimate estimate;
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
            float distance = gyre_distance(GYRE_IP, vector, asked, dim);
            if (!(estimate.low <= distance && distance <= estimate.high))
                fail_msg("%s dim %u, %g off a code: %g is not in %g…%g", codecs[c].name, dim, off, (double)distance,
                         (double)estimate.low, (double)estimate.high);
            free(row);
        }
}

/* Magnitude is no part of a code: vectors 10^±13 apart have the same bits. */
static void a_scaled_vector_has_the_same_code(void **state)
{
    (void)state;
    enum { DIM = 96 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    float vector[DIM], scaled[DIM];
    random_vector(vector, DIM, 1);
    for (size_t c = 0; c < count; c++) {
        if (!has_law(&codecs[c]) || gyre_codec_is_trained(&codecs[c]))
            continue; /* learned from data, which has a size */
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], codebook);
        size_t bytes = gyre_codec_row_bytes(&codecs[c], DIM);
        uint8_t *row = must_alloc(bytes), *other = must_alloc(bytes);
        must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
        for (int power = -100; power <= 44; power += 4) { /* exact powers of two: no rounding differs; R below 10^-30 included */
            for (size_t i = 0; i < DIM; i++)
                scaled[i] = ldexpf(vector[i], power);
            must(gyre_quantizer_encode(quantizer, scaled, 1, 0, other, &err));
            for (size_t p = 0; p < plane_count(&codecs[c]); p++) {
                struct plane a = row_plane(quantizer, row, p), b = row_plane(quantizer, other, p);
                if (memcmp(a.code.code, b.code.code, a.code_bytes) != 0)
                    fail_msg("%s: plane %zu differs at 2^%d", codecs[c].name, p, power);
            }
        }
        free(row), free(other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_of_every_size_stays_finite_and_within_its_bound),
        cmocka_unit_test(a_duplicate_of_the_centroid_is_exact),
        cmocka_unit_test(what_cannot_be_encoded_is_named_by_row_and_column),
        cmocka_unit_test(an_error_far_below_the_vector_is_still_bounded),
        cmocka_unit_test(a_scaled_vector_has_the_same_code),
    };
    return cmocka_run_group_tests_name("codec.degenerate", tests, NULL, NULL);
}
