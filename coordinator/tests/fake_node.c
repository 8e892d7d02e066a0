#include "fake_node.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct fake_replica *find(fake_node *node, uint64_t collection_id, uint32_t shard)
{
    for (size_t i = 0; i < node->count; i++)
        if (node->replicas[i].collection_id == collection_id && node->replicas[i].shard == shard)
            return &node->replicas[i];
    return NULL;
}

static void describe(const struct fake_replica *replica, Gyre__Node__ReplicaStatus *out)
{
    gyre__node__replica_status__init(out);
    out->collection_id = replica->collection_id;
    out->shard = replica->shard;
    out->epoch = replica->epoch;
    out->points = replica->points;
    out->codebook_version = replica->codebook_version;
}

static gyre_status ensure(fake_node *node, const Gyre__Node__EnsureReplica *asked, gy_bytes *reply, gyre_error *err)
{
    node->ensures++;
    if (node->refuse_ensure != GYRE_OK)
        return gyre_fail(err, node->refuse_ensure, "this node makes no replica");
    gyre_codebook *codebook;
    GY_TRY(gyre_codebook_decode(&codebook, asked->codebook.data, asked->codebook.len, err));
    struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (!replica && node->count < FAKE_REPLICAS_MAX) {
        replica = &node->replicas[node->count++];
        *replica = (struct fake_replica){
            .collection_id = asked->collection_id, .shard = asked->shard, .codebook_version = gyre_codebook_version(codebook),
        };
    }
    if (!replica) {
        gyre_codebook_free(codebook);
        return gyre_fail(err, GYRE_EXHAUSTED, "this node is full");
    }
    gyre_codebook_free(replica->asked);
    replica->asked = codebook;
    replica->epoch = asked->epoch;
    if (!node->slow_to_encode)
        replica->codebook_version = gyre_codebook_version(codebook);
    Gyre__Node__ReplicaStatus status;
    describe(replica, &status);
    return gy_wire_pack(reply, &status.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static gyre_status drop(fake_node *node, const Gyre__Node__DropReplica *asked, gy_bytes *reply, gyre_error *err)
{
    (void)reply, (void)err; /* an empty message has no bytes */
    node->drops++;
    struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (replica) {
        gyre_codebook_free(replica->asked);
        *replica = node->replicas[--node->count];
    }
    return GYRE_OK;
}

/* Every vector of shard s is (s + 1) · (1, 2, 3, …). */
static gyre_status sum(fake_node *node, const Gyre__Node__SumVectors *asked, gy_bytes *reply, gyre_error *err)
{
    node->sums++;
    const struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (node->refuse_sums != GYRE_OK || !replica)
        return gyre_fail(err, replica ? node->refuse_sums : GYRE_NOT_FOUND, "no sums here");
    uint32_t dim = gyre_codebook_dim(replica->asked);
    uint8_t *sums = calloc(dim, sizeof(double));
    if (!sums)
        return gyre_fail(err, GYRE_NO_MEMORY, "sums");
    for (uint32_t d = 0; d < dim; d++) {
        double value = (double)replica->points * (asked->shard + 1) * (d + 1);
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        gy_store_u64(sums + 8 * (size_t)d, bits);
    }
    Gyre__Node__SumVectorsReply message = GYRE__NODE__SUM_VECTORS_REPLY__INIT;
    message.count = replica->points;
    message.sums = (ProtobufCBinaryData){dim * sizeof(double), sums};
    gyre_status status = gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(sums);
    return status;
}

/* Small work without waiting: done on the bus's own thread. */
static void on_request(void *self, gy_bus_request *request)
{
    fake_node *node = self;
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    uint16_t type = gy_bus_request_type(request);
    const ProtobufCMessageDescriptor *descriptor = type == GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA ? &gyre__node__ensure_replica__descriptor
                                                   : type == GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA ? &gyre__node__drop_replica__descriptor
                                                                                                    : &gyre__node__sum_vectors__descriptor;
    void *asked = NULL;
    gyre_error err = {0};
    gy_bytes reply = {0};
    gyre_status status = gy_wire_unpack(&asked, descriptor, body, bytes, &err);
    pthread_mutex_lock(&node->mu);
    bool swallows = type == GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS && node->swallow_sums && node->swallowed_count < FAKE_REPLICAS_MAX;
    if (swallows)
        node->swallowed[node->swallowed_count++] = request;
    else if (status == GYRE_OK && type == GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA)
        status = ensure(node, asked, &reply, &err);
    else if (status == GYRE_OK && type == GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA)
        status = drop(node, asked, &reply, &err);
    else if (status == GYRE_OK)
        status = sum(node, asked, &reply, &err);
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mu);
    if (!swallows)
        gy_bus_answer(request, status, &err, reply.data, reply.size);
    gy_bytes_free(&reply);
    gy_wire_free(asked);
}

static void connect(fake_node *node, const uint8_t key[GY_BUS_KEY_BYTES], const char *coordinator)
{
    struct gy_bus_options options = {.listen = "127.0.0.1:0", .cluster_key = key, .node = node->name, .on_request = on_request, .self = node};
    gyre_error err = {0};
    if (gy_bus_open(&node->bus, &options, &err) != GYRE_OK || gy_peer_new(&node->coordinator, node->bus, coordinator, NULL, NULL, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    node->started_unix_ms++;
}

static void disconnect(fake_node *node)
{
    pthread_mutex_lock(&node->mu);
    gyre_error err = {0};
    gyre_status status = gyre_fail(&err, GYRE_UNAVAILABLE, "this node ends");
    while (node->swallowed_count > 0)
        gy_bus_answer(node->swallowed[--node->swallowed_count], status, &err, NULL, 0);
    node->swallow_sums = false;
    pthread_mutex_unlock(&node->mu);
    gy_peer_free(node->coordinator);
    gy_bus_close(node->bus);
}

void fake_node_open(fake_node *node, const char *name, const uint8_t key[GY_BUS_KEY_BYTES], const char *coordinator)
{
    *node = (fake_node){.started_unix_ms = 1000};
    snprintf(node->name, sizeof node->name, "%s", name);
    pthread_mutex_init(&node->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    connect(node, key, coordinator);
}

void fake_node_close(fake_node *node)
{
    disconnect(node);
    for (size_t i = 0; i < node->count; i++)
        gyre_codebook_free(node->replicas[i].asked);
    pthread_cond_destroy(&node->changed);
    pthread_mutex_destroy(&node->mu);
}

void fake_node_restart(fake_node *node, const uint8_t key[GY_BUS_KEY_BYTES], const char *coordinator)
{
    disconnect(node);
    connect(node, key, coordinator);
}

gyre_status fake_node_report_as(fake_node *node, const char *name, gyre_error *err)
{
    Gyre__Node__Report report = GYRE__NODE__REPORT__INIT;
    Gyre__Node__ReplicaStatus statuses[FAKE_REPLICAS_MAX], *replicas[FAKE_REPLICAS_MAX];
    report.node = (char *)(uintptr_t)name;
    report.address = (char *)(uintptr_t)gy_bus_address(node->bus);
    report.version = (char *)(uintptr_t)"test";
    report.started_unix_ms = node->started_unix_ms;
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++) {
        describe(&node->replicas[i], &statuses[i]);
        replicas[i] = &statuses[i];
    }
    report.n_replicas = node->count;
    pthread_mutex_unlock(&node->mu);
    report.replicas = replicas;
    Gyre__Node__ReportReply *reply = NULL;
    gyre_status status = gy_call(node->coordinator, GYRE__NODE__MESSAGE_TYPE__REPORT, &report.base, &gyre__node__report_reply__descriptor, &reply,
                                 gy_now_ns() + FAKE_PATIENCE_NS, err);
    gy_wire_free(reply);
    return status;
}

gyre_status fake_node_report(fake_node *node, gyre_error *err) { return fake_node_report_as(node, node->name, err); }

void fake_node_fill(fake_node *node, uint64_t points_per_replica)
{
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++)
        node->replicas[i].points = points_per_replica;
    pthread_mutex_unlock(&node->mu);
}

void fake_node_encode(fake_node *node)
{
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++)
        if (node->replicas[i].asked)
            node->replicas[i].codebook_version = gyre_codebook_version(node->replicas[i].asked);
    pthread_mutex_unlock(&node->mu);
}

void fake_node_await(fake_node *node, bool (*done)(const fake_node *node, uint64_t arg), uint64_t arg, const char *what)
{
    int64_t until_ns = gy_now_ns() + FAKE_PATIENCE_NS;
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int code = 0;
    pthread_mutex_lock(&node->mu);
    while (code == 0 && !done(node, arg))
        code = pthread_cond_timedwait(&node->changed, &node->mu, &until);
    pthread_mutex_unlock(&node->mu);
    if (code != 0)
        fail_msg("node %s waited in vain for: %s", node->name, what);
}

bool fake_swallowed(const fake_node *node, uint64_t count) { return node->swallowed_count >= count; }
bool fake_holds(const fake_node *node, uint64_t count) { return node->count == count; }

bool fake_was_told_codebook(const fake_node *node, uint64_t version)
{
    for (size_t i = 0; i < node->count; i++)
        if (!node->replicas[i].asked || gyre_codebook_version(node->replicas[i].asked) < version)
            return false;
    return node->count > 0;
}
