/* fetch: points by id, from the shards they live in.
 *
 * Threads  any; blocks until every shard has answered */
#ifndef GY_ROUTING_FETCH_H
#define GY_ROUTING_FETCH_H

#include "routing/routing.h"

#include "gyre/node/node.pb-c.h"

/* Reads points by id, one message a shard. visit gets each id's place and what was found, in no order. */
typedef gyre_status gy_point_visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err);
GYRE_CHECKED gyre_status gy_points_fetch(const gy_route *route, const gyre_point_id *ids, size_t count, bool with_vector,
                                         bool with_payload, int64_t deadline_ns, gy_point_visit *visit, void *self,
                                         gyre_error *err);

/* Counting sort of places 0…count-1 by the shard of ids[place]: order[starts[s]…starts[s+1]) are those of shard s, in place
 * order.
 *   starts  [shard_count + 1], order [count] */
void gy_points_by_shard(const gy_route *route, const gyre_point_id *ids, size_t count, size_t *starts, size_t *order);

#endif
