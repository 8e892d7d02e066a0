/* What the server's tests share: a node behind a real bus on loopback, requests with everything right, answers to wait for. */
#ifndef GY_TESTS_SERVER_FIXTURE_H
#define GY_TESTS_SERVER_FIXTURE_H

#include "replica_fixture.h"

#include "server/server.h"

#include "gyre/bus.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { COLLECTION = 7, DIM = FIXTURE_DIM };

struct world {
    char *directory;
    uint64_t memory_budget; /* 0: plenty */
    size_t scan_threads, scan_queue; /* 0: 2 and 64 */
    const char *codec; /* of the replicas that ensure makes; NULL: says nothing */
    uint32_t codebook_taken_for_had; /* ensure without a codebook: the version it says */
    bool found_only; /* ensure: the replica is not to be made, or made anew */
    gy_metrics *metrics;
    gy_node *node;
    gy_server *server;
    gy_bus *bus, *client;
    gy_peer *peer;
    gyre_codebook *codebook;
};

static const uint8_t key[GY_BUS_KEY_BYTES] = {1, 2, 3};

static inline void start(struct world *world)
{
    gyre_error err = {0};
    struct gy_node_options node = {.data_dir = world->directory,
                                   .name = "n1",
                                   .cache_bytes = 8 << 20,
                                   .memory_budget = world->memory_budget ? world->memory_budget : 1 << 30,
                                   .limits = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10}};
    if (gy_metrics_new(&world->metrics, &err) != GYRE_OK || gy_node_open(&world->node, &node, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    struct gy_server_options server = {.node = world->node,
                                       .metrics = world->metrics,
                                       .scan_threads = world->scan_threads ? world->scan_threads : 2,
                                       .scan_queue = world->scan_queue ? world->scan_queue : 64,
                                       .message_bytes_max = 64 << 20};
    if (gy_server_new(&world->server, &server, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    struct gy_bus_options bus = {
        .listen = "127.0.0.1:0", .cluster_key = key, .node = "n1", .on_request = gy_server_on_request, .self = world->server};
    struct gy_bus_options client = {.cluster_key = key, .node = "tester"};
    if (gy_bus_open(&world->bus, &bus, &err) != GYRE_OK || gy_bus_open(&world->client, &client, &err) != GYRE_OK ||
        gy_peer_new(&world->peer, world->client, gy_bus_address(world->bus), NULL, NULL, &err) != GYRE_OK)
        fail_msg("%s", err.text);
}

static inline void stop(struct world *world)
{
    gy_peer_free(world->peer);
    gy_bus_close(world->client);
    gy_bus_close(world->bus);
    gy_server_free(world->server);
    gy_node_close(world->node);
    gy_metrics_free(world->metrics);
}

static inline int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    world->directory = fixture_directory();
    world->codebook = fixture_codebook(GYRE_L2, DIM, 1, NULL);
    start(world);
    *state = world;
    return 0;
}

static inline int tear_down(void **state)
{
    struct world *world = *state;
    stop(world);
    gyre_codebook_free(world->codebook);
    fixture_directory_free(world->directory);
    free(world);
    return 0;
}

/* ---- requests ---- */

static gyre_error last_error;

static inline gyre_status ask(struct world *world, uint16_t type, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *reply_type, void *reply)
{
    last_error = (gyre_error){0};
    return gy_call(world->peer, type, request, reply_type, reply, gy_now_ns() + 60 * GY_SECOND_NS, &last_error);
}

static inline void assert_refused(gyre_status expected, gyre_status status, const char *words)
{
    if (status != expected || !strstr(last_error.text, words))
        fail_msg("expected %s with '%s'; got %s: %s", gyre_status_name(expected), words, gyre_status_name(status),
                 last_error.text);
}

static inline void assert_ok(gyre_status status)
{
    if (status != GYRE_OK)
        fail_msg("%s: %s", gyre_status_name(status), last_error.text);
}

static inline gyre_status ensure(struct world *world, uint32_t shard, uint64_t epoch, const gyre_codebook *codebook,
                                 uint32_t *codebook_version)
{
    Gyre__Node__EnsureReplica request = GYRE__NODE__ENSURE_REPLICA__INIT;
    uint8_t bytes[8192];
    request.collection_id = COLLECTION;
    request.collection = (char *)(uintptr_t)"words";
    request.shard = shard;
    struct gy_shard_config config = fixture_config(epoch);
    struct gy_config_message message;
    fixture_tell(&request, &message, &config);
    request.create = !world->found_only;
    if (world->codec)
        request.codec = (char *)(uintptr_t)world->codec;
    request.codebook_version = codebook ? gyre_codebook_version(codebook) : world->codebook_taken_for_had;
    if (codebook) {
        request.codebook = (ProtobufCBinaryData){gyre_codebook_encoded_bytes(codebook), bytes};
        assert_true(request.codebook.len <= sizeof bytes);
        gyre_codebook_encode(codebook, bytes);
    }
    Gyre__Node__ReplicaStatus *reply;
    gyre_status status =
        ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, &gyre__node__replica_status__descriptor, &reply);
    if (status == GYRE_OK) {
        assert_int_equal(reply->collection_id, COLLECTION);
        assert_int_equal(reply->shard, shard);
        assert_int_equal(reply->epoch, epoch);
        if (codebook_version)
            *codebook_version = reply->codebook_version;
        gy_wire_free(reply);
    }
    return status;
}

static inline gyre_status write_points(struct world *world, uint32_t shard, uint64_t first, size_t count, uint64_t revision,
                                       uint32_t dim)
{
    Gyre__Node__Write *request = fixture_write(4, first, count, revision, dim);
    Gyre__Node__WriteReply *reply;
    request->shard = shard;
    gyre_status status = ask(world, GYRE__NODE__MESSAGE_TYPE__WRITE, &request->base, &gyre__node__write_reply__descriptor,
                             &reply);
    gy_wire_free(request);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    return status;
}

/* A scan for the given points' own vectors, with everything right; tests then break one field. */
struct scan {
    Gyre__Node__Scan message;
    float queries[8 * DIM], rotated[8 * DIM], limits[8];
    uint32_t shards[4];
};

static inline void make_scan_from(struct scan *scan, const gyre_codebook *codebook, uint64_t first, size_t query_count,
                                  size_t shard_count)
{
    gyre__node__scan__init(&scan->message);
    for (size_t i = 0; i < query_count; i++) {
        fixture_vector(scan->queries + i * DIM, DIM, first + i, 0);
        gyre_rotation_apply(gyre_codebook_rotation(codebook), scan->queries + i * DIM, scan->rotated + i * DIM);
        scan->limits[i] = INFINITY;
    }
    for (size_t i = 0; i < shard_count; i++)
        scan->shards[i] = (uint32_t)i;
    scan->message.collection_id = COLLECTION;
    scan->message.n_shards = shard_count;
    scan->message.shards = scan->shards;
    scan->message.queries = (ProtobufCBinaryData){query_count * DIM * sizeof(float), (uint8_t *)scan->queries};
    scan->message.rotated = (ProtobufCBinaryData){query_count * DIM * sizeof(float), (uint8_t *)scan->rotated};
    scan->message.epsilon = 3;
    scan->message.keep = 10;
    scan->message.seed = 5;
}

static inline void make_scan(struct scan *scan, const gyre_codebook *codebook, size_t query_count, size_t shard_count)
{
    make_scan_from(scan, codebook, 0, query_count, shard_count);
}

static inline gyre_status run_scan(struct world *world, struct scan *scan, Gyre__Node__ScanReply **reply)
{
    return ask(world, GYRE__NODE__MESSAGE_TYPE__SCAN, &scan->message.base, &gyre__node__scan_reply__descriptor, reply);
}

/* A codebook of `lists` lists, whose centroids are points that no test writes. */
static inline gyre_codebook *partitioned_codebook(uint32_t version, uint32_t lists)
{
    uint8_t seed[GYRE_SEED_BYTES] = {7};
    gyre_codebook *codebook;
    float *centroids = malloc(lists * DIM * sizeof *centroids);
    for (uint32_t i = 0; i < lists; i++)
        fixture_vector(centroids + i * DIM, DIM, 1000000 + i, 0);
    assert_int_equal(gyre_codebook_new_partitioned(&codebook, GYRE_L2, DIM, version, seed, NULL, centroids, lists, NULL),
                     GYRE_OK);
    free(centroids);
    return codebook;
}

/* ---- requests that need no bus ---- */

static inline void on_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    (void)body, (void)bytes;
    fixture_on_written(arg, status, err, 0, 0);
}

static inline void submit(gy_server *server, uint16_t type, const ProtobufCMessage *request, struct fixture_answer *answer)
{
    gy_bytes packed;
    *answer = (struct fixture_answer)FIXTURE_ANSWER;
    assert_int_equal(gy_wire_pack(&packed, request, 64 << 20, NULL), GYRE_OK);
    gy_server_submit(server, type, packed.data, packed.size, gy_now_ns() + 60 * GY_SECOND_NS, on_reply, answer);
    gy_bytes_free(&packed);
}

#endif
