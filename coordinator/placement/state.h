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
#include "placement/plan.h"
#include "placement/placement.h"
#include "routing/publish.h"

#include "gyre/node/node.pb-c.h"

#include <pthread.h>
#include <uthash.h>

enum { GY_ADDRESS_BYTES_MAX = 255, GY_VERSION_BYTES_MAX = 63, GY_SIMD_BYTES_MAX = 31, GY_ZONE_BYTES_MAX = 63 };

/* A node: named by the catalog or by its own report. */
struct gy_node_entry {
    char name[GY_NAME_BYTES_MAX + 1];
    gy_node_health health;
    gy_link *link; /* to address; NULL until it reports, and after _stop */
    char address[GY_ADDRESS_BYTES_MAX + 1];
    char http_address[GY_ADDRESS_BYTES_MAX + 1];
    char version[GY_VERSION_BYTES_MAX + 1];
    char simd[GY_SIMD_BYTES_MAX + 1];
    char zone[GY_ZONE_BYTES_MAX + 1];
    bool draining;             /* as its record in the catalog says */
    char heir[GY_NAME_BYTES_MAX + 1]; /* the same */
    bool removed;              /* by an operator: nobody sees it until a daemon that started later reports */
    uint64_t revision;         /* of that record; 0: there is none. Guarded by catalog_mu */
    uint64_t resident_bytes, disk_free_bytes, started_unix_ms;
    uint64_t points;      /* of the replicas it reported */
    uint64_t bytes;       /* of vectors and codes in those that the catalog gives it */
    size_t held_count;    /* replicas it reported */
    uint64_t given;       /* members that the catalog gives it */
    bool converging;      /* a job is telling it what it misses */
    UT_hash_handle hh;    /* by name */
};

/* A member of a shard: where it is, and what its node last said of it. */
struct gy_member_entry {
    struct gy_node_entry *node;
    gy_presence presence;
    bool missed;               /* the last report lacked it; it may have been on its way while the replica was made */
    bool lost, restoring;
    bool routed_up;            /* as the newest route says */
    uint64_t epoch, points, log_seq, applied_seq;
    uint64_t foreign;          /* points beyond those: of another shard since a split */
    uint32_t codebook_version; /* its codes are in */
    bool serves;               /* it is open and primary, as it says */
    bool waiting;              /* a split has made it, and its node waits to be told its configuration */
    uint64_t child_seq;        /* while a split makes a child of its shard: of which seq its part is; 0: it said of none */
    uint32_t childless_reports; /* in a row, after the narrowing: it made none */
    int64_t troubled_since_ns; /* its node has it and cannot open it; 0: it can, or does not have it */
    uint64_t digests[3];       /* of points, codes, vectors, at applied_seq in that codebook */
    int64_t suspected_ns;      /* when it was last asked to check itself, because another differs; 0: never */
    uint32_t troubled_reports; /* in a row: it does not serve, or not fully */
    int64_t told_ns;           /* see gy_wanted_replica */
    int64_t making_until_ns;   /* its node was told to make it, and has not answered: no report is held to lack it before */
};

/* What is known of a shard; its configuration is in the collection's record. */
struct gy_shard_entry {
    struct gy_member_entry members[GY_MEMBERS_MAX]; /* in the order of the configuration's */
    const char *obstacle; /* see gy_plan.reason; static */
    int64_t child_due_ns; /* when nobody is waited for any more who makes a part of its child; 0: it cannot be configured yet */
};

/* Another configuration of a shard. */
struct gy_config_change {
    uint32_t shard; /* the collection's number of shards: the child of a split */
    struct gy_shard_config config; /* its epoch follows the one that holds (a child's: is the parent's), or it comes too late */
    const char *reason;            /* static */
};

/* A primary's question for another in-sync set, waiting for the placement thread. */
struct gy_in_sync_ask {
    gy_bus_request *request;
    Gyre__Node__ChangeInSync *asked;
    struct gy_in_sync_ask *next;
};

struct gy_collection_entry {
    gy_collection_record record;
    uint64_t revision, codebook_revision; /* of the record and of its codebook in the catalog */
    struct gy_shard_entry *shards; /* [record.spec.shards] */
    bool replan;                /* something a plan looks at is another */
    int64_t plan_due_ns;        /* when time alone may change a plan */
    bool split_begins;          /* an intent is being committed */
    bool training;
    const char *training_phase; /* while training: a name of train.h, static */
    double training_done;       /* share of that phase */
    uint32_t training_failures; /* in a row */
    int64_t train_again_ns;     /* not before, by itself */
    UT_hash_handle hh;          /* by name */
    UT_hash_handle by_id;
};

/* A coordinator of a shared catalog, as its lease says. */
enum { GY_COORDINATORS_MAX = 16 };
struct gy_coordinator {
    char grpc[GY_LEADER_ADDRESS_ROOM], bus[GY_LEADER_ADDRESS_ROOM];
    bool leads;
};

struct gy_placement {
    gy_catalog *catalog;
    bool shared;                      /* other coordinators may be on the catalog */
    uint32_t heartbeat_ms;
    uint32_t moves_max;
    int64_t replace_after_ns;
    int64_t even_every_ns; /* 0: loads are not evened out */
    int64_t even_due_ns;   /* the placement thread alone */
    int64_t born_ns;
    gy_routing *routing;

    pthread_mutex_t catalog_mu;
    struct gy_cluster_record cluster; /* its ids are guarded by catalog_mu for writing, and by mu too; the rest never changes */
    uint64_t cluster_revision;        /* guarded by catalog_mu */

    pthread_mutex_t mu;
    pthread_cond_t changed;           /* a report came, a training ended, or stopping */
    struct gy_node_entry *nodes;      /* guarded by mu, also what they hold */
    struct gy_collection_entry *collections, *collections_by_id; /* the same */
    struct gy_in_sync_ask *asks;      /* guarded by mu; the newest first */
    size_t ask_count;                 /* the same */
    gy_bus *bus;                      /* guarded by mu; NULL before _start and after _stop */
    bool stopping;                    /* guarded by mu */

    /* Of a shared catalog (lead.c). */
    gy_catalog_lease *lease;          /* to lead; changes under catalog_mu and mu both; NULL: not ours */
    bool leading;                     /* guarded by mu: the table was brought to the catalog's state under that lease */
    int64_t leads_since_ns;           /* guarded by mu */
    char grpc_address[GY_LEADER_ADDRESS_ROOM], bus_address[GY_LEADER_ADDRESS_ROOM]; /* guarded by mu: this coordinator's */
    bool look;                        /* guarded by mu: the thread shall look at the catalog, whatever it waits for */
    struct gy_coordinator coordinators[GY_COORDINATORS_MAX]; /* guarded by mu, as last seen */
    size_t coordinator_count;
    uint64_t looks;                   /* guarded by mu: how often they were */
    gy_catalog_lease *enrolment;      /* the thread's: shows this coordinator to the others */
    pthread_t follower;
    bool follows;
    void (*carry_out)(void *self, gy_bus_request *request); /* guarded by mu; see gy_placement_on_forward */
    void *carry_out_self;

    gy_pool *reports;  /* takes reports; lives as long as the bus may call */
    gy_pool *telling;  /* converges nodes: one job a node at most */
    gy_pool *training; /* one training at a time */
    pthread_t thread;
    bool running;

    gy_metric *reports_taken, *reports_refused, *ensures, *codebooks_sent, *drops, *trainings, *training_failures;
    gy_metric *config_changes, *promotions, *differing, *splits;
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
/* Of one shard; what a split that is under way has cut off still counts. */
uint64_t gy_table_shard_points(const struct gy_collection_entry *entry, uint32_t shard);
/* Publishes the collection's route with links and states as they are. */
GYRE_CHECKED gyre_status gy_table_publish(gy_placement *placement, struct gy_collection_entry *entry, gyre_error *err);
/* Publishes every active collection with a member on the node, and has their plans looked at. A failure is logged. */
void gy_table_node_changed(gy_placement *placement, const struct gy_node_entry *node);
/* Index of a member in its shard's configuration; GY_MEMBERS_MAX if it has none of that id. */
uint32_t gy_table_member(const struct gy_collection_entry *entry, uint32_t shard, uint32_t id);
struct gy_member_entry *gy_table_primary(const struct gy_collection_entry *entry, uint32_t shard);
/* Whether a request may turn to it. */
bool gy_table_member_up(const struct gy_member_entry *member);
/* Takes over what a node said about the member. */
void gy_table_member_said(struct gy_collection_entry *entry, struct gy_member_entry *member,
                          const Gyre__Node__ReplicaStatus *said);
/* Takes over that a node has what may be the member, and cannot open it: its number and what it holds are not known. */
void gy_table_member_troubled(struct gy_collection_entry *entry, struct gy_member_entry *member, int64_t now_ns);
/* Puts another configuration in: what is known of the members that stay is kept. Every node of it is in the table. */
void gy_table_config_set(gy_placement *placement, struct gy_collection_entry *entry, uint32_t shard,
                         const struct gy_shard_config *config);
/* Makes room for one more shard; pointers to shards and configurations are others afterwards. Under catalog_mu, too. */
GYRE_CHECKED gyre_status gy_table_shard_reserve(struct gy_collection_entry *entry, gyre_error *err);
/* Puts another shard in, for which there is room; every node of it is in the table. What is known of the members of the shard
 * that is split into it is known of their parts. Under catalog_mu, too. */
void gy_table_shard_add(gy_placement *placement, struct gy_collection_entry *entry, const struct gy_shard_config *config);
/* Forgets what is only true for who makes the changes and hears of every report: which members were never made, which are absent. */
void gy_table_doubt(struct gy_collection_entry *entry);
/* Bytes of a replica that moving it would move, about. */
uint64_t gy_table_replica_bytes(const struct gy_collection_entry *entry, gy_member_kind kind, uint64_t points);
/* The nodes as a plan sees them; nodes is the caller's to free. *due_ns: when time alone makes one of them down. */
GYRE_CHECKED gyre_status gy_table_world(const gy_placement *placement, int64_t now_ns, struct gy_plan_node **nodes,
                                        struct gy_plan_world *world, int64_t *due_ns, gyre_error *err);

/* Reads the codebook that a record points to. GYRE_NOT_FOUND: the catalog does not have it. No lock. */
GYRE_CHECKED gyre_status gy_table_load_codebook(gy_placement *placement, gy_collection_record *record, uint64_t *revision,
                                                gyre_error *err);
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
/* The same of any keys. */
GYRE_CHECKED gyre_status gy_table_commit_changes(gy_placement *placement, const struct gy_catalog_change *changes, size_t count,
                                                 uint64_t *revision, gyre_error *err);
/* The change that takes an entry's record and codebook away. */
struct gy_table_change gy_table_removal(const struct gy_collection_entry *entry);

/* ---- follow.c ---- */

/* Brings table and routes to what the catalog holds. Under catalog_mu. The first failure; the rest is followed all the same. */
GYRE_CHECKED gyre_status gy_follow(gy_placement *placement, gyre_error *err);

/* ---- lead.c ---- */

/* Whether this coordinator makes the changes, now and beyond doubt: always, where the catalog is its own. Under mu. */
bool gy_leads(const gy_placement *placement);
/* Why it does not: GYRE_UNAVAILABLE, with the leader's address. Under mu. */
gyre_status gy_not_leading(const gy_placement *placement, gyre_error *err);
/* Whether what is known of nodes is from this reign, or time enough has passed: before, nobody is judged to be away. false: not
 * before *due_ns, unless nodes report. Under mu. */
bool gy_lead_heard(const gy_placement *placement, int64_t now_ns, int64_t *due_ns);
/* Whether it stops or does not lead; arg is the gy_placement (a `cancelled` of gy_ask). Takes mu. */
bool gy_placement_idle(void *arg);
GYRE_CHECKED gyre_status gy_lead_start(gy_placement *placement, gyre_error *err);
void gy_lead_stop(gy_placement *placement); /* also when it was not started */

/* ---- converge.c ---- */

/* Compares a node's report with the catalog and, if it must be told something, queues the job. Sorts the report. Under mu. */
void gy_converge(gy_placement *placement, struct gy_node_entry *node, const Gyre__Node__Report *report, int64_t now_ns);
/* Tells every member of a collection its configuration and waits, not longer than cancelled (NULL: never) says of the placement.
 * While the collection is being made, all must hear it; later those that are away hear of it when they report. The first failure
 * by shard number; all are tried. No lock. */
GYRE_CHECKED gyre_status gy_ensure_all(gy_placement *placement, uint64_t collection_id, int64_t deadline_ns,
                                       bool (*cancelled)(void *placement), gyre_error *err);
/* Queues the same for some shards, without waiting. Under mu. */
void gy_tell_shards(gy_placement *placement, struct gy_collection_entry *entry, const struct gy_config_change *changes,
                    size_t count);
/* Tells every member of a collection to drop it; failures are logged, for they drop it when they report. No lock. */
void gy_drop_all(gy_placement *placement, uint64_t collection_id, int64_t deadline_ns);

/* ---- steer.c ---- */

/* Commits configurations of a collection's shards in one transaction, publishes them and tells the members. Those that come too
 * late are left out; *done counts the others. No lock. */
GYRE_CHECKED gyre_status gy_steer_commit(gy_placement *placement, uint64_t collection_id, const struct gy_config_change *changes,
                                         size_t count, size_t *done, gyre_error *err);
/* Queues a primary's question; takes both on success. GYRE_EXHAUSTED, GYRE_UNAVAILABLE. */
GYRE_CHECKED gyre_status gy_steer_ask(gy_placement *placement, gy_bus_request *request, Gyre__Node__ChangeInSync *asked,
                                      gyre_error *err);
/* Answers the questions that wait, or makes the changes that plans want of one collection. false: there was nothing to do, and
 * *due_ns says until when; true: mu may have been let go of meanwhile. Under mu; only the placement thread. */
bool gy_steer(gy_placement *placement, int64_t *due_ns);
/* Answers every question with `status`. Under mu. */
void gy_steer_refuse(gy_placement *placement, gyre_status status, const char *why);

/* What is known of a shard's members, as a plan takes it. Under mu. */
void gy_steer_facts(const struct gy_collection_entry *entry, uint32_t shard, struct gy_plan_fact facts[GY_MEMBERS_MAX]);

/* ---- split.c ---- */

/* Whether a shard of it is being split, or about to. Under mu. */
bool gy_split_under_way(const struct gy_collection_entry *entry);
/* Whether the shard is being split and its child is in the record. Under mu. */
bool gy_split_has_child(const gy_collection_record *record, uint32_t shard);
/* The shard that is being split into `child`; NULL if none is. Under mu. */
const struct gy_shard_config *gy_split_parent(const gy_collection_record *record, uint32_t child);
/* Takes over what a report says of a member's part of the child: of the member itself, and of the replica of the child's number that
 * its node has; NULL: nothing. Under mu. */
void gy_split_heard(struct gy_collection_entry *entry, uint32_t shard, uint32_t at, const Gyre__Node__ReplicaStatus *said,
                    const Gyre__Node__ReplicaStatus *part);
/* Whether a member may join the in-sync set while the shard is being split. Under mu. */
bool gy_split_lets_join(const struct gy_collection_entry *entry, uint32_t shard, uint32_t at);
/* The next step of a shard's split, if it is time; else *due_ns becomes when time alone makes it so, if that is earlier. Under
 * mu. */
bool gy_split_step(struct gy_collection_entry *entry, uint32_t shard, int64_t now_ns, struct gy_config_change *out,
                   int64_t *due_ns);
/* Logs what a change, which is about to be put into the table, does to a split. Under mu. */
void gy_split_note(gy_placement *placement, const struct gy_collection_entry *entry, const struct gy_config_change *change);

/* ---- even.c ---- */

/* When it is time and nothing else is to do, makes changes that even out what nodes carry. false: none, and *due_ns says until
 * when; true: mu was let go of meanwhile. Under mu; only the placement thread. */
bool gy_even(gy_placement *placement, int64_t now_ns, int64_t *due_ns);

/* ---- scrub.c ---- */

/* Has the members of a shard check themselves whose digests differ though they hold the same seq in the same codebook. Under mu. */
void gy_compare_members(gy_placement *placement, const struct gy_collection_entry *entry, uint32_t shard, int64_t now_ns);

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
