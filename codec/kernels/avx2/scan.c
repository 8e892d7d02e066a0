/* avx2 scan: a nibble's H from a 16-entry table in a register (vpshufb), 32 rows at once.
 *
 * Cost per byte position of a block (32 code bytes): 1 load of codes, 2 of tables (they stay in L1: 8 bytes per dim), 2
 * shuffles, 3 bit operations, 2 additions; byte sums are widened every second position, as 2·120 is the most a byte holds. */
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

#include <immintrin.h>

/* Adds the H of one byte position; bytes of the result are at most 120. */
static inline __m256i position_misses(const uint8_t *codes, const uint8_t *lookup)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i code = _mm256_load_si256((const __m256i *)codes);
    __m256i low = _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)lookup), _mm256_and_si256(code, nibble));
    __m256i high = _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)(lookup + 64)),
                                       _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble));
    return _mm256_add_epi8(low, high);
}

/* Eight rows: bit v is set if row v may pass. t holds H of the rows. */
static inline unsigned may_pass(const struct gy_scan *scan, const uint8_t *factors, size_t place, __m256i misses, __m256 threshold)
{
    __m256i t = _mm256_sub_epi32(_mm256_set1_epi32(scan->levels), _mm256_slli_epi32(misses, 1));
    __m256 s = _mm256_load_ps((const float *)(const void *)(factors + GY_BLOCK_S + 4 * place));
    __m256 add = _mm256_load_ps((const float *)(const void *)(factors + GY_BLOCK_ADD + 4 * place));
    __m128i e_bits = _mm_load_si128((const __m128i *)(factors + GY_BLOCK_E + 2 * place));
    __m256 e = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(e_bits), 16));
    __m256 inner = _mm256_mul_ps(_mm256_set1_ps(scan->step), _mm256_cvtepi32_ps(t));
    __m256 estimate = _mm256_sub_ps(_mm256_add_ps(add, _mm256_set1_ps(scan->base)), _mm256_mul_ps(s, inner));
    __m256 law = _mm256_add_ps(_mm256_mul_ps(e, _mm256_set1_ps(scan->per_e_up)), _mm256_mul_ps(s, _mm256_set1_ps(scan->per_s_up)));
    __m256 rounding = _mm256_add_ps(_mm256_mul_ps(add, _mm256_set1_ps(scan->rounding_add_up)), _mm256_set1_ps(scan->rounding_base_up));
    __m256 most = _mm256_add_ps(law, rounding); /* of an empty place inf or NaN, which no comparison lets through */
    __m256 passes = _mm256_cmp_ps(_mm256_sub_ps(estimate, most), threshold, _CMP_LE_OQ);
    return (unsigned)_mm256_movemask_ps(passes);
}

static size_t scan_blocks(const struct gy_scan *scan, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits)
{
    if (scan->lookup_count != 1)
        return gy_scan_ref.scan(scan, blocks, block_count, threshold, hits);
    const __m256i byte = _mm256_set1_epi16(0xff);
    const __m256 limit = _mm256_set1_ps(threshold);
    size_t found = 0;
    for (size_t b = 0; b < block_count; b++) {
        const uint8_t *block = blocks + b * scan->block_bytes;
        __m256i even = _mm256_setzero_si256(), odd = even; /* H of rows 0,2,4… and 1,3,5… */
        for (size_t pair = 0; pair < scan->pair_count; pair++) {
            const uint8_t *codes = block + pair * GY_PAIR_BYTES, *lookup = scan->lookup[0] + pair * GY_LOOKUP_PAIR_BYTES;
            gy_scan_prefetch(codes);
            __m256i sum = _mm256_add_epi8(position_misses(codes, lookup), position_misses(codes + 32, lookup + 32));
            even = _mm256_add_epi16(even, _mm256_and_si256(sum, byte));
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(sum, 8));
        }
        /* unpack puts rows 0…7 and 16…23 together (it works within 128 bits), and 8…15 with 24…31. */
        __m256i first = _mm256_unpacklo_epi16(even, odd), second = _mm256_unpackhi_epi16(even, odd);
        __m128i rows[4] = {_mm256_castsi256_si128(first), _mm256_castsi256_si128(second), _mm256_extracti128_si256(first, 1),
                           _mm256_extracti128_si256(second, 1)};
        const uint8_t *factors = block + scan->pair_count * GY_PAIR_BYTES;
        gy_scan_prefetch_factors(factors);
        unsigned mask = 0;
        for (unsigned i = 0; i < 4; i++)
            mask |= may_pass(scan, factors, 8 * i, _mm256_cvtepu16_epi32(rows[i]), limit) << 8 * i;
        if (!mask)
            continue;
        uint16_t misses[GYRE_BLOCK_ROWS];
        memcpy(misses, rows, sizeof misses);
        for (; mask; mask &= mask - 1) {
            unsigned v = (unsigned)__builtin_ctz(mask);
            found += gy_scan_emit(scan, factors, v, misses[v], (uint32_t)(b * GYRE_BLOCK_ROWS + v), threshold, hits + found);
        }
    }
    return found;
}

const gy_scan_kernels gy_scan_avx2 = {scan_blocks};
