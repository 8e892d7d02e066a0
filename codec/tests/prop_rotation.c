/* codec/MATH.md section 5, property 5. */
#include "support.h"

static const uint32_t dims[] = {1, 2, 3, 5, 31, 64, 96, 100, 127, 131, 384, 768, 784, 960, 1536, 4095, 4096};
enum { DIMS = sizeof dims / sizeof *dims };

static gyre_rotation *new_rotation(uint32_t dim)
{
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    gyre_rotation *rotation = NULL;
    must(gyre_rotation_new(&rotation, dim, seed, &err));
    return rotation;
}

static double norm(const float *x, uint32_t dim)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void lengths_are_kept_and_the_inverse_undoes(void **state)
{
    (void)state;
    for (size_t d = 0; d < DIMS; d++)
        for (int round = 0; round < 20; round++) {
            GY_AUTO(gyre_rotation) *rotation = new_rotation(dims[d]);
            float x[GYRE_DIM_MAX] = {0}, rotated[GYRE_DIM_MAX], back[GYRE_DIM_MAX];
            if (round % 2)
                x[random_u64() % dims[d]] = 1;
            else
                random_vector(x, dims[d], 1);
            gyre_rotation_apply(rotation, x, rotated);
            gyre_rotation_invert(rotation, rotated, back);
            double length = norm(x, dims[d]);
            assert_true(fabs(norm(rotated, dims[d]) - length) <= 4e-6 * length);
            for (uint32_t i = 0; i < dims[d]; i++)
                back[i] -= x[i];
            assert_true(norm(back, dims[d]) <= 1e-5 * length);
        }
}

static void angles_are_kept(void **state)
{
    (void)state;
    for (size_t d = 0; d < DIMS; d++) {
        GY_AUTO(gyre_rotation) *rotation = new_rotation(dims[d]);
        float a[GYRE_DIM_MAX], b[GYRE_DIM_MAX];
        random_unit(a, dims[d]), random_unit(b, dims[d]);
        double before = 0, after = 0;
        for (uint32_t i = 0; i < dims[d]; i++)
            before += (double)a[i] * (double)b[i];
        gyre_rotation_apply(rotation, a, a);
        gyre_rotation_apply(rotation, b, b);
        for (uint32_t i = 0; i < dims[d]; i++)
            after += (double)a[i] * (double)b[i];
        assert_true(fabs(before - after) < 4e-6);
    }
}

/* Mean sin2 of the sign code, over inputs with the given number of non-zero components. */
static double sparse_sign_sin2(const gyre_rotation *rotation, uint32_t dim, size_t non_zero, size_t inputs)
{
    double sum = 0;
    for (size_t n = 0; n < inputs; n++) {
        float x[GYRE_DIM_MAX] = {0};
        for (size_t i = 0; i < non_zero; i++)
            x[random_u64() % dim] = random_u64() % 2 ? 1.0f : -1.0f;
        gyre_rotation_apply(rotation, x, x);
        double l1 = 0, l2 = 0;
        for (uint32_t i = 0; i < dim; i++)
            l1 += fabs((double)x[i]), l2 += (double)x[i] * (double)x[i];
        sum += 1 - l1 * l1 / (dim * l2);
    }
    return sum / (double)inputs;
}

/* Mean sin2 of the nearest 4-bit Lloyd-Max levels. */
static double sparse_four_bit_sin2(const gyre_rotation *rotation, uint32_t dim, size_t non_zero, size_t inputs)
{
    static const double levels[] = {.1283, .3878, .6564, .9419, 1.2558, 1.6176, 2.0686, 2.7322};
    double sum = 0;
    for (size_t n = 0; n < inputs; n++) {
        float x[GYRE_DIM_MAX] = {0};
        for (size_t i = 0; i < non_zero; i++)
            x[random_u64() % dim] = random_u64() % 2 ? 1.0f : -1.0f;
        gyre_rotation_apply(rotation, x, x);
        double length = norm(x, dim), rho = 0, nu2 = 0;
        for (uint32_t i = 0; i < dim; i++) {
            double value = fabs((double)x[i]) / length * sqrt(dim), nearest = levels[0];
            for (size_t l = 1; l < 8; l++)
                if (fabs(value - levels[l]) < fabs(value - nearest))
                    nearest = levels[l];
            rho += value * nearest, nu2 += nearest * nearest;
        }
        sum += 1 - rho * rho / (dim * nu2);
    }
    return sum / (double)inputs;
}

static void sparse_inputs_are_mixed_like_dense_ones(void **state)
{
    (void)state;
    static const uint32_t asked[] = {96, 100, 131, 384, 768, 784, 960, 1536};
    for (size_t d = 0; d < sizeof asked / sizeof *asked; d++)
        for (size_t non_zero = 1; non_zero <= 2; non_zero++) {
            GY_AUTO(gyre_rotation) *rotation = new_rotation(asked[d]);
            double one_bit = sparse_sign_sin2(rotation, asked[d], non_zero, 1000);
            double four_bits = sparse_four_bit_sin2(rotation, asked[d], non_zero, 1000);
            if (fabs(one_bit - .362) > .01 || four_bits > .0105)
                fail_msg("dim %u, %zu non-zero: sin2 is %g at 1 bit and %g at 4 bits", asked[d], non_zero, one_bit, four_bits);
        }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_are_kept_and_the_inverse_undoes),
        cmocka_unit_test(angles_are_kept),
        cmocka_unit_test(sparse_inputs_are_mixed_like_dense_ones),
    };
    return cmocka_run_group_tests_name("codec.prop_rotation", tests, NULL, NULL);
}
