/* dense: matrices of floats with orthonormal rows, [rows][dim] row by row; with as many rows as columns, rotations.
 * Threads  no state; call from anywhere */
#ifndef GY_DENSE_H
#define GY_DENSE_H

#include "gyre/base.h"

/* The largest sum of magnitudes in a row of M·M^T - I that a rotation may have. No eigenvalue of it is larger, so lengths change
 * by at most half of it; rounding an orthogonal matrix to floats leaves 2e-6 at dim 4096 and less below. */
#define GY_DENSE_DEFECT_MAX 4e-6

/* out [rows] = M·in [dim] and out [dim] = M^T·in [rows]; out must not overlap in. Fixed order of operations (the dot kernel's;
 * rows in their order, in double): the same bits on every CPU. */
void gy_dense_apply(const float *matrix, uint32_t rows, uint32_t dim, const float *in, float *out);
void gy_dense_invert(const float *matrix, uint32_t rows, uint32_t dim, const float *in, float *out);

/* GYRE_INVALID if an element is not finite (names it) or the defect is above GY_DENSE_DEFECT_MAX (says it). rows <= dim.
 * O(rows^2·dim/2); at most 16 MiB of scratch. */
GYRE_CHECKED gyre_status gy_dense_check(const float *matrix, uint32_t rows, uint32_t dim, gyre_error *err);

/* Writes a uniformly distributed (Haar) rotation [dim][dim] drawn from a seed. O(2·dim^3); 8·dim^2 bytes of scratch. */
GYRE_CHECKED gyre_status gy_haar_matrix(float *matrix, uint32_t dim, const uint8_t *seed, gyre_error *err);

#endif
