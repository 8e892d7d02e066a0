/* scan_call: one SCAN from its door to its answer, as the files of scans share it: scan.c (the line and who goes along with
 * whom), scan_check.c (every field), scan_pass.c (the work), scan_reply.c (the answers). */
#ifndef GY_SERVER_SCAN_CALL_H
#define GY_SERVER_SCAN_CALL_H

#include "server/incoming.h"
#include "server/turns.h"

#include "scan/scan.h"

/* Queries that one pass over the codes serves at once; so many callers share one at most. */
enum { GY_PASS_QUERIES_MAX = GYRE_SCAN_QUERIES_MAX };

struct gy_scan_call {
    struct gy_turn turn; /* first: what waits in line */
    gy_incoming *call;
    Gyre__Node__Scan *request; /* owned */
    /* What gy_scan_check learned; 0 where no shard is here. One that goes along has dim and metric of the one it goes with. */
    size_t query_count;
    uint32_t dim;
    gyre_metric metric;
};
/* Answers with an error and frees. */
void gy_scan_call_fail(struct gy_scan_call *scan, gyre_status status, const gyre_error *err);
void gy_scan_call_free(struct gy_scan_call *scan);

/* Numbers that need no replica to be checked: before the request may wait. */
GYRE_CHECKED gyre_status gy_scan_check_numbers(const Gyre__Node__Scan *request, gyre_error *err);
/* Everything else, against the first of its shards that is here. With none here there is nothing to check against, and every
 * shard's place of the reply will say so. */
GYRE_CHECKED gyre_status gy_scan_check(struct gy_scan_call *scan, gyre_error *err);

/* What a scan wants the i-th of its shards to have applied. */
static inline uint64_t gy_scan_min_seq(const Gyre__Node__Scan *request, size_t i)
{
    return request->n_min_seqs ? request->min_seqs[i] : 0;
}

/* The hashes that it wants of the i-th. */
static inline struct gy_hash_range gy_scan_range(const Gyre__Node__Scan *request, size_t i)
{
    return request->n_hash_firsts ? (struct gy_hash_range){request->hash_firsts[i], request->hash_lasts[i]} : GY_RANGE_OWNED;
}

/* One shard's part of a pass. */
struct gy_scan_part {
    gyre_status status;
    gyre_error err;
    struct gy_candidates *candidates; /* [query_count] */
    uint32_t codebook_version;
    uint64_t applied_seq;
};

/* The scans of one collection that are done as one. All members ask for the same but for queries, probes and limits. */
struct gy_pass {
    gy_server *server;
    struct gy_scan_call *members[GY_PASS_QUERIES_MAX];
    size_t member_count;
    struct gy_scan_request scan; /* the queries of all members, one behind the other */
    void *joined;                /* [..] their bytes, where there are several members */
    struct gy_scan_part *parts;  /* [shards] */
};
/* Scans for members (owned from here on) and answers each. */
void gy_pass_run(gy_server *server, struct gy_scan_call **members, size_t member_count);

/* Answers member i of a pass whose parts are done; its queries begin at first_query. Leaves the member to its owner, without
 * call. */
void gy_pass_reply(const struct gy_pass *pass, size_t member, size_t first_query);

#endif
