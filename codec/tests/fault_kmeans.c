/* The 1st, 2nd, 3rd… allocation fails until a call succeeds: it says so, writes nothing and leaks nothing (the address sanitizer
 * watches). Linked with --wrap for the three functions. */
#include "gyre/kmeans.h"
#include "support.h"

static size_t allocations, failing; /* the number of the one that fails; 0: none */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

static bool fails(void) { return ++allocations == failing; }

void *__wrap_malloc(size_t bytes) { return fails() ? NULL : __real_malloc(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) { return fails() ? NULL : __real_calloc(count, bytes); }
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) { return fails() ? NULL : __real_aligned_alloc(alignment, bytes); }

enum { N = 4000, K = 12, DIM = 5 };

static float vectors[N * DIM];

/* Repeats call, a gyre_status with &err, and requires at least so many failures and then success. */
#define must_survive(call, least_failures)                                  \
    do {                                                                    \
        size_t survived = 0;                                                \
        gyre_status status = GYRE_NO_MEMORY;                                \
        for (failing = 1; status != GYRE_OK; failing++) {                   \
            gyre_error err = {0};                                           \
            allocations = 0;                                                \
            status = (call);                                                \
            if (status != GYRE_OK) {                                        \
                assert_int_equal(status, GYRE_NO_MEMORY);                   \
                assert_int_equal(err.status, GYRE_NO_MEMORY);               \
                survived++;                                                 \
            }                                                               \
        }                                                                   \
        failing = 0;                                                        \
        assert_true(survived >= (least_failures));                          \
    } while (0)

static void training_survives_every_failed_allocation(void **state)
{
    (void)state;
    gyre_kmeans_options options = {.sample_per_list = 200, .iterations_max = 2};
    gyre_kmeans_progress result = {.sample = 77};
    float out[K * DIM] = {0}, wanted[K * DIM];
    must(gyre_kmeans_train(&options, vectors, N, DIM, K, wanted, NULL, &err));
    allocations = 0, failing = 1;
    assert_int_equal(gyre_kmeans_train(&options, vectors, N, DIM, K, out, &result, NULL), GYRE_NO_MEMORY);
    for (size_t i = 0; i < K * DIM; i++)
        assert_float_equal(out[i], 0, 0);
    assert_int_equal(result.sample, 77);
    must_survive(gyre_kmeans_train(&options, vectors, N, DIM, K, out, &result, &err), 12);
    assert_memory_equal(out, wanted, sizeof out);
}

static void assignment_survives_every_failed_allocation(void **state)
{
    (void)state;
    gyre_centroids *made = NULL;
    must_survive(gyre_centroids_new(&made, vectors, K, DIM, &err), 2);
    GY_AUTO(gyre_centroids) *centroids = made;
    uint32_t ids[N];
    float distances[N];
    must_survive(gyre_kmeans_assign(centroids, vectors, N, 0, ids, distances, &err), 1);
    must_survive(gyre_kmeans_nearest(centroids, vectors, N / 3, 0, 3, ids, NULL, &err), 3);
}

int main(void)
{
    random_vector(vectors, N * DIM, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_survives_every_failed_allocation),
        cmocka_unit_test(assignment_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests_name("codec.fault_kmeans", tests, NULL, NULL);
}
