/* avx512 scan: as avx2/scan.c, two byte positions of 32 rows in one register.
 *
 * Cost of two lines of codes (128 bytes: four byte positions of 32 rows)
 *   all queries  2 loads, 6 bit operations that split nibbles, 4 prefetches
 *   each query   4 table look-ups with their loads (from L1: 8 bytes per dim), 3 additions of bytes, 3 operations to widen
 * of which two go at a time (look-ups one): 3 + 5 cycles for one query, 3 + 20 for four. Four look-ups (4·63) are all that a byte
 * holds; widening adds their sum to 16-bit sums as it is and, shifted, to those of the odd rows, which are taken back out of the
 * first at the end of the run. From memory two lines take 23 cycles: one query waits for memory, four for the look-ups.
 * A block ends with a fold and a test of 2 · 16 rows: 20 cycles a query. Rows that pass the test cost 45 cycles per eight.
 * Vector popcounts would need four exclusive-ors and four counts for the same 64 bytes. */
#include "kernels/inline.h"
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

#include <immintrin.h>

/* Tables whose sums, two registers each, are kept at once. Eight would fit: at d = 768 eight queries gain 6 %, at 128 nothing. */
enum { TABLES_MAX = 4 };

/* H of rows 0…15 and 16…31. */
struct sums {
    __m512i half[2];
};

/* A line of codes as indices. */
struct nibbles {
    __m512i low, high;
};

GY_INLINE struct nibbles line_split(const uint8_t *codes)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i code = _mm512_load_si512(codes);
    return (struct nibbles){_mm512_and_si512(code, nibble), _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble)};
}

/* The entries of one line; bytes of the result are at most 126. */
GY_INLINE __m512i line_entries(struct nibbles line, const uint8_t *lookup)
{
    return _mm512_add_epi8(_mm512_shuffle_epi8(_mm512_load_si512(lookup), line.low),
                           _mm512_shuffle_epi8(_mm512_load_si512(lookup + 64), line.high));
}

/* Adds the entries of a run of at most GY_LOOKUP_RUN_PAIRS pairs. */
GY_INLINE void run_sum(size_t tables, const uint8_t *const *lookups, const uint8_t *codes, size_t pairs, struct sums *sums)
{
    /* 16 bits: rows 2i + 256 · rows 2i+1, and rows 2i+1; the halves are the two byte positions of the same rows. */
    __m512i both[TABLES_MAX], odd[TABLES_MAX];
    GY_UNROLL(4)
    for (size_t t = 0; t < tables; t++)
        both[t] = odd[t] = _mm512_setzero_si512();
    size_t pair = 0;
    for (; pair + 2 <= pairs; pair += 2) {
        const uint8_t *at = codes + pair * GY_PAIR_BYTES;
        struct nibbles first = line_split(at);
        gy_scan_prefetch(at);
        struct nibbles second = line_split(at + GY_PAIR_BYTES);
        gy_scan_prefetch(at + GY_PAIR_BYTES);
        GY_UNROLL(4)
        for (size_t t = 0; t < tables; t++) {
            const uint8_t *lookup = lookups[t] + pair * GY_LOOKUP_PAIR_BYTES;
            __m512i sum = _mm512_add_epi8(line_entries(first, lookup), line_entries(second, lookup + GY_LOOKUP_PAIR_BYTES));
            both[t] = _mm512_add_epi16(both[t], sum);
            odd[t] = _mm512_add_epi16(odd[t], _mm512_srli_epi16(sum, 8));
        }
    }
    if (pair < pairs) {
        struct nibbles last = line_split(codes + pair * GY_PAIR_BYTES);
        gy_scan_prefetch(codes + pair * GY_PAIR_BYTES);
        GY_UNROLL(4)
        for (size_t t = 0; t < tables; t++) {
            __m512i sum = line_entries(last, lookups[t] + pair * GY_LOOKUP_PAIR_BYTES);
            both[t] = _mm512_add_epi16(both[t], sum);
            odd[t] = _mm512_add_epi16(odd[t], _mm512_srli_epi16(sum, 8));
        }
    }
    GY_UNROLL(4)
    for (size_t t = 0; t < tables; t++) {
        __m512i even = _mm512_sub_epi16(both[t], _mm512_slli_epi16(odd[t], 8));
        __m256i even_rows = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
        __m256i odd_rows = _mm256_add_epi16(_mm512_castsi512_si256(odd[t]), _mm512_extracti64x4_epi64(odd[t], 1));
        /* unpack puts rows 0…7 and 16…23 together (it works within 128 bits), and 8…15 with 24…31. */
        __m256i low = _mm256_unpacklo_epi16(even_rows, odd_rows), high = _mm256_unpackhi_epi16(even_rows, odd_rows);
        __m256i rows[2] = {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
        for (size_t i = 0; i < 2; i++)
            sums[t].half[i] = _mm512_add_epi32(sums[t].half[i], _mm512_cvtepu16_epi32(rows[i]));
    }
}

/* H of the rows of a block, for count queries of `lookups` tables each. */
GY_INLINE void block_sum(const struct gy_scan *const *scans, size_t count, size_t lookups, const uint8_t *block,
                         struct sums *sums)
{
    struct sums table_sums[TABLES_MAX];
    const uint8_t *tables[TABLES_MAX];
    size_t pair_count = scans[0]->pair_count;
    GY_UNROLL(4)
    for (size_t t = 0; t < count * lookups; t++)
        table_sums[t].half[0] = table_sums[t].half[1] = _mm512_setzero_si512();
    for (size_t done = 0; done < pair_count; done += GY_LOOKUP_RUN_PAIRS) {
        size_t pairs = pair_count - done < GY_LOOKUP_RUN_PAIRS ? pair_count - done : GY_LOOKUP_RUN_PAIRS;
        GY_UNROLL(4)
        for (size_t t = 0; t < count * lookups; t++)
            tables[t] = scans[t / lookups]->lookup[t % lookups] + done * GY_LOOKUP_PAIR_BYTES;
        run_sum(count * lookups, tables, block + done * GY_PAIR_BYTES, pairs, table_sums);
    }
    GY_UNROLL(4)
    for (size_t q = 0; q < count; q++) {
        sums[q] = table_sums[q * lookups];
        for (size_t i = 0; lookups == 2 && i < 2; i++)
            sums[q].half[i] = _mm512_add_epi32(sums[q].half[i], _mm512_slli_epi32(table_sums[q * lookups + 1].half[i], 4));
    }
}

/* The factors of sixteen rows. */
struct factors {
    __m512 s, add, e;
};

GY_INLINE struct factors factors_load(const uint8_t *factors, size_t place)
{
    __m512i e_bits = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(factors + GY_BLOCK_E + 2 * place)));
    return (struct factors){
        .s = _mm512_load_ps(factors + GY_BLOCK_S + 4 * place),
        .add = _mm512_load_ps(factors + GY_BLOCK_ADD + 4 * place),
        .e = _mm512_castsi512_ps(_mm512_slli_epi32(e_bits, 16)),
    };
}

/* What the fast test knows of a block's rows. */
struct verdict {
    __m512 estimate[2], most[2];
    uint32_t mask; /* rows that may pass */
};

/* gy_scan_emit of sixteen rows, up to the square root. Of an empty place most is inf or NaN, which no comparison lets through. */
GY_INLINE void test(const struct gy_scan *scan, const struct factors *rows, size_t half, __m512i misses, float threshold,
                    struct verdict *verdict)
{
    __m512i t = _mm512_sub_epi32(_mm512_set1_epi32(scan->levels), _mm512_slli_epi32(misses, 1));
    __m512 inner = _mm512_mul_ps(_mm512_set1_ps(scan->step), _mm512_cvtepi32_ps(t));
    __m512 estimate = _mm512_sub_ps(_mm512_add_ps(rows->add, _mm512_set1_ps(scan->base)), _mm512_mul_ps(rows->s, inner));
    __m512 from_code = _mm512_mul_ps(rows->e, _mm512_set1_ps(scan->per_e_up));
    __m512 from_query = _mm512_mul_ps(rows->s, _mm512_set1_ps(scan->per_s_up));
    __m512 from_add = _mm512_mul_ps(rows->add, _mm512_set1_ps(scan->rounding_add_up));
    __m512 rounding = _mm512_add_ps(from_add, _mm512_set1_ps(scan->rounding_base_up));
    __m512 most = _mm512_add_ps(_mm512_add_ps(from_code, from_query), rounding);
    __mmask16 passes = _mm512_cmp_ps_mask(_mm512_sub_ps(estimate, most), _mm512_set1_ps(threshold), _CMP_LE_OQ);
    verdict->estimate[half] = estimate;
    verdict->most[half] = most;
    verdict->mask |= (uint32_t)passes << 16 * half;
}

/* The rest of gy_scan_emit for eight rows, of which those in mask may pass. Writes eight hits; returns how many of them count. */
GY_INLINE size_t eight_emit(const struct gy_scan *scan, const uint8_t *factors, size_t place, uint32_t mask,
                            const struct verdict *verdict, uint32_t first_row, float threshold, gyre_hit *hits)
{
    __m256 estimate = _mm256_loadu_ps((const float *)verdict->estimate + place);
    __m256 most = _mm256_loadu_ps((const float *)verdict->most + place);
    __m256i e_bits = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(factors + GY_BLOCK_E + 2 * place)));
    __m512d e = _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(e_bits, 16)));
    __m512d s = _mm512_cvtps_pd(_mm256_load_ps((const float *)(const void *)(factors + GY_BLOCK_S + 4 * place)));
    __m512d add = _mm512_cvtps_pd(_mm256_load_ps((const float *)(const void *)(factors + GY_BLOCK_ADD + 4 * place)));
    __m512d from_code = _mm512_mul_pd(e, _mm512_set1_pd(scan->per_e)), from_query = _mm512_mul_pd(s, _mm512_set1_pd(scan->per_s));
    __m512d law = _mm512_sqrt_pd(_mm512_add_pd(_mm512_mul_pd(from_code, from_code), _mm512_mul_pd(from_query, from_query)));
    __m512d rounding = _mm512_add_pd(_mm512_set1_pd(scan->rounding_base), _mm512_mul_pd(add, _mm512_set1_pd(scan->rounding_add)));
    rounding = _mm512_add_pd(rounding, _mm512_mul_pd(s, _mm512_set1_pd(scan->rounding_s)));
    __m256 half_width = _mm256_min_ps(most, _mm512_cvtpd_ps(_mm512_add_pd(law, rounding)));
    __m256 low = _mm256_sub_ps(estimate, half_width);
    __mmask8 passes = _mm256_mask_cmp_ps_mask((__mmask8)mask, low, _mm256_set1_ps(threshold), _CMP_LE_OQ);
    __m256i row = _mm256_add_epi32(_mm256_set1_epi32((int)(first_row + place)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    /* Rows, estimates and half widths, each without those that fail, become triples. */
    __m512 pairs = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_castsi256_ps(_mm256_maskz_compress_epi32(passes, row))),
                                      _mm256_maskz_compress_ps(passes, estimate), 1);
    __m512 widths = _mm512_castps256_ps512(_mm256_maskz_compress_ps(passes, half_width));
    const __m512i first = _mm512_setr_epi32(0, 8, 16, 1, 9, 17, 2, 10, 18, 3, 11, 19, 4, 12, 20, 5);
    const __m512i last = _mm512_setr_epi32(13, 21, 6, 14, 22, 7, 15, 23, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_storeu_ps(hits, _mm512_permutex2var_ps(pairs, first, widths));
    _mm256_storeu_ps((float *)(void *)hits + 16, _mm512_castps512_ps256(_mm512_permutex2var_ps(pairs, last, widths)));
    return (size_t)__builtin_popcount(passes);
}

/* The hits of a block. There is room for all its rows, and so for eight even where fewer pass. */
static __attribute__((noinline)) size_t block_emit(const struct gy_scan *scan, const uint8_t *factors,
                                                   const struct verdict *verdict, uint32_t first_row, float threshold,
                                                   gyre_hit *hits)
{
    size_t found = 0;
    for (uint32_t mask = verdict->mask; mask;) {
        size_t place = (size_t)__builtin_ctz(mask) / 8 * 8;
        found += eight_emit(scan, factors, place, mask >> place & 255, verdict, first_row, threshold, hits + found);
        mask &= ~(UINT32_C(255) << place);
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
        struct factors rows[2] = {factors_load(factors, 0), factors_load(factors, 16)};
        GY_UNROLL(4)
        for (size_t q = 0; q < count; q++) {
            struct verdict verdict = {.mask = 0};
            float threshold = job->thresholds[q];
            for (size_t half = 0; half < 2; half++)
                test(scans[q], &rows[half], half, sums[q].half[half], threshold, &verdict);
            if (verdict.mask)
                job->found[q] += block_emit(scans[q], factors, &verdict, (uint32_t)(b * GYRE_BLOCK_ROWS), threshold,
                                            job->hits[q] + job->found[q]);
        }
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

const gy_scan_kernels gy_scan_avx512 = {scan};
