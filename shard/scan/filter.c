/* A filter is a bitmap of slots. Slots of a chunk follow each other, so a chunk's part of it is a few words; blocks without an
 * allowed row are not scanned at all. */
#include "scan/internal.h"

#include <stdlib.h>

/* So few rows are read at once, whatever list they are in: that costs about as much as the lists of one query, and misses
 * nothing. */
enum { FEW_ROWS = 1024 };

/* Leaves of the allowed slots those that pass the sieve: from then on it need not be asked. */
static gyre_status sieve_allowed(struct gy_filter *filter, gyre_error *err)
{
    roaring_uint32_iterator_t at;
    struct gy_mask mask;
    size_t chunk = SIZE_MAX;
    filter->sieved = roaring_bitmap_create();
    if (!filter->sieved)
        return gyre_fail(err, GYRE_NO_MEMORY, "allowed rows");
    for (roaring_init_iterator(filter->allowed, &at); at.has_value; roaring_advance_uint32_iterator(&at)) {
        if (at.current_value / GY_CHUNK_ROWS != chunk) {
            chunk = at.current_value / GY_CHUNK_ROWS;
            if (chunk >= gy_snapshot_chunk_count(filter->sieve.snapshot))
                break;
            gy_sieve_mask(&filter->sieve, chunk, &mask);
        }
        if (gy_mask_has(&mask, at.current_value % GY_CHUNK_ROWS))
            roaring_bitmap_add(filter->sieved, at.current_value);
    }
    filter->allowed = filter->sieved;
    return GYRE_OK;
}

gyre_status gy_filter_init(struct gy_filter *filter, const gy_points *points, const gy_snapshot *snapshot,
                           const struct gy_scan_request *request, gyre_error *err)
{
    *filter = (struct gy_filter){.allowed = request->allowed};
    GY_TRY(gy_sieve_init(&filter->sieve, points, snapshot, request->range, err));
    return filter->allowed && !filter->sieve.passes_all ? sieve_allowed(filter, err) : GYRE_OK;
}

void gy_filter_fini(struct gy_filter *filter)
{
    if (filter->sieved)
        roaring_bitmap_free(filter->sieved);
    free(filter->counts);
}

bool gy_filter_is_few(const struct gy_filter *filter)
{
    return filter->allowed && roaring_bitmap_get_cardinality(filter->allowed) <= FEW_ROWS;
}

gyre_status gy_filter_few(const struct gy_scanning *scanning, uint32_t **slots, size_t *count, gyre_error *err)
{
    const roaring_bitmap_t *allowed = scanning->filter.allowed;
    size_t room = roaring_bitmap_get_cardinality(allowed), held = 0, chunk_count = gy_snapshot_chunk_count(scanning->snapshot);
    uint32_t *all = malloc((room + 1) * sizeof *all);
    if (!all)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu allowed rows", room);
    roaring_bitmap_to_uint32_array(allowed, all);
    for (size_t i = 0; i < room && all[i] / GY_CHUNK_ROWS < chunk_count; i++) {
        struct gy_chunk_view view = gy_snapshot_chunk(scanning->snapshot, all[i] / GY_CHUNK_ROWS);
        uint32_t row = all[i] % GY_CHUNK_ROWS;
        const uint8_t *block = view.blocks + row / GYRE_BLOCK_ROWS * scanning->block_bytes;
        if (row < view.rows && gyre_block_holds(scanning->code_bytes, block, row % GYRE_BLOCK_ROWS))
            all[held++] = all[i];
    }
    *slots = all, *count = held;
    return GYRE_OK;
}

static void mask_all(uint32_t rows, struct gy_mask *mask)
{
    for (uint32_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS; b++) {
        uint32_t first = b * GYRE_BLOCK_ROWS, left = rows > first ? rows - first : 0;
        mask->blocks[b] = left >= GYRE_BLOCK_ROWS ? UINT32_MAX : (1u << left) - 1;
    }
}

bool gy_filter_mask(const struct gy_filter *filter, size_t chunk, uint32_t rows, struct gy_mask *mask)
{
    uint64_t first = (uint64_t)chunk * GY_CHUNK_ROWS;
    if (!filter->allowed && !filter->sieve.passes_all)
        return gy_sieve_mask(&filter->sieve, chunk, mask) > 0;
    if (!filter->allowed || roaring_bitmap_contains_range(filter->allowed, first, first + rows)) {
        mask_all(rows, mask);
        return true;
    }
    memset(mask, 0, sizeof *mask);
    uint32_t slots[GY_CHUNK_ROWS];
    roaring_uint32_iterator_t at;
    roaring_init_iterator(filter->allowed, &at);
    if (!roaring_move_uint32_iterator_equalorlarger(&at, (uint32_t)first))
        return false;
    uint32_t count = roaring_read_uint32_iterator(&at, slots, rows), in = 0;
    for (; in < count && slots[in] < first + rows; in++) {
        uint32_t row = slots[in] - (uint32_t)first;
        mask->blocks[row / GYRE_BLOCK_ROWS] |= 1u << row % GYRE_BLOCK_ROWS;
    }
    return in > 0;
}

void gy_mask_held(const struct gy_scanning *scanning, const struct gy_chunk_view *view, struct gy_mask *mask)
{
    for (uint32_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS; b++)
        for (uint32_t left = mask->blocks[b]; left; left &= left - 1) {
            uint32_t place = (uint32_t)__builtin_ctz(left);
            if (!gyre_block_holds(scanning->code_bytes, view->blocks + b * scanning->block_bytes, place))
                mask->blocks[b] &= ~(1u << place);
        }
}

gyre_status gy_filter_count(struct gy_scanning *scanning, uint32_t list, uint64_t *count, gyre_error *err)
{
    struct gy_filter *filter = &scanning->filter;
    if (!filter->counts) {
        filter->counts = malloc(scanning->list_count * sizeof *filter->counts);
        if (!filter->counts)
            return gyre_fail(err, GYRE_NO_MEMORY, "filter over %u lists", scanning->list_count);
        memset(filter->counts, 0xff, scanning->list_count * sizeof *filter->counts);
    }
    if (filter->counts[list] == UINT32_MAX) {
        const uint32_t *chunks;
        uint64_t points;
        uint32_t held = 0;
        size_t chunk_count = gy_snapshot_list(scanning->snapshot, list, &chunks, &points);
        for (size_t i = 0; i < chunk_count; i++) {
            struct gy_chunk_view view = gy_snapshot_chunk(scanning->snapshot, chunks[i]);
            struct gy_mask mask;
            if (!gy_filter_mask(filter, chunks[i], view.rows, &mask))
                continue;
            if (filter->allowed) /* what passed the sieve is held */
                gy_mask_held(scanning, &view, &mask);
            for (size_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS; b++)
                held += (uint32_t)__builtin_popcount(mask.blocks[b]);
        }
        filter->counts[list] = held;
    }
    *count = filter->counts[list];
    return GYRE_OK;
}
