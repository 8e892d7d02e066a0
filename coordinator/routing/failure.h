/* failure: what a node's refusal means to a client. */
#ifndef GY_ROUTING_FAILURE_H
#define GY_ROUTING_FAILURE_H

#include "routing/consult.h"

/* Writes the sentence of a failure of a shard, naming shard and node (NULL: the primary's), and returns the status a client
 * should see: a replica that
 * its node does not have (yet, or any more) is GYRE_UNAVAILABLE; everything else is passed on. cause may be NULL. */
gyre_status gy_shard_failure(const gy_route *route, uint32_t shard, const char *node, gyre_status status, const gyre_error *cause,
                             gyre_error *err);
/* The same of what befell a shard that was asked about. */
gyre_status gy_consulted_failure(const gy_route *route, uint32_t shard, const struct gy_consulted *consulted, gyre_error *err);

/* Until when an answer may be worked on, so that it reaches a client that waits no longer than its deadline. */
int64_t gy_answer_deadline_ns(int64_t deadline_ns);

/* How long a request that may leave shards out waits for them: the rest of the caller's time is for going on without. */
int64_t gy_partial_deadline_ns(int64_t deadline_ns);

#endif
