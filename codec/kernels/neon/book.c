/* neon book: as avx512/book.c with four blocks, and with four coordinates, in a register. */
#include "kernels/book.h"

#include <arm_neon.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

enum { WIDTH = 4, SIXTEEN = 16, QUARTERS = 4 };

/* from: [count][dims], count at most WIDTH; lanes beyond it are 0. */
INLINE void load_blocks(const float *from, size_t count, uint32_t dims, float32x4_t *v)
{
    float lanes[GY_BLOCK_DIMS_MAX][WIDTH] = {{0}};
    for (size_t b = 0; b < count; b++)
        for (uint32_t j = 0; j < dims; j++)
            lanes[j][b] = from[b * dims + j];
    for (uint32_t j = 0; j < dims; j++)
        v[j] = vld1q_f32(lanes[j]);
}

INLINE void nearest_of(const struct gy_codewords *book, uint32_t dims, const float *from, size_t count, uint16_t *index)
{
    for (size_t b = 0; b < count; b += WIDTH) {
        size_t left = count - b < WIDTH ? count - b : WIDTH;
        float32x4_t v[GY_BLOCK_DIMS_MAX], best = vdupq_n_f32(-INFINITY);
        uint32x4_t found = vdupq_n_u32(0);
        load_blocks(from + b * dims, left, dims, v);
        for (uint32_t k = 0; k < book->count; k++) {
            const float *row = book->rows + (size_t)k * dims;
            float32x4_t score = vsubq_f32(vmulq_n_f32(v[0], row[0]), vdupq_n_f32(book->half_norms[k]));
            for (uint32_t j = 1; j < dims; j++)
                score = vaddq_f32(score, vmulq_n_f32(v[j], row[j]));
            found = vbslq_u32(vcgtq_f32(score, best), vdupq_n_u32(k), found);
            best = vmaxq_f32(score, best);
        }
        uint32_t lanes[WIDTH];
        vst1q_u32(lanes, found);
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

/* Four coordinates of sixteen, whose indices are the bits of word. */
INLINE float32x4_t four_of(const float *rows, uint64_t word, unsigned quarter, uint32_t dims, uint32_t bits)
{
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    if (dims == 2) {
        uint64_t low = word >> (2 * quarter * bits) & mask, high = word >> ((2 * quarter + 1) * bits) & mask;
        return vcombine_f32(vld1_f32(rows + low * 2), vld1_f32(rows + high * 2));
    }
    unsigned m = dims == 8 ? quarter / 2 : quarter;
    return vld1q_f32(rows + (word >> (m * bits) & mask) * dims + (dims == 8 ? quarter % 2 * 4 : 0));
}

/* y with its sign flipped where the bit is 0; the first of the four bits is the lowest. */
INLINE float32x4_t flip(float32x4_t y, uint32_t signs)
{
    static const int32_t shifts[4] = {31, 30, 29, 28}; /* the wanted bit goes to the top */
    uint32x4_t negative = vandq_u32(vshlq_u32(vdupq_n_u32(~signs), vld1q_s32(shifts)), vdupq_n_u32(UINT32_C(1) << 31));
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(y), negative));
}

/* The sixteen lanes of the definition, folded 8-4-2-1. */
static float fold(const float32x4_t sum[QUARTERS])
{
    float32x4_t four = vaddq_f32(vaddq_f32(sum[0], sum[2]), vaddq_f32(sum[1], sum[3]));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

INLINE float dot_of(const struct gy_block_code *blocks, uint32_t dims, uint32_t bits, const float *y, const uint8_t *code,
                    const uint8_t *signs)
{
    const float *rows = blocks->whole.rows;
    float32x4_t sum[QUARTERS] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t sixteens = blocks->dim / SIXTEEN, code_step = bits * (SIXTEEN / dims) / 8;
    for (size_t s = 0; s < sixteens; s++) {
        uint64_t word = gy_indices_load(code + s * code_step, code_step);
        uint32_t sign_bits = signs ? gy_load_u16(signs + 2 * s) : 0;
        for (unsigned q = 0; q < QUARTERS; q++) {
            float32x4_t query = vld1q_f32(y + SIXTEEN * s + WIDTH * q);
            if (signs)
                query = flip(query, sign_bits >> WIDTH * q);
            sum[q] = vaddq_f32(sum[q], vmulq_f32(query, four_of(rows, word, q, dims, bits)));
        }
    }
    size_t first = SIXTEEN * sixteens, left = blocks->dim - first;
    if (left) { /* zeros behind them: adding ±0 to a lane changes nothing, as no lane is ever -0 */
        float zb[SIXTEEN] = {0}, rest[SIXTEEN] = {0};
        gy_block_decode_from(blocks, code, (uint32_t)first / dims, zb);
        if (signs)
            gy_signs_apply(signs, first, left, zb);
        memcpy(rest, y + first, left * sizeof *y);
        for (unsigned q = 0; q < QUARTERS; q++)
            sum[q] = vaddq_f32(sum[q], vmulq_f32(vld1q_f32(rest + WIDTH * q), vld1q_f32(zb + WIDTH * q)));
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

const gy_book_kernels gy_book_neon = {nearest, dot};
