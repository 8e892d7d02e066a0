/* The driver: hands the core what happened and does what it says, on one thread a replica.
 *
 * A write comes in on any thread: checked, packed, queued. The replica's thread takes all that wait, hands them to the core, and
 * the core makes groups of them: one synced append, one apply, then everybody is told. While a group is on its way to the
 * disk, the next one gathers in the queue; that is the whole of group commit.
 *
 * A crash leaves the log with every acknowledged write and perhaps some more, and an applied state that is some prefix of it;
 * opening applies the rest. */
#include "replica/replica.h"

#include "replica/group.h"
#include "replica/check.h"
#include "replica/core.h"
#include "replica/disk.h"
#include "replica/job.h"

#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "store/disk.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    GROUP_BYTES_MAX = 8 << 20,   /* of one append: about 50 ms of this codec's work, far above one sync's cost */
    REPLAY_BYTES_MAX = 16 << 20, /* of log held in memory while replaying */
    TRIM_EVERY_BYTES = 64 << 20, /* of log: a trim first flushes the applied state, which costs a pause */
    DISK_LOW_LOOK_SECONDS = 1,
    EPOCH_TOKEN = 0,             /* the core's token of an epoch request; a write's is its job's address */
};

enum epoch_request { EPOCH_NONE, EPOCH_ASKED, EPOCH_ANSWERED };

struct gy_replica {
    /* Set when opened, then constant. */
    gy_store *store;
    gy_points *points;
    struct gy_replica_limits limits;
    char *path;
    pthread_t thread;
    bool thread_runs;
    struct gy_budget_member share;

    /* The replica's thread alone (before it starts and after it ended: whoever opens and closes). */
    gy_replica_core core;
    struct gy_replica_actions actions;
    gy_group group;
    gy_disk_watch disk;
    uint64_t logged_bytes; /* since the last trim */
    uint64_t trim_seq;     /* applied then, or at opening */
    bool finished;
    gyre_error failure;    /* of the last I/O */

    pthread_mutex_t mu;
    pthread_cond_t changed; /* work for the thread, or an answer to an epoch request */
    /* Guarded by mu. */
    struct gy_job_queue incoming;
    enum epoch_request epoch_request;
    uint64_t epoch_asked;
    gy_reply_why epoch_answer;
    bool closing;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    char short_of_memory[GYRE_ERROR_TEXT_BYTES]; /* why a newer codebook was not begun; "" if it was */

    atomic_uint_least64_t epoch; /* a copy of the core's, for any thread */
};

/* ---- answers ---- */

static void set_trouble(gy_replica *replica, const char *text)
{
    pthread_mutex_lock(&replica->mu);
    snprintf(replica->trouble, sizeof replica->trouble, "%s", text);
    pthread_mutex_unlock(&replica->mu);
}

/* Turns the core's reason into what the sender reads. */
static gyre_status explain(const gy_replica *replica, gy_reply_why why, uint64_t asked_epoch, gyre_error *err)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    switch (why) {
    case GY_REPLY_DONE:
        return GYRE_OK;
    case GY_REPLY_EPOCH:
        return gyre_fail(err, GYRE_ABORTED,
                         "shard %u of collection %" PRIu64 ": sent for epoch %" PRIu64 ", the replica is at epoch %" PRIu64,
                         identity->shard, identity->collection_id, asked_epoch,
                         replica->core.storing_epoch ? replica->core.epoch_asked : replica->core.epoch);
    case GY_REPLY_DISK:
        return gy_disk_watch_fail(&replica->disk, err);
    case GY_REPLY_FULL:
        return gyre_fail(err, GYRE_EXHAUSTED, "shard %u of collection %" PRIu64 ": %d writes wait; that is the limit",
                         identity->shard, identity->collection_id, GY_CORE_WRITES_MAX);
    case GY_REPLY_NOT_SERVING:
        return gyre_fail(err, GYRE_UNAVAILABLE, "shard %u of collection %" PRIu64 ": the replica is %s", identity->shard,
                         identity->collection_id,
                         replica->failure.status != GYRE_OK ? "stopped by an error of its disk" : "closing");
    case GY_REPLY_UNKNOWN:
        break;
    }
    return gyre_fail(err, GYRE_UNAVAILABLE,
                     "shard %u of collection %" PRIu64 ": the replica stopped while it wrote (it may have happened): %.300s",
                     identity->shard, identity->collection_id, replica->failure.text);
}

static void answer(gy_replica *replica, const struct gy_replica_action *action)
{
    if (action->token == EPOCH_TOKEN) {
        pthread_mutex_lock(&replica->mu);
        replica->epoch_answer = action->why;
        replica->epoch_request = EPOCH_ANSWERED;
        pthread_cond_broadcast(&replica->changed);
        pthread_mutex_unlock(&replica->mu);
        return;
    }
    struct gy_job *job = (struct gy_job *)(uintptr_t)action->token;
    gyre_error err;
    gyre_status status = explain(replica, action->why, job->write->epoch, &err);
    gy_job_finish(job, status, status == GYRE_OK ? NULL : &err, action->seq);
}

/* ---- what the core asks for ---- */

static struct gy_job *job_of(const gy_replica *replica, uint64_t seq)
{
    return (struct gy_job *)(uintptr_t)gy_replica_core_token(&replica->core, seq);
}

static gyre_status append(gy_replica *replica, const struct gy_replica_action *action)
{
    struct gy_log_entry *entries = calloc(action->count, sizeof *entries);
    if (!entries)
        return gyre_fail(&replica->failure, GYRE_NO_MEMORY, "no memory for %zu log entries", action->count);
    uint64_t bytes = 0;
    for (size_t i = 0; i < action->count; i++) {
        const gy_bytes *body = &job_of(replica, action->seq + i)->body;
        entries[i] = (struct gy_log_entry){
            .epoch = action->epoch, .seq = action->seq + i, .body = body->data, .bytes = body->size};
        bytes += body->size;
    }
    gyre_status status = gy_store_log_append(replica->store, entries, action->count, false, &replica->failure);
    free(entries);
    gy_disk_watch_spend(&replica->disk, bytes);
    replica->logged_bytes += bytes;
    return status;
}

/* Applies the group whose writes are still here. */
static gyre_status apply_group(gy_replica *replica, uint64_t from, uint64_t upto)
{
    gy_group *group = &replica->group;
    gy_group_clear(group);
    for (uint64_t seq = from; seq <= upto; seq++)
        GY_TRY(gy_group_add(group, job_of(replica, seq)->write, seq, &replica->failure));
    GY_TRY(gy_group_apply(group, replica->points, upto, &replica->failure));
    for (size_t i = 0; i < group->count; i++)
        if (group->deleted[i])
            job_of(replica, group->versions[i])->deleted++;
    return GYRE_OK;
}

struct replay {
    gy_replica *replica;
    uint64_t seq, upto; /* seq: of the last entry taken */
    size_t bytes;
    Gyre__Node__Write **writes; /* [count] */
    size_t count, room;
};

static gyre_status take_entry(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    struct replay *replay = self;
    gy_replica *replica = replay->replica;
    if (entry->seq > replay->upto || replay->bytes >= REPLAY_BYTES_MAX)
        return GYRE_CANCELLED;
    if (replay->count == replay->room) {
        size_t room = replay->room ? replay->room * 2 : 64;
        Gyre__Node__Write **writes = realloc(replay->writes, room * sizeof *writes);
        if (!writes)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory to replay %zu log entries", room);
        replay->writes = writes;
        replay->room = room;
    }
    Gyre__Node__Write *write;
    gyre_status status = gy_wire_unpack(&write, &gyre__node__write__descriptor, entry->body, entry->bytes, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "log entry %" PRIu64, entry->seq);
    replay->writes[replay->count++] = write;
    status = gy_write_check(write, gy_points_metric(replica->points), gy_points_dim(replica->points), err);
    if (status != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "log entry %" PRIu64, entry->seq);
    replay->bytes += entry->bytes;
    replay->seq = entry->seq;
    return gy_group_add(&replica->group, write, entry->seq, err);
}

/* Applies log entries from `from`, at most REPLAY_BYTES_MAX of them; *reached says how far. */
static gyre_status replay_log(gy_replica *replica, uint64_t from, uint64_t upto, uint64_t *reached)
{
    struct replay replay = {.replica = replica, .seq = from - 1, .upto = upto};
    gy_group_clear(&replica->group);
    gyre_status status = gy_store_log_read(replica->store, from, take_entry, &replay, &replica->failure);
    if (status == GYRE_CANCELLED)
        status = GYRE_OK; /* our own way to stop */
    if (status == GYRE_OK && replay.seq < from)
        status = gyre_fail(&replica->failure, GYRE_CORRUPT, "log entry %" PRIu64 " is missing; the log goes on to %" PRIu64, from,
                           upto);
    if (status == GYRE_OK)
        status = gy_group_apply(&replica->group, replica->points, replay.seq, &replica->failure);
    for (size_t i = 0; i < replay.count; i++)
        gy_wire_free(replay.writes[i]);
    free(replay.writes);
    gy_group_clear(&replica->group);
    replica->logged_bytes += replay.bytes;
    *reached = replay.seq;
    return status;
}

static gyre_status store_config(gy_replica *replica)
{
    return gy_store_set_config(replica->store, gy_replica_core_next_config(&replica->core), &replica->failure);
}

static void stop(gy_replica *replica)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    set_trouble(replica, replica->failure.text);
    if (!replica->thread_runs)
        return; /* opening: whoever opens gets the error */
    char reason[GYRE_ERROR_TEXT_BYTES + 80];
    snprintf(reason, sizeof reason, "shard %u of collection %" PRIu64 ": %s", identity->shard, identity->collection_id,
             replica->failure.text);
    gy_stop_request(reason, 1);
}

/* Does one action; returns whether that is news for the core, in *event. */
static bool perform(gy_replica *replica, const struct gy_replica_action *action, struct gy_replica_event *event)
{
    gyre_status status = GYRE_OK;
    *event = (struct gy_replica_event){0};
    switch (action->kind) {
    case GY_DO_REPLY:
        answer(replica, action);
        return false;
    case GY_DO_APPEND:
        status = append(replica, action);
        event->kind = GY_ON_SYNCED;
        event->seq = action->seq + action->count - 1;
        break;
    case GY_DO_APPLY:
        event->kind = GY_ON_APPLIED;
        event->seq = action->upto;
        if (replica->core.logged)
            status = apply_group(replica, action->seq, action->upto);
        else
            status = replay_log(replica, action->seq, action->upto, &event->seq);
        break;
    case GY_DO_STORE_CONFIG:
        status = store_config(replica);
        event->kind = GY_ON_CONFIG_STORED;
        break;
    case GY_DO_FINISH:
        replica->finished = true;
        return false;
    case GY_DO_STOP:
        stop(replica);
        return false;
    }
    if (status != GYRE_OK)
        event->kind = GY_ON_IO_FAILED;
    return true;
}

/* Hands an event to the core and does everything that follows from it. */
static void drive(gy_replica *replica, struct gy_replica_event event)
{
    bool more = true;
    while (more) {
        gy_replica_step(&replica->core, &event, &replica->actions);
        atomic_store_explicit(&replica->epoch, replica->core.epoch, memory_order_release);
        more = false;
        /* Only the last action can be news, so the actions are not overwritten while they are done. */
        for (size_t i = 0; i < replica->actions.count; i++)
            more = perform(replica, &replica->actions.items[i], &event);
    }
}

/* ---- the thread ---- */

/* A replica that failed writes nothing any more, and its trouble is what failed. */
static void look_at_disk(gy_replica *replica)
{
    if (replica->core.state == GY_REPLICA_FAILED)
        return;
    bool low = gy_disk_watch_low(&replica->disk, gy_now_ns());
    if (low == replica->core.disk_low)
        return;
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    gyre_error why;
    GY_IGNORE(gy_disk_watch_fail(&replica->disk, &why)); /* the sentence is wanted, not the status */
    gy_log(low ? GY_LOG_WARN : GY_LOG_INFO, low ? "disk_low" : "disk_ok",
           "collection_id=%" PRIu64 " shard=%u free_bytes=%" PRIu64 " min_bytes=%" PRIu64, identity->collection_id,
           identity->shard, replica->disk.free_bytes, replica->disk.free_min);
    set_trouble(replica, low ? why.text : "");
    drive(replica, (struct gy_replica_event){.kind = low ? GY_ON_DISK_LOW : GY_ON_DISK_OK});
}

static void hand_in(gy_replica *replica, struct gy_job_queue *jobs)
{
    int64_t now_ns = gy_now_ns();
    struct gy_job *job;
    while ((job = gy_job_queue_pop(jobs))) {
        if (job->deadline_ns <= now_ns) {
            gyre_error err;
            gyre_status status = gyre_fail(&err, GYRE_DEADLINE,
                                           "the write's time ran out before it was logged; nothing was written");
            gy_job_finish(job, status, &err, 0);
            continue;
        }
        drive(replica,
              (struct gy_replica_event){
                  .kind = GY_ON_WRITE, .token = (uint64_t)(uintptr_t)job, .epoch = job->write->epoch, .bytes = job->body.size});
    }
}

/* Forgets log entries nobody needs, once enough of them came together: all but the last log_keep, and of those what is from
 * before the last trim. So the log holds at most what came since the last trim but one, about twice TRIM_EVERY_BYTES. */
static gyre_status trim(gy_replica *replica)
{
    if (replica->logged_bytes < TRIM_EVERY_BYTES)
        return GYRE_OK;
    uint64_t applied = replica->core.applied, keep = replica->limits.log_keep;
    uint64_t forget = applied > keep ? applied - keep : 0;
    if (forget < replica->trim_seq)
        forget = replica->trim_seq;
    replica->logged_bytes = 0;
    replica->trim_seq = applied;
    if (forget == 0)
        return GYRE_OK;
    GY_TRY(gy_points_flush(replica->points, &replica->failure));
    return gy_store_log_trim(replica->store, forget + 1, &replica->failure);
}

static bool has_work(const gy_replica *replica)
{
    return replica->incoming.count || replica->epoch_request == EPOCH_ASKED || replica->closing ||
           gy_replica_core_waiting(&replica->core);
}

/* Called with mu held. While the disk is low it returns now and then without work, so that the replica notices by itself when
 * there is room again. */
static void wait_for_work(gy_replica *replica)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DISK_LOW_LOOK_SECONDS;
    int timed_out = 0;
    while (!has_work(replica) && timed_out == 0)
        timed_out = replica->core.disk_low ? pthread_cond_timedwait(&replica->changed, &replica->mu, &until)
                                           : pthread_cond_wait(&replica->changed, &replica->mu);
}

static void *run(void *arg)
{
    gy_replica *replica = arg;
    bool told_to_close = false;
    gy_thread_stand_back(GY_WRITES_STAND_BACK);
    while (!replica->finished) {
        struct gy_job_queue jobs = {0};
        pthread_mutex_lock(&replica->mu);
        wait_for_work(replica);
        size_t room = GY_CORE_WRITES_MAX - gy_replica_core_waiting(&replica->core);
        while (jobs.count < room && replica->incoming.count)
            gy_job_queue_push(&jobs, gy_job_queue_pop(&replica->incoming));
        uint64_t epoch = replica->epoch_request == EPOCH_ASKED ? replica->epoch_asked : 0;
        bool ask_epoch = replica->epoch_request == EPOCH_ASKED;
        /* Nothing comes in once closing is set, so the writes taken before it are the last. */
        bool close = replica->closing && !replica->incoming.count && !told_to_close;
        pthread_mutex_unlock(&replica->mu);

        if (ask_epoch)
            drive(replica, (struct gy_replica_event){.kind = GY_ON_EPOCH, .token = EPOCH_TOKEN, .epoch = epoch});
        look_at_disk(replica);
        hand_in(replica, &jobs);
        drive(replica, (struct gy_replica_event){.kind = GY_ON_GATHERED});
        if (replica->core.state == GY_REPLICA_SERVING && trim(replica) != GYRE_OK)
            drive(replica, (struct gy_replica_event){.kind = GY_ON_IO_FAILED});
        if (close) {
            told_to_close = true;
            drive(replica, (struct gy_replica_event){.kind = GY_ON_CLOSE});
        }
    }
    return NULL;
}

/* ---- life cycle ---- */

/* Applies the log's tail and starts the thread. Takes store; replica is half-built and freed by the caller on failure. */
static gyre_status start(gy_replica *replica, gyre_error *err)
{
    uint64_t log_epoch, log_seq;
    GY_TRY(gy_points_open(&replica->points, replica->store, err));
    gy_points_limit_disk(replica->points, replica->limits.disk_free_min);
    replica->share.points = replica->points;
    if (replica->limits.budget)
        gy_budget_join(replica->limits.budget, &replica->share);
    gy_store_log_last(replica->store, &log_epoch, &log_seq);
    uint64_t applied = gy_store_applied_seq(replica->store), epoch = gy_store_epoch(replica->store);
    if (applied > log_seq)
        return gyre_fail(err, GYRE_CORRUPT, "points are applied up to %" PRIu64 " but the log ends at %" PRIu64, applied,
                         log_seq);
    if (log_epoch > epoch)
        return gyre_fail(err, GYRE_CORRUPT, "the log has epoch %" PRIu64 " but the replica only epoch %" PRIu64, log_epoch,
                         epoch);
    drive(replica, (struct gy_replica_event){.kind = GY_ON_OPENED, .epoch = epoch, .seq = log_seq, .applied_seq = applied});
    replica->trim_seq = replica->core.applied;
    if (replica->core.state == GY_REPLICA_FAILED)
        return gyre_fail(err, replica->failure.status, "replay: %s", replica->failure.text);
    char name[16];
    snprintf(name, sizeof name, "replica-%u", gy_store_identity(replica->store)->shard);
    replica->thread_runs = true;
    if (pthread_create(&replica->thread, NULL, run, replica) != 0) {
        replica->thread_runs = false;
        return gyre_fail(err, GYRE_EXHAUSTED, "cannot start a thread for the replica");
    }
    pthread_setname_np(replica->thread, name);
    return GYRE_OK;
}

/* Frees everything but does not wait for the thread. */
static void release(gy_replica *replica)
{
    if (replica->share.points && replica->limits.budget)
        gy_budget_leave(replica->limits.budget, &replica->share);
    if (replica->points)
        gy_points_close(replica->points);
    gy_store_close(replica->store);
    gy_group_fini(&replica->group);
    pthread_cond_destroy(&replica->changed);
    pthread_mutex_destroy(&replica->mu);
    free(replica->path);
    free(replica);
}

/* Takes store, also on failure. */
static gyre_status replica_new(gy_replica **out, gy_store *store, const char *path, const struct gy_replica_limits *limits,
                               gyre_error *err)
{
    gy_replica *replica = calloc(1, sizeof *replica);
    char *copy = strdup(path);
    if (!replica || !copy) {
        gy_store_close(store);
        free(replica);
        free(copy);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a replica");
    }
    replica->store = store;
    replica->limits = *limits;
    replica->path = copy;
    replica->disk = (gy_disk_watch){.path = copy, .free_min = limits->disk_free_min};
    pthread_mutex_init(&replica->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&replica->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    gy_replica_core_init(&replica->core, GROUP_BYTES_MAX);
    gyre_status status = start(replica, err);
    if (status != GYRE_OK) {
        release(replica);
        return gyre_wrap(err, status, "%s", path);
    }
    *out = replica;
    return GYRE_OK;
}

gyre_status gy_replica_create(gy_replica **out, gy_store_env *env, const char *path, const struct gy_store_identity *identity,
                              uint32_t member, const struct gy_shard_config *config, const char *codec,
                              const gyre_codebook *codebook, const struct gy_replica_limits *limits, gyre_error *err)
{
    gy_store *store;
    GY_TRY(gy_store_create(&store, env, path, identity, member, config, codec, codebook, err));
    return replica_new(out, store, path, limits, err);
}

gyre_status gy_replica_open(gy_replica **out, gy_store_env *env, const char *path, const struct gy_replica_limits *limits,
                            gyre_error *err)
{
    gy_store *store;
    GY_TRY(gy_disk_check(path, GY_DISK_FLOOR_BYTES, "opening a replica", err));
    GY_TRY(gy_store_open(&store, env, path, err));
    return replica_new(out, store, path, limits, err);
}

void gy_replica_close(gy_replica *replica)
{
    if (!replica)
        return;
    pthread_mutex_lock(&replica->mu);
    replica->closing = true;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    pthread_join(replica->thread, NULL);
    gyre_error err;
    /* A flush only spares the next start a replay: the log has everything. */
    if (replica->failure.status == GYRE_OK && gy_points_flush(replica->points, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "replica_flush_failed", "path=%s error=%s", replica->path, err.text);
    release(replica);
}

/* ---- for any thread ---- */

const struct gy_store_identity *gy_replica_identity(const gy_replica *replica)
{
    return gy_store_identity(replica->store);
}

gy_points *gy_replica_points(gy_replica *replica)
{
    return replica->points;
}

gyre_status gy_replica_set_epoch(gy_replica *replica, uint64_t epoch, gyre_error *err)
{
    /* A few bytes, so that a replica above the floor takes them below the watermark too; but synced, which a full disk may not
     * be. */
    if (epoch > atomic_load_explicit(&replica->epoch, memory_order_acquire))
        GY_TRY(gy_disk_check(replica->path, GY_DISK_FLOOR_BYTES, "taking a new epoch", err));
    pthread_mutex_lock(&replica->mu);
    while (replica->epoch_request != EPOCH_NONE && !replica->closing)
        pthread_cond_wait(&replica->changed, &replica->mu);
    if (replica->closing) {
        pthread_mutex_unlock(&replica->mu);
        return gyre_fail(err, GYRE_UNAVAILABLE, "the replica is closing");
    }
    replica->epoch_request = EPOCH_ASKED;
    replica->epoch_asked = epoch;
    pthread_cond_broadcast(&replica->changed);
    while (replica->epoch_request != EPOCH_ANSWERED)
        pthread_cond_wait(&replica->changed, &replica->mu);
    gy_reply_why why = replica->epoch_answer;
    replica->epoch_request = EPOCH_NONE;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    if (why == GY_REPLY_DONE)
        return GYRE_OK;
    if (why == GY_REPLY_EPOCH)
        return gyre_fail(err, GYRE_ABORTED, "epoch %" PRIu64 " is older than the replica's, %" PRIu64, epoch,
                         (uint64_t)atomic_load_explicit(&replica->epoch, memory_order_acquire));
    return gyre_fail(err, GYRE_UNAVAILABLE, "the replica does not serve; epoch %" PRIu64 " was not taken", epoch);
}

gyre_status gy_replica_set_codebook(gy_replica *replica, const gyre_codebook *codebook, gyre_error *err)
{
    gyre_error why = {0};
    gy_budget *budget = replica->limits.budget;
    gyre_status status = budget ? gy_budget_expect_reencoding(budget, &replica->share, gyre_codebook_version(codebook), &why)
                                : GYRE_OK;
    pthread_mutex_lock(&replica->mu);
    snprintf(replica->short_of_memory, sizeof replica->short_of_memory, "%s", status == GYRE_OK ? "" : why.text);
    pthread_mutex_unlock(&replica->mu);
    return status == GYRE_OK ? gy_points_set_codebook(replica->points, codebook, err) : GYRE_OK;
}

void gy_replica_status(gy_replica *replica, Gyre__Node__ReplicaStatus *out, char *trouble, size_t trouble_bytes)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    gyre__node__replica_status__init(out);
    out->collection_id = identity->collection_id;
    out->shard = identity->shard;
    out->epoch = atomic_load_explicit(&replica->epoch, memory_order_acquire);
    out->points = gy_points_count(replica->points);
    out->applied_seq = gy_points_applied_seq(replica->points);
    out->codebook_version = gy_points_codebook_version(replica->points);
    pthread_mutex_lock(&replica->mu);
    snprintf(trouble, trouble_bytes, "%s", *replica->trouble ? replica->trouble : replica->short_of_memory);
    pthread_mutex_unlock(&replica->mu);
    if (!*trouble)
        gy_points_trouble(replica->points, trouble, trouble_bytes);
    out->trouble = trouble;
}

/* Sets aside what the write's upserts may add. Deletes always pass. */
static gyre_status reserve(gy_replica *replica, struct gy_job *job, gyre_error *err)
{
    uint64_t upserts = 0;
    if (!replica->limits.budget)
        return GYRE_OK;
    for (size_t i = 0; i < job->write->n_operations; i++)
        upserts += job->write->operations[i]->vector.len > 0;
    uint64_t bytes = upserts * gy_budget_point_bytes(gy_points_codec(replica->points), gy_points_dim(replica->points));
    if (bytes == 0)
        return GYRE_OK;
    GY_TRY(gy_budget_reserve(replica->limits.budget, bytes, err));
    job->budget = replica->limits.budget;
    job->bytes_reserved = bytes;
    return GYRE_OK;
}

/* Queues a checked job, or says why not. */
static gyre_status enqueue(gy_replica *replica, struct gy_job *job, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&replica->mu);
    if (replica->closing)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "the replica is closing");
    else if (replica->incoming.bytes + job->body.size > replica->limits.queue_bytes_max)
        status = gyre_fail(err, GYRE_EXHAUSTED, "%zu writes of %zu bytes wait; the limit is %zu bytes", replica->incoming.count,
                           replica->incoming.bytes, replica->limits.queue_bytes_max);
    else
        gy_job_queue_push(&replica->incoming, job);
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    return status;
}

void gy_replica_write(gy_replica *replica, Gyre__Node__Write *write, int64_t deadline_ns, gy_on_written *on_done, void *arg)
{
    gyre_error err;
    struct gy_job *job;
    gyre_status status = gy_write_check(write, gy_points_metric(replica->points), gy_points_dim(replica->points), &err);
    if (status != GYRE_OK)
        gy_wire_free(write);
    else
        status = gy_job_new(&job, write, replica->limits.queue_bytes_max, &err);
    if (status != GYRE_OK) {
        on_done(arg, status, &err, 0, 0);
        return;
    }
    job->deadline_ns = deadline_ns;
    job->on_done = on_done;
    job->arg = arg;
    status = reserve(replica, job, &err);
    if (status == GYRE_OK)
        status = enqueue(replica, job, &err);
    if (status != GYRE_OK)
        gy_job_finish(job, status, &err, 0);
}
