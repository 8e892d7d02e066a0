#include "support.h"

static void names_and_metrics_match(void **state)
{
    (void)state;
    assert_int_equal(gyre_metric_parse("l2"), GYRE_L2);
    assert_int_equal(gyre_metric_parse("ip"), GYRE_IP);
    assert_int_equal(gyre_metric_parse("cosine"), GYRE_COSINE);
    assert_int_equal(gyre_metric_parse("Cosine"), 0);
    assert_int_equal(gyre_metric_parse(""), 0);
    assert_int_equal(gyre_metric_parse(NULL), 0);
    assert_string_equal(gyre_metric_name(GYRE_IP), "ip");
    assert_null(gyre_metric_name((gyre_metric)0));
    assert_null(gyre_metric_name((gyre_metric)4));
}

static void nan_and_infinity_are_refused_by_row_and_column(void **state)
{
    (void)state;
    float vector[9] = {1, 2, 3};
    vector[7] = NAN;
    must_fail(gyre_vector_check(GYRE_L2, vector, 9, 41, &err), GYRE_INVALID, "row 41 column 7 is NaN");
    vector[7] = -INFINITY;
    must_fail(gyre_vector_check(GYRE_COSINE, vector, 9, 2, &err), GYRE_INVALID, "row 2 column 7 is infinite");
    assert_int_equal(gyre_vector_check(GYRE_L2, vector, 9, 2, NULL), GYRE_INVALID);
    vector[7] = 0;
    must(gyre_vector_check(GYRE_L2, vector, 9, 2, &err));
}

static void norms_beyond_the_limits_are_refused(void **state)
{
    (void)state;
    const float large[2] = {1e20f, 0}, widest[2] = {0, 0.99e16f}, small[2] = {0, 1e-20f}, tiny[2] = {1e-38f, 0}, zero[2] = {0};
    must_fail(gyre_vector_check(GYRE_L2, large, 2, 3, &err), GYRE_INVALID, "row 3 has norm 1e+20; the limit is 1e+16");
    must_fail(gyre_vector_check(GYRE_IP, large, 2, 3, &err), GYRE_INVALID, "norm");
    must(gyre_vector_check(GYRE_IP, widest, 2, 3, &err));
    must(gyre_vector_check(GYRE_COSINE, small, 2, 3, &err));
    must(gyre_vector_check(GYRE_L2, tiny, 2, 3, &err));
    must(gyre_vector_check(GYRE_L2, zero, 2, 3, &err));
    must_fail(gyre_vector_check(GYRE_COSINE, tiny, 2, 3, &err), GYRE_INVALID, "cosine needs a direction");
    must_fail(gyre_vector_check(GYRE_COSINE, zero, 2, 5, &err), GYRE_INVALID, "row 5");
}

static void normalize_makes_unit_vectors_for_cosine_only(void **state)
{
    (void)state;
    const float vector[3] = {3e-20f, 0, -4e-20f};
    float out[3];
    gyre_vector_normalize(GYRE_COSINE, vector, out, 3);
    assert_float_equal(out[0], 0.6f, 1e-6f);
    assert_float_equal(out[2], -0.8f, 1e-6f);
    gyre_vector_normalize(GYRE_L2, vector, out, 3);
    assert_memory_equal(out, vector, sizeof out);
    gyre_vector_normalize(GYRE_COSINE, out, out, 3);
    assert_float_equal(out[0], 0.6f, 1e-6f);
}

static void distances_follow_the_one_convention(void **state)
{
    (void)state;
    const float stored[3] = {3, 0, 4}, query[3] = {1, 2, 0}, unit[3] = {0.6f, 0.8f, 0};
    assert_float_equal(gyre_distance(GYRE_L2, stored, query, 3), 24, 0);
    assert_float_equal(gyre_distance(GYRE_IP, stored, query, 3), -3, 0);
    assert_float_equal(gyre_distance(GYRE_COSINE, stored, unit, 3), 1 - 1.8f / 5, 1e-6f);
}

static void a_known_norm_gives_the_same_distance(void **state)
{
    (void)state;
    enum { DIM = 131 };
    float stored[DIM], query[DIM];
    random_vector(stored, DIM, 3), random_unit(query, DIM);
    for (gyre_metric metric = GYRE_L2; metric <= GYRE_COSINE; metric++) {
        float summed = gyre_distance(metric, stored, query, DIM);
        float known = gyre_distance_normed(metric, stored, gyre_vector_norm(stored, DIM), query, DIM);
        assert_memory_equal(&summed, &known, sizeof summed);
    }
    assert_true(gyre_distance_normed(GYRE_COSINE, stored, 1, query, DIM) != gyre_distance(GYRE_COSINE, stored, query, DIM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_metrics_match),
        cmocka_unit_test(nan_and_infinity_are_refused_by_row_and_column),
        cmocka_unit_test(norms_beyond_the_limits_are_refused),
        cmocka_unit_test(normalize_makes_unit_vectors_for_cosine_only),
        cmocka_unit_test(distances_follow_the_one_convention),
        cmocka_unit_test(a_known_norm_gives_the_same_distance),
    };
    return cmocka_run_group_tests_name("codec.metric", tests, NULL, NULL);
}
