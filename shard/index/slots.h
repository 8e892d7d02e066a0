/* slots: which slot (chunk · GY_CHUNK_ROWS + place) a point is in, and which slots are free.
 *
 * Open addressing, linear probing; an entry is 32 bits of the id's hash and the slot, so an absent id is known without looking
 * at a chunk. The hash is keyed with random bytes of the process: clients choose ids. Free slots are a heap: inserts take the
 * lowest, so that holes close from the front.
 * Threads  one owner at a time (the points' apply lock) */
#ifndef GY_SLOTS_H
#define GY_SLOTS_H

#include "index/snapshot.h"

enum { GY_SLOT_COUNT_MAX = 1 << 30 }; /* points in one replica */

struct gy_slots {
    uint64_t *table; /* hash << 32 | slot + 1; 0: empty */
    size_t places;   /* a power of two */
    size_t used;
    uint64_t key;
    uint32_t *free;  /* heap, lowest first */
    size_t free_count, free_room;
    uint32_t next;   /* lowest slot never used */
};

void gy_slots_init(struct gy_slots *slots);
void gy_slots_fini(struct gy_slots *slots);
/* Makes sure that count inserts and count removals cannot fail. GYRE_EXHAUSTED beyond GY_SLOT_COUNT_MAX. */
GYRE_CHECKED gyre_status gy_slots_reserve(struct gy_slots *slots, size_t count, gyre_error *err);
/* Finds the slot of id; chunks are those that hold the ids now. */
bool gy_slots_find(const struct gy_slots *slots, struct gy_chunk *const *chunks, const gyre_point_id *id, uint32_t *slot);
/* The lowest free slot, taken. */
uint32_t gy_slots_take(struct gy_slots *slots);
/* Enters an id that is not there; reserved before. */
void gy_slots_enter(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot);
/* Removes id and frees its slot. */
void gy_slots_remove(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot);
/* For loading: says that slots below next exist, and that one of them is empty. Reserved before. */
void gy_slots_set_next(struct gy_slots *slots, uint32_t next);
void gy_slots_set_free(struct gy_slots *slots, uint32_t slot);

#endif
