/* A reference that is dropped is dropped with release and the last one acquires, so that what every holder read happens
 * before the memory is given back. */
#include "index/snapshot.h"

#include <assert.h>
#include <stdlib.h>

static void hold(atomic_size_t *references)
{
    atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
}

static bool was_last(atomic_size_t *references)
{
    return atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1;
}

void *gy_aligned_alloc(size_t bytes)
{
    return aligned_alloc(GY_BLOCK_ALIGN, (bytes + GY_BLOCK_ALIGN - 1) / GY_BLOCK_ALIGN * GY_BLOCK_ALIGN);
}

/* ---- the codec ---- */
const gyre_codec *gy_replica_codec(void)
{
    const gyre_codec *codec = NULL;
    gyre_status status = gyre_codec_find(&codec, "rabitq1", NULL);
    assert(status == GYRE_OK);
    return codec;
}

size_t gy_replica_code_bytes(uint32_t dim) { return gyre_codec_scan_code_bytes(gy_replica_codec(), dim); }
size_t gy_replica_row_bytes(uint32_t dim) { return gyre_codec_row_bytes(gy_replica_codec(), dim); }

/* ---- chunks: header, blocks and ids in one allocation ---- */
_Static_assert(sizeof(struct gy_chunk) <= GY_BLOCK_ALIGN, "blocks follow the header at the next aligned place");

static size_t blocks_bytes(uint32_t dim)
{
    return gyre_block_bytes(gy_replica_code_bytes(dim)) * (GY_CHUNK_ROWS / GYRE_BLOCK_ROWS);
}

size_t gy_chunk_bytes(uint32_t dim)
{
    return blocks_bytes(dim) + sizeof(gyre_point_id) * GY_CHUNK_ROWS;
}

static struct gy_chunk *allocate(uint32_t dim)
{
    uint8_t *memory = gy_aligned_alloc(GY_BLOCK_ALIGN + gy_chunk_bytes(dim));
    if (!memory)
        return NULL;
    struct gy_chunk *chunk = (struct gy_chunk *)memory;
    atomic_init(&chunk->references, 1);
    chunk->held = 0;
    chunk->blocks = memory + GY_BLOCK_ALIGN;
    chunk->ids = (gyre_point_id *)(chunk->blocks + blocks_bytes(dim));
    return chunk;
}

struct gy_chunk *gy_chunk_new(uint32_t dim)
{
    struct gy_chunk *chunk = allocate(dim);
    if (!chunk)
        return NULL;
    for (size_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS; b++)
        gyre_block_init(gy_replica_code_bytes(dim), chunk->blocks + b * gyre_block_bytes(gy_replica_code_bytes(dim)));
    memset(chunk->ids, 0, sizeof(gyre_point_id) * GY_CHUNK_ROWS);
    return chunk;
}

struct gy_chunk *gy_chunk_copy(const struct gy_chunk *from, uint32_t dim)
{
    struct gy_chunk *chunk = allocate(dim);
    if (!chunk)
        return NULL;
    chunk->held = from->held;
    memcpy(chunk->blocks, from->blocks, gy_chunk_bytes(dim));
    return chunk;
}

void gy_chunk_release(struct gy_chunk *chunk)
{
    if (chunk && was_last(&chunk->references))
        free(chunk);
}

static uint8_t *block_of(const struct gy_chunk *chunk, uint32_t dim, size_t place)
{
    return chunk->blocks + place / GYRE_BLOCK_ROWS * gyre_block_bytes(gy_replica_code_bytes(dim));
}

bool gy_chunk_holds(const struct gy_chunk *chunk, uint32_t dim, size_t place)
{
    return gyre_block_holds(gy_replica_code_bytes(dim), block_of(chunk, dim, place), place % GYRE_BLOCK_ROWS);
}

void gy_chunk_row(const struct gy_chunk *chunk, uint32_t dim, size_t place, uint8_t *row)
{
    gyre_block_get(gy_replica_code_bytes(dim), block_of(chunk, dim, place), place % GYRE_BLOCK_ROWS, row);
}

void gy_chunk_set(struct gy_chunk *chunk, uint32_t dim, size_t place, const gyre_point_id *id, const uint8_t *row)
{
    if (!gy_chunk_holds(chunk, dim, place))
        chunk->held++;
    gyre_block_set(gy_replica_code_bytes(dim), block_of(chunk, dim, place), place % GYRE_BLOCK_ROWS, row);
    chunk->ids[place] = *id;
}

void gy_chunk_clear(struct gy_chunk *chunk, uint32_t dim, size_t place)
{
    if (!gy_chunk_holds(chunk, dim, place))
        return;
    gyre_block_clear(gy_replica_code_bytes(dim), block_of(chunk, dim, place), place % GYRE_BLOCK_ROWS);
    chunk->ids[place] = (gyre_point_id){0};
    chunk->held--;
}

/* ---- codebooks ---- */
gyre_status gy_shared_codebook_new(struct gy_shared_codebook **out, gyre_codebook *codebook, gyre_error *err)
{
    struct gy_shared_codebook *shared = malloc(sizeof *shared);
    gyre_quantizer *quantizer = NULL;
    gyre_status status = shared ? gyre_quantizer_new(&quantizer, gy_replica_codec(), codebook, err)
                                : gyre_fail(err, GYRE_NO_MEMORY, "codebook");
    if (status != GYRE_OK) {
        free(shared);
        gyre_codebook_free(codebook);
        return status;
    }
    atomic_init(&shared->references, 1);
    shared->codebook = codebook;
    shared->quantizer = quantizer;
    *out = shared;
    return GYRE_OK;
}

void gy_shared_codebook_release(struct gy_shared_codebook *codebook)
{
    if (!codebook || !was_last(&codebook->references))
        return;
    gyre_quantizer_free(codebook->quantizer);
    gyre_codebook_free(codebook->codebook);
    free(codebook);
}

/* ---- snapshots ---- */
gy_snapshot *gy_snapshot_new(struct gy_shared_codebook *codebook, size_t room)
{
    gy_snapshot *snapshot = malloc(sizeof *snapshot + room * sizeof *snapshot->chunks);
    if (!snapshot)
        return NULL;
    atomic_init(&snapshot->references, 1);
    hold(&codebook->references);
    snapshot->codebook = codebook;
    snapshot->points = snapshot->applied_seq = 0;
    snapshot->count = 0;
    snapshot->room = room;
    return snapshot;
}

gy_snapshot *gy_snapshot_copy(const gy_snapshot *from, size_t room)
{
    gy_snapshot *snapshot = gy_snapshot_new(from->codebook, room > from->count ? room : from->count);
    if (!snapshot)
        return NULL;
    snapshot->points = from->points;
    snapshot->applied_seq = from->applied_seq;
    snapshot->count = from->count;
    for (size_t i = 0; i < from->count; i++) {
        hold(&from->chunks[i]->references);
        snapshot->chunks[i] = from->chunks[i];
    }
    return snapshot;
}

gy_snapshot *gy_snapshot_hold(gy_snapshot *snapshot)
{
    hold(&snapshot->references);
    return snapshot;
}

void gy_snapshot_release(gy_snapshot *snapshot)
{
    if (!snapshot || !was_last(&snapshot->references))
        return;
    for (size_t i = 0; i < snapshot->count; i++)
        gy_chunk_release(snapshot->chunks[i]);
    gy_shared_codebook_release(snapshot->codebook);
    free(snapshot);
}

struct gy_chunk *gy_snapshot_own(gy_snapshot *snapshot, uint32_t dim, size_t i)
{
    assert(i <= snapshot->count && i < snapshot->room);
    struct gy_chunk *old = i < snapshot->count ? snapshot->chunks[i] : NULL;
    /* The one reference is this snapshot's: nobody else can come by the chunk. */
    if (old && atomic_load_explicit(&old->references, memory_order_acquire) == 1)
        return old;
    struct gy_chunk *chunk = old ? gy_chunk_copy(old, dim) : gy_chunk_new(dim);
    if (!chunk)
        return NULL;
    snapshot->chunks[i] = chunk;
    if (old)
        gy_chunk_release(old);
    else
        snapshot->count++;
    return chunk;
}

size_t gy_snapshot_chunk_count(const gy_snapshot *snapshot)
{
    return snapshot->count;
}

struct gy_chunk_view gy_snapshot_chunk(const gy_snapshot *snapshot, size_t i)
{
    assert(i < snapshot->count);
    return (struct gy_chunk_view){snapshot->chunks[i]->blocks, snapshot->chunks[i]->ids};
}

const gyre_codebook *gy_snapshot_codebook(const gy_snapshot *snapshot)
{
    return snapshot->codebook->codebook;
}

const gyre_quantizer *gy_snapshot_quantizer(const gy_snapshot *snapshot)
{
    return snapshot->codebook->quantizer;
}

uint64_t gy_snapshot_count(const gy_snapshot *snapshot)
{
    return snapshot->points;
}

uint64_t gy_snapshot_applied_seq(const gy_snapshot *snapshot)
{
    return snapshot->applied_seq;
}
