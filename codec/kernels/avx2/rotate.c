/* avx2 rotate: 64 coordinates in eight registers, six strides between one load and one store, then three strides a pass.
 *
 * Cost per register of 8 coordinates: strides 1, 2, 4 lie within it, 1 shuffle and 1 fused multiply-add each (a product with ±1
 * is exact, so the sum is rounded once, as an addition is); every further stride is 1 addition or subtraction. permute gathers: 8
 * loads, which is what bounds a round. */
#include "kernels/inline.h"
#include "kernels/rotate.h"

#include <immintrin.h>

enum { LANES = 8, REGISTERS = 8, PASS = LANES * REGISTERS };

/* Strides 1, 2, 4: where a lane is the lower of its pair, a·1 + b, where it is the upper, b·(-1) + a. */
GY_INLINE __m256 within(__m256 x)
{
    const __m256 by1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1), by2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 by4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    x = _mm256_fmadd_ps(x, by1, _mm256_permute_ps(x, 0xb1));
    x = _mm256_fmadd_ps(x, by2, _mm256_permute_ps(x, 0x4e));
    return _mm256_fmadd_ps(x, by4, _mm256_permute2f128_ps(x, x, 0x01));
}

/* Strides of 1, 2, 4 registers among the first count of them; count is a constant after inlining. */
GY_INLINE void between(__m256 x[REGISTERS], size_t count)
{
    GY_UNROLL(3)
    for (size_t h = 1; h < count; h *= 2)
        GY_UNROLL(4)
        for (size_t p = 0; p < count / 2; p++) {
            size_t low = p / h * 2 * h + p % h;
            __m256 a = x[low], b = x[low + h];
            x[low] = _mm256_add_ps(a, b);
            x[low + h] = _mm256_sub_ps(a, b);
        }
}

/* One pass over count registers that are stride floats apart; scale NULL: 1. */
GY_INLINE void pass(float *x, size_t stride, size_t count, bool first, const float *scale)
{
    __m256 v[REGISTERS];
    GY_UNROLL(8)
    for (size_t r = 0; r < count; r++) {
        v[r] = _mm256_loadu_ps(x + r * stride);
        if (first)
            v[r] = within(v[r]);
    }
    between(v, count);
    GY_UNROLL(8)
    for (size_t r = 0; r < count; r++)
        _mm256_storeu_ps(x + r * stride, scale ? _mm256_mul_ps(v[r], _mm256_set1_ps(*scale)) : v[r]);
}

/* Strides stride, 2·stride, … of blocks of count·stride. */
GY_INLINE void pass_blocks(float *x, size_t dim, size_t stride, size_t count, const float *scale)
{
    for (size_t i = 0; i < dim; i += count * stride)
        for (size_t j = 0; j < stride; j += LANES)
            pass(x + i + j, stride, count, false, scale);
}

static void hadamard(float *x, size_t count, float scale)
{
    switch (count) {
    case 8: pass(x, LANES, 1, true, &scale); return;
    case 16: pass(x, LANES, 2, true, &scale); return;
    case 32: pass(x, LANES, 4, true, &scale); return;
    case 64: pass(x, LANES, 8, true, &scale); return;
    default: break;
    }
    if (count < LANES) {
        gy_rotate_ref.hadamard(x, count, scale);
        return;
    }
    for (size_t i = 0; i < count; i += PASS)
        pass(x + i, LANES, REGISTERS, true, NULL);
    size_t stride = PASS;
    if (count > PASS * REGISTERS) {
        pass_blocks(x, count, PASS, REGISTERS, NULL);
        stride *= REGISTERS;
    }
    switch (count / stride) {
    case 2: pass_blocks(x, count, stride, 2, &scale); break;
    case 4: pass_blocks(x, count, stride, 4, &scale); break;
    default: pass_blocks(x, count, stride, 8, &scale); break;
    }
}

GY_INLINE __m256 flipped(__m256 value, __m256i moves)
{
    return _mm256_xor_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(moves, 15), 31)));
}

GY_INLINE __m256i load_moves(const uint16_t *moves)
{
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)moves));
}

static void flip(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        _mm256_storeu_ps(out + i, flipped(_mm256_loadu_ps(in + i), load_moves(moves + i)));
    gy_rotate_ref.flip(in + i, moves + i, out + i, dim - i);
}

static void permute(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    const __m256i from = _mm256_set1_epi32(GY_MOVE_FROM);
    size_t j = 0;
    for (; j + LANES <= dim; j += LANES) {
        __m256i move = load_moves(moves + j);
        _mm256_storeu_ps(out + j, flipped(_mm256_i32gather_ps(in, _mm256_and_si256(move, from), 4), move));
    }
    gy_rotate_ref.permute(in, moves + j, out + j, dim - j);
}

const gy_rotate_kernels gy_rotate_avx2 = {flip, permute, hadamard};
