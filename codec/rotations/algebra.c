/* algebra: products, and rows made orthonormal. */
#include "rotations/algebra.h"

#include "kernels/kernels.h"

#include <math.h>

enum { LANES = 8, TILE = 32 };

double gy_dot64(const double *a, const double *b, size_t n)
{
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += a[i + l] * b[i + l];
    for (size_t l = 0; i + l < n; l++)
        lane[l] += a[i + l] * b[i + l];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* By tiles that fit the first-level cache both ways. */
void gy_matrix_transpose(double *out, const double *in, size_t n)
{
    for (size_t i = 0; i < n; i += TILE)
        for (size_t j = 0; j < n; j += TILE)
            for (size_t k = i; k < n && k < i + TILE; k++)
                for (size_t l = j; l < n && l < j + TILE; l++)
                    out[l * n + k] = in[k * n + l];
}

void gy_matrix_identity(double *out, size_t n)
{
    memset(out, 0, n * n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i * n + i] = 1;
}

static void multiply(double *out, struct gy_matrix_view a, const double *b, size_t n)
{
    memset(out, 0, n * n * sizeof *out);
    gy_kernels_current()->matrix->multiply_add(out, n, 1, a, b, n, n, n, n);
}

void gy_matrix_multiply(double *out, const double *a, const double *b, size_t n)
{
    multiply(out, (struct gy_matrix_view){a, n, 1}, b, n);
}

void gy_matrix_multiply_at(double *out, const double *a, const double *b, size_t n)
{
    multiply(out, (struct gy_matrix_view){a, 1, n}, b, n);
}

void gy_matrix_multiply_bt(double *out, const double *a, const double *b, size_t n, double *work)
{
    gy_matrix_transpose(work, b, n);
    gy_matrix_multiply(out, a, work, n);
}

bool gy_matrix_orthonormalize(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double *restrict row = a + i * n, before = sqrt(gy_dot64(row, row, n));
        for (int pass = 0; pass < 2; pass++)
            for (size_t k = 0; k < i; k++) {
                const double *restrict other = a + k * n;
                double along = gy_dot64(row, other, n);
                for (size_t j = 0; j < n; j++)
                    row[j] -= along * other[j];
            }
        double length = sqrt(gy_dot64(row, row, n));
        if (!(length > before * 1e-8)) /* what is left of the row is rounding */
            return false;
        for (size_t j = 0; j < n; j++)
            row[j] /= length;
    }
    return true;
}
