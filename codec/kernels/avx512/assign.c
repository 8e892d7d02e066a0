/* avx512 assign: 12 vectors x 2 panels of sums in registers.
 *
 * Cost per coordinate of such a tile: 24 fused multiply-adds, 12 cycles of both ports; 14 loads. Fewer vectors take more panels,
 * so that there are always at least eight independent chains. One vector alone is bound by reading the panels. */
#include "kernels/assign.h"
#include "kernels/inline.h"

#include <immintrin.h>

enum { PANELS_MAX = 8 };

/* vectors and panels are constants after inlining: the sums are registers. */
GY_INLINE void tile(const float *panels, size_t panel_stride, const size_t count, const float *x, const size_t vectors,
                    size_t depth, float *scores, size_t score_stride)
{
    __m512 sums[PANELS_MAX][GY_ASSIGN_TILE];
    GY_UNROLL(8)
    for (size_t p = 0; p < count; p++)
        GY_UNROLL(12)
        for (size_t t = 0; t < vectors; t++)
            sums[p][t] = _mm512_loadu_ps(scores + t * score_stride + p * GY_PANEL);
    for (size_t i = 0; i < depth; i++) {
        __m512 panel[PANELS_MAX];
        GY_UNROLL(8)
        for (size_t p = 0; p < count; p++)
            panel[p] = _mm512_loadu_ps(panels + p * panel_stride + i * GY_PANEL);
        GY_UNROLL(12)
        for (size_t t = 0; t < vectors; t++) {
            __m512 value = _mm512_set1_ps(x[i * GY_ASSIGN_TILE + t]);
            GY_UNROLL(8)
            for (size_t p = 0; p < count; p++)
                sums[p][t] = _mm512_fmadd_ps(value, panel[p], sums[p][t]);
        }
    }
    GY_UNROLL(8)
    for (size_t p = 0; p < count; p++)
        GY_UNROLL(12)
        for (size_t t = 0; t < vectors; t++)
            _mm512_storeu_ps(scores + t * score_stride + p * GY_PANEL, sums[p][t]);
}

/* All panels, most of them at once, the rest one by one. */
GY_INLINE void panels_of(const float *panels, size_t panel_stride, size_t panel_count, const size_t at_once, const float *x,
                         const size_t vectors, size_t depth, float *scores, size_t score_stride)
{
    size_t p = 0;
    for (; p + at_once <= panel_count; p += at_once)
        tile(panels + p * panel_stride, panel_stride, at_once, x, vectors, depth, scores + p * GY_PANEL, score_stride);
    for (; p < panel_count; p++)
        tile(panels + p * panel_stride, panel_stride, 1, x, vectors, depth, scores + p * GY_PANEL, score_stride);
}

static void add_products(const float *panels, size_t panel_stride, size_t panel_count, const float *x, size_t count, size_t depth,
                         float *scores, size_t score_stride)
{
    size_t t = 0;
    if (count == GY_ASSIGN_TILE) {
        panels_of(panels, panel_stride, panel_count, 2, x, GY_ASSIGN_TILE, depth, scores, score_stride);
        return;
    }
    for (; t + 4 <= count; t += 4)
        panels_of(panels, panel_stride, panel_count, 4, x + t, 4, depth, scores + t * score_stride, score_stride);
    for (; t < count; t++)
        panels_of(panels, panel_stride, panel_count, 8, x + t, 1, depth, scores + t * score_stride, score_stride);
}

static float largest(const float *scores, size_t count)
{
    __m512 best = _mm512_loadu_ps(scores);
    for (size_t c = GY_PANEL; c < count; c += GY_PANEL)
        best = _mm512_max_ps(best, _mm512_loadu_ps(scores + c));
    return _mm512_reduce_max_ps(best);
}

static size_t collect(const float *scores, size_t count, float least, uint16_t *places)
{
    size_t found = 0;
    for (size_t c = 0; c < count; c += GY_PANEL) {
        unsigned mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + c), _mm512_set1_ps(least), _CMP_GE_OQ);
        for (; mask; mask &= mask - 1)
            places[found++] = (uint16_t)(c + (unsigned)__builtin_ctz(mask));
    }
    return found;
}

static void accumulate(double *sums, const float *x, size_t dim)
{
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        _mm512_storeu_pd(sums + i, _mm512_add_pd(_mm512_loadu_pd(sums + i), _mm512_cvtps_pd(_mm256_loadu_ps(x + i))));
    gy_assign_ref.accumulate(sums + i, x + i, dim - i);
}

const gy_assign_kernels gy_assign_avx512 = {add_products, largest, collect, accumulate};
