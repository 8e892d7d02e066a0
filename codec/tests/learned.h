/* learned: what tests of learned rotations share. */
#ifndef GYRE_CODEC_TESTS_LEARNED_H
#define GYRE_CODEC_TESTS_LEARNED_H

#include "rotations/dense.h"
#include "support.h"

/* An orthogonal matrix [dim][dim] with no relation to any data. */
static UNUSED float *new_rotation_matrix(uint32_t dim)
{
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    float *matrix = must_alloc((size_t)dim * dim * sizeof *matrix);
    must(gy_haar_matrix(matrix, dim, seed, &err));
    return matrix;
}

static UNUSED gyre_codebook *new_learned_codebook(gyre_metric metric, uint32_t dim, const float *mean, const float *matrix)
{
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    gyre_codebook *codebook = NULL;
    must(gyre_codebook_new_learned(&codebook, metric, dim, 1, seed, mean, matrix, &err));
    return codebook;
}

#endif
