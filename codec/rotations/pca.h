/* pca: principal components of a sample, and how many dimensions it is worth.
 * Threads  no state; call from anywhere */
#ifndef GY_PCA_H
#define GY_PCA_H

#include "gyre/base.h"

/* Of vectors x [dim], about the origin. */
struct gy_moments {
    size_t count;
    double *mean;   /* [dim] */
    double *second; /* [dim][dim] mean of x·x^T */
};

/* Moments of n vectors; on failure there is nothing to _fini. O(n·dim^2). */
GYRE_CHECKED gyre_status gy_moments_init(struct gy_moments *moments, const float *vectors, size_t n, uint32_t dim,
                                         gyre_error *err);
void gy_moments_fini(struct gy_moments *moments);

/* tr(S)^2/tr(S^2) of the covariance S about the mean: dim for a flat spectrum, less the more skewed it is. A sample's own S is
 * too skewed by tr(S)^2/n, which is taken off; at most dim. */
double gy_effective_dim(const struct gy_moments *moments, uint32_t dim);

/* Eigenvectors of the second moment, largest variance first, as rows of components [dim][dim]; variances [dim], none below 0.
 * O(6·dim^3). moments->second is used up. */
GYRE_CHECKED gyre_status gy_principal_components(struct gy_moments *moments, uint32_t dim, double *variances, double *components,
                                                 gyre_error *err);

#endif
