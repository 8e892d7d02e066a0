/* ref rotate: plain C, the definition. */
#include "kernels/rotate.h"

/* By bits: a product with -1 would be the same for every number. */
static inline float flipped(float value, uint16_t move)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits ^= (uint32_t)(move & GY_MOVE_FLIP) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void flip(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = flipped(in[i], moves[i]);
}

static void permute(const float *in, const uint16_t *moves, float *out, size_t dim)
{
    for (size_t j = 0; j < dim; j++)
        out[j] = flipped(in[moves[j] & GY_MOVE_FROM], moves[j]);
}

/* The first two strides are done together: the same additions, half the passes. */
static void hadamard(float *x, size_t count, float scale)
{
    size_t stride = 1;
    if (count >= 4) {
        for (size_t i = 0; i < count; i += 4) {
            float a = x[i] + x[i + 1], b = x[i] - x[i + 1];
            float c = x[i + 2] + x[i + 3], d = x[i + 2] - x[i + 3];
            x[i] = a + c, x[i + 1] = b + d, x[i + 2] = a - c, x[i + 3] = b - d;
        }
        stride = 4;
    }
    for (; stride < count; stride *= 2)
        for (size_t i = 0; i < count; i += 2 * stride) {
            float *restrict low = x + i, *restrict high = x + i + stride;
            for (size_t j = 0; j < stride; j++) {
                float a = low[j], b = high[j];
                low[j] = a + b;
                high[j] = a - b;
            }
        }
    for (size_t i = 0; i < count; i++)
        x[i] *= scale;
}

const gy_rotate_kernels gy_rotate_ref = {flip, permute, hadamard};
