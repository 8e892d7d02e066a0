/* neon assign: 6 vectors x 1 panel of sums in 24 registers, four registers a panel.
 *
 * Cost per coordinate of such a tile: 24 fused multiply-adds, which are the definition's; 4 loads and 2 of the vectors' values. */
#include "kernels/assign.h"
#include "kernels/inline.h"

#include <arm_neon.h>

enum { LANES = 4, VECTORS = 6, QUARTERS = GY_PANEL / LANES };

/* vectors is a constant after inlining: the sums are registers. */
GY_INLINE void tile(const float *panel, const float *x, const size_t vectors, size_t depth, float *scores, size_t score_stride)
{
    float32x4_t sums[VECTORS][QUARTERS];
    GY_UNROLL(6)
    for (size_t t = 0; t < vectors; t++)
        GY_UNROLL(4)
        for (size_t r = 0; r < QUARTERS; r++)
            sums[t][r] = vld1q_f32(scores + t * score_stride + r * LANES);
    for (size_t i = 0; i < depth; i++) {
        float32x4_t quarter[QUARTERS];
        GY_UNROLL(4)
        for (size_t r = 0; r < QUARTERS; r++)
            quarter[r] = vld1q_f32(panel + i * GY_PANEL + r * LANES);
        GY_UNROLL(6)
        for (size_t t = 0; t < vectors; t++)
            GY_UNROLL(4)
            for (size_t r = 0; r < QUARTERS; r++)
                sums[t][r] = vfmaq_n_f32(sums[t][r], quarter[r], x[i * GY_ASSIGN_TILE + t]);
    }
    GY_UNROLL(6)
    for (size_t t = 0; t < vectors; t++)
        GY_UNROLL(4)
        for (size_t r = 0; r < QUARTERS; r++)
            vst1q_f32(scores + t * score_stride + r * LANES, sums[t][r]);
}

static void add_products(const float *panels, size_t panel_stride, size_t panel_count, const float *x, size_t count, size_t depth,
                         float *scores, size_t score_stride)
{
    size_t t = 0;
    for (; t + VECTORS <= count; t += VECTORS)
        for (size_t p = 0; p < panel_count; p++)
            tile(panels + p * panel_stride, x + t, VECTORS, depth, scores + t * score_stride + p * GY_PANEL, score_stride);
    for (; t < count; t++)
        for (size_t p = 0; p < panel_count; p++)
            tile(panels + p * panel_stride, x + t, 1, depth, scores + t * score_stride + p * GY_PANEL, score_stride);
}

static float largest(const float *scores, size_t count)
{
    float32x4_t best = vld1q_f32(scores);
    for (size_t c = LANES; c < count; c += LANES)
        best = vmaxq_f32(best, vld1q_f32(scores + c));
    return vmaxvq_f32(best);
}

/* Few scores are that large: most fours are passed by. */
static size_t collect(const float *scores, size_t count, float least, uint16_t *places)
{
    const float32x4_t limit = vdupq_n_f32(least);
    size_t found = 0;
    for (size_t c = 0; c < count; c += LANES)
        if (vmaxvq_u32(vcgeq_f32(vld1q_f32(scores + c), limit)))
            for (size_t l = c; l < c + LANES; l++)
                if (scores[l] >= least)
                    places[found++] = (uint16_t)l;
    return found;
}

static void accumulate(double *sums, const float *x, size_t dim)
{
    size_t i = 0;
    for (; i + 2 <= dim; i += 2)
        vst1q_f64(sums + i, vaddq_f64(vld1q_f64(sums + i), vcvt_f64_f32(vld1_f32(x + i))));
    gy_assign_ref.accumulate(sums + i, x + i, dim - i);
}

const gy_assign_kernels gy_assign_neon = {add_products, largest, collect, accumulate};
