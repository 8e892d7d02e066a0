/* ivecs: ground truth, a whole file at once: per row i32 width, i32[width], all rows of one width (TEXMEX). */
#ifndef GY_IVECS_H
#define GY_IVECS_H

#include "gyre/base.h"

enum { GY_IVECS_WIDTH_MAX = 65536, GY_IVECS_BYTES_MAX = 1 << 30 };

/* data [rows][width], malloc'ed, the caller's. Numbers are as stored; some sets pad with -1.
 * GYRE_INVALID over a limit, GYRE_CORRUPT if the bytes contradict themselves, GYRE_NOT_FOUND. */
GYRE_CHECKED gyre_status gy_ivecs_load(const char *path, size_t *rows, size_t *width, int32_t **data, gyre_error *err);

#endif
