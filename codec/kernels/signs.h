/* signs kernels: the sign plane. */
#ifndef GY_KERNELS_SIGNS_H
#define GY_KERNELS_SIGNS_H

#include "gyre/base.h"

typedef struct gy_signs_kernels {
    /* Bit i%8 of byte i/8 is 1 iff z[i] >= 0 (-0 too); ceil(dim/8) bytes, padding bits 0. */
    void (*pack)(const float *z, size_t dim, uint8_t *bits);
    /* out[i] = +1 where the bit is 1, -1 where it is 0. */
    void (*unpack)(const uint8_t *bits, size_t dim, float *out);
} gy_signs_kernels;

extern const gy_signs_kernels gy_signs_ref, gy_signs_avx2, gy_signs_avx512, gy_signs_neon;

#endif
