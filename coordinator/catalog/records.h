/* records: what the catalog holds, and its bytes: one JSON object per key, binary fields in hex.
 *
 *   "cluster"            {"format":1, "id", "placement_key", "rotation_seed", "first_collection_id", "next_collection_id"}
 *   "collection/<name>"  {"format":1, "id", "name", "dim", "metric", "codec", "bits", "shards", "copies", "quantized", "state",
 *                         "trained_at_points", "codebook", "assignment": [[epoch, node], …]}
 *
 * Decoders believe nothing: unknown or missing keys, wrong types, numbers outside their limits and a codebook that is not this
 * collection's are GYRE_CORRUPT with a sentence; a newer format is GYRE_UNIMPLEMENTED.
 * Threads  no state */
#ifndef GY_CATALOG_RECORDS_H
#define GY_CATALOG_RECORDS_H

#include "catalog/spec.h"
#include "gyre/rotation.h"
#include "gyre/wire.h"

#define GY_CLUSTER_KEY "cluster"
#define GY_COLLECTION_PREFIX "collection/"

enum { GY_CLUSTER_ID_BYTES = 16, GY_PLACEMENT_KEY_BYTES = 16, GY_CLUSTER_ID_TEXT_BYTES = 2 * GY_CLUSTER_ID_BYTES + 1 };

/* Made once, when the first coordinator starts on an empty catalog. */
struct gy_cluster_record {
    char id[GY_CLUSTER_ID_TEXT_BYTES];              /* hex */
    uint8_t placement_key[GY_PLACEMENT_KEY_BYTES];  /* SipHash-2-4 key that spreads ids over shards */
    uint8_t rotation_seed[GYRE_SEED_BYTES];         /* of every collection's codebooks */
    /* Ids already given are [first, next). first is random, so that a node with replicas of another catalog (its disk was lost,
     * say) is neither told to drop them nor taken to hold ours. */
    uint64_t first_collection_id, next_collection_id;
};

typedef enum gy_collection_state {
    GY_COLLECTION_CREATING = 1, /* replicas are being made; a restart forgets it */
    GY_COLLECTION_ACTIVE,
    GY_COLLECTION_DROPPING,     /* a restart finishes it */
} gy_collection_state;

struct gy_shard_record {
    uint64_t epoch;
    char node[GY_NAME_BYTES_MAX + 1]; /* the primary */
};

typedef struct gy_collection_record {
    struct gy_collection_spec spec;
    uint64_t id;
    gy_collection_state state;
    uint64_t trained_at_points;      /* points the newest codebook was trained on; 0: it is the first, centred on the origin */
    gy_bytes codebook;               /* the newest, as gyre_codebook_encode wrote it */
    uint32_t codebook_version;       /* the one inside */
    struct gy_shard_record *shards;  /* [spec.shards] */
} gy_collection_record;

/* Random keys, no collection yet. sodium_init was called. */
void gy_cluster_record_init(struct gy_cluster_record *record);
GYRE_CHECKED gyre_status gy_cluster_record_encode(const struct gy_cluster_record *record, gy_bytes *out, gyre_error *err);
GYRE_CHECKED gyre_status gy_cluster_record_decode(struct gy_cluster_record *record, const uint8_t *data, size_t bytes, gyre_error *err);

void gy_collection_record_fini(gy_collection_record *record); /* a zeroed one is fine */
GYRE_CHECKED gyre_status gy_collection_record_encode(const gy_collection_record *record, gy_bytes *out, gyre_error *err);
/* On failure record is left as it was. */
GYRE_CHECKED gyre_status gy_collection_record_decode(gy_collection_record *record, const uint8_t *data, size_t bytes, gyre_error *err);
/* Puts another codebook in, built from its parts; takes nothing on failure. mean as gyre_codebook_new. */
GYRE_CHECKED gyre_status gy_collection_record_set_codebook(gy_collection_record *record, uint32_t version, const uint8_t seed[GYRE_SEED_BYTES],
                                                           const float *mean, gyre_error *err);

#endif
