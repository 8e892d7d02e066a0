/* hosted: what node.c and hosted.c share: the node's table of replicas, and how a place in it is filled: found at start, opened,
 * split off another.
 * Lock  node->mu, where it says so */
#ifndef GY_SERVER_HOSTED_H
#define GY_SERVER_HOSTED_H

#include "server/node.h"
#include "server/restore.h"
#include "server/waiting.h"

#include "gyre/pool.h"

#include <pthread.h>
#include <uthash.h>

/* A place whose replica is gone is removed from the table, so there is no state for that. FENCING: found damaged and still
 * open; it becomes TROUBLED. SPLITTING: being made of another replica; it becomes WAITING (waiting.h), and OPENING once it is
 * claimed. */
enum hosted_state {
    HOSTED_OPENING,
    HOSTED_SERVING,
    HOSTED_FENCING,
    HOSTED_TROUBLED,
    HOSTED_DROPPING, /* from here on: not there for who asks for the replica */
    HOSTED_SPLITTING,
    HOSTED_WAITING,
};

struct hosted_key {
    uint64_t collection_id;
    uint64_t shard; /* wide, so that the key has no padding bytes to hash */
};

struct gy_hosted {
    UT_hash_handle hh;
    struct hosted_key key; /* constant */
    gy_node *node;         /* constant */
    char *path;            /* constant, but for one that waited and was claimed: whoever claimed it changes it, while OPENING */
    /* Guarded by node->mu. */
    enum hosted_state state;
    gy_replica *replica;   /* SERVING, FENCING, DROPPING */
    size_t holders;
    uint32_t member;       /* that the replica here is or last was; 0: none was ever open */
    gyre_error trouble;    /* FENCING, TROUBLED */
    bool unclaimed;        /* path is where one waits; TROUBLED: what it is could not be seen */
    struct gy_waiting waiting; /* WAITING */
};

struct gy_node {
    char *name, *data_dir, *replicas_dir;
    struct gy_replica_limits limits; /* its budget is the node's own */
    gy_store_env *env;
    gy_links *links;
    gy_restores *restores;
    struct gy_replica_transport transport;
    pthread_mutex_t fenced_mu; /* held while on_fenced runs; before mu */
    gy_on_fenced *on_fenced;   /* guarded by fenced_mu, as is the next */
    void *on_fenced_self;
    pthread_mutex_t mu;
    pthread_cond_t changed; /* a place's state or holders, or the count of changes */
    /* Guarded by mu. */
    gy_hosted *table;
    uint64_t change_count;
    size_t changing; /* calls that make or drop replicas */
    bool ending;     /* there will be no more of them */
    gy_pool *fences; /* closes damaged replicas; NULL once ending */
    uint64_t fenced_count;
};

/* ---- the table; called with mu held ---- */

/* NULL: there is none. */
gy_hosted *gy_place_find(gy_node *node, uint64_t collection_id, uint32_t shard);
/* An OPENING one, at the path of one that waits or not. */
GYRE_CHECKED gyre_status gy_place_add(gy_node *node, uint64_t collection_id, uint32_t shard, bool waiting, gy_hosted **out,
                                      gyre_error *err);
void gy_place_remove(gy_node *node, gy_hosted *hosted);
/* Wakes who waits for a change. */
void gy_node_note_change(gy_node *node);

/* ---- filling a place; mu is not held ---- */

/* NULL: no memory. */
char *gy_place_path(const gy_node *node, uint64_t collection_id, uint32_t shard, bool waiting);
/* Opens the replica of an OPENING place (arg) and publishes what that came to. */
void gy_place_open(void *arg);
void gy_place_opened(gy_hosted *hosted, gy_replica *replica, gyre_status status, const gyre_error *err);
/* Publishes what looking at one that waits came to. */
void gy_place_looked_at(gy_hosted *hosted, const struct gy_waiting *waiting, gyre_status status, const gyre_error *err);
/* Makes a place for every directory, before anybody else looks; what a crash left half made or half deleted is removed. */
GYRE_CHECKED gyre_status gy_node_find_places(gy_node *node, gyre_error *err);
/* Opens them, several at a time. */
GYRE_CHECKED gyre_status gy_node_open_places(gy_node *node, gyre_error *err);
/* The slot of gy_replica_transport; self: the node. */
GYRE_CHECKED gyre_status gy_place_split(void *self, gy_replica *replica, const struct gy_replica_child *child, gyre_error *err);

#endif
