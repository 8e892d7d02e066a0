/* points: what a replica holds: vectors and payloads on disk, codes on disk and in RAM. Committed operations go in by the one
 * thread that orders them; reads and scans may come from any thread at any time and see whole batches only.
 *
 * Codes live in RAM in chunks of at most GY_CHUNK_ROWS rows of one list, in scan layout. A writer copies the chunks it changes
 * and publishes a new immutable snapshot; a scan holds the snapshot it began with, so nobody waits for anybody. A place of a
 * chunk is written once: upserts append to the list's last chunk, deletes and overwrites leave a hole, and chunks with many holes
 * are compacted in the background into new ones.
 * Full vectors are mirrored, slot by slot, in an unlinked file that is mapped (vectors.h): the kernel keeps what is hot, RocksDB
 * stays the store of record and answers for what is not there yet.
 * On disk a full chunk is one packed value with the seq it covers, rows written since are single records; both carry the
 * codebook's version. A newer codebook is built beside the old one from the full vectors, in the background, and switched to
 * in one batch; searches never stop, a crash leaves the old one.
 * Threads  gy_points_apply, _narrow, _forget, _close: the replica's thread; everything else: any */
#ifndef GY_POINTS_H
#define GY_POINTS_H

#include "gyre/query.h"
#include "store/store.h"

enum { GY_CHUNK_ROWS = 256 };

typedef struct gy_points gy_points;

/* The codec of the replica's rows (gyre_quantizer_encode_list), fixed when it was made (gy_store_create): one that has signs. */
const gyre_codec *gy_points_codec(const gy_points *points);

/* A full replica is given the vector of an upsert; a quantized one, which never sees it, what gy_points_encode made of it. Neither
 * of both: a delete. */
struct gy_operation {
    gyre_point_id id;
    const float *vector;       /* [dim]; full replicas only */
    const char *payload;       /* JSON text; "" for none; ignored for a delete */
    const uint8_t *row;        /* [gy_points_row_bytes]; quantized replicas only, as are the two that say what it is: */
    uint32_t list;
    uint32_t codebook_version;
};

/* Loads blocks and rows of the store into RAM. Borrows store. The caller then applies the log from applied_seq + 1.
 * A quantized replica (gy_store_quantized) has codes and payloads; what needs full vectors is GYRE_PRECONDITION on it: reading
 * and ranking them, sums, samples, a newer codebook. */
GYRE_CHECKED gyre_status gy_points_open(gy_points **out, gy_store *store, gyre_error *err);
/* Stops re-encoding and packing, waits for both. Scans must have ended. */
void gy_points_close(gy_points *points);

/* Applies committed operations, all of ids that are owned (GYRE_INVALID, and nothing was changed), of several log entries as one
 * atomic batch: ops in order, later ones win. versions[i] is the seq
 * that operation i belongs to, ascending, applied_seq the last seq of the batch. deleted[i] is set for a delete whose point was
 * there. requests (NULL: none) go into the same batch, once how many points each deleted was filled in.
 * Vectors were checked before they were logged; a failure here is a disk that fails: the replica stops. Rows are checked here:
 * GYRE_PRECONDITION if they are of another codebook than the codes here, GYRE_INVALID for what is no row, and for a vector where
 * a row belongs or the other way round; then nothing was changed. */
GYRE_CHECKED gyre_status gy_points_apply(gy_points *points, const struct gy_operation *operations, const uint64_t *versions,
                                         size_t count, uint64_t applied_seq, struct gy_request_changes *requests, bool *deleted,
                                         gyre_error *err);
/* What a quantized member needs of vectors, in the codebook that the codes are in now.
 *   vectors  [count] addresses of vectors as the client gave them
 *   lists    [count], written
 *   rows     [count][gy_points_row_bytes], written */
GYRE_CHECKED gyre_status gy_points_encode(gy_points *points, const float *const *vectors, size_t count,
                                          uint32_t *codebook_version, uint32_t *lists, uint8_t *rows, gyre_error *err);
size_t gy_points_row_bytes(const gy_points *points);
/* Makes what is applied durable on disk, after which the log below it may be trimmed. */
GYRE_CHECKED gyre_status gy_points_flush(gy_points *points, gyre_error *err);

uint64_t gy_points_count(gy_points *points); /* of those it owns */
uint64_t gy_points_applied_seq(gy_points *points);
uint32_t gy_points_codebook_version(gy_points *points); /* of the codes that scans use now */
uint32_t gy_points_dim(gy_points *points);
gyre_metric gy_points_metric(gy_points *points);
uint64_t gy_points_ram_bytes(gy_points *points);        /* codes, ids and the table of ids, as allocated (shard/README.md) */

/* ---- which points are its own ---- */
/* A shard that is split owns fewer points from then on, and goes on holding the others, foreign ones, until they are deleted.
 * Whoever reads says of which hashes; content is what can still be asked for. What is read of one snapshot agrees. */
#define GY_RANGE_OWNED ((struct gy_hash_range){0, 0}) /* asked for: whatever is owned */

struct gy_ownership {
    struct gy_hash_range owned;   /* what the shard answers for */
    struct gy_hash_range content; /* no less than that: of which it has every point */
    uint64_t foreign;             /* points held that are not owned */
};
struct gy_ownership gy_points_ownership(gy_points *points);
bool gy_points_owns(gy_points *points, const gyre_point_id *id);
/* Whether range (GY_RANGE_OWNED: always) can be asked for, and a point of that id. */
bool gy_points_has(gy_points *points, struct gy_hash_range range);
bool gy_points_has_id(gy_points *points, const gyre_point_id *id);
/* Points in range. GYRE_ABORTED if it cannot be asked for. */
GYRE_CHECKED gyre_status gy_points_count_in(gy_points *points, struct gy_hash_range range, uint64_t *count, gyre_error *err);

/* The log entry applied_seq, applied alone as gy_points_apply does: of what is owned only range stays so. Content stays. Once
 * more it changes nothing. GYRE_INVALID, and nothing was changed, if nothing would stay or hash_key is not the one that owned
 * goes by. */
GYRE_CHECKED gyre_status gy_points_narrow(gy_points *points, struct gy_hash_range range, const uint8_t *hash_key,
                                          uint64_t applied_seq, gyre_error *err);
/* The log entry applied_seq: deletes those of ids that are not owned and passes over the others; content becomes owned. */
GYRE_CHECKED gyre_status gy_points_forget(gy_points *points, const gyre_point_id *ids, size_t count, uint64_t applied_seq,
                                          gyre_error *err);
/* Ids of foreign points, room at most, chunk by chunk; fewer only if there are no more. */
GYRE_CHECKED gyre_status gy_points_foreign(gy_points *points, gyre_point_id *ids, size_t room, size_t *count, gyre_error *err);

/* ---- digest ---- */
/* Two replicas of a shard at equal seq have equal points and vectors, at equal seq and codebook version also equal codes. What is
 * held counts, owned or not. */
struct gy_points_state {
    uint64_t applied_seq, points;
    uint32_t codebook_version;
    struct gy_digest digest;
};
struct gy_points_state gy_points_state(gy_points *points);

/* Reads the codes in RAM: GYRE_CORRUPT if their digest is not the one that was kept with the writes. inspect.h reads the disk. */
GYRE_CHECKED gyre_status gy_points_memory_check(gy_points *points, gyre_error *err);

/* Starts re-encoding to a newer codebook; a version that is not newer changes nothing. GYRE_INVALID if dim, metric or seed
 * differ, GYRE_PRECONDITION on a quantized replica: it gets its codes from a full one. Takes a copy of codebook (by
 * encode/decode). */
GYRE_CHECKED gyre_status gy_points_set_codebook(gy_points *points, const gyre_codebook *codebook, gyre_error *err);
/* Re-encoding, which writes every code anew, gives up while the disk has less free (from the start: GY_DISK_FLOOR_BYTES). */
void gy_points_limit_disk(gy_points *points, uint64_t free_min);
/* How far a re-encoding is, in points; 0 and 0 when none runs. */
void gy_points_progress(gy_points *points, uint64_t *done, uint64_t *total);
/* Why the last re-encoding failed; "" if it did not. Copies. */
void gy_points_trouble(gy_points *points, char *text, size_t bytes);
/* GYRE_CORRUPT, with the sentence, once what runs in the background met damaged data. */
GYRE_CHECKED gyre_status gy_points_damage(gy_points *points, gyre_error *err);

/* Reads points by id, in order; visit gets found = false for a missing one. vector and payload are valid during visit, NULL if
 * not wanted. visit's failure ends the read. */
struct gy_point_view {
    bool found;
    uint64_t version;
    const float *vector;
    const char *payload;
};
typedef gyre_status gy_on_point(void *self, size_t i, const struct gy_point_view *view, gyre_error *err);
GYRE_CHECKED gyre_status gy_points_read(gy_points *points, const gyre_point_id *ids, size_t count, bool with_vector,
                                        bool with_payload, gy_on_point *visit, void *self, gyre_error *err);

/* Exact distances of ids to one normalised query; +inf for a point that is not there. out [count]. */
GYRE_CHECKED gyre_status gy_points_distances(gy_points *points, const float *query, const gyre_point_id *ids, size_t count,
                                             float *out, gyre_error *err);

/* Adds every (normalised) full vector that is owned, ascending id, in double: sums [dim], zeroed here. For the collection's mean.
 * GYRE_DEADLINE once deadline_ns (GY_NEVER: none) passed. */
GYRE_CHECKED gyre_status gy_points_sum(gy_points *points, int64_t deadline_ns, double *sums, uint64_t *count, gyre_error *err);

/* ---- snapshots, for scans ---- */
typedef struct gy_snapshot gy_snapshot;
struct gy_chunk_view {
    uint32_t list;
    uint32_t rows;               /* places ever used, 1…GY_CHUNK_ROWS; some may be empty */
    const uint8_t *blocks;       /* ceil(rows / GYRE_BLOCK_ROWS) blocks of the codec's scan rows */
    const uint8_t *refine;       /* [rows][gyre_codec_list_refine_row_bytes]; NULL if the codec has one plane */
    const gyre_point_id *ids;    /* [rows]; meaningless where the block's place is empty */
};
/* The current snapshot, held until released. */
gy_snapshot *gy_points_snapshot(gy_points *points);
void gy_snapshot_release(gy_snapshot *snapshot);
size_t gy_snapshot_chunk_count(const gy_snapshot *snapshot);
struct gy_chunk_view gy_snapshot_chunk(const gy_snapshot *snapshot, size_t i); /* rows 0: nothing there (a number that is free) */
/* The chunks of a list (below gyre_codebook_lists of the snapshot's codebook), by number, and how many points they hold, owned or
 * not. */
size_t gy_snapshot_list(const gy_snapshot *snapshot, uint32_t list, const uint32_t **chunks, uint64_t *points);
const gyre_codebook *gy_snapshot_codebook(const gy_snapshot *snapshot);   /* valid while held */
const gyre_quantizer *gy_snapshot_quantizer(const gy_snapshot *snapshot); /* valid while held */
uint64_t gy_snapshot_count(const gy_snapshot *snapshot);                 /* points in it that are owned */
uint64_t gy_snapshot_applied_seq(const gy_snapshot *snapshot);

/* Exact distances of rows of a snapshot to one normalised query, read ahead of use from the mapped mirror, from RocksDB where a
 * row is not mirrored (and mirrored then).
 *   slots  [count] chunk · GY_CHUNK_ROWS + place, each of a row that the snapshot holds
 *   out    [count]; +inf where the point was deleted since and its vector is gone
 * The same bits as gy_points_distances gives. */
GYRE_CHECKED gyre_status gy_points_rank(gy_points *points, const gy_snapshot *snapshot, const float *query, const uint32_t *slots,
                                        size_t count, float *out, gyre_error *err);
/* At most count (normalised) vectors that are owned, drawn without replacement, the same for the same points and seed: vectors
 * [count][dim]; how many there are through drawn. */
GYRE_CHECKED gyre_status gy_points_sample(gy_points *points, size_t count, uint64_t seed, float *vectors, size_t *drawn,
                                          gyre_error *err);

/* Walks every full vector that is owned, ascending id, over a consistent view of the disk. For exact search. */
typedef gyre_status gy_on_vector(void *self, const gyre_point_id *id, const float *vector, gyre_error *err);
GYRE_CHECKED gyre_status gy_points_each_vector(gy_points *points, gy_on_vector *visit, void *self, gyre_error *err);

#endif
