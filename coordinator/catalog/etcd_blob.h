/* etcd_blob: values and where they lie. What fits into a transaction stands under its key; a larger value is a blob: stored
 * before in parts under a random id, which the transaction then points to.
 *
 *   1, then the value
 *   2, u64 bytes, u8[32] generichash of the value, the blob's id in 32 hex digits            (numbers little-endian)
 *
 * r/<id> is written first, attached to the scratch lease; the commit puts it anew without lease, if it is there still. So parts
 * without an r/<id> are what a crash left: nobody can refer to them any more, and whoever opens the catalog removes them. */
#ifndef GY_CATALOG_ETCD_BLOB_H
#define GY_CATALOG_ETCD_BLOB_H

#include "catalog/etcd_txn.h"

enum {
    GY_ETCD_PART_BYTES = 1 << 20,   /* etcd's limit of a request is 1.5 MiB */
    GY_ETCD_INLINE_BYTES = 1 << 20, /* of all values of a commit together */
    GY_ETCD_HASH_BYTES = 32,
    GY_ETCD_POINTER_BYTES = 1 + 8 + GY_ETCD_HASH_BYTES + GY_ETCD_ID_ROOM - 1,
};

/* What stands under a key, taken apart; inlined borrows. */
struct gy_etcd_value {
    bool blob;
    const uint8_t *inlined; /* !blob */
    size_t bytes;
    uint8_t hash[GY_ETCD_HASH_BYTES]; /* blob */
    char id[GY_ETCD_ID_ROOM];         /* blob */
};
/* GYRE_CORRUPT: no such value. */
GYRE_CHECKED gyre_status gy_etcd_value_read(struct gy_etcd_value *out, const ProtobufCBinaryData *stored, gyre_error *err);

/* Stores value as a new blob, not yet referred to, and writes the pointer that a transaction is to put. */
GYRE_CHECKED gyre_status gy_etcd_blob_store(struct gy_etcd_catalog *self, const gy_bytes *value, char id[static GY_ETCD_ID_ROOM],
                                            uint8_t pointer[static GY_ETCD_POINTER_BYTES], gyre_error *err);
/* The value, as of a revision at which it was referred to. GYRE_OUT_OF_RANGE: that has been compacted, read the key again. */
GYRE_CHECKED gyre_status gy_etcd_value_load(struct gy_etcd_catalog *self, const struct gy_etcd_value *value, int64_t revision,
                                            gy_bytes *out, gyre_error *err);
/* Removes a blob that no commit referred to or will; what cannot be removed now is when the catalog is next opened. */
void gy_etcd_blob_discard(struct gy_etcd_catalog *self, const char *id);
/* Removes parts of blobs that are not referred to. */
GYRE_CHECKED gyre_status gy_etcd_blob_sweep(struct gy_etcd_catalog *self, gyre_error *err);

/* Calls visit for every key with a prefix, in order, all as of one revision: *revision, or the present one if it is 0, which it
 * then becomes. GYRE_OUT_OF_RANGE: compacted meanwhile. */
GYRE_CHECKED gyre_status gy_etcd_scan(struct gy_etcd_catalog *self, const struct gy_etcd_name *prefix, bool keys_only,
                                      int64_t *revision,
                                      gyre_status (*visit)(void *arg, const Etcdserverpb__KeyValue *kv, gyre_error *err),
                                      void *arg, gyre_error *err);

#endif
