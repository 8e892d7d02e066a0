/* avx2 trellis: eight stems a step forward, values by gathers of eight.
 *
 * Forward, 256 states, a coordinate: per eight stems 2^k loads of costs and 2^k - 1 comparisons, minima and masks; per eight
 * states one permutation that spreads the stems' costs over their states, one multiply-add of pairs, one addition and one
 * store: some 170 instructions whatever k is. The costs stay in the L1 cache; there are more of them than registers.
 *
 * Values: the windows of eight coordinates lie within five bytes; each 32-bit lane takes its bytes by a shuffle and shifts by
 * its own count. Looking eight windows up is one gather, which takes most of the time; sixteen shuffles of sixteen entries
 * each, for 32 windows, would take as long. */
#include "kernels/inline.h"
#include "kernels/trellis.h"

#include <immintrin.h>

struct least {
    __m256i cost;
    uint32_t choice[GY_TRELLIS_FRESH_MAX]; /* bit l of choice[b] is bit b of the t of lane l */
};

/* The less of two, the first of equals; the second one's t has bit `bit` set, and higher bits are those of neither. */
GY_INLINE struct least less(struct least a, struct least b, uint32_t bit)
{
    uint32_t second = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.cost, b.cost)));
    struct least result = {.cost = _mm256_min_epi32(a.cost, b.cost)};
    GY_UNROLL(2)
    for (uint32_t i = 0; i < bit; i++)
        result.choice[i] = (b.choice[i] & second) | (a.choice[i] & ~second);
    result.choice[bit] = second;
    return result;
}

/* Of two, four or eight predecessors, stems apart. */
GY_INLINE struct least least_of_2(const int32_t *costs, uint32_t stems)
{
    struct least a = {.cost = _mm256_load_si256((const __m256i *)costs)};
    struct least b = {.cost = _mm256_load_si256((const __m256i *)(costs + stems))};
    return less(a, b, 0);
}
GY_INLINE struct least least_of_4(const int32_t *costs, uint32_t stems)
{
    return less(least_of_2(costs, stems), least_of_2(costs + 2 * stems, stems), 1);
}
GY_INLINE struct least least_of_8(const int32_t *costs, uint32_t stems)
{
    return less(least_of_4(costs, stems), least_of_4(costs + 4 * stems, stems), 2);
}

/* (v - m)^2 - v^2 of eight states. */
GY_INLINE __m256i branch_costs(const struct gy_trellis *trellis, uint32_t state, __m256i one_and_v)
{
    return _mm256_madd_epi16(_mm256_load_si256((const __m256i *)trellis->branch[state]), one_and_v);
}

GY_INLINE __m256i one_and(int16_t v) { return _mm256_set1_epi32((int32_t)(1 | (uint32_t)v << 16)); }

/* For constant window and k with at least eight stems. */
GY_INLINE void forward_of(const struct gy_trellis *trellis, uint32_t window, uint32_t k, const int16_t *v, size_t dim,
                          uint64_t (*choices)[2], int32_t *costs)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const uint32_t states = 1u << window, stems = states >> k, branches = 1u << k;
    __attribute__((aligned(32))) int32_t other[GY_TRELLIS_STATES_MAX];
    int32_t *from = dim % 2 ? costs : other, *to = dim % 2 ? other : costs; /* so that the last step writes costs */
    for (uint32_t s = 0; s < states; s += 8)
        _mm256_store_si256((__m256i *)(from + s), branch_costs(trellis, s, one_and(v[0])));
    for (size_t i = 1; i < dim; i++) {
        const __m256i sample = one_and(v[i]);
        uint8_t *bits = (uint8_t *)choices[i];
        if (k * stems < 128)
            memset(bits, 0, sizeof *choices);
        for (uint32_t p = 0; p < stems; p += 8) {
            struct least least = k == 1   ? least_of_2(from + p, stems)
                                 : k == 2 ? least_of_4(from + p, stems)
                                          : least_of_8(from + p, stems);
            for (uint32_t b = 0; b < k; b++)
                bits[(b * stems + p) / 8] = (uint8_t)least.choice[b];
            GY_UNROLL(8)
            for (uint32_t u = 0; u < branches; u++) {
                __m256i stem = _mm256_srli_epi32(_mm256_add_epi32(lane, _mm256_set1_epi32((int32_t)(8 * u))), (int)k);
                __m256i cost = _mm256_add_epi32(_mm256_permutevar8x32_epi32(least.cost, stem),
                                                branch_costs(trellis, (p << k) + 8 * u, sample));
                _mm256_store_si256((__m256i *)(to + (p << k) + 8 * u), cost);
            }
        }
        int32_t *swap = from;
        from = to, to = swap;
    }
}

static void forward(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2], int32_t *costs)
{
    switch (trellis->window * 8 + trellis->fresh) {
    case 6 * 8 + 1: forward_of(trellis, 6, 1, v, dim, choices, costs); break;
    case 8 * 8 + 1: forward_of(trellis, 8, 1, v, dim, choices, costs); break;
    case 8 * 8 + 2: forward_of(trellis, 8, 2, v, dim, choices, costs); break;
    case 8 * 8 + 3: forward_of(trellis, 8, 3, v, dim, choices, costs); break;
    default: gy_trellis_ref.forward(trellis, v, dim, choices, costs);
    }
}

enum { END_BYTES = 16 };

/* A code as it is read, eight coordinates at a time: the window of 8m + 7 is at bit k·(dim-8-8m), the others above it. */
struct groups {
    const struct gy_trellis *trellis;
    const uint8_t *code, *signs;
    size_t count, code_bytes;
    size_t end_at;              /* of the code's bytes that end starts with */
    uint8_t end[END_BYTES + 8]; /* the last of them, and zeros: eight bytes are read at a time */
    size_t first;               /* where those of group 0 are; those of group m are k·m before */
    __m256i bytes, shifts;      /* of each window */
};

GY_INLINE struct groups groups_of(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim)
{
    uint32_t k = trellis->fresh, rest = (uint32_t)(k * dim % 8), bytes[8], shifts[8];
    for (uint32_t l = 0; l < 8; l++) {
        uint32_t bit = rest + k * (7 - l);
        bytes[l] = bit / 8 | (bit / 8 + 1) << 8 | UINT32_C(0x80800000); /* the upper two: zeros */
        shifts[l] = bit % 8;
    }
    struct groups groups = {.trellis = trellis, .code = code, .signs = signs, .count = dim / 8, .first = k * dim / 8 - k};
    groups.code_bytes = gy_trellis_code_bytes(trellis->window, k, dim);
    size_t copied = groups.code_bytes < END_BYTES ? groups.code_bytes : END_BYTES;
    groups.end_at = groups.code_bytes - copied;
    memcpy(groups.end, code + groups.end_at, copied);
    groups.bytes = _mm256_loadu_si256((const __m256i *)bytes);
    groups.shifts = _mm256_loadu_si256((const __m256i *)shifts);
    return groups;
}

/* The values, lifted, of group m. */
GY_INLINE __m256i values_of(const struct groups *groups, size_t m)
{
    size_t at = groups->first - groups->trellis->fresh * m;
    const uint8_t *from = at + 8 <= groups->code_bytes ? groups->code + at : groups->end + (at - groups->end_at);
    uint64_t word;
    memcpy(&word, from, sizeof word);
    __m256i windows = _mm256_srlv_epi32(_mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)word), groups->bytes), groups->shifts);
    windows = _mm256_and_si256(windows, _mm256_set1_epi32((1 << groups->trellis->window) - 1));
    __m256i values = _mm256_i32gather_epi32((const int *)(const void *)groups->trellis->value, windows, 1);
    return _mm256_and_si256(values, _mm256_set1_epi32(255));
}

/* x of group m with its signs. */
GY_INLINE __m256i with_signs(const struct groups *groups, size_t m, __m256i x)
{
    if (!groups->signs)
        return x;
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i bits = _mm256_and_si256(_mm256_set1_epi32(groups->signs[m]), lane);
    __m256i minus = _mm256_cmpeq_epi32(bits, _mm256_setzero_si256());
    return _mm256_sub_epi32(_mm256_xor_si256(x, minus), minus);
}

/* Coordinates behind the last whole group, at most seven: the first of the code. */
struct rest {
    uint32_t value[8]; /* lifted */
    bool negative[8];
    size_t count;
};

GY_INLINE struct rest rest_of(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim)
{
    struct rest rest = {.count = dim % 8};
    struct gy_trellis_reader reader = gy_trellis_open(trellis, code);
    for (size_t i = rest.count; i-- > 0;) {
        rest.value[i] = trellis->value[reader.state];
        rest.negative[i] = signs && !(signs[dim / 8] >> i & 1);
        if (i)
            gy_trellis_step_back(trellis, &reader);
    }
    return rest;
}

static int32_t dot(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, const int8_t *levels)
{
    const struct groups groups = groups_of(trellis, signs, code, dim);
    __m256i sums = _mm256_setzero_si256();
    for (size_t m = 0; m < groups.count; m++) {
        __m256i level = with_signs(&groups, m, _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(levels + 8 * m))));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(values_of(&groups, m), level)); /* upper halves of values are 0 */
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    int32_t sum = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
    struct rest rest = rest_of(trellis, signs, code, dim);
    for (size_t i = 0; i < rest.count; i++) {
        int32_t product = (int32_t)rest.value[i] * levels[8 * groups.count + i];
        sum += rest.negative[i] ? -product : product;
    }
    return sum;
}

static void decode(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, float *out)
{
    const struct groups groups = groups_of(trellis, signs, code, dim);
    for (size_t m = 0; m < groups.count; m++) {
        __m256i value = _mm256_sub_epi32(values_of(&groups, m), _mm256_set1_epi32(trellis->lift));
        _mm256_storeu_ps(out + 8 * m, _mm256_cvtepi32_ps(with_signs(&groups, m, value)));
    }
    struct rest rest = rest_of(trellis, signs, code, dim);
    for (size_t i = 0; i < rest.count; i++) {
        int32_t value = (int32_t)rest.value[i] - trellis->lift;
        out[8 * groups.count + i] = (float)(rest.negative[i] ? -value : value);
    }
}

const gy_trellis_kernels gy_trellis_avx2 = {forward, dot, decode};
