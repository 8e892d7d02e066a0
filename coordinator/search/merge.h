/* merge: one query's contest, as candidates of all shards come in: the k nearest known exactly, and who can still beat them.
 *
 * tau is the exact distance of the k-th best so far, +inf before k are known. A candidate whose lower bound is above tau is out:
 * expected recall is at least 1 - p(epsilon)/2 (codec/MATH.md section 3), and the argument holds over all shards at once because
 * tau does not care where a distance came from. Pure: no I/O, clock or threads.
 * Order is total, (distance, id), so an answer never depends on which shard was quicker. */
#ifndef GY_MERGE_H
#define GY_MERGE_H

#include "search/search.h"

struct gy_contender {
    gyre_point_id id;
    uint32_t shard;
    float lower, estimate, half_width;
};

typedef struct gy_merge {
    size_t k;
    struct gy_search_hit *best; /* max-heap by (distance, id) of at most k */
    size_t best_count;
    struct gy_contender *open;  /* not yet read at full precision */
    size_t open_count, open_capacity;
    struct gy_search_hit *read; /* all read at full precision: a second scan must not count them again, and when a shard is lost
                                 * those of others that had been beaten step in; distance +inf: gone since */
    size_t read_count, read_capacity;
    size_t read_sorted;         /* so many of them, from the first, are in order of id */
    float *cutoffs;             /* [shard_count] the lower bound of what each shard did not send; +inf for nothing */
    size_t shard_count;
} gy_merge;

/* A number of the k nearest that for 98 queries of 100 no shard has, as ids are spread over shards by a hash, which makes its part
 * binomial: what so many others of its shard beat will hardly be among them. 0: no such number below k. */
uint32_t gy_merge_share(uint32_t k, uint32_t shard_count);

GYRE_CHECKED gyre_status gy_merge_init(gy_merge *merge, size_t k, size_t shard_count, gyre_error *err);
void gy_merge_fini(gy_merge *merge);

float gy_merge_tau(const gy_merge *merge);
/* Offers a point with its exact distance; +inf (the point has gone meanwhile) is ignored. */
GYRE_CHECKED gyre_status gy_merge_offer(gy_merge *merge, uint32_t shard, const gyre_point_id *id, float distance,
                                        gyre_error *err);
/* The same of a point that nobody can tell the exact distance of: its estimate must do, and tau is no longer rigorous. */
GYRE_CHECKED gyre_status gy_merge_offer_estimate(gy_merge *merge, const struct gy_contender *contender, gyre_error *err);
/* Takes a shard's candidates (half_width 0: exact). A shard that scans again replaces what it had open. */
GYRE_CHECKED gyre_status gy_merge_add(gy_merge *merge, uint32_t shard, const gyre_point_id *ids, const float *estimates,
                                      const float *half_widths, size_t count, float cutoff, gyre_error *err);
/* Forgets everything of a shard that stopped answering. */
void gy_merge_forget(gy_merge *merge, uint32_t shard);

/* Moves the seeds of the contest to out: those of the best estimates, whatever shard they came from, whose exact distances are
 * needed anyway, at least k and at most max; returns how many. They make tau rigorous (codec/MATH.md 3.1) and leave it close to
 * where it ends, so that one round more finds whoever can still win. As with _next they are then no longer open. */
size_t gy_merge_seeds(gy_merge *merge, struct gy_contender *out, size_t max);
/* Moves the candidates that can still win to out, at most max and then the best; returns how many. They are then no longer open:
 * offer their exact distances. In no order. */
size_t gy_merge_next(gy_merge *merge, struct gy_contender *out, size_t max);
/* Whether a row that this shard did not send could still win. */
bool gy_merge_needs(const gy_merge *merge, uint32_t shard);

/* The k best, sorted; owned by the caller. With by_estimate open candidates compete with their estimates. */
GYRE_CHECKED gyre_status gy_merge_hits(gy_merge *merge, bool by_estimate, struct gy_search_hit **hits, size_t *count,
                                       gyre_error *err);

#endif
