/* records: what the catalog holds, and its bytes: one JSON object per key, binary fields in hex.
 *
 *   "cluster"            {"format":1, "id", "placement_key", "rotation_seed", "first_collection_id", "next_collection_id"}
 *   "collection/<name>"  {"format":3, "id", "name", "dim", "metric", "codec", "bits", "shards", "copies", "quantized",
 *                         "min_copies", "state", "trained_at_points", "codebook_version", "lists",
 *                         "probe_costs": [[recall in millionths, lists], …],
 *                         "configs": [[epoch, primary, primary_since, min_copies, next_member,
 *                                      [[id, "full" or "quantized", in_sync, leaving, node], …],
 *                                      [unclean_epoch, unclean_unix_ms], ["first", "last" hash]], … one a shard]}
 *                         A shard that is being split has [child, "first" hash of the child] behind its range. Hashes are 16
 *                         hexadecimal digits. The ranges partition the hashes, but for a child's that is being made.
 *                         Format 2 had no ranges: its shards have equal ones, and unclean was there only where it was not
 *                         [0, 0]. Format 1 knew one replica a shard; its collections must be made anew.
 *   "node/<name>"        {"format":1, "draining", "heir"}; without one the node is not draining
 *   "codebook/<id>/<version>"  gyre_codebook_encode: tens of megabytes with centroids, so it is not JSON. Written
 *                         in the transaction that makes a record point to it, which also removes the older one.
 *
 * Decoders believe nothing: unknown or missing keys, wrong types, numbers outside their limits and a codebook that is not this
 * collection's are GYRE_CORRUPT with a sentence; a newer format is GYRE_UNIMPLEMENTED.
 * Threads  no state */
#ifndef GY_CATALOG_RECORDS_H
#define GY_CATALOG_RECORDS_H

#include "catalog/codebook.h"
#include "catalog/probe_cost.h"
#include "catalog/spec.h"

#include "gyre/shard_config.h"

#define GY_CLUSTER_KEY "cluster"
#define GY_COLLECTION_PREFIX "collection/"
#define GY_NODE_PREFIX "node/"
enum { GY_CODEBOOK_KEY_ROOM = 48 };

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

typedef struct gy_collection_record {
    struct gy_collection_spec spec;
    uint64_t id;
    gy_collection_state state;
    uint64_t trained_at_points;      /* points the newest codebook was trained on; 0: it is the first, centred on the origin */
    uint32_t codebook_version;       /* the newest */
    uint32_t lists;                  /* of its partition; 1: none */
    struct gy_probe_cost probe_costs[GY_PROBE_COSTS_MAX];
    uint32_t probe_cost_count;
    gy_codebook *codebook;           /* the newest, held; under a key of its own, so NULL in what was just decoded */
    struct gy_shard_config *shards;  /* [spec.shards]; their hash_key is the cluster's, and not stored with them */
} gy_collection_record;

/* Random keys, no collection yet. sodium_init was called. */
void gy_cluster_record_init(struct gy_cluster_record *record);
GYRE_CHECKED gyre_status gy_cluster_record_encode(const struct gy_cluster_record *record, gy_bytes *out, gyre_error *err);
GYRE_CHECKED gyre_status gy_cluster_record_decode(struct gy_cluster_record *record, const uint8_t *data, size_t bytes,
                                                  gyre_error *err);

/* What is remembered of a node. */
struct gy_node_record {
    bool draining;                    /* gets no replica, and its replicas move away */
    char heir[GY_NAME_BYTES_MAX + 1]; /* node that they move to where it can take them; "": to the best */
};
GYRE_CHECKED gyre_status gy_node_record_encode(const struct gy_node_record *record, gy_bytes *out, gyre_error *err);
GYRE_CHECKED gyre_status gy_node_record_decode(struct gy_node_record *record, const uint8_t *data, size_t bytes,
                                               gyre_error *err);

/* Puts the cluster's placement key into every configuration: what was just decoded has none. */
void gy_collection_record_set_key(gy_collection_record *record, const uint8_t key[GY_PLACEMENT_KEY_BYTES]);
/* How many shards there are for whoever reads and writes: all but one that a split is making, which is the last then. */
uint32_t gy_collection_shown_shards(const gy_collection_record *record);

void gy_collection_record_fini(gy_collection_record *record); /* a zeroed one is fine */
GYRE_CHECKED gyre_status gy_collection_record_encode(const gy_collection_record *record, gy_bytes *out, gyre_error *err);
/* On failure record is left as it was. */
GYRE_CHECKED gyre_status gy_collection_record_decode(gy_collection_record *record, const uint8_t *data, size_t bytes,
                                                     gyre_error *err);
/* Puts another codebook in, which it then holds too, and forgets the older one's probe costs. GYRE_INVALID if it is of another
 * dim or metric. */
GYRE_CHECKED gyre_status gy_collection_record_set_codebook(gy_collection_record *record, gy_codebook *codebook, gyre_error *err);
/* Puts in what was stored under the codebook's key; takes bytes on success. GYRE_CORRUPT if it is not the one the record points
 * to. */
GYRE_CHECKED gyre_status gy_collection_record_load_codebook(gy_collection_record *record, gy_bytes *bytes, gyre_error *err);
/* The key of a codebook; returns room. */
const char *gy_codebook_key(char room[GY_CODEBOOK_KEY_ROOM], uint64_t collection_id, uint32_t version);

#endif
