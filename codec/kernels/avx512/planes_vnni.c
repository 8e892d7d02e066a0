/* avx512vbmi planes: sums of four products of unsigned by signed bytes, and of two of 16 bits, in one instruction each. No
 * saturation: u may fill its byte. */
#include "kernels/avx512/planes_inline.h"

static void score(const struct gy_grid *grid, float t, int32_t top, int64_t *along, int64_t *square)
{
    __m512i products = _mm512_setzero_si512(), squares = products; /* a lane holds 256 products of 127·32767 */
    for (size_t i = 0; i < grid->count; i += GY_GRID_LANES) {
        __m512i whole = _mm512_load_si512(grid->whole + i), one = _mm512_set1_epi16(1);
        __m512i m = grid_levels(grid->steps + i, t, top);
        products = _mm512_dpwssd_epi32(products, m, whole);
        squares = _mm512_dpwssd_epi32(squares, m, _mm512_add_epi16(m, one));
    }
    *along = sum_wide(products);
    *square = _mm512_reduce_add_epi32(squares);
}

ALWAYS_INLINE int32_t dot_of(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < dim; i += 64)
        sum = _mm512_dpbusd_epi32(sum, levels_load(signs, planes, dim, low_bits, i), _mm512_load_si512(v + i));
    return _mm512_reduce_add_epi32(sum);
}

static int32_t dot(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
#define DOT_OF(bits) dot_of(signs, planes, dim, bits, v)
    FOR_EACH_LOW_BITS(DOT_OF)
#undef DOT_OF
}

const gy_planes_kernels gy_planes_avx512_vbmi = {gy_planes_grid_avx512, score, gy_planes_pack_avx512, dot,
                                                 gy_planes_dot_float_avx512};
