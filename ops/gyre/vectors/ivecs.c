/* ivecs: the whole file is read row by row into one array whose size the checked header gives. */
#include "ivecs.h"

#include "vectors_internal.h"

#include <inttypes.h>
#include <stdlib.h>

enum { NUMBER_BYTES = 4, CHUNK_NUMBERS = 1024 };

/* Reads width numbers of one row through a small buffer. */
static gyre_status read_row(FILE *file, size_t width, int32_t *out, gyre_error *err)
{
    uint8_t buffer[CHUNK_NUMBERS * NUMBER_BYTES];
    for (size_t done = 0; done < width;) {
        size_t chunk = width - done < CHUNK_NUMBERS ? width - done : CHUNK_NUMBERS;
        GY_TRY(gy_read_exactly(file, buffer, chunk * NUMBER_BYTES, "a row", err));
        for (size_t i = 0; i < chunk; i++)
            out[done + i] = (int32_t)gy_load_u32(buffer + i * NUMBER_BYTES);
        done += chunk;
    }
    return GYRE_OK;
}

static gyre_status read_rows(FILE *file, size_t rows, size_t width, int32_t *data, gyre_error *err)
{
    for (size_t row = 0; row < rows; row++) {
        uint8_t prefix[NUMBER_BYTES];
        if (row > 0) { /* the first is read already */
            GY_TRY(gy_read_exactly(file, prefix, sizeof prefix, "the width of a row", err));
            if (gy_load_u32(prefix) != width)
                return gyre_fail(err, GYRE_CORRUPT, "row %zu says width %d, row 0 said %zu", row, (int32_t)gy_load_u32(prefix), width);
        }
        GY_TRY(read_row(file, width, data + row * width, err));
    }
    return GYRE_OK;
}

gyre_status gy_ivecs_load_stream(FILE *file, uint64_t file_bytes, size_t *rows, size_t *width, int32_t **data, gyre_error *err)
{
    uint8_t prefix[NUMBER_BYTES];
    if (file_bytes > GY_IVECS_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "%" PRIu64 " bytes of ground truth; %d is the limit", file_bytes, GY_IVECS_BYTES_MAX);
    GY_TRY(gy_read_exactly(file, prefix, sizeof prefix, "the width of row 0", err));
    int32_t first_width = (int32_t)gy_load_u32(prefix);
    if (first_width < 1 || first_width > GY_IVECS_WIDTH_MAX)
        return gyre_fail(err, GYRE_INVALID, "width %d is outside 1 to %d", first_width, GY_IVECS_WIDTH_MAX);
    size_t found_width = (size_t)first_width;
    size_t row_bytes = NUMBER_BYTES * (1 + found_width);
    size_t found_rows = (size_t)file_bytes / row_bytes;
    if (file_bytes % row_bytes != 0)
        return gyre_fail(err, GYRE_CORRUPT, "truncated: rows of width %zu have %zu bytes, the last has %zu", found_width, row_bytes,
                         (size_t)file_bytes % row_bytes);
    int32_t *numbers = malloc(found_rows * found_width * sizeof *numbers);
    if (!numbers)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu rows of %zu numbers", found_rows, found_width);
    gyre_status status = read_rows(file, found_rows, found_width, numbers, err);
    if (status != GYRE_OK) {
        free(numbers);
        return status;
    }
    *rows = found_rows;
    *width = found_width;
    *data = numbers;
    return GYRE_OK;
}

gyre_status gy_ivecs_load(const char *path, size_t *rows, size_t *width, int32_t **data, gyre_error *err)
{
    FILE *file;
    uint64_t bytes;
    GY_TRY(gy_open_regular(path, &file, &bytes, err));
    gyre_status status = gy_ivecs_load_stream(file, bytes, rows, width, data, err);
    fclose(file);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "%s", path);
}
