/* avx2 assign: 6 vectors x 1 panel of sums in registers, two registers a panel.
 *
 * Cost per coordinate of such a tile: 12 fused multiply-adds, 6 cycles of both ports; 8 loads. */
#include "kernels/assign.h"
#include "kernels/inline.h"

#include <immintrin.h>

enum { LANES = 8, VECTORS = 6, REGISTERS_MAX = 8 };

/* vectors and registers (half panels) are constants after inlining: the sums are registers. */
GY_INLINE void tile(const float *panels, size_t panel_stride, const size_t registers, const float *x, const size_t vectors,
                    size_t depth, float *scores, size_t score_stride)
{
    __m256 sums[REGISTERS_MAX][VECTORS];
    GY_UNROLL(8)
    for (size_t r = 0; r < registers; r++)
        GY_UNROLL(6)
        for (size_t t = 0; t < vectors; t++)
            sums[r][t] = _mm256_loadu_ps(scores + t * score_stride + r * LANES);
    for (size_t i = 0; i < depth; i++) {
        __m256 half[REGISTERS_MAX];
        GY_UNROLL(8)
        for (size_t r = 0; r < registers; r++)
            half[r] = _mm256_loadu_ps(panels + r / 2 * panel_stride + i * GY_PANEL + r % 2 * LANES);
        GY_UNROLL(6)
        for (size_t t = 0; t < vectors; t++) {
            __m256 value = _mm256_set1_ps(x[i * GY_ASSIGN_TILE + t]);
            GY_UNROLL(8)
            for (size_t r = 0; r < registers; r++)
                sums[r][t] = _mm256_fmadd_ps(value, half[r], sums[r][t]);
        }
    }
    GY_UNROLL(8)
    for (size_t r = 0; r < registers; r++)
        GY_UNROLL(6)
        for (size_t t = 0; t < vectors; t++)
            _mm256_storeu_ps(scores + t * score_stride + r * LANES, sums[r][t]);
}

static void add_products(const float *panels, size_t panel_stride, size_t panel_count, const float *x, size_t count, size_t depth,
                         float *scores, size_t score_stride)
{
    size_t t = 0;
    for (; t + VECTORS <= count; t += VECTORS)
        for (size_t p = 0; p < panel_count; p++)
            tile(panels + p * panel_stride, panel_stride, 2, x + t, VECTORS, depth, scores + t * score_stride + p * GY_PANEL,
                 score_stride);
    for (; t < count; t++) {
        float *score = scores + t * score_stride;
        size_t p = 0;
        for (; p + 4 <= panel_count; p += 4)
            tile(panels + p * panel_stride, panel_stride, 8, x + t, 1, depth, score + p * GY_PANEL, score_stride);
        for (; p < panel_count; p++)
            tile(panels + p * panel_stride, panel_stride, 2, x + t, 1, depth, score + p * GY_PANEL, score_stride);
    }
}

static float largest(const float *scores, size_t count)
{
    __m256 best = _mm256_loadu_ps(scores);
    for (size_t c = LANES; c < count; c += LANES)
        best = _mm256_max_ps(best, _mm256_loadu_ps(scores + c));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(best), _mm256_extractf128_ps(best, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static size_t collect(const float *scores, size_t count, float least, uint16_t *places)
{
    size_t found = 0;
    for (size_t c = 0; c < count; c += LANES) {
        unsigned mask =
            (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores + c), _mm256_set1_ps(least), _CMP_GE_OQ));
        for (; mask; mask &= mask - 1)
            places[found++] = (uint16_t)(c + (unsigned)__builtin_ctz(mask));
    }
    return found;
}

static void accumulate(double *sums, const float *x, size_t dim)
{
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        _mm256_storeu_pd(sums + i, _mm256_add_pd(_mm256_loadu_pd(sums + i), _mm256_cvtps_pd(_mm_loadu_ps(x + i))));
    gy_assign_ref.accumulate(sums + i, x + i, dim - i);
}

const gy_assign_kernels gy_assign_avx2 = {add_products, largest, collect, accumulate};
