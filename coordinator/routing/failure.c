#include "routing/failure.h"

enum { PARTIAL_PERCENT = 60, ANSWER_SHARE = 20 };
#define ANSWER_NS_MAX (100 * GY_MILLISECOND_NS)

int64_t gy_answer_deadline_ns(int64_t deadline_ns)
{
    int64_t left_ns = (deadline_ns - gy_now_ns()) / ANSWER_SHARE;
    return deadline_ns - (left_ns < ANSWER_NS_MAX ? left_ns : ANSWER_NS_MAX);
}

int64_t gy_partial_deadline_ns(int64_t deadline_ns)
{
    int64_t now_ns = gy_now_ns();
    return deadline_ns <= now_ns ? deadline_ns : now_ns + (deadline_ns - now_ns) / 100 * PARTIAL_PERCENT;
}

gyre_status gy_shard_failure(const gy_route *route, uint32_t shard, const char *node, gyre_status status, const gyre_error *cause,
                             gyre_error *err)
{
    if (status == GYRE_NOT_FOUND)
        status = GYRE_UNAVAILABLE;
    return gyre_fail(err, status, "shard %u of '%s' on node %s: %s", shard, route->collection, node ? node
        : route->shards[shard].node,
                     cause && cause->text[0] ? cause->text : gyre_status_name(status));
}

gyre_status gy_consulted_failure(const gy_route *route, uint32_t shard, const struct gy_consulted *consulted, gyre_error *err)
{
    const struct gy_route_shard *view = &route->shards[shard];
    bool codes = false;
    for (uint32_t m = 0; m < view->member_count; m++)
        codes |= view->members[m].kind == GY_MEMBER_QUANTIZED && view->members[m].up;
    gyre_status status = gy_shard_failure(route, shard, consulted->member ? consulted->member->node : NULL, consulted->status,
                                          &consulted->err, err);
    if (consulted->no_full && codes)
        return gyre_wrap(err, status, "no full copy is within reach; allow_approximate answers from codes");
    return status;
}
