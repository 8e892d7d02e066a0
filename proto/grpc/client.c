/* A client: one channel, and a completion queue per call in progress, taken from a shelf and put back empty. Calls wait on
 * their own queue (pluck), so threads never hand events to each other: the shortest way there is. */
#include "client.h"
#include "message.h"
#include "rich_status.h"

#include <assert.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdlib.h>

enum {
    /* A daemon that is just starting should be found soon after it listens. */
    RECONNECT_MS_FIRST = 50,
    RECONNECT_MS_MAX = 1000,
    CONNECT_MS_MAX = 5000,
    FAILED_MS = 100, /* that a channel which failed is given before another server is asked */
    /* A frozen or unplugged server is noticed after these, when a call without deadline waits for it. */
    KEEPALIVE_MS = 20000,
    KEEPALIVE_TIMEOUT_MS = 10000,
};

struct gyre_stream {
    gyre_client *client;
    grpc_completion_queue *queue;
    grpc_call *call;
    struct gy_client_outcome outcome;
    bool ended; /* the outcome is there */
};

/* ---- channel ---- */

static grpc_arg integer_arg(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_channel_credentials *credentials(const struct gyre_client_tls *tls)
{
    if (!tls)
        return grpc_insecure_credentials_create();
    grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->key, .cert_chain = tls->cert};
    return grpc_ssl_credentials_create_ex(tls->ca, tls->key ? &pair : NULL, NULL, NULL);
}

static grpc_channel *create_channel(const char *address, const struct gyre_client_tls *tls)
{
    grpc_arg args[] = {
        integer_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, GY_RPC_MESSAGE_BYTES_MAX),
        integer_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0), /* message.c inflates, within the limit */
        integer_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),                /* http_proxy is about the web, not about a database */
        integer_arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        integer_arg(GRPC_ARG_ENABLE_RETRIES, 0), /* whoever calls decides what may be sent twice */
        integer_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* two clients are two connections */
        integer_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_MS_FIRST),
        integer_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MS_MAX),
        integer_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS_MAX), /* bounds an attempt, whatever the name says */
        integer_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
    };
    grpc_channel_args channel_args = {.num_args = sizeof args / sizeof *args, .args = args};
    grpc_channel_credentials *how = credentials(tls);
    grpc_channel *channel = grpc_channel_create(address, how, &channel_args);
    grpc_channel_credentials_release(how);
    return channel;
}

gyre_status gyre_client_open(gyre_client **out, const char *address, gyre_error *err)
{
    return gyre_client_open_tls(out, address, NULL, err);
}

gyre_status gyre_client_open_tls(gyre_client **out, const char *address, const struct gyre_client_tls *tls, gyre_error *err)
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return gyre_fail(err, GYRE_INVALID, "server address '%.80s' is not of the form host:port", address);
    gyre_client *client = calloc(1, sizeof *client);
    char *copy = strdup(address);
    if (!client || !copy) {
        free(client);
        free(copy);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a client of %s", address);
    }
    grpc_init();
    client->address = copy;
    pthread_mutex_init(&client->mu, NULL);
    client->channel = create_channel(address, tls);
    *out = client;
    return GYRE_OK;
}

void gyre_client_close(gyre_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < client->shelved; i++) {
        grpc_completion_queue_shutdown(client->shelf[i]);
        grpc_completion_queue_destroy(client->shelf[i]);
    }
    grpc_channel_destroy(client->channel);
    pthread_mutex_destroy(&client->mu);
    free(client->address);
    free(client);
    grpc_shutdown();
}

grpc_completion_queue *gy_client_queue_take(gyre_client *client)
{
    grpc_completion_queue *queue = NULL;
    pthread_mutex_lock(&client->mu);
    if (client->shelved > 0)
        queue = client->shelf[--client->shelved];
    pthread_mutex_unlock(&client->mu);
    return queue ? queue : grpc_completion_queue_create_for_pluck(NULL);
}

void gy_client_queue_give_back(gyre_client *client, grpc_completion_queue *queue)
{
    pthread_mutex_lock(&client->mu);
    bool kept = client->shelved < GY_CLIENT_QUEUES_MAX;
    if (kept)
        client->shelf[client->shelved++] = queue;
    pthread_mutex_unlock(&client->mu);
    if (!kept) {
        grpc_completion_queue_shutdown(queue);
        grpc_completion_queue_destroy(queue);
    }
}

/* A channel that failed to connect says so until it is ready, though it tries again by itself; and gRPC core looks at its sockets
 * only while somebody waits on a queue. So a failed one gets a moment of waiting: without, it would never find its server again.
 * */
bool gyre_client_await_ready(gyre_client *client, int64_t deadline_ns)
{
    grpc_completion_queue *queue = gy_client_queue_take(client);
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(client->channel, 1);
    bool failed_before = state == GRPC_CHANNEL_TRANSIENT_FAILURE, waited = true;
    int64_t moment_ns = gy_now_ns() + FAILED_MS * GY_MILLISECOND_NS;
    int64_t failed_ns = moment_ns < deadline_ns ? moment_ns : deadline_ns;
    while (waited && (state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING ||
                      (failed_before && state == GRPC_CHANNEL_TRANSIENT_FAILURE))) {
        int64_t until_ns = state == GRPC_CHANNEL_TRANSIENT_FAILURE ? failed_ns : deadline_ns;
        grpc_channel_watch_connectivity_state(client->channel, state, gy_client_deadline(until_ns), queue, &state);
        waited = gy_client_await(queue, &state); /* false: the deadline came first */
        state = grpc_channel_check_connectivity_state(client->channel, 1);
    }
    gy_client_queue_give_back(client, queue);
    return state == GRPC_CHANNEL_READY;
}

/* ---- calls ---- */

gpr_timespec gy_client_deadline(int64_t deadline_ns)
{
    return deadline_ns == GY_NEVER ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                                   : gpr_time_from_nanos(deadline_ns, GPR_CLOCK_MONOTONIC);
}

grpc_call *gy_client_call_new(gyre_client *client, grpc_completion_queue *queue, const char *path, int64_t deadline_ns)
{
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_call *call =
        grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, method, NULL,
                                                gy_client_deadline(deadline_ns), NULL);
    grpc_slice_unref(method);
    return call;
}

void gy_client_start(grpc_call *call, const grpc_op *ops, size_t count, void *tag)
{
    grpc_call_error error = grpc_call_start_batch(call, ops, count, tag, NULL);
    assert(error == GRPC_CALL_OK); /* everything else is our mistake */
    (void)error;
}

bool gy_client_await(grpc_completion_queue *queue, void *tag)
{
    return grpc_completion_queue_pluck(queue, tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).success;
}

void gy_client_outcome_init(struct gy_client_outcome *outcome)
{
    *outcome = (struct gy_client_outcome){.status = GRPC_STATUS_UNKNOWN, .text = grpc_empty_slice()};
    grpc_metadata_array_init(&outcome->headers);
    grpc_metadata_array_init(&outcome->trailers);
}

void gy_client_outcome_fini(struct gy_client_outcome *outcome)
{
    grpc_metadata_array_destroy(&outcome->headers);
    grpc_metadata_array_destroy(&outcome->trailers);
    grpc_byte_buffer_destroy(outcome->reply);
    grpc_slice_unref(outcome->text);
}

enum { OUTCOME_OPS = 3 };

static void outcome_ops(struct gy_client_outcome *outcome, grpc_op ops[OUTCOME_OPS])
{
    ops[0].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[0].data.recv_initial_metadata.recv_initial_metadata = &outcome->headers;
    ops[1].op = GRPC_OP_RECV_MESSAGE;
    ops[1].data.recv_message.recv_message = &outcome->reply;
    ops[2].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[2].data.recv_status_on_client.trailing_metadata = &outcome->trailers;
    ops[2].data.recv_status_on_client.status = &outcome->status;
    ops[2].data.recv_status_on_client.status_details = &outcome->text;
}

/* Whether the server itself gave the status; else gRPC core did, on the way, and its sentence needs the address. */
static bool said_by_server(const struct gy_client_outcome *outcome)
{
    for (size_t i = 0; i < outcome->trailers.count; i++)
        if (grpc_slice_str_cmp(outcome->trailers.metadata[i].key, GY_STATUS_DETAILS_KEY) == 0)
            return true;
    return false;
}

gyre_status gy_client_outcome_status(const gyre_client *client, const struct gy_client_outcome *outcome, gyre_error *err)
{
    if (outcome->status == GRPC_STATUS_OK)
        return GYRE_OK;
    int text_bytes = (int)GRPC_SLICE_LENGTH(outcome->text);
    const char *text = (const char *)GRPC_SLICE_START_PTR(outcome->text);
    gyre_status status = outcome->status > GRPC_STATUS_OK && outcome->status <= GRPC_STATUS_UNAUTHENTICATED
                             ? (gyre_status)outcome->status
                             : GYRE_UNKNOWN; /* a status number that gRPC does not have */
    if (said_by_server(outcome))
        return gyre_fail(err, status, "%.*s", text_bytes, text);
    /* A server that closes resets the calls it has not begun, which gRPC core reads as "cancelled"; nobody here cancels a call
     * and then asks how it went. */
    if (status == GYRE_CANCELLED)
        return gyre_fail(err, GYRE_UNAVAILABLE, "%s: the server dropped the call", client->address);
    return gyre_fail(err, status, "%s: %.*s", client->address, text_bytes, text);
}

static gyre_status outcome_reply(const gyre_client *client, struct gy_client_outcome *outcome,
                                 const ProtobufCMessageDescriptor *reply_type, void *reply, gyre_error *err)
{
    GY_TRY(gy_client_outcome_status(client, outcome, err));
    if (!outcome->reply)
        return gyre_fail(err, GYRE_INTERNAL, "%s: the server sent no reply", client->address);
    struct gy_message message;
    gyre_status status = gy_message_read(&message, outcome->reply, GY_RPC_MESSAGE_BYTES_MAX, err);
    if (status == GYRE_OK)
        status = gy_wire_unpack(reply, reply_type, message.data, message.size, err);
    gy_message_free(&message);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "reply of %s", client->address);
}

gyre_status gyre_client_call(gyre_client *client, const char *path, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *reply_type, void *reply, int64_t deadline_ns, gyre_error *err)
{
    grpc_byte_buffer *buffer = gy_message_pack(request, GY_RPC_MESSAGE_BYTES_MAX, err);
    if (!buffer)
        return GYRE_EXHAUSTED;
    struct gy_client_outcome outcome;
    gy_client_outcome_init(&outcome);
    grpc_completion_queue *queue = gy_client_queue_take(client);
    grpc_call *call = gy_client_call_new(client, queue, path, deadline_ns);
    grpc_op ops[3 + OUTCOME_OPS] = {{0}};
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = buffer;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    outcome_ops(&outcome, ops + 3);
    gy_client_start(call, ops, 3 + OUTCOME_OPS, call);
    gy_client_await(queue, call); /* its success says nothing that the status does not */
    gyre_status status = outcome_reply(client, &outcome, reply_type, reply, err);
    grpc_call_unref(call);
    gy_client_queue_give_back(client, queue);
    gy_client_outcome_fini(&outcome);
    grpc_byte_buffer_destroy(buffer);
    return status;
}

/* ---- streams: two batches at once, one that sends (tag: the stream) and one for the outcome (tag: the outcome) ---- */

static void stream_end(gyre_stream *stream)
{
    if (stream->ended)
        return;
    gy_client_await(stream->queue, &stream->outcome);
    stream->ended = true;
}

/* After a send that failed: the status, also when it says OK, which is no answer to a half-sent stream. */
static gyre_status stream_broken(gyre_stream *stream, gyre_error *err)
{
    stream_end(stream);
    GY_TRY(gy_client_outcome_status(stream->client, &stream->outcome, err));
    return gyre_fail(err, GYRE_ABORTED, "%s: the server ended the stream before its end", stream->client->address);
}

gyre_status gyre_stream_open(gyre_stream **out, gyre_client *client, const char *path, int64_t deadline_ns, gyre_error *err)
{
    gyre_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a stream to %s", client->address);
    stream->client = client;
    stream->queue = gy_client_queue_take(client);
    stream->call = gy_client_call_new(client, stream->queue, path, deadline_ns);
    gy_client_outcome_init(&stream->outcome);
    grpc_op end[OUTCOME_OPS] = {{0}};
    outcome_ops(&stream->outcome, end);
    grpc_op begin = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    gy_client_start(stream->call, end, OUTCOME_OPS, &stream->outcome);
    gy_client_start(stream->call, &begin, 1, stream);
    if (!gy_client_await(stream->queue, stream)) {
        gyre_status status = stream_broken(stream, err);
        gyre_stream_close(stream);
        return status;
    }
    *out = stream;
    return GYRE_OK;
}

gyre_status gyre_stream_send(gyre_stream *stream, const ProtobufCMessage *request, gyre_error *err)
{
    if (stream->ended)
        return stream_broken(stream, err);
    grpc_byte_buffer *buffer = gy_message_pack(request, GY_RPC_MESSAGE_BYTES_MAX, err);
    if (!buffer)
        return GYRE_EXHAUSTED;
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = buffer;
    gy_client_start(stream->call, &op, 1, stream);
    bool sent = gy_client_await(stream->queue, stream);
    grpc_byte_buffer_destroy(buffer);
    return sent ? GYRE_OK : stream_broken(stream, err);
}

gyre_status gyre_stream_finish(gyre_stream *stream, const ProtobufCMessageDescriptor *reply_type, void *reply, gyre_error *err)
{
    if (!stream->ended) {
        grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
        gy_client_start(stream->call, &op, 1, stream);
        gy_client_await(stream->queue, stream);
        stream_end(stream);
    }
    return outcome_reply(stream->client, &stream->outcome, reply_type, reply, err);
}

void gyre_stream_close(gyre_stream *stream)
{
    if (!stream)
        return;
    if (!stream->ended)
        grpc_call_cancel(stream->call, NULL);
    stream_end(stream);
    grpc_call_unref(stream->call);
    gy_client_queue_give_back(stream->client, stream->queue);
    gy_client_outcome_fini(&stream->outcome);
    free(stream);
}
