/* publish: the other side of routing.h: who makes the views that requests hold.
 *
 * A link is a connection to a node, counted, because views of several ages may share it: a node that comes back at another
 * address gets a new link, and the old one goes when the last request that began with it is over.
 * Threads  any; one publisher at a time */
#ifndef GY_ROUTING_PUBLISH_H
#define GY_ROUTING_PUBLISH_H

#include "catalog/records.h"
#include "routing/routing.h"

typedef struct gy_link gy_link;

/* Begins to dial address; held once, by the caller. */
GYRE_CHECKED gyre_status gy_link_new(gy_link **out, gy_bus *bus, const char *address, gyre_error *err);
gy_link *gy_link_hold(gy_link *link); /* NULL is fine */
/* The last release frees the peer, which waits for its callbacks: never on a bus thread. NULL is fine. */
void gy_link_release(gy_link *link);
gy_peer *gy_link_peer(gy_link *link);
struct gy_load *gy_link_load(gy_link *link); /* of its node, as long as the link lives */

GYRE_CHECKED gyre_status gy_routing_new(gy_routing **out, const uint8_t placement_key[GY_PLACEMENT_KEY_BYTES], gyre_error *err);
/* Every view must have been released. */
void gy_routing_free(gy_routing *routing);
GY_AUTO_DEFINE(gy_routing, gy_routing_free)

/* What a route needs of a member beside its configuration. */
struct gy_routing_member {
    gy_link *link; /* NULL for a node that never reported */
    bool up;
    uint64_t applied_seq; /* as it said; 0: it did not yet */
};
/* Makes this the view of the record's collection for requests that begin from now on: of gy_collection_shown_shards of it.
 *   members  [record->spec.shards][GY_MEMBERS_MAX], of each shard's in their order; the links are held by the view as long as it
 *            lives, as is the record's codebook
 * A configuration without a range has gy_range_of_shard. GYRE_CORRUPT: the ranges leave a hash out or have it twice. On failure
 * the older view stays. */
GYRE_CHECKED gyre_status gy_routing_publish(gy_routing *routing, const gy_collection_record *record,
                                            const struct gy_routing_member (*members)[GY_MEMBERS_MAX], gyre_error *err);
/* A replica has said how far it is. Of a collection, shard or member that is not in the newest view it is ignored. */
void gy_routing_member_said(gy_routing *routing, const char *collection, uint32_t shard, uint32_t member, uint64_t applied_seq);
/* New requests no longer find the collection; requests that hold it go on. */
void gy_routing_withdraw(gy_routing *routing, const char *collection);
void gy_routing_withdraw_all(gy_routing *routing);

#endif
