/* top: the keep smallest of a stream of (bound, id). The order is total, so what is kept does not depend on the order of arrival.
 *
 * Items gather in a buffer of up to twice keep and are cut back to keep by selection: a few comparisons an item, where a heap pays the
 * logarithm of keep. The threshold is that of the last cut, so it may lag behind; that costs time and never an answer.
 * Source   selection: Hoare, "Algorithm 65: Find", CACM 1961
 * Threads  one owner */
#ifndef GY_TOP_H
#define GY_TOP_H

#include "scan/scan.h"

struct gy_top_item {
    float bound; /* estimate - half_width */
    float estimate, half_width;
    uint32_t slot;
    gyre_point_id id;
};

struct gy_top {
    struct gy_top_item *items;
    size_t count, room, keep;
    float threshold; /* the largest bound kept at the last cut; +inf before */
};

void gy_top_init(struct gy_top *top, size_t keep);
void gy_top_fini(struct gy_top *top);
/* The largest bound that may still get in. A row of just this bound is decided by its id. Cuts when enough has gathered. */
float gy_top_threshold(struct gy_top *top);
GYRE_CHECKED gyre_status gy_top_offer(struct gy_top *top, const struct gy_top_item *item, gyre_error *err);
/* Cuts to keep, if there are more; items are in no order. With keep items the threshold is then the largest bound of them. */
void gy_top_cut(struct gy_top *top);
/* Brings the n items of smallest (estimate, id) to the front. */
void gy_top_best_first(struct gy_top_item *items, size_t count, size_t n);
/* Sorts by (bound, id). */
void gy_top_sort(struct gy_top *top);
/* Sorts by (estimate, id). */
void gy_top_sort_estimates(struct gy_top_item *items, size_t count);

/* The k smallest of a stream of numbers, as a heap with the largest of them first.
 *   heap  [k]; count is kept by the caller, from 0 */
void gy_smallest_offer(float *heap, size_t *count, size_t k, float value);

#endif
