/* lu: linear systems, by blocks of columns so that all but O(n^2·BLOCK) of the work is matrix products. */
#include "rotations/algebra.h"

#include "kernels/kernels.h"

#include <math.h>

enum { BLOCK = 48 };

static size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

static void swap_rows(double *a, size_t columns, size_t i, size_t j)
{
    if (i == j)
        return;
    for (size_t c = 0; c < columns; c++) {
        double kept = a[i * columns + c];
        a[i * columns + c] = a[j * columns + c];
        a[j * columns + c] = kept;
    }
}

/* C -= A·B: rows x inner times inner x columns. */
static void subtract_product(double *c, size_t c_stride, const double *a, size_t a_stride, const double *b, size_t b_stride,
                             size_t rows, size_t inner, size_t columns)
{
    gy_kernels_current()->matrix->multiply_add(c, c_stride, -1, (struct gy_matrix_view){a, a_stride, 1}, b, b_stride, rows, inner,
                                               columns);
}

/* Row i -= factor · row k, columns first…end-1. */
static void subtract_row(double *a, size_t stride, size_t i, size_t k, double factor, size_t first, size_t end)
{
    double *restrict to = a + i * stride;
    const double *restrict from = a + k * stride;
    for (size_t j = first; j < end; j++)
        to[j] -= factor * from[j];
}

/* Columns first…end-1 of all rows from first on. */
static void factor_panel(double *a, size_t n, size_t first, size_t end, uint32_t *pivots, double least)
{
    for (size_t k = first; k < end; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[pivot * n + k]))
                pivot = i;
        pivots[k] = (uint32_t)pivot;
        swap_rows(a, n, k, pivot);
        if (fabs(a[k * n + k]) < least)
            a[k * n + k] = a[k * n + k] < 0 ? -least : least;
        for (size_t i = k + 1; i < n; i++) {
            a[i * n + k] /= a[k * n + k];
            subtract_row(a, n, i, k, a[i * n + k], k + 1, end);
        }
    }
}

void gy_lu_factor(double *a, size_t n, uint32_t *pivots)
{
    double largest = 0;
    for (size_t i = 0; i < n * n; i++)
        largest = fabs(a[i]) > largest ? fabs(a[i]) : largest;
    double least = largest > 0 ? largest * (double)n * 0x1p-52 : 1;
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t end = lesser(first + BLOCK, n);
        factor_panel(a, n, first, end, pivots, least);
        for (size_t k = first; k < end; k++)
            for (size_t i = k + 1; i < end; i++)
                subtract_row(a, n, i, k, a[i * n + k], end, n);
        subtract_product(a + end * n + end, n, a + end * n + first, n, a + first * n + end, n, n - end, end - first, n - end);
    }
}

void gy_lu_solve(const double *lu, const uint32_t *pivots, size_t n, double *b, size_t columns)
{
    for (size_t k = 0; k < n; k++)
        swap_rows(b, columns, k, pivots[k]);
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t end = lesser(first + BLOCK, n);
        for (size_t k = first; k < end; k++)
            for (size_t i = k + 1; i < end; i++)
                subtract_row(b, columns, i, k, lu[i * n + k], 0, columns);
        subtract_product(b + end * columns, columns, lu + end * n + first, n, b + first * columns, columns, n - end, end - first,
                         columns);
    }
    for (size_t end = n; end > 0;) {
        size_t first = (end - 1) / BLOCK * BLOCK;
        for (size_t k = end; k-- > first;) {
            for (size_t c = 0; c < columns; c++)
                b[k * columns + c] /= lu[k * n + k];
            for (size_t i = first; i < k; i++)
                subtract_row(b, columns, i, k, lu[i * n + k], 0, columns);
        }
        subtract_product(b, columns, lu + first, n, b + first * columns, columns, first, end - first, columns);
        end = first;
    }
}
