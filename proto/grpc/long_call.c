#include "long_call.h"

#include <assert.h>

void gy_long_calls_init(struct gy_long_calls *set)
{
    pthread_mutex_init(&set->mu, NULL);
    set->first = NULL;
    set->ended = false;
}

void gy_long_calls_fini(struct gy_long_calls *set)
{
    assert(!set->first);
    pthread_mutex_destroy(&set->mu);
}

void gy_long_calls_add(struct gy_long_calls *set, gy_rpc_call *call)
{
    if (gy_call_finished(call)) /* by gy_long_calls_end, while its event was on the way */
        return;
    struct gy_long_call *entry = &call->long_call;
    entry->previous = NULL;
    entry->next = set->first;
    entry->listed = true;
    if (set->first)
        set->first->long_call.previous = call;
    set->first = call;
}

static void list_remove(struct gy_long_calls *set, gy_rpc_call *call)
{
    struct gy_long_call *entry = &call->long_call;
    if (entry->previous)
        entry->previous->long_call.next = entry->next;
    else
        set->first = entry->next;
    if (entry->next)
        entry->next->long_call.previous = entry->previous;
    entry->listed = false;
}

void gy_long_call_write(gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    call->long_call.writing = true;
    gy_call_write(call, bytes, size);
}

void gy_long_call_finish(struct gy_long_calls *set, gy_rpc_call *call, gyre_status status, const gyre_error *err)
{
    if (gy_call_finished(call))
        return;
    if (call->long_call.listed)
        list_remove(set, call);
    gy_rpc_finish(call, status, err, NULL, 0);
}

bool gy_long_call_settle(struct gy_long_calls *set, gy_rpc_call *call)
{
    if (!call->long_call.listed)
        return false;
    bool gone = gy_rpc_cancelled(call);
    if (!gone && !set->ended)
        return true;
    if (call->long_call.writing) /* its event settles again */
        return false;
    gyre_error err;
    gyre_status status = gone ? gyre_fail(&err, GYRE_CANCELLED, "the client left")
                              : gyre_fail(&err, GYRE_UNAVAILABLE, "the server is closing");
    gy_long_call_finish(set, call, status, &err);
    return false;
}

void gy_long_calls_end(struct gy_long_calls *set)
{
    pthread_mutex_lock(&set->mu);
    set->ended = true;
    for (gy_rpc_call *call = set->first, *next; call; call = next) {
        next = call->long_call.next;
        gy_long_call_settle(set, call);
    }
    pthread_mutex_unlock(&set->mu);
}
