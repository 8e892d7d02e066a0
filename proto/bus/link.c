/* The link to a peer: one REQ0 socket, its dialer, a context ("lane") per outstanding request, and the handshake.
 *
 *   connection made -> greet (hello, hello reply) -> known: calls are sealed with the session's keys
 *   connection lost -> stranger; requests on the way fail, those nng had not sent yet come back and wait again
 *
 * nng 1.5 facts this relies on: a receive may only be started when the send has completed; a socket is closed only after
 * every aio was stopped and freed (its contexts are freed with it, under the feet of an aio that is timing out); an aio that
 * slept once reports later timeouts as success, so nothing here sleeps on an aio. */
#include "peer.h"

#include <assert.h>
#include <nng/protocol/reqrep0/req.h>
#include <sodium.h>
#include <stdlib.h>

enum { RECONNECT_MS_MIN = 50, RECONNECT_MS_MAX = 1000 };
#define GREETING_WAIT_NS (2 * GY_SECOND_NS)
#define CLOCK_WINDOW_NS (60 * GY_SECOND_NS)

static void on_greeting(void *arg);

static int lane_open(struct gy_lane *lane, gy_link *link, void (*callback)(void *))
{
    lane->link = link;
    int rv = nng_ctx_open(&lane->ctx, link->socket);
    if (rv == 0) /* a request that may have been executed is never sent again behind our back */
        rv = nng_ctx_set_ms(lane->ctx, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (rv == 0)
        rv = nng_aio_alloc(&lane->aio, callback, lane);
    if (rv == 0)
        pthread_mutex_init(&lane->mu, NULL);
    return rv;
}

struct gy_lane *gy_lane_take(gy_link *link)
{
    if (link->closing)
        return NULL;
    struct gy_lane *lane = link->lanes_free;
    if (lane) {
        link->lanes_free = lane->next_free;
    } else {
        lane = calloc(1, sizeof *lane);
        if (!lane || lane_open(lane, link, gy_call_on_lane) != 0) {
            if (lane && nng_ctx_id(lane->ctx) > 0)
                nng_ctx_close(lane->ctx);
            free(lane);
            return NULL;
        }
        lane->next = link->lanes;
        link->lanes = lane;
    }
    link->lanes_out++;
    return lane;
}

void gy_lane_give(struct gy_lane *lane)
{
    gy_link *link = lane->link;
    if (lane != &link->hello) {
        lane->call = NULL;
        lane->next_free = link->lanes_free;
        link->lanes_free = lane;
    }
    if (--link->lanes_out == 0)
        pthread_cond_broadcast(&link->peer->cond);
}

bool gy_lane_send(struct gy_lane *lane, nng_msg *msg, int64_t deadline_ns)
{
    pthread_mutex_lock(&lane->mu);
    /* Without a connection nng would keep the message until the deadline. gy_peer_disconnected clears connected before it
     * looks at the lanes, so a message is either refused here or found there. */
    bool may = !lane->stopped && atomic_load(&lane->link->connected);
    if (may) {
        lane->sending = true;
        nng_aio_set_timeout(lane->aio, gy_bus_wait_ms(deadline_ns, gy_now_ns()));
        nng_aio_set_msg(lane->aio, msg);
        nng_ctx_send(lane->ctx, lane->aio);
    }
    pthread_mutex_unlock(&lane->mu);
    return may;
}

bool gy_lane_receive(struct gy_lane *lane, int64_t deadline_ns)
{
    pthread_mutex_lock(&lane->mu);
    bool may = !lane->stopped;
    if (may) {
        lane->sending = false;
        nng_aio_set_timeout(lane->aio, gy_bus_wait_ms(deadline_ns, gy_now_ns()));
        nng_ctx_recv(lane->ctx, lane->aio);
    }
    pthread_mutex_unlock(&lane->mu);
    return may;
}

static void lane_unsend(struct gy_lane *lane)
{
    pthread_mutex_lock(&lane->mu);
    if (lane->sending && !lane->stopped)
        nng_aio_abort(lane->aio, NNG_ECONNRESET); /* without effect if it has been sent */
    pthread_mutex_unlock(&lane->mu);
}

static void lane_stop(struct gy_lane *lane)
{
    pthread_mutex_lock(&lane->mu);
    lane->stopped = true;
    pthread_mutex_unlock(&lane->mu);
    nng_aio_stop(lane->aio);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    gy_link *link = arg;
    int id = nng_pipe_id(pipe);
    bool greet = false, lost = false;
    pthread_mutex_lock(&link->peer->mu);
    if (event == NNG_PIPE_EV_REM_POST) {
        link->removed_pipe_id = id;
        lost = link->pipe_id == id;
        if (lost) {
            link->pipe_id = 0;
            atomic_store(&link->connected, false);
            if (link->acquaintance == GY_LINK_KNOWN)
                link->acquaintance = GY_LINK_STRANGER;
            if (!link->closing)
                lane_unsend(&link->hello);
            for (struct gy_lane *lane = link->lanes; lane && !link->closing; lane = lane->next)
                lane_unsend(lane);
        }
    } else if (link->removed_pipe_id != id) { /* the two events of a short-lived connection may come in either order */
        link->pipe_id = id;
        atomic_store(&link->connected, true);
        greet = link->acquaintance != GY_LINK_GREETING && !link->closing;
        if (greet)
            gy_link_greeting(link);
        else
            link->greet_again = true;
    }
    pthread_mutex_unlock(&link->peer->mu);
    if (lost)
        gy_peer_disconnected(link);
    if (greet)
        gy_link_greet(link);
}

void gy_link_greeting(gy_link *link)
{
    assert(link->acquaintance != GY_LINK_GREETING && !link->closing);
    link->acquaintance = GY_LINK_GREETING;
    link->greet_again = false;
    link->lanes_out++;
}

/* The greeting is over; decides under the lock what follows it. Returns true if it must be done again at once. */
static bool greeting_over(gy_link *link, bool known)
{
    pthread_mutex_lock(&link->peer->mu);
    bool connected = atomic_load(&link->connected);
    bool again = link->greet_again && connected && !link->closing;
    link->acquaintance = known && connected && !again ? GY_LINK_KNOWN : GY_LINK_STRANGER;
    if (again)
        gy_link_greeting(link);
    pthread_mutex_unlock(&link->peer->mu);
    return again;
}

static void greeting_give(gy_link *link)
{
    gy_peer *peer = link->peer;
    pthread_mutex_lock(&peer->mu);
    gy_lane_give(&link->hello);
    pthread_mutex_unlock(&peer->mu);
}

static void greeting_failed(gy_link *link, bool hard, bool timed_out, const gyre_error *err)
{
    bool again = greeting_over(link, false);
    if (again)
        gy_link_greet(link);
    else
        gy_peer_greet_failed(link, hard, timed_out, err);
    greeting_give(link);
}

void gy_link_greet(gy_link *link)
{
    gy_bus *bus = link->peer->bus;
    gy_handshake_begin(&link->handshake, &bus->keys, &bus->self);
    nng_msg *msg;
    gyre_error err;
    if (nng_msg_alloc(&msg, 0) != 0) {
        gyre_fail(&err, GYRE_NO_MEMORY, "hello to %s", link->peer->address);
        greeting_failed(link, true, false, &err);
        return;
    }
    if (nng_msg_append(msg, link->handshake.hello, link->handshake.hello_bytes) != 0 ||
        !gy_lane_send(&link->hello, msg, gy_now_ns() + GREETING_WAIT_NS)) {
        nng_msg_free(msg);
        gy_handshake_wipe(&link->handshake);
        greeting_failed(link, false, false, NULL);
    }
}

/* What the peer said to our hello. On success the link has session and keys. */
static gyre_status greeting_read(gy_link *link, uint8_t *data, size_t bytes, gyre_error *err)
{
    gy_peer *peer = link->peer;
    gy_bus *bus = peer->bus;
    struct gy_frame frame;
    gyre_status status = gy_frame_decode(&frame, data, bytes, bus->self.version, err);
    if (status == GYRE_PRECONDITION)
        return gyre_fail(err, status, "%s speaks bus protocol version %u, this node version %u", peer->address,
                         frame.version, bus->self.version);
    if (status == GYRE_OK && frame.kind == GY_FRAME_REFUSAL && frame.refusal == GY_REFUSED_KEY)
        return gyre_fail(err, GYRE_UNAUTHENTICATED, "cluster key differs from that of %s", peer->address);
    struct gy_session_keys keys;
    struct gy_hello theirs;
    if (status == GYRE_OK && frame.kind != GY_FRAME_HELLO_REPLY)
        status = gyre_fail(err, GYRE_CORRUPT, "a frame of kind %u", frame.kind);
    if (status == GYRE_OK)
        status = gy_handshake_finish(&link->handshake, &bus->keys, data, bytes, &keys, &theirs, err);
    if (status == GYRE_UNAUTHENTICATED)
        return gyre_fail(err, status, "cluster key differs from that of %s", peer->address);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "answer of %s to our hello", peer->address);
    int64_t now_ns = gy_now_ns();
    pthread_mutex_lock(&peer->mu);
    link->keys = keys;
    link->session = frame.session;
    link->counter = 0;
    link->message_bytes_max = theirs.message_bytes_max;
    link->offset_before_ns = link->offset_ns = theirs.clock_ns - now_ns;
    link->offset_since_ns = now_ns;
    pthread_mutex_unlock(&peer->mu);
    sodium_memzero(&keys, sizeof keys);
    return GYRE_OK;
}

/* nng finished an operation of the handshake. */
static void on_greeting(void *arg)
{
    struct gy_lane *lane = arg;
    gy_link *link = lane->link;
    int rv = nng_aio_result(lane->aio);
    if (rv == 0 && lane->sending && gy_lane_receive(lane, gy_now_ns() + GREETING_WAIT_NS))
        return;
    nng_msg *msg = nng_aio_get_msg(lane->aio);
    nng_aio_set_msg(lane->aio, NULL);
    if (rv != 0 || !msg) { /* not sent, not answered, or stopped between the two */
        if (msg)
            nng_msg_free(msg);
        gy_handshake_wipe(&link->handshake);
        greeting_failed(link, false, rv == NNG_ETIMEDOUT, NULL);
        return;
    }
    gyre_error err;
    gyre_status status = greeting_read(link, nng_msg_body(msg), nng_msg_len(msg), &err);
    nng_msg_free(msg);
    gy_handshake_wipe(&link->handshake);
    if (status != GYRE_OK) {
        greeting_failed(link, true, false, &err);
        return;
    }
    if (greeting_over(link, true))
        gy_link_greet(link);
    else
        gy_peer_connected(link);
    greeting_give(link);
}

void gy_link_note_clock(gy_link *link, int64_t their_clock_ns, int64_t now_ns)
{
    int64_t offset_ns = their_clock_ns - now_ns;
    if (now_ns - link->offset_since_ns > CLOCK_WINDOW_NS) {
        link->offset_before_ns = link->offset_ns;
        link->offset_ns = offset_ns;
        link->offset_since_ns = now_ns;
    } else if (offset_ns > link->offset_ns) {
        link->offset_ns = offset_ns;
    }
}

int64_t gy_link_deadline_there(const gy_link *link, int64_t deadline_ns)
{
    int64_t offset_ns = link->offset_ns > link->offset_before_ns ? link->offset_ns : link->offset_before_ns;
    int64_t there_ns;
    if (deadline_ns == GY_NEVER || __builtin_add_overflow(deadline_ns, offset_ns, &there_ns))
        return GY_NEVER;
    return there_ns;
}

static int link_dial(gy_link *link, const char *url)
{
    nng_dialer dialer;
    int rv = nng_req0_open(&link->socket);
    if (rv == 0) /* the default is unlimited */
        rv = nng_socket_set_size(link->socket, NNG_OPT_RECVMAXSZ, link->peer->bus->message_bytes_max + GY_BUS_OVERHEAD_BYTES);
    if (rv == 0)
        rv = nng_socket_set_ms(link->socket, NNG_OPT_RECONNMINT, RECONNECT_MS_MIN);
    if (rv == 0)
        rv = nng_socket_set_ms(link->socket, NNG_OPT_RECONNMAXT, RECONNECT_MS_MAX);
    if (rv == 0)
        rv = nng_pipe_notify(link->socket, NNG_PIPE_EV_ADD_POST, on_pipe, link);
    if (rv == 0)
        rv = nng_pipe_notify(link->socket, NNG_PIPE_EV_REM_POST, on_pipe, link);
    if (rv == 0)
        rv = lane_open(&link->hello, link, on_greeting);
    if (rv == 0)
        rv = nng_dialer_create(&dialer, link->socket, url);
    if (rv == 0)
        rv = nng_dialer_set_bool(dialer, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0) /* a blocking first dial that fails would never be retried */
        rv = nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
    return rv;
}

gyre_status gy_link_open(gy_link **out, gy_peer *peer, gyre_error *err)
{
    char url[GY_BUS_URL_BYTES];
    GY_TRY(gy_bus_url(url, peer->address, err));
    gy_link *link = calloc(1, sizeof *link);
    if (!link)
        return gyre_fail(err, GYRE_NO_MEMORY, "link to %s", peer->address);
    link->peer = peer;
    int rv = link_dial(link, url);
    if (rv != 0) {
        gy_link_close(link);
        return gyre_wrap(err, gy_bus_fail(err, rv, peer->address), "cannot dial");
    }
    *out = link;
    return GYRE_OK;
}

void gy_link_close(gy_link *link)
{
    gy_peer *peer = link->peer;
    pthread_mutex_lock(&peer->mu);
    link->closing = true; /* no lane is added, no greeting begun from here on */
    pthread_mutex_unlock(&peer->mu);
    if (link->hello.aio)
        lane_stop(&link->hello);
    for (struct gy_lane *lane = link->lanes; lane; lane = lane->next)
        lane_stop(lane);
    pthread_mutex_lock(&peer->mu);
    while (link->lanes_out > 0) /* taken but not started yet: their holders find them stopped */
        pthread_cond_wait(&peer->cond, &peer->mu);
    pthread_mutex_unlock(&peer->mu);
    for (struct gy_lane *lane = link->lanes, *next; lane; lane = next) {
        next = lane->next;
        nng_aio_free(lane->aio);
        pthread_mutex_destroy(&lane->mu);
        free(lane);
    }
    if (link->hello.aio) {
        nng_aio_free(link->hello.aio);
        pthread_mutex_destroy(&link->hello.mu);
    }
    link->lanes = link->lanes_free = NULL; /* on_pipe may still run */
    link->hello.stopped = true;
    if (nng_socket_id(link->socket) > 0)
        nng_close(link->socket);
    sodium_memzero(link, sizeof *link);
    free(link);
}
