/* ref planes: plain C, the definition. */
#include "kernels/planes.h"

#include "kernels/vector.h"

#include <float.h>
#include <math.h>

static float grid(const float *z, size_t dim, struct gy_grid *out)
{
    float largest = 0;
    for (size_t i = 0; i < dim; i++)
        largest = fabsf(z[i]) > largest ? fabsf(z[i]) : largest;
    float scale = (float)GY_GRID_MAX / largest;
    if (!(scale <= FLT_MAX))
        scale = 0;
    out->count = (dim + GY_GRID_LANES - 1) / GY_GRID_LANES * GY_GRID_LANES;
    for (size_t i = 0; i < out->count; i++) {
        out->whole[i] = i < dim ? (int16_t)(fabsf(z[i]) * scale + 0.5f) : 0;
        out->steps[i] = (float)out->whole[i];
    }
    return scale;
}

static void score(const struct gy_grid *grid_of, float t, int32_t top, int64_t *along, int64_t *square)
{
    *along = *square = 0;
    for (size_t i = 0; i < grid_of->count; i++) {
        int32_t m = (int32_t)(grid_of->steps[i] * t);
        m = m < top ? m : top;
        *along += grid_of->whole[i] * m;
        *square += m * (m + 1);
    }
}

static void pack(const float *z, const float *magnitudes, size_t dim, float t, uint32_t low_bits, uint8_t *planes, float *zb)
{
    uint32_t top = (1u << low_bits) - 1;
    size_t plane_bytes = (dim + 7) / 8;
    memset(planes, 0, low_bits * plane_bytes);
    for (size_t i = 0; i < dim; i++) {
        float scaled = fabsf(magnitudes[i]) * t;
        uint32_t m = scaled < (float)top ? (uint32_t)scaled : top;
        uint32_t low = z[i] >= 0 ? m : top - m;
        for (uint32_t plane = 0; plane < low_bits; plane++)
            planes[plane * plane_bytes + i / 8] |= (uint8_t)((low >> (low_bits - 1 - plane) & 1) << i % 8);
        zb[i] = z[i] >= 0 ? (float)m + 0.5f : -((float)m + 0.5f);
    }
}

static int32_t dot(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const int8_t *v)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += v[i] * (int32_t)gy_planes_level(signs, planes, dim, low_bits, i);
    return sum;
}

static float dot_float(const uint8_t *signs, const uint8_t *planes, size_t dim, uint32_t low_bits, const float *y)
{
    float lane[GY_LANES] = {0};
    for (size_t i = 0; i < dim; i++)
        lane[i % GY_LANES] += y[i] * gy_planes_value(gy_planes_level(signs, planes, dim, low_bits, i), low_bits);
    for (size_t width = GY_LANES / 2; width; width /= 2)
        for (size_t l = 0; l < width; l++)
            lane[l] += lane[l + width];
    return lane[0];
}

const gy_planes_kernels gy_planes_ref = {grid, score, pack, dot, dot_float};
