/* top: the keep smallest of a stream of (bound, id), a max-heap that grows to keep and no further. The order is total, so what
 * is kept does not depend on the order of arrival. Threads: one owner. */
#ifndef GY_TOP_H
#define GY_TOP_H

#include "scan/scan.h"

struct gy_top_item {
    float bound; /* estimate - half_width */
    float estimate, half_width;
    gyre_point_id id;
};

struct gy_top {
    struct gy_top_item *items; /* heap: items[0] is the largest kept */
    size_t count, room, keep;
};

void gy_top_init(struct gy_top *top, size_t keep);
void gy_top_fini(struct gy_top *top);
/* The largest bound that may still get in; +inf until keep are there. A row of just this bound is decided by its id. */
float gy_top_threshold(const struct gy_top *top);
GYRE_CHECKED gyre_status gy_top_offer(struct gy_top *top, const struct gy_top_item *item, gyre_error *err);
/* Sorts what is kept by (bound, id); the heap is one no longer. */
void gy_top_sort(struct gy_top *top);

#endif
