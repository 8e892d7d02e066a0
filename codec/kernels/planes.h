/* planes kernels: codes of 1 to 8 bits a coordinate kept as bit planes, and the search for the best of them.
 *
 * u_i = sign bit·2^low_bits + the low bits, 0…2^B-1 with B = low_bits + 1, stands for zb_i = u_i - (2^B - 1)/2. The sign plane is
 * RaBitQ's; the low bits are low_bits planes of ceil(dim/8) bytes, highest bit first; bit i%8 of byte i/8 is coordinate i. */
#ifndef GY_KERNELS_PLANES_H
#define GY_KERNELS_PLANES_H

#include "gyre/base.h"

enum {
    GY_LOW_BITS_MAX = 7,
    GY_GRID_MAX = 32767, /* a whole magnitude fits 16 signed bits, the factors of one multiply-add */
    GY_GRID_LANES = 32,  /* what a grid is padded to */
    GY_LEVEL_LANES = 64, /* what the levels of a query are padded to */
};

/* Magnitudes in whole steps, zeros up to a multiple of GY_GRID_LANES. 64-byte aligned. */
struct gy_grid {
    float *steps;   /* 0…GY_GRID_MAX, whole */
    int16_t *whole; /* the same; every GY_GRID_LANES of them in the order that the table's score likes */
    size_t count;   /* padded */
};

typedef struct gy_planes_kernels {
    /* |z_i| in steps of the largest / GY_GRID_MAX: (whole)(|z_i|·c + 0.5), c = GY_GRID_MAX/largest, in float. Returns c; 0 if the
     * largest is so small that c is not finite (all steps 0 then). */
    float (*grid)(const float *z, size_t dim, struct gy_grid *grid);
    /* With m_i = min(trunc(steps_i·t), top) in float: *along = sum steps_i·m_i, *square = sum m_i·(m_i + 1). t at most top +
     * 1/2. The grid is one of the same table. */
    void (*score)(const struct gy_grid *grid, float t, int32_t top, int64_t *along, int64_t *square);
    /* m_i = trunc(min(|magnitude_i|·t, top)) in float, top = 2^low_bits - 1; the low bits are m where z_i >= 0 and top - m
     * elsewhere; zb_i = ±(m + 1/2). Writes low_bits planes, padding bits 0. */
    void (*pack)(const float *z, const float *magnitudes, size_t dim, float t, uint32_t low_bits, uint8_t *planes, float *zb);
    /* sum v_i·u_i; v [dim], zeros up to a multiple of GY_LEVEL_LANES, -127…127, 64-byte aligned. */
    int32_t (*dot)(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v);
    /* The vector kernels' dot of y and zb, bit for bit; y [dim]. */
    float (*dot_float)(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y);
} gy_planes_kernels;

extern const gy_planes_kernels gy_planes_ref, gy_planes_avx2, gy_planes_avx512, gy_planes_avx512_vbmi, gy_planes_neon;

/* u of coordinate i. */
static inline uint32_t gy_planes_level(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, size_t i)
{
    size_t plane_bytes = (dim + 7) / 8;
    uint32_t u = signs[i / 8] >> i % 8 & 1;
    for (uint32_t plane = 0; plane < low_bits; plane++)
        u = 2 * u + (planes[plane * plane_bytes + i / 8] >> i % 8 & 1);
    return u;
}

static inline float gy_planes_value(uint32_t u, uint32_t low_bits) { return (float)u - (float)((2u << low_bits) - 1) / 2; }

#endif
