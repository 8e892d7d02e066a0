/* rocks: RocksDB's words, translated once, and what the store's own files share. Nothing outside store/ includes this. */
#ifndef GY_ROCKS_H
#define GY_ROCKS_H

#include "store/rows.h"

#include <pthread.h>
#include <rocksdb/c.h>

enum { GY_REQUEST_BYTES = 32 }; /* client 16, request u64, deleted u64 */

/* RocksDB insists on a family of this name; nothing is kept in it. */
#define GY_DEFAULT_FAMILY "default"

struct gy_store_env {
    rocksdb_env_t *env;
    rocksdb_cache_t *cache;  /* NULL: to check: every read goes to the disk */
    rocksdb_ratelimiter_t *limiter;
    bool direct;             /* past the kernel's cache, too */
    char *log_dir;           /* of RocksDB's own log; NULL: beside the data */
};

struct gy_store {
    gy_store_env *env;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[GY_FAMILY_COUNT];
    rocksdb_column_family_handle_t *default_family;
    rocksdb_writeoptions_t *write_synced;   /* log, configuration: on disk before the call returns */
    rocksdb_writeoptions_t *write_volatile; /* what the log can rebuild: no WAL */
    rocksdb_readoptions_t *read;            /* single keys */
    struct gy_store_identity identity;
    const gyre_codec *codec;
    uint32_t member;
    bool quantized;
    char *path;

    pthread_mutex_t mu;
    gyre_codebook *codebook; /* this and below guarded by mu */
    struct gy_shard_config config;
    uint64_t applied_seq, point_count;
    struct gy_digest digest;
    struct gy_range_record range;
    uint64_t log_base_epoch, log_base; /* last entry that was trimmed away */
    uint64_t log_epoch, log_seq;
};

/* Turns RocksDB's complaint (NULL: none) into a status and a sentence "doing: complaint", frees and resets it. */
GYRE_CHECKED gyre_status gy_rocks_check(char **complaint, gyre_error *err, const char *doing);

/* Options of the database and of a family; the caller destroys them. */
rocksdb_options_t *gy_rocks_database_options(const struct gy_store_env *env, bool create);
rocksdb_options_t *gy_rocks_family_options(const struct gy_store_env *env, enum gy_family family);

/* meta.c: keys of the meta family */
struct gy_new_replica {
    const struct gy_store_identity *identity;
    uint32_t member;
    const struct gy_shard_config *config;
};
/* Checks what a replica is to be made of; *quantized says what kind it will be. */
GYRE_CHECKED gyre_status gy_new_replica_check(const struct gy_new_replica *replica, bool *quantized, gyre_error *err);
/* Who it is, and an empty log that ends at (base_epoch, base_seq). */
void gy_meta_put_new(gy_store *store, rocksdb_writebatch_t *batch, const struct gy_new_replica *replica, bool quantized,
                     uint64_t base_epoch, uint64_t base_seq);
GYRE_CHECKED gyre_status gy_meta_write_new(gy_store *store, const struct gy_new_replica *replica, bool quantized,
                                           const gyre_codec *codec, const gyre_codebook *codebook, gyre_error *err);
GYRE_CHECKED gyre_status gy_meta_read(gy_store *store, gyre_error *err);
GYRE_CHECKED gyre_status gy_meta_read_applied(gy_store *store, const rocksdb_readoptions_t *options, uint64_t *seq,
                                              gyre_error *err);
/* What was applied last, how many points that left with which digest, and the codebook of the codes, as options sees them. */
GYRE_CHECKED gyre_status gy_meta_read_position(gy_store *store, const rocksdb_readoptions_t *options, uint64_t *epoch,
                                               uint64_t *seq, uint64_t *points, struct gy_digest *digest,
                                               uint32_t *codebook_version, gyre_error *err);
GYRE_CHECKED gyre_status gy_meta_read_range(gy_store *store, const rocksdb_readoptions_t *options, struct gy_range_record *range,
                                            gyre_error *err);
/* Whether a record belongs to the applied state, not to the replica: it is copied to others. */
bool gy_meta_is_state(struct gy_slice key);
/* Takes such a record from elsewhere, checked, into a store that has none of it, and puts it into the batch. */
GYRE_CHECKED gyre_status gy_meta_take_state(gy_store *store, rocksdb_writebatch_t *batch, struct gy_slice key,
                                            struct gy_slice value, gyre_error *err);
/* Whether all of them were taken and say that seq is applied; GYRE_CORRUPT names what is missing. */
GYRE_CHECKED gyre_status gy_meta_state_whole(const gy_store *store, uint64_t seq, gyre_error *err);
void gy_meta_put_log_base(gy_store *store, rocksdb_writebatch_t *batch, uint64_t epoch, uint64_t seq);
void gy_meta_put_applied(gy_store *store, rocksdb_writebatch_t *batch, uint64_t applied_seq, uint64_t point_count,
                         const struct gy_digest *digest);
void gy_meta_put_range(gy_store *store, rocksdb_writebatch_t *batch, const struct gy_range_record *range);
GYRE_CHECKED gyre_status gy_meta_put_codebook(gy_store *store, rocksdb_writebatch_t *batch, const gyre_codebook *codebook,
                                              gyre_error *err);

/* config.c: a configuration's bytes: GY_CONFIG_BYTES_MAX at most, README.md, "Bytes". */
enum { GY_CONFIG_BYTES_MAX = 80 + GY_MEMBERS_MAX * (7 + GY_MEMBER_NODE_BYTES_MAX) + 8 };
size_t gy_config_encode(const struct gy_shard_config *config, uint8_t out[GY_CONFIG_BYTES_MAX]);
GYRE_CHECKED gyre_status gy_config_decode(struct gy_shard_config *out, const uint8_t *data, size_t bytes, gyre_error *err);

/* open.c: an empty database at a path that is not there, without a record. */
GYRE_CHECKED gyre_status gy_store_make(gy_store **out, gy_store_env *env, const char *path, gyre_error *err);

/* still.c: makes a directory, which must not be there, with links to the files of now; what is in memory is flushed first. */
GYRE_CHECKED gyre_status gy_store_link(gy_store *store, const char *path, gyre_error *err);

/* log.c: finds the last entry; called once at open, after gy_meta_read. */
GYRE_CHECKED gyre_status gy_log_find_last(gy_store *store, gyre_error *err);

/* The epoch of the entry of a seq, as options sees it. */
GYRE_CHECKED gyre_status gy_log_epoch_at(gy_store *store, const rocksdb_readoptions_t *options, uint64_t seq, uint64_t *epoch,
                                         gyre_error *err);

static inline void gy_store_u32_be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v;
}

/* directory.c */
/* path's sibling ".<name>.<suffix>"; malloc'ed. Hidden, so that whoever lists replicas does not see half of one. */
GYRE_CHECKED gyre_status gy_directory_hidden(char **out, const char *path, const char *suffix, gyre_error *err);
/* Deletes a directory with all that is in it; fine if it is not there. */
GYRE_CHECKED gyre_status gy_directory_remove(const char *path, gyre_error *err);
bool gy_directory_exists(const char *path);

#endif
