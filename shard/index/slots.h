/* slots: which slot (chunk · GY_CHUNK_ROWS + place) a point is in.
 *
 * Open addressing, linear probing; an entry is 32 bits of the id's hash and the slot, so an absent id is known without looking
 * at a chunk. The hash is keyed with random bytes of the process: clients choose ids.
 * Threads  one owner at a time (the points' apply lock) */
#ifndef GY_SLOTS_H
#define GY_SLOTS_H

#include "index/snapshot.h"

struct gy_slots {
    uint64_t *table; /* hash << 32 | slot + 1; 0: empty */
    size_t places;
    size_t used;
    uint64_t key;
};

void gy_slots_init(struct gy_slots *slots);
void gy_slots_fini(struct gy_slots *slots);
/* Makes sure that count inserts cannot fail. */
GYRE_CHECKED gyre_status gy_slots_reserve(struct gy_slots *slots, size_t count, gyre_error *err);
/* Finds the slot of id; snapshot holds the ids now. */
bool gy_slots_find(const struct gy_slots *slots, const gy_snapshot *snapshot, const gyre_point_id *id, uint32_t *slot);
/* Enters an id that is not there; reserved before. */
void gy_slots_enter(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot);
/* Removes id, which is in slot; the chunk may have forgotten it already. */
void gy_slots_remove(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot);
/* Says that id moved from one slot to another. */
void gy_slots_move(struct gy_slots *slots, const gyre_point_id *id, uint32_t from, uint32_t to);
/* Bytes of the table, as allocated. */
size_t gy_slots_bytes(const struct gy_slots *slots);

#endif
