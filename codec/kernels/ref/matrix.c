/* ref matrix: plain C, the definition. Cost: bound by loads and stores of C, about one multiply-add a nanosecond. */
#include "kernels/matrix.h"

static void multiply_add(double *c, size_t c_stride, double alpha, struct gy_matrix_view a, const double *b, size_t b_stride,
                         size_t rows, size_t inner, size_t columns)
{
    for (size_t i = 0; i < rows; i++) {
        double *restrict sum = c + i * c_stride;
        for (size_t k = 0; k < inner; k++) {
            double factor = alpha * a.at[i * a.row + k * a.column];
            const double *restrict row = b + k * b_stride;
            for (size_t j = 0; j < columns; j++)
                sum[j] += factor * row[j];
        }
    }
}

const gy_matrix_kernels gy_matrix_ref = {multiply_add};
