/* ref vector: plain C, the definition of the order in which floats are summed. */
#include "kernels/vector.h"

static float fold(float lane[GY_LANES])
{
    for (size_t width = GY_LANES / 2; width; width /= 2)
        for (size_t l = 0; l < width; l++)
            lane[l] += lane[l + width];
    return lane[0];
}

static float dot(const float *a, const float *b, size_t dim)
{
    float lane[GY_LANES] = {0};
    for (size_t i = 0; i < dim; i++)
        lane[i % GY_LANES] += a[i] * b[i];
    return fold(lane);
}

static float l2(const float *a, const float *b, size_t dim)
{
    float lane[GY_LANES] = {0};
    for (size_t i = 0; i < dim; i++) {
        float difference = a[i] - b[i];
        lane[i % GY_LANES] += difference * difference;
    }
    return fold(lane);
}

GY_VECTOR_ONE_BY_ONE(dots, dot)
GY_VECTOR_ONE_BY_ONE(l2s, l2)

const gy_vector_kernels gy_vector_ref = {dot, l2, dots, l2s};
