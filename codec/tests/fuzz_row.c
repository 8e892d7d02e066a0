/* fuzz_row: u16 dim, u8 metric, then a row: what _row_check lets through survives a block, and every table's scan of it is
 * finite and the same. */
#include "query_internal.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
    if (!holds)
        abort();
}

/* The largest reference point and query that are allowed pull every factor as far as it goes. */
static void scan_and_decode(const gyre_codec *codec, gyre_metric metric, uint32_t dim, const uint8_t *row, const uint8_t *block)
{
    float point[GYRE_DIM_MAX], asked[GYRE_DIM_MAX], decoded[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++) {
        point[i] = 0.99e16f / sqrtf((float)dim);
        asked[i] = i % 2 ? point[i] : -point[i];
    }
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    GY_AUTO(gyre_codebook) *codebook = NULL;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    GY_AUTO(gyre_query) *query = NULL;
    demand(gyre_codebook_new(&codebook, metric, dim, 1, seed, point, NULL) == GYRE_OK);
    demand(gyre_quantizer_new(&quantizer, codec, codebook, NULL) == GYRE_OK);
    demand(gyre_query_new(&query, quantizer, asked, NULL, &(gyre_query_options){.epsilon = 1e4f}, NULL) == GYRE_OK);
    gyre_hit first[GYRE_BLOCK_ROWS], hits[GYRE_BLOCK_ROWS];
    for (size_t k = 0; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here()) {
            demand(gy_query_scan_with(gy_kernels_all[k], query, block, 1, INFINITY, k ? hits : first) == 1);
            demand(k == 0 || memcmp(first, hits, sizeof *hits) == 0);
        }
    demand(isfinite(first->estimate) && isfinite(first->half_width) && first->row == 9);
    gyre_quantizer_decode(quantizer, row, decoded);
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
    const gyre_codec *codec = NULL;
    demand(gyre_codec_find(&codec, "rabitq1", NULL) == GYRE_OK);
    size_t row_bytes = gyre_codec_row_bytes(codec, dim), code_bytes = gyre_codec_scan_code_bytes(codec, dim);
    if (size - 3 != row_bytes)
        return 0;
    gyre_error err;
    if (gyre_codec_row_check(codec, dim, row, &err) != GYRE_OK)
        return 0;
    uint8_t *block = aligned_alloc(64, gyre_block_bytes(code_bytes)), *back = malloc(row_bytes);
    demand(block && back);
    gyre_block_init(code_bytes, block);
    gyre_block_set(code_bytes, block, 9, row);
    gyre_block_get(code_bytes, block, 9, back);
    demand(memcmp(row, back, row_bytes) == 0);
    scan_and_decode(codec, metric, dim, row, block);
    free(block), free(back);
    return 0;
}
