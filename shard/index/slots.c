/* Removal shifts the entries behind it back instead of leaving tombstones, so a table never grows slow. */
#include "index/slots.h"

#include <sodium.h>
#include <stdlib.h>
#include <xxhash.h>

enum { PLACES_MIN = 960 };

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

/* Where the search for a hash begins: its share of the places, so that there may be any number of them. */
static size_t home_of(uint32_t hash, size_t places)
{
    return (size_t)((uint64_t)hash * places >> 32);
}

static size_t next_of(size_t at, size_t places)
{
    return at + 1 == places ? 0 : at + 1;
}

/* How far at is behind from, going round. */
static size_t distance(size_t from, size_t at, size_t places)
{
    return at >= from ? at - from : at + places - from;
}

static void enter(uint64_t *table, size_t places, uint64_t entry)
{
    size_t at = home_of(entry_hash(entry), places);
    while (table[at])
        at = next_of(at, places);
    table[at] = entry;
}

/* Four fifths full at most, so that probes stay short; grown by a third, so that it is three fifths full at least: a quarter of
 * what doubling would take on average is saved, for each entry moved three times more. */
gyre_status gy_slots_reserve(struct gy_slots *slots, size_t count, gyre_error *err)
{
    size_t places = slots->places ? slots->places : PLACES_MIN;
    while (slots->used + count > places / 5 * 4)
        places += places / 3;
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
    for (size_t at = home_of(hash, slots->places); slots->table[at]; at = next_of(at, slots->places)) {
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
    size_t at = home_of(hash_of(slots, id), slots->places);
    while (entry_slot(slots->table[at]) != slot)
        at = next_of(at, slots->places);
    return at;
}

void gy_slots_remove(struct gy_slots *slots, const gyre_point_id *id, uint32_t slot)
{
    size_t places = slots->places, hole = place_of(slots, id, slot);
    for (size_t at = next_of(hole, places); slots->table[at]; at = next_of(at, places)) {
        size_t home = home_of(entry_hash(slots->table[at]), places);
        /* The entry may move into the hole unless its home lies behind the hole (going round). */
        if (distance(home, at, places) >= distance(hole, at, places)) {
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
