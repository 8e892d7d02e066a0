/* avx512 rotate: 256 coordinates in sixteen registers, eight strides between one load and one store.
 *
 * Cost per register of 16 coordinates: strides 1 to 8 lie within it, 1 shuffle and 1 fused multiply-add each (a product with ±1
 * is exact, so the sum is rounded once, as an addition is); every further stride is 1 addition or subtraction. A part of up to
 * 4096 takes two passes over L1. permute gathers: 16 loads, which is what bounds a round. */
#include "kernels/inline.h"
#include "kernels/rotate.h"

#include <immintrin.h>

/* Without optimization gcc's gathers are macros that pass a mask of all ones as a short. */
#pragma GCC diagnostic ignored "-Wsign-conversion"

enum { LANES = 16, REGISTERS = 16, PASS = LANES * REGISTERS };

static const float lower_then_upper[4][LANES] __attribute__((aligned(64))) = {
    {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
    {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
    {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
    {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1},
};

/* Strides 1, 2, 4, 8: where a lane is the lower of its pair, a·1 + b, where it is the upper, b·(-1) + a. */
GY_INLINE __m512 within(__m512 x)
{
    x = _mm512_fmadd_ps(x, _mm512_load_ps(lower_then_upper[0]), _mm512_permute_ps(x, 0xb1));
    x = _mm512_fmadd_ps(x, _mm512_load_ps(lower_then_upper[1]), _mm512_permute_ps(x, 0x4e));
    x = _mm512_fmadd_ps(x, _mm512_load_ps(lower_then_upper[2]), _mm512_shuffle_f32x4(x, x, 0xb1));
    return _mm512_fmadd_ps(x, _mm512_load_ps(lower_then_upper[3]), _mm512_shuffle_f32x4(x, x, 0x4e));
}

/* Strides of 1, 2, 4, … registers among the first count of them; count is a constant after inlining. */
GY_INLINE void between(__m512 x[REGISTERS], size_t count)
{
    GY_UNROLL(4)
    for (size_t h = 1; h < count; h *= 2)
        GY_UNROLL(8)
        for (size_t p = 0; p < count / 2; p++) {
            size_t low = p / h * 2 * h + p % h;
            __m512 a = x[low], b = x[low + h];
            x[low] = _mm512_add_ps(a, b);
            x[low + h] = _mm512_sub_ps(a, b);
        }
}

/* One pass over count registers that are stride floats apart. */
GY_INLINE void pass(float *x, size_t stride, size_t count, bool first, bool last, float scale)
{
    __m512 v[REGISTERS];
    GY_UNROLL(16)
    for (size_t r = 0; r < count; r++) {
        v[r] = _mm512_loadu_ps(x + r * stride);
        if (first)
            v[r] = within(v[r]);
    }
    between(v, count);
    GY_UNROLL(16)
    for (size_t r = 0; r < count; r++)
        _mm512_storeu_ps(x + r * stride, last ? _mm512_mul_ps(v[r], _mm512_set1_ps(scale)) : v[r]);
}

/* Blocks of PASS, all strides below PASS. */
static void pass_first(float *x, size_t count)
{
    for (size_t i = 0; i < count; i += PASS)
        pass(x + i, LANES, REGISTERS, true, false, 1);
}

/* Strides from PASS on. */
GY_INLINE void pass_last(float *x, size_t blocks, float scale)
{
    for (size_t i = 0; i < PASS; i += LANES)
        pass(x + i, PASS, blocks, false, true, scale);
}

static void hadamard(float *x, size_t count, float scale)
{
    if (count > PASS)
        pass_first(x, count);
    switch (count) {
    case 16: pass(x, LANES, 1, true, true, scale); break;
    case 32: pass(x, LANES, 2, true, true, scale); break;
    case 64: pass(x, LANES, 4, true, true, scale); break;
    case 128: pass(x, LANES, 8, true, true, scale); break;
    case 256: pass(x, LANES, 16, true, true, scale); break;
    case 512: pass_last(x, 2, scale); break;
    case 1024: pass_last(x, 4, scale); break;
    case 2048: pass_last(x, 8, scale); break;
    case 4096: pass_last(x, 16, scale); break;
    default: gy_rotate_ref.hadamard(x, count, scale); break;
    }
}

/* The lanes of the last dim%16 coordinates. */
static inline __mmask16 tail_mask(size_t count) { return (__mmask16)((1u << count) - 1); }

GY_INLINE __m512 flipped(__m512 value, __m512i moves)
{
    return _mm512_xor_ps(value, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_srli_epi32(moves, 15), 31)));
}

static void flip(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        _mm512_storeu_ps(out + i, flipped(_mm512_loadu_ps(in + i),
                                          _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(moves + i)))));
    if (i < dim) {
        __mmask16 tail = tail_mask(dim - i);
        __m512i move = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(tail, moves + i));
        _mm512_mask_storeu_ps(out + i, tail, flipped(_mm512_maskz_loadu_ps(tail, in + i), move));
    }
}

static void permute(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    const __m512i from = _mm512_set1_epi32(GY_MOVE_FROM);
    size_t j = 0;
    for (; j + LANES <= dim; j += LANES) {
        __m512i move = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(moves + j)));
        _mm512_storeu_ps(out + j, flipped(_mm512_i32gather_ps(_mm512_and_si512(move, from), in, 4), move));
    }
    if (j < dim) {
        __mmask16 tail = tail_mask(dim - j);
        __m512i move = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(tail, moves + j));
        __m512 value = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), tail, _mm512_and_si512(move, from), in, 4);
        _mm512_mask_storeu_ps(out + j, tail, flipped(value, move));
    }
}

const gy_rotate_kernels gy_rotate_avx512 = {flip, permute, hadamard};
