/* avx512vbmi misses: 16 bytes of a code against four planes at a time, counted by vpopcntq.
 *
 * Cost per 16 bytes of a code and four planes: 2 loads, 1 exclusive-or, 1 count, 1 addition; per row 8 to weigh and fold sums. */
#include "kernels/inline.h"
#include "kernels/misses.h"

#include <immintrin.h>

/* Adds the counts of 16 bytes of a code against the planes of `groups` groups of four, a word each. */
GY_INLINE void step_count(const uint8_t *planes, size_t group_bytes, size_t groups, __m128i code, __m512i sums[])
{
    __m512i four = _mm512_broadcast_i32x4(code);
    GY_UNROLL(2)
    for (size_t g = 0; g < groups; g++) {
        __m512i differ = _mm512_xor_si512(_mm512_load_si512(planes + g * group_bytes), four);
        sums[g] = _mm512_add_epi64(sums[g], _mm512_popcnt_epi64(differ));
    }
}

/* With the number of groups known to the compiler. */
GY_INLINE void rows_of(const struct gy_misses *query, size_t groups, const uint8_t *rows, size_t stride, size_t n,
                       uint32_t *misses)
{
    size_t whole = query->code_bytes / GY_MISSES_BYTES, rest = query->code_bytes % GY_MISSES_BYTES;
    size_t group_bytes = gy_misses_steps(query->code_bytes) * GY_MISSES_STEP_BYTES;
    __mmask16 rest_bytes = (__mmask16)((1u << rest) - 1);
    /* A plane's weight; where there is none, 64 bits to the left, which leaves nothing. */
    const __m512i first = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    const int last[2] = {query->bits == 8 ? 6 : 64, query->bits == 8 ? 7 : 64};
    const __m512i second = _mm512_setr_epi64(4, 4, 5, 5, last[0], last[0], last[1], last[1]);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = rows + i * stride, *planes = query->planes;
        __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (size_t step = 0; step < whole; step++, code += GY_MISSES_BYTES, planes += GY_MISSES_STEP_BYTES)
            step_count(planes, group_bytes, groups, _mm_loadu_si128((const __m128i *)code), sums);
        if (rest)
            step_count(planes, group_bytes, groups, _mm_maskz_loadu_epi8(rest_bytes, code), sums);
        __m512i sum = _mm512_sllv_epi64(sums[0], first);
        if (groups == 2)
            sum = _mm512_add_epi64(sum, _mm512_sllv_epi64(sums[1], second));
        misses[i] = (uint32_t)_mm512_reduce_add_epi64(sum);
    }
}

static void rows_count(const struct gy_misses *query, const uint8_t *rows, size_t stride, size_t n, uint32_t *misses)
{
    if (query->bits == 4)
        rows_of(query, 1, rows, stride, n, misses);
    else
        rows_of(query, 2, rows, stride, n, misses);
}

const gy_misses_kernels gy_misses_avx512_vbmi = {rows_count};
