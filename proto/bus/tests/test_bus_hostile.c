/* Bytes that no honest node sends, both ways: a bare socket against a node, a bare listener against a caller. */
#include "fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

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

static void send_all(int fd, const void *bytes, size_t count)
{
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

/* Reads count bytes; false if the connection ended first. Fails after FX_SOON_MS of nothing. */
static bool receive_all(int fd, uint8_t *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, FX_SOON_MS), 1);
        ssize_t got = recv(fd, bytes + at, count - at, 0);
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

/* Reads one frame; false if the connection ended. */
static bool receive_frame(int fd, struct gy_frame *frame, uint8_t data[4096])
{
    if (!receive_all(fd, data, GY_FRAME_HEAD_BYTES))
        return false;
    assert_int_equal(gy_frame_decode(frame, data, GY_BUS_VERSION, 4096, NULL), GYRE_OK);
    return receive_all(fd, data + GY_FRAME_HEAD_BYTES, frame->bytes - GY_FRAME_HEAD_BYTES);
}

/* A caller by hand. */
struct bare {
    struct fx_node node;
    int fd;
    struct gy_session_keys keys;
    uint8_t data[4096]; /* the frame that came last */
    struct gy_frame frame;
};

static void bare_connect(struct bare *bare)
{
    const char *address = gy_bus_address(bare->node.bus);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)},
                             .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    bare->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(bare->fd, (struct sockaddr *)&to, sizeof to), 0);
}

/* Greeted, not known. */
static void bare_say_hello(struct bare *bare)
{
    struct gy_bus_keys keys = cluster_keys();
    struct gy_handshake handshake;
    struct gy_hello theirs;
    bare_connect(bare);
    gy_handshake_begin(&handshake, &keys, &BARE);
    send_all(bare->fd, handshake.hello, handshake.hello_bytes);
    assert_true(receive_frame(bare->fd, &bare->frame, bare->data));
    assert_int_equal(gy_handshake_finish(&handshake, &keys, bare->data, bare->frame.bytes, &bare->keys, &theirs, NULL), GYRE_OK);
    assert_string_equal(theirs.node, "node-1");
}

static void bare_greet(struct bare *bare)
{
    uint8_t confirm[GY_CONFIRM_BYTES];
    bare_say_hello(bare);
    gy_confirm(confirm, GY_BUS_VERSION, &bare->keys);
    send_all(bare->fd, confirm, sizeof confirm);
}

static int bare_open(void **state)
{
    struct bare *bare = calloc(1, sizeof *bare);
    fx_node_open(&bare->node, "127.0.0.1:0", "node-1", 'k', 5000, GY_BUS_VERSION);
    bare_greet(bare);
    *state = bare;
    return 0;
}

static int bare_close(void **state)
{
    struct bare *bare = *state;
    close(bare->fd);
    fx_node_close(&bare->node);
    free(bare);
    return 0;
}

enum { MARK_BYTES = GY_FRAME_BODY_AT + 10 };

/* A sealed request to count a mark. */
static void mark(struct bare *bare, uint8_t out[MARK_BYTES], uint64_t counter, int64_t deadline_ns)
{
    struct gy_frame frame = {.version = GY_BUS_VERSION, .kind = GY_FRAME_REQUEST, .bytes = MARK_BYTES, .counter = counter};
    struct gy_request_head head = {.request_id = counter, .deadline_ns = deadline_ns, .type = FX_MARK};
    memset(out, 'm', MARK_BYTES);
    gy_frame_encode(out, &frame);
    gy_request_head_encode(out + GY_FRAME_SEALED_AT, &head);
    gy_seal(out, MARK_BYTES, bare->keys.request);
}

static void assert_answered(struct bare *bare, uint64_t counter, gyre_status status)
{
    struct gy_reply_head head;
    assert_true(receive_frame(bare->fd, &bare->frame, bare->data));
    assert_int_equal(bare->frame.kind, GY_FRAME_REPLY);
    assert_int_equal(bare->frame.counter, counter);
    assert_true(gy_unseal(bare->data, bare->frame.bytes, bare->keys.reply));
    assert_int_equal(gy_reply_head_decode(&head, bare->data + GY_FRAME_SEALED_AT, NULL), GYRE_OK);
    assert_int_equal(head.status, status);
}

/* The node ends the connection for what was sent: sooner than whoever is not known after ten seconds. */
static void assert_ended(struct bare *bare)
{
    int64_t began_ns = gy_now_ns();
    assert_false(receive_all(bare->fd, bare->data, 1));
    assert_true(gy_now_ns() - began_ns < 9 * GY_SECOND_NS);
}

static void assert_cut(struct bare *bare)
{
    assert_ended(bare);
    close(bare->fd);
}

static uint32_t marks(struct bare *bare)
{
    pthread_mutex_lock(&bare->node.mu);
    uint32_t count = bare->node.marks;
    pthread_mutex_unlock(&bare->node.mu);
    return count;
}

static void a_replayed_request_is_executed_once_and_ends_the_connection(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, GY_NEVER);
    send_all(bare->fd, request, sizeof request);
    assert_answered(bare, 1, GYRE_OK);
    send_all(bare->fd, request, sizeof request);
    assert_cut(bare);
    bare_greet(bare); /* and on another connection it does not open */
    send_all(bare->fd, request, sizeof request);
    assert_cut(bare);
    bare_greet(bare);
    mark(bare, request, 2 + GY_REPLAY_COUNTERS, GY_NEVER);
    send_all(bare->fd, request, sizeof request);
    assert_answered(bare, 2 + GY_REPLAY_COUNTERS, GYRE_OK);
    mark(bare, request, 2, GY_NEVER); /* new, but too old to tell */
    send_all(bare->fd, request, sizeof request);
    assert_cut(bare);
    assert_int_equal(marks(bare), 2);
    bare_greet(bare);
}

static void no_changed_request_is_executed(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    for (size_t i = 0; i < sizeof request; i++) {
        if (i >= 8 && i < 12)
            continue; /* the length: the node just waits for more, see below */
        mark(bare, request, 1, GY_NEVER);
        request[i] ^= 0x10;
        send_all(bare->fd, request, sizeof request);
        assert_cut(bare);
        bare_greet(bare);
    }
    mark(bare, request, 1, GY_NEVER);
    request[8]--; /* one byte shorter than it was sealed */
    send_all(bare->fd, request, sizeof request);
    assert_cut(bare);
    bare_greet(bare);
    mark(bare, request, 1, GY_NEVER);
    request[11] = 1; /* 16 MB, over the node's limit: refused before anything is allocated */
    send_all(bare->fd, request, sizeof request);
    assert_cut(bare);
    bare_greet(bare);
    for (size_t bytes = 0; bytes < sizeof request; bytes += 7) { /* cut short */
        mark(bare, request, 1, GY_NEVER);
        send_all(bare->fd, request, bytes);
        close(bare->fd);
        bare_greet(bare);
    }
    assert_int_equal(marks(bare), 0);
}

static void requests_may_come_in_any_pieces(void **state)
{
    struct bare *bare = *state;
    uint8_t requests[3 * MARK_BYTES];
    for (uint64_t i = 0; i < 3; i++)
        mark(bare, requests + i * MARK_BYTES, 3 - i, GY_NEVER); /* nor do they have to be in order */
    for (size_t at = 0; at < sizeof requests; at++)
        send_all(bare->fd, requests + at, 1);
    for (uint64_t i = 0; i < 3; i++)
        assert_answered(bare, 3 - i, GYRE_OK);
    mark(bare, requests, 4, GY_NEVER);
    mark(bare, requests + MARK_BYTES, 5, GY_NEVER);
    send_all(bare->fd, requests, 2 * MARK_BYTES);
    assert_answered(bare, 4, GYRE_OK);
    assert_answered(bare, 5, GYRE_OK);
    assert_int_equal(marks(bare), 5);
}

static void a_late_request_is_answered_without_being_executed(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, gy_now_ns() - GY_MILLISECOND_NS);
    send_all(bare->fd, request, sizeof request);
    assert_answered(bare, 1, GYRE_DEADLINE);
    assert_int_equal(marks(bare), 0);
}

static void only_requests_are_taken_from_a_known_caller(void **state)
{
    struct bare *bare = *state;
    struct gy_bus_keys keys = cluster_keys();
    uint8_t request[MARK_BYTES];
    for (uint8_t kind = 0; kind < 8; kind++) {
        if (kind == GY_FRAME_REQUEST)
            continue;
        mark(bare, request, 1, GY_NEVER);
        request[6] = kind;
        send_all(bare->fd, request, sizeof request);
        assert_cut(bare);
        bare_greet(bare);
    }
    struct gy_handshake handshake; /* a second hello on one connection */
    gy_handshake_begin(&handshake, &keys, &BARE);
    send_all(bare->fd, handshake.hello, handshake.hello_bytes);
    assert_cut(bare);
    bare_greet(bare);
}

static void strangers_are_told_why_and_cut(void **state)
{
    struct bare *bare = *state;
    static const struct {
        const char *bytes;
        size_t count;
    } said[] = {{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35}, {"GYRB\1\0\3\0\x40\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0" /* a request */
                  "0123456789abcdef0123456789abcdef01234567", 64}};
    for (size_t i = 0; i < 2; i++) {
        close(bare->fd);
        bare_connect(bare);
        send_all(bare->fd, said[i].bytes, said[i].count);
        assert_true(receive_frame(bare->fd, &bare->frame, bare->data));
        assert_int_equal(bare->frame.refusal, GY_REFUSED_FRAME);
        assert_ended(bare);
    }
    struct gy_bus_keys thief = cluster_keys();
    thief.hello[0] ^= 1;
    struct gy_handshake handshake;
    gy_handshake_begin(&handshake, &thief, &BARE);
    close(bare->fd);
    bare_connect(bare);
    send_all(bare->fd, handshake.hello, handshake.hello_bytes);
    assert_true(receive_frame(bare->fd, &bare->frame, bare->data));
    assert_int_equal(bare->frame.refusal, GY_REFUSED_KEY);
    assert_ended(bare);
}

/* What the node's keeper does, as if it were now_ns. */
static void care(struct bare *bare, int64_t now_ns)
{
    int64_t next_ns;
    do {
        next_ns = GY_NEVER;
        gy_server_care(bare->node.bus->server, now_ns, &next_ns);
    } while (next_ns <= now_ns);
}

static void a_recorded_hello_gets_its_replayer_nowhere(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    mark(bare, request, 1, GY_NEVER);
    send_all(bare->fd, request, sizeof request);
    assert_answered(bare, 1, GYRE_OK); /* a known caller, silent from here on */
    struct bare stranger = {.node = {.bus = bare->node.bus}};
    struct gy_bus_keys keys = cluster_keys();
    struct gy_handshake recorded;
    gy_handshake_begin(&recorded, &keys, &BARE);
    for (int sends_request = 0; sends_request < 2; sends_request++) {
        int64_t before_ns = gy_now_ns();
        bare_connect(&stranger);
        send_all(stranger.fd, recorded.hello, recorded.hello_bytes);
        assert_true(receive_frame(stranger.fd, &stranger.frame, stranger.data));
        assert_int_equal(stranger.frame.kind, GY_FRAME_HELLO_REPLY);
        if (sends_request) { /* of the length that fits the node: its body is not waited for */
            request[8] = 4999 & 0xff, request[9] = 4999 >> 8;
            send_all(stranger.fd, request, GY_FRAME_HEAD_BYTES);
        } else {
            care(bare, before_ns + 8 * GY_SECOND_NS);
            struct pollfd cut = {.fd = stranger.fd, .events = POLLIN};
            assert_int_equal(poll(&cut, 1, 0), 0);
            care(bare, gy_now_ns() + 11 * GY_SECOND_NS);
        }
        assert_cut(&stranger);
    }
    mark(bare, request, 2, GY_NEVER);
    send_all(bare->fd, request, sizeof request);
    assert_answered(bare, 2, GYRE_OK);
}

static void no_request_is_taken_before_a_good_confirmation(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES], confirm[GY_CONFIRM_BYTES];
    close(bare->fd);
    bare_say_hello(bare);
    mark(bare, request, 1, GY_NEVER);
    send_all(bare->fd, request, sizeof request);
    assert_cut(bare);
    for (size_t i = 0; i < sizeof confirm; i++) {
        if (i >= 8 && i < 12)
            continue; /* the length, which has its own test */
        bare_say_hello(bare);
        gy_confirm(confirm, GY_BUS_VERSION, &bare->keys);
        confirm[i] ^= 0x80;
        send_all(bare->fd, confirm, sizeof confirm);
        assert_cut(bare);
    }
    bare_greet(bare);
    gy_confirm(confirm, GY_BUS_VERSION, &bare->keys); /* once is enough */
    send_all(bare->fd, confirm, sizeof confirm);
    assert_cut(bare);
    assert_int_equal(marks(bare), 0);
    bare_greet(bare);
}

static void the_first_request_may_be_as_large_as_the_node_takes(void **state)
{
    struct bare *bare = *state;
    static uint8_t sent[GY_CONFIRM_BYTES + GY_FRAME_BODY_AT + 5001];
    for (size_t body_bytes = 5000; body_bytes <= 5001; body_bytes++) {
        size_t bytes = GY_FRAME_BODY_AT + body_bytes;
        uint8_t *request = sent + GY_CONFIRM_BYTES;
        struct gy_frame frame = {.version = GY_BUS_VERSION, .kind = GY_FRAME_REQUEST, .bytes = (uint32_t)bytes, .counter = 1};
        struct gy_request_head head = {.request_id = 1, .deadline_ns = GY_NEVER, .type = FX_MARK};
        close(bare->fd);
        bare_say_hello(bare);
        gy_confirm(sent, GY_BUS_VERSION, &bare->keys);
        memset(request, 0, bytes);
        gy_frame_encode(request, &frame);
        gy_request_head_encode(request + GY_FRAME_SEALED_AT, &head);
        gy_seal(request, bytes, bare->keys.request);
        /* With the confirmation, as a caller with a call that waits does; of the second not the body, which is not asked for. */
        send_all(bare->fd, sent, GY_CONFIRM_BYTES + (body_bytes == 5000 ? bytes : GY_FRAME_HEAD_BYTES));
        if (body_bytes == 5000)
            assert_answered(bare, 1, GYRE_OK);
        else
            assert_cut(bare);
    }
    assert_int_equal(marks(bare), 1);
    bare_greet(bare);
}

static void a_caller_that_does_not_read_holds_up_only_itself(void **state)
{
    struct bare *bare = *state;
    uint8_t request[MARK_BYTES];
    uint64_t counter = 0;
    for (ssize_t sent = 1; sent > 0;) { /* until node and kernel take no more: answers pile up, so it stops reading */
        mark(bare, request, ++counter, GY_NEVER);
        struct pollfd room = {.fd = bare->fd, .events = POLLOUT};
        sent = poll(&room, 1, 300) == 1 ? send(bare->fd, request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    }
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    gy_peer *peer = fx_peer(caller, gy_bus_address(bare->node.bus), NULL);
    struct fx_reply reply;
    fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_OK);
    fx_reply_free(&reply);
    gy_peer_free(peer);
    gy_bus_close(caller);
    for (uint64_t i = 1; i < counter - 1; i++) /* when it reads again, everything is there */
        assert_true(receive_frame(bare->fd, &bare->frame, bare->data));
}

/* A node by hand: a thread that greets and then answers each request by the rule the test gives. */
struct impostor {
    int listener;
    char address[64];
    pthread_t thread;
    struct gy_session_keys keys;
    unsigned requests; /* on all connections */
    uint8_t first[4096]; /* the answer to the first request */
    size_t first_bytes;
    /* data holds the request, opened; makes it the answer and returns its length, 0 to cut the connection. */
    size_t (*rule)(struct impostor *self, uint8_t *data, size_t bytes);
};

/* The right answer to an opened request. */
static size_t answer_right(struct impostor *self, uint8_t *data, size_t bytes)
{
    struct gy_request_head request;
    assert_int_equal(gy_request_head_decode(&request, data + GY_FRAME_SEALED_AT, NULL), GYRE_OK);
    struct gy_reply_head reply = {.request_id = request.request_id, .clock_ns = gy_now_ns(), .status = GYRE_OK};
    data[6] = GY_FRAME_REPLY;
    gy_reply_head_encode(data + GY_FRAME_SEALED_AT, &reply);
    gy_seal(data, bytes, self->keys.reply);
    return bytes;
}

static size_t answer_changed(struct impostor *self, uint8_t *data, size_t bytes)
{
    answer_right(self, data, bytes);
    data[bytes - 1] ^= 1;
    return bytes;
}

static size_t answer_with_the_first(struct impostor *self, uint8_t *data, size_t bytes)
{
    answer_right(self, data, bytes);
    if (self->requests == 1) {
        self->first_bytes = bytes;
        memcpy(self->first, data, bytes);
    }
    memcpy(data, self->first, self->first_bytes);
    return self->first_bytes;
}

static size_t answer_with_the_request(struct impostor *self, uint8_t *data, size_t bytes)
{
    gy_seal(data, bytes, self->keys.request);
    return bytes;
}

static size_t answer_garbage(struct impostor *self, uint8_t *data, size_t bytes)
{
    (void)self, (void)bytes;
    memset(data, 'x', 100);
    return 100;
}

static size_t answer_with_a_huge_length(struct impostor *self, uint8_t *data, size_t bytes)
{
    answer_right(self, data, bytes);
    memset(data + 8, 0xff, 4);
    return bytes;
}

static size_t answer_by_hanging_up(struct impostor *self, uint8_t *data, size_t bytes)
{
    (void)self, (void)data, (void)bytes;
    return 0;
}

static void impostor_serve(struct impostor *self, int fd)
{
    struct gy_bus_keys keys = cluster_keys();
    struct gy_frame frame;
    uint8_t data[4096];
    const unsigned before = self->requests;
    while (receive_all(fd, data, GY_FRAME_HEAD_BYTES)) {
        assert_int_equal(gy_frame_decode(&frame, data, GY_BUS_VERSION, sizeof data, NULL), GYRE_OK);
        if (!receive_all(fd, data + GY_FRAME_HEAD_BYTES, frame.bytes - GY_FRAME_HEAD_BYTES))
            break;
        size_t bytes;
        if (frame.kind == GY_FRAME_HELLO) {
            uint8_t reply[GY_HELLO_BYTES_MAX];
            struct gy_hello theirs;
            assert_int_equal(gy_handshake_answer(&keys, &BARE, data, frame.bytes, reply, &bytes, &self->keys, &theirs, NULL),
                             GYRE_OK);
            memcpy(data, reply, bytes);
        } else if (frame.kind == GY_FRAME_CONFIRM) {
            assert_int_equal(self->requests, before);
            assert_true(gy_unseal(data, frame.bytes, self->keys.request));
            continue;
        } else {
            self->requests++;
            assert_true(gy_unseal(data, frame.bytes, self->keys.request));
            bytes = self->rule(self, data, frame.bytes);
        }
        if (bytes == 0)
            break;
        send(fd, data, bytes, MSG_NOSIGNAL);
    }
    close(fd);
}

static void *impostor_run(void *arg)
{
    struct impostor *self = arg;
    int fd;
    while ((fd = accept(self->listener, NULL, NULL)) >= 0)
        impostor_serve(self, fd);
    return NULL;
}

static void impostor_call(size_t (*rule)(struct impostor *, uint8_t *, size_t), struct impostor *self, struct fx_reply *replies,
                          int count, int64_t last_wait_ms)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t at_bytes = sizeof at;
    *self = (struct impostor){.rule = rule, .listener = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(self->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(self->listener, 8), 0);
    assert_int_equal(getsockname(self->listener, (struct sockaddr *)&at, &at_bytes), 0);
    snprintf(self->address, sizeof self->address, "127.0.0.1:%d", ntohs(at.sin_port));
    pthread_create(&self->thread, NULL, impostor_run, self);
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    gy_peer *peer = fx_peer(caller, self->address, NULL);
    for (int i = 0; i < count; i++)
        fx_call(&replies[i], peer, FX_ECHO, "precious", 8, i == count - 1 ? last_wait_ms : FX_SOON_MS);
    gy_peer_free(peer);
    gy_bus_close(caller);
    shutdown(self->listener, SHUT_RDWR);
    pthread_join(self->thread, NULL);
    close(self->listener);
    for (int i = 0; i < count; i++)
        fx_reply_free(&replies[i]);
}

static void a_right_answer_by_hand_is_taken(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply reply;
    impostor_call(answer_right, &self, &reply, 1, FX_SOON_MS); /* so what follows is refused for the right reason */
    assert_int_equal(reply.status, GYRE_OK);
    assert_int_equal(reply.bytes, 8);
}

static void answers_that_are_not_sealed_for_the_call_are_refused(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply replies[2];
    impostor_call(answer_changed, &self, replies, 1, FX_SOON_MS);
    assert_int_equal(replies[0].status, GYRE_UNAUTHENTICATED);
    impostor_call(answer_with_the_request, &self, replies, 1, FX_SOON_MS);
    assert_int_equal(replies[0].status, GYRE_UNAUTHENTICATED);
    impostor_call(answer_garbage, &self, replies, 1, FX_SOON_MS);
    assert_int_equal(replies[0].status, GYRE_CORRUPT);
    assert_non_null(strstr(replies[0].err.text, self.address));
    impostor_call(answer_with_a_huge_length, &self, replies, 1, FX_SOON_MS);
    assert_int_equal(replies[0].status, GYRE_CORRUPT);
}

static void an_old_answer_answers_nothing(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply replies[2];
    impostor_call(answer_with_the_first, &self, replies, 2, 1500);
    assert_int_equal(replies[0].status, GYRE_OK);
    assert_int_equal(replies[1].status, GYRE_DEADLINE);
}

static void a_request_whose_connection_ends_is_not_sent_again(void **state)
{
    (void)state;
    struct impostor self;
    struct fx_reply reply;
    impostor_call(answer_by_hanging_up, &self, &reply, 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_UNAVAILABLE);
    assert_int_equal(self.requests, 1);
}

#define BARE_TEST(name) cmocka_unit_test_setup_teardown(name, bare_open, bare_close)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        BARE_TEST(a_replayed_request_is_executed_once_and_ends_the_connection),
        BARE_TEST(no_changed_request_is_executed),
        BARE_TEST(requests_may_come_in_any_pieces),
        BARE_TEST(a_late_request_is_answered_without_being_executed),
        BARE_TEST(only_requests_are_taken_from_a_known_caller),
        BARE_TEST(strangers_are_told_why_and_cut),
        BARE_TEST(a_recorded_hello_gets_its_replayer_nowhere),
        BARE_TEST(no_request_is_taken_before_a_good_confirmation),
        BARE_TEST(the_first_request_may_be_as_large_as_the_node_takes),
        BARE_TEST(a_caller_that_does_not_read_holds_up_only_itself),
        cmocka_unit_test(a_right_answer_by_hand_is_taken),
        cmocka_unit_test(answers_that_are_not_sealed_for_the_call_are_refused),
        cmocka_unit_test(an_old_answer_answers_nothing),
        cmocka_unit_test(a_request_whose_connection_ends_is_not_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
