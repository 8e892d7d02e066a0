/* ref: plain C, the definition of every slot. Cost: one table look-up and add per nibble and row. */
#include "kernels/kernels.h"
#include "kernels/scan_emit.h"

static bool runs_here(void) { return true; }

static void count_misses(const struct gy_scan *scan, const uint8_t *block, uint16_t misses[GYRE_BLOCK_ROWS])
{
    memset(misses, 0, GYRE_BLOCK_ROWS * sizeof *misses);
    for (size_t byte = 0; byte < 2 * scan->pair_count; byte++) {
        const uint8_t *low = scan->lookup + byte / 2 * GY_LOOKUP_PAIR_BYTES + byte % 2 * 32;
        const uint8_t *high = low + 64;
        const uint8_t *codes = block + byte * GYRE_BLOCK_ROWS;
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
            misses[v] = (uint16_t)(misses[v] + low[codes[v] & 15] + high[codes[v] >> 4]);
    }
}

static size_t scan_blocks(const struct gy_scan *scan, const uint8_t *blocks, size_t block_count, float threshold, gyre_hit *hits)
{
    size_t found = 0;
    for (size_t b = 0; b < block_count; b++) {
        const uint8_t *block = blocks + b * scan->block_bytes;
        const uint8_t *factors = block + scan->pair_count * GY_PAIR_BYTES;
        uint16_t misses[GYRE_BLOCK_ROWS];
        count_misses(scan, block, misses);
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
            found += gy_scan_emit(scan, factors, v, misses[v], (uint32_t)(b * GYRE_BLOCK_ROWS + v), threshold, hits + found);
    }
    return found;
}

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

const gy_kernels gy_kernels_ref = {"ref", runs_here, scan_blocks, dot, l2};
