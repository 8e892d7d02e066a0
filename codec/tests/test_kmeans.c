#include "gyre/kmeans.h"
#include "kernels/kernels.h"
#include "support.h"

#include <pthread.h>
#include <sodium.h>

static gyre_centroids *new_centroids(const float *rows, size_t k, uint32_t dim)
{
    gyre_centroids *centroids = NULL;
    must(gyre_centroids_new(&centroids, rows, k, dim, &err));
    return centroids;
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    float vectors[6] = {0, 1, 2, 3, NAN, 5}, out[6] = {0};
    gyre_kmeans_options options = {0};
    must_fail(gyre_kmeans_train(&options, vectors, 3, 2, 4, out, NULL, &err), GYRE_INVALID, "4 lists of 3 vectors");
    must_fail(gyre_kmeans_train(&options, vectors, 3, 2, 0, out, NULL, &err), GYRE_INVALID, "0 lists");
    must_fail(gyre_kmeans_train(&options, vectors, 3, 0, 1, out, NULL, &err), GYRE_INVALID, "dim is 0");
    must_fail(gyre_kmeans_train(&options, vectors, 3, GYRE_DIM_MAX + 1, 1, out, NULL, &err), GYRE_INVALID, "dim is 4097");
    must_fail(gyre_kmeans_train(&options, vectors, SIZE_MAX / 8, 4, 1, out, NULL, &err), GYRE_INVALID,
              "more than memory can hold");
    must_fail(gyre_kmeans_train(&options, vectors, 3, 2, 1, out, NULL, &err), GYRE_INVALID, "row 2 column 0 is NaN");
    options.imbalance_max = 1.5;
    must_fail(gyre_kmeans_train(&options, vectors, 2, 2, 1, out, NULL, &err), GYRE_INVALID, "imbalance_max is 1.5");
    options.imbalance_max = NAN;
    must_fail(gyre_kmeans_train(&options, vectors, 2, 2, 1, out, NULL, &err), GYRE_INVALID, "imbalance_max is nan");
    options = (gyre_kmeans_options){.tolerance = 1};
    must_fail(gyre_kmeans_train(&options, vectors, 2, 2, 1, out, NULL, &err), GYRE_INVALID, "tolerance is 1");
    for (size_t i = 0; i < 6; i++)
        assert_float_equal(out[i], 0, 0); /* only written on success */

    gyre_centroids *centroids = NULL;
    must_fail(gyre_centroids_new(&centroids, vectors, 0, 2, &err), GYRE_INVALID, "0 centroids");
    must_fail(gyre_centroids_new(&centroids, vectors, (size_t)GYRE_LISTS_MAX + 1, 2, &err), GYRE_INVALID, "centroids");
    must_fail(gyre_centroids_new(&centroids, vectors, 1, 0, &err), GYRE_INVALID, "dim is 0");
    must_fail(gyre_centroids_new(&centroids, vectors, 3, 2, &err), GYRE_INVALID, "centroids: vector: row 2 column 0");
    assert_null(centroids);
    gyre_centroids_free(NULL);
}

static void an_assignment_names_the_row_it_refuses_and_writes_nothing(void **state)
{
    (void)state;
    const float rows[4] = {0, 0, 1, 1}, vectors[6] = {1, 1, 2, INFINITY, 0, 0};
    GY_AUTO(gyre_centroids) *centroids = new_centroids(rows, 2, 2);
    uint32_t ids[3] = {7, 7, 7};
    must_fail(gyre_kmeans_assign(centroids, vectors, 3, 40, ids, NULL, &err), GYRE_INVALID, "row 41 column 1 is infinite");
    must_fail(gyre_kmeans_nearest(centroids, vectors, 3, 40, 1, ids, NULL, &err), GYRE_INVALID, "row 41");
    must_fail(gyre_kmeans_nearest(centroids, vectors, 1, 0, 0, ids, NULL, &err), GYRE_INVALID, "0 nearest of 2 lists");
    must_fail(gyre_kmeans_nearest(centroids, vectors, 1, 0, 3, ids, NULL, &err), GYRE_INVALID, "3 nearest of 2 lists");
    assert_int_equal(ids[0], 7);
    must(gyre_kmeans_assign(centroids, vectors, 0, 0, ids, NULL, &err));
    must(gyre_kmeans_nearest(centroids, vectors, 0, 0, 1, ids, NULL, &err));
    assert_int_equal(ids[0], 7);
}

static void a_vector_belongs_to_the_nearest_and_to_the_lowest_of_equals(void **state)
{
    (void)state;
    const float rows[8] = {10, 10, 0, 0, 10, 10, 4, 0}, vectors[8] = {9, 9, 1, 0, 2, 0, 4, 1};
    GY_AUTO(gyre_centroids) *centroids = new_centroids(rows, 4, 2);
    assert_int_equal(gyre_centroids_count(centroids), 4);
    assert_int_equal(gyre_centroids_dim(centroids), 2);
    assert_memory_equal(gyre_centroids_row(centroids, 3), rows + 6, 2 * sizeof(float));
    uint32_t ids[4], nearest[4][3];
    float distances[4], all[4][3];
    must(gyre_kmeans_assign(centroids, vectors, 4, 0, ids, distances, &err));
    must(gyre_kmeans_nearest(centroids, vectors, 4, 0, 3, nearest[0], all[0], &err));
    static const uint32_t wanted[4][3] = {{0, 2, 3}, {1, 3, 0}, {1, 3, 0}, {3, 1, 0}};
    static const float wanted_distances[4][3] = {{2, 2, 106}, {1, 9, 181}, {4, 4, 164}, {1, 17, 117}};
    for (size_t v = 0; v < 4; v++) {
        assert_int_equal(ids[v], wanted[v][0]);
        assert_float_equal(distances[v], wanted_distances[v][0], 0);
        for (size_t j = 0; j < 3; j++) {
            assert_int_equal(nearest[v][j], wanted[v][j]);
            assert_float_equal(all[v][j], wanted_distances[v][j], 0);
        }
    }
}

/* Three groups of two vectors far apart: whatever the seed, these are the lists, and their means the centroids. */
static void separate_groups_are_found(void **state)
{
    (void)state;
    const float vectors[12] = {0, 0, 2, 0, 100, 0, 100, 2, 0, 100, 2, 100};
    for (uint8_t seed = 0; seed < 20; seed++) {
        gyre_kmeans_options options = {.seed = {seed}};
        gyre_kmeans_progress result;
        float out[6];
        must(gyre_kmeans_train(&options, vectors, 6, 2, 3, out, &result, &err));
        static const float wanted[3][2] = {{1, 0}, {100, 1}, {1, 100}};
        for (size_t w = 0; w < 3; w++) {
            bool found = false;
            for (size_t c = 0; c < 3; c++)
                found = found || memcmp(out + 2 * c, wanted[w], sizeof wanted[w]) == 0;
            assert_true(found);
        }
        assert_float_equal((float)result.objective, 1, 0);
        assert_int_equal(result.largest_list, 2);
        assert_int_equal(result.empty_lists, 0);
        assert_int_equal(result.sample, 6);
    }
}

static void degenerate_inputs_are_defined(void **state)
{
    (void)state;
    enum { N = 40 };
    float vectors[3 * N], out[3 * N];
    gyre_kmeans_options options = {0};
    gyre_kmeans_progress result;
    for (size_t i = 0; i < 3 * N; i++)
        vectors[i] = 1e-3f;
    must(gyre_kmeans_train(&options, vectors, N, 3, 7, out, &result, &err)); /* all equal: one list, six empty */
    for (size_t i = 0; i < 3 * 7; i++)
        assert_float_equal(out[i], 1e-3f, 0);
    assert_int_equal(result.largest_list, N);
    assert_int_equal(result.empty_lists, 6);
    assert_true(result.objective == 0);
    must(gyre_kmeans_train(&options, vectors, N, 3, 1, out, &result, &err)); /* one list */
    assert_float_equal(out[0], 1e-3f, 0);
    for (size_t i = 0; i < N; i++)
        vectors[i] = (float)i;
    must(gyre_kmeans_train(&options, vectors, N, 1, N, out, &result, &err)); /* dim 1, as many lists as vectors */
    assert_true(result.objective == 0);
    assert_int_equal(result.largest_list, 1);
    bool seen[N] = {0};
    for (size_t i = 0; i < N; i++)
        seen[(size_t)out[i]] = true;
    for (size_t i = 0; i < N; i++)
        assert_true(seen[i]);
    must(gyre_kmeans_train(&options, vectors, 1, 1, 1, out, NULL, &err));
    assert_float_equal(out[0], 0, 0);
    for (size_t i = 0; i < N; i++)
        vectors[i] = (float)(i % 4); /* ten of each: lists cannot be smaller */
    must(gyre_kmeans_train(&options, vectors, N, 1, 8, out, &result, &err));
    assert_true(result.objective == 0);
    assert_int_equal(result.largest_list, 10);
    assert_int_equal(result.empty_lists, 4);
}

/* The start looks at 8 vectors a list, here all equal: three centroids are duplicates whose lists stay empty, until each gets a
 * share of the only list that costs anything. */
static void empty_lists_are_given_what_the_start_missed(void **state)
{
    (void)state;
    enum { N = 1024, K = 4 };
    float vectors[N] = {0}, out[K];
    vectors[5] = 1, vectors[77] = 2, vectors[500] = 3;
    gyre_kmeans_options options = {.imbalance_max = INFINITY};
    gyre_kmeans_progress result;
    must(gyre_kmeans_train(&options, vectors, N, 1, K, out, &result, &err));
    assert_int_equal(result.empty_lists, 0);
    assert_true(result.objective == 0);
}

/* Inputs from integers, so that no libm decides them. */
static void centroids_have_the_bits_they_always_had(void **state)
{
    (void)state;
    enum { N = 3000, DIM = 19, K = 37 };
    static float vectors[N * DIM], out[K * DIM];
    for (uint32_t i = 0; i < N * DIM; i++)
        vectors[i] = (float)((int32_t)(i * UINT32_C(2654435761) ^ i / DIM % 50 * UINT32_C(40503) << 14) >> 10) * 0x1p-18f;
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        must(gyre_simd_select(gy_kernels_all[k]->name, &err));
        gyre_kmeans_options options = {.seed = {9}, .sample_per_list = 60};
        must(gyre_kmeans_train(&options, vectors, N, DIM, K, out, NULL, &err));
        uint8_t hash[16];
        char text[33];
        crypto_generichash(hash, sizeof hash, (const uint8_t *)out, sizeof out, NULL, 0);
        sodium_bin2hex(text, sizeof text, hash, sizeof hash);
        if (strcmp(text, "96172d7fcef817f811bb6bf5ef9d8b5f") != 0)
            fail_msg("%s learns %s", gy_kernels_all[k]->name, text);
    }
    must(gyre_simd_select(NULL, &err));
}

/* A caller's threads: each takes every fourth part. */
enum { THREADS = 4 };

struct share {
    size_t first, parts;
    void (*part)(void *work, size_t i);
    void *work;
};

static void *run_share(void *arg)
{
    const struct share *share = arg;
    for (size_t i = share->first; i < share->parts; i += THREADS)
        share->part(share->work, i);
    return NULL;
}

static void run_threads(void *context, size_t parts, void (*part)(void *work, size_t i), void *work)
{
    (void)context;
    pthread_t threads[THREADS];
    struct share shares[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        shares[i] = (struct share){i, parts, part, work};
        assert_int_equal(pthread_create(&threads[i], NULL, run_share, &shares[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    enum { N = 9000, DIM = 6, K = 150 };
    float *vectors = must_alloc(N * DIM * sizeof *vectors), alone[K * DIM], together[K * DIM];
    random_vector(vectors, N * DIM, 1);
    gyre_kmeans_options options = {.iterations_max = 3};
    must(gyre_kmeans_train(&options, vectors, N, DIM, K, alone, NULL, &err));
    options.run = run_threads;
    must(gyre_kmeans_train(&options, vectors, N, DIM, K, together, NULL, &err));
    assert_memory_equal(together, alone, sizeof alone);
    free(vectors);
}

struct watcher {
    size_t calls, stop_at;
    uint32_t last;
};

static bool watch(void *context, const gyre_kmeans_progress *progress)
{
    struct watcher *watcher = context;
    assert_true(progress->iteration >= watcher->last);
    assert_true(progress->done >= 0 && progress->done <= 1);
    watcher->last = progress->iteration;
    return ++watcher->calls != watcher->stop_at;
}

static void the_caller_may_stop_at_any_point(void **state)
{
    (void)state;
    float vectors[600], out[60];
    random_vector(vectors, 600, 1);
    struct watcher watcher = {0};
    gyre_kmeans_options options = {.progress = watch, .context = &watcher};
    must(gyre_kmeans_train(&options, vectors, 200, 3, 20, out, NULL, &err));
    assert_true(watcher.calls > 3 && watcher.last > 0);
    for (size_t stop = 1, most = watcher.calls; stop <= most; stop++) {
        watcher = (struct watcher){.stop_at = stop};
        must_fail(gyre_kmeans_train(&options, vectors, 200, 3, 20, out, NULL, &err), GYRE_CANCELLED, "stopped by the caller");
        assert_int_equal(watcher.calls, stop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(an_assignment_names_the_row_it_refuses_and_writes_nothing),
        cmocka_unit_test(a_vector_belongs_to_the_nearest_and_to_the_lowest_of_equals),
        cmocka_unit_test(separate_groups_are_found),
        cmocka_unit_test(degenerate_inputs_are_defined),
        cmocka_unit_test(empty_lists_are_given_what_the_start_missed),
        cmocka_unit_test(centroids_have_the_bits_they_always_had),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(the_caller_may_stop_at_any_point),
    };
    return cmocka_run_group_tests_name("codec.kmeans", tests, NULL, NULL);
}
