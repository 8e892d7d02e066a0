/* neon trellis: four stems a step forward, values of sixteen coordinates by table look-ups of sixty-four bytes.
 *
 * Forward, 256 states, a coordinate: per four stems 2^k - 1 comparisons, minima and selections; per four states one
 * interleaving or copy of the stems' costs, one widening addition and one widening multiply-add. The choices of sixteen stems
 * become bits by a weighted sum of bytes. Values: sixteen windows are two shuffles and two shifts of eight 16-bit lanes; 256
 * states take four look-ups. */
#include "kernels/trellis.h"

#include <arm_neon.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

struct least {
    int32x4_t cost;
    uint32x4_t choice; /* t of each lane */
};

/* Of the 2^k predecessors of four stems, stems apart. */
ALWAYS_INLINE struct least least_of(const int32_t *costs, uint32_t stems, uint32_t k)
{
    struct least least = {vld1q_s32(costs), vdupq_n_u32(0)};
    for (uint32_t t = 1; t < 1u << k; t++) {
        int32x4_t cost = vld1q_s32(costs + t * stems);
        uint32x4_t lower = vcltq_s32(cost, least.cost);
        least.choice = vbslq_u32(lower, vdupq_n_u32(t), least.choice);
        least.cost = vminq_s32(cost, least.cost);
    }
    return least;
}

/* cost + (v - m)^2 - v^2 of four states. */
ALWAYS_INLINE int32x4_t add_branch(const struct gy_trellis *trellis, uint32_t state, int32x4_t cost, int16_t v)
{
    int16x4x2_t branch = vld2_s16(trellis->branch[state]);
    return vmlal_n_s16(vaddw_s16(cost, branch.val[0]), branch.val[1], v);
}

/* Bit b of the choices of sixteen stems, a bit each. */
ALWAYS_INLINE uint16_t bits_of(const uint32x4_t choice[4], uint32_t b)
{
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint16x8_t low = vcombine_u16(vmovn_u32(choice[0]), vmovn_u32(choice[1]));
    uint16x8_t high = vcombine_u16(vmovn_u32(choice[2]), vmovn_u32(choice[3]));
    uint8x16_t all = vcombine_u8(vmovn_u16(low), vmovn_u16(high));
    uint8x16_t set = vandq_u8(vtstq_u8(all, vdupq_n_u8((uint8_t)(1u << b))), vld1q_u8(weights));
    return (uint16_t)(vaddv_u8(vget_low_u8(set)) | vaddv_u8(vget_high_u8(set)) << 8);
}

/* For constant window and k with at least sixteen stems. */
ALWAYS_INLINE void forward_of(const struct gy_trellis *trellis, uint32_t window, uint32_t k, const int16_t *v, size_t dim,
                              uint64_t (*choices)[2], int32_t *costs)
{
    const uint32_t states = 1u << window, stems = states >> k;
    int32_t other[GY_TRELLIS_STATES_MAX];
    int32_t *from = dim % 2 ? costs : other, *to = dim % 2 ? other : costs; /* so that the last step writes costs */
    for (uint32_t s = 0; s < states; s += 4)
        vst1q_s32(from + s, add_branch(trellis, s, vdupq_n_s32(0), v[0]));
    for (size_t i = 1; i < dim; i++) {
        choices[i][0] = choices[i][1] = 0;
        for (uint32_t p = 0; p < stems; p += 16) {
            uint32x4_t choice[4];
            for (uint32_t q = 0; q < 4; q++) {
                struct least least = least_of(from + p + 4 * q, stems, k);
                choice[q] = least.choice;
                uint32_t state = (p + 4 * q) << k;
                for (uint32_t u = 0; u < 1u << k; u++, state += 4) {
                    int32x4_t cost = k == 1 ? (u ? vzip2q_s32(least.cost, least.cost) : vzip1q_s32(least.cost, least.cost))
                                            : vdupq_n_s32(least.cost[4 * u >> k]);
                    vst1q_s32(to + state, add_branch(trellis, state, cost, v[i]));
                }
            }
            for (uint32_t b = 0; b < k; b++) {
                uint32_t at = b * stems + p;
                choices[i][at / 64] |= (uint64_t)bits_of(choice, b) << at % 64;
            }
        }
        int32_t *swap = from;
        from = to, to = swap;
    }
}

static void forward(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2], int32_t *costs)
{
    switch (trellis->window * 8 + trellis->fresh) {
    case 6 * 8 + 1: forward_of(trellis, 6, 1, v, dim, choices, costs); break;
    case 8 * 8 + 1: forward_of(trellis, 8, 1, v, dim, choices, costs); break;
    case 8 * 8 + 2: forward_of(trellis, 8, 2, v, dim, choices, costs); break;
    case 8 * 8 + 3: forward_of(trellis, 8, 3, v, dim, choices, costs); break;
    default: gy_trellis_ref.forward(trellis, v, dim, choices, costs);
    }
}

enum { GROUP = 16, END_BYTES = 16 };

/* A code as it is read, sixteen coordinates at a time: the window of 16m + 15 is at bit k·(dim-16-16m), the others above it. */
struct groups {
    const struct gy_trellis *trellis;
    const uint8_t *code, *signs;
    size_t count, code_bytes;
    size_t end_at;                     /* of the code's bytes that end starts with */
    uint8_t end[END_BYTES + GROUP];    /* the last of them, and zeros: sixteen bytes are read at a time */
    size_t first;                      /* where those of group 0 are; those of group m are 2·k·m before */
    uint8x16_t bytes[2], value[4][4];  /* two bytes of each window; the values, 64 in four */
    int16x8_t shifts[2];
};

static struct groups groups_of(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim)
{
    uint32_t k = trellis->fresh, rest = (uint32_t)(k * dim % 8);
    uint8_t bytes[2 * GROUP];
    int16_t shifts[GROUP];
    for (uint32_t l = 0; l < GROUP; l++) {
        uint32_t bit = rest + k * (GROUP - 1 - l);
        bytes[2 * l] = (uint8_t)(bit / 8), bytes[2 * l + 1] = (uint8_t)(bit / 8 + 1);
        shifts[l] = (int16_t) - (int16_t)(bit % 8);
    }
    struct groups groups = {.trellis = trellis, .code = code, .signs = signs, .count = dim / GROUP, .first = k * dim / 8 - 2 * k};
    groups.code_bytes = gy_trellis_code_bytes(trellis->window, k, dim);
    size_t copied = groups.code_bytes < END_BYTES ? groups.code_bytes : END_BYTES;
    groups.end_at = groups.code_bytes - copied;
    memcpy(groups.end, code + groups.end_at, copied);
    for (size_t i = 0; i < 2; i++) {
        groups.bytes[i] = vld1q_u8(bytes + GROUP * i);
        groups.shifts[i] = vld1q_s16(shifts + 8 * i);
    }
    for (size_t i = 0; i < 16; i++)
        groups.value[i / 4][i % 4] = vld1q_u8(trellis->value + 16 * i);
    return groups;
}

/* The values, lifted, of group m. */
ALWAYS_INLINE uint8x16_t values_of(const struct groups *groups, size_t m)
{
    size_t at = groups->first - 2 * groups->trellis->fresh * m;
    const uint8_t *from = at + GROUP <= groups->code_bytes ? groups->code + at : groups->end + (at - groups->end_at);
    uint8x16_t code = vld1q_u8(from);
    uint16x8_t low = vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(code, groups->bytes[0])), groups->shifts[0]);
    uint16x8_t high = vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(code, groups->bytes[1])), groups->shifts[1]);
    uint8x16_t windows = vcombine_u8(vmovn_u16(low), vmovn_u16(high));
    windows = vandq_u8(windows, vdupq_n_u8((uint8_t)((1u << groups->trellis->window) - 1)));
    uint8x16_t values = vdupq_n_u8(0);
    for (uint32_t part = 0; part < (groups->trellis->window <= 6 ? 1 : 4); part++) {
        uint8x16x4_t table = {{groups->value[part][0], groups->value[part][1], groups->value[part][2], groups->value[part][3]}};
        values = vqtbx4q_u8(values, table, vsubq_u8(windows, vdupq_n_u8((uint8_t)(64 * part))));
    }
    return values;
}

/* All ones where the coordinates of group m are negative. */
ALWAYS_INLINE int8x16_t negative_of(const struct groups *groups, size_t m)
{
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    if (!groups->signs)
        return vdupq_n_s8(0);
    uint8x16_t bits = vcombine_u8(vdup_n_u8(groups->signs[2 * m]), vdup_n_u8(groups->signs[2 * m + 1]));
    return vreinterpretq_s8_u8(vceqzq_u8(vandq_u8(bits, vld1q_u8(weights))));
}

/* Coordinates behind the last whole group, the first of the code. */
struct rest {
    int32_t value[GROUP]; /* lifted */
    bool negative[GROUP];
    size_t count;
};

static struct rest rest_of(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim)
{
    struct rest rest = {.count = dim % GROUP};
    struct gy_trellis_reader reader = gy_trellis_open(trellis, code);
    for (size_t i = rest.count; i-- > 0;) {
        size_t at = dim / GROUP * GROUP + i;
        rest.value[i] = trellis->value[reader.state];
        rest.negative[i] = signs && !(signs[at / 8] >> at % 8 & 1);
        if (i)
            gy_trellis_step_back(trellis, &reader);
    }
    return rest;
}

static int32_t dot(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, const int8_t *levels)
{
    const struct groups groups = groups_of(trellis, signs, code, dim);
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t m = 0; m < groups.count; m++) {
        int8x16_t minus = negative_of(&groups, m), level = vsubq_s8(veorq_s8(vld1q_s8(levels + GROUP * m), minus), minus);
        uint8x16_t value = values_of(&groups, m);
        int16x8_t value_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(value))), level_low = vmovl_s8(vget_low_s8(level));
        int16x8_t value_high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(value))), level_high = vmovl_s8(vget_high_s8(level));
        sums = vmlal_s16(sums, vget_low_s16(value_low), vget_low_s16(level_low));
        sums = vmlal_high_s16(sums, value_low, level_low);
        sums = vmlal_s16(sums, vget_low_s16(value_high), vget_low_s16(level_high));
        sums = vmlal_high_s16(sums, value_high, level_high);
    }
    int32_t sum = vaddvq_s32(sums);
    struct rest rest = rest_of(trellis, signs, code, dim);
    for (size_t i = 0; i < rest.count; i++) {
        int32_t product = rest.value[i] * levels[GROUP * groups.count + i];
        sum += rest.negative[i] ? -product : product;
    }
    return sum;
}

static void decode(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, float *out)
{
    const struct groups groups = groups_of(trellis, signs, code, dim);
    const int16x8_t lift = vdupq_n_s16((int16_t)trellis->lift);
    for (size_t m = 0; m < groups.count; m++) {
        uint8x16_t value = values_of(&groups, m);
        int8x16_t negative = negative_of(&groups, m);
        for (size_t half = 0; half < 2; half++) {
            int16x8_t minus = vmovl_s8(half ? vget_high_s8(negative) : vget_low_s8(negative));
            int16x8_t eight = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(half ? vget_high_u8(value) : vget_low_u8(value))), lift);
            eight = vsubq_s16(veorq_s16(eight, minus), minus);
            vst1q_f32(out + GROUP * m + 8 * half, vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight))));
            vst1q_f32(out + GROUP * m + 8 * half + 4, vcvtq_f32_s32(vmovl_high_s16(eight)));
        }
    }
    struct rest rest = rest_of(trellis, signs, code, dim);
    for (size_t i = 0; i < rest.count; i++) {
        int32_t value = rest.value[i] - trellis->lift;
        out[GROUP * groups.count + i] = (float)(rest.negative[i] ? -value : value);
    }
}

const gy_trellis_kernels gy_trellis_neon = {forward, dot, decode};
