/* neon misses: 16 bytes of a code against one plane at a time, bits counted by cnt.
 *
 * Cost per 16 bytes of a code and plane: 1 load, 1 exclusive-or, 1 count, 1 addition that widens to 16 bits (at most 16 a step:
 * a lane holds 4095 steps). */
#include "kernels/inline.h"
#include "kernels/misses.h"

#include <arm_neon.h>

/* H of one code, with bits known to the compiler. */
GY_INLINE uint32_t code_count(const struct gy_misses *query, size_t bits, const uint8_t *code)
{
    size_t whole = query->code_bytes / GY_MISSES_BYTES, rest = query->code_bytes % GY_MISSES_BYTES, steps = whole + (rest > 0);
    uint64_t tail[2];
    gy_misses_tail(code, query->code_bytes, tail);
    uint8x16_t last = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(tail[0]), vcreate_u64(tail[1])));
    uint16x8_t sums[8];
    GY_UNROLL(8)
    for (size_t plane = 0; plane < bits; plane++)
        sums[plane] = vdupq_n_u16(0);
    for (size_t step = 0; step < steps; step++) {
        uint8x16_t at = step < whole ? vld1q_u8(code + step * GY_MISSES_BYTES) : last;
        GY_UNROLL(8)
        for (size_t plane = 0; plane < bits; plane++)
            sums[plane] = vpadalq_u8(sums[plane], vcntq_u8(veorq_u8(vld1q_u8(gy_misses_at(query, plane, step)), at)));
    }
    uint32_t misses = 0;
    GY_UNROLL(8)
    for (size_t plane = 0; plane < bits; plane++)
        misses += (uint32_t)vaddvq_u16(sums[plane]) << plane;
    return misses;
}

static void rows_count(const struct gy_misses *query, const uint8_t *rows, size_t stride, size_t n, uint32_t *misses)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = rows + i * stride;
        misses[i] = query->bits == 4   ? code_count(query, 4, code)
                    : query->bits == 6 ? code_count(query, 6, code)
                                       : code_count(query, 8, code);
    }
}

const gy_misses_kernels gy_misses_neon = {rows_count};
