/* call: one call of a server, from the moment it is asked for until its last event.
 *
 *   posted ──arrived──▶ open ──gy_rpc_finish──▶ finished ──last event──▶ freed
 *      └──server shuts down──▶ freed
 *
 * A call belongs to one completion queue; its events come on that queue's thread, its batches may start on any. It is kept
 * alive by references: one of the handler until gy_rpc_finish, one of each batch until its event. */
#ifndef GY_GRPC_CALL_H
#define GY_GRPC_CALL_H

#include "gyre/rpc.h"

#include <grpc/grpc.h>
#include <stdatomic.h>

enum gy_call_kind {
    GY_CALL_UNARY,
    GY_CALL_CLIENT_STREAM,
    GY_CALL_SERVER_STREAM, /* one request, then gy_call_write as often as needed; on_gone when the client leaves */
    GY_CALL_BIDI,
};

/* A method as the server keeps it: the caller's struct gy_rpc_method, or one of its own services'. */
struct gy_method {
    const char *path;
    enum gy_call_kind kind;
    void (*on_message)(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size);
    void (*on_gone)(void *self, gy_rpc_call *call);
    void (*on_written)(void *self, gy_rpc_call *call); /* a gy_call_write is done, or failed because the client is gone */
    void *self;
    void *registered; /* gRPC core's handle */
    bool refusable;   /* while the server closes; not what tells that it does */
};

struct gy_tag {
    void (*on_event)(gy_rpc_call *call, bool success);
    gy_rpc_call *call;
};

/* A call of the server's own services that lasts until client or server leaves (long_call.h); guarded by the set's mutex. */
struct gy_long_call {
    gy_rpc_call *previous, *next;
    bool listed;
    bool writing;
    bool known;      /* Watch: the service exists */
    int told_status; /* Watch: what the client knows; negative: nothing yet */
};

struct gy_rpc_call {
    gy_rpc_server *server;
    grpc_completion_queue *queue;
    const struct gy_method *method; /* NULL: of no known method */
    grpc_call *core;                /* NULL until arrived */
    grpc_call_details details;      /* if method is NULL */
    grpc_metadata_array metadata;
    gpr_timespec core_deadline;
    int64_t deadline_ns;
    grpc_byte_buffer *payload;      /* the message being received */
    struct gy_tag arrived, closed, received, written, finished_sending;
    int closed_cancelled;           /* written by gRPC core before the event `closed` */
    atomic_uint references;
    atomic_bool cancelled;
    atomic_bool finished;
    bool compressed;                /* the client compressed its last message */
    bool headers_sent;
    atomic_bool unreadable;         /* a message of its stream could not be read; set after why_unreadable */
    gyre_error why_unreadable;
    bool counted;                   /* of a refusable method, and arrived */
    bool post_again;                /* its successor could not be allocated: ask for another call with this one's memory */
    grpc_slice status_details;
    struct gy_long_call long_call;
    void *user;
};

/* Asks gRPC core for the next call of call->method on call->queue. The call is fresh: zeroed but for server, queue, method. */
void gy_call_post(gy_rpc_call *call);
/* Sends one message of a stream of replies; one at a time. on_written follows. */
void gy_call_write(gy_rpc_call *call, const uint8_t *bytes, size_t size);

bool gy_call_finished(const gy_rpc_call *call);

/* ---- what a call needs of its server (server.c) ---- */
grpc_server *gy_server_core(gy_rpc_server *server);
size_t gy_server_message_bytes_max(const gy_rpc_server *server);
/* A call arrived: makes its successor. False if there is no memory for one. */
bool gy_server_replace(gy_rpc_call *arrived);
/* A call of a refusable method arrived; false: the server closes, and it is to be refused. */
bool gy_server_takes(gy_rpc_server *server);
/* One that arrived is over. */
void gy_server_over(gy_rpc_server *server);
/* A call is freed. */
void gy_server_forget(gy_rpc_server *server);

#endif
