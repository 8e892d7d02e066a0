/* vectors: one reader for all formats. A header function (npy.c, headers.c) says where the rows are; from there on rows are
 * chunks of equal size, read through one buffer and converted row by row. */
#include "vectors_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536 };

/* The widest row: 4096 doubles, with a prefix for good measure. */
_Static_assert(GY_VECTORS_DIM_MAX * 8 + 4 <= BUFFER_BYTES, "a row must fit the buffer");

struct gy_vectors {
    FILE *file;
    struct gy_vectors_layout layout;
    uint64_t next;              /* the row that is read next; the file stands there */
    uint8_t buffer[BUFFER_BYTES];
};

GY_AUTO_DEFINE(gy_vectors, gy_vectors_close)

gy_vectors_header *gy_vectors_header_for(const char *path)
{
    static const struct {
        const char *ending;
        gy_vectors_header *header;
    } known[] = {{".npy", gy_npy_header}, {".fvecs", gy_fvecs_header}, {".bvecs", gy_bvecs_header}, {".fbin", gy_fbin_header}, {".u8bin", gy_u8bin_header}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof known / sizeof *known; i++) {
        if (strcasecmp(dot, known[i].ending) == 0)
            return known[i].header;
    }
    return NULL;
}

gyre_status gy_open_regular(const char *path, FILE **file, uint64_t *bytes, gyre_error *err)
{
    /* O_NONBLOCK: a pipe in the file's place is refused below instead of waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        gyre_status status = errno == ENOENT ? GYRE_NOT_FOUND : errno == EACCES ? GYRE_DENIED : GYRE_UNAVAILABLE;
        return gyre_fail(err, status, "%s: %s", path, strerror(errno));
    }
    struct stat info;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return gyre_fail(err, GYRE_INVALID, "%s: not a regular file; its size must be known", path);
    }
    *file = fdopen(fd, "rb");
    if (!*file) {
        close(fd);
        return gyre_fail(err, GYRE_NO_MEMORY, "%s: a stream", path);
    }
    *bytes = (uint64_t)info.st_size;
    return GYRE_OK;
}

gyre_status gy_read_exactly(FILE *file, void *out, size_t bytes, const char *what, gyre_error *err)
{
    size_t got = bytes ? fread(out, 1, bytes, file) : 0;
    if (got == bytes)
        return GYRE_OK;
    if (ferror(file))
        return gyre_fail(err, GYRE_UNAVAILABLE, "reading %s: %s", what, strerror(errno));
    return gyre_fail(err, GYRE_CORRUPT, "truncated: %s has %zu bytes, the file ends after %zu of them", what, bytes, got);
}

gyre_status gy_vectors_open_stream(gy_vectors **out, FILE *file, uint64_t file_bytes, gy_vectors_header *header, gyre_error *err)
{
    struct gy_vectors_layout layout;
    GY_TRY(header(file, file_bytes, &layout, err));
    gy_vectors *vectors = malloc(sizeof *vectors);
    if (!vectors)
        return gyre_fail(err, GYRE_NO_MEMORY, "a reader's buffer of %d bytes", BUFFER_BYTES);
    vectors->file = file;
    vectors->layout = layout;
    gyre_status status = gy_vectors_seek(vectors, 0, err);
    if (status != GYRE_OK) {
        free(vectors);
        return status;
    }
    *out = vectors;
    return GYRE_OK;
}

gyre_status gy_vectors_open(gy_vectors **out, const char *path, gyre_error *err)
{
    gy_vectors_header *header = gy_vectors_header_for(path);
    if (!header)
        return gyre_fail(err, GYRE_INVALID, "%s: the name must end in .npy, .fvecs, .bvecs, .fbin or .u8bin", path);
    FILE *file;
    uint64_t bytes;
    GY_TRY(gy_open_regular(path, &file, &bytes, err));
    gyre_status status = gy_vectors_open_stream(out, file, bytes, header, err);
    if (status != GYRE_OK) {
        fclose(file);
        return gyre_wrap(err, status, "%s", path);
    }
    return GYRE_OK;
}

size_t gy_vectors_dim(const gy_vectors *vectors)
{
    return vectors->layout.dim;
}

uint64_t gy_vectors_count(const gy_vectors *vectors)
{
    return vectors->layout.count;
}

gyre_status gy_vectors_seek(gy_vectors *vectors, uint64_t row, gyre_error *err)
{
    if (row > vectors->layout.count)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "row %" PRIu64 " of a file of %" PRIu64, row, vectors->layout.count);
    uint64_t at = vectors->layout.data_offset + row * gy_vectors_row_bytes(&vectors->layout);
    if (fseeko(vectors->file, (off_t)at, SEEK_SET) != 0)
        return gyre_fail(err, GYRE_UNAVAILABLE, "going to row %" PRIu64 ": %s", row, strerror(errno));
    vectors->next = row;
    return GYRE_OK;
}

/* One row from the buffer. */
static gyre_status convert_row(const struct gy_vectors_layout *layout, const uint8_t *stored, uint64_t row, float *out, gyre_error *err)
{
    if (layout->prefix_bytes && gy_load_u32(stored) != layout->dim)
        return gyre_fail(err, GYRE_CORRUPT, "row %" PRIu64 " says dim %d, row 0 said %zu", row, (int32_t)gy_load_u32(stored), layout->dim);
    size_t converted = gy_elements_convert(layout->element, stored + layout->prefix_bytes, out, layout->dim);
    if (converted < layout->dim)
        return gyre_fail(err, GYRE_INVALID, "row %" PRIu64 ", column %zu: the number is beyond what 32-bit floats hold", row, converted);
    return GYRE_OK;
}

gyre_status gy_vectors_read(gy_vectors *vectors, float *out, size_t rows_max, size_t *rows, gyre_error *err)
{
    const struct gy_vectors_layout *layout = &vectors->layout;
    size_t row_bytes = gy_vectors_row_bytes(layout), done = 0;
    uint64_t left = layout->count - vectors->next;
    size_t wanted = left < rows_max ? (size_t)left : rows_max;
    while (done < wanted) {
        size_t batch = BUFFER_BYTES / row_bytes;
        if (batch > wanted - done)
            batch = wanted - done;
        GY_TRY(gy_read_exactly(vectors->file, vectors->buffer, batch * row_bytes, "the next batch of rows", err));
        for (size_t i = 0; i < batch; i++)
            GY_TRY(convert_row(layout, vectors->buffer + i * row_bytes, vectors->next + i, out + (done + i) * layout->dim, err));
        vectors->next += batch;
        done += batch;
    }
    *rows = done;
    return GYRE_OK;
}

void gy_vectors_close(gy_vectors *vectors)
{
    if (!vectors)
        return;
    fclose(vectors->file);
    free(vectors);
}
