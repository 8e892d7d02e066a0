#include "node.h"

#include "network.h"
#include "replica.h"
#include "world.h"

#include <stdlib.h>

enum { HEARTBEAT_MS = 500, STOP_MS = 3000 };

int64_t gy_sim_node_now_ns(const struct gy_sim *sim, uint8_t node)
{
    const struct gy_sim_node *self = &sim->nodes[node];
    return self->clock_offset_ns + sim->now_ns + sim->now_ns * self->clock_ppm / 1000000;
}

int64_t gy_sim_node_until_ns(const struct gy_sim *sim, uint8_t node, int64_t local_ns)
{
    int64_t left_ns = local_ns - gy_sim_node_now_ns(sim, node);
    /* Rounded up: a timer that comes too early would come again and again. */
    return left_ns <= 0 ? 0 : left_ns * 1000000 / (1000000 + sim->nodes[node].clock_ppm) + 2;
}

uint8_t gy_sim_node_named(const char *name) { return (uint8_t)(name[1] - '0'); }

/* ---- the process ---- */

static void report(struct gy_sim *sim, struct gy_sim_event *event)
{
    uint8_t node = event->owner;
    struct gy_sim_node *self = &sim->nodes[node];
    for (uint32_t c = 0; c < sim->coordinator_count; c++) {
        struct gy_sim_message *message =
            gy_sim_message_with_statuses(node, (uint8_t)(GY_SIM_FIRST_COORDINATOR + c), GY_SIM_SHARDS_MAX);
        message->call = ++sim->calls; /* an older one that comes later is known by it */
        for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++) {
            const struct gy_sim_disk *disk = &self->disks[s];
            const struct gy_sim_replica *replica = self->replicas[s];
            struct gy_sim_status *status = &message->tail.statuses[s];
            *status = (struct gy_sim_status){.held = disk->exists, .waiting = disk->waiting, .lost = disk->damaged,
                                             .member = disk->member, .owned = disk->flushed.owned};
            status->epoch = disk->exists && !disk->waiting ? disk->config->epoch : 0;
            if (replica && replica->opened) {
                status->log_seq = replica->core.synced;
                status->applied_seq = replica->core.applied;
                status->restoring = replica->core.restoring;
                status->owned = replica->state.owned;
                status->serves = replica->core.state == GY_REPLICA_SERVING;
            } else if (disk->exists && !disk->damaged) {
                status->log_seq = gy_sim_disk_last(disk);
                status->applied_seq = disk->flushed.seq;
            }
        }
        gy_sim_send(sim, message, 0);
    }
    gy_sim_after(sim, gy_sim_ms(HEARTBEAT_MS), node, report, 0, 0, NULL);
}

static void open_replica(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_node *self = &sim->nodes[event->owner];
    const struct gy_sim_disk *disk = &self->disks[event->shard];
    if (disk->exists && !disk->waiting && !disk->damaged && !self->replicas[event->shard] && !self->stopping)
        gy_sim_replica_open(sim, event->owner, event->shard);
}

void gy_sim_node_start(struct gy_sim *sim, uint8_t node)
{
    struct gy_sim_node *self = &sim->nodes[node];
    if (self->up)
        return;
    self->up = true;
    self->stopping = false;
    sim->life[node]++;
    if (gy_sim_chance(&sim->random, 300)) /* the machine, not only the process */
        self->clock_offset_ns = gy_sim_between(&sim->random, 100 * GY_SECOND_NS, 1000 * GY_SECOND_NS) - sim->now_ns;
    GY_SIM_TRACE(sim, "n%u starts", node);
    for (uint32_t s = 0; s < sim->shard_count; s++)
        gy_sim_after(sim, gy_sim_between(&sim->random, 0, gy_sim_ms(300)), node, open_replica, s, 0, NULL);
    gy_sim_after(sim, gy_sim_between(&sim->random, 0, gy_sim_ms(100)), node, report, 0, 0, NULL);
}

void gy_sim_node_crash(struct gy_sim *sim, uint8_t node)
{
    struct gy_sim_node *self = &sim->nodes[node];
    if (!self->up)
        return;
    GY_SIM_TRACE(sim, "n%u is gone", node);
    sim->counts.crashes++;
    self->up = false;
    sim->life[node]++;
    sim->frozen_until_ns[node] = 0;
    for (uint32_t s = 0; s < sim->shard_count; s++)
        if (self->replicas[s])
            gy_sim_replica_lose(sim, self->replicas[s]);
}

static void look_whether_stopped(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_node *self = &sim->nodes[event->owner];
    bool finished = true;
    for (uint32_t s = 0; s < sim->shard_count; s++)
        finished &= !self->replicas[s] || self->replicas[s]->finished;
    int64_t asked_ns = (int64_t)event->number;
    if (finished) {
        gy_sim_node_crash(sim, event->owner);
        return;
    }
    if (sim->now_ns - asked_ns >= gy_sim_ms(STOP_MS)) /* no longer waits for followers */
        for (uint32_t s = 0; s < sim->shard_count; s++)
            if (self->replicas[s] && !self->replicas[s]->finished)
                gy_sim_replica_tell(sim, self->replicas[s], GY_ON_CLOSE);
    gy_sim_after(sim, gy_sim_ms(50), event->owner, look_whether_stopped, 0, event->number, NULL);
}

void gy_sim_node_stop(struct gy_sim *sim, uint8_t node)
{
    struct gy_sim_node *self = &sim->nodes[node];
    if (!self->up || self->stopping)
        return;
    GY_SIM_TRACE(sim, "n%u is asked to stop", node);
    self->stopping = true;
    for (uint32_t s = 0; s < sim->shard_count; s++)
        if (self->replicas[s])
            gy_sim_replica_tell(sim, self->replicas[s], GY_ON_CLOSE);
    gy_sim_after(sim, 0, node, look_whether_stopped, 0, (uint64_t)sim->now_ns, NULL);
}

void gy_sim_node_damage(struct gy_sim *sim, uint8_t node, uint32_t shard)
{
    struct gy_sim_node *self = &sim->nodes[node];
    GY_SIM_TRACE(sim, "n%u shard %u member %u: the disk is damaged", node, shard, self->disks[shard].member);
    self->disks[shard].damaged = true;
    sim->counts.damages++;
    if (self->replicas[shard])
        gy_sim_replica_lose(sim, self->replicas[shard]);
}

void gy_sim_node_wipe(struct gy_sim *sim, uint8_t node)
{
    struct gy_sim_disk *disks = sim->nodes[node].disks;
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++)
        disks[s].damaged = disks[s].exists; /* already: what follows is no news of it */
    gy_sim_node_crash(sim, node);
    GY_SIM_TRACE(sim, "n%u: the disk is replaced", node);
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++) {
        sim->counts.damages += disks[s].exists;
        disks[s].wiped |= disks[s].exists ? UINT64_C(1) << disks[s].member % 64 : 0;
        gy_sim_disk_remove(&disks[s]);
    }
}

void gy_sim_node_disk_low(struct gy_sim *sim, uint8_t node, bool low)
{
    struct gy_sim_node *self = &sim->nodes[node];
    GY_SIM_TRACE(sim, "n%u: disk %s", node, low ? "full" : "no longer full");
    self->disk_low = low;
    for (uint32_t s = 0; s < sim->shard_count; s++)
        if (self->replicas[s] && self->replicas[s]->opened)
            gy_sim_replica_tell(sim, self->replicas[s], low ? GY_ON_DISK_LOW : GY_ON_DISK_OK);
}

void gy_sim_node_fini(struct gy_sim *sim, uint8_t node)
{
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++) {
        gy_sim_replica_free(sim->nodes[node].replicas[s]);
        gy_sim_disk_remove(&sim->nodes[node].disks[s]);
    }
}

/* ---- messages ---- */

static void drop(struct gy_sim *sim, uint8_t node, const struct gy_sim_message *message)
{
    struct gy_sim_node *self = &sim->nodes[node];
    struct gy_sim_disk *disk = &self->disks[message->shard];
    if (!disk->exists || disk->member != message->member)
        return;
    GY_SIM_TRACE(sim, "n%u shard %u: member %u is dropped", node, message->shard, disk->member);
    if (self->replicas[message->shard])
        gy_sim_replica_lose(sim, self->replicas[message->shard]);
    gy_sim_disk_remove(disk);
}

static bool ensure(struct gy_sim *sim, uint8_t node, struct gy_sim_message *message)
{
    struct gy_sim_node *self = &sim->nodes[node];
    struct gy_sim_disk *disk = &self->disks[message->shard];
    if (disk->exists && disk->damaged && sim->plant == GY_PLANT_SAME_MEMBER && disk->member == message->member)
        gy_sim_disk_remove(disk), message->create = true; /* the planted bug */
    if (disk->exists && disk->waiting && disk->member == message->member) {
        disk->waiting = false;
        disk->config = disk->config_durable = message->config;
        GY_SIM_TRACE(sim, "n%u shard %u: member %u takes what the split made", node, message->shard, message->member);
        if (!disk->damaged && !self->stopping)
            gy_sim_replica_open(sim, node, message->shard);
        return false;
    }
    if (disk->exists && disk->waiting)
        gy_sim_disk_remove(disk);
    if (!disk->exists && message->create && !self->stopping && !self->disk_low) {
        GY_SIM_TRACE(sim, "n%u shard %u: member %u is made", node, message->shard, message->member);
        *disk = (struct gy_sim_disk){.exists = true, .member = message->member, .wiped = disk->wiped, .config = message->config,
                                     .config_durable = message->config};
        gy_sim_replica_open(sim, node, message->shard);
        return false;
    }
    struct gy_sim_replica *replica = self->replicas[message->shard];
    return disk->exists && disk->member == message->member && replica && gy_sim_replica_receive(sim, replica, message);
}

/* Only for calls: answers need no answer. */
static void refuse(struct gy_sim *sim, const struct gy_sim_message *message)
{
    if (message->call && message->kind != GY_SIM_APPEND_REPLY && message->kind != GY_SIM_SNAPSHOT_REPLY &&
        message->kind != GY_SIM_CHANGE_REPLY && message->kind != GY_SIM_CALL_FAILED)
        gy_sim_send(sim, gy_sim_message_reply(GY_SIM_CALL_FAILED, message), 0);
}

bool gy_sim_node_receive(struct gy_sim *sim, uint8_t node, struct gy_sim_message *message)
{
    struct gy_sim_node *self = &sim->nodes[node];
    if (!self->up) {
        if (gy_sim_chance(&sim->random, 500)) /* the machine may answer that nobody listens */
            refuse(sim, message);
        return false;
    }
    if (message->kind == GY_SIM_DROP) {
        drop(sim, node, message);
        return false;
    }
    if (message->kind == GY_SIM_ENSURE)
        return ensure(sim, node, message);
    struct gy_sim_replica *replica = self->replicas[message->shard];
    bool to_member = message->kind == GY_SIM_APPEND || message->kind == GY_SIM_SNAPSHOT;
    if (!replica || !replica->opened || (to_member && message->member != self->disks[message->shard].member)) {
        refuse(sim, message);
        return false;
    }
    return gy_sim_replica_receive(sim, replica, message);
}
