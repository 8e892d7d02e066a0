#include "routing/failure.h"

enum { PARTIAL_PERCENT = 60 };

int64_t gy_partial_deadline_ns(int64_t deadline_ns)
{
    int64_t now_ns = gy_now_ns();
    return deadline_ns <= now_ns ? deadline_ns : now_ns + (deadline_ns - now_ns) / 100 * PARTIAL_PERCENT;
}

gyre_status gy_shard_failure(const gy_route *route, uint32_t shard, gyre_status status, const gyre_error *cause, gyre_error *err)
{
    if (status == GYRE_NOT_FOUND)
        status = GYRE_UNAVAILABLE;
    return gyre_fail(err, status, "shard %u of '%s' on node %s: %s", shard, route->collection, route->shards[shard].node,
                     cause && cause->text[0] ? cause->text : gyre_status_name(status));
}
