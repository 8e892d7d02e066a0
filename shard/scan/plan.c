/* The plan of a request: steps, each a list and the queries that look into it, and parts, each a stretch of steps for one thread.
 *
 * One query's steps are its probes in their order. Several queries are turned round, from lists of a query to queries of a list,
 * so that a pass over a list serves all of them; only the first lists of each query are scanned for it alone and before all
 * others, since they bring its threshold down. Queries that look into every list share every step.
 * Where the probes cannot be used (none, or of another codebook), every list is scanned; one query begins with the nearest. */
#include "scan/internal.h"

#include "gyre/partition.h"

#include <stdlib.h>

enum {
    NEAR_POINTS = 512,        /* of the lists that a query of several has scanned first and alone */
    PART_BYTES = 2 << 20,     /* of codes, for one thread: a fifth of a millisecond; smaller parts cost more in hand-over than
                               * they win */
    COMPARE_PART_BYTES = 8 << 20,
};

/* The lists of one query. */
struct probes {
    const uint32_t *lists;
    size_t count;
    uint32_t *owned; /* NULL: lists are the request's */
};

/* While a plan is made. */
struct planning {
    struct gy_scanning *scanning;
    struct probes *probes;   /* [query_count] */
    uint8_t *seen;           /* a bit a list, clear between queries */
    size_t step_room, query_room, queries;
};

static uint64_t points_of(const struct gy_scanning *scanning, uint32_t list)
{
    const uint32_t *chunks;
    uint64_t points;
    return gy_snapshot_list(scanning->snapshot, list, &chunks, &points) ? points : 0;
}

/* ---- which lists ---- */

static gyre_status mark(struct planning *planning, size_t q, gyre_error *err)
{
    const struct probes *probes = &planning->probes[q];
    uint32_t list_count = planning->scanning->list_count;
    for (size_t i = 0; i < probes->count; i++) {
        uint32_t list = probes->lists[i];
        if (list >= list_count)
            return gyre_fail(err, GYRE_INVALID, "query %zu probes list %u; there are %u", q, list, list_count);
        uint8_t bit = (uint8_t)(1 << list % 8);
        if (planning->seen[list / 8] & bit)
            return gyre_fail(err, GYRE_INVALID, "query %zu probes list %u twice", q, list);
        planning->seen[list / 8] |= bit;
    }
    return GYRE_OK;
}

static void unmark(struct planning *planning, const struct probes *probes)
{
    for (size_t i = 0; i < probes->count; i++)
        planning->seen[probes->lists[i] / 8] = 0;
}

static gyre_status nearest_lists(const struct gy_scanning *scanning, size_t q, uint32_t *lists, gyre_error *err)
{
    const struct gy_scan_request *request = scanning->request;
    return gyre_partition_probe(scanning->codebook, request->queries + q * scanning->dim,
                                request->rotated ? request->rotated + q * scanning->dim : NULL, scanning->list_count, lists, err);
}

/* Adds the nearest of the other lists until the query looks at keep allowed points, or at all. Its own lists are marked. */
static gyre_status extend(struct planning *planning, size_t q, gyre_error *err)
{
    struct gy_scanning *scanning = planning->scanning;
    struct probes *probes = &planning->probes[q];
    uint64_t allowed = 0, count;
    for (size_t i = 0; i < probes->count && allowed < scanning->request->keep; i++) {
        GY_TRY(gy_filter_count(scanning, probes->lists[i], &count, err));
        allowed += count;
    }
    if (allowed >= scanning->request->keep || probes->count == scanning->list_count)
        return GYRE_OK;
    size_t list_bytes = scanning->list_count * sizeof(uint32_t);
    uint32_t *others = malloc(list_bytes), *lists = malloc(list_bytes);
    gyre_status status = others && lists ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "probes of %u lists", scanning->list_count);
    if (status == GYRE_OK)
        status = nearest_lists(scanning, q, others, err);
    size_t found = probes->count;
    if (status == GYRE_OK)
        memcpy(lists, probes->lists, found * sizeof *lists);
    for (uint32_t i = 0; i < scanning->list_count && status == GYRE_OK && allowed < scanning->request->keep; i++) {
        if (planning->seen[others[i] / 8] >> others[i] % 8 & 1)
            continue;
        status = gy_filter_count(scanning, others[i], &count, err);
        if (count)
            lists[found++] = others[i], allowed += count;
    }
    free(others);
    if (status != GYRE_OK) {
        free(lists);
        return status;
    }
    *probes = (struct probes){lists, found, lists};
    return GYRE_OK;
}

/* The probes of every query, checked, and extended where a filter asks for it. */
static gyre_status take_probes(struct planning *planning, gyre_error *err)
{
    struct gy_scanning *scanning = planning->scanning;
    const struct gy_scan_request *request = scanning->request;
    const uint32_t *next = request->probes;
    planning->probes = calloc(request->query_count, sizeof *planning->probes);
    planning->seen = calloc(scanning->list_count / 8 + 1, 1);
    if (!planning->probes || !planning->seen)
        return gyre_fail(err, GYRE_NO_MEMORY, "probes of %zu queries", request->query_count);
    for (size_t q = 0; q < request->query_count; q++) {
        struct probes own = {next, request->probe_counts[q], NULL};
        if (own.count > scanning->list_count)
            return gyre_fail(err, GYRE_INVALID, "query %zu probes %zu lists; there are %u", q, own.count, scanning->list_count);
        planning->probes[q] = own;
        GY_TRY(mark(planning, q, err));
        if (scanning->filter.allowed)
            GY_TRY(extend(planning, q, err));
        unmark(planning, &own);
        next += own.count;
    }
    return GYRE_OK;
}

/* ---- in which steps ---- */

static gyre_status plan_room(struct gy_plan *plan, size_t steps, size_t queries, gyre_error *err)
{
    plan->steps = malloc((steps + 1) * sizeof *plan->steps);
    plan->queries = malloc((queries + 1) * sizeof *plan->queries);
    return plan->steps && plan->queries ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "scan of %zu lists", steps);
}

static void add_step(struct gy_plan *plan, uint32_t list, size_t first_query, size_t query_count)
{
    plan->steps[plan->step_count++] = (struct gy_step){list, (uint32_t)query_count, first_query};
}

/* Every list for every query. */
static gyre_status plan_all(struct gy_scanning *scanning, gyre_error *err)
{
    struct gy_plan *plan = &scanning->plan;
    size_t query_count = scanning->request->query_count;
    GY_TRY(plan_room(plan, scanning->list_count, query_count, err));
    for (size_t q = 0; q < query_count; q++)
        plan->queries[q] = (uint32_t)q;
    uint32_t *order = NULL;
    if (query_count == 1 && scanning->list_count > 1 && !scanning->compare) {
        order = malloc(scanning->list_count * sizeof *order);
        gyre_status status = order ? nearest_lists(scanning, 0, order, err) : gyre_fail(err, GYRE_NO_MEMORY, "%u lists",
                                                                                        scanning->list_count);
        if (status != GYRE_OK) {
            free(order);
            return status;
        }
    }
    for (uint32_t i = 0; i < scanning->list_count; i++)
        add_step(plan, order ? order[i] : i, 0, query_count);
    free(order);
    return GYRE_OK;
}

static gyre_status plan_one(struct gy_scanning *scanning, const struct probes *probes, gyre_error *err)
{
    struct gy_plan *plan = &scanning->plan;
    GY_TRY(plan_room(plan, probes->count, 1, err));
    plan->queries[0] = 0;
    for (size_t i = 0; i < probes->count; i++)
        add_step(plan, probes->lists[i], 0, 1);
    return GYRE_OK;
}

/* Of a query's lists, how many are scanned first: none if that is all there is. */
static size_t near_lists(const struct gy_scanning *scanning, const struct probes *probes)
{
    size_t near = 0;
    for (uint64_t points = 0; near < probes->count && points < NEAR_POINTS; near++)
        points += points_of(scanning, probes->lists[near]);
    return near < probes->count ? near : 0;
}

/* Turns lists of queries into queries of lists, by counting. */
static gyre_status plan_turned(struct gy_scanning *scanning, const struct probes *probes, gyre_error *err)
{
    struct gy_plan *plan = &scanning->plan;
    size_t query_count = scanning->request->query_count, pairs = 0;
    size_t *ends = calloc((size_t)scanning->list_count + 1, sizeof *ends), *near = malloc(query_count * sizeof *near);
    gyre_status status = ends && near ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "probes of %u lists", scanning->list_count);
    for (size_t q = 0; q < query_count && status == GYRE_OK; q++)
        pairs += probes[q].count;
    if (status == GYRE_OK)
        status = plan_room(plan, pairs, query_count + pairs, err);
    for (size_t q = 0; q < query_count && status == GYRE_OK; q++) {
        plan->queries[q] = (uint32_t)q;
        near[q] = near_lists(scanning, &probes[q]);
        for (size_t i = 0; i < probes[q].count; i++) {
            if (i < near[q])
                add_step(plan, probes[q].lists[i], q, 1);
            else
                ends[probes[q].lists[i]]++;
        }
    }
    size_t at = query_count;
    for (uint32_t list = 0; list < scanning->list_count && status == GYRE_OK; list++) {
        size_t count = ends[list];
        if (count)
            add_step(plan, list, at, count);
        ends[list] = at, at += count; /* from counts to beginnings, which move to the ends below */
    }
    for (size_t q = 0; q < query_count && status == GYRE_OK; q++)
        for (size_t i = near[q]; i < probes[q].count; i++)
            plan->queries[ends[probes[q].lists[i]]++] = (uint32_t)q;
    free(ends);
    free(near);
    return status;
}

/* ---- in which parts ---- */

/* Of a step: bytes that are looked at, each once for each query. */
static uint64_t step_bytes(const struct gy_scanning *scanning, const struct gy_step *step)
{
    uint64_t row_bytes = scanning->compare ? scanning->dim * sizeof(float) : scanning->block_bytes / GYRE_BLOCK_ROWS;
    return points_of(scanning, step->list) * row_bytes * step->query_count;
}

/* Cuts steps into parts of about equal bytes; parts NULL: only counts them. */
static size_t cut(const struct gy_scanning *scanning, uint64_t part_bytes, struct gy_part *parts)
{
    const struct gy_plan *plan = &scanning->plan;
    struct gy_part part = {0, 0, 0, SIZE_MAX};
    uint64_t gathered = 0;
    size_t count = 0;
    for (size_t s = 0; s <= plan->step_count; s++) {
        uint64_t bytes = s < plan->step_count ? step_bytes(scanning, &plan->steps[s]) : 0;
        if (part.end > part.first && (s == plan->step_count || gathered + bytes > part_bytes)) {
            if (parts)
                parts[count] = part;
            count++;
            part.first = s, gathered = 0;
        }
        part.end = s + 1, gathered += bytes;
        if (bytes < 2 * part_bytes)
            continue;
        const uint32_t *chunks; /* too large for one part: stretches of its chunks */
        uint64_t points, pieces = bytes / part_bytes;
        size_t chunk_count = gy_snapshot_list(scanning->snapshot, plan->steps[s].list, &chunks, &points);
        size_t stretch = (chunk_count + pieces - 1) / pieces;
        for (size_t c = 0; c < chunk_count; c += stretch, count++)
            if (parts)
                parts[count] = (struct gy_part){s, s + 1, c, c + stretch};
        part.first = s + 1, gathered = 0;
    }
    return count;
}

static gyre_status plan_parts(struct gy_scanning *scanning, gy_pool *pool, gyre_error *err)
{
    struct gy_plan *plan = &scanning->plan;
    uint64_t part_bytes = scanning->compare ? COMPARE_PART_BYTES : PART_BYTES;
    plan->part_count = pool ? cut(scanning, part_bytes, NULL) : 1;
    plan->parts = malloc((plan->part_count + 1) * sizeof *plan->parts);
    if (!plan->parts)
        return gyre_fail(err, GYRE_NO_MEMORY, "scan in %zu parts", plan->part_count);
    plan->parts[0] = (struct gy_part){0, plan->step_count, 0, SIZE_MAX};
    if (plan->part_count > 1)
        cut(scanning, part_bytes, plan->parts);
    plan->part_count = plan->part_count ? plan->part_count : 1;
    return GYRE_OK;
}

static gyre_status plan_steps(struct planning *planning, gyre_error *err)
{
    struct gy_scanning *scanning = planning->scanning;
    const struct gy_scan_request *request = scanning->request;
    uint32_t version = gyre_codebook_version(scanning->codebook);
    bool usable = request->probes && (!request->codebook_version || request->codebook_version == version);
    if (scanning->compare || !usable)
        return plan_all(scanning, err);
    GY_TRY(take_probes(planning, err));
    return request->query_count == 1 ? plan_one(scanning, planning->probes, err) : plan_turned(scanning, planning->probes, err);
}

gyre_status gy_plan_make(struct gy_scanning *scanning, gy_pool *pool, gyre_error *err)
{
    const struct gy_plan *plan = &scanning->plan;
    struct planning planning = {.scanning = scanning};
    gyre_status status = plan_steps(&planning, err);
    for (size_t q = 0; planning.probes && q < scanning->request->query_count; q++)
        free(planning.probes[q].owned);
    free(planning.probes);
    free(planning.seen);
    GY_TRY(status);
    for (size_t s = 0; s < plan->step_count; s++)
        for (size_t i = 0; i < plan->steps[s].query_count; i++) {
            struct gy_candidates *out = &scanning->out[plan->queries[plan->steps[s].first_query + i]];
            uint64_t points = points_of(scanning, plan->steps[s].list);
            if (gy_filter_is_any(&scanning->filter))
                GY_TRY(gy_filter_count(scanning, plan->steps[s].list, &points, err));
            out->scanned += points;
            out->lists_probed++;
        }
    return plan_parts(scanning, pool, err);
}

void gy_plan_free(struct gy_plan *plan)
{
    free(plan->steps);
    free(plan->queries);
    free(plan->parts);
}
