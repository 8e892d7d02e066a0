/* scan: k-nearest candidates of one replica, by codes or exactly.
 *
 * Lists are scanned in the order of their probes, the most promising first, against a threshold that tightens as the scan runs.
 * What the first plane lets through is refined by the second, if the codec has one, list by list while its codes are in the
 * cache. Then either the `keep` rows of smallest (lower bound, id) are the answer (whatever is not returned has a lower bound of
 * at least `cutoff`, which is what lets the coordinator certify an answer over all shards), or, alone, the rows' full vectors
 * decide at once. A row's lower bound is the larger of its planes'. The answer depends on the points and the arguments only, not
 * on slots, threads, the CPU or what else is scanned in the same pass.
 * Source   codec/MATH.md section 3: multi-stage search with bounds
 * Threads  any; large scans are split over the pool, by lists */
#ifndef GY_SCAN_H
#define GY_SCAN_H

#include "gyre/clock.h"
#include "gyre/pool.h"
#include "index/points.h"

#include <roaring/roaring.h>

/* The last one bounds query_count · keep, of a request over several replicas their sum, and so the memory of a scan: about 70
 * bytes a candidate and thread; alone up to 320, and 260 KB a query. */
enum { GY_SCAN_KEEP_MAX = 65536, GY_SCAN_QUERIES_MAX = 1024, GY_SCAN_CANDIDATES_MAX = 1 << 22 };

struct gy_candidate {
    gyre_point_id id;
    float estimate, half_width; /* half_width 0: estimate is the exact distance */
};

struct gy_candidates {
    struct gy_candidate *items; /* [count] by (estimate - half_width, id); owned */
    size_t count;
    /* Every row of the probed lists within the limit that is not here has a lower bound (exact: a distance) of at least this:
     * +inf if no such row is missing, or only ones that k of the others beat by their upper bounds. Rows beyond the limit are the
     * caller's to know. Seeds do not change it. With a share it is at most the upper bound that takes its place. */
    float cutoff;
    uint64_t scanned;      /* codes; exact: full vectors */
    uint32_t seeds_read;   /* full vectors read */
    uint32_t lists_probed;
};

struct gy_scan_request {
    const float *queries;       /* [query_count][dim], through gyre_vector_normalize */
    const float *rotated;       /* [query_count][dim], or NULL when exact */
    const float *limits;        /* [query_count] largest lower bound wanted, or NULL */
    const uint32_t *probes;     /* list numbers of all queries, one behind the other, most promising first; NULL: every list, in
                                 * order */
    const uint32_t *probe_counts; /* [query_count], with probes */
    uint32_t codebook_version;  /* that probes are of: where the snapshot has another, every list is scanned. 0: do not ask */
    size_t query_count;
    struct gy_hash_range range; /* only points of these hashes, as if there were no others; GY_RANGE_OWNED: of what is owned */
    float epsilon;
    uint32_t scan_bits;         /* 4, 6, 8; 0: 4 */
    uint32_t k;                 /* neighbours wanted in the end, at most keep: rows that k others beat for certain (by their upper
                                 * bounds) may be left out without a trace in cutoff. 0: leave out nothing */
    uint32_t share;             /* at most k: take it in place of k to leave rows out, but not without a trace: then cutoff is no
                                 * larger than the share-th smallest upper bound. For one shard of several, which will hardly have
                                 * more of the k nearest than this, and need not look closely at the others. 0: k; alone: 0 */
    uint32_t keep;              /* 1…GY_SCAN_KEEP_MAX */
    uint32_t seed;              /* read so many best estimates at full precision (at most keep) */
    bool exact;                 /* compare every full vector: the keep nearest with exact distances */
    bool alone;                 /* decide here: the keep nearest of the probed lists with exact distances, reading full vectors only
                                 * of rows whose lower bound is not above the exact distance of the keep-th nearest so far */
    bool certain;               /* use the bound that always holds instead of epsilon's: with alone and every list, brute force's
                                 * answer */
    /* Slots of snapshot (chunk · GY_CHUNK_ROWS + place) that may be in an answer, tested before anything is computed; NULL: all.
     * When few are allowed they are compared exactly; when the probed lists hold fewer than keep of them, the other lists are
     * looked into, so that min(keep, allowed and held) come back. Of one query's lists all that hold allowed rows. */
    const roaring_bitmap_t *allowed;
    int64_t deadline_ns;        /* looked at between chunks: GYRE_DEADLINE */
    bool (*cancelled)(void *arg); /* looked at with the deadline: GYRE_CANCELLED; NULL: never */
    void *cancelled_arg;
};

/* Fills out[query_count]; free with gy_candidates_free, also after a failure. GYRE_ABORTED if the replica no longer has all of
 * range. Scans snapshot, or the current one where it is NULL; its facts (codebook version, applied seq) come back through version
 * and seq. Queries that probe the same list share the pass over it. pool may be NULL: scan on the calling thread only. Must not
 * be called on a pool thread with that same pool unless the scan is designed to help itself (it is: the caller scans too and
 * never waits for a queued part). */
GYRE_CHECKED gyre_status gy_scan_run(gy_points *points, gy_snapshot *snapshot, gy_pool *pool,
                                     const struct gy_scan_request *request,
                                     struct gy_candidates *out, uint32_t *codebook_version, uint64_t *applied_seq,
                                         gyre_error *err);
void gy_candidates_free(struct gy_candidates *candidates, size_t count);

#endif
