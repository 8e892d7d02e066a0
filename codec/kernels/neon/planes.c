/* neon planes: as the definition, in registers of 128 bits.
 *
 * Cost of dot per 64 coordinates and plane: 1 load of bits, 4 of levels, 4 shuffles, tests, bit operations and additions each. A
 * level is added where its bit is set, so no product is needed. */
#include "kernels/planes.h"

#include "kernels/vector.h"

#include <arm_neon.h>
#include <float.h>

/* Four floats from coordinate at on, zeros behind dim. */
static inline float32x4_t floats_load(const float *from, size_t at, size_t dim)
{
    if (dim >= at + 4)
        return vld1q_f32(from + at);
    float some[4] = {0};
    if (dim > at)
        memcpy(some, from + at, (dim - at) * sizeof *from);
    return vld1q_f32(some);
}

static float grid(const float *z, size_t dim, struct gy_grid *out)
{
    float32x4_t most = vdupq_n_f32(0);
    for (size_t i = 0; i < dim; i += 4)
        most = vmaxq_f32(most, vabsq_f32(floats_load(z, i, dim)));
    float scale = (float)GY_GRID_MAX / vmaxvq_f32(most);
    if (!(scale <= FLT_MAX))
        scale = 0;
    out->count = (dim + GY_GRID_LANES - 1) / GY_GRID_LANES * GY_GRID_LANES;
    for (size_t i = 0; i < out->count; i += 4) {
        float32x4_t scaled = vmulq_n_f32(vabsq_f32(floats_load(z, i, dim)), scale);
        int32x4_t whole = vcvtq_s32_f32(vaddq_f32(scaled, vdupq_n_f32(0.5f)));
        vst1q_f32(out->steps + i, vcvtq_f32_s32(whole));
        vst1_s16(out->whole + i, vmovn_s32(whole));
    }
    return scale;
}

static void score(const struct gy_grid *grid_of, float t, int32_t top, int64_t *along, int64_t *square)
{
    const int16x8_t most = vdupq_n_s16((int16_t)top), one = vdupq_n_s16(1);
    int32x4_t low = vdupq_n_s32(0), high = low, squares = low; /* a lane holds 512 products of 127·32767 */
    for (size_t i = 0; i < grid_of->count; i += 8) {
        int32x4_t first = vcvtq_s32_f32(vmulq_n_f32(vld1q_f32(grid_of->steps + i), t));
        int32x4_t second = vcvtq_s32_f32(vmulq_n_f32(vld1q_f32(grid_of->steps + i + 4), t));
        int16x8_t m = vminq_s16(vqmovn_high_s32(vqmovn_s32(first), second), most), whole = vld1q_s16(grid_of->whole + i);
        int16x8_t next = vaddq_s16(m, one);
        low = vmlal_s16(low, vget_low_s16(m), vget_low_s16(whole));
        high = vmlal_high_s16(high, m, whole);
        squares = vmlal_high_s16(vmlal_s16(squares, vget_low_s16(m), vget_low_s16(next)), m, next);
    }
    *along = vaddlvq_s32(low) + vaddlvq_s32(high);
    *square = vaddlvq_s32(squares);
}

/* m of four coordinates, and where z is not negative. */
static inline uint32x4_t steps_of(float32x4_t magnitudes, float t, float32x4_t limit)
{
    return vcvtq_u32_f32(vminq_f32(vmulq_n_f32(vabsq_f32(magnitudes), t), limit));
}

/* Lanes behind dim are zeros: positive and of level 0, so the padding bits are 0. */
static void pack(const float *z, const float *magnitudes, size_t dim, float t, uint32_t low_bits, uint8_t *planes, float *zb)
{
    static const uint8_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x8_t weight = vld1_u8(weights);
    const uint32x4_t top = vdupq_n_u32((1u << low_bits) - 1), minus = vdupq_n_u32(0x80000000);
    const float32x4_t limit = vcvtq_f32_u32(top), half = vdupq_n_f32(0.5f);
    size_t plane_bytes = (dim + 7) / 8;
    for (size_t i = 0; i < dim; i += 8) {
        uint16x4_t halves[2];
        float last[8];
        for (size_t h = 0; h < 2; h++) {
            uint32x4_t negative = vmvnq_u32(vcgezq_f32(floats_load(z, i + 4 * h, dim)));
            uint32x4_t m = steps_of(floats_load(magnitudes, i + 4 * h, dim), t, limit);
            halves[h] = vmovn_u32(veorq_u32(m, vandq_u32(negative, top))); /* top - m flips every bit */
            float32x4_t value = vaddq_f32(vcvtq_f32_u32(m), half);
            vst1q_f32(last + 4 * h, vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(value), vandq_u32(negative, minus))));
        }
        memcpy(zb + i, last, (dim - i < 8 ? dim - i : 8) * sizeof *zb);
        uint8x8_t low = vmovn_u16(vcombine_u16(halves[0], halves[1]));
        for (uint32_t plane = 0; plane < low_bits; plane++) {
            uint8x8_t set = vtst_u8(low, vdup_n_u8((uint8_t)(1u << (low_bits - 1 - plane))));
            planes[plane * plane_bytes + i / 8] = vaddv_u8(vand_u8(set, weight));
        }
    }
}

/* 64 bits of a plane from coordinate at on, zeros behind dim. */
static inline uint8x16_t bits_load(const uint8_t *plane, size_t at, size_t dim)
{
    uint64_t bits = 0;
    memcpy(&bits, plane + at / 8, dim - at >= 64 ? 8 : (dim - at + 7) / 8);
    return vreinterpretq_u8_u64(vdupq_n_u64(bits));
}

/* 0xff where the bit of a coordinate is set: sixteen, those of bytes 2·part and 2·part + 1. */
static inline uint8x16_t mask_of(uint8x16_t bits, size_t part)
{
    const uint8x16_t spread = vcombine_u8(vdup_n_u8((uint8_t)(2 * part)), vdup_n_u8((uint8_t)(2 * part + 1)));
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    return vtstq_u8(vqtbl1q_u8(bits, spread), bit);
}

/* The sum of v where the bits of a plane are set. A lane adds two levels per 64 coordinates: 64·254 at most, 16 bits. */
static inline int32_t plane_dot(const uint8_t *plane, size_t dim, const int8_t *v)
{
    const int16x8_t none = vdupq_n_s16(0);
    int16x8_t sums[4] = {none, none, none, none};
    for (size_t i = 0; i < dim; i += 64) {
        uint8x16_t bits = bits_load(plane, i, dim);
        for (size_t part = 0; part < 4; part++)
            sums[part] = vpadalq_s8(sums[part], vandq_s8(vld1q_s8(v + i + 16 * part), vreinterpretq_s8_u8(mask_of(bits, part))));
    }
    return vaddlvq_s16(sums[0]) + vaddlvq_s16(sums[1]) + vaddlvq_s16(sums[2]) + vaddlvq_s16(sums[3]);
}

static int32_t dot(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
    int32_t sum = plane_dot(signs, dim, v);
    for (uint32_t plane = 0; plane < low_bits; plane++)
        sum = 2 * sum + plane_dot(planes + plane * ((dim + 7) / 8), dim, v);
    return sum;
}

/* u of 64 coordinates, as bytes. */
static inline void levels_load(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, size_t at,
                               uint8x16_t u[4])
{
    uint8x16_t bits = bits_load(signs, at, dim);
    for (size_t part = 0; part < 4; part++)
        u[part] = vshrq_n_u8(mask_of(bits, part), 7);
    for (uint32_t plane = 0; plane < low_bits; plane++) {
        bits = bits_load(planes + plane * ((dim + 7) / 8), at, dim);
        for (size_t part = 0; part < 4; part++)
            u[part] = vsubq_u8(vaddq_u8(u[part], u[part]), mask_of(bits, part)); /* a mask is -1 */
    }
}

/* Sixteen products, added to the lanes; +0 or -0 behind dim, which changes no sum. */
static inline void add_products(float32x4_t lanes[4], uint8x16_t u, float32x4_t half, const float *y, size_t at, size_t dim)
{
    uint16x8_t low = vmovl_u8(vget_low_u8(u)), high = vmovl_high_u8(u);
    uint32x4_t levels[4] = {vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)),
                            vmovl_high_u16(high)};
    for (size_t l = 0; l < 4; l++) {
        float32x4_t value = vsubq_f32(vcvtq_f32_u32(levels[l]), half);
        lanes[l] = vaddq_f32(lanes[l], vmulq_f32(floats_load(y, at + 4 * l, dim), value));
    }
}

static float dot_float(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y)
{
    const float32x4_t none = vdupq_n_f32(0), half = vdupq_n_f32((float)((2u << low_bits) - 1) / 2);
    float32x4_t lanes[4] = {none, none, none, none};
    for (size_t i = 0; i < dim; i += 64) {
        uint8x16_t u[4];
        levels_load(signs, planes, dim, low_bits, i, u);
        for (size_t part = 0; part < 4 && i + 16 * part < dim; part++)
            add_products(lanes, u[part], half, y, i + 16 * part, dim);
    }
    float32x4_t four = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

const gy_planes_kernels gy_planes_neon = {grid, score, pack, dot, dot_float};
