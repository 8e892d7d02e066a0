/* avx2 sums: the eight lanes of the definition in two registers. */
#include "kernels/sums.h"

#include <immintrin.h>

/* Lanes 0…3 and 4…7 of the eight. */
static double fold(__m256d low, __m256d high)
{
    __m256d four = _mm256_add_pd(low, high);
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static inline __m256d load(const float *from) { return _mm256_cvtps_pd(_mm_loadu_ps(from)); }

/* The last n%8, zeros behind them: adding +0 to a lane changes nothing, as no lane is ever -0. */
static inline void tail_load(const float *from, size_t count, float lane[GY_SUM_LANES])
{
    for (size_t l = 0; l < GY_SUM_LANES; l++)
        lane[l] = l < count ? from[l] : 0;
}

static double products(const float *a, const float *b, size_t n)
{
    __m256d low = _mm256_setzero_pd(), high = low;
    size_t i = 0;
    for (; i + GY_SUM_LANES <= n; i += GY_SUM_LANES) {
        low = _mm256_fmadd_pd(load(a + i), load(b + i), low);
        high = _mm256_fmadd_pd(load(a + i + 4), load(b + i + 4), high);
    }
    if (i < n) {
        float a_lane[GY_SUM_LANES], b_lane[GY_SUM_LANES];
        tail_load(a + i, n - i, a_lane), tail_load(b + i, n - i, b_lane);
        low = _mm256_fmadd_pd(load(a_lane), load(b_lane), low);
        high = _mm256_fmadd_pd(load(a_lane + 4), load(b_lane + 4), high);
    }
    return fold(low, high);
}

static void pair(const float *a, const float *b, size_t n, double *ab, double *bb)
{
    __m256d ab_low = _mm256_setzero_pd(), ab_high = ab_low, bb_low = ab_low, bb_high = ab_low;
    for (size_t i = 0; i < n; i += GY_SUM_LANES) {
        float a_lane[GY_SUM_LANES], b_lane[GY_SUM_LANES];
        const float *a_at = a + i, *b_at = b + i;
        if (n - i < GY_SUM_LANES) {
            tail_load(a_at, n - i, a_lane), tail_load(b_at, n - i, b_lane);
            a_at = a_lane, b_at = b_lane;
        }
        __m256d low = load(b_at), high = load(b_at + 4);
        ab_low = _mm256_fmadd_pd(load(a_at), low, ab_low);
        ab_high = _mm256_fmadd_pd(load(a_at + 4), high, ab_high);
        bb_low = _mm256_fmadd_pd(low, low, bb_low);
        bb_high = _mm256_fmadd_pd(high, high, bb_high);
    }
    *ab = fold(ab_low, ab_high);
    *bb = fold(bb_low, bb_high);
}

static inline __m256d magnitude(__m256d a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }

static double magnitudes(const float *a, size_t n)
{
    __m256d low = _mm256_setzero_pd(), high = low;
    size_t i = 0;
    for (; i + GY_SUM_LANES <= n; i += GY_SUM_LANES) {
        low = _mm256_add_pd(low, magnitude(load(a + i)));
        high = _mm256_add_pd(high, magnitude(load(a + i + 4)));
    }
    if (i < n) {
        float lane[GY_SUM_LANES];
        tail_load(a + i, n - i, lane);
        low = _mm256_add_pd(low, magnitude(load(lane)));
        high = _mm256_add_pd(high, magnitude(load(lane + 4)));
    }
    return fold(low, high);
}

/* kernels/avx512/sums.c says why the quotient is the rounded one. */
static void divide(const float *in, double norm, float *out, size_t n)
{
    size_t i = 0;
    const __m256d b = _mm256_set1_pd(norm), reciprocal = _mm256_set1_pd(1 / norm);
    for (; norm >= 0x1p-200 && norm <= 0x1p200 && i + 4 <= n; i += 4) {
        __m256d a = load(in + i), q = _mm256_mul_pd(a, reciprocal);
        q = _mm256_fnmadd_pd(_mm256_fmsub_pd(q, b, a), reciprocal, q);
        q = _mm256_fnmadd_pd(_mm256_fmsub_pd(q, b, a), reciprocal, q);
        _mm_storeu_ps(out + i, _mm256_cvtpd_ps(q));
    }
    gy_sums_ref.divide(in + i, norm, out + i, n - i);
}

const gy_sums_kernels gy_sums_avx2 = {products, pair, magnitudes, divide};
