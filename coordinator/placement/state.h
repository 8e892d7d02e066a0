/* state: what the files of this folder share: the table of nodes and collections, and its locks.
 *
 * Lock order: catalog_mu, then mu, then routing's own. catalog_mu is held over a change of the catalog and its effect on the
 * table, mu only over memory: no node and no disk is waited for under it. Entries of nodes live until the end; entries of
 * collections go when the collection is dropped, so code that lets go of mu finds them again by id. */
#ifndef GY_PLACEMENT_STATE_H
#define GY_PLACEMENT_STATE_H

#include "catalog/records.h"
#include "gyre/log.h"
#include "gyre/pool.h"
#include "placement/core.h"
#include "placement/placement.h"
#include "routing/publish.h"

#include "gyre/node/node.pb-c.h"

#include <pthread.h>
#include <uthash.h>

enum { GY_ADDRESS_BYTES_MAX = 255, GY_VERSION_BYTES_MAX = 63, GY_SIMD_BYTES_MAX = 31 };

/* A node: named by the catalog or by its own report. */
struct gy_node_entry {
    char name[GY_NAME_BYTES_MAX + 1];
    gy_node_health health;
    gy_link *link; /* to address; NULL until it reports, and after _stop */
    char address[GY_ADDRESS_BYTES_MAX + 1];
    char http_address[GY_ADDRESS_BYTES_MAX + 1];
    char version[GY_VERSION_BYTES_MAX + 1];
    char simd[GY_SIMD_BYTES_MAX + 1];
    uint64_t resident_bytes, disk_free_bytes, started_unix_ms;
    uint64_t points;      /* of the replicas it reported */
    size_t held_count;    /* replicas it reported */
    uint64_t given;       /* shards that the catalog gives it */
    bool converging;      /* a job is telling it what it misses */
    UT_hash_handle hh;    /* by name */
};

/* A shard: whose it is, and what its primary last said. */
struct gy_shard_entry {
    struct gy_node_entry *node;
    bool held;                 /* the node has it, says its last report */
    uint64_t epoch, points, applied_seq;
    uint32_t codebook_version; /* its codes are in */
    uint32_t troubled_reports; /* in a row: it does not serve */
    int64_t told_ns;           /* see gy_wanted_replica */
};

struct gy_collection_entry {
    gy_collection_record record;
    uint64_t revision, codebook_revision; /* of the record and of its codebook in the catalog */
    struct gy_shard_entry *shards; /* [record.spec.shards] */
    bool training;
    const char *training_phase; /* while training: a name of train.h, static */
    double training_done;       /* share of that phase */
    uint32_t training_failures; /* in a row */
    int64_t train_again_ns;     /* not before, by itself */
    UT_hash_handle hh;          /* by name */
    UT_hash_handle by_id;
};

struct gy_placement {
    gy_catalog *catalog;
    uint32_t heartbeat_ms;
    int64_t born_ns;
    gy_routing *routing;

    pthread_mutex_t catalog_mu;
    struct gy_cluster_record cluster; /* its ids are guarded by catalog_mu for writing, and by mu too; the rest never changes */
    uint64_t cluster_revision;        /* guarded by catalog_mu */

    pthread_mutex_t mu;
    pthread_cond_t changed;           /* a report came, a training ended, or stopping */
    struct gy_node_entry *nodes;      /* guarded by mu, also what they hold */
    struct gy_collection_entry *collections, *collections_by_id; /* the same */
    gy_bus *bus;                      /* guarded by mu; NULL before _start and after _stop */
    bool stopping;                    /* guarded by mu */

    gy_pool *reports;  /* takes reports; lives as long as the bus may call */
    gy_pool *telling;  /* converges nodes: one job a node at most */
    gy_pool *training; /* one training at a time */
    pthread_t thread;
    bool running;

    gy_metric *reports_taken, *reports_refused, *ensures, *drops, *trainings, *training_failures;
};

/* ---- table.c; all under mu ---- */

struct gy_node_entry *gy_table_node(gy_placement *placement, const char *name);
/* Finds or adds; NULL without memory. */
struct gy_node_entry *gy_table_node_add(gy_placement *placement, const char *name);
struct gy_collection_entry *gy_table_collection(gy_placement *placement, const char *name);
struct gy_collection_entry *gy_table_collection_of(gy_placement *placement, uint64_t id);
/* An active one; GYRE_INVALID, GYRE_NOT_FOUND. */
GYRE_CHECKED gyre_status gy_table_active(gy_placement *placement, const char *name, struct gy_collection_entry **out,
                                         gyre_error *err);
/* Takes the record (leaves it zeroed). */
GYRE_CHECKED gyre_status gy_table_collection_add(gy_placement *placement, gy_collection_record *record, uint64_t revision,
                                                 uint64_t codebook_revision, struct gy_collection_entry **out, gyre_error *err);
void gy_table_collection_remove(gy_placement *placement, struct gy_collection_entry *entry);
uint64_t gy_table_points(const struct gy_collection_entry *entry);
/* Publishes the collection's route with the links as they are. */
GYRE_CHECKED gyre_status gy_table_publish(gy_placement *placement, const struct gy_collection_entry *entry, gyre_error *err);
/* Takes over what a node said about its replica. */
void gy_table_shard_said(struct gy_shard_entry *shard, const Gyre__Node__ReplicaStatus *said);

/* Reads everything from the catalog; no lock, before anybody else is there. */
GYRE_CHECKED gyre_status gy_table_load(gy_placement *placement, gyre_error *err);

/* One transaction of the catalog. */
struct gy_table_change {
    const char *name;
    uint64_t revision;                       /* the record is at; 0: there is none yet */
    const gy_collection_record *record;      /* what it becomes; NULL: away */
    bool new_codebook;                       /* record's codebook is not stored yet */
    uint64_t collection_id, codebook_revision; /* the stored codebook that goes, and its version; revision 0: none goes */
    uint32_t codebook_version;
    const struct gy_cluster_record *cluster; /* what the cluster's record becomes; NULL: it stays */
};
/* Commits it, under catalog_mu. *revision is then that of everything put. After GYRE_INTERNAL the process is asked to stop. A
 * commit whose outcome nobody knows is looked up again until the catalog answers; GYRE_DEADLINE only when the coordinator stops
 * before. */
GYRE_CHECKED gyre_status gy_table_commit(gy_placement *placement, const struct gy_table_change *change, uint64_t *revision,
                                         gyre_error *err);
/* The change that takes an entry's record and codebook away. */
struct gy_table_change gy_table_removal(const struct gy_collection_entry *entry);

/* ---- converge.c ---- */

/* Compares a node's report with the catalog and, if it must be told something, queues the job. Under mu. */
void gy_converge(gy_placement *placement, struct gy_node_entry *node, const Gyre__Node__Report *report, int64_t now_ns);
/* Tells every primary of a collection its configuration and waits, not longer than cancelled (NULL: never) says of the placement.
 * The first failure by shard number; all are tried. No lock. */
GYRE_CHECKED gyre_status gy_ensure_all(gy_placement *placement, uint64_t collection_id, int64_t deadline_ns,
                                       bool (*cancelled)(void *placement), gyre_error *err);
/* Tells every primary of a collection to drop it; failures are logged, for they drop it when they report. No lock. */
void gy_drop_all(gy_placement *placement, uint64_t collection_id, int64_t deadline_ns);

/* ---- train.c ---- */

/* Queues a training for every collection that is due; returns when to look again (GY_NEVER: after the next report). Under mu. */
int64_t gy_train_due(gy_placement *placement, int64_t now_ns);

/* ---- describe.c ---- */

/* Under mu. */
GYRE_CHECKED gyre_status gy_describe_collection(const struct gy_collection_entry *entry, Gyre__V1__Collection **out,
                                                gyre_error *err);

/* The caller's deadline, less what it takes to tell the caller why it was not met; at most own_ns from now. */
int64_t gy_placement_deadline(int64_t caller_deadline_ns, int64_t own_ns);

/* Waits on changed until the deadline; false when it passed. Under mu. */
bool gy_placement_wait(gy_placement *placement, int64_t deadline_ns);

/* Whether begin_stop was called; arg is the gy_placement (a `cancelled` of gy_ask). Takes mu. */
bool gy_placement_stopping(void *arg);

#endif
