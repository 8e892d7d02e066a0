/* Assignment goes through all centroids for every vector and is by far the larger part: in groups, so that the centroids, which
 * do not fit into the nearest cache, are read once for many vectors. */
#include "index/encode.h"

#include "index/state.h"

#include <stdlib.h>

enum { GROUP = 1024 }; /* vectors at a time: bounds the memory, whatever the batch */

struct group {
    float *vectors;  /* [GROUP][dim] normalised, then those of one list side by side */
    uint8_t *rows;   /* [GROUP][row_bytes] of one list */
    uint64_t *order; /* [GROUP] list << 32 | index */
};

static int by_list(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The vectors order[from…to) are of one list. */
static gyre_status encode_list(const struct gy_shared_codebook *codebook, const float *const *vectors, size_t first_row,
                               struct group *group, size_t from, size_t to, uint8_t *rows, gyre_error *err)
{
    size_t dim = codebook->layout.dim, row_bytes = codebook->layout.row_bytes;
    const float *centroid = gyre_codebook_centroid(codebook->codebook, (uint32_t)(group->order[from] >> 32));
    for (size_t i = from; i < to; i++)
        memcpy(group->vectors + (i - from) * dim, vectors[(uint32_t)group->order[i]], dim * sizeof(float));
    GY_TRY(gyre_quantizer_encode_list(codebook->quantizer, centroid, group->vectors, to - from,
                                      first_row + (uint32_t)group->order[from], group->rows, err));
    for (size_t i = from; i < to; i++)
        memcpy(rows + (uint32_t)group->order[i] * row_bytes, group->rows + (i - from) * row_bytes, row_bytes);
    return GYRE_OK;
}

static gyre_status encode_group(const struct gy_shared_codebook *codebook, const float *const *vectors, size_t n,
                                size_t first_row, struct group *group, uint32_t *lists, uint8_t *rows, gyre_error *err)
{
    size_t dim = codebook->layout.dim;
    for (size_t i = 0; i < n; i++)
        gyre_vector_normalize(gyre_codebook_metric(codebook->codebook), vectors[i], group->vectors + i * dim, dim);
    GY_TRY(gyre_partition_assign(codebook->codebook, group->vectors, n, first_row, lists, err));
    for (size_t i = 0; i < n; i++)
        group->order[i] = (uint64_t)lists[i] << 32 | i;
    qsort(group->order, n, sizeof *group->order, by_list);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && group->order[to] >> 32 == group->order[from] >> 32;)
            to++;
        GY_TRY(encode_list(codebook, vectors, first_row, group, from, to, rows, err));
    }
    return GYRE_OK;
}

gyre_status gy_encode(const struct gy_shared_codebook *codebook, const float *const *vectors, size_t n, uint32_t *lists,
                      uint8_t *rows, gyre_error *err)
{
    size_t most = n < GROUP ? n : GROUP, row_bytes = codebook->layout.row_bytes;
    if (n == 0)
        return GYRE_OK;
    struct group group = {
        .vectors = malloc(most * codebook->layout.dim * sizeof *group.vectors),
        .rows = malloc(most * row_bytes),
        .order = malloc(most * sizeof *group.order),
    };
    gyre_status status = group.vectors && group.rows && group.order ? GYRE_OK
                                                                    : gyre_fail(err, GYRE_NO_MEMORY, "codes of %zu vectors", n);
    for (size_t done = 0; done < n && status == GYRE_OK; done += GROUP) {
        size_t count = n - done < GROUP ? n - done : GROUP;
        status = encode_group(codebook, vectors + done, count, done, &group, lists + done, rows + done * row_bytes, err);
    }
    free(group.vectors);
    free(group.rows);
    free(group.order);
    return status;
}

gyre_status gy_points_encode(gy_points *points, const float *const *vectors, size_t count, uint32_t *codebook_version,
                             uint32_t *lists, uint8_t *rows, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    GY_TRY(gy_encode(snapshot->codebook, vectors, count, lists, rows, err));
    *codebook_version = gyre_codebook_version(snapshot->codebook->codebook);
    return GYRE_OK;
}
