/* Coverage of the bounds of RaBitQ at 1 bit, counted over more than 10^6 pairs a bound as a caller meets them: distances
 * against low and high. Pairs are drawn at given cosines of r and g, so that each is as near as it says.
 *
 * The calibrated bound must fail as often as its epsilon says whatever the cosine (codec/MATH.md 0.2): on either side with
 * p(eps)/2. The plain one is allowed less, and fails ever more seldom the nearer a pair is: at cosine c as one of
 * eps/sqrt(1-c^2) would. */
#include "each_codec.h"

enum { DIM = 128, ROTATIONS = 40, QUERIES = 50, ROWS = 512, EPSILONS = 3, COSINES = 4 };

static const float epsilons[EPSILONS] = {1.9f, 2.5f, 3.0f};
static const double table_128[EPSILONS] = {.0571, .01185, .00239}; /* P(|T| > eps) at d = 128 */
static const double tolerance[EPSILONS] = {.10, .15, .25};
static const double cosines[COSINES] = {0, .5, .8, .95};

/* Distances below low and above high, and what is certain and was not kept. */
struct misses {
    double below, above;
};
struct tally {
    double pairs;
    struct misses plain[EPSILONS][COSINES], calibrated[EPSILONS][COSINES], certain;
};

/* Vectors c + r at the cosines to g, r of lengths of their own, from directions drawn once for a rotation. */
static void vectors_around(const float *mean, const float *g, const float (*directions)[DIM], float (*x)[DIM])
{
    double g2 = gy_sum_squares(g, DIM);
    for (size_t i = 0; i < ROWS; i++) {
        double c = cosines[i % COSINES], along = gy_sum_products(directions[i], g, DIM) / g2, left2 = 1 - along * along * g2;
        double length = .5 + (double)(i % 37) / 16, of_g = length * c / sqrt(g2), of_rest = length * sqrt((1 - c * c) / left2);
        for (size_t j = 0; j < DIM; j++)
            x[i][j] = mean[j] + (float)(of_g * (double)g[j] + of_rest * ((double)directions[i][j] - along * (double)g[j]));
    }
}

static void count_misses(gyre_metric metric, const gyre_quantizer *quantizer, const float *query, gyre_query_options options,
                         const float (*x)[DIM], const uint8_t *const *rows, struct misses *misses)
{
    GY_AUTO(gyre_query) *asked = NULL;
    must(gyre_query_new(&asked, quantizer, query, NULL, &options, &err));
    gyre_estimate estimates[ROWS];
    gyre_query_estimate(asked, rows, ROWS, estimates);
    for (size_t i = 0; i < ROWS; i++) {
        float distance = gyre_distance(metric, x[i], query, DIM);
        struct misses *into = &misses[options.bound == GYRE_BOUND_CERTAIN ? 0 : i % COSINES];
        into->below += distance < estimates[i].low, into->above += distance > estimates[i].high;
    }
}

static void count_rotation(gyre_metric metric, struct tally *tally)
{
    static float directions[ROWS][DIM], x[ROWS][DIM];
    static uint8_t bytes[ROWS][DIM / 8 + 14];
    const uint8_t *rows[ROWS];
    float mean[DIM], g[DIM], query[DIM];
    random_vector(mean, DIM, .1);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(metric, DIM, mean);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    for (size_t i = 0; i < ROWS; i++)
        random_unit(directions[i], DIM), rows[i] = bytes[i];
    for (size_t q = 0; q < QUERIES; q++) {
        random_vector(g, DIM, .05 + (double)(q % 10) / 50);
        for (size_t j = 0; j < DIM; j++)
            query[j] = mean[j] + g[j];
        vectors_around(mean, g, (const float(*)[DIM])directions, x);
        must(gyre_quantizer_encode(quantizer, &x[0][0], ROWS, 0, &bytes[0][0], &err));
        const float(*vectors)[DIM] = (const float(*)[DIM])x;
        for (size_t e = 0; e < EPSILONS; e++) {
            count_misses(metric, quantizer, query, (gyre_query_options){.epsilon = epsilons[e], .bound = GYRE_BOUND_PLAIN},
                         vectors, rows, tally->plain[e]);
            count_misses(metric, quantizer, query, (gyre_query_options){.epsilon = epsilons[e], .bound = GYRE_BOUND_CALIBRATED},
                         vectors, rows, tally->calibrated[e]);
        }
        count_misses(metric, quantizer, query, (gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, vectors, rows, &tally->certain);
        tally->pairs += ROWS;
    }
}

/* P(|T| > eps), from the epsilon that gyre_bound_epsilon gives a confidence: by halving. */
static double two_sided(double eps)
{
    double low = .5, high = 1; /* of the one-sided confidence */
    for (int i = 0; i < 50; i++) {
        double middle = (low + high) / 2;
        *((double)gyre_bound_epsilon(middle, DIM) < eps ? &low : &high) = middle;
    }
    return 2 * (1 - low);
}

static void check_side(const char *bound, double share, double wanted, double tolerated, double pairs, size_t e, size_t c)
{
    double noise = (5 * sqrt(wanted * pairs) + 3) / pairs; /* of rare events */
    if (fabs(share - wanted) > tolerated * wanted + noise)
        fail_msg("%s at epsilon %.1f, cosine %.2f: %.6f of %.0f pairs fail on one side, the law says %.6f", bound,
                 (double)epsilons[e], cosines[c], share, pairs, wanted);
}

static struct tally tally;

static int count_all(void **state)
{
    (void)state;
    for (size_t r = 0; r < ROTATIONS; r++)
        count_rotation(r % 2 ? GYRE_L2 : GYRE_IP, &tally);
    printf("%.0f pairs for each bound and epsilon\n", tally.pairs);
    return tally.pairs >= 1e6 ? 0 : 1;
}

static void the_calibrated_bound_fails_as_often_as_it_says_near_and_far(void **state)
{
    (void)state;
    double pairs = tally.pairs;
    for (size_t e = 0; e < EPSILONS; e++) {
        double all = 0;
        for (size_t c = 0; c < COSINES; c++) {
            const struct misses *misses = &tally.calibrated[e][c];
            check_side("calibrated, below", misses->below * COSINES / pairs, table_128[e] / 2, tolerance[e], pairs / COSINES, e,
                       c);
            check_side("calibrated, above", misses->above * COSINES / pairs, table_128[e] / 2, tolerance[e], pairs / COSINES, e,
                       c);
            all += misses->below + misses->above;
        }
        printf("calibrated, epsilon %.1f: %.5f outside, the law says %.5f\n", (double)epsilons[e], all / pairs, table_128[e]);
        if (fabs(all / pairs - table_128[e]) > tolerance[e] * table_128[e])
            fail_msg("epsilon %.1f: %.5f outside, the law says %.5f", (double)epsilons[e], all / pairs, table_128[e]);
    }
}

static void the_plain_bound_fails_less_the_nearer_a_pair_is(void **state)
{
    (void)state;
    double pairs = tally.pairs;
    for (size_t e = 0; e < EPSILONS; e++)
        for (size_t c = 0; c < COSINES; c++) {
            const struct misses *misses = &tally.plain[e][c];
            double wanted = two_sided((double)epsilons[e] / sqrt(1 - cosines[c] * cosines[c])) / 2;
            printf("plain, epsilon %.1f, cosine %.2f: %.5f outside, the law says %.5f\n", (double)epsilons[e], cosines[c],
                   (misses->below + misses->above) * COSINES / pairs, 2 * wanted);
            check_side("plain, below", misses->below * COSINES / pairs, wanted, tolerance[e], pairs / COSINES, e, c);
            check_side("plain, above", misses->above * COSINES / pairs, wanted, tolerance[e], pairs / COSINES, e, c);
        }
}

static void the_certain_bound_never_fails(void **state)
{
    (void)state;
    assert_true(tally.certain.below == 0 && tally.certain.above == 0);
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_calibrated_bound_fails_as_often_as_it_says_near_and_far),
        cmocka_unit_test(the_plain_bound_fails_less_the_nearer_a_pair_is),
        cmocka_unit_test(the_certain_bound_never_fails),
    };
    return cmocka_run_group_tests_name("codec.prop_coverage", tests, count_all, NULL);
}
