/* chunk: up to GY_CHUNK_ROWS rows of one list in scan layout: header, blocks, refine rows and ids in one allocation.
 *
 * A chunk is as large as its rows need, in steps of a block, so that a short list costs little: it grows when it is copied to be
 * changed. Places are appended and never written twice; a point that goes leaves a hole behind.
 * Threads  references: any; a chunk is changed only by whoever made it, before it is published */
#ifndef GY_CHUNK_H
#define GY_CHUNK_H

#include "index/points.h"
#include "index/vectors.h"

#include <stdatomic.h>

enum {
    GY_BLOCK_ALIGN = 64,
    GY_CHUNK_BLOCKS = GY_CHUNK_ROWS / GYRE_BLOCK_ROWS,
    GY_ROW_BYTES_MAX = 5120, /* of any codec at GYRE_DIM_MAX; gy_layout_init asserts it */
};

/* Sizes of the rows of a codec at a dim. */
struct gy_layout {
    const gyre_codec *codec;
    uint32_t dim;
    size_t code_bytes, block_bytes;                     /* of the scan plane */
    size_t scan_row_bytes, refine_row_bytes, row_bytes; /* row: scan row | refine row; refine 0: the codec has one plane */
};
void gy_layout_init(struct gy_layout *layout, const gyre_codec *codec, uint32_t dim);

/* A bit a row of a chunk, a word a block. */
struct gy_mask {
    uint32_t blocks[GY_CHUNK_BLOCKS];
};
static inline bool gy_mask_has(const struct gy_mask *mask, size_t row)
{
    return mask->blocks[row / GYRE_BLOCK_ROWS] >> row % GYRE_BLOCK_ROWS & 1;
}

/* Which rows that hold a point have ids whose hashes are in range (sieve.h). */
struct gy_chunk_mask {
    struct gy_chunk_mask *next;
    struct gy_hash_range range;
    uint32_t count; /* of them */
    struct gy_mask mask;
};

/* Blocks follow it at the next aligned place (gy_chunk_blocks). */
struct gy_chunk {
    atomic_size_t references;
    uint64_t packed_seq;  /* seq that its packed value on disk covers; 0: there is none */
    uint32_t list;
    uint16_t capacity;    /* rows there is memory for, a multiple of GYRE_BLOCK_ROWS */
    uint16_t rows;        /* places ever used: the next one to append to */
    uint16_t held;        /* places that hold a point */
    uint8_t asked;        /* how urgent its compaction was when last changed: 0 not at all */
    uint16_t outstanding; /* row records on disk that are newer than the packed value */
    uint8_t *refine;      /* [capacity][refine_row_bytes] */
    gyre_point_id *ids;   /* [capacity] */
    gy_segment *mirror;   /* full vectors, by place: the same for all copies; NULL: none */
    _Atomic(struct gy_chunk_mask *) masks; /* worked out so far; a chunk that is still changed has none */
};
/* [capacity / GYRE_BLOCK_ROWS], aligned. */
static inline uint8_t *gy_chunk_blocks(const struct gy_chunk *chunk)
{
    return (uint8_t *)(uintptr_t)chunk + GY_BLOCK_ALIGN;
}

/* free() it. NULL without memory. */
void *gy_aligned_alloc(size_t bytes);

/* Bytes of a chunk with room for so many rows, as allocated. */
size_t gy_chunk_bytes(const struct gy_layout *layout, size_t capacity);
/* One reference, no rows, room for at least capacity rows (1…GY_CHUNK_ROWS). NULL without memory. */
struct gy_chunk *gy_chunk_new(const struct gy_layout *layout, uint32_t list, size_t capacity);
/* The same chunk again, with room for at least capacity rows and at least those it has. */
struct gy_chunk *gy_chunk_copy(const struct gy_layout *layout, const struct gy_chunk *chunk, size_t capacity);
struct gy_chunk *gy_chunk_hold(struct gy_chunk *chunk);
void gy_chunk_release(struct gy_chunk *chunk);

/* Puts a point into an empty place below capacity; rows grows to include it. */
void gy_chunk_set(const struct gy_layout *layout, struct gy_chunk *chunk, size_t place, const gyre_point_id *id,
                  const uint8_t *row);
/* Leaves a hole at a place below capacity; rows grows to include it. */
void gy_chunk_clear(const struct gy_layout *layout, struct gy_chunk *chunk, size_t place);
bool gy_chunk_holds(const struct gy_layout *layout, const struct gy_chunk *chunk, size_t place);
/* row [row_bytes] of a place that holds a point. */
void gy_chunk_row(const struct gy_layout *layout, const struct gy_chunk *chunk, size_t place, uint8_t *row);

#endif
