/* transport: how a replica reaches the other members, the coordinator and its node. The node gives it (server/links.h); a test
 * may give another.
 *
 * Every call and every question ends in exactly one on_reply, on any thread, perhaps inside it. */
#ifndef GY_REPLICA_TRANSPORT_H
#define GY_REPLICA_TRANSPORT_H

#include "gyre/bus.h"
#include "gyre/shard_config.h"

struct gy_replica;

/* What a narrowing splits off: the shard, made of the state before the narrowing's entry. */
struct gy_replica_child {
    uint32_t shard;
    struct gy_hash_range range;
    uint8_t hash_key[GY_HASH_KEY_BYTES];
    uint64_t epoch, seq; /* of the entry */
};

struct gy_replica_transport {
    void *self;
    /* To a node, by its name. GYRE_UNAVAILABLE for one whose address is not known. */
    void (*call)(void *self, const char *node, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns,
                 gy_on_reply *on_reply, void *arg);
    /* To the coordinator that decides. */
    void (*ask)(void *self, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns, gy_on_reply *on_reply,
                void *arg);
    /* The replica must be built anew from what the primary has: begins it and returns at once. on_end runs once, on another
     * thread: with true just before the replica is closed to be replaced, with false if it stays as it is. */
    void (*restore)(void *self, struct gy_replica *replica, const char *primary_node, void (*on_end)(void *arg, bool restored),
                    void *arg);
    /* What the replica holds proved damaged: it stopped serving and is to be closed, on another thread. Returns at once. NULL:
     * nobody is told. */
    void (*damaged)(void *self, struct gy_replica *replica, const gyre_error *why);
    /* Makes the child of a narrowing that the replica is about to apply (gy_replica_make_child): it is on disk, whole, before
     * this returns; nothing is done if the node has one. On the replica's thread, or that of who opens it. NULL: none is made. */
    gyre_status (*split)(void *self, struct gy_replica *replica, const struct gy_replica_child *child, gyre_error *err);
    /* The replica owns less than before, or has nothing left that it does not own. Returns at once. NULL: nobody is told. */
    void (*changed)(void *self, struct gy_replica *replica);
};

#endif
