/* rows: what the points of a replica need of its store: batches, reads by key, walks. Only index/ and store/ include this.
 *
 * Points, vectors, codes and the applied seq are written without RocksDB's write-ahead log: the replica's own log already
 * holds every operation, synced, and rebuilds them. This is right because the store flushes all families as one atom
 * (atomic_flush): whatever a crash leaves is the state at one applied seq, and replaying the log from there gives the rest.
 * Writing each vector twice to a log, synced once, would buy nothing.
 * Threads  reads and commits: any; batches: one owner each */
#ifndef GY_ROWS_H
#define GY_ROWS_H

#include "store/store.h"

/* Values travel (copy.h). */
enum gy_family {
    GY_FAMILY_META,
    GY_FAMILY_LOG,
    GY_FAMILY_POINTS,
    GY_FAMILY_VECTORS,
    GY_FAMILY_CODES,
    GY_FAMILY_PAYLOAD_INDEX, /* reserved for filters; nothing is in it yet */
    GY_FAMILY_REQUESTS,      /* be64 seq → client, request, deleted: those that are recognised when they are sent again */
    GY_FAMILY_COUNT,
};

/* Name of a family on disk. */
const char *gy_family_name(enum gy_family family);

/* Bytes lent by the store or to it. */
struct gy_slice {
    const void *data;
    size_t bytes;
};

/* ---- batches ---- */
typedef struct gy_batch gy_batch;
gy_batch *gy_batch_new(void);
void gy_batch_free(gy_batch *batch);
GY_AUTO_DEFINE(gy_batch, gy_batch_free)
void gy_batch_clear(gy_batch *batch);
/* Copies. Later records win over earlier ones. */
void gy_batch_put(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice key, struct gy_slice value);
/* The value is the pieces (at most 4) one after the other. */
void gy_batch_put_pieces(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice key,
                         const struct gy_slice *pieces, size_t count);
void gy_batch_delete(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice key);
/* from <= key < to */
void gy_batch_delete_range(gy_batch *batch, gy_store *store, enum gy_family family, struct gy_slice from, struct gy_slice to);

/* requests.c */
void gy_batch_put_requests(gy_batch *batch, gy_store *store, const struct gy_request_changes *changes);

/* Writes a batch as one atom, not synced (see above). */
GYRE_CHECKED gyre_status gy_store_commit(gy_store *store, gy_batch *batch, gyre_error *err);
/* The same, with the applied seq, the number of points, the digest and what is owned (NULL: as before) that hold after it. */
GYRE_CHECKED gyre_status gy_store_commit_applied(gy_store *store, gy_batch *batch, uint64_t applied_seq, uint64_t point_count,
                                                 const struct gy_digest *digest, const struct gy_range_record *range,
                                                 gyre_error *err);
/* The same, with the codebook that the codes are in after it, and the digest of then; seq and points stay, and nobody may change
 * them meanwhile. Frees the one gy_store_codebook returned before. */
GYRE_CHECKED gyre_status gy_store_commit_codebook(gy_store *store, gy_batch *batch, const gyre_codebook *codebook,
                                                  const struct gy_digest *digest, gyre_error *err);
/* Puts everything committed on disk. */
GYRE_CHECKED gyre_status gy_store_flush(gy_store *store, gyre_error *err);
/* Number of points at the applied seq, as the last commit said. */
uint64_t gy_store_point_count(const gy_store *store);

/* A fresh copy, by way of its bytes. */
GYRE_CHECKED gyre_status gy_codebook_copy(gyre_codebook **out, const gyre_codebook *codebook, gyre_error *err);

/* ---- reads ---- */
/* A state of the store that reads can hold on to, so that reads of two families agree. */
typedef struct gy_view gy_view;
gy_view *gy_view_new(gy_store *store);
void gy_view_free(gy_view *view);
GY_AUTO_DEFINE(gy_view, gy_view_free)

/* Reads count keys of one size, lying one after the other; visit gets {NULL, 0} for a missing one, in the order of the keys;
 * the value is lent during visit. view may be NULL. cached: keep the blocks read in the cache. */
typedef gyre_status gy_on_value(void *self, size_t i, struct gy_slice value, gyre_error *err);
GYRE_CHECKED gyre_status gy_store_get_many(gy_store *store, gy_view *view, enum gy_family family, const void *keys,
                                           size_t key_bytes, size_t count, bool cached, gy_on_value *visit, void *self,
                                               gyre_error *err);

/* Walks from <= key < to (either may be {NULL, 0}: from the first, to the last), in key order, reading ahead and leaving the
 * cache alone. */
typedef gyre_status gy_on_record(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err);
GYRE_CHECKED gyre_status gy_store_walk(gy_store *store, enum gy_family family, struct gy_slice from, struct gy_slice to,
                                       gy_on_record *visit, void *self, gyre_error *err);
/* The same at a view (NULL: now). */
GYRE_CHECKED gyre_status gy_store_walk_at(gy_store *store, gy_view *view, enum gy_family family, struct gy_slice from,
                                          struct gy_slice to, gy_on_record *visit, void *self, gyre_error *err);

#endif
