/* neon signs: a byte of the plane two registers. */
#include "kernels/signs.h"

#include <arm_neon.h>

static const uint16_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};

static void pack(const float *z, size_t dim, uint8_t *bits)
{
    const uint16x8_t weight = vld1q_u16(weights);
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        uint16x8_t low = vreinterpretq_u16_u32(vcgezq_f32(vld1q_f32(z + i)));
        uint16x8_t high = vreinterpretq_u16_u32(vcgezq_f32(vld1q_f32(z + i + 4)));
        bits[i / 8] = (uint8_t)vaddvq_u16(vandq_u16(vuzp1q_u16(low, high), weight));
    }
    gy_signs_ref.pack(z + i, dim - i, bits + i / 8);
}

/* +1 where a bit of byte is set, -1 elsewhere. */
static inline float32x4_t ones_of(uint32x4_t byte, uint32x4_t bit)
{
    const uint32x4_t minus = vdupq_n_u32(0x80000000);
    uint32x4_t set = vtstq_u32(byte, bit);
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(vdupq_n_f32(1)), vbicq_u32(minus, set)));
}

static void unpack(const uint8_t *bits, size_t dim, float *out)
{
    const uint16x8_t weight = vld1q_u16(weights);
    const uint32x4_t low = vmovl_u16(vget_low_u16(weight)), high = vmovl_high_u16(weight);
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        uint32x4_t byte = vdupq_n_u32(bits[i / 8]);
        vst1q_f32(out + i, ones_of(byte, low));
        vst1q_f32(out + i + 4, ones_of(byte, high));
    }
    gy_signs_ref.unpack(bits + i / 8, dim - i, out + i);
}

const gy_signs_kernels gy_signs_neon = {pack, unpack};
