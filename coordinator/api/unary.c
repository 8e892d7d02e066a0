/* A call's bytes are copied off the completion-queue thread, unpacked where the work runs, and freed there. */
#include "api/unary.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
    const struct gy_unary *method;
    gy_rpc_call *call;
    int64_t started_ns;
    size_t bytes;
    uint8_t data[];
};

static void finish(const struct gy_unary *method, gy_rpc_call *call, int64_t started_ns, gyre_status status,
                   const gyre_error *err, const gy_bytes *reply)
{
    gy_counter_add(method->calls, 1);
    if (status != GYRE_OK)
        gy_counter_add(method->errors, 1);
    gy_histogram_observe_ns(method->seconds, gy_now_ns() - started_ns);
    gy_rpc_finish(call, status, err, reply ? reply->data : NULL, reply ? reply->size : 0);
}

static gyre_status handle(const struct job *job, gy_bytes *reply, gyre_error *err)
{
    if (gy_rpc_cancelled(job->call))
        return gyre_fail(err, GYRE_CANCELLED, "the call was cancelled before it was worked on");
    if (gy_now_ns() > gy_rpc_deadline_ns(job->call))
        return gyre_fail(err, GYRE_DEADLINE, "the deadline passed while the call waited for a free thread");
    void *request = NULL;
    GY_TRY(gy_wire_unpack(&request, job->method->request_type, job->data, job->bytes, err));
    gyre_status status = job->method->handle(job->method->service, job->call, request, reply, err);
    gy_wire_free(request);
    return status;
}

static void run(void *arg)
{
    struct job *job = arg;
    gyre_error err = {0};
    gy_bytes reply = {0};
    gyre_status status = handle(job, &reply, &err);
    finish(job->method, job->call, job->started_ns, status, &err, &reply);
    gy_bytes_free(&reply);
    free(job);
}

static void on_message(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    const struct gy_unary *method = self;
    int64_t started_ns = gy_now_ns();
    gyre_error err = {0};
    struct job *job = malloc(sizeof *job + size);
    if (!job) {
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a request of %zu bytes", size);
        finish(method, call, started_ns, status, &err, NULL);
        return;
    }
    job->method = method, job->call = call, job->started_ns = started_ns, job->bytes = size;
    if (size)
        memcpy(job->data, bytes, size);
    gyre_status status = gy_pool_submit(method->pool, run, job, &err);
    if (status != GYRE_OK) {
        finish(method, call, started_ns, status, &err, NULL);
        free(job);
    }
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
