#include "rpc_fixture.h"

#include "gyre/v1/gyre.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

struct stream {
    uint64_t points;
};

/* Reads "fail:N:sentence"; GYRE_OK if the name is another. */
static gyre_status asked_failure(const char *collection, gyre_error *err)
{
    int status;
    int at;
    if (sscanf(collection, "fail:%d:%n", &status, &at) != 1)
        return GYRE_OK;
    return gyre_fail(err, (gyre_status)status, "%s", collection + at);
}

static void finish_message(gy_rpc_call *call, gyre_status status, const gyre_error *err, const ProtobufCMessage *reply)
{
    gy_bytes packed = {NULL, 0};
    gyre_error pack_err;
    if (status == GYRE_OK && (status = gy_wire_pack(&packed, reply, GY_RPC_MESSAGE_BYTES_MAX, &pack_err)) != GYRE_OK)
        err = &pack_err;
    gy_rpc_finish(call, status, err, packed.data, packed.size);
    gy_bytes_free(&packed);
}

static void on_upsert(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct fixture *fixture = self;
    gyre_error err;
    Gyre__V1__UpsertRequest *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__upsert_request__descriptor, bytes, size, &err);
    if (status == GYRE_OK)
        status = asked_failure(request->collection, &err);
    bool hold = status == GYRE_OK && strcmp(request->collection, "hold") == 0;
    pthread_mutex_lock(&fixture->mu);
    hold = hold && !fixture->holds_nothing;
    if (hold) {
        fixture->held[fixture->held_count++] = call;
        pthread_cond_broadcast(&fixture->changed);
    }
    pthread_mutex_unlock(&fixture->mu);
    if (!hold) {
        Gyre__V1__UpsertReply reply = GYRE__V1__UPSERT_REPLY__INIT;
        reply.upserted = request ? request->n_points : 0;
        finish_message(call, status, &err, &reply.base);
    }
    gy_wire_free(request);
}

static void on_get(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    (void)self;
    gyre_error err;
    Gyre__V1__GetRequest *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__get_request__descriptor, bytes, size, &err);
    if (status != GYRE_OK) {
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    Gyre__V1__GetReply reply = GYRE__V1__GET_REPLY__INIT;
    size_t count = request->n_ids;
    Gyre__V1__Point *points = calloc(count + 1, sizeof *points);
    Gyre__V1__Point **list = calloc(count + 1, sizeof *list);
    char *payload = calloc(1, 100 * count + 16);
    if (!points || !list || !payload)
        abort();
    strcpy(payload, "{\"text\": \"");
    memset(payload + strlen(payload), 'a', 100 * count);
    strcat(payload, "\"}");
    for (size_t i = 0; i < count; i++) {
        gyre__v1__point__init(&points[i]);
        points[i].id = request->ids[i];
        points[i].payload = payload;
        list[i] = &points[i];
    }
    reply.points = list;
    reply.n_points = count;
    finish_message(call, GYRE_OK, NULL, &reply.base);
    free(payload);
    free(list);
    free(points);
    gy_wire_free(request);
}

static void count_one(struct fixture *fixture, size_t *counter)
{
    pthread_mutex_lock(&fixture->mu);
    ++*counter;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->mu);
}

static void on_import(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct fixture *fixture = self;
    struct stream *stream = gy_rpc_user(call);
    if (!stream) {
        stream = calloc(1, sizeof *stream);
        if (!stream)
            abort();
        gy_rpc_set_user(call, stream);
        count_one(fixture, &fixture->streams_begun);
    }
    gyre_error err;
    Gyre__V1__ImportRequest *request = NULL;
    gyre_status status = GYRE_OK;
    if (bytes)
        status = gy_wire_unpack(&request, &gyre__v1__import_request__descriptor, bytes, size, &err);
    if (request && status == GYRE_OK)
        status = asked_failure(request->collection, &err);
    if (bytes && status == GYRE_OK) {
        stream->points += request->n_points;
        gy_rpc_next(call);
    } else {
        Gyre__V1__ImportReply reply = GYRE__V1__IMPORT_REPLY__INIT;
        reply.imported = stream->points;
        free(stream);
        count_one(fixture, &fixture->streams_ended);
        finish_message(call, status, &err, &reply.base);
    }
    gy_wire_free(request);
}

static void on_import_gone(void *self, gy_rpc_call *call)
{
    struct fixture *fixture = self;
    free(gy_rpc_user(call));
    gy_rpc_finish(call, GYRE_CANCELLED, NULL, NULL, 0);
    count_one(fixture, &fixture->streams_gone);
}

gyre_status fixture_open(struct fixture *fixture, const char *listen, uint32_t threads, gyre_error *err)
{
    *fixture = (struct fixture){0};
    pthread_mutex_init(&fixture->mu, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    const struct gy_rpc_method methods[] = {
        {.path = "/gyre.v1.Points/Upsert", .on_message = on_upsert, .self = fixture},
        {.path = "/gyre.v1.Points/Get", .on_message = on_get, .self = fixture},
        {.path = "/gyre.v1.Points/Import", .streams = true, .on_message = on_import, .on_gone = on_import_gone, .self = fixture},
    };
    const struct gy_rpc_server_options options = {
        .listen = listen,
        .message_bytes_max = FIXTURE_MESSAGE_BYTES_MAX,
        .threads = threads,
        .methods = methods,
        .method_count = sizeof methods / sizeof *methods,
        .descriptors = gyre_v1_descriptors,
        .descriptors_bytes = gyre_v1_descriptors_bytes,
    };
    return gy_rpc_server_open(&fixture->server, &options, err);
}

void fixture_close(struct fixture *fixture, int64_t grace_ns)
{
    gy_rpc_server_close(fixture->server, grace_ns);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->mu);
}

void fixture_wait(struct fixture *fixture, const size_t *counter, size_t wanted)
{
    pthread_mutex_lock(&fixture->mu);
    while (*counter < wanted)
        pthread_cond_wait(&fixture->changed, &fixture->mu);
    pthread_mutex_unlock(&fixture->mu);
}

void fixture_release(struct fixture *fixture, gyre_status status)
{
    pthread_mutex_lock(&fixture->mu);
    for (size_t i = 0; i < fixture->held_count; i++) {
        Gyre__V1__UpsertReply reply = GYRE__V1__UPSERT_REPLY__INIT;
        gyre_error err = {0};
        gyre_fail(&err, status, "released");
        reply.upserted = 1000;
        finish_message(fixture->held[i], status, &err, &reply.base);
    }
    fixture->held_count = 0;
    pthread_mutex_unlock(&fixture->mu);
}

void fixture_hold_nothing(struct fixture *fixture, gyre_status status)
{
    pthread_mutex_lock(&fixture->mu);
    fixture->holds_nothing = true;
    pthread_mutex_unlock(&fixture->mu);
    fixture_release(fixture, status);
}
