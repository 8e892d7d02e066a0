/* Every table that runs here gives the bits of ref: equality, never tolerance. */
#include "kernels/kernels.h"
#include "support.h"

#include <pthread.h>

static const uint32_t large_dims[] = {100, 127, 128, 131, 768, 784, 960, 1536, 4096};
enum { SMALL_DIMS = 70, DIMS = SMALL_DIMS + sizeof large_dims / sizeof *large_dims };

static uint32_t nth_dim(size_t i) { return i < SMALL_DIMS ? (uint32_t)i + 1 : large_dims[i - SMALL_DIMS]; }

static void ref_runs_everywhere_and_is_first(void **state)
{
    (void)state;
    assert_string_equal(gy_kernels_all[0]->name, "ref");
    assert_true(gy_kernels_all[0]->runs_here());
    printf("tables that run here:");
    for (size_t k = 0; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here())
            printf(" %s", gy_kernels_all[k]->name);
    printf("\n");
}

static void select_forces_a_table_and_names_those_that_run(void **state)
{
    (void)state;
    must(gyre_simd_select(NULL, &err));
    const char *best = gyre_simd_name();
    must(gyre_simd_select("ref", &err));
    assert_string_equal(gyre_simd_name(), "ref");
    must_fail(gyre_simd_select("mmx", &err), GYRE_INVALID, "\"mmx\"; this machine runs ref");
    assert_string_equal(gyre_simd_name(), best);
    must(gyre_simd_select("", &err));
    assert_string_equal(gyre_simd_name(), best);
}

static float odd_value(void)
{
    switch (random_u64() % 8) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return 1e-41f; /* denormal */
    case 3: return -1e-41f;
    case 4: return (float)(1e10 * random_normal());
    default: return (float)random_normal();
    }
}

static void float_sums_are_equal_at_every_dim_and_alignment(void **state)
{
    (void)state;
    float a[GYRE_DIM_MAX + 3], b[GYRE_DIM_MAX + 3];
    for (size_t i = 0; i <= DIMS; i++)
        for (size_t round = 0; round < 6; round++) {
            uint32_t dim = i == DIMS ? 0 : nth_dim(i);
            size_t shift = round % 4;
            for (size_t j = 0; j < dim + shift; j++) {
                a[j] = round < 3 ? (float)random_normal() : odd_value();
                b[j] = round < 3 ? (float)random_normal() : odd_value();
            }
            float dot = gy_kernels_all[0]->vector->dot(a + shift, b, dim), l2 = gy_kernels_all[0]->vector->l2(a + shift, b, dim);
            for (size_t k = 1; gy_kernels_all[k]; k++)
                if (gy_kernels_all[k]->runs_here()) {
                    const gy_vector_kernels *vector = gy_kernels_all[k]->vector;
                    float other_dot = vector->dot(a + shift, b, dim), other_l2 = vector->l2(a + shift, b, dim);
                    if (memcmp(&dot, &other_dot, sizeof dot) || memcmp(&l2, &other_l2, sizeof l2))
                        fail_msg("%s differs at dim %u", gy_kernels_all[k]->name, dim);
                }
        }
}

static void rows_are_as_one_by_one(void **state)
{
    (void)state;
    enum { ROWS = 11 };
    float *rows = malloc(ROWS * GYRE_DIM_MAX * sizeof *rows), query[GYRE_DIM_MAX], sums[ROWS];
    assert_non_null(rows);
    for (size_t i = 0; i < DIMS; i++)
        for (size_t count = 0; count <= ROWS; count++) {
            uint32_t dim = nth_dim(i);
            for (size_t j = 0; j < count * dim; j++)
                rows[j] = count % 2 ? (float)random_normal() : odd_value();
            for (size_t j = 0; j < dim; j++)
                query[j] = count % 2 ? (float)random_normal() : odd_value();
            for (size_t k = 0; gy_kernels_all[k]; k++) {
                const gy_vector_kernels *vector = gy_kernels_all[k]->vector, *ref = gy_kernels_all[0]->vector;
                for (size_t which = 0; which < 2 && gy_kernels_all[k]->runs_here(); which++) {
                    (which ? vector->dots : vector->l2s)(rows, count, query, dim, sums);
                    for (size_t r = 0; r < count; r++) {
                        float wanted = (which ? ref->dot : ref->l2)(rows + r * dim, query, dim);
                        if (memcmp(&wanted, &sums[r], sizeof wanted))
                            fail_msg("%s differs at dim %u, row %zu of %zu", gy_kernels_all[k]->name, dim, r, count);
                    }
                }
            }
        }
    free(rows);
}

static void *use_codec(void *distance)
{
    const float a[3] = {1, 2, 3}, b[3] = {3, 2, 1};
    *(float *)distance = gyre_distance(GYRE_L2, a, b, 3);
    return NULL;
}

/* Runs first, when no table is picked yet: the thread sanitizer watches. */
static void threads_may_race_to_the_first_use(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    float distances[THREADS] = {0};
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_codec, &distances[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_float_equal(distances[i], 8, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_may_race_to_the_first_use),
        cmocka_unit_test(ref_runs_everywhere_and_is_first),
        cmocka_unit_test(select_forces_a_table_and_names_those_that_run),
        cmocka_unit_test(float_sums_are_equal_at_every_dim_and_alignment),
        cmocka_unit_test(rows_are_as_one_by_one),
    };
    return cmocka_run_group_tests_name("codec.kernels", tests, NULL, NULL);
}
