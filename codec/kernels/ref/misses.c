/* ref misses: plain C, the definition. Cost: one count per byte of a code and plane. */
#include "kernels/misses.h"

static void rows_count(const struct gy_misses *query, const uint8_t *rows, size_t stride, size_t n, uint32_t *misses)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = rows + i * stride;
        misses[i] = 0;
        for (size_t plane = 0; plane < query->bits; plane++)
            for (size_t j = 0; j < query->code_bytes; j++) {
                unsigned differ = gy_misses_at(query, plane, j / GY_MISSES_BYTES)[j % GY_MISSES_BYTES] ^ (unsigned)code[j];
                misses[i] += (uint32_t)__builtin_popcount(differ) << plane;
            }
    }
}

const gy_misses_kernels gy_misses_ref = {rows_count};
