/* ref signs: plain C, the definition. */
#include "kernels/signs.h"

static void pack(const float *z, size_t dim, uint8_t *bits)
{
    for (size_t i = 0; i < dim; i += 8) {
        unsigned byte = 0;
        for (size_t j = 0; j < 8 && i + j < dim; j++)
            byte |= (unsigned)(z[i + j] >= 0.0f) << j;
        bits[i / 8] = (uint8_t)byte;
    }
}

static void unpack(const uint8_t *bits, size_t dim, float *out)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = bits[i / 8] >> i % 8 & 1 ? 1.0f : -1.0f;
}

const gy_signs_kernels gy_signs_ref = {pack, unpack};
