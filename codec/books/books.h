/* books: the codewords that block codes are made of, the same in every copy of this library.
 *
 * Trained by train_books.c on Gaussian samples (README.md), not on anybody's data: after a random rotation every block of
 * every vector looks like that. Codewords are whole multiples of 1/GY_BOOK_UNIT, in units in which a coordinate is about
 * N(0,1), so they are exact as floats.
 * Threads  constants */
#ifndef GY_BOOKS_H
#define GY_BOOKS_H

#include "gyre/base.h"

/* Numbers enter hashes: never reuse one. */
enum gy_book_kind {
    GY_BOOK_BLOCK = 1,    /* 2^(bits·dims) codewords of N(0, I) */
    GY_BOOK_SIGN = 2,     /* 2^((bits-1)·dims) codewords of |N(0, I)|; the signs are stored elsewhere */
    GY_BOOK_ADDITIVE = 3, /* 16 codewords and 16 more: a block is the sum of one of each */
};

enum { GY_BOOK_UNIT = 4096 };

struct gy_book {
    uint64_t hash; /* FORMAT.md, "block codes" */
    uint8_t kind, dims, bits;
    uint16_t count;        /* codewords */
    const int16_t *values; /* [count][dims] */
};

/* One array per kind, by bits, then dims. */
extern const struct gy_book gy_books_block[], gy_books_sign[], gy_books_additive[];
extern const size_t gy_books_block_count, gy_books_sign_count, gy_books_additive_count;

/* The book of a kind, or NULL if there is none of these dims and bits. */
const struct gy_book *gy_book_find(enum gy_book_kind kind, uint32_t dims, uint32_t bits);

#endif
