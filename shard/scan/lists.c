/* The scan itself: a list's chunks against the queries that look into it, block by block, with thresholds that fall while it
 * runs.
 *
 * Per list a query is turned to the list's centroid once. What the first plane lets through is refined by the second at once,
 * while both are in the cache. The next chunk is asked for while this one is scanned: lists are short and lie anywhere. */
#include "index/snapshot.h"
#include "scan/internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum {
    ROWS_BETWEEN_LOOKS = 4096, /* at the clock, counted for each query */
    AHEAD_BYTES = 1024,        /* of the next chunk */
    TILE_BYTES = 256 << 10,    /* of codes that stay in the second cache while group after group of queries passes over them */
};

gyre_status gy_scan_look(const struct gy_scan_request *request, gyre_error *err)
{
    if (gy_now_ns() >= request->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "scan: the deadline passed");
    if (request->cancelled && request->cancelled(request->cancelled_arg))
        return gyre_fail(err, GYRE_CANCELLED, "scan: cancelled");
    return GYRE_OK;
}

void gy_scan_lower(_Atomic(float) *threshold, float to)
{
    float old = atomic_load_explicit(threshold, memory_order_relaxed);
    while (to < old && !atomic_compare_exchange_weak_explicit(threshold, &old, to, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static inline float larger(float a, float b) { return a > b ? a : b; }

/* What both planes say of a row: the interval of the second, cut short where the first has the larger lower bound; its upper
 * bound is the second's, as a failure of the first one's would be worth more than that bound is. The lower bound, as estimate -
 * half_width gives it again, is never below that of the first plane: whether a row is let through may not depend on when. */
static inline void both_planes(const gyre_hit *hit, const gyre_estimate *refined, struct gy_top_item *item)
{
    float first_low = hit->estimate - hit->half_width;
    float low = larger(first_low, refined->low), high = refined->high, estimate = refined->distance;
    if (low > high) /* one of them failed: nothing is known but that the row is not nearer */
        high = hit->estimate + hit->half_width;
    if (low > refined->low)
        estimate = low + (high - low) / 2;
    float half_width = larger(estimate - low, high - estimate);
    if (estimate - half_width < first_low)
        half_width = estimate - first_low;
    while (half_width > 0 && estimate - half_width < first_low) /* was rounded up */
        half_width = nextafterf(half_width, 0);
    half_width = larger(half_width, FLT_TRUE_MIN); /* 0 would say that it is exact */
    item->bound = estimate - half_width, item->estimate = estimate, item->half_width = half_width;
}

/* What the only plane says. */
static inline void one_plane(const gyre_hit *hit, struct gy_top_item *item)
{
    item->bound = hit->estimate - hit->half_width, item->estimate = hit->estimate, item->half_width = hit->half_width;
}

/* Takes rows of a chunk that one query's scan let through, after the second plane if there is one. */
static gyre_status take_some(struct gy_scanning *scanning, struct gy_worker *worker, uint32_t q, size_t chunk,
                             const struct gy_chunk_view *view,
                             const gyre_hit *hits, size_t count, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    struct gy_keeper *keeper = &worker->keepers[q];
    float threshold = atomic_load_explicit(&scanning->thresholds[q], memory_order_relaxed);
    gyre_estimate refined[GY_CHUNK_ROWS];
    if (view->refine)
        gyre_query_refine(worker->queries[q], view->blocks, view->refine, hits, count, refined);
    struct gy_top_item one, *item = &one; /* alone it is written where it waits: to copy it would be to wait for its parts */
    if (request->alone)
        GY_TRY(gy_alone_room(keeper, count, &item, err));
    for (size_t i = 0; i < count; i++) {
        if (view->refine)
            both_planes(&hits[i], &refined[i], item);
        else
            one_plane(&hits[i], item);
        if (item->bound > threshold)
            continue;
        item->slot = (uint32_t)(chunk * GY_CHUNK_ROWS + hits[i].row);
        if (keeper->uppers)
            gy_smallest_offer(keeper->uppers, &keeper->upper_count, scanning->upper_most, gy_scan_upper(request, item));
        if (request->alone) { /* the id is not looked at before the row is read, and most are not */
            item++, keeper->pending_count++;
            continue;
        }
        item->id = view->ids[hits[i].row];
        GY_TRY(gy_top_offer(&keeper->top, item, err));
    }
    if (!request->alone)
        gy_scan_lower(&scanning->thresholds[q], gy_top_threshold(&keeper->top));
    if (keeper->uppers && keeper->upper_count == scanning->upper_most)
        gy_scan_lower(&scanning->thresholds[q], keeper->uppers[0]);
    return GYRE_OK;
}

/* The n best estimates come first; which of equals does not matter. */
static void best_first(gyre_hit *hits, size_t count, size_t n)
{
    while (count > n) { /* Hoare's selection about a middle one */
        float pivot = hits[count / 2].estimate;
        size_t i = 0, j = count - 1;
        for (;; i++, j--) {
            while (hits[i].estimate < pivot)
                i++;
            while (hits[j].estimate > pivot)
                j--;
            if (i >= j)
                break;
            gyre_hit hit = hits[i];
            hits[i] = hits[j], hits[j] = hit;
        }
        if (i == 0 || n == i)
            return;
        if (n < i)
            count = i;
        else
            hits += i, count -= i, n -= i;
    }
}

/* Takes the hits of one query in one chunk. As long as almost everything is let through, a second plane looks at the best first:
 * their upper bounds spare it most of the others. */
static gyre_status take_hits(struct gy_scanning *scanning, struct gy_worker *worker, uint32_t q, size_t chunk,
                             const struct gy_chunk_view *view,
                             gyre_hit *hits, size_t count, gyre_error *err)
{
    size_t best = 2 * scanning->upper_most, left = 0;
    if (!view->refine || !best || count <= 2 * best)
        return count ? take_some(scanning, worker, q, chunk, view, hits, count, err) : GYRE_OK;
    best_first(hits, count, best);
    GY_TRY(take_some(scanning, worker, q, chunk, view, hits, best, err));
    float threshold = atomic_load_explicit(&scanning->thresholds[q], memory_order_relaxed);
    for (size_t i = best; i < count; i++)
        if (hits[i].estimate - hits[i].half_width <= threshold)
            hits[best + left++] = hits[i];
    return left ? take_some(scanning, worker, q, chunk, view, hits + best, left, err) : GYRE_OK;
}

/* Hits that a mask leaves. */
static size_t allowed_hits(const struct gy_mask *mask, gyre_hit *hits, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (gy_mask_has(mask, hits[i].row))
            hits[kept++] = hits[i];
    return kept;
}

/* Scans blocks first…end-1 of a chunk for a group of queries; adds to found. */
static void scan_blocks(struct gy_scanning *scanning, struct gy_worker *worker, const struct gy_chunk_view *view, size_t first,
                        size_t end,
                        const uint32_t *queries, size_t count, size_t *found)
{
    const uint8_t *blocks = view->blocks + first * scanning->block_bytes;
    const gyre_query *group[GYRE_SCAN_QUERIES_MAX];
    float thresholds[GYRE_SCAN_QUERIES_MAX];
    gyre_hit *hits[GYRE_SCAN_QUERIES_MAX];
    size_t new[GYRE_SCAN_QUERIES_MAX];
    for (size_t i = 0; i < count; i++) {
        group[i] = worker->queries[queries[i]];
        thresholds[i] = atomic_load_explicit(&scanning->thresholds[queries[i]], memory_order_relaxed);
        hits[i] = worker->hits + i * GY_CHUNK_ROWS + found[i];
    }
    if (count == 1)
        new[0] = gyre_query_scan(group[0], blocks, end - first, thresholds[0], hits[0]);
    else
        gyre_query_scan_many(group, count, blocks, end - first, thresholds, hits, new);
    for (size_t i = 0; i < count; i++) {
        for (size_t h = 0; first && h < new[i]; h++)
            hits[i][h].row += (uint32_t)(first * GYRE_BLOCK_ROWS);
        found[i] += new[i];
    }
}

static gyre_status scan_group(struct gy_scanning *scanning, struct gy_worker *worker, size_t chunk,
                              const struct gy_chunk_view *view,
                              const struct gy_mask *mask, const uint32_t *queries, size_t count, gyre_error *err)
{
    size_t found[GYRE_SCAN_QUERIES_MAX] = {0}, block_count = (view->rows + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
    for (size_t first = 0, end; first < block_count; first = end + 1) { /* stretches of blocks that have an allowed row */
        end = mask ? first : block_count;
        while (end < block_count && mask->blocks[end])
            end++;
        if (end > first)
            scan_blocks(scanning, worker, view, first, end, queries, count, found);
    }
    for (size_t i = 0; i < count; i++) {
        gyre_hit *hits = worker->hits + i * GY_CHUNK_ROWS;
        size_t left = mask ? allowed_hits(mask, hits, found[i]) : found[i];
        GY_TRY(take_hits(scanning, worker, queries[i], chunk, view, hits, left, err));
        if (scanning->request->alone)
            GY_TRY(gy_alone_round(scanning, queries[i], &worker->keepers[queries[i]], view->rows, err));
    }
    return GYRE_OK;
}

/* Scans a chunk for at most GYRE_SCAN_QUERIES_MAX queries; to compare, for any number. */
static gyre_status scan_chunk(struct gy_scanning *scanning, struct gy_worker *worker, size_t chunk, const uint32_t *queries,
                              size_t count,
                              gyre_error *err)
{
    struct gy_chunk_view view = gy_snapshot_chunk(scanning->snapshot, chunk);
    struct gy_mask mask;
    bool masked = scanning->compare || gy_filter_is_any(&scanning->filter);
    worker->rows_unseen += view.rows * count;
    if (worker->rows_unseen >= ROWS_BETWEEN_LOOKS) {
        worker->rows_unseen = 0;
        GY_TRY(gy_scan_look(scanning->request, err));
    }
    if (masked && !gy_filter_mask(&scanning->filter, chunk, view.rows, &mask))
        return GYRE_OK;
    if (!scanning->compare)
        return scan_group(scanning, worker, chunk, &view, masked ? &mask : NULL, queries, count, err);
    gy_mask_held(scanning, &view, &mask);
    return gy_exact_chunk(scanning, worker, chunk, &view, &mask, queries, count, err);
}

/* ---- memory that is needed soon ---- */

/* The head of a chunk and the codes behind it; what follows is asked for by the kernels. Beyond its end it does no harm. */
static void fetch_chunk(const struct gy_scanning *scanning, size_t chunk)
{
    const struct gy_chunk *at = gy_snapshot_at(scanning->snapshot, chunk);
    for (size_t byte = 0; byte < AHEAD_BYTES; byte += 64)
        __builtin_prefetch((const void *)((uintptr_t)at + byte));
}

/* The list after the next: its first chunk and its centroid; and which chunks the one after that has. */
static void fetch_lists(const struct gy_scanning *scanning, const struct gy_step *steps, size_t left)
{
    const uint32_t *chunks;
    uint64_t points;
    if (left > 2 && gy_snapshot_list(scanning->snapshot, steps[2].list, &chunks, &points))
        __builtin_prefetch(chunks);
    if (left < 2 || !gy_snapshot_list(scanning->snapshot, steps[1].list, &chunks, &points))
        return;
    fetch_chunk(scanning, chunks[0]);
    const float *centroid = gyre_codebook_centroid(scanning->codebook, steps[1].list);
    for (size_t i = 0; i < scanning->dim; i += 16)
        __builtin_prefetch(centroid + i);
}

/* ---- what a worker has of its own ---- */

static gyre_status worker_start(struct gy_scanning *scanning, struct gy_worker *worker, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    size_t query_count = request->query_count;
    worker->keepers = calloc(query_count, sizeof *worker->keepers);
    if (!scanning->compare) {
        worker->hits = malloc((query_count < GYRE_SCAN_QUERIES_MAX ? query_count : GYRE_SCAN_QUERIES_MAX) * GY_CHUNK_ROWS * sizeof *worker->hits);
        worker->queries = calloc(query_count, sizeof *worker->queries);
    }
    if (!worker->keepers || (!scanning->compare && (!worker->hits || !worker->queries)))
        return gyre_fail(err, GYRE_NO_MEMORY, "scan of %zu queries", query_count);
    for (size_t q = 0; q < query_count; q++)
        gy_top_init(&worker->keepers[q].top, request->keep);
    return GYRE_OK;
}

/* Turns the queries to a list, after making what a worker needs for them. */
static gyre_status turn(struct gy_scanning *scanning, struct gy_worker *worker, uint32_t list, const uint32_t *queries,
                        size_t count, gyre_error *err)
{
    const float *centroid = gyre_codebook_centroid(scanning->codebook, list);
    for (size_t i = 0; i < count; i++) {
        uint32_t q = queries[i];
        struct gy_keeper *keeper = &worker->keepers[q];
        if (!worker->queries[q] && scanning->plan.part_count == 1)
            worker->queries[q] = GY_TAKE(scanning->prepared[q]);
        if (!worker->queries[q])
            GY_TRY(gyre_query_copy(&worker->queries[q], scanning->prepared[q], err));
        if (scanning->upper_most && !keeper->uppers) {
            keeper->uppers = malloc(scanning->upper_most * sizeof *keeper->uppers);
            if (!keeper->uppers)
                return gyre_fail(err, GYRE_NO_MEMORY, "%zu upper bounds", scanning->upper_most);
        }
        gyre_query_move(worker->queries[q], centroid);
    }
    return GYRE_OK;
}

static gyre_status scan_step(struct gy_scanning *scanning, struct gy_worker *worker, const struct gy_step *step,
                             size_t first_chunk, size_t end_chunk,
                             gyre_error *err)
{
    const uint32_t *chunks, *queries = scanning->plan.queries + step->first_query;
    uint64_t points;
    size_t chunk_count = gy_snapshot_list(scanning->snapshot, step->list, &chunks, &points);
    if (chunk_count == 0)
        return GYRE_OK;
    if (!scanning->compare)
        GY_TRY(turn(scanning, worker, step->list, queries, step->query_count, err));
    size_t end = chunk_count < end_chunk ? chunk_count : end_chunk,
        tile = TILE_BYTES / (GY_CHUNK_ROWS / GYRE_BLOCK_ROWS * scanning->block_bytes) + 1;
    size_t group_most = scanning->compare ? step->query_count : GYRE_SCAN_QUERIES_MAX;
    for (size_t from = first_chunk; from < end; from += tile)
        for (size_t q = 0; q < step->query_count; q += group_most) {
            size_t group = step->query_count - q < group_most ? step->query_count - q : group_most;
            for (size_t c = from; c < end && c < from + tile; c++) {
                if (c + 1 < end)
                    fetch_chunk(scanning, chunks[c + 1]);
                GY_TRY(scan_chunk(scanning, worker, chunks[c], queries + q, group, err));
            }
        }
    return GYRE_OK;
}

gyre_status gy_lists_scan(void *self, size_t worker_number, size_t part_number, gyre_error *err)
{
    struct gy_scanning *scanning = self;
    struct gy_worker *worker = &scanning->workers[worker_number];
    const struct gy_plan *plan = &scanning->plan;
    const struct gy_part *part = &plan->parts[part_number];
    if (!worker->keepers)
        GY_TRY(worker_start(scanning, worker, err));
    for (size_t s = part->first; s < part->end; s++) {
        if (!scanning->compare)
            fetch_lists(scanning, plan->steps + s, part->end - s);
        GY_TRY(scan_step(scanning, worker, &plan->steps[s], part->first_chunk, part->end_chunk, err));
    }
    return GYRE_OK;
}
