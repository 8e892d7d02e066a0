/* avx512 trellis: sixteen stems a step forward (trellis_inline.h). Values as avx2: gathers, for want of byte permutes. */
#include "kernels/avx512/trellis_inline.h"

GY_INLINE __m512i add(__m512i cost, __m512i branch, __m512i one_and_v)
{
    return _mm512_add_epi32(cost, _mm512_madd_epi16(branch, one_and_v));
}

static void forward(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2], int32_t *costs)
{
    forward_with(trellis, v, dim, choices, costs, add);
}

static int32_t dot(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, const int8_t *levels)
{
    return gy_trellis_avx2.dot(trellis, signs, code, dim, levels);
}

static void decode(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, float *out)
{
    gy_trellis_avx2.decode(trellis, signs, code, dim, out);
}

const gy_trellis_kernels gy_trellis_avx512 = {forward, dot, decode};
