/* internal: what the scan by codes and the exact scan share. */
#ifndef GY_SCAN_INTERNAL_H
#define GY_SCAN_INTERNAL_H

#include "scan/top.h"

/* exact.c: fills tops[query_count] (by exact distance) and the number of vectors compared. */
GYRE_CHECKED gyre_status gy_scan_exact(gy_points *points, const struct gy_scan_request *request, struct gy_top *tops, uint64_t *scanned,
                                       gyre_error *err);
/* codes.c: fills tops[query_count] (by lower bound) from a snapshot. */
GYRE_CHECKED gyre_status gy_scan_codes(const gy_snapshot *snapshot, uint32_t dim, gy_pool *pool, const struct gy_scan_request *request,
                                       struct gy_top *tops, gyre_error *err);

static inline float gy_scan_limit(const struct gy_scan_request *request, size_t q)
{
    return request->limits ? request->limits[q] : __builtin_inff();
}

#endif
