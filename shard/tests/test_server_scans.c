/* Scans at a node: probes, passes that several callers share, the line they wait in and its limit. */
#include "server_fixture.h"

#include "server/incoming.h"

#include "gyre/kmeans.h"
#include "gyre/partition.h"

#include <sched.h>
#include <stdatomic.h>

enum { LISTS = 8, POINTS = 2000 };

/* One thread that scans and a line of eight places, so that a test decides who waits for whom. */
static int set_up_narrow(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    world->directory = fixture_directory();
    world->codebook = partitioned_codebook(1, LISTS);
    world->scan_threads = 1;
    world->scan_queue = 8;
    start(world);
    *state = world;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, POINTS, 0, DIM));
    return 0;
}

/* ---- the one thread, held up ---- */

struct gate {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool reached, open;
};

static void wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    pthread_mutex_lock(&gate->mu);
    gate->reached = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->mu);
    pthread_mutex_unlock(&gate->mu);
}

static void hold_up(struct world *world, struct gate *gate)
{
    *gate = (struct gate){.mu = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(gy_pool_submit(world->server->lanes[GY_LANE_SCAN], wait_at_gate, gate, NULL), GYRE_OK);
    pthread_mutex_lock(&gate->mu);
    while (!gate->reached)
        pthread_cond_wait(&gate->changed, &gate->mu);
    pthread_mutex_unlock(&gate->mu);
}

static void let_go(struct gate *gate)
{
    pthread_mutex_lock(&gate->mu);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mu);
}

/* ---- answers with their bytes ---- */

struct reply {
    struct fixture_answer answer;
    uint8_t *body;
    size_t bytes;
};

static void on_body(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct reply *reply = arg;
    if (status == GYRE_OK) {
        reply->body = malloc(bytes + 1);
        memcpy(reply->body, body, bytes);
        reply->bytes = bytes;
    }
    fixture_on_written(&reply->answer, status, err, 0, 0);
}

static void begin(struct world *world, const struct scan *scan, int64_t deadline_ns, struct reply *reply)
{
    gy_bytes packed;
    *reply = (struct reply){.answer = FIXTURE_ANSWER};
    assert_int_equal(gy_wire_pack(&packed, &scan->message.base, 64 << 20, NULL), GYRE_OK);
    gy_server_submit(world->server, GYRE__NODE__MESSAGE_TYPE__SCAN, packed.data, packed.size, deadline_ns, on_body, reply);
    gy_bytes_free(&packed);
}

static int64_t soon(void)
{
    return gy_now_ns() + 60 * GY_SECOND_NS;
}

static void await(struct reply *reply)
{
    fixture_wait(&reply->answer);
    if (reply->answer.status != GYRE_OK)
        fail_msg("%s", reply->answer.err.text);
}

/* "name 12" in the metrics' text. */
static uint64_t metric(struct world *world, const char *name)
{
    char *text = gy_metrics_text(world->metrics), *line = text;
    size_t length = strlen(name);
    uint64_t value = UINT64_MAX;
    for (; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            value = strtoull(line + length, NULL, 10);
    free(text);
    if (value == UINT64_MAX)
        fail_msg("no metric %s", name);
    return value;
}

/* ---- probes ---- */

struct probed {
    struct scan scan;
    uint32_t probes[8 * LISTS], counts[8];
};

/* Each of the queries looks into its first `each` lists. */
static void make_probed(struct probed *probed, const gyre_codebook *codebook, uint64_t first, size_t query_count, size_t each)
{
    make_scan_from(&probed->scan, codebook, first, query_count, 1);
    Gyre__Node__Scan *message = &probed->scan.message;
    for (size_t q = 0; q < query_count; q++) {
        probed->counts[q] = (uint32_t)each;
        assert_int_equal(gyre_partition_probe(codebook, probed->scan.queries + q * DIM, probed->scan.rotated + q * DIM, each,
                                              probed->probes + q * each, NULL), GYRE_OK);
    }
    message->probes = (ProtobufCBinaryData){query_count * each * sizeof *probed->probes, (uint8_t *)probed->probes};
    message->probe_counts = probed->counts;
    message->n_probe_counts = query_count;
    message->codebook_version = 1;
}

static void only_the_probed_lists_are_scanned(void **state)
{
    struct world *world = *state;
    struct probed probed;
    Gyre__Node__ScanReply *reply;
    uint64_t before = 0;
    for (size_t each = 1; each <= LISTS; each++) {
        uint64_t scanned = 0;
        make_probed(&probed, world->codebook, 0, 4, each);
        assert_ok(run_scan(world, &probed.scan, &reply));
        assert_int_equal(reply->shards[0]->status, GYRE_OK);
        for (size_t q = 0; q < 4; q++) {
            assert_int_equal(reply->shards[0]->queries[q]->lists_probed, each);
            scanned += reply->shards[0]->queries[q]->scanned;
            assert_true(each < LISTS || reply->shards[0]->queries[q]->scanned == POINTS);
        }
        assert_true(scanned > before);
        before = scanned;
        gy_wire_free(reply);
    }
    /* Probes of another codebook mean nothing here: every list is scanned. */
    make_probed(&probed, world->codebook, 0, 1, 2);
    probed.scan.message.codebook_version = 9;
    assert_ok(run_scan(world, &probed.scan, &reply));
    assert_int_equal(reply->shards[0]->queries[0]->scanned, POINTS);
    assert_int_equal(reply->shards[0]->queries[0]->lists_probed, LISTS);
    gy_wire_free(reply);
}

static void a_scan_alone_answers_with_exact_distances(void **state)
{
    struct world *world = *state;
    struct probed probed;
    Gyre__Node__ScanReply *alone, *exact;
    make_probed(&probed, world->codebook, 5, 1, LISTS);
    probed.scan.message.alone = true;
    probed.scan.message.k = probed.scan.message.keep;
    probed.scan.message.scan_bits = 6;
    probed.scan.message.epsilon = 30; /* so wide a bound that nothing is missed */
    assert_ok(run_scan(world, &probed.scan, &alone));
    struct scan all;
    make_scan_from(&all, world->codebook, 5, 1, 1);
    all.message.exact = true;
    all.message.rotated.len = 0;
    all.message.seed = 0;
    assert_ok(run_scan(world, &all, &exact));
    const Gyre__Node__Candidates *a = alone->shards[0]->queries[0], *b = exact->shards[0]->queries[0];
    assert_int_equal(a->ids.len, 10 * GYRE_ID_BYTES);
    assert_int_equal(b->ids.len, a->ids.len);
    assert_memory_equal(a->ids.data, b->ids.data, a->ids.len);
    assert_memory_equal(a->estimates.data, b->estimates.data, a->estimates.len);
    assert_true(a->seeds_read > 0);
    gy_wire_free(alone);
    gy_wire_free(exact);
}

static void wrong_probes_are_refused_by_name(void **state)
{
    struct world *world = *state;
    struct probed probed;
    Gyre__Node__ScanReply *reply;
    Gyre__Node__Scan *message = &probed.scan.message;
#define REFUSE(change, words)                                                            \
    do {                                                                                 \
        make_probed(&probed, world->codebook, 0, 2, 3);                                  \
        change;                                                                          \
        assert_refused(GYRE_INVALID, run_scan(world, &probed.scan, &reply), words);      \
    } while (0)
    REFUSE(message->probes.len = 23, "probes has 23 bytes; it needs whole list numbers of 4");
    REFUSE(message->n_probe_counts = 0, "probe_counts has 0 numbers; it must have 2");
    REFUSE(message->n_probe_counts = 1, "probe_counts has 1 numbers; it must have 2");
    REFUSE(message->probes.len = 0, "probe_counts has 2 numbers; it must have 0");
    REFUSE(probed.counts[1] = 0, "probe_counts[1] is 0");
    REFUSE(probed.counts[1] = 4, "probe_counts sum up to 7; probes has 6 lists");
    REFUSE(probed.counts[1] = 2, "probe_counts sum up to 5; probes has 6 lists");
    REFUSE(probed.counts[0] = UINT32_MAX, "probe_counts sum up to 4294967298");
    REFUSE(probed.probes[4] = GYRE_LISTS_MAX, "probes[4] is list 16777216");
    REFUSE(probed.probes[5] = probed.probes[3], "probes[5] is list");
    REFUSE((message->exact = true, message->rotated.len = 0), "probes with exact");
#undef REFUSE
    /* Below the limit, but not of this codebook: the shard's own place says so. */
    make_probed(&probed, world->codebook, 0, 2, 3);
    probed.probes[2] = LISTS;
    assert_ok(run_scan(world, &probed.scan, &reply));
    assert_int_equal(reply->shards[0]->status, GYRE_INVALID);
    assert_non_null(strstr(reply->shards[0]->error, "8"));
    gy_wire_free(reply);
}

/* ---- passes ---- */

static void callers_that_share_a_pass_get_the_bytes_they_would_get_alone(void **state)
{
    struct world *world = *state;
    enum { CALLERS = 7 };
    struct probed probed[CALLERS];
    struct reply alone[CALLERS], together[CALLERS];
    struct gate gate;
    for (int with_probes = 0; with_probes < 2; with_probes++) {
        for (size_t i = 0; i < CALLERS; i++) {
            make_probed(&probed[i], world->codebook, 10 * i, i == 2 ? 2 : 1, 1 + i);
            if (!with_probes)
                probed[i].scan.message.probes.len = probed[i].scan.message.n_probe_counts = 0;
            begin(world, &probed[i].scan, soon(), &alone[i]);
            await(&alone[i]);
        }
        uint64_t shared = metric(world, "gyre_shard_scan_passes_total{queries=\"8+\"}");
        hold_up(world, &gate);
        for (size_t i = 0; i < CALLERS; i++)
            begin(world, &probed[i].scan, soon(), &together[i]);
        assert_int_equal(metric(world, "gyre_shard_scan_queue_length"), CALLERS);
        let_go(&gate);
        for (size_t i = 0; i < CALLERS; i++) {
            await(&together[i]);
            assert_int_equal(together[i].bytes, alone[i].bytes);
            assert_memory_equal(together[i].body, alone[i].body, alone[i].bytes);
            free(together[i].body);
            free(alone[i].body);
        }
        assert_int_equal(metric(world, "gyre_shard_scan_passes_total{queries=\"8+\"}"), shared + 1);
        assert_int_equal(metric(world, "gyre_shard_scan_queue_length"), 0);
    }
}

static void what_asks_for_something_else_goes_by_itself(void **state)
{
    struct world *world = *state;
    enum { CALLERS = 7 };
    struct probed probed[CALLERS];
    struct reply replies[CALLERS];
    struct gate gate;
    for (size_t i = 0; i < CALLERS; i++)
        make_probed(&probed[i], world->codebook, i, 1, 2);
    probed[1].scan.message.keep = 11;
    probed[2].scan.message.epsilon = 2;
    probed[3].scan.message.seed = 4;
    probed[4].scan.message.scan_bits = 8;
    probed[5].scan.message.probes.len = probed[5].scan.message.n_probe_counts = 0;
    probed[6].scan.message.codebook_version = 0;
    uint64_t single = metric(world, "gyre_shard_scan_passes_total{queries=\"1\"}");
    hold_up(world, &gate);
    for (size_t i = 0; i < CALLERS; i++)
        begin(world, &probed[i].scan, soon(), &replies[i]);
    let_go(&gate);
    for (size_t i = 0; i < CALLERS; i++) {
        await(&replies[i]);
        free(replies[i].body);
    }
    assert_int_equal(metric(world, "gyre_shard_scan_passes_total{queries=\"1\"}"), single + CALLERS);
}

static void one_that_is_wrong_or_late_leaves_the_others_alone(void **state)
{
    struct world *world = *state;
    enum { CALLERS = 6 };
    struct probed probed[CALLERS];
    struct reply replies[CALLERS];
    struct gate gate;
    hold_up(world, &gate);
    int64_t short_ns = gy_now_ns() + 5 * GY_MILLISECOND_NS;
    for (size_t i = 0; i < CALLERS; i++) {
        make_probed(&probed[i], world->codebook, i, 1, 2);
        if (i == 3)
            probed[i].probes[1] = probed[i].probes[0];
        if (i == 4)
            probed[i].scan.queries[7] = NAN;
        begin(world, &probed[i].scan, i == 2 ? short_ns : soon(), &replies[i]);
    }
    while (gy_now_ns() <= short_ns)
        sched_yield();
    let_go(&gate);
    for (size_t i = 0; i < CALLERS; i++) {
        fixture_wait(&replies[i].answer);
        gyre_status expected = i == 2 ? GYRE_DEADLINE : i == 3 || i == 4 ? GYRE_INVALID : GYRE_OK;
        if (replies[i].answer.status != expected)
            fail_msg("caller %zu: %s", i, replies[i].answer.err.text);
        free(replies[i].body);
    }
    assert_int_equal(metric(world, "gyre_shard_scan_passes_total{queries=\"3\"}"), 1);
}

/* ---- callers that go ---- */

/* A door of the test's own in front of the server, so that it sees the request as the server does. */
struct door {
    struct world *world;
    _Atomic(gy_bus_request *) request;
};

static void on_request(void *self, gy_bus_request *request)
{
    struct door *door = self;
    atomic_store(&door->request, request);
    gy_server_on_request(door->world->server, request);
}

static void a_scan_whose_caller_is_gone_is_not_run(void **state)
{
    struct world *world = *state;
    struct door door = {.world = world};
    struct gate gate;
    struct probed probed;
    struct fixture_answer answer = FIXTURE_ANSWER;
    gy_bus *bus;
    gy_peer *peer;
    gy_bytes packed;
    struct gy_bus_options options = {
        .listen = "127.0.0.1:0", .cluster_key = key, .node = "n1", .on_request = on_request, .self = &door};
    assert_int_equal(gy_bus_open(&bus, &options, NULL), GYRE_OK);
    assert_int_equal(gy_peer_new(&peer, world->client, gy_bus_address(bus), NULL, NULL, NULL), GYRE_OK);
    make_probed(&probed, world->codebook, 0, 1, 2);
    assert_int_equal(gy_wire_pack(&packed, &probed.scan.message.base, 64 << 20, NULL), GYRE_OK);
    uint64_t passes = metric(world, "gyre_shard_scan_passes_total{queries=\"1\"}");
    uint64_t failures = metric(world, "gyre_shard_requests_failed_total{type=\"scan\"}");
    hold_up(world, &gate);
    gy_peer_call(peer, GYRE__NODE__MESSAGE_TYPE__SCAN, packed.data, packed.size, soon(), on_reply, &answer);
    while (!atomic_load(&door.request))
        sched_yield();
    gy_peer_free(peer);
    while (!gy_bus_request_abandoned(atomic_load(&door.request)))
        sched_yield();
    let_go(&gate);
    gy_bus_close(bus); /* waits until it is answered */
    assert_int_equal(metric(world, "gyre_shard_scan_passes_total{queries=\"1\"}"), passes);
    assert_int_equal(metric(world, "gyre_shard_requests_failed_total{type=\"scan\"}"), failures + 1);
    fixture_wait(&answer);
    assert_int_equal(answer.status, GYRE_UNAVAILABLE);
    gy_bytes_free(&packed);
}

/* ---- the line ---- */

static void a_full_line_refuses_the_flood_and_not_the_others(void **state)
{
    struct world *world = *state;
    enum { PLACES = 8, CALLERS = PLACES + 3 };
    struct probed probed;
    struct reply replies[CALLERS];
    struct gate gate;
    hold_up(world, &gate);
    make_probed(&probed, world->codebook, 0, 1, 2);
    for (size_t i = 0; i <= PLACES; i++)
        begin(world, &probed.scan, soon(), &replies[i]);
    /* The ninth is refused at once, and told what to do. */
    fixture_wait(&replies[PLACES].answer);
    assert_int_equal(replies[PLACES].answer.status, GYRE_EXHAUSTED);
    assert_string_equal(
        replies[PLACES].answer.err.text,
        "node n1: 8 scans wait, which is the limit (--scan-queue); try again in a moment, or spread the collection over more nodes");
    /* Another collection's takes the place of the flood's last. */
    probed.scan.message.collection_id = COLLECTION + 1;
    begin(world, &probed.scan, soon(), &replies[PLACES + 1]);
    fixture_wait(&replies[PLACES - 1].answer);
    assert_int_equal(replies[PLACES - 1].answer.status, GYRE_EXHAUSTED);
    begin(world, &probed.scan, soon(), &replies[PLACES + 2]);
    fixture_wait(&replies[PLACES - 2].answer);
    assert_int_equal(replies[PLACES - 2].answer.status, GYRE_EXHAUSTED);
    let_go(&gate);
    for (size_t i = 0; i < CALLERS; i++) {
        bool refused = i == PLACES || i == PLACES - 1 || i == PLACES - 2;
        fixture_wait(&replies[i].answer);
        assert_int_equal(replies[i].answer.status, refused ? GYRE_EXHAUSTED : GYRE_OK);
        free(replies[i].body);
    }
}

/* Callers of two collections from many threads, each answer as it is alone: for the sanitizers, and for jobs that got lost. */
struct crowd {
    pthread_t thread;
    struct world *world;
    struct probed probed;
    const struct reply *alone;
    size_t refused;
};

static void *ask_often(void *arg)
{
    struct crowd *crowd = arg;
    for (size_t i = 0; i < 60; i++) {
        struct reply reply;
        begin(crowd->world, &crowd->probed.scan, soon(), &reply);
        fixture_wait(&reply.answer);
        if (reply.answer.status == GYRE_OK) {
            assert_int_equal(reply.bytes, crowd->alone->bytes);
            assert_memory_equal(reply.body, crowd->alone->body, reply.bytes);
        } else {
            assert_int_equal(reply.answer.status, GYRE_EXHAUSTED);
            crowd->refused++;
        }
        free(reply.body);
    }
    return NULL;
}

static void a_crowd_is_served_to_the_last(void **state)
{
    struct world *world = *state;
    enum { CROWD = 12 };
    struct crowd crowds[CROWD];
    struct reply alone[CROWD];
    stop(world);
    world->scan_threads = 3;
    start(world);
    for (size_t i = 0; i < CROWD; i++) {
        crowds[i] = (struct crowd){.world = world, .alone = &alone[i]};
        make_probed(&crowds[i].probed, world->codebook, i, 1 + i % 2, 1 + i % LISTS);
        if (i % 4 == 3)
            crowds[i].probed.scan.message.collection_id = COLLECTION + 1;
        begin(world, &crowds[i].probed.scan, soon(), &alone[i]);
        await(&alone[i]);
    }
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&crowds[i].thread, NULL, ask_often, &crowds[i]), 0);
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(crowds[i].thread, NULL);
        free(alone[i].body);
    }
    assert_int_equal(metric(world, "gyre_shard_scan_queue_length"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_probed_lists_are_scanned, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_alone_answers_with_exact_distances, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(wrong_probes_are_refused_by_name, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(callers_that_share_a_pass_get_the_bytes_they_would_get_alone, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(what_asks_for_something_else_goes_by_itself, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_wrong_or_late_leaves_the_others_alone, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_whose_caller_is_gone_is_not_run, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(a_full_line_refuses_the_flood_and_not_the_others, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(a_crowd_is_served_to_the_last, set_up_narrow, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
