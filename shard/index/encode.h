/* encode: vectors to lists and rows, many at a time: one assignment for all of them, then list by list.
 * Threads  no state; call from anywhere */
#ifndef GY_ENCODE_H
#define GY_ENCODE_H

#include "gyre/partition.h"
#include "index/snapshot.h"

/* The list and the row of each vector.
 *   vectors  [n] addresses of vectors as the client gave them
 *   lists    [n], written
 *   rows     [n][row_bytes], written
 * GYRE_INVALID for a vector that no codec takes, named by its index. */
GYRE_CHECKED gyre_status gy_encode(const struct gy_shared_codebook *codebook, const float *const *vectors, size_t n,
                                   uint32_t *lists, uint8_t *rows, gyre_error *err);

#endif
