/* rank: reading rows of a snapshot at full precision; gy_points_rank is in points.h.
 * Threads  any */
#ifndef GY_RANK_H
#define GY_RANK_H

#include "index/state.h"

/* gy_points_distances without the mirror: every vector is read from RocksDB. */
GYRE_CHECKED gyre_status gy_points_distances_stored(gy_points *points, const float *query, const gyre_point_id *ids, size_t count,
                                                    float *out, gyre_error *err);
/* Reads the full vectors of a chunk that are not mirrored and mirrors them, if there is room. Adds how many were read. */
GYRE_CHECKED gyre_status gy_points_mirror_chunk(gy_points *points, const gy_snapshot *snapshot, size_t number, size_t *mirrored,
                                                gyre_error *err);

#endif
