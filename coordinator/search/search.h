/* search: scatter, merge by bound, exact distances for whoever can still win, in rounds.
 *
 * Source   codec/MATH.md sections 3 and 3.1; the bound is RaBitQ's (Gao & Long, SIGMOD 2024, section 3.2)
 * Threads  any; blocks until the answer is there or the deadline passed */
#ifndef GY_SEARCH_H
#define GY_SEARCH_H

#include "routing/routing.h"

enum { GY_SEARCH_K_MAX = 10000, GY_SEARCH_BATCH_MAX = 1024 };
#define GY_CONFIDENCE_DEFAULT 0.98
#define GY_RECALL_TARGET_DEFAULT 0.99

struct gy_search_options {
    uint32_t k;                  /* 1…GY_SEARCH_K_MAX, and one more for a point that is to be left out of its own answer */
    uint32_t spare;              /* how many of k the client did not ask for */
    uint32_t nprobe;             /* look into so many lists (all, if there are fewer); 0: as many as recall_target needs */
    double recall_target;        /* in (0, 1]; 1: every list. exact looks into every list anyway */
    bool exact, approximate, allow_partial;
    bool allow_approximate;      /* a shard without a full copy within reach may answer from codes; not with exact */
    /* [route->shard_count] what is to be seen at least (session.h), alive until the end; NULL: nothing */
    const uint64_t *min_seqs;
    double confidence;           /* of each neighbour's bound, in [0.9, 0.9999999] */
    int64_t deadline_ns;
    bool (*cancelled)(void *arg); /* looked at before and while shards are asked; NULL: never */
    void *cancelled_arg;
};

struct gy_search_hit {
    gyre_point_id id;
    float distance, half_width;
    uint32_t shard;
    uint64_t seq; /* its shard has applied at least this where it was found: so must who is asked about it */
};

/* What an answer rests on; the fields of gyre.v1.SearchBasis. */
struct gy_search_basis {
    uint32_t shards_answered, shards_total;
    uint64_t codes_scanned, candidates, reranked;
    uint32_t rerank_rounds;
    bool exact_distances, certified;
    double confidence;
    uint32_t codebook_version;
    uint32_t lists_probed, lists_total; /* probed: in the shard that looked into the fewest */
    double recall_expected;             /* of lists_probed, as the training measured it; 1 for all, 0: not measured */
    uint32_t approximate_shards;        /* answered from codes, for want of a full copy */
};

struct gy_search_answer {
    struct gy_search_hit *hits; /* [count] by (distance, id); owned */
    size_t count;
    struct gy_search_basis basis;
};

/* Answers n queries over every shard of route.
 *   queries  [n][dim] as gyre_vector_normalize leaves them
 *   answers  [n], filled; free with gy_search_answers_free, also after a failure
 * With one shard the shard decides by itself, in one exchange; else the k nearest of all shards are found by their bounds
 * (README.md).
 * GYRE_ABORTED if a shard was split since the route was made: the whole search is to be made anew (renew.h), allow_partial or not.
 * GYRE_INVALID if n · k · shards is above 4,194,304; GYRE_UNAVAILABLE names the shard and node that did not answer,
 * unless allow_partial and at least one did; GYRE_DEADLINE; GYRE_CANCELLED. With allow_partial shards have part of the time only
 * (gy_partial_deadline_ns). */
GYRE_CHECKED gyre_status gy_search_run(const gy_route *route, const float *queries, size_t n,
                                       const struct gy_search_options *options, struct gy_search_answer *answers,
                                       gyre_error *err);
void gy_search_answers_free(struct gy_search_answer *answers, size_t n);

#endif
