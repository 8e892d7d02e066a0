/* ref sums: plain C, the definition. */
#include "kernels/sums.h"

#include <math.h>

static double fold(const double lane[GY_SUM_LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static double products(const float *a, const float *b, size_t n)
{
    double lane[GY_SUM_LANES] = {0};
    size_t i = 0;
    for (; i + GY_SUM_LANES <= n; i += GY_SUM_LANES)
        for (size_t l = 0; l < GY_SUM_LANES; l++)
            lane[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t l = 0; i + l < n; l++)
        lane[l] += (double)a[i + l] * (double)b[i + l];
    return fold(lane);
}

static void pair(const float *a, const float *b, size_t n, double *ab, double *bb)
{
    *ab = products(a, b, n);
    *bb = products(b, b, n);
}

static double magnitudes(const float *a, size_t n)
{
    double lane[GY_SUM_LANES] = {0};
    size_t i = 0;
    for (; i + GY_SUM_LANES <= n; i += GY_SUM_LANES)
        for (size_t l = 0; l < GY_SUM_LANES; l++)
            lane[l] += fabs((double)a[i + l]);
    for (size_t l = 0; i + l < n; l++)
        lane[l] += fabs((double)a[i + l]);
    return fold(lane);
}

static void divide(const float *in, double norm, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)in[i] / norm);
}

const gy_sums_kernels gy_sums_ref = {products, pair, magnitudes, divide};
