/* rabitq: one sign bit per coordinate, and three numbers that turn matching bits back into a distance with a bound.
 *
 * After the rotation every coordinate carries about the same share of the vector, so each sign says as much as any other.
 * Source   Gao & Long, "RaBitQ", SIGMOD 2024: encoding section 3.1, estimator and bound section 3.2, query rounding 3.3
 * Bytes    FORMAT.md, "row" and "block"          Threads  no state; call from anywhere */
#ifndef GYRE_RABITQ_H
#define GYRE_RABITQ_H

#include "gyre/codebook.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A *row* is one point's code as it is logged and moved: sign bits (coordinate i is bit i%8 of byte i/8, 1 iff the rotated
 * residual is >= 0; padding bits 0), then the stored factors. A *block* interleaves GYRE_BLOCK_ROWS rows for the scan. */
enum { GYRE_BLOCK_ROWS = 32 };

size_t gyre_rabitq_code_bytes(uint32_t dim);  /* sign bits alone: ceil(dim/8) */
size_t gyre_rabitq_row_bytes(uint32_t dim);   /* sign bits and factors */
size_t gyre_rabitq_block_bytes(uint32_t dim); /* GYRE_BLOCK_ROWS rows, interleaved; a multiple of 64 */

/* Encodes n vectors.
 *   vectors  [n][dim] f32 as the client gave them (normalised here if the metric is cosine; not modified)
 *   rows     [n][gyre_rabitq_row_bytes(dim)], written; must not overlap vectors
 * GYRE_INVALID as gyre_vector_check says, with first_row + i as the row. Same bytes on every CPU; allocates nothing. */
GYRE_CHECKED gyre_status gyre_rabitq_encode(const gyre_codebook *codebook, const float *vectors, size_t n, size_t first_row,
                                            uint8_t *rows, gyre_error *err);

/* Checks that a stored or received row could have come from _encode: finite factors, padding bits zero. */
GYRE_CHECKED gyre_status gyre_rabitq_row_check(uint32_t dim, const uint8_t *row, gyre_error *err);

/* Writes a row into its place (0…GYRE_BLOCK_ROWS-1) of a block, reads it back verbatim, or empties the place so that no
 * scan can return it. A block starts as gyre_rabitq_block_init leaves it: every place empty. Blocks are 64-byte aligned. */
void gyre_rabitq_block_init(uint32_t dim, uint8_t *block);
void gyre_rabitq_block_set(uint32_t dim, uint8_t *block, size_t place, const uint8_t *row);
void gyre_rabitq_block_get(uint32_t dim, const uint8_t *block, size_t place, uint8_t *row);
void gyre_rabitq_block_clear(uint32_t dim, uint8_t *block, size_t place);
bool gyre_rabitq_block_holds(uint32_t dim, const uint8_t *block, size_t place);

/* A query made ready for one codebook: quantised once, its lookup tables built once, then only read. */
typedef struct gyre_rabitq_query gyre_rabitq_query;

/* Prepares a query.
 *   query    [dim] through gyre_vector_normalize
 *   rotated  [dim] P query, or NULL to rotate here
 *   epsilon  half-width of the bound in standard errors (gyre_bound_epsilon); > 0
 * Bytes and answers depend on the arguments alone, never on the CPU. GYRE_INVALID for non-finite components. */
GYRE_CHECKED gyre_status gyre_rabitq_query_new(gyre_rabitq_query **out, const gyre_codebook *codebook, const float *query,
                                               const float *rotated, float epsilon, gyre_error *err);
void gyre_rabitq_query_free(gyre_rabitq_query *query);
GY_AUTO_DEFINE(gyre_rabitq_query, gyre_rabitq_query_free)

/* One row that a scan lets through. The true distance lies in estimate ± half_width with the bound's confidence. */
typedef struct gyre_hit {
    uint32_t row; /* block · GYRE_BLOCK_ROWS + place, counted from the first block of the call */
    float estimate;
    float half_width;
} gyre_hit;

/* Scans block_count consecutive blocks and writes every row with estimate - half_width <= threshold, in row order.
 *   threshold  +inf lets every row through; empty places never come
 *   hits       [block_count · GYRE_BLOCK_ROWS]
 * Returns how many were written. The same hits, bit for bit, from every kernel table. Allocates nothing. */
size_t gyre_rabitq_scan(const gyre_rabitq_query *query, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits);

/* Decodes one row to the reconstruction x^ = c + (R·rho/nu^2) P^T zb (codec/MATH.md section 0). out [dim]. */
void gyre_rabitq_decode(const gyre_codebook *codebook, const uint8_t *row, float *out);

/* The epsilon at which a true neighbour's lower bound fails with probability 1 - confidence (one-sided law of codec/MATH.md
 * section 0: T^2/(d-1) ~ Beta(1/2,(d-2)/2)). confidence in (0.5, 1); dim < 3 gives the certain bound. */
float gyre_bound_epsilon(double confidence, uint32_t dim);

/* Name of the kernel table this process runs: "ref", "avx2", "avx512", … (GYRE_SIMD forces one; an unknown or unsupported
 * name is reported by gyre_simd_select and leaves the best one). */
const char *gyre_simd_name(void);
/* Applies GYRE_SIMD; call at start. GYRE_INVALID names the tables that run here. */
GYRE_CHECKED gyre_status gyre_simd_select(const char *name, gyre_error *err);

#ifdef __cplusplus
}
#endif
#endif
