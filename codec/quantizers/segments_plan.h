/* segments_plan: which principal components share a segment, and how many bits each gets.
 * Threads  no state; call from anywhere */
#ifndef GY_SEGMENTS_PLAN_H
#define GY_SEGMENTS_PLAN_H

#include "gyre/base.h"

enum {
    GY_SEGMENTS_MAX = 48,
    GY_SEGMENT_BITS_MAX = 8,
    GY_SEGMENT_FACTOR_BYTES = 4, /* of each segment, beside its bits */
    GY_REST_BYTES = 2,           /* for what is dropped, if anything is */
};

/* Segments of consecutive components, the first of largest variance; components beyond the last are dropped. */
struct gy_segments_plan {
    uint32_t count;
    uint32_t rows; /* components kept: the sum of dims */
    uint16_t dims[GY_SEGMENTS_MAX];
    uint8_t bits[GY_SEGMENTS_MAX]; /* 1…GY_SEGMENT_BITS_MAX */
};

/* Bytes of a segment's code: bits planes of whole bytes. */
static inline size_t gy_segment_code_bytes(uint32_t dims, uint32_t bits) { return bits * (((size_t)dims + 7) / 8); }

/* Bytes that a plan takes of a vector of dim components. */
size_t gy_segments_plan_bytes(const struct gy_segments_plan *plan, uint32_t dim);

/* The plan of at most code_bytes with the narrowest bound on data of these variances [dim], largest first. dim at least 16,
 * code_bytes enough for one segment of one bit. */
GYRE_CHECKED gyre_status gy_segments_plan_make(struct gy_segments_plan *plan, const double *variances, uint32_t dim,
                                               size_t code_bytes, gyre_error *err);

#endif
