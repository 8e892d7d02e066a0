/* sums kernels: the arithmetic in double that feeds stored bytes; sums.h says which sums. */
#ifndef GY_KERNELS_SUMS_H
#define GY_KERNELS_SUMS_H

#include "gyre/base.h"

enum { GY_SUM_LANES = 8 };

/* Lane i mod 8, each in order of i, then ((0+4)+(2+6))+((1+5)+(3+7)). The product of two floats is exact in double, so a fused
 * multiply-add gives what a multiplication and an addition give. One chain of dependent additions per lane: n/8 latencies. */
typedef struct gy_sums_kernels {
    double (*products)(const float *a, const float *b, size_t n); /* a may be b */
    /* <a,b> and <b,b>, their chains abreast. */
    void (*pair)(const float *a, const float *b, size_t n, double *products, double *squares);
    double (*magnitudes)(const float *a, size_t n);
    /* out[i] = in[i]/norm, the quotient rounded to double, then to float. in finite unless norm is not; out may be in. */
    void (*divide)(const float *in, double norm, float *out, size_t n);
} gy_sums_kernels;

extern const gy_sums_kernels gy_sums_ref, gy_sums_avx2, gy_sums_avx512, gy_sums_neon;

#endif
