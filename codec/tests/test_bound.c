#include "support.h"

/* codec/MATH.md section 0: P(|T| > eps), two-sided. */
static void epsilon_matches_the_published_table(void **state)
{
    (void)state;
    static const struct {
        uint32_t dim;
        double eps, two_sided, digit;
    } table[] = {
        {64, 1.0, .3212, 5e-5},   {64, 1.9, .0568, 5e-5},   {64, 2.5, .01125, 5e-6},  {64, 3.0, .00208, 5e-6},
        {64, 3.29, .00066, 5e-6}, {64, 4.0, .00002, 5e-6},  {128, 1.0, .3192, 5e-5},  {128, 1.9, .0571, 5e-5},
        {128, 2.5, .01185, 5e-6}, {128, 3.0, .00239, 5e-6}, {128, 3.29, .00083, 5e-6}, {128, 4.0, .00004, 5e-6},
        {768, 1.0, .3176, 5e-5},  {768, 1.9, .0574, 5e-5},  {768, 2.5, .01233, 5e-6}, {768, 3.0, .00265, 5e-6},
        {768, 3.29, .00097, 5e-6}, {768, 4.0, .00006, 5e-6},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        /* The table rounds its last digit: the eps of its value plus and minus half a digit must enclose the eps of the row. */
        double low = gyre_bound_epsilon(1 - (table[i].two_sided + 1.1 * table[i].digit) / 2, table[i].dim);
        double high = gyre_bound_epsilon(1 - (table[i].two_sided - 1.1 * table[i].digit) / 2, table[i].dim);
        if (!(low <= table[i].eps && table[i].eps <= high))
            fail_msg("dim %u: eps %g is not within %g and %g", table[i].dim, table[i].eps, low, high);
    }
}

/* P(T > eps) = share of the half circle's sin^(dim-3) within acos(eps/sqrt(dim-1)), by Simpson's rule. */
static double tail_by_integration(double eps, uint32_t dim)
{
    double angle = acos(eps / sqrt(dim - 1.0)), part[2];
    for (int whole = 0; whole < 2; whole++) {
        enum { STEPS = 20000 };
        double end = whole ? M_PI / 2 : angle, sum = 0;
        for (int i = 0; i <= STEPS; i++)
            sum += pow(sin(end * i / STEPS), dim - 3.0) * (i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2);
        part[whole] = sum * end / STEPS / 3;
    }
    return part[0] / part[1] / 2;
}

static void epsilon_agrees_with_numeric_integration_at_every_scale(void **state)
{
    (void)state;
    static const uint32_t dims[] = {3, 4, 5, 7, 16, 64, 100, 768, 4096};
    static const double confidences[] = {.51, .6, .9, .95, .975, .999, .999999};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t c = 0; c < sizeof confidences / sizeof *confidences; c++) {
            double eps = (double)gyre_bound_epsilon(confidences[c], dims[d]), missed = 1 - confidences[c];
            if (fabs(tail_by_integration(eps, dims[d]) - missed) > 2e-3 * missed && sqrt(dims[d] - 1.0) - eps > 1e-5)
                fail_msg("dim %u confidence %g: eps %g fails with %g", dims[d], confidences[c], eps,
                         tail_by_integration(eps, dims[d]));
        }
}

static void too_few_dimensions_get_the_certain_bound(void **state)
{
    (void)state;
    assert_true(gyre_bound_epsilon(.9, 1) >= 1.7f);
    assert_true(gyre_bound_epsilon(.9, 2) >= 2.4f);
    assert_true(gyre_bound_epsilon(.9, 2) == gyre_bound_epsilon(.999, 2));
    for (uint32_t dim = 3; dim < 100; dim++) {
        float eps = gyre_bound_epsilon(.9999999999, dim);
        assert_true(eps > 0 && eps <= sqrtf((float)dim - 1) * 1.000001f);
    }
}

/* codec/MATH.md 0.2: the interval holds exactly the cosines c with |C - c| <= h·sqrt(1-c^2). */
static void calibrated_ends_solve_the_equation(void **state)
{
    (void)state;
    for (double estimate = -1.5; estimate <= 1.5; estimate += .01)
        for (double h = 1e-6; h < 4; h *= 2) {
            double low, high;
            gyre_bound_calibrated(estimate, h, &low, &high);
            assert_true(-1 <= low && low <= high && high <= 1);
            if (fabs(estimate) > sqrt(1 + h * h))
                continue; /* no cosine is that far: the interval is one point */
            for (double c = -1; c <= 1; c += .0625) {
                double excess = fabs(estimate - c) - h * sqrt(1 - c * c);
                if (fabs(excess) > 1e-9 && (excess < 0) != (low <= c && c <= high))
                    fail_msg("C %g h %g: %g is %s %g…%g", estimate, h, c, excess < 0 ? "not in" : "in", low, high);
            }
            if (low > -1 + 1e-9)
                assert_true(fabs(fabs(estimate - low) - h * sqrt(1 - low * low)) < 1e-7);
            if (high < 1 - 1e-9)
                assert_true(fabs(fabs(estimate - high) - h * sqrt(1 - high * high)) < 1e-7);
        }
}

static void calibrated_without_error_is_a_point(void **state)
{
    (void)state;
    for (double estimate = -2; estimate <= 2; estimate += .125) {
        double low, high, point = fmin(fmax(estimate, -1), 1);
        gyre_bound_calibrated(estimate, 0, &low, &high);
        assert_true(low == point && high == point);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epsilon_matches_the_published_table),
        cmocka_unit_test(epsilon_agrees_with_numeric_integration_at_every_scale),
        cmocka_unit_test(too_few_dimensions_get_the_certain_bound),
        cmocka_unit_test(calibrated_ends_solve_the_equation),
        cmocka_unit_test(calibrated_without_error_is_a_point),
    };
    return cmocka_run_group_tests_name("codec.bound", tests, NULL, NULL);
}
