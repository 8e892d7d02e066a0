/* rpc: gRPC for clients, on gRPC core's C API: a server that any gRPC client can talk to, and the calls our own tools make.
 *
 * Server: completion-queue threads do only I/O; a method's handler hands the call over and returns. The standard
 * grpc.health.v1 and reflection (v1 and v1alpha) are served with every server; unknown methods answer UNIMPLEMENTED; gzip
 * and deflate are accepted and used for large replies to the clients that compress their own requests.
 * Threads  handlers run on a completion-queue thread and must not block; gy_rpc_* on a call may be used from any thread, one
 *          at a time */
#ifndef GYRE_RPC_H
#define GYRE_RPC_H

#include "gyre/clock.h"
#include "gyre/wire.h"

enum { GY_RPC_MESSAGE_BYTES_MAX = 64 << 20 };

/* ---- server ---- */
typedef struct gy_rpc_server gy_rpc_server;
typedef struct gy_rpc_call gy_rpc_call;

struct gy_rpc_method {
    const char *path; /* "/gyre.v1.Points/Search" */
    bool streams;     /* the client sends many messages */
    /* A request message; bytes are valid during the call only. Unary: once; then exactly one gy_rpc_finish must follow.
     * Streaming: once per message, the next one is read only after gy_rpc_next (flow control); bytes NULL when the client
     * has sent its last. A call that was cancelled while a message was awaited gets no further on_message: see on_gone. */
    void (*on_message)(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size);
    /* Streaming only: while the handler waited for a message, the client left or sent one that cannot be read (damaged, or
     * inflating beyond the limit). gy_rpc_finish must still be called; what could not be read then goes before its status. */
    void (*on_gone)(void *self, gy_rpc_call *call);
    void *self;
};

struct gy_rpc_server_options {
    const char *listen;            /* "127.0.0.1:7700", port 0 for any */
    size_t message_bytes_max;      /* received; 0 means GY_RPC_MESSAGE_BYTES_MAX */
    uint32_t threads;              /* completion queues; 0 means 1 */
    const struct gy_rpc_method *methods;
    size_t method_count;
    /* FileDescriptorSet (protoc --descriptor_set_out --include_imports) that reflection serves. */
    const uint8_t *descriptors;
    size_t descriptors_bytes;
};

/* The FileDescriptorSet of gyre.v1, health and reflection, compiled in: the usual `descriptors`. */
extern const uint8_t gyre_v1_descriptors[];
extern const size_t gyre_v1_descriptors_bytes;

GYRE_CHECKED gyre_status gy_rpc_server_open(gy_rpc_server **out, const struct gy_rpc_server_options *options, gyre_error *err);
const char *gy_rpc_server_address(const gy_rpc_server *server);
/* What grpc.health.v1 answers for "" and for every service: SERVING or NOT_SERVING. Starts as NOT_SERVING. Watchers hear. */
void gy_rpc_server_set_serving(gy_rpc_server *server, bool serving);
/* New calls get UNAVAILABLE, running ones have grace_ns to finish and are then cancelled; returns when none is left. Who called a
 * moment ago is given another to hear of it. */
void gy_rpc_server_close(gy_rpc_server *server, int64_t grace_ns);

int64_t gy_rpc_deadline_ns(const gy_rpc_call *call); /* GY_NEVER if the client gave none */
bool gy_rpc_cancelled(const gy_rpc_call *call);      /* cancelled, expired or disconnected */
void gy_rpc_set_user(gy_rpc_call *call, void *user); /* the handler's own state of a streaming call */
void *gy_rpc_user(const gy_rpc_call *call);
void gy_rpc_next(gy_rpc_call *call);
/* Ends the call, exactly once. With GYRE_OK reply is sent (copied); else the status, err->text as its message and, as
 * grpc-status-details-bin, a google.rpc.Status with the same. */
void gy_rpc_finish(gy_rpc_call *call, gyre_status status, const gyre_error *err, const uint8_t *reply, size_t bytes);

/* ---- client ---- */
typedef struct gyre_client gyre_client;
typedef struct gyre_stream gyre_stream;

/* A lazily connected channel to "host:port". Threads: one client may be used by many threads at once. */
GYRE_CHECKED gyre_status gyre_client_open(gyre_client **out, const char *address, gyre_error *err);
/* The same over TLS; PEM texts. The server's certificate must be for the address's host and of ca. */
struct gyre_client_tls {
    const char *ca;
    const char *cert, *key; /* the client's own; both or neither */
};
GYRE_CHECKED gyre_status gyre_client_open_tls(gyre_client **out, const char *address,
                                              const struct gyre_client_tls *tls /* NULL: plain */, gyre_error *err);
/* Connects if it is not connected; false if it is not by then, or was refused. Nothing was sent so far to a server whose client
 * was never ready. */
GYRE_CHECKED bool gyre_client_await_ready(gyre_client *client, int64_t deadline_ns);
void gyre_client_close(gyre_client *client);
GY_AUTO_DEFINE(gyre_client, gyre_client_close)

/* One unary call: packs request, waits, unpacks into *reply (gy_wire_free it). The server's status and sentence come back. */
GYRE_CHECKED gyre_status gyre_client_call(gyre_client *client, const char *path, const ProtobufCMessage *request,
                                          const ProtobufCMessageDescriptor *reply_type, void *reply /* T ** */, int64_t deadline_ns,
                                          gyre_error *err);

/* A client stream: send many, then finish for the one reply. A send that fails has the server's status, and ends the stream
 * (still call _close). */
GYRE_CHECKED gyre_status gyre_stream_open(gyre_stream **out, gyre_client *client, const char *path, int64_t deadline_ns, gyre_error *err);
GYRE_CHECKED gyre_status gyre_stream_send(gyre_stream *stream, const ProtobufCMessage *request, gyre_error *err);
GYRE_CHECKED gyre_status gyre_stream_finish(gyre_stream *stream, const ProtobufCMessageDescriptor *reply_type, void *reply, gyre_error *err);
void gyre_stream_close(gyre_stream *stream); /* cancels if not finished; NULL is fine */

/* Both sides send when they like; it lives until it is closed or the server ends it. One thread at a time, but for _cancel. */
typedef struct gyre_duplex gyre_duplex;
struct gyre_metadata {
    const char *key, *value;
};
GYRE_CHECKED gyre_status gyre_duplex_open(gyre_duplex **out, gyre_client *client, const char *path,
                                          const struct gyre_metadata *metadata,
                                          size_t metadata_count /* 4 at most */, gyre_error *err);
GYRE_CHECKED gyre_status gyre_duplex_send(gyre_duplex *duplex, const ProtobufCMessage *request, gyre_error *err);
/* The next message; NULL in *reply if none came by then: ask again. GYRE_UNAVAILABLE and others when the stream has ended. */
GYRE_CHECKED gyre_status gyre_duplex_receive(gyre_duplex *duplex, const ProtobufCMessageDescriptor *reply_type,
                                             void *reply /* T ** */, int64_t deadline_ns, gyre_error *err);
void gyre_duplex_cancel(gyre_duplex *duplex); /* from any thread while it is open: whatever waits in it fails now */
void gyre_duplex_close(gyre_duplex *duplex);  /* NULL is fine */
GY_AUTO_DEFINE(gyre_duplex, gyre_duplex_close)

#endif
