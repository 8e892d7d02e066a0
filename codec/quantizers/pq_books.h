/* pq_books: the codewords of a product quantizer, 256 for every block of p coordinates, and how they are learned.
 *
 * Vectors are [dim] floats of about unit length; a code is one byte per block. The last block may be short of p coordinates: its
 * codewords are 0 there. Everything is summed in a fixed order, so every CPU learns the same bits.
 * Threads  books are immutable between updates; share freely */
#ifndef GY_PQ_BOOKS_H
#define GY_PQ_BOOKS_H

#include "gyre/base.h"

enum { GY_PQ_WORDS = 256, GY_PQ_BLOCK_MAX = 8 };

struct gy_pq_books {
    uint32_t dim, block, count; /* block: p; count: of blocks */
    float *rows;                /* [count][GY_PQ_WORDS][block] the codewords */
    float *columns;             /* [count][block][GY_PQ_WORDS] the same */
    float *half_norms;          /* [count][GY_PQ_WORDS] half of each one's squared length */
};

/* Sums of the vectors of each codeword, towards its mean. */
struct gy_pq_means {
    double *sums;     /* as rows */
    double *errors;   /* [count][GY_PQ_WORDS] sums of squared distances */
    uint32_t *counts; /* [count][GY_PQ_WORDS] */
};

/* Books of zeros. */
GYRE_CHECKED gyre_status gy_pq_books_new(struct gy_pq_books **out, uint32_t dim, uint32_t block, gyre_error *err);
void gy_pq_books_free(struct gy_pq_books *books);
GYRE_CHECKED gyre_status gy_pq_means_init(struct gy_pq_means *means, const struct gy_pq_books *books, gyre_error *err);
void gy_pq_means_fini(struct gy_pq_means *means);

/* Codewords from distinct vectors of a sample [n][dim], n at least GY_PQ_WORDS, drawn from a seed anew for each block. */
GYRE_CHECKED gyre_status gy_pq_books_draw(struct gy_pq_books *books, const float *sample, size_t n, const uint8_t *seed,
                                          gyre_error *err);
/* To be called when rows have changed. */
void gy_pq_books_refresh(struct gy_pq_books *books);

/* The nearest codeword of each block, the lowest index at ties. */
void gy_pq_nearest(const struct gy_pq_books *books, const float *vector, uint8_t *code);
void gy_pq_decode(const struct gy_pq_books *books, const uint8_t *code, float *out);

void gy_pq_means_clear(const struct gy_pq_books *books, struct gy_pq_means *means);
void gy_pq_means_add(const struct gy_pq_books *books, struct gy_pq_means *means, const float *vector, const uint8_t *code);
/* Each codeword becomes the mean of its vectors; one that has none moves beside one that errs much. errors are used up. */
void gy_pq_books_update(struct gy_pq_books *books, struct gy_pq_means *means);

#endif
