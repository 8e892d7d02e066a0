#include "api/forward.h"

#include "routing/ask.h"
#include "routing/publish.h"

#include "gyre/node/node.pb-c.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHANGES_MAX = 16 };
/* How long somebody is waited for who leads: a lease that was lost with its coordinator is free after 15 s. */
static const int64_t patience_ns = 20 * GY_SECOND_NS;
/* Of a call without a deadline; long enough for any training. */
static const int64_t longest_ns = 24 * 3600 * GY_SECOND_NS;

struct gy_forward {
    gy_placement *placement;
    gy_pool *pool;
    const struct gy_unary *changes[CHANGES_MAX];
    size_t change_count;
    pthread_mutex_t mu;
    gy_link *link; /* guarded by mu: to the newest leader */
    char address[GY_LEADER_ADDRESS_ROOM];
};

/* ---- carried out for others ---- */

struct job {
    gy_forward *forward;
    gy_bus_request *request;
};

static bool abandoned(void *request) { return gy_bus_request_abandoned(request); }

static const struct gy_unary *change_of(const gy_forward *forward, const char *path)
{
    for (size_t i = 0; i < forward->change_count; i++)
        if (strcmp(forward->changes[i]->path, path) == 0)
            return forward->changes[i];
    return NULL;
}

/* Unpacks what was asked, and does it if this coordinator leads. */
static gyre_status carry_out(gy_forward *forward, gy_bus_request *request, gy_bytes *answer, gyre_error *err)
{
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    Gyre__Node__Forward *sent = NULL;
    GY_TRY(gy_wire_unpack(&sent, &gyre__node__forward__descriptor, body, bytes, err));
    const struct gy_unary *method = change_of(forward, sent->path);
    Gyre__Node__Forwarded done = GYRE__NODE__FORWARDED__INIT;
    gy_bytes reply = {0};
    void *asked = NULL;
    gyre_status status = GYRE_OK;
    if (!method)
        status = gyre_fail(err, GYRE_UNIMPLEMENTED, "method '%.80s' is no change that a coordinator forwards", sent->path);
    else if (!gy_placement_leads(forward->placement))
        done.not_leading = true;
    else if ((status = gy_wire_unpack(&asked, method->request_type, sent->request.data, sent->request.len, err)) == GYRE_OK) {
        struct gy_caller caller = {gy_bus_request_deadline_ns(request), abandoned, request};
        status = method->change(method->service, &caller, asked, &reply, err);
    }
    done.reply = (ProtobufCBinaryData){reply.size, reply.data};
    if (status == GYRE_OK)
        status = gy_wire_pack(answer, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    gy_bytes_free(&reply);
    gy_wire_free(asked);
    gy_wire_free(sent);
    return status;
}

static void run(void *arg)
{
    struct job *job = arg;
    gyre_error err = {0};
    gy_bytes answer = {0};
    gyre_status status = carry_out(job->forward, job->request, &answer, &err);
    gy_bus_answer(job->request, status, &err, answer.data, answer.size);
    gy_bytes_free(&answer);
    free(job);
}

static void take(void *self, gy_bus_request *request)
{
    gy_forward *forward = self;
    gyre_error err;
    struct job *job = malloc(sizeof *job);
    gyre_status status = job ? GYRE_OK : gyre_fail(&err, GYRE_NO_MEMORY, "forwarded change");
    if (job) {
        *job = (struct job){forward, request};
        status = gy_pool_submit(forward->pool, run, job, &err);
    }
    if (status == GYRE_OK)
        return;
    free(job);
    gy_bus_answer(request, status, &err, NULL, 0);
}

/* ---- forwarded to others ---- */

/* The connection to the leader, held. */
static gyre_status link_to(gy_forward *forward, const char *address, gy_link **out, gyre_error *err)
{
    gy_bus *bus = gy_placement_bus(forward->placement);
    gy_link *older = NULL;
    gyre_status status = GYRE_OK;
    if (!bus)
        return gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is stopping");
    pthread_mutex_lock(&forward->mu);
    if (!forward->link || strcmp(forward->address, address) != 0) {
        gy_link *made;
        status = gy_link_new(&made, bus, address, err);
        if (status == GYRE_OK) {
            older = forward->link;
            forward->link = made;
            snprintf(forward->address, sizeof forward->address, "%s", address);
        }
    }
    if (status == GYRE_OK)
        *out = gy_link_hold(forward->link);
    pthread_mutex_unlock(&forward->mu);
    gy_link_release(older);
    return status;
}

static gyre_status send(gy_forward *forward, const char *address, const struct gy_unary *method, const struct gy_caller *caller,
                        const ProtobufCMessage *request, gy_bytes *reply, bool *not_leading, gyre_error *err)
{
    gy_link *link = NULL;
    gy_bytes packed = {0};
    GY_TRY(link_to(forward, address, &link, err));
    gyre_status status = gy_wire_pack(&packed, request, GY_RPC_MESSAGE_BYTES_MAX, err);
    if (status == GYRE_OK) {
        Gyre__Node__Forward message = GYRE__NODE__FORWARD__INIT;
        message.path = (char *)(uintptr_t)method->path;
        message.request = (ProtobufCBinaryData){packed.size, packed.data};
        struct gy_gather_call call = {.peer = gy_link_peer(link), .type = GYRE__NODE__MESSAGE_TYPE__FORWARD,
                                      .request = &message.base, .reply_type = &gyre__node__forwarded__descriptor};
        int64_t latest_ns = gy_now_ns() + longest_ns;
        gy_ask(&call, 1, caller->deadline_ns < latest_ns ? caller->deadline_ns : latest_ns, caller->cancelled, caller->arg);
        status = call.status;
        Gyre__Node__Forwarded *done = call.reply;
        if (status != GYRE_OK) {
            gyre_fail(err, status, "%s", call.err.text);
        } else {
            *not_leading = done->not_leading;
            *reply = (gy_bytes){malloc(done->reply.len + 1), done->reply.len};
            if (!reply->data)
                status = gyre_fail(err, GYRE_NO_MEMORY, "answer of %zu bytes", done->reply.len);
            else if (done->reply.len)
                memcpy(reply->data, done->reply.data, done->reply.len);
        }
        gy_wire_free(call.reply);
    }
    gy_bytes_free(&packed);
    gy_link_release(link);
    return status;
}

gyre_status gy_forward_change(gy_forward *forward, const struct gy_unary *method, const struct gy_caller *caller, void *request,
                              gy_bytes *reply, gyre_error *err)
{
    int64_t until_ns = gy_now_ns() + patience_ns;
    until_ns = caller->deadline_ns < until_ns ? caller->deadline_ns : until_ns;
    for (;;) {
        char address[GY_LEADER_ADDRESS_ROOM];
        bool self, not_leading = false;
        GY_TRY(gy_placement_await_leader(forward->placement, until_ns, &self, address, err));
        if (self)
            return method->change(method->service, caller, request, reply, err);
        gyre_status status = send(forward, address, method, caller, request, reply, &not_leading, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "the leader");
        if (!not_leading)
            break;
        gy_bytes_free(reply);
        if (gy_now_ns() >= until_ns)
            return gyre_fail(err, GYRE_UNAVAILABLE, "no coordinator leads at the moment");
        GY_TRY(gy_placement_await_news(forward->placement, until_ns, err));
    }
    gyre_error unknown; /* the change is made; here it is known a little later then */
    GY_IGNORE(gy_placement_catch_up(forward->placement, &unknown));
    return GYRE_OK;
}

/* ---- life cycle ---- */

gyre_status gy_forward_new(gy_forward **out, gy_placement *placement, gy_pool *pool, gyre_error *err)
{
    gy_forward *forward = calloc(1, sizeof *forward);
    if (!forward)
        return gyre_fail(err, GYRE_NO_MEMORY, "forwarding of changes");
    forward->placement = placement;
    forward->pool = pool;
    pthread_mutex_init(&forward->mu, NULL);
    *out = forward;
    gy_placement_on_forward(placement, take, forward);
    return GYRE_OK;
}

gyre_status gy_forward_share(gy_forward *forward, struct gy_unary *methods, size_t count, gyre_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!methods[i].change)
            continue;
        if (forward->change_count == CHANGES_MAX)
            return gyre_fail(err, GYRE_EXHAUSTED, "more than %d methods make changes", CHANGES_MAX);
        methods[i].forward = forward;
        forward->changes[forward->change_count++] = &methods[i];
    }
    return GYRE_OK;
}

void gy_forward_close(gy_forward *forward)
{
    if (forward)
        gy_placement_on_forward(forward->placement, NULL, NULL);
}

void gy_forward_free(gy_forward *forward)
{
    if (!forward)
        return;
    gy_link_release(forward->link);
    pthread_mutex_destroy(&forward->mu);
    free(forward);
}
