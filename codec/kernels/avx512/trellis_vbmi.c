/* avx512vbmi trellis: sixty-four windows at once.
 *
 * Cost of 64 coordinates: one load, one permutation that gives every eight windows the eight bytes they lie in, one multishift
 * that makes them; then the table: one permutation for up to 64 states, two of two registers and a blend for 256; with signs a
 * masked subtraction; one dot product of bytes. Eight to ten instructions, where a gather would take 64 loads. */
#include "kernels/avx512/planes_inline.h"
#include "kernels/avx512/trellis_inline.h"

GY_INLINE __m512i add(__m512i cost, __m512i branch, __m512i one_and_v) { return _mm512_dpwssd_epi32(cost, branch, one_and_v); }

static void forward(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2], int32_t *costs)
{
    if (trellis->window < 8) /* few states: the chain between coordinates decides, and an addition is shorter than a product */
        gy_trellis_avx512.forward(trellis, v, dim, choices, costs);
    else
        forward_with(trellis, v, dim, choices, costs, add);
}

/* The values of all states in registers. */
struct table {
    __m512i part[4];
};

GY_INLINE struct table table_load(const struct gy_trellis *trellis)
{
    struct table table;
    for (int i = 0; i < 4; i++)
        table.part[i] = _mm512_load_si512(trellis->value + 64 * i);
    return table;
}

/* Values of 64 windows, whose bits above window may be anything. */
GY_INLINE __m512i look_up(const struct table *table, uint32_t window, __m512i windows)
{
    if (window <= 6)
        return _mm512_permutexvar_epi8(_mm512_and_si512(windows, _mm512_set1_epi8((char)((1 << window) - 1))), table->part[0]);
    __m512i low = _mm512_permutex2var_epi8(table->part[0], windows, table->part[1]);
    if (window == 7)
        return low;
    __m512i high = _mm512_permutex2var_epi8(table->part[2], windows, table->part[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(windows), high);
}

/* How windows are taken out of a code. Coordinates c…c+63 have theirs from bit k·(dim-c-64) on, the last one's first; that is bit
 * k·dim%8 of a byte, and the eight windows of c+8g…c+8g+7 lie in the eight bytes from k·(7-g) bytes behind it. */
struct taking {
    __m512i bytes, shifts;
    const uint8_t *code;
    size_t code_bytes, fresh, dim;
};

GY_INLINE struct taking taking_of(const struct gy_trellis *trellis, const uint8_t *code, size_t dim)
{
    const __m512i place = _mm512_set1_epi64(0x0706050403020100);
    const __m512i behind = _mm512_setr_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
                                             0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    uint64_t k = trellis->fresh, rest = k * dim % 8;
    return (struct taking){
        .bytes = _mm512_add_epi8(place, _mm512_mullo_epi16(behind, _mm512_set1_epi16((short)k))), /* no byte carries */
        .shifts = _mm512_set1_epi64((int64_t)(UINT64_C(0x0001020304050607) * k + UINT64_C(0x0101010101010101) * rest)),
        .code = code,
        .code_bytes = gy_trellis_code_bytes(trellis->window, trellis->fresh, dim),
        .fresh = k,
        .dim = dim,
    };
}

/* The windows of 64 coordinates from c on; of those beyond dim, anything. */
GY_INLINE __m512i windows_take(const struct taking *taking, size_t c)
{
    size_t k = taking->fresh, left = taking->dim - c, from = 0;
    __m512i bytes = taking->bytes;
    __mmask64 there = ~UINT64_C(0);
    if (left >= 64)
        from = k * (left - 64) / 8;
    else { /* the first windows would start before the code */
        bytes = _mm512_sub_epi8(bytes, _mm512_set1_epi8((char)(8 * k - k * left / 8)));
        there = ~_mm512_movepi8_mask(bytes);
    }
    size_t count = taking->code_bytes - from;
    __mmask32 present = count < 32 ? (1u << count) - 1 : ~0u;
    __m512i code = _mm512_castsi256_si512(_mm256_maskz_loadu_epi8(present, taking->code + from));
    return _mm512_multishift_epi64_epi8(taking->shifts, _mm512_maskz_permutexvar_epi8(there, bytes, code));
}

/* For constant window, or 6 for all up to it. */
GY_INLINE int32_t dot_of(const struct gy_trellis *trellis, uint32_t window, const uint8_t *signs, const uint8_t *code, size_t dim,
                         const int8_t *levels)
{
    const struct table table = table_load(trellis);
    const struct taking taking = taking_of(trellis, code, dim);
    __m512i sums = _mm512_setzero_si512();
    for (size_t c = 0; c < dim; c += 64) {
        __m512i level = _mm512_load_si512(levels + c);
        if (signs)
            level = _mm512_mask_sub_epi8(level, ~plane_bits(signs, c, dim), _mm512_setzero_si512(), level);
        sums = _mm512_dpbusd_epi32(sums, look_up(&table, window, windows_take(&taking, c)), level);
    }
    return _mm512_reduce_add_epi32(sums);
}

static int32_t dot(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, const int8_t *levels)
{
    return trellis->window == 8 ? dot_of(trellis, 8, signs, code, dim, levels)
                                : dot_of(trellis, trellis->window, signs, code, dim, levels);
}

static void decode(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, float *out)
{
    const struct table table = table_load(trellis);
    const struct taking taking = taking_of(trellis, code, dim);
    for (size_t c = 0; c < dim; c += 64) {
        __m512i values = look_up(&table, trellis->window, windows_take(&taking, c));
        __mmask64 minus = signs ? ~plane_bits(signs, c, dim) : 0;
        size_t left = dim - c < 64 ? dim - c : 64;
        __m128i quarter[4];
        memcpy(quarter, &values, sizeof values);
        GY_UNROLL(4)
        for (size_t i = 0; i < 4; i++) {
            __m512i value = _mm512_sub_epi32(_mm512_cvtepu8_epi32(quarter[i]), _mm512_set1_epi32(trellis->lift));
            value = _mm512_mask_sub_epi32(value, (__mmask16)(minus >> 16 * i), _mm512_setzero_si512(), value);
            size_t count = left < 16 * i ? 0 : left - 16 * i;
            __mmask16 wanted = (__mmask16)(count < 16 ? (1u << count) - 1 : 0xffff);
            _mm512_mask_storeu_ps(out + c + 16 * i, wanted, _mm512_cvtepi32_ps(value));
        }
    }
}

const gy_trellis_kernels gy_trellis_avx512_vbmi = {forward, dot, decode};
