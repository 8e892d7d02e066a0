/* Two nodes in one process. */
#include "fixture.h"

#include "gyre/node/node.pb-c.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

struct pair {
    struct fx_node node;
    gy_bus *caller;
    gy_peer *peer;
    struct fx_state state;
};

static void pair_open_with(struct pair *pair, size_t node_bytes_max, size_t caller_bytes_max)
{
    fx_node_open(&pair->node, "127.0.0.1:0", "node-1", 'k', node_bytes_max, GY_BUS_VERSION);
    pair->caller = fx_caller_open('k', caller_bytes_max, GY_BUS_VERSION);
    fx_state_init(&pair->state);
    pair->peer = fx_peer(pair->caller, gy_bus_address(pair->node.bus), &pair->state);
}

static void pair_open(struct pair *pair)
{
    pair_open_with(pair, 0, 0);
}

static void pair_close(struct pair *pair)
{
    gy_peer_free(pair->peer);
    gy_bus_close(pair->caller);
    fx_node_close(&pair->node);
}

static void a_call_is_answered_with_its_bytes(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    struct fx_reply reply;
    fx_call(&reply, pair.peer, FX_ECHO, "hello", 5, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_OK);
    assert_int_equal(reply.bytes, 5);
    assert_memory_equal(reply.body, "hello", 5);
    fx_reply_free(&reply);
    assert_true(fx_wait_state(&pair.state, true));
    assert_true(gy_peer_up(pair.peer));
    fx_call(&reply, pair.peer, FX_WHO, NULL, 0, FX_SOON_MS);
    assert_string_equal((char *)reply.body, "caller");
    fx_reply_free(&reply);
    pair_close(&pair);
}

static void an_error_arrives_with_code_and_sentence(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    uint8_t body[64];
    gy_store_u32(body, GYRE_NOT_FOUND);
    memcpy(body + 4, "collection 'words' is not here", 30);
    struct fx_reply reply;
    fx_call(&reply, pair.peer, FX_FAIL, body, 34, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_NOT_FOUND);
    assert_string_equal(reply.err.text, "collection 'words' is not here");
    fx_reply_free(&reply);
    pair_close(&pair);
}

struct flood {
    struct pair *pair;
    atomic_uint next, wrong, done;
    uint32_t total;
    sem_t slots, finished;
};

struct flood_call {
    struct flood *flood;
    uint32_t number, bytes;
};

static void on_flood(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    (void)err;
    struct flood_call *call = arg;
    struct flood *flood = call->flood;
    bool right = status == GYRE_OK && bytes == call->bytes && gy_load_u32(body) == call->number;
    for (size_t i = 4; right && i < bytes; i++)
        right = body[i] == (uint8_t)(call->number * 7 + i);
    if (!right)
        atomic_fetch_add(&flood->wrong, 1);
    free(call);
    uint32_t total = flood->total;
    bool last = atomic_fetch_add(&flood->done, 1) + 1 == total;
    sem_post(&flood->slots);
    if (last)
        sem_post(&flood->finished);
}

static void many_calls_at_once_get_their_own_answers(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    struct flood flood = {.pair = &pair, .total = 3000};
    sem_init(&flood.slots, 0, 64);
    sem_init(&flood.finished, 0, 0);
    uint8_t *body = malloc(20000);
    for (uint32_t n = 0; n < flood.total; n++) {
        sem_wait(&flood.slots);
        struct flood_call *call = malloc(sizeof *call);
        *call = (struct flood_call){.flood = &flood, .number = n, .bytes = 4 + n * 37 % 19000};
        gy_store_u32(body, n);
        for (size_t i = 4; i < call->bytes; i++)
            body[i] = (uint8_t)(n * 7 + i);
        gy_peer_call(pair.peer, FX_ECHO, body, call->bytes, gy_now_ns() + 60 * GY_SECOND_NS, on_flood, call);
    }
    sem_wait(&flood.finished);
    assert_int_equal(atomic_load(&flood.wrong), 0);
    free(body);
    pair_close(&pair);
    sem_destroy(&flood.slots);
    sem_destroy(&flood.finished);
}

static void another_cluster_key_is_refused_by_name(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    gy_bus *stranger = fx_caller_open('x', 0, GY_BUS_VERSION);
    gy_peer *peer = fx_peer(stranger, gy_bus_address(pair.node.bus), NULL);
    char expected[100];
    snprintf(expected, sizeof expected, "cluster key differs from that of %s", gy_bus_address(pair.node.bus));
    for (int i = 0; i < 3; i++) { /* every time, not only the first */
        struct fx_reply reply;
        fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS);
        assert_int_equal(reply.status, GYRE_UNAUTHENTICATED);
        assert_string_equal(reply.err.text, expected);
        fx_reply_free(&reply);
    }
    assert_false(gy_peer_up(peer));
    gy_peer_free(peer);
    gy_bus_close(stranger);
    pair_close(&pair);
}

static void another_protocol_version_is_refused_naming_both(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    gy_bus *future = fx_caller_open('k', 0, GY_BUS_VERSION + 8);
    gy_peer *peer = fx_peer(future, gy_bus_address(pair.node.bus), NULL);
    struct fx_reply reply;
    fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_PRECONDITION);
    assert_non_null(strstr(reply.err.text, "speaks bus protocol version 1, this node version 9"));
    fx_reply_free(&reply);
    gy_peer_free(peer);
    gy_bus_close(future);
    pair_close(&pair);
}

static void a_peer_that_comes_up_late_gets_the_calls_that_wait(void **state)
{
    (void)state;
    struct fx_node node;
    char address[64];
    int reserved = fx_reserve(address);
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    struct fx_state watch;
    fx_state_init(&watch);
    gy_peer *peer = fx_peer(caller, address, &watch);
    struct fx_reply reply;
    fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_UNAVAILABLE);
    assert_non_null(strstr(reply.err.text, address));
    assert_in_range(reply.took_ns, 0, FX_SOON_NS / 2);
    fx_reply_free(&reply);
    int64_t fastest_ns = GY_NEVER; /* a deadline before that is kept; one try of many may be held up, not all of them */
    for (int i = 0; i < 50 && fastest_ns >= GY_PEER_DOWN_WAIT_NS; i++) {
        fx_call(&reply, peer, FX_ECHO, "a", 1, 100);
        if (reply.status != GYRE_DEADLINE) { /* which says that it had passed before the peer was asked */
            assert_int_equal(reply.status, GYRE_UNAVAILABLE);
            assert_true(reply.took_ns >= 90 * GY_MILLISECOND_NS);
            fastest_ns = reply.took_ns < fastest_ns ? reply.took_ns : fastest_ns;
        }
        fx_reply_free(&reply);
    }
    assert_true(fastest_ns < GY_PEER_DOWN_WAIT_NS);
    assert_false(gy_peer_up(peer));

    fx_node_open(&node, address, "late", 'k', 0, GY_BUS_VERSION);
    assert_true(fx_wait_state(&watch, true));
    fx_call(&reply, peer, FX_ECHO, "b", 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_OK);
    fx_reply_free(&reply);
    gy_peer_free(peer);
    gy_bus_close(caller);
    fx_node_close(&node);
    close(reserved);
}

static void a_new_peer_is_not_down_while_it_is_greeted_for_the_first_time(void **state)
{
    (void)state;
    char address[64];
    int silent = fx_reserve(address); /* takes the connection and says nothing */
    assert_int_equal(listen(silent, 8), 0);
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    gy_peer *peer = fx_peer(caller, address, NULL);
    struct fx_reply reply;
    fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS); /* until the greeting has failed, and as long as for any that is down */
    assert_int_equal(reply.status, GYRE_UNAVAILABLE);
    assert_in_range(reply.took_ns, GY_PEER_DOWN_WAIT_NS + GY_SECOND_NS, FX_SOON_NS / 2);
    fx_reply_free(&reply);
    gy_peer_free(peer);
    gy_bus_close(caller);
    close(silent);
}

static void a_node_that_restarted_is_greeted_again_unasked(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    char address[64];
    strcpy(address, gy_bus_address(pair.node.bus));
    struct fx_reply reply;
    for (int i = 0; i < 3; i++) {
        fx_call(&reply, pair.peer, FX_ECHO, "a", 1, FX_SOON_MS);
        assert_int_equal(reply.status, GYRE_OK);
        fx_reply_free(&reply);
        fx_node_close(&pair.node);
        assert_true(fx_wait_state(&pair.state, false));
        fx_node_open(&pair.node, address, "node-1", 'k', 0, GY_BUS_VERSION);
        assert_true(fx_wait_state(&pair.state, true));
    }
    pair_close(&pair);
}

static void messages_over_the_limit_are_errors_both_ways(void **state)
{
    (void)state;
    struct pair pair;
    pair_open_with(&pair, 10000, 20000);
    uint8_t *body = calloc(1, 30000);
    struct fx_reply reply;
    fx_call(&reply, pair.peer, FX_ECHO, body, 10000, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_OK);
    assert_int_equal(reply.bytes, 10000);
    fx_reply_free(&reply);
    fx_call(&reply, pair.peer, FX_ECHO, body, 10001, FX_SOON_MS); /* over the node's limit, which it told us */
    assert_int_equal(reply.status, GYRE_EXHAUSTED);
    assert_non_null(strstr(reply.err.text, "request of 10001 bytes"));
    assert_non_null(strstr(reply.err.text, "limit is 10000"));
    fx_reply_free(&reply);
    fx_call(&reply, pair.peer, FX_ECHO, body, 20001, FX_SOON_MS); /* over our own */
    assert_int_equal(reply.status, GYRE_EXHAUSTED);
    assert_non_null(strstr(reply.err.text, "limit is 20000"));
    fx_reply_free(&reply);
    gy_store_u32(body, 10001);
    fx_call(&reply, pair.peer, FX_BIG, body, 4, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_EXHAUSTED);
    assert_string_equal(reply.err.text, "answer of 10001 bytes; the limit is 10000");
    fx_reply_free(&reply);
    fx_call(&reply, pair.peer, FX_ECHO, body, 4, FX_SOON_MS); /* and the connection lives on */
    assert_int_equal(reply.status, GYRE_OK);
    fx_reply_free(&reply);
    free(body);
    pair_close(&pair);
}

static void a_large_message_travels_whole(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    size_t bytes = 24 << 20;
    uint8_t *body = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        body[i] = (uint8_t)(i * 2654435761u >> 24);
    struct fx_reply reply;
    fx_call(&reply, pair.peer, FX_ECHO, body, bytes, 30000);
    assert_int_equal(reply.status, GYRE_OK);
    assert_int_equal(reply.bytes, bytes);
    assert_memory_equal(reply.body, body, bytes);
    fx_reply_free(&reply);
    free(body);
    pair_close(&pair);
}

static void a_deadline_ends_a_call_that_is_not_answered(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    assert_true(fx_wait_state(&pair.state, true));
    struct fx_reply reply;
    do { /* again, if it came to the node after its deadline: then nothing is held */
        fx_call(&reply, pair.peer, FX_HOLD, "a", 1, 150);
        assert_int_equal(reply.status, GYRE_DEADLINE);
        assert_in_range(reply.took_ns, 149 * GY_MILLISECOND_NS, FX_SOON_NS / 2);
        fx_reply_free(&reply);
    } while (fx_node_held(&pair.node) == 0);
    fx_call(&reply, pair.peer, FX_ECHO, "a", 1, -1);
    assert_int_equal(reply.status, GYRE_DEADLINE);
    fx_reply_free(&reply);
    fx_node_hold_nothing(&pair.node); /* the late answer reaches nobody */
    fx_call(&reply, pair.peer, FX_ECHO, "b", 1, FX_SOON_MS);
    assert_memory_equal(reply.body, "b", 1);
    fx_reply_free(&reply);
    pair_close(&pair);
}

static void freeing_a_peer_fails_its_outstanding_calls(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    struct fx_reply replies[20];
    for (int i = 0; i < 20; i++)
        fx_start(&replies[i], pair.peer, FX_HOLD, "a", 1, FX_SOON_MS);
    fx_node_wait_held(&pair.node, 20);
    assert_false(gy_bus_request_abandoned(pair.node.held[0]));
    gy_peer_free(pair.peer); /* returns when every callback has run */
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sem_trywait(&replies[i].done), 0);
        assert_int_equal(replies[i].status, GYRE_UNAVAILABLE);
        fx_reply_free(&replies[i]);
    }
    for (int i = 0; i < 20; i++) /* the node learns by itself that nobody waits, or this test runs into its time limit */
        while (!gy_bus_request_abandoned(pair.node.held[i]))
            sched_yield();
    gy_bus_close(pair.caller);
    fx_node_release(&pair.node);
    fx_node_close(&pair.node);
}

static void *release_later(void *arg)
{
    struct fx_node *node = arg;
    fx_node_wait_held(node, 5);
    fx_node_release(node);
    return NULL;
}

static void closing_a_node_waits_for_its_answers(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    struct fx_reply replies[5];
    for (int i = 0; i < 5; i++)
        fx_start(&replies[i], pair.peer, FX_HOLD, "a", 1, FX_SOON_MS);
    fx_node_wait_held(&pair.node, 5);
    pthread_t thread;
    pthread_create(&thread, NULL, release_later, &pair.node);
    fx_node_close(&pair.node);
    pthread_join(thread, NULL);
    for (int i = 0; i < 5; i++) {
        fx_wait(&replies[i]);
        assert_int_equal(replies[i].status, GYRE_OK);
        fx_reply_free(&replies[i]);
    }
    gy_peer_free(pair.peer);
    gy_bus_close(pair.caller);
}

/* A caller that hangs up as soon as it has its answer, while the node may still be told that it is written. */
static void *call_and_hang_up(void *arg)
{
    const struct pair *pair = arg;
    for (int i = 0; i < 400; i++) {
        struct fx_reply replies[4];
        gy_peer *peer = fx_peer(pair->caller, gy_bus_address(pair->node.bus), NULL);
        for (int k = 0; k < 4; k++)
            fx_start(&replies[k], peer, FX_ECHO, "a", 1, FX_SOON_MS);
        for (int k = 0; k < i % 5; k++)
            fx_wait(&replies[k]);
        gy_peer_free(peer);
        for (int k = 0; k < 4; k++) {
            if (k >= i % 5)
                fx_wait(&replies[k]);
            assert_true(replies[k].status == GYRE_OK || replies[k].status == GYRE_UNAVAILABLE);
            fx_reply_free(&replies[k]);
        }
    }
    return NULL;
}

static void answers_may_race_hang_ups(void **state)
{
    (void)state;
    struct pair pair;
    pthread_t threads[8];
    pair_open(&pair);
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, call_and_hang_up, &pair);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pair_close(&pair);
}

static void calls_beyond_the_limit_are_refused_at_once(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair);
    struct fx_reply *replies = calloc(GY_PEER_OUTSTANDING_MAX + 1, sizeof *replies);
    for (int i = 0; i <= GY_PEER_OUTSTANDING_MAX; i++)
        fx_start(&replies[i], pair.peer, FX_HOLD, "a", 1, FX_SOON_MS);
    assert_int_equal(sem_trywait(&replies[GY_PEER_OUTSTANDING_MAX].done), 0);
    assert_int_equal(replies[GY_PEER_OUTSTANDING_MAX].status, GYRE_EXHAUSTED);
    fx_node_hold_nothing(&pair.node);
    for (int i = 0; i < GY_PEER_OUTSTANDING_MAX; i++) {
        fx_wait(&replies[i]);
        assert_int_equal(replies[i].status, GYRE_OK);
    }
    for (int i = 0; i <= GY_PEER_OUTSTANDING_MAX; i++)
        fx_reply_free(&replies[i]);
    free(replies);
    pair_close(&pair);
}

static void a_gather_reports_each_peer_on_its_own(void **state)
{
    (void)state;
    struct pair pair;
    pair_open_with(&pair, 3000, 0);
    gy_peer *nobody = fx_peer(pair.caller, "127.0.0.1:1", NULL);
    Gyre__Node__Report small = GYRE__NODE__REPORT__INIT, large = GYRE__NODE__REPORT__INIT;
    char *name = calloc(1, 4001);
    memset(name, 'n', 4000);
    small.node = "shard-1";
    large.node = name;
    assert_true(fx_wait_state(&pair.state, true));
    enum { COUNT = 20 }; /* more than gather keeps on its stack */
    struct gy_gather_call calls[COUNT];
    for (int i = 0; i < COUNT; i++)
        calls[i] = (struct gy_gather_call){.peer = i == 7 ? nobody : pair.peer, .type = FX_ECHO,
                                           .request = i == 9 ? &large.base : &small.base,
                                           .reply_type = &gyre__node__report__descriptor};
    calls[11].type = 999;
    gy_gather(calls, COUNT, gy_now_ns() + FX_SOON_NS);
    for (int i = 0; i < COUNT; i++) {
        gyre_status expected = i == 7 ? GYRE_UNAVAILABLE : i == 9 ? GYRE_EXHAUSTED : i == 11 ? GYRE_UNIMPLEMENTED : GYRE_OK;
        assert_int_equal(calls[i].status, expected);
        if (expected == GYRE_OK)
            assert_string_equal(((Gyre__Node__Report *)calls[i].reply)->node, "shard-1");
        else
            assert_non_null(strstr(calls[i].err.text, gy_peer_address(calls[i].peer)));
        gy_wire_free(calls[i].reply);
    }
    gy_gather(calls, 0, gy_now_ns());

    Gyre__Node__Report *back;
    gyre_error err;
    assert_int_equal(gy_call(pair.peer, FX_ECHO, &small.base, &gyre__node__report__descriptor, &back,
                             gy_now_ns() + FX_SOON_NS, &err), GYRE_OK);
    assert_string_equal(back->node, "shard-1");
    gy_wire_free(back);
    assert_int_equal(gy_call(pair.peer, FX_WHO, &small.base, &gyre__node__report__descriptor, &back,
                             gy_now_ns() + FX_SOON_NS, &err), GYRE_INVALID); /* "caller" is no Report */
    assert_non_null(strstr(err.text, gy_peer_address(pair.peer)));
    free(name);
    gy_peer_free(nobody);
    pair_close(&pair);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    gy_bus *bus;
    gy_peer *peer;
    gyre_error err;
    uint8_t key[GY_BUS_KEY_BYTES] = {1};
    struct gy_bus_options options = {.node = "n"};
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "cluster key"));
    options.cluster_key = key;
    options.node = "12345678901234567890123456789012345678901234567890123456789012345";
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "node name"));
    options.node = "n";
    options.requests_max = 16385;
    options.listen = "127.0.0.1:0";
    options.on_request = (void (*)(void *, gy_bus_request *))abort;
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "requests_max is 16385; the limit is 16384"));
    options.requests_max = 0;
    options.on_request = NULL;
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "on_request"));

    struct fx_node node;
    fx_node_open(&node, "127.0.0.1:0", "n", 'k', 0, GY_BUS_VERSION);
    options.listen = gy_bus_address(node.bus);
    options.on_request = (void (*)(void *, gy_bus_request *))abort;
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, gy_bus_address(node.bus)));
    static const char *const nonsense[] = {"", "host", ":1", "host:", "host:x", "host:65536", "a/b:1", "a b:1"};
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++)
        assert_int_equal(gy_peer_new(&peer, node.bus, nonsense[i], NULL, NULL, &err), GYRE_INVALID);
    fx_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_answered_with_its_bytes),
        cmocka_unit_test(an_error_arrives_with_code_and_sentence),
        cmocka_unit_test(many_calls_at_once_get_their_own_answers),
        cmocka_unit_test(another_cluster_key_is_refused_by_name),
        cmocka_unit_test(another_protocol_version_is_refused_naming_both),
        cmocka_unit_test(a_peer_that_comes_up_late_gets_the_calls_that_wait),
        cmocka_unit_test(a_new_peer_is_not_down_while_it_is_greeted_for_the_first_time),
        cmocka_unit_test(a_node_that_restarted_is_greeted_again_unasked),
        cmocka_unit_test(messages_over_the_limit_are_errors_both_ways),
        cmocka_unit_test(a_large_message_travels_whole),
        cmocka_unit_test(a_deadline_ends_a_call_that_is_not_answered),
        cmocka_unit_test(freeing_a_peer_fails_its_outstanding_calls),
        cmocka_unit_test(closing_a_node_waits_for_its_answers),
        cmocka_unit_test(answers_may_race_hang_ups),
        cmocka_unit_test(calls_beyond_the_limit_are_refused_at_once),
        cmocka_unit_test(a_gather_reports_each_peer_on_its_own),
        cmocka_unit_test(wrong_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
