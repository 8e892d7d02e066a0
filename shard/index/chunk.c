/* A reference that is dropped is dropped with release and the last one acquires, so that what every holder read happens
 * before the memory is given back. */
#include "index/chunk.h"

#include <assert.h>
#include <stdlib.h>

_Static_assert(sizeof(struct gy_chunk) <= GY_BLOCK_ALIGN, "blocks follow the header at the next aligned place");

void gy_layout_init(struct gy_layout *layout, const gyre_codec *codec, uint32_t dim)
{
    assert(gyre_codec_has_signs(codec) && gyre_codec_list_row_bytes(codec, GYRE_DIM_MAX) <= GY_ROW_BYTES_MAX);
    *layout = (struct gy_layout){
        .codec = codec,
        .dim = dim,
        .code_bytes = gyre_codec_scan_code_bytes(codec, dim),
        .scan_row_bytes = gyre_codec_scan_row_bytes(codec, dim),
        .refine_row_bytes = gyre_codec_list_refine_row_bytes(codec, dim),
        .row_bytes = gyre_codec_list_row_bytes(codec, dim),
    };
    layout->block_bytes = gyre_block_bytes(layout->code_bytes);
}

static size_t aligned(size_t bytes)
{
    return (bytes + GY_BLOCK_ALIGN - 1) / GY_BLOCK_ALIGN * GY_BLOCK_ALIGN;
}

void *gy_aligned_alloc(size_t bytes)
{
    return aligned_alloc(GY_BLOCK_ALIGN, aligned(bytes));
}

static size_t whole_blocks(size_t rows)
{
    return (rows + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
}

static size_t rows_bytes(const struct gy_layout *layout, size_t capacity)
{
    return whole_blocks(capacity) * layout->block_bytes + capacity * (layout->refine_row_bytes + sizeof(gyre_point_id));
}

size_t gy_chunk_bytes(const struct gy_layout *layout, size_t capacity)
{
    return aligned(GY_BLOCK_ALIGN + rows_bytes(layout, capacity));
}

/* Refine rows are of any length, so ids come before them: both aligned as their types want. */
static struct gy_chunk *allocate(const struct gy_layout *layout, uint32_t list, size_t capacity)
{
    capacity = whole_blocks(capacity) * GYRE_BLOCK_ROWS;
    assert(capacity >= 1 && capacity <= GY_CHUNK_ROWS);
    uint8_t *memory = gy_aligned_alloc(gy_chunk_bytes(layout, capacity));
    if (!memory)
        return NULL;
    struct gy_chunk *chunk = (struct gy_chunk *)(void *)memory;
    *chunk = (struct gy_chunk){.list = list, .capacity = (uint16_t)capacity};
    atomic_init(&chunk->references, 1);
    uint8_t *ids = gy_chunk_blocks(chunk) + whole_blocks(capacity) * layout->block_bytes;
    chunk->ids = (gyre_point_id *)(void *)ids;
    chunk->refine = ids + capacity * sizeof(gyre_point_id);
    return chunk;
}

/* Empty places from a block on. */
static void init_from(const struct gy_layout *layout, struct gy_chunk *chunk, size_t block)
{
    size_t row = block * GYRE_BLOCK_ROWS, more = chunk->capacity - row;
    for (size_t b = block; b < whole_blocks(chunk->capacity); b++)
        gyre_block_init(layout->code_bytes, gy_chunk_blocks(chunk) + b * layout->block_bytes);
    memset(chunk->ids + row, 0, more * sizeof *chunk->ids);
    memset(chunk->refine + row * layout->refine_row_bytes, 0, more * layout->refine_row_bytes);
}

struct gy_chunk *gy_chunk_new(const struct gy_layout *layout, uint32_t list, size_t capacity)
{
    struct gy_chunk *chunk = allocate(layout, list, capacity);
    if (chunk)
        init_from(layout, chunk, 0);
    return chunk;
}

struct gy_chunk *gy_chunk_copy(const struct gy_layout *layout, const struct gy_chunk *from, size_t capacity)
{
    size_t blocks = whole_blocks(from->rows), rows = blocks * GYRE_BLOCK_ROWS;
    struct gy_chunk *chunk = allocate(layout, from->list, capacity > from->rows ? capacity : from->rows ? from->rows : 1);
    if (!chunk)
        return NULL;
    chunk->packed_seq = from->packed_seq;
    chunk->rows = from->rows, chunk->held = from->held, chunk->outstanding = from->outstanding;
    chunk->asked = from->asked;
    chunk->mirror = gy_segment_hold(from->mirror);
    memcpy(gy_chunk_blocks(chunk), gy_chunk_blocks(from), blocks * layout->block_bytes);
    memcpy(chunk->ids, from->ids, rows * sizeof *chunk->ids);
    memcpy(chunk->refine, from->refine, rows * layout->refine_row_bytes);
    init_from(layout, chunk, blocks);
    return chunk;
}

struct gy_chunk *gy_chunk_hold(struct gy_chunk *chunk)
{
    atomic_fetch_add_explicit(&chunk->references, 1, memory_order_relaxed);
    return chunk;
}

void gy_chunk_release(struct gy_chunk *chunk)
{
    if (!chunk || atomic_fetch_sub_explicit(&chunk->references, 1, memory_order_acq_rel) != 1)
        return;
    gy_segment_release(chunk->mirror);
    for (struct gy_chunk_mask *next, *mask = atomic_load_explicit(&chunk->masks, memory_order_relaxed); mask; mask = next) {
        next = mask->next;
        free(mask);
    }
    free(chunk);
}

static uint8_t *block_of(const struct gy_layout *layout, const struct gy_chunk *chunk, size_t place)
{
    return gy_chunk_blocks(chunk) + place / GYRE_BLOCK_ROWS * layout->block_bytes;
}

bool gy_chunk_holds(const struct gy_layout *layout, const struct gy_chunk *chunk, size_t place)
{
    return place < chunk->rows && gyre_block_holds(layout->code_bytes, block_of(layout, chunk, place), place % GYRE_BLOCK_ROWS);
}

void gy_chunk_row(const struct gy_layout *layout, const struct gy_chunk *chunk, size_t place, uint8_t *row)
{
    gyre_block_get(layout->code_bytes, block_of(layout, chunk, place), place % GYRE_BLOCK_ROWS, row);
    memcpy(row + layout->scan_row_bytes, chunk->refine + place * layout->refine_row_bytes, layout->refine_row_bytes);
}

static void reach(struct gy_chunk *chunk, size_t place)
{
    assert(place < chunk->capacity);
    if (place >= chunk->rows)
        chunk->rows = (uint16_t)(place + 1);
}

void gy_chunk_set(const struct gy_layout *layout, struct gy_chunk *chunk, size_t place, const gyre_point_id *id,
                  const uint8_t *row)
{
    if (!gy_chunk_holds(layout, chunk, place))
        chunk->held++;
    reach(chunk, place);
    gyre_block_set(layout->code_bytes, block_of(layout, chunk, place), place % GYRE_BLOCK_ROWS, row);
    memcpy(chunk->refine + place * layout->refine_row_bytes, row + layout->scan_row_bytes, layout->refine_row_bytes);
    chunk->ids[place] = *id;
}

void gy_chunk_clear(const struct gy_layout *layout, struct gy_chunk *chunk, size_t place)
{
    if (gy_chunk_holds(layout, chunk, place))
        chunk->held--;
    reach(chunk, place);
    gyre_block_clear(layout->code_bytes, block_of(layout, chunk, place), place % GYRE_BLOCK_ROWS);
    memset(chunk->refine + place * layout->refine_row_bytes, 0, layout->refine_row_bytes);
    chunk->ids[place] = (gyre_point_id){0};
}
