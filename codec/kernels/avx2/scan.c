/* avx2 scan: a nibble's H from a 16-entry table in a register (vpshufb), 32 rows at once.
 *
 * Cost of one line of codes (64 bytes: two byte positions of 32 rows)
 *   all queries  2 loads, 6 bit operations that split nibbles, 2 prefetches
 *   each query   4 table look-ups with their loads (from L1: 8 bytes per dim), 3 additions of bytes, 3 operations to widen
 * of which three go at a time (look-ups two): 2 + 3.5 cycles for one query, 2 + 13 for four. Four look-ups (4·63) are all that a
 * byte holds; widening adds their sum to 16-bit sums as it is and, shifted, to those of the odd rows, which are taken back out of
 * the first at the end of the run. From memory a line takes 11 cycles: one query waits for memory, three for the look-ups.
 * Rows that pass the test at the end of a block cost 60 cycles per eight. */
#include "kernels/inline.h"
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

#include <immintrin.h>

/* Tables whose sums, two registers each, are kept at once: with four of nibbles and those on the way that is all sixteen. */
enum { TABLES_MAX = 4 };

/* H of 32 rows, eight to a register. */
struct sums {
    __m256i quarter[4];
};

/* A byte position of codes as indices. */
struct nibbles {
    __m256i low, high;
};

GY_INLINE struct nibbles position_split(const uint8_t *codes)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i code = _mm256_load_si256((const __m256i *)codes);
    return (struct nibbles){_mm256_and_si256(code, nibble), _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble)};
}

/* The entries of one byte position; bytes of the result are at most 126. */
GY_INLINE __m256i position_entries(struct nibbles position, const uint8_t *lookup)
{
    return _mm256_add_epi8(_mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)lookup), position.low),
                           _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)(lookup + 64)), position.high));
}

/* Adds the entries of a run of at most GY_LOOKUP_RUN_PAIRS pairs. */
GY_INLINE void run_sum(size_t tables, const uint8_t *const *lookups, const uint8_t *codes, size_t pairs, struct sums *sums)
{
    __m256i both[TABLES_MAX], odd[TABLES_MAX]; /* 16 bits: rows 2i + 256 · rows 2i+1, and rows 2i+1 */
    GY_UNROLL(4)
    for (size_t t = 0; t < tables; t++)
        both[t] = odd[t] = _mm256_setzero_si256();
    for (size_t pair = 0; pair < pairs; pair++) {
        const uint8_t *at = codes + pair * GY_PAIR_BYTES;
        struct nibbles first = position_split(at), second = position_split(at + GYRE_BLOCK_ROWS);
        gy_scan_prefetch(at);
        GY_UNROLL(4)
        for (size_t t = 0; t < tables; t++) {
            const uint8_t *lookup = lookups[t] + pair * GY_LOOKUP_PAIR_BYTES;
            __m256i sum = _mm256_add_epi8(position_entries(first, lookup), position_entries(second, lookup + 32));
            both[t] = _mm256_add_epi16(both[t], sum);
            odd[t] = _mm256_add_epi16(odd[t], _mm256_srli_epi16(sum, 8));
            __asm__("" : "+x"(both[t]), "+x"(odd[t])); /* or gcc keeps some of them in memory, which costs a tenth */
        }
    }
    GY_UNROLL(4)
    for (size_t t = 0; t < tables; t++) {
        __m256i even = _mm256_sub_epi16(both[t], _mm256_slli_epi16(odd[t], 8));
        /* unpack puts rows 0…7 and 16…23 together (it works within 128 bits), and 8…15 with 24…31. */
        __m256i low = _mm256_unpacklo_epi16(even, odd[t]), high = _mm256_unpackhi_epi16(even, odd[t]);
        __m128i rows[4] = {_mm256_castsi256_si128(low), _mm256_castsi256_si128(high), _mm256_extracti128_si256(low, 1),
                           _mm256_extracti128_si256(high, 1)};
        for (size_t i = 0; i < 4; i++)
            sums[t].quarter[i] = _mm256_add_epi32(sums[t].quarter[i], _mm256_cvtepu16_epi32(rows[i]));
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
        for (size_t i = 0; i < 4; i++)
            table_sums[t].quarter[i] = _mm256_setzero_si256();
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
        if (lookups == 1)
            continue;
        const struct sums *second = &table_sums[q * lookups + 1];
        for (size_t i = 0; i < 4; i++)
            sums[q].quarter[i] = _mm256_add_epi32(sums[q].quarter[i], _mm256_slli_epi32(second->quarter[i], 4));
    }
}

/* The factors of eight rows. */
struct factors {
    __m256 s, add, e;
};

GY_INLINE struct factors factors_load(const uint8_t *factors, size_t place)
{
    __m256i e_bits = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(factors + GY_BLOCK_E + 2 * place)));
    return (struct factors){
        .s = _mm256_load_ps((const float *)(const void *)(factors + GY_BLOCK_S + 4 * place)),
        .add = _mm256_load_ps((const float *)(const void *)(factors + GY_BLOCK_ADD + 4 * place)),
        .e = _mm256_castsi256_ps(_mm256_slli_epi32(e_bits, 16)),
    };
}

/* What the fast test knows of eight rows. */
struct verdict {
    __m256 estimate, most;
    uint32_t mask; /* rows that may pass */
};

/* gy_scan_emit of eight rows, up to the square root. Of an empty place most is inf or NaN, which no comparison lets through. */
GY_INLINE struct verdict test(const struct gy_scan *scan, const struct factors *rows, __m256i misses, float threshold)
{
    __m256i t = _mm256_sub_epi32(_mm256_set1_epi32(scan->levels), _mm256_slli_epi32(misses, 1));
    __m256 inner = _mm256_mul_ps(_mm256_set1_ps(scan->step), _mm256_cvtepi32_ps(t));
    __m256 estimate = _mm256_sub_ps(_mm256_add_ps(rows->add, _mm256_set1_ps(scan->base)), _mm256_mul_ps(rows->s, inner));
    __m256 from_code = _mm256_mul_ps(rows->e, _mm256_set1_ps(scan->per_e_up));
    __m256 from_query = _mm256_mul_ps(rows->s, _mm256_set1_ps(scan->per_s_up));
    __m256 from_add = _mm256_mul_ps(rows->add, _mm256_set1_ps(scan->rounding_add_up));
    __m256 rounding = _mm256_add_ps(from_add, _mm256_set1_ps(scan->rounding_base_up));
    __m256 most = _mm256_add_ps(_mm256_add_ps(from_code, from_query), rounding);
    __m256 passes = _mm256_cmp_ps(_mm256_sub_ps(estimate, most), _mm256_set1_ps(threshold), _CMP_LE_OQ);
    return (struct verdict){estimate, most, (uint32_t)_mm256_movemask_ps(passes)};
}

/* The half widths of four rows, before most limits them. */
GY_INLINE __m128 four_half_widths(const struct gy_scan *scan, __m128 s_floats, __m128 add_floats, __m128 e_floats)
{
    __m256d s = _mm256_cvtps_pd(s_floats), add = _mm256_cvtps_pd(add_floats), e = _mm256_cvtps_pd(e_floats);
    __m256d from_code = _mm256_mul_pd(e, _mm256_set1_pd(scan->per_e)), from_query = _mm256_mul_pd(s, _mm256_set1_pd(scan->per_s));
    __m256d law = _mm256_sqrt_pd(_mm256_add_pd(_mm256_mul_pd(from_code, from_code), _mm256_mul_pd(from_query, from_query)));
    __m256d rounding = _mm256_add_pd(_mm256_set1_pd(scan->rounding_base), _mm256_mul_pd(add, _mm256_set1_pd(scan->rounding_add)));
    rounding = _mm256_add_pd(rounding, _mm256_mul_pd(s, _mm256_set1_pd(scan->rounding_s)));
    return _mm256_cvtpd_ps(_mm256_add_pd(law, rounding));
}

/* The rest of gy_scan_emit for eight rows. Every row is written to where the next hit belongs, and stays if it is one: stores
 * cost less than branches that nobody can foresee. There is room: hits has a place for every row of the block. */
static __attribute__((noinline)) size_t eight_emit(const struct gy_scan *scan, const struct factors *rows,
                                                   const struct verdict *verdict, uint32_t first_row, float threshold,
                                                   gyre_hit *hits)
{
    __m128 low = four_half_widths(scan, _mm256_castps256_ps128(rows->s), _mm256_castps256_ps128(rows->add),
                                  _mm256_castps256_ps128(rows->e));
    __m128 high = four_half_widths(scan, _mm256_extractf128_ps(rows->s, 1), _mm256_extractf128_ps(rows->add, 1),
                                   _mm256_extractf128_ps(rows->e, 1));
    __m256 half_width = _mm256_min_ps(verdict->most, _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1));
    __m256 passes = _mm256_cmp_ps(_mm256_sub_ps(verdict->estimate, half_width), _mm256_set1_ps(threshold), _CMP_LE_OQ);
    uint32_t mask = verdict->mask & (uint32_t)_mm256_movemask_ps(passes);
    float estimates[8], half_widths[8];
    _mm256_storeu_ps(estimates, verdict->estimate);
    _mm256_storeu_ps(half_widths, half_width);
    size_t found = 0;
    for (uint32_t v = 0; v < 8; v++) {
        hits[found] = (gyre_hit){first_row + v, estimates[v], half_widths[v]};
        found += mask >> v & 1;
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
        GY_UNROLL(4)
        for (size_t i = 0; i < 4; i++) {
            struct factors rows = factors_load(factors, 8 * i);
            GY_UNROLL(4)
            for (size_t q = 0; q < count; q++) {
                struct verdict verdict = test(scans[q], &rows, sums[q].quarter[i], job->thresholds[q]);
                if (verdict.mask)
                    job->found[q] += eight_emit(scans[q], &rows, &verdict, (uint32_t)(b * GYRE_BLOCK_ROWS + 8 * i),
                                                job->thresholds[q], job->hits[q] + job->found[q]);
            }
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

const gy_scan_kernels gy_scan_avx2 = {scan};
