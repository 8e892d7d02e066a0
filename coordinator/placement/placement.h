/* placement: keeps the cluster what the catalog says: who is alive, who holds what, creation, dropping, training.
 *
 * Nodes report every heartbeat; each report is compared with the catalog (core.h) and what is missing, behind or rubbish on the
 * node is told to it, so a node that restarted, came late or was away converges without anyone remembering it. Every change is in
 * the catalog before anybody is told of it.
 * Threads  any; start and stop once, from one thread. Blocking calls end at their deadline */
#ifndef GY_PLACEMENT_H
#define GY_PLACEMENT_H

#include "catalog/catalog.h"
#include "catalog/spec.h"
#include "gyre/bus.h"
#include "gyre/clock.h"
#include "gyre/metrics.h"
#include "gyre/shard_config.h"
#include "routing/routing.h"

#include "gyre/v1/gyre.pb-c.h"

typedef struct gy_placement gy_placement;

#define GY_REPLACE_AFTER_NS (300 * GY_SECOND_NS)
enum { GY_MOVES_MAX = 4 };
/* Long enough for a hand-over to be over and for nodes to have reported what they carry since. */
#define GY_EVEN_EVERY_NS (10 * GY_SECOND_NS)

struct gy_placement_options {
    gy_catalog *catalog;   /* lent until gy_placement_free */
    gy_metrics *metrics;   /* the same */
    uint32_t heartbeat_ms; /* nodes are asked to report this often */
    int64_t replace_after_ns; /* a replica on a node that is silent for so long is replaced; 0: GY_REPLACE_AFTER_NS */
    bool shared;           /* the catalog may have other coordinators: one of them leads (lead.c) */
    uint32_t moves_max;    /* so many replicas leave draining or fuller nodes at a time; 0: GY_MOVES_MAX */
    int64_t even_every_ns; /* replicas and primaries are moved to even out what nodes carry, looked at so often; 0: not */
};

/* Reads the catalog (on an empty one, makes the cluster's keys), forgets collections that were half made, finishes those half
 * dropped. GYRE_CORRUPT names the key that cannot be read. */
GYRE_CHECKED gyre_status gy_placement_new(gy_placement **out, const struct gy_placement_options *options, gyre_error *err);
/* The bus's on_request; self is the gy_placement. Refuses reports until _start and after _stop. */
void gy_placement_on_request(void *self, gy_bus_request *request);
GYRE_CHECKED gyre_status gy_placement_start(gy_placement *placement, gy_bus *bus, gyre_error *err);
/* Ends trainings and the waits for them, and refuses reports and new collections; everything else goes on. Before the servers
 * that call the functions below are closed, since they wait for calls under way. */
void gy_placement_begin_stop(gy_placement *placement);
/* After those servers are closed and every route is released; before gy_bus_close. */
void gy_placement_stop(gy_placement *placement);
/* After gy_bus_close. Also for one that was never started; NULL is fine. */
void gy_placement_free(gy_placement *placement);

gy_routing *gy_placement_routing(gy_placement *placement);
const char *gy_placement_cluster_id(const gy_placement *placement);

/* ---- several coordinators on one catalog ---- */

/* From now on this coordinator is shown to the others and may come to lead. Where the catalog is its own it always leads. */
void gy_placement_join(gy_placement *placement, const char *grpc_address);
bool gy_placement_leads(gy_placement *placement);
enum { GY_LEADER_ADDRESS_ROOM = 128 };
/* Waits until somebody leads: this coordinator (*self), or another, whose bus address is written. GYRE_UNAVAILABLE: nobody did by
 * the deadline. */
GYRE_CHECKED gyre_status gy_placement_await_leader(gy_placement *placement, int64_t deadline_ns, bool *self,
                                                   char bus[static GY_LEADER_ADDRESS_ROOM], gyre_error *err);
/* After an answer that says that this one does not lead: has it looked up anew who does. GYRE_UNAVAILABLE: the catalog does not
 * say. */
GYRE_CHECKED gyre_status gy_placement_await_news(gy_placement *placement, int64_t deadline_ns, gyre_error *err);
/* Makes what the leader has changed so far known here. */
GYRE_CHECKED gyre_status gy_placement_catch_up(gy_placement *placement, gyre_error *err);
/* Who carries out what other coordinators forward: called on a bus thread, with the placement's lock held; takes the request and
 * hands it over. NULL: nobody any more. */
void gy_placement_on_forward(gy_placement *placement, void (*carry_out)(void *self, gy_bus_request *request), void *self);
/* The bus of _start, for calls to other coordinators; NULL before and after _stop. */
gy_bus *gy_placement_bus(gy_placement *placement);

/* ---- collections ---- replies are the caller's (gy_wire_free) */

/* Makes a collection on the nodes that are up; spec has its defaults. Answers when every replica exists.
 * GYRE_INVALID, GYRE_UNIMPLEMENTED (spec.h), GYRE_EXISTS, GYRE_PRECONDITION if no node is up, or what the node that could not
 * make its replica said: then nothing was made. */
GYRE_CHECKED gyre_status gy_placement_create(gy_placement *placement, const struct gy_collection_spec *spec, int64_t deadline_ns,
                                             Gyre__V1__Collection **out, gyre_error *err);
GYRE_CHECKED gyre_status gy_placement_get(gy_placement *placement, const char *name, Gyre__V1__Collection **out, gyre_error *err);
/* By name. */
GYRE_CHECKED gyre_status gy_placement_list(gy_placement *placement, Gyre__V1__ListCollectionsReply **out, gyre_error *err);
/* Nodes that cannot be reached drop their replicas when they report again. */
GYRE_CHECKED gyre_status gy_placement_drop(gy_placement *placement, const char *name, int64_t deadline_ns, gyre_error *err);

struct gy_train_options {
    uint32_t lists; /* of the new codebook; 1: no partition; 0: by the number of points (core.h) */
    bool wait; /* until every shard's codes are in the new version, else until it is published */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg); /* looked at every heartbeat; NULL: never */
    void *cancelled_arg;
};
/* Trains now. GYRE_PRECONDITION for a collection without points, or with fewer than lists. A training that fails changes nothing;
 * one whose wait ran out goes on. */
GYRE_CHECKED gyre_status gy_placement_train(gy_placement *placement, const char *name, const struct gy_train_options *options,
                                            Gyre__V1__Collection **out, gyre_error *err);

/* ---- operation ---- each is in the catalog when it returns, and done in the background */

/* Wishes that change; NULL: stays. */
struct gy_placement_wishes {
    const uint32_t *copies, *quantized, *min_copies;
    const bool *allow_approximate;
};
/* GYRE_INVALID as gy_collection_spec_check. */
GYRE_CHECKED gyre_status gy_placement_update(gy_placement *placement, const char *name, const struct gy_placement_wishes *wishes,
                                             Gyre__V1__Collection **out, gyre_error *err);
struct gy_placement_drain {
    const char *node, *heir; /* heir: the node that takes its replicas where it can; "": the best ones */
    bool undo;               /* it may have some again */
    bool for_good;           /* refused if it is down and has what no other node has */
};
/* The node gets no replica any more and its replicas move away; of one that is down they are made anew at once.
 *   members  replicas the catalog gives it now
 * GYRE_NOT_FOUND for a node that was never heard of, also the heir; GYRE_PRECONDITION if the heir is down, drains or is the node
 * itself, or for what would be lost for good: err says what. */
GYRE_CHECKED gyre_status gy_placement_drain(gy_placement *placement, const struct gy_placement_drain *drain, uint32_t *members,
                                            gyre_error *err);
/* Forgets a node; its daemon joins as a new one when it starts again. GYRE_NOT_FOUND; GYRE_PRECONDITION while it is to have a
 * replica. */
GYRE_CHECKED gyre_status gy_placement_remove_node(gy_placement *placement, const char *name, gyre_error *err);
struct gy_placement_recovery {
    const char *collection;
    uint32_t shard, member; /* member 0: the best */
    bool accept_data_loss;
};
struct gy_placement_recovered {
    uint64_t epoch, log_seq;
    uint32_t member;
    char node[GY_MEMBER_NODE_BYTES_MAX + 1];
};
/* Goes on with a member that is not in sync: gy_plan_recover, with its refusals. GYRE_ABORTED if the shard changed meanwhile. */
GYRE_CHECKED gyre_status gy_placement_recover(gy_placement *placement, const struct gy_placement_recovery *recovery,
                                              struct gy_placement_recovered *out, gyre_error *err);
struct gy_placement_move {
    const char *collection, *from, *to;
    uint32_t shard;
};
/* Begins to move a replica. GYRE_ABORTED if the shard changed meanwhile; else as gy_plan_move. */
GYRE_CHECKED gyre_status gy_placement_move(gy_placement *placement, const struct gy_placement_move *move, uint64_t *epoch,
                                           gyre_error *err);

/* Begins to split a shard: its upper half becomes shard *new_shard, the collection's next. Once the intent is committed a split
 * only goes forward. GYRE_OUT_OF_RANGE; GYRE_PRECONDITION: another split or a training of the collection is under way, it has
 * GY_SHARDS_MAX shards, or a member of the shard is not where and what it shall be: err says what. GYRE_ABORTED if the shard
 * changed meanwhile.
 *   epoch  of the configuration that begins it */
GYRE_CHECKED gyre_status gy_placement_split(gy_placement *placement, const char *collection, uint32_t shard, uint64_t *epoch,
                                            uint32_t *new_shard, gyre_error *err);

struct gy_scrub_wish {
    const char *collection;
    const uint32_t *shard; /* NULL: every one */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg);
    void *cancelled_arg;
};
/* Has replicas checked where they are, one at a time on a node, and waits. GYRE_OK whatever is found; one that could not be checked
 * says why in its place. */
GYRE_CHECKED gyre_status gy_placement_scrub(gy_placement *placement, const struct gy_scrub_wish *wish,
                                            Gyre__V1__ScrubCollectionReply **out, gyre_error *err);

/* Everything but the coordinator's own address. */
GYRE_CHECKED gyre_status gy_placement_status(gy_placement *placement, Gyre__V1__ClusterStatusReply **out, gyre_error *err);

#endif
