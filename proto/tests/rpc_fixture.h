/* rpc_fixture: a server whose answers the tests choose by the collection's name, for test_rpc.c and, as a process of its own
 * (rpc_test_server), for test_rpc_python.py.
 *
 *   /gyre.v1.Points/Upsert   "ok": upserted = points sent   "hold": waits for fixture_release   "fail:N:sentence": status N
 *   /gyre.v1.Points/Get      one point per id, payload {"text": "aaaa…"} of 100 × ids characters
 *   /gyre.v1.Points/Import   imported = points sent; a message to "fail:N:sentence" ends the stream with status N
 * The message limit is FIXTURE_MESSAGE_BYTES_MAX. */
#ifndef GY_RPC_FIXTURE_H
#define GY_RPC_FIXTURE_H

#include "gyre/rpc.h"

#include <pthread.h>

enum { FIXTURE_MESSAGE_BYTES_MAX = 256 << 10, FIXTURE_HELD_MAX = 64 };

struct fixture {
    gy_rpc_server *server;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    gy_rpc_call *held[FIXTURE_HELD_MAX]; /* guarded by mu, as the rest */
    size_t held_count;
    bool holds_nothing; /* "hold" is "ok" from now on */
    size_t streams_begun, streams_ended, streams_gone;
};

gyre_status fixture_open(struct fixture *fixture, const char *listen, uint32_t threads, gyre_error *err);
/* Held calls must have been released. */
void fixture_close(struct fixture *fixture, int64_t grace_ns);
/* Waits until so many calls are held, streams begun, or streams gone. */
void fixture_wait(struct fixture *fixture, const size_t *counter, size_t wanted);
/* Finishes all held calls, from this thread. */
void fixture_release(struct fixture *fixture, gyre_status status);
/* The same, and holds none that comes later. */
void fixture_hold_nothing(struct fixture *fixture, gyre_status status);

#endif
