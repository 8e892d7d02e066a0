/* ref misses: plain C, the definition. Cost: one count per eight bytes of a code and plane: a dozen operations where the CPU has
 * no instruction for it. */
#include "kernels/misses.h"

static uint32_t bits_differing(const uint8_t *plane, const uint8_t *code)
{
    uint32_t count = 0;
    for (size_t at = 0; at < GY_MISSES_BYTES; at += 8)
        count += (uint32_t)__builtin_popcountll(gy_load_u64(plane + at) ^ gy_load_u64(code + at));
    return count;
}

static void rows_count(const struct gy_misses *query, const uint8_t *rows, size_t stride, size_t n, uint32_t *misses)
{
    for (size_t i = 0; i < n; i++) {
        misses[i] = 0;
        for (size_t at = 0; at < query->code_bytes; at += GY_MISSES_BYTES) {
            size_t left = query->code_bytes - at;
            uint8_t code[GY_MISSES_BYTES] = {0};
            memcpy(code, rows + i * stride + at, left < sizeof code ? left : sizeof code);
            for (size_t plane = 0; plane < query->bits; plane++)
                misses[i] += bits_differing(gy_misses_at(query, plane, at / GY_MISSES_BYTES), code) << plane;
        }
    }
}

const gy_misses_kernels gy_misses_ref = {rows_count};
