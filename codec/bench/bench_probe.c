/* bench_probe: what a query of a partitioned collection costs before it scans: which lists, and being moved to each of them.
 *
 *   codec_bench_probe [dim, default 768] [lists, default 4096] [m, default 128] [runs, default 9]
 *
 * One thread, microseconds a query; a run is all queries. First row the plain way: all distances and the m nearest by a sort of
 * them (the sort is not counted). Data vary in 32 directions about 200 clusters and a little in all others, and centroids are
 * learned from them. Below, how many of the true first m a probe returns. */
#include "bench.h"
#include "gyre/kmeans.h"
#include "gyre/partition.h"
#include "gyre/query.h"

enum { QUERIES = 100, CLUSTERS = 200, DIRECTIONS = 32, SAMPLE_PER_LIST = 16 };

struct work {
    uint32_t dim, lists;
    size_t m;
    gyre_codebook *codebook;
    const float *queries, *rotated; /* [QUERIES][dim] */
    gyre_query *moved[QUERIES];
    uint32_t *probed; /* [m] */
    float *distances; /* [lists] */
};

static void must(gyre_status status, const gyre_error *err)
{
    if (status == GYRE_OK)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void make_vectors(float *out, size_t n, uint32_t dim, uint64_t *random)
{
    float *clusters = bench_alloc(CLUSTERS * dim * sizeof(float)), *directions = bench_alloc(DIRECTIONS * dim * sizeof(float));
    for (size_t i = 0; i < (size_t)CLUSTERS * dim; i++)
        clusters[i] = (float)(.7 * bench_normal(random) / sqrt(dim));
    for (size_t i = 0; i < (size_t)DIRECTIONS * dim; i++)
        directions[i] = (float)(bench_normal(random) / sqrt(dim));
    for (size_t i = 0; i < n; i++) {
        const float *cluster = clusters + bench_random(random) % CLUSTERS * dim;
        float *vector = out + i * dim, noise = (float)(.3 / sqrt(dim));
        for (uint32_t j = 0; j < dim; j++)
            vector[j] = cluster[j] + noise * ((float)(bench_random(random) >> 40) * 0x1p-23f - 1);
        for (size_t d = 0; d < DIRECTIONS; d++) {
            float along = (float)(bench_normal(random) / sqrt(DIRECTIONS));
            for (uint32_t j = 0; j < dim; j++)
                vector[j] += along * directions[d * dim + j];
        }
    }
    free(clusters), free(directions);
}

static void run_distances(void *arg)
{
    struct work *work = arg;
    for (size_t q = 0; q < QUERIES; q++)
        for (uint32_t list = 0; list < work->lists; list++)
            work->distances[list] =
                gyre_distance(GYRE_L2, gyre_codebook_centroid(work->codebook, list), work->queries + q * work->dim, work->dim);
}

static void run_probe(void *arg)
{
    struct work *work = arg;
    gyre_error err;
    for (size_t q = 0; q < QUERIES; q++)
        must(gyre_partition_probe(work->codebook, work->queries + q * work->dim, work->rotated + q * work->dim, work->m,
                                  work->probed, &err),
             &err);
}

static void run_move(void *arg)
{
    struct work *work = arg;
    for (size_t q = 0; q < QUERIES; q++)
        for (size_t i = 0; i < work->m; i++)
            gyre_query_move(work->moved[q], gyre_codebook_centroid(work->codebook, (uint32_t)i));
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double recall(struct work *work)
{
    size_t found = 0;
    gyre_error err;
    for (size_t q = 0; q < QUERIES; q++) {
        const float *query = work->queries + q * work->dim;
        for (uint32_t list = 0; list < work->lists; list++)
            work->distances[list] = gyre_distance(GYRE_L2, gyre_codebook_centroid(work->codebook, list), query, work->dim);
        qsort(work->distances, work->lists, sizeof(float), by_value);
        must(gyre_partition_probe(work->codebook, query, NULL, work->m, work->probed, &err), &err);
        for (size_t i = 0; i < work->m; i++)
            found += gyre_distance(GYRE_L2, gyre_codebook_centroid(work->codebook, work->probed[i]), query, work->dim) <=
                     work->distances[work->m - 1];
    }
    return (double)found / (double)(QUERIES * work->m);
}

int main(int argc, char **argv)
{
    uint32_t dim = argc > 1 ? (uint32_t)atoi(argv[1]) : 768, lists = argc > 2 ? (uint32_t)atoi(argv[2]) : 4096;
    size_t m = argc > 3 ? (size_t)atoi(argv[3]) : 128, runs = argc > 4 ? (size_t)atoi(argv[4]) : 9;
    if (dim < 1 || dim > GYRE_DIM_MAX || lists < 1 || m < 1 || m > lists || runs < 1 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_probe [dim] [lists] [m] [runs]\n");
        return 2;
    }
    uint64_t random = 1;
    gyre_error err;
    size_t n = (size_t)lists * SAMPLE_PER_LIST;
    float *vectors = bench_alloc((n + QUERIES) * dim * sizeof(float)),
          *centroids = bench_alloc((size_t)lists * dim * sizeof(float));
    float *mean = calloc(dim, sizeof *mean), *rotated = bench_alloc((size_t)QUERIES * dim * sizeof(float));
    make_vectors(vectors, n + QUERIES, dim, &random);
    must(gyre_kmeans_train(&(gyre_kmeans_options){.iterations_max = 5}, vectors, n, dim, lists, centroids, NULL, &err), &err);
    for (size_t i = 0; mean && i < (size_t)lists * dim; i++)
        mean[i % dim] += centroids[i] / (float)lists;
    struct work work = {.dim = dim, .lists = lists, .m = m, .queries = vectors + n * dim, .rotated = rotated};
    work.probed = bench_alloc(m * sizeof *work.probed), work.distances = bench_alloc(lists * sizeof(float));
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    double start = bench_now_s();
    must(gyre_codebook_new_partitioned(&work.codebook, GYRE_L2, dim, 1, seed, mean, centroids, lists, &err), &err);
    double made = bench_now_s() - start;
    const gyre_codec *codec = NULL;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gyre_codec_find(&codec, "rabitq1", &err), &err);
    must(gyre_quantizer_new(&quantizer, codec, work.codebook, &err), &err);
    for (size_t q = 0; q < QUERIES; q++) {
        gyre_rotation_apply(gyre_codebook_rotation(work.codebook), work.queries + q * dim, rotated + q * dim);
        must(gyre_query_new(&work.moved[q], quantizer, work.queries + q * dim, NULL, &(gyre_query_options){.epsilon = 2}, &err),
             &err);
    }

    struct bench_contender contenders[] = {{.name = "all distances", .run = run_distances, .work = &work},
                                           {.name = "probe", .run = run_probe, .work = &work},
                                           {.name = "a move to each of the m", .run = run_move, .work = &work}};
    enum { CONTENDERS = sizeof contenders / sizeof *contenders };
    bench_print_machine(SOURCE_DIR);
    bench_measure(contenders, CONTENDERS, runs);
    printf("\ndim %u, %u lists, m = %zu\n", dim, lists, m);
    for (size_t c = 0; c < CONTENDERS; c++)
        printf("%-24s %9.1f us   %6.2f\n", contenders[c].name, contenders[c].seconds[runs / 2] / QUERIES * 1e6,
               contenders[c].ratios[runs / 2]);
    printf("codebook made in %.1f ms; of the true first %zu a probe returns %.4f\n", made * 1e3, m, recall(&work));
    for (size_t q = 0; q < QUERIES; q++)
        gyre_query_free(work.moved[q]);
    gyre_codebook_free(work.codebook);
    free(vectors), free(centroids), free(mean), free(rotated), free(work.probed), free(work.distances);
    return 0;
}
