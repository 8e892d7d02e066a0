/* blocks: what the quantizers made of books share: codewords ready to compute with, and codes that are strings of their indices.
 *
 * A code of w bits a coordinate over blocks of p: block m of p coordinates has its index at bit w·p·m, lowest bit of byte 0
 * first. What is left at the end, r = dim mod p coordinates, is a shorter block with a book of its own and an index of w·r
 * bits: w·dim bits in all, padding 0. Codewords stand for coordinates in units of sqrt(dim)·z/R. */
#ifndef GY_BLOCKS_H
#define GY_BLOCKS_H

#include "books/books.h"
#include "kernels/book.h"
#include "quantizers/coder.h"

/* The codewords of one nibble of a code, for tables of a block scan: over coordinates first, first + 1, … */
struct gy_nibble_words {
    const float *rows; /* [count][dims] */
    uint32_t count, dims, first;
};

/* The state of these coders, one allocation. */
struct gy_blocks {
    struct gy_block_code code;
    size_t nibble_count; /* 0 unless every nibble of a code is an index */
    struct gy_nibble_words *nibbles;
};

/* Room for a code of dim over blocks of dims and index_bits: whoever asked writes the rows, and extra floats if it likes, then
 * calls gy_blocks_seal, which computes the half norms and hangs all on blocks. free(blocks) frees everything. */
struct gy_blocks_room {
    float *whole, *tail, *extra, *whole_half_norms, *tail_half_norms;
};
GYRE_CHECKED gyre_status gy_blocks_new(struct gy_blocks **out, uint32_t dim, uint32_t dims, uint32_t index_bits,
                                       size_t nibble_count, size_t extra, struct gy_blocks_room *room, gyre_error *err);
void gy_blocks_seal(struct gy_blocks *blocks, const struct gy_blocks_room *room);

/* The codewords of a book as floats, exactly. */
void gy_book_expand(const struct gy_book *book, float *rows);

/* A whole state from books of one kind: of dims, and of every remainder. */
GYRE_CHECKED gyre_status gy_blocks_open(struct gy_blocks **out, enum gy_book_kind kind, uint32_t dim, uint32_t dims,
                                        uint32_t bits, uint32_t index_bits, gyre_error *err);
/* The hash of all books that gy_blocks_open may take. */
uint64_t gy_blocks_book_hash(enum gy_book_kind kind, uint32_t dims, uint32_t bits);

/* Bytes of a code of bits a coordinate, and whether its padding is 0. */
size_t gy_blocks_code_bytes(uint32_t bits, uint32_t dim);
bool gy_blocks_valid(uint32_t bits, uint32_t dim, const uint8_t *code);

/* The nearest codewords of v [dim], in the units of the books: code, all of it, and what it stands for, with signs as in
 * gy_book_kernels.dot. */
void gy_blocks_encode(const struct gy_blocks *blocks, const float *v, const uint8_t *signs, uint8_t *code, float *zb);

/* Slots of struct gy_coder; state is a struct gy_blocks. */
void gy_blocks_encode_residual(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual,
                               uint8_t *code, float *zb, void *scratch);
void gy_blocks_decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb);
double gy_blocks_dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code);
void gy_blocks_nibbles(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, struct gy_nibbles *out);

#endif
