/* elements: stored numbers to f32. */
#include "vectors_internal.h"

#include <float.h>
#include <math.h>

size_t gy_element_bytes(gy_element element)
{
    switch (element) {
    case GY_ELEMENT_F2: return 2;
    case GY_ELEMENT_F4: return 4;
    case GY_ELEMENT_F8: return 8;
    case GY_ELEMENT_U1: return 1;
    }
    return 1;
}

/* half: 1 sign, 5 exponent (bias 15), 10 fraction; float: 1, 8 (bias 127), 23. */
float gy_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
    uint32_t bits;
    if (exponent == 0x1f) {
        bits = sign | 0x7f800000u | fraction << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 127 - 15) << 23 | fraction << 13;
    } else if (fraction == 0) {
        bits = sign;
    } else {
        /* A denormal half is a normal float: shift its leading one to the hidden place. */
        uint32_t shift = (uint32_t)__builtin_clz(fraction) - 21;
        bits = sign | (127 - 14 - shift) << 23 | ((fraction << shift) & 0x3ffu) << 13;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

size_t gy_elements_convert(gy_element element, const uint8_t *stored, float *out, size_t dim)
{
    switch (element) {
    case GY_ELEMENT_F2:
        for (size_t i = 0; i < dim; i++)
            out[i] = gy_half_to_float(gy_load_u16(stored + 2 * i));
        break;
    case GY_ELEMENT_F4:
        for (size_t i = 0; i < dim; i++)
            out[i] = gy_load_f32(stored + 4 * i);
        break;
    case GY_ELEMENT_F8:
        for (size_t i = 0; i < dim; i++) {
            uint64_t bits = gy_load_u64(stored + 8 * i);
            double value;
            memcpy(&value, &bits, sizeof value);
            if (fabs(value) > (double)FLT_MAX && !isinf(value))
                return i;
            out[i] = (float)value;
        }
        break;
    case GY_ELEMENT_U1:
        for (size_t i = 0; i < dim; i++)
            out[i] = (float)stored[i];
        break;
    }
    return dim;
}
