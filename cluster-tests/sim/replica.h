/* replica: the driver of one core, in a process. */
#ifndef GY_SIM_REPLICA_H
#define GY_SIM_REPLICA_H

#include "node.h"

/* What waits for an answer: the token of a core is its place + 1. */
struct gy_sim_job {
    struct gy_sim_message *message; /* NULL: the place is free */
    struct gy_sim_result result;
    uint64_t pretended_epoch;       /* a planted bug's: what the sender of the append said */
};

typedef enum gy_sim_io {
    GY_SIM_IO_NONE,
    GY_SIM_IO_APPEND,
    GY_SIM_IO_APPLY,
    GY_SIM_IO_CONFIG,
    GY_SIM_IO_REPLACE,
    GY_SIM_IO_SPLIT, /* the part of the child that comes before a narrowing is applied */
} gy_sim_io;

struct gy_sim_call {
    uint64_t call; /* 0: none */
    uint32_t member;
};

enum { GY_SIM_QUEUE_MAX = 64 };

struct gy_sim_replica {
    uint8_t node;
    uint32_t shard;
    uint64_t serial; /* of this opening; events of another one are dropped */
    bool opened, finished;
    gy_replica_core core;
    struct gy_sim_state state;

    struct gy_sim_job *jobs; /* [job_room] */
    size_t job_room, job_free;
    struct gy_sim_message *queue[GY_SIM_QUEUE_MAX]; /* wait until nothing is on its way to the disk */
    size_t queue_count;
    struct gy_sim_call sends[GY_MEMBERS_MAX], ask, restore;
    uint32_t restore_tries;
    struct gy_sim_message *snapshot; /* came, is to replace what is there */
    uint64_t timer;                  /* number of the timer that counts */
    int64_t timer_ns;                /* local; GY_NEVER: none */
    int64_t ticks_since_ns;
    uint32_t ticks;                  /* since then */
    bool own_under_way;              /* an entry that it logs by itself: of a split */
    int64_t own_ns;                  /* not before */

    /* On its way to the disk. */
    gy_sim_io io;
    uint64_t io_number;
    int64_t io_until_ns;
    struct gy_sim_entry *entries; /* [entry_room] */
    size_t entry_count, entry_room;
    uint64_t io_seq, io_upto;
    bool io_cut;
    const struct gy_shard_config *io_config;
};

/* Opens what is on the node's disk. */
void gy_sim_replica_open(struct gy_sim *sim, uint8_t node, uint32_t shard);
/* Its process dies, or it alone is dropped: what is on its way to the disk may arrive or not, or in part. */
void gy_sim_replica_lose(struct gy_sim *sim, struct gy_sim_replica *replica);
void gy_sim_replica_free(struct gy_sim_replica *replica);
/* The core is told of something that needs no more than this. */
void gy_sim_replica_tell(struct gy_sim *sim, struct gy_sim_replica *replica, gy_replica_event_kind kind);
/* An event, and everything that follows from it. */
void gy_sim_replica_drive(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_event *event);
/* Begins what the action wants of the disk. true: it is done already, and *event says so. */
bool gy_sim_replica_io(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action,
                       struct gy_replica_event *event);
/* What came as a snapshot takes the place of what is on the disk. */
void gy_sim_replica_replace(struct gy_sim *sim, struct gy_sim_replica *replica);
/* Opens the core on what the disk has. */
void gy_sim_replica_begin(struct gy_sim *sim, struct gy_sim_replica *replica);
/* Between two steps, with nothing on its way to the disk: flushes and trims now and then. */
void gy_sim_replica_keep_house(struct gy_sim *sim, struct gy_sim_replica *replica);
uint64_t gy_sim_replica_job(struct gy_sim_replica *replica, struct gy_sim_message *message);
/* Messages that actions ask for. */
void gy_sim_replica_send(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action);
void gy_sim_replica_ask(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action);
void gy_sim_replica_restore(struct gy_sim *sim, struct gy_sim_replica *replica);
/* Whether it would answer a linearizable read of the key. */
bool gy_sim_replica_reads(const struct gy_sim *sim, const struct gy_sim_replica *replica, uint32_t key);
/* Whether it keeps the message. */
bool gy_sim_replica_receive(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_sim_message *message);

#endif
