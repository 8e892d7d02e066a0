/* skewed: data whose principal components fall off by a power law, turned so that no coordinate is one of them. */
#ifndef GYRE_CODEC_TESTS_SKEWED_H
#define GYRE_CODEC_TESTS_SKEWED_H

#include "learned.h"

struct skewed {
    uint32_t dim;
    double power;  /* standard deviation of component i: (i+1)^-power */
    float *matrix; /* [dim][dim] */
    float *mean;   /* [dim] */
};

static UNUSED struct skewed new_skewed(uint32_t dim, double power)
{
    struct skewed skewed = {dim, power, new_rotation_matrix(dim), must_alloc(dim * sizeof(float))};
    random_vector(skewed.mean, dim, 0.3);
    return skewed;
}

static UNUSED void skewed_free(struct skewed *skewed) { free(skewed->matrix), free(skewed->mean); }

static UNUSED void skewed_vector(const struct skewed *skewed, float *out)
{
    float components[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < skewed->dim; i++)
        components[i] = (float)(random_normal() * pow(i + 1.0, -skewed->power));
    gy_dense_invert(skewed->matrix, skewed->dim, skewed->dim, components, out);
    for (uint32_t i = 0; i < skewed->dim; i++)
        out[i] += skewed->mean[i];
}

static UNUSED float *new_skewed_sample(const struct skewed *skewed, size_t n)
{
    float *sample = must_alloc(n * skewed->dim * sizeof *sample);
    for (size_t i = 0; i < n; i++)
        skewed_vector(skewed, sample + i * skewed->dim);
    return sample;
}

#endif
