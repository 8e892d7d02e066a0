/* The thread: hands the core what happened and does what it says. While a group is on its way to the disk, the next one gathers
 * in the queue; that is the whole of group commit. What is sent to followers is not waited for. */
#include "replica/state.h"

#include "replica/check.h"

#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "gyre/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    REPLAY_BYTES_MAX = 16 << 20, /* of log held in memory while it is applied from there */
    TRIM_EVERY_BYTES = 64 << 20, /* of log: a trim first flushes the applied state, which costs a pause */
    HELD_BYTES_MAX = 1 << 30,    /* of log kept beyond that for a member that is being built or catches up */
};
#define DISK_LOW_LOOK_NS GY_SECOND_NS

/* A token is the address of a job or of an input; the lowest bit tells which. */
static uint64_t token_of_input(const struct gy_input *input)
{
    return (uint64_t)(uintptr_t)input | 1;
}

static struct gy_input *input_of_token(uint64_t token)
{
    return (token & 1) ? (struct gy_input *)(uintptr_t)(token - 1) : NULL;
}

/* ---- answers ---- */

static void set_trouble(gy_replica *replica, const char *text)
{
    pthread_mutex_lock(&replica->mu);
    snprintf(replica->trouble, sizeof replica->trouble, "%s", text);
    pthread_mutex_unlock(&replica->mu);
}

static gyre_status explain_unknown(const gy_replica *replica, gyre_error *err)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    if (replica->failure.status != GYRE_OK)
        return gyre_fail(err, GYRE_UNAVAILABLE,
                         "shard %u of collection %" PRIu64 ": the replica stopped while it wrote (it may have happened): %.300s",
                         identity->shard, identity->collection_id, replica->failure.text);
    return gyre_fail(err, GYRE_UNAVAILABLE,
                     "shard %u of collection %" PRIu64 ": the write was logged, but %s (it may have happened)", identity->shard,
                     identity->collection_id,
                     gy_replica_core_primary(&replica->core) ? "fewer copies than min_copies are left, or the replica closes"
                                                             : "another member became primary");
}

/* Turns the core's reason into what the sender reads. */
static gyre_status explain(const gy_replica *replica, gy_reply_why why, uint64_t asked_epoch, gyre_error *err)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    const gy_replica_core *core = &replica->core;
    switch (why) {
    case GY_REPLY_DONE:
        return GYRE_OK;
    case GY_REPLY_EPOCH:
        return gyre_fail(err, GYRE_ABORTED,
                         "shard %u of collection %" PRIu64 ": sent for epoch %" PRIu64 ", the replica is at epoch %" PRIu64 "%s",
                         identity->shard, identity->collection_id, asked_epoch, core->config.epoch,
                         !gy_replica_core_primary(core) ? " and not primary"
                         : core->outdated               ? " and awaits a newer one"
                                                        : "");
    case GY_REPLY_FEW:
        return gyre_fail(err, GYRE_UNAVAILABLE,
                         "shard %u of collection %" PRIu64 ": %u copies are in sync; writes need %u (min_copies)",
                         identity->shard, identity->collection_id, gy_config_in_sync_count(&core->config),
                         core->config.min_copies);
    case GY_REPLY_DISK:
        return gy_disk_watch_fail(&replica->disk, err);
    case GY_REPLY_FULL:
        return gyre_fail(err, GYRE_EXHAUSTED, "shard %u of collection %" PRIu64 ": %d writes wait; that is the limit",
                         identity->shard, identity->collection_id, GY_CORE_WRITES_MAX);
    case GY_REPLY_NOT_SERVING:
        return gyre_fail(err, GYRE_UNAVAILABLE, "shard %u of collection %" PRIu64 ": the replica is %s", identity->shard,
                         identity->collection_id,
                         replica->failure.status == GYRE_CORRUPT ? "damaged"
                         : replica->failure.status != GYRE_OK    ? "stopped by an error of its disk"
                                                                 : "closing");
    case GY_REPLY_UNKNOWN:
        break;
    }
    return explain_unknown(replica, err);
}

/* Somebody waits for it in gy_replica_set_config. */
static void answer_config(gy_replica *replica, struct gy_input *input, gy_reply_why why)
{
    pthread_mutex_lock(&replica->mu);
    input->why = why;
    input->done = true;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
}

static void answer_write(gy_replica *replica, const struct gy_replica_action *action)
{
    struct gy_input *config = input_of_token(action->token);
    if (config) {
        answer_config(replica, config, action->why);
        return;
    }
    struct gy_job *job = (struct gy_job *)(uintptr_t)action->token;
    gyre_error err;
    gyre_status status = explain(replica, action->why, job->write->epoch, &err);
    if (status == GYRE_OK && job->foreign)
        status = gy_replica_fail_foreign(replica, &err);
    gy_job_finish(job, status, status == GYRE_OK ? NULL : &err, action->seq);
}

void gy_replica_refuse_inputs(gy_replica *replica)
{
    struct gy_input *input;
    struct gy_append_reply busy = {.result = GY_APPEND_BUSY};
    pthread_mutex_lock(&replica->mu);
    replica->ended = true;
    struct gy_input_queue inputs = replica->inputs;
    replica->inputs = (struct gy_input_queue){0};
    pthread_mutex_unlock(&replica->mu);
    while ((input = gy_input_queue_pop(&inputs))) {
        if (input->kind == GY_INPUT_CONFIG)
            answer_config(replica, input, GY_REPLY_NOT_SERVING);
        else if (input->kind == GY_INPUT_APPEND)
            gy_input_answer(input, &busy);
        else
            gy_input_free(input);
    }
}

/* ---- what the core asks for: the log ---- */

static struct gy_job *job_of(const gy_replica *replica, uint64_t seq)
{
    return (struct gy_job *)(uintptr_t)gy_replica_core_token(&replica->core, seq);
}

static gyre_status log_append(gy_replica *replica, const struct gy_log_entry *entries, size_t count, bool cut)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += entries[i].bytes;
    gyre_status status = gy_store_log_append(replica->store, entries, count, cut, &replica->failure);
    gy_disk_watch_spend(&replica->disk, bytes);
    replica->logged_bytes += bytes;
    return status;
}

static gyre_status append(gy_replica *replica, const struct gy_replica_action *action)
{
    struct gy_log_entry *entries = calloc(action->count, sizeof *entries);
    if (!entries)
        return gyre_fail(&replica->failure, GYRE_NO_MEMORY, "no memory for %zu log entries", action->count);
    for (size_t i = 0; i < action->count; i++) {
        const gy_bytes *body = &job_of(replica, action->seq + i)->body;
        entries[i] = (struct gy_log_entry){
            .epoch = action->epoch, .seq = action->seq + i, .body = body->data, .bytes = body->size};
    }
    gyre_status status = log_append(replica, entries, action->count, false);
    free(entries);
    return status;
}

/* The last entries of an append that came from the primary. */
static gyre_status append_taken(gy_replica *replica, const struct gy_replica_action *action)
{
    const struct gy_input *input = input_of_token(action->token);
    size_t skip = input->append.count - action->count;
    struct gy_log_entry *entries = calloc(action->count, sizeof *entries);
    if (!entries)
        return gyre_fail(&replica->failure, GYRE_NO_MEMORY, "no memory for %zu log entries", action->count);
    for (size_t i = 0; i < action->count; i++) {
        const Gyre__Node__LogEntry *from = input->message->entries[skip + i];
        entries[i] = (struct gy_log_entry){
            .epoch = from->epoch, .seq = action->seq + i, .body = from->body.data, .bytes = from->body.len};
    }
    gyre_status status = log_append(replica, entries, action->count, action->cut);
    free(entries);
    return status;
}

/* ---- what the core asks for: applying ---- */

/* Applies the group whose writes are still here, up to one that must be alone; *reached says how far. */
static gyre_status apply_group(gy_replica *replica, uint64_t from, uint64_t upto, uint64_t *reached)
{
    gy_group *group = &replica->group;
    const Gyre__Node__Write *first = job_of(replica, from)->write;
    if (gy_write_is_own(first)) {
        *reached = from;
        return gy_replica_apply_own(replica, first, gy_replica_core_epoch_at(&replica->core, from), from);
    }
    gy_group_clear(group);
    for (uint64_t seq = from; seq <= upto; seq++) {
        struct gy_job *job = job_of(replica, seq);
        if (gy_write_is_own(job->write))
            upto = seq - 1;
        else
            GY_TRY(gy_group_add(group, job->write, seq, &job->foreign, &replica->failure));
    }
    *reached = upto;
    GY_TRY(gy_group_apply(group, upto, &replica->failure));
    for (size_t i = 0; i < group->count; i++)
        if (group->deleted[i])
            job_of(replica, group->versions[i])->deleted++;
    for (uint64_t seq = from; seq <= upto; seq++) { /* one that was sent again is answered as the first was */
        const Gyre__Node__Write *write = job_of(replica, seq)->write;
        uint64_t first_seq, deleted;
        if (write->client.len && gy_window_find(group->window, write->client.data, write->request, &first_seq, &deleted))
            job_of(replica, seq)->deleted = deleted;
    }
    return GYRE_OK;
}

struct replay {
    gy_replica *replica;
    uint64_t seq, epoch, upto; /* seq, epoch: of the last entry taken */
    size_t bytes;
    Gyre__Node__Write **writes; /* [count] */
    size_t count, room;
    bool own; /* the first write is a primary's own, and thus the only one */
    struct gy_write_rules rules;
};

static gyre_status take_entry(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    struct replay *replay = self;
    gy_replica *replica = replay->replica;
    if (entry->seq > replay->upto || replay->bytes >= REPLAY_BYTES_MAX || replay->own)
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
    status = gy_write_check(write, &replay->rules, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "log entry %" PRIu64, entry->seq);
    if (gy_write_is_own(write) && replay->count > 1)
        return GYRE_CANCELLED; /* the next time it is the first */
    replay->bytes += entry->bytes;
    replay->seq = entry->seq;
    replay->epoch = entry->epoch;
    replay->own = gy_write_is_own(write);
    bool foreign; /* whoever sent it is gone */
    return replay->own ? GYRE_OK : gy_group_add(&replica->group, write, entry->seq, &foreign, err);
}

/* Applies log entries from `from`, at most REPLAY_BYTES_MAX of them, up to one that must be alone; *reached says how far. */
static gyre_status apply_log(gy_replica *replica, uint64_t from, uint64_t upto, uint64_t *reached)
{
    struct replay replay = {.replica = replica, .seq = from - 1, .upto = upto, .rules = gy_replica_rules(replica)};
    gy_group_clear(&replica->group);
    gyre_status status = gy_store_log_read(replica->store, from, take_entry, &replay, &replica->failure);
    if (status == GYRE_CANCELLED)
        status = GYRE_OK; /* our own way to stop */
    if (status == GYRE_OK && replay.seq < from)
        status = gyre_fail(&replica->failure, GYRE_CORRUPT, "log entry %" PRIu64 " is missing; the log goes on to %" PRIu64, from,
                           upto);
    if (status == GYRE_OK)
        status = replay.own ? gy_replica_apply_own(replica, replay.writes[0], replay.epoch, replay.seq)
                            : gy_group_apply(&replica->group, replay.seq, &replica->failure);
    for (size_t i = 0; i < replay.count; i++)
        gy_wire_free(replay.writes[i]);
    free(replay.writes);
    gy_group_clear(&replica->group);
    *reached = replay.seq;
    return status;
}

/* What a client waits for is in memory; what comes before is another's and only in the log. */
static gyre_status apply(gy_replica *replica, const struct gy_replica_action *action, uint64_t *reached)
{
    const gy_replica_core *core = &replica->core;
    uint64_t ours = core->last - core->logged + 1;
    if (action->seq < ours)
        return apply_log(replica, action->seq, action->upto < ours ? action->upto : ours - 1, reached);
    return apply_group(replica, action->seq, action->upto, reached);
}

/* ---- one action ---- */

/* A disk that fails to write is the process's end: the kernel may have dropped what other replicas wrote, too. Data that is not
 * what was written is this replica's alone. */
static void stop(gy_replica *replica)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    const struct gy_replica_transport *transport = replica->limits.transport;
    set_trouble(replica, replica->failure.text);
    if (!replica->thread_runs)
        return; /* opening: whoever opens gets the error */
    if (replica->failure.status == GYRE_CORRUPT) {
        if (transport && transport->damaged)
            transport->damaged(transport->self, replica, &replica->failure);
        return;
    }
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
        answer_write(replica, action);
        return false;
    case GY_DO_ANSWER:
        gy_input_answer(input_of_token(action->token), &action->reply);
        return false;
    case GY_DO_SEND:
        gy_replica_send(replica, action);
        return false;
    case GY_DO_ASK:
        gy_replica_ask(replica, action);
        return false;
    case GY_DO_RESTORE:
        gy_replica_restore(replica);
        return false;
    case GY_DO_APPEND:
        status = append(replica, action);
        event->kind = GY_ON_SYNCED;
        event->seq = action->seq + action->count - 1;
        break;
    case GY_DO_APPEND_TAKEN:
        status = append_taken(replica, action);
        event->kind = GY_ON_SYNCED;
        event->seq = action->seq + action->count - 1;
        break;
    case GY_DO_APPLY:
        status = apply(replica, action, &event->seq);
        event->kind = GY_ON_APPLIED;
        break;
    case GY_DO_STORE_CONFIG:
        status = gy_store_set_config(replica->store, gy_replica_core_next_config(&replica->core), &replica->failure);
        event->kind = GY_ON_CONFIG_STORED;
        break;
    case GY_DO_FINISH:
        replica->finished = true;
        return false;
    case GY_DO_FENCE:
        GY_IGNORE(gyre_fail(&replica->failure, GYRE_CORRUPT,
                            "the log ends at %" PRIu64 ", but another member has later entries of this primary's own",
                            replica->core.last)); /* told by stop */
        stop(replica);
        return false;
    case GY_DO_STOP:
        stop(replica);
        return false;
    }
    if (status != GYRE_OK)
        event->kind = GY_ON_IO_FAILED;
    return true;
}

/* What other threads look at. */
static void publish(gy_replica *replica)
{
    const gy_replica_core *core = &replica->core;
    if (core->config.epoch != atomic_load_explicit(&replica->epoch, memory_order_relaxed)) {
        pthread_mutex_lock(&replica->mu);
        replica->config = core->config;
        pthread_mutex_unlock(&replica->mu);
    }
    atomic_store_explicit(&replica->epoch, core->config.epoch, memory_order_release);
    atomic_store_explicit(&replica->log_seq, core->synced, memory_order_release);
    atomic_store_explicit(&replica->lease_ns, gy_replica_core_lease_ns(core), memory_order_release);
    atomic_store_explicit(&replica->primary, gy_replica_core_primary(core), memory_order_release);
}

void gy_replica_drive(gy_replica *replica, struct gy_replica_event event)
{
    bool more = true;
    while (more) {
        event.now_ns = gy_now_ns();
        gy_replica_step(&replica->core, &event, &replica->actions);
        publish(replica);
        more = false;
        /* Only the last action can be news, so the actions are not overwritten while they are done. */
        for (size_t i = 0; i < replica->actions.count; i++)
            more = perform(replica, &replica->actions.items[i], &event);
    }
}

/* ---- what came in ---- */

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
    gy_replica_drive(replica, (struct gy_replica_event){.kind = low ? GY_ON_DISK_LOW : GY_ON_DISK_OK});
}

static void hand_in_writes(gy_replica *replica, struct gy_job_queue *jobs)
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
        gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_WRITE,
                                                            .token = (uint64_t)(uintptr_t)job,
                                                            .epoch = job->write->epoch,
                                                            .bytes = job->body.size});
    }
}

/* The answer of the coordinator, or what came along with an append: nobody waits for it here. */
static void take_config(gy_replica *replica, const struct gy_shard_config *config)
{
    gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_CONFIG, .config = config});
}

static void hand_in_input(gy_replica *replica, struct gy_input *input)
{
    switch (input->kind) {
    case GY_INPUT_CONFIG:
        gy_replica_drive(replica, (struct gy_replica_event){
                                      .kind = GY_ON_CONFIG, .token = token_of_input(input), .config = &input->config});
        return; /* who waits owns it */
    case GY_INPUT_APPEND:
        if (input->has_config && input->config.epoch > replica->core.config.epoch)
            take_config(replica, &input->config);
        gy_replica_drive(replica, (struct gy_replica_event){
                                      .kind = GY_ON_APPEND, .token = token_of_input(input), .append = &input->append});
        return; /* freed when it is answered */
    case GY_INPUT_APPEND_REPLY:
        gy_replica_drive(replica,
                         (struct gy_replica_event){.kind = input->failed ? GY_ON_SEND_FAILED : GY_ON_APPEND_REPLY,
                                                   .member = input->member,
                                                   .reply = &input->reply});
        break;
    case GY_INPUT_ASKED:
        if (input->failed)
            gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_ASK_FAILED});
        else
            take_config(replica, &input->config);
        break;
    case GY_INPUT_NOT_RESTORED:
        atomic_store(&replica->restoring, false);
        gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_RESTORE_FAILED});
        break;
    }
    gy_input_free(input);
}

/* Forgets log entries nobody needs, once enough of them came together: all but the last log_keep, and of those what is from
 * before the last trim. So the log holds at most what came since the last trim but one, about twice TRIM_EVERY_BYTES; while a member
 * catches up, up to HELD_BYTES_MAX more. */
static gyre_status trim(gy_replica *replica)
{
    if (replica->logged_bytes < TRIM_EVERY_BYTES)
        return GYRE_OK;
    uint64_t applied = replica->core.applied, keep = replica->limits.log_keep;
    replica->logged_bytes = 0;
    GY_TRY(gy_points_flush(replica->points, &replica->failure));
    if (replica->held_bytes < HELD_BYTES_MAX && gy_replica_core_awaited(&replica->core, gy_now_ns())) {
        replica->held_bytes += TRIM_EVERY_BYTES;
        return GYRE_OK;
    }
    uint64_t forget = applied > keep ? applied - keep : 0;
    if (forget < replica->trim_seq)
        forget = replica->trim_seq;
    replica->trim_seq = applied;
    replica->held_bytes = 0;
    if (forget == 0)
        return GYRE_OK;
    GY_TRY(gy_store_log_trim(replica->store, forget + 1, &replica->failure));
    gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_TRIMMED, .seq = forget});
    return GYRE_OK;
}

/* ---- the thread ---- */

static int64_t due_ns(const gy_replica *replica)
{
    int64_t due = gy_replica_core_due_ns(&replica->core);
    int64_t look_ns = replica->core.disk_low ? gy_now_ns() + DISK_LOW_LOOK_NS : GY_NEVER;
    due = look_ns < due ? look_ns : due;
    due = replica->own_retry_ns && replica->own_retry_ns < due ? replica->own_retry_ns : due;
    return replica->close_ns && replica->close_ns < due ? replica->close_ns : due;
}

static bool has_work(const gy_replica *replica)
{
    return (replica->incoming.count && replica->core.count < GY_CORE_WRITES_MAX) || replica->inputs.count || replica->unsent ||
           (replica->closing && !replica->close_ns) || gy_replica_core_waiting(&replica->core);
}

/* Called with mu held. Returns without work when the core, or the disk while it is low, wants to be looked at. */
static void wait_for_work(gy_replica *replica)
{
    int64_t until_ns = due_ns(replica);
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int timed_out = 0;
    while (!has_work(replica) && timed_out == 0)
        timed_out = until_ns == GY_NEVER ? pthread_cond_wait(&replica->changed, &replica->mu)
                                         : pthread_cond_timedwait(&replica->changed, &replica->mu, &until);
}

/* As if it had been sent and the answer lost. */
static void own_up_to_unsent(gy_replica *replica)
{
    replica->unsent = false;
    for (size_t i = 0; i < replica->core.peer_count; i++)
        gy_replica_drive(replica,
                         (struct gy_replica_event){.kind = GY_ON_SEND_FAILED, .member = replica->core.peers[i].id});
    gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_ASK_FAILED});
    if (replica->core.restoring && !atomic_load(&replica->restoring))
        gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_RESTORE_FAILED});
}

/* Closing: once when it begins, once more when followers have been waited for long enough. */
static void go_on_closing(gy_replica *replica, bool begin)
{
    if (begin) {
        replica->close_ns = gy_now_ns() + GY_CLOSE_NS;
        gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_CLOSE});
    } else if (replica->close_ns && !replica->finished && gy_now_ns() >= replica->close_ns) {
        replica->close_ns = GY_NEVER;
        gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_CLOSE});
    }
}

void *gy_replica_run(void *arg)
{
    gy_replica *replica = arg;
    gy_thread_stand_back(GY_WRITES_STAND_BACK);
    while (!replica->finished) {
        struct gy_job_queue jobs = {0};
        struct gy_input *input;
        gy_replica_write_own(replica);
        pthread_mutex_lock(&replica->mu);
        wait_for_work(replica);
        /* When closing, all that is there: nothing comes in any more. */
        size_t room = replica->closing ? SIZE_MAX : GY_CORE_WRITES_MAX - replica->core.count;
        while (jobs.count < room && replica->incoming.count)
            gy_job_queue_push(&jobs, gy_job_queue_pop(&replica->incoming));
        struct gy_input_queue inputs = replica->inputs;
        replica->inputs = (struct gy_input_queue){0};
        bool close = replica->closing && !replica->close_ns;
        pthread_mutex_unlock(&replica->mu);

        while ((input = gy_input_queue_pop(&inputs)))
            hand_in_input(replica, input);
        if (replica->unsent)
            own_up_to_unsent(replica);
        look_at_disk(replica);
        hand_in_writes(replica, &jobs);
        gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_GATHERED});
        if (replica->core.state == GY_REPLICA_SERVING && trim(replica) != GYRE_OK)
            gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_IO_FAILED});
        go_on_closing(replica, close);
    }
    gy_replica_refuse_inputs(replica);
    return NULL;
}
