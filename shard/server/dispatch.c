/* From a message type to the pool and the function that serve it. Scans have a line of their own in front of theirs (scan.c). */
#include "server/incoming.h"

#include "gyre/lifecycle.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ADMIN_THREADS = 2,
    ADMIN_QUEUE = 256,
    WRITE_THREADS = 2, /* they decode and check only: about 1 ms for a write of 1000 points */
    WRITE_QUEUE = 1024,
    READ_QUEUE = 1024,
};

static const struct gy_route routes[] = {
    {GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, GY_LANE_ADMIN, "ensure_replica", &gyre__node__ensure_replica__descriptor,
     gy_serve_ensure},
    {GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA, GY_LANE_ADMIN, "drop_replica", &gyre__node__drop_replica__descriptor, gy_serve_drop},
    {GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS, GY_LANE_ADMIN, "sum_vectors", &gyre__node__sum_vectors__descriptor, gy_serve_sum},
    {GYRE__NODE__MESSAGE_TYPE__SAMPLE, GY_LANE_ADMIN, "sample", &gyre__node__sample__descriptor, gy_serve_sample},
    {GYRE__NODE__MESSAGE_TYPE__WRITE, GY_LANE_WRITE, "write", &gyre__node__write__descriptor, gy_serve_write},
    {GYRE__NODE__MESSAGE_TYPE__APPEND, GY_LANE_APPEND, "append", &gyre__node__append__descriptor, gy_serve_append},
    {GYRE__NODE__MESSAGE_TYPE__SNAPSHOT, GY_LANE_COPY, "snapshot", &gyre__node__snapshot__descriptor, gy_serve_snapshot},
    {GYRE__NODE__MESSAGE_TYPE__READ, GY_LANE_READ, "read", &gyre__node__read__descriptor, gy_serve_read},
    {GYRE__NODE__MESSAGE_TYPE__COUNT, GY_LANE_READ, "count", &gyre__node__count__descriptor, gy_serve_count},
    {GYRE__NODE__MESSAGE_TYPE__SCAN, GY_LANE_SCAN, "scan", &gyre__node__scan__descriptor, gy_serve_scan},
    {GYRE__NODE__MESSAGE_TYPE__SCRUB, GY_LANE_SCRUB, "scrub", &gyre__node__scrub__descriptor, gy_serve_scrub},
    {GYRE__NODE__MESSAGE_TYPE__DISTANCES, GY_LANE_READ, "distances", &gyre__node__distances__descriptor, gy_serve_distances},
};
enum { ROUTE_COUNT = sizeof routes / sizeof *routes };

static const struct gy_route *route_of(uint16_t type)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (routes[i].type == type)
            return &routes[i];
    return NULL;
}

/* ---- answers ---- */

static void answer(gy_incoming *call, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    const gy_stats *stats = &call->server->stats;
    uint16_t type = call->route ? call->route->type : 0;
    gy_counter_add(stats->requests[type], 1);
    if (status != GYRE_OK)
        gy_counter_add(stats->failures[type], 1);
    gy_histogram_observe_ns(stats->seconds[type], gy_now_ns() - call->arrived_ns);
    /* An answer may be the last thing the bus waits for before the server is freed: nothing of it is touched afterwards. */
    gy_bus_request *request = call->request;
    gy_on_answer *on_answer = call->on_answer;
    void *arg = call->arg;
    free(call->owned);
    free(call);
    if (request)
        gy_bus_answer(request, status, err, body, bytes);
    else
        on_answer(arg, status, err, body, bytes);
}

void gy_incoming_reply(gy_incoming *call, const ProtobufCMessage *reply)
{
    gy_bytes packed = {NULL, 0};
    gyre_error err;
    gyre_status status = gy_wire_pack(&packed, reply, call->server->message_bytes_max, &err);
    answer(call, status, status == GYRE_OK ? NULL : &err, packed.data, packed.size);
    gy_bytes_free(&packed);
}

void gy_incoming_fail(gy_incoming *call, gyre_status status, const gyre_error *err)
{
    answer(call, status, err, NULL, 0);
}

/* ---- arrivals ---- */

static void serve(void *arg)
{
    gy_incoming *call = arg;
    gyre_error err;
    void *message;
    gyre_status status = GYRE_OK;
    if (call->deadline_ns <= gy_now_ns())
        status = gyre_fail(&err, GYRE_DEADLINE, "node %s: %s waited past its deadline", gy_node_name(call->server->node),
                           call->route->name);
    else
        status = gy_wire_unpack(&message, call->route->message, call->body, call->bytes, &err);
    if (status != GYRE_OK) {
        gy_incoming_fail(call, status, &err);
        return;
    }
    call->route->serve(call, message);
}

static void dispatch(gy_incoming *call, uint16_t type)
{
    gyre_error err;
    gyre_status status;
    call->arrived_ns = gy_now_ns();
    call->route = route_of(type);
    if (!call->route) {
        status = gyre_fail(&err, GYRE_UNIMPLEMENTED, "node %s: message type %u is unknown here (version %s)",
                           gy_node_name(call->server->node), type, gy_version());
        gy_incoming_fail(call, status, &err);
        return;
    }
    if (call->route->lane == GY_LANE_SCAN) {
        serve(call);
        return;
    }
    status = gy_pool_submit(call->server->lanes[call->route->lane], serve, call, &err);
    if (status != GYRE_OK) {
        gyre_wrap(&err, status, "node %s: %s", gy_node_name(call->server->node), call->route->name);
        gy_incoming_fail(call, status, &err);
    }
}

void gy_server_on_request(void *self, gy_bus_request *request)
{
    gyre_error err;
    gy_incoming *call = calloc(1, sizeof *call);
    if (!call) {
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a request");
        gy_bus_answer(request, status, &err, NULL, 0);
        return;
    }
    call->server = self;
    call->request = request;
    call->body = gy_bus_request_body(request, &call->bytes);
    call->deadline_ns = gy_bus_request_deadline_ns(request);
    dispatch(call, gy_bus_request_type(request));
}

void gy_server_submit(gy_server *server, uint16_t type, const uint8_t *body, size_t bytes, int64_t deadline_ns,
                      gy_on_answer *on_answer, void *arg)
{
    gyre_error err;
    gy_incoming *call = calloc(1, sizeof *call);
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!call || !copy) {
        free(call);
        free(copy);
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a request of %zu bytes", bytes);
        on_answer(arg, status, &err, NULL, 0);
        return;
    }
    if (bytes)
        memcpy(copy, body, bytes);
    *call = (gy_incoming){.server = server,
                          .body = copy,
                          .owned = copy,
                          .bytes = bytes,
                          .deadline_ns = deadline_ns,
                          .on_answer = on_answer,
                          .arg = arg};
    dispatch(call, type);
}

/* ---- life cycle ---- */

static double queued_scans(void *server)
{
    return (double)gy_scan_line_count(((gy_server *)server)->scans);
}

static void make_pass_stats(gy_stats *stats, gy_metrics *metrics)
{
    for (size_t i = 0; i < GY_STATS_PASSES; i++) {
        char labels[64];
        snprintf(labels, sizeof labels, "queries=\"%zu%s\"", i + 1, i + 1 < GY_STATS_PASSES ? "" : "+");
        stats->scan_passes[i] = gy_counter_new(metrics, "gyre_shard_scan_passes_total", labels,
                                               "Passes over codes, by the queries that shared one.");
    }
}

static void make_stats(gy_server *server, gy_metrics *metrics)
{
    gy_stats *stats = &server->stats;
    for (size_t i = 0; i <= ROUTE_COUNT; i++) {
        uint16_t type = i < ROUTE_COUNT ? routes[i].type : 0;
        char labels[64];
        snprintf(labels, sizeof labels, "type=\"%s\"", i < ROUTE_COUNT ? routes[i].name : "unknown");
        stats->requests[type] = gy_counter_new(metrics, "gyre_shard_requests_total", labels, "Requests answered, by type.");
        stats->failures[type] = gy_counter_new(metrics, "gyre_shard_requests_failed_total", labels,
                                               "Requests answered with an error, by type.");
        stats->seconds[type] = gy_histogram_new(metrics, "gyre_shard_request_seconds", labels,
                                                "Time from a request's arrival to its answer.");
    }
    stats->codes_scanned = gy_counter_new(metrics, "gyre_shard_codes_scanned_total", NULL, "Codes that scans looked at.");
    stats->vectors_compared = gy_counter_new(metrics, "gyre_shard_vectors_compared_total", NULL,
                                             "Full vectors compared exactly by scans and for distances.");
    stats->operations_written = gy_counter_new(metrics, "gyre_shard_operations_written_total", NULL,
                                               "Operations of acknowledged writes.");
    make_pass_stats(stats, metrics);
    gy_gauge_of(metrics, "gyre_shard_scan_queue_length", NULL, "Scans that wait for a thread.", queued_scans, server);
}

static void end_snapshots(void *snapshots, uint64_t collection_id, uint32_t shard)
{
    gy_snapshots_end(snapshots, collection_id, shard);
}

gyre_status gy_server_new(gy_server **out, const struct gy_server_options *options, gyre_error *err)
{
    gy_server *server = calloc(1, sizeof *server);
    if (!server)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a server");
    server->node = options->node;
    server->message_bytes_max = options->message_bytes_max;
    server->scrubs = options->scrubs;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    /* Reads wait for the disk, so a few more than there are cores. */
    size_t read_threads = cores > 1 ? (size_t)cores + 2 : 3;
    const struct {
        const char *name;
        size_t threads, places;
        int stands_back;
    } lanes[GY_LANE_COUNT] = {
        [GY_LANE_ADMIN] = {"admin", ADMIN_THREADS, ADMIN_QUEUE, 0},
        [GY_LANE_WRITE] = {"write", WRITE_THREADS, WRITE_QUEUE, GY_WRITES_STAND_BACK},
        [GY_LANE_APPEND] = {"append", WRITE_THREADS, WRITE_QUEUE, GY_WRITES_STAND_BACK},
        [GY_LANE_COPY] = {"copy", 1, ADMIN_QUEUE, GY_BACKGROUND_STANDS_BACK},
        [GY_LANE_READ] = {"read", read_threads, READ_QUEUE, 0},
        [GY_LANE_SCAN] = {"scan", options->scan_threads, options->scan_queue, 0},
        [GY_LANE_SCRUB] = {"scrub", 1, ADMIN_QUEUE, GY_BACKGROUND_STANDS_BACK},
    };
    gyre_status lined = gy_scan_line_new(&server->scans, options->scan_queue, err);
    if (lined == GYRE_OK)
        lined = gy_snapshots_new(&server->snapshots, options->node, err);
    if (lined != GYRE_OK) {
        gy_server_free(server);
        return lined;
    }
    for (size_t i = 0; i < GY_LANE_COUNT; i++) {
        server->helpers[i] = lanes[i].threads - 1;
        gyre_status status = gy_pool_new_behind(&server->lanes[i], lanes[i].name, lanes[i].threads, lanes[i].places,
                                                lanes[i].stands_back, err);
        if (status != GYRE_OK) {
            gy_server_free(server);
            return status;
        }
    }
    make_stats(server, options->metrics);
    gy_node_set_on_fenced(server->node, end_snapshots, server->snapshots);
    *out = server;
    return GYRE_OK;
}

void gy_server_free(gy_server *server)
{
    if (!server)
        return;
    gy_node_set_on_fenced(server->node, NULL, NULL);
    for (size_t i = 0; i < GY_LANE_COUNT; i++)
        gy_pool_free(server->lanes[i]);
    gy_scan_line_free(server->scans);
    gy_snapshots_free(server->snapshots);
    free(server);
}
