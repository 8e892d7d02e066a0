/* rotate kernels: the three steps of a round of the seeded rotation (FORMAT.md, "rotation").
 *
 * Cost at dim = 768 = 512 + 256, three rounds: 9·512 + 8·256 additions a round, and as many loads from random places of L1 as
 * there are coordinates. The additions form a fixed graph, so every width of register gives the same bits; the permutation is the
 * longer half. */
#ifndef GY_KERNELS_ROTATE_H
#define GY_KERNELS_ROTATE_H

#include "gyre/base.h"

/* A move: where a coordinate comes from, and in the top bit whether its sign flips: two bytes, as dim is at most 4096. */
enum { GY_MOVE_FLIP = 0x8000, GY_MOVE_FROM = 0x7fff };

typedef struct gy_rotate_kernels {
    /* out[i] = ±in[i] by the flips of moves; where they come from is not read. out may be in. */
    void (*flip)(const float *in, const uint16_t *moves, float *out, size_t dim);
    /* out[j] = ±in[from j's move]. out must not overlap in. */
    void (*permute)(const float *in, const uint16_t *moves, float *out, size_t dim);
    /* x[count] <- scale·(H x) in place, count a power of two up to 4096: for strides h = 1, 2, 4, …, count/2, (a, b) at distance
     * h in blocks of 2h become (a + b, a - b); then each is multiplied by scale. */
    void (*hadamard)(float *x, size_t count, float scale);
} gy_rotate_kernels;

extern const gy_rotate_kernels gy_rotate_ref, gy_rotate_avx2, gy_rotate_avx512, gy_rotate_neon;

#endif
