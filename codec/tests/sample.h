/* sample: vectors that any codec that learns can learn from, around a mean: as few as each takes, which is quick and makes poor books. */
#ifndef GYRE_CODEC_TESTS_SAMPLE_H
#define GYRE_CODEC_TESTS_SAMPLE_H

#include "gyre/quantizer.h"
#include "sums.h"

#include <math.h>

/* At dim 1 many directions equal that of the mean, and teach nothing; principal components take two vectors a dimension. */
static inline size_t sample_count(uint32_t dim) { return dim < 4 ? 2000 : dim < 128 ? 260 : 2 * (size_t)dim + 4; }

/* Component j varies as e^(-8j/dim): an effective dimension near dim/8, as segments of unequal bits demand.
 *   x  [n][dim]        state  of the generator (splitmix64) */
static inline void sample_fill(const gyre_codebook *codebook, float *x, size_t n, uint64_t *state)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    double length = sqrt(gy_sum_squares(mean, dim)), size = (1 + length) / sqrt(dim);
    float inward = length > .1 * GYRE_NORM_MAX ? .9f : 1; /* so that no vector is too long */
    for (size_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < dim; j++) {
            double even = 0; /* the sum of four even numbers: near enough to a normal one */
            for (int k = 0; k < 4; k++) {
                uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
                z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
                z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
                even += (double)((z ^ z >> 31) >> 11) * 0x1p-53 - .5;
            }
            x[i * dim + j] = mean[j] * inward + (float)(.05 * size * exp(-8. * j / dim) * even);
        }
}

#endif
