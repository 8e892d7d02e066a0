#include "split_world.h"

#include "gyre/point_id.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { PIECE_POINTS = 7 };

static const uint8_t placement_key[GY_PLACEMENT_KEY_BYTES] = {9, 8, 7};

static uint64_t hash_of(uint64_t number)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    return gy_point_hash(placement_key, &id);
}

static uint64_t number_of(const uint8_t *bytes)
{
    gyre_point_id id;
    memcpy(id.bytes, bytes, GYRE_ID_BYTES);
    return gyre_point_id_number(&id);
}

static gyre_status split(struct split_world *world, uint16_t type, gyre_error *err)
{
    world->refused[type]++;
    return gyre_fail(err, GYRE_ABORTED, "some of these points are no longer of this shard: it was split");
}

static void forget(struct split_shard *shard)
{
    shard->content = shard->owned;
    for (uint64_t n = 0; n < SPLIT_POINTS; n++)
        shard->points[n].there = shard->points[n].there && gy_range_has(shard->owned, hash_of(n));
}

/* Finds a shard that is asked for hashes (of {0, 0}: whatever it owns). */
static gyre_status find(struct split_world *world, uint16_t type, uint32_t number, struct gy_hash_range range,
                        struct split_shard **out, gyre_error *err)
{
    if (number >= world->shard_count)
        return gyre_fail(err, GYRE_NOT_FOUND, "no such replica");
    world->asked[type]++;
    if (world->forgets_at == type)
        for (uint32_t s = 0; s < world->shard_count; s++)
            forget(&world->shards[s]);
    *out = &world->shards[number];
    if (range.last != 0 && !gy_range_covers((*out)->content, range))
        return split(world, type, err);
    return GYRE_OK;
}

/* What a request for a range is to see: asked {0, 0}, what is owned. */
static struct gy_hash_range seen_of(const struct split_shard *shard, struct gy_hash_range range)
{
    return range.last ? range : shard->owned;
}

static gyre_status check_ids(struct split_world *world, uint16_t type, struct gy_hash_range range, ProtobufCBinaryData ids,
                             gyre_error *err)
{
    for (size_t i = 0; i < ids.len; i += GYRE_ID_BYTES)
        if (!gy_range_has(range, hash_of(number_of(ids.data + i))))
            return split(world, type, err);
    return GYRE_OK;
}

static gyre_status write_points(struct split_world *world, uint16_t type, const Gyre__Node__Write *write, gy_bytes *reply,
                                gyre_error *err)
{
    struct split_shard *shard;
    Gyre__Node__WriteReply done = GYRE__NODE__WRITE_REPLY__INIT;
    bool recognised = false;
    GY_TRY(find(world, type, write->shard, (struct gy_hash_range){0}, &shard, err));
    for (size_t i = 0; i < shard->request_count; i++)
        if (shard->requests[i] == write->request)
            recognised = true, done.deleted = shard->deleted[i];
    for (size_t i = 0; !recognised && i < write->n_operations; i++)
        GY_TRY(check_ids(world, type, shard->owned, write->operations[i]->id, err));
    world->recognised += recognised;
    if (!recognised) {
        shard->seq++;
        assert_true(shard->request_count < SPLIT_WINDOW);
        shard->requests[shard->request_count] = write->request;
    }
    for (size_t i = 0; !recognised && i < write->n_operations; i++) {
        struct split_point *point = &shard->points[number_of(write->operations[i]->id.data)];
        bool upsert = write->operations[i]->vector.len != 0;
        done.deleted += !upsert && point->there;
        *point = (struct split_point){upsert, shard->seq};
    }
    if (!recognised)
        shard->deleted[shard->request_count++] = done.deleted;
    done.seq = shard->seq;
    if (world->loses_answers)
        return gyre_fail(err, GYRE_UNAVAILABLE, "it was cut off");
    return gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static gyre_status read_points(struct split_world *world, uint16_t type, const Gyre__Node__Read *read, gy_bytes *reply,
                               gyre_error *err)
{
    struct split_shard *shard;
    GY_TRY(find(world, type, read->shard, (struct gy_hash_range){0}, &shard, err));
    GY_TRY(check_ids(world, type, read->linearizable ? shard->owned : shard->content, read->ids, err));
    world->min_seqs[read->shard] = read->min_seq;
    Gyre__Node__ReadPoint points[SPLIT_POINTS], *pointers[SPLIT_POINTS];
    uint8_t vectors[SPLIT_POINTS][SPLIT_DIM * sizeof(float)];
    Gyre__Node__ReadReply done = GYRE__NODE__READ_REPLY__INIT;
    for (size_t i = 0; i < read->ids.len / GYRE_ID_BYTES; i++) {
        uint64_t number = number_of(read->ids.data + i * GYRE_ID_BYTES);
        gyre__node__read_point__init(pointers[i] = &points[i]);
        points[i].found = shard->points[number].there;
        points[i].version = shard->points[number].version;
        gy_store_f32(vectors[i], (float)number);
        gy_store_f32(vectors[i] + sizeof(float), 1);
        if (read->with_vector && points[i].found)
            points[i].vector = (ProtobufCBinaryData){sizeof vectors[i], vectors[i]};
        done.n_points++;
    }
    done.points = pointers, done.applied_seq = shard->seq;
    return gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static gyre_status count_points(struct split_world *world, uint16_t type, const Gyre__Node__Count *count, gy_bytes *reply,
                                gyre_error *err)
{
    Gyre__Node__CountReply done = GYRE__NODE__COUNT_REPLY__INIT;
    uint64_t points[SPLIT_SHARDS_MAX] = {0}, seqs[SPLIT_SHARDS_MAX];
    assert_int_equal(count->n_hash_firsts, count->n_shards);
    assert_int_equal(count->n_hash_lasts, count->n_shards);
    for (size_t i = 0; i < count->n_shards; i++) {
        struct split_shard *shard;
        struct gy_hash_range range = {count->hash_firsts[i], count->hash_lasts[i]};
        GY_TRY(find(world, type, count->shards[i], range, &shard, err));
        for (uint64_t n = 0; n < SPLIT_POINTS; n++)
            points[i] += shard->points[n].there && gy_range_has(seen_of(shard, range), hash_of(n));
        seqs[i] = shard->seq;
    }
    done.points = points, done.n_points = count->n_shards, done.applied_seqs = seqs, done.n_applied_seqs = count->n_shards;
    return gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

/* The candidates of one query in a shard, nearest first. */
struct scanned {
    uint8_t ids[SPLIT_POINTS * GYRE_ID_BYTES], estimates[SPLIT_POINTS * sizeof(float)], half_widths[SPLIT_POINTS * sizeof(float)];
    Gyre__Node__Candidates candidates, *pointer;
};

static void scan_shard(const struct split_shard *shard, struct gy_hash_range range, const Gyre__Node__Scan *scan, size_t q,
                       struct scanned *out)
{
    float query = gy_load_f32(scan->queries.data + q * SPLIT_DIM * sizeof(float));
    bool exact = scan->exact || scan->alone;
    size_t count = 0;
    gyre__node__candidates__init(&out->candidates);
    out->pointer = &out->candidates;
    out->candidates.cutoff = INFINITY;
    for (uint64_t away = 0; away <= 2 * SPLIT_POINTS; away++) { /* in halves: query may be between two points */
        for (uint64_t n = 0; n < SPLIT_POINTS; n++) {
            if (!shard->points[n].there || !gy_range_has(range, hash_of(n)) ||
                llroundf(fabsf((float)n - query) * 2) != (long long)away)
                continue;
            float distance = ((float)n - query) * ((float)n - query);
            if (count == scan->keep) {
                out->candidates.cutoff = fminf(out->candidates.cutoff, distance);
                continue;
            }
            gyre_point_id id = gyre_point_id_from_number(n);
            memcpy(out->ids + count * GYRE_ID_BYTES, id.bytes, GYRE_ID_BYTES);
            gy_store_f32(out->estimates + count * sizeof(float), distance);
            gy_store_f32(out->half_widths + count * sizeof(float), exact ? 0 : 0.5f);
            count++;
        }
    }
    out->candidates.ids = (ProtobufCBinaryData){count * GYRE_ID_BYTES, out->ids};
    out->candidates.estimates = (ProtobufCBinaryData){count * sizeof(float), out->estimates};
    out->candidates.half_widths = (ProtobufCBinaryData){count * sizeof(float), out->half_widths};
}

static gyre_status scan_points(struct split_world *world, uint16_t type, const Gyre__Node__Scan *scan, gy_bytes *reply,
                               gyre_error *err)
{
    size_t queries = scan->queries.len / (SPLIT_DIM * sizeof(float));
    Gyre__Node__ShardCandidates shards[SPLIT_SHARDS_MAX], *pointers[SPLIT_SHARDS_MAX];
    Gyre__Node__Candidates **lists = calloc(SPLIT_SHARDS_MAX * queries, sizeof *lists);
    struct scanned *scanned = calloc(SPLIT_SHARDS_MAX * queries, sizeof *scanned);
    gyre_error whys[SPLIT_SHARDS_MAX] = {0};
    Gyre__Node__ScanReply done = GYRE__NODE__SCAN_REPLY__INIT;
    assert_int_equal(scan->n_hash_firsts, scan->n_shards);
    assert_int_equal(scan->n_hash_lasts, scan->n_shards);
    for (size_t i = 0; i < scan->n_shards; i++) {
        struct split_shard *shard = NULL;
        struct gy_hash_range range = {scan->hash_firsts[i], scan->hash_lasts[i]};
        gyre__node__shard_candidates__init(pointers[i] = &shards[i]);
        shards[i].shard = scan->shards[i], shards[i].codebook_version = 1;
        shards[i].status = find(world, type, scan->shards[i], range, &shard, &whys[i]);
        if (shards[i].status != GYRE_OK) {
            shards[i].error = whys[i].text;
            continue;
        }
        shards[i].applied_seq = shard->seq;
        shards[i].queries = lists + i * queries, shards[i].n_queries = queries;
        for (size_t q = 0; q < queries; q++) {
            scan_shard(shard, seen_of(shard, range), scan, q, &scanned[i * queries + q]);
            lists[i * queries + q] = scanned[i * queries + q].pointer;
        }
    }
    done.shards = pointers, done.n_shards = scan->n_shards;
    gyre_status status = gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(lists), free(scanned);
    return status;
}

static gyre_status measure_points(struct split_world *world, uint16_t type, const Gyre__Node__Distances *asked, gy_bytes *reply,
                                  gyre_error *err)
{
    Gyre__Node__DistancesReply done = GYRE__NODE__DISTANCES_REPLY__INIT;
    Gyre__Node__DistanceResult *results = calloc(asked->n_tasks, sizeof *results), **pointers = calloc(asked->n_tasks, sizeof *pointers);
    uint8_t(*distances)[SPLIT_POINTS * sizeof(float)] = calloc(asked->n_tasks, sizeof *distances);
    gyre_error *whys = calloc(asked->n_tasks, sizeof *whys);
    for (size_t t = 0; t < asked->n_tasks; t++) {
        const Gyre__Node__DistanceTask *task = asked->tasks[t];
        struct split_shard *shard = NULL;
        gyre__node__distance_result__init(pointers[t] = &results[t]);
        gyre_status status = find(world, type, task->shard, (struct gy_hash_range){0}, &shard, &whys[t]);
        if (status == GYRE_OK)
            status = check_ids(world, type, shard->content, task->ids, &whys[t]);
        results[t].status = status, results[t].error = whys[t].text;
        if (status != GYRE_OK)
            continue;
        results[t].applied_seq = shard->seq;
        float query = gy_load_f32(asked->queries.data + task->query * SPLIT_DIM * sizeof(float));
        for (size_t i = 0; i < task->ids.len / GYRE_ID_BYTES; i++) {
            uint64_t number = number_of(task->ids.data + i * GYRE_ID_BYTES);
            float away = (float)number - query;
            gy_store_f32(distances[t] + i * sizeof(float), shard->points[number].there ? away * away : INFINITY);
        }
        results[t].distances = (ProtobufCBinaryData){task->ids.len / GYRE_ID_BYTES * sizeof(float), distances[t]};
    }
    done.results = pointers, done.n_results = asked->n_tasks;
    gyre_status status = gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(results), free(pointers), free(distances), free(whys);
    return status;
}

/* One state at a time; its range is the request's own, every time. */
static gyre_status copy_points(struct split_world *world, uint16_t type, const Gyre__Node__Snapshot *asked, gy_bytes *reply,
                               gyre_error *err)
{
    Gyre__Node__SnapshotReply done = GYRE__NODE__SNAPSHOT_REPLY__INIT;
    Gyre__Node__SnapshotRow rows[PIECE_POINTS], *pointers[PIECE_POINTS];
    gyre_point_id ids[PIECE_POINTS];
    uint8_t values[PIECE_POINTS][8], vectors[PIECE_POINTS][SPLIT_DIM * sizeof(float)];
    struct gy_hash_range range = {asked->hash_first, asked->hash_last};
    struct split_shard *shard;
    if (!asked->id) {
        GY_TRY(find(world, type, asked->shard, range, &shard, err));
        world->held = *shard;
    }
    uint64_t next = asked->after.len ? number_of(asked->after.data) + 1 : 0;
    for (; next < SPLIT_POINTS && done.n_rows < PIECE_POINTS; next++) {
        if (!world->held.points[next].there || !gy_range_has(seen_of(&world->held, range), hash_of(next)))
            continue;
        size_t at = done.n_rows++;
        gyre__node__snapshot_row__init(pointers[at] = &rows[at]);
        ids[at] = gyre_point_id_from_number(next);
        gy_store_u64(values[at], world->held.points[next].version);
        gy_store_f32(vectors[at], (float)next);
        gy_store_f32(vectors[at] + sizeof(float), 1);
        rows[at].key = (ProtobufCBinaryData){GYRE_ID_BYTES, ids[at].bytes};
        rows[at].value = (ProtobufCBinaryData){sizeof values[at], values[at]};
        rows[at].vector = (ProtobufCBinaryData){sizeof vectors[at], vectors[at]};
    }
    done.id = 1, done.seq = world->held.seq, done.rows = pointers, done.done = next == SPLIT_POINTS;
    done.beyond = !gy_range_covers(range, world->held.content);
    return gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static const ProtobufCMessageDescriptor *const descriptors[SPLIT_TYPES] = {
    [GYRE__NODE__MESSAGE_TYPE__WRITE] = &gyre__node__write__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__READ] = &gyre__node__read__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__COUNT] = &gyre__node__count__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__SCAN] = &gyre__node__scan__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__DISTANCES] = &gyre__node__distances__descriptor,
    [GYRE__NODE__MESSAGE_TYPE__SNAPSHOT] = &gyre__node__snapshot__descriptor,
};

static gyre_status answer(struct split_world *world, uint16_t type, const void *asked, gy_bytes *reply, gyre_error *err)
{
    switch (type) {
    case GYRE__NODE__MESSAGE_TYPE__WRITE: return write_points(world, type, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__READ: return read_points(world, type, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__COUNT: return count_points(world, type, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__SCAN: return scan_points(world, type, asked, reply, err);
    case GYRE__NODE__MESSAGE_TYPE__DISTANCES: return measure_points(world, type, asked, reply, err);
    default: return copy_points(world, type, asked, reply, err);
    }
}

static void on_request(void *self, gy_bus_request *request)
{
    struct split_world *world = ((struct split_node *)self)->world;
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    uint16_t type = gy_bus_request_type(request);
    void *asked = NULL;
    gyre_error err = {0};
    gy_bytes reply = {0};
    bool known = type < SPLIT_TYPES && descriptors[type];
    gyre_status status = known ? gy_wire_unpack(&asked, descriptors[type], body, bytes, &err)
                               : gyre_fail(&err, GYRE_UNIMPLEMENTED, "type %u", type);
    pthread_mutex_lock(&world->mu);
    if (status == GYRE_OK)
        status = answer(world, type, asked, &reply, &err);
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->mu);
    gy_bus_answer(request, status, &err, reply.data, reply.size);
    gy_bytes_free(&reply);
    gy_wire_free(asked);
}

/* ---- the story ---- */

void split_narrow(struct split_world *world)
{
    uint32_t made = world->record.spec.shards, s = made - 1;
    struct gy_shard_config *configs = realloc(world->record.shards, (made + 1) * sizeof *configs);
    assert_non_null(configs);
    world->record.shards = configs;
    pthread_mutex_lock(&world->mu);
    struct split_shard *parent = &world->shards[s];
    uint64_t mid = parent->owned.first + (parent->owned.last - parent->owned.first) / 2 + 1;
    parent->seq++;
    world->shards[made] = *parent;
    world->shards[made].owned.first = world->shards[made].content.first = mid;
    forget(&world->shards[made]);
    parent->owned.last = mid - 1;
    world->shard_count = made + 1;
    pthread_mutex_unlock(&world->mu);
    configs[s].split.shard = made, configs[s].split.first = mid, configs[s].epoch++;
    configs[made] = configs[s];
    configs[made].range.first = mid, configs[made].split.shard = 0, configs[made].split.first = 0;
    world->record.spec.shards = made + 1;
}

void split_forget(struct split_world *world)
{
    pthread_mutex_lock(&world->mu);
    for (uint32_t s = 0; s < world->shard_count; s++)
        forget(&world->shards[s]);
    pthread_mutex_unlock(&world->mu);
}

void split_publish(struct split_world *world, bool switched)
{
    struct gy_routing_member members[SPLIT_SHARDS_MAX][GY_MEMBERS_MAX] = {0};
    gyre_error err = {0};
    for (uint32_t s = 0; s < world->record.spec.shards; s++) {
        struct gy_shard_config *config = &world->record.shards[s];
        if (switched && config->split.shard) {
            config->range = gy_config_kept_range(config);
            config->split.shard = 0, config->split.first = 0, config->epoch++;
        }
        for (uint32_t m = 0; m < SPLIT_NODES; m++)
            members[s][m] = (struct gy_routing_member){world->nodes[m].link, true, 1};
    }
    if (gy_routing_publish(world->routing, &world->record, members, &err) != GYRE_OK)
        fail_msg("%s", err.text);
}

static void await_more(struct split_world *world, const unsigned *count, const char *what)
{
    int64_t until_ns = gy_now_ns() + SPLIT_PATIENCE_NS;
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int code = 0;
    pthread_mutex_lock(&world->mu);
    while (*count == 0 && code == 0)
        code = pthread_cond_timedwait(&world->changed, &world->mu, &until);
    pthread_mutex_unlock(&world->mu);
    if (code != 0)
        fail_msg("waited in vain for a request to be %s", what);
}

void split_await_refused(struct split_world *world, uint16_t type) { await_more(world, &world->refused[type], "refused"); }
void split_await_asked(struct split_world *world, uint16_t type) { await_more(world, &world->asked[type], "made"); }

/* ---- */

static void record_init(gy_collection_record *record, uint32_t shards)
{
    static const uint8_t seed[GYRE_SEED_BYTES] = {4};
    gyre_error err;
    gyre_codebook *made;
    gy_codebook *codebook;
    *record = (gy_collection_record){
        .spec = {.name = "words", .dim = SPLIT_DIM, .metric = GYRE_L2, .codec = "rabitq", .bits = 1, .shards = shards, .copies = 2},
        .id = 42, .state = GY_COLLECTION_ACTIVE, .shards = calloc(shards, sizeof *record->shards)};
    for (uint32_t s = 0; s < shards; s++)
        record->shards[s] = (struct gy_shard_config){.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1,
                                                     .next_member = 3, .member_count = SPLIT_NODES,
                                                     .range = gy_range_of_shard(s, shards),
                                                     .members = {{1, GY_MEMBER_FULL, true, false, "n1"},
                                                                 {2, GY_MEMBER_FULL, true, false, "n2"}}};
    if (gyre_codebook_new(&made, GYRE_L2, SPLIT_DIM, 1, seed, NULL, &err) != GYRE_OK ||
        gy_codebook_new(&codebook, made, &err) != GYRE_OK || gy_collection_record_set_codebook(record, codebook, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    gy_codebook_release(codebook);
}

struct split_world *split_world_open(uint32_t shards)
{
    static const uint8_t key[GY_BUS_KEY_BYTES] = {1, 2};
    static const char *const names[SPLIT_NODES] = {"n1", "n2"};
    struct split_world *world = calloc(1, sizeof *world);
    gyre_error err = {0};
    assert_non_null(world);
    pthread_mutex_init(&world->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&world->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    world->shard_count = shards;
    for (uint32_t s = 0; s < shards; s++) {
        struct split_shard *shard = &world->shards[s];
        shard->owned = shard->content = gy_range_of_shard(s, shards);
        for (uint64_t n = 0; n < SPLIT_POINTS; n++)
            if (gy_range_has(shard->owned, hash_of(n)))
                shard->points[n] = (struct split_point){true, ++shard->seq};
    }
    if (gy_bus_open(&world->client, &(struct gy_bus_options){.cluster_key = key, .node = "coordinator"}, &err) != GYRE_OK ||
        gy_routing_new(&world->routing, placement_key, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    for (uint32_t n = 0; n < SPLIT_NODES; n++) {
        struct split_node *node = &world->nodes[n];
        node->world = world;
        struct gy_bus_options options = {
            .listen = "127.0.0.1:0", .cluster_key = key, .node = names[n], .on_request = on_request, .self = node};
        if (gy_bus_open(&node->bus, &options, &err) != GYRE_OK ||
            gy_link_new(&node->link, world->client, gy_bus_address(node->bus), &err) != GYRE_OK)
            fail_msg("%s", err.text);
    }
    record_init(&world->record, shards);
    split_publish(world, false);
    return world;
}

void split_world_close(struct split_world *world)
{
    gy_routing_free(world->routing);
    for (uint32_t n = 0; n < SPLIT_NODES; n++)
        gy_link_release(world->nodes[n].link);
    gy_bus_close(world->client);
    for (uint32_t n = 0; n < SPLIT_NODES; n++)
        gy_bus_close(world->nodes[n].bus);
    gy_collection_record_fini(&world->record);
    pthread_cond_destroy(&world->changed);
    pthread_mutex_destroy(&world->mu);
    free(world);
}
