/* vector kernels: sums over vectors of floats, in an order that every table keeps. */
#ifndef GY_KERNELS_VECTOR_H
#define GY_KERNELS_VECTOR_H

#include "gyre/base.h"

enum { GY_LANES = 16 };

typedef struct gy_vector_kernels {
    /* Sums of a_i·b_i and of (a_i-b_i)^2: lane i mod 16, multiply then add, each lane in order of i, folded 8-4-2-1. */
    float (*dot)(const float *a, const float *b, size_t dim);
    float (*l2)(const float *a, const float *b, size_t dim);
} gy_vector_kernels;

extern const gy_vector_kernels gy_vector_ref, gy_vector_avx2, gy_vector_avx512, gy_vector_neon;

#endif
