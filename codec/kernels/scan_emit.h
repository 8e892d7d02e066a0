/* scan_emit: what happens to the few rows that pass a kernel's fast test: the exact half width, and the decision.
 * One piece of scalar code for every table, so that all decide alike. */
#ifndef GY_SCAN_EMIT_H
#define GY_SCAN_EMIT_H

#include "kernels/kernels.h"
#include "rabitq_layout.h"

#include <math.h>

/* Writes the hit of one row if its exact bound lets it through; returns how many were written: 0 or 1.
 *   factors  of the row's block        misses  H of the row */
static inline size_t gy_scan_emit(const struct gy_scan *scan, const uint8_t *factors, size_t place, uint32_t misses, uint32_t row,
                                  float threshold, gyre_hit *hit)
{
    float s = gy_load_f32(factors + GY_BLOCK_S + 4 * place);
    float add = gy_load_f32(factors + GY_BLOCK_ADD + 4 * place);
    uint32_t e_bits = (uint32_t)gy_load_u16(factors + GY_BLOCK_E + 2 * place) << 16;
    float e;
    memcpy(&e, &e_bits, sizeof e);
    if (add == INFINITY) /* an empty place */
        return 0;
    float t = (float)(scan->levels - 2 * (int32_t)misses);
    float estimate = (add + scan->base) - s * (scan->step * t);
    float most = e * scan->per_e_up + s * scan->per_s_up;
    double from_code = (double)e * scan->per_e, from_query = (double)s * scan->per_s;
    float half_width = (float)sqrt(from_code * from_code + from_query * from_query);
    if (half_width > most) /* only among denormals, where most has lost its margin */
        half_width = most;
    if (!(estimate - half_width <= threshold))
        return 0;
    *hit = (gyre_hit){row, estimate, half_width};
    return 1;
}

#endif
