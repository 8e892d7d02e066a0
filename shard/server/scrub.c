#include "server/scrub.h"

#include "server/incoming.h"

#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "replica/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LOOKS_AN_INTERVAL = 32 }; /* for a replica that is due */
#define LOOK_NS_MAX (60 * GY_SECOND_NS)

struct gy_scrubs {
    gy_node *node;
    int64_t interval_ns;
    uint64_t bytes_per_second;
    atomic_bool stopping;
    pthread_mutex_t one;  /* held while a replica is checked */
    pthread_mutex_t mu;
    pthread_cond_t wake;  /* stopping, for the thread */
    pthread_t thread;
    bool thread_runs;
    gy_metric *runs, *damaged, *bytes, *seconds;
};

/* ---- one ---- */

struct scrub {
    gy_scrubs *scrubs;
    gy_hosted *hosted;
    int64_t began_ns, deadline_ns;
    uint64_t bytes;
};

/* Sleeps as long as what was read is ahead of its time. */
static gyre_status pace(void *self, uint64_t bytes, gyre_error *err)
{
    struct scrub *scrub = self;
    gy_scrubs *scrubs = scrub->scrubs;
    scrub->bytes += bytes;
    gy_counter_add(scrubs->bytes, bytes);
    int64_t now_ns = gy_now_ns();
    int64_t due_ns = scrub->began_ns + (int64_t)((double)scrub->bytes * (double)GY_SECOND_NS / (double)scrubs->bytes_per_second);
    if (atomic_load(&scrubs->stopping) || !gy_node_keeps(scrubs->node, scrub->hosted))
        return gyre_fail(err, GYRE_CANCELLED, "the node stops, or the replica is being closed");
    if (now_ns >= scrub->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "the time ran out after %" PRIu64 " bytes", scrub->bytes);
    if (due_ns > now_ns) {
        struct timespec rest = {(due_ns - now_ns) / GY_SECOND_NS, (due_ns - now_ns) % GY_SECOND_NS};
        nanosleep(&rest, NULL);
    }
    return GYRE_OK;
}

static gyre_status inspect(struct scrub *scrub, const char *path, struct gy_scrub_result *out, gyre_error *err)
{
    struct gy_inspected of;
    struct gy_inspection inspection = {.pace = pace, .self = scrub};
    gyre_status status = gy_replica_inspect(path, &inspection, &of, err);
    out->points = inspection.points, out->bytes = inspection.bytes;
    out->damaged = inspection.damaged;
    snprintf(out->first, sizeof out->first, "%s", inspection.first);
    return status;
}

static void note(struct gy_scrub_result *out, const gyre_error *why)
{
    if (out->damaged++ == 0)
        snprintf(out->first, sizeof out->first, "%s", why->text);
}

static gyre_status check(struct scrub *scrub, struct gy_scrub_result *out, gyre_error *err)
{
    gy_replica *replica = gy_hosted_replica(scrub->hosted);
    char *path = NULL;
    gyre_error why;
    gyre_status status = gy_replica_still(replica, &path, &why);
    if (status == GYRE_OK)
        status = inspect(scrub, path, out, &why);
    gy_store_still_remove(path);
    if (status == GYRE_OK)
        status = gy_points_memory_check(gy_replica_points(replica), &why);
    if (status == GYRE_CORRUPT)
        note(out, &why);
    else if (status != GYRE_OK)
        return gyre_fail(err, status, "%s", why.text);
    out->state = gy_points_state(gy_replica_points(replica));
    return GYRE_OK;
}

static void report(const gy_hosted *hosted, const struct gy_scrub_result *result)
{
    const struct gy_store_identity *identity = gy_replica_identity(gy_hosted_replica(hosted));
    gy_log(result->damaged ? GY_LOG_ERROR : GY_LOG_INFO, "replica_scrubbed",
           "collection_id=%" PRIu64 " shard=%u points=%" PRIu64 " bytes=%" PRIu64 " took_ms=%" PRId64 " damaged=%" PRIu64 "%s%s",
           identity->collection_id, identity->shard, result->points, result->bytes, result->took_ns / GY_MILLISECOND_NS,
           result->damaged, result->damaged ? " first=" : "", result->first);
}

static gyre_status run_held(gy_scrubs *scrubs, gy_hosted *hosted, int64_t deadline_ns, struct gy_scrub_result *out,
                            gyre_error *err)
{
    struct scrub scrub = {.scrubs = scrubs, .hosted = hosted, .began_ns = gy_now_ns(), .deadline_ns = deadline_ns};
    GY_TRY(check(&scrub, out, err));
    out->took_ns = gy_now_ns() - scrub.began_ns;
    gy_counter_add(scrubs->runs, 1);
    gy_histogram_observe_ns(scrubs->seconds, out->took_ns);
    report(hosted, out);
    if (out->damaged == 0) {
        gy_store_note_checked(gy_hosted_path(hosted));
        return GYRE_OK;
    }
    gyre_error why;
    gy_counter_add(scrubs->damaged, 1);
    gyre_status damaged = gyre_fail(&why, GYRE_CORRUPT, "%s", out->first);
    GY_IGNORE(gy_node_judge(scrubs->node, hosted, damaged, &why)); /* that it is damaged is the result, not a failure */
    return GYRE_OK;
}

gyre_status gy_scrubs_run(gy_scrubs *scrubs, uint64_t collection_id, uint32_t shard, uint32_t member, int64_t deadline_ns,
                          struct gy_scrub_result *out, gyre_error *err)
{
    gy_hosted *hosted;
    *out = (struct gy_scrub_result){0};
    pthread_mutex_lock(&scrubs->one);
    gyre_status status = atomic_load(&scrubs->stopping) ? gyre_fail(err, GYRE_CANCELLED, "the node stops")
                                                        : gy_node_hold(scrubs->node, collection_id, shard, &hosted, err);
    if (status == GYRE_OK) {
        uint32_t here = gy_replica_member(gy_hosted_replica(hosted));
        status = member && here != member
                     ? gyre_fail(err, GYRE_NOT_FOUND, "member %u is not here; member %u is", member, here)
                     : run_held(scrubs, hosted, deadline_ns, out, err);
        gy_node_release(scrubs->node, hosted);
    }
    pthread_mutex_unlock(&scrubs->one);
    return status;
}

/* ---- by the clock ---- */

/* Replicas made in the same minute are not checked in the same minute: each has its own share of the last quarter. */
static int64_t due_seconds(const gy_scrubs *scrubs, const char *path, const Gyre__Node__ReplicaStatus *replica)
{
    uint64_t mixed = (replica->collection_id * 0x9e3779b97f4a7c15u + replica->shard) * 0xbf58476d1ce4e5b9u;
    double share = 0.75 + 0.25 * (double)(mixed >> 32) / 4294967296.0;
    return gy_store_checked_at(path) + (int64_t)(share * (double)scrubs->interval_ns / (double)GY_SECOND_NS);
}

/* The replica that is due for longest; false: none is. */
static bool find_due(gy_scrubs *scrubs, uint64_t *collection_id, uint32_t *shard)
{
    struct gy_node_status *statuses;
    size_t count;
    int64_t earliest = (int64_t)time(NULL) + 1;
    bool found = false;
    if (gy_node_statuses(scrubs->node, &statuses, &count, NULL) != GYRE_OK)
        return false;
    for (size_t i = 0; i < count; i++) {
        const Gyre__Node__ReplicaStatus *replica = &statuses[i].message;
        gy_hosted *hosted;
        if (gy_node_hold(scrubs->node, replica->collection_id, replica->shard, &hosted, NULL) != GYRE_OK)
            continue;
        int64_t due = due_seconds(scrubs, gy_hosted_path(hosted), replica);
        gy_node_release(scrubs->node, hosted);
        if (due >= earliest)
            continue;
        earliest = due;
        *collection_id = replica->collection_id, *shard = replica->shard;
        found = true;
    }
    gy_node_statuses_free(statuses);
    return found;
}

static void rest(gy_scrubs *scrubs)
{
    int64_t look_ns = scrubs->interval_ns / LOOKS_AN_INTERVAL;
    int64_t until_ns = gy_now_ns() + (look_ns < LOOK_NS_MAX ? look_ns : LOOK_NS_MAX);
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&scrubs->mu);
    while (!atomic_load(&scrubs->stopping) && pthread_cond_timedwait(&scrubs->wake, &scrubs->mu, &until) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&scrubs->mu);
}

static void *run(void *arg)
{
    gy_scrubs *scrubs = arg;
    gy_thread_stand_back(GY_BACKGROUND_STANDS_BACK);
    while (!atomic_load(&scrubs->stopping)) {
        uint64_t collection_id;
        uint32_t shard;
        struct gy_scrub_result result;
        gyre_error err;
        bool due = find_due(scrubs, &collection_id, &shard);
        gyre_status status = due ? gy_scrubs_run(scrubs, collection_id, shard, 0, GY_NEVER, &result, &err) : GYRE_OK;
        if (status != GYRE_OK && status != GYRE_CANCELLED)
            gy_log(GY_LOG_WARN, "replica_not_scrubbed", "collection_id=%" PRIu64 " shard=%u error=%s", collection_id, shard, err.text);
        if (!due || status != GYRE_OK)
            rest(scrubs);
    }
    return NULL;
}

/* ---- life cycle ---- */

gyre_status gy_scrubs_new(gy_scrubs **out, const struct gy_scrub_options *options, gyre_error *err)
{
    gy_scrubs *scrubs = calloc(1, sizeof *scrubs);
    if (!scrubs)
        return gyre_fail(err, GYRE_NO_MEMORY, "scrubs");
    scrubs->node = options->node;
    scrubs->interval_ns = options->interval_ns;
    scrubs->bytes_per_second = options->bytes_per_second ? options->bytes_per_second : GY_SCRUB_BYTES_PER_SECOND;
    pthread_mutex_init(&scrubs->one, NULL);
    pthread_mutex_init(&scrubs->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&scrubs->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    scrubs->runs = gy_counter_new(options->metrics, "gyre_shard_scrubs_total", NULL, "Replicas checked from end to end.");
    scrubs->damaged = gy_counter_new(options->metrics, "gyre_shard_scrubs_damaged_total", NULL, "Of those, found damaged.");
    scrubs->bytes = gy_counter_new(options->metrics, "gyre_shard_scrubbed_bytes_total", NULL, "Read from disk by checks.");
    scrubs->seconds = gy_histogram_new(options->metrics, "gyre_shard_scrub_seconds", NULL, "Time a check of a replica took.");
    if (scrubs->interval_ns && pthread_create(&scrubs->thread, NULL, run, scrubs) != 0) {
        gy_scrubs_free(scrubs);
        return gyre_fail(err, GYRE_EXHAUSTED, "cannot start a thread for scrubs");
    }
    scrubs->thread_runs = scrubs->interval_ns != 0;
    if (scrubs->thread_runs)
        pthread_setname_np(scrubs->thread, "scrub");
    *out = scrubs;
    return GYRE_OK;
}

void gy_scrubs_stop(gy_scrubs *scrubs)
{
    pthread_mutex_lock(&scrubs->mu);
    atomic_store(&scrubs->stopping, true);
    pthread_cond_broadcast(&scrubs->wake);
    pthread_mutex_unlock(&scrubs->mu);
    if (scrubs->thread_runs)
        pthread_join(scrubs->thread, NULL);
    scrubs->thread_runs = false;
}

void gy_scrubs_free(gy_scrubs *scrubs)
{
    if (!scrubs)
        return;
    gy_scrubs_stop(scrubs);
    pthread_cond_destroy(&scrubs->wake);
    pthread_mutex_destroy(&scrubs->mu);
    pthread_mutex_destroy(&scrubs->one);
    free(scrubs);
}

/* ---- SCRUB ---- */

void gy_serve_scrub(gy_incoming *call, void *message)
{
    const Gyre__Node__Scrub *request = message;
    gyre_error err;
    struct gy_scrub_result result;
    gy_scrubs *scrubs = call->server->scrubs;
    gyre_status status = scrubs ? gy_scrubs_run(scrubs, request->collection_id, request->shard, request->member,
                                                call->deadline_ns, &result, &err)
                                : gyre_fail(&err, GYRE_UNIMPLEMENTED, "node %s checks no replicas", gy_node_name(call->server->node));
    gy_wire_free(message);
    if (status != GYRE_OK) {
        gy_incoming_fail(call, status, &err);
        return;
    }
    Gyre__Node__ScrubReply reply = GYRE__NODE__SCRUB_REPLY__INIT;
    reply.points = result.points, reply.bytes = result.bytes;
    reply.took_ms = (uint64_t)(result.took_ns / GY_MILLISECOND_NS);
    reply.damaged = result.damaged, reply.first = result.first;
    reply.applied_seq = result.state.applied_seq, reply.codebook_version = result.state.codebook_version;
    gy_incoming_reply(call, &reply.base);
}
