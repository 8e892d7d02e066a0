#include "kernels/kernels.h"
#include "learned.h"

static void a_dim_outside_the_limits_is_refused(void **state)
{
    (void)state;
    const uint8_t seed[GYRE_SEED_BYTES] = {0};
    gyre_rotation *rotation = NULL;
    must_fail(gyre_rotation_new(&rotation, 0, seed, &err), GYRE_INVALID, "dim is 0; it must be 1 to 4096");
    must_fail(gyre_rotation_new(&rotation, GYRE_DIM_MAX + 1, seed, &err), GYRE_INVALID, "dim is 4097");
    assert_null(rotation);
    gyre_rotation_free(NULL);
}

static void rotating_in_place_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t dim = 1; dim <= 70; dim++) {
        uint8_t seed[GYRE_SEED_BYTES];
        random_seed_bytes(seed);
        GY_AUTO(gyre_rotation) *rotation = NULL;
        must(gyre_rotation_new(&rotation, dim, seed, &err));
        float in[70], out[70], back[70];
        random_vector(in, dim, 1);
        gyre_rotation_apply(rotation, in, out);
        gyre_rotation_invert(rotation, out, back);
        gyre_rotation_apply(rotation, in, in);
        assert_memory_equal(in, out, dim * sizeof *in);
        gyre_rotation_invert(rotation, in, in);
        assert_memory_equal(in, back, dim * sizeof *in);
    }
}

static void the_same_seed_gives_the_same_bits_and_another_seed_others(void **state)
{
    (void)state;
    uint8_t seed[GYRE_SEED_BYTES] = {7};
    float in[131], out[3][131];
    random_vector(in, 131, 1);
    for (int i = 0; i < 3; i++) {
        seed[31] = i == 2;
        GY_AUTO(gyre_rotation) *rotation = NULL;
        must(gyre_rotation_new(&rotation, 131, seed, &err));
        gyre_rotation_apply(rotation, in, out[i]);
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_memory_not_equal(out[0], out[2], sizeof out[0]);
}

static void one_dimension_is_a_sign(void **state)
{
    (void)state;
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    GY_AUTO(gyre_rotation) *rotation = NULL;
    must(gyre_rotation_new(&rotation, 1, seed, &err));
    float one = 3, out;
    gyre_rotation_apply(rotation, &one, &out);
    assert_float_equal(fabsf(out), 3, 0);
    gyre_rotation_invert(rotation, &out, &out);
    assert_float_equal(out, 3, 0);
}

static void a_learned_rotation_is_the_matrix_after_the_seeded_one(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 2, 3, 31, 64, 100, 131};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        uint32_t dim = dims[d];
        float *matrix = new_rotation_matrix(dim), in[131], seeded_out[131], out[131], back[131];
        uint8_t seed[GYRE_SEED_BYTES];
        random_seed_bytes(seed);
        GY_AUTO(gyre_rotation) *learned = NULL, *seeded = NULL;
        must(gyre_rotation_new_learned(&learned, dim, seed, matrix, &err));
        must(gyre_rotation_new(&seeded, dim, seed, &err));
        assert_true(gyre_rotation_is_learned(learned) && !gyre_rotation_is_learned(seeded));
        random_vector(in, dim, 1);
        gyre_rotation_apply(seeded, in, seeded_out);
        gyre_rotation_apply(learned, in, out);
        for (uint32_t i = 0; i < dim; i++) {
            double wanted = 0;
            for (uint32_t j = 0; j < dim; j++)
                wanted += (double)matrix[i * dim + j] * (double)seeded_out[j];
            assert_true(fabs(wanted - (double)out[i]) < 1e-5);
        }
        gyre_rotation_invert(learned, out, back);
        for (uint32_t i = 0; i < dim; i++)
            assert_true(fabsf(back[i] - in[i]) < 1e-5f);
        memcpy(back, in, sizeof back);
        gyre_rotation_apply(learned, back, back); /* in place */
        assert_memory_equal(back, out, dim * sizeof *out);
        gyre_rotation_invert(learned, back, back), gyre_rotation_invert(learned, out, out);
        assert_memory_equal(back, out, dim * sizeof *out);
        free(matrix);
    }
}

/* The check goes through L·L^T by panels and computes half of it: an error must count in every row it is in. */
static void an_error_in_the_last_row_of_a_large_matrix_is_found(void **state)
{
    (void)state;
    enum { DIM = 300 };
    float *matrix = new_rotation_matrix(DIM), direction[DIM];
    gyre_rotation *rotation = NULL;
    const uint8_t seed[GYRE_SEED_BYTES] = {9};
    must(gyre_rotation_new_learned(&rotation, DIM, seed, matrix, &err));
    gyre_rotation_free(rotation), rotation = NULL;
    random_unit(direction, DIM);
    for (size_t j = 0; j < DIM; j++) /* along all other rows a little: 8e-6 in sum, a seventh of it in the last panel */
        matrix[(DIM - 1) * DIM + j] += 6e-7f * direction[j];
    must_fail(gyre_rotation_new_learned(&rotation, DIM, seed, matrix, &err), GYRE_INVALID, "M M^T differs");
    free(matrix);
}

static void every_table_rotates_by_a_matrix_to_the_same_bits(void **state)
{
    (void)state;
    enum { DIM = 100 };
    float *matrix = new_rotation_matrix(DIM), in[DIM], first[2][DIM], other[2][DIM];
    const uint8_t seed[GYRE_SEED_BYTES] = {9};
    random_vector(in, DIM, 1);
    for (size_t t = 0; gy_kernels_all[t]; t++) {
        if (!gy_kernels_all[t]->runs_here())
            continue;
        must(gyre_simd_select(gy_kernels_all[t]->name, &err));
        GY_AUTO(gyre_rotation) *learned = NULL, *haar = NULL;
        must(gyre_rotation_new_learned(&learned, DIM, seed, matrix, &err));
        must(gyre_rotation_new_haar(&haar, DIM, seed, &err));
        float(*out)[DIM] = t ? other : first;
        gyre_rotation_apply(learned, in, out[0]);
        gyre_rotation_apply(haar, in, out[1]);
        gyre_rotation_invert(learned, out[1], out[1]);
        assert_memory_equal(out, first, sizeof first);
    }
    must(gyre_simd_select(NULL, &err));
    free(matrix);
}

/* Uniform: the first coordinate of a rotated vector is one of a sphere, with moments 0, 1/d, 3/(d(d+2)), whatever the vector. */
static void a_haar_rotation_spreads_every_vector_over_the_sphere(void **state)
{
    (void)state;
    enum { DIM = 5, ROTATIONS = 4000 };
    double moment[5] = {0};
    for (int r = 0; r < ROTATIONS; r++) {
        uint8_t seed[GYRE_SEED_BYTES];
        random_seed_bytes(seed);
        GY_AUTO(gyre_rotation) *rotation = NULL;
        must(gyre_rotation_new_haar(&rotation, DIM, seed, &err));
        assert_false(gyre_rotation_is_learned(rotation));
        float x[DIM] = {[3] = 1};
        gyre_rotation_apply(rotation, x, x);
        for (int power = 1; power < 5; power++)
            moment[power] += pow((double)x[4], power) / ROTATIONS;
    }
    double limit = 5 / sqrt(ROTATIONS);
    assert_true(fabs(moment[1]) < limit * sqrt(1.0 / DIM) && fabs(moment[3]) < limit * .15);
    assert_true(fabs(moment[2] - 1.0 / DIM) < limit * .25 && fabs(moment[4] - 3.0 / (DIM * (DIM + 2))) < limit * .15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dim_outside_the_limits_is_refused),
        cmocka_unit_test(rotating_in_place_gives_the_same_bits),
        cmocka_unit_test(the_same_seed_gives_the_same_bits_and_another_seed_others),
        cmocka_unit_test(one_dimension_is_a_sign),
        cmocka_unit_test(a_learned_rotation_is_the_matrix_after_the_seeded_one),
        cmocka_unit_test(an_error_in_the_last_row_of_a_large_matrix_is_found),
        cmocka_unit_test(every_table_rotates_by_a_matrix_to_the_same_bits),
        cmocka_unit_test(a_haar_rotation_spreads_every_vector_over_the_sphere),
    };
    return cmocka_run_group_tests_name("codec.rotation", tests, NULL, NULL);
}
