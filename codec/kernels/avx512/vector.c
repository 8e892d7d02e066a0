/* avx512 vector: the sixteen lanes of the definition in one register. */
#include "kernels/vector.h"

#include <immintrin.h>

static float fold(__m512 sixteen)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* The last dim%16 components, zeros behind them: adding +0 to a lane changes nothing, as no lane is ever -0. */
static inline __m512 tail_load(const float *from, size_t count)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
}

static float dot(const float *a, const float *b, size_t dim)
{
    __m512 sum = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + GY_LANES <= dim; i += GY_LANES)
        sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i)));
    if (i < dim)
        sum = _mm512_add_ps(sum, _mm512_mul_ps(tail_load(a + i, dim - i), tail_load(b + i, dim - i)));
    return fold(sum);
}

static float l2(const float *a, const float *b, size_t dim)
{
    __m512 sum = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + GY_LANES <= dim; i += GY_LANES) {
        __m512 difference = _mm512_sub_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
        sum = _mm512_add_ps(sum, _mm512_mul_ps(difference, difference));
    }
    if (i < dim) {
        __m512 difference = _mm512_sub_ps(tail_load(a + i, dim - i), tail_load(b + i, dim - i));
        sum = _mm512_add_ps(sum, _mm512_mul_ps(difference, difference));
    }
    return fold(sum);
}

const gy_vector_kernels gy_vector_avx512 = {dot, l2};
