#include "rpc_fixture.h"

#include "grpc/health/v1/health.pb-c.h"
#include "gyre/v1/gyre.pb-c.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { POINTS_OF_A_LARGE_REQUEST = 20000 }; /* of 2 bytes at least; with 40 floats each far above the fixture's limit */

struct world {
    struct fixture fixture;
    gyre_client *client;
};

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    gyre_error err;
    assert_non_null(world);
    if (fixture_open(&world->fixture, "127.0.0.1:0", 2, &err) != GYRE_OK ||
        gyre_client_open(&world->client, gy_rpc_server_address(world->fixture.server), &err) != GYRE_OK)
        fail_msg("%s", err.text);
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    gyre_client_close(world->client);
    if (world->fixture.server)
        fixture_close(&world->fixture, GY_SECOND_NS);
    free(world);
    return 0;
}

static int64_t soon(void)
{
    return gy_now_ns() + 60 * GY_SECOND_NS; /* long enough for a busy machine; nothing here waits it out */
}

static gyre_status upsert_until(struct world *world, const char *collection, int64_t deadline_ns, uint64_t *upserted, gyre_error *err)
{
    Gyre__V1__UpsertRequest request = GYRE__V1__UPSERT_REQUEST__INIT;
    Gyre__V1__Point point = GYRE__V1__POINT__INIT;
    Gyre__V1__Point *points[] = {&point, &point, &point};
    request.collection = (char *)(uintptr_t)collection;
    request.points = points;
    request.n_points = 3;
    Gyre__V1__UpsertReply *reply = NULL;
    gyre_status status = gyre_client_call(world->client, "/gyre.v1.Points/Upsert", &request.base,
                                          &gyre__v1__upsert_reply__descriptor, &reply, deadline_ns, err);
    if (status == GYRE_OK && upserted)
        *upserted = reply->upserted;
    gy_wire_free(reply);
    return status;
}

static gyre_status upsert(struct world *world, const char *collection, gyre_error *err)
{
    return upsert_until(world, collection, soon(), NULL, err);
}

static void a_unary_call_brings_its_reply(void **state)
{
    gyre_error err = {0};
    uint64_t upserted = 0;
    if (upsert_until(*state, "ok", soon(), &upserted, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(upserted, 3);
}

static void every_status_comes_back_with_its_sentence(void **state)
{
    gyre_error err;
    for (int status = GYRE_CANCELLED; status <= GYRE_UNAUTHENTICATED; status++) {
        char collection[80];
        snprintf(collection, sizeof collection, "fail:%d:field 'dim' is %d: g\xc3\xa4nse %% \"", status, status);
        assert_int_equal(upsert(*state, collection, &err), status);
        assert_string_equal(err.text, strchr(collection + 5, ':') + 1);
    }
}

static void a_sentence_cut_inside_a_character_is_still_text(void **state)
{
    gyre_error err;
    char collection[1000] = "fail:3:x";
    for (size_t i = strlen(collection); i + 2 < sizeof collection; i += 2)
        memcpy(collection + i, "\xc3\xa4", 3);
    assert_int_equal(upsert(*state, collection, &err), GYRE_INVALID);
    assert_int_equal(strlen(err.text), GYRE_ERROR_TEXT_BYTES - 1);
    assert_true(err.text[0] == 'x' && strcmp(err.text + 509, "\xc3\xa4") == 0);
}

static void a_deadline_is_kept_and_seen_by_the_server(void **state)
{
    struct world *world = *state;
    gyre_error err;
    int64_t begin_ns, end_ns, wait_ns = 100 * GY_MILLISECOND_NS;
    size_t held;
    assert_int_equal(upsert(world, "ok", &err), GYRE_OK); /* the connection takes no part of it */
    do { /* again, with twice the time, if none of it was left when the server heard of the call */
        begin_ns = gy_now_ns(), end_ns = begin_ns + wait_ns, wait_ns *= 2;
        assert_int_equal(upsert_until(world, "hold", end_ns, NULL, &err), GYRE_DEADLINE);
        assert_true(gy_now_ns() - end_ns >= -GY_MILLISECOND_NS);
        pthread_mutex_lock(&world->fixture.mu);
        held = world->fixture.held_count;
        pthread_mutex_unlock(&world->fixture.mu);
    } while (held == 0);
    /* What is left is sent, so the server's deadline is later by the way there: at most by all that has passed since. */
    int64_t off_ns = gy_rpc_deadline_ns(world->fixture.held[0]) - end_ns;
    assert_true(off_ns > -50 * GY_MILLISECOND_NS && off_ns < gy_now_ns() - begin_ns + 50 * GY_MILLISECOND_NS);
    while (!gy_rpc_cancelled(world->fixture.held[0])) /* it has no event of its own: handlers ask between steps of work */
        nanosleep(&(struct timespec){.tv_nsec = GY_MILLISECOND_NS}, NULL);
    fixture_hold_nothing(&world->fixture, GYRE_OK);
}

static void a_deadline_that_has_passed_fails_at_once(void **state)
{
    gyre_error err;
    assert_int_equal(upsert_until(*state, "ok", gy_now_ns() - GY_SECOND_NS, NULL, &err), GYRE_DEADLINE);
}

static void an_unknown_method_is_unimplemented_and_named(void **state)
{
    struct world *world = *state;
    gyre_error err;
    Gyre__V1__CountRequest request = GYRE__V1__COUNT_REQUEST__INIT;
    Gyre__V1__CountReply *reply = NULL;
    assert_int_equal(gyre_client_call(world->client, "/gyre.v1.Points/Guess", &request.base, &gyre__v1__count_reply__descriptor,
                                      &reply, soon(), &err),
                     GYRE_UNIMPLEMENTED);
    assert_string_equal(err.text, "no method /gyre.v1.Points/Guess");
}

static void a_message_that_is_none_is_refused(void **state)
{
    struct world *world = *state;
    gyre_error err;
    Gyre__V1__DeleteRequest request = GYRE__V1__DELETE_REQUEST__INIT; /* ids where Upsert has points: a point's id is no string */
    Gyre__V1__PointId id = GYRE__V1__POINT_ID__INIT;
    Gyre__V1__PointId *ids[] = {&id};
    id.id_case = GYRE__V1__POINT_ID__ID_NUM;
    request.ids = ids;
    request.n_ids = 1;
    Gyre__V1__UpsertReply *reply = NULL;
    assert_int_equal(gyre_client_call(world->client, "/gyre.v1.Points/Upsert", &request.base, &gyre__v1__upsert_reply__descriptor,
                                      &reply, soon(), &err),
                     GYRE_INVALID);
    assert_non_null(strstr(err.text, "gyre.v1.UpsertRequest"));
}

/* A request of n points; unpack-able, free its arrays by free(points[0]) and free(points). */
static Gyre__V1__Point **make_points(size_t n)
{
    static float vector[40];
    Gyre__V1__Point *points = calloc(n, sizeof *points);
    Gyre__V1__Point **list = calloc(n, sizeof *list);
    assert_true(points && list);
    for (size_t i = 0; i < n; i++) {
        gyre__v1__point__init(&points[i]);
        points[i].vector = vector;
        points[i].n_vector = 40;
        list[i] = &points[i];
    }
    return list;
}

static void free_points(Gyre__V1__Point **list)
{
    free(list[0]);
    free(list);
}

static void an_oversized_request_is_refused_with_the_limit(void **state)
{
    struct world *world = *state;
    gyre_error err;
    Gyre__V1__UpsertRequest request = GYRE__V1__UPSERT_REQUEST__INIT;
    request.collection = "ok";
    request.points = make_points(POINTS_OF_A_LARGE_REQUEST);
    request.n_points = POINTS_OF_A_LARGE_REQUEST;
    Gyre__V1__UpsertReply *reply = NULL;
    assert_int_equal(gyre_client_call(world->client, "/gyre.v1.Points/Upsert", &request.base, &gyre__v1__upsert_reply__descriptor,
                                      &reply, soon(), &err),
                     GYRE_EXHAUSTED);
    assert_non_null(strstr(err.text, "262144"));
    free_points(request.points);
    assert_int_equal(upsert(world, "ok", &err), GYRE_OK); /* the connection lives on */
}

static void a_large_reply_comes_whole(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    enum { IDS = 300 }; /* each with a payload of 30 kB: 9 MB, above gRPC's default of 4 MB */
    Gyre__V1__PointId id = GYRE__V1__POINT_ID__INIT;
    Gyre__V1__PointId *ids[IDS];
    for (size_t i = 0; i < IDS; i++)
        ids[i] = &id;
    Gyre__V1__GetRequest request = GYRE__V1__GET_REQUEST__INIT;
    request.ids = ids;
    request.n_ids = IDS;
    Gyre__V1__GetReply *reply = NULL;
    if (gyre_client_call(world->client, "/gyre.v1.Points/Get", &request.base, &gyre__v1__get_reply__descriptor, &reply, soon(),
                         &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(reply->n_points, IDS);
    assert_int_equal(strlen(reply->points[IDS - 1]->payload), 100 * IDS + 12);
    gy_wire_free(reply);
}

/* ---- streams ---- */

static gyre_stream *open_stream(struct world *world)
{
    gyre_stream *stream = NULL;
    gyre_error err = {0};
    if (gyre_stream_open(&stream, world->client, "/gyre.v1.Points/Import", soon(), &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return stream;
}

static gyre_status send_points(gyre_stream *stream, const char *collection, size_t n, gyre_error *err)
{
    Gyre__V1__ImportRequest request = GYRE__V1__IMPORT_REQUEST__INIT;
    request.collection = (char *)(uintptr_t)collection;
    request.points = make_points(n);
    request.n_points = n;
    gyre_status status = gyre_stream_send(stream, &request.base, err);
    free_points(request.points);
    return status;
}

static gyre_status finish_stream(gyre_stream *stream, uint64_t *imported, gyre_error *err)
{
    Gyre__V1__ImportReply *reply = NULL;
    gyre_status status = gyre_stream_finish(stream, &gyre__v1__import_reply__descriptor, &reply, err);
    if (status == GYRE_OK)
        *imported = reply->imported;
    gy_wire_free(reply);
    gyre_stream_close(stream);
    return status;
}

static void a_stream_is_read_to_its_end(void **state)
{
    gyre_error err = {0};
    uint64_t imported = 0;
    gyre_stream *stream = open_stream(*state);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(send_points(stream, "words", 200, &err), GYRE_OK);
    if (finish_stream(stream, &imported, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(imported, 20000);
}

static void an_empty_stream_has_a_reply_too(void **state)
{
    gyre_error err = {0};
    uint64_t imported = 1;
    assert_int_equal(finish_stream(open_stream(*state), &imported, &err), GYRE_OK);
    assert_int_equal(imported, 0);
}

static void a_stream_the_server_refuses_stops_with_its_sentence(void **state)
{
    gyre_error err = {0};
    gyre_stream *stream = open_stream(*state);
    gyre_status status = send_points(stream, "fail:9:collection 'words' is being dropped", 1, &err);
    for (size_t i = 0; i < 100000 && status == GYRE_OK; i++) /* until the refusal has come back */
        status = send_points(stream, "words", 10, &err);
    assert_int_equal(status, GYRE_PRECONDITION);
    assert_string_equal(err.text, "collection 'words' is being dropped");
    assert_int_equal(send_points(stream, "words", 10, &err), GYRE_PRECONDITION);
    uint64_t imported;
    assert_int_equal(finish_stream(stream, &imported, &err), GYRE_PRECONDITION);
}

static void an_oversized_message_ends_a_stream(void **state)
{
    gyre_error err = {0};
    gyre_stream *stream = open_stream(*state);
    uint64_t imported;
    gyre_status status = send_points(stream, "words", POINTS_OF_A_LARGE_REQUEST, &err);
    gyre_status end = finish_stream(stream, &imported, &err);
    assert_true(status == GYRE_OK || status == GYRE_EXHAUSTED);
    assert_int_equal(end, GYRE_EXHAUSTED);
}

static void a_client_that_leaves_is_no_end_of_stream(void **state)
{
    struct world *world = *state;
    enum { STREAMS = 100 };
    gyre_error err = {0};
    for (size_t i = 0; i < STREAMS; i++) {
        gyre_stream *stream = open_stream(world);
        assert_int_equal(send_points(stream, "words", 10, &err), GYRE_OK);
        fixture_wait(&world->fixture, &world->fixture.streams_begun, i + 1);
        gyre_stream_close(stream);
    }
    fixture_wait(&world->fixture, &world->fixture.streams_gone, STREAMS);
    assert_int_equal(world->fixture.streams_ended, 0);
}

/* ---- health ---- */

static gyre_status check_health(struct world *world, const char *service, int *serving, gyre_error *err)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    Grpc__Health__V1__HealthCheckResponse *reply = NULL;
    request.service = (char *)(uintptr_t)service;
    gyre_status status = gyre_client_call(world->client, "/grpc.health.v1.Health/Check", &request.base,
                                          &grpc__health__v1__health_check_response__descriptor, &reply, soon(), err);
    if (status == GYRE_OK)
        *serving = (int)reply->status;
    gy_wire_free(reply);
    return status;
}

static void health_follows_the_server(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    int serving = -1;
    assert_int_equal(check_health(world, "", &serving, &err), GYRE_OK);
    assert_int_equal(serving, GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
    gy_rpc_server_set_serving(world->fixture.server, true);
    assert_int_equal(check_health(world, "gyre.v1.Points", &serving, &err), GYRE_OK);
    assert_int_equal(serving, GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
    assert_int_equal(check_health(world, "gyre.v1.Poems", &serving, &err), GYRE_NOT_FOUND);
    assert_string_equal(err.text, "no service 'gyre.v1.Poems'");
}

/* ---- many, opening and closing ---- */

static void *call_often(void *arg)
{
    for (size_t i = 0; i < 200; i++) {
        gyre_error err;
        uint64_t upserted = 0;
        if (upsert_until(arg, "ok", soon(), &upserted, &err) != GYRE_OK || upserted != 3)
            return "failed";
    }
    return NULL;
}

static void many_threads_share_one_client(void **state)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, *state), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
}

struct held_call {
    struct world *world;
    gyre_status status;
    gyre_error err;
};

static void *call_and_be_held(void *arg)
{
    struct held_call *held = arg;
    held->status = upsert(held->world, "hold", &held->err);
    return NULL;
}

static void *close_with_grace(void *arg)
{
    gy_rpc_server_close(arg, 60 * GY_SECOND_NS);
    return NULL;
}

static void closing_lets_running_calls_finish(void **state)
{
    struct world *world = *state;
    struct held_call held = {.world = world};
    pthread_t caller;
    pthread_t closer;
    gyre_error err;
    pthread_create(&caller, NULL, call_and_be_held, &held);
    fixture_wait(&world->fixture, &world->fixture.held_count, 1);
    pthread_create(&closer, NULL, close_with_grace, world->fixture.server);
    /* The door is shut as soon as a new call is refused; the running one is not disturbed. A call that comes just while it is
     * shut may be left waiting by gRPC core, hence the short deadline and another one. */
    gyre_status status;
    do
        status = upsert_until(world, "ok", gy_now_ns() + GY_SECOND_NS, NULL, &err);
    while (status == GYRE_OK || status == GYRE_DEADLINE);
    fixture_release(&world->fixture, GYRE_OK);
    pthread_join(caller, NULL);
    pthread_join(closer, NULL);
    world->fixture.server = NULL;
    if (status != GYRE_UNAVAILABLE)
        fail_msg("%s", err.text);
    if (held.status != GYRE_OK)
        fail_msg("%s", held.err.text);
}

static void *close_at_once(void *arg)
{
    gy_rpc_server_close(arg, 0);
    return NULL;
}

static void closing_cancels_what_outlives_the_grace(void **state)
{
    struct world *world = *state;
    struct held_call held = {.world = world};
    pthread_t caller;
    pthread_t closer;
    pthread_create(&caller, NULL, call_and_be_held, &held);
    fixture_wait(&world->fixture, &world->fixture.held_count, 1);
    gyre_stream *stream = open_stream(world); /* waits for a message that never comes */
    gyre_error err = {0};
    assert_int_equal(send_points(stream, "words", 1, &err), GYRE_OK);
    fixture_wait(&world->fixture, &world->fixture.streams_begun, 1);
    pthread_create(&closer, NULL, close_at_once, world->fixture.server);
    pthread_join(caller, NULL);
    fixture_wait(&world->fixture, &world->fixture.streams_gone, 1);
    fixture_release(&world->fixture, GYRE_OK); /* the handler notices late: close waits for it */
    pthread_join(closer, NULL);
    gyre_stream_close(stream);
    world->fixture.server = NULL;
    assert_int_equal(held.status, GYRE_UNAVAILABLE);
}

static void a_port_in_use_is_refused(void **state)
{
    struct world *world = *state;
    struct fixture second;
    gyre_error err;
    assert_int_equal(fixture_open(&second, gy_rpc_server_address(world->fixture.server), 1, &err), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, gy_rpc_server_address(world->fixture.server)));
}

static void addresses_and_paths_are_checked(void **state)
{
    (void)state;
    struct fixture fixture;
    gyre_client *client = NULL;
    gy_rpc_server *server = NULL;
    gyre_error err;
    assert_int_equal(fixture_open(&fixture, "7700", 1, &err), GYRE_INVALID);
    assert_int_equal(fixture_open(&fixture, "127.0.0.1:", 1, &err), GYRE_INVALID);
    assert_int_equal(fixture_open(&fixture, "no.such.host.invalid:1", 1, &err), GYRE_UNAVAILABLE);
    assert_int_equal(gyre_client_open(&client, "127.0.0.1", &err), GYRE_INVALID);
    assert_int_equal(gyre_client_open(&client, "127.0.0.1:http", &err), GYRE_INVALID);
    const struct gy_rpc_method twice[] = {{.path = "/a.B/C"}, {.path = "/a.B/C"}};
    struct gy_rpc_server_options options = {.listen = "127.0.0.1:0", .methods = twice, .method_count = 2};
    assert_int_equal(gy_rpc_server_open(&server, &options, &err), GYRE_INVALID);
    assert_string_equal(err.text, "method /a.B/C is given twice");
    const struct gy_rpc_method bare[] = {{.path = "Search"}};
    options.methods = bare, options.method_count = 1;
    assert_int_equal(gy_rpc_server_open(&server, &options, &err), GYRE_INVALID);
    options.method_count = 0, options.descriptors = (const uint8_t *)"\x0a\x05", options.descriptors_bytes = 2;
    assert_int_equal(gy_rpc_server_open(&server, &options, &err), GYRE_CORRUPT);
}

static void a_server_that_is_not_there_is_unavailable_and_named(void **state)
{
    struct world *world = *state;
    char address[64];
    gyre_error err;
    snprintf(address, sizeof address, "%s", gy_rpc_server_address(world->fixture.server));
    fixture_close(&world->fixture, 0);
    world->fixture.server = NULL;
    assert_int_equal(upsert(world, "ok", &err), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, address));
}

static void a_client_finds_a_server_that_comes_back(void **state)
{
    struct world *world = *state;
    char address[64];
    gyre_error err = {0};
    assert_int_equal(upsert(world, "ok", &err), GYRE_OK);
    snprintf(address, sizeof address, "%s", gy_rpc_server_address(world->fixture.server));
    fixture_close(&world->fixture, 0);
    assert_int_equal(upsert(world, "ok", &err), GYRE_UNAVAILABLE);
    if (fixture_open(&world->fixture, address, 1, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    int64_t begin_ns = gy_now_ns();
    while (upsert(world, "ok", &err) != GYRE_OK && gy_now_ns() - begin_ns < 60 * GY_SECOND_NS)
        nanosleep(&(struct timespec){.tv_nsec = 10 * GY_MILLISECOND_NS}, NULL);
    assert_true(gy_now_ns() - begin_ns < 30 * GY_SECOND_NS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_unary_call_brings_its_reply),
        TEST(every_status_comes_back_with_its_sentence),
        TEST(a_sentence_cut_inside_a_character_is_still_text),
        TEST(a_deadline_is_kept_and_seen_by_the_server),
        TEST(a_deadline_that_has_passed_fails_at_once),
        TEST(an_unknown_method_is_unimplemented_and_named),
        TEST(a_message_that_is_none_is_refused),
        TEST(an_oversized_request_is_refused_with_the_limit),
        TEST(a_large_reply_comes_whole),
        TEST(a_stream_is_read_to_its_end),
        TEST(an_empty_stream_has_a_reply_too),
        TEST(a_stream_the_server_refuses_stops_with_its_sentence),
        TEST(an_oversized_message_ends_a_stream),
        TEST(a_client_that_leaves_is_no_end_of_stream),
        TEST(health_follows_the_server),
        TEST(many_threads_share_one_client),
        TEST(closing_lets_running_calls_finish),
        TEST(closing_cancels_what_outlives_the_grace),
        TEST(a_port_in_use_is_refused),
        cmocka_unit_test(addresses_and_paths_are_checked),
        TEST(a_server_that_is_not_there_is_unavailable_and_named),
        TEST(a_client_finds_a_server_that_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
