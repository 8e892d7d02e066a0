/* partition: what a codebook with centroids holds besides, and which list a vector belongs to. */
#include "gyre/partition.h"

#include "codebook_internal.h"
#include "layout.h"
#include "partition_internal.h"

#include <stdlib.h>

typedef struct gy_partition gy_partition;
GY_AUTO_DEFINE(gy_partition, gy_partition_free)

/* What a probe scans. */
static const char probe_codec[] = "rabitq1";

enum { ENCODED_AT_ONCE = 256 };

/* The codes, of the centroids as they are: under ip a probe asks for inner products, else for distances. */
static gyre_status encode_centroids(struct gy_partition *partition, const gyre_codebook *codebook, gyre_error *err)
{
    const gyre_codec *codec = NULL;
    uint32_t dim = gyre_codebook_dim(codebook);
    size_t lists = gyre_centroids_count(partition->centroids);
    gyre_metric metric = gyre_codebook_metric(codebook) == GYRE_IP ? GYRE_IP : GYRE_L2;
    GY_TRY(gyre_codec_find(&codec, probe_codec, err));
    GY_TRY(
        gyre_codebook_new(&partition->codebook, metric, dim, 0, gy_codebook_seed(codebook), gyre_codebook_mean(codebook), err));
    GY_TRY(gyre_quantizer_new(&partition->quantizer, codec, partition->codebook, err));
    size_t code_bytes = gyre_codec_scan_code_bytes(codec, dim), block_bytes = gyre_block_bytes(code_bytes);
    size_t row_bytes = gyre_codec_row_bytes(codec, dim), block_count = (lists + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
    partition->blocks = aligned_alloc(64, block_count * block_bytes);
    uint8_t *rows = malloc(ENCODED_AT_ONCE * row_bytes);
    gyre_status status = GYRE_OK;
    if (!partition->blocks || !rows)
        status = gyre_fail(err, GYRE_NO_MEMORY, "codes of %zu centroids of dim %u", lists, dim);
    for (size_t b = 0; b < block_count && status == GYRE_OK; b++)
        gyre_block_init(code_bytes, partition->blocks + b * block_bytes);
    for (size_t first = 0; first < lists && status == GYRE_OK; first += ENCODED_AT_ONCE) {
        size_t n = lists - first < ENCODED_AT_ONCE ? lists - first : ENCODED_AT_ONCE;
        status =
            gyre_quantizer_encode(partition->quantizer, gyre_centroids_row(partition->centroids, first), n, first, rows, err);
        for (size_t i = 0; i < n && status == GYRE_OK; i++)
            gyre_block_set(code_bytes, partition->blocks + (first + i) / GYRE_BLOCK_ROWS * block_bytes,
                           (first + i) % GYRE_BLOCK_ROWS, rows + i * row_bytes);
    }
    free(rows);
    return status;
}

gyre_status gy_partition_new(struct gy_partition **out, const gyre_codebook *codebook, const float *centroids, uint32_t lists,
                             gyre_error *err)
{
    GY_AUTO(gy_partition) *partition = calloc(1, sizeof *partition);
    if (!partition)
        return gyre_fail(err, GYRE_NO_MEMORY, "partition");
    GY_TRY(gyre_centroids_new(&partition->centroids, centroids, lists, gyre_codebook_dim(codebook), err));
    if (gy_probe_by_codes(lists, gyre_codebook_dim(codebook)))
        GY_TRY(encode_centroids(partition, codebook, err));
    *out = GY_TAKE(partition);
    return GYRE_OK;
}

void gy_partition_free(struct gy_partition *partition)
{
    if (!partition)
        return;
    free(partition->blocks);
    gyre_quantizer_free(partition->quantizer);
    gyre_codebook_free(partition->codebook);
    gyre_centroids_free(partition->centroids);
    free(partition);
}

gyre_status gyre_partition_assign(const gyre_codebook *codebook, const float *vectors, size_t n, size_t first_row,
                                  uint32_t *lists, gyre_error *err)
{
    const struct gy_partition *partition = gy_codebook_partition(codebook);
    if (partition)
        return gyre_kmeans_assign(partition->centroids, vectors, n, first_row, lists, NULL, err);
    uint32_t dim = gyre_codebook_dim(codebook);
    for (size_t i = 0; i < n; i++)
        GY_TRY(gyre_vector_check(GYRE_L2, vectors + i * dim, dim, first_row + i, err));
    memset(lists, 0, n * sizeof *lists);
    return GYRE_OK;
}
