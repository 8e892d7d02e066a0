/* state: what the files behind points.h share.
 *
 * Locks, in order: apply_mu, then mu. apply_mu is held by whoever changes what is on disk or which slot holds what: the apply of
 * a batch, and the short last step of a re-encoding. mu is held for a few instructions only. */
#ifndef GY_STATE_H
#define GY_STATE_H

#include "index/places.h"
#include "store/rows.h"

#include <pthread.h>

enum { GY_TROUBLE_BYTES = GYRE_ERROR_TEXT_BYTES };

/* Points changed while a re-encoding runs. */
struct gy_dirty {
    gyre_point_id *ids;
    size_t count, room;
};

/* Chunks that might be worth a compaction. */
struct gy_chunk_queue {
    uint32_t *numbers;
    size_t count, room;
};

struct gy_points {
    gy_store *store;
    uint32_t dim;
    gyre_metric metric;
    bool quantized;
    gy_vectors *vectors; /* NULL if quantized */

    pthread_mutex_t apply_mu;
    struct gy_places places;   /* this and below guarded by apply_mu */
    bool broken;               /* an apply failed half-way: RAM and disk may differ */
    bool tracking;             /* a re-encoding runs and wants to know what changes */
    struct gy_dirty dirty;
    struct gy_chunk_queue compaction;
    uint64_t compacted;        /* chunks rewritten since the start */

    pthread_mutex_t mu;
    pthread_cond_t wake;       /* target or closing changed */
    gy_snapshot *current;      /* this and below guarded by mu */
    gyre_codebook *target;     /* to re-encode to; NULL: nothing to do */
    uint32_t target_version;   /* newest that was asked for and has not failed; the current one when idle */
    uint64_t disk_free_min;    /* for re-encoding */
    bool compaction_wanted;    /* something was put into the queue */
    bool closing;
    char trouble[GY_TROUBLE_BYTES];
    gyre_error damage;         /* the first that was met in the background; its status is GYRE_OK: none */
    pthread_t background;

    atomic_bool is_warm;                   /* every row found at opening is mirrored, as far as there was room */

    atomic_uint_least64_t table_bytes;     /* of places, as allocated */
    atomic_uint_least64_t side_bytes;      /* of what a re-encoding builds */
    atomic_uint_least64_t progress, goal;  /* of a re-encoding: points done, points there are; 0, 0 when idle */
};

/* load.c: reads the codes of the store's codebook into a snapshot and places; deletes those of other codebooks. */
GYRE_CHECKED gyre_status gy_points_load(gy_points *points, gyre_error *err);

/* points.c: GYRE_PRECONDITION, with what is wanted, on a quantized replica. */
GYRE_CHECKED gyre_status gy_points_need_vectors(const gy_points *points, const char *what, gyre_error *err);

/* points.c: makes snapshot the current one; takes the reference. */
void gy_points_publish(gy_points *points, gy_snapshot *snapshot);
GYRE_CHECKED gyre_status gy_dirty_reserve(struct gy_dirty *dirty, size_t more, gyre_error *err);

/* compact.c, under apply_mu: has the background look at a chunk, which is the caller's to change, if it has many holes. */
void gy_compaction_ask(gy_points *points, struct gy_chunk *chunk, uint32_t number);
/* The same for all chunks of a snapshot that is about to take over, and for no others. */
void gy_compaction_ask_all(gy_points *points, gy_snapshot *snapshot);
/* Looks at one chunk that was asked for and rewrites it if that is worth it, with a neighbour if they fit in one. false: nothing
 * more to look at. Takes apply_mu itself. */
bool gy_compaction_step(gy_points *points);

/* reencode.c: re-encodes to target, which it takes. For the background thread. */
void gy_points_reencode(gy_points *points, gyre_codebook *target);

/* background.c: the thread. arg: the points. */
void *gy_points_background(void *arg);

#endif
