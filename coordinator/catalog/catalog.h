/* catalog: the small, consistent store of what must outlive the coordinator: keys, collections, who holds which shard.
 *
 * A table of slots, so that a backend is one file: `embedded` (RocksDB in this process) now. Every key carries the revision of
 * its last change; a commit names the revision each key is expected to have and changes all of them or none.
 * Threads  any */
#ifndef GY_CATALOG_H
#define GY_CATALOG_H

#include "gyre/wire.h"

enum { GY_CATALOG_KEY_BYTES_MAX = 256, GY_CATALOG_VALUE_BYTES_MAX = 96 << 20, GY_CATALOG_CHANGES_MAX = 16 };

typedef struct gy_catalog gy_catalog;

struct gy_catalog_entry {
    char *key;
    gy_bytes value;
    uint64_t revision; /* of this key's last change; never 0 */
};

struct gy_catalog_list {
    struct gy_catalog_entry *entries; /* [count] by key */
    size_t count;
};
void gy_catalog_list_free(struct gy_catalog_list *list); /* leaves {NULL, 0} */

/* One key of a commit. */
struct gy_catalog_change {
    const char *key;
    uint64_t expected_revision; /* the key must be at it; 0: must not be there */
    const gy_bytes *value;      /* what to put; NULL: the key goes */
};

struct gy_catalog {
    const char *backend; /* "embedded" */
    /* *value is the caller's (gy_bytes_free). GYRE_NOT_FOUND. */
    gyre_status (*get)(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err);
    /* Everything below a prefix, as of one moment. */
    gyre_status (*list)(gy_catalog *catalog, const char *prefix, struct gy_catalog_list *out, gyre_error *err);
    /* Makes all changes durable, or none. *revision is then that of every key put.
     * GYRE_ABORTED names a key whose revision is another; GYRE_EXHAUSTED: the disk is nearly full, nothing was changed;
     * GYRE_INTERNAL: the backend failed, nobody knows whether the change was made, and the process should end. */
    gyre_status (*commit)(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err);
    void (*close)(gy_catalog *catalog);
};

static inline void gy_catalog_close(gy_catalog *catalog)
{
    if (catalog)
        catalog->close(catalog);
}
GY_AUTO_DEFINE(gy_catalog, gy_catalog_close)

/* Opens or makes the catalog in a directory of its own. GYRE_CORRUPT if a file is damaged, GYRE_UNIMPLEMENTED for one written by
 * a newer version, GYRE_EXHAUSTED on a nearly full disk (RocksDB would abort the process). */
GYRE_CHECKED gyre_status gy_catalog_embedded_open(gy_catalog **out, const char *path, gyre_error *err);

#endif
