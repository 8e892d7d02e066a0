/* Peers and their calls.
 *
 *   gy_peer_call -> [waiting, until there is a connection and a session] -> sealed -> sent -> answered -> on_reply
 *                        ^                                                    |         |
 *                        '---- the connection went before nng sent it --------'         |
 *                        '---- the peer does not know the session: it sends the request back, once
 *
 * A call that has been sent is never sent again unless the peer proves (gy_refusal_mac) that it did not execute it. */
#include "peer.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <utlist.h>

/* Reports and forgets a call. Not under a lock. */
static void call_finish(struct gy_bus_call *call, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    gy_peer *peer = call->peer;
    call->on_reply(call->arg, status, err, body, bytes);
    if (call->msg)
        nng_msg_free(call->msg);
    sodium_memzero(&call->keys, sizeof call->keys);
    free(call);
    pthread_mutex_lock(&peer->mu);
    if (--peer->outstanding == 0)
        pthread_cond_broadcast(&peer->cond);
    pthread_mutex_unlock(&peer->mu);
}

static void call_fail(struct gy_bus_call *call, const gyre_error *err)
{
    call_finish(call, err->status, err, NULL, 0);
}

static void calls_fail(struct gy_bus_call *calls, const gyre_error *err)
{
    struct gy_bus_call *call, *next;
    DL_FOREACH_SAFE(calls, call, next)
    {
        DL_DELETE(calls, call);
        call_fail(call, err);
    }
}

/* Until when a waiting call waits. Under peer->mu. */
static int64_t waits_until_ns(const gy_peer *peer, const struct gy_bus_call *call)
{
    if (atomic_load(&peer->link->connected))
        return call->deadline_ns;
    int64_t from_ns = call->started_ns > peer->down_ns ? call->started_ns : peer->down_ns;
    int64_t until_ns = from_ns + GY_PEER_DOWN_WAIT_NS;
    return until_ns < call->deadline_ns ? until_ns : call->deadline_ns;
}

/* Writes the heads and seals; call->msg is then what travels. */
static void call_seal(struct gy_bus_call *call, int64_t deadline_there_ns)
{
    uint8_t *data = nng_msg_body(call->msg);
    struct gy_frame frame = {.version = call->peer->bus->self.version, .kind = GY_FRAME_REQUEST, .session = call->session,
                             .counter = call->counter};
    struct gy_request_head head = {.request_id = call->id, .deadline_ns = deadline_there_ns, .type = call->type};
    gy_frame_encode(data, &frame);
    gy_request_head_encode(data + GY_FRAME_SEALED_AT, &head);
    gy_seal(data, nng_msg_len(call->msg), call->keys.request);
}

/* Sends a call whose msg is plain, or lets it wait. Not under a lock. */
static void call_go(struct gy_bus_call *call)
{
    gy_peer *peer = call->peer;
    gyre_error err;
    pthread_mutex_lock(&peer->mu);
    gy_link *link = peer->link;
    if (peer->closed) {
        pthread_mutex_unlock(&peer->mu);
        gyre_fail(&err, GYRE_UNAVAILABLE, "connection to %s is being closed", peer->address);
        call_fail(call, &err);
        return;
    }
    if (!atomic_load(&link->connected) || link->acquaintance != GY_LINK_KNOWN) {
        DL_APPEND(peer->waiting, call);
        bool greet = atomic_load(&link->connected) && link->acquaintance == GY_LINK_STRANGER && !link->closing;
        if (greet)
            gy_link_greeting(link);
        gy_bus *bus = peer->bus;
        pthread_mutex_unlock(&peer->mu);
        if (greet)
            gy_link_greet(link);
        gy_bus_poke(bus); /* not peer->bus: the call may be over by now, and the peer gone */
        return;
    }
    size_t bytes = nng_msg_len(call->msg) - GY_FRAME_BODY_AT;
    uint64_t bytes_max = link->message_bytes_max;
    struct gy_lane *lane = bytes <= bytes_max ? gy_lane_take(link) : NULL;
    if (!lane) {
        pthread_mutex_unlock(&peer->mu);
        if (bytes > bytes_max)
            gyre_fail(&err, GYRE_EXHAUSTED, "request of %zu bytes to %s; its limit is %llu", bytes, peer->address,
                      (unsigned long long)bytes_max);
        else
            gyre_fail(&err, GYRE_NO_MEMORY, "request to %s", peer->address);
        call_fail(call, &err);
        return;
    }
    lane->call = call;
    call->keys = link->keys;
    call->session = link->session;
    call->counter = ++link->counter;
    int64_t deadline_there_ns = gy_link_deadline_there(link, call->deadline_ns);
    pthread_mutex_unlock(&peer->mu);

    call_seal(call, deadline_there_ns);
    nng_msg *msg = call->msg;
    call->msg = NULL;
    if (gy_lane_send(lane, msg, call->deadline_ns))
        return;
    call->msg = msg;
    bool plain = gy_unseal(nng_msg_body(msg), nng_msg_len(msg), call->keys.request);
    assert(plain); /* we sealed it a moment ago */
    pthread_mutex_lock(&peer->mu);
    gy_lane_give(lane);
    pthread_mutex_unlock(&peer->mu);
    call_go(call); /* waits now: the connection went */
}

void gy_peer_call(gy_peer *peer, uint16_t type, const uint8_t *body, size_t bytes, int64_t deadline_ns, gy_on_reply *on_reply,
                  void *arg)
{
    gyre_error err;
    int64_t now_ns = gy_now_ns();
    if (deadline_ns <= now_ns) {
        gyre_status status = gyre_fail(&err, GYRE_DEADLINE, "the deadline of a request to %s had passed", peer->address);
        on_reply(arg, status, &err, NULL, 0);
        return;
    }
    if (bytes > peer->bus->message_bytes_max) {
        gyre_status status = gyre_fail(&err, GYRE_EXHAUSTED, "request of %zu bytes to %s; the limit is %zu", bytes,
                                       peer->address, peer->bus->message_bytes_max);
        on_reply(arg, status, &err, NULL, 0);
        return;
    }
    struct gy_bus_call *call = calloc(1, sizeof *call);
    if (!call || nng_msg_alloc(&call->msg, GY_FRAME_BODY_AT + bytes) != 0) {
        free(call);
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "request of %zu bytes to %s", bytes, peer->address);
        on_reply(arg, status, &err, NULL, 0);
        return;
    }
    call->peer = peer;
    call->type = type;
    call->started_ns = now_ns;
    call->deadline_ns = deadline_ns;
    call->on_reply = on_reply;
    call->arg = arg;
    if (bytes > 0)
        memcpy((uint8_t *)nng_msg_body(call->msg) + GY_FRAME_BODY_AT, body, bytes);
    pthread_mutex_lock(&peer->mu);
    bool full = peer->outstanding >= GY_PEER_OUTSTANDING_MAX;
    peer->outstanding++;
    call->id = ++peer->call_count;
    pthread_mutex_unlock(&peer->mu);
    if (full) {
        gyre_fail(&err, GYRE_EXHAUSTED, "%d requests to %s are outstanding, which is the limit", GY_PEER_OUTSTANDING_MAX,
                  peer->address);
        call_fail(call, &err);
        return;
    }
    call_go(call);
}

/* Under peer->mu. True if the keeper must be told. */
static bool count_timeout(gy_peer *peer)
{
    if (++peer->timeouts < GY_PEER_TIMEOUTS_MAX)
        return false;
    peer->timeouts = 0;
    peer->redial = true;
    return true;
}

/* An operation of a sealed call failed: what it means. */
static void call_cut(struct gy_bus_call *call, struct gy_lane *lane, int rv)
{
    gy_peer *peer = call->peer;
    gyre_error err;
    bool late = rv == NNG_ETIMEDOUT && gy_now_ns() >= call->deadline_ns;
    if (late)
        gyre_fail(&err, GYRE_DEADLINE, "%s did not answer within %lld ms", peer->address,
                  (long long)((call->deadline_ns - call->started_ns) / GY_MILLISECOND_NS));
    else if (rv == NNG_ENOMEM)
        gyre_fail(&err, GYRE_NO_MEMORY, "request to %s", peer->address);
    else
        gyre_fail(&err, GYRE_UNAVAILABLE, "connection to %s was cut while waiting for its answer", peer->address);
    pthread_mutex_lock(&peer->mu);
    bool watch = late && peer->link == lane->link && count_timeout(peer);
    gy_lane_give(lane);
    pthread_mutex_unlock(&peer->mu);
    if (watch)
        gy_bus_poke(peer->bus);
    call_fail(call, &err);
}

/* The peer refused to work on the call. Returns true if the call goes on (it is then waiting or sent again). */
static bool call_refused(struct gy_bus_call *call, gy_link *link, const struct gy_frame *frame, nng_msg *msg, gyre_error *err)
{
    gy_peer *peer = call->peer;
    uint8_t *data = nng_msg_body(msg);
    size_t bytes = nng_msg_len(msg) - GY_FRAME_MAC_BYTES;
    uint8_t mac[GY_FRAME_MAC_BYTES];
    bool genuine = false;
    if (nng_msg_len(msg) >= GY_REFUSAL_BYTES && frame->session == call->session && frame->counter == call->counter) {
        gy_refusal_mac(mac, &peer->bus->keys, data);
        genuine = sodium_memcmp(mac, data + bytes, sizeof mac) == 0;
    }
    if (genuine && frame->refusal == GY_REFUSED_SESSION && !call->resent) {
        /* The request itself, sent back: open it and seal it for a new session. */
        struct gy_frame sealed = *frame;
        sealed.kind = GY_FRAME_REQUEST;
        sealed.refusal = GY_REFUSED_NOTHING;
        gy_frame_encode(data, &sealed);
        if (gy_unseal(data, bytes, call->keys.request) && nng_msg_chop(msg, GY_FRAME_MAC_BYTES) == 0) {
            call->resent = true;
            call->msg = msg;
            pthread_mutex_lock(&peer->mu);
            if (peer->link == link && link->session == call->session && link->acquaintance == GY_LINK_KNOWN)
                link->acquaintance = GY_LINK_STRANGER;
            pthread_mutex_unlock(&peer->mu);
            return true;
        }
        genuine = false;
    }
    if (!genuine)
        gyre_fail(err, GYRE_UNAUTHENTICATED, "refusal from %s fails authentication", peer->address);
    else if (frame->refusal == GY_REFUSED_SESSION)
        gyre_fail(err, GYRE_UNAVAILABLE, "%s forgot a session it had just opened", peer->address);
    else if (frame->refusal == GY_REFUSED_REPLAY)
        gyre_fail(err, GYRE_UNAVAILABLE, "%s had seen the request's counter or it came too late to tell", peer->address);
    else
        gyre_fail(err, GYRE_UNAUTHENTICATED, "%s could not authenticate the request", peer->address);
    return false;
}

/* Reads an answer. On GYRE_OK or a status the peer gave, *body and *bytes are in msg. */
static gyre_status reply_read(struct gy_bus_call *call, const struct gy_frame *frame, nng_msg *msg, struct gy_reply_head *head,
                              gyre_error *err)
{
    const char *address = call->peer->address;
    uint8_t *data = nng_msg_body(msg);
    size_t bytes = nng_msg_len(msg);
    if (frame->kind != GY_FRAME_REPLY || frame->session != call->session || frame->counter != call->counter ||
        !gy_unseal(data, bytes, call->keys.reply))
        return gyre_fail(err, GYRE_UNAUTHENTICATED, "answer from %s fails authentication", address);
    GY_TRY(gy_reply_head_decode(head, data + GY_FRAME_SEALED_AT, err));
    if (head->request_id != call->id)
        return gyre_fail(err, GYRE_CORRUPT, "answer from %s to request %llu came for request %llu", address,
                         (unsigned long long)head->request_id, (unsigned long long)call->id);
    return GYRE_OK;
}

/* A message came for the call. */
static void call_answered(struct gy_bus_call *call, struct gy_lane *lane, nng_msg *msg)
{
    gy_peer *peer = call->peer;
    gy_link *link = lane->link;
    gyre_error err;
    struct gy_frame frame;
    struct gy_reply_head head = {0};
    bool again = false;
    gyre_status status = gy_frame_decode(&frame, nng_msg_body(msg), nng_msg_len(msg), peer->bus->self.version, &err);
    if (status != GYRE_OK)
        gyre_wrap(&err, status, "answer from %s", peer->address);
    else if (frame.kind == GY_FRAME_REFUSAL)
        again = call_refused(call, link, &frame, msg, &err);
    else
        status = reply_read(call, &frame, msg, &head, &err);
    bool genuine = status == GYRE_OK && frame.kind == GY_FRAME_REPLY;

    pthread_mutex_lock(&peer->mu);
    if (peer->link == link) {
        peer->timeouts = 0;
        if (genuine)
            gy_link_note_clock(link, head.clock_ns, gy_now_ns());
    }
    gy_lane_give(lane);
    pthread_mutex_unlock(&peer->mu);

    if (again) {
        call_go(call);
        return;
    }
    if (!genuine) {
        nng_msg_free(msg);
        call_fail(call, &err);
        return;
    }
    call->msg = msg; /* freed with the call */
    const uint8_t *body = (const uint8_t *)nng_msg_body(msg) + GY_FRAME_BODY_AT;
    size_t bytes = nng_msg_len(msg) - GY_FRAME_BODY_AT;
    if (head.status == GYRE_OK) {
        call_finish(call, GYRE_OK, NULL, body, bytes);
        return;
    }
    int text_bytes = bytes < GYRE_ERROR_TEXT_BYTES ? (int)bytes : GYRE_ERROR_TEXT_BYTES - 1;
    gyre_fail(&err, head.status <= GYRE_UNAUTHENTICATED ? (gyre_status)head.status : GYRE_UNKNOWN, "%.*s", text_bytes,
              (const char *)body);
    call_fail(call, &err);
}

void gy_call_on_lane(void *arg)
{
    struct gy_lane *lane = arg;
    struct gy_bus_call *call = lane->call;
    int rv = nng_aio_result(lane->aio);
    bool sent = rv == 0 && lane->sending;
    if (sent && gy_lane_receive(lane, call->deadline_ns))
        return;
    nng_msg *msg = nng_aio_get_msg(lane->aio);
    nng_aio_set_msg(lane->aio, NULL);
    if (rv == 0 && !sent) {
        call_answered(call, lane, msg);
        return;
    }
    /* The connection went before nng sent it: it comes back sealed and can wait for the next one. */
    bool unsent = lane->sending && rv == NNG_ECONNRESET && msg &&
                  gy_unseal(nng_msg_body(msg), nng_msg_len(msg), call->keys.request);
    if (unsent) {
        gy_peer *peer = call->peer;
        call->msg = msg;
        pthread_mutex_lock(&peer->mu);
        gy_lane_give(lane);
        pthread_mutex_unlock(&peer->mu);
        call_go(call);
        return;
    }
    if (msg)
        nng_msg_free(msg);
    call_cut(call, lane, sent ? NNG_ECLOSED : rv);
}

/* Tells on_state what it has not been told yet, in order and never twice at a time. */
static void tell_state(gy_peer *peer)
{
    pthread_mutex_lock(&peer->mu);
    while (!peer->telling && peer->told_up != peer->up) {
        bool up = peer->told_up = peer->up;
        if (!peer->on_state)
            continue;
        peer->telling = true;
        pthread_mutex_unlock(&peer->mu);
        peer->on_state(peer->self, up);
        pthread_mutex_lock(&peer->mu);
        peer->telling = false;
        pthread_cond_broadcast(&peer->cond);
    }
    pthread_mutex_unlock(&peer->mu);
}

void gy_peer_connected(gy_link *link)
{
    gy_peer *peer = link->peer;
    struct gy_bus_call *calls = NULL, *call, *next;
    pthread_mutex_lock(&peer->mu);
    if (peer->link == link && atomic_load(&link->connected) && link->acquaintance == GY_LINK_KNOWN) {
        peer->timeouts = 0;
        peer->up = true;
        calls = peer->waiting;
        peer->waiting = NULL;
    }
    pthread_mutex_unlock(&peer->mu);
    tell_state(peer);
    DL_FOREACH_SAFE(calls, call, next)
    {
        DL_DELETE(calls, call);
        call_go(call);
    }
}

void gy_peer_disconnected(gy_link *link)
{
    gy_peer *peer = link->peer;
    pthread_mutex_lock(&peer->mu);
    if (peer->link == link && !atomic_load(&link->connected)) {
        peer->up = false;
        peer->down_ns = gy_now_ns();
    }
    pthread_mutex_unlock(&peer->mu);
    tell_state(peer);
    gy_bus_poke(peer->bus); /* waiting calls now wait less long */
}

void gy_peer_greet_failed(gy_link *link, bool hard, bool timed_out, const gyre_error *err)
{
    gy_peer *peer = link->peer;
    struct gy_bus_call *calls = NULL;
    bool watch = false, greet = false;
    pthread_mutex_lock(&peer->mu);
    if (peer->link == link && !peer->closed) {
        if (hard) {
            peer->up = false;
            calls = peer->waiting;
            peer->waiting = NULL;
        }
        watch = timed_out && count_timeout(peer);
        greet = !hard && peer->waiting && !link->closing && atomic_load(&link->connected) &&
                link->acquaintance == GY_LINK_STRANGER;
        if (greet)
            gy_link_greeting(link);
    }
    pthread_mutex_unlock(&peer->mu);
    if (watch)
        gy_bus_poke(peer->bus);
    if (greet)
        gy_link_greet(link);
    tell_state(peer);
    if (calls)
        calls_fail(calls, err);
}

bool gy_peer_needs_care(gy_peer *peer, int64_t now_ns, int64_t *next_ns)
{
    pthread_mutex_lock(&peer->mu);
    bool needs = peer->redial;
    struct gy_bus_call *call;
    DL_FOREACH(peer->waiting, call)
    {
        int64_t until_ns = waits_until_ns(peer, call);
        needs |= until_ns <= now_ns;
        if (until_ns < *next_ns)
            *next_ns = until_ns;
    }
    pthread_mutex_unlock(&peer->mu);
    return needs;
}

/* Fails the calls that have waited long enough. */
static void expire_waiting(gy_peer *peer)
{
    int64_t now_ns = gy_now_ns();
    struct gy_bus_call *expired = NULL, *call, *next;
    gyre_error err;
    bool watch = false;
    pthread_mutex_lock(&peer->mu);
    bool connected = atomic_load(&peer->link->connected);
    DL_FOREACH_SAFE(peer->waiting, call, next)
    {
        if (waits_until_ns(peer, call) > now_ns)
            continue;
        DL_DELETE(peer->waiting, call);
        DL_APPEND(expired, call);
        if (connected)
            watch |= count_timeout(peer);
    }
    pthread_mutex_unlock(&peer->mu);
    if (connected)
        gyre_fail(&err, GYRE_DEADLINE, "%s did not answer our hello in time", peer->address);
    else
        gyre_fail(&err, GYRE_UNAVAILABLE, "no connection to %s", peer->address);
    if (watch)
        gy_bus_poke(peer->bus);
    calls_fail(expired, &err);
}

/* Replaces the link whole: socket, dialer and contexts. */
static void redial(gy_peer *peer)
{
    gy_link *fresh;
    if (gy_link_open(&fresh, peer, NULL) != GYRE_OK)
        return; /* no memory: the next timeouts ask again */
    pthread_mutex_lock(&peer->mu);
    gy_link *old = peer->link;
    peer->link = fresh;
    peer->up = false;
    peer->down_ns = gy_now_ns();
    peer->timeouts = 0;
    peer->redials++;
    pthread_mutex_unlock(&peer->mu);
    tell_state(peer);
    gy_peer_connected(fresh); /* in case it was faster than us */
    gy_link_close(old);
}

void gy_peer_care(gy_peer *peer)
{
    expire_waiting(peer);
    pthread_mutex_lock(&peer->mu);
    bool asked = peer->redial;
    peer->redial = false;
    pthread_mutex_unlock(&peer->mu);
    if (asked)
        redial(peer);
}

uint64_t gy_peer_redials(gy_peer *peer)
{
    pthread_mutex_lock(&peer->mu);
    uint64_t redials = peer->redials;
    pthread_mutex_unlock(&peer->mu);
    return redials;
}

gyre_status gy_peer_new(gy_peer **out, gy_bus *bus, const char *address, void (*on_state)(void *self, bool up), void *self,
                        gyre_error *err)
{
    char url[GY_BUS_URL_BYTES];
    GY_TRY(gy_bus_url(url, address, err));
    gy_peer *peer = calloc(1, sizeof *peer);
    if (peer)
        peer->address = strdup(address);
    if (!peer || !peer->address) {
        free(peer);
        return gyre_fail(err, GYRE_NO_MEMORY, "peer %s", address);
    }
    peer->bus = bus;
    peer->on_state = on_state;
    peer->self = self;
    peer->down_ns = gy_now_ns();
    pthread_mutex_init(&peer->mu, NULL);
    pthread_cond_init(&peer->cond, NULL);
    gy_link *link;
    gyre_status status = gy_link_open(&link, peer, err);
    if (status != GYRE_OK) {
        pthread_cond_destroy(&peer->cond);
        pthread_mutex_destroy(&peer->mu);
        free(peer->address);
        free(peer);
        return status;
    }
    pthread_mutex_lock(&peer->mu);
    peer->link = link;
    pthread_mutex_unlock(&peer->mu);
    gy_peer_connected(link); /* in case it was faster than us */
    pthread_mutex_lock(&bus->mu);
    DL_APPEND(bus->peers, peer);
    pthread_mutex_unlock(&bus->mu);
    *out = peer;
    return GYRE_OK;
}

void gy_peer_free(gy_peer *peer)
{
    if (!peer)
        return;
    gy_bus *bus = peer->bus;
    pthread_mutex_lock(&bus->mu);
    while (peer->kept)
        pthread_cond_wait(&bus->cond, &bus->mu);
    DL_DELETE(bus->peers, peer);
    pthread_mutex_unlock(&bus->mu);

    gyre_error err;
    gyre_fail(&err, GYRE_UNAVAILABLE, "connection to %s is being closed", peer->address);
    pthread_mutex_lock(&peer->mu);
    peer->closed = true;
    struct gy_bus_call *calls = peer->waiting;
    peer->waiting = NULL;
    pthread_mutex_unlock(&peer->mu);
    calls_fail(calls, &err);
    gy_link_close(peer->link);
    pthread_mutex_lock(&peer->mu);
    while (peer->outstanding > 0 || peer->telling)
        pthread_cond_wait(&peer->cond, &peer->mu);
    pthread_mutex_unlock(&peer->mu);
    pthread_cond_destroy(&peer->cond);
    pthread_mutex_destroy(&peer->mu);
    free(peer->address);
    free(peer);
}

bool gy_peer_up(const gy_peer *peer)
{
    gy_peer *locked = (gy_peer *)(uintptr_t)peer; /* const for the caller; the mutex is not part of what it sees */
    pthread_mutex_lock(&locked->mu);
    bool up = locked->up;
    pthread_mutex_unlock(&locked->mu);
    return up;
}

const char *gy_peer_address(const gy_peer *peer)
{
    return peer->address;
}
