/* metric: how far apart two vectors are. One convention everywhere: a *distance*, smaller is nearer.
 *   l2      |x-q|^2 (squared)
 *   ip      -<x,q>
 *   cosine  1 - <x,q>/(|x||q|); zero vectors are refused */
#ifndef GYRE_METRIC_H
#define GYRE_METRIC_H

#include "gyre/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gyre_metric { GYRE_L2 = 1, GYRE_IP = 2, GYRE_COSINE = 3 } gyre_metric;

enum { GYRE_DIM_MAX = 4096 };

/* Limits of |x|. With the first, no factor, estimate or bound can leave the range of a float at any dim; under cosine a
 * vector shorter than the second has lost its direction to rounding and counts as zero. */
#define GYRE_NORM_MAX 1e16
#define GYRE_COSINE_NORM_MIN 1e-30

/* "l2", "ip", "cosine"; NULL for a number that is no metric. */
const char *gyre_metric_name(gyre_metric metric);
/* The metric of a name, or 0. */
gyre_metric gyre_metric_parse(const char *name);

/* Checks that a vector can be stored or asked under a metric: every component finite, |x| at most
 * GYRE_NORM_MAX and, under cosine, at least GYRE_COSINE_NORM_MIN. GYRE_INVALID names row (as given) and column. */
GYRE_CHECKED gyre_status gyre_vector_check(gyre_metric metric, const float *vector, size_t dim, size_t row, gyre_error *err);

/* Writes what is indexed and asked under the metric: x/|x| for cosine, a copy otherwise. out may be in. The norm is summed
 * in double in the fixed lane order of codec/MATH.md 1.3, so every CPU gives the same bits. */
void gyre_vector_normalize(gyre_metric metric, const float *in, float *out, size_t dim);

/* The exact distance of a stored vector (as the client gave it) to a query (already through gyre_vector_normalize).
 * Float sums in the fixed order of kernels/kernels.h: the same bits on every instruction set. */
float gyre_distance(gyre_metric metric, const float *stored, const float *query, size_t dim);

/* |x|, summed as gyre_vector_normalize does. */
double gyre_vector_norm(const float *vector, size_t dim);
/* gyre_distance of a stored vector whose norm is known, to the same bits: under cosine, the only metric that asks for it, it is
 * not summed again. */
float gyre_distance_normed(gyre_metric metric, const float *stored, double norm, const float *query, size_t dim);

#ifdef __cplusplus
}
#endif
#endif
