#include "fake_node.h"

#include "gyre/point_id.h"

#include <math.h>
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
    out->member = replica->member;
    out->log_seq = out->applied_seq = replica->log_seq;
    out->lost = replica->lost, out->restoring = replica->restoring;
    if (replica->closed) { /* as a node says it that has just started: nothing is known but where it is */
        out->epoch = out->points = out->log_seq = out->applied_seq = 0;
        out->codebook_version = 0, out->member = replica->named ? replica->member : 0;
        out->trouble = (char *)(uintptr_t)"no space left on device";
        return;
    }
    out->primary = replica->config.primary == replica->member;
    out->waiting = replica->waiting, out->foreign = replica->foreign;
    out->hash_first = replica->owned.first, out->hash_last = replica->owned.last;
    if (replica->waiting) /* it is not open: nobody has read its codebook */
        out->codebook_version = 0;
}

static void forget(fake_node *node, struct fake_replica *replica)
{
    gyre_codebook_free(replica->asked);
    free(replica->vectors);
    *replica = node->replicas[--node->count];
}

static gyre_status ensure(fake_node *node, const Gyre__Node__EnsureReplica *asked, gy_bytes *reply, gyre_error *err)
{
    struct gy_shard_config config;
    if (!asked->config)
        return gyre_fail(err, GYRE_INVALID, "config is missing");
    GY_TRY(gy_shard_config_read(&config, asked->config, err));
    const struct gy_member *self = gy_config_member(&config, asked->member);
    if (!self || strcmp(self->node, node->name) != 0)
        return gyre_fail(err, GYRE_INVALID, "member %u is not on node %s", asked->member, node->name);
    struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (replica && replica->waiting && replica->member != asked->member) {
        forget(node, replica);
        replica = NULL;
    }
    if (replica && replica->member != asked->member)
        return gyre_fail(err, GYRE_PRECONDITION, "this node has member %u", replica->member);
    if (!replica && !asked->create)
        return gyre_fail(err, GYRE_NOT_FOUND, "no such replica, and it is not to be made");
    if (replica)
        replica->closed = false;
    gyre_codebook *codebook = NULL;
    if (asked->codebook.len)
        GY_TRY(gyre_codebook_decode(&codebook, asked->codebook.data, asked->codebook.len, err));
    else if (!replica || replica->codebook_version < asked->codebook_version)
        return gyre_fail(err, GYRE_PRECONDITION, "needs codebook %u", asked->codebook_version);
    node->codebooks += codebook != NULL;
    if (!replica && node->count < FAKE_REPLICAS_MAX) {
        replica = &node->replicas[node->count++];
        *replica = (struct fake_replica){
            .collection_id = asked->collection_id, .shard = asked->shard, .member = asked->member,
            .codebook_version = gyre_codebook_version(codebook), .restoring = !self->in_sync,
            .owned = config.range,
        };
    }
    if (!replica) {
        gyre_codebook_free(codebook);
        return gyre_fail(err, GYRE_EXHAUSTED, "this node is full");
    }
    if (codebook) {
        gyre_codebook_free(replica->asked);
        replica->asked = codebook;
    }
    snprintf(replica->codec, sizeof replica->codec, "%s", asked->codec);
    replica->waiting = false;
    if (config.epoch > replica->epoch)
        replica->config = config, replica->epoch = config.epoch;
    if (codebook && !node->slow_to_encode)
        replica->codebook_version = gyre_codebook_version(codebook);
    Gyre__Node__ReplicaStatus status;
    describe(replica, &status);
    return gy_wire_pack(reply, &status.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static gyre_status drop(fake_node *node, const Gyre__Node__DropReplica *asked, gy_bytes *reply, gyre_error *err)
{
    (void)reply, (void)err; /* an empty message has no bytes */
    struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (replica && (!asked->member || asked->member == replica->member))
        forget(node, replica);
    return GYRE_OK;
}

static gyre_status sum(fake_node *node, const Gyre__Node__SumVectors *asked, gy_bytes *reply, gyre_error *err)
{
    const struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (!replica)
        return gyre_fail(err, GYRE_NOT_FOUND, "no such replica");
    uint32_t dim = gyre_codebook_dim(replica->asked);
    uint8_t *sums = calloc(dim, sizeof(double));
    if (!sums)
        return gyre_fail(err, GYRE_NO_MEMORY, "sums");
    for (uint32_t d = 0; d < dim; d++) {
        double value = replica->vectors ? 0 : (double)replica->points * (asked->shard + 1) * (d + 1);
        for (size_t i = 0; replica->vectors && i < replica->points; i++)
            value += (double)replica->vectors[i * dim + d];
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

/* Every so-manieth vector; the same whatever the seed. */
static gyre_status sample(fake_node *node, const Gyre__Node__Sample *asked, gy_bytes *reply, gyre_error *err)
{
    const struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (!replica || !replica->vectors)
        return gyre_fail(err, GYRE_NOT_FOUND, "no such replica");
    uint32_t dim = gyre_codebook_dim(replica->asked);
    size_t n = asked->count < replica->points ? asked->count : replica->points;
    float *vectors = malloc((n + 1) * dim * sizeof *vectors);
    for (size_t i = 0; i < n; i++)
        memcpy(vectors + i * dim, replica->vectors + i * replica->points / n * dim, dim * sizeof *vectors);
    Gyre__Node__SampleReply message = GYRE__NODE__SAMPLE_REPLY__INIT;
    message.vectors = (ProtobufCBinaryData){n * dim * sizeof *vectors, (uint8_t *)vectors};
    message.points = replica->points;
    gyre_status status = gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(vectors);
    return status;
}

enum { NEAREST = 16 }; /* exact candidates that a scan sends at most: more than any test asks for */

/* The nearest of one replica to one query, in the bytes of a reply, and its candidates, which borrow them. */
struct scanned {
    uint8_t ids[NEAREST * GYRE_ID_BYTES], distances[NEAREST * sizeof(float)], zeros[NEAREST * sizeof(float)];
    Gyre__Node__Candidates candidates, *pointer;
};

static void scan_replica(const struct fake_replica *replica, const float *query, uint32_t keep, struct scanned *out)
{
    uint32_t dim = gyre_codebook_dim(replica->asked);
    float distances[NEAREST];
    uint64_t ids[NEAREST];
    size_t n = 0, most = keep < NEAREST ? keep : NEAREST;
    for (size_t i = 0; i < replica->points; i++) {
        float distance = gyre_distance(gyre_codebook_metric(replica->asked), replica->vectors + i * dim, query, dim);
        if (n == most && distance >= distances[n - 1])
            continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at > 0 && distances[at - 1] > distance; at--)
            distances[at] = distances[at - 1], ids[at] = ids[at - 1];
        distances[at] = distance, ids[at] = (uint64_t)replica->shard * FAKE_ID_OF_SHARD + i;
    }
    gyre__node__candidates__init(&out->candidates);
    out->pointer = &out->candidates;
    for (size_t i = 0; i < n; i++) {
        gyre_point_id id = gyre_point_id_from_number(ids[i]);
        memcpy(out->ids + i * GYRE_ID_BYTES, id.bytes, GYRE_ID_BYTES);
        gy_store_f32(out->distances + i * sizeof(float), distances[i]);
        gy_store_f32(out->zeros + i * sizeof(float), 0);
    }
    out->candidates.ids = (ProtobufCBinaryData){n * GYRE_ID_BYTES, out->ids};
    out->candidates.estimates = (ProtobufCBinaryData){n * sizeof(float), out->distances};
    out->candidates.half_widths = (ProtobufCBinaryData){n * sizeof(float), out->zeros};
    out->candidates.cutoff = INFINITY, out->candidates.scanned = replica->points;
    out->candidates.lists_probed = gyre_codebook_lists(replica->asked);
}

static gyre_status scan(fake_node *node, const Gyre__Node__Scan *asked, gy_bytes *reply, gyre_error *err)
{
    Gyre__Node__ShardCandidates shards[FAKE_REPLICAS_MAX], *shard_pointers[FAKE_REPLICAS_MAX];
    Gyre__Node__Candidates **queries[FAKE_REPLICAS_MAX] = {0};
    struct scanned *scanned[FAKE_REPLICAS_MAX] = {0};
    gyre_status status = GYRE_OK;
    for (size_t s = 0; status == GYRE_OK && s < asked->n_shards && s < FAKE_REPLICAS_MAX; s++) {
        const struct fake_replica *replica = find(node, asked->collection_id, asked->shards[s]);
        if (!replica || !replica->vectors) {
            status = gyre_fail(err, GYRE_NOT_FOUND, "no such replica");
            break;
        }
        size_t row_bytes = gyre_codebook_dim(replica->asked) * sizeof(float), n = asked->queries.len / row_bytes;
        queries[s] = calloc(n, sizeof(Gyre__Node__Candidates *));
        scanned[s] = calloc(n, sizeof *scanned[s]);
        for (size_t q = 0; q < n; q++) {
            float query[GYRE_DIM_MAX];
            memcpy(query, asked->queries.data + q * row_bytes, row_bytes);
            scan_replica(replica, query, asked->keep, &scanned[s][q]);
            queries[s][q] = scanned[s][q].pointer;
        }
        gyre__node__shard_candidates__init(&shards[s]);
        shards[s].shard = asked->shards[s], shards[s].codebook_version = replica->codebook_version;
        shards[s].queries = queries[s], shards[s].n_queries = n;
        shard_pointers[s] = &shards[s];
    }
    Gyre__Node__ScanReply message = GYRE__NODE__SCAN_REPLY__INIT;
    message.shards = shard_pointers, message.n_shards = asked->n_shards;
    if (status == GYRE_OK)
        status = gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    for (size_t s = 0; s < FAKE_REPLICAS_MAX; s++)
        free(queries[s]), free(scanned[s]);
    return status;
}

static gyre_status read(fake_node *node, const Gyre__Node__Read *asked, gy_bytes *reply, gyre_error *err)
{
    const struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    if (!replica || !replica->vectors)
        return gyre_fail(err, GYRE_NOT_FOUND, "no such replica");
    uint32_t dim = gyre_codebook_dim(replica->asked);
    size_t n = asked->ids.len / GYRE_ID_BYTES;
    Gyre__Node__ReadPoint *points = calloc(n + 1, sizeof *points), **pointers = calloc(n + 1, sizeof(Gyre__Node__ReadPoint *));
    for (size_t i = 0; i < n; i++) {
        gyre_point_id id;
        memcpy(id.bytes, asked->ids.data + i * GYRE_ID_BYTES, GYRE_ID_BYTES);
        gyre__node__read_point__init(pointers[i] = &points[i]);
        uint64_t place = gyre_point_id_number(&id) - (uint64_t)asked->shard * FAKE_ID_OF_SHARD;
        points[i].found = place < replica->points;
        if (points[i].found)
            points[i].vector = (ProtobufCBinaryData){dim * sizeof(float), (uint8_t *)(replica->vectors + place * dim)};
    }
    Gyre__Node__ReadReply message = GYRE__NODE__READ_REPLY__INIT;
    message.points = pointers, message.n_points = n;
    gyre_status status = gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(points), free(pointers);
    return status;
}

/* Its points by id, a few at a time; every other one is known when since is not 0. One state at a time. */
static gyre_status snapshot(fake_node *node, const Gyre__Node__Snapshot *asked, gy_bytes *reply, gyre_error *err)
{
    enum { PIECE_POINTS = 3 };
    const struct fake_replica *replica = find(node, asked->collection_id, asked->shard);
    Gyre__Node__SnapshotReply message = GYRE__NODE__SNAPSHOT_REPLY__INIT;
    if (!replica || !replica->vectors)
        return gyre_fail(err, GYRE_NOT_FOUND, "no such replica");
    if (asked->id && asked->id != node->snapshot)
        return gyre_fail(err, GYRE_NOT_FOUND, "snapshot is not held (any more)");
    if (!asked->id)
        node->snapshot = ++node->snapshots_begun;
    message.id = node->snapshot, message.seq = 77, message.epoch = 5, message.points = replica->points;
    message.codebook_version = 1, message.point_sum = 123, message.vector_sum = 456;
    if (asked->end) {
        node->snapshot = 0;
        return gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    }
    uint32_t dim = gyre_codebook_dim(replica->asked);
    Gyre__Node__SnapshotRow rows[PIECE_POINTS], *pointers[PIECE_POINTS];
    gyre_point_id ids[PIECE_POINTS], known[PIECE_POINTS];
    uint8_t values[PIECE_POINTS][10];
    size_t known_count = 0;
    gyre_point_id after;
    if (asked->after.len == GYRE_ID_BYTES)
        memcpy(after.bytes, asked->after.data, GYRE_ID_BYTES);
    uint64_t first = (uint64_t)asked->shard * FAKE_ID_OF_SHARD,
             next = asked->after.len ? gyre_point_id_number(&after) - first + 1 : 0;
    for (; next < replica->points && message.n_rows + known_count < PIECE_POINTS && !node->stuck; next++) {
        gyre_point_id id = gyre_point_id_from_number(first + next);
        if (asked->since && next % 2) {
            known[known_count++] = id;
            continue;
        }
        size_t at = message.n_rows++;
        ids[at] = id;
        gyre__node__snapshot_row__init(pointers[at] = &rows[at]);
        gy_store_u64(values[at], 70 + next);
        memcpy(values[at] + 8, "{}", 2);
        rows[at].key = (ProtobufCBinaryData){GYRE_ID_BYTES, ids[at].bytes};
        rows[at].value = (ProtobufCBinaryData){sizeof values[at], values[at]};
        rows[at].vector = (ProtobufCBinaryData){dim * sizeof(float), (uint8_t *)(replica->vectors + next * dim)};
    }
    message.rows = pointers;
    message.known = (ProtobufCBinaryData){known_count * GYRE_ID_BYTES, (uint8_t *)known};
    message.done = next >= replica->points;
    return gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static const ProtobufCMessageDescriptor *const descriptors[FAKE_TYPES] = {
    [GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = &gyre__node__ensure_replica__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA] = &gyre__node__drop_replica__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS] = &gyre__node__sum_vectors__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__SAMPLE] = &gyre__node__sample__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__SCAN] = &gyre__node__scan__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__READ] = &gyre__node__read__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__SNAPSHOT] = &gyre__node__snapshot__descriptor,
};

/* Under mu. */
static gyre_status answer(fake_node *node, uint16_t type, const void *asked, gy_bytes *reply, gyre_error *err)
{
    node->asked[type]++;
    if (node->refuse[type] != GYRE_OK)
        return gyre_fail(err, node->refuse[type], "this node refuses requests of type %u", type);
    switch (type) {
    case GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA: return ensure(node, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA: return drop(node, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS: return sum(node, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__SAMPLE: return sample(node, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__SCAN: return scan(node, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__SNAPSHOT: return snapshot(node, asked, reply, err);
    default: return read(node, asked, reply, err);
    }
}

/* Small work without waiting: done on the bus's own thread. */
static void on_request(void *self, gy_bus_request *request)
{
    fake_node *node = self;
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    uint16_t type = gy_bus_request_type(request);
    void *asked = NULL;
    gyre_error err = {0};
    gy_bytes reply = {0};
    bool known = type < FAKE_TYPES && descriptors[type];
    gyre_status status = known ? gy_wire_unpack(&asked, descriptors[type], body, bytes, &err)
                               : gyre_fail(&err, GYRE_UNIMPLEMENTED, "type %u", type);
    pthread_mutex_lock(&node->mu);
    bool swallows = type == node->swallows && node->swallowed_count < FAKE_REPLICAS_MAX;
    if (swallows)
        node->swallowed[node->swallowed_count++] = request;
    else if (status == GYRE_OK)
        status = answer(node, type, asked, &reply, &err);
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mu);
    if (!swallows)
        gy_bus_answer(request, status, &err, reply.data, reply.size);
    gy_bytes_free(&reply);
    gy_wire_free(asked);
}

static void connect(fake_node *node, const uint8_t key[GY_BUS_KEY_BYTES], const char *coordinator)
{
    struct gy_bus_options options = {
        .listen = "127.0.0.1:0", .cluster_key = key, .node = node->name, .on_request = on_request, .self = node};
    gyre_error err = {0};
    if (gy_bus_open(&node->bus, &options, &err) != GYRE_OK ||
        gy_peer_new(&node->coordinator, node->bus, coordinator, NULL, NULL, &err) != GYRE_OK)
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
    node->swallows = 0;
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
        gyre_codebook_free(node->replicas[i].asked), free(node->replicas[i].vectors);
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
    report.zone = node->zone;
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++) {
        describe(&node->replicas[i], &statuses[i]);
        replicas[i] = &statuses[i];
    }
    report.n_replicas = node->count;
    pthread_mutex_unlock(&node->mu);
    report.replicas = replicas;
    Gyre__Node__ReportReply *reply = NULL;
    gyre_status status = gy_call(node->coordinator, GYRE__NODE__MESSAGE_TYPE__REPORT, &report.base,
                                 &gyre__node__report_reply__descriptor, &reply, gy_now_ns() + FAKE_PATIENCE_NS, err);
    if (status == GYRE_OK)
        node->nodes_told = reply->n_nodes;
    gy_wire_free(reply);
    return status;
}

gyre_status fake_node_ask(fake_node *node, uint32_t shard, const uint32_t *in_sync, size_t count, struct gy_shard_config *now,
                          gyre_error *err)
{
    Gyre__Node__ChangeInSync asked = GYRE__NODE__CHANGE_IN_SYNC__INIT;
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++)
        if (node->replicas[i].shard == shard) {
            asked.collection_id = node->replicas[i].collection_id;
            asked.epoch = node->replicas[i].epoch, asked.from = node->replicas[i].member;
        }
    pthread_mutex_unlock(&node->mu);
    asked.shard = shard;
    asked.in_sync = (uint32_t *)(uintptr_t)in_sync, asked.n_in_sync = count;
    Gyre__Node__ShardConfig *reply = NULL;
    gyre_status status = gy_call(node->coordinator, GYRE__NODE__MESSAGE_TYPE__CHANGE_IN_SYNC, &asked.base,
                                 &gyre__node__shard_config__descriptor, &reply, gy_now_ns() + FAKE_PATIENCE_NS, err);
    if (status == GYRE_OK)
        status = gy_shard_config_read(now, reply, err);
    gy_wire_free(reply);
    return status;
}

void fake_node_narrow(fake_node *node, uint32_t shard, uint64_t seq, bool part)
{
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0, count = node->count; i < count; i++) {
        struct fake_replica *replica = &node->replicas[i];
        struct gy_hash_range kept = gy_config_kept_range(&replica->config);
        if (replica->shard != shard || replica->waiting || gy_range_covers(kept, replica->owned))
            continue;
        replica->log_seq = seq;
        if (part && replica->config.split.shard && node->count < FAKE_REPLICAS_MAX)
            node->replicas[node->count++] = (struct fake_replica){
                .collection_id = replica->collection_id, .shard = replica->config.split.shard, .member = replica->member,
                .codebook_version = replica->codebook_version, .log_seq = seq, .points = replica->points - replica->points / 2,
                .owned = {kept.last + 1, replica->owned.last}, .waiting = true};
        replica->foreign = replica->points - replica->points / 2;
        replica->points /= 2;
        replica->owned = kept;
    }
    pthread_mutex_unlock(&node->mu);
}

struct fake_replica fake_node_look(fake_node *node, uint32_t shard)
{
    struct fake_replica found = {0};
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++)
        if (node->replicas[i].shard == shard)
            found = node->replicas[i];
    pthread_mutex_unlock(&node->mu);
    return found;
}

void fake_node_lose(fake_node *node, uint32_t shard)
{
    pthread_mutex_lock(&node->mu);
    for (size_t i = node->count; i-- > 0;)
        if (node->replicas[i].shard == shard)
            forget(node, &node->replicas[i]);
    pthread_mutex_unlock(&node->mu);
}

gyre_status fake_node_report(fake_node *node, gyre_error *err) { return fake_node_report_as(node, node->name, err); }

void fake_node_fill(fake_node *node, uint64_t points_per_replica)
{
    pthread_mutex_lock(&node->mu);
    for (size_t i = 0; i < node->count; i++)
        node->replicas[i].points = points_per_replica;
    pthread_mutex_unlock(&node->mu);
}

static float unit(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / (float)(1 << 24);
}

void fake_node_grow(fake_node *node, uint64_t points_per_replica)
{
    enum { CLUSTERS = 200 };
    pthread_mutex_lock(&node->mu);
    for (size_t r = 0; r < node->count; r++) {
        struct fake_replica *replica = &node->replicas[r];
        uint32_t dim = gyre_codebook_dim(replica->asked);
        uint64_t state = replica->shard + 1;
        free(replica->vectors);
        replica->vectors = malloc(points_per_replica * dim * sizeof *replica->vectors);
        replica->points = points_per_replica;
        for (size_t i = 0; i < points_per_replica; i++) {
            uint64_t cluster = (uint64_t)(unit(&state) * CLUSTERS) * 7919;
            for (uint32_t d = 0; d < dim; d++)
                replica->vectors[i * dim + d] = 10 * unit(&cluster) + unit(&state);
        }
    }
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

bool fake_was_told_epoch(const fake_node *node, uint64_t epoch)
{
    for (size_t i = 0; i < node->count; i++)
        if (node->replicas[i].epoch < epoch)
            return false;
    return node->count > 0;
}

bool fake_was_told_codebook(const fake_node *node, uint64_t version)
{
    for (size_t i = 0; i < node->count; i++)
        if (!node->replicas[i].asked || gyre_codebook_version(node->replicas[i].asked) < version)
            return false;
    return node->count > 0;
}
