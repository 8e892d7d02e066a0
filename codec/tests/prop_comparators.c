/* What is stated of the codecs that are here to compare with (codec/MATH.md 2.1, 2.3, 2.7), on uniform sphere vectors at d =
 * 128. */
#include "each_codec.h"

enum { DIM = 128, ROTATIONS = 25, VECTORS = 80, QUERIES = 8 };

/* Levels of Lloyd and Max for N(0,1), the positive half (MATH.md 2.3). */
static const double level_table[5][8] = {{0},
                                         {.7979},
                                         {.4528, 1.5104},
                                         {.2451, .7559, 1.3438, 2.1518},
                                         {.1283, .3878, .6564, .9419, 1.2558, 1.6176, 2.0686, 2.7322}};

/* The squared error of a decoded vector, as a share of R^2. */
static double decoded_error(const gyre_quantizer *quantizer, const float *x, uint8_t *row)
{
    float back[DIM];
    double error = 0;
    must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
    gyre_quantizer_decode(quantizer, row, back);
    for (size_t i = 0; i < DIM; i++)
        error += pow((double)back[i] - (double)x[i], 2);
    return error / gy_sum_squares(x, DIM);
}

static double mean_decoded_error(const char *name)
{
    double sum = 0;
    size_t n = 0;
    for (size_t r = 0; r < ROTATIONS; r++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
        uint8_t *row = must_alloc(gyre_codec_row_bytes(codec_named(name), DIM));
        for (size_t v = 0; v < VECTORS; v++, n++) {
            float x[DIM];
            random_unit(x, DIM);
            sum += decoded_error(quantizer, x, row);
        }
        free(row);
    }
    return sum / (double)n;
}

/* S = 1: the error of each coordinate's nearest level, here of sphere coordinates themselves. */
static double level_error(uint32_t bits)
{
    double sum = 0;
    enum { N = 4000 };
    for (size_t n = 0; n < N; n++) {
        float x[DIM];
        random_unit(x, DIM);
        for (size_t i = 0; i < DIM; i++) {
            double unit = fabs((double)x[i]) * sqrt(DIM), best = INFINITY;
            for (size_t k = 0; k < 1u << (bits - 1); k++)
                best = fmin(best, pow(unit - level_table[bits][k], 2));
            sum += best / DIM;
        }
    }
    return sum / N;
}

static void turboquant_mse_errs_as_its_levels_do(void **state)
{
    (void)state;
    static const char *const names[] = {"turboquant-mse1", "turboquant-mse2", "turboquant-mse3", "turboquant-mse4"};
    static const double gaussian[] = {.3634, .1175, .0345, .0095}; /* MATH.md section 5, d to infinity */
    for (uint32_t bits = 1; bits <= 4; bits++) {
        double error = mean_decoded_error(names[bits - 1]), wanted = level_error(bits);
        printf("%s: %.5f, its levels %.5f, in the limit %.5f\n", names[bits - 1], error, wanted, gaussian[bits - 1]);
        if (fabs(error - wanted) > .03 * wanted || error > gaussian[bits - 1] * 1.015)
            fail_msg("%s errs by %.5f; its levels by %.5f", names[bits - 1], error, wanted);
    }
}

/* One coordinate z of N(0,1) shifted by what its decoder knows, on a grid of 2^bits steps over -T…T. */
static double dither_error(uint32_t bits, double reach)
{
    double sum = 0, step = 2 * reach / (1 << bits), top = (1 << bits) - 1;
    enum { N = 4000 };
    for (size_t n = 0; n < N; n++) {
        float x[DIM];
        random_unit(x, DIM);
        for (size_t i = 0; i < DIM; i++) {
            double z = (double)x[i] * sqrt(DIM), shift = ((double)(random_u64() >> 11) * 0x1p-53 - .5) * step;
            double k = fmin(fmax(floor((z + shift + reach) / step), 0), top);
            sum += pow((k + .5) * step - reach - shift - z, 2) / DIM;
        }
    }
    return sum / N;
}

static void dither_errs_by_its_step_and_what_it_clips(void **state)
{
    (void)state;
    static const char *const names[] = {"dithered2", "dithered3", "dithered4"};
    static const double reach[] = {2.2, 3.0, 3.4};
    for (uint32_t bits = 2; bits <= 4; bits++) {
        double error = mean_decoded_error(names[bits - 2]), wanted = dither_error(bits, reach[bits - 2]);
        printf("%s: %.5f, the grid %.5f, D^2/12 %.5f\n", names[bits - 2], error, wanted,
               pow(2 * reach[bits - 2] / (1 << bits), 2) / 12);
        if (fabs(error - wanted) > .03 * wanted)
            fail_msg("%s errs by %.5f; its grid by %.5f", names[bits - 2], error, wanted);
    }
}

/* Estimated against true products of unit vectors at a cosine, over rotations, vectors and queries. */
struct moments {
    double count, bias, square, predicted; /* sums of the error, its square, and the variance that is stated */
};

typedef double variance_function(const gyre_quantizer *quantizer, const float *x, const float *query, const uint8_t *row);

static struct moments measure(const char *name, double cosine, variance_function *variance)
{
    struct moments moments = {0};
    for (size_t r = 0; r < ROTATIONS; r++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
        uint8_t *row = must_alloc(gyre_codec_row_bytes(codec_named(name), DIM));
        for (size_t v = 0; v < VECTORS; v++) {
            float x[DIM], query[DIM];
            random_unit(x, DIM);
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            for (size_t q = 0; q < QUERIES; q++) {
                random_unit(query, DIM);
                double along = gy_sum_products(query, x, DIM), rest = sqrt((1 - cosine * cosine) / (1 - along * along));
                for (size_t i = 0; i < DIM; i++)
                    query[i] = (float)(cosine * (double)x[i] + rest * ((double)query[i] - along * (double)x[i]));
                GY_AUTO(gyre_query) *asked = new_query(quantizer, query, 2);
                gyre_estimate estimate;
                gyre_query_estimate(asked, (const uint8_t *const[]){row}, 1, &estimate);
                double error = -(double)estimate.distance - cosine;
                moments.count++, moments.bias += error, moments.square += error * error;
                moments.predicted += variance(quantizer, x, query, row);
            }
        }
        free(row);
    }
    return moments;
}

/* The mean of the errors within 5 standard errors of 0, counted by vectors as in section 5.1 where queries share a code;
 * variance within a share of what is stated. */
static void check_moments(const char *name, double cosine, const struct moments *moments, double bias, double share)
{
    double mean = moments->bias / moments->count, variance = moments->square / moments->count - mean * mean;
    double stated = moments->predicted / moments->count;
    printf("%s at cosine %.1f: bias %.5f, variance %.6f, stated %.6f\n", name, cosine, mean, variance, stated);
    if (fabs(mean - bias) > 5 * sqrt(stated / (ROTATIONS * VECTORS)))
        fail_msg("%s at cosine %.1f: bias %.5f, stated %.5f", name, cosine, mean, bias);
    if (fabs(variance - stated) > share * stated)
        fail_msg("%s at cosine %.1f: variance %.6f, stated %.6f", name, cosine, variance, stated);
}

/* A sketch of e: (pi/2·|e|^2·|y|^2 - <y,e>^2)/d; one bit sketches all of z. */
static double sketch_variance(const gyre_quantizer *quantizer, const float *x, const float *query, const uint8_t *row)
{
    (void)quantizer, (void)row;
    double along = gy_sum_products(x, query, DIM);
    return (M_PI / 2 - along * along) / DIM;
}

static void turboquant_prod_is_unbiased_with_the_variance_of_a_sketch(void **state)
{
    (void)state;
    for (double cosine = 0; cosine < 1; cosine += .4) {
        struct moments moments = measure("turboquant-prod1", cosine, sketch_variance);
        check_moments("turboquant-prod1", cosine, &moments, 0, .05);
    }
    /* More bits leave less to sketch: the error of the levels, times pi/2, in the mean over queries. */
    static const char *const names[] = {"turboquant-prod2", "turboquant-prod3", "turboquant-prod4"};
    for (uint32_t bits = 2; bits <= 4; bits++) {
        struct moments moments = measure(names[bits - 2], 0, sketch_variance);
        moments.predicted *= level_error(bits - 1); /* <y,e>^2 is |e|^2/d in the mean, as <y,z>^2 = 0 is not: 1/128 of all */
        check_moments(names[bits - 2], 0, &moments, 0, .06);
    }
}

/* m coordinates out of d, inflated by d/m. With y = c·z + sqrt(1-c^2)·w, w orthogonal to z, the kept share of |z|^2 is
 * Beta(m/2,(d-m)/2), and that of <z,w> has the variance m(d-m)/(d(d+2)(d-1)): in all (d-m)/(m(d+2))·(2c^2 + (1-c^2)·d/(d-1)). */
static double projection_variance(const gyre_quantizer *quantizer, const float *x, const float *query, const uint8_t *row)
{
    (void)row;
    double c = gy_sum_products(x, query, DIM), d = DIM, m = d / gyre_quantizer_codec(quantizer)->block;
    return (d - m) / (m * (d + 2)) * (2 * c * c + (1 - c * c) * d / (d - 1));
}

static void jl_is_unbiased_with_the_variance_of_a_projection(void **state)
{
    (void)state;
    static const char *const names[] = {"jl-byte8", "jl-float32"};
    for (size_t k = 0; k < 2; k++)
        for (double cosine = 0; cosine < 1; cosine += .4) {
            struct moments moments = measure(names[k], cosine, projection_variance);
            check_moments(names[k], cosine, &moments, 0, cosine > 0 ? .12 : .05); /* the part along r has one draw a vector */
        }
}

/* cos(pi·ham/d). ham has the mean d·p, p = theta/pi; its variance is that of d coins, d·p(1-p), less what knowing the cosine
 * of all coordinates takes away, d·sin^2/pi^2. To first order, and the second order as bias. */
static void hamming_estimates_the_angle(void **state)
{
    (void)state;
    for (double cosine = 0; cosine < 1; cosine += .4) {
        double theta = acos(cosine), wobble = (theta * (M_PI - theta) - pow(sin(theta), 2)) / DIM;
        struct moments moments = measure("hamming", cosine, sketch_variance);
        moments.predicted = moments.count * sin(theta) * sin(theta) * wobble;
        check_moments("hamming", cosine, &moments, -cosine * wobble / 2, .12);
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turboquant_mse_errs_as_its_levels_do),
        cmocka_unit_test(dither_errs_by_its_step_and_what_it_clips),
        cmocka_unit_test(turboquant_prod_is_unbiased_with_the_variance_of_a_sketch),
        cmocka_unit_test(jl_is_unbiased_with_the_variance_of_a_projection),
        cmocka_unit_test(hamming_estimates_the_angle),
    };
    return cmocka_run_group_tests_name("codec.prop_comparators", tests, NULL, NULL);
}
