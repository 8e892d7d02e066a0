/* bench_scan: how near a scan of 1-bit codes comes to merely reading them.
 *
 *   codec_bench_scan [MiB of codes, default 2048] [runs, default 7]
 *
 * One thread. For each dim the first row is the ceiling: a plain read of the same bytes, taking turns with the scans. A scan
 * keeps the 100 least lower bounds seen so far, as a search does, and goes through the codes 32 blocks at a time. The codes are those
 * of uniform sphere vectors: random signs, and the factors such vectors have. Take a size well above the L3 cache. */
#include "gyre/simd.h"
#include "layout.h"
#include "query_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { BEST = 100, CHUNK_BLOCKS = 32, RUNS_MAX = 99 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double random_normal(uint64_t *state)
{
    double u = ((double)(random_next(state) >> 11) + 1) * 0x1p-53, v = (double)(random_next(state) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* The ceiling: every cache line loaded and folded into a sum that is used; fetched ahead like the scans, which is faster. */
enum { FETCH_AHEAD_BYTES = 2048 };

static inline void fetch_ahead(const uint8_t *data) { __builtin_prefetch((const void *)((uintptr_t)data + FETCH_AHEAD_BYTES)); }

static uint64_t read_words(const uint8_t *data, size_t bytes)
{
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < bytes; i += 64)
        for (size_t w = 0; w < 8; w++) {
            uint64_t word;
            memcpy(&word, data + i + 8 * w, 8);
            sum[w] += word;
        }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}
#ifdef __x86_64__
__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *data, size_t bytes)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 256 <= bytes; i += 256) {
        for (size_t line = 0; line < 256; line += 64)
            fetch_ahead(data + i + line);
        a = _mm512_add_epi64(a, _mm512_load_si512(data + i));
        b = _mm512_add_epi64(b, _mm512_load_si512(data + i + 64));
        c = _mm512_add_epi64(c, _mm512_load_si512(data + i + 128));
        d = _mm512_add_epi64(d, _mm512_load_si512(data + i + 192));
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d))) +
           read_words(data + i, bytes - i);
}
__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *data, size_t bytes)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 128 <= bytes; i += 128) {
        fetch_ahead(data + i), fetch_ahead(data + i + 64);
        a = _mm256_add_epi64(a, _mm256_load_si256((const __m256i *)(data + i)));
        b = _mm256_add_epi64(b, _mm256_load_si256((const __m256i *)(data + i + 32)));
        c = _mm256_add_epi64(c, _mm256_load_si256((const __m256i *)(data + i + 64)));
        d = _mm256_add_epi64(d, _mm256_load_si256((const __m256i *)(data + i + 96)));
    }
    uint64_t word[4];
    _mm256_storeu_si256((__m256i *)word, _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
    return word[0] + word[1] + word[2] + word[3] + read_words(data + i, bytes - i);
}
#endif

struct bench {
    uint32_t dim;
    uint8_t *blocks;
    size_t block_count, block_bytes;
    gyre_query *query;
    uint64_t sink; /* printed, so that no read can be left out */
};

typedef void run_function(struct bench *bench, const gy_kernels *kernels);

static void run_read(struct bench *bench, const gy_kernels *kernels)
{
    (void)kernels;
    size_t bytes = bench->block_count * bench->block_bytes;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        bench->sink += read_avx512(bench->blocks, bytes);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        bench->sink += read_avx2(bench->blocks, bytes);
        return;
    }
#endif
    bench->sink += read_words(bench->blocks, bytes);
}

/* Replaces the largest of a max-heap. */
static void heap_replace(float heap[BEST], float value)
{
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < BEST; i = child) {
        if (child + 1 < BEST && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= value)
            break;
        heap[i] = heap[child];
    }
    heap[i] = value;
}

static void run_scan(struct bench *bench, const gy_kernels *kernels)
{
    float heap[BEST];
    for (size_t i = 0; i < BEST; i++)
        heap[i] = INFINITY;
    gyre_hit hits[CHUNK_BLOCKS * GYRE_BLOCK_ROWS];
    for (size_t b = 0; b < bench->block_count; b += CHUNK_BLOCKS) {
        size_t count = bench->block_count - b < CHUNK_BLOCKS ? bench->block_count - b : CHUNK_BLOCKS;
        size_t found = gy_query_scan_with(kernels, bench->query, bench->blocks + b * bench->block_bytes, count, heap[0], hits);
        bench->sink += found;
        for (size_t h = 0; h < found; h++)
            if (hits[h].estimate - hits[h].half_width < heap[0])
                heap_replace(heap, hits[h].estimate - hits[h].half_width);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct contender {
    const char *name;
    run_function *run;
    const gy_kernels *kernels;
    double seconds[RUNS_MAX], ratios[RUNS_MAX];
};

/* Every run times each contender once, right after one another, so that what else the machine does hits all of them; ratios
 * are taken within a run. The first contender is the ceiling. */
static void measure(struct bench *bench, struct contender *contenders, size_t count, size_t runs)
{
    for (size_t r = 0; r < runs; r++)
        for (size_t c = 0; c < count; c++) {
            double start = now_s();
            contenders[c].run(bench, contenders[c].kernels);
            contenders[c].seconds[r] = now_s() - start;
            contenders[c].ratios[r] = contenders[0].seconds[r] / contenders[c].seconds[r];
        }
    double bytes = (double)(bench->block_count * bench->block_bytes), rows = (double)(bench->block_count * GYRE_BLOCK_ROWS);
    for (size_t c = 0; c < count; c++) {
        double *seconds = contenders[c].seconds, *ratios = contenders[c].ratios;
        qsort(seconds, runs, sizeof *seconds, by_value);
        qsort(ratios, runs, sizeof *ratios, by_value);
        printf("%5u  %-8s %9.1f %8.2f %8.2f %8.2f %10.3f %7.3f %7.3f\n", bench->dim, contenders[c].name,
               rows / seconds[runs / 2] * 1e-6, bytes / seconds[runs / 2] * 1e-9, bytes / seconds[runs - 1] * 1e-9,
               bytes / seconds[0] * 1e-9, ratios[runs / 2], ratios[0], ratios[runs - 1]);
    }
    fflush(stdout);
}

/* Blocks of uniform sphere vectors around the origin, l2. */
static void fill(struct bench *bench, uint64_t *random)
{
    size_t code_bytes = gy_sign_bytes(bench->dim);
    double rho = sqrt(2 * bench->dim / M_PI), kappa = sqrt(bench->dim / (rho * rho) - 1);
    float s = (float)(1 / rho), e = (float)(kappa / sqrt(bench->dim - 1.0));
    uint32_t e_bits;
    memcpy(&e_bits, &e, sizeof e_bits);
    uint8_t row[GYRE_DIM_MAX / 8 + GY_ROW_FACTOR_BYTES] = {0};
    gy_store_f32(row + code_bytes + GY_ROW_S, s);
    gy_store_f32(row + code_bytes + GY_ROW_ADD, 1);
    gy_store_f32(row + code_bytes + GY_ROW_R2, 1);
    gy_store_u16(row + code_bytes + GY_ROW_E, (uint16_t)((e_bits >> 16) + 1));
    for (size_t b = 0; b < bench->block_count; b++) {
        uint8_t *block = bench->blocks + b * bench->block_bytes;
        if (b == 0) {
            gyre_block_init(code_bytes, block);
            for (size_t place = 0; place < GYRE_BLOCK_ROWS; place++)
                gyre_block_set(code_bytes, block, place, row);
        } else
            memcpy(block, bench->blocks, bench->block_bytes);
        for (size_t i = 0; i < code_bytes * GYRE_BLOCK_ROWS; i += 8)
            gy_store_u64(block + i, random_next(random));
    }
}

static void print_machine(void)
{
    char line[256], model[256] = "unknown\n", commit[64] = "unknown\n";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(model, sizeof model, "%s", strchr(line, ':') + 2);
            break;
        }
    if (file)
        fclose(file);
    FILE *git = popen("git -C " SOURCE_DIR " describe --always --dirty 2>/dev/null", "r");
    if (git && !fgets(commit, sizeof commit, git))
        snprintf(commit, sizeof commit, "unknown\n");
    if (git)
        pclose(git);
    printf("machine   %scompiler  %s\ncommit    %stable     %s picked here\n", model, __VERSION__, commit, gyre_simd_name());
}

static int bench_dim(uint32_t dim, size_t mib, size_t runs, uint64_t *sink)
{
    struct bench bench = {.dim = dim, .block_bytes = gyre_block_bytes(gy_sign_bytes(dim))};
    bench.block_count = (mib << 20) / bench.block_bytes;
    size_t bytes = bench.block_count * bench.block_bytes;
    bench.blocks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bench.blocks == MAP_FAILED) {
        fprintf(stderr, "codec_bench_scan: no %zu MiB of memory\n", mib);
        return 1;
    }
    uint64_t random = dim;
    fill(&bench, &random);

    float query[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        query[i] = (float)random_normal(&random);
    gyre_vector_normalize(GYRE_COSINE, query, query, dim);
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    gyre_error err;
    gyre_codebook *codebook = NULL;
    gyre_quantizer *quantizer = NULL;
    const gyre_codec *codec = NULL;
    const gyre_query_options options = {.epsilon = gyre_bound_epsilon(0.9715, dim)};
    int failed = gyre_codebook_new(&codebook, GYRE_L2, dim, 1, seed, NULL, &err) != GYRE_OK ||
                 gyre_codec_find(&codec, "rabitq1", &err) != GYRE_OK ||
                 gyre_quantizer_new(&quantizer, codec, codebook, &err) != GYRE_OK ||
                 gyre_query_new(&bench.query, quantizer, query, NULL, &options, &err) != GYRE_OK;
    if (failed)
        fprintf(stderr, "codec_bench_scan: %s\n", err.text);
    else {
        struct contender contenders[8] = {{.name = "read", .run = run_read}};
        size_t count = 1;
        for (size_t k = 0; gy_kernels_all[k] && count < sizeof contenders / sizeof *contenders; k++)
            if (gy_kernels_all[k]->runs_here())
                contenders[count++] =
                    (struct contender){.name = gy_kernels_all[k]->name, .run = run_scan, .kernels = gy_kernels_all[k]};
        measure(&bench, contenders, count, runs);
    }
    *sink += bench.sink;
    gyre_query_free(bench.query);
    gyre_quantizer_free(quantizer);
    gyre_codebook_free(codebook);
    munmap(bench.blocks, bytes);
    return failed;
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 2048;
    size_t runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 7;
    if (mib == 0 || mib > 1 << 20 || runs == 0 || runs > RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_scan [MiB of codes] [runs, 1 to %d]\n", RUNS_MAX);
        return 2;
    }
    print_machine();
    printf("codes     %zu MiB per dim, %zu runs, one thread, l2, best %d kept\n\n", mib, runs, BEST);
    printf("  dim  table     Mcodes/s     GB/s      min      max      ratio     min     max\n");
    uint64_t sink = 0;
    int failed = 0;
    for (size_t i = 0; i < 2; i++)
        failed |= bench_dim((const uint32_t[]){128, 768}[i], mib, runs, &sink);
    printf("\nsink %016llx\n", (unsigned long long)sink);
    return failed;
}
