/* core: decides for one replica: in which order writes are logged, what is sent to whom, when they are committed, who may be told
 * what.
 *
 * Pure: no disk, clock, network, thread or random source. The driver (replica.c) hands in what happened, with the time, and does
 * what the actions say, in their order; the simulator (cluster-tests/sim) does the same.
 *
 *      OPENING --opened--> SERVING --close--> CLOSING --all answered--> CLOSED
 *                             |  ______________/                          ^
 *          any I/O failed     v v                                         |
 *                            FAILED ----------------close-----------------'
 *
 * While it serves it is the shard's primary, if its configuration says so, or a follower. The rules (README.md has the reasons):
 *   - The primary appends, syncs, then sends: no follower has what the primary's own disk may forget.
 *   - Committed is what every in-sync member has on disk, and every member about to join: at the end when it was last sent to, or
 *     asked for and not answered yet. A primary that restarts does not know whom it had asked for: it commits nothing before the
 *     coordinator made a new epoch.
 *   - A disk that lies: a primary whose own entries another has beyond the end of its log is damaged. (To RocksDB a damaged length
 *     in the last record of a log is a torn write: it opens.)
 *   - Applied is only what is committed; an uncommitted tail is cut off where a newer primary's log differs.
 *   - A follower that answers a primary promises: should it become primary, it commits nothing for GY_PROMISE_NS, unless that one
 *     follows it by then. The primary may serve linearizable reads for GY_LEASE_NS after it sent what all others it needs for a
 *     commit have answered.
 *
 * Invariant after every step (gy_replica_core_check): applied <= committed <= synced <= last; of the writes accepted exactly
 * those with seqs above applied are unanswered; a follower has none.
 * Source   Lin et al., "PacificA", MSR-TR-2008-25, sections 2.2 to 2.4; the set that a commit needs while a joining is under way:
 *          Kafka, KIP-497 ("maximal ISR"); the match of logs by the entry before: Ongaro, Ousterhout, "Raft", USENIX ATC 2014,
 *          section 5.3
 * Threads  none: whoever owns the core calls it */
#ifndef GY_REPLICA_CORE_H
#define GY_REPLICA_CORE_H

#include "gyre/clock.h"
#include "gyre/shard_config.h"

/* Writes accepted and not answered yet: bounds the core and the actions of one step. */
enum { GY_CORE_WRITES_MAX = 1024 };

/* The lease is shorter than the promise by what clocks of two nodes may drift apart meanwhile, 20 %. */
#define GY_PROMISE_NS (1000 * GY_MILLISECOND_NS)
#define GY_LEASE_NS (800 * GY_MILLISECOND_NS)
/* A follower hears from its primary at least so often. */
#define GY_PING_NS (200 * GY_MILLISECOND_NS)
/* An in-sync member that was not caught up for so long is asked out of the set. */
#define GY_LAG_NS (2000 * GY_MILLISECOND_NS)
/* What could not be sent, or was not answered by the coordinator, is tried again after this. */
#define GY_RETRY_NS (100 * GY_MILLISECOND_NS)

typedef enum gy_replica_state {
    GY_REPLICA_OPENING,
    GY_REPLICA_SERVING,
    GY_REPLICA_CLOSING,
    GY_REPLICA_CLOSED,
    GY_REPLICA_FAILED,
} gy_replica_state;

enum { GY_EPOCH_STARTS_MAX = 64 };

/* How a follower answers an append. Values travel. */
typedef enum gy_append_result {
    GY_APPEND_OK = 1,    /* its log is the primary's up to `synced`, on disk */
    GY_APPEND_OLD_EPOCH, /* it knows a newer configuration */
    GY_APPEND_NEW_EPOCH, /* it does not know this configuration yet: send it along */
    GY_APPEND_MISMATCH,  /* the entry before is not in its log; last_epoch, last_seq: its last entry not above that one's */
    GY_APPEND_BUSY,      /* it cannot now: it is being restored, closing, or its disk is full */
    GY_APPEND_AHEAD,     /* its log goes on beyond the primary's, to last_epoch, last_seq, with entries that only this primary made:
                            it has lost what it had on disk, or the append is an old one */
} gy_append_result;

struct gy_append {
    uint64_t epoch;
    uint32_t from;          /* the primary */
    uint64_t prev_epoch, prev_seq;
    uint64_t committed;
    uint64_t last;          /* end of the primary's log */
    int64_t sent_ns;        /* by the primary's clock */
    bool restore;           /* what it needs is trimmed; prev is the last entry trimmed: without it, it is to be built anew */
    size_t count;           /* entries, of seqs prev_seq + 1 … */
    const uint64_t *epochs; /* [count] ascending, none above epoch; lent during the step */
};

struct gy_append_reply {
    gy_append_result result;
    uint64_t epoch;
    uint64_t synced;
    uint64_t last_epoch, last_seq, committed;
    int64_t sent_ns;
};

typedef enum gy_replica_event_kind {
    GY_ON_OPENED,        /* config, self, starts, start_count (the first is of the last entry trimmed, {0, 0} if none was), seq:
                            of the last entry, applied_seq */
    GY_ON_WRITE,         /* token, bytes, epoch: the configuration its sender goes by */
    GY_ON_GATHERED,      /* every write there is now was handed in: a group may start */
    GY_ON_SYNCED,        /* seq: the append up to it is on disk */
    GY_ON_APPLIED,       /* seq: applied up to it; may stop short of what was asked, the rest follows */
    GY_ON_CONFIG,        /* token (0: no reply), config: told by the coordinator, or come with an append. Idle only */
    GY_ON_CONFIG_STORED, /* the configuration asked for is on disk */
    GY_ON_APPEND,        /* token, append: from a primary. Idle only */
    GY_ON_APPEND_REPLY,  /* member, reply: what was sent to it is answered */
    GY_ON_SEND_FAILED,   /* member: what was sent to it will not be answered */
    GY_ON_ASK_FAILED,    /* what was asked was refused, or not answered: it may still come about */
    GY_ON_RESTORE_FAILED, /* what GY_DO_RESTORE asked for did not come about: the primary will ask again */
    GY_ON_TICK,          /* time passed */
    GY_ON_TRIMMED,       /* seq: entries up to it left the log */
    GY_ON_IO_FAILED,     /* what was asked (append, apply, store) failed: nothing may be assumed about it */
    GY_ON_DISK_LOW,
    GY_ON_DISK_OK,
    GY_ON_CLOSE,         /* a second one gives up waiting for followers */
} gy_replica_event_kind;

struct gy_replica_event {
    gy_replica_event_kind kind;
    int64_t now_ns;
    uint64_t token;
    uint64_t epoch;
    uint64_t seq;
    uint64_t applied_seq;
    size_t bytes;
    uint32_t self, member;
    const struct gy_shard_config *config; /* lent during the step, as is all below */
    const struct gy_epoch_start *starts;
    size_t start_count;
    const struct gy_append *append;
    const struct gy_append_reply *reply;
};

typedef enum gy_replica_action_kind {
    GY_DO_REPLY,        /* token, why; seq if it was written */
    GY_DO_ANSWER,       /* token, reply: of an append */
    GY_DO_SEND,         /* member, append (without epochs), upto: send entries append.prev_seq + 1 … upto, or fewer, with their
                           epochs; with_config: and the configuration */
    GY_DO_ASK,          /* epoch, in_sync: ask the coordinator for this in-sync set, in a new epoch even if the set is the same:
                           then no older request can come about. Answered by _CONFIG (token 0) or _ASK_FAILED */
    GY_DO_RESTORE,      /* this replica's log has nothing the primary still has: build it anew from the primary's state */
    /* I/O: at most one a step, and last. */
    GY_DO_APPEND,       /* epoch, seq (first), count: write the entries in one synced append; gy_replica_core_token names them */
    GY_DO_APPEND_TAKEN, /* token, seq (first), count: the last count entries of that append, the same way; cut: first take entries
                           from seq on out of the log, in the same synced write */
    GY_DO_APPLY,        /* seq (first), upto: apply these committed entries */
    GY_DO_STORE_CONFIG, /* gy_replica_core_next_config: store it, synced */
    GY_DO_FINISH,       /* everything accepted is answered: close */
    GY_DO_STOP,         /* fail-stop: the process must end */
    GY_DO_FENCE,        /* the log lost entries that others have: it is damaged, and nothing in this replica may be relied on */
} gy_replica_action_kind;

/* Why a token is answered. Only GY_REPLY_DONE is good news; only GY_REPLY_UNKNOWN leaves open whether the write happened. */
typedef enum gy_reply_why {
    GY_REPLY_DONE,
    GY_REPLY_EPOCH,       /* another epoch than this replica's, or it is not the primary */
    GY_REPLY_FEW,         /* fewer members are in sync than min_copies */
    GY_REPLY_DISK,        /* below the disk's watermark */
    GY_REPLY_FULL,        /* too many writes wait */
    GY_REPLY_NOT_SERVING, /* opening, closing or stopped */
    GY_REPLY_UNKNOWN,     /* logged; then the log failed, another became primary, or too few copies were left */
} gy_reply_why;

struct gy_replica_action {
    gy_replica_action_kind kind;
    gy_reply_why why;
    uint64_t token;
    uint64_t epoch;
    uint64_t seq;
    uint64_t upto;
    size_t count;
    bool cut, with_config;
    uint32_t member;
    union {
        struct gy_append append;
        struct gy_append_reply reply;
        struct {
            uint32_t ids[GY_MEMBERS_MAX];
            uint32_t count;
        } in_sync;
    };
};

struct gy_replica_actions {
    size_t count;
    struct gy_replica_action items[GY_CORE_WRITES_MAX + GY_MEMBERS_MAX + 4];
};

struct gy_core_write {
    uint64_t token;
    size_t bytes;
};

/* What the primary knows of another member. */
struct gy_core_peer {
    uint32_t id;
    bool known;           /* its log is known to be ours up to `matched` */
    bool under_way;       /* an append is not answered yet */
    bool restore;         /* what it needs is trimmed */
    bool joining;         /* about to be asked in: a commit needs it already */
    uint64_t matched;     /* on its disk */
    uint64_t next;        /* to send */
    uint64_t told;        /* committed, as last sent */
    uint64_t sent_last;   /* our last entry when the append under way was sent */
    uint64_t epoch;       /* newest of ours it answered in */
    int64_t sent_ns, retry_ns;
    int64_t acked_ns;     /* our time of sending of the newest append it answered; INT64_MIN: none */
    int64_t caught_up_ns; /* our time of sending of the newest append that brought it to our end */
    int64_t heard_ns;     /* when it last answered anything; 0: never */
};

typedef struct gy_replica_core {
    gy_replica_state state;
    uint32_t self;
    struct gy_shard_config config, next_config;
    uint64_t config_token;
    uint64_t applied, committed, synced, last;
    struct gy_epoch_start starts[GY_EPOCH_STARTS_MAX];
    size_t start_count;
    bool appending, applying, storing, disk_low, restoring, giving_up;
    size_t group_bytes_max;
    int64_t stepped_ns;

    /* Follower: the append that is being written, to be answered. */
    uint64_t answer_token;
    struct gy_append_reply answer;
    uint64_t answer_committed;
    bool answering;
    int64_t promised_until_ns;
    uint32_t promised_to;    /* the only member it was promised to; 0: there are several, or they are not known */

    /* Primary. */
    struct gy_core_peer peers[GY_MEMBERS_MAX];
    size_t peer_count;
    uint64_t takeover;       /* last entry when it became primary */
    int64_t gate_ns;         /* commits nothing before, unless */
    uint32_t gate_member;    /* this one answers as a follower: then it has no lease any more. 0: none */
    bool asking, ask_under_way;
    bool outdated;           /* there is a newer configuration, or there may be: commits nothing, accepts nothing, asks */
    int64_t ask_retry_ns;
    uint32_t asked[GY_MEMBERS_MAX]; /* members that a commit needs besides the in-sync ones: their joining is not answered */
    size_t asked_count;

    /* Accepted and unanswered, a ring, oldest first: the first `logged` have the seqs last - logged + 1 … last; the rest
     * wait. */
    struct gy_core_write writes[GY_CORE_WRITES_MAX];
    size_t head, count, logged;
} gy_replica_core;

/* group_bytes_max bounds one append; a single larger write goes alone. */
void gy_replica_core_init(gy_replica_core *core, size_t group_bytes_max);

/* Takes one event and writes what is to be done. An event that cannot happen in the state is the driver's mistake: assert. */
void gy_replica_step(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions);

/* Whether no I/O is under way: then configurations and appends may be handed in. */
bool gy_replica_core_idle(const gy_replica_core *core);
bool gy_replica_core_primary(const gy_replica_core *core);
/* The configuration that is to be stored. */
const struct gy_shard_config *gy_replica_core_next_config(const gy_replica_core *core);
/* Until when linearizable reads may be answered from the applied state; INT64_MIN: not now, GY_NEVER: as long as it is
 * primary. */
int64_t gy_replica_core_lease_ns(const gy_replica_core *core);
/* When the next tick is wanted; GY_NEVER: none. */
int64_t gy_replica_core_due_ns(const gy_replica_core *core);
/* Whether a member is on its way to the end of the log: it answers and was behind for long. What is trimmed now it would need, and a
 * state that it was copied once more would be too old again. */
bool gy_replica_core_awaited(const gy_replica_core *core, int64_t now_ns);
/* The epoch of a log entry, or of the last one trimmed; 0: not known. */
uint64_t gy_replica_core_epoch_at(const gy_replica_core *core, uint64_t seq);
/* The token of a logged, unanswered write; seq > last - logged. */
uint64_t gy_replica_core_token(const gy_replica_core *core, uint64_t seq);
/* Writes that wait for a group. */
size_t gy_replica_core_waiting(const gy_replica_core *core);
/* Whether the invariant holds; *why (static) says what does not. */
bool gy_replica_core_check(const gy_replica_core *core, const char **why);

#endif
