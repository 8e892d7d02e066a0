/* neon scan: a nibble's H from a 16-entry table in a register (tbl), 16 rows at once.
 *
 * Cost of one line of codes (64 bytes: two byte positions of 32 rows)
 *   all queries  4 loads, 8 bit operations that split nibbles, 2 prefetches
 *   each query   4 loads of tables (from L1: 8 bytes per dim), 8 look-ups, 6 additions of bytes, 4 that widen
 * Four look-ups (4·63) are all that a byte holds. Rows that pass the fast test are decided one by one. */
#include "kernels/inline.h"
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

#include <arm_neon.h>

enum {
    TABLES_MAX = 4,               /* tables whose sums, four registers each, are kept at once: half of all registers */
    EIGHTHS = GYRE_BLOCK_ROWS / 4 /* of a block's rows: four u32 fill a register */
};

/* H of a block's rows, four to a register. */
struct sums {
    uint32x4_t eighth[EIGHTHS];
};

/* One byte position of 16 rows, as indices. */
struct nibbles {
    uint8x16_t low, high;
};

GY_INLINE struct nibbles position_split(const uint8_t *codes)
{
    uint8x16_t code = vld1q_u8(codes);
    return (struct nibbles){vandq_u8(code, vdupq_n_u8(15)), vshrq_n_u8(code, 4)};
}

/* The entries of one byte position; bytes of the result are at most 126. */
GY_INLINE uint8x16_t position_entries(struct nibbles position, uint8x16_t low, uint8x16_t high)
{
    return vaddq_u8(vqtbl1q_u8(low, position.low), vqtbl1q_u8(high, position.high));
}

/* Adds the entries of a run of at most GY_LOOKUP_RUN_PAIRS pairs. */
GY_INLINE void run_sum(size_t tables, const uint8_t *const *lookups, const uint8_t *codes, size_t pairs, struct sums *sums)
{
    uint16x8_t part[TABLES_MAX][4];
    GY_UNROLL(4)
    for (size_t t = 0; t < tables; t++)
        part[t][0] = part[t][1] = part[t][2] = part[t][3] = vdupq_n_u16(0);
    for (size_t pair = 0; pair < pairs; pair++) {
        const uint8_t *at = codes + pair * GY_PAIR_BYTES;
        struct nibbles first[2] = {position_split(at), position_split(at + 16)};
        struct nibbles second[2] = {position_split(at + 32), position_split(at + 48)};
        gy_scan_prefetch(at);
        GY_UNROLL(4)
        for (size_t t = 0; t < tables; t++) {
            const uint8_t *lookup = lookups[t] + pair * GY_LOOKUP_PAIR_BYTES;
            uint8x16_t first_low = vld1q_u8(lookup), second_low = vld1q_u8(lookup + 32);
            uint8x16_t first_high = vld1q_u8(lookup + 64), second_high = vld1q_u8(lookup + 96);
            GY_UNROLL(2)
            for (size_t half = 0; half < 2; half++) {
                uint8x16_t sum = vaddq_u8(position_entries(first[half], first_low, first_high),
                                          position_entries(second[half], second_low, second_high));
                part[t][2 * half] = vaddw_u8(part[t][2 * half], vget_low_u8(sum));
                part[t][2 * half + 1] = vaddw_high_u8(part[t][2 * half + 1], sum);
            }
        }
    }
    GY_UNROLL(4)
    for (size_t t = 0; t < tables; t++)
        for (size_t i = 0; i < 4; i++) {
            sums[t].eighth[2 * i] = vaddw_u16(sums[t].eighth[2 * i], vget_low_u16(part[t][i]));
            sums[t].eighth[2 * i + 1] = vaddw_high_u16(sums[t].eighth[2 * i + 1], part[t][i]);
        }
}

/* H of the rows of a block, for count queries of `lookups` tables each. */
GY_INLINE void block_sum(const struct gy_scan *const *scans, size_t count, size_t lookups, const uint8_t *block,
                         struct sums *sums)
{
    struct sums table_sums[TABLES_MAX];
    const uint8_t *tables[TABLES_MAX];
    size_t pair_count = scans[0]->pair_count;
    for (size_t t = 0; t < count * lookups; t++)
        for (size_t i = 0; i < EIGHTHS; i++)
            table_sums[t].eighth[i] = vdupq_n_u32(0);
    for (size_t done = 0; done < pair_count; done += GY_LOOKUP_RUN_PAIRS) {
        size_t pairs = pair_count - done < GY_LOOKUP_RUN_PAIRS ? pair_count - done : GY_LOOKUP_RUN_PAIRS;
        for (size_t t = 0; t < count * lookups; t++)
            tables[t] = scans[t / lookups]->lookup[t % lookups] + done * GY_LOOKUP_PAIR_BYTES;
        run_sum(count * lookups, tables, block + done * GY_PAIR_BYTES, pairs, table_sums);
    }
    for (size_t q = 0; q < count; q++) {
        sums[q] = table_sums[q * lookups];
        for (size_t i = 0; i < EIGHTHS && lookups == 2; i++)
            sums[q].eighth[i] = vaddq_u32(sums[q].eighth[i], vshlq_n_u32(table_sums[q * lookups + 1].eighth[i], 4));
    }
}

/* Four rows: lane v is all ones if row v may pass. misses holds H of the rows. */
GY_INLINE uint32x4_t may_pass(const struct gy_scan *scan, const uint8_t *factors, size_t place, uint32x4_t misses,
                              float threshold)
{
    int32x4_t t = vsubq_s32(vdupq_n_s32(scan->levels), vreinterpretq_s32_u32(vshlq_n_u32(misses, 1)));
    float32x4_t s = vld1q_f32((const float *)(const void *)(factors + GY_BLOCK_S + 4 * place));
    float32x4_t add = vld1q_f32((const float *)(const void *)(factors + GY_BLOCK_ADD + 4 * place));
    uint16x4_t e_bits = vld1_u16((const uint16_t *)(const void *)(factors + GY_BLOCK_E + 2 * place));
    float32x4_t e = vreinterpretq_f32_u32(vshll_n_u16(e_bits, 16));
    float32x4_t inner = vmulq_f32(vdupq_n_f32(scan->step), vcvtq_f32_s32(t));
    float32x4_t estimate = vsubq_f32(vaddq_f32(add, vdupq_n_f32(scan->base)), vmulq_f32(s, inner));
    float32x4_t law = vaddq_f32(vmulq_n_f32(e, scan->per_e_up), vmulq_n_f32(s, scan->per_s_up));
    float32x4_t rounding = vaddq_f32(vmulq_n_f32(add, scan->rounding_add_up), vdupq_n_f32(scan->rounding_base_up));
    float32x4_t most = vaddq_f32(law, rounding); /* of an empty place inf or NaN, which no comparison lets through */
    return vcleq_f32(vsubq_f32(estimate, most), vdupq_n_f32(threshold));
}

/* Bit v is set if lane v of the 32 is. */
GY_INLINE uint32_t lanes_mask(const uint32x4_t lanes[EIGHTHS])
{
    const uint8x8_t weight = vcreate_u8(0x8040201008040201);
    uint32_t mask = 0;
    for (size_t i = 0; i < 4; i++) {
        uint16x8_t words = vuzp1q_u16(vreinterpretq_u16_u32(lanes[2 * i]), vreinterpretq_u16_u32(lanes[2 * i + 1]));
        mask |= (uint32_t)vaddv_u8(vand_u8(vmovn_u16(words), weight)) << 8 * i;
    }
    return mask;
}

/* The rows of one block that pass, appended to hits. */
GY_INLINE size_t block_emit(const struct gy_scan *scan, const uint8_t *factors, const struct sums *sums, uint32_t first_row,
                            float threshold, gyre_hit *hits)
{
    uint32x4_t passes[EIGHTHS];
    for (size_t i = 0; i < EIGHTHS; i++)
        passes[i] = may_pass(scan, factors, 4 * i, sums->eighth[i], threshold);
    uint32_t mask = lanes_mask(passes), misses[GYRE_BLOCK_ROWS];
    if (!mask)
        return 0;
    for (size_t i = 0; i < EIGHTHS; i++)
        vst1q_u32(misses + 4 * i, sums->eighth[i]);
    size_t found = 0;
    for (; mask; mask &= mask - 1) {
        uint32_t v = (uint32_t)__builtin_ctz(mask);
        found += gy_scan_emit(scan, gy_scan_factors_at(factors, v), misses[v], first_row + v, threshold, hits + found);
    }
    return found;
}

/* Blocks first…end-1 for `count` queries of `lookups` tables each, both known to the compiler. */
GY_INLINE void blocks_scan(const struct gy_scan_job *job, size_t count, size_t lookups, size_t first, size_t end)
{
    const struct gy_scan *const *scans = job->scans;
    size_t pair_count = scans[0]->pair_count, block_bytes = scans[0]->block_bytes;
    for (size_t b = first; b < end; b++) {
        const uint8_t *block = job->blocks + b * block_bytes, *factors = block + pair_count * GY_PAIR_BYTES;
        struct sums sums[TABLES_MAX];
        block_sum(scans, count, lookups, block, sums);
        gy_scan_prefetch_factors(factors);
        for (size_t q = 0; q < count; q++)
            job->found[q] += block_emit(scans[q], factors, &sums[q], (uint32_t)(b * GYRE_BLOCK_ROWS), job->thresholds[q],
                                        job->hits[q] + job->found[q]);
    }
}

static void scan_1_1(const struct gy_scan_job *job, size_t first, size_t end) { blocks_scan(job, 1, 1, first, end); }
static void scan_2_1(const struct gy_scan_job *job, size_t first, size_t end) { blocks_scan(job, 2, 1, first, end); }
static void scan_3_1(const struct gy_scan_job *job, size_t first, size_t end) { blocks_scan(job, 3, 1, first, end); }
static void scan_4_1(const struct gy_scan_job *job, size_t first, size_t end) { blocks_scan(job, 4, 1, first, end); }
static void scan_1_2(const struct gy_scan_job *job, size_t first, size_t end) { blocks_scan(job, 1, 2, first, end); }
static void scan_2_2(const struct gy_scan_job *job, size_t first, size_t end) { blocks_scan(job, 2, 2, first, end); }

/* By lookups and count. */
static gy_scan_blocks *const blocks_scans[2][TABLES_MAX] = {{scan_1_1, scan_2_1, scan_3_1, scan_4_1}, {scan_1_2, scan_2_2}};

static void scan(const struct gy_scan_job *job)
{
    size_t lookups = job->scans[0]->lookup_count;
    gy_scan_in_groups(blocks_scans[lookups - 1], TABLES_MAX / lookups, job);
}

const gy_scan_kernels gy_scan_neon = {scan};
