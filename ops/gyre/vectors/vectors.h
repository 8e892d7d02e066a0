/* vectors: files of vectors, read as a stream of f32 rows.
 *
 * The ending of the name chooses the format. Whatever it is, dimension and count are known once the file is open, and a
 * header that does not agree with the size of the file is refused then, not after an hour of import. Memory: one buffer of
 * at most 64 KiB a reader.
 *
 *   .npy     NumPy's own, versions 1 to 3, two dimensions, C order: '<f4', '<f2', '<f8', '|u1'
 *   .fvecs   per row: i32 dim, f32[dim]         (TEXMEX)
 *   .bvecs   per row: i32 dim, u8[dim]          (TEXMEX)
 *   .fbin    u32 count, u32 dim, f32[count][dim] (Big-ANN benchmarks)
 *   .u8bin   u32 count, u32 dim, u8[count][dim]  (Big-ANN benchmarks)
 *
 * Everything is little-endian. Halves and bytes become the f32 of the same value, doubles the nearest. NaN and infinities
 * pass through: whether they may be stored is the collection's business. Threads: one at a time per reader. */
#ifndef GY_VECTORS_H
#define GY_VECTORS_H

#include "gyre/base.h"

enum { GY_VECTORS_DIM_MAX = 4096 };

typedef struct gy_vectors gy_vectors;

/* Opens a regular file. GYRE_NOT_FOUND if there is none; GYRE_INVALID if the format or what the header asks for is not
 * supported (name ending, element type, order, dim outside 1 to 4096); GYRE_CORRUPT if the bytes contradict themselves. */
GYRE_CHECKED gyre_status gy_vectors_open(gy_vectors **out, const char *path, gyre_error *err);
size_t gy_vectors_dim(const gy_vectors *vectors);
uint64_t gy_vectors_count(const gy_vectors *vectors);
/* Reads on.
 *   out   [rows_max][dim] f32, written from its start; on failure its content is undefined
 *   rows  how many were read: rows_max, fewer at the end of the file, 0 after it
 * GYRE_CORRUPT names the row whose own dimension differs from the first row's (.fvecs, .bvecs), or says that the file ends
 * early because it shrank; GYRE_INVALID names the row and column of a double beyond f32. After a failure only seek helps. */
GYRE_CHECKED gyre_status gy_vectors_read(gy_vectors *vectors, float *out, size_t rows_max, size_t *rows, gyre_error *err);
/* The next read starts at this row, 0 to count. GYRE_OUT_OF_RANGE beyond. */
GYRE_CHECKED gyre_status gy_vectors_seek(gy_vectors *vectors, uint64_t row, gyre_error *err);
void gy_vectors_close(gy_vectors *vectors);

#endif
