/* manifest: what a backup is made of: DIR/manifest.json, written last and in one step, so that files it does not name are of a
 * backup that did not end. It has a checksum; what it says is checked all the same before anything is made of it.
 *
 * A backup is a chain of generations. In each, a shard is full (all its points) or follows the generation before it: points
 * written since, and ids that are gone. A generation may have more shards than the one before: those that splits made are full,
 * and of a shard that was split what moved away is gone. */
#ifndef GY_BACKUP_MANIFEST_H
#define GY_BACKUP_MANIFEST_H

#include "backup/piece.h"

#include "gyre/v1/gyre.pb-c.h"

#include <jansson.h>

enum { MANIFEST_GENERATIONS_MAX = 4096, MANIFEST_NAME_BYTES = 64, MANIFEST_PATH_BYTES = 4096, MANIFEST_CHAIN_MAX = 32 };

struct backup_file {
    uint64_t bytes;
    uint32_t points, gone;
    uint8_t hash[PIECE_HASH_BYTES];
};

struct backup_shard {
    bool full;
    uint64_t seq, epoch; /* of the state, and of its last entry */
    uint64_t count;      /* points of the state; of them in the files: */
    uint64_t points, gone;
    uint32_t codebook_version;
    struct sums sums;    /* of the state, as the shard said */
    /* Of the hashes of its points' ids; 0 and 0: not known, from before shards could be split. */
    uint64_t hash_first, hash_last;
    uint32_t chain;      /* generations that it is made of, at most MANIFEST_CHAIN_MAX; set by manifest_read */
    struct backup_file *files; /* [file_count]; their names follow from their places: see piece_path */
    size_t file_count;
};

struct backup_generation {
    uint32_t number; /* 1, 2, 3… */
    char time[MANIFEST_NAME_BYTES]; /* RFC 3339, UTC, when it was begun */
    char cluster[MANIFEST_NAME_BYTES];
    uint64_t collection_id;
    /* The spec. */
    uint32_t dim, metric, bits, copies, quantized, min_copies;
    bool allow_approximate;
    char codec[MANIFEST_NAME_BYTES];
    struct backup_shard *shards; /* [shard_count] */
    uint32_t shard_count;
};

typedef struct backup_manifest {
    char collection[MANIFEST_NAME_BYTES + 1];
    struct backup_generation *generations; /* [count], numbers ascending */
    size_t count;
} backup_manifest;

void manifest_free(backup_manifest *manifest);
GY_AUTO_DEFINE(backup_manifest, manifest_free)
/* GYRE_NOT_FOUND if there is none in dir; GYRE_CORRUPT names the path and the place in it; GYRE_UNIMPLEMENTED: a newer format. */
GYRE_CHECKED gyre_status manifest_read(backup_manifest **out, const char *dir, gyre_error *err);
/* Replaces it in one step, on disk when it returns. */
GYRE_CHECKED gyre_status manifest_write(const backup_manifest *manifest, const char *dir, gyre_error *err);
/* Puts the checksum into a manifest or a note and writes it. Takes root. */
GYRE_CHECKED gyre_status manifest_write_json(json_t *root, const char *path, gyre_error *err);
/* Whether the shards of a generation have every hash, and none twice; true while their ranges are not known. */
bool generation_is_whole(const struct backup_generation *generation);
/* The sum of what a generation's shards hold. */
uint64_t generation_count(const struct backup_generation *generation);
/* Index of the first generation that shard's state of manifest->generations[at] is made of. */
size_t manifest_chain_begin(const backup_manifest *manifest, size_t at, uint32_t shard);

/* dir/g000001/s00003-000007.piece: generation, shard, place among its files. */
void generation_path(char out[MANIFEST_PATH_BYTES], const char *dir, uint32_t generation);
void piece_path(char out[MANIFEST_PATH_BYTES], const char *dir, uint32_t generation, uint32_t shard, size_t file);

/* A shard's part of the manifest on its own, beside its files: it is whole, though its generation is not yet. key says what it is
 * of (cluster, collection, base), so that nothing else is taken for it. GYRE_NOT_FOUND: none, or of another key. */
GYRE_CHECKED gyre_status shard_note_write(const struct backup_shard *shard, uint32_t number, const char *key, const char *dir,
                                          uint32_t generation, gyre_error *err);
GYRE_CHECKED gyre_status shard_note_read(struct backup_shard *out, uint32_t number, const char *key, const char *dir,
                                         uint32_t generation, gyre_error *err);
void shard_note_remove(const char *dir, uint32_t generation, uint32_t number);
void backup_shard_fini(struct backup_shard *shard);

/* Writes a file that is there whole or not at all, on disk when it returns. A full disk is GYRE_EXHAUSTED. */
GYRE_CHECKED gyre_status file_write(const char *path, const void *data, size_t bytes, gyre_error *err);

#endif
