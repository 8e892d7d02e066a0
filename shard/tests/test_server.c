/* A node behind a real bus on loopback: every request, from the happy one to the hostile ones. */
#include "server_fixture.h"

#include "server/datadir.h"
#include "server/fan.h"
#include "server/report.h"

#include "gyre/simd.h"

#include <stdatomic.h>
#include <sys/stat.h>

static void ensure_creates_once_and_takes_only_newer_epochs(void **state)
{
    struct world *world = *state;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 0, 5, world->codebook, NULL));
    assert_refused(GYRE_ABORTED, ensure(world, 0, 4, world->codebook, NULL), "epoch 4 is older than the replica's, 5");
    gyre_codebook *other = fixture_codebook(GYRE_L2, DIM + 1, 2, NULL);
    assert_refused(GYRE_INVALID, ensure(world, 0, 5, other, NULL), "shard 0");
    gyre_codebook_free(other);
}

static void a_codebook_need_not_be_sent_again(void **state)
{
    struct world *world = *state;
    uint32_t version;
    world->codebook_taken_for_had = 1;
    assert_refused(GYRE_PRECONDITION, ensure(world, 0, 4, NULL, NULL), "needs codebook 1");
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 0, 5, NULL, &version));
    assert_int_equal(version, 1);
    world->codebook_taken_for_had = 2;
    assert_refused(GYRE_PRECONDITION, ensure(world, 0, 6, NULL, NULL), "needs codebook 2");
    world->codebook_taken_for_had = 1; /* the configuration was taken all the same */
    assert_refused(GYRE_ABORTED, ensure(world, 0, 5, NULL, NULL), "epoch 5 is older than the replica's, 6");
    assert_ok(write_points(world, 0, 0, 1, 0, DIM));
}

static void ensure_refuses_nonsense(void **state)
{
    struct world *world = *state;
    Gyre__Node__EnsureReplica request = GYRE__NODE__ENSURE_REPLICA__INIT;
    Gyre__Node__ReplicaStatus *reply;
    uint8_t junk[40] = {9};
    char name[100];
    memset(name, 'x', sizeof name - 1);
    name[99] = '\0';
    const ProtobufCMessageDescriptor *type = &gyre__node__replica_status__descriptor;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply), "config is missing");
    struct gy_shard_config config = fixture_config(1);
    struct gy_config_message message;
    fixture_tell(&request, &message, &config);
    message.base.epoch = 0;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply), "epoch is 0");
    message.base.epoch = 1;
    request.member = 2;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply),
                   "member 2 is not in config");
    request.member = 1;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply),
                   "collection name of 0 bytes");
    request.collection = name;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply),
                   "collection name of 99 bytes");
    name[10] = '\0';
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply),
                   "codebook: neither its bytes nor its version");
    request.codebook = (ProtobufCBinaryData){sizeof junk, junk};
    assert_refused(GYRE_CORRUPT, ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, type, &reply), "codebook");
}

static void a_codec_is_known_scans_and_stays(void **state)
{
    struct world *world = *state;
    char name[100];
    memset(name, 'x', sizeof name - 1);
    name[99] = '\0';
    world->codec = name;
    assert_refused(GYRE_INVALID, ensure(world, 0, 4, world->codebook, NULL), "codec name of 99 bytes; it has at most 64");
    world->codec = "zip";
    assert_refused(GYRE_INVALID, ensure(world, 0, 4, world->codebook, NULL), "codec: ");
    world->codec = "hamming";
    gyre_status status = ensure(world, 0, 4, world->codebook, NULL);
    if (status != GYRE_INVALID)
        fail_msg("%s", last_error.text);
    assert_refused(GYRE_NOT_FOUND, write_points(world, 0, 0, 1, 0, DIM), "no replica");
    world->codec = "rabitq4";
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 300, 0, DIM));
    world->codec = "rabitq1";
    assert_refused(GYRE_INVALID, ensure(world, 0, 4, world->codebook, NULL),
                   "asked to be in codec 'rabitq1'; it was made with 'rabitq4', which is fixed");
    world->codec = NULL; /* the same */
    assert_refused(GYRE_INVALID, ensure(world, 0, 4, world->codebook, NULL), "'rabitq1'");
    struct scan scan;
    Gyre__Node__ScanReply *reply;
    make_scan(&scan, world->codebook, 1, 1);
    assert_ok(run_scan(world, &scan, &reply));
    assert_int_equal(reply->shards[0]->status, GYRE_OK);
    assert_int_equal(reply->shards[0]->queries[0]->scanned, 300);
    gy_wire_free(reply);
    stop(world);
    start(world);
    world->codec = "rabitq4";
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
}

static void written_points_are_read_back_bit_for_bit(void **state)
{
    struct world *world = *state;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 50, 0, DIM));
    Gyre__Node__Read request = GYRE__NODE__READ__INIT;
    Gyre__Node__ReadReply *reply;
    gyre_point_id ids[3] = {gyre_point_id_from_number(49), gyre_point_id_from_number(1000), gyre_point_id_from_number(7)};
    float vector[DIM];
    char payload[64];
    request.collection_id = COLLECTION;
    request.ids = (ProtobufCBinaryData){sizeof ids, (uint8_t *)ids};
    request.with_vector = request.with_payload = true;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &gyre__node__read_reply__descriptor, &reply));
    assert_int_equal(reply->n_points, 3);
    assert_true(reply->points[0]->found);
    assert_false(reply->points[1]->found);
    assert_int_equal(reply->points[2]->version, 1);
    fixture_vector(vector, DIM, 7, 0);
    fixture_payload(payload, 7, 0);
    assert_int_equal(reply->points[2]->vector.len, sizeof vector);
    assert_memory_equal(reply->points[2]->vector.data, vector, sizeof vector);
    assert_string_equal(reply->points[2]->payload, payload);
    gy_wire_free(reply);
    request.with_vector = request.with_payload = false;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &gyre__node__read_reply__descriptor, &reply));
    assert_true(reply->points[0]->found);
    assert_int_equal(reply->points[0]->vector.len, 0);
    assert_string_equal(reply->points[0]->payload, "");
    gy_wire_free(reply);
}

static void a_read_of_more_than_a_reply_holds_is_refused(void **state)
{
    struct world *world = *state;
    enum { IDS = 100 };
    gyre_point_id ids[IDS];
    struct fixture_answer answer;
    gy_metrics *metrics;
    gy_server *narrow;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, IDS, 0, DIM));
    struct gy_server_options options = {.node = world->node, .scan_threads = 1, .scan_queue = 1, .message_bytes_max = 5000};
    assert_int_equal(gy_metrics_new(&metrics, NULL), GYRE_OK);
    options.metrics = metrics;
    assert_int_equal(gy_server_new(&narrow, &options, NULL), GYRE_OK);
    for (uint64_t i = 0; i < IDS; i++)
        ids[i] = gyre_point_id_from_number(i);
    Gyre__Node__Read request = GYRE__NODE__READ__INIT;
    request.collection_id = COLLECTION;
    request.ids = (ProtobufCBinaryData){sizeof ids, (uint8_t *)ids};
    request.with_vector = true;
    submit(narrow, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &answer);
    fixture_wait(&answer);
    assert_int_equal(answer.status, GYRE_EXHAUSTED);
    assert_string_equal(answer.err.text, "the 100 points asked for are more than the 5000 bytes of a reply; ask for fewer");
    request.ids.len = 20 * GYRE_ID_BYTES;
    submit(narrow, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &answer);
    fixture_wait(&answer);
    assert_int_equal(answer.status, GYRE_OK);
    gy_server_free(narrow);
    gy_metrics_free(metrics);
}

static void count_and_sum_see_every_point(void **state)
{
    struct world *world = *state;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 1, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 50, 0, DIM));
    assert_ok(write_points(world, 1, 100, 30, 0, DIM));
    Gyre__Node__Count count = GYRE__NODE__COUNT__INIT;
    Gyre__Node__CountReply *counted;
    uint32_t shards[2] = {1, 0};
    count.collection_id = COLLECTION;
    count.n_shards = 2;
    count.shards = shards;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__COUNT, &count.base, &gyre__node__count_reply__descriptor, &counted));
    assert_int_equal(counted->n_points, 2);
    assert_int_equal(counted->points[0], 30);
    assert_int_equal(counted->points[1], 50);
    gy_wire_free(counted);

    Gyre__Node__SumVectors sum = GYRE__NODE__SUM_VECTORS__INIT;
    Gyre__Node__SumVectorsReply *summed;
    sum.collection_id = COLLECTION;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS, &sum.base, &gyre__node__sum_vectors_reply__descriptor, &summed));
    assert_int_equal(summed->count, 50);
    assert_int_equal(summed->sums.len, DIM * sizeof(double));
    double expected = 0, first;
    for (uint64_t i = 0; i < 50; i++) {
        float vector[DIM];
        fixture_vector(vector, DIM, i, 0);
        expected += (double)vector[0];
    }
    memcpy(&first, summed->sums.data, sizeof first);
    assert_true(first == expected);
    gy_wire_free(summed);
}

static gyre_status take_sample(struct world *world, uint32_t count, uint64_t seed, Gyre__Node__SampleReply **reply)
{
    Gyre__Node__Sample request = GYRE__NODE__SAMPLE__INIT;
    request.collection_id = COLLECTION;
    request.count = count;
    request.seed = seed;
    return ask(world, GYRE__NODE__MESSAGE_TYPE__SAMPLE, &request.base, &gyre__node__sample_reply__descriptor, reply);
}

static void a_sample_is_of_the_points_and_the_same_for_a_seed(void **state)
{
    struct world *world = *state;
    enum { POINTS = 200, COUNT = 50, ROW = DIM * sizeof(float) };
    Gyre__Node__SampleReply *first, *again, *other, *all;
    assert_refused(GYRE_NOT_FOUND, take_sample(world, 1, 1, &first), "no replica of collection 7 shard 0");
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(take_sample(world, COUNT, 1, &first));
    assert_int_equal(first->vectors.len, 0);
    assert_int_equal(first->points, 0);
    gy_wire_free(first);
    assert_ok(write_points(world, 0, 0, POINTS, 0, DIM));
    assert_ok(take_sample(world, COUNT, 1, &first));
    assert_ok(take_sample(world, COUNT, 1, &again));
    assert_ok(take_sample(world, COUNT, 2, &other));
    assert_ok(take_sample(world, 100000, 1, &all));
    assert_int_equal(first->points, POINTS);
    assert_int_equal(first->vectors.len, COUNT * ROW);
    assert_int_equal(all->vectors.len, POINTS * ROW);
    assert_memory_equal(first->vectors.data, again->vectors.data, COUNT * ROW);
    assert_memory_not_equal(first->vectors.data, other->vectors.data, COUNT * ROW);
    bool drawn[POINTS] = {false};
    for (size_t i = 0; i < COUNT; i++) {
        size_t found = POINTS;
        for (size_t number = 0; number < POINTS; number++) {
            float vector[DIM];
            fixture_vector(vector, DIM, number, 0);
            if (memcmp(vector, first->vectors.data + i * ROW, ROW) == 0)
                found = number;
        }
        assert_true(found < POINTS && !drawn[found]); /* without replacement */
        drawn[found] = true;
    }
    gy_wire_free(first);
    gy_wire_free(again);
    gy_wire_free(other);
    gy_wire_free(all);
    assert_refused(GYRE_INVALID, take_sample(world, 0, 1, &first), "count is 0");
    assert_refused(GYRE_INVALID, take_sample(world, UINT32_MAX, 1, &first),
                   "count is 4294967295; of 24 dimensions a sample has 1 to 699050 vectors");
}

static void a_scan_finds_each_point_by_its_own_vector(void **state)
{
    struct world *world = *state;
    for (uint32_t shard = 0; shard < 2; shard++) {
        assert_ok(ensure(world, shard, 4, world->codebook, NULL));
        assert_ok(write_points(world, shard, shard * 500, 500, 0, DIM));
    }
    for (int exact = 0; exact < 2; exact++) {
        struct scan scan;
        Gyre__Node__ScanReply *reply;
        make_scan(&scan, world->codebook, 8, 2);
        if (exact) {
            scan.message.exact = true;
            scan.message.rotated.len = 0;
            scan.message.seed = 0;
        } else {
            scan.message.limits = (ProtobufCBinaryData){sizeof scan.limits, (uint8_t *)scan.limits};
        }
        assert_ok(run_scan(world, &scan, &reply));
        assert_int_equal(reply->n_shards, 2);
        for (size_t s = 0; s < 2; s++) {
            const Gyre__Node__ShardCandidates *shard = reply->shards[s];
            assert_int_equal(shard->status, GYRE_OK);
            assert_int_equal(shard->shard, s);
            assert_int_equal(shard->applied_seq, 1);
            assert_int_equal(shard->codebook_version, 1);
            assert_int_equal(shard->n_queries, 8);
            for (size_t q = 0; q < 8; q++) {
                const Gyre__Node__Candidates *found = shard->queries[q];
                size_t count = found->ids.len / GYRE_ID_BYTES;
                assert_int_equal(found->scanned, 500);
                assert_int_equal(count, 10);
                assert_int_equal(found->estimates.len, count * sizeof(float));
                assert_int_equal(found->half_widths.len, count * sizeof(float));
                gyre_point_id own = gyre_point_id_from_number(q);
                bool has_own = false;
                for (size_t i = 0; i < count; i++) {
                    bool is_own = memcmp(found->ids.data + i * GYRE_ID_BYTES, own.bytes, GYRE_ID_BYTES) == 0;
                    float estimate = gy_load_f32(found->estimates.data + i * sizeof(float));
                    float half_width = gy_load_f32(found->half_widths.data + i * sizeof(float));
                    /* One read at full precision may have turned out farther than its bound promised. */
                    assert_true(half_width == 0 || estimate - half_width <= found->cutoff);
                    has_own |= is_own;
                    assert_true(!is_own || !exact || (i == 0 && estimate == 0 && half_width == 0));
                }
                assert_true(has_own == (s == 0));
            }
        }
        gy_wire_free(reply);
    }
}

static void a_shard_that_is_not_here_says_so_in_its_place(void **state)
{
    struct world *world = *state;
    struct scan scan;
    Gyre__Node__ScanReply *reply;
    assert_ok(ensure(world, 1, 4, world->codebook, NULL));
    make_scan(&scan, world->codebook, 1, 2);
    assert_ok(run_scan(world, &scan, &reply));
    assert_int_equal(reply->shards[0]->status, GYRE_NOT_FOUND);
    assert_string_equal(reply->shards[0]->error, "node n1 has no replica of collection 7 shard 0");
    assert_int_equal(reply->shards[1]->status, GYRE_OK);
    assert_true(isinf(reply->shards[1]->queries[0]->cutoff));
    gy_wire_free(reply);
    scan.message.collection_id = 8;
    assert_ok(run_scan(world, &scan, &reply));
    assert_int_equal(reply->shards[1]->status, GYRE_NOT_FOUND);
    gy_wire_free(reply);
}

static void scans_with_wrong_fields_are_refused_by_name(void **state)
{
    struct world *world = *state;
    struct scan scan;
    Gyre__Node__ScanReply *reply;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
#define REFUSE(change, words)                                                  \
    do {                                                                       \
        make_scan(&scan, world->codebook, 2, 1);                               \
        change;                                                                \
        assert_refused(GYRE_INVALID, run_scan(world, &scan, &reply), words);   \
    } while (0)
    REFUSE(scan.message.n_shards = 0, "0 shards");
    REFUSE(scan.message.keep = 0, "keep is 0");
    REFUSE(scan.message.keep = 65537, "keep is 65537");
    REFUSE(scan.message.seed = 11, "seed is 11");
    REFUSE(scan.message.epsilon = 0, "epsilon is 0");
    REFUSE(scan.message.epsilon = NAN, "epsilon is");
    REFUSE(scan.message.queries.len = 0, "queries has 0 bytes");
    REFUSE(scan.message.queries.len -= 1, "queries has 191 bytes; it needs whole rows of 24 dimensions");
    REFUSE(scan.queries[DIM + 3] = NAN, "queries");
    REFUSE(scan.queries[0] = INFINITY, "queries");
    REFUSE(scan.message.rotated.len = DIM * 4, "rotated has 96 bytes");
    REFUSE(scan.message.exact = true, "rotated has 192 bytes");
    REFUSE(scan.message.k = 11, "k is 11; it may be at most keep, 10");
    REFUSE(scan.message.scan_bits = 5, "scan_bits is 5");
    REFUSE(scan.rotated[5] = NAN, "rotated row 0 column 5");
    REFUSE(scan.message.limits = ((ProtobufCBinaryData){4, (uint8_t *)scan.limits}), "limits has 4 bytes");
    REFUSE((scan.message.limits = (ProtobufCBinaryData){8, (uint8_t *)scan.limits}, scan.limits[1] = NAN), "limits[1]");
#undef REFUSE
    static float many[1025 * DIM];
    make_scan(&scan, world->codebook, 1, 1);
    scan.message.queries = (ProtobufCBinaryData){sizeof many, (uint8_t *)many};
    assert_refused(GYRE_INVALID, run_scan(world, &scan, &reply), "queries has 1025 rows; the limit is 1024");
    scan.message.queries.len = scan.message.rotated.len = 1024 * DIM * 4;
    scan.message.rotated.data = (uint8_t *)many;
    scan.message.keep = 65536;
    assert_refused(GYRE_INVALID, run_scan(world, &scan, &reply), "that is more than 4194304 candidates");
}

static void distances_are_exact_and_infinite_for_what_is_not_there(void **state)
{
    struct world *world = *state;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 10, 0, DIM));
    float queries[2 * DIM];
    fixture_vector(queries, DIM, 3, 0);
    fixture_vector(queries + DIM, DIM, 4, 0);
    gyre_point_id ids[3] = {gyre_point_id_from_number(3), gyre_point_id_from_number(77), gyre_point_id_from_number(4)};
    Gyre__Node__DistanceTask here = GYRE__NODE__DISTANCE_TASK__INIT, elsewhere = GYRE__NODE__DISTANCE_TASK__INIT;
    Gyre__Node__DistanceTask *tasks[2] = {&here, &elsewhere};
    Gyre__Node__Distances request = GYRE__NODE__DISTANCES__INIT;
    Gyre__Node__DistancesReply *reply;
    const ProtobufCMessageDescriptor *type = &gyre__node__distances_reply__descriptor;
    here.ids = elsewhere.ids = (ProtobufCBinaryData){sizeof ids, (uint8_t *)ids};
    here.query = 1;
    elsewhere.shard = 9;
    request.collection_id = COLLECTION;
    request.queries = (ProtobufCBinaryData){sizeof queries, (uint8_t *)queries};
    request.n_tasks = 2;
    request.tasks = tasks;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, type, &reply));
    assert_int_equal(reply->n_results, 2);
    assert_int_equal(reply->results[0]->status, GYRE_OK);
    assert_int_equal(reply->results[0]->distances.len, 3 * sizeof(float));
    float expected = gyre_distance(GYRE_L2, queries, queries + DIM, DIM), got = gy_load_f32(reply->results[0]->distances.data);
    assert_memory_equal(&expected, &got, sizeof got);
    assert_true(isinf(gy_load_f32(reply->results[0]->distances.data + 4)));
    assert_true(gy_load_f32(reply->results[0]->distances.data + 8) == 0);
    assert_int_equal(reply->results[1]->status, GYRE_NOT_FOUND);
    gy_wire_free(reply);

    here.query = 2;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, type, &reply),
                   "tasks[0].query is 2; there are 2 queries");
    here.query = 0;
    elsewhere.ids.len = 17;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, type, &reply),
                   "tasks[1]: ids has 17 bytes");
    elsewhere.ids.len = 16;
    queries[0] = NAN;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, type, &reply), "queries");
    request.n_tasks = 0;
    assert_refused(GYRE_INVALID, ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, type, &reply), "0 tasks");
}

static void many_tasks_leave_room_for_other_reads(void **state)
{
    struct world *world = *state;
    enum { TASKS = 1024, TOGETHER = 16, READS = 200 };
    static Gyre__Node__DistanceTask tasks[TASKS], *list[TASKS];
    static struct fixture_answer measured[TOGETHER], read[READS];
    float query[DIM];
    gyre_point_id ids[64];
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 64, 0, DIM));
    fixture_vector(query, DIM, 3, 0);
    for (uint64_t i = 0; i < 64; i++)
        ids[i] = gyre_point_id_from_number(i);
    for (size_t i = 0; i < TASKS; i++) {
        gyre__node__distance_task__init(list[i] = &tasks[i]);
        tasks[i].ids = (ProtobufCBinaryData){sizeof ids, (uint8_t *)ids};
    }
    Gyre__Node__Distances distances = GYRE__NODE__DISTANCES__INIT;
    distances.collection_id = COLLECTION;
    distances.queries = (ProtobufCBinaryData){sizeof query, (uint8_t *)query};
    distances.n_tasks = TASKS;
    distances.tasks = list;
    Gyre__Node__Read one = GYRE__NODE__READ__INIT;
    one.collection_id = COLLECTION;
    one.ids = (ProtobufCBinaryData){sizeof *ids, (uint8_t *)ids};
    for (size_t i = 0; i < TOGETHER; i++)
        submit(world->server, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &distances.base, &measured[i]);
    for (size_t i = 0; i < READS; i++)
        submit(world->server, GYRE__NODE__MESSAGE_TYPE__READ, &one.base, &read[i]);
    for (size_t i = 0; i < TOGETHER; i++) {
        fixture_wait(&measured[i]);
        assert_int_equal(measured[i].status, GYRE_OK);
    }
    for (size_t i = 0; i < READS; i++) {
        fixture_wait(&read[i]);
        assert_int_equal(read[i].status, GYRE_OK);
    }
}

/* ---- fans ---- */

enum { FAN_PLACES = 8, FAN_PARTS = 1000 };

struct fanning {
    gy_pool *pool;
    pthread_mutex_t gate; /* holds up the pool's one thread */
    atomic_size_t parts, done;
    size_t queued;        /* seen by the first part */
};

static void wait_at_gate(void *arg)
{
    struct fanning *fanning = arg;
    pthread_mutex_lock(&fanning->gate);
    pthread_mutex_unlock(&fanning->gate);
}

static void fan_part(void *self, size_t i)
{
    struct fanning *fanning = self;
    if (i == 0)
        fanning->queued = gy_pool_queued(fanning->pool);
    atomic_fetch_add(&fanning->parts, 1);
}

static void fan_done(void *self)
{
    atomic_fetch_add(&((struct fanning *)self)->done, 1);
}

static void a_fan_takes_no_more_places_than_it_may_and_is_done_once(void **state)
{
    (void)state;
    for (size_t helpers = 0; helpers <= 2 * FAN_PLACES; helpers += 4) {
        struct fanning fanning = {.gate = PTHREAD_MUTEX_INITIALIZER};
        assert_int_equal(gy_pool_new(&fanning.pool, "fan", 1, FAN_PLACES, NULL), GYRE_OK);
        pthread_mutex_lock(&fanning.gate);
        assert_int_equal(gy_pool_submit(fanning.pool, wait_at_gate, &fanning, NULL), GYRE_OK);
        gy_fan_run(fanning.pool, helpers, FAN_PARTS, fan_part, fan_done, &fanning);
        assert_true(fanning.queued <= helpers + 1); /* the one at the gate may still be queued */
        assert_int_equal(fanning.parts, FAN_PARTS);
        assert_int_equal(fanning.done, 1);
        pthread_mutex_unlock(&fanning.gate);
        gy_pool_free(fanning.pool);
        assert_int_equal(fanning.parts, FAN_PARTS);
        assert_int_equal(fanning.done, 1);
    }
}

static void writes_that_cannot_be_are_refused(void **state)
{
    struct world *world = *state;
    assert_refused(GYRE_NOT_FOUND, write_points(world, 0, 0, 1, 0, DIM), "node n1 has no replica of collection 7 shard 0");
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_refused(GYRE_INVALID, write_points(world, 0, 0, 1, 0, DIM + 1),
                   "operation 0: vector of 100 bytes; the collection has 24 dimensions, 96 bytes");
    assert_refused(GYRE_INVALID, write_points(world, 0, 0, 0, 0, DIM), "write of 0 operations");
    assert_ok(ensure(world, 0, 5, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 1, 0, DIM)); /* sent for epoch 4: the primary is the same since then */
}

static void bytes_that_are_no_message_are_refused(void **state)
{
    struct world *world = *state;
    static const uint8_t junk[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    for (uint16_t type = GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA; type <= GYRE__NODE__MESSAGE_TYPE__SAMPLE; type++) {
        struct fixture_answer answer = FIXTURE_ANSWER;
        gy_peer_call(world->peer, type, junk, sizeof junk, gy_now_ns() + 60 * GY_SECOND_NS, on_reply, &answer);
        fixture_wait(&answer);
        assert_int_equal(answer.status, GYRE_INVALID);
    }
    for (int i = 0; i < 2; i++) {
        struct fixture_answer answer = FIXTURE_ANSWER;
        gy_peer_call(world->peer, i ? 999 : GYRE__NODE__MESSAGE_TYPE__REPORT, junk, 0, gy_now_ns() + 60 * GY_SECOND_NS, on_reply,
                     &answer);
        fixture_wait(&answer);
        assert_int_equal(answer.status, GYRE_UNIMPLEMENTED);
    }
}

static void a_dropped_replica_is_gone_also_after_a_restart(void **state)
{
    struct world *world = *state;
    Gyre__Node__DropReplica request = GYRE__NODE__DROP_REPLICA__INIT;
    Gyre__Node__Empty *reply;
    struct stat found;
    char path[256];
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 1, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 10, 0, DIM));
    assert_ok(write_points(world, 1, 0, 10, 0, DIM));
    snprintf(path, sizeof path, "%s/replicas/7-0", world->directory);
    assert_int_equal(stat(path, &found), 0);
    request.collection_id = COLLECTION;
    for (int i = 0; i < 2; i++) {
        assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA, &request.base, &gyre__node__empty__descriptor, &reply));
        gy_wire_free(reply);
    }
    assert_refused(GYRE_NOT_FOUND, write_points(world, 0, 0, 1, 0, DIM), "no replica");
    assert_int_equal(stat(path, &found), -1);
    stop(world);
    start(world);
    assert_refused(GYRE_NOT_FOUND, write_points(world, 0, 0, 1, 0, DIM), "no replica");
    assert_ok(write_points(world, 1, 0, 1, 0, DIM));
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 1, 0, DIM));
}

/* Whether the node reports a shard's replica as damaged. */
static bool statuses_lost(struct world *world, uint32_t shard)
{
    struct gy_node_status *statuses;
    size_t count;
    bool lost = false;
    assert_int_equal(gy_node_statuses(world->node, &statuses, &count, NULL), GYRE_OK);
    for (size_t i = 0; i < count; i++)
        lost |= statuses[i].message.shard == shard && statuses[i].message.lost;
    gy_node_statuses_free(statuses);
    return lost;
}

static void one_bad_replica_does_not_stop_the_node(void **state)
{
    struct world *world = *state;
    char path[256], half_made[256];
    struct stat found;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    stop(world);
    snprintf(path, sizeof path, "%s/replicas/7-5", world->directory);
    snprintf(half_made, sizeof half_made, "%s/replicas/.7-6.creating", world->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(half_made, 0700), 0);
    start(world);
    assert_int_equal(stat(half_made, &found), -1);
    assert_ok(write_points(world, 0, 0, 1, 0, DIM));
    assert_refused(GYRE_UNAVAILABLE, write_points(world, 5, 0, 1, 0, DIM),
                   "node n1: replica of collection 7 shard 5 is damaged: ");
    struct gy_node_status *statuses;
    size_t count;
    assert_int_equal(gy_node_statuses(world->node, &statuses, &count, NULL), GYRE_OK);
    assert_int_equal(count, 2);
    assert_string_equal(statuses[0].message.trouble, "");
    assert_int_equal(statuses[1].message.shard, 5);
    assert_true(strlen(statuses[1].message.trouble) > 0);
    gy_node_statuses_free(statuses);
    assert_true(statuses_lost(world, 5));
    world->found_only = true;
    assert_int_not_equal(ensure(world, 5, 4, world->codebook, NULL), GYRE_OK);
    assert_true(statuses_lost(world, 5));
    world->found_only = false; /* a member that is not in sync is made anew */
    assert_ok(ensure(world, 5, 4, world->codebook, NULL));
    assert_false(statuses_lost(world, 5));
    assert_ok(write_points(world, 5, 0, 1, 0, DIM));
}

static void a_replica_whose_directory_is_gone_can_be_dropped(void **state)
{
    struct world *world = *state;
    char path[256], dropping[256], rest[300];
    stop(world);
    snprintf(path, sizeof path, "%s/replicas/7-5", world->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    start(world);
    assert_refused(GYRE_UNAVAILABLE, write_points(world, 5, 0, 1, 0, DIM), "is damaged");
    /* As a drop leaves it that fails after the rename. */
    snprintf(dropping, sizeof dropping, "%s/replicas/.7-5.dropping", world->directory);
    snprintf(rest, sizeof rest, "%s/CURRENT", dropping);
    assert_int_equal(rename(path, dropping), 0);
    assert_int_equal(mkdir(rest, 0700), 0);
    assert_int_equal(gy_node_drop(world->node, COLLECTION, 5, 0, &last_error), GYRE_OK);
    struct stat found;
    assert_int_equal(stat(dropping, &found), -1);
    assert_refused(GYRE_NOT_FOUND, write_points(world, 5, 0, 1, 0, DIM), "no replica");
    assert_ok(ensure(world, 5, 4, world->codebook, NULL));
    assert_ok(write_points(world, 5, 0, 1, 0, DIM));
}

static void a_directory_that_was_made_before_is_opened_by_ensure(void **state)
{
    struct world *world = *state;
    char path[256], aside[256];
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 10, 0, DIM));
    stop(world);
    snprintf(path, sizeof path, "%s/replicas/7-0", world->directory);
    snprintf(aside, sizeof aside, "%s/aside", world->directory);
    assert_int_equal(rename(path, aside), 0);
    start(world);
    assert_refused(GYRE_NOT_FOUND, write_points(world, 0, 0, 1, 0, DIM), "no replica");
    assert_int_equal(rename(aside, path), 0);
    assert_refused(GYRE_ABORTED, ensure(world, 0, 3, world->codebook, NULL), "epoch 3 is older than the replica's, 4");
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    struct gy_node_status *statuses;
    size_t count;
    assert_int_equal(gy_node_statuses(world->node, &statuses, &count, NULL), GYRE_OK);
    assert_int_equal(count, 1);
    assert_int_equal(statuses[0].message.points, 10);
    gy_node_statuses_free(statuses);
    /* One that does not open is in nobody's way. */
    stop(world);
    assert_int_equal(rename(path, aside), 0);
    start(world);
    assert_int_equal(mkdir(path, 0700), 0);
    world->found_only = true;
    assert_refused(GYRE_NOT_FOUND, ensure(world, 0, 4, world->codebook, NULL), "no replica");
    world->found_only = false; /* may be made: then what is in the way and damaged goes */
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 1, 0, DIM));
}

static void a_newer_codebook_is_switched_to_and_scans_go_on(void **state)
{
    struct world *world = *state;
    float mean[DIM];
    struct scan scan;
    uint32_t version = 0;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, 5000, 0, DIM));
    for (size_t i = 0; i < DIM; i++)
        mean[i] = 0.1f;
    gyre_codebook *newer = fixture_codebook(GYRE_L2, DIM, 2, mean);
    make_scan(&scan, world->codebook, 4, 1);
    int64_t until_ns = gy_now_ns() + 60 * GY_SECOND_NS;
    uint32_t seen = 1;
    while (seen != 2 && gy_now_ns() < until_ns) {
        Gyre__Node__ScanReply *reply;
        assert_ok(ensure(world, 0, 4, newer, &version));
        assert_ok(run_scan(world, &scan, &reply));
        assert_int_equal(reply->shards[0]->status, GYRE_OK);
        assert_true(reply->shards[0]->codebook_version >= seen);
        seen = reply->shards[0]->codebook_version;
        gy_wire_free(reply);
    }
    assert_int_equal(seen, 2);
    gyre_codebook_free(newer);
}

/* ---- reports ---- */

struct coordinator {
    pthread_mutex_t mu;
    pthread_cond_t came;
    size_t report_count, replica_count;
    char node[65], address[64], zone[64];
};

static void on_report(void *self, gy_bus_request *request)
{
    struct coordinator *coordinator = self;
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    Gyre__Node__Report *report;
    Gyre__Node__ReportReply reply = GYRE__NODE__REPORT_REPLY__INIT;
    gy_bytes packed;
    reply.heartbeat_ms = 60000; /* so that what comes sooner came because of a change */
    assert_int_equal(gy_wire_unpack(&report, &gyre__node__report__descriptor, body, bytes, NULL), GYRE_OK);
    assert_int_equal(gy_wire_pack(&packed, &reply.base, 1000, NULL), GYRE_OK);
    pthread_mutex_lock(&coordinator->mu);
    coordinator->report_count++;
    coordinator->replica_count = report->n_replicas;
    snprintf(coordinator->node, sizeof coordinator->node, "%s", report->node);
    snprintf(coordinator->address, sizeof coordinator->address, "%s", report->address);
    snprintf(coordinator->zone, sizeof coordinator->zone, "%s", report->zone);
    pthread_cond_broadcast(&coordinator->came);
    pthread_mutex_unlock(&coordinator->mu);
    gy_wire_free(report);
    gy_bus_answer(request, GYRE_OK, NULL, packed.data, packed.size);
    gy_bytes_free(&packed);
}

static void await_replicas(struct coordinator *coordinator, size_t replica_count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    int timed_out = 0;
    pthread_mutex_lock(&coordinator->mu);
    while ((coordinator->report_count == 0 || coordinator->replica_count != replica_count) && timed_out == 0)
        timed_out = pthread_cond_timedwait(&coordinator->came, &coordinator->mu, &until);
    pthread_mutex_unlock(&coordinator->mu);
    assert_int_equal(timed_out, 0);
}

static void a_change_is_reported_at_once(void **state)
{
    struct world *world = *state;
    struct coordinator coordinator = {.mu = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    gy_bus *bus;
    gy_report *report;
    gyre_error err = {0};
    struct gy_bus_options options = {
        .listen = "127.0.0.1:0", .cluster_key = key, .node = "c", .on_request = on_report, .self = &coordinator};
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_OK);
    struct gy_report_options reporting = {.node = world->node,
                                          .bus = world->client,
                                          .coordinators = gy_bus_address(bus),
                                          .address = "10.0.0.1:1",
                                          .http_address = "10.0.0.1:2",
                                          .zone = "east"};
    assert_int_equal(gy_report_start(&report, &reporting, &err), GYRE_OK);
    await_replicas(&coordinator, 0);
    assert_string_equal(coordinator.node, "n1");
    assert_string_equal(coordinator.address, "10.0.0.1:1");
    assert_string_equal(coordinator.zone, "east");
    assert_int_equal(gy_report_zone_check("rack-7.east_1", &err), GYRE_OK);
    assert_int_equal(gy_report_zone_check("rack 7", &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "byte 4 is 0x20"));
    char long_zone[65];
    memset(long_zone, 'z', 64), long_zone[64] = 0;
    assert_int_equal(gy_report_zone_check(long_zone, &err), GYRE_INVALID);
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    await_replicas(&coordinator, 1);
    assert_ok(ensure(world, 1, 4, world->codebook, NULL));
    await_replicas(&coordinator, 2);
    assert_int_equal(gy_node_drop(world->node, COLLECTION, 0, 0, &err), GYRE_OK);
    await_replicas(&coordinator, 1);
    gy_report_stop(report);
    gy_bus_close(bus);
}

/* ---- the data directory ---- */

static void a_data_directory_has_one_process_and_one_name(void **state)
{
    (void)state;
    char *directory = fixture_directory(), name[GY_NODE_NAME_BYTES], again[GY_NODE_NAME_BYTES];
    int lock_fd, other_fd;
    gyre_error err;
    assert_int_equal(gy_datadir_lock(directory, &lock_fd, &err), GYRE_OK);
    assert_int_equal(gy_datadir_lock(directory, &other_fd, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "is in use by another process"));
    close(lock_fd);
    assert_int_equal(gy_datadir_lock(directory, &lock_fd, &err), GYRE_OK);
    close(lock_fd);
    assert_int_equal(gy_datadir_name(directory, "", name, &err), GYRE_OK);
    assert_int_equal(gy_datadir_name(directory, "", again, &err), GYRE_OK);
    assert_string_equal(name, again);
    assert_int_equal(gy_datadir_name(directory, name, again, &err), GYRE_OK);
    assert_int_equal(gy_datadir_name(directory, "other", again, &err), GYRE_PRECONDITION);
    assert_int_equal(gy_datadir_name(directory, "a b", again, &err), GYRE_INVALID);
    fixture_directory_free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ensure_creates_once_and_takes_only_newer_epochs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_codebook_need_not_be_sent_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ensure_refuses_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_codec_is_known_scans_and_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sample_is_of_the_points_and_the_same_for_a_seed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(written_points_are_read_back_bit_for_bit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_of_more_than_a_reply_holds_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(count_and_sum_see_every_point, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_finds_each_point_by_its_own_vector, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shard_that_is_not_here_says_so_in_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(scans_with_wrong_fields_are_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(distances_are_exact_and_infinite_for_what_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_tasks_leave_room_for_other_reads, set_up, tear_down),
        cmocka_unit_test(a_fan_takes_no_more_places_than_it_may_and_is_done_once),
        cmocka_unit_test_setup_teardown(writes_that_cannot_be_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_message_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dropped_replica_is_gone_also_after_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_bad_replica_does_not_stop_the_node, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_whose_directory_is_gone_can_be_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_that_was_made_before_is_opened_by_ensure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_codebook_is_switched_to_and_scans_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_change_is_reported_at_once, set_up, tear_down),
        cmocka_unit_test(a_data_directory_has_one_process_and_one_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
