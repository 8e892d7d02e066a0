/* scan_emit: what every table's scan shares: fetching ahead, and what happens to the few rows that pass the fast test (the
 * exact half width and the decision, in one piece of scalar code, so that all tables decide alike). */
#ifndef GY_SCAN_EMIT_H
#define GY_SCAN_EMIT_H

#include "kernels/scan.h"
#include "layout.h"

#include <math.h>

/* The hardware's prefetcher stops at every page of 4 KiB; asking half a page ahead keeps the reads flowing. Measured: 1, 3, 4 and
 * 8 KiB are all slower at d = 768. Fetching beyond the last block is harmless: a prefetch never faults. */
enum { GY_PREFETCH_BYTES = 2048 };

/* As an integer: a pointer that far behind the last block would not be a pointer. */
static inline void gy_scan_prefetch(const uint8_t *from)
{
    __builtin_prefetch((const void *)((uintptr_t)from + GY_PREFETCH_BYTES));
}

/* The cache lines of a block's factors that a scan reads: up to the end of e. */
static inline void gy_scan_prefetch_factors(const uint8_t *factors)
{
    for (size_t at = 0; at < GY_BLOCK_R2; at += 64)
        gy_scan_prefetch(factors + at);
}

/* Writes the hit of one row if its exact bound lets it through; returns how many were written: 0 or 1.
 *   factors  of the row's block        misses  H of the row */
static inline size_t gy_scan_emit(const struct gy_scan *scan, const uint8_t *factors, size_t place, uint32_t misses, uint32_t row,
                                  float threshold, gyre_hit *hit)
{
    float s = gy_load_f32(factors + GY_BLOCK_S + 4 * place);
    float add = gy_load_f32(factors + GY_BLOCK_ADD + 4 * place);
    float e = gy_bf16_float(gy_load_u16(factors + GY_BLOCK_E + 2 * place));
    if (add == INFINITY) /* an empty place */
        return 0;
    float t = (float)(scan->levels - 2 * (int32_t)misses);
    float estimate = (add + scan->base) - s * (scan->step * t);
    float most = (e * scan->per_e_up + s * scan->per_s_up) + (add * scan->rounding_add_up + scan->rounding_base_up);
    double from_code = (double)e * scan->per_e, from_query = (double)s * scan->per_s;
    double rounding = scan->rounding_base + (double)add * scan->rounding_add + (double)s * scan->rounding_s;
    float half_width = (float)(sqrt(from_code * from_code + from_query * from_query) + rounding);
    if (half_width > most) /* only among denormals, where most has lost its margin */
        half_width = most;
    if (!(estimate - half_width <= threshold))
        return 0;
    *hit = (gyre_hit){row, estimate, half_width};
    return 1;
}

#endif
