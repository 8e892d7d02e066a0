/* split_world: a collection whose last shard is split while requests run: its routing, as placement would publish it, and two
 * nodes that a test plays, each of which has all shards. Point i has the vector (i, 1). */
#ifndef GY_TEST_SPLIT_WORLD_H
#define GY_TEST_SPLIT_WORLD_H

#include "routing/publish.h"

#include "gyre/node/node.pb-c.h"

#include <pthread.h>

enum { SPLIT_NODES = 2, SPLIT_SHARDS_MAX = 3, SPLIT_POINTS = 100, SPLIT_DIM = 2, SPLIT_TYPES = 16, SPLIT_WINDOW = 256 };
#define SPLIT_PATIENCE_NS (50 * GY_SECOND_NS)

struct split_point {
    bool there;
    uint64_t version;
};

/* Both replicas of a shard. */
struct split_shard {
    struct gy_hash_range owned, content;
    uint64_t seq;
    struct split_point points[SPLIT_POINTS];
    uint64_t requests[SPLIT_WINDOW]; /* [request_count] numbers of writes that were applied, and */
    uint64_t deleted[SPLIT_WINDOW];  /* what they were answered */
    size_t request_count;
};

struct split_world {
    gy_bus *client;
    struct split_node {
        struct split_world *world;
        gy_bus *bus;
        gy_link *link;
    } nodes[SPLIT_NODES];
    gy_routing *routing;
    gy_collection_record record; /* the test's thread alone */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    /* guarded by mu: */
    struct split_shard shards[SPLIT_SHARDS_MAX];
    uint32_t shard_count;
    struct split_shard held;          /* the state that a snapshot reads */
    unsigned asked[SPLIT_TYPES];      /* shards that were asked, by message type */
    unsigned refused[SPLIT_TYPES];    /* of them, those that were answered GYRE_ABORTED */
    uint64_t min_seqs[SPLIT_SHARDS_MAX]; /* that the last read of each asked for */
    unsigned recognised;              /* writes that had been applied before */
    uint16_t forgets_at;              /* a request of this type meets a shard that has just forgotten; 0: none does */
    bool loses_answers;               /* writes are applied and the answer is lost */
};

/* With so many shards of equal size, all points in their places, and the view published. */
struct split_world *split_world_open(uint32_t shards);
void split_world_close(struct split_world *world);

/* The last shard owns its lower half from now on, and there is a shard more, of the upper half; the first still has it all. The view
 * stays as it is. */
void split_narrow(struct split_world *world);
/* What it does not own is gone. */
void split_forget(struct split_world *world);
/* The view of now: with narrowed shards if switched, else as it was before, however many there are. */
void split_publish(struct split_world *world, bool switched);
/* Waits until a message of this type was refused; the test fails if none is. */
void split_await_refused(struct split_world *world, uint16_t type);
void split_await_asked(struct split_world *world, uint16_t type);

#endif
