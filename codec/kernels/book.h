/* book kernels: the nearest codewords of a vector's blocks, and dot products with a vector that is stored as codewords.
 *
 * A block code cuts dim coordinates into blocks of a few, the last one maybe shorter, and keeps one codeword index per block:
 * FORMAT.md, "block codes". */
#ifndef GY_KERNELS_BOOK_H
#define GY_KERNELS_BOOK_H

#include "gyre/base.h"
#include "kernels/vector.h"

enum { GY_BLOCK_DIMS_MAX = 8 };

/* A book as it is computed with. */
struct gy_codewords {
    const float *rows;       /* [count][dims], 64-byte aligned; whole multiples of 2^-12 */
    const float *half_norms; /* [count] |row|^2/2 */
    uint32_t count;          /* at most 65536 */
    uint32_t dims;           /* 1…GY_BLOCK_DIMS_MAX; 0: no book */
};

/* A code of dim coordinates: block m at bit index_bits·m of a string of bits, lowest bit of byte 0 first. */
struct gy_block_code {
    struct gy_codewords whole; /* dims 2, 4 or 8 */
    struct gy_codewords tail;  /* of the last dim mod whole.dims coordinates; dims 0 if there are none */
    uint32_t dim;
    uint32_t index_bits; /* of a whole block: 16/dims of them are a whole number of bytes, at most 8 */
};

typedef struct gy_book_kernels {
    /* The index of the largest <v,row> - |row|^2/2, in float: -half_norm, then + v_j·row_j in order of j; the lowest at ties.
     *   v  [count][dims], finite */
    void (*nearest)(const struct gy_codewords *book, const float *v, size_t count, uint16_t *index);
    /* The same bits as the vector kernels' dot of y [dim] with the decoded code. signs: sign bits that flip the codewords'
     * coordinates where they are 0; NULL: none. */
    float (*dot)(const struct gy_block_code *blocks, const float *y, const uint8_t *code, const uint8_t *signs);
} gy_book_kernels;

extern const gy_book_kernels gy_book_ref, gy_book_avx2, gy_book_avx512, gy_book_neon;

/* The whole blocks of a code, and the index of block m; the tail's is that of block gy_block_count. */
static inline uint32_t gy_block_count(const struct gy_block_code *blocks) { return blocks->dim / blocks->whole.dims; }

/* bits at most 16 - bit % 8. */
static inline uint32_t gy_index_load(const uint8_t *code, size_t bit, uint32_t bits)
{
    uint32_t word = code[bit / 8];
    if (bit % 8 + bits > 8)
        word |= (uint32_t)code[bit / 8 + 1] << 8;
    return word >> bit % 8 & ((UINT32_C(1) << bits) - 1);
}

/* The next 2, 4, 6 or 8 bytes: indices of sixteen coordinates. */
static inline uint64_t gy_indices_load(const uint8_t *code, size_t bytes)
{
    switch (bytes) {
    case 2:
        return gy_load_u16(code);
    case 4:
        return gy_load_u32(code);
    case 6:
        return gy_load_u32(code) | (uint64_t)gy_load_u16(code + 4) << 32;
    default:
        return gy_load_u64(code);
    }
}

static inline uint32_t gy_tail_index_bits(const struct gy_block_code *blocks)
{
    return blocks->index_bits / blocks->whole.dims * blocks->tail.dims;
}

/* A copy of known length is a load and a store; a call would cost more than all the rest. */
static inline void gy_codeword_copy(float *out, const float *row, uint32_t dims)
{
    if (dims == 8)
        memcpy(out, row, 8 * sizeof *out);
    else if (dims == 4)
        memcpy(out, row, 4 * sizeof *out);
    else
        memcpy(out, row, 2 * sizeof *out);
}

/* Codewords of blocks from first on, without signs: what they stand for from coordinate first·dims to the end. */
static inline void gy_block_decode_from(const struct gy_block_code *blocks, const uint8_t *code, uint32_t first, float *out)
{
    uint32_t count = gy_block_count(blocks), dims = blocks->whole.dims, bits = blocks->index_bits;
    for (uint32_t m = first; m < count; m++)
        gy_codeword_copy(out + (size_t)(m - first) * dims,
                         blocks->whole.rows + (size_t)gy_index_load(code, (size_t)m * bits, bits) * dims, dims);
    if (blocks->tail.dims) {
        uint32_t index = gy_index_load(code, (size_t)count * bits, gy_tail_index_bits(blocks));
        memcpy(out + (size_t)(count - first) * dims, blocks->tail.rows + (size_t)index * blocks->tail.dims,
               blocks->tail.dims * sizeof *out);
    }
}

/* Flips the coordinates from first on whose sign bit is 0. Bits, as half of all branches on a sign would be foreseen wrong. */
static inline void gy_signs_apply(const uint8_t *signs, size_t first, size_t count, float *values)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits, negative = ~(uint32_t)(signs[(first + i) / 8] >> (first + i) % 8) & 1;
        memcpy(&bits, &values[i], sizeof bits);
        bits ^= negative << 31;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

#endif
