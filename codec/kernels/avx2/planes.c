/* avx2 planes: as the definition, in registers of 256 bits.
 *
 * Cost of dot per 32 coordinates: a plane takes a broadcast load, a shuffle, a test and two operations to grow u. The
 * multiply-add of bytes saturates its sums of two products at 2^15, which 2·127·127 does not reach and 2·255·127 would: with 8
 * bits the sign plane is summed by itself. */
#include "kernels/planes.h"

#include "kernels/vector.h"

#include <float.h>
#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Eight floats from coordinate at on, zeros behind dim. */
static inline __m256 floats_load(const float *from, size_t at, size_t dim)
{
    const __m256i order = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    if (dim - at >= 8)
        return _mm256_loadu_ps(from + at);
    return _mm256_maskload_ps(from + at, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(dim - at)), order));
}

static inline __m256 magnitudes_of(__m256 values) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), values); }

static float grid(const float *z, size_t dim, struct gy_grid *out)
{
    __m256 most = _mm256_setzero_ps();
    for (size_t i = 0; i < dim; i += 8)
        most = _mm256_max_ps(most, magnitudes_of(floats_load(z, i, dim)));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    float scale = (float)GY_GRID_MAX / _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
    if (!(scale <= FLT_MAX))
        scale = 0;
    const __m256 scales = _mm256_set1_ps(scale), half = _mm256_set1_ps(0.5f);
    out->count = (dim + GY_GRID_LANES - 1) / GY_GRID_LANES * GY_GRID_LANES;
    for (size_t i = 0; i < out->count; i += 16) {
        __m256i whole[2];
        for (size_t h = 0; h < 2; h++) {
            size_t at = i + 8 * h;
            __m256 magnitude = at < dim ? magnitudes_of(floats_load(z, at, dim)) : _mm256_setzero_ps();
            whole[h] = _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(magnitude, scales), half));
            _mm256_store_ps(out->steps + at, _mm256_cvtepi32_ps(whole[h]));
        }
        _mm256_store_si256((__m256i *)(out->whole + i), _mm256_packs_epi32(whole[0], whole[1]));
    }
    return scale;
}

static inline int32_t sum_narrow(__m256i lanes)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

static inline int64_t sum_wide(__m256i lanes)
{
    __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(lanes));
    __m256i four = _mm256_add_epi64(low, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(lanes, 1)));
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    return _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
}

static void score(const struct gy_grid *grid_of, float t, int32_t top, int64_t *along, int64_t *square)
{
    const __m256 times = _mm256_set1_ps(t);
    const __m256i most = _mm256_set1_epi16((short)top), one = _mm256_set1_epi16(1);
    __m256i products = _mm256_setzero_si256(), squares = products; /* a lane holds 512 products of 127·32767 */
    for (size_t i = 0; i < grid_of->count; i += 16) {
        __m256i first = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_load_ps(grid_of->steps + i), times));
        __m256i second = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_load_ps(grid_of->steps + i + 8), times));
        __m256i m = _mm256_min_epi16(_mm256_packs_epi32(first, second), most); /* packs saturates */
        products = _mm256_add_epi32(products, _mm256_madd_epi16(m, _mm256_load_si256((const __m256i *)(grid_of->whole + i))));
        squares = _mm256_add_epi32(squares, _mm256_madd_epi16(m, _mm256_add_epi16(m, one)));
    }
    *along = sum_wide(products);
    *square = sum_narrow(squares);
}

/* Lanes behind dim are zeros: positive and of level 0, so the padding bits are 0. */
static void pack(const float *z, const float *magnitudes, size_t dim, float t, uint32_t low_bits, uint8_t *planes, float *zb)
{
    const __m256i top = _mm256_set1_epi32((int)((1u << low_bits) - 1));
    const __m256 limit = _mm256_cvtepi32_ps(top), times = _mm256_set1_ps(t);
    size_t plane_bytes = (dim + 7) / 8;
    for (size_t i = 0; i < dim; i += 8) {
        __m256 negative = _mm256_cmp_ps(floats_load(z, i, dim), _mm256_setzero_ps(), _CMP_NGE_UQ);
        __m256 scaled = _mm256_mul_ps(magnitudes_of(floats_load(magnitudes, i, dim)), times);
        __m256i m = _mm256_cvttps_epi32(_mm256_min_ps(scaled, limit));
        __m256i low = _mm256_xor_si256(m, _mm256_and_si256(_mm256_castps_si256(negative), top)); /* top - m flips every bit */
        for (uint32_t plane = 0; plane < low_bits; plane++) {
            __m256i highest = _mm256_sll_epi32(low, _mm_cvtsi32_si128((int)(32 - low_bits + plane)));
            unsigned bits = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(highest));
            planes[plane * plane_bytes + i / 8] = (uint8_t)bits;
        }
        __m256 value = _mm256_add_ps(_mm256_cvtepi32_ps(m), _mm256_set1_ps(0.5f));
        value = _mm256_or_ps(value, _mm256_and_ps(negative, _mm256_set1_ps(-0.0f)));
        if (dim - i >= 8)
            _mm256_storeu_ps(zb + i, value);
        else {
            float last[8];
            _mm256_storeu_ps(last, value);
            memcpy(zb + i, last, (dim - i) * sizeof *zb);
        }
    }
}

/* 0xff where the bit of a coordinate is set, of 32 bits in every lane. */
ALWAYS_INLINE __m256i bits_spread(__m256i bits)
{
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, spread), bit), bit);
}

/* 32 coordinates of a plane from coordinate at on; whole: there are so many. */
ALWAYS_INLINE __m256i plane_mask(const uint8_t *plane, size_t at, size_t dim, bool whole)
{
    if (whole)
        return bits_spread(_mm256_broadcastd_epi32(_mm_loadu_si32(plane + at / 8)));
    uint32_t bits = 0;
    for (size_t byte = 0; byte < (dim - at + 7) / 8; byte++)
        bits |= (uint32_t)plane[at / 8 + byte] << 8 * byte;
    return bits_spread(_mm256_set1_epi32((int)bits));
}

/* The low bits of 32 coordinates, as bytes. */
ALWAYS_INLINE __m256i lows_load(const uint8_t *planes, size_t dim, uint32_t low_bits, size_t at, bool whole)
{
    size_t plane_bytes = (dim + 7) / 8;
    __m256i low = _mm256_setzero_si256();
    for (uint32_t plane = 0; plane < low_bits; plane++) /* a mask is -1 */
        low = _mm256_sub_epi8(_mm256_add_epi8(low, low), plane_mask(planes + plane * plane_bytes, at, dim, whole));
    return low;
}

/* The body of a function for every constant low_bits, so that its loops unroll. */
#define FOR_EACH_LOW_BITS(call)  \
    switch (low_bits) {          \
    case 0: return call(0);      \
    case 1: return call(1);      \
    case 2: return call(2);      \
    case 3: return call(3);      \
    case 4: return call(4);      \
    case 5: return call(5);      \
    case 6: return call(6);      \
    default: return call(7);     \
    }

struct dot_sums {
    __m256i all, signs;
};

ALWAYS_INLINE void dot_step(struct dot_sums *sums, const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits,
                            const int8_t *v, size_t at, bool whole)
{
    const __m256i one = _mm256_set1_epi16(1);
    __m256i query = _mm256_load_si256((const __m256i *)(v + at)), u = lows_load(planes, dim, low_bits, at, whole);
    __m256i sign = plane_mask(signs, at, dim, whole);
    if (low_bits == GY_LOW_BITS_MAX) {
        sign = _mm256_maddubs_epi16(_mm256_and_si256(sign, _mm256_set1_epi8(1)), query);
        sums->signs = _mm256_add_epi32(sums->signs, _mm256_madd_epi16(sign, one));
    } else
        u = _mm256_or_si256(u, _mm256_and_si256(sign, _mm256_set1_epi8((char)(1u << low_bits))));
    sums->all = _mm256_add_epi32(sums->all, _mm256_madd_epi16(_mm256_maddubs_epi16(u, query), one));
}

ALWAYS_INLINE int32_t dot_of(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
    struct dot_sums sums = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t i = 0;
    for (; i + 32 <= dim; i += 32)
        dot_step(&sums, signs, planes, dim, low_bits, v, i, true);
    if (i < dim)
        dot_step(&sums, signs, planes, dim, low_bits, v, i, false);
    return sum_narrow(_mm256_add_epi32(sums.all, _mm256_slli_epi32(sums.signs, GY_LOW_BITS_MAX)));
}

static int32_t dot(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
#define DOT_OF(bits) dot_of(signs, planes, dim, bits, v)
    FOR_EACH_LOW_BITS(DOT_OF)
#undef DOT_OF
}

/* Lanes 0…7 and 8…15 of the sixteen of a sum. */
static float fold(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* y times the values of the eight u from coordinate at on; +0 or -0 behind dim, which changes no sum. */
ALWAYS_INLINE __m256 products(__m256 y, __m128i u, uint32_t low_bits)
{
    __m256 middle = _mm256_set1_ps((float)((2u << low_bits) - 1) / 2);
    return _mm256_mul_ps(y, _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(u)), middle));
}

ALWAYS_INLINE __m256i levels_load(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, size_t at,
                                  bool whole)
{
    __m256i sign = _mm256_and_si256(plane_mask(signs, at, dim, whole), _mm256_set1_epi8((char)(1u << low_bits)));
    return _mm256_or_si256(lows_load(planes, dim, low_bits, at, whole), sign);
}

ALWAYS_INLINE float dot_float_of(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y)
{
    __m256 low = _mm256_setzero_ps(), high = low;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m256i u = levels_load(signs, planes, dim, low_bits, i, true);
        __m128i first = _mm256_castsi256_si128(u), second = _mm256_extracti128_si256(u, 1);
        low = _mm256_add_ps(low, products(_mm256_loadu_ps(y + i), first, low_bits));
        high = _mm256_add_ps(high, products(_mm256_loadu_ps(y + i + 8), _mm_unpackhi_epi64(first, first), low_bits));
        low = _mm256_add_ps(low, products(_mm256_loadu_ps(y + i + 16), second, low_bits));
        high = _mm256_add_ps(high, products(_mm256_loadu_ps(y + i + 24), _mm_unpackhi_epi64(second, second), low_bits));
    }
    if (i < dim) {
        _Alignas(32) uint8_t u[32];
        _mm256_store_si256((__m256i *)u, levels_load(signs, planes, dim, low_bits, i, false));
        for (const uint8_t *next = u; i < dim; i += 8, next += 8) {
            __m256 eight = products(floats_load(y, i, dim), _mm_loadl_epi64((const __m128i *)next), low_bits);
            if (i % GY_LANES == 0)
                low = _mm256_add_ps(low, eight);
            else
                high = _mm256_add_ps(high, eight);
        }
    }
    return fold(low, high);
}

static float dot_float(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y)
{
#define DOT_FLOAT_OF(bits) dot_float_of(signs, planes, dim, bits, y)
    FOR_EACH_LOW_BITS(DOT_FLOAT_OF)
#undef DOT_FLOAT_OF
}

const gy_planes_kernels gy_planes_avx2 = {grid, score, pack, dot, dot_float};
