/* etcd: what the files of this backend share. Everything of one cluster lies below its prefix:
 *
 *   format       "1"
 *   migration    which cluster is being migrated hither; only while it is
 *   k/<key>      a value of the catalog: 1 and the value, or 2 and a pointer to a blob (etcd_blob.h)
 *   l/<name>     a lease: "<owner>", attached to an etcd lease of its time to live
 *   p/<blob>/<n> a part of a blob
 *   r/<blob>     the blob is referred to; attached to the scratch lease until the commit that refers to it
 *   w/<commit>   witness of a commit, "done" or "barred" (etcd_commit.c); attached to the scratch lease
 *
 * The scratch lease is an etcd lease that nobody keeps alive: what is attached to it goes by itself, minutes after a crash. */
#ifndef GY_CATALOG_ETCD_H
#define GY_CATALOG_ETCD_H

#include "catalog/etcd_client.h"

#include <pthread.h>

enum {
    GY_ETCD_PREFIX_BYTES_MAX = 128,
    GY_ETCD_NAME_ROOM = GY_ETCD_PREFIX_BYTES_MAX + GY_CATALOG_KEY_BYTES_MAX + 64,
    GY_ETCD_ID_ROOM = 33, /* 16 random bytes in hex */
};

/* A key of etcd. */
struct gy_etcd_name {
    size_t bytes;
    char text[GY_ETCD_NAME_ROOM];
};

/* A commit of which nobody knows whether it was made: its witness. */
struct gy_etcd_doubt {
    char witness[GY_ETCD_ID_ROOM];
    struct gy_etcd_doubt *next;
};

struct gy_etcd_watch;

struct gy_etcd_catalog {
    gy_catalog base;
    gy_etcd *etcd;
    struct gy_etcd_watch *watch;
    size_t prefix_bytes;
    char prefix[GY_ETCD_PREFIX_BYTES_MAX + 1];
    pthread_mutex_t mu;
    int64_t scratch_lease;        /* guarded by mu; 0: none yet */
    int64_t scratch_until_ns;     /* guarded by mu; use it until then, which is well before it ends */
    struct gy_etcd_doubt *doubts; /* guarded by mu; goes only when it is settled */
    pthread_mutex_t settling;     /* before mu: held over settling, which waits for etcd */
};

/* The prefix, then "<kind><rest>". */
struct gy_etcd_name gy_etcd_name(const struct gy_etcd_catalog *self, const char *kind, const char *rest);
struct gy_etcd_name gy_etcd_name_end(const struct gy_etcd_name *prefix); /* behind everything that begins with it */
ProtobufCBinaryData gy_etcd_data(const struct gy_etcd_name *name);
void gy_etcd_id(char id[static GY_ETCD_ID_ROOM]); /* a new random one */

/* A lease for what may be left lying; new when the last one is half over. */
GYRE_CHECKED gyre_status gy_etcd_scratch(struct gy_etcd_catalog *self, int64_t *lease, gyre_error *err);
void gy_etcd_scratch_gone(struct gy_etcd_catalog *self, int64_t lease); /* etcd does not know it any more */

/* etcd_commit.c */
GYRE_CHECKED gyre_status gy_etcd_commit(struct gy_etcd_catalog *self, const struct gy_etcd_name *fence, int64_t fence_revision,
                                        const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                                        gyre_error *err);
/* Makes sure that no commit in doubt is made from now on, if it was not made before. */
GYRE_CHECKED gyre_status gy_etcd_settle_doubts(struct gy_etcd_catalog *self, gyre_error *err);

/* etcd_watch.c */
GYRE_CHECKED gyre_status gy_etcd_watch_start(struct gy_etcd_catalog *self, gyre_error *err);
void gy_etcd_watch_stop(struct gy_etcd_watch *watch); /* NULL is fine; ends every wait */
gyre_status gy_etcd_wait(gy_catalog *catalog, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err);
void gy_etcd_interrupt(gy_catalog *catalog);

/* etcd_lease.c */
gyre_status gy_etcd_lease_acquire(gy_catalog *catalog, const char *name, const char *owner, int64_t ttl_ns,
                                  gy_catalog_lease **out, gyre_error *err);
bool gy_etcd_lease_held(const gy_catalog_lease *lease);
void gy_etcd_lease_release(gy_catalog_lease *lease);
gyre_status gy_etcd_lease_holder(gy_catalog *catalog, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                 gyre_error *err);
gyre_status gy_etcd_leases(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err);
gyre_status gy_etcd_commit_fenced(gy_catalog *catalog, const gy_catalog_lease *fence, const struct gy_catalog_change *changes,
                                  size_t count, uint64_t *revision, gyre_error *err);

/* Opens it for a migration of that cluster: a prefix with its very mark or, if may_begin, an empty one, which then has it. */
GYRE_CHECKED gyre_status gy_etcd_open_for_migration(gy_catalog **out, const struct gy_etcd_options *options,
                                                    const char *cluster_id, bool may_begin, gyre_error *err);
/* Takes the mark away: coordinators may open it now. */
GYRE_CHECKED gyre_status gy_etcd_end_migration(gy_catalog *catalog, gyre_error *err);

#endif
