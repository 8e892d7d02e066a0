/* One request: check it, scan by codes or exactly, read the seeds, sort. */
#include "scan/scan.h"

#include "scan/internal.h"

#include <math.h>
#include <stdlib.h>

static gyre_status check(const struct gy_scan_request *request, gyre_error *err)
{
    if (request->query_count == 0 || request->query_count > GY_SCAN_QUERIES_MAX)
        return gyre_fail(err, GYRE_INVALID, "scan of %zu queries; the limits are 1 and %d", request->query_count, GY_SCAN_QUERIES_MAX);
    if (request->keep == 0 || request->keep > GY_SCAN_KEEP_MAX)
        return gyre_fail(err, GYRE_INVALID, "keep is %u; the limits are 1 and %d", request->keep, GY_SCAN_KEEP_MAX);
    if (request->query_count * request->keep > GY_SCAN_CANDIDATES_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu queries keep %zu candidates; the limit is %d", request->query_count,
                         request->query_count * request->keep, GY_SCAN_CANDIDATES_MAX);
    if (request->seed > request->keep)
        return gyre_fail(err, GYRE_INVALID, "seed is %u; the limit is keep, %u", request->seed, request->keep);
    for (size_t q = 0; request->limits && q < request->query_count; q++)
        if (isnan(request->limits[q]))
            return gyre_fail(err, GYRE_INVALID, "limit of query %zu is not a number", q);
    return GYRE_OK;
}

static gyre_status take_items(struct gy_candidates *out, const struct gy_top *top, gyre_error *err)
{
    out->items = malloc((top->count + 1) * sizeof *out->items);
    if (!out->items)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu candidates", top->count);
    for (size_t i = 0; i < top->count; i++)
        out->items[i] = (struct gy_candidate){top->items[i].id, top->items[i].estimate, top->items[i].half_width};
    out->count = top->count;
    return GYRE_OK;
}

/* Replaces the best estimates by exact distances. A point that was deleted since the scan began is no candidate any more. */
static gyre_status read_seeds(gy_points *points, const float *query, struct gy_top *top, uint32_t seed, uint32_t *seeds_read, gyre_error *err)
{
    size_t count = seed < top->count ? seed : top->count;
    if (!count)
        return GYRE_OK;
    gy_top_best_first(top, count);
    gyre_point_id *ids = malloc(count * sizeof *ids);
    float *distances = malloc(count * sizeof *distances);
    gyre_status status = ids && distances ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "%zu seeds", count);
    for (size_t i = 0; i < count && status == GYRE_OK; i++)
        ids[i] = top->items[i].id;
    if (status == GYRE_OK)
        status = gy_points_distances(points, query, ids, count, distances, err);
    if (status == GYRE_OK) {
        size_t kept = 0;
        for (size_t i = 0; i < top->count; i++) {
            struct gy_top_item item = top->items[i];
            if (i < count)
                item.bound = item.estimate = distances[i], item.half_width = 0;
            if (item.estimate != INFINITY)
                top->items[kept++] = item;
        }
        top->count = kept;
        *seeds_read = (uint32_t)count;
    }
    free(ids);
    free(distances);
    return status;
}

static gyre_status finish(gy_points *points, const struct gy_scan_request *request, struct gy_top *tops, uint64_t scanned,
                          struct gy_candidates *out, gyre_error *err)
{
    for (size_t q = 0; q < request->query_count; q++) {
        struct gy_top *top = &tops[q];
        if (gy_now_ns() >= request->deadline_ns)
            return gyre_fail(err, GYRE_DEADLINE, "scan: the deadline passed after the seeds of %zu of %zu queries", q, request->query_count);
        gy_top_cut(top);
        /* Full, and more rows than were kept: some may have been dropped, none of them before the last kept. */
        bool dropped = top->count == request->keep && scanned > request->keep;
        out[q].cutoff = dropped ? top->threshold : INFINITY;
        out[q].scanned = scanned;
        if (!request->exact)
            GY_TRY(read_seeds(points, request->queries + q * gy_points_dim(points), top, request->seed, &out[q].seeds_read, err));
        gy_top_sort(top);
        GY_TRY(take_items(&out[q], top, err));
    }
    return GYRE_OK;
}

gyre_status gy_scan_run(gy_points *points, gy_pool *pool, const struct gy_scan_request *request, struct gy_candidates *out,
                        uint32_t *codebook_version, uint64_t *applied_seq, gyre_error *err)
{
    memset(out, 0, request->query_count * sizeof *out);
    GY_TRY(check(request, err));
    gy_snapshot *snapshot = gy_points_snapshot(points);
    struct gy_top *tops = malloc(request->query_count * sizeof *tops);
    gyre_status status = tops ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "scan of %zu queries", request->query_count);
    for (size_t q = 0; tops && q < request->query_count; q++)
        gy_top_init(&tops[q], request->keep);
    uint64_t scanned = gy_snapshot_count(snapshot);
    if (status == GYRE_OK)
        status = request->exact ? gy_scan_exact(points, request, tops, &scanned, err)
                                : gy_scan_codes(snapshot, gy_points_dim(points), pool, request, tops, err);
    if (status == GYRE_OK)
        status = finish(points, request, tops, scanned, out, err);
    if (status == GYRE_OK) {
        *codebook_version = gyre_codebook_version(gy_snapshot_codebook(snapshot));
        *applied_seq = gy_snapshot_applied_seq(snapshot);
    }
    for (size_t q = 0; tops && q < request->query_count; q++)
        gy_top_fini(&tops[q]);
    free(tops);
    gy_snapshot_release(snapshot);
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
