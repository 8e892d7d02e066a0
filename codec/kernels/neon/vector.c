/* neon vector: the sixteen lanes of the definition in four registers. Multiply, then add: vmlaq and vfmaq would round once. */
#include "kernels/vector.h"

#include <arm_neon.h>

/* Lanes 0…3, 4…7, 8…11, 12…15. */
typedef struct lanes {
    float32x4_t of[4];
} lanes;

static inline lanes zero(void)
{
    const float32x4_t none = vdupq_n_f32(0);
    return (lanes){{none, none, none, none}};
}

static inline float fold(const lanes *sum)
{
    float32x4_t low = vaddq_f32(sum->of[0], sum->of[2]), high = vaddq_f32(sum->of[1], sum->of[3]);
    float32x4_t four = vaddq_f32(low, high);
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline void add_products(lanes *sum, const float *a, const float *b)
{
    for (size_t l = 0; l < 4; l++)
        sum->of[l] = vaddq_f32(sum->of[l], vmulq_f32(vld1q_f32(a + 4 * l), vld1q_f32(b + 4 * l)));
}

static inline void add_squares(lanes *sum, const float *a, const float *b)
{
    for (size_t l = 0; l < 4; l++) {
        float32x4_t difference = vsubq_f32(vld1q_f32(a + 4 * l), vld1q_f32(b + 4 * l));
        sum->of[l] = vaddq_f32(sum->of[l], vmulq_f32(difference, difference));
    }
}

/* The last dim%16 components, zeros behind them: adding +0 to a lane changes nothing, as no lane is ever -0. */
static inline void tail_copy(const float *from, size_t count, float to[GY_LANES])
{
    memset(to, 0, GY_LANES * sizeof *to);
    memcpy(to, from, count * sizeof *from);
}

static float dot(const float *a, const float *b, size_t dim)
{
    lanes sum = zero();
    size_t i = 0;
    for (; i + GY_LANES <= dim; i += GY_LANES)
        add_products(&sum, a + i, b + i);
    if (i < dim) {
        float a_tail[GY_LANES], b_tail[GY_LANES];
        tail_copy(a + i, dim - i, a_tail);
        tail_copy(b + i, dim - i, b_tail);
        add_products(&sum, a_tail, b_tail);
    }
    return fold(&sum);
}

static float l2(const float *a, const float *b, size_t dim)
{
    lanes sum = zero();
    size_t i = 0;
    for (; i + GY_LANES <= dim; i += GY_LANES)
        add_squares(&sum, a + i, b + i);
    if (i < dim) {
        float a_tail[GY_LANES], b_tail[GY_LANES];
        tail_copy(a + i, dim - i, a_tail);
        tail_copy(b + i, dim - i, b_tail);
        add_squares(&sum, a_tail, b_tail);
    }
    return fold(&sum);
}

GY_VECTOR_ONE_BY_ONE(dots, dot)
GY_VECTOR_ONE_BY_ONE(l2s, l2)

const gy_vector_kernels gy_vector_neon = {dot, l2, dots, l2s};
