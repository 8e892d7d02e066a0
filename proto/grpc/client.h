/* client: what client.c (unary calls, client streams) and duplex.c share: the channel, its shelf of idle queues, and how a call
 * ended. */
#ifndef GY_GRPC_CLIENT_H
#define GY_GRPC_CLIENT_H

#include "gyre/rpc.h"

#include <grpc/grpc.h>
#include <pthread.h>

enum { GY_CLIENT_QUEUES_MAX = 32 /* kept when idle; more callers at once make their own */ };

struct gyre_client {
    grpc_channel *channel;
    char *address;
    pthread_mutex_t mu;
    grpc_completion_queue *shelf[GY_CLIENT_QUEUES_MAX]; /* guarded by mu */
    size_t shelved;                                     /* guarded by mu */
};

/* What the end of a call leaves. */
struct gy_client_outcome {
    grpc_metadata_array headers;
    grpc_metadata_array trailers;
    grpc_byte_buffer *reply;
    grpc_status_code status;
    grpc_slice text;
};
void gy_client_outcome_init(struct gy_client_outcome *outcome);
void gy_client_outcome_fini(struct gy_client_outcome *outcome);
/* Turns a failed outcome into status and sentence; GYRE_OK if it did not fail. */
GYRE_CHECKED gyre_status gy_client_outcome_status(const gyre_client *client, const struct gy_client_outcome *outcome,
                                                  gyre_error *err);

grpc_completion_queue *gy_client_queue_take(gyre_client *client);
/* The queue must be empty: every batch that was started on it plucked. */
void gy_client_queue_give_back(gyre_client *client, grpc_completion_queue *queue);

gpr_timespec gy_client_deadline(int64_t deadline_ns);
grpc_call *gy_client_call_new(gyre_client *client, grpc_completion_queue *queue, const char *path, int64_t deadline_ns);
/* Starts a batch; its tag is the address of the call's object that the batch belongs to. */
void gy_client_start(grpc_call *call, const grpc_op *ops, size_t count, void *tag);
/* Waits for a batch. Every call ends by its deadline, by keepalive, by being cancelled or by its answer, so this does too. */
bool gy_client_await(grpc_completion_queue *queue, void *tag);

#endif
