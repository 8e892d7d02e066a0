/* vectors_internal: what the readers of one folder share; the fuzzers enter here, past the file system. */
#ifndef GY_VECTORS_INTERNAL_H
#define GY_VECTORS_INTERNAL_H

#include "lines.h"
#include "vectors.h"

#include <stdio.h>

typedef enum gy_element { GY_ELEMENT_F2, GY_ELEMENT_F4, GY_ELEMENT_F8, GY_ELEMENT_U1 } gy_element;

/* Where the rows are: what every format's header comes down to. */
struct gy_vectors_layout {
    uint64_t data_offset;
    uint64_t count;
    size_t dim;
    gy_element element;
    size_t prefix_bytes; /* 4 if each row begins with its i32 dim, else 0 */
};

/* Reads a header at the start of file, which has file_bytes bytes, and checks it against them. */
typedef gyre_status gy_vectors_header(FILE *file, uint64_t file_bytes, struct gy_vectors_layout *layout, gyre_error *err);

gy_vectors_header gy_npy_header, gy_fvecs_header, gy_bvecs_header, gy_fbin_header, gy_u8bin_header;

/* The header reader for a file name, NULL if its ending is none of ours. */
gy_vectors_header *gy_vectors_header_for(const char *path);

/* Opens a stream instead of a path. Owns file on success; on failure the caller still does. */
GYRE_CHECKED gyre_status gy_vectors_open_stream(gy_vectors **out, FILE *file, uint64_t file_bytes, gy_vectors_header *header, gyre_error *err);
GYRE_CHECKED gyre_status gy_ivecs_load_stream(FILE *file, uint64_t file_bytes, size_t *rows, size_t *width, int32_t **data, gyre_error *err);
GYRE_CHECKED gyre_status gy_lines_open_stream(gy_lines **out, FILE *file, size_t line_bytes_max, gyre_error *err);

/* Opens a regular file for reading and tells its size. */
GYRE_CHECKED gyre_status gy_open_regular(const char *path, FILE **file, uint64_t *bytes, gyre_error *err);
/* Reads exactly bytes; what names them in the sentence. GYRE_CORRUPT if the file ends first. */
GYRE_CHECKED gyre_status gy_read_exactly(FILE *file, void *out, size_t bytes, const char *what, gyre_error *err);

/* 1 to GY_VECTORS_DIM_MAX, or GYRE_INVALID. dim as the header has it: a negative number stays recognizable. */
GYRE_CHECKED gyre_status gy_vectors_check_dim(int64_t dim, gyre_error *err);
/* data_offset + count rows must be exactly the file: GYRE_CORRUPT says which way it is not. */
GYRE_CHECKED gyre_status gy_vectors_check_size(const struct gy_vectors_layout *layout, uint64_t file_bytes, gyre_error *err);

size_t gy_element_bytes(gy_element element);
static inline size_t gy_vectors_row_bytes(const struct gy_vectors_layout *layout)
{
    return layout->prefix_bytes + layout->dim * gy_element_bytes(layout->element);
}
/* Converts dim stored elements; returns dim, or the index of the first that no f32 can hold. */
size_t gy_elements_convert(gy_element element, const uint8_t *stored, float *out, size_t dim);
/* The exact value of an IEEE 754 half: every half is an f32, NaNs keep their payload. */
float gy_half_to_float(uint16_t half);

#endif
