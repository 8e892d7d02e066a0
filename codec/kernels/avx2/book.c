/* avx2 book: as avx512/book.c with eight blocks, and with eight coordinates, in a register.
 *
 * A sign byte becomes a register of sign bits: broadcast, keep one bit a lane, compare. */
#include "kernels/book.h"

#include <immintrin.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

enum { WIDTH = 8, SIXTEEN = 16 };

/* from: [count][dims], count at most WIDTH; lanes beyond it are 0. The stores are few beside the search that follows. */
INLINE void load_blocks(const float *from, size_t count, uint32_t dims, __m256 *v)
{
    float lanes[GY_BLOCK_DIMS_MAX][WIDTH] = {{0}};
    for (size_t b = 0; b < count; b++)
        for (uint32_t j = 0; j < dims; j++)
            lanes[j][b] = from[b * dims + j];
    for (uint32_t j = 0; j < dims; j++)
        v[j] = _mm256_loadu_ps(lanes[j]);
}

INLINE void nearest_of(const struct gy_codewords *book, uint32_t dims, const float *from, size_t count, uint16_t *index)
{
    for (size_t b = 0; b < count; b += WIDTH) {
        size_t left = count - b < WIDTH ? count - b : WIDTH;
        __m256 v[GY_BLOCK_DIMS_MAX], best = _mm256_set1_ps(-INFINITY);
        __m256i found = _mm256_setzero_si256();
        load_blocks(from + b * dims, left, dims, v);
        for (uint32_t k = 0; k < book->count; k++) {
            const float *row = book->rows + (size_t)k * dims;
            __m256 score = _mm256_sub_ps(_mm256_mul_ps(v[0], _mm256_broadcast_ss(row)), _mm256_set1_ps(book->half_norms[k]));
            for (uint32_t j = 1; j < dims; j++)
                score = _mm256_add_ps(score, _mm256_mul_ps(v[j], _mm256_broadcast_ss(row + j)));
            __m256i better = _mm256_castps_si256(_mm256_cmp_ps(score, best, _CMP_GT_OQ));
            found = _mm256_blendv_epi8(found, _mm256_set1_epi32((int)k), better);
            best = _mm256_max_ps(score, best);
        }
        uint32_t lanes[WIDTH];
        memcpy(lanes, &found, sizeof lanes);
        for (size_t i = 0; i < left; i++)
            index[b + i] = (uint16_t)lanes[i];
    }
}

static void nearest(const struct gy_codewords *book, const float *v, size_t count, uint16_t *index)
{
    switch (book->dims) {
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

/* Lanes 0…7 and 8…15 of the sixteen. */
static float fold(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
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

/* y with its sign flipped where the bit is 0. */
INLINE __m256 flip(__m256 y, uint8_t signs)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i negative = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(signs), bit), _mm256_setzero_si256());
    return _mm256_xor_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(negative, 31)));
}

INLINE float dot_of(const struct gy_block_code *blocks, uint32_t dims, uint32_t bits, const float *y, const uint8_t *code,
                    const uint8_t *signs)
{
    const float *rows = blocks->whole.rows;
    __m256 low = _mm256_setzero_ps(), high = low;
    size_t sixteens = blocks->dim / SIXTEEN, code_step = bits * (SIXTEEN / dims) / 8;
    for (size_t s = 0; s < sixteens; s++) {
        uint64_t word = gy_indices_load(code + s * code_step, code_step);
        __m256 y_low = _mm256_loadu_ps(y + SIXTEEN * s), y_high = _mm256_loadu_ps(y + SIXTEEN * s + 8);
        if (signs)
            y_low = flip(y_low, signs[2 * s]), y_high = flip(y_high, signs[2 * s + 1]);
        low = _mm256_add_ps(low, _mm256_mul_ps(y_low, eight_of(rows, word, 0, dims, bits)));
        high = _mm256_add_ps(high, _mm256_mul_ps(y_high, eight_of(rows, word, 1, dims, bits)));
    }
    size_t first = SIXTEEN * sixteens, left = blocks->dim - first;
    if (left) { /* zeros behind them: adding ±0 to a lane changes nothing, as no lane is ever -0 */
        float zb[SIXTEEN] = {0}, rest[SIXTEEN] = {0};
        gy_block_decode_from(blocks, code, (uint32_t)first / dims, zb);
        if (signs)
            gy_signs_apply(signs, first, left, zb);
        memcpy(rest, y + first, left * sizeof *y);
        low = _mm256_add_ps(low, _mm256_mul_ps(_mm256_loadu_ps(rest), _mm256_loadu_ps(zb)));
        high = _mm256_add_ps(high, _mm256_mul_ps(_mm256_loadu_ps(rest + 8), _mm256_loadu_ps(zb + 8)));
    }
    return fold(low, high);
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

const gy_book_kernels gy_book_avx2 = {nearest, dot};
