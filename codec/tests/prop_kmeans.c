/* Properties of the coarse partition: what is assigned, learned and balanced, on random shapes. */
#include "gyre/kmeans.h"
#include "kernels/kernels.h"
#include "support.h"

enum { LISTS_MAX = 1100 };

static size_t random_below(size_t count) { return (size_t)(random_u64() % count); }

/* Vectors in groups of very different sizes and widths, some of them equal, around a common offset. */
static float *new_vectors(size_t n, uint32_t dim, double scale, double offset, bool duplicates)
{
    float *vectors = must_alloc(n * dim * sizeof *vectors), center[GYRE_DIM_MAX];
    for (size_t i = 0; i < n;) {
        size_t group = 1 + random_below(n - i);
        double width = pow(10, -(double)random_below(5));
        random_vector(center, dim, 1);
        for (; group > 0; group--, i++)
            for (uint32_t j = 0; j < dim; j++)
                vectors[i * dim + j] = (float)(scale * (offset + (double)center[j] + width * random_normal()));
    }
    for (size_t i = 0; duplicates && i < n; i++)
        if (random_below(3) == 0)
            memmove(vectors + i * dim, vectors + random_below(n) * dim, dim * sizeof *vectors);
    return vectors;
}

static void shuffle(float *vectors, size_t n, uint32_t dim)
{
    float kept[GYRE_DIM_MAX];
    for (size_t i = n; i-- > 1;) {
        float *a = vectors + i * dim, *b = vectors + random_below(i + 1) * dim;
        memcpy(kept, a, dim * sizeof *a), memmove(a, b, dim * sizeof *a), memcpy(b, kept, dim * sizeof *a);
    }
}

static void assignments_equal_brute_force_with_every_table(void **state)
{
    (void)state;
    static float exact[LISTS_MAX];
    static const double scales[] = {1, 1, 1e-22, 1e11, 1e-25};
    for (size_t round = 0; round < 100; round++) {
        double scale = scales[round % 5], offset = round % 4 == 3 ? 1000 : 0;
        size_t k = round < 20 ? 1 + round : 1 + random_below(round % 10 == 0 ? LISTS_MAX : 100),
               n = 1 + random_below(round % 7 == 0 ? 220 : 30);
        uint32_t dim = 1 + (uint32_t)random_below(round % 5 == 0 ? 600 : 40);
        float *rows = new_vectors(k + n, dim, scale, offset, round % 2), *vectors = rows + k * dim;
        shuffle(rows, k + n, dim); /* vectors lie in the same groups as centroids, some on them */
        GY_AUTO(gyre_centroids) *centroids = NULL;
        must(gyre_centroids_new(&centroids, rows, k, dim, &err));
        size_t m = 1 + random_below(k < 20 ? k : 20);
        uint32_t *ids = must_alloc(n * sizeof *ids), *nearest = must_alloc(n * m * sizeof *nearest);
        float *distances = must_alloc(n * sizeof *distances), *all = must_alloc(n * m * sizeof *all);
        for (size_t t = 0; gy_kernels_all[t]; t++) {
            if (!gy_kernels_all[t]->runs_here())
                continue;
            must(gyre_simd_select(gy_kernels_all[t]->name, &err));
            memset(ids, 0xff, n * sizeof *ids);
            must(gyre_kmeans_assign(centroids, vectors, n, 0, ids, distances, &err));
            must(gyre_kmeans_nearest(centroids, vectors, n, 0, m, nearest, all, &err));
            for (size_t v = 0; v < n; v++) {
                const float *x = vectors + v * dim;
                for (size_t c = 0; c < k; c++)
                    exact[c] = gyre_distance(GYRE_L2, x, rows + c * dim, dim);
                for (size_t j = 0; j < m; j++) { /* the least of what is left, the lowest of equals */
                    size_t best = 0;
                    for (size_t c = 1; c < k; c++)
                        if (exact[c] < exact[best])
                            best = c;
                    float distance = exact[best];
                    exact[best] = INFINITY;
                    if (nearest[v * m + j] != best || all[v * m + j] != distance ||
                        (j == 0 && (ids[v] != best || distances[v] != distance)))
                        fail_msg("%s, k %zu, dim %u, vector %zu: %zuth nearest is %u, not %zu", gy_kernels_all[t]->name, k, dim,
                                 v, j, nearest[v * m + j], best);
                }
            }
        }
        free(rows), free(ids), free(nearest), free(distances), free(all);
    }
    must(gyre_simd_select(NULL, &err));
}

static void a_range_of_vectors_gets_what_it_gets_in_the_whole(void **state)
{
    (void)state;
    enum { N = 500, K = 90, DIM = 17 };
    float *rows = new_vectors(K, DIM, 1, 0, false), *vectors = new_vectors(N, DIM, 1, 0, false);
    GY_AUTO(gyre_centroids) *centroids = NULL;
    must(gyre_centroids_new(&centroids, rows, K, DIM, &err));
    uint32_t whole[N], part[N];
    must(gyre_kmeans_assign(centroids, vectors, N, 0, whole, NULL, &err));
    for (size_t first = 0, count; first < N; first += count) {
        count = 1 + random_below(N - first < 200 ? N - first : 200);
        must(gyre_kmeans_assign(centroids, vectors + first * DIM, count, first, part, NULL, &err));
        assert_memory_equal(part, whole + first, count * sizeof *part);
    }
    free(rows), free(vectors);
}

struct trace {
    double objectives[100];
    size_t count;
};

static bool watch(void *context, const gyre_kmeans_progress *progress)
{
    struct trace *trace = context;
    if (progress->iteration > trace->count)
        trace->objectives[trace->count++] = progress->objective;
    return true;
}

static void the_objective_never_grows_and_ends_at_means(void **state)
{
    (void)state;
    for (size_t round = 0; round < 12; round++) {
        size_t n = 400 + random_below(2000), k = 2 + random_below(60);
        uint32_t dim = 1 + (uint32_t)random_below(40);
        float *vectors = new_vectors(n, dim, 1, 0, false), *rows = must_alloc(k * dim * sizeof *rows);
        struct trace trace = {0};
        gyre_kmeans_options options = {.sample_per_list = n,
                                       .imbalance_max = INFINITY,
                                       .tolerance = 1e-12,
                                       .iterations_max = 90,
                                       .progress = watch,
                                       .context = &trace};
        gyre_kmeans_progress result;
        random_seed_bytes(options.seed);
        must(gyre_kmeans_train(&options, vectors, n, dim, k, rows, &result, &err));
        assert_int_equal(result.sample, n);
        for (size_t i = 1; i < trace.count; i++)
            assert_true(trace.objectives[i] <= trace.objectives[i - 1] * (1 + 1e-6));
        GY_AUTO(gyre_centroids) *centroids = NULL;
        must(gyre_centroids_new(&centroids, rows, k, dim, &err));
        uint32_t *ids = must_alloc(n * sizeof *ids);
        float *distances = must_alloc(n * sizeof *distances);
        must(gyre_kmeans_assign(centroids, vectors, n, 0, ids, distances, &err));
        double sum = 0, *means = must_alloc(k * dim * sizeof *means), *sizes = must_alloc(k * sizeof *sizes);
        memset(means, 0, k * dim * sizeof *means), memset(sizes, 0, k * sizeof *sizes);
        for (size_t v = 0; v < n; v++) {
            sum += (double)distances[v];
            sizes[ids[v]]++;
            for (uint32_t i = 0; i < dim; i++)
                means[ids[v] * dim + i] += (double)vectors[v * dim + i];
        }
        assert_true(sum / (double)n == result.objective);
        double largest = 0, off = 0;
        for (size_t c = 0; c < k; c++) {
            largest = fmax(largest, sizes[c]);
            for (uint32_t i = 0; i < dim && sizes[c] > 0; i++)
                off = fmax(off, fabs(means[c * dim + i] / sizes[c] - (double)rows[c * dim + i]));
        }
        assert_int_equal(result.largest_list, largest);
        if (trace.count < 90) /* it ended by itself, so nothing moved any more */
            assert_true(off < 1e-3);
        free(vectors), free(rows), free(ids), free(distances), free(means), free(sizes);
    }
}

/* Groups whose sizes fall like 1/rank, the first of them half of all vectors, very narrow. */
static float *new_skewed(size_t n, uint32_t dim)
{
    float *vectors = must_alloc(n * dim * sizeof *vectors), center[GYRE_DIM_MAX];
    size_t i = 0;
    for (size_t rank = 1; i < n; rank++) {
        size_t size = n / 2 / rank + 1;
        random_vector(center, dim, 5);
        for (size_t v = 0; v < size && i < n; v++, i++)
            for (uint32_t j = 0; j < dim; j++)
                vectors[i * dim + j] = (float)((double)center[j] + (rank == 1 ? 0.01 : 1) * random_normal());
    }
    return vectors;
}

static void no_list_is_above_the_limit(void **state)
{
    (void)state;
    static const double limits[] = {2, 2.5, 4, 8};
    for (size_t round = 0; round < 16; round++) {
        size_t n = 500 + random_below(3000), k = 10 + random_below(90);
        uint32_t dim = 1 + (uint32_t)random_below(round % 4 == 0 ? 4 : 60);
        float *vectors = new_skewed(n, dim), *rows = must_alloc(k * dim * sizeof *rows);
        gyre_kmeans_options options = {.sample_per_list = n, .imbalance_max = limits[round % 4]};
        gyre_kmeans_progress result;
        random_seed_bytes(options.seed);
        must(gyre_kmeans_train(&options, vectors, n, dim, k, rows, &result, &err));
        GY_AUTO(gyre_centroids) *centroids = NULL;
        must(gyre_centroids_new(&centroids, rows, k, dim, &err));
        uint32_t *ids = must_alloc(n * sizeof *ids);
        size_t sizes[200] = {0}, limit = (size_t)(limits[round % 4] * (double)n / (double)k);
        limit = limit < n ? limit : n;
        must(gyre_kmeans_assign(centroids, vectors, n, 0, ids, NULL, &err));
        for (size_t v = 0; v < n; v++)
            sizes[ids[v]]++;
        assert_int_equal(result.list_limit, limit);
        for (size_t c = 0; c < k; c++)
            if (sizes[c] > limit)
                fail_msg("n %zu, k %zu, dim %u, limit %zu: list %zu has %zu after %u iterations", n, k, dim, limit, c, sizes[c],
                         result.iteration);
        free(vectors), free(rows), free(ids);
    }
}

/* Parts from last to first. */
static void run_backwards(void *context, size_t parts, void (*part)(void *work, size_t i), void *work)
{
    *(size_t *)context += parts;
    while (parts-- > 0)
        part(work, parts);
}

static void the_same_seed_gives_the_same_bits_whatever_table_and_order(void **state)
{
    (void)state;
    for (size_t round = 0; round < 5; round++) {
        size_t n = 2000 + random_below(3000), k = 2 + random_below(90), run_count = 0;
        uint32_t dim = 1 + (uint32_t)random_below(50);
        float *vectors = new_skewed(n, dim), *wanted = must_alloc(k * dim * sizeof *wanted),
              *rows = must_alloc(k * dim * sizeof *rows);
        gyre_kmeans_options options = {.imbalance_max = 2.5, .sample_per_list = 20};
        random_seed_bytes(options.seed);
        gyre_kmeans_progress result, other;
        must(gyre_kmeans_train(&options, vectors, n, dim, k, wanted, &result, &err));
        assert_int_equal(result.sample, n < 20 * k ? n : 20 * k);
        for (size_t t = 0; gy_kernels_all[t]; t++) {
            if (!gy_kernels_all[t]->runs_here())
                continue;
            must(gyre_simd_select(gy_kernels_all[t]->name, &err));
            options.run = t % 2 ? run_backwards : NULL;
            options.context = &run_count;
            must(gyre_kmeans_train(&options, vectors, n, dim, k, rows, &other, &err));
            if (memcmp(rows, wanted, k * dim * sizeof *rows) != 0)
                fail_msg("%s learns other centroids: n %zu, k %zu, dim %u", gy_kernels_all[t]->name, n, k, dim);
            assert_true(other.objective == result.objective);
        }
        must(gyre_simd_select(NULL, &err));
        assert_true(run_count > 0);
        options.seed[0]++;
        must(gyre_kmeans_train(&options, vectors, n, dim, k, rows, NULL, &err));
        assert_memory_not_equal(rows, wanted, k * dim * sizeof *rows);
        free(vectors), free(wanted), free(rows);
    }
}

/* A sample finds what there is: the objective on all vectors is within a tenth of what training on all of them gives. */
static void a_sample_is_nearly_as_good_as_all(void **state)
{
    (void)state;
    enum { N = 20000, K = 32, DIM = 8 };
    float *vectors = new_skewed(N, DIM), rows[2][K * DIM], *distances = must_alloc(N * sizeof *distances);
    uint32_t *ids = must_alloc(N * sizeof *ids);
    double objective[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        gyre_kmeans_options options = {.imbalance_max = INFINITY, .sample_per_list = i ? 100 : N};
        gyre_kmeans_progress result;
        must(gyre_kmeans_train(&options, vectors, N, DIM, K, rows[i], &result, &err));
        assert_int_equal(result.sample, i ? 100 * K : N);
        GY_AUTO(gyre_centroids) *centroids = NULL;
        must(gyre_centroids_new(&centroids, rows[i], K, DIM, &err));
        must(gyre_kmeans_assign(centroids, vectors, N, 0, ids, distances, &err));
        for (size_t v = 0; v < N; v++)
            objective[i] += (double)distances[v];
    }
    assert_true(objective[1] <= 1.1 * objective[0]);
    free(vectors), free(ids), free(distances);
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assignments_equal_brute_force_with_every_table),
        cmocka_unit_test(a_range_of_vectors_gets_what_it_gets_in_the_whole),
        cmocka_unit_test(the_objective_never_grows_and_ends_at_means),
        cmocka_unit_test(no_list_is_above_the_limit),
        cmocka_unit_test(the_same_seed_gives_the_same_bits_whatever_table_and_order),
        cmocka_unit_test(a_sample_is_nearly_as_good_as_all),
    };
    return cmocka_run_group_tests_name("codec.prop_kmeans", tests, NULL, NULL);
}
