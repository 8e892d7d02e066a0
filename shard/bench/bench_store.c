/* What a replica's store costs: apply rate, load time, exact reads; the first row is the ceiling: copying the same bytes.
 *
 *   bench_store [points] [dim] [lists] [codec] [directory]       default 300000 100 1 rabitq1 /tmp */
#include "gyre/clock.h"
#include "gyre/simd.h"
#include "index/points.h"
#include "scan/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000, READS = 200, READ_KEYS = 200, CACHE_BYTES = 128 << 20 };

static gyre_error err;

static void must(gyre_status status, const char *what)
{
    if (status == GYRE_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

static double seconds(void)
{
    return (double)gy_now_ns() / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double microseconds = (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + microseconds / 1e6;
}

/* Of the calling thread: what apply costs whoever calls it, on a busy machine too. */
static double thread_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Memory of the process's own: without the pages of files, of which the mirror is one. */
static double resident_mb(void)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "RssAnon: %lu kB", &kib) != 1)
        ;
    if (file)
        fclose(file);
    return (double)kib * 1024 / 1e6;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill(float *vectors, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        vectors[i] = (float)((double)(int64_t)next_random(state) * 0x1p-63);
}

/* Lists about vectors drawn like all the others, of unequal size as real ones are. */
static gyre_codebook *partition(uint32_t dim, uint32_t version, uint32_t lists)
{
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    uint64_t state = 77 + version;
    gyre_codebook *codebook = NULL;
    float *centroids = malloc((size_t)lists * dim * sizeof *centroids);
    fill(centroids, (size_t)lists * dim, &state);
    must(gyre_codebook_new_partitioned(&codebook, GYRE_L2, dim, version, seed, NULL, centroids, lists, &err), "codebook");
    free(centroids);
    return codebook;
}

/* Writes as a replica does: log entry of 1000 points, synced, then applied. */
static void write_points(gy_store *store, gy_points *points, size_t count, uint32_t dim)
{
    float *vectors = malloc(BATCH * dim * sizeof *vectors);
    struct gy_operation *operations = calloc(BATCH, sizeof *operations);
    uint64_t versions[BATCH], state = 1, seq = gy_points_applied_seq(points);
    bool deleted[BATCH];
    double logged = 0, applied = 0, applied_cpu = 0;
    for (size_t done = 0; done < count; done += BATCH) {
        fill(vectors, BATCH * dim, &state);
        struct gy_log_entry entry = {1, ++seq, (const uint8_t *)vectors, BATCH * dim * sizeof *vectors};
        for (size_t i = 0; i < BATCH; i++) {
            versions[i] = seq;
            operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(done + i), .vector = vectors + i * dim,
                                                  .payload = "{\"word\":\"something\"}"};
        }
        double start = seconds();
        must(gy_store_log_append(store, &entry, 1, false, &err), "log");
        double between = seconds(), cpu = thread_seconds();
        must(gy_points_apply(points, operations, versions, BATCH, seq, NULL, deleted, &err), "apply");
        logged += between - start;
        applied += seconds() - between;
        applied_cpu += thread_seconds() - cpu;
    }
    printf("log append         %8.0f points/s  %6.2f us/point (synced, %d points an entry)\n", (double)count / logged,
           logged / (double)count * 1e6, BATCH);
    printf("apply              %8.0f points/s  %6.2f us/point\n", (double)count / applied, applied / (double)count * 1e6);
    printf("  of its thread    %8.0f points/s  %6.2f us/point of processor\n", (double)count / applied_cpu,
           applied_cpu / (double)count * 1e6);
    free(vectors);
    free(operations);
}

static void read_distances(gy_points *points, size_t count, uint32_t dim, const char *what)
{
    gyre_point_id ids[READ_KEYS];
    float out[READ_KEYS], query[GYRE_DIM_MAX];
    uint64_t state = 9;
    double best = 1e9, all = 0;
    fill(query, dim, &state);
    for (int r = 0; r < READS; r++) {
        for (size_t i = 0; i < READ_KEYS; i++)
            ids[i] = gyre_point_id_from_number(next_random(&state) % count);
        double start = seconds();
        must(gy_points_distances(points, query, ids, READ_KEYS, out, &err), "distances");
        double took = seconds() - start;
        all += took;
        best = took < best ? took : best;
    }
    printf("exact distances    %8.2f us/key mean, %.2f best (%d keys a call, %s)\n", all / READS / READ_KEYS * 1e6,
           best / READ_KEYS * 1e6, READ_KEYS, what);
}

/* As a scan does it: rows of a snapshot, from the mirror. */
static void rank_rows(gy_points *points, uint32_t dim, const char *what)
{
    uint32_t slots[READ_KEYS];
    float out[READ_KEYS], query[GYRE_DIM_MAX];
    uint64_t state = 9;
    double best = 1e9, all = 0;
    gy_snapshot *snapshot = gy_points_snapshot(points);
    fill(query, dim, &state);
    for (int r = 0; r < READS; r++) {
        for (size_t i = 0; i < READ_KEYS; i++) {
            uint32_t chunk = (uint32_t)(next_random(&state) % gy_snapshot_chunk_count(snapshot));
            uint32_t rows = gy_snapshot_chunk(snapshot, chunk).rows;
            slots[i] = chunk * GY_CHUNK_ROWS + (uint32_t)(next_random(&state) % rows); /* nothing was deleted: all are there */
        }
        double start = seconds();
        must(gy_points_rank(points, snapshot, query, slots, READ_KEYS, out, &err), "rank");
        double took = seconds() - start;
        all += took;
        best = took < best ? took : best;
    }
    gy_snapshot_release(snapshot);
    printf("rank               %8.3f us/row mean, %.3f best (%d rows a call, %s)\n", all / READS / READ_KEYS * 1e6,
           best / READ_KEYS * 1e6, READ_KEYS, what);
}

static void scan_codes(gy_points *points, uint32_t dim)
{
    float query[GYRE_DIM_MAX];
    uint64_t state = 5;
    double best = 1e9;
    fill(query, dim, &state);
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 3, .keep = 200, .deadline_ns = GY_NEVER};
    for (int r = 0; r < 20; r++) {
        struct gy_candidates out;
        uint32_t version;
        uint64_t seq;
        double start = seconds();
        must(gy_scan_run(points, NULL, NULL, &request, &out, &version, &seq, &err), "scan");
        double took = seconds() - start;
        best = took < best ? took : best;
        gy_candidates_free(&out, 1);
    }
    printf("scan, keep 200     %8.1f M codes/s, one thread\n", (double)gy_points_count(points) / best / 1e6);
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? (strtoull(argv[1], NULL, 10) + BATCH - 1) / BATCH * BATCH : 300000;
    uint32_t dim = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100;
    uint32_t lists = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1;
    const char *codec = argc > 4 ? argv[4] : "rabitq1";
    char path[4096];
    snprintf(path, sizeof path, "%s/gyre-bench-%d", argc > 5 ? argv[5] : "/tmp", getpid());
    printf("%zu points of dim %u, %u lists, %s, kernels %s, compiler %s\n", count, dim, lists, codec, gyre_simd_name(),
           __VERSION__);

    uint8_t *from = malloc(64 << 20), *to = malloc(64 << 20);
    memset(from, 1, 64 << 20), memset(to, 2, 64 << 20);
    double start = seconds();
    memcpy(to, from, 64 << 20);
    double copied = seconds() - start;
    printf("ceiling: memcpy    %8.0f points/s (byte %d)\n", (64 << 20) / copied / (dim * 4.0),
           to[next_random(&(uint64_t){3}) % (64 << 20)]);
    free(from), free(to);

    gy_store_env *env = NULL;
    gy_store *store = NULL;
    gy_points *points = NULL;
    gyre_codebook *codebook = NULL;
    const struct gy_store_identity identity = {1, 0, "bench"};
    must(gy_store_env_new(&env, CACHE_BYTES, &err), "env");
    codebook = partition(dim, 1, lists);
    const struct gy_shard_config config = {.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1, .next_member = 2,
                                           .member_count = 1,
                                           .members = {{.id = 1, .kind = GY_MEMBER_FULL, .in_sync = true, .node = "bench"}}};
    must(gy_store_create(&store, env, path, &identity, 1, &config, codec, codebook, &err), "create");
    must(gy_points_open(&points, store, &err), "open");
    double cpu = cpu_seconds();
    write_points(store, points, count, dim);
    printf("processor          %8.2f us/point, flushes and compactions included; anonymous memory %.0f MB\n",
           (cpu_seconds() - cpu) / (double)count * 1e6, resident_mb());
    scan_codes(points, dim);
    rank_rows(points, dim, "just written");
    read_distances(points, count, dim, "just written");
    start = seconds();
    must(gy_points_flush(points, &err), "flush");
    printf("flush              %8.2f s\n", seconds() - start);
    read_distances(points, count, dim, "flushed");
    read_distances(points, count, dim, "warm");
    gy_points_close(points);
    gy_store_close(store);
    start = seconds();
    must(gy_store_open(&store, env, path, &err), "open");
    double opened = seconds();
    must(gy_points_open(&points, store, &err), "load");
    double loaded = seconds();
    printf("open + load        %8.2f + %.2f s, %.2f M codes/s; RAM %.1f bytes/code; anonymous memory %.0f MB\n", opened - start,
           loaded - opened, (double)gy_points_count(points) / (loaded - opened) / 1e6,
           (double)gy_points_ram_bytes(points) / (double)count, resident_mb());
    rank_rows(points, dim, "reopened");
    rank_rows(points, dim, "reopened, warm");
    read_distances(points, count, dim, "reopened");
    read_distances(points, count, dim, "reopened, warm");

    gyre_codebook *second = partition(dim, 2, lists);
    start = seconds();
    must(gy_points_set_codebook(points, second, &err), "re-encode");
    while (gy_points_codebook_version(points) != 2)
        usleep(1000);
    printf("re-encode          %8.2f us/point\n", (seconds() - start) / (double)count * 1e6);
    gyre_codebook_free(second);
    gyre_codebook_free(codebook);
    gy_points_close(points);
    gy_store_close(store);
    must(gy_store_destroy(path, &err), "destroy");
    gy_store_env_free(env);
    return 0;
}
