#include "clients.h"

#include "network.h"
#include "world.h"

#include <string.h>

static void try(struct gy_sim *sim, uint8_t endpoint);

static struct gy_sim_client *self_of(struct gy_sim *sim, uint8_t endpoint)
{
    return &sim->clients[endpoint - GY_SIM_FIRST_CLIENT];
}

/* ---- one thing after the other ---- */

static void begin(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_client *self = self_of(sim, event->owner);
    if (sim->quiet)
        return;
    uint64_t kind = gy_sim_below(&sim->random, 100);
    self->want = kind < 55 ? GY_SIM_WANT_WRITE : kind < 85 ? GY_SIM_WANT_GET : GY_SIM_WANT_SEARCH;
    self->busy = true;
    self->unknown = false;
    self->family = (uint32_t)gy_sim_below(&sim->random, sim->family_count);
    self->entry = (struct gy_sim_entry){.client = (uint8_t)(event->owner - GY_SIM_FIRST_CLIENT),
                                        .key = (uint8_t)gy_sim_below(&sim->random, GY_SIM_KEYS),
                                        .deletes = gy_sim_chance(&sim->random, 300)};
    if (self->want == GY_SIM_WANT_WRITE)
        self->entry.request = ++self->request;
    self->began_ns = sim->now_ns;
    self->until_ns = sim->now_ns + gy_sim_between(&sim->random, gy_sim_ms(2000), gy_sim_ms(sim->healed ? 3000 : 15000));
    if (gy_sim_chance(&sim->random, 100))
        self->routed = false;
    try(sim, event->owner);
}

/* When all is mended every shard that can is to be written to before long: it rests less, and tries for less long. */
static void rest(struct gy_sim *sim, uint8_t endpoint)
{
    struct gy_sim_client *self = self_of(sim, endpoint);
    self->busy = false;
    self->call = 0;
    int64_t gap_ns = sim->healed ? self->gap_ns / 8 : self->gap_ns;
    gy_sim_after(sim, gy_sim_between(&sim->random, 1, gap_ns), endpoint, begin, 0, 0, NULL);
}

static void try_again(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_client *self = self_of(sim, event->owner);
    if (self->call != event->number)
        return;
    if (sim->now_ns < self->until_ns) {
        try(sim, event->owner);
        return;
    }
    if (self->want == GY_SIM_WANT_WRITE)
        gy_sim_history_write(sim, self->family, &self->entry, self->began_ns, self->unknown ? GY_SIM_UNKNOWN : GY_SIM_REFUSED);
    rest(sim, event->owner);
}

static void retry(struct gy_sim *sim, uint8_t endpoint)
{
    struct gy_sim_client *self = self_of(sim, endpoint);
    self->routed &= !gy_sim_chance(&sim->random, 800);
    self->call = ++sim->calls; /* what still comes of the attempt before is not listened to */
    gy_sim_after(sim, gy_sim_between(&sim->random, gy_sim_ms(5), gy_sim_ms(200)), endpoint, try_again, 0, self->call, NULL);
}

static void timed_out(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_client *self = self_of(sim, event->owner);
    if (self->call != event->number)
        return;
    self->unknown = true;
    retry(sim, event->owner);
}

/* Of the key. */
static uint32_t shard_of(const struct gy_sim *sim, const struct gy_sim_client *self)
{
    uint32_t shard = 0;
    while (!self->routes[shard] || sim->families[shard] != self->family ||
           !gy_range_has(self->routes[shard]->range, gy_sim_key_hash(self->entry.key)))
        shard++;
    return shard;
}

static void try(struct gy_sim *sim, uint8_t endpoint)
{
    struct gy_sim_client *self = self_of(sim, endpoint);
    self->shard = self->routed ? shard_of(sim, self) : 0;
    const struct gy_shard_config *route = self->routed ? self->routes[self->shard] : NULL;
    struct gy_sim_message *message;
    self->call = ++sim->calls;
    if (!route) {
        uint8_t to = (uint8_t)(GY_SIM_FIRST_COORDINATOR + gy_sim_below(&sim->random, sim->coordinator_count));
        message = gy_sim_message_new(GY_SIM_ROUTE, endpoint, to, self->shard, 0);
    } else {
        uint32_t member = self->want == GY_SIM_WANT_SEARCH ? (uint32_t)gy_sim_below(&sim->random, route->member_count) : 0;
        while (self->want != GY_SIM_WANT_SEARCH && route->members[member].id != route->primary)
            member++;
        message = gy_sim_message_new(self->want == GY_SIM_WANT_WRITE ? GY_SIM_WRITE : GY_SIM_READ, endpoint,
                                     gy_sim_node_named(route->members[member].node), self->shard, 0);
        message->member = route->members[member].id;
        if (self->want == GY_SIM_WANT_WRITE) {
            message->write.epoch = route->epoch;
            message->write.until_ns = sim->now_ns + sim->weather.call_ns * 2;
            message->write.entry = self->entry;
        } else {
            message->read.key = self->entry.key;
            message->read.linearizable = self->want == GY_SIM_WANT_GET;
            /* Nobody is asked who has nothing yet: what a split made begins with all that its parent had. */
            bool begins = self->shard < sim->family_count;
            message->read.seq_min = self->token[self->shard] || begins ? self->token[self->shard] : 1;
            message->read.range = route->range;
        }
    }
    message->call = self->call;
    gy_sim_after(sim, sim->weather.call_ns * 2, endpoint, timed_out, 0, self->call, NULL);
    gy_sim_send(sim, message, 0);
}

/* ---- answers ---- */

static void on_written(struct gy_sim *sim, uint8_t endpoint, const struct gy_sim_message *message)
{
    struct gy_sim_client *self = self_of(sim, endpoint);
    if (message->write_reply.why == GY_REPLY_UNKNOWN)
        self->unknown = true;
    if (message->write_reply.why != GY_REPLY_DONE || message->write_reply.aborted) {
        retry(sim, endpoint);
        return;
    }
    uint64_t seq = message->write_reply.seq;
    uint64_t first = message->write_reply.result.seq;
    self->token[self->shard] = seq > self->token[self->shard] ? seq : self->token[self->shard];
    self->seen[self->family][self->entry.key] = first;
    gy_sim_history_write(sim, self->family, &self->entry, self->began_ns, GY_SIM_DONE);
    rest(sim, endpoint);
}

static void on_read(struct gy_sim *sim, uint8_t endpoint, const struct gy_sim_message *message)
{
    struct gy_sim_client *self = self_of(sim, endpoint);
    if (!message->read_reply.ok) {
        retry(sim, endpoint);
        return;
    }
    const struct gy_sim_cell *cell = &message->read_reply.cell;
    if (self->want == GY_SIM_WANT_GET)
        gy_sim_history_read(sim, self->family, self->entry.key, cell->value, self->began_ns);
    else if (message->read_reply.seq < self->token[self->shard])
        gy_sim_fail(sim, "session", "client %u asked for a state of seq %llu, got one of seq %llu", self->entry.client,
                    (unsigned long long)self->token[self->shard], (unsigned long long)message->read_reply.seq);
    if (cell->seq < self->seen[self->family][self->entry.key])
        gy_sim_fail(sim, "session", "client %u wrote key %u at seq %llu, then saw what was written at seq %llu",
                    self->entry.client, self->entry.key, (unsigned long long)self->seen[self->family][self->entry.key],
                    (unsigned long long)cell->seq);
    rest(sim, endpoint);
}

/* It was acknowledged by a shard that this view does not have: with the view it could miss what it wrote itself. */
static bool knows_more(const struct gy_sim_client *self)
{
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++)
        if (self->token[s] && !self->routes[s])
            return true;
    return false;
}

void gy_sim_client_receive(struct gy_sim *sim, struct gy_sim_message *message)
{
    struct gy_sim_client *self = self_of(sim, message->to);
    if (message->call != self->call)
        return;
    if (message->kind == GY_SIM_ROUTE_REPLY && message->config) {
        memcpy(self->routes, message->view, sizeof self->routes);
        self->routed = !knows_more(self);
        if (self->routed)
            try(sim, message->to);
        else
            retry(sim, message->to);
    } else if (message->kind == GY_SIM_WRITE_REPLY) {
        on_written(sim, message->to, message);
    } else if (message->kind == GY_SIM_READ_REPLY) {
        on_read(sim, message->to, message);
    } else {
        retry(sim, message->to);
    }
}

void gy_sim_client_start(struct gy_sim *sim, uint8_t endpoint)
{
    static const int64_t gaps_ms[] = {20, 100, 400, 1500};
    self_of(sim, endpoint)->gap_ns = gy_sim_ms(gaps_ms[gy_sim_below(&sim->random, 4)]);
    rest(sim, endpoint);
}
