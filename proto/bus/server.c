/* The answering side. Each connection is a caller: greeted when its hello is answered, known when it has confirmed. Then its
 * requests are handed to on_request, requests_max of them at once; beyond that it is read no further until one is
 * answered.
 * A frame that does not open, was seen before or makes no sense ends the connection: on a stream it can only be an attack
 * or a bug. */
#include "bus_private.h"
#include "conn.h"
#include "door.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <utlist.h>

enum { REQUESTS_MAX_DEFAULT = 256, REQUESTS_MAX_LIMIT = 16384 };
#define GREETING_WAIT_NS (10 * GY_SECOND_NS) /* for a caller to become known */
#define WRITE_WAIT_NS (30 * GY_SECOND_NS)    /* for a caller to read some of what we write */
#define CARE_EVERY_NS (5 * GY_SECOND_NS)

/* One connection. Its session belongs to the connection's reading thread; requests copy what they need. */
struct caller {
    atomic_uint refs; /* the connection's, and one per request */
    gy_server *server;
    gy_conn *conn;
    int64_t since_ns;
    bool greeted;      /* of the reading thread; there is a session, but its hello may have been recorded from another */
    atomic_bool known; /* it has proved to have the session's keys */
    atomic_bool gone;  /* closed: nobody reads an answer any more */
    struct gy_session_keys keys;
    struct gy_replay_window window;
    uint64_t message_bytes_max; /* what it accepts */
    char node[GY_NODE_NAME_BYTES_MAX + 1];
    struct caller *prev, *next; /* guarded by server->mu */
};

struct gy_bus_request {
    struct caller *caller;
    uint64_t counter;
    struct gy_request_head head;
    uint8_t *frame; /* NULL, or the block the body lies in */
    const uint8_t *body;
    size_t body_bytes;
    uint8_t copy[]; /* the body otherwise */
};

struct gy_server {
    gy_bus *bus;
    gy_listener *listener;
    void (*on_request)(void *self, gy_bus_request *request);
    void *self;
    size_t pending_max;

    pthread_mutex_t mu;
    pthread_cond_t quieter; /* working or caller_count went down */
    struct caller *callers; /* guarded by mu, as is what follows */
    size_t caller_count;
    size_t working; /* requests handed over whose answer is not written (or dropped) yet */
    bool draining;
};

const char *gy_server_address(const gy_server *server)
{
    return gy_listener_address(server->listener);
}

static void caller_unref(struct caller *caller)
{
    if (atomic_fetch_sub(&caller->refs, 1) != 1)
        return;
    gy_conn_unref(caller->conn);
    sodium_memzero(&caller->keys, sizeof caller->keys);
    free(caller);
}

/* Seals and sends an answer; false if there is no memory for it. */
static bool answer(struct caller *caller, uint64_t counter, uint64_t request_id, gyre_status status, const uint8_t *body,
                   size_t bytes)
{
    struct gy_out *out = gy_out_new(GY_FRAME_BODY_AT + bytes);
    if (!out)
        return false;
    struct gy_frame frame = {.version = caller->server->bus->self.version, .kind = GY_FRAME_REPLY, .bytes = (uint32_t)out->bytes,
                             .counter = counter};
    struct gy_reply_head head = {.request_id = request_id, .clock_ns = gy_now_ns(), .status = (uint16_t)status};
    gy_frame_encode(out->data, &frame);
    gy_reply_head_encode(out->data + GY_FRAME_SEALED_AT, &head);
    if (bytes > 0)
        memcpy(out->data + GY_FRAME_BODY_AT, body, bytes);
    gy_seal(out->data, out->bytes, caller->keys.reply);
    out->answers = true;
    gy_conn_send(caller->conn, out);
    return true;
}

void gy_bus_answer(gy_bus_request *request, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct caller *caller = request->caller;
    size_t bytes_max = caller->server->bus->message_bytes_max;
    if (caller->message_bytes_max < bytes_max)
        bytes_max = (size_t)caller->message_bytes_max;
    gyre_error too_long;
    if (status == GYRE_OK && bytes > bytes_max) {
        status = gyre_fail(&too_long, GYRE_EXHAUSTED, "answer of %zu bytes; the limit is %zu", bytes, bytes_max);
        err = &too_long;
    }
    if (status != GYRE_OK) {
        body = (const uint8_t *)(err && err->text[0] ? err->text : gyre_status_name(status));
        bytes = strlen((const char *)body);
    }
    static const char NO_MEMORY[] = "no memory for the answer";
    if (!answer(caller, request->counter, request->head.request_id, status, body, bytes) &&
        !answer(caller, request->counter, request->head.request_id, GYRE_NO_MEMORY, (const uint8_t *)NO_MEMORY,
                sizeof NO_MEMORY - 1))
        gy_conn_answered_not(caller->conn); /* the caller's deadline will tell it */
    free(request->frame);
    free(request);
    caller_unref(caller);
}

static void refuse(struct caller *caller, enum gy_refusal why)
{
    struct gy_out *out = gy_out_new(GY_FRAME_HEAD_BYTES);
    if (out) {
        struct gy_frame frame = {.version = caller->server->bus->self.version, .kind = GY_FRAME_REFUSAL,
                                 .refusal = (uint8_t)why, .bytes = GY_FRAME_HEAD_BYTES};
        gy_frame_encode(out->data, &frame);
        gy_conn_send(caller->conn, out);
    }
    gy_conn_finish(caller->conn);
}

static void answer_hello(struct caller *caller, const struct gy_frame *frame, const uint8_t *data)
{
    struct gy_bus *bus = caller->server->bus;
    struct gy_hello theirs;
    struct gy_out *out = gy_out_new(GY_HELLO_BYTES_MAX);
    if (!out) {
        gy_conn_close(caller->conn);
        return;
    }
    gyre_status status = gy_handshake_answer(&bus->keys, &bus->self, data, frame->bytes, out->data, &out->bytes, &caller->keys,
                                             &theirs, NULL);
    if (status != GYRE_OK) {
        free(out);
        refuse(caller, status == GYRE_UNAUTHENTICATED ? GY_REFUSED_KEY : GY_REFUSED_FRAME);
        return;
    }
    caller->message_bytes_max = theirs.message_bytes_max;
    memcpy(caller->node, theirs.node, sizeof caller->node);
    caller->greeted = true;
    gy_conn_send(caller->conn, out);
}

static void take_confirmation(struct caller *caller, const struct gy_frame *frame, uint8_t *data)
{
    if (!gy_unseal(data, frame->bytes, caller->keys.request)) {
        gy_conn_close(caller->conn);
        return;
    }
    atomic_store(&caller->known, true);
    gy_conn_raise(caller->conn, gy_bus_frame_bytes_max(caller->server->bus->message_bytes_max));
}

/* Makes the request of an opened frame; NULL: no memory. */
static gy_bus_request *request_new(struct caller *caller, const struct gy_frame *frame, uint8_t *data, uint8_t **whole)
{
    size_t bytes = frame->bytes - GY_FRAME_BODY_AT;
    gy_bus_request *request = malloc(sizeof *request + (whole ? 0 : bytes));
    if (!request)
        return NULL;
    *request = (gy_bus_request){.caller = caller, .counter = frame->counter, .body_bytes = bytes};
    if (whole) {
        request->frame = *whole;
        request->body = data + GY_FRAME_BODY_AT;
        *whole = NULL;
    } else {
        request->body = memcpy(request->copy, data + GY_FRAME_BODY_AT, bytes);
    }
    atomic_fetch_add(&caller->refs, 1);
    return request;
}

/* Opens a request and hands it over, or answers it at once. True if it will be answered. */
static bool take_request(struct caller *caller, const struct gy_frame *frame, uint8_t *data, uint8_t **whole)
{
    gy_server *server = caller->server;
    struct gy_request_head head;
    int64_t now_ns = gy_now_ns();
    gy_bus_request *request = NULL;
    if (gy_unseal(data, frame->bytes, caller->keys.request) && gy_replay_accept(&caller->window, frame->counter) &&
        gy_request_head_decode(&head, data + GY_FRAME_SEALED_AT, NULL) == GYRE_OK)
        request = request_new(caller, frame, data, whole);
    if (!request) {
        gy_conn_close(caller->conn);
        return false;
    }
    request->head = head;
    pthread_mutex_lock(&server->mu);
    bool draining = server->draining;
    server->working++;
    pthread_mutex_unlock(&server->mu);
    gyre_error err;
    if (draining) {
        gyre_fail(&err, GYRE_UNAVAILABLE, "node '%s' is shutting down", server->bus->node);
        gy_bus_answer(request, err.status, &err, NULL, 0);
    } else if (head.deadline_ns <= now_ns) {
        gyre_fail(&err, GYRE_DEADLINE, "request came %lld ms after its deadline",
                  (long long)((now_ns - head.deadline_ns) / GY_MILLISECOND_NS));
        gy_bus_answer(request, err.status, &err, NULL, 0);
    } else {
        server->on_request(server->self, request);
    }
    return true;
}

static bool on_frame(void *owner, const struct gy_frame *frame, uint8_t *data, uint8_t **whole)
{
    struct caller *caller = owner;
    bool known = atomic_load(&caller->known);
    if (known && frame->kind == GY_FRAME_REQUEST)
        return take_request(caller, frame, data, whole);
    if (caller->greeted && !known && frame->kind == GY_FRAME_CONFIRM)
        take_confirmation(caller, frame, data);
    else if (caller->greeted)
        gy_conn_close(caller->conn);
    else if (frame->kind == GY_FRAME_HELLO)
        answer_hello(caller, frame, data);
    else
        refuse(caller, GY_REFUSED_FRAME);
    return false;
}

static void on_bad_frame(void *owner, const struct gy_frame *frame, gyre_status status, const gyre_error *err)
{
    (void)frame, (void)err;
    struct caller *caller = owner;
    if (caller->greeted)
        gy_conn_close(caller->conn);
    else
        refuse(caller, status == GYRE_PRECONDITION ? GY_REFUSED_VERSION : GY_REFUSED_FRAME);
}

static void on_answered(void *owner, size_t count)
{
    struct caller *caller = owner;
    gy_server *server = caller->server;
    pthread_mutex_lock(&server->mu);
    server->working -= count;
    pthread_cond_broadcast(&server->quieter);
    pthread_mutex_unlock(&server->mu);
}

static void on_closed(void *owner)
{
    struct caller *caller = owner;
    gy_server *server = caller->server;
    atomic_store(&caller->gone, true);
    pthread_mutex_lock(&server->mu);
    DL_DELETE(server->callers, caller);
    server->caller_count--;
    pthread_cond_broadcast(&server->quieter);
    pthread_mutex_unlock(&server->mu);
    caller_unref(caller);
}

static const struct gy_conn_events EVENTS = {on_frame, on_bad_frame, on_answered, on_closed};

/* A connection was accepted. */
static void on_stream(void *owner, struct nng_stream *stream)
{
    gy_server *server = owner;
    struct caller *caller = calloc(1, sizeof *caller);
    gy_conn *conn;
    /* Without a caller the connection is born and closed, which frees the stream. */
    if (gy_conn_new(&conn, stream, &EVENTS, caller, server->bus->self.version, server->pending_max, GY_HELLO_BYTES_MAX, NULL) !=
        GYRE_OK) {
        free(caller);
        return;
    }
    pthread_mutex_lock(&server->mu);
    bool room = caller && server->caller_count < GY_BUS_CALLERS_MAX;
    if (room) {
        atomic_init(&caller->refs, 1);
        caller->server = server;
        caller->conn = conn;
        caller->since_ns = gy_now_ns();
        DL_APPEND(server->callers, caller);
        server->caller_count++;
    }
    pthread_mutex_unlock(&server->mu);
    if (!room) {
        gy_conn_unref(conn);
        free(caller);
        return;
    }
    gy_conn_start(conn);
    gy_bus_due(server->bus, gy_now_ns() + CARE_EVERY_NS);
}

void gy_server_care(gy_server *server, int64_t now_ns, int64_t *next_ns)
{
    pthread_mutex_lock(&server->mu);
    if (server->callers && now_ns + CARE_EVERY_NS < *next_ns)
        *next_ns = now_ns + CARE_EVERY_NS;
    struct caller *caller, *stale = NULL;
    DL_FOREACH(server->callers, caller)
    {
        bool silent = !atomic_load(&caller->known) && now_ns - caller->since_ns > GREETING_WAIT_NS;
        int64_t since_ns = gy_conn_writing_since_ns(caller->conn);
        bool deaf = since_ns != GY_NEVER && now_ns - since_ns > WRITE_WAIT_NS;
        if (silent || deaf) {
            stale = caller;
            atomic_fetch_add(&stale->refs, 1);
            *next_ns = now_ns; /* one at a time: closing calls back, which takes our mutex */
            break;
        }
    }
    pthread_mutex_unlock(&server->mu);
    if (stale) {
        gy_conn_close(stale->conn);
        caller_unref(stale);
    }
}

uint16_t gy_bus_request_type(const gy_bus_request *request)
{
    return request->head.type;
}

const uint8_t *gy_bus_request_body(const gy_bus_request *request, size_t *bytes)
{
    *bytes = request->body_bytes;
    return request->body;
}

int64_t gy_bus_request_deadline_ns(const gy_bus_request *request)
{
    return request->head.deadline_ns;
}

const char *gy_bus_request_node(const gy_bus_request *request)
{
    return request->caller->node;
}

bool gy_bus_request_abandoned(const gy_bus_request *request)
{
    return atomic_load(&request->caller->gone);
}

gyre_status gy_server_open(gy_server **out, gy_bus *bus, const struct gy_bus_options *options, gyre_error *err)
{
    size_t pending_max = options->requests_max ? options->requests_max : REQUESTS_MAX_DEFAULT;
    if (pending_max > REQUESTS_MAX_LIMIT)
        return gyre_fail(err, GYRE_INVALID, "requests_max is %zu; the limit is %d", pending_max, REQUESTS_MAX_LIMIT);
    gy_server *server = calloc(1, sizeof *server);
    if (!server)
        return gyre_fail(err, GYRE_NO_MEMORY, "bus server");
    *server = (gy_server){.bus = bus, .on_request = options->on_request, .self = options->self, .pending_max = pending_max};
    pthread_mutex_init(&server->mu, NULL);
    pthread_cond_init(&server->quieter, NULL);
    gyre_status status = gy_listener_open(&server->listener, options->listen, on_stream, server, err);
    if (status != GYRE_OK) {
        gy_server_close(server);
        return status;
    }
    *out = server;
    return GYRE_OK;
}

void gy_server_drain(gy_server *server)
{
    if (!server)
        return;
    pthread_mutex_lock(&server->mu);
    server->draining = true;
    while (server->working > 0)
        pthread_cond_wait(&server->quieter, &server->mu);
    pthread_mutex_unlock(&server->mu);
}

/* A caller with a reference, or NULL if there is none. */
static struct caller *any_caller(gy_server *server)
{
    pthread_mutex_lock(&server->mu);
    struct caller *caller = server->callers;
    if (caller)
        atomic_fetch_add(&caller->refs, 1);
    pthread_mutex_unlock(&server->mu);
    return caller;
}

void gy_server_close(gy_server *server)
{
    if (!server)
        return;
    gy_listener_close(server->listener); /* no caller is added from here on */
    struct caller *caller;
    while ((caller = any_caller(server))) {
        gy_conn_close(caller->conn);
        pthread_mutex_lock(&server->mu);
        while (server->callers == caller) /* until on_closed */
            pthread_cond_wait(&server->quieter, &server->mu);
        pthread_mutex_unlock(&server->mu);
        caller_unref(caller);
    }
    pthread_mutex_lock(&server->mu);
    while (server->working > 0) /* requests that came while draining: answered at once */
        pthread_cond_wait(&server->quieter, &server->mu);
    pthread_mutex_unlock(&server->mu);
    pthread_cond_destroy(&server->quieter);
    pthread_mutex_destroy(&server->mu);
    free(server);
}
