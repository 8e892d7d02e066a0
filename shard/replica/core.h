/* core: decides for one replica: in which order writes are logged, when they are committed, who may be told what.
 *
 * Pure: no disk, clock, thread or random source. The driver (replica.c) hands in what happened and does what the actions say,
 * in their order; a simulator can do the same.
 *
 *      OPENING --opened--> REPLAYING --all applied--> SERVING --close--> CLOSING --all answered--> CLOSED
 *                              \______________________ | ______________/                              ^
 *                                    any I/O failed    v                                              |
 *                                                    FAILED ------------------close------------------'
 *
 * Invariant after every step (gy_replica_core_check): applied <= committed <= synced <= last, the seqs of the log are dense,
 * and of the writes accepted exactly those with seqs above applied are unanswered.
 * The commit rule is one function of what each copy has synced; there is one copy now, so committed = synced here. Followers
 * add their acknowledgements to that rule and nothing else.
 * Source   primary/backup: Lin et al., "PacificA", MSR-TR-2008-25, section 2 (prepared and committed lists)
 * Threads  none: whoever owns the core calls it */
#ifndef GY_REPLICA_CORE_H
#define GY_REPLICA_CORE_H

#include "gyre/base.h"

/* Writes accepted and not answered yet: bounds the core and the actions of one step. */
enum { GY_CORE_WRITES_MAX = 1024 };

typedef enum gy_replica_state {
    GY_REPLICA_OPENING,
    GY_REPLICA_REPLAYING,
    GY_REPLICA_SERVING,
    GY_REPLICA_CLOSING,
    GY_REPLICA_CLOSED,
    GY_REPLICA_FAILED,
} gy_replica_state;

typedef enum gy_replica_event_kind {
    GY_ON_OPENED,       /* epoch, seq: of the last log entry or, if newer, the stored epoch; applied_seq */
    GY_ON_WRITE,        /* token, bytes, epoch: the configuration its sender goes by */
    GY_ON_GATHERED,     /* every write there is now was handed in: a group may start */
    GY_ON_SYNCED,       /* seq: the append up to it is on disk */
    GY_ON_APPLIED,      /* seq: applied up to it; may stop short of what was asked, the rest follows */
    GY_ON_EPOCH,        /* token, epoch: a configuration to take */
    GY_ON_EPOCH_STORED, /* the epoch asked for is on disk */
    GY_ON_IO_FAILED,    /* what was asked (append, apply, store epoch) failed: nothing may be assumed about it */
    GY_ON_DISK_LOW,
    GY_ON_DISK_OK,
    GY_ON_CLOSE,
} gy_replica_event_kind;

struct gy_replica_event {
    gy_replica_event_kind kind;
    uint64_t token;
    uint64_t epoch;
    uint64_t seq;
    uint64_t applied_seq;
    size_t bytes;
};

/* Replies come first in the actions of a step, then at most one of the others. */
typedef enum gy_replica_action_kind {
    GY_DO_REPLY,       /* token, why; seq if it was written */
    GY_DO_APPEND,      /* epoch, seq (first), count: write the entries in one synced append; gy_replica_core_token names them */
    GY_DO_APPLY,       /* seq (first), upto: apply these committed entries */
    GY_DO_STORE_EPOCH, /* epoch: store it, synced */
    GY_DO_FINISH,      /* everything accepted is answered: close */
    GY_DO_STOP,        /* fail-stop: the process must end */
} gy_replica_action_kind;

/* Why a token is answered. Only GY_REPLY_DONE is good news; only GY_REPLY_UNKNOWN leaves open whether the write happened. */
typedef enum gy_reply_why {
    GY_REPLY_DONE,
    GY_REPLY_EPOCH,       /* another epoch than this replica's */
    GY_REPLY_DISK,        /* below the disk's watermark */
    GY_REPLY_FULL,        /* too many writes wait */
    GY_REPLY_NOT_SERVING, /* opening, closing or stopped */
    GY_REPLY_UNKNOWN,     /* the log failed while it was written */
} gy_reply_why;

struct gy_replica_action {
    gy_replica_action_kind kind;
    gy_reply_why why;
    uint64_t token;
    uint64_t epoch;
    uint64_t seq;
    uint64_t upto;
    size_t count;
};

struct gy_replica_actions {
    size_t count;
    struct gy_replica_action items[GY_CORE_WRITES_MAX + 2];
};

struct gy_core_write {
    uint64_t token;
    size_t bytes;
};

typedef struct gy_replica_core {
    gy_replica_state state;
    uint64_t epoch, epoch_asked;  /* asked: being stored */
    uint64_t epoch_token;
    uint64_t applied, committed, synced, last;
    bool appending, applying, storing_epoch, disk_low;
    size_t group_bytes_max;
    /* Accepted and unanswered, a ring, oldest first: the first `logged` have the seqs last - logged + 1 … last; the rest wait. */
    struct gy_core_write writes[GY_CORE_WRITES_MAX];
    size_t head, count, logged;
} gy_replica_core;

/* group_bytes_max bounds one append; a single larger write goes alone. */
void gy_replica_core_init(gy_replica_core *core, size_t group_bytes_max);
/* Takes one event and writes what is to be done. An event that cannot happen in the state is the driver's mistake: assert. */
void gy_replica_step(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions);
/* The token of a logged, unanswered write. */
uint64_t gy_replica_core_token(const gy_replica_core *core, uint64_t seq);
/* Writes that wait for a group. */
size_t gy_replica_core_waiting(const gy_replica_core *core);
/* Whether the invariant holds; *why (static) says what does not. */
bool gy_replica_core_check(const gy_replica_core *core, const char **why);

#endif
