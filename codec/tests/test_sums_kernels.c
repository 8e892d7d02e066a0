/* Every table sums and packs to the bits of ref. */
#include "kernels/kernels.h"
#include "support.h"

enum { ROUNDS = 6, ROOM = GYRE_DIM_MAX + 8 };

static const uint32_t large_dims[] = {255, 256, 257, 511, 768, 784, 1000, 1536, 4095, 4096};
enum { SMALL_DIMS = 140, DIMS = SMALL_DIMS + sizeof large_dims / sizeof *large_dims };

static uint32_t nth_dim(size_t i) { return i < SMALL_DIMS ? (uint32_t)i : large_dims[i - SMALL_DIMS]; }

static float odd_value(void)
{
    switch (random_u64() % 10) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return 1e-41f; /* denormal */
    case 3: return -1e-41f;
    case 4: return (float)(1e16 * random_normal());
    case 5: return (float)(1e-25 * random_normal());
    default: return (float)random_normal();
    }
}

static void random_values(float *out, size_t round)
{
    for (size_t i = 0; i < ROOM; i++)
        out[i] = round % 2 ? odd_value() : round == 4 ? -0.0f : (float)random_normal();
}

/* As MATH.md 1.3 says it, without a second thought. */
static double plain_sum(const float *a, const float *b, size_t n)
{
    double lane[8] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % 8] += b ? (double)a[i] * (double)b[i] : fabs((double)a[i]);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void must_equal(const char *table, const char *what, size_t n, double wanted, double got)
{
    if (memcmp(&wanted, &got, sizeof got) != 0)
        fail_msg("%s of %s differs at %zu: %a for %a", what, table, n, got, wanted);
}

static void sums_are_equal_at_every_dim_and_alignment(void **state)
{
    (void)state;
    static float a[ROOM], b[ROOM];
    for (size_t i = 0; i < DIMS; i++)
        for (size_t round = 0; round < ROUNDS; round++) {
            size_t n = nth_dim(i), shift = round % 4;
            random_values(a, round), random_values(b, round);
            for (size_t k = 0; gy_kernels_all[k]; k++) {
                if (!gy_kernels_all[k]->runs_here())
                    continue;
                const gy_sums_kernels *sums = gy_kernels_all[k]->sums;
                const char *name = gy_kernels_all[k]->name;
                double products, squares;
                sums->pair(a + shift, b + 1, n, &products, &squares);
                must_equal(name, "products", n, plain_sum(a + shift, b + 1, n), sums->products(a + shift, b + 1, n));
                must_equal(name, "squares", n, plain_sum(b + 1, b + 1, n), sums->products(b + 1, b + 1, n));
                must_equal(name, "products of a pair", n, plain_sum(a + shift, b + 1, n), products);
                must_equal(name, "squares of a pair", n, plain_sum(b + 1, b + 1, n), squares);
                must_equal(name, "magnitudes", n, plain_sum(a + shift, NULL, n), sums->magnitudes(a + shift, n));
            }
        }
}

static double random_norm(const float *in, size_t round)
{
    uint32_t exponent = (uint32_t)(random_u64() % (round % 3 ? 100 : 2040));
    uint64_t fraction = random_u64() >> 12;
    if (round % 3 == 1) { /* the quotient of the first lies in the middle between two floats, or one step of a double beside it */
        double middle = (double)(float)random_normal();
        uint64_t bits;
        memcpy(&bits, &middle, sizeof bits);
        bits |= UINT64_C(1) << 28;
        memcpy(&middle, &bits, sizeof bits);
        return fabs((double)in[0] / middle);
    }
    if (round % 5 == 0)
        fraction = UINT64_MAX >> 12;
    return ldexp(1 + (double)fraction * 0x1p-52, (int)exponent - (round % 3 ? 50 : 1020));
}

static void quotients_are_equal_at_every_dim_for_every_norm(void **state)
{
    (void)state;
    static float in[ROOM], wanted[ROOM], got[ROOM];
    for (size_t round = 0; round < 3000; round++) {
        size_t n = round < SMALL_DIMS ? round : 1 + random_u64() % 64, shift = round % 4;
        random_values(in, round);
        double norm = round == 7 ? 0 : round == 8 ? INFINITY : random_norm(in + shift, round);
        for (size_t i = 0; i < n; i++)
            wanted[i] = (float)((double)in[shift + i] / norm);
        for (size_t k = 0; gy_kernels_all[k]; k++) {
            if (!gy_kernels_all[k]->runs_here())
                continue;
            memcpy(got, in, sizeof in);
            gy_kernels_all[k]->sums->divide(got + shift, norm, got + shift, n); /* in place */
            for (size_t i = 0; i < ROOM; i++) {
                const float *should = i < shift || i >= shift + n ? &in[i] : &wanted[i - shift];
                if (memcmp(&got[i], should, sizeof *got) != 0 && !(isnan(got[i]) && isnan(*should)))
                    fail_msg("%s: %a / %a is %a, not %a", gy_kernels_all[k]->name, in[i], norm, got[i], *should);
            }
        }
    }
}

/* gyre_vector_check leaves it to the sum of squares to notice them. */
static void what_is_not_finite_shows_in_the_sum_of_squares(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t k = 0; gy_kernels_all[k]; k++)
        for (uint32_t n = 1; gy_kernels_all[k]->runs_here() && n < 40; n++)
            for (size_t i = 0; i < n; i++)
                for (size_t v = 0; v < 3; v++) {
                    float a[40] = {3.4e38f, -3.4e38f, 3.4e38f};
                    assert_true(isfinite(gy_kernels_all[k]->sums->products(a, a, n)) != 0);
                    a[i] = bad[v];
                    assert_true(isfinite(gy_kernels_all[k]->sums->products(a, a, n)) == 0);
                }
}

static void signs_are_equal_at_every_dim_and_padding_is_zero(void **state)
{
    (void)state;
    static float z[ROOM], values[ROOM];
    for (size_t i = 0; i < DIMS; i++)
        for (size_t round = 0; round < ROUNDS; round++) {
            size_t dim = nth_dim(i), shift = round % 4, bytes = (dim + 7) / 8;
            random_values(z, round);
            for (size_t k = 0; gy_kernels_all[k]; k++) {
                if (!gy_kernels_all[k]->runs_here())
                    continue;
                uint8_t bits[GYRE_DIM_MAX / 8 + 2];
                memset(bits, 0xa5, sizeof bits), memset(values, 0x55, sizeof values);
                gy_kernels_all[k]->signs->pack(z + shift, dim, bits + 1); /* any alignment */
                gy_kernels_all[k]->signs->unpack(bits + 1, dim, values);
                bool right = bits[0] == 0xa5 && bits[1 + bytes] == 0xa5;
                for (size_t j = 0; j < 8 * bytes; j++)
                    right = right && (bits[1 + j / 8] >> j % 8 & 1) == (j < dim && z[shift + j] >= 0.0f ? 1 : 0);
                for (size_t j = 0; j < ROOM; j++)
                    right = right && (j < dim ? values[j] == (z[shift + j] >= 0.0f ? 1.0f : -1.0f) : values[j] > 1e13f);
                if (!right)
                    fail_msg("signs of %s differ at dim %zu", gy_kernels_all[k]->name, dim);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_equal_at_every_dim_and_alignment),
        cmocka_unit_test(quotients_are_equal_at_every_dim_for_every_norm),
        cmocka_unit_test(what_is_not_finite_shows_in_the_sum_of_squares),
        cmocka_unit_test(signs_are_equal_at_every_dim_and_padding_is_zero),
    };
    return cmocka_run_group_tests_name("codec.sums_kernels", tests, NULL, NULL);
}
