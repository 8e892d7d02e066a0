#include "routing/primary.h"

#include "routing/ask.h"
#include "routing/failure.h"

#include <stdlib.h>

#define BACKOFF_MIN_NS (10 * GY_MILLISECOND_NS)
#define BACKOFF_MAX_NS (500 * GY_MILLISECOND_NS)
/* Somebody becomes primary within about 5 s, or there is something that a person must look at: then the sentence helps more. */
#define AGAIN_FOR_NS (10 * GY_SECOND_NS)

/* One attempt at all the calls that have no answer yet. */
struct attempt {
    const struct gy_primary_ask *ask;
    const gy_route *route;          /* held */
    struct gy_gather_call *sent;    /* [count] */
    struct gy_primary_call **calls; /* [count] */
    size_t count;
    int64_t last_ns;                /* nothing is awaited any longer */
    int64_t again_ns;               /* nothing is asked again */
};

/* A `cancelled`: the client has left, or somebody else has become the primary of what is asked. */
static bool is_moot(void *arg)
{
    const struct attempt *attempt = arg;
    const struct gy_primary_ask *ask = attempt->ask;
    if (ask->cancelled && ask->cancelled(ask->cancelled_arg))
        return true;
    const gy_route *newest;
    if (gy_route_hold(ask->routing, attempt->route->collection, &newest, NULL) != GYRE_OK)
        return false;
    bool moved = false;
    for (size_t i = 0; newest->collection_id == attempt->route->collection_id && i < attempt->count; i++) {
        uint32_t shard = attempt->calls[i]->shard;
        moved |= shard < newest->shard_count && newest->shards[shard].primary != attempt->route->shards[shard].primary;
    }
    gy_route_release(newest);
    return moved;
}

/* Whether asking again may help. */
static bool may_pass(gyre_status status)
{
    return status == GYRE_UNAVAILABLE || status == GYRE_ABORTED || status == GYRE_NOT_FOUND || status == GYRE_CANCELLED;
}

/* Whether the work may have been done all the same: not if the node said that it refuses. */
static bool may_be_done(gyre_status status)
{
    return status == GYRE_UNAVAILABLE || status == GYRE_CANCELLED || status == GYRE_DEADLINE || status == GYRE_INTERNAL ||
           status == GYRE_CORRUPT;
}

static void call_failed(const gy_route *route, struct gy_primary_call *call, gyre_status status, const gyre_error *cause)
{
    const gyre_error said = *cause; /* it may be the call's own */
    if (status == GYRE_ABORTED || status == GYRE_CANCELLED) /* another became primary: nobody may answer yet, that is all */
        status = GYRE_UNAVAILABLE;
    call->status = gy_shard_failure(route, call->shard, NULL, status, &said, &call->err);
}

/* Sends what has no answer yet, and takes what comes. Returns how many may be asked again. */
static size_t attempt_run(struct attempt *attempt, struct gy_primary_call *calls, size_t count)
{
    const struct gy_primary_ask *ask = attempt->ask;
    size_t again = 0;
    attempt->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct gy_primary_call *call = &calls[i];
        gy_peer *peer;
        gyre_error cause = {0};
        if (!may_pass(call->status))
            continue;
        gyre_status status = gy_route_peer(attempt->route, call->shard, &peer, &cause);
        if (status != GYRE_OK) {
            call_failed(attempt->route, call, status, &cause);
            again++;
            continue;
        }
        if (call->epoch)
            *call->epoch = attempt->route->shards[call->shard].epoch;
        attempt->calls[attempt->count] = call;
        attempt->sent[attempt->count++] = (struct gy_gather_call){
            .peer = peer, .type = ask->type, .request = call->request, .reply_type = ask->reply_type};
    }
    gy_ask(attempt->sent, attempt->count, attempt->last_ns, is_moot, attempt);
    for (size_t i = 0; i < attempt->count; i++) {
        struct gy_primary_call *call = attempt->calls[i];
        const struct gy_gather_call *sent = &attempt->sent[i];
        if (sent->status == GYRE_OK) {
            call->status = GYRE_OK;
            call->reply = sent->reply;
            continue;
        }
        call->maybe |= may_be_done(sent->status);
        again += may_pass(sent->status);
        call_failed(attempt->route, call, sent->status, &sent->err);
    }
    return again;
}

/* Whether a call without an answer is of a shard that is another by now. */
static bool is_split(const struct attempt *attempt, const struct gy_primary_call *calls, size_t count)
{
    bool split = false;
    for (size_t i = 0; i < count; i++) {
        const struct gy_primary_call *call = &calls[i];
        if (!may_pass(call->status))
            continue;
        const struct gy_route_shard *shard = &attempt->route->shards[call->shard];
        split |= call->shard >= attempt->route->shard_count || shard->range.first != call->range.first ||
                 shard->range.last != call->range.last;
    }
    return split;
}

/* Waits for a newer view, or until it is worth trying again without. False: there is no point in it. */
static bool await(struct attempt *attempt, int64_t backoff_ns)
{
    const struct gy_primary_ask *ask = attempt->ask;
    int64_t now_ns = gy_now_ns(), last_ns = attempt->again_ns,
        until_ns = now_ns + backoff_ns < last_ns ? now_ns + backoff_ns : last_ns;
    if (ask->cancelled && ask->cancelled(ask->cancelled_arg))
        return false;
    if (gy_route_await(ask->routing, &attempt->route, until_ns))
        return gy_now_ns() < last_ns;
    now_ns = gy_now_ns();
    return now_ns >= until_ns && now_ns < last_ns; /* earlier: the collection was dropped */
}

bool gy_primary_run(const struct gy_primary_ask *ask, struct gy_primary_call *calls, size_t count)
{
    struct attempt attempt = {
        .ask = ask,
        .route = gy_route_again(*ask->route),
        .sent = calloc(count + 1, sizeof *attempt.sent),
        .calls = calloc(count + 1, sizeof(struct gy_primary_call *)),
    };
    for (size_t i = 0; i < count; i++) {
        calls[i].status = GYRE_UNAVAILABLE;
        calls[i].reply = NULL, calls[i].maybe = false;
        calls[i].range = attempt.route->shards[calls[i].shard].range;
        if (!attempt.sent || !attempt.calls)
            calls[i].status = gyre_fail(&calls[i].err, GYRE_NO_MEMORY, "no memory to ask %zu shards", count);
    }
    int64_t backoff_ns = BACKOFF_MIN_NS;
    bool split = false;
    attempt.last_ns = gy_answer_deadline_ns(ask->deadline_ns);
    int64_t again_ns = ask->begun_ns + AGAIN_FOR_NS;
    attempt.again_ns = again_ns < attempt.last_ns ? again_ns : attempt.last_ns;
    if (attempt.sent && attempt.calls)
        while (!split && attempt_run(&attempt, calls, count) > 0 && await(&attempt, backoff_ns)) {
            backoff_ns = 2 * backoff_ns < BACKOFF_MAX_NS ? 2 * backoff_ns : BACKOFF_MAX_NS;
            split = is_split(&attempt, calls, count);
        }
    const gy_route *older = split ? *ask->route : attempt.route;
    if (split)
        *ask->route = attempt.route;
    gy_route_release(older);
    free(attempt.sent), free(attempt.calls);
    return split;
}
