/* replica: one shard's copy on this node: orders the shard's writes or follows who does, makes them durable, applies them.
 *
 * Every write is a log entry (epoch, seq), also with one copy: accepted → appended and synced in a group → sent to the other
 * members → committed when all in sync have it → applied → acknowledged. The core (core.h) decides, without I/O; the driver (one
 * thread a replica) does what it says. An I/O error on the log is fail-stop: nothing more is acknowledged and the process is
 * asked to stop. Data that proves damaged stops this replica alone, and the transport is told (transport.h).
 * Source   primary/backup with configuration in a catalog: Lin et al., "PacificA", MSR-TR-2008-25
 * Threads  any */
#ifndef GY_REPLICA_H
#define GY_REPLICA_H

#include "gyre/clock.h"
#include "gyre/shard_config.h"
#include "replica/budget.h"
#include "replica/input.h"
#include "replica/transport.h"
#include "store/copy.h"

#include "gyre/node/node.pb-c.h"

typedef struct gy_replica gy_replica;

struct gy_replica_limits {
    size_t queue_bytes_max;  /* of writes waiting; beyond: GYRE_EXHAUSTED */
    uint64_t disk_free_min;  /* bytes; below: writes are refused with GYRE_EXHAUSTED, reads go on */
    gy_budget *budget;       /* of all replicas of the node, borrowed; beyond: GYRE_EXHAUSTED for upserts. NULL: no limit */
    uint64_t log_keep;       /* entries kept below the applied seq, for followers to catch up; of large ones 64 to 128 MiB */
    const struct gy_replica_transport *transport; /* borrowed; NULL: there is nobody else */
};

GYRE_CHECKED gyre_status gy_replica_create(gy_replica **out, gy_store_env *env, const char *path,
                                           const struct gy_store_identity *identity, uint32_t member,
                                           const struct gy_shard_config *config, const char *codec,
                                           const gyre_codebook *codebook, const struct gy_replica_limits *limits,
                                           gyre_error *err);
/* Opens; where nobody else is needed for a commit, replays the log. */
GYRE_CHECKED gyre_status gy_replica_open(gy_replica **out, gy_store_env *env, const char *path,
                                         const struct gy_replica_limits *limits, gyre_error *err);
/* Refuses new writes and begins to finish those accepted. */
void gy_replica_begin_close(gy_replica *replica);
/* Waits until they are, for followers no longer than GY_CLOSE_NS. Reads and scans go on. By whoever will close it. */
#define GY_CLOSE_NS (2 * GY_SECOND_NS)
void gy_replica_end_writes(gy_replica *replica);
/* All this, flushes, closes. NULL is fine. */
void gy_replica_close(gy_replica *replica);
/* The same for one that is damaged: what is on disk stays as it is. */
void gy_replica_abandon(gy_replica *replica);

const struct gy_store_identity *gy_replica_identity(const gy_replica *replica);
uint32_t gy_replica_member(const gy_replica *replica);
void gy_replica_config(gy_replica *replica, struct gy_shard_config *out);
/* The points, for reads and scans; valid until _close. */
gy_points *gy_replica_points(gy_replica *replica);
/* Holds on to the state of now, for a member that is built from it; freed before _close. */
GYRE_CHECKED gyre_status gy_replica_export(gy_replica *replica, bool without_vectors, gy_export **out, gyre_error *err);
/* gy_store_split, as the transport's split wants it: from inside that alone. */
GYRE_CHECKED gyre_status gy_replica_make_child(gy_replica *replica, const char *path, const struct gy_replica_child *child,
                                               gyre_error *err);
/* gy_store_still. */
GYRE_CHECKED gyre_status gy_replica_still(gy_replica *replica, char **path, gyre_error *err);
/* Takes a newer configuration; an older one is GYRE_ABORTED. GYRE_EXHAUSTED when the disk is nearly full. */
GYRE_CHECKED gyre_status gy_replica_set_config(gy_replica *replica, const struct gy_shard_config *config, gyre_error *err);
/* gy_points_set_codebook, if the memory for it is there: if not, nothing is done and the replica's status says why. */
GYRE_CHECKED gyre_status gy_replica_set_codebook(gy_replica *replica, const gyre_codebook *codebook, gyre_error *err);
void gy_replica_status(gy_replica *replica, Gyre__Node__ReplicaStatus *out, char *trouble, size_t trouble_bytes);

/* Submits a write. Checks every operation first (id, dim, finite, payload): GYRE_INVALID writes nothing. Takes ownership of
 * write (gy_wire_free) whatever happens. on_done runs exactly once, on the replica's thread or inside this call.
 * GYRE_ABORTED: sent for another configuration, or a point is another shard's since a split; GYRE_UNAVAILABLE: it may have
 * happened if the sentence says so. */
typedef void gy_on_written(void *arg, gyre_status status, const gyre_error *err, uint64_t seq, uint64_t deleted);
void gy_replica_write(gy_replica *replica, Gyre__Node__Write *write, int64_t deadline_ns, gy_on_written *on_done, void *arg);

/* GYRE_ABORTED: a point that was asked for is another shard's since a split. */
gyre_status gy_replica_fail_foreign(const gy_replica *replica, gyre_error *err);

/* Takes what a primary sent; checks every entry as a write is checked. Takes ownership of message whatever happens; on failure
 * on_answer does not run. */
GYRE_CHECKED gyre_status gy_replica_append(gy_replica *replica, Gyre__Node__Append *message, gy_on_appended *on_answer, void *arg,
                                           gyre_error *err);

/* Whether the applied state may be read as the newest there is. GYRE_ABORTED: it is not the primary; GYRE_UNAVAILABLE: it is, but
 * its lease is out. */
GYRE_CHECKED gyre_status gy_replica_check_lease(gy_replica *replica, gyre_error *err);

#endif
