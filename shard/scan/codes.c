/* Scanning codes, over several threads when there is enough to scan.
 *
 * The chunks are cut into parts. The caller and the pool's threads that come to help take parts from one counter until none is
 * left; each keeps lists of its own and merges them into the job's when it finds no more. The caller waits only for parts that
 * somebody has begun, never for a helper that is still queued: a helper that comes late finds nothing to do. So a full pool,
 * or a caller on a pool thread, costs time and never an answer.
 * The smallest keep of a set under a total order do not depend on how the set was cut: every split gives the same bytes. */
#include "scan/internal.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    PART_CHUNKS = 64,  /* 65,536 rows: a millisecond or less; smaller parts cost more in hand-over than they win */
    HELPERS_MAX = 31,
};

struct job {
    const gy_snapshot *snapshot; /* lent by the caller; helpers use it only while they hold a part */
    const struct gy_scan_request *request;
    gyre_query **prepared; /* [query_count] */
    _Atomic(float) *thresholds;   /* [query_count] the smallest any worker knows of, for pruning only */
    size_t query_count, keep, part_count;
    atomic_size_t next_part;
    atomic_bool stopped;          /* a worker failed: the rest is skipped */
    atomic_size_t references;     /* the caller and each queued or running helper */

    pthread_mutex_t mu;
    pthread_cond_t finished;
    struct gy_top *tops;          /* this and below guarded by mu; lent by the caller, as the snapshot */
    size_t parts_done;
    gyre_status status;
    gyre_error err;
};

static void job_release(struct job *job)
{
    if (!job || atomic_fetch_sub(&job->references, 1) != 1)
        return;
    for (size_t q = 0; job->prepared && q < job->query_count; q++)
        gyre_query_free(job->prepared[q]);
    free(job->prepared);
    free(job->thresholds);
    pthread_cond_destroy(&job->finished);
    pthread_mutex_destroy(&job->mu);
    free(job);
}

static gyre_status job_new(struct job **out, const gy_snapshot *snapshot, uint32_t dim, const struct gy_scan_request *request, struct gy_top *tops,
                           gyre_error *err)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return gyre_fail(err, GYRE_NO_MEMORY, "scan");
    atomic_init(&job->references, 1);
    pthread_mutex_init(&job->mu, NULL);
    pthread_cond_init(&job->finished, NULL);
    job->snapshot = snapshot;
    job->request = request;
    job->query_count = request->query_count;
    job->keep = request->keep;
    job->part_count = (gy_snapshot_chunk_count(snapshot) + PART_CHUNKS - 1) / PART_CHUNKS;
    job->tops = tops;
    job->prepared = calloc(job->query_count, sizeof *job->prepared);
    job->thresholds = malloc(job->query_count * sizeof *job->thresholds);
    gyre_status status = job->prepared && job->thresholds ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "scan of %zu queries", job->query_count);
    const gyre_query_options options = {.epsilon = request->epsilon};
    for (size_t q = 0; q < job->query_count && status == GYRE_OK; q++) {
        atomic_init(&job->thresholds[q], gy_scan_limit(request, q));
        status = gyre_query_new(&job->prepared[q], gy_snapshot_quantizer(snapshot), request->queries + q * dim,
                                       request->rotated ? request->rotated + q * dim : NULL, &options, err);
        if (status != GYRE_OK)
            status = gyre_wrap(err, status, "query %zu", q);
    }
    if (status != GYRE_OK) {
        job_release(job);
        return status;
    }
    *out = job;
    return GYRE_OK;
}

/* What one thread keeps while it works. */
struct worker {
    struct job *job;
    struct gy_top *tops; /* [query_count] */
    size_t parts;
    gyre_hit hits[GY_CHUNK_ROWS];
};

static void lower(_Atomic(float) *threshold, float to)
{
    float old = atomic_load_explicit(threshold, memory_order_relaxed);
    while (to < old && !atomic_compare_exchange_weak_explicit(threshold, &old, to, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static gyre_status scan_chunk(struct worker *worker, size_t c, gyre_error *err)
{
    struct job *job = worker->job;
    struct gy_chunk_view chunk = gy_snapshot_chunk(job->snapshot, c);
    for (size_t q = 0; q < job->query_count; q++) {
        struct gy_top *top = &worker->tops[q];
        float threshold = atomic_load_explicit(&job->thresholds[q], memory_order_relaxed);
        size_t count = gyre_query_scan(job->prepared[q], chunk.blocks, GY_CHUNK_ROWS / GYRE_BLOCK_ROWS, threshold, worker->hits);
        for (size_t i = 0; i < count; i++) {
            const gyre_hit *hit = &worker->hits[i];
            struct gy_top_item item = {hit->estimate - hit->half_width, hit->estimate, hit->half_width, chunk.ids[hit->row]};
            GY_TRY(gy_top_offer(top, &item, err));
        }
        if (count)
            lower(&job->thresholds[q], gy_top_threshold(top));
    }
    return GYRE_OK;
}

static gyre_status scan_part(struct worker *worker, size_t part, gyre_error *err)
{
    struct job *job = worker->job;
    size_t end = (part + 1) * PART_CHUNKS, count = gy_snapshot_chunk_count(job->snapshot);
    for (size_t c = part * PART_CHUNKS; c < end && c < count; c++) {
        if (atomic_load_explicit(&job->stopped, memory_order_relaxed))
            return GYRE_OK;
        if (gy_now_ns() >= job->request->deadline_ns)
            return gyre_fail(err, GYRE_DEADLINE, "scan: the deadline passed after %zu of %zu chunks of its part", c - part * PART_CHUNKS,
                             (size_t)PART_CHUNKS);
        GY_TRY(scan_chunk(worker, c, err));
    }
    return GYRE_OK;
}

static gyre_status merge_top(struct gy_top *into, struct gy_top *from, gyre_error *err)
{
    if (into->count == 0) { /* the first, mostly the only one: its list is the job's */
        struct gy_top empty = *into;
        *into = *from, *from = empty;
        return GYRE_OK;
    }
    for (size_t i = 0; i < from->count; i++)
        GY_TRY(gy_top_offer(into, &from->items[i], err));
    return GYRE_OK;
}

/* Hands over what a worker found; after the last part is handed over the caller goes on, and job->tops is no longer lent. */
static void merge(struct worker *worker, gyre_status status, const gyre_error *err)
{
    struct job *job = worker->job;
    pthread_mutex_lock(&job->mu);
    gyre_error trouble = *err;
    for (size_t q = 0; status == GYRE_OK && job->status == GYRE_OK && q < job->query_count; q++)
        status = merge_top(&job->tops[q], &worker->tops[q], &trouble);
    if (status != GYRE_OK && job->status == GYRE_OK) {
        job->status = status;
        job->err = trouble;
    }
    job->parts_done += worker->parts;
    if (job->parts_done == job->part_count)
        pthread_cond_signal(&job->finished);
    pthread_mutex_unlock(&job->mu);
}

/* Takes parts until there are none. Nothing but the counter is touched before a part is won. */
static void work(struct job *job)
{
    size_t part = atomic_fetch_add(&job->next_part, 1);
    if (part >= job->part_count)
        return;
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    struct worker *worker = malloc(sizeof *worker);
    struct gy_top *tops = calloc(job->query_count, sizeof *tops);
    struct worker none = {.job = job}; /* when there is no memory: counts parts, scans nothing */
    if (!worker || !tops)
        status = gyre_fail(&err, GYRE_NO_MEMORY, "scan of %zu queries", job->query_count);
    struct worker *me = status == GYRE_OK ? worker : &none;
    me->job = job, me->tops = tops, me->parts = 0;
    for (size_t q = 0; tops && q < job->query_count; q++)
        gy_top_init(&tops[q], job->keep);
    for (; part < job->part_count; part = atomic_fetch_add(&job->next_part, 1)) {
        if (status == GYRE_OK)
            status = scan_part(me, part, &err);
        if (status != GYRE_OK)
            atomic_store(&job->stopped, true);
        me->parts++;
    }
    merge(me, status, &err);
    for (size_t q = 0; tops && q < job->query_count; q++)
        gy_top_fini(&tops[q]);
    free(tops);
    free(worker);
}

static void help(void *arg)
{
    struct job *job = arg;
    work(job);
    job_release(job);
}

gyre_status gy_scan_codes(const gy_snapshot *snapshot, uint32_t dim, gy_pool *pool, const struct gy_scan_request *request, struct gy_top *tops,
                          gyre_error *err)
{
    struct job *job = NULL;
    GY_TRY(job_new(&job, snapshot, dim, request, tops, err));
    size_t helpers = job->part_count > 1 && pool ? job->part_count - 1 : 0;
    if (helpers > HELPERS_MAX)
        helpers = HELPERS_MAX;
    for (size_t i = 0; i < helpers; i++) {
        atomic_fetch_add(&job->references, 1);
        if (gy_pool_submit(pool, help, job, NULL) != GYRE_OK) { /* a full queue: then we scan more ourselves */
            atomic_fetch_sub(&job->references, 1);
            break;
        }
    }
    work(job);
    pthread_mutex_lock(&job->mu);
    while (job->parts_done < job->part_count)
        pthread_cond_wait(&job->finished, &job->mu);
    gyre_status status = job->status;
    if (status != GYRE_OK && err)
        *err = job->err;
    pthread_mutex_unlock(&job->mu);
    job_release(job);
    return status;
}
