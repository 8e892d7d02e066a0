/* A call's bytes are copied off the completion-queue thread, unpacked where the work runs, and freed there. */
#include "api/unary.h"

#include "api/forward.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct gy_unary_call {
    const struct gy_unary *method;
    gy_rpc_call *rpc;
    int64_t started_ns;
    size_t bytes;
    uint8_t data[];
};

gy_rpc_call *gy_unary_rpc(const gy_unary_call *call)
{
    return call->rpc;
}

static void finish(const struct gy_unary *method, gy_rpc_call *rpc, int64_t started_ns, gyre_status status,
                   const gyre_error *err, const gy_bytes *reply)
{
    gy_counter_add(method->calls, 1);
    if (status != GYRE_OK)
        gy_counter_add(method->errors, 1);
    gy_histogram_observe_ns(method->seconds, gy_now_ns() - started_ns);
    gy_rpc_finish(rpc, status, err, reply ? reply->data : NULL, reply ? reply->size : 0);
}

void gy_unary_finish(gy_unary_call *call, gyre_status status, const gyre_error *err, const gy_bytes *reply)
{
    finish(call->method, call->rpc, call->started_ns, status, err, reply);
    free(call);
}

/* Whether anybody waits for it still, and what it asks. */
static gyre_status unpack(const gy_unary_call *call, void *request, gyre_error *err)
{
    if (gy_rpc_cancelled(call->rpc))
        return gyre_fail(err, GYRE_CANCELLED, "the call was cancelled before it was worked on");
    if (gy_now_ns() > gy_rpc_deadline_ns(call->rpc))
        return gyre_fail(err, GYRE_DEADLINE, "the deadline passed while the call waited for a free thread");
    return gy_wire_unpack(request, call->method->request_type, call->data, call->bytes, err);
}

static bool cancelled(void *rpc) { return gy_rpc_cancelled(rpc); }

static gyre_status handle(const struct gy_unary *method, gy_rpc_call *rpc, void *request, gy_bytes *reply, gyre_error *err)
{
    if (method->handle)
        return method->handle(method->service, rpc, request, reply, err);
    struct gy_caller caller = {gy_rpc_deadline_ns(rpc), cancelled, rpc};
    return method->forward ? gy_forward_change(method->forward, method, &caller, request, reply, err)
                           : method->change(method->service, &caller, request, reply, err);
}

static void run(void *arg)
{
    gy_unary_call *call = arg;
    const struct gy_unary *method = call->method;
    gyre_error err = {0};
    gy_bytes reply = {0};
    void *request = NULL;
    gyre_status status = unpack(call, &request, &err);
    if (status == GYRE_OK && method->start) {
        method->start(method->service, call, request);
        return;
    }
    if (status == GYRE_OK)
        status = handle(method, call->rpc, request, &reply, &err);
    gy_wire_free(request);
    gy_unary_finish(call, status, &err, &reply);
    gy_bytes_free(&reply);
}

static void on_message(void *self, gy_rpc_call *rpc, const uint8_t *bytes, size_t size)
{
    const struct gy_unary *method = self;
    int64_t started_ns = gy_now_ns();
    gyre_error err = {0};
    gy_unary_call *call = malloc(sizeof *call + size);
    if (!call) {
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a request of %zu bytes", size);
        finish(method, rpc, started_ns, status, &err, NULL);
        return;
    }
    call->method = method, call->rpc = rpc, call->started_ns = started_ns, call->bytes = size;
    if (size)
        memcpy(call->data, bytes, size);
    gyre_status status = gy_pool_submit(method->pool, run, call, &err);
    if (status != GYRE_OK)
        gy_unary_finish(call, status, &err, NULL);
}

void gy_unary_init(struct gy_unary *methods, size_t count, void *service, gy_pool *pool, gy_metrics *metrics)
{
    for (size_t i = 0; i < count; i++) {
        struct gy_unary *method = &methods[i];
        char labels[128];
        assert(strlen(method->path) + sizeof "method=\"\"" <= sizeof labels);
        snprintf(labels, sizeof labels, "method=\"%s\"", method->path);
        method->service = service, method->pool = pool;
        method->calls = gy_counter_new(metrics, "gyre_coordinator_calls_total", labels, "Calls that were answered, by method.");
        method->errors = gy_counter_new(metrics, "gyre_coordinator_call_errors_total", labels, "Calls that failed, by method.");
        method->seconds =
            gy_histogram_new(metrics, "gyre_coordinator_call_seconds", labels, "Time from message to answer, by method.");
    }
}

void gy_unary_methods(const struct gy_unary *methods, size_t count, struct gy_rpc_method *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] =
            (struct gy_rpc_method){.path = methods[i].path, .on_message = on_message, .self = (void *)(uintptr_t)&methods[i]};
}
