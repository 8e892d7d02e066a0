/* vector kernels: sums over vectors of floats, in an order that every table keeps. */
#ifndef GY_KERNELS_VECTOR_H
#define GY_KERNELS_VECTOR_H

#include "gyre/base.h"

enum { GY_LANES = 16 };

typedef struct gy_vector_kernels {
    /* Sums of a_i·b_i and of (a_i-b_i)^2: lane i mod 16, multiply then add, each lane in order of i, folded 8-4-2-1. */
    float (*dot)(const float *a, const float *b, size_t dim);
    float (*l2)(const float *a, const float *b, size_t dim);
    /* The same of query [dim] and each of rows [count][dim]. */
    void (*dots)(const float *rows, size_t count, const float *query, size_t dim, float *out);
    void (*l2s)(const float *rows, size_t count, const float *query, size_t dim, float *out);
} gy_vector_kernels;

/* Defines dots or l2s of a table that gains nothing from several rows at a time. */
#define GY_VECTOR_ONE_BY_ONE(name, one)                                                              \
    static void name(const float *rows, size_t count, const float *query, size_t dim, float *out) \
    {                                                                                                \
        for (size_t i = 0; i < count; i++)                                                           \
            out[i] = one(rows + i * dim, query, dim);                                                \
    }

extern const gy_vector_kernels gy_vector_ref, gy_vector_avx2, gy_vector_avx512, gy_vector_neon;

#endif
