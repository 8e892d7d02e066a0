/* rotation: the orthogonal map that every node derives, bit for bit, from the cluster's 32-byte seed.
 *
 * Three rounds of {±1 diagonal, Hadamard butterflies on the binary parts of dim, scale, permutation}; butterflies only add
 * and subtract in a fixed graph, so scalar and vector code give identical bits. Any dim 1…GYRE_DIM_MAX, no padding.
 * Source   codec/MATH.md section 1.1 ("split and permute"); random Hadamard rotations: Ailon & Chazelle 2009
 * Bytes    FORMAT.md, "rotation"          Threads  immutable after _new; share freely */
#ifndef GYRE_ROTATION_H
#define GYRE_ROTATION_H

#include "gyre/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GYRE_SEED_BYTES = 32 };

typedef struct gyre_rotation gyre_rotation;

/* Expands seed into signs and permutations for vectors of dim floats. GYRE_INVALID if dim is 0 or above GYRE_DIM_MAX. */
GYRE_CHECKED gyre_status gyre_rotation_new(gyre_rotation **out, uint32_t dim, const uint8_t seed[GYRE_SEED_BYTES],
                                           gyre_error *err);
/* A rotation learned from data, composed on the seeded one: L·P.
 *   matrix  [dim][dim] L, row by row (learn.h makes such); copied
 * GYRE_INVALID, besides, if an element is not finite or L is not orthogonal: the sum of magnitudes in a row of L·L^T - I above
 * 4e-6, so that lengths are kept to 2e-6. The check takes O(dim^3). No law of the error holds for codes of such a rotation
 * (codec/MATH.md 2.7). */
GYRE_CHECKED gyre_status gyre_rotation_new_learned(gyre_rotation **out, uint32_t dim, const uint8_t seed[GYRE_SEED_BYTES],
                                                   const float *matrix, gyre_error *err);
/* A rotation drawn uniformly (Haar) from the seed, a dense matrix: the reference that the seeded one is held to. Making it takes
 * O(2·dim^3), applying it dim^2. */
GYRE_CHECKED gyre_status gyre_rotation_new_haar(gyre_rotation **out, uint32_t dim, const uint8_t seed[GYRE_SEED_BYTES],
                                                gyre_error *err);
bool gyre_rotation_is_learned(const gyre_rotation *rotation);
void gyre_rotation_free(gyre_rotation *rotation);
GY_AUTO_DEFINE(gyre_rotation, gyre_rotation_free)

/* out[dim] = P in[dim]; out may be in. O(dim log dim), or O(dim^2) with a matrix; allocates nothing (at most
 * 5·GYRE_DIM_MAX floats of stack). */
void gyre_rotation_apply(const gyre_rotation *rotation, const float *in, float *out);
/* out[dim] = P^T in[dim], the inverse; out may be in. */
void gyre_rotation_invert(const gyre_rotation *rotation, const float *in, float *out);

#ifdef __cplusplus
}
#endif
#endif
