/* Everything that happens to a replica goes through drive: step the core, do what it says, and while nothing is on its way to
 * the disk hand in what waited for that. Nothing in here calls drive from within an action. */
#include "replica.h"

#include "network.h"
#include "world.h"

#include <assert.h>
#include <stdlib.h>

enum { GROUP_BYTES_MAX = 4096, CONFIG_TOKEN = 1 << 30 };

/* ---- jobs ---- */

uint64_t gy_sim_replica_job(struct gy_sim_replica *replica, struct gy_sim_message *message)
{
    size_t place = replica->job_free;
    while (place < replica->job_room && replica->jobs[place].message)
        place++;
    if (place == replica->job_room) {
        replica->job_room = replica->job_room ? replica->job_room * 2 : 16;
        replica->jobs = realloc(replica->jobs, replica->job_room * sizeof *replica->jobs);
        if (!replica->jobs)
            abort();
        for (size_t i = place; i < replica->job_room; i++)
            replica->jobs[i] = (struct gy_sim_job){0};
    }
    replica->job_free = place + 1;
    replica->jobs[place] = (struct gy_sim_job){.message = message};
    return place + 1;
}

static void finish_job(struct gy_sim_replica *replica, uint64_t token)
{
    free(replica->jobs[token - 1].message);
    replica->jobs[token - 1].message = NULL;
    if (token - 1 < replica->job_free)
        replica->job_free = token - 1;
}

static const char *const reply_names[] = {
    [GY_REPLY_DONE] = "done",           [GY_REPLY_EPOCH] = "another epoch", [GY_REPLY_FEW] = "too few copies",
    [GY_REPLY_DISK] = "disk full",      [GY_REPLY_FULL] = "too many wait",  [GY_REPLY_NOT_SERVING] = "not serving",
    [GY_REPLY_UNKNOWN] = "unknown",
};

static void again(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_replica *replica = sim->nodes[event->owner].replicas[event->shard];
    if (replica && replica->serial == event->number)
        gy_sim_replica_tell(sim, replica, GY_ON_TICK);
}

static void end_own(struct gy_sim *sim, struct gy_sim_replica *replica, gy_reply_why why)
{
    replica->own_under_way = false;
    if (why == GY_REPLY_DONE)
        return;
    int64_t after_ns = gy_sim_between(&sim->random, gy_sim_ms(50), gy_sim_ms(500));
    replica->own_ns = sim->now_ns + after_ns;
    gy_sim_after_to_replica(sim, after_ns, replica->node, again, replica->shard, replica->serial);
}

static void answer_write(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action)
{
    struct gy_sim_job *job = &replica->jobs[action->token - 1];
    if (job->message->write.entry.kind != GY_SIM_ENTRY_WRITE) {
        end_own(sim, replica, action->why);
        finish_job(replica, action->token);
        return;
    }
    struct gy_sim_message *reply = gy_sim_message_reply(GY_SIM_WRITE_REPLY, job->message);
    reply->write_reply.why = action->why;
    reply->write_reply.seq = action->seq;
    reply->write_reply.result = job->result;
    reply->write_reply.aborted = action->why == GY_REPLY_DONE && job->result.aborted;
    if (action->why == GY_REPLY_DONE && !job->result.aborted)
        gy_sim_check_acknowledged(sim, replica, &job->message->write.entry, action->seq, &job->result);
    if (action->why != GY_REPLY_DONE)
        GY_SIM_TRACE(sim, "n%u shard %u answers client %u request %u: %s", replica->node, replica->shard,
                     job->message->write.entry.client, job->message->write.entry.request, reply_names[action->why]);
    gy_sim_send(sim, reply, 0);
    finish_job(replica, action->token);
}

static const char *const append_names[] = {[GY_APPEND_OK] = "ok",
                                           [GY_APPEND_OLD_EPOCH] = "old epoch",
                                           [GY_APPEND_NEW_EPOCH] = "new epoch",
                                           [GY_APPEND_MISMATCH] = "mismatch",
                                           [GY_APPEND_BUSY] = "busy",
                                           [GY_APPEND_AHEAD] = "ahead"};

static void answer_append(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action)
{
    struct gy_sim_job *job = &replica->jobs[action->token - 1];
    struct gy_sim_message *reply = gy_sim_message_reply(GY_SIM_APPEND_REPLY, job->message);
    reply->append_reply = action->reply;
    if (action->reply.result != GY_APPEND_OK)
        GY_SIM_TRACE(sim, "n%u shard %u member %u answers entries behind %llu: %s, last %llu of epoch %llu", replica->node,
                     replica->shard, replica->core.self, (unsigned long long)job->message->append.prev_seq,
                     append_names[action->reply.result], (unsigned long long)action->reply.last_seq,
                     (unsigned long long)action->reply.last_epoch);
    if (job->pretended_epoch)
        reply->append_reply.epoch = job->pretended_epoch;
    gy_sim_send(sim, reply, 0);
    finish_job(replica, action->token);
}

/* ---- steps ---- */

/* Does one action; true: *event is news for the core. */
static bool perform(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action,
                    struct gy_replica_event *event)
{
    switch (action->kind) {
    case GY_DO_REPLY:
        if (action->token != CONFIG_TOKEN)
            answer_write(sim, replica, action);
        return false;
    case GY_DO_ANSWER:
        answer_append(sim, replica, action);
        return false;
    case GY_DO_SEND:
        gy_sim_replica_send(sim, replica, action);
        return false;
    case GY_DO_ASK:
        gy_sim_replica_ask(sim, replica, action);
        return false;
    case GY_DO_RESTORE:
        gy_sim_replica_restore(sim, replica);
        return false;
    case GY_DO_APPEND:
    case GY_DO_APPEND_TAKEN:
    case GY_DO_APPLY:
    case GY_DO_STORE_CONFIG:
        return gy_sim_replica_io(sim, replica, action, event);
    case GY_DO_FINISH:
        replica->finished = true;
        return false;
    case GY_DO_FENCE: /* these disks tell what they lost */
        gy_sim_fail(sim, "log", "n%u shard %u member %u: another member has entries of its own making that it lacks", replica->node,
                    replica->shard, replica->core.self);
        return false;
    case GY_DO_STOP:
        return false; /* whoever failed the I/O stops the process */
    }
    return false;
}

static void plant_in_core(struct gy_sim *sim, gy_replica_core *core)
{
    if (sim->plant == GY_PLANT_NO_UNION) {
        core->asked_count = 0;
        for (size_t i = 0; i < core->peer_count; i++)
            core->peers[i].joining = false;
    } else if (sim->plant == GY_PLANT_NO_PROMISE)
        core->gate_ns = INT64_MIN;
}

static void step(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_replica_event event)
{
    for (bool more = true; more;) {
        event.now_ns = gy_sim_node_now_ns(sim, replica->node);
        uint64_t epoch = replica->core.config.epoch;
        uint64_t committed = event.kind == GY_ON_OPENED ? event.applied_seq : replica->core.committed;
        gy_replica_step(&replica->core, &event, &sim->actions);
        sim->steps++;
        if (sim->plant)
            plant_in_core(sim, &replica->core);
        if (epoch != replica->core.config.epoch)
            GY_SIM_TRACE(sim, "n%u shard %u member %u goes by epoch %llu%s; last %llu committed %llu", replica->node,
                         replica->shard, replica->core.self, (unsigned long long)replica->core.config.epoch,
                         gy_replica_core_primary(&replica->core) ? " as primary" : "", (unsigned long long)replica->core.last,
                         (unsigned long long)replica->core.committed);
        gy_sim_check_step(sim, replica, committed);
        more = false;
        for (size_t i = 0; i < sim->actions.count; i++)
            more = perform(sim, replica, &sim->actions.items[i], &event);
    }
}

static void take_from_queue(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    struct gy_sim_message *message = replica->queue[0];
    const struct gy_shard_config *config = message->config;
    struct gy_replica_event event = {.kind = GY_ON_CONFIG, .token = CONFIG_TOKEN, .config = config};
    if (message->kind == GY_SIM_APPEND && config && config->epoch > replica->core.config.epoch) {
        message->config = NULL; /* then the append itself */
        step(sim, replica, event);
        return;
    }
    replica->queue_count--;
    memmove(replica->queue, replica->queue + 1, replica->queue_count * sizeof *replica->queue);
    if (message->kind != GY_SIM_APPEND) {
        event.token = message->kind == GY_SIM_CHANGE_REPLY ? 0 : CONFIG_TOKEN;
        free(message);
        step(sim, replica, event);
        return;
    }
    struct gy_append append = message->append;
    uint64_t epochs[256], pretended_epoch = 0;
    assert(message->count <= 256);
    for (size_t i = 0; i < message->count; i++)
        epochs[i] = message->tail.entries[i].epoch;
    append.epochs = epochs;
    append.count = message->count;
    if (sim->plant == GY_PLANT_NO_EPOCH_CHECK && append.epoch < replica->core.config.epoch) {
        pretended_epoch = append.epoch;
        append.epoch = replica->core.config.epoch;
        append.from = replica->core.config.primary;
    } else if (sim->plant == GY_PLANT_APPLY_EARLY) {
        append.committed = append.prev_seq + append.count;
    }
    event = (struct gy_replica_event){.kind = GY_ON_APPEND, .append = &append};
    event.token = gy_sim_replica_job(replica, message);
    replica->jobs[event.token - 1].pretended_epoch = pretended_epoch;
    step(sim, replica, event);
}

/* What a primary that serves logs by itself: that the shard owns no more than it is to, then, with no split under way, that what
 * it does not own is deleted. */
static bool wants_own(const struct gy_sim_replica *replica, struct gy_sim_entry *out)
{
    const struct gy_shard_config *config = &replica->core.config;
    const struct gy_sim_state *state = &replica->state;
    struct gy_hash_range target = gy_config_kept_range(config);
    if (!gy_range_covers(target, state->owned)) {
        *out = (struct gy_sim_entry){.kind = GY_SIM_ENTRY_NARROW, .range = target, .child = config->split.shard};
        return true;
    }
    uint32_t foreign = gy_range_is_all(state->owned) || config->split.shard ? GY_SIM_KEYS : gy_sim_state_foreign(state);
    *out = (struct gy_sim_entry){.kind = GY_SIM_ENTRY_FORGET, .key = (uint8_t)foreign};
    return foreign < GY_SIM_KEYS || (!config->split.shard && !gy_range_covers(state->owned, state->content));
}

static void log_own(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    struct gy_sim_entry entry;
    if (replica->core.state != GY_REPLICA_SERVING || replica->own_under_way || !gy_replica_core_primary(&replica->core) ||
        sim->now_ns < replica->own_ns || !wants_own(replica, &entry))
        return;
    struct gy_sim_message *message = gy_sim_message_new(GY_SIM_WRITE, replica->node, replica->node, replica->shard, 0);
    message->write.entry = entry;
    replica->own_under_way = true;
    step(sim, replica, (struct gy_replica_event){.kind = GY_ON_WRITE, .epoch = replica->core.config.epoch, .bytes = 100,
                                                 .token = gy_sim_replica_job(replica, message)});
}

static void tick(struct gy_sim *sim, struct gy_sim_event *event);

static void set_timer(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    int64_t due_ns = gy_replica_core_due_ns(&replica->core);
    if (due_ns >= replica->timer_ns)
        return; /* the one that is set comes first, and looks again */
    replica->timer_ns = due_ns;
    replica->timer = ++sim->calls;
    int64_t after_ns = gy_sim_node_until_ns(sim, replica->node, due_ns);
    gy_sim_after_to_replica(sim, after_ns > 1000 ? after_ns : 1000, replica->node, tick, replica->shard, replica->timer);
}

void gy_sim_replica_drive(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_event *event)
{
    step(sim, replica, *event);
    log_own(sim, replica);
    while (replica->core.state != GY_REPLICA_FAILED && replica->core.state != GY_REPLICA_CLOSED &&
           gy_replica_core_idle(&replica->core) && !replica->io) {
        if (replica->snapshot)
            gy_sim_replica_replace(sim, replica);
        else if (replica->queue_count)
            take_from_queue(sim, replica);
        else if (gy_replica_core_waiting(&replica->core)) {
            step(sim, replica, (struct gy_replica_event){.kind = GY_ON_GATHERED});
            if (gy_replica_core_idle(&replica->core))
                break;
        } else
            break;
    }
    if (!replica->io && replica->core.state == GY_REPLICA_SERVING)
        gy_sim_replica_keep_house(sim, replica);
    set_timer(sim, replica);
}

static void tick(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_replica *replica = sim->nodes[event->owner].replicas[event->shard];
    if (!replica || replica->timer != event->number)
        return;
    int64_t due_ns = gy_replica_core_due_ns(&replica->core);
    replica->timer_ns = GY_NEVER;
    gy_sim_check_tick(sim, replica);
    if (due_ns <= gy_sim_node_now_ns(sim, replica->node))
        gy_sim_replica_tell(sim, replica, GY_ON_TICK);
    else
        set_timer(sim, replica);
}

void gy_sim_replica_tell(struct gy_sim *sim, struct gy_sim_replica *replica, gy_replica_event_kind kind)
{
    gy_sim_replica_drive(sim, replica, &(struct gy_replica_event){.kind = kind});
}

/* ---- life ---- */

void gy_sim_replica_open(struct gy_sim *sim, uint8_t node, uint32_t shard)
{
    struct gy_sim_replica *replica = calloc(1, sizeof *replica);
    if (!replica)
        abort();
    replica->node = node;
    replica->shard = shard;
    sim->nodes[node].replicas[shard] = replica;
    gy_sim_replica_begin(sim, replica);
}

void gy_sim_replica_begin(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    const struct gy_sim_disk *disk = &sim->nodes[replica->node].disks[replica->shard];
    /* The last entry trimmed, then every entry that begins another epoch. More than the core keeps: the oldest are forgotten. */
    struct gy_epoch_start starts[GY_EPOCH_STARTS_MAX];
    size_t count = 0;
    for (uint64_t seq = disk->base; seq <= gy_sim_disk_last(disk); seq++) {
        uint64_t epoch = gy_sim_disk_epoch_at(disk, seq);
        if (count && starts[count - 1].epoch == epoch)
            continue;
        if (count == GY_EPOCH_STARTS_MAX)
            memmove(starts, starts + 1, --count * sizeof *starts);
        starts[count++] = (struct gy_epoch_start){epoch, seq};
    }
    replica->serial = ++sim->calls;
    replica->opened = true;
    replica->timer_ns = GY_NEVER;
    replica->ask.call = 0;
    replica->own_under_way = false;
    memset(replica->sends, 0, sizeof replica->sends);
    replica->state = disk->flushed;
    gy_replica_core_init(&replica->core, GROUP_BYTES_MAX);
    GY_SIM_TRACE(sim, "n%u shard %u member %u opens: epoch %llu, log %llu…%llu, applied %llu", replica->node, replica->shard,
                 disk->member, (unsigned long long)disk->config->epoch, (unsigned long long)disk->base,
                 (unsigned long long)gy_sim_disk_last(disk), (unsigned long long)disk->flushed.seq);
    if (disk->flushed.seq < disk->base || disk->flushed.seq > gy_sim_disk_last(disk))
        gy_sim_fail(sim, "whole-log", "n%u shard %u: applied up to %llu, but the log is of %llu…%llu", replica->node,
                    replica->shard, (unsigned long long)disk->flushed.seq, (unsigned long long)disk->base + 1,
                    (unsigned long long)gy_sim_disk_last(disk));
    gy_sim_replica_drive(sim, replica,
                         &(struct gy_replica_event){.kind = GY_ON_OPENED, .self = disk->member, .config = disk->config,
                                                    .starts = starts, .start_count = count, .seq = gy_sim_disk_last(disk),
                                                    .applied_seq = disk->flushed.seq});
    if (sim->nodes[replica->node].disk_low)
        gy_sim_replica_tell(sim, replica, GY_ON_DISK_LOW);
}

void gy_sim_replica_free(struct gy_sim_replica *replica)
{
    if (!replica)
        return;
    for (size_t i = 0; i < replica->job_room; i++)
        free(replica->jobs[i].message);
    for (size_t i = 0; i < replica->queue_count; i++)
        free(replica->queue[i]);
    free(replica->jobs);
    free(replica->snapshot);
    free(replica->entries);
    free(replica);
}
