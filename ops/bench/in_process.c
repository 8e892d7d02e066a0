/* in_process: the scan and re-ranking that a search costs a cluster, without the cluster: the same replicas, opened here.
 *
 *   gyre_bench_in_process QUERIES.npy COUNT K NPROBE REPLICA_DIR...
 *
 * For each query, one after the other on one thread: the NPROBE most promising lists (0: all) are chosen, every replica scans
 * them, the best estimates of all are read, then the candidates within the k-th exact distance. That is the work behind
 * gyre.v1.Points/Search over more than one shard; what the search takes beyond it is the price of gRPC, of the bus and of
 * waiting. Prints one JSON line with medians in microseconds. */
#include "gyre/bound.h"
#include "gyre/kmeans.h"
#include "gyre/partition.h"
#include "gyre/simd.h"
#include "scan/scan.h"
#include "vectors.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

/* KEEP and how run_query asks for candidates are those of coordinator/search/search.c (KEEP_FIRST, first_keep), what it reads
 * first that of coordinator/search/merge.c (gy_merge_seeds), CONFIDENCE the default of gyre.v1: a benchmark may not include a
 * coordinator's insides, and it compares like with like only as long as they agree. */
#define CONFIDENCE 0.98
enum { REPLICAS_MAX = 64, KEEP = 384, K_MAX = 64, CANDIDATES_MAX = KEEP + 8 * K_MAX, SEEDS_LESS_SHARE = 10, ROWS_MAX = 100000 };

struct bench {
    gy_store *stores[REPLICAS_MAX];
    gy_points *points[REPLICAS_MAX];
    size_t count;
    uint32_t dim, k, nprobe;
    float epsilon;
    uint32_t *probes; /* [nprobe] of the query under way */
};

static int time_order(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

struct contender {
    gyre_point_id id;
    float estimate, lower;
    size_t replica;
};

static int estimate_order(const void *a, const void *b)
{
    const struct contender *x = a, *y = b;
    return x->estimate < y->estimate ? -1 : x->estimate > y->estimate;
}

static int float_order(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Exact distances of those contenders from first on, before end, that can be within tau; appended to exact. */
static gyre_status read_exact(struct bench *bench, const float *query, const struct contender *contenders, size_t first,
                              size_t end, float tau, float *exact, size_t *exact_count, gyre_error *err)
{
    gyre_point_id ids[CANDIDATES_MAX];
    for (size_t r = 0; r < bench->count; r++) {
        size_t n = 0;
        for (size_t i = first; i < end; i++)
            if (contenders[i].replica == r && contenders[i].lower <= tau)
                ids[n++] = contenders[i].id;
        if (n)
            GY_TRY(gy_points_distances(bench->points[r], query, ids, n, exact + *exact_count, err));
        *exact_count += n;
    }
    return GYRE_OK;
}

static gyre_status scan_all(struct bench *bench, const float *query, struct gy_candidates *found, struct contender *contenders,
                            size_t *count, gyre_error *err)
{
    float rotated[GYRE_DIM_MAX];
    const gyre_codebook *codebook = gy_store_codebook(bench->stores[0]);
    uint32_t version;
    uint64_t seq;
    gyre_rotation_apply(gyre_codebook_rotation(codebook), query, rotated);
    if (bench->nprobe)
        GY_TRY(gyre_partition_probe(codebook, query, rotated, bench->nprobe, bench->probes, err));
    struct gy_scan_request request = {.queries = query, .rotated = rotated, .query_count = 1, .epsilon = bench->epsilon,
        .probes = bench->nprobe ? bench->probes : NULL, .probe_counts = bench->nprobe ? &bench->nprobe : NULL,
        .codebook_version = gyre_codebook_version(codebook), .k = bench->k,
        .keep = KEEP + 8 * ((bench->k + (uint32_t)bench->count - 1) / (uint32_t)bench->count), .deadline_ns = GY_NEVER};
    for (size_t r = 0; r < bench->count; r++) {
        GY_TRY(gy_scan_run(bench->points[r], NULL, NULL, &request, &found[r], &version, &seq, err));
        if (found[r].count > CANDIDATES_MAX)
            return gyre_fail(err, GYRE_INTERNAL, "a scan sent %zu candidates; it was asked for %u", found[r].count, request.keep);
        for (size_t i = 0; i < found[r].count; i++) {
            const struct gy_candidate *item = &found[r].items[i];
            contenders[(*count)++] = (struct contender){item->id, item->estimate, item->estimate - item->half_width, r};
        }
    }
    return GYRE_OK;
}

/* One query; *scan_ns and *rerank_ns are its two parts. found, zeroed, has a place for each replica; its contents are the
 * caller's, also on failure. */
static gyre_status run_query(struct bench *bench, const float *query, struct gy_candidates *found, int64_t *scan_ns,
                             int64_t *rerank_ns, gyre_error *err)
{
    static struct contender contenders[REPLICAS_MAX * CANDIDATES_MAX];
    static float exact[REPLICAS_MAX * CANDIDATES_MAX];
    size_t count = 0, exact_count = 0, seeds;
    int64_t began = gy_now_ns();
    GY_TRY(scan_all(bench, query, found, contenders, &count, err));
    *scan_ns = gy_now_ns() - began;
    qsort(contenders, count, sizeof *contenders, estimate_order);
    seeds = count;
    if (count > bench->k) {
        size_t needed = 0;
        for (size_t i = 0; i < count; i++)
            needed += contenders[i].lower <= contenders[bench->k - 1].estimate;
        seeds = needed - needed / SEEDS_LESS_SHARE;
        seeds = seeds > bench->k ? seeds : bench->k;
    }
    GY_TRY(read_exact(bench, query, contenders, 0, seeds, INFINITY, exact, &exact_count, err));
    qsort(exact, exact_count, sizeof *exact, float_order);
    float tau = exact_count >= bench->k ? exact[bench->k - 1] : INFINITY;
    GY_TRY(read_exact(bench, query, contenders, seeds, count, tau, exact, &exact_count, err));
    *rerank_ns = gy_now_ns() - began - *scan_ns;
    return GYRE_OK;
}

static gyre_status run(struct bench *bench, const float *queries, size_t count, gyre_error *err)
{
    int64_t *total = calloc(3 * count, sizeof *total), *scan = total + count, *rerank = scan + count;
    if (!total)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu times", count);
    gyre_status status = GYRE_OK;
    for (size_t pass = 0; pass < 2; pass++) /* the first warms the caches */
        for (size_t q = 0; status == GYRE_OK && q < count; q++) {
            struct gy_candidates found[REPLICAS_MAX] = {0};
            status = run_query(bench, queries + q * bench->dim, found, &scan[q], &rerank[q], err);
            gy_candidates_free(found, bench->count);
            total[q] = scan[q] + rerank[q];
        }
    if (status == GYRE_OK) {
        qsort(total, count, sizeof *total, time_order);
        qsort(scan, count, sizeof *scan, time_order);
        qsort(rerank, count, sizeof *rerank, time_order);
        printf("{\"queries\": %zu, \"replicas\": %zu, \"simd\": \"%s\", \"p50_us\": %.1f, \"p99_us\": %.1f, \"scan_p50_us\": %.1f, "
               "\"rerank_p50_us\": %.1f}\n", count, bench->count, gyre_simd_name(), (double)total[count / 2] / 1e3,
               (double)total[count * 99 / 100] / 1e3, (double)scan[count / 2] / 1e3, (double)rerank[count / 2] / 1e3);
    }
    free(total);
    return status;
}

static gyre_status read_queries(const char *path, size_t wanted, float **out, size_t *count, uint32_t *dim, gyre_error *err)
{
    gy_vectors *file;
    GY_TRY(gy_vectors_open(&file, path, err));
    *dim = (uint32_t)gy_vectors_dim(file); /* at most GYRE_DIM_MAX, as _open checked */
    *out = malloc(wanted * *dim * sizeof **out);
    gyre_status status = *out ? gy_vectors_read(file, *out, wanted, count, err) : gyre_fail(err, GYRE_NO_MEMORY, "no memory for queries");
    gy_vectors_close(file);
    return status;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    gyre_error err = {0};
    size_t wanted = argc > 4 ? strtoul(argv[2], NULL, 10) : 0, count = 0;
    bench.k = argc > 4 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    bench.nprobe = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    if (argc < 6 || argc - 5 > REPLICAS_MAX || wanted == 0 || wanted > ROWS_MAX || bench.k == 0 || bench.k > K_MAX ||
        bench.nprobe > GYRE_LISTS_MAX) {
        fprintf(stderr, "usage: %s QUERIES COUNT(1-%d) K(1-%d) NPROBE REPLICA_DIR...\n", argv[0], ROWS_MAX, K_MAX);
        return 2;
    }
    float *queries = NULL;
    gy_store_env *env = NULL;
    gyre_status status = sodium_init() < 0 ? gyre_fail(&err, GYRE_INTERNAL, "libsodium does not start") : GYRE_OK;
    if (status == GYRE_OK)
        status = gyre_simd_select(getenv("GYRE_SIMD"), &err);
    if (status == GYRE_OK)
        status = read_queries(argv[1], wanted, &queries, &count, &bench.dim, &err);
    if (status == GYRE_OK)
        status = gy_store_env_new(&env, 32 << 20, &err);
    for (int a = 5; status == GYRE_OK && a < argc; a++) {
        status = gy_store_open(&bench.stores[bench.count], env, argv[a], &err);
        if (status == GYRE_OK)
            status = gy_points_open(&bench.points[bench.count], bench.stores[bench.count], &err);
        bench.count += status == GYRE_OK;
    }
    if (status == GYRE_OK && gy_points_dim(bench.points[0]) != bench.dim)
        status = gyre_fail(&err, GYRE_INVALID, "queries have dim %u, the replicas %u", bench.dim, gy_points_dim(bench.points[0]));
    for (size_t q = 0; status == GYRE_OK && q < count; q++)
        gyre_vector_normalize(gy_points_metric(bench.points[0]), queries + q * bench.dim, queries + q * bench.dim, bench.dim);
    if (status == GYRE_OK && bench.nprobe >= gyre_codebook_lists(gy_store_codebook(bench.stores[0])))
        bench.nprobe = 0;
    bench.probes = malloc(sizeof *bench.probes * (bench.nprobe + 1));
    if (status == GYRE_OK && !bench.probes)
        status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for probes");
    bench.epsilon = gyre_bound_epsilon(CONFIDENCE, bench.dim ? bench.dim : 1);
    if (status == GYRE_OK)
        status = run(&bench, queries, count, &err);
    for (size_t r = 0; r < bench.count; r++)
        gy_points_close(bench.points[r]), gy_store_close(bench.stores[r]);
    gy_store_env_free(env);
    free(queries);
    free(bench.probes);
    if (status != GYRE_OK)
        fprintf(stderr, "%s: %s\n", argv[0], err.text);
    return status == GYRE_OK ? 0 : 1;
}
