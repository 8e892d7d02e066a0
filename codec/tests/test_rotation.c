#include "support.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dim_outside_the_limits_is_refused),
        cmocka_unit_test(rotating_in_place_gives_the_same_bits),
        cmocka_unit_test(the_same_seed_gives_the_same_bits_and_another_seed_others),
        cmocka_unit_test(one_dimension_is_a_sign),
    };
    return cmocka_run_group_tests_name("codec.rotation", tests, NULL, NULL);
}
