#include "scan/top.h"

#include <math.h>
#include <stdlib.h>

enum {
    ROOM_MIN = 256,
    SLACK_MIN = 64,  /* items beyond keep before a cut is worth its pass */
    SMALL = 12,      /* below this, insertion */
};

typedef bool order(const struct gy_top_item *, const struct gy_top_item *);

static inline __attribute__((always_inline)) bool less(float x, const gyre_point_id *a, float y, const gyre_point_id *b)
{
    return x != y ? x < y : gyre_point_id_compare(a, b) < 0;
}

static inline __attribute__((always_inline)) bool by_bound(const struct gy_top_item *a, const struct gy_top_item *b)
{
    return less(a->bound, &a->id, b->bound, &b->id);
}

static inline __attribute__((always_inline)) bool by_estimate(const struct gy_top_item *a, const struct gy_top_item *b)
{
    return less(a->estimate, &a->id, b->estimate, &b->id);
}

/* For what partitioning does badly on (built to be, or bad luck): the library's sort, n log n whatever the input. */
static int compare_bound(const void *a, const void *b)
{
    return by_bound(a, b) ? -1 : by_bound(b, a);
}

static int compare_estimate(const void *a, const void *b)
{
    return by_estimate(a, b) ? -1 : by_estimate(b, a);
}

static inline void swap(struct gy_top_item *a, struct gy_top_item *b)
{
    struct gy_top_item t = *a;
    *a = *b, *b = t;
}

/* Splits items[0…count) about the median of three: returns m with everything before items[m] smaller and everything behind
 * larger. */
static inline __attribute__((always_inline)) size_t split(struct gy_top_item *items, size_t count, order *before)
{
    size_t middle = count / 2, last = count - 1;
    if (before(&items[middle], &items[0]))
        swap(&items[middle], &items[0]);
    if (before(&items[last], &items[0]))
        swap(&items[last], &items[0]);
    if (before(&items[last], &items[middle]))
        swap(&items[last], &items[middle]);
    swap(&items[middle], &items[last - 1]);
    struct gy_top_item pivot = items[last - 1];
    size_t i = 0, j = last - 1;
    for (;;) {
        while (before(&items[++i], &pivot)) {
        }
        while (before(&pivot, &items[--j])) {
        }
        if (i >= j)
            break;
        swap(&items[i], &items[j]);
    }
    swap(&items[i], &items[last - 1]);
    return i;
}

static inline __attribute__((always_inline)) void insertion(struct gy_top_item *items, size_t count, order *before)
{
    for (size_t i = 1; i < count; i++) {
        struct gy_top_item item = items[i];
        size_t j = i;
        for (; j && before(&item, &items[j - 1]); j--)
            items[j] = items[j - 1];
        items[j] = item;
    }
}

/* Splits that may go badly before the library takes over: twice the number a perfect run needs. */
static size_t splits_max(size_t count)
{
    size_t splits = 2;
    for (; count > 1; count /= 2)
        splits += 2;
    return splits;
}

/* The k smallest come first. */
static inline __attribute__((always_inline)) void select_first(struct gy_top_item *items, size_t count, size_t k, order *before,
                                                               int (*compare)(const void *, const void *))
{
    for (size_t left = splits_max(count); count > SMALL; left--) {
        if (left == 0) {
            qsort(items, count, sizeof *items, compare);
            return;
        }
        size_t m = split(items, count, before);
        if (k <= m) {
            count = m;
        } else {
            items += m + 1, count -= m + 1, k -= m + 1;
        }
        if (k == 0)
            return;
    }
    insertion(items, count, before);
}

/* Defines a sort: the smaller side by recursion, the larger by going round, so that the stack stays logarithmic. */
#define DEFINE_SORT(name, before, compare)                                   \
    static void name(struct gy_top_item *items, size_t count, size_t splits) \
    {                                                                        \
        while (count > SMALL) {                                              \
            if (splits-- == 0) {                                             \
                qsort(items, count, sizeof *items, compare);                 \
                return;                                                      \
            }                                                                \
            size_t m = split(items, count, before);                          \
            if (m < count - m - 1) {                                         \
                name(items, m, splits);                                      \
                items += m + 1, count -= m + 1;                              \
            } else {                                                         \
                name(items + m + 1, count - m - 1, splits);                  \
                count = m;                                                   \
            }                                                                \
        }                                                                    \
        insertion(items, count, before);                                     \
    }

DEFINE_SORT(sort_bounds, by_bound, compare_bound)
DEFINE_SORT(sort_estimates, by_estimate, compare_estimate)

void gy_top_init(struct gy_top *top, size_t keep)
{
    *top = (struct gy_top){.keep = keep, .threshold = INFINITY};
}

void gy_top_fini(struct gy_top *top)
{
    free(top->items);
    top->items = NULL;
    top->count = top->room = 0;
}

static size_t slack(const struct gy_top *top)
{
    return top->keep / 2 > SLACK_MIN ? top->keep / 2 : SLACK_MIN;
}

void gy_top_cut(struct gy_top *top)
{
    if (top->count < top->keep)
        return;
    if (top->count > top->keep) {
        select_first(top->items, top->count, top->keep, by_bound, compare_bound);
        top->count = top->keep;
    }
    top->threshold = -INFINITY;
    for (size_t i = 0; i < top->count; i++)
        if (top->items[i].bound > top->threshold)
            top->threshold = top->items[i].bound;
}

float gy_top_threshold(struct gy_top *top)
{
    if (top->count >= top->keep && (top->threshold == INFINITY || top->count - top->keep >= slack(top)))
        gy_top_cut(top);
    return top->threshold;
}

gyre_status gy_top_offer(struct gy_top *top, const struct gy_top_item *item, gyre_error *err)
{
    if (item->bound > top->threshold)
        return GYRE_OK;
    size_t most = 2 * top->keep + SLACK_MIN;
    if (top->count == most)
        gy_top_cut(top);
    if (top->count == top->room) {
        size_t room = top->room ? top->room * 2 : ROOM_MIN;
        if (room > most)
            room = most;
        struct gy_top_item *items = realloc(top->items, room * sizeof *items);
        if (!items)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu candidates", room);
        top->items = items;
        top->room = room;
    }
    top->items[top->count++] = *item;
    return GYRE_OK;
}

void gy_top_best_first(struct gy_top_item *items, size_t count, size_t n)
{
    if (n < count)
        select_first(items, count, n, by_estimate, compare_estimate);
}

void gy_top_sort(struct gy_top *top)
{
    sort_bounds(top->items, top->count, splits_max(top->count));
}

void gy_top_sort_estimates(struct gy_top_item *items, size_t count)
{
    sort_estimates(items, count, splits_max(count));
}

void gy_smallest_offer(float *heap, size_t *count, size_t k, float value)
{
    size_t at;
    if (*count < k) { /* up from the end */
        for (at = (*count)++; at && heap[(at - 1) / 2] < value; at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = value;
        return;
    }
    if (!(value < heap[0]))
        return;
    at = 0; /* down from the top, in the place of the largest */
    for (size_t child; (child = 2 * at + 1) < k; at = child) {
        child += child + 1 < k && heap[child + 1] > heap[child];
        if (heap[child] <= value)
            break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}
