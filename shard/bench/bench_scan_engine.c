/* What a search costs inside one replica: recall@10, processor time and full vectors read against the number of lists probed; one
 * thread, one query at a time unless said otherwise. The first row is the ceiling: reading the codes of all lists once.
 *
 *   bench_scan_engine [points] [dim] [lists] [codec] [epsilon] [batch] [seconds]     default 300000 100 1024 rabitq1 1.9 1 0
 *
 * Data: unit vectors about points / 150 centres, coordinates with a power-law spectrum; fixed seed. Queries are drawn like points.
 * With seconds, the row nearest recall 0.95 is run for so long, for a profiler. */
#include "gyre/clock.h"
#include "gyre/kmeans.h"
#include "gyre/partition.h"
#include "gyre/simd.h"
#include "index/points.h"
#include "scan/scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 1000, QUERIES = 300, K = 10, CACHE_BYTES = 128 << 20 };

static gyre_error err;

static void must(gyre_status status, const char *what)
{
    if (status == GYRE_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

static double seconds(void) { return (double)gy_now_ns() / 1e9; }

/* Of this thread: other programs may run beside. */
static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Near enough to a Gaussian: the sum of four uniform numbers, of variance 1. */
static float gaussian(uint64_t *state)
{
    uint64_t bits = next_random(state);
    float sum = 0;
    for (int i = 0; i < 4; i++, bits >>= 16)
        sum += (float)(bits & 0xffff) * 0x1p-16f - 0.5f;
    return sum * 1.7320508f;
}

struct data {
    size_t count;
    uint32_t dim, lists;
    float *points, *queries, *scale;
    uint64_t random;
};

static void draw(struct data *data, size_t centres, float *out)
{
    uint64_t centre = 77 + next_random(&data->random) % centres;
    for (uint32_t i = 0; i < data->dim; i++)
        out[i] = data->scale[i] * (gaussian(&centre) + 0.7f * gaussian(&data->random));
    gyre_vector_normalize(GYRE_COSINE, out, out, data->dim);
}

static void make(struct data *data)
{
    size_t centres = data->count / 150 + 1;
    data->points = malloc(data->count * data->dim * sizeof *data->points);
    data->queries = malloc(QUERIES * data->dim * sizeof *data->queries);
    data->scale = malloc(data->dim * sizeof *data->scale);
    for (uint32_t i = 0; i < data->dim; i++)
        data->scale[i] = powf((float)(i + 1), -0.4f);
    for (size_t i = 0; i < data->count; i++)
        draw(data, centres, data->points + i * data->dim);
    for (size_t q = 0; q < QUERIES; q++)
        draw(data, centres, data->queries + q * data->dim);
}

static gyre_codebook *train(const struct data *data)
{
    gyre_codebook *codebook = NULL;
    float *mean = calloc(data->dim, sizeof *mean), *centroids = malloc(data->lists * data->dim * sizeof *centroids);
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    const gyre_kmeans_options options = {.sample_per_list = 64, .iterations_max = 8};
    for (size_t i = 0; i < data->count; i++)
        for (uint32_t j = 0; j < data->dim; j++)
            mean[j] += data->points[i * data->dim + j] / (float)data->count;
    double start = seconds();
    if (data->lists > 1) {
        must(gyre_kmeans_train(&options, data->points, data->count, data->dim, data->lists, centroids, NULL, &err), "train");
        must(gyre_codebook_new_partitioned(&codebook, GYRE_COSINE, data->dim, 1, seed, mean, centroids, data->lists, &err), "codebook");
    } else {
        must(gyre_codebook_new(&codebook, GYRE_COSINE, data->dim, 1, seed, mean, &err), "codebook");
    }
    printf("train              %8.2f s\n", seconds() - start);
    free(mean);
    free(centroids);
    return codebook;
}

static void load(gy_store *store, gy_points *points, const struct data *data)
{
    struct gy_operation *operations = calloc(BATCH, sizeof *operations);
    uint64_t versions[BATCH], seq = 0;
    bool deleted[BATCH];
    double start = seconds();
    for (size_t done = 0; done < data->count; done += BATCH) {
        size_t n = data->count - done < BATCH ? data->count - done : BATCH;
        struct gy_log_entry entry = {1, ++seq, NULL, 0};
        for (size_t i = 0; i < n; i++) {
            versions[i] = seq;
            operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(done + i),
                                                  .vector = data->points + (done + i) * data->dim, .payload = ""};
        }
        must(gy_store_log_append(store, &entry, 1, false, &err), "log");
        must(gy_points_apply(points, operations, versions, n, seq, NULL, deleted, &err), "apply");
    }
    double took = seconds() - start;
    printf("apply              %8.2f us/point; RAM %.1f bytes/point\n", took / (double)data->count * 1e6,
           (double)gy_points_ram_bytes(points) / (double)data->count);
    free(operations);
}

/* The codes, read once: what no scan can beat. */
static void ceiling(gy_points *points, size_t block_bytes)
{
    gy_snapshot *snapshot = gy_points_snapshot(points);
    double best = 1e9;
    size_t bytes = 0;
    for (int r = 0; r < 5; r++) {
        uint64_t sum[8] = {0};
        double start = cpu_seconds();
        bytes = 0;
        for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++) {
            struct gy_chunk_view view = gy_snapshot_chunk(snapshot, c);
            size_t n = (view.rows + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS * block_bytes;
            for (size_t at = 0; at < n; at += 64) {
                const uint64_t *line = (const uint64_t *)(const void *)(view.blocks + at);
                __builtin_prefetch((const char *)line + 2048);
                for (int i = 0; i < 8; i++)
                    sum[i] += line[i];
            }
            bytes += n;
        }
        double took = cpu_seconds() - start;
        best = took < best ? took : best;
        for (int i = 1; i < 8; i++)
            sum[0] += sum[i];
        if (sum[0] == 1)
            printf(" ");
    }
    printf("ceiling            %8.1f us for all codes (%.1f MB, %.1f GB/s)\n", best * 1e6, (double)bytes / 1e6, (double)bytes / best / 1e9);
    gy_snapshot_release(snapshot);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* The distance of the K-th nearest of each query, by brute force. */
static float *truth_of(const struct data *data)
{
    float *truth = malloc(QUERIES * sizeof *truth), *distances = malloc(data->count * sizeof *distances);
    for (size_t q = 0; q < QUERIES; q++) {
        for (size_t i = 0; i < data->count; i++)
            distances[i] = gyre_distance(GYRE_COSINE, data->points + i * data->dim, data->queries + q * data->dim, data->dim);
        float kth = INFINITY;
        size_t kept = 0;
        for (size_t i = 0; i < data->count; i++) /* candidates come to the front, and are thinned out now and then */
            if (distances[i] <= kth) {
                distances[kept++] = distances[i];
                if (kept == 64 * K) {
                    qsort(distances, kept, sizeof *distances, ascending);
                    kept = K, kth = distances[K - 1];
                }
            }
        qsort(distances, kept, sizeof *distances, ascending);
        truth[q] = distances[K - 1];
    }
    free(distances);
    return truth;
}

struct row {
    double recall, us, reads, scanned, probe_us;
};

static struct row measure(gy_points *points, const struct data *data, const float *truth, uint32_t probes, float epsilon, size_t batch,
                          int repeats)
{
    struct row row = {0};
    gy_snapshot *snapshot = gy_points_snapshot(points);
    const gyre_codebook *codebook = gy_snapshot_codebook(snapshot);
    uint32_t *lists = malloc(QUERIES * probes * sizeof *lists), counts[QUERIES];
    float *rotated = malloc(QUERIES * data->dim * sizeof *rotated);
    struct gy_candidates *out = calloc(QUERIES, sizeof *out);
    uint32_t version;
    uint64_t seq;
    double best = 1e9;
    double start = cpu_seconds();
    for (size_t q = 0; q < QUERIES; q++) {
        counts[q] = probes;
        gyre_rotation_apply(gyre_codebook_rotation(codebook), data->queries + q * data->dim, rotated + q * data->dim);
        must(gyre_partition_probe(codebook, data->queries + q * data->dim, rotated + q * data->dim, probes, lists + q * probes, &err), "probe");
    }
    row.probe_us = (cpu_seconds() - start) / QUERIES * 1e6;
    for (int r = 0; r < repeats; r++) {
        start = cpu_seconds();
        for (size_t q = 0; q < QUERIES; q += batch) {
            size_t n = QUERIES - q < batch ? QUERIES - q : batch;
            struct gy_scan_request request = {
                .queries = data->queries + q * data->dim,
                .rotated = rotated + q * data->dim,
                .probes = lists + q * probes,
                .probe_counts = counts,
                .query_count = n,
                .epsilon = epsilon,
                .keep = K,
                .alone = true,
                .deadline_ns = GY_NEVER,
            };
            gy_candidates_free(out + q, n);
            must(gy_scan_run(points, snapshot, NULL, &request, out + q, &version, &seq, &err), "scan");
        }
        double took = (cpu_seconds() - start) / QUERIES * 1e6;
        best = took < best ? took : best;
    }
    size_t found = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        for (size_t i = 0; i < out[q].count; i++)
            found += out[q].items[i].estimate <= truth[q];
        row.reads += out[q].seeds_read / (double)QUERIES;
        row.scanned += (double)out[q].scanned / QUERIES;
    }
    row.recall = (double)found / (QUERIES * K);
    row.us = best;
    gy_candidates_free(out, QUERIES);
    free(out);
    free(lists);
    free(rotated);
    gy_snapshot_release(snapshot);
    return row;
}

int main(int argc, char **argv)
{
    struct data data = {
        .count = argc > 1 ? strtoull(argv[1], NULL, 10) : 300000,
        .dim = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100,
        .lists = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1024,
        .random = 4711,
    };
    const char *codec_name = argc > 4 ? argv[4] : "rabitq1";
    float epsilon = argc > 5 ? strtof(argv[5], NULL) : 1.9f;
    size_t batch = argc > 6 ? strtoull(argv[6], NULL, 10) : 1;
    double profile_seconds = argc > 7 ? strtod(argv[7], NULL) : 0;
    char path[64];
    snprintf(path, sizeof path, "/tmp/gyre-bench-%d", getpid());
    printf("%zu points of dim %u, %u lists, %s, epsilon %.2f, batches of %zu, kernels %s, compiler %s\n", data.count, data.dim, data.lists, codec_name,
           (double)epsilon, batch, gyre_simd_name(), __VERSION__);

    gy_store_env *env = NULL;
    gy_store *store = NULL;
    gy_points *points = NULL;
    const struct gy_store_identity identity = {1, 0, "bench"};
    make(&data);
    gyre_codebook *codebook = train(&data);
    must(gy_store_env_new(&env, CACHE_BYTES, &err), "env");
    const struct gy_shard_config config = {.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1, .next_member = 2,
                                           .member_count = 1,
                                           .members = {{.id = 1, .kind = GY_MEMBER_FULL, .in_sync = true, .node = "bench"}}};
    must(gy_store_create(&store, env, path, &identity, 1, &config, codec_name, codebook, &err), "create");
    must(gy_points_open(&points, store, &err), "open");
    load(store, points, &data);
    ceiling(points, gyre_block_bytes(gyre_codec_scan_code_bytes(gy_points_codec(points), data.dim)));
    float *truth = truth_of(&data);
    printf("%8s %9s %10s %10s %9s %10s %9s\n", "lists", "recall", "us/query", "QPS", "reads", "scanned", "probe us");
    uint32_t chosen = data.lists;
    for (uint32_t probes = 1; probes <= data.lists; probes = probes * 2 > data.lists && probes < data.lists ? data.lists : probes * 2) {
        struct row row = measure(points, &data, truth, probes, epsilon, batch, 3);
        if (row.recall >= 0.95 && probes < chosen)
            chosen = probes;
        printf("%8u %9.4f %10.1f %10.0f %9.1f %10.0f %9.1f\n", probes, row.recall, row.us, 1e6 / row.us, row.reads, row.scanned, row.probe_us);
        fflush(stdout);
    }
    for (double until = seconds() + profile_seconds; profile_seconds > 0 && seconds() < until;)
        measure(points, &data, truth, chosen, epsilon, batch, 20);

    free(truth);
    gyre_codebook_free(codebook);
    gy_points_close(points);
    gy_store_close(store);
    must(gy_store_destroy(path, &err), "destroy");
    gy_store_env_free(env);
    free(data.points);
    free(data.queries);
    free(data.scale);
    return 0;
}
