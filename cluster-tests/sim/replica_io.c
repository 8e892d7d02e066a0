/* What is on its way to the disk: one thing at a time a replica. It is there when its event comes; a process that dies before
 * leaves all of it, a part, or nothing. A sync that fails does the same, and ends the process. */
#include "network.h"
#include "replica.h"
#include "world.h"

#include <assert.h>
#include <stdlib.h>

enum { RESTART_MS_MAX = 3000, STALL_MS_MAX = 3000 };

static struct gy_sim_disk *disk_of(struct gy_sim *sim, const struct gy_sim_replica *replica)
{
    return &sim->nodes[replica->node].disks[replica->shard];
}

static int64_t sync_ns(struct gy_sim *sim)
{
    int64_t usual_ns = gy_sim_between(&sim->random, sim->weather.sync_ns / 8, sim->weather.sync_ns);
    if (sim->healed || !gy_sim_chance(&sim->random, 5))
        return usual_ns;
    return usual_ns * 100 < gy_sim_ms(STALL_MS_MAX) ? usual_ns * 100 : gy_sim_ms(STALL_MS_MAX);
}

/* ---- splits ---- */

/* A store that is copied takes its time, and so may what is applied behind it. */
static int64_t split_ns(struct gy_sim *sim)
{
    return !sim->healed && gy_sim_chance(&sim->random, 300) ? gy_sim_between(&sim->random, 0, gy_sim_ms(STALL_MS_MAX))
                                                            : sync_ns(sim) * 4;
}

/* Whether the next entry is a narrowing of which this member makes the child. */
static bool makes_child(struct gy_sim *sim, const struct gy_sim_replica *replica, const struct gy_sim_entry *entry)
{
    const struct gy_sim_disk *disk = disk_of(sim, replica);
    return entry->kind == GY_SIM_ENTRY_NARROW && entry->child && disk->config->split.shard == entry->child &&
           !gy_range_covers(entry->range, replica->state.owned) && !sim->nodes[replica->node].disks[entry->child].exists;
}

static void put_child(struct gy_sim *sim, uint8_t node, uint32_t shard, uint32_t child, uint64_t epoch,
                      const struct gy_sim_state *state)
{
    const struct gy_sim_disk *disk = &sim->nodes[node].disks[shard];
    struct gy_sim_disk *made = &sim->nodes[node].disks[child];
    if (made->exists)
        return;
    GY_SIM_TRACE(sim, "n%u shard %u member %u: its part of shard %u is made, as of seq %llu", node, shard, disk->member, child,
                 (unsigned long long)state->seq);
    sim->counts.children++;
    *made = (struct gy_sim_disk){.exists = true, .waiting = true, .member = disk->member, .wiped = made->wiped,
                                 .config = disk->config, .config_durable = disk->config, .base = state->seq,
                                 .base_epoch = epoch, .durable = state->seq, .flushed = *state};
    gy_sim_check_child(sim, node, child, state);
}

static void make_child(struct gy_sim *sim, const struct gy_sim_replica *replica)
{
    const struct gy_sim_entry *entry = gy_sim_disk_at(disk_of(sim, replica), replica->io_seq);
    struct gy_sim_state state;
    gy_sim_state_split(&state, &replica->state, entry, sim->plant);
    put_child(sim, replica->node, replica->shard, entry->child, entry->epoch, &state);
}

/* A planted bug's: a child that comes after the narrowing. */
struct late_child {
    uint32_t child;
    uint64_t epoch;
    struct gy_sim_state state;
};

static void come_late(struct gy_sim *sim, struct gy_sim_event *event)
{
    const struct late_child *late = event->object;
    put_child(sim, event->owner, event->shard, late->child, late->epoch, &late->state);
}

static void make_child_late(struct gy_sim *sim, const struct gy_sim_replica *replica, const struct gy_sim_entry *entry)
{
    struct late_child *late = calloc(1, sizeof *late);
    if (!late)
        abort();
    late->child = entry->child;
    late->epoch = entry->epoch;
    gy_sim_state_split(&late->state, &replica->state, entry, GY_PLANT_NONE);
    gy_sim_after(sim, gy_sim_between(&sim->random, 0, gy_sim_ms(3000)), replica->node, come_late, replica->shard, 0, late);
}

/* ---- what arrives on the disk ---- */

static void write_entries(struct gy_sim *sim, struct gy_sim_replica *replica, size_t count)
{
    struct gy_sim_disk *disk = disk_of(sim, replica);
    const struct gy_sim_entry *entries = replica->entries;
    if (replica->io_cut && sim->plant == GY_PLANT_NO_CUT) {
        size_t there = (size_t)(gy_sim_disk_last(disk) - (replica->io_seq - 1));
        there = there < count ? there : count;
        gy_sim_disk_append(disk, entries + there, count - there);
        disk->durable = gy_sim_disk_last(disk);
        return;
    }
    if (replica->io_cut) {
        GY_SIM_TRACE(sim, "n%u shard %u member %u cuts its log behind %llu", replica->node, replica->shard, disk->member,
                     (unsigned long long)replica->io_seq - 1);
        gy_sim_disk_cut(disk, replica->io_seq - 1);
        sim->counts.tails_cut++;
    }
    assert(gy_sim_disk_last(disk) == replica->io_seq - 1);
    gy_sim_disk_append(disk, entries, count);
    disk->durable = gy_sim_disk_last(disk);
    if (replica->io_cut)
        gy_sim_check_member(sim, replica->node, replica->shard);
}

/* An append may be torn; what is written together with a cut, and the rest, is there or is not. */
static void arrive_perhaps(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    struct gy_sim_disk *disk = disk_of(sim, replica);
    size_t part = (size_t)gy_sim_below(&sim->random, replica->entry_count + 1);
    bool all = gy_sim_chance(&sim->random, 500);
    switch (replica->io) {
    case GY_SIM_IO_APPEND:
        if (sim->plant != GY_PLANT_ACK_BEFORE_SYNC && (all || !replica->io_cut))
            write_entries(sim, replica, all ? replica->entry_count : part);
        break;
    case GY_SIM_IO_CONFIG:
        if (all)
            disk->config = disk->config_durable = replica->io_config;
        break;
    case GY_SIM_IO_REPLACE:
        if (all && replica->snapshot)
            gy_sim_disk_replace(disk, replica->snapshot->tail.state, replica->snapshot->snapshot.epoch);
        break;
    case GY_SIM_IO_SPLIT:
        if (all)
            make_child(sim, replica);
        break;
    case GY_SIM_IO_APPLY:
    case GY_SIM_IO_NONE:
        break;
    }
    replica->io = GY_SIM_IO_NONE;
}

/* Applies entries; the results of those somebody waits for go to them. */
static uint64_t apply(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    struct gy_sim_disk *disk = disk_of(sim, replica);
    uint64_t upto = replica->io_upto;
    if (upto > replica->io_seq && gy_sim_chance(&sim->random, 100))
        upto = (uint64_t)gy_sim_between(&sim->random, (int64_t)replica->io_seq, (int64_t)upto);
    for (uint64_t seq = replica->io_seq; seq <= upto; seq++) {
        if (seq <= disk->base || seq > gy_sim_disk_last(disk))
            gy_sim_fail(sim, "whole-log", "n%u shard %u is to apply entry %llu; its log is of %llu…%llu", replica->node,
                        replica->shard, (unsigned long long)seq, (unsigned long long)disk->base + 1,
                        (unsigned long long)gy_sim_disk_last(disk));
        const struct gy_sim_entry *entry = gy_sim_disk_at(disk, seq);
        bool late = sim->plant == GY_PLANT_CHILD_LATE && makes_child(sim, replica, entry);
        if (late)
            make_child_late(sim, replica, entry);
        struct gy_sim_result result = gy_sim_state_apply(&replica->state, entry, sim->plant);
        sim->counts.aborted += result.aborted;
        if (late)
            disk->flushed = replica->state;
        if (seq + replica->core.logged > replica->core.last)
            replica->jobs[gy_replica_core_token(&replica->core, seq) - 1].result = result;
        gy_sim_check_applied(sim, replica->node, replica->shard, entry, &replica->state);
    }
    return upto;
}

static void flush(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    disk_of(sim, replica)->flushed = replica->state;
}

void gy_sim_replica_keep_house(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    struct gy_sim_disk *disk = disk_of(sim, replica);
    if (replica->state.seq < disk->flushed.seq + 8 || !gy_sim_chance(&sim->random, 20))
        return;
    bool trims = replica->state.seq > disk->base + sim->weather.log_keep && gy_sim_chance(&sim->random, 500) &&
                 !gy_replica_core_awaited(&replica->core, gy_sim_node_now_ns(sim, replica->node));
    if (!trims || sim->plant != GY_PLANT_TRIM_UNFLUSHED)
        flush(sim, replica);
    if (!trims)
        return;
    uint64_t upto = replica->state.seq - sim->weather.log_keep;
    gy_sim_disk_trim(disk, upto);
    gy_sim_replica_drive(sim, replica, &(struct gy_replica_event){.kind = GY_ON_TRIMMED, .seq = upto});
}

/* ---- beginning and end ---- */

static void end_process(struct gy_sim *sim, struct gy_sim_event *event)
{
    gy_sim_node_crash(sim, event->owner);
}

static void restart(struct gy_sim *sim, struct gy_sim_event *event) { gy_sim_node_start(sim, (uint8_t)event->number); }

static bool is_done(struct gy_sim *sim, struct gy_sim_replica *replica, struct gy_replica_event *event)
{
    struct gy_sim_disk *disk = disk_of(sim, replica);
    *event = (struct gy_replica_event){0};
    if (replica->io != GY_SIM_IO_APPLY && !sim->healed && gy_sim_below(&sim->random, 100000) < sim->weather.sync_fails) {
        GY_SIM_TRACE(sim, "n%u shard %u: a sync failed", replica->node, replica->shard);
        arrive_perhaps(sim, replica);
        event->kind = GY_ON_IO_FAILED;
        gy_sim_after(sim, 0, replica->node, end_process, 0, 0, NULL);
        gy_sim_after(sim, gy_sim_between(&sim->random, 1, gy_sim_ms(RESTART_MS_MAX)), GY_SIM_NOBODY, restart, 0, replica->node,
                     NULL);
        return true;
    }
    gy_sim_io io = replica->io;
    replica->io = GY_SIM_IO_NONE;
    switch (io) {
    case GY_SIM_IO_APPEND:
        if (sim->plant != GY_PLANT_ACK_BEFORE_SYNC)
            write_entries(sim, replica, replica->entry_count);
        event->kind = GY_ON_SYNCED;
        event->seq = replica->io_seq + replica->entry_count - 1;
        break;
    case GY_SIM_IO_APPLY:
        event->seq = apply(sim, replica);
        event->kind = GY_ON_APPLIED;
        break;
    case GY_SIM_IO_CONFIG:
        disk->config = replica->io_config;
        if (sim->plant != GY_PLANT_CONFIG_UNSYNCED)
            disk->config_durable = replica->io_config;
        event->kind = GY_ON_CONFIG_STORED;
        break;
    case GY_SIM_IO_SPLIT:
        make_child(sim, replica);
        return false;
    case GY_SIM_IO_REPLACE:
    case GY_SIM_IO_NONE:
        return false;
    }
    return true;
}

static void take_snapshot(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    struct gy_sim_disk *disk = disk_of(sim, replica);
    struct gy_sim_message *snapshot = replica->snapshot;
    struct gy_sim_state *state = snapshot->tail.state;
    GY_SIM_TRACE(sim, "n%u shard %u member %u: restored, state of seq %llu", replica->node, replica->shard, disk->member,
                 (unsigned long long)state->seq);
    if (sim->plant == GY_PLANT_FORGET_TOMBSTONES)
        for (int key = 0; key < GY_SIM_KEYS; key++)
            if (!state->cells[key].present && state->cells[key].value)
                state->cells[key] = replica->state.cells[key];
    sim->counts.restores++;
    gy_sim_disk_replace(disk, state, snapshot->snapshot.epoch);
    state->digest = disk->flushed.digest = gy_sim_state_digest(&disk->flushed);
    gy_sim_check_restored(sim, replica->node, replica->shard, &disk->flushed);
    gy_sim_check_member(sim, replica->node, replica->shard);
    free(snapshot);
    replica->snapshot = NULL;
    replica->restore = (struct gy_sim_call){0};
    gy_sim_replica_begin(sim, replica);
}

static void begin(struct gy_sim *sim, struct gy_sim_replica *replica, gy_sim_io io, int64_t after_ns);

static void done(struct gy_sim *sim, struct gy_sim_event *timer)
{
    struct gy_sim_replica *replica = sim->nodes[timer->owner].replicas[timer->shard];
    struct gy_replica_event event;
    if (!replica || replica->io_number != timer->number || replica->io == GY_SIM_IO_NONE)
        return;
    bool replaces = replica->io == GY_SIM_IO_REPLACE, splits = replica->io == GY_SIM_IO_SPLIT;
    if (is_done(sim, replica, &event))
        gy_sim_replica_drive(sim, replica, &event);
    else if (replaces)
        take_snapshot(sim, replica);
    else if (splits) /* the child is there: now it narrows itself */
        begin(sim, replica, GY_SIM_IO_APPLY, split_ns(sim));
}

/* A planted bug: what was reported synced gets there later. */
static void sync_late(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_disk *disk = &sim->nodes[event->owner].disks[event->shard];
    uint64_t last = gy_sim_disk_last(disk);
    if (disk->durable < event->number)
        disk->durable = event->number < last ? event->number : last;
}

static void begin(struct gy_sim *sim, struct gy_sim_replica *replica, gy_sim_io io, int64_t after_ns)
{
    replica->io = io;
    replica->io_number = ++sim->calls;
    replica->io_until_ns = sim->now_ns + after_ns;
    gy_sim_after(sim, after_ns, replica->node, done, replica->shard, replica->io_number, NULL);
}

static void gather_entries(struct gy_sim_replica *replica, const struct gy_replica_action *action)
{
    if (action->count > replica->entry_room) {
        replica->entry_room = action->count * 2;
        replica->entries = realloc(replica->entries, replica->entry_room * sizeof *replica->entries);
        if (!replica->entries)
            abort();
    }
    replica->entry_count = action->count;
    replica->io_seq = action->seq;
    replica->io_cut = action->kind == GY_DO_APPEND_TAKEN && action->cut;
    for (size_t i = 0; i < action->count; i++) {
        if (action->kind == GY_DO_APPEND) {
            uint64_t token = gy_replica_core_token(&replica->core, action->seq + i);
            replica->entries[i] = replica->jobs[token - 1].message->write.entry;
            replica->entries[i].epoch = action->epoch;
        } else {
            const struct gy_sim_message *append = replica->jobs[action->token - 1].message;
            replica->entries[i] = append->tail.entries[append->count - action->count + i];
        }
    }
}

/* A narrowing goes alone. */
static uint64_t end_of_group(struct gy_sim *sim, const struct gy_sim_replica *replica, uint64_t first, uint64_t upto)
{
    const struct gy_sim_disk *disk = disk_of(sim, replica);
    for (uint64_t seq = first; seq <= upto && seq > disk->base && seq <= gy_sim_disk_last(disk); seq++)
        if (gy_sim_disk_at(disk, seq)->kind == GY_SIM_ENTRY_NARROW)
            return seq == first ? seq : seq - 1;
    return upto;
}

bool gy_sim_replica_io(struct gy_sim *sim, struct gy_sim_replica *replica, const struct gy_replica_action *action,
                       struct gy_replica_event *event)
{
    assert(!replica->io);
    if (action->kind == GY_DO_APPLY) {
        replica->io_seq = action->seq;
        replica->io_upto = end_of_group(sim, replica, action->seq, action->upto);
        replica->io = GY_SIM_IO_APPLY;
        if (sim->plant != GY_PLANT_CHILD_LATE && replica->io_seq > disk_of(sim, replica)->base &&
            replica->io_seq <= gy_sim_disk_last(disk_of(sim, replica)) &&
            makes_child(sim, replica, gy_sim_disk_at(disk_of(sim, replica), replica->io_seq))) {
            begin(sim, replica, GY_SIM_IO_SPLIT, split_ns(sim));
            return false;
        }
        if (gy_sim_chance(&sim->random, 800))
            return is_done(sim, replica, event);
        begin(sim, replica, GY_SIM_IO_APPLY, gy_sim_between(&sim->random, 0, gy_sim_ms(sim->healed ? 5 : 50)));
    } else if (action->kind == GY_DO_STORE_CONFIG) {
        replica->io_config = gy_sim_catalog_of(sim, replica->shard, gy_replica_core_next_config(&replica->core)->epoch);
        begin(sim, replica, GY_SIM_IO_CONFIG, sync_ns(sim));
    } else {
        gather_entries(replica, action);
        if (sim->plant == GY_PLANT_ACK_BEFORE_SYNC) {
            struct gy_sim_disk *disk = disk_of(sim, replica);
            if (replica->io_cut)
                gy_sim_disk_cut(disk, replica->io_seq - 1);
            gy_sim_disk_append(disk, replica->entries, replica->entry_count);
            gy_sim_after(sim, sync_ns(sim) * 20, replica->node, sync_late, replica->shard, gy_sim_disk_last(disk), NULL);
        }
        begin(sim, replica, GY_SIM_IO_APPEND, sync_ns(sim));
    }
    return false;
}

void gy_sim_replica_replace(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    begin(sim, replica, GY_SIM_IO_REPLACE, sync_ns(sim) * 2);
}

void gy_sim_replica_lose(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    uint8_t node = replica->node;
    uint32_t shard = replica->shard;
    struct gy_sim_disk *disk = disk_of(sim, replica);
    arrive_perhaps(sim, replica);
    if (disk->durable < gy_sim_disk_last(disk))
        gy_sim_disk_cut(disk, disk->durable);
    disk->config = disk->config_durable;
    sim->nodes[node].replicas[shard] = NULL;
    gy_sim_replica_free(replica);
    if (!disk->damaged)
        gy_sim_check_member(sim, node, shard);
}
