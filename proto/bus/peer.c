/* Peers and their calls.
 *
 *   apart --dial--> dialling --connected--> greeting --hello answered--> known
 *     ^---------------'-------------------------'----------closed---------'        (then again, after a growing pause)
 *
 *   gy_peer_call -> waiting, until the peer is known -> sealed, sent -> answered -> on_reply
 *
 * A call that may have left is never sent again: when its connection ends it fails. Every outstanding call is in peer->calls
 * and in the slot its id names; whoever takes it out of both, under peer->mu, reports it, so on_reply runs once. */
#include "bus_private.h"
#include "conn.h"
#include "door.h"

#include <sodium.h>
#include <stdlib.h>
#include <utlist.h>

#define GREETING_WAIT_NS (2 * GY_SECOND_NS)
#define REDIAL_NS_MIN (50 * GY_MILLISECOND_NS)
#define REDIAL_NS_MAX GY_SECOND_NS
#define CLOCK_WINDOW_NS (60 * GY_SECOND_NS)
enum { DIAL_WAIT_MS = 5000 };

/* One request until on_reply has run. Guarded by peer->mu while in peer->calls, then of the thread that took it out. */
struct call {
    uint64_t id;      /* id % GY_PEER_OUTSTANDING_MAX is its slot */
    uint64_t counter; /* it was sent with; 0 is still waiting */
    struct gy_out *out; /* while waiting: room for the heads, then the body in plain */
    int64_t started_ns, deadline_ns;
    gy_on_reply *on_reply;
    void *arg;
    uint16_t type;
    struct call *prev, *next;
};

struct gy_peer {
    gy_bus *bus;
    char *address;
    void (*on_state)(void *self, bool up);
    void *self;
    gy_dialer *dialer;
    gy_peer *prev, *next; /* guarded by bus->mu */
    bool kept;            /* guarded by bus->mu: the keeper is at work here */

    pthread_mutex_t mu;
    pthread_cond_t quieter; /* outstanding, busy or telling went down */
    /* guarded by mu: */
    enum { APART, DIALLING, GREETING, KNOWN } phase;
    gy_conn *conn;      /* when greeting or known, until it is quiet */
    bool closed;        /* by gy_peer_free */
    unsigned busy;      /* callbacks that will still touch the peer although it is apart */
    int64_t due_ns;     /* apart: when to dial; greeting: when to give up */
    int64_t pause_ns;   /* before the dial after the next that fails */
    int64_t down_ns;    /* since when it is not known; GY_NEVER while its first dial is under way */
    uint32_t timeouts;  /* in a row */
    uint64_t redials;
    gyre_error trouble; /* status other than GYRE_OK: why the last greeting failed; why sent calls fail when it closes */

    struct gy_handshake handshake; /* greeting */
    struct gy_session_keys keys;   /* known; read without the lock by the reading thread, which alone writes them */
    uint64_t counter;
    uint64_t message_bytes_max;
    /* Our clock plus this is the peer's: the largest (its clock when it answered - ours on arrival) of this minute and the
     * one before. So a deadline reaches the peer early by the way back at most, and follows clocks that drift apart. */
    int64_t offset_ns, offset_before_ns, offset_since_ns;

    struct call *calls; /* all outstanding ones, oldest first */
    struct call *slots[GY_PEER_OUTSTANDING_MAX];
    uint16_t slots_free[GY_PEER_OUTSTANDING_MAX];
    size_t slots_free_count;
    size_t outstanding; /* calls whose on_reply has not returned */
    uint64_t call_count;
    bool told_up, telling;
};

/* ---- calls ---- */

/* Takes a call out; the caller reports it. Under mu. */
static void call_take(gy_peer *peer, struct call *call)
{
    DL_DELETE(peer->calls, call);
    size_t slot = call->id % GY_PEER_OUTSTANDING_MAX;
    peer->slots[slot] = NULL;
    peer->slots_free[peer->slots_free_count++] = (uint16_t)slot;
}

/* Moves a call to a list of such that have been taken out. Under mu. */
static void call_move(gy_peer *peer, struct call *call, struct call **list)
{
    call_take(peer, call);
    DL_APPEND(*list, call);
}

/* Reports and forgets a call that has been taken out. Not under a lock. */
static void call_finish(gy_peer *peer, struct call *call, gyre_status status, const gyre_error *err, const uint8_t *body,
                        size_t bytes)
{
    call->on_reply(call->arg, status, err, body, bytes);
    free(call->out);
    free(call);
    pthread_mutex_lock(&peer->mu);
    peer->outstanding--;
    pthread_cond_broadcast(&peer->quieter);
    pthread_mutex_unlock(&peer->mu);
}

static void calls_fail(gy_peer *peer, struct call *calls, const gyre_error *err)
{
    struct call *call, *next;
    DL_FOREACH_SAFE(calls, call, next)
    {
        DL_DELETE(calls, call);
        call_finish(peer, call, err->status, err, NULL, 0);
    }
}

/* Our deadline on the peer's clock. Under mu. */
static int64_t deadline_there_ns(const gy_peer *peer, int64_t deadline_ns)
{
    int64_t offset_ns = peer->offset_ns > peer->offset_before_ns ? peer->offset_ns : peer->offset_before_ns;
    int64_t there_ns;
    if (deadline_ns == GY_NEVER || __builtin_add_overflow(deadline_ns, offset_ns, &there_ns))
        return GY_NEVER;
    return there_ns;
}

/* Their clock when they answered, ours when it came. Under mu. */
static void note_clock(gy_peer *peer, int64_t theirs_ns, int64_t now_ns)
{
    int64_t offset_ns = theirs_ns - now_ns;
    if (now_ns - peer->offset_since_ns > CLOCK_WINDOW_NS) {
        peer->offset_before_ns = peer->offset_ns;
        peer->offset_ns = offset_ns;
        peer->offset_since_ns = now_ns;
    } else if (offset_ns > peer->offset_ns) {
        peer->offset_ns = offset_ns;
    }
}

/* What it takes to seal and send a call without the lock. */
struct parcel {
    gy_conn *conn; /* a reference */
    struct gy_out *out;
    uint8_t key[GY_SEAL_KEY_BYTES];
    struct gy_frame frame;
    struct gy_request_head head;
};

/* Marks a waiting call as sent. Under mu; the peer is known. */
static void parcel_make(gy_peer *peer, struct call *call, struct parcel *parcel)
{
    call->counter = ++peer->counter;
    parcel->conn = gy_conn_ref(peer->conn);
    parcel->out = GY_TAKE(call->out);
    memcpy(parcel->key, peer->keys.request, sizeof parcel->key);
    parcel->frame = (struct gy_frame){.version = peer->bus->self.version, .kind = GY_FRAME_REQUEST,
                                      .bytes = (uint32_t)parcel->out->bytes, .counter = call->counter};
    parcel->head = (struct gy_request_head){.request_id = call->id, .type = call->type,
                                            .deadline_ns = deadline_there_ns(peer, call->deadline_ns)};
}

static void parcel_send(struct parcel *parcel)
{
    uint8_t *data = parcel->out->data;
    gy_frame_encode(data, &parcel->frame);
    gy_request_head_encode(data + GY_FRAME_SEALED_AT, &parcel->head);
    gy_seal(data, parcel->out->bytes, parcel->key);
    sodium_memzero(parcel->key, sizeof parcel->key);
    gy_conn_send(parcel->conn, parcel->out);
    gy_conn_unref(parcel->conn);
}

/* The sentence for a body the known peer does not accept; false if it does. Under mu. */
static bool too_long(const gy_peer *peer, size_t bytes, gyre_error *err)
{
    if (bytes <= peer->message_bytes_max)
        return false;
    gyre_fail(err, GYRE_EXHAUSTED, "request of %zu bytes to %s; its limit is %llu", bytes, peer->address,
              (unsigned long long)peer->message_bytes_max);
    return true;
}

/* Until when a call waits, for a connection or its answer. Under mu. */
static int64_t call_due_ns(const gy_peer *peer, const struct call *call)
{
    if (call->counter != 0 || peer->down_ns == GY_NEVER)
        return call->deadline_ns;
    int64_t until_ns = (call->started_ns > peer->down_ns ? call->started_ns : peer->down_ns) + GY_PEER_DOWN_WAIT_NS;
    return until_ns < call->deadline_ns ? until_ns : call->deadline_ns;
}

/* Takes a call in: it is sent (parcel->conn is set) or waits. Fails if it cannot be taken in. */
static gyre_status call_enter(gy_peer *peer, struct call *call, struct parcel *parcel, int64_t *due_ns, gyre_error *err)
{
    size_t body_bytes = call->out->bytes - GY_FRAME_BODY_AT;
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&peer->mu);
    if (peer->slots_free_count == 0)
        status = gyre_fail(err, GYRE_EXHAUSTED, "%d requests to %s are outstanding, which is the limit", GY_PEER_OUTSTANDING_MAX,
                           peer->address);
    else if (peer->closed)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "connection to %s is being closed", peer->address);
    else if (peer->phase == KNOWN && too_long(peer, body_bytes, err))
        status = err->status;
    else if (peer->phase != KNOWN && peer->trouble.status != GYRE_OK) {
        *err = peer->trouble; /* another key or version: waiting would not help */
        status = err->status;
    }
    if (status == GYRE_OK) {
        uint16_t slot = peer->slots_free[--peer->slots_free_count];
        call->id = ++peer->call_count * GY_PEER_OUTSTANDING_MAX + slot;
        peer->slots[slot] = call;
        DL_APPEND(peer->calls, call);
        peer->outstanding++;
        if (peer->phase == KNOWN)
            parcel_make(peer, call, parcel);
        *due_ns = call_due_ns(peer, call);
    }
    pthread_mutex_unlock(&peer->mu);
    return status;
}

void gy_peer_call(gy_peer *peer, uint16_t type, const uint8_t *body, size_t bytes, int64_t deadline_ns, gy_on_reply *on_reply,
                  void *arg)
{
    gyre_error err = {.status = GYRE_OK};
    int64_t now_ns = gy_now_ns(), due_ns = GY_NEVER;
    struct call *call = NULL;
    struct gy_out *out = NULL;
    if (deadline_ns <= now_ns)
        gyre_fail(&err, GYRE_DEADLINE, "the deadline of a request to %s had passed", peer->address);
    else if (bytes > peer->bus->message_bytes_max)
        gyre_fail(&err, GYRE_EXHAUSTED, "request of %zu bytes to %s; the limit is %zu", bytes, peer->address,
                  peer->bus->message_bytes_max);
    else if (!(call = malloc(sizeof *call)) || !(out = gy_out_new(GY_FRAME_BODY_AT + bytes)))
        gyre_fail(&err, GYRE_NO_MEMORY, "request of %zu bytes to %s", bytes, peer->address);
    struct parcel parcel = {.conn = NULL};
    if (err.status == GYRE_OK) {
        *call = (struct call){.out = out, .started_ns = now_ns, .deadline_ns = deadline_ns, .on_reply = on_reply, .arg = arg,
                              .type = type};
        if (bytes > 0)
            memcpy(out->data + GY_FRAME_BODY_AT, body, bytes);
        GY_IGNORE(call_enter(peer, call, &parcel, &due_ns, &err)); /* err.status says it */
    }
    if (err.status != GYRE_OK) {
        free(out);
        free(call);
        on_reply(arg, err.status, &err, NULL, 0);
        return;
    }
    gy_bus *bus = peer->bus; /* the call may be over any moment now, and the peer gone */
    if (parcel.conn)
        parcel_send(&parcel);
    gy_bus_due(bus, due_ns);
}

/* ---- state ---- */

/* Tells on_state what it has not been told yet, in order and never twice at a time. */
static void tell_state(gy_peer *peer)
{
    pthread_mutex_lock(&peer->mu);
    while (!peer->telling && peer->told_up != (peer->phase == KNOWN)) {
        bool up = peer->told_up = !peer->told_up;
        if (!peer->on_state)
            continue;
        peer->telling = true;
        pthread_mutex_unlock(&peer->mu);
        peer->on_state(peer->self, up);
        pthread_mutex_lock(&peer->mu);
        peer->telling = false;
        pthread_cond_broadcast(&peer->quieter);
    }
    pthread_mutex_unlock(&peer->mu);
}

/* Goes apart; the next dial is after a pause that doubles each time. Under mu. */
static void go_apart(gy_peer *peer, int64_t now_ns)
{
    if (peer->phase == KNOWN || peer->down_ns == GY_NEVER)
        peer->down_ns = now_ns;
    peer->phase = APART;
    peer->due_ns = now_ns + peer->pause_ns;
    peer->pause_ns = peer->pause_ns * 2 < REDIAL_NS_MAX ? peer->pause_ns * 2 : REDIAL_NS_MAX;
}

/* Ends a callback that touched the peer after it went apart. */
static void busy_over(gy_peer *peer)
{
    pthread_mutex_lock(&peer->mu);
    peer->busy--;
    pthread_cond_broadcast(&peer->quieter);
    pthread_mutex_unlock(&peer->mu);
}

static void on_closed(void *owner)
{
    gy_peer *peer = owner;
    struct call *sent = NULL, *call, *next;
    gyre_error err;
    pthread_mutex_lock(&peer->mu);
    gy_conn *conn = GY_TAKE(peer->conn);
    bool was_known = peer->phase == KNOWN;
    peer->busy++;
    err = peer->trouble;
    if (err.status == GYRE_OK)
        gyre_fail(&err, GYRE_UNAVAILABLE, "connection to %s was cut while waiting for its answer", peer->address);
    if (was_known)
        peer->trouble.status = GYRE_OK; /* that was about these calls, not about greeting */
    DL_FOREACH_SAFE(peer->calls, call, next)
    {
        if (call->counter != 0)
            call_move(peer, call, &sent);
    }
    gy_handshake_wipe(&peer->handshake);
    sodium_memzero(&peer->keys, sizeof peer->keys);
    go_apart(peer, gy_now_ns());
    int64_t due_ns = peer->due_ns;
    pthread_mutex_unlock(&peer->mu);
    gy_conn_unref(conn);
    calls_fail(peer, sent, &err);
    tell_state(peer);
    gy_bus_due(peer->bus, due_ns);
    busy_over(peer);
}

/* Ends the connection because of what the peer sent; sent calls fail with err. */
static void drop(gy_peer *peer, const gyre_error *err)
{
    pthread_mutex_lock(&peer->mu);
    peer->trouble = *err;
    gy_conn *conn = gy_conn_ref(peer->conn);
    pthread_mutex_unlock(&peer->mu);
    gy_conn_close(conn);
    gy_conn_unref(conn);
}

/* The greeting failed for a reason that waiting does not mend: calls that wait fail with it, and so do new ones until a
 * later greeting goes well. */
static void greeting_failed(gy_peer *peer, const gyre_error *err)
{
    struct call *waiting = NULL, *call, *next;
    pthread_mutex_lock(&peer->mu);
    DL_FOREACH_SAFE(peer->calls, call, next)
    {
        call_move(peer, call, &waiting);
    }
    pthread_mutex_unlock(&peer->mu);
    drop(peer, err);
    calls_fail(peer, waiting, err);
}

/* The peer is known: what waits is sent. On the connection's reading thread. */
static void greeting_done(gy_peer *peer, const struct gy_session_keys *keys, const struct gy_hello *theirs)
{
    int64_t now_ns = gy_now_ns();
    pthread_mutex_lock(&peer->mu);
    peer->keys = *keys;
    peer->counter = 0;
    peer->message_bytes_max = theirs->message_bytes_max;
    peer->offset_before_ns = peer->offset_ns = theirs->clock_ns - now_ns;
    peer->offset_since_ns = now_ns;
    peer->timeouts = 0;
    peer->pause_ns = REDIAL_NS_MIN;
    peer->trouble.status = GYRE_OK;
    peer->phase = KNOWN;
    gy_conn_raise(peer->conn, gy_bus_frame_bytes_max(peer->bus->message_bytes_max));
    pthread_mutex_unlock(&peer->mu);
    tell_state(peer);
    for (;;) { /* one at a time: sealing wants no lock */
        struct call *call, *refused = NULL;
        struct parcel parcel = {.conn = NULL};
        gyre_error err;
        int64_t due_ns = GY_NEVER;
        pthread_mutex_lock(&peer->mu);
        DL_FOREACH(peer->calls, call)
        {
            if (call->counter == 0)
                break;
        }
        if (call && too_long(peer, call->out->bytes - GY_FRAME_BODY_AT, &err)) {
            call_move(peer, call, &refused);
        } else if (call) {
            parcel_make(peer, call, &parcel);
            due_ns = call->deadline_ns;
        }
        pthread_mutex_unlock(&peer->mu);
        if (!call)
            return;
        if (parcel.conn)
            parcel_send(&parcel);
        calls_fail(peer, refused, &err);
        gy_bus_due(peer->bus, due_ns);
    }
}

/* The first frame of our session: before the peer is known here, or a call of another thread would be. */
static gyre_status confirm(gy_peer *peer, const struct gy_session_keys *keys, gyre_error *err)
{
    struct gy_out *out = gy_out_new(GY_CONFIRM_BYTES);
    if (!out)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to confirm it");
    gy_confirm(out->data, peer->bus->self.version, keys);
    pthread_mutex_lock(&peer->mu);
    gy_conn *conn = gy_conn_ref(peer->conn);
    pthread_mutex_unlock(&peer->mu);
    gy_conn_send(conn, out);
    gy_conn_unref(conn);
    return GYRE_OK;
}

static void take_greeting(gy_peer *peer, const struct gy_frame *frame, const uint8_t *data)
{
    gyre_error err;
    struct gy_session_keys keys;
    struct gy_hello theirs;
    gyre_status status = GYRE_CORRUPT;
    if (frame->kind == GY_FRAME_REFUSAL && frame->refusal == GY_REFUSED_KEY)
        status = GYRE_UNAUTHENTICATED;
    else if (frame->kind == GY_FRAME_HELLO_REPLY)
        status = gy_handshake_finish(&peer->handshake, &peer->bus->keys, data, frame->bytes, &keys, &theirs, &err);
    else
        gyre_fail(&err, status, "a frame of kind %u", frame->kind);
    if (status == GYRE_OK)
        status = confirm(peer, &keys, &err);
    if (status == GYRE_OK)
        greeting_done(peer, &keys, &theirs);
    sodium_memzero(&keys, sizeof keys);
    if (status == GYRE_OK)
        return;
    if (status == GYRE_UNAUTHENTICATED)
        gyre_fail(&err, status, "cluster key differs from that of %s", peer->address);
    else
        gyre_wrap(&err, status, "answer of %s to our hello", peer->address);
    greeting_failed(peer, &err);
}

/* ---- answers ---- */

/* Reports an answer that has been opened. */
static void take_answer(gy_peer *peer, const struct gy_frame *frame, const struct gy_reply_head *head, const uint8_t *data)
{
    pthread_mutex_lock(&peer->mu);
    note_clock(peer, head->clock_ns, gy_now_ns());
    peer->timeouts = 0;
    struct call *call = peer->slots[head->request_id % GY_PEER_OUTSTANDING_MAX];
    if (call && (call->id != head->request_id || call->counter != frame->counter))
        call = NULL; /* the slot's next call */
    if (call)
        call_take(peer, call);
    pthread_mutex_unlock(&peer->mu);
    if (!call)
        return; /* it came after its deadline */
    const uint8_t *body = data + GY_FRAME_BODY_AT;
    size_t bytes = frame->bytes - GY_FRAME_BODY_AT;
    if (head->status == GYRE_OK) {
        call_finish(peer, call, GYRE_OK, NULL, body, bytes);
        return;
    }
    gyre_error err;
    int text_bytes = bytes < GYRE_ERROR_TEXT_BYTES ? (int)bytes : GYRE_ERROR_TEXT_BYTES - 1;
    gyre_fail(&err, head->status <= GYRE_UNAUTHENTICATED ? (gyre_status)head->status : GYRE_UNKNOWN, "%.*s", text_bytes,
              (const char *)body);
    call_finish(peer, call, err.status, &err, NULL, 0);
}

static bool on_frame(void *owner, const struct gy_frame *frame, uint8_t *data, uint8_t **whole)
{
    (void)whole;
    gy_peer *peer = owner;
    pthread_mutex_lock(&peer->mu);
    bool known = peer->phase == KNOWN;
    pthread_mutex_unlock(&peer->mu);
    struct gy_reply_head head;
    gyre_error err;
    if (!known) {
        take_greeting(peer, frame, data);
    } else if (frame->kind != GY_FRAME_REPLY || !gy_unseal(data, frame->bytes, peer->keys.reply)) {
        gyre_fail(&err, GYRE_UNAUTHENTICATED, "answer from %s fails authentication", peer->address);
        drop(peer, &err);
    } else if (gy_reply_head_decode(&head, data + GY_FRAME_SEALED_AT, &err) != GYRE_OK) {
        gyre_wrap(&err, GYRE_CORRUPT, "answer from %s", peer->address);
        drop(peer, &err);
    } else {
        take_answer(peer, frame, &head, data);
    }
    return false;
}

static void on_bad_frame(void *owner, const struct gy_frame *frame, gyre_status status, const gyre_error *err)
{
    gy_peer *peer = owner;
    gyre_error trouble = *err;
    if (status == GYRE_PRECONDITION)
        gyre_fail(&trouble, status, "%s speaks bus protocol version %u, this node version %u", peer->address, frame->version,
                  peer->bus->self.version);
    else
        gyre_wrap(&trouble, status, "answer of %s", peer->address);
    pthread_mutex_lock(&peer->mu);
    bool known = peer->phase == KNOWN;
    pthread_mutex_unlock(&peer->mu);
    if (known)
        drop(peer, &trouble);
    else
        greeting_failed(peer, &trouble);
}

static void on_answered(void *owner, size_t count)
{
    (void)owner, (void)count; /* a peer that we called asks nothing of us on this connection */
}

static const struct gy_conn_events EVENTS = {on_frame, on_bad_frame, on_answered, on_closed};

/* ---- dialling ---- */

/* The dial under way has ended. */
static void on_dialled(void *owner, struct nng_stream *stream)
{
    gy_peer *peer = owner;
    gy_bus *bus = peer->bus;
    gy_conn *conn = NULL;
    struct gy_out *hello = stream ? gy_out_new(GY_HELLO_BYTES_MAX) : NULL;
    if (stream && gy_conn_new(&conn, stream, &EVENTS, peer, bus->self.version, SIZE_MAX >> 1, GY_HELLO_BYTES_MAX, NULL) != GYRE_OK)
        conn = NULL;
    pthread_mutex_lock(&peer->mu);
    peer->busy++;
    bool go = conn && hello && !peer->closed;
    if (go) {
        peer->conn = gy_conn_ref(conn);
        peer->phase = GREETING;
        peer->due_ns = gy_now_ns() + GREETING_WAIT_NS;
        gy_handshake_begin(&peer->handshake, &bus->keys, &bus->self);
        memcpy(hello->data, peer->handshake.hello, peer->handshake.hello_bytes);
        hello->bytes = peer->handshake.hello_bytes;
    } else {
        if (!peer->closed && !conn)
            peer->trouble.status = GYRE_OK; /* whoever refused our hello is not there any more */
        go_apart(peer, gy_now_ns());
    }
    int64_t due_ns = peer->due_ns;
    pthread_mutex_unlock(&peer->mu);
    if (go) {
        gy_conn_send(conn, hello);
        gy_conn_start(conn);
    } else {
        free(hello);
    }
    gy_conn_unref(conn);
    gy_bus_due(bus, due_ns);
    busy_over(peer);
}

/* ---- what the keeper does ---- */

gy_peer *gy_peer_next(gy_peer *peer)
{
    return peer->next;
}

void gy_peer_keep(gy_peer *peer, bool kept)
{
    peer->kept = kept;
}

/* When the peer's phase is due, not its calls. Under mu. */
static int64_t phase_due_ns(const gy_peer *peer)
{
    if (peer->closed || peer->phase == DIALLING || peer->phase == KNOWN)
        return GY_NEVER;
    return peer->due_ns;
}

bool gy_peer_is_due(gy_peer *peer, int64_t now_ns, int64_t *next_ns)
{
    pthread_mutex_lock(&peer->mu);
    int64_t due_ns = phase_due_ns(peer);
    struct call *call;
    DL_FOREACH(peer->calls, call)
    {
        int64_t call_ns = call_due_ns(peer, call);
        if (call_ns < due_ns)
            due_ns = call_ns;
    }
    pthread_mutex_unlock(&peer->mu);
    if (due_ns < *next_ns)
        *next_ns = due_ns;
    return due_ns <= now_ns;
}

/* Takes out the calls that have waited long enough and reports them. True if they were the last straw: the peer is there but
 * answers nothing. */
static bool expire_calls(gy_peer *peer, int64_t now_ns)
{
    struct call *late = NULL, *call, *next;
    bool redial = false;
    gyre_error err;
    pthread_mutex_lock(&peer->mu);
    DL_FOREACH_SAFE(peer->calls, call, next)
    {
        if (call_due_ns(peer, call) > now_ns)
            continue;
        call_move(peer, call, &late);
        if (call->counter != 0 && ++peer->timeouts >= GY_PEER_TIMEOUTS_MAX) {
            peer->timeouts = 0;
            redial = true;
        }
    }
    peer->redials += redial;
    pthread_mutex_unlock(&peer->mu);
    DL_FOREACH_SAFE(late, call, next)
    {
        DL_DELETE(late, call);
        if (call->counter == 0)
            gyre_fail(&err, GYRE_UNAVAILABLE, "no connection to %s", peer->address);
        else
            gyre_fail(&err, GYRE_DEADLINE, "%s did not answer within %lld ms", peer->address,
                      (long long)((now_ns - call->started_ns) / GY_MILLISECOND_NS));
        call_finish(peer, call, err.status, &err, NULL, 0);
    }
    return redial;
}

void gy_peer_care(gy_peer *peer)
{
    int64_t now_ns = gy_now_ns();
    bool cut = expire_calls(peer, now_ns), dial = false;
    pthread_mutex_lock(&peer->mu);
    if (phase_due_ns(peer) <= now_ns) {
        cut |= peer->phase == GREETING; /* it does not answer our hello */
        dial = peer->phase == APART;
    }
    if (dial)
        peer->phase = DIALLING;
    if (peer->phase == GREETING && cut)
        peer->due_ns = GY_NEVER; /* once is enough */
    gy_conn *conn = cut && peer->conn ? gy_conn_ref(peer->conn) : NULL;
    pthread_mutex_unlock(&peer->mu);
    if (dial)
        gy_dialer_dial(peer->dialer, DIAL_WAIT_MS);
    if (conn)
        gy_conn_close(conn);
    gy_conn_unref(conn);
}

uint64_t gy_peer_redials(gy_peer *peer)
{
    pthread_mutex_lock(&peer->mu);
    uint64_t redials = peer->redials;
    pthread_mutex_unlock(&peer->mu);
    return redials;
}

/* ---- life ---- */

gyre_status gy_peer_new(gy_peer **out, gy_bus *bus, const char *address, void (*on_state)(void *self, bool up), void *self,
                        gyre_error *err)
{
    gy_peer *peer = calloc(1, sizeof *peer);
    if (!peer || !(peer->address = strdup(address))) {
        free(peer);
        return gyre_fail(err, GYRE_NO_MEMORY, "peer %s", address);
    }
    peer->bus = bus;
    peer->on_state = on_state;
    peer->self = self;
    int64_t now_ns = gy_now_ns();
    peer->due_ns = now_ns; /* apart, and to be dialled at once */
    peer->down_ns = GY_NEVER;
    peer->pause_ns = REDIAL_NS_MIN;
    for (size_t i = 0; i < GY_PEER_OUTSTANDING_MAX; i++)
        peer->slots_free[i] = (uint16_t)i;
    peer->slots_free_count = GY_PEER_OUTSTANDING_MAX;
    gyre_status status = gy_dialer_new(&peer->dialer, address, on_dialled, peer, err);
    if (status != GYRE_OK) {
        free(peer->address);
        free(peer);
        return status;
    }
    pthread_mutex_init(&peer->mu, NULL);
    pthread_cond_init(&peer->quieter, NULL);
    pthread_mutex_lock(&bus->mu);
    DL_APPEND(bus->peers, peer);
    pthread_mutex_unlock(&bus->mu);
    *out = peer;
    gy_bus_due(bus, now_ns);
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
    struct call *calls = NULL, *call, *next;
    pthread_mutex_lock(&peer->mu);
    peer->closed = true;
    DL_FOREACH_SAFE(peer->calls, call, next)
    {
        call_move(peer, call, &calls);
    }
    gy_conn *conn = peer->conn ? gy_conn_ref(peer->conn) : NULL;
    pthread_mutex_unlock(&peer->mu);
    if (conn)
        gy_conn_close(conn);
    gy_conn_unref(conn);
    gy_dialer_close(peer->dialer);
    calls_fail(peer, calls, &err);
    pthread_mutex_lock(&peer->mu);
    while (peer->outstanding > 0 || peer->telling || peer->busy > 0 || peer->phase != APART)
        pthread_cond_wait(&peer->quieter, &peer->mu);
    pthread_mutex_unlock(&peer->mu);
    gy_dialer_free(peer->dialer);
    pthread_cond_destroy(&peer->quieter);
    pthread_mutex_destroy(&peer->mu);
    free(peer->address);
    free(peer);
}

bool gy_peer_up(const gy_peer *peer)
{
    gy_peer *locked = (gy_peer *)(uintptr_t)peer; /* const for the caller; the mutex is not part of what it sees */
    pthread_mutex_lock(&locked->mu);
    bool up = locked->phase == KNOWN;
    pthread_mutex_unlock(&locked->mu);
    return up;
}

const char *gy_peer_address(const gy_peer *peer)
{
    return peer->address;
}
