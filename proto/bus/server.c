/* The answering side: one REP0 socket, receive_contexts contexts, each of which takes a request, waits until it is answered,
 * sends the answer and takes the next.
 *
 *   receiving --message--> working --gy_bus_answer--> answering --sent--> receiving
 *        '---hello, refused, late, draining: answered at once--^
 *
 * The context's aio runs one operation at a time, so a request's fields need no lock: they belong to whoever the state
 * names (nng, the holder of the request, nng). */
#include "bus_private.h"
#include "sessions.h"

#include <arpa/inet.h>
#include <nng/protocol/reqrep0/rep.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RECEIVE_CONTEXTS_DEFAULT = 256,
    RECEIVE_CONTEXTS_MAX = 16384,
    /* An answer is given up when its caller no longer waits, so that a peer that stopped reading cannot hold contexts. */
    ANSWER_WAIT_S_MIN = 1,
    ANSWER_WAIT_S_MAX = 60,
};

struct gy_bus_request {
    gy_server *server;
    nng_ctx ctx;
    nng_aio *aio;
    enum { RECEIVING, WORKING, ANSWERING } state;
    bool counted; /* in server->working */
    nng_msg *msg; /* the request, opened, while WORKING */
    struct gy_frame frame;
    struct gy_request_head head;
    struct gy_session session;
};

struct gy_server {
    gy_bus *bus;
    nng_socket socket;
    char address[GY_BUS_URL_BYTES];
    gy_sessions *sessions;
    void (*on_request)(void *self, gy_bus_request *request);
    void *self;
    size_t request_count;
    gy_bus_request *requests;

    pthread_mutex_t mu;
    pthread_cond_t idle;
    size_t working; /* guarded by mu: requests handed over whose answer nng has not taken yet */
    bool draining;  /* guarded by mu */
};

const char *gy_server_address(const gy_server *server)
{
    return server->address;
}

static void receive(gy_bus_request *request)
{
    request->state = RECEIVING;
    nng_aio_set_timeout(request->aio, NNG_DURATION_INFINITE);
    nng_ctx_recv(request->ctx, request->aio);
}

/* Gives msg to nng as the answer; the request is nng's afterwards. */
static void send_answer(gy_bus_request *request, nng_msg *msg)
{
    int64_t now_ns = gy_now_ns(), wait_ns = ANSWER_WAIT_S_MAX * GY_SECOND_NS;
    if (request->head.deadline_ns != GY_NEVER && request->head.deadline_ns < now_ns + wait_ns)
        wait_ns = request->head.deadline_ns - now_ns;
    if (wait_ns < ANSWER_WAIT_S_MIN * GY_SECOND_NS)
        wait_ns = ANSWER_WAIT_S_MIN * GY_SECOND_NS;
    request->state = ANSWERING;
    nng_aio_set_timeout(request->aio, gy_bus_wait_ms(now_ns + wait_ns, now_ns));
    nng_aio_set_msg(request->aio, msg);
    nng_ctx_send(request->ctx, request->aio);
}

/* The request is over: its context takes the next. Last touch of request, and of server if this was its last work. */
static void finish(gy_bus_request *request)
{
    gy_server *server = request->server;
    bool counted = request->counted;
    request->counted = false;
    receive(request);
    if (!counted)
        return;
    pthread_mutex_lock(&server->mu);
    if (--server->working == 0)
        pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->mu);
}

/* Seals and sends a reply; false if there is no memory for it. */
static bool reply(gy_bus_request *request, gyre_status status, const uint8_t *body, size_t bytes)
{
    nng_msg *msg;
    if (nng_msg_alloc(&msg, GY_FRAME_BODY_AT + bytes) != 0)
        return false;
    struct gy_frame frame = request->frame;
    frame.kind = GY_FRAME_REPLY;
    struct gy_reply_head head = {.request_id = request->head.request_id, .clock_ns = gy_now_ns(), .status = (uint16_t)status};
    uint8_t *data = nng_msg_body(msg);
    gy_frame_encode(data, &frame);
    gy_reply_head_encode(data + GY_FRAME_SEALED_AT, &head);
    if (bytes > 0)
        memcpy(data + GY_FRAME_BODY_AT, body, bytes);
    gy_seal(data, GY_FRAME_BODY_AT + bytes, request->session.keys.reply);
    sodium_memzero(&request->session.keys, sizeof request->session.keys);
    nng_msg_free(request->msg);
    request->msg = NULL;
    send_answer(request, msg);
    return true;
}

void gy_bus_answer(gy_bus_request *request, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    size_t bytes_max = request->server->bus->message_bytes_max;
    if (request->session.message_bytes_max < bytes_max)
        bytes_max = (size_t)request->session.message_bytes_max;
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
    if (reply(request, status, body, bytes) ||
        reply(request, GYRE_NO_MEMORY, (const uint8_t *)NO_MEMORY, sizeof NO_MEMORY - 1))
        return;
    nng_msg_free(request->msg); /* not even that: the caller's deadline will tell it */
    request->msg = NULL;
    finish(request);
}

/* Sends the received message back as a refusal. A request's carries its tag, whole if the session is unknown so that the
 * caller, which did not keep a copy, can seal it anew; and a MAC, so that nobody else can make the caller send twice. */
static void refuse(gy_bus_request *request, nng_msg *msg, enum gy_refusal why)
{
    struct gy_bus *bus = request->server->bus;
    size_t bytes = nng_msg_len(msg);
    struct gy_frame frame = {.version = bus->self.version, .kind = GY_FRAME_REFUSAL, .refusal = (uint8_t)why,
                             .session = request->frame.session, .counter = request->frame.counter};
    bool of_request = request->frame.kind == GY_FRAME_REQUEST;
    size_t keep = !of_request ? GY_FRAME_HEAD_BYTES : why == GY_REFUSED_SESSION ? bytes : GY_FRAME_SEALED_AT;
    uint8_t head[GY_FRAME_SEALED_AT], mac[GY_FRAME_MAC_BYTES];
    gy_frame_encode(head, &frame);
    int rv = 0;
    if (keep > bytes) { /* a message shorter than a head */
        nng_msg_clear(msg);
        rv = nng_msg_append(msg, head, GY_FRAME_HEAD_BYTES);
    } else {
        rv = nng_msg_chop(msg, bytes - keep);
        memcpy(nng_msg_body(msg), head, GY_FRAME_HEAD_BYTES);
    }
    if (rv == 0 && of_request) {
        gy_refusal_mac(mac, &bus->keys, nng_msg_body(msg));
        rv = nng_msg_append(msg, mac, sizeof mac);
    }
    if (rv != 0) {
        nng_msg_free(msg);
        receive(request);
        return;
    }
    send_answer(request, msg);
}

static void answer_hello(gy_bus_request *request, nng_msg *msg)
{
    gy_server *server = request->server;
    uint8_t bytes[GY_HELLO_BYTES_MAX];
    size_t count;
    uint64_t id;
    randombytes_buf(&id, sizeof id);
    struct gy_session session = {.node = ""};
    struct gy_hello theirs;
    gyre_status status = gy_handshake_answer(&server->bus->keys, &server->bus->self, id, nng_msg_body(msg), nng_msg_len(msg),
                                             bytes, &count, &session.keys, &theirs, NULL);
    if (status != GYRE_OK) {
        refuse(request, msg, status == GYRE_UNAUTHENTICATED ? GY_REFUSED_KEY : GY_REFUSED_FRAME);
        return;
    }
    session.message_bytes_max = theirs.message_bytes_max;
    memcpy(session.node, theirs.node, sizeof session.node);
    nng_msg_clear(msg);
    bool kept = gy_sessions_add(server->sessions, id, &session, gy_now_ns(), NULL) == GYRE_OK &&
                nng_msg_append(msg, bytes, count) == 0;
    sodium_memzero(&session, sizeof session);
    if (kept) {
        send_answer(request, msg);
    } else { /* no memory: the caller asks again */
        nng_msg_free(msg);
        receive(request);
    }
}

/* Opens a request and hands it over, or answers it at once. */
static void take_request(gy_bus_request *request, nng_msg *msg)
{
    gy_server *server = request->server;
    uint8_t *data = nng_msg_body(msg);
    size_t bytes = nng_msg_len(msg);
    int64_t now_ns = gy_now_ns();
    enum gy_refusal why = GY_REFUSED_NOTHING;
    if (!gy_sessions_find(server->sessions, request->frame.session, now_ns, &request->session))
        why = GY_REFUSED_SESSION;
    else if (!gy_unseal(data, bytes, request->session.keys.request))
        why = GY_REFUSED_SEAL;
    else if (!gy_sessions_accept(server->sessions, request->frame.session, request->frame.counter, now_ns))
        why = GY_REFUSED_REPLAY;
    else if (gy_request_head_decode(&request->head, data + GY_FRAME_SEALED_AT, NULL) != GYRE_OK)
        why = GY_REFUSED_FRAME;
    if (why != GY_REFUSED_NOTHING) {
        sodium_memzero(&request->session.keys, sizeof request->session.keys);
        refuse(request, msg, why);
        return;
    }
    request->msg = msg;
    request->state = WORKING;
    pthread_mutex_lock(&server->mu);
    bool draining = server->draining;
    request->counted = !draining;
    server->working += request->counted;
    pthread_mutex_unlock(&server->mu);
    gyre_error err;
    if (draining) {
        gyre_status status = gyre_fail(&err, GYRE_UNAVAILABLE, "node '%s' is shutting down", server->bus->node);
        gy_bus_answer(request, status, &err, NULL, 0);
    } else if (request->head.deadline_ns <= now_ns) {
        gyre_status status = gyre_fail(&err, GYRE_DEADLINE, "request came %lld ms after its deadline",
                                       (long long)((now_ns - request->head.deadline_ns) / GY_MILLISECOND_NS));
        gy_bus_answer(request, status, &err, NULL, 0);
    } else {
        server->on_request(server->self, request);
    }
}

static void take_message(gy_bus_request *request, nng_msg *msg)
{
    request->frame = (struct gy_frame){0};
    request->head = (struct gy_request_head){.deadline_ns = GY_NEVER};
    gyre_status status = gy_frame_decode(&request->frame, nng_msg_body(msg), nng_msg_len(msg),
                                         request->server->bus->self.version, NULL);
    if (status == GYRE_PRECONDITION)
        refuse(request, msg, GY_REFUSED_VERSION);
    else if (status != GYRE_OK)
        refuse(request, msg, GY_REFUSED_FRAME);
    else if (request->frame.kind == GY_FRAME_HELLO)
        answer_hello(request, msg);
    else if (request->frame.kind == GY_FRAME_REQUEST)
        take_request(request, msg);
    else
        refuse(request, msg, GY_REFUSED_FRAME);
}

/* nng finished the request's operation. */
static void on_aio(void *arg)
{
    gy_bus_request *request = arg;
    int rv = nng_aio_result(request->aio);
    nng_msg *msg = nng_aio_get_msg(request->aio); /* what was received, or what could not be sent */
    nng_aio_set_msg(request->aio, NULL);
    if (request->state == RECEIVING) {
        if (rv == 0)
            take_message(request, msg);
        return; /* else the socket is being closed */
    }
    if (rv != 0 && msg)
        nng_msg_free(msg);
    finish(request);
}

uint16_t gy_bus_request_type(const gy_bus_request *request)
{
    return request->head.type;
}

const uint8_t *gy_bus_request_body(const gy_bus_request *request, size_t *bytes)
{
    *bytes = nng_msg_len(request->msg) - GY_FRAME_BODY_AT;
    return (const uint8_t *)nng_msg_body(request->msg) + GY_FRAME_BODY_AT;
}

int64_t gy_bus_request_deadline_ns(const gy_bus_request *request)
{
    return request->head.deadline_ns;
}

const char *gy_bus_request_node(const gy_bus_request *request)
{
    return request->session.node;
}

/* The address with the port the system chose. */
static int read_address(gy_server *server, nng_listener listener)
{
    nng_sockaddr at;
    int rv = nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &at);
    if (rv != 0)
        return rv;
    char host[INET6_ADDRSTRLEN];
    if (at.s_family == NNG_AF_INET) {
        inet_ntop(AF_INET, &at.s_in.sa_addr, host, sizeof host);
        snprintf(server->address, sizeof server->address, "%s:%u", host, ntohs(at.s_in.sa_port));
    } else if (at.s_family == NNG_AF_INET6) {
        inet_ntop(AF_INET6, at.s_in6.sa_addr, host, sizeof host);
        snprintf(server->address, sizeof server->address, "[%s]:%u", host, ntohs(at.s_in6.sa_port));
    } else {
        return NNG_EADDRINVAL;
    }
    return 0;
}

static gyre_status listen_on(gy_server *server, const char *address, gyre_error *err)
{
    char url[GY_BUS_URL_BYTES];
    GY_TRY(gy_bus_url(url, address, err));
    nng_listener listener;
    int rv = nng_listener_create(&listener, server->socket, url);
    if (rv == 0)
        rv = nng_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0)
        rv = nng_listener_start(listener, 0);
    if (rv == 0)
        rv = read_address(server, listener);
    if (rv != 0)
        return gyre_wrap(err, gy_bus_fail(err, rv, address), "cannot listen");
    return GYRE_OK;
}

static gyre_status requests_open(gy_server *server, gyre_error *err)
{
    for (size_t i = 0; i < server->request_count; i++) {
        gy_bus_request *request = &server->requests[i];
        request->server = server;
        int rv = nng_ctx_open(&request->ctx, server->socket);
        if (rv == 0)
            rv = nng_aio_alloc(&request->aio, on_aio, request);
        if (rv != 0)
            return gy_bus_fail(err, rv, "cannot open a receive context");
        receive(request);
    }
    return GYRE_OK;
}

gyre_status gy_server_open(gy_server **out, gy_bus *bus, const struct gy_bus_options *options, gyre_error *err)
{
    size_t count = options->receive_contexts ? options->receive_contexts : RECEIVE_CONTEXTS_DEFAULT;
    if (count > RECEIVE_CONTEXTS_MAX)
        return gyre_fail(err, GYRE_INVALID, "receive_contexts is %zu; the limit is %d", count, RECEIVE_CONTEXTS_MAX);
    gy_server *server = calloc(1, sizeof *server);
    if (!server)
        return gyre_fail(err, GYRE_NO_MEMORY, "bus server");
    *server = (gy_server){.bus = bus, .on_request = options->on_request, .self = options->self, .request_count = count};
    pthread_mutex_init(&server->mu, NULL);
    pthread_cond_init(&server->idle, NULL);
    gyre_status status = gy_sessions_new(&server->sessions, err);
    server->requests = calloc(count, sizeof *server->requests);
    if (status == GYRE_OK && !server->requests)
        status = gyre_fail(err, GYRE_NO_MEMORY, "%zu receive contexts", count);
    int rv = status == GYRE_OK ? nng_rep0_open(&server->socket) : 0;
    if (rv == 0 && status == GYRE_OK) /* before anything is received: the default is unlimited */
        rv = nng_socket_set_size(server->socket, NNG_OPT_RECVMAXSZ, bus->message_bytes_max + GY_BUS_OVERHEAD_BYTES);
    if (rv != 0)
        status = gy_bus_fail(err, rv, "cannot open the answering socket");
    if (status == GYRE_OK)
        status = requests_open(server, err);
    if (status == GYRE_OK)
        status = listen_on(server, options->listen, err);
    if (status != GYRE_OK) {
        gy_server_close(server);
        return status;
    }
    *out = server;
    return GYRE_OK;
}

void gy_server_close(gy_server *server)
{
    if (!server)
        return;
    /* The listener stays open meanwhile: closing it would cut the connections that the answers take. */
    pthread_mutex_lock(&server->mu);
    server->draining = true;
    while (server->working > 0)
        pthread_cond_wait(&server->idle, &server->mu);
    pthread_mutex_unlock(&server->mu);
    for (size_t i = 0; server->requests && i < server->request_count; i++) {
        gy_bus_request *request = &server->requests[i];
        if (!request->aio)
            continue;
        nng_aio_stop(request->aio); /* its callback has returned and cannot start another operation */
        nng_msg *msg = nng_aio_get_msg(request->aio);
        if (msg)
            nng_msg_free(msg);
        nng_aio_free(request->aio);
        sodium_memzero(&request->session, sizeof request->session);
    }
    if (nng_socket_id(server->socket) > 0)
        nng_close(server->socket);
    gy_sessions_free(server->sessions);
    pthread_cond_destroy(&server->idle);
    pthread_mutex_destroy(&server->mu);
    free(server->requests);
    free(server);
}
