/* matrix kernels: products of matrices of doubles, in an order that every table keeps, so that what is learned from data is the
 * same on every CPU. */
#ifndef GY_KERNELS_MATRIX_H
#define GY_KERNELS_MATRIX_H

#include "gyre/base.h"

/* A factor: element (i,k) is at[i·row + k·column], so the transpose is the same numbers with row and column swapped. */
struct gy_matrix_view {
    const double *at;
    size_t row, column;
};

typedef struct gy_matrix_kernels {
    /* C += alpha·A·B.   A rows x inner   B [inner][columns], rows b_stride apart   C [rows][columns], rows c_stride apart
     * Every element: c += (alpha·a_ik)·b_kj in order of k, each operation rounded by itself. C overlaps neither A nor B. */
    void (*multiply_add)(double *c, size_t c_stride, double alpha, struct gy_matrix_view a, const double *b, size_t b_stride,
                         size_t rows, size_t inner, size_t columns);
} gy_matrix_kernels;

extern const gy_matrix_kernels gy_matrix_ref, gy_matrix_avx2, gy_matrix_avx512, gy_matrix_neon;

#endif
