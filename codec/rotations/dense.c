#include "rotations/dense.h"

#include "gyre/metric.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

/* Rows of M·M^T at a time, and columns of M. */
enum { PANEL = 256, STRIP = 256 };

void gy_dense_apply(const float *matrix, uint32_t rows, uint32_t dim, const float *in, float *out)
{
    const gy_vector_kernels *kernels = gy_kernels_current()->vector;
    for (uint32_t i = 0; i < rows; i++)
        out[i] = kernels->dot(matrix + (size_t)i * dim, in, dim);
}

void gy_dense_invert(const float *matrix, uint32_t rows, uint32_t dim, const float *in, float *out)
{
    double sums[GYRE_DIM_MAX] = {0};
    for (uint32_t i = 0; i < rows; i++) {
        const float *restrict row = matrix + (size_t)i * dim;
        double factor = (double)in[i];
        for (uint32_t j = 0; j < dim; j++)
            sums[j] += factor * (double)row[j];
    }
    for (uint32_t j = 0; j < dim; j++)
        out[j] = (float)sums[j];
}

/* Rows first… of M·M^T, columns from first on, into panel [PANEL][rows - first]. strip [STRIP][rows - first]. */
static size_t gram_panel(const float *matrix, size_t rows, size_t dim, size_t first, double *strip, double *panel)
{
    size_t width = rows - first, height = width < PANEL ? width : PANEL;
    memset(panel, 0, height * width * sizeof *panel);
    for (size_t k = 0; k < dim; k += STRIP) {
        size_t deep = dim - k < STRIP ? dim - k : STRIP;
        for (size_t i = 0; i < width; i++)
            for (size_t l = 0; l < deep; l++)
                strip[l * width + i] = (double)matrix[(first + i) * dim + k + l];
        gy_kernels_current()->matrix->multiply_add(panel, width, 1, (struct gy_matrix_view){strip, 1, width}, strip, width,
                                                   height, deep, width);
    }
    return height;
}

/* M·M^T is symmetric: of each pair of elements one is computed, and counts in both rows. sums [rows]. */
static double defect(const float *matrix, size_t rows, size_t dim, double *sums, double *scratch)
{
    double worst = 0, *strip = scratch, *panel = scratch + STRIP * rows;
    memset(sums, 0, rows * sizeof *sums);
    for (size_t first = 0; first < rows; first += PANEL) {
        size_t width = rows - first, height = gram_panel(matrix, rows, dim, first, strip, panel);
        for (size_t i = 0; i < height; i++)
            for (size_t j = 0; j < width; j++) {
                double magnitude = fabs(panel[i * width + j] - (i == j));
                sums[first + i] += magnitude;
                if (j >= height)
                    sums[first + j] += magnitude;
            }
    }
    for (size_t i = 0; i < rows; i++)
        worst = sums[i] > worst ? sums[i] : worst;
    return worst;
}

gyre_status gy_dense_check(const float *matrix, uint32_t rows, uint32_t dim, gyre_error *err)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < dim; j++)
            if (!(fabsf(matrix[i * dim + j]) <= 2)) /* false for NaN; no element of a rotation is above 1 */
                return gyre_fail(err, GYRE_INVALID, "matrix: row %zu column %zu is %g; no element of a rotation is above 1", i, j,
                                 (double)matrix[i * dim + j]);
    double *scratch = malloc((STRIP + PANEL + 1) * (size_t)rows * sizeof *scratch);
    if (!scratch)
        return gyre_fail(err, GYRE_NO_MEMORY, "matrix of %u rows", rows);
    double worst = defect(matrix, rows, dim, scratch, scratch + rows);
    free(scratch);
    if (worst > GY_DENSE_DEFECT_MAX)
        return gyre_fail(err, GYRE_INVALID, "matrix: M M^T differs from the identity by %g in a row; a rotation may by %g", worst,
                         GY_DENSE_DEFECT_MAX);
    return GYRE_OK;
}
