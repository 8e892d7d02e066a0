/* avx2 vector: the sixteen lanes of the definition in two registers. */
#include "kernels/vector.h"

#include <immintrin.h>

/* Lanes 0…7 and 8…15 of the sixteen. */
static float fold(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* The last dim%16 components, zeros behind them: adding +0 to a lane changes nothing, as no lane is ever -0. */
static inline void tail_load(const float *from, size_t count, __m256 *low, __m256 *high)
{
    float lane[GY_LANES] = {0};
    memcpy(lane, from, count * sizeof *from);
    *low = _mm256_loadu_ps(lane);
    *high = _mm256_loadu_ps(lane + 8);
}

static float dot(const float *a, const float *b, size_t dim)
{
    __m256 low = _mm256_setzero_ps(), high = low;
    size_t i = 0;
    for (; i + GY_LANES <= dim; i += GY_LANES) {
        low = _mm256_add_ps(low, _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
        high = _mm256_add_ps(high, _mm256_mul_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8)));
    }
    if (i < dim) {
        __m256 a_low, a_high, b_low, b_high;
        tail_load(a + i, dim - i, &a_low, &a_high);
        tail_load(b + i, dim - i, &b_low, &b_high);
        low = _mm256_add_ps(low, _mm256_mul_ps(a_low, b_low));
        high = _mm256_add_ps(high, _mm256_mul_ps(a_high, b_high));
    }
    return fold(low, high);
}

static inline __m256 add_squares(__m256 sum, __m256 a, __m256 b)
{
    __m256 difference = _mm256_sub_ps(a, b);
    return _mm256_add_ps(sum, _mm256_mul_ps(difference, difference));
}

static float l2(const float *a, const float *b, size_t dim)
{
    __m256 low = _mm256_setzero_ps(), high = low;
    size_t i = 0;
    for (; i + GY_LANES <= dim; i += GY_LANES) {
        low = add_squares(low, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        high = add_squares(high, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
    }
    if (i < dim) {
        __m256 a_low, a_high, b_low, b_high;
        tail_load(a + i, dim - i, &a_low, &a_high);
        tail_load(b + i, dim - i, &b_low, &b_high);
        low = add_squares(low, a_low, b_low);
        high = add_squares(high, a_high, b_high);
    }
    return fold(low, high);
}

GY_VECTOR_ONE_BY_ONE(dots, dot)
GY_VECTOR_ONE_BY_ONE(l2s, l2)

const gy_vector_kernels gy_vector_avx2 = {dot, l2, dots, l2s};
