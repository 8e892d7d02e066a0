/* levels: eight coordinates at a time as the eight bytes of a word.
 * Source  Lloyd 1957 (1982), Max 1960: each level is the mean of what is nearest to it. Solved here to 30 digits, rounded to
 * float */
#include "quantizers/levels.h"

#include "layout.h"

#include <math.h>
#include <sodium.h>

/* The positive levels; the others are their negatives. */
static const float lloyd_max[GY_LEVEL_BITS_MAX + 1][1 << (GY_LEVEL_BITS_MAX - 1)] = {
    [1] = {0.797884583f},
    [2] = {0.452780038f, 1.51041758f},
    [3] = {0.24509418f, 0.756005287f, 1.34390926f, 2.15194559f},
    [4] = {0.128395036f, 0.388048291f, 0.656759143f, 0.942340434f, 1.25623119f, 1.6180464f, 2.06901717f, 2.73258948f},
};

enum { ABREAST = 64 };

static const uint64_t lowest_bits = UINT64_C(0x0101010101010101);

size_t gy_levels_bytes(uint32_t bits, uint32_t dim) { return bits * gy_sign_bytes(dim); }

void gy_levels_pack(const uint8_t *indices, uint32_t dim, uint32_t bits, uint8_t *planes)
{
    size_t plane_bytes = gy_sign_bytes(dim);
    for (size_t byte = 0; byte < plane_bytes; byte++) {
        uint8_t eight[8] = {0};
        memcpy(eight, indices + 8 * byte, dim - 8 * byte < 8 ? dim - 8 * byte : 8);
        uint64_t word = gy_load_u64(eight);
        for (uint32_t plane = 0; plane < bits; plane++) /* the product moves the bit of byte k to bit 56 + k */
            planes[plane * plane_bytes + byte] =
                (uint8_t)((word >> (bits - 1 - plane) & lowest_bits) * UINT64_C(0x0102040810204080) >> 56);
    }
}

void gy_levels_unpack(const uint8_t *planes, uint32_t dim, uint32_t bits, uint8_t *indices)
{
    size_t plane_bytes = gy_sign_bytes(dim);
    for (size_t byte = 0; byte < plane_bytes; byte++) {
        uint64_t word = 0;
        for (uint32_t plane = 0; plane < bits; plane++) { /* bit k of the plane's byte stays in byte k, carried to its top */
            uint64_t own = planes[plane * plane_bytes + byte] * lowest_bits & UINT64_C(0x8040201008040201);
            word = 2 * word + ((own + 0x7f * lowest_bits) >> 7 & lowest_bits);
        }
        uint8_t eight[8];
        gy_store_u64(eight, word);
        memcpy(indices + 8 * byte, eight, dim - 8 * byte < 8 ? dim - 8 * byte : 8);
    }
}

bool gy_levels_valid(const uint8_t *planes, uint32_t dim, uint32_t bits)
{
    size_t plane_bytes = gy_sign_bytes(dim);
    for (uint32_t plane = 1; dim % 8 && plane <= bits; plane++)
        if (planes[plane * plane_bytes - 1] >> dim % 8)
            return false;
    return true;
}

void gy_lloyd_max_levels(uint32_t bits, float scale, float levels[1 << GY_LEVEL_BITS_MAX])
{
    uint32_t half = 1u << (bits - 1);
    for (uint32_t m = 0; m < half; m++) {
        levels[half + m] = lloyd_max[bits][m] * scale;
        levels[half - 1 - m] = -levels[half + m];
    }
}

void gy_lloyd_max_indices(const float *z, float per_unit, uint32_t dim, uint32_t bits, uint8_t *indices)
{
    uint32_t half = 1u << (bits - 1);
    float middle[1 << (GY_LEVEL_BITS_MAX - 1)];
    for (uint32_t m = 0; m + 1 < half; m++)
        middle[m] = (lloyd_max[bits][m] + lloyd_max[bits][m + 1]) * 0.5f;
    for (uint32_t first = 0; first < dim; first += ABREAST) { /* loops that a compiler turns into vectors */
        uint32_t count = dim - first < ABREAST ? dim - first : ABREAST;
        float x[ABREAST] = {0};
        uint32_t index[ABREAST];
        memcpy(x, z + first, count * sizeof *x);
        for (uint32_t i = 0; i < ABREAST; i++)
            index[i] = half;
        for (uint32_t m = 0; m + 1 < half; m++)
            for (uint32_t i = 0; i < ABREAST; i++)
                index[i] += fabsf(x[i] * per_unit) > middle[m];
        for (uint32_t i = 0; i < ABREAST; i++) /* below zero all bits the other way; no branch, as signs cannot be foreseen */
            index[i] ^= (0u - (x[i] < 0)) & (2 * half - 1);
        for (uint32_t i = 0; i < count; i++)
            indices[first + i] = (uint8_t)index[i];
    }
}

uint64_t gy_lloyd_max_hash(uint32_t bits)
{
    uint8_t bytes[1 + 4 * (1 << (GY_LEVEL_BITS_MAX - 1))] = {(uint8_t)bits}, hash[crypto_generichash_BYTES];
    uint32_t half = 1u << (bits - 1);
    for (uint32_t m = 0; m < half; m++)
        gy_store_f32(bytes + 1 + 4 * (size_t)m, lloyd_max[bits][m]);
    crypto_generichash(hash, sizeof hash, bytes, 1 + 4 * (size_t)half, NULL, 0);
    return gy_load_u64(hash);
}
