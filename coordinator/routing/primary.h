/* primary: asks the primaries of shards, and asks again whoever is the primary then, until the deadline.
 *
 * A primary that is not it any more, has no lease, is not there or is cut off is asked again as soon as there is a newer view,
 * or a little later; one that is silent is left when another has become the primary. What is sent must be such that it may
 * arrive twice. A call is of one shard of one view: when a newer view has given a part of the shard to another, the caller must
 * make its calls anew, of whatever has no answer yet.
 * Threads  any; blocks */
#ifndef GY_PRIMARY_H
#define GY_PRIMARY_H

#include "routing/routing.h"

struct gy_primary_call {
    uint32_t shard;
    const ProtobufCMessage *request;
    uint64_t *epoch;                /* in the request: set to that of the view it is sent by; NULL: it has none */
    gyre_status status;             /* out, as all below: what a client should see */
    gyre_error err;                 /* names shard and node */
    void *reply;                    /* if GYRE_OK; gy_wire_free it */
    bool maybe;                     /* not GYRE_OK, but an attempt may have been carried out */
    struct gy_hash_range range;     /* of the shard in the view that the call was made over; not the caller's to set */
};

struct gy_primary_ask {
    gy_routing *routing;
    const gy_route **route;         /* held; newer views of the collection are taken from routing */
    uint16_t type;
    const ProtobufCMessageDescriptor *reply_type;
    int64_t begun_ns;               /* when the first was asked: nothing is asked again for longer than it helps */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg);   /* NULL: never */
    void *cancelled_arg;
};

/* False: every call has its end. True: the range of a shard that has not answered is another in a newer view, which *ask->route
 * is now: what calls of GYRE_UNAVAILABLE asked is to be asked by calls made over it. */
bool gy_primary_run(const struct gy_primary_ask *ask, struct gy_primary_call *calls, size_t count);

#endif
