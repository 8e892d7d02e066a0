#include "health.h"

#include "grpc/health/v1/health.pb-c.h"

enum {
    UNKNOWN_YET = -1,
    REPLY_BYTES_MAX = 8, /* one enum */
};

typedef Grpc__Health__V1__HealthCheckRequest request_t;
typedef Grpc__Health__V1__HealthCheckResponse reply_t;

static size_t pack_status(uint8_t out[REPLY_BYTES_MAX], int status)
{
    reply_t reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    reply.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    return grpc__health__v1__health_check_response__pack(&reply, out);
}

static bool is_known(const struct gy_health *health, const char *service)
{
    bool known = !*service; /* "" is the server as a whole */
    for (size_t i = 0; i < health->service_count && !known; i++)
        known = strcmp(health->services[i], service) == 0;
    return known;
}

static int serving_status(const struct gy_health *health)
{
    return health->serving ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                           : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

static void on_check(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct gy_health *health = self;
    gyre_error err;
    request_t *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &grpc__health__v1__health_check_request__descriptor, bytes, size, &err);
    if (status == GYRE_OK && !is_known(health, request->service))
        status = gyre_fail(&err, GYRE_NOT_FOUND, "no service '%s'", request->service);
    uint8_t reply[REPLY_BYTES_MAX];
    pthread_mutex_lock(&health->watchers.mu);
    size_t reply_bytes = pack_status(reply, serving_status(health));
    pthread_mutex_unlock(&health->watchers.mu);
    gy_rpc_finish(call, status, &err, reply, reply_bytes);
    gy_wire_free(request);
}

/* Sends the status unless the client knows it or a write is on its way; watchers.mu is held. */
static void tell(struct gy_health *health, gy_rpc_call *call)
{
    struct gy_long_call *watcher = &call->long_call;
    int status = watcher->known ? serving_status(health) : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    if (watcher->writing || watcher->told_status == status)
        return;
    uint8_t reply[REPLY_BYTES_MAX];
    watcher->told_status = status;
    gy_long_call_write(call, reply, pack_status(reply, status));
}

static void on_watch(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct gy_health *health = self;
    gyre_error err;
    request_t *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &grpc__health__v1__health_check_request__descriptor, bytes, size, &err);
    if (status != GYRE_OK) {
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    call->long_call.known = is_known(health, request->service);
    call->long_call.told_status = UNKNOWN_YET;
    gy_wire_free(request);
    pthread_mutex_lock(&health->watchers.mu);
    gy_long_calls_add(&health->watchers, call);
    if (gy_long_call_settle(&health->watchers, call))
        tell(health, call);
    pthread_mutex_unlock(&health->watchers.mu);
}

static void on_watch_written(void *self, gy_rpc_call *call)
{
    struct gy_health *health = self;
    pthread_mutex_lock(&health->watchers.mu);
    call->long_call.writing = false;
    if (gy_long_call_settle(&health->watchers, call))
        tell(health, call); /* the status may have changed meanwhile */
    pthread_mutex_unlock(&health->watchers.mu);
}

static void on_watch_gone(void *self, gy_rpc_call *call)
{
    struct gy_health *health = self;
    pthread_mutex_lock(&health->watchers.mu);
    gy_long_call_settle(&health->watchers, call);
    pthread_mutex_unlock(&health->watchers.mu);
}

void gy_health_init(struct gy_health *health)
{
    *health = (struct gy_health){.serving = false};
    gy_long_calls_init(&health->watchers);
}

void gy_health_set_services(struct gy_health *health, const char *const *services, size_t service_count)
{
    health->services = services;
    health->service_count = service_count;
}

void gy_health_fini(struct gy_health *health)
{
    gy_long_calls_fini(&health->watchers);
}

void gy_health_methods(struct gy_health *health, struct gy_method methods[GY_HEALTH_METHODS])
{
    methods[0] = (struct gy_method){
        .path = "/grpc.health.v1.Health/Check", .kind = GY_CALL_UNARY, .on_message = on_check, .self = health};
    methods[1] = (struct gy_method){.path = "/grpc.health.v1.Health/Watch",
                                    .kind = GY_CALL_SERVER_STREAM,
                                    .on_message = on_watch,
                                    .on_gone = on_watch_gone,
                                    .on_written = on_watch_written,
                                    .self = health};
}

void gy_health_set_serving(struct gy_health *health, bool serving)
{
    pthread_mutex_lock(&health->watchers.mu);
    health->serving = serving;
    for (gy_rpc_call *call = health->watchers.first; call; call = call->long_call.next)
        if (!gy_rpc_cancelled(call))
            tell(health, call);
    pthread_mutex_unlock(&health->watchers.mu);
}
