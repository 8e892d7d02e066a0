/* replica: one shard's copy on this node: orders its writes, makes them durable, applies them, answers reads.
 *
 * Every write is a log entry (epoch, seq), also with one copy: accepted → appended and synced in a group → committed → applied
 * → acknowledged. The core (core.h) decides, without I/O; the driver (one thread a replica) does what it says. An I/O error on
 * the log is fail-stop: nothing more is acknowledged and the process is asked to stop.
 * Source   primary/backup with configuration in a catalog: Lin et al., "PacificA", MSR-TR-2008-25
 * Threads  any */
#ifndef GY_REPLICA_H
#define GY_REPLICA_H

#include "gyre/clock.h"
#include "replica/budget.h"

#include "gyre/node/node.pb-c.h"

typedef struct gy_replica gy_replica;

struct gy_replica_limits {
    size_t queue_bytes_max;  /* of writes waiting; beyond: GYRE_EXHAUSTED */
    uint64_t disk_free_min;  /* bytes; below: writes are refused with GYRE_EXHAUSTED, reads go on */
    gy_budget *budget;       /* of all replicas of the node, borrowed; beyond: GYRE_EXHAUSTED for upserts. NULL: no limit */
    uint64_t log_keep;       /* entries kept below the applied seq, for followers to catch up; of large ones 64 to 128 MiB */
};

GYRE_CHECKED gyre_status gy_replica_create(gy_replica **out, gy_store_env *env, const char *path,
                                           const struct gy_store_identity *identity, uint32_t member,
                                           const struct gy_shard_config *config, const char *codec,
                                           const gyre_codebook *codebook, const struct gy_replica_limits *limits,
                                           gyre_error *err);
/* Opens, replays the log's committed tail. */
GYRE_CHECKED gyre_status gy_replica_open(gy_replica **out, gy_store_env *env, const char *path,
                                         const struct gy_replica_limits *limits, gyre_error *err);
/* Refuses new writes, finishes those accepted, flushes, closes. */
void gy_replica_close(gy_replica *replica);

const struct gy_store_identity *gy_replica_identity(const gy_replica *replica);
/* The points, for reads and scans; valid until _close. */
gy_points *gy_replica_points(gy_replica *replica);
/* Takes a newer epoch; an older one is GYRE_ABORTED. GYRE_EXHAUSTED when the disk is nearly full. */
GYRE_CHECKED gyre_status gy_replica_set_epoch(gy_replica *replica, uint64_t epoch, gyre_error *err);
/* gy_points_set_codebook, if the memory for it is there: if not, nothing is done and the replica's status says why. */
GYRE_CHECKED gyre_status gy_replica_set_codebook(gy_replica *replica, const gyre_codebook *codebook, gyre_error *err);
void gy_replica_status(gy_replica *replica, Gyre__Node__ReplicaStatus *out, char *trouble, size_t trouble_bytes);

/* Submits a write. Checks every operation first (id, dim, finite, payload): GYRE_INVALID writes nothing. Takes ownership of
 * write (gy_wire_free) whatever happens. on_done runs exactly once, on the replica's thread or inside this call. */
typedef void gy_on_written(void *arg, gyre_status status, const gyre_error *err, uint64_t seq, uint64_t deleted);
void gy_replica_write(gy_replica *replica, Gyre__Node__Write *write, int64_t deadline_ns, gy_on_written *on_done, void *arg);

#endif
