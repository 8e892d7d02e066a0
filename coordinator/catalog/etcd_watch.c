/* One thread a catalog holds a watch over k/ and l/, and notes the newest revision that it saw; whoever waits, waits for that.
 *
 * A watch that ends is begun again at another member, behind the last change that was seen, so none is missed. A member that does
 * not answer within a second of being asked for progress is left; one that has lost the leader says so itself, because the stream
 * asks it to ("hasleader"). If what was to come next has been compacted away, something has changed in between: waiters are
 * woken. An answer about progress does not move the place where to begin again: some versions of etcd send it ahead of changes.
 * */
#include "catalog/etcd.h"

#include "gyre/log.h"

#include <stdlib.h>

static const int64_t quiet_ns = GY_SECOND_NS, answer_ns = GY_SECOND_NS, connect_ns = GY_SECOND_NS,
                     pause_ns = 50 * GY_MILLISECOND_NS;

struct gy_etcd_watch {
    struct gy_etcd_catalog *self;
    pthread_t thread;
    int64_t next; /* the thread's: the revision to begin at */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int64_t reached;      /* guarded by mu */
    bool interrupted;     /* guarded by mu */
    bool stopping;        /* guarded by mu */
    gyre_duplex *stream;  /* guarded by mu: whoever stops cancels it */
};

static void reach(struct gy_etcd_watch *watch, int64_t revision)
{
    pthread_mutex_lock(&watch->mu);
    if (revision > watch->reached) {
        watch->reached = revision;
        pthread_cond_broadcast(&watch->changed);
    }
    pthread_mutex_unlock(&watch->mu);
}

static gyre_status take(struct gy_etcd_watch *watch, const Etcdserverpb__WatchResponse *response, gyre_error *err)
{
    int64_t newest = 0;
    for (size_t i = 0; i < response->n_events; i++)
        if (response->events[i]->kv && response->events[i]->kv->mod_revision > newest)
            newest = response->events[i]->kv->mod_revision;
    if (newest >= watch->next) {
        watch->next = newest + 1;
        reach(watch, newest);
    }
    if (!response->canceled)
        return GYRE_OK;
    if (response->compact_revision <= 0)
        return gyre_fail(err, GYRE_UNAVAILABLE, "etcd cancelled the watch: %s", response->cancel_reason);
    if (response->compact_revision > watch->next)
        watch->next = response->compact_revision;
    reach(watch, response->compact_revision);
    return gyre_fail(err, GYRE_ABORTED, "changes before revision %lld were compacted", (long long)response->compact_revision);
}

static gyre_status begin(struct gy_etcd_watch *watch, gyre_duplex *stream, gyre_error *err)
{
    struct gy_etcd_name from = gy_etcd_name(watch->self, "k/", ""), last = gy_etcd_name(watch->self, "l/", ""),
                        end = gy_etcd_name_end(&last);
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    create.key = gy_etcd_data(&from);
    create.range_end = gy_etcd_data(&end);
    create.start_revision = watch->next;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    return gyre_duplex_send(stream, &request.base, err);
}

static gyre_status ask_progress(gyre_duplex *stream, gyre_error *err)
{
    Etcdserverpb__WatchProgressRequest progress = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    request.progress_request = &progress;
    return gyre_duplex_send(stream, &request.base, err);
}

/* Follows the stream until it ends, or nothing comes. */
static gyre_status follow(struct gy_etcd_watch *watch, gyre_duplex *stream, gyre_error *err)
{
    GY_TRY(begin(watch, stream, err));
    for (bool asked = true;;) { /* beginning is a question too */
        Etcdserverpb__WatchResponse *response;
        int64_t deadline_ns = gy_now_ns() + (asked ? answer_ns : quiet_ns);
        GY_TRY(gyre_duplex_receive(stream, &etcdserverpb__watch_response__descriptor, &response, deadline_ns, err));
        if (response) {
            asked = false;
            gyre_status status = take(watch, response, err);
            gy_wire_free(response);
            GY_TRY(status);
        } else if (asked) {
            return gyre_fail(err, GYRE_DEADLINE, "the member does not answer");
        } else {
            GY_TRY(ask_progress(stream, err));
            asked = true;
        }
    }
}

static gyre_status watch_once(struct gy_etcd_watch *watch, gyre_client *client, gyre_error *err)
{
    if (!gyre_client_await_ready(client, gy_now_ns() + connect_ns))
        return gyre_fail(err, GYRE_UNAVAILABLE, "the member cannot be reached");
    const struct gyre_metadata leader = {"hasleader", "true"};
    gyre_duplex *stream;
    GY_TRY(gyre_duplex_open(&stream, client, "/etcdserverpb.Watch/Watch", &leader, 1, err));
    pthread_mutex_lock(&watch->mu);
    bool stopping = watch->stopping;
    watch->stream = stream;
    pthread_mutex_unlock(&watch->mu);
    gyre_status status = stopping ? GYRE_CANCELLED : follow(watch, stream, err);
    pthread_mutex_lock(&watch->mu);
    watch->stream = NULL;
    pthread_mutex_unlock(&watch->mu);
    gyre_duplex_close(stream);
    return status;
}

/* Waits a little; false if it is to stop. */
static bool go_on(struct gy_etcd_watch *watch)
{
    int64_t until_ns = gy_now_ns() + pause_ns;
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&watch->mu);
    while (!watch->stopping && gy_now_ns() < until_ns)
        pthread_cond_timedwait(&watch->changed, &watch->mu, &until);
    bool stopping = watch->stopping;
    pthread_mutex_unlock(&watch->mu);
    return !stopping;
}

static void *watch_run(void *arg)
{
    struct gy_etcd_watch *watch = arg;
    do {
        size_t member;
        gyre_client *client = gy_etcd_member(watch->self->etcd, &member);
        gyre_error err;
        gyre_status status = watch_once(watch, client, &err);
        if (status != GYRE_ABORTED) /* else the member is well */
            gy_etcd_leave(watch->self->etcd, member);
        if (status != GYRE_CANCELLED)
            gy_log(GY_LOG_DEBUG, "catalog_watch_ended", "status=%s error=%s", gyre_status_name(status), err.text);
    } while (go_on(watch));
    return NULL;
}

/* The store's revision now. */
static gyre_status present(struct gy_etcd_catalog *self, int64_t *revision, gyre_error *err)
{
    struct gy_etcd_name format = gy_etcd_name(self, "format", "");
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&format);
    request.count_only = true;
    Etcdserverpb__RangeResponse *reply;
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    *revision = reply->header ? reply->header->revision : 0;
    gy_wire_free(reply);
    return *revision > 0 ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "etcd answered without its revision");
}

gyre_status gy_etcd_watch_start(struct gy_etcd_catalog *self, gyre_error *err)
{
    int64_t revision;
    GY_TRY(present(self, &revision, err));
    struct gy_etcd_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return gyre_fail(err, GYRE_NO_MEMORY, "watch");
    watch->self = self;
    watch->reached = revision;
    watch->next = revision + 1;
    pthread_mutex_init(&watch->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int error = pthread_create(&watch->thread, NULL, watch_run, watch);
    if (error) {
        pthread_cond_destroy(&watch->changed);
        pthread_mutex_destroy(&watch->mu);
        free(watch);
        return gyre_fail(err, GYRE_EXHAUSTED, "no thread for the watch: %s", strerror(error));
    }
    self->watch = watch;
    return GYRE_OK;
}

void gy_etcd_watch_stop(struct gy_etcd_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->mu);
    watch->stopping = watch->interrupted = true;
    if (watch->stream)
        gyre_duplex_cancel(watch->stream);
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mu);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->mu);
    free(watch);
}

gyre_status gy_etcd_wait(gy_catalog *catalog, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err)
{
    struct gy_etcd_watch *watch = ((struct gy_etcd_catalog *)catalog)->watch;
    struct timespec until = {deadline_ns / GY_SECOND_NS, deadline_ns % GY_SECOND_NS};
    pthread_mutex_lock(&watch->mu);
    while (!watch->interrupted && (uint64_t)watch->reached <= after && gy_now_ns() < deadline_ns)
        if (deadline_ns == GY_NEVER)
            pthread_cond_wait(&watch->changed, &watch->mu);
        else
            pthread_cond_timedwait(&watch->changed, &watch->mu, &until);
    bool interrupted = watch->interrupted;
    uint64_t reached = (uint64_t)watch->reached;
    pthread_mutex_unlock(&watch->mu);
    if (interrupted)
        return gyre_fail(err, GYRE_CANCELLED, "waiting for the catalog was interrupted");
    if (reached <= after)
        return gyre_fail(err, GYRE_DEADLINE, "no change of the catalog was seen after revision %llu", (unsigned long long)after);
    *revision = reached;
    return GYRE_OK;
}

void gy_etcd_interrupt(gy_catalog *catalog)
{
    struct gy_etcd_watch *watch = ((struct gy_etcd_catalog *)catalog)->watch;
    pthread_mutex_lock(&watch->mu);
    watch->interrupted = true;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mu);
}
