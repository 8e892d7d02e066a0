/* fake_node: a shard daemon that a test plays: it keeps what it was told, and misbehaves when asked to. */
#ifndef GY_FAKE_NODE_H
#define GY_FAKE_NODE_H

#include "gyre/bus.h"
#include "gyre/codebook.h"
#include "gyre/shard_config.h"

#include "gyre/node/node.pb-c.h"

#include <pthread.h>

enum { FAKE_REPLICAS_MAX = 64, FAKE_TYPES = 16, FAKE_ID_OF_SHARD = 1000000 /* ids of shard s begin at s times this */ };
#define FAKE_PATIENCE_NS (50 * GY_SECOND_NS) /* a test that waits this long has failed; less than the coordinator's own limits */

struct fake_replica {
    uint64_t collection_id, epoch, points;
    uint32_t shard, codebook_version, member;
    uint64_t log_seq;
    bool lost, restoring;
    bool closed;          /* it is there and cannot be opened until it is told to */
    bool named;           /* and its node remembers which member it is */
    bool waiting;         /* a split has made it; it serves once it is told its configuration */
    struct gy_hash_range owned;
    uint64_t foreign;
    struct gy_shard_config config; /* the newest it was told */
    gyre_codebook *asked; /* the newest it was told */
    char codec[32];       /* of which it was told */
    float *vectors;       /* [points][dim]; NULL: see fake_node_fill */
};

typedef struct fake_node {
    char name[65];
    gy_bus *bus;
    gy_peer *coordinator;
    uint64_t started_unix_ms;
    char zone[16];
    size_t nodes_told; /* addresses in the newest answer to a report */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct fake_replica replicas[FAKE_REPLICAS_MAX]; /* guarded by mu, as is all below */
    size_t count;
    unsigned asked[FAKE_TYPES];             /* requests by message type */
    unsigned codebooks;                     /* requests that brought one */
    gyre_status refuse[FAKE_TYPES];         /* by message type; GYRE_OK: obey */
    uint16_t swallows; /* requests of this type are answered only when it closes, as of a frozen daemon that is killed */
    uint64_t snapshot, snapshots_begun;     /* the state that is held; 0: none */
    bool stuck;                             /* its snapshots have no points and no end */
    bool slow_to_encode;                    /* keeps the older codebook until fake_node_encode */
    gy_bus_request *swallowed[FAKE_REPLICAS_MAX];
    size_t swallowed_count;
} fake_node;

/* Fails the running test if it cannot. */
void fake_node_open(fake_node *node, const char *name, const uint8_t key[GY_BUS_KEY_BYTES], const char *coordinator);
void fake_node_close(fake_node *node);
/* Comes back at another address with the replicas it had, as after a restart. */
void fake_node_restart(fake_node *node, const uint8_t key[GY_BUS_KEY_BYTES], const char *coordinator);

/* Sends a report as it is now; what the coordinator answered. */
gyre_status fake_node_report(fake_node *node, gyre_error *err);
/* What a primary does: asks for another in-sync set of the shard, in the epoch it was told. *now is the configuration that holds
 * then. */
gyre_status fake_node_ask(fake_node *node, uint32_t shard, const uint32_t *in_sync, size_t count, struct gy_shard_config *now,
                          gyre_error *err);
/* What every member does whose shard is to be split: applies the narrowing, as entry seq of its log, and makes its part of the
 * child.
 *   part  false: it makes none, as one that was built from another one's rows afterwards */
void fake_node_narrow(fake_node *node, uint32_t shard, uint64_t seq, bool part);
/* The replica of a shard as it is now; member 0: there is none. */
struct fake_replica fake_node_look(fake_node *node, uint32_t shard);
/* Loses a replica, as with its disk. */
void fake_node_lose(fake_node *node, uint32_t shard);
/* The same under another name than the connection's. */
gyre_status fake_node_report_as(fake_node *node, const char *name, gyre_error *err);

/* Every replica gets this many points; every vector of shard s is (s + 1) · (1, 2, 3, …). */
void fake_node_fill(fake_node *node, uint64_t points_per_replica);
/* Every replica gets this many points of its own, in clusters that the shards share. They can be summed, sampled, scanned
 * (exactly) and read. */
void fake_node_grow(fake_node *node, uint64_t points_per_replica);
/* Re-encodes to the newest codebook it was told. */
void fake_node_encode(fake_node *node);
/* Waits until done(node, arg), called under mu, is true; fails the test after FAKE_PATIENCE_NS. */
void fake_node_await(fake_node *node, bool (*done)(const fake_node *node, uint64_t arg), uint64_t arg, const char *what);

bool fake_swallowed(const fake_node *node, uint64_t count); /* so many requests */
bool fake_holds(const fake_node *node, uint64_t count);          /* count replicas */
bool fake_was_told_epoch(const fake_node *node, uint64_t epoch);      /* every replica, at least */
bool fake_was_told_codebook(const fake_node *node, uint64_t version); /* every replica */

#endif
