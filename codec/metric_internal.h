/* metric_internal: what encoders need of metric.c. */
#ifndef GY_METRIC_INTERNAL_H
#define GY_METRIC_INTERNAL_H

#include "gyre/metric.h"

/* gyre_vector_check, then gyre_vector_normalize: the same sentences and bits, the norm summed once. out may be in. */
GYRE_CHECKED gyre_status gy_vector_prepare(gyre_metric metric, const float *in, float *out, size_t dim, size_t row, gyre_error *err);

#endif
