/* planes_inline: what the two 512-bit tables share of planes.
 *
 * Sixteen coordinates a step when coding: the comparison masks are the planes' bytes. Sixty-four a step when reading: eight
 * bytes of a plane are a mask, and u grows by one masked addition of bytes a plane. */
#ifndef GY_AVX512_PLANES_INLINE_H
#define GY_AVX512_PLANES_INLINE_H

#include "kernels/planes.h"
#include "kernels/vector.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Bits of up to 64 coordinates of a plane from coordinate at on. */
ALWAYS_INLINE __mmask64 plane_bits(const uint8_t *plane, size_t at, size_t dim)
{
    if (dim - at >= 64) {
        uint64_t bits;
        memcpy(&bits, plane + at / 8, sizeof bits);
        return bits;
    }
    size_t plane_bytes = (dim + 7) / 8;
    if (plane_bytes >= 8) { /* the last eight, without those of the step before */
        uint64_t bits;
        memcpy(&bits, plane + plane_bytes - 8, sizeof bits);
        return bits >> 8 * (8 + at / 8 - plane_bytes);
    }
    __mmask16 bytes = (__mmask16)((1u << plane_bytes) - 1);
    return (__mmask64)_mm_cvtsi128_si64(_mm_maskz_loadu_epi8(bytes, plane + at / 8));
}

/* u of 64 coordinates, as bytes. */
ALWAYS_INLINE __m512i levels_load(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, size_t at)
{
    size_t plane_bytes = (dim + 7) / 8;
    __m512i u = _mm512_maskz_set1_epi8(plane_bits(signs, at, dim), (char)(1u << low_bits));
    for (uint32_t plane = 0; plane < low_bits; plane++)
        u = _mm512_mask_add_epi8(u, plane_bits(planes + plane * plane_bytes, at, dim), u,
                                 _mm512_set1_epi8((char)(1u << (low_bits - 1 - plane))));
    return u;
}

/* The body of a function for every constant low_bits, so that its loops unroll. */
#define FOR_EACH_LOW_BITS(call)  \
    switch (low_bits) {          \
    case 0: return call(0);      \
    case 1: return call(1);      \
    case 2: return call(2);      \
    case 3: return call(3);      \
    case 4: return call(4);      \
    case 5: return call(5);      \
    case 6: return call(6);      \
    default: return call(7);     \
    }

/* m of 32 magnitudes, 16 bits each, in the order of gy_grid.whole: four of the first sixteen, four of the others, and so on. */
ALWAYS_INLINE __m512i grid_levels(const float *steps, float t, int32_t top)
{
    const __m512 times = _mm512_set1_ps(t);
    __m512i first = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_load_ps(steps), times));
    __m512i second = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_load_ps(steps + 16), times));
    return _mm512_min_epi16(_mm512_packs_epi32(first, second), _mm512_set1_epi16((short)top)); /* packs saturates */
}

/* Sums of lanes below 2^30, so that two of them fit one. */
ALWAYS_INLINE int64_t sum_wide(__m512i lanes)
{
    __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    __m256i low = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(eight));
    __m256i four = _mm256_add_epi64(low, _mm256_cvtepu32_epi64(_mm256_extracti128_si256(eight, 1)));
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    return _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
}

float gy_planes_grid_avx512(const float *z, size_t dim, struct gy_grid *out);
void gy_planes_pack_avx512(const float *z, const float *magnitudes, size_t dim, float t, uint32_t low_bits, uint8_t *planes,
                           float *zb);
float gy_planes_dot_float_avx512(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y);

#endif
