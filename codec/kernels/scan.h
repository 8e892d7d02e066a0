/* scan kernels: nibble codes in blocks, summed by table look-up, turned into bounded estimates, tested against a threshold. */
#ifndef GY_KERNELS_SCAN_H
#define GY_KERNELS_SCAN_H

#include "gyre/query.h"

/* A query as the scan needs it. Every nibble of a code (four sign bits, or the index of a codeword) stands for a share of <y,zb>;
 * with h its entry in the nibble's table
 *     H = sum h + 16·(sum h of the second tables, if any)         an integer
 *     t = levels - 2H                                              so that <y,zb> ~ D/2 · t
 * the estimate of a row is (add + base) - s·(step·t), in this order, in float. */
struct gy_scan {
    /* [pair_count][128] each: for byte positions 2k and 2k+1 of the code: h of each low nibble, [16] for 2k twice, [16] for 2k+1
     * twice; then the same for the high nibbles: each half fills a 512-bit register, its quarters repeat for 256 bits. */
    const uint8_t *lookup[2];
    size_t lookup_count; /* 1; 2 where a query is rounded to more than 4 bits: the second ones weigh 16 */
    size_t pair_count;
    size_t block_bytes;
    int32_t levels; /* RaBitQ: (2^bits - 1)·dim */
    float base;     /* l2: G^2        ip: -<c,q>       cosine: 1 - <c,q> */
    float step;     /* l2: D          ip, cosine: D/2 */

    /* half_width = sqrt((e·per_e)^2 + (s·per_s)^2) + rounding, in double, to float; the first is the law's part. */
    double per_e; /* factor·eps·G */
    double per_s; /* factor·eps·D·sqrt(positions/12): positions is dim for sign bits, the count of nibbles for books */
    /* rounding = rounding_base + add·rounding_add + s·rounding_s: what float arithmetic, here and in gyre_distance, can
     * differ from the true distance, so that a lower bound never exceeds a distance that is equal in truth. */
    double rounding_base, rounding_add, rounding_s;
    /* The same, a little larger, in float: (e·per_e_up + s·per_s_up) + (add·rounding_add_up + rounding_base_up) bounds every
     * half_width without a square root. per_s_up has rounding_s in it. */
    float per_e_up, per_s_up, rounding_add_up, rounding_base_up;
};

enum {
    GY_LOOKUP_PAIR_BYTES = 128,
    /* No entry is larger, so that the four of two byte positions fit a byte. */
    GY_LOOKUP_ENTRY_MAX = 63,
    /* Sums of 16 bits hold the four entries of so many pairs and are then added to sums of 32: all pairs of a sign code. */
    GY_LOOKUP_RUN_PAIRS = 256,
};

/* One pass over blocks for one query or several. */
struct gy_scan_job {
    const struct gy_scan *const *scans; /* [count], alike in lookup_count, pair_count and block_bytes */
    size_t count;                       /* 1…GYRE_SCAN_QUERIES_MAX */
    const uint8_t *blocks;              /* 64-byte aligned */
    size_t block_count;
    const float *thresholds; /* [count] */
    gyre_hit *const *hits;   /* [count][block_count · GYRE_BLOCK_ROWS]: all of it may be written */
    size_t *found;           /* [count], written: how many hits count */
};

typedef struct gy_scan_kernels {
    void (*scan)(const struct gy_scan_job *job); /* gyre_query_scan_many */
} gy_scan_kernels;

extern const gy_scan_kernels gy_scan_ref, gy_scan_avx2, gy_scan_avx512, gy_scan_neon;

#endif
