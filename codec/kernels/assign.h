/* assign kernels: which of many centroids is nearest to each of many vectors.
 *
 * |x-c|^2 = |x|^2 - 2·(<x,c> - |c|^2/2): the nearest centroid has the largest score <x,c> - |c|^2/2, and a score costs one fused
 * multiply-add a coordinate where the distance itself costs two operations. Lanes are centroids and every score is summed in
 * order of i, so that every table gives the same bits. The fused multiply-add is IEEE 754's; the definition is fmaf.
 *
 * Centroids lie in panels of 16, [dim][16]; the last is filled up with zeros whose scores start at -inf. */
#ifndef GY_KERNELS_ASSIGN_H
#define GY_KERNELS_ASSIGN_H

#include "gyre/base.h"

enum {
    GY_PANEL = 16, /* centroids: a register of 512 bits */
    GY_ASSIGN_TILE = 12, /* vectors that share a load of a panel: 12 x 2 sums fit registers of 512 bits, 6 x 2 those of 256 */
};

typedef struct gy_assign_kernels {
    /* For vector t of count, at most GY_ASSIGN_TILE, and lane l of panel p of panel_count, for i = 0…depth-1 in order:
     *     s = fma(x[i·GY_ASSIGN_TILE + t], panels[p·panel_stride + 16·i + l], s), s = scores[t·score_stride + 16·p + l] */
    void (*add_products)(const float *panels, size_t panel_stride, size_t panel_count, const float *x, size_t count, size_t depth,
                         float *scores, size_t score_stride);
    /* The largest of count scores, a multiple of 16, none NaN (of 0 and -0 either). */
    float (*largest)(const float *scores, size_t count);
    /* The places of scores that are not below least, ascending; returns how many. places has room for count. */
    size_t (*collect)(const float *scores, size_t count, float least, uint16_t *places);
    /* sums[i] += x[i]. */
    void (*accumulate)(double *sums, const float *x, size_t dim);
} gy_assign_kernels;

extern const gy_assign_kernels gy_assign_ref, gy_assign_avx2, gy_assign_avx512, gy_assign_neon;

#endif
