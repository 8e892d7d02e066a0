/* avx512 signs: two bytes of the plane are the mask of a register. */
#include "kernels/signs.h"

#include <immintrin.h>

static void pack(const float *z, size_t dim, uint8_t *bits)
{
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        gy_store_u16(bits + i / 8, _mm512_cmp_ps_mask(_mm512_loadu_ps(z + i), _mm512_setzero_ps(), _CMP_GE_OQ));
    gy_signs_ref.pack(z + i, dim - i, bits + i / 8);
}

static void unpack(const uint8_t *bits, size_t dim, float *out)
{
    const __m512 minus = _mm512_set1_ps(-1), plus = _mm512_set1_ps(1);
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        _mm512_storeu_ps(out + i, _mm512_mask_blend_ps(gy_load_u16(bits + i / 8), minus, plus));
    gy_signs_ref.unpack(bits + i / 8, dim - i, out + i);
}

const gy_signs_kernels gy_signs_avx512 = {pack, unpack};
