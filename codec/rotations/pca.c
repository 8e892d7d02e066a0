#include "rotations/pca.h"

#include "kernels/kernels.h"
#include "rotations/algebra.h"

#include <stdlib.h>

enum { BATCH = 128 };

gyre_status gy_moments_init(struct gy_moments *moments, const float *vectors, size_t n, uint32_t dim, gyre_error *err)
{
    size_t square = (size_t)dim * dim;
    double *batch = malloc(BATCH * (size_t)dim * sizeof *batch);
    *moments = (struct gy_moments){.count = n, .second = calloc(square + dim, sizeof *moments->second)};
    if (!moments->second || !batch) {
        free(batch);
        gy_moments_fini(moments);
        return gyre_fail(err, GYRE_NO_MEMORY, "moments of dim %u", dim);
    }
    moments->mean = moments->second + square;
    for (size_t first = 0; first < n; first += BATCH) {
        size_t rows = n - first < BATCH ? n - first : BATCH;
        for (size_t i = 0; i < rows * dim; i++) {
            batch[i] = (double)vectors[first * dim + i];
            moments->mean[i % dim] += batch[i];
        }
        gy_kernels_current()->matrix->multiply_add(moments->second, dim, 1, (struct gy_matrix_view){batch, 1, dim}, batch, dim,
                                                   dim, rows, dim);
    }
    for (size_t i = 0; i < square + dim; i++) /* the mean lies behind */
        moments->second[i] /= (double)n;
    free(batch);
    return GYRE_OK;
}

void gy_moments_fini(struct gy_moments *moments)
{
    free(moments->second);
    *moments = (struct gy_moments){0};
}

double gy_effective_dim(const struct gy_moments *moments, uint32_t dim)
{
    double trace = 0, squares = 0, n = (double)moments->count;
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j < dim; j++) {
            double covariance = moments->second[i * dim + j] - moments->mean[i] * moments->mean[j];
            squares += covariance * covariance;
            trace += i == j ? covariance : 0;
        }
    /* Of Gaussian vectors tr(S^2) of the sample is (1 + 1/n)·tr(S^2) + tr(S)^2/n on average. */
    double unbiased = (squares - trace * trace / n) / (1 + 1 / n);
    return unbiased * dim > trace * trace ? trace * trace / unbiased : dim;
}

gyre_status gy_principal_components(struct gy_moments *moments, uint32_t dim, double *variances, double *components,
                                    gyre_error *err)
{
    double *work = malloc(2 * (size_t)dim * sizeof *work);
    if (!work)
        return gyre_fail(err, GYRE_NO_MEMORY, "components of dim %u", dim);
    bool found = gy_matrix_eigen(moments->second, dim, variances, components, work);
    free(work);
    for (uint32_t i = 0; i < dim; i++)
        variances[i] = variances[i] > 0 ? variances[i] : 0;
    /* Squares of GYRE_NORM_MAX are far from the range of a double: the moments are finite. */
    return found ? GYRE_OK : gyre_fail(err, GYRE_INTERNAL, "components of dim %u: no convergence", dim);
}
