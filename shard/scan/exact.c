/* Exact comparison, without codes: full vectors of a snapshot, chunk by chunk. A point that was deleted since and whose vector is
 * gone is no neighbour. */
#include "scan/internal.h"

#include <math.h>
#include <stdlib.h>

gyre_status gy_exact_rank(const struct gy_scanning *scanning, uint32_t query, const uint32_t *slots, size_t count, float *out,
                          gyre_error *err)
{
    GY_TRY(gy_points_rank(scanning->points, scanning->snapshot, scanning->request->queries + (size_t)query * scanning->dim,
                          slots, count, out, err));
    for (size_t i = 0; i < count; i++)
        if (isnan(out[i]))
            return gyre_fail(err, GYRE_CORRUPT, "the vector in slot %u is not finite", slots[i]);
    return GYRE_OK;
}

gyre_status gy_exact_chunk(struct gy_scanning *scanning, struct gy_worker *worker, size_t chunk, const struct gy_chunk_view *view,
                           const struct gy_mask *mask, const uint32_t *queries, size_t count, gyre_error *err)
{
    uint32_t slots[GY_CHUNK_ROWS];
    float distances[GY_CHUNK_ROWS];
    size_t rows = 0;
    for (uint32_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS; b++)
        for (uint32_t left = mask->blocks[b]; left; left &= left - 1)
            slots[rows++] = (uint32_t)chunk * GY_CHUNK_ROWS + b * GYRE_BLOCK_ROWS + (uint32_t)__builtin_ctz(left);
    for (size_t i = 0; i < count; i++) {
        uint32_t q = queries[i];
        struct gy_keeper *keeper = &worker->keepers[q];
        GY_TRY(gy_exact_rank(scanning, q, slots, rows, distances, err));
        keeper->reads += (uint32_t)rows;
        float threshold = atomic_load_explicit(&scanning->thresholds[q], memory_order_relaxed);
        for (size_t r = 0; r < rows; r++) {
            if (!(distances[r] <= threshold) || distances[r] == INFINITY)
                continue;
            const gyre_point_id *id = &view->ids[slots[r] % GY_CHUNK_ROWS];
            GY_TRY(gy_top_offer(&keeper->top, &(struct gy_top_item){distances[r], distances[r], 0, slots[r], *id}, err));
        }
        gy_scan_lower(&scanning->thresholds[q], gy_top_threshold(&keeper->top));
    }
    return GYRE_OK;
}

static gyre_status few_of_query(struct gy_scanning *scanning, uint32_t q, const uint32_t *slots, size_t count, float *distances,
                                struct gy_top *top,
                                gyre_error *err)
{
    struct gy_candidates *out = &scanning->out[q];
    float limit = gy_scan_limit(scanning->request, q);
    GY_TRY(gy_scan_look(scanning->request, err));
    GY_TRY(gy_exact_rank(scanning, q, slots, count, distances, err));
    for (size_t i = 0; i < count; i++) {
        if (!(distances[i] <= limit) || distances[i] == INFINITY)
            continue;
        struct gy_chunk_view view = gy_snapshot_chunk(scanning->snapshot, slots[i] / GY_CHUNK_ROWS);
        const gyre_point_id *id = &view.ids[slots[i] % GY_CHUNK_ROWS];
        GY_TRY(gy_top_offer(top, &(struct gy_top_item){distances[i], distances[i], 0, slots[i], *id}, err));
    }
    gy_top_cut(top);
    out->cutoff = top->count == top->keep && count > top->keep ? top->threshold : INFINITY;
    if (scanning->request->exact)
        out->scanned = count;
    else
        out->seeds_read = (uint32_t)count;
    gy_top_sort(top);
    return gy_scan_take(out, top, err);
}

gyre_status gy_exact_few(struct gy_scanning *scanning, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    uint32_t *slots = NULL;
    size_t count;
    GY_TRY(gy_filter_few(scanning, &slots, &count, err));
    float *distances = malloc((count + 1) * sizeof *distances);
    gyre_status status = distances ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "%zu distances", count);
    for (uint32_t q = 0; q < request->query_count && status == GYRE_OK; q++) {
        struct gy_top top;
        gy_top_init(&top, request->keep);
        status = few_of_query(scanning, q, slots, count, distances, &top, err);
        gy_top_fini(&top);
    }
    free(slots);
    free(distances);
    return status;
}
