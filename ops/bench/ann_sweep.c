/* ann_sweep: recall against speed of a loaded replica, over lists probed and confidence of the bound.
 *
 * One query is what a client would send: rotated, its lists picked, scanned and decided by full vectors (alone). On one thread
 * queries go one after the other in CPU time; on all threads each has queries of its own, in wall time. Full vectors are in
 * the page cache, as those of a replica that fits the machine are. */
#include "ann_engine.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SINGLES_MIN = 20, RECALLS_MIN = 200, RECALL_SHARE = 4, READ_ROUNDS = 15, LISTS_SKIPPED = 256 };

#define FLAT_CONFIDENCE 0.99 /* from here on all of many lists are worth a line of their own */

static const double confidences[] = {0.8, 0.9, 0.95, 0.98, 0.99, 0.999}, confidences_quick[] = {0.8, 0.95, 0.99};

struct sweep {
    const struct ann_set *set;
    const struct ann_replica *replica;
    gy_snapshot *snapshot;
    const gyre_codebook *codebook;
    const char *codec;
    uint32_t lists;
    double bytes; /* a vector, in RAM */
};

/* One setting. */
struct setting {
    const struct sweep *sweep;
    uint32_t k, nprobe;
    double confidence;
    float epsilon;
    size_t queries;        /* that a pass asks */
    atomic_ullong hits, reads;
    atomic_int status;
    pthread_mutex_t mu;
    gyre_error err;        /* guarded by mu: the first failure's */
};

struct outcome {
    double recall, reads, qps, qps_all;
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint32_t count_hits(const struct setting *s, size_t q, const struct gy_candidates *found)
{
    const int32_t *truth = s->sweep->set->truth + q * s->sweep->set->truth_width;
    uint32_t hits = 0;
    for (size_t i = 0; i < found->count; i++)
        for (size_t t = 0; t < s->k; t++)
            hits += gyre_point_id_number(&found->items[i].id) == (uint64_t)truth[t];
    return hits;
}

/* Asks query q; what it found is the caller's to free, also after a failure. */
static gyre_status ask(const struct setting *s, size_t q, uint32_t *probes, struct gy_candidates *found, gyre_error *err)
{
    const struct sweep *sweep = s->sweep;
    float rotated[GYRE_DIM_MAX];
    const float *query = sweep->set->queries + q * sweep->set->dim;
    gyre_rotation_apply(gyre_codebook_rotation(sweep->codebook), query, rotated);
    bool all = s->nprobe >= sweep->lists;
    if (!all)
        GY_TRY(gyre_partition_probe(sweep->codebook, query, rotated, s->nprobe, probes, err));
    struct gy_scan_request request = {.queries = query, .rotated = rotated, .probes = all ? NULL : probes,
        .probe_counts = all ? NULL : &s->nprobe, .codebook_version = gyre_codebook_version(sweep->codebook), .query_count = 1,
        .epsilon = s->epsilon, .scan_bits = sweep->set->scan_bits, .k = s->k, .keep = s->k, .alone = true,
        .deadline_ns = GY_NEVER};
    uint32_t version;
    uint64_t seq;
    return gy_scan_run(sweep->replica->points, NULL, NULL, &request, found, &version, &seq, err);
}

/* A query of a pass on all threads. */
static void ask_part(void *self, size_t i)
{
    struct setting *s = self;
    struct gy_candidates found = {0};
    gyre_error err;
    uint32_t *probes = malloc(sizeof *probes * s->nprobe);
    gyre_status status = probes ? ask(s, i, probes, &found, &err) : gyre_fail(&err, GYRE_NO_MEMORY, "no memory for probes");
    if (status == GYRE_OK) {
        s->hits += count_hits(s, i, &found);
        s->reads += found.seeds_read;
    } else {
        pthread_mutex_lock(&s->mu);
        if (s->status == GYRE_OK)
            s->err = err;
        s->status = (int)status;
        pthread_mutex_unlock(&s->mu);
    }
    gy_candidates_free(&found, 1);
    free(probes);
}

static gyre_status measure(struct setting *s, struct outcome *out, gyre_error *err)
{
    const struct ann_set *set = s->sweep->set;
    uint32_t *probes = malloc(sizeof *probes * s->nprobe);
    if (!probes)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for probes");
    gyre_status status = GYRE_OK;
    size_t done = 0;
    int64_t began = gy_now_ns();
    double cpu = cpu_seconds();
    while (status == GYRE_OK && (done < SINGLES_MIN || ann_seconds_since(began) < set->seconds)) {
        struct gy_candidates found = {0};
        status = ask(s, done++ % set->query_count, probes, &found, err);
        gy_candidates_free(&found, 1);
    }
    double spent = (cpu_seconds() - cpu) / (double)done;
    free(probes);
    GY_TRY(status);

    double affordable = RECALL_SHARE * set->seconds / spent;
    s->queries = affordable > (double)RECALLS_MIN ? (size_t)fmin(affordable, (double)set->query_count) : RECALLS_MIN;
    s->queries = s->queries < set->query_count ? s->queries : set->query_count;
    atomic_store(&s->hits, 0);
    atomic_store(&s->reads, 0);
    atomic_store(&s->status, GYRE_OK);
    began = gy_now_ns();
    for (done = 0; s->status == GYRE_OK && (done == 0 || ann_seconds_since(began) < set->seconds); done += s->queries)
        ann_spread(set->threads, s->queries, ask_part, s);
    double wall = ann_seconds_since(began);
    if (s->status != GYRE_OK) {
        if (err)
            *err = s->err;
        return (gyre_status)s->status;
    }
    *out = (struct outcome){.recall = (double)s->hits / ((double)done * s->k), .reads = (double)s->reads / (double)done,
                            .qps = 1 / spent, .qps_all = (double)done / wall};
    return GYRE_OK;
}

static void print_point(const struct setting *s, const struct outcome *o)
{
    const struct sweep *sweep = s->sweep;
    printf("{\"engine\": \"Gyre %s%s\", \"k\": %u, \"knobs\": {\"lists\": %u, \"nprobe\": %u, \"confidence\": %g, "
           "\"scan_bits\": %u}, ", sweep->codec, sweep->lists == 1 ? ", one list" : "", s->k, sweep->lists, s->nprobe,
           s->confidence, sweep->set->scan_bits);
    printf("\"recall\": %.5f, \"qps\": %.2f, \"qps_all\": %.2f, \"reads\": %.2f, \"bytes\": %.2f, \"bytes_full\": %.2f, "
           "\"train_s\": %.2f, \"build_s\": %.2f}\n", o->recall, o->qps, o->qps_all, o->reads, sweep->bytes,
           sweep->bytes + 4.0 * sweep->set->dim, sweep->replica->train_s, sweep->replica->load_s);
    fflush(stdout);
}

/* Seconds that one thread takes to read so many bytes of memory, the best of some rounds. */
static double read_seconds(size_t bytes)
{
    size_t words = bytes / 8 / 8 * 8;
    uint64_t *memory = malloc(words * 8), sink = 0;
    if (!memory)
        return 0;
    for (size_t i = 0; i < words; i++)
        memory[i] = i;
    double best = INFINITY;
    for (size_t round = 0; round < READ_ROUNDS; round++) {
        uint64_t sums[8] = {0};
        double began = cpu_seconds();
        for (size_t i = 0; i < words; i += 8)
            for (size_t lane = 0; lane < 8; lane++)
                sums[lane] += memory[i + lane];
        best = fmin(best, cpu_seconds() - began);
        for (size_t lane = 0; lane < 8; lane++)
            sink += sums[lane];
        memory[round] = sink; /* what was summed is used: the reads stay */
    }
    free(memory);
    return best;
}

/* All lists: beside a plain read of the codes that such a search goes through. */
static void print_flat(const struct setting *s, const struct outcome *o)
{
    const struct sweep *sweep = s->sweep;
    double bytes = (double)gy_snapshot_count(sweep->snapshot)
                   * (double)gyre_codec_scan_row_bytes(gy_points_codec(sweep->replica->points), sweep->set->dim);
    double plain = read_seconds((size_t)bytes);
    printf("{\"fact\": \"Gyre %s, all of %u list%s, recall@%u %.4f at confidence %g: %.3f ms, %.1f full vectors read; a plain "
           "read of its %.1f MB of codes takes %.3f ms: %.2f of read bandwidth\"}\n",
           sweep->codec, sweep->lists, sweep->lists == 1 ? "" : "s", s->k, o->recall, s->confidence, 1e3 / o->qps,
           o->reads, bytes / 1e6, plain * 1e3, plain * o->qps);
    fflush(stdout);
}

/* Goes up the lists at one confidence until more bring nothing, and to all of them at the end. Probing a small share of the
 * lists is never what gives a recall that one would ask for. */
static gyre_status climb(struct setting *s, gyre_error *err)
{
    double last = -1, step = s->sweep->set->quick ? 2 : M_SQRT2;
    uint32_t lists = s->sweep->lists;
    for (double probe = fmax(1, lists / LISTS_SKIPPED);; probe = fmax(probe * step, s->nprobe + 1)) {
        s->nprobe = probe < lists ? (uint32_t)lround(probe) : lists;
        struct outcome o = {0};
        GY_TRY(measure(s, &o, err));
        print_point(s, &o);
        bool enough = o.recall > 0.9995 || (o.recall > 0.5 && o.recall < last + 0.0003);
        if (s->nprobe == lists && s->k == 10 && (lists == 1 || s->confidence >= FLAT_CONFIDENCE))
            print_flat(s, &o);
        if (s->nprobe == lists)
            return GYRE_OK;
        if (enough) /* the last one is all lists */
            probe = lists;
        last = o.recall;
    }
}

/* One number of lists. */
static gyre_status one(struct setting *s, uint32_t nprobe, gyre_error *err)
{
    struct outcome o = {0};
    s->nprobe = nprobe < s->sweep->lists ? nprobe : s->sweep->lists;
    GY_TRY(measure(s, &o, err));
    print_point(s, &o);
    return GYRE_OK;
}

gyre_status ann_sweep(const struct ann_set *set, const struct ann_replica *replica, gyre_error *err)
{
    struct sweep sweep = {.set = set, .replica = replica, .snapshot = gy_points_snapshot(replica->points)};
    sweep.codebook = gy_snapshot_codebook(sweep.snapshot);
    sweep.codec = gy_points_codec(replica->points)->name;
    sweep.lists = gyre_codebook_lists(sweep.codebook);
    sweep.bytes = (double)gy_points_ram_bytes(replica->points) / (double)gy_snapshot_count(sweep.snapshot);
    const double *levels = set->quick ? confidences_quick : confidences;
    size_t level_count = set->quick ? sizeof confidences_quick / sizeof *levels : sizeof confidences / sizeof *levels;
    if (set->confidence > 0)
        levels = &set->confidence, level_count = 1;
    static const uint32_t ks[] = {10, ANN_K_MAX};
    gyre_status status = GYRE_OK;
    for (size_t k = 0; k < 2; k++)
        for (size_t l = 0; status == GYRE_OK && l < level_count; l++) {
            struct setting setting = {.sweep = &sweep, .k = ks[k], .confidence = levels[l], .mu = PTHREAD_MUTEX_INITIALIZER,
                                      .epsilon = gyre_bound_epsilon(levels[l], set->dim)};
            status = set->nprobe ? one(&setting, set->nprobe, err) : climb(&setting, err);
        }
    gy_snapshot_release(sweep.snapshot);
    return status;
}
