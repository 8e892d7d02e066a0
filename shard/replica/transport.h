/* transport: how a replica reaches the other members and the coordinator. The node gives it (server/links.h); a test may give
 * another.
 *
 * Every call ends in exactly one on_reply, on any thread, perhaps inside the call. */
#ifndef GY_REPLICA_TRANSPORT_H
#define GY_REPLICA_TRANSPORT_H

#include "gyre/bus.h"

struct gy_replica;

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
};

#endif
