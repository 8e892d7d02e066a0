/* copy: the applied state of a replica as rows, and a replica built from such rows: how a member that lost its own, or a new one,
 * gets what another has. The rows come from a disk that may lie and over a wire: an import believes none of them.
 *
 * A state is that of one seq: points, vectors, codes of the codebook of then, recognised requests, and the meta records that say
 * so; identity, member and configuration are the builder's own. The log is not part of it: the new one is empty and goes on from
 * the entry that brought the state about.
 * Threads  an export: any, one at a time; an import: one owner */
#ifndef GY_STORE_COPY_H
#define GY_STORE_COPY_H

#include "store/store.h"

/* Lent by whoever hands it over. family: as in README.md, "Bytes", counted from meta, 0. */
struct gy_row {
    uint32_t family;
    const void *key;
    size_t key_bytes;
    const void *value;
    size_t value_bytes;
};

/* ---- out ---- */
typedef struct gy_export gy_export;

struct gy_export_state {
    uint64_t epoch, seq; /* of the last entry applied */
    uint64_t points;
    struct gy_digest digest;
    uint32_t codebook_version;
    struct gy_range_record range;
};

/* Holds on to the state of now, whatever is written later; what it holds takes disk until it is freed. without_vectors: for a
 * quantized member. GYRE_PRECONDITION if the replica is quantized and vectors are wanted. */
GYRE_CHECKED gyre_status gy_export_open(gy_export **out, gy_store *store, bool without_vectors, gyre_error *err);
/* Before its store is closed. */
void gy_export_free(gy_export *export);
GY_AUTO_DEFINE(gy_export, gy_export_free)
struct gy_export_state gy_export_state(const gy_export *export);

/* Visits rows in the order of families and keys, from behind key `after` of `family` on (0 and no key: from the first), as many
 * as have bytes_max of keys and values, at least one; *done says whether that was the last of all. The same question has the same
 * answer. visit's failure ends the read. GYRE_INVALID for a family that there is not. */
typedef gyre_status gy_on_row(void *self, const struct gy_row *row, gyre_error *err);
GYRE_CHECKED gyre_status gy_export_read(gy_export *export, uint32_t family, const void *after, size_t after_bytes,
                                        size_t bytes_max, gy_on_row *visit, void *self, bool *done, gyre_error *err);

/* A point as it is stored, lent; vector NULL: its version is not above what the reader said, so it has its id alone. */
struct gy_export_point {
    const uint8_t *id; /* [GYRE_ID_BYTES] */
    const void *value; /* version u64, payload */
    size_t value_bytes;
    const void *vector;
    size_t vector_bytes;
};
typedef gyre_status gy_on_export_point(void *self, const struct gy_export_point *point, gyre_error *err);
/* The same of whole points whose hashes are in range ({0, 0}: that are owned), in the order of ids, from behind `after`
 * ([GYRE_ID_BYTES], or NULL) on; only of an export with vectors. GYRE_ABORTED if not all of range is in the state's content,
 * GYRE_CORRUPT if a point has no vector. */
GYRE_CHECKED gyre_status gy_export_read_points(gy_export *export, const uint8_t *after, uint64_t since,
                                               struct gy_hash_range range, size_t bytes_max,
                                               gy_on_export_point *visit, void *self, bool *done, gyre_error *err);

/* ---- in ---- */
typedef struct gy_import gy_import;

/* Begins a replica at path, which is seen only once it is whole: something may still be there until _finish. epoch and seq are
 * the export's; a quantized member takes no vectors. */
GYRE_CHECKED gyre_status gy_import_open(gy_import **out, gy_store_env *env, const char *path,
                                        const struct gy_store_identity *identity, uint32_t member,
                                        const struct gy_shard_config *config, uint64_t epoch, uint64_t seq, gyre_error *err);
/* Takes a row; all of them come in the export's order. GYRE_CORRUPT names the row and what is wrong with it; GYRE_EXHAUSTED when
 * the disk is nearly full. After a failure only _free is left. */
GYRE_CHECKED gyre_status gy_import_row(gy_import *import, const struct gy_row *row, gyre_error *err);
/* All rows were taken: puts the replica on disk and into its place and opens it. GYRE_EXISTS if something is there, GYRE_CORRUPT
 * if rows are missing. What codes say is checked by gy_points_open. */
GYRE_CHECKED gyre_status gy_import_finish(gy_import *import, gy_store **out, gyre_error *err);
/* Takes away what was built, unless it is finished. */
void gy_import_free(gy_import *import);
GY_AUTO_DEFINE(gy_import, gy_import_free)

#endif
