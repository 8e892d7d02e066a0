/* A server: N completion queues with a thread each, one posted request per method and queue, and the order of going down:
 *
 *   new calls are answered UNAVAILABLE, running ones go on → none runs and none came for a moment, or grace is over →
 *   shutdown_and_notify (new calls get UNAVAILABLE, posted requests come back) → grace, until every call is freed
 *   → cancel_all → every call freed → queues shut down, drained, joined → server destroyed
 *
 * A batch started after its queue was shut down aborts the process, so the count of calls, posted ones included, must be 0
 * first. The shutdown's own event is no substitute: it comes while handlers still hold calls. */
#include "health.h"
#include "reflection.h"

#include <assert.h>
#include <errno.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ADDRESS_BYTES_MAX = 280, /* a host name of 253, and a port */
    OWN_METHODS = GY_HEALTH_METHODS + GY_REFLECTION_METHODS,
    CONCURRENT_STREAMS_MAX = 1024, /* calls of one connection at once; more wait in the client */
    KEEPALIVE_MS = 30000,          /* a silent connection is asked after this… */
    KEEPALIVE_TIMEOUT_MS = 10000,  /* …and closed after this, with all its calls */
    CLIENT_PING_MS_MIN = 5000,     /* clients that ask more often are told off */
};

/* Connections without calls close by themselves; given to their last bytes. */
static const int64_t SHUTDOWN_NS = GY_SECOND_NS;
/* Nobody has called for so long: who is told that the server stops has gone elsewhere. Those who go on calling are not waited for
 * longer than REFUSE_NS. */
static const int64_t QUIET_NS = 100 * GY_MILLISECOND_NS, REFUSE_NS = GY_SECOND_NS;

struct gy_queue {
    grpc_completion_queue *core;
    pthread_t thread;
    bool running;
};

struct gy_rpc_server {
    grpc_server *core;
    grpc_completion_queue *shutdown_queue; /* carries the one event of the shutdown */
    struct gy_queue *queues;
    size_t queue_count;
    struct gy_method *methods;
    size_t method_count;
    char **services; /* of the methods, each once */
    size_t service_count;
    struct gy_health health;
    struct gy_reflection reflection;
    size_t message_bytes_max;
    char address[ADDRESS_BYTES_MAX];
    pthread_mutex_t mu;
    pthread_cond_t idle;
    size_t calls; /* guarded by mu: posted and open */
    size_t open;  /* guarded by mu: of methods that can be refused, arrived and not over */
    int64_t arrived_ns; /* guarded by mu: the newest of them */
    bool refusing;      /* guarded by mu */
};

/* ---- what calls need of their server ---- */

grpc_server *gy_server_core(gy_rpc_server *server)
{
    return server->core;
}

size_t gy_server_message_bytes_max(const gy_rpc_server *server)
{
    return server->message_bytes_max;
}

static bool post(gy_rpc_server *server, grpc_completion_queue *queue, const struct gy_method *method)
{
    gy_rpc_call *call = calloc(1, sizeof *call);
    if (!call)
        return false;
    call->server = server;
    call->queue = queue;
    call->method = method;
    pthread_mutex_lock(&server->mu);
    server->calls++;
    pthread_mutex_unlock(&server->mu);
    gy_call_post(call);
    return true;
}

bool gy_server_replace(gy_rpc_call *arrived)
{
    return post(arrived->server, arrived->queue, arrived->method);
}

bool gy_server_takes(gy_rpc_server *server)
{
    pthread_mutex_lock(&server->mu);
    server->open++;
    server->arrived_ns = gy_now_ns();
    bool takes = !server->refusing;
    pthread_mutex_unlock(&server->mu);
    return takes;
}

void gy_server_over(gy_rpc_server *server)
{
    pthread_mutex_lock(&server->mu);
    if (--server->open == 0)
        pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->mu);
}

void gy_server_forget(gy_rpc_server *server)
{
    pthread_mutex_lock(&server->mu);
    if (--server->calls == 0)
        pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->mu);
}

/* ---- opening ---- */

static void *queue_run(void *arg)
{
    struct gy_queue *queue = arg;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(queue->core, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        struct gy_tag *tag = event.tag;
        tag->on_event(tag->call, event.success);
    }
}

/* Collects the services of the methods: "/gyre.v1.Points/Search" is of gyre.v1.Points. */
static gyre_status collect_services(gy_rpc_server *server, gyre_error *err)
{
    server->services = calloc(server->method_count, sizeof *server->services);
    if (!server->services)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu services", server->method_count);
    for (size_t i = 0; i < server->method_count; i++) {
        const char *path = server->methods[i].path;
        const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
        if (!slash || slash == path + 1 || !slash[1])
            return gyre_fail(err, GYRE_INVALID, "method path '%s' is not of the form /package.Service/Method", path);
        char *name = strndup(path + 1, (size_t)(slash - path - 1));
        if (!name)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the service of %s", path);
        bool known = false;
        for (size_t j = 0; j < server->service_count && !known; j++)
            known = strcmp(server->services[j], name) == 0;
        if (known)
            free(name);
        else
            server->services[server->service_count++] = name;
    }
    return GYRE_OK;
}

static gyre_status copy_methods(gy_rpc_server *server, const struct gy_rpc_server_options *options, gyre_error *err)
{
    server->method_count = options->method_count + OWN_METHODS;
    server->methods = calloc(server->method_count, sizeof *server->methods);
    if (!server->methods)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu methods", server->method_count);
    for (size_t i = 0; i < options->method_count; i++) {
        const struct gy_rpc_method *method = &options->methods[i];
        server->methods[i] = (struct gy_method){.path = method->path,
                                                .kind = method->streams ? GY_CALL_CLIENT_STREAM : GY_CALL_UNARY,
                                                .on_message = method->on_message,
                                                .on_gone = method->on_gone,
                                                .refusable = true,
                                                .self = method->self};
    }
    gy_health_methods(&server->health, server->methods + options->method_count);
    gy_reflection_methods(&server->reflection, server->methods + options->method_count + GY_HEALTH_METHODS);
    return GYRE_OK;
}

static grpc_arg integer_arg(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static gyre_status create_core(gy_rpc_server *server, gyre_error *err)
{
    grpc_arg args[] = {
        integer_arg(GRPC_ARG_ALLOW_REUSEPORT, 0), /* or a second server would share the port in silence */
        integer_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)server->message_bytes_max),
        integer_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0), /* message.c inflates, within the limit */
        integer_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, CONCURRENT_STREAMS_MAX),
        integer_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        integer_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, CLIENT_PING_MS_MIN),
    };
    grpc_channel_args channel_args = {.num_args = sizeof args / sizeof *args, .args = args};
    server->core = grpc_server_create(&channel_args, NULL);
    server->shutdown_queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->core, server->shutdown_queue, NULL);
    for (size_t i = 0; i < server->queue_count; i++) {
        server->queues[i].core = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(server->core, server->queues[i].core, NULL);
    }
    for (size_t i = 0; i < server->method_count; i++) {
        struct gy_method *method = &server->methods[i];
        bool one_request = method->kind == GY_CALL_UNARY || method->kind == GY_CALL_SERVER_STREAM;
        method->registered = grpc_server_register_method(
            server->core, method->path, NULL, one_request ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0);
        if (!method->registered)
            return gyre_fail(err, GYRE_INVALID, "method %s is given twice", method->path);
    }
    return GYRE_OK;
}

static gyre_status bind_address(gy_rpc_server *server, const char *listen, gyre_error *err)
{
    const char *colon = strrchr(listen, ':');
    size_t host_bytes = colon ? (size_t)(colon - listen) : 0;
    if (host_bytes == 0 || !colon[1] || strlen(listen) >= ADDRESS_BYTES_MAX - 8)
        return gyre_fail(err, GYRE_INVALID, "listen address '%.80s' is not of the form host:port", listen);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->core, listen, plain);
    grpc_server_credentials_release(plain);
    if (port == 0)
        return gyre_fail(err, GYRE_UNAVAILABLE, "cannot listen on %s: it is in use, or no address of this machine", listen);
    snprintf(server->address, sizeof server->address, "%.*s:%d", (int)host_bytes, listen, port);
    return GYRE_OK;
}

static gyre_status start(gy_rpc_server *server, gyre_error *err)
{
    grpc_server_start(server->core);
    for (size_t i = 0; i < server->queue_count; i++) {
        struct gy_queue *queue = &server->queues[i];
        /* The thread first: what is posted must have someone to take it back. */
        if (pthread_create(&queue->thread, NULL, queue_run, queue) != 0)
            return gyre_fail(err, GYRE_EXHAUSTED, "cannot start thread %zu of the gRPC server", i);
        queue->running = true;
        bool posted = post(server, queue->core, NULL); /* the catch-all: without it an unknown method would hang */
        for (size_t j = 0; j < server->method_count; j++)
            posted = posted && post(server, queue->core, &server->methods[j]);
        if (!posted)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the calls of %zu methods", server->method_count);
    }
    return GYRE_OK;
}

static gyre_status open_parts(gy_rpc_server *server, const struct gy_rpc_server_options *options, gyre_error *err)
{
    server->message_bytes_max = options->message_bytes_max ? options->message_bytes_max : GY_RPC_MESSAGE_BYTES_MAX;
    if (server->message_bytes_max > INT_MAX)
        return gyre_fail(err, GYRE_INVALID, "message limit of %zu bytes; at most %d", server->message_bytes_max, INT_MAX);
    GY_TRY(copy_methods(server, options, err));
    GY_TRY(collect_services(server, err));
    const char *const *services = (const char *const *)server->services;
    gy_health_set_services(&server->health, services, server->service_count);
    GY_TRY(gy_reflection_load(&server->reflection, services, server->service_count, options->descriptors,
                              options->descriptors_bytes, err));
    server->queue_count = options->threads ? options->threads : 1;
    server->queues = calloc(server->queue_count, sizeof *server->queues);
    if (!server->queues)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu queues", server->queue_count);
    GY_TRY(create_core(server, err));
    GY_TRY(bind_address(server, options->listen, err));
    return start(server, err);
}

gyre_status gy_rpc_server_open(gy_rpc_server **out, const struct gy_rpc_server_options *options, gyre_error *err)
{
    gy_rpc_server *server = calloc(1, sizeof *server);
    if (!server)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a gRPC server");
    grpc_init();
    pthread_mutex_init(&server->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    gy_health_init(&server->health);
    gy_reflection_init(&server->reflection);
    gyre_status status = open_parts(server, options, err);
    if (status != GYRE_OK) {
        gy_rpc_server_close(server, 0);
        return status;
    }
    *out = server;
    return GYRE_OK;
}

const char *gy_rpc_server_address(const gy_rpc_server *server)
{
    return server->address;
}

void gy_rpc_server_set_serving(gy_rpc_server *server, bool serving)
{
    gy_health_set_serving(&server->health, serving);
}

/* ---- closing ---- */

/* A queue whose thread never ran (opening failed half-way) is drained here. */
static void queue_close(struct gy_queue *queue)
{
    grpc_completion_queue_shutdown(queue->core);
    if (queue->running)
        pthread_join(queue->thread, NULL);
    else
        queue_run(queue);
    grpc_completion_queue_destroy(queue->core);
}

/* gRPC core resets a call that arrives while it shuts down, before the client has heard of that: the client reads CANCELLED and
 * cannot tell that nothing was done. So whoever calls is first told so in words, and gets a moment to turn elsewhere. */
static void refuse_new(gy_rpc_server *server, int64_t until_ns)
{
    int64_t latest_ns = gy_now_ns() + REFUSE_NS;
    pthread_mutex_lock(&server->mu);
    server->refusing = true;
    for (;;) {
        int64_t now_ns = gy_now_ns(), quiet_ns = server->arrived_ns + QUIET_NS;
        int64_t wake_ns = server->open > 0 ? until_ns : quiet_ns < latest_ns ? quiet_ns : latest_ns;
        wake_ns = wake_ns < until_ns ? wake_ns : until_ns;
        if (now_ns >= wake_ns)
            break;
        struct timespec wake = {wake_ns / GY_SECOND_NS, wake_ns % GY_SECOND_NS};
        pthread_cond_timedwait(&server->idle, &server->mu, &wake);
    }
    pthread_mutex_unlock(&server->mu);
}

/* Whether every call, posted ones included, was freed before until_ns. */
static bool wait_idle(gy_rpc_server *server, int64_t until_ns)
{
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&server->mu);
    while (server->calls > 0 && pthread_cond_timedwait(&server->idle, &server->mu, &until) != ETIMEDOUT)
        ;
    bool idle = server->calls == 0;
    pthread_mutex_unlock(&server->mu);
    return idle;
}

static bool wait_shutdown(gy_rpc_server *server, int64_t until_ns)
{
    gpr_timespec until = until_ns == GY_NEVER ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                                              : gpr_time_from_nanos(until_ns, GPR_CLOCK_MONOTONIC);
    return grpc_completion_queue_next(server->shutdown_queue, until, NULL).type == GRPC_OP_COMPLETE;
}

static void close_core(gy_rpc_server *server, int64_t grace_ns)
{
    static char shutdown_tag;
    int64_t until_ns = gy_now_ns() + grace_ns;
    refuse_new(server, until_ns);
    grpc_server_shutdown_and_notify(server->core, server->shutdown_queue, &shutdown_tag);
    gy_long_calls_end(&server->health.watchers);
    gy_long_calls_end(&server->reflection.calls);
    /* A call that arrives in the middle of shutdown_and_notify may be kept by gRPC core (1.51) and handed to nobody: when all
     * that we know of are done, only such are left, and no grace helps them. */
    if (!wait_idle(server, until_ns) || !wait_shutdown(server, gy_now_ns() + SHUTDOWN_NS)) {
        grpc_server_cancel_all_calls(server->core);
        wait_shutdown(server, GY_NEVER);
    }
    wait_idle(server, GY_NEVER);
}

void gy_rpc_server_close(gy_rpc_server *server, int64_t grace_ns)
{
    if (!server)
        return;
    if (server->core) {
        close_core(server, grace_ns);
        for (size_t i = 0; i < server->queue_count; i++)
            queue_close(&server->queues[i]);
        grpc_server_destroy(server->core);
        grpc_completion_queue_shutdown(server->shutdown_queue);
        grpc_completion_queue_destroy(server->shutdown_queue);
    }
    gy_reflection_fini(&server->reflection);
    gy_health_fini(&server->health);
    for (size_t i = 0; i < server->service_count; i++)
        free(server->services[i]);
    free(server->services);
    free(server->methods);
    free(server->queues);
    pthread_cond_destroy(&server->idle);
    pthread_mutex_destroy(&server->mu);
    free(server);
    grpc_shutdown();
}
