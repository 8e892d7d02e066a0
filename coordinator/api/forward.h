/* forward: changes that clients ask of a coordinator that does not lead are carried out by the one that does.
 *
 * The request travels as it is over the bus, with the time that is left, and is carried out there or refused with "not leading";
 * it is never sent on, so it cannot go round. The answer is given when this coordinator knows of the change too, so a client
 * finds here what it has just made here.
 * Threads  any; blocks until the change is made */
#ifndef GY_API_FORWARD_H
#define GY_API_FORWARD_H

#include "api/unary.h"
#include "placement/placement.h"

typedef struct gy_forward gy_forward;

/* What others forward is carried out on pool. placement and pool are lent until gy_forward_free. */
GYRE_CHECKED gyre_status gy_forward_new(gy_forward **out, gy_placement *placement, gy_pool *pool, gyre_error *err);
/* Before the pool is freed: from now on what is forwarded is refused. NULL is fine. */
void gy_forward_close(gy_forward *forward);
void gy_forward_free(gy_forward *forward); /* after the pool is freed; NULL is fine */

/* The changes among methods[count], initialised, go through here; they outlive forward. Before the server is opened. */
GYRE_CHECKED gyre_status gy_forward_share(gy_forward *forward, struct gy_unary *methods, size_t count, gyre_error *err);
/* Makes a change: here, if this coordinator leads, else where it can be made. */
gyre_status gy_forward_change(gy_forward *forward, const struct gy_unary *method, const struct gy_caller *caller, void *request,
                              gy_bytes *reply, gyre_error *err);

#endif
