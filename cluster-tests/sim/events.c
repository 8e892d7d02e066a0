#include "events.h"

#include <stdlib.h>

static bool before(const struct gy_sim_event *a, const struct gy_sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void gy_sim_events_push(struct gy_sim_events *events, struct gy_sim_event event)
{
    if (events->count == events->room) {
        events->room = events->room ? events->room * 2 : 256;
        events->heap = realloc(events->heap, events->room * sizeof *events->heap);
        if (!events->heap)
            abort(); /* a test tool without memory has nothing to report */
    }
    event.order = ++events->order;
    size_t i = events->count++;
    while (i > 0 && before(&event, &events->heap[(i - 1) / 2])) {
        events->heap[i] = events->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    events->heap[i] = event;
}

bool gy_sim_events_pop(struct gy_sim_events *events, struct gy_sim_event *out)
{
    if (events->count == 0)
        return false;
    *out = events->heap[0];
    struct gy_sim_event last = events->heap[--events->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < events->count; i = child) {
        if (child + 1 < events->count && before(&events->heap[child + 1], &events->heap[child]))
            child++;
        if (!before(&events->heap[child], &last))
            break;
        events->heap[i] = events->heap[child];
    }
    events->heap[i] = last;
    return true;
}

void gy_sim_events_fini(struct gy_sim_events *events)
{
    for (size_t i = 0; i < events->count; i++)
        free(events->heap[i].object);
    free(events->heap);
    *events = (struct gy_sim_events){0};
}
