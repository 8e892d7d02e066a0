/* avx2 misses: 16 bytes of a code against two planes at a time; bits of a byte are counted by two 16-entry tables (vpshufb).
 *
 * Cost per 16 bytes of a code and two planes: 1 load, 1 exclusive-or, 6 to count, 1 to sum eight bytes, 1 to add: 3 cycles.
 * Counting words one by one (popcnt) takes 4 loads, 4 exclusive-ors, 4 counts and 4 additions; counts go one at a time. */
#include "kernels/inline.h"
#include "kernels/misses.h"

#include <immintrin.h>

/* Bits set in every eight bytes. */
static inline __m256i word_counts(__m256i bits)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i counts = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, nibble));
    __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble));
    return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
}

/* H of one code, with bits known to the compiler. */
GY_INLINE uint32_t code_count(const struct gy_misses *query, size_t bits, const uint8_t *code)
{
    size_t whole = query->code_bytes / GY_MISSES_BYTES, rest = query->code_bytes % GY_MISSES_BYTES, steps = whole + (rest > 0);
    uint64_t tail[2];
    gy_misses_tail(code, query->code_bytes, tail);
    __m128i last = _mm_set_epi64x((long long)tail[1], (long long)tail[0]);
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t step = 0; step < steps; step++) {
        __m128i at = step < whole ? _mm_loadu_si128((const __m128i *)(code + step * GY_MISSES_BYTES)) : last;
        __m256i twice = _mm256_broadcastsi128_si256(at);
        GY_UNROLL(4)
        for (size_t pair = 0; pair < bits / 2; pair++) {
            __m256i planes = _mm256_load_si256((const __m256i *)gy_misses_at(query, 2 * pair, step));
            sums[pair] = _mm256_add_epi64(sums[pair], word_counts(_mm256_xor_si256(planes, twice)));
        }
    }
    /* The lower half of a register is of an even plane, the upper of the one after it, which weighs twice as much. */
    __m256i sum = _mm256_setzero_si256();
    GY_UNROLL(4)
    for (size_t pair = 0; pair < bits / 2; pair++)
        sum = _mm256_add_epi64(sum, _mm256_slli_epi64(sums[pair], (int)(2 * pair)));
    __m128i even = _mm256_castsi256_si128(sum), odd = _mm256_extracti128_si256(sum, 1);
    __m128i both = _mm_add_epi64(even, _mm_add_epi64(odd, odd));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi64(both, _mm_unpackhi_epi64(both, both)));
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

const gy_misses_kernels gy_misses_avx2 = {rows_count};
