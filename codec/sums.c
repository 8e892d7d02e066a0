#include "sums.h"

#include <math.h>

enum { LANES = 8 };

static double fold(const double lane[LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

double gy_sum_products(const float *a, const float *b, size_t n)
{
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t l = 0; i + l < n; l++)
        lane[l] += (double)a[i + l] * (double)b[i + l];
    return fold(lane);
}

double gy_sum_squares(const float *a, size_t n) { return gy_sum_products(a, a, n); }

double gy_sum_magnitudes(const float *a, size_t n)
{
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += fabs((double)a[i + l]);
    for (size_t l = 0; i + l < n; l++)
        lane[l] += fabs((double)a[i + l]);
    return fold(lane);
}

/* Not fmax: gcc 12 for Arm fails ("internal compiler error") on a loop of it. */
float gy_largest_magnitude(const float *a, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(a[i]) > largest)
            largest = fabsf(a[i]);
    return largest;
}
