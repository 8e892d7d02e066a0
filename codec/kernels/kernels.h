/* kernels: what is worth writing once per instruction set, as tables of slots. ref.c is the definition; every other table
 * gives the same bits: integers for free, floats because the order of operations is fixed and never contracted.
 * Threads  tables are const; gy_kernels_current may be called from anywhere */
#ifndef GY_KERNELS_H
#define GY_KERNELS_H

#include "gyre/rabitq.h"

/* A query as the scan needs it. With u_i in 0…15 the rounded query, b_i a row's bits and
 *     H = sum_i (b_i ? 15 - u_i : u_i)                         an integer, by table lookup of nibbles
 *     t = 15·dim - 2H                                          so that <y,zb> = D/2 · t
 * the estimate of a row is (add + base) - s·(step·t), in this order, in float. */
struct gy_scan {
    /* [pair_count][128]: for byte positions 2k and 2k+1 of the code: H of each low nibble, [16] for 2k twice, [16] for 2k+1
     * twice; then the same for the high nibbles: each half fills a 512-bit register, its quarters repeat for 256 bits. */
    const uint8_t *lookup;
    size_t pair_count;
    size_t block_bytes;
    int32_t levels; /* 15·dim */
    float base;     /* l2: G^2        ip: -<c,q>       cosine: 1 - <c,q> */
    float step;     /* l2: D          ip, cosine: D/2 */

    /* half_width = sqrt((e·per_e)^2 + (s·per_s)^2) + rounding, in double, to float; the first is the law's part. */
    double per_e; /* factor·eps·G */
    double per_s; /* factor·eps·D·sqrt(dim/12) */
    /* rounding = rounding_base + add·rounding_add + s·rounding_s: what float arithmetic, here and in gyre_distance, can
     * differ from the true distance, so that a lower bound never exceeds a distance that is equal in truth. */
    double rounding_base, rounding_add, rounding_s;
    /* The same, a little larger, in float: (e·per_e_up + s·per_s_up) + (add·rounding_add_up + rounding_base_up) bounds every
     * half_width without a square root. per_s_up has rounding_s in it. */
    float per_e_up, per_s_up, rounding_add_up, rounding_base_up;
};

enum { GY_LOOKUP_PAIR_BYTES = 128, GY_LANES = 16 };

typedef struct gy_kernels {
    const char *name;
    bool (*runs_here)(void); /* CPU and operating system */
    /* gyre_rabitq_scan. blocks are 64-byte aligned. */
    size_t (*scan)(const struct gy_scan *scan, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits);
    /* Sums of a_i·b_i and of (a_i-b_i)^2: lane i mod 16, multiply then add, each lane in order of i, folded 8-4-2-1. */
    float (*dot)(const float *a, const float *b, size_t dim);
    float (*l2)(const float *a, const float *b, size_t dim);
} gy_kernels;

extern const gy_kernels gy_kernels_ref, gy_kernels_avx2, gy_kernels_avx512;

/* Every table built in, slowest first, NULL last; [0] is ref. */
extern const gy_kernels *const gy_kernels_all[];

/* The table this process runs: the last of gy_kernels_all that runs here, or what gyre_simd_select said. */
const gy_kernels *gy_kernels_current(void);

/* A scan with a given table, for tests and benches. */
size_t gy_rabitq_scan_with(const gy_kernels *kernels, const gyre_rabitq_query *query, const uint8_t *blocks, size_t block_count,
                           float threshold, gyre_hit *hits);

#endif
