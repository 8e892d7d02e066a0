/* places: where points are put: which slot each is in, and which chunk numbers are free. Goes with one line of snapshots: the
 * live one, or the one that a re-encoding builds.
 * Threads  one owner at a time (live: the points' apply lock) */
#ifndef GY_PLACES_H
#define GY_PLACES_H

#include "index/slots.h"

struct gy_places {
    gy_vectors *vectors; /* that new chunks are mirrored in */
    struct gy_slots slots;
    uint32_t *free; /* chunk numbers below the snapshot's count without a chunk */
    size_t free_count, free_room;
};

void gy_places_init(struct gy_places *places, gy_vectors *vectors);
void gy_places_fini(struct gy_places *places);
/* Makes sure that count puts into snapshot, and as many removals and drops, fail for want of a chunk's memory only.
 * GYRE_EXHAUSTED when chunk numbers would run out. */
GYRE_CHECKED gyre_status gy_places_reserve(struct gy_places *places, const gy_snapshot *snapshot, size_t count, gyre_error *err);
/* Enters what a loaded snapshot holds. GYRE_CORRUPT if a point is in it twice. */
GYRE_CHECKED gyre_status gy_places_index(struct gy_places *places, const gy_snapshot *snapshot, gyre_error *err);

bool gy_places_find(const struct gy_places *places, const gy_snapshot *snapshot, const gyre_point_id *id, uint32_t *slot);
/* Appends a point that is not there to its list's last chunk with room, or to a new one. */
GYRE_CHECKED gyre_status gy_places_put(struct gy_places *places, gy_snapshot *snapshot, uint32_t list, const gyre_point_id *id,
                                       const uint8_t *row, uint32_t *slot, gyre_error *err);
/* Leaves a hole in the slot of a point. */
GYRE_CHECKED gyre_status gy_places_remove(struct gy_places *places, gy_snapshot *snapshot, const gyre_point_id *id, uint32_t slot,
                                          gyre_error *err);
/* A free number, taken. */
uint32_t gy_places_take_number(struct gy_places *places, const gy_snapshot *snapshot);
/* Room for two was reserved. */
void gy_places_free_number(struct gy_places *places, uint32_t number);
/* Takes a chunk without points away and frees its number for whatever comes next. */
GYRE_CHECKED gyre_status gy_places_drop(struct gy_places *places, gy_snapshot *snapshot, uint32_t number, gyre_error *err);
/* As allocated. */
size_t gy_places_bytes(const struct gy_places *places);

#endif
