/* events: what will happen, in virtual time: a heap ordered by time, then by when it was scheduled. */
#ifndef GY_SIM_EVENTS_H
#define GY_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gy_sim;
struct gy_sim_event;
typedef void gy_sim_run(struct gy_sim *sim, struct gy_sim_event *event);

/* Of the world itself: happens whoever has died meanwhile. */
enum { GY_SIM_NOBODY = 255 };

struct gy_sim_event {
    int64_t at_ns;
    uint64_t order;
    gy_sim_run *run;
    void *object;   /* one block of malloc or NULL; freed after the event, unless run sets it NULL */
    uint64_t number;
    uint32_t life;  /* of the owner: in another one the event is dropped */
    uint32_t shard;
    uint8_t owner;  /* endpoint, or GY_SIM_NOBODY */
    bool to_replica; /* of the shard: waits while a blocking driver is at the disk */
};

struct gy_sim_events {
    struct gy_sim_event *heap; /* [room] */
    size_t count, room;
    uint64_t order;
};

void gy_sim_events_push(struct gy_sim_events *events, struct gy_sim_event event);
/* false: there is none. */
bool gy_sim_events_pop(struct gy_sim_events *events, struct gy_sim_event *out);
void gy_sim_events_fini(struct gy_sim_events *events);

#endif
