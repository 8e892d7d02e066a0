/* neon rotate: 64 coordinates in sixteen registers, six strides between one load and one store, then three strides a pass.
 *
 * Cost per register of 4 coordinates: strides 1 and 2 lie within it and take 3 shuffles and 2 additions; every further stride is
 * 1 addition or subtraction. There is no gather: permute loads its coordinates one by one. */
#include "kernels/inline.h"
#include "kernels/rotate.h"

#include <arm_neon.h>

enum { LANES = 4, FIRST = 16, FIRST_FLOATS = FIRST * LANES, REGISTERS = 8 };

/* Strides 1 and 2 of two registers, of whose lanes x0…x3 and y0…y3 are made
 *     sum  x0+x1 y0+y1 x2+x3 y2+y3      low  x0+x1 y0+y1 x0-x1 y0-y1      plus   the first, sums of stride 2, by turns of x and y
 *     difference, with -                high x2+x3 y2+y3 x2-x3 y2-y3      minus  their differences */
GY_INLINE void within(float32x4_t *x, float32x4_t *y)
{
    float32x4_t even = vtrn1q_f32(*x, *y), odd = vtrn2q_f32(*x, *y);
    float64x2_t sum = vreinterpretq_f64_f32(vaddq_f32(even, odd));
    float64x2_t difference = vreinterpretq_f64_f32(vsubq_f32(even, odd));
    float32x4_t low = vreinterpretq_f32_f64(vtrn1q_f64(sum, difference));
    float32x4_t high = vreinterpretq_f32_f64(vtrn2q_f64(sum, difference));
    float32x4_t plus = vaddq_f32(low, high), minus = vsubq_f32(low, high);
    *x = vuzp1q_f32(plus, minus);
    *y = vuzp2q_f32(plus, minus);
}

/* Strides of 1, 2, … registers among the first count of them; count is a constant after inlining. */
GY_INLINE void between(float32x4_t *x, size_t count)
{
    GY_UNROLL(4)
    for (size_t h = 1; h < count; h *= 2)
        GY_UNROLL(8)
        for (size_t p = 0; p < count / 2; p++) {
            size_t low = p / h * 2 * h + p % h;
            float32x4_t a = x[low], b = x[low + h];
            x[low] = vaddq_f32(a, b);
            x[low + h] = vsubq_f32(a, b);
        }
}

/* All strides within count registers side by side. */
GY_INLINE void pass_first(float *x, size_t count, const float *scale)
{
    float32x4_t v[FIRST];
    GY_UNROLL(16)
    for (size_t r = 0; r < count; r++)
        v[r] = vld1q_f32(x + r * LANES);
    GY_UNROLL(8)
    for (size_t r = 0; r < count; r += 2)
        within(&v[r], &v[r + 1]);
    between(v, count);
    GY_UNROLL(16)
    for (size_t r = 0; r < count; r++)
        vst1q_f32(x + r * LANES, scale ? vmulq_n_f32(v[r], *scale) : v[r]);
}

/* Strides stride, 2·stride, … of blocks of count·stride. */
GY_INLINE void pass_blocks(float *x, size_t dim, size_t stride, size_t count, const float *scale)
{
    for (size_t i = 0; i < dim; i += count * stride)
        for (size_t j = 0; j < stride; j += LANES) {
            float32x4_t v[REGISTERS];
            GY_UNROLL(8)
            for (size_t r = 0; r < count; r++)
                v[r] = vld1q_f32(x + i + j + r * stride);
            between(v, count);
            GY_UNROLL(8)
            for (size_t r = 0; r < count; r++)
                vst1q_f32(x + i + j + r * stride, scale ? vmulq_n_f32(v[r], *scale) : v[r]);
        }
}

static void hadamard(float *x, size_t count, float scale)
{
    switch (count) {
    case 8: pass_first(x, 2, &scale); return;
    case 16: pass_first(x, 4, &scale); return;
    case 32: pass_first(x, 8, &scale); return;
    case 64: pass_first(x, 16, &scale); return;
    default: break;
    }
    if (count < 2 * LANES) {
        gy_rotate_ref.hadamard(x, count, scale);
        return;
    }
    for (size_t i = 0; i < count; i += FIRST_FLOATS)
        pass_first(x + i, FIRST, NULL);
    size_t stride = FIRST_FLOATS;
    if (count > FIRST_FLOATS * REGISTERS) {
        pass_blocks(x, count, stride, REGISTERS, NULL);
        stride *= REGISTERS;
    }
    switch (count / stride) {
    case 2: pass_blocks(x, count, stride, 2, &scale); break;
    case 4: pass_blocks(x, count, stride, 4, &scale); break;
    default: pass_blocks(x, count, stride, 8, &scale); break;
    }
}

GY_INLINE float32x4_t flipped(float32x4_t value, const uint16_t *moves)
{
    uint32x4_t flips = vshll_n_u16(vand_u16(vld1_u16(moves), vdup_n_u16(GY_MOVE_FLIP)), 16);
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(value), flips));
}

static void flip(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        vst1q_f32(out + i, flipped(vld1q_f32(in + i), moves + i));
    gy_rotate_ref.flip(in + i, moves + i, out + i, dim - i);
}

static void permute(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    size_t j = 0;
    for (; j + LANES <= dim; j += LANES) {
        float32x4_t value = vld1q_dup_f32(in + (moves[j] & GY_MOVE_FROM));
        value = vld1q_lane_f32(in + (moves[j + 1] & GY_MOVE_FROM), value, 1);
        value = vld1q_lane_f32(in + (moves[j + 2] & GY_MOVE_FROM), value, 2);
        value = vld1q_lane_f32(in + (moves[j + 3] & GY_MOVE_FROM), value, 3);
        vst1q_f32(out + j, flipped(value, moves + j));
    }
    gy_rotate_ref.permute(in, moves + j, out + j, dim - j);
}

const gy_rotate_kernels gy_rotate_neon = {flip, permute, hadamard};
