/* avx512 sums: the eight lanes of the definition in one register. */
#include "kernels/sums.h"

#include <immintrin.h>

static double fold(__m512d eight)
{
    __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static inline __m512d load(const float *from) { return _mm512_cvtps_pd(_mm256_loadu_ps(from)); }

/* The last n%8, zeros behind them: adding +0 to a lane changes nothing, as no lane is ever -0. */
static inline __m512d tail_load(const float *from, size_t count)
{
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)((1u << count) - 1), from));
}

static double products(const float *a, const float *b, size_t n)
{
    __m512d sum = _mm512_setzero_pd();
    size_t i = 0;
    for (; i + GY_SUM_LANES <= n; i += GY_SUM_LANES)
        sum = _mm512_fmadd_pd(load(a + i), load(b + i), sum);
    if (i < n)
        sum = _mm512_fmadd_pd(tail_load(a + i, n - i), tail_load(b + i, n - i), sum);
    return fold(sum);
}

static void pair(const float *a, const float *b, size_t n, double *ab, double *bb)
{
    __m512d ab_sum = _mm512_setzero_pd(), bb_sum = ab_sum;
    for (size_t i = 0; i < n; i += GY_SUM_LANES) {
        bool whole = n - i >= GY_SUM_LANES;
        __m512d a_next = whole ? load(a + i) : tail_load(a + i, n - i), b_next = whole ? load(b + i) : tail_load(b + i, n - i);
        ab_sum = _mm512_fmadd_pd(a_next, b_next, ab_sum);
        bb_sum = _mm512_fmadd_pd(b_next, b_next, bb_sum);
    }
    *ab = fold(ab_sum);
    *bb = fold(bb_sum);
}

static double magnitudes(const float *a, size_t n)
{
    __m512d sum = _mm512_setzero_pd();
    size_t i = 0;
    for (; i + GY_SUM_LANES <= n; i += GY_SUM_LANES)
        sum = _mm512_add_pd(sum, _mm512_abs_pd(load(a + i)));
    if (i < n)
        sum = _mm512_add_pd(sum, _mm512_abs_pd(tail_load(a + i, n - i)));
    return fold(sum);
}

/* Divisions are 16 cycles for eight, this is three. q = a·y, y the rounded 1/b, is within 1.5 units of its last place of a/b. The
 * remainder q·b - a, fused, corrects it to one of the two numbers around a/b, and from there, as the remainder is now exact, to
 * the nearer one; that way round, it keeps the sign of a zero. Markstein, "Computation of elementary functions on the IBM RISC
 * System/6000 processor", IBM J. Res. Dev. 34 (1990), theorem on division with a correctly rounded reciprocal. Within these
 * limits of b nothing can leave the normal numbers. */
static void divide(const float *in, double norm, float *out, size_t n)
{
    size_t i = 0;
    const __m512d b = _mm512_set1_pd(norm), reciprocal = _mm512_set1_pd(1 / norm);
    for (; norm >= 0x1p-200 && norm <= 0x1p200 && i + 8 <= n; i += 8) {
        __m512d a = load(in + i), q = _mm512_mul_pd(a, reciprocal);
        q = _mm512_fnmadd_pd(_mm512_fmsub_pd(q, b, a), reciprocal, q);
        q = _mm512_fnmadd_pd(_mm512_fmsub_pd(q, b, a), reciprocal, q);
        _mm256_storeu_ps(out + i, _mm512_cvtpd_ps(q));
    }
    gy_sums_ref.divide(in + i, norm, out + i, n - i);
}

const gy_sums_kernels gy_sums_avx512 = {products, pair, magnitudes, divide};
