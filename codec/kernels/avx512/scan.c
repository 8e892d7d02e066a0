/* avx512 scan: as avx2/scan.c, two byte positions of 32 rows in one register.
 *
 * Cost per pair of byte positions of a block (64 code bytes): 1 load of codes, 2 of tables (L1), 2 shuffles, 3 bit operations,
 * 1 addition; byte sums are widened every second pair, as 2·120 is the most a byte holds. Memory is the limit: fetching
 * GY_PREFETCH_BYTES ahead took d = 768 from 0.59 to 0.86 of the speed of a plain read. Vector popcounts would need four
 * exclusive-ors and four counts for the same 64 bytes. */
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

#include <immintrin.h>

/* The H of one pair of byte positions; bytes of the result are at most 120. */
static inline __m512i pair_misses(const uint8_t *codes, __m512i low_table, __m512i high_table)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    gy_scan_prefetch(codes);
    __m512i code = _mm512_load_si512(codes);
    __m512i low = _mm512_shuffle_epi8(low_table, _mm512_and_si512(code, nibble));
    __m512i high = _mm512_shuffle_epi8(high_table, _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble));
    return _mm512_add_epi8(low, high);
}

/* Sixteen rows: bit v is set if row v may pass. */
static inline __mmask16 may_pass(const struct gy_scan *scan, const uint8_t *factors, size_t place, __m512i misses, __m512 threshold)
{
    __m512i t = _mm512_sub_epi32(_mm512_set1_epi32(scan->levels), _mm512_slli_epi32(misses, 1));
    __m512 s = _mm512_load_ps(factors + GY_BLOCK_S + 4 * place);
    __m512 add = _mm512_load_ps(factors + GY_BLOCK_ADD + 4 * place);
    __m256i e_bits = _mm256_load_si256((const __m256i *)(factors + GY_BLOCK_E + 2 * place));
    __m512 e = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(e_bits), 16));
    __m512 inner = _mm512_mul_ps(_mm512_set1_ps(scan->step), _mm512_cvtepi32_ps(t));
    __m512 estimate = _mm512_sub_ps(_mm512_add_ps(add, _mm512_set1_ps(scan->base)), _mm512_mul_ps(s, inner));
    __m512 law = _mm512_add_ps(_mm512_mul_ps(e, _mm512_set1_ps(scan->per_e_up)), _mm512_mul_ps(s, _mm512_set1_ps(scan->per_s_up)));
    __m512 rounding = _mm512_add_ps(_mm512_mul_ps(add, _mm512_set1_ps(scan->rounding_add_up)), _mm512_set1_ps(scan->rounding_base_up));
    __m512 most = _mm512_add_ps(law, rounding); /* of an empty place inf or NaN, which no comparison lets through */
    return _mm512_cmp_ps_mask(_mm512_sub_ps(estimate, most), threshold, _CMP_LE_OQ);
}

/* H of the 32 rows of a block, u16 each, in order of rows. */
static inline __m512i block_misses(const struct gy_scan *scan, const uint8_t *block)
{
    const __m512i byte = _mm512_set1_epi16(0xff);
    __m512i even = _mm512_setzero_si512(), odd = even; /* rows 0,2,4… and 1,3,5…, each of two byte positions */
    size_t pair = 0;
    for (; pair + 2 <= scan->pair_count; pair += 2) {
        const uint8_t *codes = block + pair * GY_PAIR_BYTES, *lookup = scan->lookup[0] + pair * GY_LOOKUP_PAIR_BYTES;
        __m512i sum = _mm512_add_epi8(pair_misses(codes, _mm512_load_si512(lookup), _mm512_load_si512(lookup + 64)),
                                      pair_misses(codes + 64, _mm512_load_si512(lookup + 128), _mm512_load_si512(lookup + 192)));
        even = _mm512_add_epi16(even, _mm512_and_si512(sum, byte));
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(sum, 8));
    }
    if (pair < scan->pair_count) {
        const uint8_t *lookup = scan->lookup[0] + pair * GY_LOOKUP_PAIR_BYTES;
        __m512i sum = pair_misses(block + pair * GY_PAIR_BYTES, _mm512_load_si512(lookup), _mm512_load_si512(lookup + 64));
        even = _mm512_add_epi16(even, _mm512_and_si512(sum, byte));
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(sum, 8));
    }
    /* The halves hold the two byte positions of the same rows. */
    __m256i even_rows = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    __m256i odd_rows = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1));
    __m256i first = _mm256_unpacklo_epi16(even_rows, odd_rows), second = _mm256_unpackhi_epi16(even_rows, odd_rows);
    __m256i rows_0_15 = _mm256_permute2x128_si256(first, second, 0x20), rows_16_31 = _mm256_permute2x128_si256(first, second, 0x31);
    return _mm512_inserti64x4(_mm512_castsi256_si512(rows_0_15), rows_16_31, 1);
}

static size_t scan_blocks(const struct gy_scan *scan, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits)
{
    if (scan->lookup_count != 1)
        return gy_scan_ref.scan(scan, blocks, block_count, threshold, hits);
    const __m512 limit = _mm512_set1_ps(threshold);
    size_t found = 0;
    for (size_t b = 0; b < block_count; b++) {
        const uint8_t *block = blocks + b * scan->block_bytes;
        __m512i rows = block_misses(scan, block);
        const uint8_t *factors = block + scan->pair_count * GY_PAIR_BYTES;
        gy_scan_prefetch_factors(factors);
        uint32_t mask = may_pass(scan, factors, 0, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(rows)), limit) |
                        (uint32_t)may_pass(scan, factors, 16, _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(rows, 1)), limit) << 16;
        if (!mask)
            continue;
        uint16_t misses[GYRE_BLOCK_ROWS];
        memcpy(misses, &rows, sizeof misses);
        for (; mask; mask &= mask - 1) {
            unsigned v = (unsigned)__builtin_ctz(mask);
            found += gy_scan_emit(scan, factors, v, misses[v], (uint32_t)(b * GYRE_BLOCK_ROWS + v), threshold, hits + found);
        }
    }
    return found;
}

const gy_scan_kernels gy_scan_avx512 = {scan_blocks};
