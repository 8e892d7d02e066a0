/* query: a query made ready for one quantizer: rounded once, its lookup tables built once, then only read.
 *
 * Three uses: *scan* blocks of first planes against a threshold, *refine* what a scan let through by the second plane, or *estimate*
 * any rows by all they have. Answers depend on the arguments alone, never on the CPU.
 * Source   codec/MATH.md sections 0, 0.2, 0.3          Threads  immutable after _new but for gyre_query_move; share freely */
#ifndef GYRE_QUERY_H
#define GYRE_QUERY_H

#include "gyre/block.h"
#include "gyre/bound.h"
#include "gyre/quantizer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GYRE_QUERY_BITS_FLOAT = 0, GYRE_SCAN_QUERIES_MAX = 8 };

/* Zeroed fields take the defaults. */
typedef struct gyre_query_options {
    float epsilon;         /* half width in standard errors (gyre_bound_epsilon), above 0 and at most 10^4; no default */
    gyre_bound_kind bound; /* default GYRE_BOUND_PLAIN. Scans know PLAIN and CERTAIN and use PLAIN for CALIBRATED */
    uint8_t scan_bits;     /* 4, 6 or 8: to how many bits the scan rounds the query; default 4 */
    uint8_t refine_bits;   /* 4, 6, 8, or GYRE_QUERY_BITS_FLOAT (the default) in refine and estimate */
    bool epsilon_is_measured; /* epsilon comes from held-out near pairs (learn.h), not from the law: needed where none holds */
} gyre_query_options;

typedef struct gyre_query gyre_query;

/* Prepares a query.
 *   query    [dim] through gyre_vector_normalize
 *   rotated  [dim] P query, or NULL to rotate here
 * GYRE_INVALID for non-finite components or bad options. GYRE_PRECONDITION if the codebook's rotation is learned, or the codec does not
 * rotate (pq), and the bound is not certain and options do not say epsilon_is_measured: no law of the error holds there
 * (codec/MATH.md 2.7). Codecs whose error is spread over parts (segments) take CALIBRATED for PLAIN. */
GYRE_CHECKED gyre_status gyre_query_new(gyre_query **out, const gyre_quantizer *quantizer, const float *query, const float *rotated,
                                        const gyre_query_options *options, gyre_error *err);
void gyre_query_free(gyre_query *query);
GY_AUTO_DEFINE(gyre_query, gyre_query_free)

/* Turns query to the rows of one list: until it is moved again, scan, scan_many, scan_rows, estimate and refine take rows that
 * gyre_quantizer_encode_list made with this reference (refine rows: gyre_codec_list_refine_row_bytes). Costs one pass over [dim]; no
 * tables are made anew. A query that is moved belongs to one thread: give others a copy. A moved query takes PLAIN for CALIBRATED
 * (codec/MATH.md 0.4), and it never goes back to rows of no list.
 *   reference  [dim] finite, |c| at most GYRE_NORM_MAX, as gyre_codebook_centroid gives it. The codec must be one that
 *              _encode_list takes */
void gyre_query_move(gyre_query *query, const float *reference);
/* A query of its own, where the other is at present; the quantizer is shared. */
GYRE_CHECKED gyre_status gyre_query_copy(gyre_query **out, const gyre_query *query, gyre_error *err);

/* One row that a scan lets through. The true distance lies in estimate ± half_width with the bound's confidence. */
typedef struct gyre_hit {
    uint32_t row; /* block · GYRE_BLOCK_ROWS + place, counted from the first block of the call */
    float estimate;
    float half_width;
} gyre_hit;

/* Scans block_count consecutive blocks and writes every row with estimate - half_width <= threshold, in row order.
 *   threshold  +inf lets every row through; empty places never come
 *   hits       [block_count · GYRE_BLOCK_ROWS], all of which may be overwritten
 * Returns how many hits there are. The same hits, bit for bit, from every kernel table. Allocates nothing. The codec must scan
 * (gyre_codec_scans). */
size_t gyre_query_scan(const gyre_query *query, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits);

/* The same for 1…GYRE_SCAN_QUERIES_MAX queries of one quantizer (equal options) in one pass over the codes: faster than one by one
 * where memory is the limit. thresholds, hits (each as above) and found: [count]. */
void gyre_query_scan_many(const gyre_query *const *queries, size_t count, const uint8_t *blocks, size_t block_count,
                          const float *thresholds, gyre_hit *const *hits, size_t *found);

/* The same for rows that are not in blocks: n scan rows, or whole rows, stride bytes apart, of a codec that has signs
 * (gyre_codec_has_signs). The same hits, bit for bit, as from blocks of these rows; slower than full blocks, faster than making any.
 *   rows  gyre_codec_row_check passed
 *   hits  [n] */
size_t gyre_query_scan_rows(const gyre_query *query, const uint8_t *rows, size_t stride, size_t n, float threshold,
                            gyre_hit *hits);

/* What is known of one row: the distance lies in low…high with the bound's confidence; distance is the unbiased estimate. */
typedef struct gyre_estimate {
    float distance, low, high;
} gyre_estimate;

/* Estimates n rows by their best plane.
 *   rows  [n] addresses of whole rows (gyre_codec_row_bytes, gyre_codec_row_check passed) */
void gyre_query_estimate(const gyre_query *query, const uint8_t *const *rows, size_t n, gyre_estimate *out);

/* Estimates the rows of hits by their second plane, with the first read from their blocks.
 *   refine_rows  [block_count · GYRE_BLOCK_ROWS][gyre_codec_refine_row_bytes], in the order of the blocks' rows */
void gyre_query_refine(const gyre_query *query, const uint8_t *blocks, const uint8_t *refine_rows, const gyre_hit *hits, size_t n,
                       gyre_estimate *out);

#ifdef __cplusplus
}
#endif
#endif
