#include "call.h"

#include "message.h"
#include "rich_status.h"

#include <assert.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdlib.h>

/* Below this a reply is sent as it is: gzip's header and the time cost more than it saves. */
enum { COMPRESS_BYTES_MIN = 1024 };

static void on_arrived(gy_rpc_call *call, bool success);
static void on_closed(gy_rpc_call *call, bool success);
static void on_received(gy_rpc_call *call, bool success);
static void on_written(gy_rpc_call *call, bool success);
static void on_finished_sending(gy_rpc_call *call, bool success);

/* ---- life ---- */

static void call_clear(gy_rpc_call *call)
{
    grpc_metadata_array_destroy(&call->metadata);
    if (!call->method)
        grpc_call_details_destroy(&call->details);
    grpc_byte_buffer_destroy(call->payload);
    grpc_slice_unref(call->status_details);
    if (call->core)
        grpc_call_unref(call->core);
}

static void call_release(gy_rpc_call *call)
{
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) != 1)
        return;
    gy_rpc_server *server = call->server;
    bool post_again = call->post_again, counted = call->counted;
    call_clear(call);
    if (counted)
        gy_server_over(server);
    if (post_again) {
        *call = (gy_rpc_call){.server = server, .queue = call->queue, .method = call->method};
        gy_call_post(call);
        return;
    }
    free(call);
    gy_server_forget(server);
}

void gy_call_post(gy_rpc_call *call)
{
    call->arrived = (struct gy_tag){on_arrived, call};
    call->closed = (struct gy_tag){on_closed, call};
    call->received = (struct gy_tag){on_received, call};
    call->written = (struct gy_tag){on_written, call};
    call->finished_sending = (struct gy_tag){on_finished_sending, call};
    call->status_details = grpc_empty_slice();
    grpc_metadata_array_init(&call->metadata);
    atomic_init(&call->references, 1);
    grpc_server *core = gy_server_core(call->server);
    grpc_call_error error;
    if (call->method) {
        bool one_request = call->method->kind == GY_CALL_UNARY || call->method->kind == GY_CALL_SERVER_STREAM;
        error = grpc_server_request_registered_call(core, call->method->registered, &call->core, &call->core_deadline,
                                                    &call->metadata, one_request ? &call->payload : NULL, call->queue, call->queue,
                                                    &call->arrived);
    } else {
        grpc_call_details_init(&call->details);
        error = grpc_server_request_call(core, &call->core, &call->details, &call->metadata, call->queue, call->queue,
                                         &call->arrived);
    }
    assert(error == GRPC_CALL_OK); /* a server that shuts down says so by the event */
    (void)error;
}

bool gy_call_finished(const gy_rpc_call *call)
{
    return atomic_load_explicit(&call->finished, memory_order_acquire);
}

/* ---- batches ---- */

static void start_batch(gy_rpc_call *call, const grpc_op *ops, size_t count, struct gy_tag *tag)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    grpc_call_error error = grpc_call_start_batch(call->core, ops, count, tag, NULL);
    assert(error == GRPC_CALL_OK); /* everything else is our mistake: two sends or two receives at once */
    (void)error;
}

/* The headers go out with the first send; large replies to a client that compresses are compressed, by what it accepts. */
static size_t add_headers(gy_rpc_call *call, grpc_op *op, size_t reply_bytes)
{
    if (call->headers_sent)
        return 0;
    call->headers_sent = true;
    op->op = GRPC_OP_SEND_INITIAL_METADATA;
    if (call->compressed && reply_bytes >= COMPRESS_BYTES_MIN) {
        op->data.send_initial_metadata.maybe_compression_level.is_set = 1;
        op->data.send_initial_metadata.maybe_compression_level.level = GRPC_COMPRESS_LEVEL_LOW;
    }
    return 1;
}

void gy_call_write(gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    grpc_op ops[2] = {{0}};
    size_t count = add_headers(call, ops, 0);
    grpc_byte_buffer *buffer = gy_message_buffer(bytes, size);
    ops[count].op = GRPC_OP_SEND_MESSAGE;
    ops[count++].data.send_message.send_message = buffer;
    start_batch(call, ops, count, &call->written);
    grpc_byte_buffer_destroy(buffer); /* its slices are gRPC core's now */
}

void gy_rpc_next(gy_rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &call->payload;
    start_batch(call, &op, 1, &call->received);
}

void gy_rpc_finish(gy_rpc_call *call, gyre_status status, const gyre_error *err, const uint8_t *reply, size_t bytes)
{
    bool twice = atomic_exchange_explicit(&call->finished, true, memory_order_acq_rel);
    assert(!twice);
    (void)twice;
    if (atomic_load_explicit(&call->unreadable, memory_order_acquire)) { /* the handler knows only that it is over */
        err = &call->why_unreadable;
        status = err->status;
    }
    grpc_op ops[3] = {{0}};
    size_t count = add_headers(call, ops, bytes);
    grpc_byte_buffer *buffer = NULL;
    grpc_slice message = grpc_empty_slice();
    grpc_metadata trailer = {.key = grpc_slice_from_static_string(GY_STATUS_DETAILS_KEY)};
    bool one_reply = !call->method || call->method->kind == GY_CALL_UNARY || call->method->kind == GY_CALL_CLIENT_STREAM;
    if (status == GYRE_OK && one_reply) {
        buffer = gy_message_buffer(reply, bytes);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = buffer;
    }
    grpc_op *end = &ops[count++];
    end->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    end->data.send_status_from_server.status = (grpc_status_code)status;
    if (status != GYRE_OK) {
        char text[GYRE_ERROR_TEXT_BYTES];
        gy_rich_status_text(text, status, err);
        message = grpc_slice_from_copied_string(text);
        call->status_details = gy_rich_status_pack(status, text); /* kept until the call is freed */
        trailer.value = call->status_details;
        end->data.send_status_from_server.status_details = &message;
        end->data.send_status_from_server.trailing_metadata = &trailer;
        end->data.send_status_from_server.trailing_metadata_count = 1;
    }
    start_batch(call, ops, count, &call->finished_sending);
    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(message);
    call_release(call); /* the handler's */
}

/* ---- events, on the queue's thread ---- */

/* gRPC core's deadline is absolute on a clock of its choice; subtracting across clocks would abort. */
static int64_t deadline_ns(gpr_timespec deadline)
{
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return GY_NEVER;
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    if (left.tv_sec > INT64_MAX / GY_SECOND_NS / 4)
        return GY_NEVER;
    return gy_now_ns() + left.tv_sec * GY_SECOND_NS + left.tv_nsec;
}

static void refuse_unknown(gy_rpc_call *call)
{
    gyre_error err;
    gyre_fail(&err, GYRE_UNIMPLEMENTED, "no method %.*s", (int)GRPC_SLICE_LENGTH(call->details.method),
              (const char *)GRPC_SLICE_START_PTR(call->details.method));
    gy_rpc_finish(call, GYRE_UNIMPLEMENTED, &err, NULL, 0);
}

static bool is_stream_of_requests(const gy_rpc_call *call)
{
    return call->method->kind == GY_CALL_CLIENT_STREAM || call->method->kind == GY_CALL_BIDI;
}

/* Hands the message to the handler. One that cannot be read ends the call; of a stream the handler may already know, so it
 * is the handler that ends it. The buffer is taken off the call first: the handler may have asked for the next message, and
 * even have got it, before on_message returns. */
static void deliver(gy_rpc_call *call)
{
    gyre_error err;
    struct gy_message message;
    grpc_byte_buffer *payload = GY_TAKE(call->payload);
    gyre_status status = gy_message_read(&message, payload, gy_server_message_bytes_max(call->server), &err);
    call->compressed = message.compressed;
    if (status == GYRE_OK) {
        call->method->on_message(call->method->self, call, message.data, message.size);
    } else if (is_stream_of_requests(call)) {
        call->why_unreadable = err;
        atomic_store_explicit(&call->unreadable, true, memory_order_release);
        call->method->on_gone(call->method->self, call);
    } else {
        gy_rpc_finish(call, status, &err, NULL, 0);
    }
    gy_message_free(&message);
    grpc_byte_buffer_destroy(payload);
}

static void on_arrived(gy_rpc_call *call, bool success)
{
    if (!success) { /* the server shuts down */
        call_release(call);
        return;
    }
    call->deadline_ns = deadline_ns(call->method ? call->core_deadline : call->details.deadline);
    /* From here to the end of this function the call may be finished and all its other events be over: hold it. */
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &call->closed_cancelled;
    start_batch(call, &op, 1, &call->closed);
    call->counted = call->method && call->method->refusable;
    bool refused = call->counted && !gy_server_takes(call->server);
    if (!gy_server_replace(call)) {
        gyre_error err;
        call->post_again = true;
        gyre_fail(&err, GYRE_NO_MEMORY, "no memory for another call");
        gy_rpc_finish(call, GYRE_NO_MEMORY, &err, NULL, 0);
    } else if (refused) {
        gyre_error err;
        gyre_fail(&err, GYRE_UNAVAILABLE, "the server is stopping; nothing was done");
        gy_rpc_finish(call, GYRE_UNAVAILABLE, &err, NULL, 0);
    } else if (!call->method) {
        refuse_unknown(call);
    } else if (is_stream_of_requests(call)) {
        gy_rpc_next(call);
    } else if (call->payload) {
        deliver(call);
    } else { /* it was cancelled or too large (gRPC core has told the client), or the client sent none */
        gyre_error err;
        gyre_fail(&err, GYRE_INVALID, "%s: no request message", call->method->path);
        gy_rpc_finish(call, GYRE_INVALID, &err, NULL, 0);
    }
    call_release(call);
}

static void on_received(gy_rpc_call *call, bool success)
{
    if (gy_call_finished(call)) {
        call_release(call);
        return;
    }
    if (success && call->payload)
        deliver(call);
    else if (!success || gy_rpc_cancelled(call) || grpc_call_failed_before_recv_message(call->core))
        call->method->on_gone(call->method->self, call);
    else
        call->method->on_message(call->method->self, call, NULL, 0);
    call_release(call);
}

static void on_closed(gy_rpc_call *call, bool success)
{
    if (!success || call->closed_cancelled)
        atomic_store_explicit(&call->cancelled, true, memory_order_release);
    /* Who streams replies awaits no message that could tell it. */
    if (call->method && call->method->kind == GY_CALL_SERVER_STREAM && !gy_call_finished(call))
        call->method->on_gone(call->method->self, call);
    call_release(call);
}

static void on_written(gy_rpc_call *call, bool success)
{
    (void)success; /* a failed write means the client is gone: the close or the next receive says so */
    call->method->on_written(call->method->self, call);
    call_release(call);
}

static void on_finished_sending(gy_rpc_call *call, bool success)
{
    (void)success; /* a client that left before the reply needs none */
    call_release(call);
}

/* ---- what handlers ask ---- */

int64_t gy_rpc_deadline_ns(const gy_rpc_call *call)
{
    return call->deadline_ns;
}

bool gy_rpc_cancelled(const gy_rpc_call *call)
{
    return atomic_load_explicit(&call->cancelled, memory_order_acquire);
}

void gy_rpc_set_user(gy_rpc_call *call, void *user)
{
    call->user = user;
}

void *gy_rpc_user(const gy_rpc_call *call)
{
    return call->user;
}
