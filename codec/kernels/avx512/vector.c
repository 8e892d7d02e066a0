/* avx512 vector: the sixteen lanes of the definition in one register.
 *
 * Of many rows four at a time: their sums wait for each other no more, and fold together in a quarter of the operations. A row
 * of dim floats then costs dim/16 loads, multiplications and additions, about what reading it from the second cache does. */
#include "kernels/inline.h"
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

/* Lanes 0…3 after the foldings of 8 and 4. */
GY_INLINE __m128 fold_to_four(__m512 sixteen)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

/* fold of four. */
GY_INLINE __m128 fold_four(const __m512 sums[4])
{
    __m128 a = fold_to_four(sums[0]), b = fold_to_four(sums[1]), c = fold_to_four(sums[2]), d = fold_to_four(sums[3]);
    __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)); /* a0+a2, b0+b2, a1+a3, b1+b3 */
    __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

GY_INLINE __m512 add_to(__m512 sum, __m512 row, __m512 query, bool squares)
{
    if (!squares)
        return _mm512_add_ps(sum, _mm512_mul_ps(row, query));
    __m512 difference = _mm512_sub_ps(row, query);
    return _mm512_add_ps(sum, _mm512_mul_ps(difference, difference));
}

GY_INLINE void rows_of(const float *rows, size_t count, const float *query, size_t dim, float *out, bool squares)
{
    size_t done = 0;
    __mmask16 tail = (__mmask16)((1u << dim % GY_LANES) - 1);
    for (; done + 4 <= count; done += 4, rows += 4 * dim) {
        __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        size_t i = 0;
        for (; i + GY_LANES <= dim; i += GY_LANES) {
            __m512 q = _mm512_loadu_ps(query + i);
            GY_UNROLL(4)
            for (size_t r = 0; r < 4; r++)
                sums[r] = add_to(sums[r], _mm512_loadu_ps(rows + r * dim + i), q, squares);
        }
        if (tail) {
            __m512 q = _mm512_maskz_loadu_ps(tail, query + i);
            GY_UNROLL(4)
            for (size_t r = 0; r < 4; r++)
                sums[r] = add_to(sums[r], _mm512_maskz_loadu_ps(tail, rows + r * dim + i), q, squares);
        }
        _mm_storeu_ps(out + done, fold_four(sums));
    }
    for (; done < count; done++, rows += dim)
        out[done] = squares ? l2(rows, query, dim) : dot(rows, query, dim);
}

static void dots(const float *rows, size_t count, const float *query, size_t dim, float *out)
{
    rows_of(rows, count, query, dim, out, false);
}

static void l2s(const float *rows, size_t count, const float *query, size_t dim, float *out)
{
    rows_of(rows, count, query, dim, out, true);
}

const gy_vector_kernels gy_vector_avx512 = {dot, l2, dots, l2s};
