/* neon sums: the eight lanes of the definition in four registers. Products are exact in double and may be fused (kernels/sums.h). */
#include "kernels/sums.h"

#include <arm_neon.h>

/* Lanes 0 1, 2 3, 4 5, 6 7. */
typedef struct lanes {
    float64x2_t of[4];
} lanes;

static inline lanes zero(void)
{
    const float64x2_t none = vdupq_n_f64(0);
    return (lanes){{none, none, none, none}};
}

static inline double fold(const lanes *sum)
{
    float64x2_t four = vaddq_f64(sum->of[0], sum->of[2]), other = vaddq_f64(sum->of[1], sum->of[3]); /* 0+4 1+5, 2+6 3+7 */
    float64x2_t two = vaddq_f64(four, other);
    return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}

static inline lanes load(const float *from)
{
    float32x4_t low = vld1q_f32(from), high = vld1q_f32(from + 4);
    return (lanes){{vcvt_f64_f32(vget_low_f32(low)), vcvt_high_f64_f32(low), vcvt_f64_f32(vget_low_f32(high)),
                    vcvt_high_f64_f32(high)}};
}

/* The eight from n - left on, zeros behind them: adding +0 to a lane changes nothing, as no lane is ever -0. */
static inline lanes load_some(const float *from, size_t left)
{
    if (left >= GY_SUM_LANES)
        return load(from);
    float some[GY_SUM_LANES] = {0};
    memcpy(some, from, left * sizeof *from);
    return load(some);
}

static inline void add_products(lanes *sum, const lanes *a, const lanes *b)
{
    for (size_t l = 0; l < 4; l++)
        sum->of[l] = vfmaq_f64(sum->of[l], a->of[l], b->of[l]);
}

static double products(const float *a, const float *b, size_t n)
{
    lanes sum = zero();
    for (size_t i = 0; i < n; i += GY_SUM_LANES) {
        lanes from_a = load_some(a + i, n - i), from_b = load_some(b + i, n - i);
        add_products(&sum, &from_a, &from_b);
    }
    return fold(&sum);
}

static void pair(const float *a, const float *b, size_t n, double *ab, double *bb)
{
    lanes products_sum = zero(), squares_sum = zero();
    for (size_t i = 0; i < n; i += GY_SUM_LANES) {
        lanes from_a = load_some(a + i, n - i), from_b = load_some(b + i, n - i);
        add_products(&products_sum, &from_a, &from_b);
        add_products(&squares_sum, &from_b, &from_b);
    }
    *ab = fold(&products_sum);
    *bb = fold(&squares_sum);
}

static double magnitudes(const float *a, size_t n)
{
    lanes sum = zero();
    for (size_t i = 0; i < n; i += GY_SUM_LANES) {
        lanes from = load_some(a + i, n - i);
        for (size_t l = 0; l < 4; l++)
            sum.of[l] = vaddq_f64(sum.of[l], vabsq_f64(from.of[l]));
    }
    return fold(&sum);
}

static void divide(const float *in, double norm, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) /* as compilers vectorise it */
        out[i] = (float)((double)in[i] / norm);
}

const gy_sums_kernels gy_sums_neon = {products, pair, magnitudes, divide};
