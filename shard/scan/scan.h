/* scan: k-nearest candidates of one replica, by codes or exactly.
 *
 * Keeps the `keep` rows of smallest (lower bound, id): whatever is not returned has a lower bound of at least `cutoff`, which is
 * what lets the coordinator certify an answer over all shards. The answer depends on the points and the arguments only, not
 * on slots, threads or the CPU.
 * Source   codec/MATH.md section 3: multi-stage search with bounds
 * Threads  any; large scans are split over the pool */
#ifndef GY_SCAN_H
#define GY_SCAN_H

#include "gyre/clock.h"
#include "gyre/pool.h"
#include "index/points.h"

/* The last one bounds query_count · keep, of a request over several replicas their sum, and so the memory of a scan: about 30
 * bytes a candidate and thread. */
enum { GY_SCAN_KEEP_MAX = 65536, GY_SCAN_QUERIES_MAX = 1024, GY_SCAN_CANDIDATES_MAX = 1 << 22 };

struct gy_candidate {
    gyre_point_id id;
    float estimate, half_width; /* half_width 0: estimate is the exact distance */
};

struct gy_candidates {
    struct gy_candidate *items; /* [count] by (estimate - half_width, id); owned */
    size_t count;
    /* Every row within the limit that is not here has a lower bound (exact: a distance) of at least this: that of the last row
     * kept, if keep are kept and the replica has more; +inf if no row within the limit is missing. Rows beyond the limit are
     * the caller's to know. Seeds do not change it. */
    float cutoff;
    uint64_t scanned;
    uint32_t seeds_read;
};

struct gy_scan_request {
    const float *queries;       /* [query_count][dim], through gyre_vector_normalize */
    const float *rotated;       /* [query_count][dim], or NULL when exact */
    const float *limits;        /* [query_count] largest lower bound wanted, or NULL */
    size_t query_count;
    float epsilon;
    uint32_t keep;              /* 1…GY_SCAN_KEEP_MAX */
    uint32_t seed;              /* read so many best estimates at full precision (at most keep) */
    bool exact;                 /* compare every full vector: the keep nearest with exact distances */
    int64_t deadline_ns;        /* looked at between chunks: GYRE_DEADLINE */
};

/* Fills out[query_count]; free with gy_candidates_free, also after a failure. snapshot's facts (codebook version, applied seq)
 * come back through version and seq. pool may be NULL: scan on the calling thread only. Must not be called on a pool thread
 * with that same pool unless the scan is designed to help itself (it is: the caller scans too and never waits for a queued part). */
GYRE_CHECKED gyre_status gy_scan_run(gy_points *points, gy_pool *pool, const struct gy_scan_request *request, struct gy_candidates *out,
                                     uint32_t *codebook_version, uint64_t *applied_seq, gyre_error *err);
void gy_candidates_free(struct gy_candidates *candidates, size_t count);

#endif
