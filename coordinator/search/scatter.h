/* scatter: sends the queries to every shard and feeds what comes back into the merges. */
#ifndef GY_SCATTER_H
#define GY_SCATTER_H

#include "routing/consult.h"
#include "search/merge.h"

/* A search under way: shared by its stages. */
struct gy_contest {
    const gy_route *route;
    const struct gy_search_options *options;
    const float *queries; /* [n][dim] normalised */
    const float *rotated; /* [n][dim] P query; NULL when exact */
    size_t n;
    float epsilon;
    const uint32_t *probes;           /* [n][probe_count] lists of each query; NULL: every list */
    uint32_t probe_count;
    gy_merge *merges;                 /* [n] */
    struct gy_search_basis *basis;    /* [n]; counts grow as stages run */
    bool *lost;                       /* [shard_count] did not answer; only with allow_partial */
    bool *from_codes;                 /* [shard_count] no full copy answers: estimates must do; only with allow_approximate */
    uint64_t *seqs;                   /* [shard_count] what whoever is asked must have applied: what an earlier one had */
    uint32_t *members;                /* [shard_count] who scanned last, and knows the candidates; 0: nobody yet */
};

/* One pass over shards for the queries picked.
 *   wanted   [route->shard_count] which shards to ask
 *   picked   [picked_count] rows of queries
 *   keep     candidates a shard sends per query at most
 *   share    so many of the k nearest a shard will hardly have (gy_merge_share); 0: it may have all
 *   alone    there is one shard: it decides by itself and sends the keep nearest with their exact distances
 *   bounded  send each query's tau as the largest lower bound of interest
 * A shard that is alone and has no full copy within reach is marked from_codes instead of failing, if that is allowed.
 * A shard in another codebook than the route's looks into all of its lists. One that fails is marked lost if a partial answer is
 * allowed, else the search fails. */
struct gy_pass {
    const bool *wanted;
    const size_t *picked;
    size_t picked_count;
    uint32_t keep, share;
    bool alone, bounded;
};
GYRE_CHECKED gyre_status gy_scatter(struct gy_contest *contest, const struct gy_pass *pass, gyre_error *err);

/* What all stages ask alike: of which route, until when (the client leaves, its deadline, or with allow_partial until only the
 * time to go on without the shards that are silent is left), how new and of whom first. */
struct gy_consult gy_contest_consult(const struct gy_contest *contest);

/* GYRE_CANCELLED or GYRE_DEADLINE when nobody waits for the answer any more; doing: what is being left undone. */
GYRE_CHECKED gyre_status gy_contest_wanted(const struct gy_contest *contest, const char *doing, gyre_error *err);

/* What it means that a shard did not answer: the status a client should see, its sentence naming shard and node; or GYRE_OK after
 * marking the shard lost when a partial answer is allowed. */
GYRE_CHECKED gyre_status gy_contest_lose(struct gy_contest *contest, uint32_t shard, const struct gy_consulted *consulted,
                                         gyre_error *err);

#endif
