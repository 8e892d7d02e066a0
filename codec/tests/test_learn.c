/* Learned rotations: each lowers its loss on skewed data, also held-out; stays a rotation; gives the same bits from every table.
 * */
#include "kernels/kernels.h"
#include "quantizer_internal.h"
#include "gyre/learn.h"
#include "skewed.h"
#include "sums.h"

enum { DIM = 32, SAMPLE = 1200, HELD_OUT = 600 };

enum learner { ITQ, CAYLEY, OPQ, LEARNERS };
static const char *const learner_names[] = {"itq", "cayley", "opq"};

/* What a test learns from. */
struct data {
    struct skewed skewed;
    float *sample, *held_out;
    uint8_t seed[GYRE_SEED_BYTES];
    gyre_codebook *start;
};

static struct data new_data(double power)
{
    struct data data = {.skewed = new_skewed(DIM, power)};
    data.sample = new_skewed_sample(&data.skewed, SAMPLE);
    data.held_out = new_skewed_sample(&data.skewed, HELD_OUT);
    random_seed_bytes(data.seed);
    must(gyre_codebook_new(&data.start, GYRE_L2, DIM, 1, data.seed, data.skewed.mean, &err));
    return data;
}

static void data_free(struct data *data)
{
    skewed_free(&data->skewed);
    free(data->sample), free(data->held_out);
    gyre_codebook_free(data->start);
}

static gyre_status learn(enum learner learner, const struct data *data, const char *codec, const gyre_learn_options *options,
                         float *matrix, gyre_error *err)
{
    switch (learner) {
    case ITQ: return gyre_learn_itq(data->start, data->sample, SAMPLE, options, matrix, err);
    case CAYLEY: return gyre_learn_cayley(data->start, codec_named(codec), data->sample, SAMPLE, options, matrix, err);
    default: return gyre_learn_opq(data->start, codec_named("pq-p8"), data->sample, SAMPLE, options, matrix, err);
    }
}

static gyre_codebook *new_improved(const struct data *data, const float *matrix)
{
    gyre_codebook *codebook = NULL;
    must(gyre_codebook_new_learned(&codebook, GYRE_L2, DIM, 2, data->seed, data->skewed.mean, matrix, &err));
    return codebook;
}

/* Mean of |x - x^|^2/|r|^2, x^ the reconstruction of least squared error: sin2 where the scale is unbiased. */
static double mean_error(const gyre_quantizer *quantizer, const float *vectors, size_t n)
{
    const float *mean = gyre_codebook_mean(gyre_quantizer_codebook(quantizer));
    double sum = 0;
    uint8_t row[512];
    for (size_t i = 0; i < n; i++) {
        float back[DIM];
        double error = 0, length = 0;
        must(gyre_quantizer_encode(quantizer, vectors + i * DIM, 1, 0, row, &err));
        gyre_quantizer_decode(quantizer, row, back);
        for (size_t j = 0; j < DIM; j++) {
            double r = (double)vectors[i * DIM + j] - (double)mean[j], off = (double)vectors[i * DIM + j] - (double)back[j];
            length += r * r, error += off * off;
        }
        sum += error / length / (double)n;
    }
    return sum;
}

static gyre_quantizer *new_trained(const char *codec, const gyre_codebook *codebook, const float *sample)
{
    gyre_quantizer *quantizer = NULL;
    must(gyre_quantizer_train(&quantizer, codec_named(codec), codebook, sample, SAMPLE, &err));
    return quantizer;
}

struct losses {
    uint32_t calls, total;
    double first, last;
};

static bool watch(void *context, uint32_t done, uint32_t iterations, double loss)
{
    struct losses *losses = context;
    assert_int_equal(done, ++losses->calls);
    losses->total = iterations;
    if (done == 1)
        losses->first = loss;
    else if (loss > losses->last + 1e-12)
        fail_msg("iteration %u: the loss rises from %.12g to %.12g", done, losses->last, loss);
    losses->last = loss;
    return true;
}

/* Learns, and wants the held-out error of a codec at most share of what it is with P alone. */
static void improves(enum learner learner, const char *codec, double power, double share)
{
    struct data data = new_data(power);
    struct losses losses = {0};
    float matrix[DIM * DIM];
    must(learn(learner, &data, codec, &(gyre_learn_options){.iterations = 30, .progress = watch, .context = &losses}, matrix,
               &err));
    must(gy_dense_check(matrix, DIM, DIM, &err));
    assert_true(losses.calls > 1 && losses.total == 30 && losses.last < losses.first);
    GY_AUTO(gyre_codebook) *improved = new_improved(&data, matrix);
    GY_AUTO(gyre_quantizer) *before = new_trained(codec, data.start, data.sample);
    GY_AUTO(gyre_quantizer) *after = new_trained(codec, improved, data.sample);
    double old = mean_error(before, data.held_out, HELD_OUT), new = mean_error(after, data.held_out, HELD_OUT);
    printf("%s, %s: held-out error %.4f -> %.4f, loss %.4f -> %.4f\n", learner_names[learner], codec, old, new, losses.first,
           losses.last);
    if (!(new < share * old))
        fail_msg("%s, %s: held-out error %g after %g", learner_names[learner], codec, new, old);
    data_free(&data);
}

static void itq_lowers_the_error_of_signs(void **state)
{
    (void)state;
    improves(ITQ, "rabitq1", 0.7, 0.9);
}

static void cayley_lowers_the_error_of_the_codec_it_is_given(void **state)
{
    (void)state;
    improves(CAYLEY, "rabitq1", 0.7, 0.93);
    improves(CAYLEY, "rabitq2", 0.7, 0.93);
}

static void opq_lowers_the_error_of_product_quantization(void **state)
{
    (void)state;
    improves(OPQ, "pq-p8", 0.7, 0.95);
}

static void every_table_and_every_call_learns_the_same_bits(void **state)
{
    (void)state;
    struct data data = new_data(0.5);
    for (enum learner learner = ITQ; learner < LEARNERS; learner++) {
        float first[DIM * DIM], again[DIM * DIM];
        for (size_t t = 0; gy_kernels_all[t]; t++) {
            if (!gy_kernels_all[t]->runs_here())
                continue;
            must(gyre_simd_select(gy_kernels_all[t]->name, &err));
            must(learn(learner, &data, "rabitq2", &(gyre_learn_options){.iterations = 4}, t ? again : first, &err));
            if (t && memcmp(first, again, sizeof first) != 0)
                fail_msg("%s learns something else with %s", learner_names[learner], gy_kernels_all[t]->name);
        }
        must(gyre_simd_select(NULL, &err));
    }
    data_free(&data);
}

static bool stop(void *context, uint32_t done, uint32_t iterations, double loss)
{
    (void)iterations, (void)loss;
    return done < *(uint32_t *)context;
}

static void a_learner_stops_when_told(void **state)
{
    (void)state;
    struct data data = new_data(0.5);
    float matrix[DIM * DIM] = {7};
    for (enum learner learner = ITQ; learner < LEARNERS; learner++) {
        uint32_t until = 2;
        gyre_learn_options options = {.progress = stop, .context = &until};
        must_fail(learn(learner, &data, "rabitq1", &options, matrix, &err), GYRE_CANCELLED, "stopped after 2 of 50");
        assert_true(matrix[0] == 7);
    }
    data_free(&data);
}

static void bad_samples_and_codecs_are_named(void **state)
{
    (void)state;
    struct data data = new_data(0.5);
    float matrix[DIM * DIM];
    const gyre_codec *rabitq1 = codec_named("rabitq1"), *pq = codec_named("pq-p8");
    must_fail(gyre_learn_itq(data.start, data.sample, DIM - 1, NULL, matrix, &err), GYRE_INVALID,
              "a sample of 31 vectors; dim 32");
    must_fail(gyre_learn_cayley(data.start, pq, data.sample, SAMPLE, NULL, matrix, &err), GYRE_INVALID, "learns from data");
    must_fail(gyre_learn_opq(data.start, rabitq1, data.sample, SAMPLE, NULL, matrix, &err), GYRE_INVALID, "must be a product");
    must_fail(gyre_learn_opq(data.start, pq, data.sample, 255, NULL, matrix, &err), GYRE_INVALID, "255 vectors");
    data.sample[5 * DIM + 3] = NAN;
    must_fail(gyre_learn_itq(data.start, data.sample, SAMPLE, NULL, matrix, &err), GYRE_INVALID, "itq: vector: row 5 column 3");
    data.sample[5 * DIM + 3] = 0;
    float *same = must_alloc(2 * DIM * DIM * sizeof *same);
    for (size_t i = 0; i < 2 * DIM; i++)
        memcpy(same + i * DIM, data.skewed.mean, DIM * sizeof *same);
    must_fail(gyre_learn_itq(data.start, same, 2 * DIM, NULL, matrix, &err), GYRE_INVALID,
              "0 of 64 vectors differ from the mean");
    free(same);
    float *identity = new_rotation_matrix(DIM);
    GY_AUTO(gyre_codebook) *learned = new_improved(&data, identity);
    must_fail(gyre_learn_itq(learned, data.sample, SAMPLE, NULL, matrix, &err), GYRE_INVALID, "has a learned rotation already");
    free(identity);
    data_free(&data);
}

static void duplicates_of_few_vectors_are_learned_from(void **state)
{
    (void)state;
    struct data data = new_data(0.5);
    for (size_t i = 3; i < SAMPLE; i++)
        memcpy(data.sample + i * DIM, data.sample + i % 3 * DIM, DIM * sizeof *data.sample);
    for (enum learner learner = ITQ; learner < LEARNERS; learner++) {
        float matrix[DIM * DIM];
        must(learn(learner, &data, "rabitq1", &(gyre_learn_options){.iterations = 5}, matrix, &err));
        must(gy_dense_check(matrix, DIM, DIM, &err));
    }
    data_free(&data);
}

/* A query near a vector. */
static void neighbour(const float *vector, double distance, float *out)
{
    random_unit(out, DIM);
    for (int j = 0; j < DIM; j++)
        out[j] = vector[j] + (float)distance * out[j];
}

static void only_a_measured_epsilon_or_the_certain_bound_serve_a_learned_rotation(void **state)
{
    (void)state;
    struct data data = new_data(0.7);
    float matrix[DIM * DIM];
    must(learn(ITQ, &data, NULL, &(gyre_learn_options){.iterations = 10}, matrix, &err));
    GY_AUTO(gyre_codebook) *codebook = new_improved(&data, matrix);
    static const char *const codecs[] = {"rabitq1", "rabitq3"};
    for (size_t c = 0; c < 2; c++) {
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(codecs[c], codebook);
        gyre_query *query = NULL;
        for (gyre_bound_kind bound = GYRE_BOUND_PLAIN; bound <= GYRE_BOUND_CALIBRATED; bound++) {
            gyre_query_options options = {.epsilon = 2, .bound = bound};
            must_fail(gyre_query_new(&query, quantizer, data.sample, NULL, &options, &err), GYRE_PRECONDITION,
                      "has a learned rotation");
            options.epsilon_is_measured = true;
            must(gyre_query_new(&query, quantizer, data.sample, NULL, &options, &err));
            gyre_query_free(query), query = NULL;
        }
        must_fail(gyre_query_new(&query, quantizer, data.sample, NULL, &(gyre_query_options){.epsilon = 2}, &err),
                  GYRE_PRECONDITION, "ask for the certain bound");
        must(gyre_query_new(&query, quantizer, data.sample, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, &err));
        uint8_t row[512];
        const uint8_t *address = row;
        for (size_t i = 0; i < HELD_OUT; i++) {
            gyre_estimate estimate;
            must(gyre_quantizer_encode(quantizer, data.held_out + i * DIM, 1, 0, row, &err));
            gyre_query_estimate(query, &address, 1, &estimate);
            float exact = gyre_distance(GYRE_L2, data.held_out + i * DIM, data.sample, DIM);
            assert_true(estimate.low <= exact && exact <= estimate.high);
        }
        gyre_query_free(query);
    }
    data_free(&data);
}

/* Covers fresh pairs of the same kind as it says, by each bound; under P alone it comes out as the law's. */
static void a_measured_epsilon_covers_new_pairs(void **state)
{
    (void)state;
    enum { PAIRS = 3000 };
    static const double confidence = .95;
    struct data data = new_data(0.7);
    float matrix[DIM * DIM];
    must(learn(ITQ, &data, NULL, &(gyre_learn_options){.iterations = 10}, matrix, &err));
    GY_AUTO(gyre_codebook) *codebook = new_improved(&data, matrix);
    float *vectors = new_skewed_sample(&data.skewed, 2 * PAIRS), *queries = must_alloc(2 * PAIRS * DIM * sizeof *queries);
    for (size_t i = 0; i < 2 * PAIRS; i++)
        neighbour(vectors + i * DIM, 0.5, queries + i * DIM);
    GY_AUTO(gyre_quantizer) *learned = new_quantizer("rabitq2", codebook), *seeded = new_quantizer("rabitq2", data.start);
    for (gyre_bound_kind bound = GYRE_BOUND_PLAIN; bound <= GYRE_BOUND_CALIBRATED; bound++) {
        float epsilon, of_law;
        must(gyre_bound_measure(learned, vectors, queries, PAIRS, bound, confidence, &epsilon, &err));
        must(gyre_bound_measure(seeded, vectors, queries, PAIRS, bound, confidence, &of_law, &err));
        double missed = 0;
        uint8_t row[512];
        const uint8_t *address = row;
        for (size_t i = PAIRS; i < 2 * PAIRS; i++) {
            gyre_query_options options = {.epsilon = epsilon, .bound = bound, .epsilon_is_measured = true};
            GY_AUTO(gyre_query) *query = NULL;
            gyre_estimate estimate;
            must(gyre_query_new(&query, learned, queries + i * DIM, NULL, &options, &err));
            must(gyre_quantizer_encode(learned, vectors + i * DIM, 1, 0, row, &err));
            gyre_query_estimate(query, &address, 1, &estimate);
            float exact = gyre_distance(GYRE_L2, vectors + i * DIM, queries + i * DIM, DIM);
            missed += exact < estimate.low || exact > estimate.high;
        }
        printf("bound %d: epsilon %.3f (seeded %.3f), missed %.4f\n", (int)bound, (double)epsilon, (double)of_law,
               missed / PAIRS);
        /* Best planes alone are asked here, both were measured; five standard errors either way. */
        assert_true(missed / PAIRS < (1 - confidence) + 5 * sqrt(confidence * (1 - confidence) * 2 / PAIRS));
        assert_true(missed / PAIRS > 0);
    }
    free(vectors), free(queries);
    data_free(&data);
}

static void an_epsilon_needs_enough_pairs(void **state)
{
    (void)state;
    struct data data = new_data(0.5);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", data.start);
    float epsilon = 0;
    must_fail(gyre_bound_measure(quantizer, data.sample, data.held_out, 98, GYRE_BOUND_PLAIN, .99, &epsilon, &err), GYRE_INVALID,
              "98 pairs cannot show a confidence of 0.99; it takes 99");
    must(gyre_bound_measure(quantizer, data.sample, data.held_out, 99, GYRE_BOUND_PLAIN, .99, &epsilon, &err));
    assert_true(epsilon > 0);
    must_fail(gyre_bound_measure(quantizer, data.sample, data.held_out, 99, GYRE_BOUND_CERTAIN, .9, &epsilon, &err), GYRE_INVALID,
              "bound is 3");
    must_fail(gyre_bound_measure(quantizer, data.sample, data.held_out, 99, GYRE_BOUND_PLAIN, 1, &epsilon, &err), GYRE_INVALID,
              "confidence is 1");
    data.held_out[7 * DIM] = INFINITY;
    must_fail(gyre_bound_measure(quantizer, data.sample, data.held_out, 99, GYRE_BOUND_PLAIN, .9, &epsilon, &err), GYRE_INVALID,
              "query: vector: row 7 column 0");
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(itq_lowers_the_error_of_signs),
        cmocka_unit_test(cayley_lowers_the_error_of_the_codec_it_is_given),
        cmocka_unit_test(opq_lowers_the_error_of_product_quantization),
        cmocka_unit_test(every_table_and_every_call_learns_the_same_bits),
        cmocka_unit_test(a_learner_stops_when_told),
        cmocka_unit_test(bad_samples_and_codecs_are_named),
        cmocka_unit_test(duplicates_of_few_vectors_are_learned_from),
        cmocka_unit_test(only_a_measured_epsilon_or_the_certain_bound_serve_a_learned_rotation),
        cmocka_unit_test(a_measured_epsilon_covers_new_pairs),
        cmocka_unit_test(an_epsilon_needs_enough_pairs),
    };
    return cmocka_run_group_tests_name("codec.learn", tests, NULL, NULL);
}
