/* avx2 signs: a byte of the plane a register. */
#include "kernels/signs.h"

#include <immintrin.h>

static void pack(const float *z, size_t dim, uint8_t *bits)
{
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        bits[i / 8] = (uint8_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(z + i), _mm256_setzero_ps(), _CMP_GE_OQ));
    gy_signs_ref.pack(z + i, dim - i, bits + i / 8);
}

static void unpack(const uint8_t *bits, size_t dim, float *out)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        __m256i zero = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits[i / 8]), bit), _mm256_setzero_si256());
        __m256 minus = _mm256_and_ps(_mm256_castsi256_ps(zero), _mm256_set1_ps(-0.0f));
        _mm256_storeu_ps(out + i, _mm256_or_ps(_mm256_set1_ps(1), minus));
    }
    gy_signs_ref.unpack(bits + i / 8, dim - i, out + i);
}

const gy_signs_kernels gy_signs_avx2 = {pack, unpack};
