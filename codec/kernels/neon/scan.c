/* neon scan: a nibble's H from a 16-entry table in a register (tbl), 16 rows at once.
 *
 * Cost per byte position of a block (32 code bytes): 2 loads of codes, 2 of tables (they stay in L1: 8 bytes per dim), 4 look-ups, 4 bit
 * operations, 2 additions; byte sums are widened every second position, as 2·126 is the most a byte holds. */
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

#include <arm_neon.h>

enum {
    QUARTERS = GYRE_BLOCK_ROWS / 8, /* of a block's rows: eight u16 fill a register */
    SPILL_PAIRS = 257,              /* 257·4·63 is the most that fits a u16 */
};

/* H of one byte position of 16 rows; bytes of the result are at most 2·63. */
static inline uint8x16_t position_sum(const uint8_t *codes, const uint8_t *lookup)
{
    uint8x16_t code = vld1q_u8(codes);
    uint8x16_t low = vqtbl1q_u8(vld1q_u8(lookup), vandq_u8(code, vdupq_n_u8(15)));
    uint8x16_t high = vqtbl1q_u8(vld1q_u8(lookup + 64), vshrq_n_u8(code, 4));
    return vaddq_u8(low, high);
}

/* Adds the H of all rows over a run of pairs, at most SPILL_PAIRS. */
static inline void run_sum(const uint8_t *codes, const uint8_t *lookup, size_t pairs, uint16x8_t sums[QUARTERS])
{
    for (size_t pair = 0; pair < pairs; pair++, codes += GY_PAIR_BYTES, lookup += GY_LOOKUP_PAIR_BYTES) {
        gy_scan_prefetch(codes);
        uint8x16_t first = vaddq_u8(position_sum(codes, lookup), position_sum(codes + 32, lookup + 32));
        uint8x16_t second = vaddq_u8(position_sum(codes + 16, lookup), position_sum(codes + 48, lookup + 32));
        sums[0] = vaddw_u8(sums[0], vget_low_u8(first));
        sums[1] = vaddw_high_u8(sums[1], first);
        sums[2] = vaddw_u8(sums[2], vget_low_u8(second));
        sums[3] = vaddw_high_u8(sums[3], second);
    }
}

/* H of every row of a block, four to a register. */
static inline void block_sums(const struct gy_scan *scan, const uint8_t *block, uint32x4_t sums[2 * QUARTERS])
{
    for (size_t i = 0; i < 2 * QUARTERS; i++)
        sums[i] = vdupq_n_u32(0);
    for (size_t t = scan->lookup_count; t-- > 0;) { /* the tables of weight 16 first */
        for (size_t i = 0; i < 2 * QUARTERS; i++)
            sums[i] = vshlq_n_u32(sums[i], 4);
        for (size_t done = 0; done < scan->pair_count; done += SPILL_PAIRS) {
            size_t pairs = scan->pair_count - done < SPILL_PAIRS ? scan->pair_count - done : SPILL_PAIRS;
            uint16x8_t part[QUARTERS] = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0)};
            run_sum(block + done * GY_PAIR_BYTES, scan->lookup[t] + done * GY_LOOKUP_PAIR_BYTES, pairs, part);
            for (size_t i = 0; i < QUARTERS; i++) {
                sums[2 * i] = vaddw_u16(sums[2 * i], vget_low_u16(part[i]));
                sums[2 * i + 1] = vaddw_high_u16(sums[2 * i + 1], part[i]);
            }
        }
    }
}

/* Four rows: lane v is all ones if row v may pass. sums holds H of the rows. */
static inline uint32x4_t may_pass(const struct gy_scan *scan, const uint8_t *factors, size_t place, uint32x4_t sums, float threshold)
{
    int32x4_t t = vsubq_s32(vdupq_n_s32(scan->levels), vreinterpretq_s32_u32(vshlq_n_u32(sums, 1)));
    float32x4_t s = vld1q_f32((const float *)(const void *)(factors + GY_BLOCK_S + 4 * place));
    float32x4_t add = vld1q_f32((const float *)(const void *)(factors + GY_BLOCK_ADD + 4 * place));
    uint16x4_t e_bits = vld1_u16((const uint16_t *)(const void *)(factors + GY_BLOCK_E + 2 * place));
    float32x4_t e = vreinterpretq_f32_u32(vshll_n_u16(e_bits, 16));
    float32x4_t inner = vmulq_f32(vdupq_n_f32(scan->step), vcvtq_f32_s32(t));
    float32x4_t estimate = vsubq_f32(vaddq_f32(add, vdupq_n_f32(scan->base)), vmulq_f32(s, inner));
    float32x4_t law = vaddq_f32(vmulq_f32(e, vdupq_n_f32(scan->per_e_up)), vmulq_f32(s, vdupq_n_f32(scan->per_s_up)));
    float32x4_t rounding = vaddq_f32(vmulq_f32(add, vdupq_n_f32(scan->rounding_add_up)), vdupq_n_f32(scan->rounding_base_up));
    float32x4_t most = vaddq_f32(law, rounding); /* of an empty place inf or NaN, which no comparison lets through */
    return vcleq_f32(vsubq_f32(estimate, most), vdupq_n_f32(threshold));
}

/* Bit v is set if lane v of the 32 is. */
static inline uint32_t lanes_mask(const uint32x4_t lanes[2 * QUARTERS])
{
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint32_t mask = 0;
    for (size_t half = 0; half < 2; half++) {
        uint16x8_t words[2];
        for (size_t i = 0; i < 2; i++)
            words[i] = vuzp1q_u16(vreinterpretq_u16_u32(lanes[4 * half + 2 * i]), vreinterpretq_u16_u32(lanes[4 * half + 2 * i + 1]));
        uint8x16_t bytes = vuzp1q_u8(vreinterpretq_u8_u16(words[0]), vreinterpretq_u8_u16(words[1]));
        bytes = vandq_u8(bytes, vld1q_u8(weights));
        mask |= (uint32_t)(vaddv_u8(vget_low_u8(bytes)) | vaddv_u8(vget_high_u8(bytes)) << 8) << 16 * half;
    }
    return mask;
}

/* The rows of one block that pass, appended to hits. */
static inline size_t block_emit(const struct gy_scan *scan, const uint8_t *factors, const uint32x4_t sums[2 * QUARTERS], uint32_t first_row,
                                float threshold, gyre_hit *hits)
{
    uint32x4_t passes[2 * QUARTERS];
    for (size_t i = 0; i < 2 * QUARTERS; i++)
        passes[i] = may_pass(scan, factors, 4 * i, sums[i], threshold);
    uint32_t mask = lanes_mask(passes);
    if (!mask)
        return 0;
    uint32_t misses[GYRE_BLOCK_ROWS];
    for (size_t i = 0; i < 2 * QUARTERS; i++)
        vst1q_u32(misses + 4 * i, sums[i]);
    size_t found = 0;
    for (; mask; mask &= mask - 1) {
        uint32_t v = (uint32_t)__builtin_ctz(mask);
        found += gy_scan_emit(scan, gy_scan_factors_at(factors, v), misses[v], first_row + v, threshold, hits + found);
    }
    return found;
}

static void scan_one(const struct gy_scan_job *job, size_t first, size_t end)
{
    const struct gy_scan *scan = job->scans[0];
    for (size_t b = first; b < end; b++) {
        const uint8_t *block = job->blocks + b * scan->block_bytes, *factors = block + scan->pair_count * GY_PAIR_BYTES;
        uint32x4_t sums[2 * QUARTERS];
        block_sums(scan, block, sums);
        gy_scan_prefetch_factors(factors);
        *job->found += block_emit(scan, factors, sums, (uint32_t)(b * GYRE_BLOCK_ROWS), *job->thresholds,
                                  *job->hits + *job->found);
    }
}

static void scan(const struct gy_scan_job *job) { gy_scan_in_groups(&(gy_scan_blocks *){scan_one}, 1, job); }

const gy_scan_kernels gy_scan_neon = {scan};
