/* bench_kmeans: how near finding the nearest of k centroids comes to the multiply-adds it takes.
 *
 *   codec_bench_kmeans [dim, default 768] [k, default 1024] [runs, default 7]
 *
 * One thread. First row the ceiling: fused multiply-adds in registers, as many as a product of the vectors with the centroids
 * takes. Then OpenBLAS's sgemm, alone and with a plain search for the largest, the usual way, if it was there at configure time
 * (both leave out the checks and the care for rounding); then gyre_kmeans_assign by every table. Rates are vectors a second.
 * Below, training. */
#include "bench.h"
#include "gyre/kmeans.h"
#include "kernels/kernels.h"

#ifdef GY_BENCH_CBLAS
#include <cblas.h>
#endif
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { VECTORS = 3072, CONTENDERS_MAX = 16 };

struct work {
    const float *vectors, *rows;
    uint32_t dim;
    size_t count, k;
    const gyre_centroids *centroids;
    float *products, *half_norms;
    uint32_t *list_ids;
    float sink[16];
};

/* Sixteen chains abreast hide the latency of four cycles. */
#define MULTIPLY_ADDS(vector, zero, load, fma, store, lanes)                                             \
    do {                                                                                                 \
        vector sums[16], factor = load(work->vectors);                                                   \
        for (int s = 0; s < 16; s++)                                                                     \
            sums[s] = zero();                                                                            \
        for (size_t i = 0, rounds = work->count * work->k * work->dim / (16 * (lanes)); i < rounds; i++) \
            for (int s = 0; s < 16; s++)                                                                 \
                sums[s] = fma(factor, factor, sums[s]);                                                  \
        for (int s = 0; s < 16; s++)                                                                     \
            __asm__ volatile("" : : "v"(sums[s]));                                                       \
    } while (0)

#ifdef __x86_64__
__attribute__((target("avx512f"))) static void multiply_adds_512(const struct work *work)
{
    MULTIPLY_ADDS(__m512, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_fmadd_ps, _mm512_storeu_ps, 16);
}

__attribute__((target("avx2,fma"))) static void multiply_adds_256(const struct work *work)
{
    MULTIPLY_ADDS(__m256, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_fmadd_ps, _mm256_storeu_ps, 8);
}
#endif

static void multiply_adds(const struct work *work)
{
    volatile float sink;
    float sums[64] = {0};
    for (size_t i = 0, rounds = work->count * work->k * work->dim / 64; i < rounds; i++)
        for (size_t s = 0; s < 64; s++)
            sums[s] += work->vectors[s] * work->vectors[0];
    for (size_t s = 0; s < 64; s++)
        sink = sums[s];
    (void)sink;
}

static void run_multiply_adds(void *arg)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        multiply_adds_512(arg);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        multiply_adds_256(arg);
        return;
    }
#endif
    multiply_adds(arg);
}

#ifdef GY_BENCH_CBLAS
void openblas_set_num_threads(int count);

/* In blocks, so that the products stay in the cache. */
enum { BLOCK = 384 };

static void run_sgemm(void *arg)
{
    const struct work *work = arg;
    for (size_t v = 0; v < work->count; v += BLOCK)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)(work->count - v < BLOCK ? work->count - v : BLOCK),
                    (int)work->k, (int)work->dim, 1, work->vectors + v * work->dim, (int)work->dim, work->rows, (int)work->dim, 0,
                    work->products, (int)work->k);
}

static void run_blas(void *arg)
{
    struct work *work = arg;
    for (size_t v = 0; v < work->count; v += BLOCK) {
        size_t count = work->count - v < BLOCK ? work->count - v : BLOCK;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)count, (int)work->k, (int)work->dim, 1,
                    work->vectors + v * work->dim, (int)work->dim, work->rows, (int)work->dim, 0, work->products, (int)work->k);
        for (size_t i = 0; i < count; i++) {
            const float *products = work->products + i * work->k;
            size_t best = 0;
            for (size_t c = 1; c < work->k; c++)
                if (products[c] - work->half_norms[c] > products[best] - work->half_norms[best])
                    best = c;
            work->list_ids[v + i] = (uint32_t)best;
        }
    }
}
#endif

static void run_assign(void *arg)
{
    struct work *work = arg;
    if (gyre_kmeans_assign(work->centroids, work->vectors, work->count, 0, work->list_ids, NULL, NULL) != GYRE_OK)
        abort();
}

static void run_nearest(void *arg) /* as a query is probed: one by one, 32 lists */
{
    struct work *work = arg;
    uint32_t lists[32];
    size_t m = work->k < 32 ? work->k : 32;
    for (size_t v = 0; v < work->count; v++)
        if (gyre_kmeans_nearest(work->centroids, work->vectors + v * work->dim, 1, 0, m, lists, NULL, NULL) != GYRE_OK)
            abort();
}

static void add(struct bench_contender *contenders, size_t *count, const char *name, const char *table, void (*run)(void *),
                struct work *work)
{
    struct bench_contender *contender = &contenders[(*count)++];
    snprintf(contender->name, sizeof contender->name, "%s", name);
    snprintf(contender->table, sizeof contender->table, "%s", table);
    contender->run = run;
    contender->work = work;
}

static void bench_assign(struct work *work, struct work *few, size_t runs)
{
    static struct bench_contender contenders[CONTENDERS_MAX];
    size_t count = 0;
    add(contenders, &count, "multiply-adds", "", run_multiply_adds, work);
#ifdef GY_BENCH_CBLAS
    openblas_set_num_threads(1);
    add(contenders, &count, "sgemm alone", "", run_sgemm, work);
    add(contenders, &count, "sgemm, largest", "", run_blas, work);
#endif
    for (size_t k = 1; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here())
            add(contenders, &count, "assign", gy_kernels_all[k]->name, run_assign, work);
    add(contenders, &count, "assign", "ref", run_assign, few);
    add(contenders, &count, "32 nearest, singly", "", run_nearest, few);
    bench_measure(contenders, count, runs);
    printf("%-20s %-10s %12s %11s %11s %9s %9s %22s\n", "what", "table", "vectors/s", "least", "most", "GFMA/s", "ratio",
           "of the multiply-adds");
    for (size_t c = 0; c < count; c++) {
        const struct bench_contender *contender = &contenders[c];
        const struct work *done = contender->work;
        double vectors = (double)done->count, share = vectors / (double)work->count, *seconds = contenders[c].seconds;
        printf("%-20s %-10s %12.0f %11.0f %11.0f %9.1f %9.3f       (%.3f, %.3f)\n", contender->name, contender->table,
               vectors / seconds[runs / 2], vectors / seconds[runs - 1], vectors / seconds[0],
               vectors * (double)done->k * done->dim / seconds[runs / 2] * 1e-9, contender->ratios[runs / 2] * share,
               contender->ratios[0] * share, contender->ratios[runs - 1] * share);
    }
}

static void bench_train(const struct work *work, float *rows)
{
    gyre_kmeans_options options = {.seed = {1}};
    gyre_kmeans_progress result;
    gyre_error err = {0};
    size_t n = 64 * VECTORS;
    float *vectors = bench_alloc(n * work->dim * sizeof *vectors);
    uint64_t random = 2;
    for (size_t i = 0; i < n; i++) /* 500 groups */
        for (uint32_t j = 0; j < work->dim; j++)
            vectors[i * work->dim + j] =
                work->vectors[i % 500 * work->dim + j] + (float)((double)(bench_random(&random) >> 40) * 0x1p-24);
    double start = bench_now_s();
    if (gyre_kmeans_train(&options, vectors, n, work->dim, work->k, rows, &result, &err) != GYRE_OK) {
        fprintf(stderr, "codec_bench_kmeans: %s\n", err.text);
        exit(1);
    }
    double seconds = bench_now_s() - start;
    printf("\ntraining  %zu lists from a sample of %zu: %.1f s, %u assignments of the sample, %.0f vectors/s in each; "
           "largest list %.2f times the mean\n",
           work->k, result.sample, seconds, result.iteration, (double)result.sample * result.iteration / seconds,
           (double)result.largest_list * (double)work->k / (double)result.sample);
    free(vectors);
}

int main(int argc, char **argv)
{
    struct work work = {.dim = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 768, .count = VECTORS};
    work.k = argc > 2 ? strtoul(argv[2], NULL, 10) : 1024;
    size_t runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 7;
    if (work.dim == 0 || work.dim > GYRE_DIM_MAX || work.k == 0 || work.k > VECTORS || runs == 0 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_kmeans [dim] [k, 1 to %d] [runs, 1 to %d]\n", VECTORS, BENCH_RUNS_MAX);
        return 2;
    }
    bench_print_machine(SOURCE_DIR);
    printf("work      %d Gaussian vectors, dim %u, %zu centroids, one thread, %zu runs\n\n", VECTORS, work.dim, work.k, runs);
    float *vectors = bench_alloc(VECTORS * work.dim * sizeof(float)), *rows = bench_alloc(work.k * work.dim * sizeof(float));
    uint64_t random = 1;
    for (size_t i = 0; i < (size_t)VECTORS * work.dim; i++)
        vectors[i] = (float)bench_normal(&random);
    for (size_t i = 0; i < work.k * work.dim; i++)
        rows[i] = (float)(0.3 * bench_normal(&random)); /* means are shorter than vectors */
    work.vectors = vectors, work.rows = rows;
    work.products = bench_alloc((size_t)384 * work.k * sizeof(float));
    work.half_norms = bench_alloc(work.k * sizeof(float));
    for (size_t c = 0; c < work.k; c++) {
        work.half_norms[c] = 0;
        for (uint32_t i = 0; i < work.dim; i++)
            work.half_norms[c] += rows[c * work.dim + i] * rows[c * work.dim + i] / 2;
    }
    work.list_ids = bench_alloc(VECTORS * sizeof *work.list_ids);
    GY_AUTO(gyre_centroids) *centroids = NULL;
    gyre_error err = {0};
    if (gyre_centroids_new(&centroids, rows, work.k, work.dim, &err) != GYRE_OK) {
        fprintf(stderr, "codec_bench_kmeans: %s\n", err.text);
        return 1;
    }
    work.centroids = centroids;
    struct work few = work;
    few.count = 48;
    bench_assign(&work, &few, runs);
    bench_train(&work, rows);
    free(vectors), free(rows), free(work.products), free(work.half_norms), free(work.list_ids);
    return 0;
}
