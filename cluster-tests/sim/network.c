/* A message is one block. It is delivered if its way is open when it arrives: a cut also loses what is on its way. */
#include "network.h"

#include "world.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static struct gy_sim_message *make(gy_sim_kind kind, uint8_t from, uint8_t to, uint32_t shard, size_t tail_bytes)
{
    size_t bytes = offsetof(struct gy_sim_message, tail) + tail_bytes;
    struct gy_sim_message *message = malloc(bytes > sizeof *message ? bytes : sizeof *message);
    if (!message)
        abort();
    memset(message, 0, offsetof(struct gy_sim_message, tail));
    message->kind = kind;
    message->from = from;
    message->to = to;
    message->shard = shard;
    return message;
}

struct gy_sim_message *gy_sim_message_new(gy_sim_kind kind, uint8_t from, uint8_t to, uint32_t shard, size_t entries)
{
    struct gy_sim_message *message = make(kind, from, to, shard, entries * sizeof(struct gy_sim_entry));
    message->count = entries;
    return message;
}

struct gy_sim_message *gy_sim_message_with_statuses(uint8_t from, uint8_t to, size_t statuses)
{
    struct gy_sim_message *message = make(GY_SIM_REPORT, from, to, 0, statuses * sizeof(struct gy_sim_status));
    message->count = statuses;
    return message;
}

struct gy_sim_message *gy_sim_message_with_state(gy_sim_kind kind, uint8_t from, uint8_t to, uint32_t shard)
{
    return make(kind, from, to, shard, sizeof(struct gy_sim_state));
}

struct gy_sim_message *gy_sim_message_reply(gy_sim_kind kind, const struct gy_sim_message *to)
{
    struct gy_sim_message *reply = make(kind, to->to, to->from, to->shard, 0);
    reply->call = to->call;
    reply->sender = to->member;
    reply->member = to->sender;
    return reply;
}

static size_t tail_bytes(const struct gy_sim_message *message)
{
    if (message->kind == GY_SIM_SNAPSHOT_REPLY)
        return sizeof(struct gy_sim_state);
    if (message->kind == GY_SIM_REPORT)
        return message->count * sizeof(struct gy_sim_status);
    return message->kind == GY_SIM_APPEND ? message->count * sizeof(struct gy_sim_entry) : 0;
}

static void deliver(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_message *message = event->object;
    if (sim->loss[message->from][message->to] == 1000)
        return;
    if (message->to < GY_SIM_FIRST_COORDINATOR)
        event->object = gy_sim_node_receive(sim, message->to, message) ? NULL : message;
    else if (message->to < GY_SIM_FIRST_CLIENT)
        gy_sim_coordinator_receive(sim, message);
    else
        gy_sim_client_receive(sim, message);
}

/* How long one message is on its way. */
static int64_t delay_ns(struct gy_sim *sim)
{
    const struct gy_sim_weather *weather = &sim->weather;
    if (!sim->healed && gy_sim_chance(&sim->random, weather->late))
        return gy_sim_between(&sim->random, 0, weather->late_ns);
    return gy_sim_between(&sim->random, weather->delay_ns / 8, weather->delay_ns);
}

static void schedule(struct gy_sim *sim, struct gy_sim_message *message, int64_t after_ns)
{
    /* A restarted process has no connection on which an old message could come, but the new one may be as fast as that: the
     * message is for whoever is there when it arrives. */
    struct gy_sim_event event = {.at_ns = sim->now_ns + after_ns, .run = deliver, .object = message, .owner = message->to,
                                 .shard = message->shard,
                                 .to_replica = message->to < GY_SIM_FIRST_COORDINATOR && message->kind != GY_SIM_DROP,
                                 .life = UINT32_MAX};
    gy_sim_events_push(&sim->events, event);
}

void gy_sim_send(struct gy_sim *sim, struct gy_sim_message *message, int64_t extra_ns)
{
    const struct gy_sim_weather *weather = &sim->weather;
    uint32_t loss = sim->loss[message->from][message->to] + (sim->healed ? 0 : weather->drop);
    if (loss && gy_sim_chance(&sim->random, loss)) {
        GY_SIM_TRACE(sim, "network loses message %d from %s to %s", message->kind, gy_sim_endpoint_name(message->from),
                     gy_sim_endpoint_name(message->to));
        free(message);
        return;
    }
    /* What a client sends comes once: of two, one could be refused and the other done. */
    /* The bus sends nothing twice. Replicas must bear it all the same; to be made twice, with the disk lost between, nobody could. */
    bool may_double = message->from < GY_SIM_FIRST_CLIENT && message->to < GY_SIM_FIRST_CLIENT && message->kind != GY_SIM_ENSURE;
    if (may_double && !sim->healed && gy_sim_chance(&sim->random, weather->duplicate)) {
        size_t bytes = offsetof(struct gy_sim_message, tail) + tail_bytes(message);
        struct gy_sim_message *twin = malloc(bytes > sizeof *twin ? bytes : sizeof *twin);
        if (!twin)
            abort();
        memcpy(twin, message, bytes);
        schedule(sim, twin, extra_ns + delay_ns(sim));
    }
    schedule(sim, message, extra_ns + delay_ns(sim));
}
