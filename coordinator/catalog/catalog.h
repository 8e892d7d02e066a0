/* catalog: the small, consistent store of what must outlive the coordinator: keys, collections, who holds which shard.
 *
 * A table of slots, so that a backend is one piece: `embedded` (RocksDB in this process, one coordinator) and `etcd` (members
 * outside). Every key carries the revision of its last change; a commit names the revision each key is expected to have and
 * changes all of them or none. Revisions grow with every commit, over all keys.
 *
 * What is not known. A store that is reached over a network may make a change and its answer be lost. commit finds out by itself
 * while it can; if it cannot it returns GYRE_DEADLINE, and whoever called it reads the keys again before it relies on anything:
 * the first get, list or commit that succeeds afterwards has settled it, so that what was not made by then never will be.
 * Threads  any; close when no other call is in progress but wait, and every lease has been released */
#ifndef GY_CATALOG_H
#define GY_CATALOG_H

#include "gyre/clock.h"
#include "gyre/wire.h"

enum { GY_CATALOG_KEY_BYTES_MAX = 256, GY_CATALOG_VALUE_BYTES_MAX = 96 << 20, GY_CATALOG_CHANGES_MAX = 16 };
/* A lease's names are 1 to 64 bytes of a-z 0-9 _ -, its owners 1 to 255 bytes of anything printable. */
enum { GY_LEASE_NAME_BYTES_MAX = 64, GY_LEASE_OWNER_BYTES_MAX = 255 };
#define GY_LEASE_TTL_NS_MIN (10 * GY_SECOND_NS)

typedef struct gy_catalog gy_catalog;
typedef struct gy_catalog_lease gy_catalog_lease;

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

/* get, list, keys and commit: GYRE_UNAVAILABLE when the store does not answer; nothing was changed then. */
struct gy_catalog {
    const char *backend; /* "embedded", "etcd" */
    /* *value is the caller's (gy_bytes_free). GYRE_NOT_FOUND. */
    gyre_status (*get)(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err);
    /* Everything below a prefix, as of one moment. */
    gyre_status (*list)(gy_catalog *catalog, const char *prefix, struct gy_catalog_list *out, gyre_error *err);
    /* Every key with its revision, as of one moment; the values are empty. */
    gyre_status (*keys)(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err);
    /* Makes all changes durable, or none. *revision (may be NULL) is then that of every key put.
     * GYRE_ABORTED names a key whose revision is another; GYRE_EXHAUSTED: the disk is nearly full; nothing was changed then.
     * GYRE_DEADLINE: nobody knows whether the change was made, read again (see above); GYRE_INTERNAL: the backend failed, nobody
     * knows whether the change was made, and the process should end. */
    gyre_status (*commit)(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err);
    /* The same, if a lease of this catalog is still ours in the moment of the change. GYRE_PRECONDITION: it is not. */
    gyre_status (*commit_fenced)(gy_catalog *catalog, const gy_catalog_lease *fence, const struct gy_catalog_change *changes,
                                 size_t count, uint64_t *revision, gyre_error *err);

    /* Waits until a key or a lease changed after a revision, by whomever, and tells the revision reached; 0 asks for the present
     * one. It may wake without a change, never miss one. GYRE_DEADLINE: none was seen by then (the store may have been out of
     * reach); GYRE_CANCELLED: interrupted. */
    gyre_status (*wait)(gy_catalog *catalog, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err);
    /* Ends every wait, those to come too. */
    void (*interrupt)(gy_catalog *catalog);

    /* Takes a lease that one owner has at a time, and keeps it in the background until it is released or lost; after the death of
     * its owner it is free again when ttl_ns (GY_LEASE_TTL_NS_MIN at least) have passed. GYRE_EXISTS: somebody has it, who is
     * named. */
    gyre_status (*lease_acquire)(gy_catalog *catalog, const char *name, const char *owner, int64_t ttl_ns, gy_catalog_lease **out,
                                 gyre_error *err);
    /* Whether it is ours now, beyond doubt: by a clock that ends before the store's. */
    bool (*lease_held)(const gy_catalog_lease *lease);
    void (*lease_release)(gy_catalog_lease *lease); /* NULL is fine */
    /* Who has it. GYRE_NOT_FOUND: nobody. */
    gyre_status (*lease_holder)(gy_catalog *catalog, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                gyre_error *err);
    /* Every lease that is held: its name as the key, its owner as the value. */
    gyre_status (*leases)(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err);
    void (*close)(gy_catalog *catalog);
};

static inline void gy_catalog_close(gy_catalog *catalog)
{
    if (catalog)
        catalog->close(catalog);
}
GY_AUTO_DEFINE(gy_catalog, gy_catalog_close)

GYRE_CHECKED gyre_status gy_lease_check(const char *name, const char *owner, int64_t ttl_ns, gyre_error *err);

/* Opens or makes the catalog in a directory of its own. GYRE_CORRUPT if a file is damaged, GYRE_UNIMPLEMENTED for one written by
 * a newer version, GYRE_EXHAUSTED on a nearly full disk (RocksDB would abort the process), GYRE_PRECONDITION for one that has
 * moved to etcd. Leases are always held: there is no other coordinator. */
GYRE_CHECKED gyre_status gy_catalog_embedded_open(gy_catalog **out, const char *path, gyre_error *err);

struct gy_etcd_options {
    const char *endpoints; /* "host:port,host:port,…": every member */
    const char *prefix;    /* of every key of this cluster: begins and ends with "/" */
    /* PEM files; NULL or "": none. With ca the members are spoken to over TLS; cert and key are this client's own. */
    const char *ca_file, *cert_file, *key_file;
    int64_t patience_ns;   /* how long an operation looks for a member that answers; 0: 15 s */
};
/* Opens or makes the catalog below a prefix of etcd. GYRE_INVALID names a wrong option; GYRE_UNAVAILABLE: no member answers;
 * GYRE_PRECONDITION: something else is below the prefix, or a migration that is not finished; else as above. */
GYRE_CHECKED gyre_status gy_catalog_etcd_open(gy_catalog **out, const struct gy_etcd_options *options, gyre_error *err);

#endif
