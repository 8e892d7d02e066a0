/* Segments: the plan, the gate, the state; what the codes are worth is in prop_segments.c. */
#include "kernels/kernels.h"
#include "quantizers/segments.h"
#include "query_internal.h"
#include "rotations/pca.h"
#include "skewed.h"
#include "sums.h"

#include <sodium.h>

enum { DIM = 96, SAMPLE = 1500 };
static const char *const codecs[] = {"segments1", "segments2", "segments4"};

static gyre_status train(gyre_quantizer **out, const char *codec, const gyre_codebook *codebook, const float *sample, size_t n,
                         gyre_error *err)
{
    return gyre_quantizer_train(out, codec_named(codec), codebook, sample, n, err);
}

static void a_plan_keeps_its_budget_and_gives_bits_to_variance(void **state)
{
    (void)state;
    static const uint32_t dims[] = {16, 31, 64, 65, 96, 100, 131, 768, 1000, 4096};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t bits = 1; bits <= 4; bits++)
            for (int power = 0; power <= 4; power++) {
                uint32_t dim = dims[d];
                double *variances = must_alloc(dim * sizeof *variances);
                for (uint32_t i = 0; i < dim; i++)
                    variances[i] = pow(i + 1.0, -power);
                size_t bytes = gy_segment_code_bytes(dim, (uint32_t)bits) + GY_SEGMENT_FACTOR_BYTES;
                struct gy_segments_plan plan;
                must(gy_segments_plan_make(&plan, variances, dim, bytes, &err));
                assert_true(gy_segments_plan_bytes(&plan, dim) <= bytes);
                uint32_t rows = 0;
                for (uint32_t s = 0; s < plan.count; s++) {
                    rows += plan.dims[s];
                    assert_true(plan.dims[s] >= 16 && plan.bits[s] >= 1 && plan.bits[s] <= 8);
                    assert_true(s == 0 || plan.bits[s] <= plan.bits[s - 1]);
                }
                assert_true(rows == plan.rows && rows <= dim);
                if (power == 0) { /* nothing to give unequally */
                    assert_int_equal(plan.rows, dim);
                    assert_int_equal(plan.count, 1);
                    assert_int_equal(plan.bits[0], bits);
                } else if (power >= 2 && bits > 1 && dim >= 64)
                    assert_true(plan.bits[0] > bits);
                free(variances);
            }
}

/* All ways to cut 64 components at multiples of 16, with all widths, kept or dropped. */
static void a_plan_is_the_best_there_is(void **state)
{
    (void)state;
    static const double tan2[] = {1, .57, .132, .0375, .0108, .0031, .00088, .00026, .00007};
    for (int round = 0; round < 40; round++) {
        double share[64], total = 0, narrowest = INFINITY;
        for (int i = 0; i < 64; i++)
            share[i] = exp(-i * 0.02 * (round % 8)) * (1 + 1e-3 * random_normal());
        for (int i = 0; i < 64; i++) {
            for (int j = i + 1; j < 64; j++)
                if (share[j] > share[i]) {
                    double kept = share[i];
                    share[i] = share[j], share[j] = kept;
                }
            total += share[i];
        }
        for (int i = 0; i < 64; i++)
            share[i] /= total;
        size_t bytes = 12 + (size_t)(random_u64() % 30);
        for (int cuts = 0; cuts < 8; cuts++)         /* bit k: a segment ends after component 16·(k+1) */
            for (int code = 0; code < 6561; code++) { /* widths 0…8 of up to four segments; 0 only for the last */
                double variance = 0, dropped = 0;
                size_t used = 0;
                int first = 0, digits = code;
                bool possible = true;
                for (int k = 0; k < 4; k++) {
                    if (k < 3 && !(cuts >> k & 1))
                        continue;
                    int end = 16 * (k + 1), width = digits % 9;
                    double energy = 0;
                    for (int i = first; i < end; i++)
                        energy += share[i];
                    possible = possible && (width || (end == 64 && first));
                    variance += width ? energy * energy / (end - first) * tan2[width] : 0;
                    dropped += width ? 0 : energy;
                    used += width ? (size_t)(width * (end - first) / 8 + 4) : 2;
                    first = end;
                    digits /= 9;
                }
                if (possible && digits == 0 && used <= bytes)
                    narrowest = fmin(narrowest, 2.5 * sqrt(variance) + dropped);
            }
        struct gy_segments_plan plan;
        must(gy_segments_plan_make(&plan, share, 64, bytes, &err));
        double variance = 0, dropped = 0;
        uint32_t i = 0;
        for (uint32_t s = 0; s < plan.count; s++) {
            double energy = 0;
            for (uint32_t end = i + plan.dims[s]; i < end; i++)
                energy += share[i];
            variance += energy * energy / plan.dims[s] * tan2[plan.bits[s]];
        }
        for (; i < 64; i++)
            dropped += share[i];
        if (fabs(2.5 * sqrt(variance) + dropped - narrowest) > 1e-12)
            fail_msg("%zu bytes: a plan of width %g; there is one of %g", bytes, 2.5 * sqrt(variance) + dropped, narrowest);
    }
}

static void skewed_data_passes_the_gate_and_flat_data_does_not(void **state)
{
    (void)state;
    for (size_t c = 0; c < 3; c++) {
        struct skewed flat = new_skewed(DIM, 0.1), skewed = new_skewed(DIM, 0.9);
        float *flat_sample = new_skewed_sample(&flat, SAMPLE), *skewed_sample = new_skewed_sample(&skewed, SAMPLE);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
        gyre_quantizer *quantizer = NULL;
        char words[64];
        snprintf(words, sizeof words, "unequal bits pay below 32.0: use rabitq%c", codecs[c][8]);
        must_fail(train(&quantizer, codecs[c], codebook, flat_sample, SAMPLE, &err), GYRE_PRECONDITION, words);
        must(train(&quantizer, codecs[c], codebook, skewed_sample, SAMPLE, &err));
        gyre_quantizer_free(quantizer);
        free(flat_sample), free(skewed_sample), skewed_free(&flat), skewed_free(&skewed);
    }
}

/* A small sample of a flat spectrum looks skewed: n = 2·dim takes a third off the effective dimension if nobody corrects for it.
 * */
static void the_effective_dimension_is_that_of_the_data_not_of_the_sample(void **state)
{
    (void)state;
    static const size_t counts[] = {DIM * 2, DIM * 8};
    static const double powers[] = {0, 0.5, 1};
    for (size_t p = 0; p < 3; p++) {
        double trace = 0, squares = 0;
        for (int i = 0; i < DIM; i++)
            trace += pow(i + 1.0, -2 * powers[p]), squares += pow(i + 1.0, -4 * powers[p]);
        for (size_t c = 0; c < 2; c++) {
            double mean = 0;
            for (int round = 0; round < 10; round++) {
                struct skewed skewed = new_skewed(DIM, powers[p]);
                float *sample = new_skewed_sample(&skewed, counts[c]);
                struct gy_moments moments;
                must(gy_moments_init(&moments, sample, counts[c], DIM, &err));
                mean += gy_effective_dim(&moments, DIM) / 10;
                gy_moments_fini(&moments);
                free(sample), skewed_free(&skewed);
            }
            if (fabs(mean / (trace * trace / squares) - 1) > 0.08)
                fail_msg("power %g, %zu vectors: %g for %g", powers[p], counts[c], mean, trace * trace / squares);
        }
    }
}

/* Every vector a direction of its own that many vectors repeat in the part that is learned from, and none in the part held out.
 * */
static void what_does_not_carry_over_fails_the_check(void **state)
{
    (void)state;
    float *sample = must_alloc(SAMPLE * DIM * sizeof *sample), directions[8][DIM];
    for (int k = 0; k < 8; k++)
        random_unit(directions[k], DIM);
    for (size_t i = 0; i < SAMPLE; i++) {
        random_vector(sample + i * DIM, DIM, i % 5 == 4 ? 1 : 0.05);
        float length = i % 5 == 4 ? 0 : (float)(2 * random_normal());
        for (size_t j = 0; j < DIM; j++)
            sample[i * DIM + j] += length * directions[i % 8][j];
    }
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    gyre_quantizer *quantizer = NULL;
    must_fail(train(&quantizer, "segments2", codebook, sample, SAMPLE, &err), GYRE_PRECONDITION, "held out its squared error is");
    must_fail(train(&quantizer, "segments2", codebook, sample, SAMPLE, &err), GYRE_PRECONDITION, "use rabitq2");
    must_fail(train(&quantizer, "segments2", codebook, sample, 2 * DIM - 1, &err), GYRE_INVALID, "dim 96 takes at least 192");
    free(sample);
    GY_AUTO(gyre_codebook) *narrow = new_codebook(GYRE_L2, 15, NULL);
    must_fail(train(&quantizer, "segments2", narrow, NULL, 0, &err), GYRE_INVALID, "dim is 15; segments2 takes 16 and more");
}

static void factors_and_errors_are_those_of_the_code(void **state)
{
    (void)state;
    for (int learned = 0; learned < 2; learned++)
        for (size_t c = 0; c < 3; c++) {
            struct skewed skewed = new_skewed(DIM, 1);
            float *sample = new_skewed_sample(&skewed, SAMPLE), *matrix = new_rotation_matrix(DIM);
            GY_AUTO(gyre_codebook) *codebook = learned ? new_learned_codebook(GYRE_L2, DIM, skewed.mean, matrix)
                                                       : new_codebook(GYRE_L2, DIM, skewed.mean);
            GY_AUTO(gyre_quantizer) *quantizer = NULL;
            must(train(&quantizer, codecs[c], codebook, sample, SAMPLE, &err));
            size_t bytes = gyre_codec_row_bytes(gyre_quantizer_codec(quantizer), DIM);
            GY_AUTO(gyre_query) *query = NULL;
            must(gyre_query_new(&query, quantizer, sample, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, &err));
            for (size_t n = 0; n < 200; n++) {
                uint8_t row[128];
                float back[DIM];
                assert_true(bytes <= sizeof row);
                must(gyre_quantizer_encode(quantizer, sample + n * DIM, 1, 0, row, &err));
                must(gyre_codec_row_check(gyre_quantizer_codec(quantizer), DIM, row, &err));
                gyre_estimate estimate;
                gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
                gyre_quantizer_decode(quantizer, row, back);
                double wanted = 0;
                for (size_t j = 0; j < DIM; j++) {
                    double r = (double)sample[n * DIM + j] - (double)skewed.mean[j],
                        g = (double)sample[j] - (double)skewed.mean[j];
                    wanted += r * r + g * g - 2 * g * ((double)back[j] - (double)skewed.mean[j]);
                }
                if (fabs(wanted - (double)estimate.distance) > 2e-4)
                    fail_msg("%s: estimate is %g, by decoding %g", codecs[c], (double)estimate.distance, wanted);
                float exact = gyre_distance(GYRE_L2, sample + n * DIM, sample, DIM);
                if (!(estimate.low <= exact && exact <= estimate.high))
                    fail_msg("%s: %g is not in %g…%g", codecs[c], (double)exact, (double)estimate.low, (double)estimate.high);
            }
            free(sample), free(matrix), skewed_free(&skewed);
        }
}

static void segments_of_one_width_have_rotations_of_their_own(void **state)
{
    (void)state;
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, 32, NULL);
    const struct gy_segments_plan plan = {.count = 2, .rows = 32, .dims = {16, 16}, .bits = {2, 2}};
    float *basis = calloc(32 * 32, sizeof *basis), vector[16], rotated[2][16];
    assert_non_null(basis);
    struct gy_segments *segments = NULL;
    must(gy_segments_new(&segments, codebook, &plan, &basis, &err));
    random_vector(vector, 16, 1);
    for (int s = 0; s < 2; s++)
        gyre_rotation_apply(gyre_codebook_rotation(segments->segment[s].codebook), vector, rotated[s]);
    assert_memory_not_equal(rotated[0], rotated[1], sizeof rotated[0]);
    gy_segments_free(segments);
}

/* The calibrated form solves for one cosine; each segment has one of its own. */
static void the_calibrated_bound_is_the_plain_one(void **state)
{
    (void)state;
    struct skewed skewed = new_skewed(DIM, 1);
    float *sample = new_skewed_sample(&skewed, SAMPLE);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, skewed.mean);
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(train(&quantizer, "segments2", codebook, sample, SAMPLE, &err));
    gyre_estimate estimates[2][50];
    for (int calibrated = 0; calibrated < 2; calibrated++) {
        GY_AUTO(gyre_query) *query = NULL;
        gyre_query_options options = {.epsilon = 2, .bound = calibrated ? GYRE_BOUND_CALIBRATED : GYRE_BOUND_PLAIN};
        must(gyre_query_new(&query, quantizer, sample, NULL, &options, &err));
        for (size_t i = 0; i < 50; i++) {
            uint8_t row[128];
            must(gyre_quantizer_encode(quantizer, sample + i * DIM, 1, 0, row, &err));
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimates[calibrated][i]);
        }
    }
    assert_memory_equal(estimates[0], estimates[1], sizeof estimates[0]);
    free(sample), skewed_free(&skewed);
}

static void every_table_learns_and_writes_the_same_bytes(void **state)
{
    (void)state;
    struct skewed skewed = new_skewed(DIM, 1);
    float *sample = new_skewed_sample(&skewed, SAMPLE);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_COSINE, DIM, skewed.mean);
    uint8_t *first = NULL, rows[2][20 * 128];
    for (size_t t = 0; gy_kernels_all[t]; t++) {
        if (!gy_kernels_all[t]->runs_here())
            continue;
        must(gyre_simd_select(gy_kernels_all[t]->name, &err));
        GY_AUTO(gyre_quantizer) *quantizer = NULL;
        must(train(&quantizer, "segments4", codebook, sample, SAMPLE, &err));
        size_t bytes = gyre_quantizer_encoded_bytes(quantizer);
        uint8_t *encoded = must_alloc(bytes);
        gyre_quantizer_encode_header(quantizer, encoded);
        must(gyre_quantizer_encode(quantizer, sample, 20, 0, rows[t > 0], &err));
        if (first) {
            assert_memory_equal(first, encoded, bytes);
            assert_memory_equal(rows[0], rows[1], 20 * gyre_codec_row_bytes(codec_named("segments4"), DIM));
            free(encoded);
        } else
            first = encoded;
    }
    must(gyre_simd_select(NULL, &err));
    free(first), free(sample), skewed_free(&skewed);
}

static void seal(uint8_t *encoded, size_t bytes)
{
    uint8_t digest[32];
    crypto_generichash(digest, sizeof digest, encoded, bytes - 8, NULL, 0);
    memcpy(encoded + bytes - 8, digest, 8);
}

static void a_state_that_cannot_be_is_refused(void **state)
{
    (void)state;
    enum { ROWS = 44, COUNT = 48, DIMS = 52, BITS = 54 };
    struct skewed skewed = new_skewed(DIM, 1);
    float *sample = new_skewed_sample(&skewed, SAMPLE);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = NULL, *again = NULL;
    must(train(&quantizer, "segments2", codebook, sample, SAMPLE, &err));
    size_t bytes = gyre_quantizer_encoded_bytes(quantizer);
    uint8_t *encoded = must_alloc(bytes), *copy = must_alloc(bytes);
    gyre_quantizer_encode_header(quantizer, encoded);
    must(gyre_quantizer_decode_header(&again, codebook, encoded, bytes, &err));
    gyre_quantizer_encode_header(again, copy);
    assert_memory_equal(encoded, copy, bytes);
    uint8_t row[2][128];
    must(gyre_quantizer_encode(quantizer, sample, 1, 0, row[0], &err));
    must(gyre_quantizer_encode(again, sample, 1, 0, row[1], &err));
    assert_memory_equal(row[0], row[1], gyre_codec_row_bytes(codec_named("segments2"), DIM));

    gyre_quantizer *decoded = NULL;
    size_t basis = DIMS + 4 * gy_load_u32(encoded + COUNT);
#define REFUSED(change, words)                                                                                        \
    do {                                                                                                              \
        memcpy(copy, encoded, bytes);                                                                                 \
        change;                                                                                                       \
        seal(copy, bytes);                                                                                            \
        must_fail(gyre_quantizer_decode_header(&decoded, codebook, copy, bytes, &err), GYRE_CORRUPT, words);          \
    } while (0)
    REFUSED(gy_store_u32(copy + ROWS, DIM + 1), "components of dim 96");
    REFUSED(gy_store_u32(copy + ROWS, UINT32_MAX), "components of dim 96");
    REFUSED(gy_store_u32(copy + COUNT, 0), "in 0 segments");
    REFUSED(gy_store_u32(copy + COUNT, 49), "in 49 segments");
    REFUSED(gy_store_u16(copy + DIMS, 1), "cannot have");
    REFUSED(gy_store_u16(copy + DIMS, (uint16_t)(gy_load_u16(copy + DIMS) + 1)), "cannot have");
    REFUSED(gy_store_u16(copy + BITS, 0), "cannot have");
    REFUSED(gy_store_u16(copy + BITS, 9), "cannot have");
    REFUSED(for (size_t at = BITS; at < basis; at += 4) gy_store_u16(copy + at, 8), "cannot have"); /* more than a code's bytes */
    REFUSED(gy_store_f32(copy + basis + 8, NAN), "segments: matrix: row 0 column 2 is nan");
    REFUSED(gy_store_f32(copy + basis, gy_load_f32(copy + basis) + 1e-4f), "segments: matrix: M M^T differs");
#undef REFUSED
    assert_null(decoded);
    free(encoded), free(copy), free(sample), skewed_free(&skewed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_keeps_its_budget_and_gives_bits_to_variance),
        cmocka_unit_test(a_plan_is_the_best_there_is),
        cmocka_unit_test(skewed_data_passes_the_gate_and_flat_data_does_not),
        cmocka_unit_test(the_effective_dimension_is_that_of_the_data_not_of_the_sample),
        cmocka_unit_test(what_does_not_carry_over_fails_the_check),
        cmocka_unit_test(factors_and_errors_are_those_of_the_code),
        cmocka_unit_test(segments_of_one_width_have_rotations_of_their_own),
        cmocka_unit_test(the_calibrated_bound_is_the_plain_one),
        cmocka_unit_test(every_table_learns_and_writes_the_same_bytes),
        cmocka_unit_test(a_state_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests_name("codec.segments", tests, NULL, NULL);
}
