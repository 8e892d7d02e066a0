#include "fixture.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

static void on_request(void *self, gy_bus_request *request)
{
    struct fx_node *node = self;
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    gyre_error err;
    uint8_t number[4];
    switch (gy_bus_request_type(request)) {
    case FX_ECHO:
        gy_bus_answer(request, GYRE_OK, NULL, body, bytes);
        return;
    case FX_FAIL:
        gyre_fail(&err, (gyre_status)gy_load_u32(body), "%.*s", (int)(bytes - 4), (const char *)body + 4);
        gy_bus_answer(request, err.status, &err, NULL, 0);
        return;
    case FX_BIG: {
        size_t count = gy_load_u32(body);
        uint8_t *big = malloc(count);
        memset(big, 'b', count);
        gy_bus_answer(request, GYRE_OK, NULL, big, count);
        free(big);
        return;
    }
    case FX_HOLD: {
        pthread_mutex_lock(&node->mu);
        assert(node->held_count < FX_HELD_MAX);
        bool hold = !node->holds_nothing;
        if (hold)
            node->held[node->held_count++] = request;
        pthread_cond_broadcast(&node->cond);
        pthread_mutex_unlock(&node->mu);
        if (!hold)
            gy_bus_answer(request, GYRE_OK, NULL, body, bytes);
        return;
    }
    case FX_MARK:
        pthread_mutex_lock(&node->mu);
        node->marks++;
        pthread_mutex_unlock(&node->mu);
        gy_bus_answer(request, GYRE_OK, NULL, NULL, 0);
        return;
    case FX_COUNT:
        pthread_mutex_lock(&node->mu);
        gy_store_u32(number, node->marks);
        pthread_mutex_unlock(&node->mu);
        gy_bus_answer(request, GYRE_OK, NULL, number, sizeof number);
        return;
    case FX_WHO: {
        const char *name = gy_bus_request_node(request);
        gy_bus_answer(request, GYRE_OK, NULL, (const uint8_t *)name, strlen(name));
        return;
    }
    default:
        gyre_fail(&err, GYRE_UNIMPLEMENTED, "type %u", gy_bus_request_type(request));
        gy_bus_answer(request, err.status, &err, NULL, 0);
    }
}

void fx_node_open(struct fx_node *node, const char *listen, const char *name, uint8_t key_byte, size_t message_bytes_max,
                  uint16_t version)
{
    uint8_t key[GY_BUS_KEY_BYTES];
    memset(key, key_byte, sizeof key);
    memset(node, 0, sizeof *node);
    pthread_mutex_init(&node->mu, NULL);
    pthread_cond_init(&node->cond, NULL);
    struct gy_bus_options options = {.listen = listen, .cluster_key = key, .node = name,
                                     .message_bytes_max = message_bytes_max, .on_request = on_request, .self = node};
    gyre_error err;
    if (gy_bus_open_version(&node->bus, &options, version, &err) != GYRE_OK)
        fail_msg("%s", err.text);
}

void fx_node_wait_held(struct fx_node *node, size_t count)
{
    pthread_mutex_lock(&node->mu);
    while (node->held_count < count)
        pthread_cond_wait(&node->cond, &node->mu);
    pthread_mutex_unlock(&node->mu);
}

size_t fx_node_held(struct fx_node *node)
{
    pthread_mutex_lock(&node->mu);
    size_t count = node->held_count;
    pthread_mutex_unlock(&node->mu);
    return count;
}

void fx_node_release(struct fx_node *node)
{
    pthread_mutex_lock(&node->mu);
    size_t count = node->held_count;
    gy_bus_request *held[FX_HELD_MAX];
    memcpy(held, node->held, count * sizeof held[0]);
    node->held_count = 0;
    pthread_mutex_unlock(&node->mu);
    for (size_t i = 0; i < count; i++) {
        size_t bytes;
        const uint8_t *body = gy_bus_request_body(held[i], &bytes);
        gy_bus_answer(held[i], GYRE_OK, NULL, body, bytes);
    }
}

void fx_node_hold_nothing(struct fx_node *node)
{
    pthread_mutex_lock(&node->mu);
    node->holds_nothing = true;
    pthread_mutex_unlock(&node->mu);
    fx_node_release(node);
}

void fx_node_close(struct fx_node *node)
{
    gy_bus_close(node->bus);
    pthread_cond_destroy(&node->cond);
    pthread_mutex_destroy(&node->mu);
}

gy_bus *fx_caller_open(uint8_t key_byte, size_t message_bytes_max, uint16_t version)
{
    uint8_t key[GY_BUS_KEY_BYTES];
    memset(key, key_byte, sizeof key);
    struct gy_bus_options options = {.cluster_key = key, .node = "caller", .message_bytes_max = message_bytes_max};
    gy_bus *bus;
    gyre_error err;
    if (gy_bus_open_version(&bus, &options, version, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return bus;
}

static void on_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct fx_reply *reply = arg;
    reply->status = status;
    if (err)
        reply->err = *err;
    if (status == GYRE_OK) {
        reply->body = malloc(bytes + 1);
        memcpy(reply->body, body, bytes);
        reply->body[bytes] = '\0';
        reply->bytes = bytes;
    }
    reply->took_ns = gy_now_ns() - reply->started_ns;
    sem_post(&reply->done);
}

void fx_start(struct fx_reply *reply, gy_peer *peer, uint16_t type, const void *body, size_t bytes, int64_t wait_ms)
{
    memset(reply, 0, sizeof *reply);
    sem_init(&reply->done, 0, 0);
    reply->started_ns = gy_now_ns();
    gy_peer_call(peer, type, body, bytes, reply->started_ns + wait_ms * GY_MILLISECOND_NS, on_reply, reply);
}

void fx_wait(struct fx_reply *reply)
{
    while (sem_wait(&reply->done) != 0 && errno == EINTR)
        ;
}

void fx_call(struct fx_reply *reply, gy_peer *peer, uint16_t type, const void *body, size_t bytes, int64_t wait_ms)
{
    fx_start(reply, peer, type, body, bytes, wait_ms);
    fx_wait(reply);
}

void fx_reply_free(struct fx_reply *reply)
{
    sem_destroy(&reply->done);
    free(reply->body);
}

void fx_state_init(struct fx_state *state)
{
    memset(state, 0, sizeof *state);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&state->mu, NULL);
    pthread_cond_init(&state->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void fx_on_state(void *self, bool up)
{
    struct fx_state *state = self;
    pthread_mutex_lock(&state->mu);
    state->up = up;
    state->changes++;
    pthread_cond_broadcast(&state->cond);
    pthread_mutex_unlock(&state->mu);
}

bool fx_wait_state(struct fx_state *state, bool up)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FX_SOON_MS / 1000;
    int rv = 0;
    pthread_mutex_lock(&state->mu);
    while (state->up != up && rv == 0)
        rv = pthread_cond_timedwait(&state->cond, &state->mu, &until);
    bool reached = state->up == up;
    pthread_mutex_unlock(&state->mu);
    return reached;
}

int fx_reserve(char address[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t at_bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Bound without listening; sockets that all say so may share a port while one of them listens. */
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &at_bytes), 0);
    snprintf(address, 64, "127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

gy_peer *fx_peer(gy_bus *bus, const char *address, struct fx_state *state)
{
    gy_peer *peer;
    gyre_error err;
    if (gy_peer_new(&peer, bus, address, state ? fx_on_state : NULL, state, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return peer;
}
