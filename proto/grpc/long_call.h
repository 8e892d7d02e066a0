/* long_call: calls that wait for news (health's Watch, reflection): kept in a set, so that a closing server can end them
 * instead of waiting for clients that never leave.
 *
 * Threads  the set's mutex guards it and the long_call part of its calls; the events of one call come one at a time */
#ifndef GY_GRPC_LONG_CALL_H
#define GY_GRPC_LONG_CALL_H

#include "call.h"

#include <pthread.h>

struct gy_long_calls {
    pthread_mutex_t mu;
    gy_rpc_call *first;
    bool ended;
};

void gy_long_calls_init(struct gy_long_calls *set);
void gy_long_calls_fini(struct gy_long_calls *set); /* must be empty */

/* The following with the mutex held. */

/* Does nothing with a call that is finished. */
void gy_long_calls_add(struct gy_long_calls *set, gy_rpc_call *call);
/* Sends a message; the call must be in the set and not be writing. */
void gy_long_call_write(gy_rpc_call *call, const uint8_t *bytes, size_t size);
/* After a write is done, the client has left or the set has ended: finishes the call if there is a reason to and no write is
 * on its way. True if the call lives on. */
bool gy_long_call_settle(struct gy_long_calls *set, gy_rpc_call *call);

/* Takes the call out and finishes it, unless that was done already. No write may be on its way. */
void gy_long_call_finish(struct gy_long_calls *set, gy_rpc_call *call, gyre_status status, const gyre_error *err);

/* Takes the mutex: ends every call, and every later one when it settles. */
void gy_long_calls_end(struct gy_long_calls *set);

#endif
