/* ref scan: plain C, the definition. Cost: one table look-up and add per nibble and row. */
#include "kernels/scan.h"
#include "kernels/scan_emit.h"

/* H of the rows of a block. */
static void sum_entries(const struct gy_scan *scan, const uint8_t *block, uint32_t sums[GYRE_BLOCK_ROWS])
{
    memset(sums, 0, GYRE_BLOCK_ROWS * sizeof *sums);
    for (size_t t = 0; t < scan->lookup_count; t++)
        for (size_t byte = 0; byte < 2 * scan->pair_count; byte++) {
            const uint8_t *low = scan->lookup[t] + byte / 2 * GY_LOOKUP_PAIR_BYTES + byte % 2 * 32;
            const uint8_t *high = low + 64;
            const uint8_t *codes = block + byte * GYRE_BLOCK_ROWS;
            for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
                sums[v] += (uint32_t)(low[codes[v] & 15] + high[codes[v] >> 4]) << 4 * t;
        }
}

static void scan_one(const struct gy_scan_job *job, size_t first, size_t end)
{
    const struct gy_scan *scan = job->scans[0];
    for (size_t b = first; b < end; b++) {
        const uint8_t *block = job->blocks + b * scan->block_bytes, *factors = block + scan->pair_count * GY_PAIR_BYTES;
        uint32_t sums[GYRE_BLOCK_ROWS];
        sum_entries(scan, block, sums);
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
            *job->found += gy_scan_emit(scan, gy_scan_factors_at(factors, v), sums[v], (uint32_t)(b * GYRE_BLOCK_ROWS + v),
                                        *job->thresholds, *job->hits + *job->found);
    }
}

static void scan(const struct gy_scan_job *job) { gy_scan_in_groups(&(gy_scan_blocks *){scan_one}, 1, job); }

const gy_scan_kernels gy_scan_ref = {scan};
