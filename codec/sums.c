#include "sums.h"

#include "kernels/kernels.h"

#include <math.h>

double gy_sum_products(const float *a, const float *b, size_t n) { return gy_kernels_current()->sums->products(a, b, n); }
double gy_sum_squares(const float *a, size_t n) { return gy_kernels_current()->sums->products(a, a, n); }
void gy_sum_pair(const float *a, const float *b, size_t n, double *products, double *squares)
{
    gy_kernels_current()->sums->pair(a, b, n, products, squares);
}
double gy_sum_magnitudes(const float *a, size_t n) { return gy_kernels_current()->sums->magnitudes(a, n); }

/* Not fmax: gcc 12 for Arm fails ("internal compiler error") on a loop of it. */
float gy_largest_magnitude(const float *a, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(a[i]) > largest)
            largest = fabsf(a[i]);
    return largest;
}
