/* headers: the formats whose header is one or two numbers. */
#include "vectors_internal.h"

#include <inttypes.h>

enum { DIM_PREFIX_BYTES = 4, BIN_HEADER_BYTES = 8 };

gyre_status gy_vectors_check_dim(int64_t dim, gyre_error *err)
{
    if (dim < 1 || dim > GY_VECTORS_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "dim %" PRId64 " is outside 1 to %d", dim, GY_VECTORS_DIM_MAX);
    return GYRE_OK;
}

gyre_status gy_vectors_check_size(const struct gy_vectors_layout *layout, uint64_t file_bytes, gyre_error *err)
{
    if (file_bytes < layout->data_offset)
        return gyre_fail(err, GYRE_CORRUPT, "truncated: the header ends at byte %" PRIu64 ", the file at %" PRIu64, layout->data_offset, file_bytes);
    uint64_t row_bytes = gy_vectors_row_bytes(layout), data_bytes = file_bytes - layout->data_offset;
    uint64_t there = data_bytes / row_bytes;
    if (layout->count > there)
        return gyre_fail(err, GYRE_CORRUPT, "truncated: the header promises %" PRIu64 " rows of %" PRIu64 " bytes, the file holds %" PRIu64,
                         layout->count, row_bytes, there);
    if (layout->count * row_bytes != data_bytes)
        return gyre_fail(err, GYRE_CORRUPT, "%" PRIu64 " bytes follow the %" PRIu64 " rows that the header promises",
                         data_bytes - layout->count * row_bytes, layout->count);
    return GYRE_OK;
}

/* .fvecs and .bvecs have no header but each row's dim; the first row's is taken for all, and each is checked when read. */
static gyre_status vecs_header(FILE *file, uint64_t file_bytes, gy_element element, struct gy_vectors_layout *layout, gyre_error *err)
{
    uint8_t first[DIM_PREFIX_BYTES];
    if (file_bytes == 0)
        return gyre_fail(err, GYRE_INVALID, "an empty file, so its dim is unknown");
    GY_TRY(gy_read_exactly(file, first, sizeof first, "the dim of row 0", err));
    int32_t dim = (int32_t)gy_load_u32(first);
    GY_TRY(gy_vectors_check_dim(dim, err));
    struct gy_vectors_layout found = {.dim = (size_t)dim, .element = element, .prefix_bytes = DIM_PREFIX_BYTES};
    uint64_t row_bytes = gy_vectors_row_bytes(&found);
    found.count = file_bytes / row_bytes;
    if (file_bytes % row_bytes != 0)
        return gyre_fail(err, GYRE_CORRUPT, "truncated: rows of dim %d have %" PRIu64 " bytes, the last of %" PRIu64 " has %" PRIu64,
                         dim, row_bytes, found.count + 1, file_bytes % row_bytes);
    *layout = found;
    return GYRE_OK;
}

static gyre_status bin_header(FILE *file, uint64_t file_bytes, gy_element element, struct gy_vectors_layout *layout, gyre_error *err)
{
    uint8_t header[BIN_HEADER_BYTES];
    GY_TRY(gy_read_exactly(file, header, sizeof header, "the header (u32 count, u32 dim)", err));
    uint32_t dim = gy_load_u32(header + 4);
    GY_TRY(gy_vectors_check_dim(dim, err));
    struct gy_vectors_layout found = {.data_offset = BIN_HEADER_BYTES, .count = gy_load_u32(header), .dim = dim, .element = element};
    GY_TRY(gy_vectors_check_size(&found, file_bytes, err));
    *layout = found;
    return GYRE_OK;
}

gyre_status gy_fvecs_header(FILE *file, uint64_t file_bytes, struct gy_vectors_layout *layout, gyre_error *err)
{
    return vecs_header(file, file_bytes, GY_ELEMENT_F4, layout, err);
}

gyre_status gy_bvecs_header(FILE *file, uint64_t file_bytes, struct gy_vectors_layout *layout, gyre_error *err)
{
    return vecs_header(file, file_bytes, GY_ELEMENT_U1, layout, err);
}

gyre_status gy_fbin_header(FILE *file, uint64_t file_bytes, struct gy_vectors_layout *layout, gyre_error *err)
{
    return bin_header(file, file_bytes, GY_ELEMENT_F4, layout, err);
}

gyre_status gy_u8bin_header(FILE *file, uint64_t file_bytes, struct gy_vectors_layout *layout, gyre_error *err)
{
    return bin_header(file, file_bytes, GY_ELEMENT_U1, layout, err);
}
