#include "routing/renew.h"

#include "routing/ask.h"
#include "routing/failure.h"
#include "routing/session.h"

#include <stdlib.h>

/* Waits for a newer view. False: there is none in time, the collection was dropped, or nobody waits for the answer any more. */
static bool await_newer(const struct gy_renewal *renewal, const gy_route **route)
{
    int64_t last_ns = gy_answer_deadline_ns(renewal->deadline_ns);
    for (;;) {
        int64_t now_ns = gy_now_ns(), until_ns = now_ns + GY_ASK_TURN_NS < last_ns ? now_ns + GY_ASK_TURN_NS : last_ns;
        if (renewal->cancelled && renewal->cancelled(renewal->cancelled_arg))
            return false;
        if (gy_route_await(renewal->routing, route, until_ns))
            return true;
        now_ns = gy_now_ns();
        if (now_ns < until_ns || now_ns >= last_ns)
            return false;
    }
}

bool gy_route_renew(const struct gy_renewal *renewal, const gy_route **route, gyre_status *status, gyre_error *err)
{
    if (*status != GYRE_ABORTED)
        return false;
    if (gy_now_ns() < renewal->deadline_ns && await_newer(renewal, route))
        return true;
    *status = gyre_wrap(err, GYRE_UNAVAILABLE, "this coordinator has not heard in time how the shard was split");
    return false;
}

gyre_status gy_route_token(const struct gy_renewal *renewal, const gy_route **route, const uint8_t *token, size_t bytes,
                           uint64_t **seqs, gyre_error *err)
{
    for (;;) {
        uint32_t shards = (*route)->shard_count;
        uint64_t *made = calloc(shards, sizeof *made);
        if (!made)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the token of %u shards", shards);
        gyre_status status = gy_session_read(token, bytes, (*route)->collection_id, shards, made, err);
        if (status == GYRE_OK) {
            *seqs = made;
            return GYRE_OK;
        }
        free(made);
        if (status != GYRE_OUT_OF_RANGE)
            return status;
        if (!await_newer(renewal, route))
            return gyre_wrap(err, GYRE_UNAVAILABLE, "this coordinator has not heard in time of a split");
    }
}
