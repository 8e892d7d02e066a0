/* ask: scatter and gather for whoever may lose interest: a client that left, a coordinator that stops.
 *
 * Threads  any; blocks until every answer is there, the deadline passed, or nobody wants them any more */
#ifndef GY_ROUTING_ASK_H
#define GY_ROUTING_ASK_H

#include "gyre/bus.h"

/* How often cancelled is looked at while an answer is awaited. */
#define GY_ASK_TURN_NS (200 * GY_MILLISECOND_NS)

/* Like gy_gather, but once cancelled(arg) is true every call without an answer gets GYRE_CANCELLED and what comes later is
 * dropped, so a frozen node holds nobody until the deadline. cancelled may be NULL: then it is gy_gather. Peers may be freed
 * afterwards. */
void gy_ask(struct gy_gather_call *calls, size_t count, int64_t deadline_ns, bool (*cancelled)(void *arg), void *arg);

#endif
