/* avx512 book: sixteen blocks at once against one codeword after another; sixteen coordinates of a code at once in a dot product.
 *
 * nearest  per codeword and sixteen blocks: dims multiplies and additions with coordinates broadcast from the row, 1 comparison,
 *          1 maximum, 1 masked move. Lanes are blocks, so nothing is folded across lanes, whatever the size of the book.
 * dot      per sixteen coordinates: the loads of 16/dims codewords (a book of 8 KB stays in L1), 1 exclusive-or where the mask of
 *          the sign bits says so, 1 multiply, 1 addition; the additions of a vector are a chain of 4 cycles each, which the next
 *          vector's fills. */
#include "kernels/book.h"

#include <immintrin.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

enum { WIDTH = 16 };

/* Sixteen blocks of dims (1, 2, 4 or 8) coordinates in order become dims registers of one coordinate each. */
INLINE void transpose(__m512 *v, uint32_t dims)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    /* Each step halves the distance of a block's coordinates in memory: the even places of all registers, then the odd ones. The
     * registers come out in the order of their index's reversed bits. */
    for (uint32_t run = dims; run > 1; run /= 2) {
        __m512 next[GY_BLOCK_DIMS_MAX];
        for (uint32_t first = 0; first < dims; first += run)
            for (uint32_t r = 0; r < run / 2; r++) {
                __m512 a = v[first + 2 * r], b = v[first + 2 * r + 1];
                next[first + r] = _mm512_permutex2var_ps(a, even, b);
                next[first + run / 2 + r] = _mm512_permutex2var_ps(a, odd, b);
            }
        for (uint32_t r = 0; r < dims; r++)
            v[r] = next[r];
    }
    if (dims == 4) {
        __m512 swap = v[1];
        v[1] = v[2], v[2] = swap;
    } else if (dims == 8) {
        __m512 swap = v[1];
        v[1] = v[4], v[4] = swap;
        swap = v[3];
        v[3] = v[6], v[6] = swap;
    }
}

/* from: [count][dims], count at most WIDTH; lanes beyond it are 0. */
INLINE void load_blocks(const float *from, size_t count, uint32_t dims, __m512 *v)
{
    if (count == WIDTH && (dims == 1 || dims == 2 || dims == 4 || dims == 8)) {
        for (uint32_t j = 0; j < dims; j++)
            v[j] = _mm512_loadu_ps(from + WIDTH * j);
        transpose(v, dims);
        return;
    }
    float lanes[GY_BLOCK_DIMS_MAX][WIDTH] = {{0}};
    for (size_t b = 0; b < count; b++)
        for (uint32_t j = 0; j < dims; j++)
            lanes[j][b] = from[b * dims + j];
    for (uint32_t j = 0; j < dims; j++)
        v[j] = _mm512_loadu_ps(lanes[j]);
}

INLINE void nearest_of(const struct gy_codewords *book, uint32_t dims, const float *from, size_t count, uint16_t *index)
{
    for (size_t b = 0; b < count; b += WIDTH) {
        size_t left = count - b < WIDTH ? count - b : WIDTH;
        __m512 v[GY_BLOCK_DIMS_MAX], best = _mm512_set1_ps(-INFINITY);
        __m512i found = _mm512_setzero_si512();
        load_blocks(from + b * dims, left, dims, v);
        for (uint32_t k = 0; k < book->count; k++) {
            const float *row = book->rows + (size_t)k * dims;
            __m512 score = _mm512_sub_ps(_mm512_mul_ps(v[0], _mm512_set1_ps(row[0])), _mm512_set1_ps(book->half_norms[k]));
            for (uint32_t j = 1; j < dims; j++)
                score = _mm512_add_ps(score, _mm512_mul_ps(v[j], _mm512_set1_ps(row[j])));
            found = _mm512_mask_mov_epi32(found, _mm512_cmp_ps_mask(score, best, _CMP_GT_OQ), _mm512_set1_epi32((int)k));
            best = _mm512_max_ps(score, best);
        }
        _mm256_mask_storeu_epi16(index + b, (__mmask16)((1u << left) - 1), _mm512_cvtepi32_epi16(found));
    }
}

static void nearest(const struct gy_codewords *book, const float *v, size_t count, uint16_t *index)
{
    switch (book->dims) {
    case 1:
        nearest_of(book, 1, v, count, index);
        break;
    case 2:
        nearest_of(book, 2, v, count, index);
        break;
    case 4:
        nearest_of(book, 4, v, count, index);
        break;
    case 8:
        nearest_of(book, 8, v, count, index);
        break;
    default: /* tails: a block a vector */
        nearest_of(book, book->dims, v, count, index);
    }
}

static float fold(__m512 sixteen)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* The codeword of block m of sixteen coordinates whose indices are the bits of word. */
INLINE const float *row_at(const float *rows, uint64_t word, unsigned m, uint32_t dims, uint32_t bits)
{
    return rows + (word >> (m * bits) & ((UINT64_C(1) << bits) - 1)) * dims;
}

/* Two codewords of two coordinates. */
INLINE __m128 pair_of(const float *a, const float *b)
{
    return _mm_loadh_pi(_mm_castpd_ps(_mm_load_sd((const double *)(const void *)a)), (const __m64 *)(const void *)b);
}

INLINE __m256 eight_of(const float *rows, uint64_t word, unsigned half, uint32_t dims, uint32_t bits)
{
    unsigned m = half * (8 / dims);
    if (dims == 8)
        return _mm256_loadu_ps(row_at(rows, word, m, dims, bits));
    if (dims == 4)
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row_at(rows, word, m, dims, bits))),
                                    _mm_loadu_ps(row_at(rows, word, m + 1, dims, bits)), 1);
    __m128 low = pair_of(row_at(rows, word, m, dims, bits), row_at(rows, word, m + 1, dims, bits));
    __m128 high = pair_of(row_at(rows, word, m + 2, dims, bits), row_at(rows, word, m + 3, dims, bits));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

INLINE float dot_of(const struct gy_block_code *blocks, uint32_t dims, uint32_t bits, const float *y, const uint8_t *code,
                    const uint8_t *signs)
{
    const float *rows = blocks->whole.rows;
    const __m512i flip = _mm512_set1_epi32(INT32_MIN);
    __m512 sum = _mm512_setzero_ps();
    size_t sixteens = blocks->dim / WIDTH, code_step = bits * (WIDTH / dims) / 8;
    for (size_t s = 0; s < sixteens; s++) {
        uint64_t word = gy_indices_load(code + s * code_step, code_step);
        __m512 zb = _mm512_insertf32x8(_mm512_castps256_ps512(eight_of(rows, word, 0, dims, bits)),
                                       eight_of(rows, word, 1, dims, bits), 1);
        __m512 query = _mm512_loadu_ps(y + WIDTH * s);
        if (signs) {
            __mmask16 negative = (__mmask16)~gy_load_u16(signs + 2 * s);
            __m512i words = _mm512_castps_si512(query);
            query = _mm512_castsi512_ps(_mm512_mask_xor_epi32(words, negative, words, flip));
        }
        sum = _mm512_add_ps(sum, _mm512_mul_ps(query, zb));
    }
    size_t first = WIDTH * sixteens, left = blocks->dim - first;
    if (left) { /* zeros behind them: adding ±0 to a lane changes nothing, as no lane is ever -0 */
        float zb[WIDTH] = {0};
        gy_block_decode_from(blocks, code, (uint32_t)first / dims, zb);
        if (signs)
            gy_signs_apply(signs, first, left, zb);
        __m512 query = _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1), y + first);
        sum = _mm512_add_ps(sum, _mm512_mul_ps(query, _mm512_loadu_ps(zb)));
    }
    return fold(sum);
}

/* Every shape has its own copy of the loop. */
static float dot(const struct gy_block_code *blocks, const float *y, const uint8_t *code, const uint8_t *signs)
{
    switch (blocks->whole.dims << 8 | blocks->index_bits) {
    case 8 << 8 | 8:
        return signs ? dot_of(blocks, 8, 8, y, code, signs) : dot_of(blocks, 8, 8, y, code, NULL);
    case 4 << 8 | 8:
        return signs ? dot_of(blocks, 4, 8, y, code, signs) : dot_of(blocks, 4, 8, y, code, NULL);
    case 2 << 8 | 6:
        return dot_of(blocks, 2, 6, y, code, signs);
    case 2 << 8 | 8:
        return dot_of(blocks, 2, 8, y, code, signs);
    case 4 << 8 | 12:
        return dot_of(blocks, 4, 12, y, code, signs);
    case 4 << 8 | 4:
        return dot_of(blocks, 4, 4, y, code, signs);
    case 2 << 8 | 4:
        return dot_of(blocks, 2, 4, y, code, signs);
    default:
        return gy_book_ref.dot(blocks, y, code, signs);
    }
}

const gy_book_kernels gy_book_avx512 = {nearest, dot};
