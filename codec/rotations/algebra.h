/* algebra: the dense linear algebra that rotations are learned with.
 *
 * Matrices are row-major doubles, [n][n] unless said otherwise. Only + - * / sqrt, in an order that depends on the sizes alone,
 * so every CPU and compiler learns the same matrix, to the bit: what is learned becomes part of a codebook. Sizes: up to
 * GYRE_DIM_MAX. Memory is the caller's: nothing here allocates, and nothing fails but where it says so. Threads  no state; call
 * from anywhere */
#ifndef GY_ALGEBRA_H
#define GY_ALGEBRA_H

#include "gyre/base.h"

/* sum a_i·b_i in 8 lanes by i mod 8, each in order of i, folded ((0+4)+(2+6))+((1+5)+(3+7)). */
double gy_dot64(const double *a, const double *b, size_t n);

/* out = in^T; they must not overlap. */
void gy_matrix_transpose(double *out, const double *in, size_t n);
void gy_matrix_identity(double *out, size_t n);
/* out = A·B, A^T·B and A·B^T. work [n][n] for the last. out overlaps nothing. */
void gy_matrix_multiply(double *out, const double *a, const double *b, size_t n);
void gy_matrix_multiply_at(double *out, const double *a, const double *b, size_t n);
void gy_matrix_multiply_bt(double *out, const double *a, const double *b, size_t n, double *work);

/* Makes the rows of A orthonormal in place, row i within the span of rows 0…i, its sign kept: modified Gram-Schmidt, each row
 * gone through twice ("twice is enough": Giraud, Langou & Rozloznik 2005). The triangular factor so has a positive diagonal.
 * False if a row depends on those before it. O(2·n^3). */
bool gy_matrix_orthonormalize(double *a, size_t n);

/* L·U = A with rows exchanged, in place, the largest pivot of each column (the topmost at ties): pivots[k] is the row that k was
 * exchanged with. A pivot too small to divide by is replaced, so that the factors are those of a matrix within n·2^-52 of A's
 * largest element: never fails for finite A. O(2/3·n^3). */
void gy_lu_factor(double *a, size_t n, uint32_t *pivots);
/* B <- A^-1·B, B [n][columns]. */
void gy_lu_solve(const double *lu, const uint32_t *pivots, size_t n, double *b, size_t columns);

/* The orthogonal matrix nearest to A, in place: U·V^T of A = U·S·V^T, which maximises the trace of Q^T·A (Procrustes). Of a
 * singular A, one of the nearest; of a zero A the identity. By Newton's iteration with Higham's scaling (Higham 1986), some ten
 * inverses. work [3][n][n], pivots [n]. False only if A is not finite. */
bool gy_matrix_polar(double *a, size_t n, double *work, uint32_t *pivots);

/* Eigenvalues of a symmetric A, largest first, and their unit vectors as rows of vectors, the largest component of each positive.
 * Householder's tridiagonal form and implicit QL; A is destroyed. work [2][n]. False only if A is not finite. O(6·n^3). */
bool gy_matrix_eigen(double *a, size_t n, double *values, double *vectors, double *work);

#endif
