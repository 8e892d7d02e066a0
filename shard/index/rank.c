/* Exact distances of rows of a snapshot. */
#include "index/snapshot.h"
#include "index/state.h"

enum { TOGETHER = 64 };

gyre_status gy_points_rank(gy_points *points, const gy_snapshot *snapshot, const float *query, const uint32_t *slots, size_t count, float *out,
                           gyre_error *err)
{
    gyre_point_id ids[TOGETHER];
    for (size_t done = 0; done < count; done += TOGETHER) {
        size_t n = count - done < TOGETHER ? count - done : TOGETHER;
        for (size_t i = 0; i < n; i++)
            ids[i] = gy_snapshot_at(snapshot, slots[done + i] / GY_CHUNK_ROWS)->ids[slots[done + i] % GY_CHUNK_ROWS];
        GY_TRY(gy_points_distances(points, query, ids, n, out + done, err));
    }
    return GYRE_OK;
}
