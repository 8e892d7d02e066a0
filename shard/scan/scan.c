/* One request: check it, plan it, scan the plan's parts, decide each query. */
#include "scan/scan.h"

#include "scan/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Deciding a query takes about as long as waking a thread to do it. */
enum { DECISIONS_SHARED_MIN = 8 };

static gyre_status check(const struct gy_scan_request *request, gyre_error *err)
{
    if (request->query_count == 0 || request->query_count > GY_SCAN_QUERIES_MAX)
        return gyre_fail(err, GYRE_INVALID, "scan of %zu queries; the limits are 1 and %d", request->query_count,
                         GY_SCAN_QUERIES_MAX);
    if (request->keep == 0 || request->keep > GY_SCAN_KEEP_MAX)
        return gyre_fail(err, GYRE_INVALID, "keep is %u; the limits are 1 and %d", request->keep, GY_SCAN_KEEP_MAX);
    if (request->query_count * request->keep > GY_SCAN_CANDIDATES_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu queries keep %zu candidates; the limit is %d", request->query_count,
                         request->query_count * request->keep, GY_SCAN_CANDIDATES_MAX);
    if (request->seed > request->keep)
        return gyre_fail(err, GYRE_INVALID, "seed is %u; the limit is keep, %u", request->seed, request->keep);
    if (request->k > request->keep)
        return gyre_fail(err, GYRE_INVALID, "k is %u; the limit is keep, %u", request->k, request->keep);
    if (request->share > request->k)
        return gyre_fail(err, GYRE_INVALID, "share is %u; the limit is k, %u", request->share, request->k);
    if (request->share && request->alone)
        return gyre_fail(err, GYRE_INVALID, "share is %u; alone it must be 0", request->share);
    if (request->range.first > request->range.last)
        return gyre_fail(err, GYRE_INVALID, "range is from hash %016" PRIx64 " to %016" PRIx64, request->range.first,
                         request->range.last);
    for (size_t q = 0; request->limits && q < request->query_count; q++)
        if (isnan(request->limits[q]))
            return gyre_fail(err, GYRE_INVALID, "limit of query %zu is not a number", q);
    return GYRE_OK;
}

/* ---- before ---- */

static gyre_status prepare(struct gy_scanning *scanning, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    const gyre_query_options options = {
        .epsilon = request->epsilon,
        .bound = request->certain ? GYRE_BOUND_CERTAIN : GYRE_BOUND_PLAIN,
        .scan_bits = (uint8_t)request->scan_bits,
    };
    if (request->scan_bits > UINT8_MAX)
        return gyre_fail(err, GYRE_INVALID, "scan_bits is %u; it must be 4, 6 or 8", request->scan_bits);
    scanning->prepared = calloc(request->query_count, sizeof *scanning->prepared);
    if (!scanning->prepared)
        return gyre_fail(err, GYRE_NO_MEMORY, "scan of %zu queries", request->query_count);
    for (size_t q = 0; q < request->query_count; q++) {
        gyre_status status = gyre_query_new(&scanning->prepared[q], gy_snapshot_quantizer(scanning->snapshot),
                                            request->queries + q * scanning->dim,
                                            request->rotated ? request->rotated + q * scanning->dim : NULL, &options, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "query %zu", q);
    }
    return GYRE_OK;
}

static gyre_status start(struct gy_scanning *scanning, gy_pool *pool, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    GY_TRY(gy_plan_make(scanning, pool, err));
    scanning->thresholds = malloc(request->query_count * sizeof *scanning->thresholds);
    if (!scanning->thresholds)
        return gyre_fail(err, GYRE_NO_MEMORY, "scan of %zu queries", request->query_count);
    for (size_t q = 0; q < request->query_count; q++)
        atomic_init(&scanning->thresholds[q], gy_scan_limit(request, q));
    return scanning->compare ? GYRE_OK : prepare(scanning, err);
}

static void keepers_free(struct gy_keeper *keepers, size_t count)
{
    for (size_t q = 0; keepers && q < count; q++) {
        gy_top_fini(&keepers[q].top);
        free(keepers[q].uppers);
        free(keepers[q].pending);
    }
    free(keepers);
}

static void queries_free(gyre_query **queries, size_t count)
{
    for (size_t q = 0; queries && q < count; q++)
        gyre_query_free(queries[q]);
    free(queries);
}

static void end(struct gy_scanning *scanning)
{
    size_t query_count = scanning->request->query_count;
    for (size_t w = 0; w < GY_SHARE_WORKERS_MAX; w++) {
        queries_free(scanning->workers[w].queries, query_count);
        keepers_free(scanning->workers[w].keepers, query_count);
        free(scanning->workers[w].hits);
    }
    queries_free(scanning->prepared, query_count);
    free(scanning->thresholds);
    gy_filter_fini(&scanning->filter);
    gy_plan_free(&scanning->plan);
}

/* ---- after ---- */

static gyre_status merge(struct gy_scanning *scanning, size_t q, gyre_error *err)
{
    struct gy_keeper *into = &scanning->workers[0].keepers[q];
    for (size_t w = 1; w < GY_SHARE_WORKERS_MAX; w++) {
        if (!scanning->workers[w].keepers)
            continue;
        struct gy_keeper *from = &scanning->workers[w].keepers[q];
        for (size_t i = 0; i < from->top.count; i++)
            GY_TRY(gy_top_offer(&into->top, &from->top.items[i], err));
        into->reads += from->reads;
        GY_TRY(gy_alone_merge(into, from, err));
    }
    return GYRE_OK;
}

/* The wanted-th smallest upper bound of what is kept: +inf where less is kept, or nothing may be left out for it. */
static gyre_status upper_bound(const struct gy_scan_request *request, size_t wanted, const struct gy_top *top, float *upper,
                               gyre_error *err)
{
    *upper = INFINITY;
    if (!wanted || top->count < wanted)
        return GYRE_OK;
    float *uppers = malloc(wanted * sizeof *uppers);
    if (!uppers)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu upper bounds", wanted);
    size_t count = 0;
    for (size_t i = 0; i < top->count; i++)
        gy_smallest_offer(uppers, &count, wanted, gy_scan_upper(request, &top->items[i]));
    *upper = uppers[0];
    free(uppers);
    return GYRE_OK;
}

/* Leaves out what k (or a share of them) others of those kept beat by their upper bounds. If there was any such row, none of
 * those that were not kept, whose lower bounds are no smaller, can matter either.
 *
 * Rows that the running threshold dropped for the upper bounds of others do not show: where the k smallest upper bounds were all
 * of rows that are kept, their largest is no smaller than the final one, and the row would be left out here; where one was not,
 * its lower bound and so the dropped row's is beyond those kept. */
static gyre_status leave_out(const struct gy_scanning *scanning, struct gy_top *top, struct gy_candidates *out, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    float upper;
    GY_TRY(upper_bound(request, scanning->upper_most, top, &upper, err));
    size_t kept = 0;
    for (size_t i = 0; i < top->count; i++)
        if (top->items[i].bound <= upper)
            top->items[kept++] = top->items[i];
    bool left_out = kept < top->count;
    top->count = kept;
    if (!request->share)
        out->cutoff = left_out ? INFINITY : out->cutoff;
    else if (out->scanned > kept && upper < out->cutoff)
        out->cutoff = upper;
    return GYRE_OK;
}

/* Replaces the best estimates by exact distances. A point that was deleted since the scan began is no candidate any more. */
static gyre_status read_seeds(struct gy_scanning *scanning, size_t q, struct gy_keeper *keeper, gyre_error *err)
{
    struct gy_top *top = &keeper->top;
    size_t count = scanning->request->seed < top->count ? scanning->request->seed : top->count, kept = 0;
    if (!count)
        return GYRE_OK;
    gy_top_best_first(top->items, top->count, count);
    uint32_t *slots = malloc(count * sizeof *slots);
    float *distances = malloc(count * sizeof *distances);
    gyre_status status = slots && distances ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "%zu seeds", count);
    for (size_t i = 0; i < count && status == GYRE_OK; i++)
        slots[i] = top->items[i].slot;
    if (status == GYRE_OK)
        status = gy_exact_rank(scanning, (uint32_t)q, slots, count, distances, err);
    for (size_t i = 0; i < top->count && status == GYRE_OK; i++) {
        struct gy_top_item item = top->items[i];
        if (i < count)
            item.bound = item.estimate = distances[i], item.half_width = 0;
        if (item.estimate != INFINITY)
            top->items[kept++] = item;
    }
    if (status == GYRE_OK)
        top->count = kept, keeper->reads += (uint32_t)count;
    free(slots);
    free(distances);
    return status;
}

gyre_status gy_scan_take(struct gy_candidates *out, const struct gy_top *top, gyre_error *err)
{
    out->items = malloc((top->count + 1) * sizeof *out->items);
    if (!out->items)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu candidates", top->count);
    for (size_t i = 0; i < top->count; i++)
        out->items[i] = (struct gy_candidate){top->items[i].id, top->items[i].estimate, top->items[i].half_width};
    out->count = top->count;
    return GYRE_OK;
}

/* A gy_share_part: what was found for one query becomes its answer. */
static gyre_status decide(void *self, size_t worker, size_t q, gyre_error *err)
{
    (void)worker;
    struct gy_scanning *scanning = self;
    const struct gy_scan_request *request = scanning->request;
    struct gy_keeper *keeper = &scanning->workers[0].keepers[q];
    struct gy_top *top = &keeper->top;
    struct gy_candidates *out = &scanning->out[q];
    if (q)
        GY_TRY(gy_scan_look(request, err));
    GY_TRY(merge(scanning, q, err));
    if (request->alone && !scanning->compare)
        GY_TRY(gy_alone_finish(scanning, (uint32_t)q, keeper, err));
    gy_top_cut(top);
    /* Full, and more rows than were kept: some may have been dropped, none of them before the last kept. */
    out->cutoff = top->count == request->keep && out->scanned > request->keep ? top->threshold : INFINITY;
    if (request->alone || scanning->compare) {
        gy_top_sort_estimates(top->items, top->count);
    } else {
        GY_TRY(leave_out(scanning, top, out, err));
        GY_TRY(read_seeds(scanning, q, keeper, err));
        gy_top_sort(top);
    }
    out->seeds_read = request->exact ? 0 : keeper->reads;
    return gy_scan_take(out, top, err);
}

/* ---- the whole ---- */

static gyre_status run(struct gy_scanning *scanning, gy_pool *pool, gyre_error *err)
{
    GY_TRY(gy_scan_look(scanning->request, err));
    if (gy_filter_is_few(&scanning->filter))
        return gy_exact_few(scanning, err);
    GY_TRY(start(scanning, pool, err));
    GY_TRY(gy_share_run(pool, scanning->plan.part_count, gy_lists_scan, scanning, err));
    size_t query_count = scanning->request->query_count;
    return gy_share_run(query_count < DECISIONS_SHARED_MIN ? NULL : pool, query_count, decide, scanning, err);
}

gyre_status gy_scan_run(gy_points *points, gy_snapshot *snapshot, gy_pool *pool, const struct gy_scan_request *request,
                        struct gy_candidates *out,
                        uint32_t *codebook_version, uint64_t *applied_seq, gyre_error *err)
{
    memset(out, 0, request->query_count * sizeof *out);
    GY_TRY(check(request, err));
    gy_snapshot *held = snapshot ? NULL : gy_points_snapshot(points);
    const gy_snapshot *used = held ? held : snapshot;
    const gyre_codebook *codebook = gy_snapshot_codebook(used);
    uint32_t dim = gyre_codebook_dim(codebook);
    size_t code_bytes = gyre_codec_scan_code_bytes(gy_points_codec(points), dim);
    struct gy_scanning scanning = {
        .points = points,
        .snapshot = used,
        .request = request,
        .codebook = codebook,
        .metric = gyre_codebook_metric(codebook),
        .dim = dim,
        .list_count = gyre_codebook_lists(codebook),
        .code_bytes = code_bytes,
        .block_bytes = gyre_block_bytes(code_bytes),
        .compare = request->exact,
        .upper_most = request->exact ? 0 : request->alone ? request->keep : request->share ? request->share : request->k,
        .out = out,
    };
    gyre_status status = gy_filter_init(&scanning.filter, points, used, request, err);
    if (status == GYRE_OK)
        status = run(&scanning, pool, err);
    if (status == GYRE_OK) {
        *codebook_version = gyre_codebook_version(codebook);
        *applied_seq = gy_snapshot_applied_seq(used);
    }
    end(&scanning);
    gy_snapshot_release(held);
    return status;
}

void gy_candidates_free(struct gy_candidates *candidates, size_t count)
{
    for (size_t i = 0; candidates && i < count; i++) {
        free(candidates[i].items);
        candidates[i].items = NULL;
        candidates[i].count = 0;
    }
}
