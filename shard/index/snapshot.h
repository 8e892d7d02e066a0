/* snapshot: the codes of a replica at one moment: chunks by number, and for each list the numbers of its chunks.
 *
 * Both tables are paged, and pages and chunks are shared by every snapshot they did not change in: publishing a batch costs what
 * the batch touched, not what the replica holds. The writer copies what it changes, then publishes; whoever holds a snapshot
 * keeps it whole.
 * Threads  references: any; a snapshot is changed only by whoever made it, before it is published */
#ifndef GY_SNAPSHOT_H
#define GY_SNAPSHOT_H

#include "index/chunk.h"

enum { GY_PAGE_CHUNKS = 64, GY_PAGE_LISTS = 64, GY_CHUNK_NUMBER_MAX = (1 << 30) / GY_CHUNK_ROWS /* numbers are below */ };

/* A codebook, the codec bound to it and the sizes of its rows, shared by the snapshots coded in it. */
struct gy_shared_codebook {
    atomic_size_t references;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    struct gy_layout layout;
};

/* What of a snapshot's points is owned. */
struct gy_owning {
    struct gy_range_record record;
    uint64_t foreign, beyond; /* points that are not in record.owned, not in record.content */
};

struct gy_page;
struct gy_list_page;

struct gy_snapshot {
    atomic_size_t references;
    struct gy_shared_codebook *codebook;
    uint64_t points, applied_seq;
    struct gy_digest digest;          /* of all that is applied, of which a snapshot has the codes */
    struct gy_owning owning;
    uint64_t bytes;                   /* of chunks and tables, as allocated */
    size_t count;                     /* chunk numbers: some may be free */
    size_t page_room;
    struct gy_page **pages;           /* [ceil(count / GY_PAGE_CHUNKS)] */
    struct gy_list_page **list_pages; /* [ceil(lists / GY_PAGE_LISTS)] */
};

/* Takes codebook, also on failure. */
GYRE_CHECKED gyre_status gy_shared_codebook_new(struct gy_shared_codebook **out, const gyre_codec *codec, gyre_codebook *codebook,
                                                gyre_error *err);
void gy_shared_codebook_release(struct gy_shared_codebook *codebook);

/* One reference, no chunks, a reference of its own to codebook. NULL without memory. */
gy_snapshot *gy_snapshot_new(struct gy_shared_codebook *codebook);
/* One reference; shares pages, chunks and codebook of from. */
gy_snapshot *gy_snapshot_copy(const gy_snapshot *from);
gy_snapshot *gy_snapshot_hold(gy_snapshot *snapshot);
GY_AUTO_DEFINE(gy_snapshot, gy_snapshot_release)

/* The chunk of a number, or NULL where the number is free or not yet used. */
struct gy_chunk *gy_snapshot_at(const gy_snapshot *snapshot, size_t number);
/* The list's chunk that has most room, or UINT32_MAX for a list without chunks. */
uint32_t gy_snapshot_last(const gy_snapshot *snapshot, uint32_t list);

/* What follows changes an unpublished snapshot. NULL and false: no memory, nothing changed that matters. */

/* The chunk of a number, for change: copied if others hold it, and where it has room for fewer rows than capacity. */
struct gy_chunk *gy_snapshot_own(gy_snapshot *snapshot, size_t number, size_t capacity);
/* Enters a chunk, which it takes on success, under a number that is free, and into its list. */
bool gy_snapshot_add(gy_snapshot *snapshot, size_t number, struct gy_chunk *chunk);
/* Takes a chunk out of its list and frees its number. */
bool gy_snapshot_drop(gy_snapshot *snapshot, size_t number);
/* Appends a point to a chunk that is not full; the place through place. */
bool gy_snapshot_append(gy_snapshot *snapshot, size_t number, const gyre_point_id *id, const uint8_t *row, size_t *place);
/* Makes a hole where a point was. */
bool gy_snapshot_clear(gy_snapshot *snapshot, size_t number, size_t place);

#endif
