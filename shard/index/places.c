/* A number that is free in the newest snapshot may still mean a chunk in an older one: whoever holds that finds the chunk through
 * its own pages, so a number can be given out again at once. */
#include "index/places.h"

#include <stdlib.h>

void gy_places_init(struct gy_places *places, gy_vectors *vectors)
{
    *places = (struct gy_places){.vectors = vectors};
    gy_slots_init(&places->slots);
}

void gy_places_fini(struct gy_places *places)
{
    gy_slots_fini(&places->slots);
    free(places->free);
    *places = (struct gy_places){0};
}

static gyre_status reserve_free(struct gy_places *places, size_t count, gyre_error *err)
{
    if (places->free_count + count <= places->free_room)
        return GYRE_OK;
    size_t room = places->free_count + count + places->free_count / 2;
    uint32_t *grown = realloc(places->free, room * sizeof *grown);
    if (!grown)
        return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu free chunks", room);
    places->free = grown;
    places->free_room = room;
    return GYRE_OK;
}

gyre_status gy_places_reserve(struct gy_places *places, const gy_snapshot *snapshot, size_t count, gyre_error *err)
{
    if (count > (size_t)GY_CHUNK_NUMBER_MAX || snapshot->count - places->free_count + count > (size_t)GY_CHUNK_NUMBER_MAX)
        return gyre_fail(err, GYRE_EXHAUSTED, "replica of %zu chunks and %zu more points; the limit is %d chunks",
                         snapshot->count, count, GY_CHUNK_NUMBER_MAX);
    GY_TRY(gy_slots_reserve(&places->slots, count, err));
    return reserve_free(places, 2 * count, err); /* an overwrite may empty a chunk and fill another */
}

gyre_status gy_places_index(struct gy_places *places, const gy_snapshot *snapshot, gyre_error *err)
{
    GY_TRY(gy_slots_reserve(&places->slots, snapshot->points, err));
    for (size_t c = snapshot->count; c-- > 0;) { /* so that the lowest free number is the first to be taken */
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
        if (!chunk) {
            GY_TRY(reserve_free(places, 1, err));
            places->free[places->free_count++] = (uint32_t)c;
            continue;
        }
        for (size_t place = 0; place < chunk->rows; place++) {
            uint32_t slot = (uint32_t)(c * GY_CHUNK_ROWS + place), other;
            const gyre_point_id *id = &chunk->ids[place];
            if (!gy_chunk_holds(&snapshot->codebook->layout, chunk, place))
                continue;
            if (gy_slots_find(&places->slots, snapshot, id, &other)) {
                char text[GYRE_UUID_TEXT_BYTES];
                return gyre_fail(err, GYRE_CORRUPT, "point %s is in slots %u and %u", gyre_point_id_format(id, text), other,
                                 slot);
            }
            gy_slots_enter(&places->slots, id, slot);
        }
    }
    return GYRE_OK;
}

bool gy_places_find(const struct gy_places *places, const gy_snapshot *snapshot, const gyre_point_id *id, uint32_t *slot)
{
    return gy_slots_find(&places->slots, snapshot, id, slot);
}

uint32_t gy_places_take_number(struct gy_places *places, const gy_snapshot *snapshot)
{
    return places->free_count ? places->free[--places->free_count] : (uint32_t)snapshot->count;
}

void gy_places_free_number(struct gy_places *places, uint32_t number)
{
    places->free[places->free_count++] = number;
}

static gyre_status new_chunk(struct gy_places *places, gy_snapshot *snapshot, uint32_t list, uint32_t *number, gyre_error *err)
{
    struct gy_chunk *chunk = gy_chunk_new(&snapshot->codebook->layout, list, 1);
    *number = gy_places_take_number(places, snapshot);
    if (chunk)
        chunk->mirror = gy_segment_new(places->vectors); /* or none */
    if (chunk && gy_snapshot_add(snapshot, *number, chunk))
        return GYRE_OK;
    gy_chunk_release(chunk);
    return gyre_fail(err, GYRE_NO_MEMORY, "chunk %u", *number);
}

gyre_status gy_places_put(struct gy_places *places, gy_snapshot *snapshot, uint32_t list, const gyre_point_id *id,
                          const uint8_t *row, uint32_t *slot, gyre_error *err)
{
    uint32_t number = gy_snapshot_last(snapshot, list);
    if (number == UINT32_MAX || gy_snapshot_at(snapshot, number)->rows == GY_CHUNK_ROWS)
        GY_TRY(new_chunk(places, snapshot, list, &number, err));
    size_t place;
    if (!gy_snapshot_append(snapshot, number, id, row, &place))
        return gyre_fail(err, GYRE_NO_MEMORY, "chunk %u", number);
    *slot = (uint32_t)(number * GY_CHUNK_ROWS + place);
    gy_slots_enter(&places->slots, id, *slot);
    return GYRE_OK;
}

gyre_status gy_places_remove(struct gy_places *places, gy_snapshot *snapshot, const gyre_point_id *id, uint32_t slot,
                             gyre_error *err)
{
    if (!gy_snapshot_clear(snapshot, slot / GY_CHUNK_ROWS, slot % GY_CHUNK_ROWS))
        return gyre_fail(err, GYRE_NO_MEMORY, "chunk %u", slot / GY_CHUNK_ROWS);
    gy_slots_remove(&places->slots, id, slot);
    return GYRE_OK;
}

gyre_status gy_places_drop(struct gy_places *places, gy_snapshot *snapshot, uint32_t number, gyre_error *err)
{
    GY_TRY(reserve_free(places, 1, err));
    if (!gy_snapshot_drop(snapshot, number))
        return gyre_fail(err, GYRE_NO_MEMORY, "list of chunk %u", number);
    gy_places_free_number(places, number);
    return GYRE_OK;
}

size_t gy_places_bytes(const struct gy_places *places)
{
    return gy_slots_bytes(&places->slots) + places->free_room * sizeof *places->free;
}
