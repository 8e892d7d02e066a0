/* state: what the files behind replica.h share.
 *
 * replica.c: opening, closing, what any thread may call · drive.c: the thread, and the actions that are I/O here ·
 * replicate.c: what goes to others and what comes back · own.c: what a primary writes by itself.
 * Lock: mu guards what other threads hand in; it is never held over I/O or a call. */
#ifndef GY_REPLICA_STATE_H
#define GY_REPLICA_STATE_H

#include "replica/check.h"
#include "replica/core.h"
#include "replica/disk.h"
#include "replica/group.h"
#include "replica/job.h"

#include <pthread.h>
#include <stdatomic.h>

struct gy_replica {
    /* Set when opened, then constant. */
    gy_store *store;
    gy_points *points;
    struct gy_replica_limits limits;
    char *path;
    uint32_t member;
    pthread_t thread;
    bool thread_runs;
    struct gy_budget_member share;

    /* The replica's thread alone (before it starts and after it ended: whoever opens and closes). */
    gy_replica_core core;
    struct gy_replica_actions actions;
    gy_group group;
    gy_window *window;
    gy_disk_watch disk;
    uint64_t logged_bytes; /* since the last trim */
    uint64_t held_bytes;   /* not trimmed, because a member catches up */
    uint64_t trim_seq;     /* applied then, or at opening */
    int64_t close_ns;      /* when followers are no longer waited for; 0: not closing */
    bool unsent;           /* for want of memory: what was to be sent or asked was not */
    bool own_under_way;    /* a write of its own is not answered yet */
    int64_t own_retry_ns;  /* the next is not tried before; 0: it may be */
    bool finished;
    gyre_error failure;    /* of the last I/O */

    pthread_mutex_t mu;
    pthread_cond_t changed; /* work for the thread, an answer to who waits, or nothing under way any more */
    /* Guarded by mu. */
    struct gy_job_queue incoming;
    struct gy_input_queue inputs;
    size_t under_way;      /* calls of the transport without an answer */
    bool closing, ended;   /* ended: the thread takes nothing more */
    char trouble[GYRE_ERROR_TEXT_BYTES];
    char short_of_memory[GYRE_ERROR_TEXT_BYTES]; /* why a newer codebook was not begun; "" if it was */
    struct gy_shard_config config;               /* a copy of the core's */

    /* Copies of the core's, for any thread. */
    atomic_uint_least64_t epoch, log_seq;
    atomic_int_least64_t lease_ns;
    atomic_bool primary, restoring;
};

/* ---- drive.c ---- */

/* Hands an event to the core, with the time, and does everything that follows from it. */
void gy_replica_drive(gy_replica *replica, struct gy_replica_event event);
/* The thread; arg: the replica. */
void *gy_replica_run(void *arg);
/* Answers what nobody will look at any more. */
void gy_replica_refuse_inputs(gy_replica *replica);

/* ---- replica.c ---- */

/* What the replica takes now. Any thread. */
struct gy_write_rules gy_replica_rules(gy_replica *replica);

/* ---- replicate.c ---- */

void gy_replica_send(gy_replica *replica, const struct gy_replica_action *action);
void gy_replica_ask(gy_replica *replica, const struct gy_replica_action *action);
void gy_replica_restore(gy_replica *replica);

/* ---- own.c ---- */

/* Hands the core the next write that is the primary's own, if one is due. */
void gy_replica_write_own(gy_replica *replica);
/* Applies one, which passed gy_write_check, as the entry of seq: nothing else is in its batch. */
GYRE_CHECKED gyre_status gy_replica_apply_own(gy_replica *replica, const Gyre__Node__Write *write, uint64_t epoch, uint64_t seq);

#endif
