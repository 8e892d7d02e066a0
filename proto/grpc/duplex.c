/* A call in which both sides send when they like. Three kinds of batch: one for its end (tag: the outcome), which is there from
 * the beginning, one at a time that sends (tag: the duplex), one at a time that receives (tag: the buffer) and may outlast
 * several calls of _receive. */
#include "client.h"
#include "message.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>

enum { METADATA_MAX = 4 };

struct gyre_duplex {
    gyre_client *client;
    grpc_completion_queue *queue;
    grpc_call *call;
    struct gy_client_outcome outcome;
    grpc_byte_buffer *buffer; /* of the message that is awaited */
    bool receiving;           /* a batch that receives is under way */
    bool ended;               /* the outcome is there */
};

static void end(gyre_duplex *duplex)
{
    if (!duplex->ended)
        gy_client_await(duplex->queue, &duplex->outcome);
    duplex->ended = true;
}

/* The server ended the call: its status, also when it says OK, for whoever reads wanted more. */
static gyre_status broken(gyre_duplex *duplex, gyre_error *err)
{
    end(duplex);
    GY_TRY(gy_client_outcome_status(duplex->client, &duplex->outcome, err));
    return gyre_fail(err, GYRE_UNAVAILABLE, "%s: the server ended the stream", duplex->client->address);
}

gyre_status gyre_duplex_open(gyre_duplex **out, gyre_client *client, const char *path, const struct gyre_metadata *metadata,
                             size_t metadata_count, gyre_error *err)
{
    if (metadata_count > METADATA_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu pairs of metadata; the limit is %d", metadata_count, METADATA_MAX);
    gyre_duplex *duplex = calloc(1, sizeof *duplex);
    if (!duplex)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a stream to %s", client->address);
    duplex->client = client;
    duplex->queue = gy_client_queue_take(client);
    duplex->call = gy_client_call_new(client, duplex->queue, path, GY_NEVER);
    gy_client_outcome_init(&duplex->outcome);
    grpc_metadata sent[METADATA_MAX] = {{.key = {0}}};
    for (size_t i = 0; i < metadata_count; i++) {
        sent[i].key = grpc_slice_from_copied_string(metadata[i].key);
        sent[i].value = grpc_slice_from_copied_string(metadata[i].value);
    }
    grpc_op last[2] = {{0}};
    last[0].op = GRPC_OP_RECV_INITIAL_METADATA;
    last[0].data.recv_initial_metadata.recv_initial_metadata = &duplex->outcome.headers;
    last[1].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    last[1].data.recv_status_on_client.trailing_metadata = &duplex->outcome.trailers;
    last[1].data.recv_status_on_client.status = &duplex->outcome.status;
    last[1].data.recv_status_on_client.status_details = &duplex->outcome.text;
    gy_client_start(duplex->call, last, 2, &duplex->outcome);
    grpc_op begin = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    begin.data.send_initial_metadata.count = metadata_count;
    begin.data.send_initial_metadata.metadata = sent;
    gy_client_start(duplex->call, &begin, 1, duplex);
    bool begun = gy_client_await(duplex->queue, duplex);
    for (size_t i = 0; i < metadata_count; i++) {
        grpc_slice_unref(sent[i].key);
        grpc_slice_unref(sent[i].value);
    }
    gyre_status status = begun ? GYRE_OK : broken(duplex, err);
    if (status == GYRE_OK)
        *out = duplex;
    else
        gyre_duplex_close(duplex);
    return status;
}

gyre_status gyre_duplex_send(gyre_duplex *duplex, const ProtobufCMessage *request, gyre_error *err)
{
    if (duplex->ended)
        return broken(duplex, err);
    grpc_byte_buffer *buffer = gy_message_pack(request, GY_RPC_MESSAGE_BYTES_MAX, err);
    if (!buffer)
        return GYRE_EXHAUSTED;
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = buffer;
    gy_client_start(duplex->call, &op, 1, duplex);
    bool sent = gy_client_await(duplex->queue, duplex);
    grpc_byte_buffer_destroy(buffer);
    return sent ? GYRE_OK : broken(duplex, err);
}

gyre_status gyre_duplex_receive(gyre_duplex *duplex, const ProtobufCMessageDescriptor *reply_type, void *reply,
                                int64_t deadline_ns, gyre_error *err)
{
    if (duplex->ended)
        return broken(duplex, err);
    if (!duplex->receiving) {
        grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
        op.data.recv_message.recv_message = &duplex->buffer;
        gy_client_start(duplex->call, &op, 1, &duplex->buffer);
        duplex->receiving = true;
    }
    *(void **)reply = NULL;
    grpc_event event = grpc_completion_queue_pluck(duplex->queue, &duplex->buffer, gy_client_deadline(deadline_ns), NULL);
    if (event.type == GRPC_QUEUE_TIMEOUT)
        return GYRE_OK;
    duplex->receiving = false;
    if (!duplex->buffer)
        return broken(duplex, err);
    struct gy_message message;
    gyre_status status = gy_message_read(&message, duplex->buffer, GY_RPC_MESSAGE_BYTES_MAX, err);
    if (status == GYRE_OK)
        status = gy_wire_unpack(reply, reply_type, message.data, message.size, err);
    gy_message_free(&message);
    grpc_byte_buffer_destroy(duplex->buffer);
    duplex->buffer = NULL;
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "message of %s", duplex->client->address);
}

void gyre_duplex_cancel(gyre_duplex *duplex) { grpc_call_cancel(duplex->call, NULL); }

void gyre_duplex_close(gyre_duplex *duplex)
{
    if (!duplex)
        return;
    if (!duplex->ended)
        grpc_call_cancel(duplex->call, NULL);
    if (duplex->receiving)
        gy_client_await(duplex->queue, &duplex->buffer);
    end(duplex);
    grpc_byte_buffer_destroy(duplex->buffer);
    grpc_call_unref(duplex->call);
    gy_client_queue_give_back(duplex->client, duplex->queue);
    gy_client_outcome_fini(&duplex->outcome);
    free(duplex);
}
