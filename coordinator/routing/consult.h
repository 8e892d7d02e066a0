/* consult: asks one member of every shard, and another one where the first fails, is silent or is behind.
 *
 * Who is asked is chosen by choose.h from what load.h has seen. A member that fails is replaced at once by one that was not asked
 * yet; one that is slower than nearly all such requests are gets company (a hedge), and the first answer counts. A shard has
 * failed when all of its members that could serve have; while one of those in sync is only behind, they are asked again.
 * Threads  any; blocks until every shard is decided, the deadline passed, or nobody wants the answers any more */
#ifndef GY_CONSULT_H
#define GY_CONSULT_H

#include "routing/load.h"
#include "routing/routing.h"

/* What is asked. */
struct gy_consult {
    const gy_route *route;
    gy_read_kind kind;
    uint64_t work;                     /* how much is asked of a shard; see gy_pace_took */
    uint16_t type;
    const ProtobufCMessageDescriptor *reply_type;
    bool full;                         /* only members that have full vectors can answer */
    bool primary_first;                /* the others are asked only if it fails */
    bool apart;                        /* a message asks one shard; else all that a node is asked, in one */
    const uint64_t *min_seqs;          /* [shard_count] what whoever answers must have applied; NULL: nothing in particular */
    const uint32_t *prefer;            /* [shard_count] member ids to ask if nothing is against them, 0 for none; NULL: none */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg);      /* NULL: never */
    void *cancelled_arg;
    /* Packs the message that asks for these shards, each with the seq that must be applied. */
    gyre_status (*pack)(void *self, const uint32_t *shards, const uint64_t *seqs, size_t count, gy_bytes *out, gyre_error *err);
    /* Whether a reply has a good answer of shards[i]; *applied_seq, 0 at first: what it says that the replica has applied. */
    gyre_status (*check)(void *self, const void *reply, const uint32_t *shards, size_t count, size_t i, uint64_t *applied_seq,
                         gyre_error *err);
    void *self;
};

/* What became of a shard. */
struct gy_consulted {
    gyre_status status;
    gyre_error err;                       /* names the node */
    const void *reply;                    /* if GYRE_OK: to a message for shards[count], of which this one is shards[place] */
    const uint32_t *shards;
    size_t count, place;
    const struct gy_route_member *member; /* who answered, or failed last; NULL: there was nobody to ask */
    bool decided;                         /* false: it was not asked for */
    bool no_full;                         /* not GYRE_OK, and only for want of members with full vectors */
};

typedef struct gy_consultation gy_consultation;

/* Asks for the shards that are wanted ([shard_count]; NULL: all). What befell shards is in their places, which live until _free.
 * GYRE_NO_MEMORY; GYRE_ABORTED as soon as a member says that its shard was split, whatever the others have answered: the route is
 * too old for all of the request (renew.h). */
GYRE_CHECKED gyre_status gy_consult_run(const struct gy_consult *consult, const bool *wanted, gy_consultation **out,
                                        gyre_error *err);
const struct gy_consulted *gy_consultation_shards(const gy_consultation *consultation); /* [shard_count] */
void gy_consultation_free(gy_consultation *consultation);                               /* NULL is fine */

#endif
