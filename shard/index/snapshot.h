/* snapshot: the codes of a replica in RAM, in scan layout: an immutable array of chunks, each shared by every snapshot it did
 * not change in. The writer copies what it changes, then publishes; whoever holds a snapshot keeps it whole.
 * Threads  reference counts: any; a chunk or snapshot is changed only by whoever made it, before it is published */
#ifndef GY_SNAPSHOT_H
#define GY_SNAPSHOT_H

#include "index/points.h"

#include <stdatomic.h>

enum { GY_BLOCK_ALIGN = 64, GY_ROW_BYTES_MAX = 640 /* at GYRE_DIM_MAX; asserted at open */ };

struct gy_chunk {
    atomic_size_t references;
    uint32_t held;      /* places that hold a point */
    uint8_t *blocks;    /* GY_CHUNK_ROWS / GYRE_BLOCK_ROWS blocks, aligned */
    gyre_point_id *ids; /* [GY_CHUNK_ROWS] */
};

/* A codebook that the snapshots coded in it share. */
struct gy_shared_codebook {
    atomic_size_t references;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer; /* of the replicas' codec */
};

struct gy_snapshot {
    atomic_size_t references;
    struct gy_shared_codebook *codebook;
    uint64_t points, applied_seq;
    size_t count, room; /* chunks */
    struct gy_chunk *chunks[];
};

/* free() it. NULL without memory. */
void *gy_aligned_alloc(size_t bytes);

/* Bytes a chunk takes: blocks and ids. */
size_t gy_chunk_bytes(uint32_t dim);
/* One reference, every place empty; NULL without memory. */
struct gy_chunk *gy_chunk_new(uint32_t dim);
struct gy_chunk *gy_chunk_copy(const struct gy_chunk *chunk, uint32_t dim);
void gy_chunk_release(struct gy_chunk *chunk);
/* Changes a place and keeps held right. */
void gy_chunk_set(struct gy_chunk *chunk, uint32_t dim, size_t place, const gyre_point_id *id, const uint8_t *row);
void gy_chunk_clear(struct gy_chunk *chunk, uint32_t dim, size_t place);
bool gy_chunk_holds(const struct gy_chunk *chunk, uint32_t dim, size_t place);
void gy_chunk_row(const struct gy_chunk *chunk, uint32_t dim, size_t place, uint8_t *row);

/* Takes codebook, also on failure. */
GYRE_CHECKED gyre_status gy_shared_codebook_new(struct gy_shared_codebook **out, gyre_codebook *codebook, gyre_error *err);
void gy_shared_codebook_release(struct gy_shared_codebook *codebook);

/* One reference; shares the chunks and the codebook of from, with places for room chunks at least. */
gy_snapshot *gy_snapshot_copy(const gy_snapshot *from, size_t room);
/* One reference, no chunks, a reference of its own to codebook. */
gy_snapshot *gy_snapshot_new(struct gy_shared_codebook *codebook, size_t room);
gy_snapshot *gy_snapshot_hold(gy_snapshot *snapshot);
GY_AUTO_DEFINE(gy_snapshot, gy_snapshot_release)
/* The chunk at i of an unpublished snapshot, for change: copied if others hold it, made if i is the first one missing.
 * NULL without memory. */
struct gy_chunk *gy_snapshot_own(gy_snapshot *snapshot, uint32_t dim, size_t i);

#endif
