/* scan: queries against first planes, in blocks by tables of nibbles, row by row by counting bits. Both ways give the same whole
 * numbers, and one function says which hits these are (kernels/scan_emit.h). */
#include "kernels/scan_emit.h"
#include "query_internal.h"

#include <assert.h>

void gy_query_scan_many_with(const gy_kernels *kernels, const gyre_query *const *queries, size_t count, const uint8_t *blocks,
                             size_t block_count, const float *thresholds, gyre_hit *const *hits, size_t *found)
{
    assert(count >= 1 && count <= GYRE_SCAN_QUERIES_MAX);
    const struct gy_scan *scans[GYRE_SCAN_QUERIES_MAX];
    for (size_t q = 0; q < count; q++) {
        scans[q] = &queries[q]->scan;
        assert(scans[q]->pair_count == scans[0]->pair_count && scans[q]->lookup_count == scans[0]->lookup_count);
    }
    assert(scans[0]->lookup_count); /* or the codec has no block scan */
    kernels->scan->scan(&(struct gy_scan_job){scans, count, blocks, block_count, thresholds, hits, found});
}

size_t gy_query_scan_with(const gy_kernels *kernels, const gyre_query *query, const uint8_t *blocks, size_t block_count,
                          float threshold, gyre_hit *hits)
{
    size_t found;
    gy_query_scan_many_with(kernels, &query, 1, blocks, block_count, &threshold, &hits, &found);
    return found;
}

size_t gyre_query_scan(const gyre_query *query, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits)
{
    return gy_query_scan_with(gy_kernels_current(), query, blocks, block_count, threshold, hits);
}

void gyre_query_scan_many(const gyre_query *const *queries, size_t count, const uint8_t *blocks, size_t block_count,
                          const float *thresholds, gyre_hit *const *hits, size_t *found)
{
    gy_query_scan_many_with(gy_kernels_current(), queries, count, blocks, block_count, thresholds, hits, found);
}

size_t gy_query_scan_rows_with(const gy_kernels *kernels, const gyre_query *query, const uint8_t *rows, size_t stride, size_t n,
                               float threshold, gyre_hit *hits)
{
    enum { ROWS = 64 }; /* whose counts are kept at a time */
    const struct gy_misses *planes = &query->misses;
    assert(planes->planes); /* or the first plane is not one of signs */
    uint32_t misses[ROWS];
    size_t found = 0;
    for (size_t first = 0; first < n; first += ROWS) {
        size_t count = n - first < ROWS ? n - first : ROWS;
        kernels->misses->rows(planes, rows + first * stride, stride, count, misses);
        for (size_t i = 0; i < count; i++) {
            const uint8_t *row_at = rows + (first + i) * stride, *factors = row_at + planes->code_bytes;
            for (size_t at = 0; at < stride; at += 64) /* the same row of the next so many */
                __builtin_prefetch((const void *)((uintptr_t)row_at + ROWS * stride + at));
            struct gy_scan_factors row = {
                .s = gy_load_f32(factors + GY_ROW_S),
                .add = gy_load_f32(factors + GY_ROW_ADD),
                .e = gy_bf16_float(gy_load_u16(factors + GY_ROW_E)),
            };
            found += gy_scan_emit(&query->scan, row, misses[i], (uint32_t)(first + i), threshold, hits + found);
        }
    }
    return found;
}

size_t gyre_query_scan_rows(const gyre_query *query, const uint8_t *rows, size_t stride, size_t n, float threshold,
                            gyre_hit *hits)
{
    return gy_query_scan_rows_with(gy_kernels_current(), query, rows, stride, n, threshold, hits);
}
