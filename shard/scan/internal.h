/* internal: what the files behind scan.h share: a request at work, its plan, and what a worker keeps of each query. */
#ifndef GY_SCAN_INTERNAL_H
#define GY_SCAN_INTERNAL_H

#include "index/sieve.h"
#include "scan/share.h"
#include "scan/top.h"

#include <stdatomic.h>

/* ---- plan.c: which lists are scanned for which queries, in what order, in which parts ---- */

/* One list and the queries that share the pass over it. */
struct gy_step {
    uint32_t list, query_count;
    size_t first_query; /* in the plan's queries */
};

/* Steps first…end-1, or, where a step is large, a stretch of its list's chunks. */
struct gy_part {
    size_t first, end;
    size_t first_chunk, end_chunk; /* of each list; SIZE_MAX: to its end */
};

struct gy_plan {
    struct gy_step *steps;
    uint32_t *queries;
    struct gy_part *parts;
    size_t step_count, part_count;
};

/* ---- filter.c: the rows that are allowed ---- */

struct gy_filter {
    struct gy_sieve sieve;           /* what is in the range asked for */
    const roaring_bitmap_t *allowed; /* of that; NULL: all of it */
    roaring_bitmap_t *sieved;        /* allowed, if it had to be sieved; owned */
    uint32_t *counts;                /* [lists] allowed rows that are held; UINT32_MAX: not counted yet */
};
/* Whether there may be rows that are not allowed. */
static inline bool gy_filter_is_any(const struct gy_filter *filter) { return filter->allowed || !filter->sieve.passes_all; }

/* ---- a request at work ---- */

/* What one worker keeps of one query. */
struct gy_keeper {
    struct gy_top top;           /* candidates: by lower bound; exact and alone: what was read, by distance (alone.c) */
    float *uppers;               /* heap of the upper_most smallest upper bounds, if rows may be left out for them */
    size_t upper_count;
    struct gy_top_item *pending; /* alone: rows that may have to be read, in no order */
    size_t pending_count, pending_room;
    uint64_t rows, rows_at_round; /* alone: rows that went by; after how many the next are read */
    uint32_t reads;
};

struct gy_worker {
    gyre_query **queries;        /* [query_count] of its own, made when they are needed: they are moved */
    struct gy_keeper *keepers;   /* [query_count]; NULL before its first part */
    uint64_t rows_unseen;        /* since the last look at the clock */
    gyre_hit *hits;              /* [GYRE_SCAN_QUERIES_MAX][GY_CHUNK_ROWS] */
};

struct gy_scanning {
    gy_points *points;
    const gy_snapshot *snapshot;
    const struct gy_scan_request *request;
    const gyre_codebook *codebook;
    gyre_metric metric;
    uint32_t dim, list_count;
    size_t code_bytes, block_bytes;
    bool compare;                /* full vectors at once: request->exact */
    size_t upper_most;           /* a row beyond so many upper bounds is out: k or a share of it, alone keep; 0: there is no such rule */
    struct gy_filter filter;
    struct gy_plan plan;
    gyre_query **prepared;       /* [query_count], never moved where there are several parts; NULL to compare */
    _Atomic(float) *thresholds;  /* [query_count] no row of a larger lower bound can be in the answer; what any worker knows */
    struct gy_worker workers[GY_SHARE_WORKERS_MAX];
    struct gy_candidates *out;   /* [query_count] */
};

/* plan.c. Fills plan and, of out, scanned and lists_probed. */
GYRE_CHECKED gyre_status gy_plan_make(struct gy_scanning *scanning, gy_pool *pool, gyre_error *err);
void gy_plan_free(struct gy_plan *plan);

/* filter.c. GYRE_ABORTED if not all of the range asked for is there. */
GYRE_CHECKED gyre_status gy_filter_init(struct gy_filter *filter, const gy_points *points, const gy_snapshot *snapshot,
                                        const struct gy_scan_request *request, gyre_error *err);
void gy_filter_fini(struct gy_filter *filter);
/* Whether so few rows are allowed that reading them all is the better scan. */
bool gy_filter_is_few(const struct gy_filter *filter);
/* The allowed rows of a chunk, held or not; false if there are none. Without a filter: all of them. */
bool gy_filter_mask(const struct gy_filter *filter, size_t chunk, uint32_t rows, struct gy_mask *mask);
/* The allowed slots that hold a point, ascending, where they are few: to be freed. */
GYRE_CHECKED gyre_status gy_filter_few(const struct gy_scanning *scanning, uint32_t **slots, size_t *count, gyre_error *err);
/* Takes places out of a mask that hold no point. */
void gy_mask_held(const struct gy_scanning *scanning, const struct gy_chunk_view *view, struct gy_mask *mask);
/* Allowed points of a list. */
GYRE_CHECKED gyre_status gy_filter_count(struct gy_scanning *scanning, uint32_t list, uint64_t *count, gyre_error *err);

/* lists.c. Scans one part of the plan; a gy_share_part with a gy_scanning as self. */
GYRE_CHECKED gyre_status gy_lists_scan(void *self, size_t worker, size_t part, gyre_error *err);
/* GYRE_DEADLINE or GYRE_CANCELLED when the caller does not wait any more. */
GYRE_CHECKED gyre_status gy_scan_look(const struct gy_scan_request *request, gyre_error *err);
/* What is pruned by: a threshold is only lowered. */
void gy_scan_lower(_Atomic(float) *threshold, float to);

/* exact.c. Compares the points of a chunk that mask leaves with the queries. */
GYRE_CHECKED gyre_status gy_exact_chunk(struct gy_scanning *scanning, struct gy_worker *worker, size_t chunk,
                                        const struct gy_chunk_view *view,
                                        const struct gy_mask *mask, const uint32_t *queries, size_t count, gyre_error *err);
/* The whole answer, where few rows are allowed. */
GYRE_CHECKED gyre_status gy_exact_few(struct gy_scanning *scanning, gyre_error *err);
/* Exact distances of count rows to one query. */
GYRE_CHECKED gyre_status gy_exact_rank(const struct gy_scanning *scanning, uint32_t query, const uint32_t *slots, size_t count,
                                       float *out,
                                       gyre_error *err);

/* scan.c. Copies items that are in order. */
GYRE_CHECKED gyre_status gy_scan_take(struct gy_candidates *out, const struct gy_top *top, gyre_error *err);

/* alone.c. Room for so many more rows behind those that wait, which the caller fills and counts. Reads some of what has gathered
 * when rows more have gone by. */
GYRE_CHECKED gyre_status gy_alone_room(struct gy_keeper *keeper, size_t count, struct gy_top_item **out, gyre_error *err);
GYRE_CHECKED gyre_status gy_alone_round(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper, uint64_t rows,
                                        gyre_error *err);
/* Takes over what another worker gathered and read. */
GYRE_CHECKED gyre_status gy_alone_merge(struct gy_keeper *into, const struct gy_keeper *from, gyre_error *err);
/* Reads what is still undecided: top then holds the answer. */
GYRE_CHECKED gyre_status gy_alone_finish(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper, gyre_error *err);

static inline float gy_scan_limit(const struct gy_scan_request *request, size_t q)
{
    return request->limits ? request->limits[q] : __builtin_inff();
}

/* The upper bound that others are measured by. Alone it is loose on purpose (alone.c). */
static inline float gy_scan_upper(const struct gy_scan_request *request, const struct gy_top_item *item)
{
    return item->estimate + (request->alone ? 2 * item->half_width : item->half_width);
}

#endif
