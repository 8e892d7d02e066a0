/* levels: codes of one index per coordinate, kept as bit planes, and the levels of Lloyd and Max for them.
 *
 * Index u of B bits is in planes of ceil(dim/8) bytes, highest bit first; bit i%8 of byte i/8 is coordinate i; padding bits
 * are 0. Where levels lie on both sides of zero, u counts them from below: the top bit is 1 iff z_i >= 0. */
#ifndef GY_LEVELS_H
#define GY_LEVELS_H

#include "quantizers/coder.h"

enum { GY_LEVEL_BITS_MAX = 4 };

size_t gy_levels_bytes(uint32_t bits, uint32_t dim);
/* indices [dim], below 2^bits. */
void gy_levels_pack(const uint8_t *indices, uint32_t dim, uint32_t bits, uint8_t *planes);
void gy_levels_unpack(const uint8_t *planes, uint32_t dim, uint32_t bits, uint8_t *indices);
/* Whether the padding bits are 0. */
bool gy_levels_valid(const uint8_t *planes, uint32_t dim, uint32_t bits);

/* Bits that are 1. */
static inline uint32_t gy_ones(uint64_t word)
{
    word -= word >> 1 & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)(word * UINT64_C(0x0101010101010101) >> 56);
}

/* The 2^bits levels of least squared error for N(0,1), bits 1…GY_LEVEL_BITS_MAX, from below, each times scale in float. */
void gy_lloyd_max_levels(uint32_t bits, float scale, float levels[1 << GY_LEVEL_BITS_MAX]);
/* The indices of the levels nearest to z_i·per_unit in float; at ties the one nearer to zero. */
void gy_lloyd_max_indices(const float *z, float per_unit, uint32_t dim, uint32_t bits, uint8_t *indices);
/* Hash of the levels: the first 8 bytes of unkeyed BLAKE2b-256 over u8 bits | the positive levels, f32. */
uint64_t gy_lloyd_max_hash(uint32_t bits);

#endif
