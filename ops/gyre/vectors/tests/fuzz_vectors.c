/* fuzz_vectors: the first byte chooses the reader, the rest is the file. */
#include "vectors_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool good)
{
    if (!good)
        abort();
}

/* Whatever opens must yield exactly the rows it promised, or refuse with a sentence. */
static void read_vectors(FILE *file, size_t bytes, gy_vectors_header *header)
{
    static float rows[3 * GY_VECTORS_DIM_MAX];
    gy_vectors *vectors = NULL;
    gyre_error err = {0};
    if (gy_vectors_open_stream(&vectors, file, bytes, header, &err) != GYRE_OK) {
        expect(err.text[0] != 0);
        fclose(file);
        return;
    }
    expect(gy_vectors_dim(vectors) >= 1 && gy_vectors_dim(vectors) <= GY_VECTORS_DIM_MAX && gy_vectors_count(vectors) <= bytes);
    uint64_t total = 0;
    size_t count;
    gyre_status status;
    while ((status = gy_vectors_read(vectors, rows, 3, &count, &err)) == GYRE_OK && count > 0)
        total += count;
    expect(status == GYRE_OK ? total == gy_vectors_count(vectors) : err.text[0] != 0);
    expect(gy_vectors_seek(vectors, gy_vectors_count(vectors), &err) == GYRE_OK);
    gy_vectors_close(vectors);
}

static void read_ivecs(FILE *file, size_t bytes)
{
    size_t rows, width;
    int32_t *data = NULL;
    gyre_error err = {0};
    if (gy_ivecs_load_stream(file, bytes, &rows, &width, &data, &err) == GYRE_OK) {
        expect(rows * (width + 1) * 4 == bytes);
        free(data);
    } else {
        expect(err.text[0] != 0);
    }
    fclose(file);
}

static void read_lines(FILE *file, size_t bytes)
{
    gy_lines *lines = NULL;
    gyre_error err = {0};
    const char *line = "";
    size_t line_bytes, total = 0;
    if (gy_lines_open_stream(&lines, file, 100, &err) != GYRE_OK) {
        fclose(file);
        return;
    }
    while (line && gy_lines_next(lines, &line, &line_bytes, &err) == GYRE_OK && line) {
        expect(line_bytes <= 100 && line[line_bytes] == 0 && strlen(line) == line_bytes);
        total += line_bytes;
    }
    expect(total <= bytes);
    gy_lines_close(lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static gy_vectors_header *const headers[] = {gy_npy_header, gy_fvecs_header, gy_bvecs_header, gy_fbin_header, gy_u8bin_header};
    if (size < 2) /* fmemopen takes no empty buffer */
        return 0;
    FILE *file = fmemopen((void *)(uintptr_t)(data + 1), size - 1, "rb");
    if (!file)
        return 0;
    size_t reader = data[0] % 7;
    if (reader < 5)
        read_vectors(file, size - 1, headers[reader]);
    else if (reader == 5)
        read_ivecs(file, size - 1);
    else
        read_lines(file, size - 1);
    return 0;
}
