/* Exact search: one pass over the full vectors serves all queries. The disk's key order is the order of ids, which the total
 * order of the answer makes irrelevant. */
#include "scan/internal.h"

#include <math.h>

enum { VECTORS_BETWEEN_LOOKS = 256 }; /* at the clock */

struct comparing {
    const struct gy_scan_request *request;
    gyre_metric metric;
    uint32_t dim;
    struct gy_top *tops;
    uint64_t scanned;
};

static gyre_status compare_vector(void *self, const gyre_point_id *id, const float *vector, gyre_error *err)
{
    struct comparing *comparing = self;
    const struct gy_scan_request *request = comparing->request;
    if (comparing->scanned++ % VECTORS_BETWEEN_LOOKS == 0 && gy_now_ns() >= request->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "exact scan: the deadline passed after %llu vectors", (unsigned long long)comparing->scanned - 1);
    for (size_t q = 0; q < request->query_count; q++) {
        float distance = gyre_distance(comparing->metric, vector, request->queries + q * comparing->dim, comparing->dim);
        if (isnan(distance)) {
            char text[GYRE_UUID_TEXT_BYTES];
            return gyre_fail(err, GYRE_CORRUPT, "vector of point %s is not finite", gyre_point_id_format(id, text));
        }
        if (distance <= gy_scan_limit(request, q) && distance <= gy_top_threshold(&comparing->tops[q]))
            GY_TRY(gy_top_offer(&comparing->tops[q], &(struct gy_top_item){distance, distance, 0, *id}, err));
    }
    return GYRE_OK;
}

gyre_status gy_scan_exact(gy_points *points, const struct gy_scan_request *request, struct gy_top *tops, uint64_t *scanned, gyre_error *err)
{
    struct comparing comparing = {request, gy_points_metric(points), gy_points_dim(points), tops, 0};
    GY_TRY(gy_points_each_vector(points, compare_vector, &comparing, err));
    *scanned = comparing.scanned;
    return GYRE_OK;
}
