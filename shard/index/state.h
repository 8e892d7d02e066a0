/* state: what the files behind points.h share.
 *
 * Locks, in order: apply_mu, then mu. apply_mu is held by whoever changes what is on disk or which slot holds what: the apply of
 * a batch, and the short last step of a re-encoding. mu is held for a few instructions only. */
#ifndef GY_STATE_H
#define GY_STATE_H

#include "index/record.h"
#include "index/slots.h"

#include <pthread.h>

enum {
    /* A chunk is packed anew when so many rows were written since it was last: half a chunk, so a bulk load writes each
     * code about twice and a start reads at most half of the codes as single rows. */
    GY_PACK_ROWS = GY_CHUNK_ROWS / 2,
    GY_TROUBLE_BYTES = GYRE_ERROR_TEXT_BYTES,
};

/* Slots changed while a re-encoding runs. */
struct gy_dirty {
    uint32_t *slots;
    size_t count, room;
};

struct gy_points {
    gy_store *store;
    uint32_t dim;
    gyre_metric metric;

    pthread_mutex_t apply_mu;
    struct gy_slots slots;     /* this and below guarded by apply_mu */
    uint32_t *outstanding;     /* [outstanding_room] rows written since the chunk was packed */
    size_t outstanding_room;
    bool broken;               /* an apply failed half-way: RAM and disk may differ */
    bool tracking;             /* a re-encoding runs and wants to know what changes */
    struct gy_dirty dirty;

    pthread_mutex_t mu;
    pthread_cond_t wake;       /* target or closing changed */
    gy_snapshot *current;      /* this and below guarded by mu */
    gyre_codebook *target;     /* to re-encode to; NULL: nothing to do */
    uint32_t target_version;   /* newest that was asked for and has not failed; the current one when idle */
    uint64_t disk_free_min;    /* for re-encoding */
    bool closing;
    char trouble[GY_TROUBLE_BYTES];
    pthread_t encoder;
};

/* load.c: reads the codes of the store's codebook into a snapshot, slots and outstanding; deletes those of other codebooks. */
GYRE_CHECKED gyre_status gy_points_load(gy_points *points, gyre_error *err);
/* Room in outstanding for chunks; new ones start at 0. */
GYRE_CHECKED gyre_status gy_points_reserve_chunks(gy_points *points, size_t chunks, gyre_error *err);

/* points.c: makes snapshot the current one; takes the reference. */
void gy_points_publish(gy_points *points, gy_snapshot *snapshot);
/* Packs a chunk into a batch and, if it has any, deletes its single rows. scratch [gy_packed_bytes(dim)]. */
void gy_points_pack(gy_points *points, gy_batch *batch, const struct gy_chunk *chunk, size_t number, uint32_t codebook_version, uint64_t seq,
                    bool has_rows, uint8_t *scratch);
GYRE_CHECKED gyre_status gy_dirty_reserve(struct gy_dirty *dirty, size_t more, gyre_error *err);

/* reencode.c: the background thread. arg: the points. */
void *gy_points_encoder(void *arg);

#endif
