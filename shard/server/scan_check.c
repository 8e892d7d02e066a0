/* Every field of a SCAN: by name, against its limit, before anything is allocated for it. */
#include "server/scan_call.h"

#include "gyre/kmeans.h"

#include <math.h>
#include <stdlib.h>

gyre_status gy_scan_check_numbers(const Gyre__Node__Scan *request, gyre_error *err)
{
    if (request->n_shards == 0 || request->n_shards > GY_REQUEST_SHARDS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu shards; a request names 1 to %d", request->n_shards, GY_REQUEST_SHARDS_MAX);
    if (request->keep == 0 || request->keep > GY_SCAN_KEEP_MAX)
        return gyre_fail(err, GYRE_INVALID, "keep is %u; it must be 1 to %d", request->keep, GY_SCAN_KEEP_MAX);
    if (request->seed > request->keep)
        return gyre_fail(err, GYRE_INVALID, "seed is %u; it may be at most keep, %u", request->seed, request->keep);
    if (request->k > request->keep)
        return gyre_fail(err, GYRE_INVALID, "k is %u; it may be at most keep, %u", request->k, request->keep);
    if (request->share > request->k)
        return gyre_fail(err, GYRE_INVALID, "share is %u; it may be at most k, %u", request->share, request->k);
    if (request->share && request->alone)
        return gyre_fail(err, GYRE_INVALID, "share is %u; a shard that is alone takes none", request->share);
    if (request->scan_bits != 0 && request->scan_bits != 4 && request->scan_bits != 6 && request->scan_bits != 8)
        return gyre_fail(err, GYRE_INVALID, "scan_bits is %u; it must be 4, 6 or 8, or 0 for 4", request->scan_bits);
    if (request->n_min_seqs && request->n_min_seqs != request->n_shards)
        return gyre_fail(err, GYRE_INVALID, "%zu min_seqs; there must be one for each of %zu shards, or none",
            request->n_min_seqs,
                         request->n_shards);
    GY_TRY(gy_check_ranges(request->n_shards, request->hash_firsts, request->n_hash_firsts, request->hash_lasts,
                           request->n_hash_lasts, err));
    if (!request->exact && !(request->epsilon > 0 && isfinite(request->epsilon)))
        return gyre_fail(err, GYRE_INVALID, "epsilon is %g; it must be finite and above 0", (double)request->epsilon);
    if (request->exact && (request->probes.len || request->n_probe_counts))
        return gyre_fail(err, GYRE_INVALID, "probes with exact: an exact scan compares every vector");
    return GYRE_OK;
}

/* Numbers below the limit, none twice for one query. seen is a bit a list, all 0 before and after. */
static gyre_status check_query_probes(const uint32_t *probes, size_t first, size_t count, uint64_t *seen, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    size_t marked = 0;
    for (; marked < count && status == GYRE_OK; marked++) {
        uint32_t list = probes[first + marked];
        uint64_t bit = UINT64_C(1) << list % 64;
        if (seen[list / 64] & bit)
            status = gyre_fail(err, GYRE_INVALID, "probes[%zu] is list %u, which its query has already", first + marked, list);
        else
            seen[list / 64] |= bit;
    }
    for (size_t i = 0; i < marked; i++)
        seen[probes[first + i] / 64] = 0;
    return status;
}

static gyre_status check_probe_numbers(const uint32_t *probes, size_t probe_count, const uint32_t *counts, size_t query_count,
                                       gyre_error *err)
{
    uint32_t lists_max = 0;
    for (size_t i = 0; i < probe_count; i++) {
        if (probes[i] >= GYRE_LISTS_MAX)
            return gyre_fail(err, GYRE_INVALID, "probes[%zu] is list %u; there are at most %d", i, probes[i], GYRE_LISTS_MAX);
        lists_max = probes[i] > lists_max ? probes[i] : lists_max;
    }
    uint64_t *seen = calloc(lists_max / 64 + 1, sizeof *seen);
    if (!seen)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to check %zu probes", probe_count);
    gyre_status status = GYRE_OK;
    for (size_t q = 0, first = 0; q < query_count && status == GYRE_OK; first += counts[q++])
        status = check_query_probes(probes, first, counts[q], seen, err);
    free(seen);
    return status;
}

static gyre_status check_probes(const Gyre__Node__Scan *request, size_t query_count, gyre_error *err)
{
    if (request->probes.len % sizeof(uint32_t) != 0)
        return gyre_fail(err, GYRE_INVALID, "probes has %zu bytes; it needs whole list numbers of 4", request->probes.len);
    size_t probe_count = request->probes.len / sizeof(uint32_t), sum = 0;
    if (request->n_probe_counts != (probe_count ? query_count : 0))
        return gyre_fail(err, GYRE_INVALID, "probe_counts has %zu numbers; it must have %zu, one a query (none without probes)",
                         request->n_probe_counts, probe_count ? query_count : (size_t)0);
    for (size_t q = 0; q < request->n_probe_counts; q++) {
        if (request->probe_counts[q] == 0)
            return gyre_fail(err, GYRE_INVALID, "probe_counts[%zu] is 0; a query looks into one list at least", q);
        sum += request->probe_counts[q];
    }
    if (sum != probe_count)
        return gyre_fail(err, GYRE_INVALID, "probe_counts sum up to %zu; probes has %zu lists", sum, probe_count);
    return probe_count ? check_probe_numbers(gy_numbers(&request->probes), probe_count, request->probe_counts, query_count, err)
                       : GYRE_OK;
}

static gyre_status check_queries(struct gy_scan_call *scan, gyre_error *err)
{
    const Gyre__Node__Scan *request = scan->request;
    size_t count;
    GY_TRY(gy_check_vectors("queries", &request->queries, scan->metric, scan->dim, GY_SCAN_QUERIES_MAX, &count, err));
    if (count * request->n_shards * request->keep > GY_SCAN_CANDIDATES_MAX)
        return gyre_fail(err, GYRE_INVALID,
                         "%zu queries, %zu shards, keep %u: that is more than %d candidates; ask in several requests", count,
                         request->n_shards, request->keep, GY_SCAN_CANDIDATES_MAX);
    if (request->exact ? request->rotated.len != 0 : request->rotated.len != request->queries.len)
        return gyre_fail(err, GYRE_INVALID, "rotated has %zu bytes; it must have %zu, as queries (none if exact)",
                         request->rotated.len, request->exact ? (size_t)0 : request->queries.len);
    for (size_t i = 0; i < request->rotated.len / sizeof(float); i++)
        if (!isfinite(gy_floats(&request->rotated)[i]))
            return gyre_fail(err, GYRE_INVALID, "rotated row %zu column %zu is not finite", i / scan->dim, i % scan->dim);
    if (request->limits.len != 0 && request->limits.len != count * sizeof(float))
        return gyre_fail(err, GYRE_INVALID, "limits has %zu bytes; it must have %zu, one float a query, or none",
                         request->limits.len, count * sizeof(float));
    for (size_t i = 0; i < request->limits.len / sizeof(float); i++)
        if (isnan(gy_floats(&request->limits)[i]))
            return gyre_fail(err, GYRE_INVALID, "limits[%zu] is not a number", i);
    GY_TRY(check_probes(request, count, err));
    scan->query_count = count;
    return GYRE_OK;
}

gyre_status gy_scan_check(struct gy_scan_call *scan, gyre_error *err)
{
    const Gyre__Node__Scan *request = scan->request;
    gy_node *node = scan->call->server->node;
    for (size_t i = 0; i < request->n_shards && !scan->dim; i++)
        if (!gy_learn_facts(node, request->collection_id, request->shards[i], &scan->dim, &scan->metric))
            scan->dim = 0;
    return scan->dim ? check_queries(scan, err) : GYRE_OK;
}
