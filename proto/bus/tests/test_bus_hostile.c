/* Frames that no honest node sends, both ways: a bare REQ socket against a node, a bare REP socket against a caller. */
#include "fixture.h"
#include "sessions.h"

#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

static struct gy_bus_keys cluster_keys(void)
{
    uint8_t cluster_key[GY_SEAL_KEY_BYTES];
    memset(cluster_key, 'k', sizeof cluster_key);
    struct gy_bus_keys keys;
    gy_bus_keys_init(&keys, cluster_key);
    return keys;
}

static const struct gy_self BARE = {.version = GY_BUS_VERSION, .node = "bare", .message_bytes_max = 1 << 20};

/* A caller by hand. */
struct bare {
    struct fx_node node;
    nng_socket socket;
    struct gy_session_keys keys;
    uint64_t session, counter;
    uint8_t answer[4096];
    size_t answer_bytes;
    struct gy_frame frame; /* of the answer */
};

/* Sends bytes, reads the answer's frame. */
static void exchange(struct bare *bare, const void *bytes, size_t count)
{
    nng_msg *msg;
    assert_int_equal(nng_msg_alloc(&msg, 0), 0);
    assert_int_equal(nng_msg_append(msg, bytes, count), 0);
    assert_int_equal(nng_sendmsg(bare->socket, msg, 0), 0);
    assert_int_equal(nng_recvmsg(bare->socket, &msg, 0), 0);
    bare->answer_bytes = nng_msg_len(msg);
    assert_in_range(bare->answer_bytes, 1, sizeof bare->answer);
    memcpy(bare->answer, nng_msg_body(msg), bare->answer_bytes);
    nng_msg_free(msg);
    assert_int_equal(gy_frame_decode(&bare->frame, bare->answer, bare->answer_bytes, GY_BUS_VERSION, NULL), GYRE_OK);
}

static void shake_hands(struct bare *bare)
{
    struct gy_bus_keys keys = cluster_keys();
    struct gy_handshake handshake;
    struct gy_hello theirs;
    gy_handshake_begin(&handshake, &keys, &BARE);
    exchange(bare, handshake.hello, handshake.hello_bytes);
    assert_int_equal(bare->frame.kind, GY_FRAME_HELLO_REPLY);
    assert_int_equal(gy_handshake_finish(&handshake, &keys, bare->answer, bare->answer_bytes, &bare->keys, &theirs, NULL), GYRE_OK);
    assert_string_equal(theirs.node, "node-1");
    bare->session = bare->frame.session;
    bare->counter = 0;
}

static int bare_open(void **state)
{
    struct bare *bare = calloc(1, sizeof *bare);
    fx_node_open(&bare->node, "127.0.0.1:0", "node-1", 'k', 0, GY_BUS_VERSION);
    char url[GY_BUS_URL_BYTES];
    if (gy_bus_url(url, gy_bus_address(bare->node.bus), NULL) != GYRE_OK || nng_req0_open(&bare->socket) != 0 ||
        nng_socket_set_ms(bare->socket, NNG_OPT_RECVTIMEO, 5000) != 0 || nng_dial(bare->socket, url, NULL, 0) != 0)
        return 1;
    shake_hands(bare);
    *state = bare;
    return 0;
}

static int bare_close(void **state)
{
    struct bare *bare = *state;
    nng_close(bare->socket);
    fx_node_close(&bare->node);
    free(bare);
    return 0;
}

enum { MARK_BYTES = GY_FRAME_BODY_AT + 10 };

/* A sealed request to count a mark. */
static void mark(struct bare *bare, uint8_t out[MARK_BYTES], uint64_t counter, int64_t deadline_ns)
{
    struct gy_frame frame = {.version = GY_BUS_VERSION, .kind = GY_FRAME_REQUEST, .session = bare->session, .counter = counter};
    struct gy_request_head head = {.request_id = counter, .deadline_ns = deadline_ns, .type = FX_MARK};
    memset(out, 'm', MARK_BYTES);
    gy_frame_encode(out, &frame);
    gy_request_head_encode(out + GY_FRAME_SEALED_AT, &head);
    gy_seal(out, MARK_BYTES, bare->keys.request);
}

static void assert_refused(struct bare *bare, enum gy_refusal why)
{
    assert_int_equal(bare->frame.kind, GY_FRAME_REFUSAL);
    assert_int_equal(bare->frame.refusal, why);
}

static uint32_t marks(struct bare *bare)
{
    pthread_mutex_lock(&bare->node.mu);
    uint32_t count = bare->node.marks;
    pthread_mutex_unlock(&bare->node.mu);
    return count;
}

static void a_request_is_executed_once_however_often_it_is_sent(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, GY_NEVER);
    exchange(bare, request, sizeof request);
    assert_int_equal(bare->frame.kind, GY_FRAME_REPLY);
    assert_int_equal(bare->frame.counter, 1);
    assert_true(gy_unseal(bare->answer, bare->answer_bytes, bare->keys.reply));
    for (int i = 0; i < 3; i++) {
        exchange(bare, request, sizeof request);
        assert_refused(bare, GY_REFUSED_REPLAY);
    }
    mark(bare, request, 10000, GY_NEVER);
    exchange(bare, request, sizeof request);
    assert_int_equal(bare->frame.kind, GY_FRAME_REPLY);
    mark(bare, request, 2, GY_NEVER); /* new, but too old to tell */
    exchange(bare, request, sizeof request);
    assert_refused(bare, GY_REFUSED_REPLAY);
    assert_int_equal(marks(bare), 2);
}

static void no_changed_or_cut_request_is_executed(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, GY_NEVER);
    for (size_t i = 0; i < sizeof request; i++) {
        request[i] ^= 0x10;
        nng_msg *msg;
        assert_int_equal(nng_msg_alloc(&msg, 0), 0);
        assert_int_equal(nng_msg_append(msg, request, sizeof request), 0);
        assert_int_equal(nng_sendmsg(bare->socket, msg, 0), 0);
        assert_int_equal(nng_recvmsg(bare->socket, &msg, 0), 0);
        assert_int_equal(((uint8_t *)nng_msg_body(msg))[6], GY_FRAME_REFUSAL);
        nng_msg_free(msg);
        request[i] ^= 0x10;
    }
    for (size_t bytes = 0; bytes < sizeof request; bytes++) {
        exchange(bare, request, bytes);
        assert_refused(bare, bytes < GY_FRAME_BODY_AT ? GY_REFUSED_FRAME : GY_REFUSED_SEAL);
    }
    assert_int_equal(marks(bare), 0);
    exchange(bare, request, sizeof request); /* and none of that used its counter up */
    assert_int_equal(bare->frame.kind, GY_FRAME_REPLY);
    assert_int_equal(marks(bare), 1);
}

static void a_late_request_is_answered_without_being_executed(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, gy_now_ns() - GY_MILLISECOND_NS);
    exchange(bare, request, sizeof request);
    assert_int_equal(bare->frame.kind, GY_FRAME_REPLY);
    assert_true(gy_unseal(bare->answer, bare->answer_bytes, bare->keys.reply));
    struct gy_reply_head head;
    assert_int_equal(gy_reply_head_decode(&head, bare->answer + GY_FRAME_SEALED_AT, NULL), GYRE_OK);
    assert_int_equal(head.status, GYRE_DEADLINE);
    assert_int_equal(marks(bare), 0);
}

static void a_request_of_an_unknown_session_is_sent_back(void **state)
{
    struct bare *bare = *state;
    struct gy_bus_keys keys = cluster_keys();
    uint8_t request[MARK_BYTES], mac[GY_FRAME_MAC_BYTES];
    bare->session ^= 1;
    mark(bare, request, 1, GY_NEVER);
    exchange(bare, request, sizeof request);
    assert_refused(bare, GY_REFUSED_SESSION);
    assert_int_equal(bare->answer_bytes, sizeof request + GY_FRAME_MAC_BYTES);
    assert_memory_equal(bare->answer + GY_FRAME_HEAD_BYTES, request + GY_FRAME_HEAD_BYTES, sizeof request - GY_FRAME_HEAD_BYTES);
    gy_refusal_mac(mac, &keys, bare->answer);
    assert_memory_equal(mac, bare->answer + sizeof request, sizeof mac);
    assert_int_equal(marks(bare), 0);
}

static void a_reply_or_a_refusal_is_no_request(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    for (uint8_t kind = 0; kind < 8; kind++) {
        if (kind == GY_FRAME_REQUEST)
            continue;
        mark(bare, request, 1, GY_NEVER);
        request[6] = kind;
        exchange(bare, request, sizeof request);
        assert_refused(bare, GY_REFUSED_FRAME);
    }
    exchange(bare, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_refused(bare, GY_REFUSED_FRAME);
    exchange(bare, "", 0);
    assert_refused(bare, GY_REFUSED_FRAME);
}

static void a_session_survives_a_flood_of_replayed_hellos(void **state)
{
    struct bare *bare = *state;
    struct gy_bus_keys keys = cluster_keys();
    struct gy_handshake handshake;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, GY_NEVER);
    exchange(bare, request, sizeof request);
    gy_handshake_begin(&handshake, &keys, &BARE);
    for (int i = 0; i < 2 * GY_SESSIONS_UNPROVEN_MAX; i++) {
        exchange(bare, handshake.hello, handshake.hello_bytes);
        assert_int_equal(bare->frame.kind, GY_FRAME_HELLO_REPLY);
    }
    mark(bare, request, 2, GY_NEVER);
    exchange(bare, request, sizeof request);
    assert_int_equal(bare->frame.kind, GY_FRAME_REPLY);
}

/* A node by hand: a thread answers every request by the rule the test gives. */
struct impostor {
    nng_socket socket;
    char address[64];
    pthread_t thread;
    struct gy_session_keys keys;
    uint64_t session;
    unsigned hellos, requests;
    uint8_t first[4096]; /* the answer to the first request */
    size_t first_bytes;
    void (*rule)(struct impostor *self, nng_msg *msg); /* msg holds the request, opened; makes it the answer */
};

/* The right answer to an opened request. */
static void answer_right(struct impostor *self, nng_msg *msg)
{
    uint8_t *data = nng_msg_body(msg);
    struct gy_request_head request;
    assert_int_equal(gy_request_head_decode(&request, data + GY_FRAME_SEALED_AT, NULL), GYRE_OK);
    struct gy_reply_head reply = {.request_id = request.request_id, .clock_ns = gy_now_ns(), .status = GYRE_OK};
    data[6] = GY_FRAME_REPLY;
    gy_reply_head_encode(data + GY_FRAME_SEALED_AT, &reply);
    gy_seal(data, nng_msg_len(msg), self->keys.reply);
}

static void answer_changed(struct impostor *self, nng_msg *msg)
{
    answer_right(self, msg);
    ((uint8_t *)nng_msg_body(msg))[nng_msg_len(msg) - 1] ^= 1;
}

static void answer_of_the_first(struct impostor *self, nng_msg *msg)
{
    answer_right(self, msg);
    if (self->requests == 1) {
        self->first_bytes = nng_msg_len(msg);
        memcpy(self->first, nng_msg_body(msg), self->first_bytes);
    }
    nng_msg_clear(msg);
    nng_msg_append(msg, self->first, self->first_bytes);
}

static void answer_echo(struct impostor *self, nng_msg *msg)
{
    uint8_t *data = nng_msg_body(msg);
    gy_seal(data, nng_msg_len(msg), self->keys.request); /* the request itself */
}

static void answer_garbage(struct impostor *self, nng_msg *msg)
{
    (void)self;
    nng_msg_clear(msg);
    nng_msg_append(msg, "hello", 5);
}

/* Pretends not to know the session, with or without the cluster key's MAC, n times. */
static void forget(struct impostor *self, nng_msg *msg, bool genuine)
{
    struct gy_bus_keys keys = cluster_keys();
    uint8_t mac[GY_FRAME_MAC_BYTES] = {0}, *data = nng_msg_body(msg);
    gy_seal(data, nng_msg_len(msg), self->keys.request);
    data[6] = GY_FRAME_REFUSAL;
    data[7] = GY_REFUSED_SESSION;
    if (genuine)
        gy_refusal_mac(mac, &keys, data);
    nng_msg_append(msg, mac, sizeof mac);
}

static void answer_forget_once(struct impostor *self, nng_msg *msg)
{
    if (self->requests == 1)
        forget(self, msg, true);
    else
        answer_right(self, msg);
}

static void answer_forget_always(struct impostor *self, nng_msg *msg)
{
    forget(self, msg, true);
}

static void answer_forge_forgetting(struct impostor *self, nng_msg *msg)
{
    forget(self, msg, false);
}

static void *impostor_run(void *arg)
{
    struct impostor *self = arg;
    struct gy_bus_keys keys = cluster_keys();
    nng_msg *msg;
    while (nng_recvmsg(self->socket, &msg, 0) == 0) {
        struct gy_frame frame;
        uint8_t *data = nng_msg_body(msg);
        assert_int_equal(gy_frame_decode(&frame, data, nng_msg_len(msg), GY_BUS_VERSION, NULL), GYRE_OK);
        if (frame.kind == GY_FRAME_HELLO) {
            uint8_t reply[GY_HELLO_BYTES_MAX];
            size_t bytes;
            struct gy_hello theirs;
            self->hellos++;
            assert_int_equal(gy_handshake_answer(&keys, &BARE, ++self->session, data, nng_msg_len(msg), reply, &bytes,
                                                 &self->keys, &theirs, NULL), GYRE_OK);
            nng_msg_clear(msg);
            nng_msg_append(msg, reply, bytes);
        } else {
            self->requests++;
            assert_true(gy_unseal(data, nng_msg_len(msg), self->keys.request));
            self->rule(self, msg);
        }
        if (nng_sendmsg(self->socket, msg, 0) != 0)
            nng_msg_free(msg);
    }
    return NULL;
}

static void impostor_call(void (*rule)(struct impostor *, nng_msg *), struct impostor *self, struct fx_reply *replies, int count)
{
    nng_listener listener;
    int port;
    *self = (struct impostor){.rule = rule};
    assert_int_equal(nng_rep0_open(&self->socket), 0);
    assert_int_equal(nng_listen(self->socket, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(self->address, sizeof self->address, "127.0.0.1:%d", port);
    pthread_create(&self->thread, NULL, impostor_run, self);
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    gy_peer *peer = fx_peer(caller, self->address, NULL);
    for (int i = 0; i < count; i++)
        fx_call(&replies[i], peer, FX_ECHO, "precious", 8, 5000);
    gy_peer_free(peer);
    gy_bus_close(caller);
    nng_close(self->socket);
    pthread_join(self->thread, NULL);
    for (int i = 0; i < count; i++)
        fx_reply_free(&replies[i]);
}

static void a_right_answer_by_hand_is_taken(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply reply;
    impostor_call(answer_right, &self, &reply, 1); /* so what follows is refused for the right reason */
    assert_int_equal(reply.status, GYRE_OK);
    assert_int_equal(reply.bytes, 8);
}

static void answers_that_are_not_sealed_for_the_call_are_refused(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply replies[2];
    impostor_call(answer_changed, &self, replies, 1);
    assert_int_equal(replies[0].status, GYRE_UNAUTHENTICATED);
    impostor_call(answer_of_the_first, &self, replies, 2);
    assert_int_equal(replies[0].status, GYRE_OK);
    assert_int_equal(replies[1].status, GYRE_UNAUTHENTICATED);
    impostor_call(answer_echo, &self, replies, 1);
    assert_int_equal(replies[0].status, GYRE_UNAUTHENTICATED);
    impostor_call(answer_garbage, &self, replies, 1);
    assert_int_equal(replies[0].status, GYRE_CORRUPT);
    assert_non_null(strstr(replies[0].err.text, self.address));
}

static void a_forgotten_session_is_opened_again_and_the_call_sent_once_more(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply reply;
    impostor_call(answer_forget_once, &self, &reply, 1);
    assert_int_equal(reply.status, GYRE_OK);
    assert_int_equal(reply.bytes, 8);
    assert_int_equal(self.hellos, 2);
    assert_int_equal(self.requests, 2);
    impostor_call(answer_forget_always, &self, &reply, 1);
    assert_int_equal(reply.status, GYRE_UNAVAILABLE);
    assert_int_equal(self.requests, 2);
}

static void a_forged_refusal_does_not_make_the_caller_send_twice(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply reply;
    impostor_call(answer_forge_forgetting, &self, &reply, 1);
    assert_int_equal(reply.status, GYRE_UNAUTHENTICATED);
    assert_int_equal(self.requests, 1);
}

#define BARE_TEST(name) cmocka_unit_test_setup_teardown(name, bare_open, bare_close)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        BARE_TEST(a_request_is_executed_once_however_often_it_is_sent),
        BARE_TEST(no_changed_or_cut_request_is_executed),
        BARE_TEST(a_late_request_is_answered_without_being_executed),
        BARE_TEST(a_request_of_an_unknown_session_is_sent_back),
        BARE_TEST(a_reply_or_a_refusal_is_no_request),
        BARE_TEST(a_session_survives_a_flood_of_replayed_hellos),
        cmocka_unit_test(a_right_answer_by_hand_is_taken),
        cmocka_unit_test(answers_that_are_not_sealed_for_the_call_are_refused),
        cmocka_unit_test(a_forgotten_session_is_opened_again_and_the_call_sent_once_more),
        cmocka_unit_test(a_forged_refusal_does_not_make_the_caller_send_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
