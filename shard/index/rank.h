/* rank: reading rows of a snapshot at full precision; gy_points_rank is in points.h.
 * Threads  any */
#ifndef GY_RANK_H
#define GY_RANK_H

#include "index/state.h"

/* Reads the full vectors of a chunk that are not mirrored and mirrors them, if there is room. Adds how many were read. */
GYRE_CHECKED gyre_status gy_points_mirror_chunk(gy_points *points, const gy_snapshot *snapshot, size_t number, size_t *mirrored, gyre_error *err);

#endif
