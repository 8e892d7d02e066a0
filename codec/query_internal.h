/* query_internal: what query.c prepares and estimate.c reads. */
#ifndef GY_QUERY_INTERNAL_H
#define GY_QUERY_INTERNAL_H

#include "gyre/query.h"
#include "kernels/kernels.h"
#include "quantizer_internal.h"

struct gyre_query {
    const gyre_quantizer *quantizer; /* borrowed */
    size_t bytes;                    /* of the allocation that starts here */
    const float *vector;             /* [dim] q, for moving */
    bool moved;                      /* to rows of a list */
    struct gy_scan scan;             /* of the first plane; lookup_count 0 if it has no block scan */
    struct gy_misses misses;         /* the same query in bit planes; planes NULL if the first plane is not one of signs */

    /* Estimation by the best plane: distance ~ add + base - factor·s·<y,zb>. */
    const void *prepared;
    double base, factor; /* factor: 2 for l2, 1 otherwise */
    double g2, g;        /* |q - c|^2, |q - c| */
    double query2, mean2, y2; /* |q|^2, |m|^2, |q - m|^2, m the codebook's mean: the c of rows of no list */
    double step;         /* D of the rounding of y, 0 for none */
    double epsilon;
    gyre_bound_kind bound;
    double rounding_base, rounding_add, rounding_s; /* as in struct gy_scan; s here in units of R·sqrt(dim) */
    double rounding_row;                            /* what a row's rounding is in units of its s·|zb| */
    double reach;                                   /* |zb| of the first plane is at most that: struct gy_nibbles */
};

/* Float arithmetic against exact arithmetic: a share of the sizes that enter, and what denormals add (query.c). */
static inline double gy_rounding_share(uint32_t dim) { return (dim / 8.0 + 256) * 0x1p-24; }
static inline double gy_rounding_tiny(uint32_t dim) { return dim * 0x1p-141; }

/* Puts what depends on the reference (base, g2, the roundings) into the scan. */
void gy_query_place_scan(gyre_query *query);

/* The float at or next below a double, and at or next above. Whether rounding went the wrong way is a coin toss, so nothing
 * branches on it: the next float below, as nextafterf gives it, is computed in any case. */
static inline float gy_float_below(double value)
{
    float rounded = (float)value;
    int32_t bits, below, beyond = -((double)rounded > value); /* all ones or none */
    memcpy(&bits, &rounded, sizeof bits);
    below = bits > 0 ? bits - 1 : bits + 1; /* magnitudes grow with bits; nothing rounds down beyond +0, only to -0 */
    bits ^= (bits ^ below) & beyond;
    memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
}
static inline float gy_float_above(double value) { return -gy_float_below(-value); }

/* Scans with a given table, for tests and benches. */
size_t gy_query_scan_with(const gy_kernels *kernels, const gyre_query *query, const uint8_t *blocks, size_t block_count,
                          float threshold, gyre_hit *hits);
void gy_query_scan_many_with(const gy_kernels *kernels, const gyre_query *const *queries, size_t count, const uint8_t *blocks,
                             size_t block_count, const float *thresholds, gyre_hit *const *hits, size_t *found);
size_t gy_query_scan_rows_with(const gy_kernels *kernels, const gyre_query *query, const uint8_t *rows, size_t stride, size_t n,
                               float threshold, gyre_hit *hits);

/* Estimation of coders that bring no own: prepared is y [dim], rounded to the grid of gy_query_round if bits is not 0. */
size_t gy_float_query_bytes(const gyre_quantizer *quantizer, uint32_t bits);
void gy_float_query_prepare(const gyre_quantizer *quantizer, const float *y, uint32_t bits, void *prepared, double *step);
double gy_float_query_dot(const gyre_quantizer *quantizer, const struct gy_coder *coder, const void *state, const void *prepared,
                          const struct gy_code *code);

#endif
