/* SCAN: candidates of one or more of a collection's shards here. The shards are scanned side by side; a shard that cannot answer
 * says why in its own place of the reply, so that the coordinator can ask another replica. */
#include "server/incoming.h"
#include "server/fan.h"

#include "scan/scan.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct part {
    gyre_status status;
    gyre_error err;
    struct gy_candidates *candidates; /* [query_count] */
    uint32_t codebook_version;
    uint64_t applied_seq;
};

struct scanning {
    gy_incoming *call;
    Gyre__Node__Scan *request;
    struct gy_scan_request scan;
    uint32_t dim;
    gyre_metric metric;
    struct part *parts; /* [shards] */
};

/* ---- what is asked ---- */

static gyre_status check_numbers(const Gyre__Node__Scan *request, gyre_error *err)
{
    if (request->n_shards == 0 || request->n_shards > GY_REQUEST_SHARDS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu shards; a request names 1 to %d", request->n_shards, GY_REQUEST_SHARDS_MAX);
    if (request->keep == 0 || request->keep > GY_SCAN_KEEP_MAX)
        return gyre_fail(err, GYRE_INVALID, "keep is %u; it must be 1 to %d", request->keep, GY_SCAN_KEEP_MAX);
    if (request->seed > request->keep)
        return gyre_fail(err, GYRE_INVALID, "seed is %u; it may be at most keep, %u", request->seed, request->keep);
    if (!request->exact && !(request->epsilon > 0 && isfinite(request->epsilon)))
        return gyre_fail(err, GYRE_INVALID, "epsilon is %g; it must be finite and above 0", (double)request->epsilon);
    return GYRE_OK;
}

/* Needs to know what the collection's vectors are: call with the facts of a replica. */
static gyre_status check_queries(struct scanning *scanning, gyre_error *err)
{
    const Gyre__Node__Scan *request = scanning->request;
    size_t count;
    GY_TRY(gy_check_vectors("queries", &request->queries, scanning->metric, scanning->dim, GY_SCAN_QUERIES_MAX, &count, err));
    if (count * request->n_shards * request->keep > GY_SCAN_CANDIDATES_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu queries, %zu shards, keep %u: that is more than %d candidates; ask in several requests", count,
                         request->n_shards, request->keep, GY_SCAN_CANDIDATES_MAX);
    if (request->exact ? request->rotated.len != 0 : request->rotated.len != request->queries.len)
        return gyre_fail(err, GYRE_INVALID, "rotated has %zu bytes; it must have %zu, as queries (none if exact)", request->rotated.len,
                         request->exact ? (size_t)0 : request->queries.len);
    for (size_t i = 0; i < request->rotated.len / sizeof(float); i++)
        if (!isfinite(gy_floats(&request->rotated)[i]))
            return gyre_fail(err, GYRE_INVALID, "rotated row %zu column %zu is not finite", i / scanning->dim, i % scanning->dim);
    if (request->limits.len != 0 && request->limits.len != count * sizeof(float))
        return gyre_fail(err, GYRE_INVALID, "limits has %zu bytes; it must have %zu, one float a query, or none", request->limits.len,
                         count * sizeof(float));
    for (size_t i = 0; i < request->limits.len / sizeof(float); i++)
        if (isnan(gy_floats(&request->limits)[i]))
            return gyre_fail(err, GYRE_INVALID, "limits[%zu] is not a number", i);
    scanning->scan = (struct gy_scan_request){
        .queries = gy_floats(&request->queries),
        .rotated = request->exact ? NULL : gy_floats(&request->rotated),
        .limits = request->limits.len ? gy_floats(&request->limits) : NULL,
        .query_count = count,
        .epsilon = request->epsilon,
        .keep = request->keep,
        .seed = request->seed,
        .exact = request->exact,
        .deadline_ns = scanning->call->deadline_ns,
    };
    return GYRE_OK;
}

/* Learns dim and metric from the first shard that is here; false if none is. */
static bool learn_facts(struct scanning *scanning)
{
    const Gyre__Node__Scan *request = scanning->request;
    bool known = false;
    for (size_t i = 0; i < request->n_shards && !known; i++)
        known = gy_learn_facts(scanning->call->server->node, request->collection_id, request->shards[i], &scanning->dim, &scanning->metric);
    return known;
}

/* ---- the parts ---- */

static gyre_status scan_held(struct scanning *scanning, gy_points *points, struct part *part, gyre_error *err)
{
    if (gy_points_dim(points) != scanning->dim || gy_points_metric(points) != scanning->metric)
        return gyre_fail(err, GYRE_INTERNAL, "this shard has %u dimensions, its neighbour %u", gy_points_dim(points), scanning->dim);
    struct gy_candidates *candidates = calloc(scanning->scan.query_count, sizeof *candidates);
    if (!candidates)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the candidates of %zu queries", scanning->scan.query_count);
    part->candidates = candidates;
    return gy_scan_run(points, scanning->call->server->lanes[GY_LANE_SCAN], &scanning->scan, candidates, &part->codebook_version, &part->applied_seq, err);
}

static void scan_part(void *self, size_t i)
{
    struct scanning *scanning = self;
    gy_node *node = scanning->call->server->node;
    struct part *part = &scanning->parts[i];
    gy_hosted *hosted;
    part->status = gy_node_hold(node, scanning->request->collection_id, scanning->request->shards[i], &hosted, &part->err);
    if (part->status != GYRE_OK)
        return;
    part->status = scan_held(scanning, gy_replica_points(gy_hosted_replica(hosted)), part, &part->err);
    gy_node_release(node, hosted);
}

/* ---- the reply ---- */

/* Arrays have a place more than needed, so that none is ever of size zero. One block for the whole reply's structs and another per answer for its numbers, as protobuf-c wants pointers to pointers. */
struct packing {
    Gyre__Node__ShardCandidates *shards, **shard_list;
    Gyre__Node__Candidates *answers, **answer_list;
};

static bool pack_answer(Gyre__Node__Candidates *out, const struct gy_candidates *in)
{
    gyre__node__candidates__init(out);
    out->cutoff = in->cutoff;
    out->scanned = in->scanned;
    out->seeds_read = in->seeds_read;
    if (in->count == 0)
        return true;
    size_t ids_bytes = in->count * GYRE_ID_BYTES, floats_bytes = in->count * sizeof(float);
    uint8_t *ids = malloc(ids_bytes + 2 * floats_bytes);
    if (!ids)
        return false;
    uint8_t *estimates = ids + ids_bytes, *half_widths = estimates + floats_bytes;
    for (size_t i = 0; i < in->count; i++) {
        memcpy(ids + i * GYRE_ID_BYTES, in->items[i].id.bytes, GYRE_ID_BYTES);
        gy_store_f32(estimates + i * sizeof(float), in->items[i].estimate);
        gy_store_f32(half_widths + i * sizeof(float), in->items[i].half_width);
    }
    out->ids = (ProtobufCBinaryData){ids_bytes, ids};
    out->estimates = (ProtobufCBinaryData){floats_bytes, estimates};
    out->half_widths = (ProtobufCBinaryData){floats_bytes, half_widths};
    return true;
}

static bool pack(struct scanning *scanning, struct packing *packing)
{
    size_t shard_count = scanning->request->n_shards, query_count = scanning->scan.query_count;
    packing->shards = calloc(shard_count, sizeof *packing->shards);
    packing->shard_list = calloc(shard_count, sizeof(Gyre__Node__ShardCandidates *));
    packing->answers = calloc(shard_count * query_count + 1, sizeof *packing->answers);
    packing->answer_list = calloc(shard_count * query_count + 1, sizeof(Gyre__Node__Candidates *));
    bool packed = packing->shards && packing->shard_list && packing->answers && packing->answer_list;
    for (size_t s = 0; packed && s < shard_count; s++) {
        Gyre__Node__ShardCandidates *out = packing->shard_list[s] = &packing->shards[s];
        struct part *part = &scanning->parts[s];
        gyre__node__shard_candidates__init(out);
        out->shard = scanning->request->shards[s];
        out->status = (uint32_t)part->status;
        if (part->status != GYRE_OK) {
            out->error = part->err.text;
            continue;
        }
        out->codebook_version = part->codebook_version;
        out->applied_seq = part->applied_seq;
        out->n_queries = query_count;
        out->queries = packing->answer_list + s * query_count;
        for (size_t q = 0; packed && q < query_count; q++) {
            out->queries[q] = &packing->answers[s * query_count + q];
            packed = pack_answer(out->queries[q], &part->candidates[q]);
        }
    }
    return packed;
}

static void free_packing(struct scanning *scanning, struct packing *packing)
{
    for (size_t i = 0; packing->answers && i < scanning->request->n_shards * scanning->scan.query_count; i++)
        free(packing->answers[i].ids.data); /* the other two lie behind it */
    free(packing->answers);
    free(packing->answer_list);
    free(packing->shards);
    free(packing->shard_list);
}

static void free_scanning(struct scanning *scanning)
{
    for (size_t s = 0; scanning->parts && s < scanning->request->n_shards; s++) {
        if (scanning->parts[s].candidates)
            gy_candidates_free(scanning->parts[s].candidates, scanning->scan.query_count);
        free(scanning->parts[s].candidates);
    }
    free(scanning->parts);
    gy_wire_free(scanning->request);
    free(scanning);
}

static void count_work(const struct scanning *scanning)
{
    uint64_t scanned = 0, compared = 0;
    for (size_t s = 0; s < scanning->request->n_shards; s++) {
        const struct part *part = &scanning->parts[s];
        for (size_t q = 0; part->status == GYRE_OK && q < scanning->scan.query_count; q++) {
            *(scanning->scan.exact ? &compared : &scanned) += part->candidates[q].scanned;
            compared += part->candidates[q].seeds_read;
        }
    }
    gy_counter_add(scanning->call->server->stats.codes_scanned, scanned);
    gy_counter_add(scanning->call->server->stats.vectors_compared, compared);
}

static void scan_done(void *self)
{
    struct scanning *scanning = self;
    struct packing packing = {0};
    count_work(scanning);
    if (pack(scanning, &packing)) {
        Gyre__Node__ScanReply reply = GYRE__NODE__SCAN_REPLY__INIT;
        reply.n_shards = scanning->request->n_shards;
        reply.shards = packing.shard_list;
        gy_incoming_reply(scanning->call, &reply.base);
    } else {
        gyre_error err;
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a scan's reply");
        gy_incoming_fail(scanning->call, status, &err);
    }
    free_packing(scanning, &packing);
    free_scanning(scanning);
}

void gy_serve_scan(gy_incoming *call, void *message)
{
    gyre_error err;
    struct scanning *scanning = calloc(1, sizeof *scanning);
    if (!scanning) {
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a scan");
        gy_wire_free(message);
        gy_incoming_fail(call, status, &err);
        return;
    }
    scanning->call = call;
    scanning->request = message;
    gyre_status status = check_numbers(scanning->request, &err);
    if (status == GYRE_OK && !(scanning->parts = calloc(scanning->request->n_shards, sizeof *scanning->parts)))
        status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a scan of %zu shards", scanning->request->n_shards);
    /* With no shard here there is nothing to check against; every part will say so. */
    if (status == GYRE_OK && learn_facts(scanning))
        status = check_queries(scanning, &err);
    if (status != GYRE_OK) {
        scanning->scan.query_count = 0;
        free_scanning(scanning);
        gy_incoming_fail(call, status, &err);
        return;
    }
    const gy_server *server = call->server;
    gy_fan_run(server->lanes[GY_LANE_SCAN], server->helpers[GY_LANE_SCAN], scanning->request->n_shards, scan_part, scan_done, scanning);
}
