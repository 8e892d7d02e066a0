/* Lists of vectors and of queries against plain arithmetic over all centroids. */
#include "gyre/kmeans.h"
#include "gyre/partition.h"
#include "kernels/kernels.h"
#include "support.h"

enum { CLUSTERS = 40, QUERIES = 60, DIM_MAX = 768 };

static const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};

/* Centroids and queries as data has them: about a few directions, neither all alike nor all apart. */
struct scene {
    gyre_metric metric;
    uint32_t dim, lists;
    float *clusters, *centroids;
    gyre_codebook *codebook;
};

static void near_a_cluster(const struct scene *scene, float *out)
{
    const float *cluster = scene->clusters + random_u64() % CLUSTERS * scene->dim;
    random_vector(out, scene->dim, .7 / sqrt(scene->dim));
    for (uint32_t j = 0; j < scene->dim; j++)
        out[j] += cluster[j];
    gyre_vector_normalize(scene->metric, out, out, scene->dim);
}

static void scene_open(struct scene *scene, gyre_metric metric, uint32_t dim, uint32_t lists)
{
    *scene = (struct scene){.metric = metric, .dim = dim, .lists = lists};
    scene->clusters = must_alloc(CLUSTERS * dim * sizeof(float));
    scene->centroids = must_alloc((size_t)lists * dim * sizeof(float));
    random_vector(scene->clusters, CLUSTERS * dim, 1 / sqrt(dim));
    float mean[DIM_MAX] = {0};
    for (uint32_t list = 0; list < lists; list++) {
        float *centroid = scene->centroids + (size_t)list * dim;
        near_a_cluster(scene, centroid);
        for (uint32_t j = 0; j < dim; j++)
            mean[j] += centroid[j] / (float)lists;
    }
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    must(gyre_codebook_new_partitioned(&scene->codebook, metric, dim, 1, seed, mean, scene->centroids, lists, &err));
}

static void scene_close(struct scene *scene)
{
    gyre_codebook_free(scene->codebook);
    free(scene->clusters), free(scene->centroids);
}

/* Distance in the order that a probe promises, in double. */
static double distance_of(const struct scene *scene, const float *query, size_t list)
{
    const float *centroid = scene->centroids + list * scene->dim;
    double sum = 0;
    for (uint32_t j = 0; j < scene->dim; j++) {
        double q = (double)query[j], c = (double)centroid[j];
        sum += scene->metric == GYRE_IP ? -q * c : (q - c) * (q - c);
    }
    return sum;
}

/* How many lists are strictly nearer. */
static size_t rank_of(const struct scene *scene, const double *distances, size_t list)
{
    size_t rank = 0;
    for (size_t other = 0; other < scene->lists; other++)
        rank += distances[other] < distances[list];
    return rank;
}

static double *all_distances(const struct scene *scene, const float *query)
{
    double *distances = must_alloc(scene->lists * sizeof *distances);
    for (size_t list = 0; list < scene->lists; list++)
        distances[list] = distance_of(scene, query, list);
    return distances;
}

static void vectors_are_assigned_to_the_nearest_centroid(void **state)
{
    (void)state;
    enum { DIM = 40, LISTS = 90, N = 50 };
    for (size_t m = 0; m < 3; m++) {
        struct scene scene;
        float vectors[N * DIM];
        uint32_t lists[N];
        scene_open(&scene, metrics[m], DIM, LISTS);
        for (size_t i = 0; i < N; i++)
            near_a_cluster(&scene, vectors + i * DIM);
        must(gyre_partition_assign(scene.codebook, vectors, N, 0, lists, &err));
        for (size_t i = 0; i < N; i++) {
            size_t nearest = 0;
            for (size_t list = 1; list < LISTS; list++)
                if (gyre_distance(GYRE_L2, scene.centroids + list * DIM, vectors + i * DIM, DIM) <
                    gyre_distance(GYRE_L2, scene.centroids + nearest * DIM, vectors + i * DIM, DIM))
                    nearest = list;
            assert_int_equal(lists[i], nearest);
        }
        vectors[3 * DIM + 7] = NAN;
        must_fail(gyre_partition_assign(scene.codebook, vectors, N, 100, lists, &err), GYRE_INVALID, "row 103 column 7");
        scene_close(&scene);
    }
}

static void without_centroids_all_is_one_list(void **state)
{
    (void)state;
    enum { DIM = 8 };
    float vectors[2 * DIM] = {1};
    uint32_t lists[2] = {9, 9};
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    must(gyre_partition_assign(codebook, vectors, 2, 0, lists, &err));
    assert_int_equal(lists[0], 0), assert_int_equal(lists[1], 0);
    lists[0] = 9;
    must(gyre_partition_probe(codebook, vectors, NULL, 1, lists, &err));
    assert_int_equal(lists[0], 0);
    must_fail(gyre_partition_probe(codebook, vectors, NULL, 2, lists, &err), GYRE_INVALID, "2 of 1 lists");
    vectors[3] = INFINITY;
    must_fail(gyre_partition_probe(codebook, vectors, NULL, 1, lists, &err), GYRE_INVALID, "column 3");
    must_fail(gyre_partition_assign(codebook, vectors, 1, 0, lists, &err), GYRE_INVALID, "column 3");
}

/* The m returned are the m that are nearest, in order, where lists are few. */
static void few_lists_are_probed_exactly(void **state)
{
    (void)state;
    enum { DIM = 24 };
    for (uint32_t lists = 1; lists <= 64; lists = lists * 2 + 1)
        for (size_t m = 0; m < 3; m++) {
            struct scene scene;
            float query[DIM];
            uint32_t probed[64];
            scene_open(&scene, metrics[m], DIM, lists);
            near_a_cluster(&scene, query);
            double *distances = all_distances(&scene, query);
            must(gyre_partition_probe(scene.codebook, query, NULL, lists, probed, &err));
            for (size_t i = 0; i < lists; i++)
                assert_int_equal(rank_of(&scene, distances, probed[i]), i);
            free(distances);
            scene_close(&scene);
        }
}

/* How good the order is where codes leave some out: of the true first m so many are returned. The last two are exact. */
static void the_order_of_many_lists_is_nearly_exact(void **state)
{
    (void)state;
    static const struct {
        uint32_t dim, lists, m;
    } cases[] = {{100, 4096, 64}, {768, 500, 8}, {768, 1000, 64}, {100, 1000, 40}, {3, 100, 10}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct scene scene;
        size_t found = 0, first = 0, m = cases[c].m;
        float query[DIM_MAX];
        uint32_t probed[64];
        scene_open(&scene, metrics[c % 3], cases[c].dim, cases[c].lists);
        for (size_t q = 0; q < QUERIES; q++) {
            near_a_cluster(&scene, query);
            double *distances = all_distances(&scene, query);
            must(gyre_partition_probe(scene.codebook, query, NULL, m, probed, &err));
            for (size_t i = 0; i < m; i++) {
                size_t rank = rank_of(&scene, distances, probed[i]);
                found += rank < m;
                first += i == 0 && rank == 0;
                for (size_t j = 0; j < i; j++)
                    assert_int_not_equal(probed[i], probed[j]);
            }
            free(distances);
        }
        double share = (double)found / (double)(QUERIES * m);
        printf("dim %u, %u lists: %.4f of the first %zu, the first itself %.3f\n", cases[c].dim, cases[c].lists, share, m,
               (double)first / QUERIES);
        bool exact = cases[c].lists * cases[c].dim <= 1 << 18;
        if (share < (exact ? 1 : .98) || first < (exact ? QUERIES : QUERIES * 95 / 100))
            fail_msg("dim %u, %u lists: %g of the first %zu, %zu first of %d", cases[c].dim, cases[c].lists, share, m, first,
                     QUERIES);
        scene_close(&scene);
    }
}

static void every_list_comes_once_and_the_rotated_query_changes_nothing(void **state)
{
    (void)state;
    enum { DIM = 768, LISTS = 400 };
    struct scene scene;
    float query[DIM], rotated[DIM];
    uint32_t probed[LISTS], again[LISTS], first[LISTS];
    bool seen[LISTS] = {false};
    scene_open(&scene, GYRE_COSINE, DIM, LISTS);
    near_a_cluster(&scene, query);
    gyre_rotation_apply(gyre_codebook_rotation(scene.codebook), query, rotated);
    must(gyre_partition_probe(scene.codebook, query, NULL, LISTS, probed, &err));
    must(gyre_partition_probe(scene.codebook, query, rotated, LISTS, again, &err));
    assert_memory_equal(probed, again, sizeof probed);
    for (size_t i = 0; i < LISTS; i++) {
        assert_false(seen[probed[i]]);
        seen[probed[i]] = true;
    }
    must(gyre_simd_select("ref", &err));
    must(gyre_partition_probe(scene.codebook, query, NULL, LISTS / 5, first, &err));
    for (size_t k = 0; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here()) {
            must(gyre_simd_select(gy_kernels_all[k]->name, &err));
            must(gyre_partition_probe(scene.codebook, query, rotated, LISTS / 5, again, &err));
            assert_memory_equal(first, again, LISTS / 5 * sizeof *first);
        }
    must(gyre_simd_select(NULL, &err));
    must_fail(gyre_partition_probe(scene.codebook, query, NULL, 0, probed, &err), GYRE_INVALID, "0 of 400 lists");
    must_fail(gyre_partition_probe(scene.codebook, query, NULL, LISTS + 1, probed, &err), GYRE_INVALID, "401 of 400 lists");
    query[5] = NAN;
    must_fail(gyre_partition_probe(scene.codebook, query, NULL, 5, probed, &err), GYRE_INVALID, "column 5");
    scene_close(&scene);
}

/* Equal centroids: the lower list first, and no list twice. */
static void equal_lists_come_in_their_order(void **state)
{
    (void)state;
    enum { DIM = 512, LISTS = 600 };
    static float centroids[LISTS * DIM];
    float query[DIM] = {0};
    uint32_t probed[LISTS];
    const uint8_t seed[GYRE_SEED_BYTES] = {3};
    for (size_t i = 0; i < LISTS * DIM; i++)
        centroids[i] = i % DIM == 0 ? 1 : 0;
    GY_AUTO(gyre_codebook) *codebook = NULL;
    must(gyre_codebook_new_partitioned(&codebook, GYRE_L2, DIM, 1, seed, NULL, centroids, LISTS, &err));
    must(gyre_partition_probe(codebook, query, NULL, 20, probed, &err));
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(probed[i], i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_assigned_to_the_nearest_centroid),
        cmocka_unit_test(without_centroids_all_is_one_list),
        cmocka_unit_test(few_lists_are_probed_exactly),
        cmocka_unit_test(the_order_of_many_lists_is_nearly_exact),
        cmocka_unit_test(every_list_comes_once_and_the_rotated_query_changes_nothing),
        cmocka_unit_test(equal_lists_come_in_their_order),
    };
    return cmocka_run_group_tests_name("codec.partition", tests, NULL, NULL);
}
