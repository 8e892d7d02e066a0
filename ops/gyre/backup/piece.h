/* piece: a file of a backup: points of one shard in the order of their ids, and ids that are gone. Reads what a disk may have
 * spoilt or a stranger written, and believes none of it.
 *
 *   header   magic "GYREPIEC", format u32 = 1, dim u32, points u32, gone u32, payload bytes u64, body hash u64, index hash u64
 *   index    for each point: id 16 bytes, version u64, payload bytes u32, point sum u64, vector sum u64; then the gone ids
 *   body     vectors f32 [points][dim], payloads one behind the other
 * Little-endian. The hashes are xxh3-64: of the body; of the header up to there and the index. What a shard holds can so be told
 * from indexes alone, without reading a vector.
 * Threads  no state */
#ifndef GY_BACKUP_PIECE_H
#define GY_BACKUP_PIECE_H

#include "gyre/base.h"
#include "gyre/point_id.h"

enum {
    PIECE_BYTES = 8 << 20,           /* a piece that has so much is full */
    PIECE_FILE_BYTES_MAX = 16 << 20, /* no piece is longer, whatever its last point */
    PIECE_HASH_BYTES = 16,
};

/* Checksums that add up, mod 2^64, to what the shard says of all its points: the low halves of shard/index/digest.h's. */
struct sums {
    uint64_t point;  /* id, version, payload */
    uint64_t vector; /* id, vector */
};
struct sums sums_of(const gyre_point_id *id, uint64_t version, const void *payload, size_t payload_bytes, const float *vector,
                    size_t dim);
void sums_add(struct sums *sums, struct sums term);
bool sums_equal(struct sums a, struct sums b);

/* A point, or an id that is gone. */
struct record {
    gyre_point_id id;
    bool gone; /* the rest is not set */
    uint64_t version;
    struct sums sums;
    const char *payload; /* [payload_bytes], not terminated; NULL when only the index was read, as is vector */
    size_t payload_bytes;
    const uint8_t *vector; /* f32 [dim], at any alignment */
};

/* ---- writing ---- */
typedef struct piece_builder piece_builder;
piece_builder *piece_builder_new(size_t dim);
void piece_builder_free(piece_builder *builder);
GY_AUTO_DEFINE(piece_builder, piece_builder_free)
/* Ids in ascending order; the record's sums are those of its bytes. */
void piece_add(piece_builder *builder, const struct record *record);
bool piece_full(const piece_builder *builder);
uint32_t piece_points(const piece_builder *builder);
uint32_t piece_gone(const piece_builder *builder);
/* The file's bytes (malloc'ed, the caller's); the builder is empty again. */
uint8_t *piece_seal(piece_builder *builder, size_t *bytes, uint8_t hash[PIECE_HASH_BYTES]);
/* Makes the two hashes inside a file of a piece those of its bytes; for whoever changes one. */
void piece_rehash(uint8_t *file, size_t bytes);
/* xxh3-128 of a whole file. */
void piece_hash(const uint8_t *data, size_t bytes, uint8_t hash[PIECE_HASH_BYTES]);

/* ---- reading ---- */
/* What the manifest says of a piece. */
struct piece_claim {
    uint64_t bytes;
    uint32_t points, gone, dim;
    uint8_t hash[PIECE_HASH_BYTES];
};
typedef struct backup_piece backup_piece;
/* Reads it whole, or its header and index alone, and checks all of what it read. GYRE_CORRUPT begins with the path;
 * GYRE_UNIMPLEMENTED: a newer format. */
GYRE_CHECKED gyre_status piece_open(backup_piece **out, const char *path, const struct piece_claim *claim, bool index_only,
                                    gyre_error *err);
void piece_close(backup_piece *piece);
GY_AUTO_DEFINE(backup_piece, piece_close)
/* The next record by id, lent until the piece is closed; false after the last. */
bool piece_next(backup_piece *piece, struct record *out);

#endif
