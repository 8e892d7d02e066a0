/* path: vectors to codes by the best path through a trellis, for trellis.c, the trainer of the tables, and tests.
 * Bytes    FORMAT.md, "trellis"          Threads  no state but scratch */
#ifndef GY_PATH_H
#define GY_PATH_H

#include "kernels/trellis.h"

#include <math.h>

/* A trellis of values [2^window]: within -128…127, or if magnitudes, within 0…255. */
void gy_trellis_init(struct gy_trellis *trellis, uint32_t window, uint32_t fresh, bool magnitudes, const int16_t *values);

/* Room for gy_trellis_encode, to be 64-byte aligned. */
size_t gy_trellis_scratch_bytes(size_t dim);

/* The sample of a scaled coordinate: held within GY_TRELLIS_SAMPLE_MAX and rounded, halves to even. Written so that compilers
 * make vectors of a loop of it. */
static inline int32_t gy_trellis_sample(float scaled)
{
    const float most = GY_TRELLIS_SAMPLE_MAX, whole = 0x1.8p23f; /* whose neighbours are 1 apart: adding it rounds */
    float magnitude = fabsf(scaled), held = magnitude < most ? magnitude : most;
    return (int32_t)((copysignf(held, scaled) + whole) - whole);
}

/* Writes the code of the path nearest to the samples w_i of x_i·scale (|x_i|·scale for magnitudes); returns the sum of
 * (w_i - value(s_i))^2 - (w_i + lift - GY_TRELLIS_MIDDLE)^2, values without lift. Of equally near paths: the lowest final state,
 * then the lowest state before it, and so on. */
int32_t gy_trellis_encode(const struct gy_trellis *trellis, const float *x, size_t dim, float scale, uint8_t *code,
                          void *memory);

#endif
