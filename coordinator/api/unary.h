/* unary: what every unary method shares: the message is unpacked, the work runs on a pool thread, the reply is packed, the call
 * is counted and timed. A service is a table of these. */
#ifndef GY_UNARY_H
#define GY_UNARY_H

#include "gyre/metrics.h"
#include "gyre/pool.h"
#include "gyre/rpc.h"

/* Does the work of one call, on a pool thread. request is the unpacked message (freed by the caller). Packs its reply into *reply
 * with gy_wire_pack (freed by the caller). deadline: gy_rpc_deadline_ns(call). */
typedef gyre_status gy_unary_handler(void *service, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err);

/* Who waits for a change, wherever it is made. */
struct gy_caller {
    int64_t deadline_ns;
    bool (*cancelled)(void *arg);
    void *arg;
};
/* The same for what only the coordinator that leads may do (forward.h). */
typedef gyre_status gy_unary_change(void *service, const struct gy_caller *caller, void *request, gy_bytes *reply,
                                    gyre_error *err);

/* The same for work that may end on another thread, after this has returned: request is the handler's, to be freed with
 * gy_wire_free, and gy_unary_finish must be called exactly once. */
typedef struct gy_unary_call gy_unary_call;
typedef void gy_unary_starter(void *service, gy_unary_call *call, void *request);
gy_rpc_call *gy_unary_rpc(const gy_unary_call *call);
/* Ends the call with a packed reply, or a status and why. */
void gy_unary_finish(gy_unary_call *call, gyre_status status, const gyre_error *err, const gy_bytes *reply);

struct gy_unary {
    const char *path;                              /* "/gyre.v1.Points/Search" */
    const ProtobufCMessageDescriptor *request_type;
    gy_unary_handler *handle;                      /* or */
    gy_unary_starter *start;                       /* or */
    gy_unary_change *change;
    struct gy_forward *forward;                    /* see gy_forward_share; NULL: changes are made here */
    /* the rest is filled by gy_unary_init */
    void *service;
    gy_pool *pool;
    gy_metric *calls, *errors, *seconds;
};

/* Makes methods[count] callable; they must outlive the server. A full pool
 * answers RESOURCE_EXHAUSTED. Metrics: gyre_coordinator_calls_total, _call_errors_total, _call_seconds, by method. */
void gy_unary_init(struct gy_unary *methods, size_t count, void *service, gy_pool *pool, gy_metrics *metrics);
/* Writes them to the server's table at out[0…count-1]. */
void gy_unary_methods(const struct gy_unary *methods, size_t count, struct gy_rpc_method *out);

#endif
