/* fuzz_row: u16 dim, u8 metric, then a row: what _row_check lets through survives a block, and every table's scan of it is
 * finite and the same. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
    if (!holds)
        abort();
}

/* The largest reference point and query that are allowed pull every factor as far as it goes. */
static void scan_and_decode(gyre_metric metric, uint32_t dim, const uint8_t *row, const uint8_t *block)
{
    float point[GYRE_DIM_MAX], asked[GYRE_DIM_MAX], decoded[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++) {
        point[i] = 0.99e16f / sqrtf((float)dim);
        asked[i] = i % 2 ? point[i] : -point[i];
    }
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    GY_AUTO(gyre_codebook) *codebook = NULL;
    GY_AUTO(gyre_rabitq_query) *query = NULL;
    demand(gyre_codebook_new(&codebook, metric, dim, 1, seed, point, NULL) == GYRE_OK);
    demand(gyre_rabitq_query_new(&query, codebook, asked, NULL, 1e4f, NULL) == GYRE_OK);
    gyre_hit first[GYRE_BLOCK_ROWS], hits[GYRE_BLOCK_ROWS];
    for (size_t k = 0; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here()) {
            demand(gy_rabitq_scan_with(gy_kernels_all[k], query, block, 1, INFINITY, k ? hits : first) == 1);
            demand(k == 0 || memcmp(first, hits, sizeof *hits) == 0);
        }
    demand(isfinite(first->estimate) && isfinite(first->half_width) && first->row == 9);
    gyre_rabitq_decode(codebook, row, decoded);
    for (uint32_t i = 0; i < dim; i++)
        demand(isfinite(decoded[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    uint32_t dim = 1 + gy_load_u16(data) % GYRE_DIM_MAX;
    gyre_metric metric = (gyre_metric)(1 + data[2] % 3);
    const uint8_t *row = data + 3;
    size_t row_bytes = gyre_rabitq_row_bytes(dim);
    if (size - 3 != row_bytes)
        return 0;
    gyre_error err;
    if (gyre_rabitq_row_check(dim, row, &err) != GYRE_OK)
        return 0;
    uint8_t *block = aligned_alloc(64, gyre_rabitq_block_bytes(dim)), *back = malloc(row_bytes);
    demand(block && back);
    gyre_rabitq_block_init(dim, block);
    gyre_rabitq_block_set(dim, block, 9, row);
    gyre_rabitq_block_get(dim, block, 9, back);
    demand(memcmp(row, back, row_bytes) == 0);
    scan_and_decode(metric, dim, row, block);
    free(block), free(back);
    return 0;
}
