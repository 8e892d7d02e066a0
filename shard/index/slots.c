/* Removal shifts the entries behind it back instead of leaving tombstones, so a table never grows slow. */
#include "index/slots.h"

#include <sodium.h>
#include <stdlib.h>
#include <xxhash.h>

enum { PLACES_MIN = 1024 };

void gy_slots_init(struct gy_slots *slots)
{
    *slots = (struct gy_slots){0};
    randombytes_buf(&slots->key, sizeof slots->key);
}

void gy_slots_fini(struct gy_slots *slots)
{
    free(slots->table);
    *slots = (struct gy_slots){0};
}

static uint32_t hash_of(const struct gy_slots *slots, const gyre_point_id *id)
{
    return (uint32_t)(XXH3_64bits_withSeed(id->bytes, sizeof id->bytes, slots->key) >> 32);
}

static uint32_t entry_hash(uint64_t entry)
{
    return (uint32_t)(entry >> 32);
}

static uint32_t entry_slot(uint64_t entry)
{
    return (uint32_t)entry - 1;
}

static void enter(uint64_t *table, size_t places, uint64_t entry)
{
    size_t at = entry_hash(entry) & (places - 1);
    while (table[at])
        at = (at + 1) & (places - 1);
    table[at] = entry;
}

/* At most three quarters full: probes stay short. */
gyre_status gy_slots_reserve(struct gy_slots *slots, size_t count, gyre_error *err)
{
    size_t places = slots->places ? slots->places : PLACES_MIN;
    while ((slots->used + count) > places / 4 * 3)
        places *= 2;
    if (places == slots->places)
        return GYRE_OK;
    uint64_t *table = calloc(places, sizeof *table);
    if (!table)
        return gyre_fail(err, GYRE_NO_MEMORY, "index of %zu places", places);
    for (size_t i = 0; i < slots->places; i++)
        if (slots->table[i])
            enter(table, places, slots->table[i]);
    free(slots->table);
    slots->table = table;
    slots->places = places;
    return GYRE_OK;
}

bool gy_slots_find(const struct gy_slots *slots, const gy_snapshot *snapshot, const gyre_point_id *id, uint32_t *slot)
{
    if (!slots->places)
        return false;
    uint32_t hash = hash_of(slots, id);
    for (size_t at = hash & (slots->places - 1); slots->table[at]; at = (at + 1) & (slots->places - 1)) {
        if (entry_hash(slots->table[at]) != hash)
            continue;
        uint32_t found = entry_slot(slots->table[at]);
        if (gyre_point_id_compare(&gy_snapshot_at(snapshot, found / GY_CHUNK_ROWS)->ids[found % GY_CHUNK_ROWS], id) == 0) {
            *slot = found;
            return true;
        }
    }
    return false;
}

void gy_slots_enter(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot)
{
    enter(slots->table, slots->places, (uint64_t)hash_of(slots, id) << 32 | (slot + 1));
    slots->used++;
}

static size_t place_of(const struct gy_slots *slots, const gyre_point_id *id, uint32_t slot)
{
    size_t mask = slots->places - 1, at = hash_of(slots, id) & mask;
    while (entry_slot(slots->table[at]) != slot)
        at = (at + 1) & mask;
    return at;
}

void gy_slots_remove(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot)
{
    size_t mask = slots->places - 1, hole = place_of(slots, id, slot);
    for (size_t at = (hole + 1) & mask; slots->table[at]; at = (at + 1) & mask) {
        size_t home = entry_hash(slots->table[at]) & mask;
        /* The entry may move into the hole unless its home lies behind the hole (cyclically). */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            slots->table[hole] = slots->table[at];
            hole = at;
        }
    }
    slots->table[hole] = 0;
    slots->used--;
}

void gy_slots_move(struct gy_slots *slots, const gyre_point_id *id, uint32_t from, uint32_t to)
{
    size_t at = place_of(slots, id, from);
    slots->table[at] = (uint64_t)entry_hash(slots->table[at]) << 32 | (to + 1);
}

size_t gy_slots_bytes(const struct gy_slots *slots)
{
    return slots->places * sizeof *slots->table;
}
