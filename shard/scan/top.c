#include "scan/top.h"

#include <math.h>
#include <stdlib.h>

enum { ROOM_MIN = 256 };

void gy_top_init(struct gy_top *top, size_t keep)
{
    *top = (struct gy_top){.keep = keep};
}

void gy_top_fini(struct gy_top *top)
{
    free(top->items);
    top->items = NULL;
    top->count = top->room = 0;
}

float gy_top_threshold(const struct gy_top *top)
{
    return top->count < top->keep ? INFINITY : top->items[0].bound;
}

static bool before(const struct gy_top_item *a, const struct gy_top_item *b)
{
    if (a->bound != b->bound)
        return a->bound < b->bound;
    return gyre_point_id_compare(&a->id, &b->id) < 0;
}

static void sift_up(struct gy_top *top, size_t at, const struct gy_top_item *item)
{
    for (; at && before(&top->items[(at - 1) / 2], item); at = (at - 1) / 2)
        top->items[at] = top->items[(at - 1) / 2];
    top->items[at] = *item;
}

static void sift_down(struct gy_top *top, const struct gy_top_item *item)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < top->count; at = child) {
        if (child + 1 < top->count && before(&top->items[child], &top->items[child + 1]))
            child++;
        if (!before(item, &top->items[child]))
            break;
        top->items[at] = top->items[child];
    }
    top->items[at] = *item;
}

gyre_status gy_top_offer(struct gy_top *top, const struct gy_top_item *item, gyre_error *err)
{
    if (top->count == top->keep) {
        if (before(item, &top->items[0]))
            sift_down(top, item);
        return GYRE_OK;
    }
    if (top->count == top->room) {
        size_t room = top->room ? top->room * 2 : ROOM_MIN;
        if (room > top->keep)
            room = top->keep;
        struct gy_top_item *items = realloc(top->items, room * sizeof *items);
        if (!items)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu candidates", room);
        top->items = items;
        top->room = room;
    }
    sift_up(top, top->count++, item);
    return GYRE_OK;
}

static int compare(const void *a, const void *b)
{
    return before(a, b) ? -1 : before(b, a) ? 1 : 0;
}

void gy_top_sort(struct gy_top *top)
{
    if (top->count)
        qsort(top->items, top->count, sizeof *top->items, compare);
}
