/* A pass: the queries of one or several scans of a collection, over each of their shards. The shards are scanned side by side;
 * one that cannot answer says why in its own place of the reply, so that the coordinator can ask another replica.
 *
 * Each member keeps its own deadline: the pass runs as long as the last of them allows, a member whose time ran out meanwhile is
 * told so, and when all callers are gone it ends. */
#include "server/scan_call.h"
#include "server/fan.h"

#include <inttypes.h>
#include <stdlib.h>

static void free_pass(struct gy_pass *pass)
{
    size_t shard_count = pass->members[0]->request->n_shards;
    for (size_t s = 0; pass->parts && s < shard_count; s++) {
        if (pass->parts[s].candidates)
            gy_candidates_free(pass->parts[s].candidates, pass->scan.query_count);
        free(pass->parts[s].candidates);
    }
    free(pass->parts);
    free(pass->joined);
    for (size_t i = 0; i < pass->member_count; i++)
        gy_scan_call_free(pass->members[i]);
    free(pass);
}

static bool nobody_waits(void *arg)
{
    const struct gy_pass *pass = arg;
    for (size_t i = 0; i < pass->member_count; i++) {
        const gy_bus_request *request = pass->members[i]->call->request;
        if (!request || !gy_bus_request_abandoned(request))
            return false;
    }
    return true;
}

/* ---- what is asked ---- */

/* The bytes of one field of every member, one behind the other; *at moves on. NULL where the field is empty. */
static const void *join(const struct gy_pass *pass, uint8_t **at,
                        const ProtobufCBinaryData *(*field)(const Gyre__Node__Scan *request))
{
    uint8_t *start = *at;
    for (size_t i = 0; i < pass->member_count; i++) {
        const ProtobufCBinaryData *data = field(pass->members[i]->request);
        if (data->len)
            memcpy(*at, data->data, data->len);
        *at += data->len;
    }
    return *at == start ? NULL : start;
}

static const ProtobufCBinaryData *queries_of(const Gyre__Node__Scan *request)
{
    return &request->queries;
}

static const ProtobufCBinaryData *rotated_of(const Gyre__Node__Scan *request)
{
    return &request->rotated;
}

static const ProtobufCBinaryData *limits_of(const Gyre__Node__Scan *request)
{
    return &request->limits;
}

static const ProtobufCBinaryData *probes_of(const Gyre__Node__Scan *request)
{
    return &request->probes;
}

static size_t joined_bytes(const struct gy_pass *pass)
{
    size_t bytes = 0;
    for (size_t i = 0; i < pass->member_count; i++) {
        const Gyre__Node__Scan *request = pass->members[i]->request;
        bytes += request->queries.len + request->rotated.len + request->limits.len + request->probes.len +
                 request->n_probe_counts * sizeof *request->probe_counts;
    }
    return bytes;
}

static gyre_status join_members(struct gy_pass *pass, gyre_error *err)
{
    struct gy_scan_request *scan = &pass->scan;
    uint8_t *at = pass->joined = malloc(joined_bytes(pass));
    if (!at)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the queries of %zu scans", pass->member_count);
    /* Every field is a whole number of 4-byte numbers, so each begins where it may. */
    scan->queries = join(pass, &at, queries_of);
    scan->rotated = join(pass, &at, rotated_of);
    scan->limits = join(pass, &at, limits_of);
    scan->probes = join(pass, &at, probes_of);
    if (scan->probes)
        scan->probe_counts = (const uint32_t *)(const void *)at;
    for (size_t i = 0; i < pass->member_count; i++) {
        const Gyre__Node__Scan *request = pass->members[i]->request;
        size_t bytes = request->n_probe_counts * sizeof *request->probe_counts;
        if (bytes)
            memcpy(at, request->probe_counts, bytes);
        at += bytes;
    }
    return GYRE_OK;
}

static void take_member(struct gy_scan_request *scan, const Gyre__Node__Scan *request)
{
    scan->queries = gy_floats(&request->queries);
    scan->rotated = request->rotated.len ? gy_floats(&request->rotated) : NULL;
    scan->limits = request->limits.len ? gy_floats(&request->limits) : NULL;
    scan->probes = request->probes.len ? gy_numbers(&request->probes) : NULL;
    scan->probe_counts = request->n_probe_counts ? request->probe_counts : NULL;
}

static gyre_status describe(struct gy_pass *pass, gyre_error *err)
{
    const Gyre__Node__Scan *request = pass->members[0]->request;
    pass->scan = (struct gy_scan_request){
        .codebook_version = request->codebook_version,
        .epsilon = request->epsilon,
        .scan_bits = request->scan_bits,
        .k = request->k,
        .share = request->share,
        .keep = request->keep,
        .seed = request->seed,
        .exact = request->exact,
        .alone = request->alone,
        .cancelled = nobody_waits,
        .cancelled_arg = pass,
    };
    for (size_t i = 0; i < pass->member_count; i++) {
        const struct gy_scan_call *member = pass->members[i];
        pass->scan.query_count += member->query_count;
        if (member->call->deadline_ns > pass->scan.deadline_ns)
            pass->scan.deadline_ns = member->call->deadline_ns;
    }
    pass->parts = calloc(request->n_shards, sizeof *pass->parts);
    if (!pass->parts)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a scan of %zu shards", request->n_shards);
    if (pass->member_count > 1)
        return join_members(pass, err);
    take_member(&pass->scan, request);
    return GYRE_OK;
}

/* ---- the parts ---- */

/* Whether what is applied is enough for one of the callers at least; the answer to each of them is for it to decide, by what was
 * scanned. */
static gyre_status check_behind_all(const struct gy_pass *pass, gy_points *points, size_t shard, gyre_error *err)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < pass->member_count; i++) {
        uint64_t min_seq = gy_scan_min_seq(pass->members[i]->request, shard);
        least = min_seq < least ? min_seq : least;
    }
    return gy_check_behind(gy_points_applied_seq(points), least, err);
}

static gyre_status scan_held(struct gy_pass *pass, gy_points *points, size_t shard, struct gy_scan_part *part, gyre_error *err)
{
    const struct gy_scan_call *first = pass->members[0];
    GY_TRY(check_behind_all(pass, points, shard, err));
    if (gy_points_dim(points) != first->dim || gy_points_metric(points) != first->metric)
        return gyre_fail(err, GYRE_INTERNAL, "this shard has %u dimensions, its neighbour %u", gy_points_dim(points), first->dim);
    part->candidates = calloc(pass->scan.query_count, sizeof *part->candidates);
    if (!part->candidates)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the candidates of %zu queries", pass->scan.query_count);
    struct gy_scan_request scan = pass->scan;
    scan.range = gy_scan_range(first->request, shard);
    return gy_scan_run(points, NULL, pass->server->lanes[GY_LANE_SCAN], &scan, part->candidates, &part->codebook_version,
                       &part->applied_seq, err);
}

static void scan_part(void *self, size_t i)
{
    struct gy_pass *pass = self;
    gy_node *node = pass->server->node;
    const Gyre__Node__Scan *request = pass->members[0]->request;
    struct gy_scan_part *part = &pass->parts[i];
    gy_hosted *hosted;
    part->status = gy_node_hold(node, request->collection_id, request->shards[i], &hosted, &part->err);
    if (part->status != GYRE_OK)
        return;
    if (pass->scan.query_count == 0) /* it came since the queries were looked at */
        part->status = gyre_fail(&part->err, GYRE_UNAVAILABLE,
                                 "node %s is opening its replica of collection %" PRIu64 " shard %u", gy_node_name(node),
                                 request->collection_id, request->shards[i]);
    else
        part->status = gy_node_judge(
            node, hosted, scan_held(pass, gy_replica_points(gy_hosted_replica(hosted)), i, part, &part->err), &part->err);
    gy_node_release(node, hosted);
}

/* ---- the answers ---- */

static void count_work(const struct gy_pass *pass)
{
    uint64_t scanned = 0, compared = 0;
    const gy_stats *stats = &pass->server->stats;
    for (size_t s = 0; s < pass->members[0]->request->n_shards; s++) {
        const struct gy_scan_part *part = &pass->parts[s];
        for (size_t q = 0; part->status == GYRE_OK && q < pass->scan.query_count; q++) {
            *(pass->scan.exact ? &compared : &scanned) += part->candidates[q].scanned;
            compared += part->candidates[q].seeds_read;
        }
    }
    gy_counter_add(stats->codes_scanned, scanned);
    gy_counter_add(stats->vectors_compared, compared);
    size_t shared = pass->scan.query_count < GY_PASS_QUERIES_MAX ? pass->scan.query_count : GY_PASS_QUERIES_MAX;
    if (shared)
        gy_counter_add(stats->scan_passes[shared - 1], 1);
}

static void pass_done(void *self)
{
    struct gy_pass *pass = self;
    count_work(pass);
    int64_t now_ns = gy_now_ns();
    for (size_t i = 0, first_query = 0; i < pass->member_count; i++) {
        struct gy_scan_call *member = pass->members[i];
        size_t query_count = member->query_count;
        if (member->call->deadline_ns <= now_ns && pass->member_count > 1) {
            gyre_error err;
            gyre_status status = gyre_fail(&err, GYRE_DEADLINE, "the time ran out during a pass that it shared with %zu others",
                                           pass->member_count - 1);
            gy_incoming_fail(GY_TAKE(member->call), status, &err);
        } else {
            gy_pass_reply(pass, i, first_query);
        }
        first_query += query_count;
    }
    free_pass(pass);
}

void gy_pass_run(gy_server *server, struct gy_scan_call **members, size_t member_count)
{
    gyre_error err;
    struct gy_pass *pass = calloc(1, sizeof *pass);
    if (!pass) {
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a scan");
        for (size_t i = 0; i < member_count; i++)
            gy_scan_call_fail(members[i], status, &err);
        return;
    }
    pass->server = server;
    pass->member_count = member_count;
    memcpy(pass->members, members, member_count * sizeof *members);
    gyre_status status = describe(pass, &err);
    if (status != GYRE_OK) {
        for (size_t i = 0; i < member_count; i++)
            gy_incoming_fail(GY_TAKE(members[i]->call), status, &err);
        free_pass(pass);
        return;
    }
    gy_fan_run(server->lanes[GY_LANE_SCAN], server->helpers[GY_LANE_SCAN], members[0]->request->n_shards, scan_part, pass_done,
               pass);
}
