/* store: one replica on disk: a RocksDB of its own, so that it can be checkpointed, shipped, checked and dropped alone.
 *
 * Column families: meta (identity, format version, configuration, applied seq, codebook), log (be64 seq → epoch, entry), points
 * (id → version, payload), vectors (id → f32[dim]), codes (packed blocks and the rows written since), payload index.
 * Durable at once are log appends and configurations; what is applied is rebuilt from the log after a crash, because the applied
 * seq is in the same batch as what it describes. RocksDB's words are translated here, once.
 * Bytes    shard/store/README.md          Threads  any, but one writer at a time (the replica's thread) */
#ifndef GY_STORE_H
#define GY_STORE_H

#include "gyre/codebook.h"
#include "gyre/codec.h"
#include "gyre/point_id.h"
#include "gyre/shard_config.h"

typedef struct gy_store gy_store;
typedef struct gy_store_env gy_store_env; /* what the replicas of a node share: block cache, background threads, rate limiter */

GYRE_CHECKED gyre_status gy_store_env_new(gy_store_env **out, uint64_t cache_bytes, gyre_error *err);
void gy_store_env_free(gy_store_env *env);

struct gy_store_identity {
    uint64_t collection_id;
    uint32_t shard;
    char collection[65]; /* its name, for people */
};

/* Creates a replica in a directory that does not exist yet, with seq 0, this codec (a name of libgyrecodec, of a codec with
 * signs) and this codebook, as one of config's members: what kind that is, is fixed with it. It owns config's range if that is
 * the shard's first configuration, else everything: its log will say what of that is no more. Synced before it returns. */
GYRE_CHECKED gyre_status gy_store_create(gy_store **out, gy_store_env *env, const char *path,
                                         const struct gy_store_identity *identity, uint32_t member,
                                         const struct gy_shard_config *config, const char *codec, const gyre_codebook *codebook,
                                         gyre_error *err);
/* Opens one. GYRE_CORRUPT if the write-ahead log or a file is damaged; only a torn last record of the log, a write that was never
 * acknowledged, is passed over. GYRE_UNIMPLEMENTED for another format version. */
GYRE_CHECKED gyre_status gy_store_open(gy_store **out, gy_store_env *env, const char *path, gyre_error *err);
void gy_store_close(gy_store *store);
GY_AUTO_DEFINE(gy_store, gy_store_close)
/* Deletes a closed replica's directory. */
GYRE_CHECKED gyre_status gy_store_destroy(const char *path, gyre_error *err);
/* Makes durable that path came, went or was renamed. */
GYRE_CHECKED gyre_status gy_directory_sync_parent(const char *path, gyre_error *err);

const struct gy_store_identity *gy_store_identity(const gy_store *store);
const char *gy_store_path(const gy_store *store);
const gyre_codebook *gy_store_codebook(const gy_store *store); /* the one the codes on disk are in; valid until it is switched */
const gyre_codec *gy_store_codec(const gy_store *store); /* replicas made before there was a choice have rabitq1 */
uint32_t gy_store_member(const gy_store *store); /* which of the shard's members it is; the configuration may have dropped it */
bool gy_store_quantized(const gy_store *store);  /* it holds codes and payloads, no full vectors */
void gy_store_config(const gy_store *store, struct gy_shard_config *out);
uint64_t gy_store_epoch(const gy_store *store);  /* of the configuration */
/* Synced before it returns. GYRE_INVALID for what can be no configuration, GYRE_PRECONDITION for an older epoch than there is. */
GYRE_CHECKED gyre_status gy_store_set_config(gy_store *store, const struct gy_shard_config *config, gyre_error *err);
uint64_t gy_store_applied_seq(const gy_store *store);

/* ---- digest: what is applied, in a few bytes ---- */
struct gy_sum {
    uint64_t low, high; /* of a number mod 2^128 */
};

/* Sums over all points of the hashes of what each has (index/digest.h): equal on every replica that holds the same, however it came
 * to it and wherever it lies. */
struct gy_digest {
    struct gy_sum points;  /* id, version, payload */
    struct gy_sum codes;   /* id, list, row; of one codebook version */
    struct gy_sum vectors; /* id, vector; 0 on a quantized replica */
};
/* Of the applied seq, as it was committed. */
void gy_store_digest(const gy_store *store, struct gy_digest *out);

/* ---- which points are its own ---- */

/* Part of the applied state, as points are. A replica made before there was such a record owns everything. */
struct gy_range_record {
    struct gy_hash_range owned;          /* what the replica answers for */
    struct gy_hash_range content;        /* of which it has every point: owned, and more until the others begin to be deleted */
    uint8_t hash_key[GY_HASH_KEY_BYTES]; /* of those hashes; of no meaning while everything is owned */
    bool foreign;                        /* there may be points that are not owned */
};
/* Of the applied seq, as it was committed. */
void gy_store_range(const gy_store *store, struct gy_range_record *out);
/* The key of the hashes of ids: what is owned goes by it or, while that is everything, the configuration's. false: nobody has
 * told the replica one (a key of zeros in the configuration is none). */
bool gy_store_hash_key(const gy_store *store, const struct gy_range_record *record, uint8_t key[GY_HASH_KEY_BYTES]);

/* ---- requests that are recognised when they are sent again ---- */
enum { GY_CLIENT_BYTES = 16 };

/* A write that was applied, as the entry of a seq: which client's, and what it was answered. */
struct gy_request {
    uint64_t seq;
    uint8_t client[GY_CLIENT_BYTES];
    uint64_t request; /* number the client gave it */
    uint64_t deleted; /* delete operations whose point was there */
};

/* What a batch changes about them: part of the applied state, as points are. */
struct gy_request_changes {
    struct gy_request *noted;  /* [noted_count] ascending seqs */
    size_t noted_count, noted_room;
    uint64_t *forgotten;       /* [forgotten_count] seqs, perhaps some of noted */
    size_t forgotten_count, forgotten_room;
};

/* Visits those kept, in the order of seqs. GYRE_CORRUPT for a record that is none. */
typedef gyre_status gy_on_request(void *self, const struct gy_request *request, gyre_error *err);
GYRE_CHECKED gyre_status gy_store_requests(gy_store *store, gy_on_request *visit, void *self, gyre_error *err);

/* ---- damage ---- */
/* Says in the replica's directory that what it holds proved damaged: gy_store_open refuses it from then on (GYRE_CORRUPT, with this
 * sentence), until the file is deleted by hand or the directory with it. */
GYRE_CHECKED gyre_status gy_store_mark_damaged(const char *path, const char *why, gyre_error *err);
/* The sentence; "" if there is none. */
void gy_store_damage(const char *path, char *text, size_t bytes);

/* ---- to be checked ---- */
/* An environment whose reads go to the disk, past every cache where the file system of path has a way. */
GYRE_CHECKED gyre_status gy_store_env_new_to_check(gy_store_env **out, const char *path, gyre_error *err);
/* Opens what nobody else may write to, whatever was found of it before, and writes nothing. */
GYRE_CHECKED gyre_status gy_store_open_to_check(gy_store **out, gy_store_env *env, const char *path, gyre_error *err);
/* Makes a directory that has the files of now, in a moment: they are linked, and what is in memory is flushed first. It must not be
 * there, and is deleted with gy_store_still_remove. On the same file system. */
GYRE_CHECKED gyre_status gy_store_still(gy_store *store, char **path, gyre_error *err);
/* Deletes it, and the path. NULL is fine. */
void gy_store_still_remove(char *path);
/* GYRE_PRECONDITION if a process has the replica at path open. */
GYRE_CHECKED gyre_status gy_store_check_unused(const char *path, gyre_error *err);
/* Remembers, by the time of a file, that the replica was checked now; and when that was or, before the first time, when it was
 * made: seconds of the wall clock, 0: not known. */
void gy_store_note_checked(const char *path);
int64_t gy_store_checked_at(const char *path);
/* Bytes of the files of a directory. */
uint64_t gy_store_disk_bytes(const char *path);
/* The last entry trimmed away: the log begins behind it. */
void gy_store_log_base(const gy_store *store, uint64_t *epoch, uint64_t *seq);

/* ---- log ---- */
struct gy_log_entry {
    uint64_t epoch, seq;
    const uint8_t *body;
    size_t bytes;
};
/* Appends entries of consecutive seqs in one synced write. cut: the first may be at or below the last there is; then the entries
 * from it on are taken out in the same write, and the log ends with the new ones. GYRE_INTERNAL if that would take out what is
 * applied. On failure nothing may be assumed: the replica must stop writing. */
GYRE_CHECKED gyre_status gy_store_log_append(gy_store *store, const struct gy_log_entry *entries, size_t count, bool cut,
                                             gyre_error *err);
/* (0,0) for an empty log that was never written; after trimming, the last entry is still known. */
void gy_store_log_last(gy_store *store, uint64_t *epoch, uint64_t *seq);
/* The epochs of the log, ascending: starts [room], room at least 1; the first is that of the last entry trimmed, {0, 0} if there
 * is none, or, if there are more than room, the oldest of the newest. GYRE_CORRUPT if epochs do not ascend with seqs. */
GYRE_CHECKED gyre_status gy_store_log_starts(gy_store *store, struct gy_epoch_start *starts, size_t room, size_t *count,
                                             gyre_error *err);
/* Calls visit for each entry with seq >= from, in order; a gap is GYRE_CORRUPT. visit's failure ends the walk. */
GYRE_CHECKED gyre_status gy_store_log_read(gy_store *store, uint64_t from,
                                           gyre_status (*visit)(void *self, const struct gy_log_entry *entry, gyre_error *err),
                                               void *self, gyre_error *err);
/* Forgets entries below seq (which must be applied, and the applied state synced, before it is called). */
GYRE_CHECKED gyre_status gy_store_log_trim(gy_store *store, uint64_t below, gyre_error *err);

#endif
