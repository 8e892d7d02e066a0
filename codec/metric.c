#include "gyre/metric.h"

#include "kernels/kernels.h"
#include "metric_internal.h"
#include "sums.h"

#include <math.h>

const char *gyre_metric_name(gyre_metric metric)
{
    switch (metric) {
    case GYRE_L2: return "l2";
    case GYRE_IP: return "ip";
    case GYRE_COSINE: return "cosine";
    }
    return NULL;
}

gyre_metric gyre_metric_parse(const char *name)
{
    for (int m = GYRE_L2; name && m <= GYRE_COSINE; m++)
        if (strcmp(name, gyre_metric_name((gyre_metric)m)) == 0)
            return (gyre_metric)m;
    return (gyre_metric)0;
}

/* gyre_vector_check of a vector of that norm. */
static gyre_status check(gyre_metric metric, const float *vector, size_t dim, double norm, size_t row, gyre_error *err)
{
    /* The squares of floats fit a double by far, so the norm is finite if and only if they all are. */
    for (size_t i = 0; !isfinite(norm) && i < dim; i++)
        if (!isfinite(vector[i]))
            return gyre_fail(err, GYRE_INVALID, "vector: row %zu column %zu is %s; every component must be finite", row, i,
                             isnan(vector[i]) ? "NaN" : "infinite");
    if (norm > GYRE_NORM_MAX)
        return gyre_fail(err, GYRE_INVALID, "vector: row %zu has norm %g; the limit is %g", row, norm, GYRE_NORM_MAX);
    if (metric == GYRE_COSINE && norm < GYRE_COSINE_NORM_MIN)
        return gyre_fail(err, GYRE_INVALID, "vector: row %zu has norm %g; cosine needs a direction, so at least %g", row, norm,
                         GYRE_COSINE_NORM_MIN);
    return GYRE_OK;
}

static void normalize(gyre_metric metric, const float *in, float *out, size_t dim, double norm)
{
    if (metric != GYRE_COSINE) {
        memmove(out, in, dim * sizeof *out);
        return;
    }
    gy_kernels_current()->sums->divide(in, norm, out, dim);
}

gyre_status gyre_vector_check(gyre_metric metric, const float *vector, size_t dim, size_t row, gyre_error *err)
{
    return check(metric, vector, dim, sqrt(gy_sum_squares(vector, dim)), row, err);
}

void gyre_vector_normalize(gyre_metric metric, const float *in, float *out, size_t dim)
{
    normalize(metric, in, out, dim, metric == GYRE_COSINE ? sqrt(gy_sum_squares(in, dim)) : 0);
}

gyre_status gy_vector_prepare(gyre_metric metric, const float *in, float *out, size_t dim, size_t row, gyre_error *err)
{
    double norm = sqrt(gy_sum_squares(in, dim));
    GY_TRY(check(metric, in, dim, norm, row, err));
    normalize(metric, in, out, dim, norm);
    return GYRE_OK;
}

double gyre_vector_norm(const float *vector, size_t dim)
{
    return sqrt(gy_sum_squares(vector, dim));
}

float gyre_distance_normed(gyre_metric metric, const float *stored, double norm, const float *query, size_t dim)
{
    const gy_kernels *kernels = gy_kernels_current();
    switch (metric) {
    case GYRE_L2: return kernels->vector->l2(stored, query, dim);
    case GYRE_IP: return -kernels->vector->dot(stored, query, dim);
    case GYRE_COSINE: return (float)(1.0 - (double)kernels->vector->dot(stored, query, dim) / norm); /* one division in double */
    }
    return INFINITY;
}

float gyre_distance(gyre_metric metric, const float *stored, const float *query, size_t dim)
{
    return gyre_distance_normed(metric, stored, metric == GYRE_COSINE ? gyre_vector_norm(stored, dim) : 1, query, dim);
}
