/* sums: the sums that feed stored bytes, in one fixed order, so that every CPU stores the same bytes.
 * Source   codec/MATH.md 1.3: double, 8 lanes by i mod 8, each in order of i, then ((0+4)+(2+6))+((1+5)+(3+7))
 * Threads  no state; call from anywhere */
#ifndef GY_SUMS_H
#define GY_SUMS_H

#include <stddef.h>

/* The product of two floats is exact in double, so only the order of the additions matters. All take [n] f32. */
double gy_sum_products(const float *a, const float *b, size_t n);
double gy_sum_squares(const float *a, size_t n);
/* <a,b> and |b|^2, for little more than the time of one. */
void gy_sum_pair(const float *a, const float *b, size_t n, double *products, double *squares);
double gy_sum_magnitudes(const float *a, size_t n);

/* The largest |a_i|, 0 for none; no component is NaN. */
float gy_largest_magnitude(const float *a, size_t n);

#endif
