/* bench_extended: Extended RaBitQ: how near estimating rows comes to merely reading them, and what the search for the best
 * scale is worth.
 *
 *   codec_bench_extended [MiB of rows, default 512] [runs, default 7]
 *
 * One thread. Estimates: rows of Gaussian vectors in memory, in order, every one estimated, the query a float or rounded to 8
 * bits. The ceiling is a read of the same bytes that fetches ahead. Recall: 20,000 vectors in 200 clusters, 200 queries near
 * them, recall@10 by codes alone, of the exact and of the fast encoder. How fast each encodes: codec_bench_encode. */
#include "bench.h"
#include "gyre/query.h"
#include "kernels/kernels.h"

enum { SAMPLE = 4096, CHUNK = 1024, CONTENDERS_MAX = 16, AHEAD_BYTES = 2048 };

struct work {
    const uint8_t *rows;
    size_t row_bytes, count;
    const gyre_query *query;
    uint64_t sink;
};

static void check(gyre_status status, const gyre_error *err)
{
    if (status != GYRE_OK) {
        fprintf(stderr, "codec_bench_extended: %s\n", err->text);
        exit(1);
    }
}

static gyre_quantizer *new_quantizer(const char *name, const gyre_codebook *codebook)
{
    const gyre_codec *codec;
    gyre_quantizer *quantizer;
    gyre_error err;
    check(gyre_codec_find(&codec, name, &err), &err);
    check(gyre_quantizer_new(&quantizer, codec, codebook, &err), &err);
    return quantizer;
}

static gyre_query *new_query(const gyre_quantizer *quantizer, const float *vector, uint8_t refine_bits)
{
    gyre_query *query;
    gyre_error err;
    gyre_query_options options = {.epsilon = 1.9f, .refine_bits = refine_bits};
    check(gyre_query_new(&query, quantizer, vector, NULL, &options, &err), &err);
    return query;
}

static void run_read(void *arg)
{
    struct work *work = arg;
    uint64_t sum[8] = {0};
    const uint8_t *end = work->rows + work->row_bytes * work->count / 64 * 64;
    for (const uint8_t *at = work->rows; at < end; at += 64) {
        __builtin_prefetch((const void *)((uintptr_t)at + AHEAD_BYTES));
        for (size_t w = 0; w < 8; w++)
            sum[w] += gy_load_u64(at + 8 * w);
    }
    for (size_t w = 0; w < 8; w++)
        work->sink ^= sum[w];
}

static void run_estimate(void *arg)
{
    struct work *work = arg;
    const uint8_t *rows[CHUNK];
    gyre_estimate out[CHUNK];
    for (size_t i = 0; i < work->count; i += CHUNK) {
        size_t n = work->count - i < CHUNK ? work->count - i : CHUNK;
        for (size_t j = 0; j < n; j++)
            rows[j] = work->rows + (i + j) * work->row_bytes;
        gyre_query_estimate(work->query, rows, n, out);
        work->sink += (uint64_t)(out[n - 1].distance > 0);
    }
}

static void bench_estimates(const char *name, uint32_t dim, size_t mib, size_t runs)
{
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    gyre_codebook *codebook;
    gyre_error err;
    check(gyre_codebook_new(&codebook, GYRE_L2, dim, 1, seed, NULL, &err), &err);
    gyre_quantizer *quantizer = new_quantizer(name, codebook);
    uint64_t random = dim;
    float *vectors = bench_alloc(SAMPLE * dim * sizeof *vectors);
    for (size_t i = 0; i < SAMPLE * dim; i++)
        vectors[i] = (float)bench_normal(&random);
    struct work work = {.row_bytes = gyre_codec_row_bytes(gyre_quantizer_codec(quantizer), dim)};
    work.count = (mib << 20) / work.row_bytes / SAMPLE * SAMPLE;
    uint8_t *rows = bench_alloc(work.count * work.row_bytes);
    check(gyre_quantizer_encode(quantizer, vectors, SAMPLE, 0, rows, &err), &err);
    for (size_t i = SAMPLE; i < work.count; i += SAMPLE)
        memcpy(rows + i * work.row_bytes, rows, SAMPLE * work.row_bytes);
    work.rows = rows;
    gyre_query *queries[2] = {new_query(quantizer, vectors, 0), new_query(quantizer, vectors, 8)};
    struct work works[2] = {work, work};
    struct bench_contender contenders[CONTENDERS_MAX] = {{.name = "read", .run = run_read, .work = &work}};
    size_t count = 1;
    for (size_t q = 0; q < 2; q++) {
        works[q].query = queries[q];
        for (size_t k = 0; gy_kernels_all[k]; k++)
            if (gy_kernels_all[k]->runs_here() && count < CONTENDERS_MAX) {
                struct bench_contender *contender = &contenders[count++];
                *contender = (struct bench_contender){.run = run_estimate, .work = &works[q]};
                snprintf(contender->name, sizeof contender->name, q ? "8-bit query" : "float query");
                snprintf(contender->table, sizeof contender->table, "%s", gy_kernels_all[k]->name);
            }
    }
    bench_measure(contenders, count, runs);
    for (size_t c = 0; c < count; c++) {
        const double *seconds = contenders[c].seconds, *ratios = contenders[c].ratios;
        double rate = (double)work.count * 1e-6;
        printf("%-8s %5u  %-12s %-11s %8.2f %8.2f %8.2f  ", name, dim, contenders[c].name, contenders[c].table,
               rate / seconds[runs / 2], rate / seconds[runs - 1], rate / seconds[0]);
        printf("%7.3f (%.3f, %.3f)\n", ratios[runs / 2], ratios[0], ratios[runs - 1]);
    }
    for (size_t q = 0; q < 2; q++)
        gyre_query_free(queries[q]);
    gyre_quantizer_free(quantizer);
    gyre_codebook_free(codebook);
    free(vectors), free(rows);
}

enum { VECTORS = 20000, CLUSTERS = 200, QUERIES = 200, BEST = 10 };

/* A cluster's centre is a Gaussian vector, its members lie half as far from it, more along some coordinates than along others. */
static void fill_member(float *out, const float *centres, uint32_t dim, uint64_t *random)
{
    const float *centre = centres + bench_random(random) % CLUSTERS * dim;
    for (uint32_t i = 0; i < dim; i++)
        out[i] = centre[i] + (i % 8 ? .4f : 1.0f) * (float)bench_normal(random);
}

static void insert(float *distances, uint32_t *ids, float distance, uint32_t id)
{
    if (!(distance < distances[BEST - 1]))
        return;
    size_t at = BEST - 1;
    for (; at > 0 && distance < distances[at - 1]; at--)
        distances[at] = distances[at - 1], ids[at] = ids[at - 1];
    distances[at] = distance, ids[at] = id;
}

struct data {
    uint32_t dim;
    gyre_codebook *codebook;
    float *vectors, *queries;
    uint32_t (*truth)[BEST];
};

static void data_init(struct data *data, uint32_t dim)
{
    uint64_t random = 17 + dim;
    const uint8_t seed[GYRE_SEED_BYTES] = {2};
    float *centres = bench_alloc((size_t)CLUSTERS * dim * sizeof *centres), *mean = calloc(dim, sizeof *mean);
    if (!mean)
        abort();
    *data = (struct data){.dim = dim,
                          .vectors = bench_alloc((size_t)VECTORS * dim * sizeof(float)),
                          .queries = bench_alloc((size_t)QUERIES * dim * sizeof(float)),
                          .truth = bench_alloc(QUERIES * sizeof *data->truth)};
    for (size_t i = 0; i < (size_t)CLUSTERS * dim; i++)
        centres[i] = (float)bench_normal(&random);
    for (size_t v = 0; v < VECTORS; v++)
        fill_member(data->vectors + v * dim, centres, dim, &random);
    for (size_t v = 0; v < VECTORS; v++)
        for (uint32_t i = 0; i < dim; i++)
            mean[i] += data->vectors[v * dim + i] / VECTORS;
    for (size_t q = 0; q < QUERIES; q++) {
        float *query = data->queries + q * dim, distances[BEST];
        fill_member(query, centres, dim, &random);
        for (size_t b = 0; b < BEST; b++)
            distances[b] = INFINITY;
        for (uint32_t v = 0; v < VECTORS; v++)
            insert(distances, data->truth[q], gyre_distance(GYRE_L2, data->vectors + v * dim, query, dim), v);
    }
    gyre_error err;
    check(gyre_codebook_new(&data->codebook, GYRE_L2, dim, 1, seed, mean, &err), &err);
    free(centres), free(mean);
}

static void data_fini(struct data *data)
{
    gyre_codebook_free(data->codebook);
    free(data->vectors), free(data->queries), free(data->truth);
}

static double recall(const struct data *data, const char *name)
{
    gyre_quantizer *quantizer = new_quantizer(name, data->codebook);
    gyre_error err;
    size_t row_bytes = gyre_codec_row_bytes(gyre_quantizer_codec(quantizer), data->dim), found = 0;
    uint8_t *rows = bench_alloc(VECTORS * row_bytes);
    const uint8_t **wanted = bench_alloc(VECTORS * sizeof *wanted);
    gyre_estimate *out = bench_alloc(VECTORS * sizeof *out);
    check(gyre_quantizer_encode(quantizer, data->vectors, VECTORS, 0, rows, &err), &err);
    for (size_t v = 0; v < VECTORS; v++)
        wanted[v] = rows + v * row_bytes;
    for (size_t q = 0; q < QUERIES; q++) {
        gyre_query *query = new_query(quantizer, data->queries + q * data->dim, 8);
        gyre_query_estimate(query, wanted, VECTORS, out);
        float distances[BEST];
        uint32_t ids[BEST];
        for (size_t b = 0; b < BEST; b++)
            distances[b] = INFINITY;
        for (uint32_t v = 0; v < VECTORS; v++)
            insert(distances, ids, out[v].distance, v);
        for (size_t b = 0; b < BEST; b++)
            for (size_t t = 0; t < BEST; t++)
                found += ids[b] == data->truth[q][t];
        gyre_query_free(query);
    }
    gyre_quantizer_free(quantizer);
    free(rows), free(wanted), free(out);
    return (double)found / (QUERIES * BEST);
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 512, runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 7;
    if (mib < 8 || mib > 1 << 20 || runs == 0 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_extended [MiB of rows, at least 8] [runs, 1 to %d]\n", BENCH_RUNS_MAX);
        return 2;
    }
    bench_print_machine(SOURCE_DIR);
    printf("rows      %zu MiB of each codec, %zu runs, one thread, l2\n\n", mib, runs);
    printf("%-8s %5s  %-12s %-11s %8s %8s %8s  %7s\n", "codec", "dim", "what", "table", "M rows/s", "least", "most", "ratio");
    for (uint32_t dim = 128; dim <= 768; dim += 640)
        for (size_t c = 0; c < 3; c++)
            bench_estimates((const char *[]){"rabitq2", "rabitq4", "rabitq8"}[c], dim, mib, runs);
    printf("\nrecall@10 by codes alone, %d vectors in %d clusters, %d queries\n", VECTORS, CLUSTERS, QUERIES);
    printf("%5s %5s %8s %8s\n", "dim", "bits", "exact", "fast");
    for (uint32_t dim = 128; dim <= 768; dim += 640) {
        struct data data;
        data_init(&data, dim);
        for (int bits = 2; bits <= 8; bits++) {
            char exact[16], fast[16];
            snprintf(exact, sizeof exact, "rabitq%d", bits);
            snprintf(fast, sizeof fast, "rabitq%d-fast", bits);
            printf("%5u %5d %8.4f %8.4f\n", dim, bits, recall(&data, exact), recall(&data, fast));
        }
        data_fini(&data);
    }
    return 0;
}
