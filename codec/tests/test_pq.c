/* Product quantization: the books are learned alike everywhere, codes are nearest codewords, and stored books are believed only
 * if they can be. */
#include "kernels/kernels.h"
#include "quantizers/pq_books.h"
#include "query_internal.h"
#include "skewed.h"

#include <sodium.h>

enum { SAMPLE = 700 };

static gyre_quantizer *new_pq(const char *codec, const gyre_codebook *codebook, const float *sample)
{
    gyre_quantizer *quantizer = NULL;
    must(gyre_quantizer_train(&quantizer, codec_named(codec), codebook, sample, SAMPLE, &err));
    return quantizer;
}

static void codes_are_the_nearest_codewords(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 3, 8, 13, 37};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int wide = 0; wide < 2; wide++) {
            uint32_t dim = dims[d], block = wide ? 8 : 4;
            struct skewed skewed = new_skewed(dim, 0.3);
            float *sample = new_skewed_sample(&skewed, SAMPLE);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, skewed.mean);
            GY_AUTO(gyre_quantizer) *quantizer = new_pq(wide ? "pq-p8" : "pq-p4", codebook, sample);
            const struct gy_pq_books *books = gy_quantizer_state(quantizer, 0);
            assert_int_equal(gyre_codec_scan_code_bytes(gyre_quantizer_codec(quantizer), dim), (dim + block - 1) / block);
            uint8_t row[64];
            for (size_t n = 0; n < 50; n++) {
                float x[64], back[64];
                skewed_vector(&skewed, x);
                must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
                gyre_quantizer_decode(quantizer, row, back);
                double length = 0;
                for (uint32_t i = 0; i < dim; i++)
                    x[i] -= skewed.mean[i], back[i] -= skewed.mean[i], length += (double)x[i] * (double)x[i];
                length = sqrt(length);
                for (uint32_t b = 0; b < books->count; b++) {
                    double least = INFINITY, chosen = 0;
                    for (size_t k = 0; k < GY_PQ_WORDS; k++) {
                        const float *word = books->rows + (b * (size_t)GY_PQ_WORDS + k) * block;
                        double error = 0;
                        for (uint32_t i = b * block; i < dim && i < (b + 1) * block; i++)
                            error += pow((double)x[i] / length - (double)word[i - b * block], 2);
                        least = fmin(least, error);
                        if (k == row[b])
                            chosen = error;
                    }
                    assert_true(chosen <= least + 1e-6);
                    const float *word = books->rows + (b * (size_t)GY_PQ_WORDS + row[b]) * block;
                    for (uint32_t i = b * block; i < dim && i < (b + 1) * block; i++)
                        assert_true(fabs((double)back[i] - length * (double)word[i - b * block]) < 1e-5 * length);
                }
            }
            free(sample), skewed_free(&skewed);
        }
}

static void training_lowers_the_error(void **state)
{
    (void)state;
    enum { DIM = 32 };
    struct skewed skewed = new_skewed(DIM, 0.5);
    float *sample = new_skewed_sample(&skewed, 4 * SAMPLE), vector[DIM], back[DIM];
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, skewed.mean);
    GY_AUTO(gyre_quantizer) *pq = new_pq("pq-p8", codebook, sample), *larger = NULL;
    must(gyre_quantizer_train(&larger, codec_named("pq-p8"), codebook, sample, 4 * SAMPLE, &err));
    GY_AUTO(gyre_quantizer) *fine = new_pq("pq-p4", codebook, sample);
    const gyre_quantizer *all[] = {pq, larger, fine};
    double error[3] = {0}, total = 0;
    uint8_t row[64];
    for (int n = 0; n < 500; n++) {
        skewed_vector(&skewed, vector);
        for (int q = 0; q < 3; q++) {
            must(gyre_quantizer_encode(all[q], vector, 1, 0, row, &err));
            gyre_quantizer_decode(all[q], row, back);
            for (int i = 0; i < DIM; i++) {
                error[q] += pow((double)vector[i] - (double)back[i], 2);
                total += q ? 0 : pow((double)vector[i] - (double)skewed.mean[i], 2);
            }
        }
    }
    printf("share of |r|^2 left: %.3f, of a larger sample %.3f, by 2 bits %.3f\n", error[0] / total, error[1] / total,
           error[2] / total);
    assert_true(error[0] < .40 * total && error[1] < .95 * error[0] && error[2] < .4 * error[0]);
    free(sample), skewed_free(&skewed);
}

/* Most of the sample is one vector, and so are most of the codewords drawn from it: those that nobody uses must find work. */
static void codewords_are_not_wasted_on_duplicates(void **state)
{
    (void)state;
    enum { DIM = 8, DISTINCT = 120 };
    struct skewed skewed = new_skewed(DIM, 0);
    float *sample = new_skewed_sample(&skewed, SAMPLE), back[DIM];
    for (size_t i = DISTINCT; i < SAMPLE; i++)
        memcpy(sample + i * DIM, sample, DIM * sizeof *sample);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, skewed.mean);
    GY_AUTO(gyre_quantizer) *quantizer = new_pq("pq-p8", codebook, sample);
    double error = 0, total = 0;
    uint8_t row[64];
    for (size_t i = 0; i < DISTINCT; i++) {
        must(gyre_quantizer_encode(quantizer, sample + i * DIM, 1, 0, row, &err));
        gyre_quantizer_decode(quantizer, row, back);
        for (size_t j = 0; j < DIM; j++) {
            error += pow((double)sample[i * DIM + j] - (double)back[j], 2);
            total += pow((double)sample[i * DIM + j] - (double)skewed.mean[j], 2);
        }
    }
    if (error > .02 * total)
        fail_msg("256 codewords leave %.3f of %d vectors", error / total, DISTINCT);
    free(sample), skewed_free(&skewed);
}

static void every_table_learns_and_writes_the_same_bytes(void **state)
{
    (void)state;
    enum { DIM = 37 };
    struct skewed skewed = new_skewed(DIM, 0.5);
    float *sample = new_skewed_sample(&skewed, SAMPLE), *matrix = new_rotation_matrix(DIM);
    GY_AUTO(gyre_codebook) *codebook = new_learned_codebook(GYRE_COSINE, DIM, NULL, matrix);
    uint8_t *first = NULL, row[2][64];
    for (size_t t = 0; gy_kernels_all[t]; t++) {
        if (!gy_kernels_all[t]->runs_here())
            continue;
        must(gyre_simd_select(gy_kernels_all[t]->name, &err));
        GY_AUTO(gyre_quantizer) *quantizer = new_pq("pq-p4", codebook, sample);
        size_t bytes = gyre_quantizer_encoded_bytes(quantizer);
        uint8_t *encoded = must_alloc(bytes);
        gyre_quantizer_encode_header(quantizer, encoded);
        must(gyre_quantizer_encode(quantizer, sample, 1, 0, row[t > 0], &err));
        if (first) {
            assert_memory_equal(first, encoded, bytes);
            assert_memory_equal(row[0], row[1], gyre_codec_row_bytes(codec_named("pq-p4"), DIM));
            free(encoded);
        } else
            first = encoded;
    }
    must(gyre_simd_select(NULL, &err));
    free(first), free(sample), free(matrix), skewed_free(&skewed);
}

/* Table look-ups against the product with what the code stands for. */
static void estimates_are_those_of_the_decoded_code(void **state)
{
    (void)state;
    enum { DIM = 45 };
    struct skewed skewed = new_skewed(DIM, 0.5);
    float *sample = new_skewed_sample(&skewed, SAMPLE), *matrix = new_rotation_matrix(DIM);
    for (int learned = 0; learned < 2; learned++) {
        GY_AUTO(gyre_codebook) *codebook =
            learned ? new_learned_codebook(GYRE_L2, DIM, skewed.mean, matrix) : new_codebook(GYRE_L2, DIM, skewed.mean);
        GY_AUTO(gyre_quantizer) *quantizer = new_pq("pq-p8", codebook, sample);
        GY_AUTO(gyre_query) *query = NULL;
        must(gyre_query_new(&query, quantizer, sample, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, &err));
        for (size_t i = 0; i < SAMPLE; i++) {
            uint8_t row[64];
            float back[DIM];
            gyre_estimate estimate;
            must(gyre_quantizer_encode(quantizer, sample + i * DIM, 1, 0, row, &err));
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
            gyre_quantizer_decode(quantizer, row, back);
            /* |r|^2 + |g|^2 - 2<g, r^> */
            double wanted = 0;
            for (int j = 0; j < DIM; j++) {
                double r = (double)sample[i * DIM + (size_t)j] - (double)skewed.mean[j],
                    g = (double)sample[j] - (double)skewed.mean[j];
                wanted += r * r + g * g - 2 * g * ((double)back[j] - (double)skewed.mean[j]);
            }
            if (fabs(wanted - (double)estimate.distance) > 1e-4)
                fail_msg("estimate is %g, by decoding %g", (double)estimate.distance, wanted);
            float exact = gyre_distance(GYRE_L2, sample + i * DIM, sample, DIM);
            assert_true(estimate.low <= exact && exact <= estimate.high);
        }
    }
    free(sample), free(matrix), skewed_free(&skewed);
}

/* A checksum that fits whatever the bytes say. */
static void seal(uint8_t *encoded, size_t bytes)
{
    uint8_t digest[32];
    crypto_generichash(digest, sizeof digest, encoded, bytes - 8, NULL, 0);
    memcpy(encoded + bytes - 8, digest, 8);
}

static void books_that_cannot_be_are_refused(void **state)
{
    (void)state;
    enum { DIM = 13, STATE_AT = 44, TAIL = STATE_AT + 4 * (256 * 8 + 5) };
    struct skewed skewed = new_skewed(DIM, 0.5);
    float *sample = new_skewed_sample(&skewed, SAMPLE);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_pq("pq-p8", codebook, sample);
    gyre_quantizer *decoded = NULL;
    size_t bytes = gyre_quantizer_encoded_bytes(quantizer);
    assert_int_equal(bytes, STATE_AT + 4 * 2 * 256 * 8 + 8);
    uint8_t *encoded = must_alloc(bytes);
    gyre_quantizer_encode_header(quantizer, encoded);
    static const float bad[] = {NAN, INFINITY, -2};
    for (size_t i = 0; i < 3; i++) {
        float kept = gy_load_f32(encoded + STATE_AT + 4 * 9);
        gy_store_f32(encoded + STATE_AT + 4 * 9, bad[i]), seal(encoded, bytes);
        must_fail(gyre_quantizer_decode_header(&decoded, codebook, encoded, bytes, &err), GYRE_CORRUPT, "component 9 is");
        gy_store_f32(encoded + STATE_AT + 4 * 9, kept);
    }
    gy_store_f32(encoded + TAIL, 0.25f), seal(encoded, bytes); /* beyond dim */
    must_fail(gyre_quantizer_decode_header(&decoded, codebook, encoded, bytes, &err), GYRE_CORRUPT, "the limit is 0");
    gy_store_f32(encoded + TAIL, 0), gy_store_u32(encoded + 40, (uint32_t)(bytes - STATE_AT - 8 - 4)), seal(encoded, bytes - 4);
    must_fail(gyre_quantizer_decode_header(&decoded, codebook, encoded, bytes - 4, &err), GYRE_CORRUPT, "dim 13 takes 16384");
    assert_null(decoded);
    free(encoded), free(sample), skewed_free(&skewed);
}

static void samples_that_are_too_small_are_named(void **state)
{
    (void)state;
    enum { DIM = 8 };
    struct skewed skewed = new_skewed(DIM, 0);
    float *sample = new_skewed_sample(&skewed, SAMPLE);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, sample); /* the first vector is the mean */
    gyre_quantizer *quantizer = NULL;
    const gyre_codec *codec = codec_named("pq-p8");
    must_fail(gyre_quantizer_train(&quantizer, codec, codebook, sample, 256, &err), GYRE_INVALID, "255 vectors that differ");
    must_fail(gyre_quantizer_new(&quantizer, codec, codebook, &err), GYRE_INVALID, "train it");
    must(gyre_quantizer_train(&quantizer, codec, codebook, sample, 257, &err));
    gyre_quantizer_free(quantizer);
    free(sample), skewed_free(&skewed);
}

static void only_a_measured_epsilon_or_the_certain_bound_serve_codes_that_are_not_rotated(void **state)
{
    (void)state;
    enum { DIM = 16 };
    struct skewed skewed = new_skewed(DIM, 0.5);
    float *sample = new_skewed_sample(&skewed, SAMPLE);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, skewed.mean);
    GY_AUTO(gyre_quantizer) *quantizer = new_pq("pq-p4", codebook, sample);
    gyre_query *query = NULL;
    for (gyre_bound_kind bound = (gyre_bound_kind)0; bound <= GYRE_BOUND_CALIBRATED; bound++) {
        gyre_query_options options = {.epsilon = 2, .bound = bound};
        must_fail(gyre_query_new(&query, quantizer, sample, NULL, &options, &err), GYRE_PRECONDITION,
                  "codec pq-p4 codes vectors that no");
        options.epsilon_is_measured = true;
        must(gyre_query_new(&query, quantizer, sample, NULL, &options, &err));
        gyre_query_free(query), query = NULL;
    }
    free(sample), skewed_free(&skewed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_the_nearest_codewords),
        cmocka_unit_test(training_lowers_the_error),
        cmocka_unit_test(codewords_are_not_wasted_on_duplicates),
        cmocka_unit_test(every_table_learns_and_writes_the_same_bytes),
        cmocka_unit_test(estimates_are_those_of_the_decoded_code),
        cmocka_unit_test(books_that_cannot_be_are_refused),
        cmocka_unit_test(samples_that_are_too_small_are_named),
        cmocka_unit_test(only_a_measured_epsilon_or_the_certain_bound_serve_codes_that_are_not_rotated),
    };
    return cmocka_run_group_tests_name("codec.pq", tests, NULL, NULL);
}
