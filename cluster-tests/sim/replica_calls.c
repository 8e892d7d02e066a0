/* What a replica says to others, and what others say to it. A call that is not answered in time counts as failed; a later answer
 * is not recognised any more. */
#include "network.h"
#include "replica.h"
#include "world.h"

#include <assert.h>
#include <stdlib.h>

enum { APPEND_ENTRIES_MAX = 64, RESTORE_TRIES_MAX = 4 };

static const struct gy_sim_disk *disk_of(const struct gy_sim *sim, const struct gy_sim_replica *replica)
{
    return &sim->nodes[replica->node].disks[replica->shard];
}

static struct gy_sim_replica *running(struct gy_sim *sim, const struct gy_sim_event *event)
{
    return sim->nodes[event->owner].replicas[event->shard];
}

/* ---- appends ---- */

static struct gy_sim_call *send_call(struct gy_sim_replica *replica, uint64_t call)
{
    for (int i = 0; i < GY_MEMBERS_MAX; i++)
        if (replica->sends[i].call == call)
            return &replica->sends[i];
    return NULL;
}

static void send_failed(struct gy_sim *sim, struct gy_sim_replica *replica, uint64_t call)
{
    struct gy_sim_call *sent = send_call(replica, call);
    if (!sent)
        return;
    sent->call = 0;
    gy_sim_replica_drive(sim, replica, &(struct gy_replica_event){.kind = GY_ON_SEND_FAILED, .member = sent->member});
}

static void send_timed_out(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_replica *replica = running(sim, event);
    if (replica)
        send_failed(sim, replica, event->number);
}

/* One that is answered, or was to a member that is gone: no more than one is out to each that is there. */
static struct gy_sim_call *free_call(struct gy_sim_replica *replica)
{
    struct gy_sim_call *call = replica->sends;
    while (call->call && gy_config_member(&replica->core.config, call->member))
        call++;
    assert(call < replica->sends + GY_MEMBERS_MAX);
    return call;
}

void gy_sim_replica_send(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action)
{
    const struct gy_sim_disk *disk = disk_of(sim, replica);
    const struct gy_member *member = gy_config_member(&replica->core.config, action->member);
    uint64_t first = action->append.prev_seq + 1;
    size_t count = action->upto >= first ? (size_t)(action->upto - first + 1) : 0;
    if (member == NULL || (count && (first <= disk->base || action->upto > gy_sim_disk_last(disk))))
        gy_sim_fail(sim, "send", "n%u shard %u is to send entries %llu…%llu to member %u; its log is of %llu…%llu",
                    replica->node, replica->shard, (unsigned long long)first, (unsigned long long)action->upto, action->member,
                    (unsigned long long)disk->base + 1, (unsigned long long)gy_sim_disk_last(disk));
    count = count < APPEND_ENTRIES_MAX ? count : APPEND_ENTRIES_MAX;
    if (count > 1 && gy_sim_chance(&sim->random, 100))
        count = 1 + gy_sim_below(&sim->random, count);
    struct gy_sim_message *message =
        gy_sim_message_new(GY_SIM_APPEND, replica->node, gy_sim_node_named(member->node), replica->shard, count);
    message->append = action->append;
    message->member = action->member;
    message->sender = replica->core.self;
    message->call = ++sim->calls;
    if (action->with_config)
        message->config = gy_sim_catalog_of(sim, replica->shard, replica->core.config.epoch);
    if (count)
        memcpy(message->tail.entries, gy_sim_disk_at(disk, first), count * sizeof *message->tail.entries);
    *free_call(replica) = (struct gy_sim_call){message->call, action->member};
    gy_sim_after_to_replica(sim, sim->weather.call_ns, replica->node, send_timed_out, replica->shard, message->call);
    gy_sim_send(sim, message, 0);
}

static void on_append_reply(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_sim_message *message)
{
    struct gy_sim_call *sent = send_call(replica, message->call);
    if (!sent)
        return;
    sent->call = 0;
    gy_sim_replica_drive(sim, replica,
                         &(struct gy_replica_event){
                             .kind = GY_ON_APPEND_REPLY, .member = sent->member, .reply = &message->append_reply});
}

/* ---- changes of the in-sync set ---- */

static void ask_failed(struct gy_sim *sim, struct gy_sim_replica *replica, uint64_t call)
{
    if (replica->ask.call != call)
        return;
    replica->ask.call = 0;
    gy_sim_replica_tell(sim, replica, GY_ON_ASK_FAILED);
}

static void ask_timed_out(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_replica *replica = running(sim, event);
    if (replica)
        ask_failed(sim, replica, event->number);
}

void gy_sim_replica_ask(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action)
{
    uint8_t to = (uint8_t)(GY_SIM_FIRST_COORDINATOR + gy_sim_below(&sim->random, sim->coordinator_count));
    struct gy_sim_message *message = gy_sim_message_new(GY_SIM_CHANGE, replica->node, to, replica->shard, 0);
    message->sender = replica->core.self;
    message->change.epoch = action->epoch;
    message->change.count = action->in_sync.count;
    memcpy(message->change.ids, action->in_sync.ids, sizeof message->change.ids);
    message->call = replica->ask.call = ++sim->calls;
    GY_SIM_TRACE(sim, "n%u shard %u member %u asks for %u in sync in place of epoch %llu", replica->node, replica->shard,
                 replica->core.self, action->in_sync.count, (unsigned long long)action->epoch);
    gy_sim_after_to_replica(sim, sim->weather.call_ns, replica->node, ask_timed_out, replica->shard, message->call);
    gy_sim_send(sim, message, 0);
}

/* ---- restoring ---- */

static void try_restore(struct gy_sim *sim, struct gy_sim_replica *replica);

static void restore_failed(struct gy_sim *sim, struct gy_sim_replica *replica, uint64_t call)
{
    if (replica->restore.call != call || replica->snapshot)
        return;
    replica->restore.call = 0;
    if (replica->restore_tries < RESTORE_TRIES_MAX) {
        try_restore(sim, replica);
        return;
    }
    gy_sim_replica_tell(sim, replica, GY_ON_RESTORE_FAILED);
}

static void restore_timed_out(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_replica *replica = running(sim, event);
    if (replica)
        restore_failed(sim, replica, event->number);
}

static void try_restore(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    const struct gy_shard_config *config = &replica->core.config;
    const struct gy_member *primary = gy_config_member(config, config->primary);
    struct gy_sim_message *message =
        gy_sim_message_new(GY_SIM_SNAPSHOT, replica->node, gy_sim_node_named(primary->node), replica->shard, 0);
    message->sender = replica->core.self;
    message->member = config->primary;
    message->call = replica->restore.call = ++sim->calls;
    replica->restore_tries++;
    GY_SIM_TRACE(sim, "n%u shard %u member %u wants the state of member %u", replica->node, replica->shard, replica->core.self,
                 config->primary);
    gy_sim_after_to_replica(sim, sim->weather.call_ns * 4, replica->node, restore_timed_out, replica->shard, message->call);
    gy_sim_send(sim, message, 0);
}

void gy_sim_replica_restore(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    replica->restore_tries = 0;
    try_restore(sim, replica);
}

static void give_snapshot(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_sim_message *message)
{
    if (!gy_replica_core_primary(&replica->core)) {
        gy_sim_send(sim, gy_sim_message_reply(GY_SIM_CALL_FAILED, message), 0);
        return;
    }
    struct gy_sim_message *reply =
        gy_sim_message_with_state(GY_SIM_SNAPSHOT_REPLY, replica->node, message->from, replica->shard);
    reply->call = message->call;
    reply->sender = message->member;
    reply->member = message->sender;
    reply->snapshot.epoch = gy_sim_disk_epoch_at(disk_of(sim, replica), replica->state.seq);
    *reply->tail.state = replica->state;
    gy_sim_send(sim, reply, gy_sim_between(&sim->random, 0, sim->weather.call_ns * 3));
}

/* ---- clients ---- */

/* What comes too late is not handed in, or a request could come again when it is no longer remembered. */
static bool write(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_sim_message *message)
{
    if (sim->now_ns >= message->write.until_ns) {
        gy_sim_send(sim, gy_sim_message_reply(GY_SIM_CALL_FAILED, message), 0);
        return false;
    }
    if (!gy_sim_state_owns(&replica->state, message->write.entry.key)) {
        struct gy_sim_message *reply = gy_sim_message_reply(GY_SIM_WRITE_REPLY, message);
        reply->write_reply.aborted = true;
        gy_sim_send(sim, reply, 0);
        return false;
    }
    struct gy_replica_event event = {.kind = GY_ON_WRITE, .epoch = message->write.epoch, .bytes = 100};
    event.token = gy_sim_replica_job(replica, message);
    gy_sim_replica_drive(sim, replica, &event);
    return true;
}

bool gy_sim_replica_reads(const struct gy_sim *sim, const struct gy_sim_replica *replica, uint32_t key)
{
    /* From the intent on, not only once it has narrowed itself: the child may serve before that. */
    bool kept = gy_range_has(gy_config_kept_range(&replica->core.config), gy_sim_key_hash(key));
    return gy_sim_state_owns(&replica->state, key) && (kept || sim->plant == GY_PLANT_PARENT_READS) &&
           gy_replica_core_lease_ns(&replica->core) > gy_sim_node_now_ns(sim, replica->node);
}

static void read(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_sim_message *message)
{
    bool may = message->read.linearizable ? gy_sim_replica_reads(sim, replica, message->read.key)
                                          : replica->state.seq >= message->read.seq_min &&
                                                gy_range_covers(replica->state.content, message->read.range);
    if (sim->plant == GY_PLANT_NO_LEASE && gy_replica_core_primary(&replica->core))
        may = true;
    struct gy_sim_message *reply = gy_sim_message_reply(GY_SIM_READ_REPLY, message);
    reply->read_reply.ok = may;
    reply->read_reply.seq = replica->state.seq;
    reply->read_reply.cell = replica->state.cells[message->read.key];
    gy_sim_send(sim, reply, 0);
}

/* ---- all ---- */

static bool queue(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_sim_message *message)
{
    if (replica->queue_count == GY_SIM_QUEUE_MAX)
        return false; /* lost: its sender will think so too, in time */
    replica->queue[replica->queue_count++] = message;
    if (!replica->io && gy_replica_core_idle(&replica->core))
        gy_sim_replica_tell(sim, replica, GY_ON_TICK);
    return true;
}

static bool on_change_reply(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_sim_message *message)
{
    if (replica->ask.call != message->call)
        return false;
    if (message->config == NULL) { /* it said no more than that it could not */
        ask_failed(sim, replica, message->call);
        return false;
    }
    replica->ask.call = 0;
    return queue(sim, replica, message);
}

static bool on_snapshot_reply(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_sim_message *message)
{
    if (replica->restore.call != message->call || replica->snapshot)
        return false;
    replica->snapshot = message;
    if (!replica->io && gy_replica_core_idle(&replica->core))
        gy_sim_replica_tell(sim, replica, GY_ON_TICK);
    return true;
}

bool gy_sim_replica_receive(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_sim_message *message)
{
    switch (message->kind) {
    case GY_SIM_APPEND:
    case GY_SIM_ENSURE:
        return queue(sim, replica, message);
    case GY_SIM_APPEND_REPLY:
        on_append_reply(sim, replica, message);
        return false;
    case GY_SIM_SNAPSHOT:
        give_snapshot(sim, replica, message);
        return false;
    case GY_SIM_SNAPSHOT_REPLY:
        return on_snapshot_reply(sim, replica, message);
    case GY_SIM_CHANGE_REPLY:
        return on_change_reply(sim, replica, message);
    case GY_SIM_WRITE:
        return write(sim, replica, message);
    case GY_SIM_READ:
        read(sim, replica, message);
        return false;
    case GY_SIM_CALL_FAILED:
        send_failed(sim, replica, message->call);
        ask_failed(sim, replica, message->call);
        restore_failed(sim, replica, message->call);
        return false;
    case GY_SIM_REPORT:
    case GY_SIM_DROP:
    case GY_SIM_CHANGE:
    case GY_SIM_ROUTE:
    case GY_SIM_ROUTE_REPLY:
    case GY_SIM_WRITE_REPLY:
    case GY_SIM_READ_REPLY:
        break;
    }
    return false;
}
