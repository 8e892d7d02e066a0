/* avx512 planes: as the definition, in registers of 512 bits.
 *
 * Cost of dot per 64 coordinates: a mask load and a masked byte addition a plane, one load of the query, and the multiply-add
 * that widens: its sums of two products saturate at 2^15, which 2·127·127 does not reach and 2·255·127 would, so with 8 bits
 * the sign plane is summed by itself. */
#include "kernels/avx512/planes_inline.h"

#include <float.h>

/* The lanes from coordinate at to dim, at most 16. */
static inline __mmask16 lanes_left(size_t at, size_t dim)
{
    if (at >= dim)
        return 0;
    return (__mmask16)(dim - at >= 16 ? 0xffffu : (1u << (dim - at)) - 1);
}

float gy_planes_grid_avx512(const float *z, size_t dim, struct gy_grid *out)
{
    __m512 most = _mm512_setzero_ps();
    for (size_t i = 0; i < dim; i += 16)
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(lanes_left(i, dim), z + i)));
    float scale = (float)GY_GRID_MAX / _mm512_reduce_max_ps(most);
    if (!(scale <= FLT_MAX))
        scale = 0;
    const __m512 scales = _mm512_set1_ps(scale), half = _mm512_set1_ps(0.5f);
    size_t i = 0;
    for (; i < dim; i += GY_GRID_LANES) {
        __m512i whole[2];
        for (size_t h = 0; h < 2; h++) {
            __m512 magnitude = _mm512_abs_ps(_mm512_maskz_loadu_ps(lanes_left(i + 16 * h, dim), z + i + 16 * h));
            whole[h] = _mm512_cvttps_epi32(_mm512_add_ps(_mm512_mul_ps(magnitude, scales), half));
            _mm512_store_ps(out->steps + i + 16 * h, _mm512_cvtepi32_ps(whole[h]));
        }
        _mm512_store_si512(out->whole + i, _mm512_packs_epi32(whole[0], whole[1]));
    }
    out->count = i;
    return scale;
}

static void score(const struct gy_grid *grid, float t, int32_t top, int64_t *along, int64_t *square)
{
    __m512i products = _mm512_setzero_si512(), squares = products; /* a lane holds 256 products of 127·32767 */
    for (size_t i = 0; i < grid->count; i += GY_GRID_LANES) {
        __m512i whole = _mm512_load_si512(grid->whole + i), one = _mm512_set1_epi16(1);
        __m512i m = grid_levels(grid->steps + i, t, top);
        products = _mm512_add_epi32(products, _mm512_madd_epi16(m, whole));
        squares = _mm512_add_epi32(squares, _mm512_madd_epi16(m, _mm512_add_epi16(m, one)));
    }
    *along = sum_wide(products);
    *square = _mm512_reduce_add_epi32(squares);
}

ALWAYS_INLINE void pack_lanes(const float *z, const float *magnitudes, float t, uint32_t low_bits, __mmask16 lanes,
                              size_t plane_bytes, uint8_t *planes, float *zb)
{
    const __m512i top = _mm512_set1_epi32((int)((1u << low_bits) - 1));
    __mmask16 positive = _mm512_cmp_ps_mask(_mm512_maskz_loadu_ps(lanes, z), _mm512_setzero_ps(), _CMP_GE_OQ);
    __m512 scaled = _mm512_mul_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(lanes, magnitudes)), _mm512_set1_ps(t));
    __m512i m = _mm512_cvttps_epi32(_mm512_min_ps(scaled, _mm512_cvtepi32_ps(top)));
    __m512i low = _mm512_mask_sub_epi32(m, (__mmask16)~positive, top, m);
    for (uint32_t plane = 0; plane < low_bits; plane++) {
        __mmask16 bits = _mm512_mask_test_epi32_mask(lanes, low, _mm512_set1_epi32(1 << (low_bits - 1 - plane)));
        if (lanes > 0xff)
            memcpy(planes + plane * plane_bytes, &bits, 2);
        else
            planes[plane * plane_bytes] = (uint8_t)bits;
    }
    __m512 value = _mm512_add_ps(_mm512_cvtepi32_ps(m), _mm512_set1_ps(0.5f));
    value = _mm512_mask_sub_ps(value, (__mmask16)~positive, _mm512_set1_ps(-0.0f), value);
    _mm512_mask_storeu_ps(zb, lanes, value);
}

void gy_planes_pack_avx512(const float *z, const float *magnitudes, size_t dim, float t, uint32_t low_bits, uint8_t *planes,
                           float *zb)
{
    size_t plane_bytes = (dim + 7) / 8, i = 0;
    for (; i + 16 <= dim; i += 16)
        pack_lanes(z + i, magnitudes + i, t, low_bits, 0xffff, plane_bytes, planes + i / 8, zb + i);
    if (i < dim)
        pack_lanes(z + i, magnitudes + i, t, low_bits, lanes_left(i, dim), plane_bytes, planes + i / 8, zb + i);
}

ALWAYS_INLINE int32_t dot_of(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
    const __m512i one = _mm512_set1_epi16(1);
    __m512i sum = _mm512_setzero_si512(), sum_signs = sum;
    for (size_t i = 0; i < dim; i += 64) {
        __m512i query = _mm512_load_si512(v + i), u = levels_load(signs, planes, dim, low_bits, i);
        if (low_bits == GY_LOW_BITS_MAX) {
            __m512i sign = _mm512_and_si512(_mm512_srli_epi16(u, 7), _mm512_set1_epi8(1));
            u = _mm512_and_si512(u, _mm512_set1_epi8(127));
            sum_signs = _mm512_add_epi32(sum_signs, _mm512_madd_epi16(_mm512_maddubs_epi16(sign, query), one));
        }
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(u, query), one));
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(sum, _mm512_slli_epi32(sum_signs, GY_LOW_BITS_MAX)));
}

static int32_t dot(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
#define DOT_OF(bits) dot_of(signs, planes, dim, bits, v)
    FOR_EACH_LOW_BITS(DOT_OF)
#undef DOT_OF
}

static float fold(__m512 sixteen)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* Sixteen u as the values they stand for: up to four bits each looked up. */
ALWAYS_INLINE __m512 values(__m128i u, uint32_t low_bits)
{
    __m512 middle = _mm512_set1_ps((float)((2u << low_bits) - 1) / 2);
    if (low_bits > 3)
        return _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(u)), middle);
    const __m512 table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(u), _mm512_sub_ps(table, middle));
}

/* sum + y·values of sixteen u, the i-th of four. */
#define ADD_SIXTEEN(sum, lanes, y, u, i)                                                             \
    _mm512_add_ps(sum, _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, (y) + 16 * (i)),                   \
                                     values(_mm512_extracti32x4_epi32(u, i), low_bits)))

ALWAYS_INLINE float dot_float_of(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y)
{
    __m512 sum = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        __m512i u = levels_load(signs, planes, dim, low_bits, i);
        sum = ADD_SIXTEEN(sum, 0xffff, y + i, u, 0);
        sum = ADD_SIXTEEN(sum, 0xffff, y + i, u, 1);
        sum = ADD_SIXTEEN(sum, 0xffff, y + i, u, 2);
        sum = ADD_SIXTEEN(sum, 0xffff, y + i, u, 3);
    }
    if (i < dim) { /* lanes behind dim add +0 or -0, which changes no sum: no lane is ever -0 */
        __m512i u = levels_load(signs, planes, dim, low_bits, i);
        sum = ADD_SIXTEEN(sum, lanes_left(i, dim), y + i, u, 0);
        if (dim - i > 16)
            sum = ADD_SIXTEEN(sum, lanes_left(i + 16, dim), y + i, u, 1);
        if (dim - i > 32)
            sum = ADD_SIXTEEN(sum, lanes_left(i + 32, dim), y + i, u, 2);
        if (dim - i > 48)
            sum = ADD_SIXTEEN(sum, lanes_left(i + 48, dim), y + i, u, 3);
    }
    return fold(sum);
}

float gy_planes_dot_float_avx512(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y)
{
#define DOT_FLOAT_OF(bits) dot_float_of(signs, planes, dim, bits, y)
    FOR_EACH_LOW_BITS(DOT_FLOAT_OF)
#undef DOT_FLOAT_OF
}

const gy_planes_kernels gy_planes_avx512 = {gy_planes_grid_avx512, score, gy_planes_pack_avx512, dot, gy_planes_dot_float_avx512};
