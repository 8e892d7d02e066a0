/* What decides, and only that. One append and one apply are out at a time: the driver has one thread, so a group that is
 * closed later carries more writes through the same sync.
 *
 * What a failure leaves behind: an append that failed may be on disk or not, so its writes are answered "unknown", nothing more
 * is accepted or acknowledged, and the process ends. The log decides at the next start. */
#include "replica/core.h"

#include <assert.h>

/* allowed[from][to] */
static const bool allowed[GY_REPLICA_FAILED + 1][GY_REPLICA_FAILED + 1] = {
    [GY_REPLICA_OPENING] = {[GY_REPLICA_REPLAYING] = true, [GY_REPLICA_CLOSED] = true},
    [GY_REPLICA_REPLAYING] = {[GY_REPLICA_SERVING] = true, [GY_REPLICA_CLOSING] = true, [GY_REPLICA_FAILED] = true},
    [GY_REPLICA_SERVING] = {[GY_REPLICA_CLOSING] = true, [GY_REPLICA_FAILED] = true},
    [GY_REPLICA_CLOSING] = {[GY_REPLICA_CLOSED] = true, [GY_REPLICA_FAILED] = true},
    [GY_REPLICA_FAILED] = {[GY_REPLICA_CLOSED] = true},
};

static void move(gy_replica_core *core, gy_replica_state to)
{
    assert(allowed[core->state][to]);
    core->state = to;
}

static struct gy_replica_action *act(struct gy_replica_actions *actions, gy_replica_action_kind kind)
{
    assert(actions->count < sizeof actions->items / sizeof *actions->items);
    struct gy_replica_action *action = &actions->items[actions->count++];
    *action = (struct gy_replica_action){.kind = kind};
    return action;
}

static void reply(struct gy_replica_actions *actions, uint64_t token, gy_reply_why why, uint64_t seq)
{
    struct gy_replica_action *action = act(actions, GY_DO_REPLY);
    action->token = token;
    action->why = why;
    action->seq = seq;
}

static struct gy_core_write *write_at(gy_replica_core *core, size_t i)
{
    return &core->writes[(core->head + i) % GY_CORE_WRITES_MAX];
}

static struct gy_core_write pop_oldest(gy_replica_core *core)
{
    struct gy_core_write write = *write_at(core, 0);
    core->head = (core->head + 1) % GY_CORE_WRITES_MAX;
    core->count--;
    return write;
}

/* Answers every write that has no seq yet; those keep nothing behind. */
static void refuse_waiting(gy_replica_core *core, struct gy_replica_actions *actions, gy_reply_why why)
{
    for (size_t i = core->logged; i < core->count; i++)
        reply(actions, write_at(core, i)->token, why, 0);
    core->count = core->logged;
}

static void fail(gy_replica_core *core, struct gy_replica_actions *actions)
{
    refuse_waiting(core, actions, GY_REPLY_NOT_SERVING);
    while (core->count)
        reply(actions, pop_oldest(core).token, GY_REPLY_UNKNOWN, 0);
    core->logged = 0;
    if (core->storing_epoch)
        reply(actions, core->epoch_token, GY_REPLY_UNKNOWN, 0);
    core->appending = core->applying = core->storing_epoch = false;
    /* What is not synced is not in the log as far as anybody may assume. */
    core->last = core->synced;
    move(core, GY_REPLICA_FAILED);
    act(actions, GY_DO_STOP);
}

/* The highest seq that enough copies hold on disk. */
static uint64_t commit_rule(const gy_replica_core *core)
{
    return core->synced;
}

static void apply_committed(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (core->applying || core->applied == core->committed)
        return;
    core->applying = true;
    struct gy_replica_action *action = act(actions, GY_DO_APPLY);
    action->seq = core->applied + 1;
    action->upto = core->committed;
}

static void finish_if_drained(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (core->state != GY_REPLICA_CLOSING || core->count || core->appending || core->applying || core->storing_epoch)
        return;
    move(core, GY_REPLICA_CLOSED);
    act(actions, GY_DO_FINISH);
}

static void on_opened(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(core->state == GY_REPLICA_OPENING && event->applied_seq <= event->seq);
    core->epoch = event->epoch;
    core->last = core->synced = event->seq;
    core->applied = event->applied_seq;
    core->committed = commit_rule(core);
    move(core, GY_REPLICA_REPLAYING);
    if (core->applied == core->committed)
        move(core, GY_REPLICA_SERVING);
    apply_committed(core, actions);
}

static void on_write(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    if (core->state != GY_REPLICA_SERVING)
        reply(actions, event->token, GY_REPLY_NOT_SERVING, 0);
    else if (event->epoch != core->epoch || core->storing_epoch)
        reply(actions, event->token, GY_REPLY_EPOCH, 0);
    else if (core->disk_low)
        reply(actions, event->token, GY_REPLY_DISK, 0);
    else if (core->count == GY_CORE_WRITES_MAX)
        reply(actions, event->token, GY_REPLY_FULL, 0);
    else
        *write_at(core, core->count++) = (struct gy_core_write){event->token, event->bytes};
}

static void on_gathered(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (core->appending || core->applying || core->storing_epoch || core->count == core->logged)
        return;
    assert(core->state == GY_REPLICA_SERVING || core->state == GY_REPLICA_CLOSING);
    size_t group = 0, bytes = 0;
    for (size_t i = core->logged; i < core->count; i++) {
        bytes += write_at(core, i)->bytes;
        if (group && bytes > core->group_bytes_max)
            break;
        group++;
    }
    struct gy_replica_action *action = act(actions, GY_DO_APPEND);
    action->epoch = core->epoch;
    action->seq = core->last + 1;
    action->count = group;
    core->appending = true;
    core->logged += group;
    core->last += group;
}

static void on_synced(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(core->appending && event->seq == core->last);
    core->appending = false;
    core->synced = event->seq;
    core->committed = commit_rule(core);
    apply_committed(core, actions);
}

static void on_applied(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(core->applying && event->seq > core->applied && event->seq <= core->committed);
    core->applying = false;
    while (core->applied < event->seq) {
        uint64_t seq = ++core->applied;
        /* While replaying, nobody waits for the entries: their writers lived in an earlier process. */
        if (seq + core->logged > core->last) {
            reply(actions, pop_oldest(core).token, GY_REPLY_DONE, seq);
            core->logged--;
        }
    }
    if (core->state == GY_REPLICA_REPLAYING && core->applied == core->committed)
        move(core, GY_REPLICA_SERVING);
    apply_committed(core, actions);
    finish_if_drained(core, actions);
}

static void on_epoch(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    if (core->state != GY_REPLICA_SERVING) {
        reply(actions, event->token, GY_REPLY_NOT_SERVING, 0);
    } else if (event->epoch < core->epoch || core->storing_epoch) {
        reply(actions, event->token, GY_REPLY_EPOCH, 0);
    } else if (event->epoch == core->epoch) {
        reply(actions, event->token, GY_REPLY_DONE, 0);
    } else {
        /* Those that wait were sent under the old configuration; what is being appended keeps its epoch. */
        refuse_waiting(core, actions, GY_REPLY_EPOCH);
        core->storing_epoch = true;
        core->epoch_asked = event->epoch;
        core->epoch_token = event->token;
        act(actions, GY_DO_STORE_EPOCH)->epoch = event->epoch;
    }
}

static void on_epoch_stored(gy_replica_core *core, struct gy_replica_actions *actions)
{
    assert(core->storing_epoch);
    core->storing_epoch = false;
    core->epoch = core->epoch_asked;
    reply(actions, core->epoch_token, GY_REPLY_DONE, 0);
    finish_if_drained(core, actions);
}

static void on_close(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (core->state == GY_REPLICA_OPENING || core->state == GY_REPLICA_FAILED) {
        move(core, GY_REPLICA_CLOSED);
        act(actions, GY_DO_FINISH);
    } else if (core->state == GY_REPLICA_REPLAYING || core->state == GY_REPLICA_SERVING) {
        move(core, GY_REPLICA_CLOSING);
        finish_if_drained(core, actions);
    }
}

void gy_replica_core_init(gy_replica_core *core, size_t group_bytes_max)
{
    *core = (gy_replica_core){.state = GY_REPLICA_OPENING, .group_bytes_max = group_bytes_max};
}

void gy_replica_step(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    actions->count = 0;
    switch (event->kind) {
    case GY_ON_OPENED:
        on_opened(core, event, actions);
        break;
    case GY_ON_WRITE:
        on_write(core, event, actions);
        break;
    case GY_ON_GATHERED:
        on_gathered(core, actions);
        break;
    case GY_ON_SYNCED:
        on_synced(core, event, actions);
        break;
    case GY_ON_APPLIED:
        on_applied(core, event, actions);
        break;
    case GY_ON_EPOCH:
        on_epoch(core, event, actions);
        break;
    case GY_ON_EPOCH_STORED:
        on_epoch_stored(core, actions);
        break;
    case GY_ON_IO_FAILED:
        fail(core, actions);
        break;
    case GY_ON_DISK_LOW:
        core->disk_low = true;
        refuse_waiting(core, actions, GY_REPLY_DISK);
        finish_if_drained(core, actions);
        break;
    case GY_ON_DISK_OK:
        core->disk_low = false;
        break;
    case GY_ON_CLOSE:
        on_close(core, actions);
        break;
    }
}

uint64_t gy_replica_core_token(const gy_replica_core *core, uint64_t seq)
{
    assert(seq <= core->last && seq + core->logged > core->last);
    size_t i = (size_t)(seq + core->logged - core->last - 1);
    return core->writes[(core->head + i) % GY_CORE_WRITES_MAX].token;
}

size_t gy_replica_core_waiting(const gy_replica_core *core)
{
    return core->count - core->logged;
}

bool gy_replica_core_check(const gy_replica_core *core, const char **why)
{
    *why = "";
    if (core->applied > core->committed)
        *why = "applied above committed";
    else if (core->committed > core->synced)
        *why = "committed above synced";
    else if (core->synced > core->last)
        *why = "synced above last";
    else if (core->last != core->synced && !core->appending)
        *why = "entries that nobody is syncing";
    else if (core->logged > core->count || core->count > GY_CORE_WRITES_MAX)
        *why = "writes out of bounds";
    else if (core->logged && core->logged != core->last - core->applied)
        *why = "answered writes and applied entries differ";
    else if (core->state == GY_REPLICA_CLOSED && (core->count || core->appending || core->applying))
        *why = "closed with work left";
    else if (core->state == GY_REPLICA_FAILED && (core->count || core->appending || core->applying || core->storing_epoch))
        *why = "failed with work left";
    return **why == '\0';
}
