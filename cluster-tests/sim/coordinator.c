#include "coordinator.h"

#include "network.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 200, HEARTBEAT_MS = 500, TELL_AGAIN_MS = 400, MAKING_MS = 3000, CATALOG_MS = 1000, FIRST_REPORTS_MS = 5000 };

static struct gy_sim_coordinator *self_of(struct gy_sim *sim, uint8_t endpoint)
{
    return &sim->coordinators[endpoint - GY_SIM_FIRST_COORDINATOR];
}

static int64_t clock_ns(const struct gy_sim *sim, const struct gy_sim_coordinator *self)
{
    return 1000 * GY_SECOND_NS + sim->now_ns + self->clock_jump_ns;
}

static const char *const names[GY_SIM_KNOWN_NODES] = {"n0", "n1", "n2", "n3", "n4", "n5"};

/* ---- telling nodes ---- */

/* Whether the member was added under its eyes, and its node not told to make it yet. */
static bool new_to(const struct gy_sim_coordinator *self, uint32_t shard, const struct gy_member *member)
{
    return member->id >= self->first_unmade[shard] && !(self->made[shard] >> member->id % 32 & 1);
}

/* Whether it is still to be made: only then may a node make it. */
static bool unmade(const struct gy_sim_coordinator *self, uint32_t shard, const struct gy_member *member)
{
    return !member->in_sync && new_to(self, shard, member);
}

static void tell(struct gy_sim *sim, uint8_t endpoint, uint32_t shard, const struct gy_member *member)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    uint8_t node = gy_sim_node_named(member->node);
    struct gy_sim_message *message = gy_sim_message_new(GY_SIM_ENSURE, endpoint, node, shard, 0);
    message->config = self->known[shard];
    message->member = member->id;
    message->create = unmade(self, shard, member);
    if (message->create) /* once: made twice, the second one empty, it would pass for the first */
        self->made[shard] |= UINT32_C(1) << member->id % 32;
    self->said[shard][node].told_ns = sim->now_ns;
    gy_sim_send(sim, message, 0);
}

/* ---- the catalog ---- */

/* own: it has made the change itself. Of the new members of others it does not know whether their nodes were told. */
static void learn(struct gy_sim *sim, uint8_t endpoint, uint32_t shard, const struct gy_shard_config *config, bool own)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    const struct gy_shard_config *before = self->known[shard];
    if (before && before->epoch >= config->epoch)
        return;
    if (!before)
        self->first_unmade[shard] = config->next_member;
    for (uint32_t id = before ? before->next_member : config->next_member; id < config->next_member; id++)
        self->made[shard] = own ? self->made[shard] & ~(UINT32_C(1) << id % 32) : self->made[shard] | UINT32_C(1) << id % 32;
    self->known[shard] = config;
    for (uint32_t i = 0; i < config->member_count; i++)
        tell(sim, endpoint, shard, &config->members[i]);
}

static void read_catalog(struct gy_sim *sim, uint8_t endpoint)
{
    if (sim->now_ns >= sim->catalog.away_until_ns)
        for (uint32_t s = 0; s < sim->shard_count; s++)
            learn(sim, endpoint, s, gy_sim_catalog_now(sim, s), false);
}

/* A change on its way to the catalog and back. */
struct change {
    uint8_t endpoint;
    bool asked;                  /* by a primary: it is answered */
    bool took;                   /* the catalog took it */
    bool child;                  /* next is of the shard that is being made */
    uint64_t epoch;              /* if child: of its parent */
    struct gy_sim_message reply; /* if asked */
    uint32_t life;
    uint64_t number;
    struct gy_shard_config next;
};

static void answered(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct change *change = event->object;
    struct gy_sim_coordinator *self = self_of(sim, change->endpoint);
    for (uint32_t s = 0; s < sim->shard_count; s++)
        learn(sim, change->endpoint, s, gy_sim_catalog_now(sim, s), change->took && s == event->shard);
    if (self->change_under_way[event->shard] == change->number)
        self->change_under_way[event->shard] = 0;
    if (change->asked) {
        struct gy_sim_message *reply =
            gy_sim_message_new(GY_SIM_CHANGE_REPLY, change->endpoint, change->reply.to, event->shard, 0);
        reply->call = change->reply.call;
        reply->config = self->known[event->shard];
        gy_sim_send(sim, reply, 0);
    }
}

/* The catalog has it, whatever became of the coordinator. */
static void carry_out(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct change *change = event->object;
    bool away = sim->now_ns < sim->catalog.away_until_ns;
    if (away && gy_sim_chance(&sim->random, 500))
        return; /* it never came there */
    if (change->child)
        gy_sim_catalog_add(sim, event->shard, change->epoch, &change->next);
    else
        change->took = gy_sim_catalog_change(sim, event->shard, &change->next);
    if (away || change->life != sim->life[change->endpoint] || (!sim->healed && gy_sim_chance(&sim->random, 10)))
        return; /* nobody hears the answer */
    event->object = NULL;
    gy_sim_after(sim, gy_sim_between(&sim->random, 0, gy_sim_ms(10)), change->endpoint, answered, event->shard, 0, change);
}

static void give_up_change(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_coordinator *self = self_of(sim, event->owner);
    if (self->change_under_way[event->shard] == event->number)
        self->change_under_way[event->shard] = 0;
}

/* next is of the shard, or if child, of what it is being split into. */
static void commit_any(struct gy_sim *sim, uint8_t endpoint, uint32_t shard, const struct gy_shard_config *next, bool child,
                       const struct gy_sim_message *asked)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    struct change *change = calloc(1, sizeof *change);
    if (!change)
        abort();
    change->endpoint = endpoint;
    change->life = sim->life[endpoint];
    change->number = ++sim->calls;
    change->next = *next;
    change->child = child;
    change->epoch = self->known[shard] ? self->known[shard]->epoch : 0;
    if (asked) {
        change->asked = true;
        change->reply.to = asked->from;
        change->reply.call = asked->call;
    } else {
        self->change_under_way[shard] = change->number;
        gy_sim_after(sim, gy_sim_ms(CATALOG_MS), endpoint, give_up_change, shard, change->number, NULL);
    }
    int64_t after_ns = gy_sim_between(&sim->random, 0, gy_sim_ms(10));
    if (!sim->healed && gy_sim_chance(&sim->random, 20))
        after_ns = gy_sim_between(&sim->random, 0, gy_sim_ms(3000));
    gy_sim_after(sim, after_ns, GY_SIM_NOBODY, carry_out, shard, 0, change);
}

static void commit(struct gy_sim *sim, uint8_t endpoint, uint32_t shard, const struct gy_shard_config *next,
                   const struct gy_sim_message *asked)
{
    commit_any(sim, endpoint, shard, next, false, asked);
}

/* ---- plans ---- */

static struct gy_plan_fact fact_of(const struct gy_sim *sim, const struct gy_sim_coordinator *self, uint32_t shard,
                                   const struct gy_member *member)
{
    const struct gy_sim_said *said = &self->said[shard][gy_sim_node_named(member->node)];
    struct gy_plan_fact fact = {.presence = GY_PRESENCE_ABSENT};
    if (said->heard && said->held && said->member == member->id)
        fact = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD, .lost = said->lost, .restoring = said->restoring,
                                     .epoch = said->epoch, .log_seq = said->log_seq, .applied_seq = said->applied_seq};
    else if (unmade(self, shard, member))
        fact.presence = GY_PRESENCE_UNMADE;
    else if (!said->heard || sim->now_ns - said->told_ns < gy_sim_ms(MAKING_MS)) /* what was said may be of before it was made */
        fact.presence = GY_PRESENCE_UNHEARD;
    return fact;
}

/* A planted bug. */
static bool promote_anybody(const struct gy_sim *sim, const struct gy_shard_config *config, const struct gy_plan_fact *facts,
                            const struct gy_plan_node *nodes, struct gy_plan *plan)
{
    const struct gy_member *primary = gy_config_member(config, config->primary);
    if (sim->plant != GY_PLANT_PROMOTE_ANY || nodes[gy_sim_node_named(primary->node)].up)
        return false;
    for (uint32_t i = config->member_count; i-- > 0;) {
        const struct gy_member *member = &config->members[i];
        if (member->kind != GY_MEMBER_FULL || facts[i].presence != GY_PRESENCE_HELD ||
            !nodes[gy_sim_node_named(member->node)].up)
            continue;
        plan->change = true;
        plan->next = *config;
        plan->next.epoch++;
        plan->next.primary = member->id;
        plan->next.primary_since = plan->next.epoch;
        plan->next.members[i].in_sync = true;
        return true;
    }
    return false;
}

static void describe_nodes(const struct gy_sim *sim, const struct gy_sim_coordinator *self, struct gy_plan_node *nodes)
{
    for (uint32_t n = 0; n < sim->node_count; n++) {
        nodes[n] = (struct gy_plan_node){.name = names[n], .zone = "", .down_since_ns = GY_NEVER};
        nodes[n].up = self->health[n].state == GY_NODE_UP;
        nodes[n].draining = sim->wishes.draining[n];
        if (self->health[n].state == GY_NODE_DOWN)
            nodes[n].down_since_ns = self->down_since_ns[n];
        else if (!nodes[n].up && clock_ns(sim, self) - self->started_ns > gy_sim_ms(FIRST_REPORTS_MS))
            nodes[n].down_since_ns = self->started_ns + gy_sim_ms(FIRST_REPORTS_MS);
        for (uint32_t s = 0; s < sim->shard_count; s++)
            nodes[n].replicas += self->said[s][n].held;
    }
}

/* ---- splits ---- */

void gy_sim_coordinator_split(struct gy_sim *sim, uint8_t endpoint, uint32_t shard)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    struct gy_shard_config next;
    if (!self->up || !self->known[shard] || self->change_under_way[shard] || sim->shard_count == GY_SIM_SHARDS_MAX ||
        gy_plan_split_begin(self->known[shard], sim->shard_count, &next, NULL) != GYRE_OK)
        return;
    uint32_t keys[2] = {0}; /* without one, no write could show that a half is well */
    for (uint32_t key = 0; key < GY_SIM_KEYS; key++)
        keys[gy_sim_key_hash(key) >= next.split.first] += gy_range_has(next.range, gy_sim_key_hash(key));
    if (keys[0] && keys[1])
        commit(sim, endpoint, shard, &next, NULL);
}

/* What members have reported of the child, as gy_plan_split_child takes it. */
struct parts {
    bool made[GY_MEMBERS_MAX];
    uint64_t seq[GY_MEMBERS_MAX];
};

static struct parts parts_of(const struct gy_sim_coordinator *self, uint32_t shard)
{
    const struct gy_shard_config *config = self->known[shard];
    struct parts parts = {0};
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        const struct gy_sim_said *parent = &self->said[shard][gy_sim_node_named(member->node)];
        const struct gy_sim_said *child = &self->said[config->split.shard][gy_sim_node_named(member->node)];
        parts.made[i] = child->waiting && !child->lost && child->member == member->id;
        if (parts.made[i])
            parts.seq[i] = child->applied_seq;
        else if (parent->held && parent->member == member->id && gy_range_covers(gy_config_kept_range(config), parent->owned))
            parts.seq[i] = 1; /* it never will */
    }
    return parts;
}

/* A member that never makes its part would count for the shard and not for the child: it stays out of the set until that is
 * there. The others are granted: a primary that has just started commits nothing before it is. */
static uint32_t leave_out_childless(const struct gy_sim_coordinator *self, uint32_t shard, uint32_t *ids, uint32_t count)
{
    const struct gy_shard_config *config = self->known[shard];
    if (!config->split.shard || self->known[config->split.shard])
        return count;
    struct parts parts = parts_of(self, shard);
    uint32_t left = 0;
    for (uint32_t k = 0; k < count; k++) {
        bool stays = true;
        for (uint32_t i = 0; i < config->member_count; i++)
            if (config->members[i].id == ids[k])
                stays = config->members[i].in_sync || parts.made[i] || !parts.seq[i];
        if (stays)
            ids[left++] = ids[k];
    }
    return left;
}

/* A planted bug: one has made it, so the others will have. */
static void believe_all(const struct gy_shard_config *config, struct parts *parts)
{
    uint64_t seq = 0;
    for (uint32_t i = 0; i < config->member_count; i++)
        seq = parts->made[i] ? parts->seq[i] : seq;
    for (uint32_t i = 0; seq && i < config->member_count; i++)
        parts->made[i] = true, parts->seq[i] = seq;
}

static void make_child(struct gy_sim *sim, uint8_t endpoint, uint32_t shard)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    const struct gy_shard_config *config = self->known[shard];
    struct parts parts = parts_of(self, shard);
    if (sim->plant == GY_PLANT_CHILD_UNMADE)
        believe_all(config, &parts);
    struct gy_shard_config child;
    if (gy_plan_split_child(config, parts.made, parts.seq, &child))
        commit_any(sim, endpoint, shard, &child, true, NULL);
}

static void go_on_splitting(struct gy_sim *sim, uint8_t endpoint, uint32_t shard)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    const struct gy_shard_config *config = self->known[shard], *child = self->known[config->split.shard];
    if (!child) {
        make_child(sim, endpoint, shard);
        return;
    }
    const struct gy_sim_said *said =
        &self->said[config->split.shard][gy_sim_node_named(gy_config_member(child, child->primary)->node)];
    bool serves = said->serves && said->member == child->primary && said->epoch == child->epoch;
    struct gy_shard_config next;
    if (gy_plan_split_switch(config, child, serves, &next))
        commit(sim, endpoint, shard, &next, NULL);
}

static void plan_all(struct gy_sim *sim, uint8_t endpoint)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    struct gy_plan_node nodes[GY_SIM_KNOWN_NODES];
    describe_nodes(sim, self, nodes);
    struct gy_plan_world world = {.nodes = nodes, .node_count = sim->node_count, .now_ns = clock_ns(sim, self),
                                  .replace_after_ns = sim->wishes.replace_after_ns, .moves_left = 1};
    for (uint32_t s = 0; s < sim->shard_count; s++) {
        const struct gy_shard_config *config = self->known[s];
        if (!config || self->change_under_way[s])
            continue;
        struct gy_plan_fact facts[GY_MEMBERS_MAX];
        for (uint32_t i = 0; i < config->member_count; i++)
            facts[i] = fact_of(sim, self, s, &config->members[i]);
        struct gy_plan plan = {0};
        if (!promote_anybody(sim, config, facts, nodes, &plan))
            gy_plan_shard(config, &sim->wishes.shards[s], facts, &world, &plan);
        if (!plan.change) {
            if (config->split.shard)
                go_on_splitting(sim, endpoint, s);
            continue;
        }
        GY_SIM_TRACE(sim, "%s shard %u plans epoch %llu: %s", gy_sim_endpoint_name(endpoint), s,
                     (unsigned long long)plan.next.epoch, plan.reason ? plan.reason : "");
        commit(sim, endpoint, s, &plan.next, NULL);
    }
}

static void look(struct gy_sim *sim, struct gy_sim_event *event)
{
    struct gy_sim_coordinator *self = self_of(sim, event->owner);
    for (uint32_t n = 0; n < sim->node_count; n++)
        if (gy_node_health_tick(&self->health[n], clock_ns(sim, self), gy_sim_ms(HEARTBEAT_MS))) {
            self->down_since_ns[n] = clock_ns(sim, self);
            GY_SIM_TRACE(sim, "%s takes n%u for dead", gy_sim_endpoint_name(event->owner), n);
        }
    if (event->number % 5 == 0)
        read_catalog(sim, event->owner);
    plan_all(sim, event->owner);
    gy_sim_after(sim, gy_sim_ms(LOOK_MS), event->owner, look, 0, event->number + 1, NULL);
}

void gy_sim_coordinator_move(struct gy_sim *sim, uint8_t endpoint, uint32_t shard, uint8_t from, uint8_t to)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    struct gy_plan_node nodes[GY_SIM_KNOWN_NODES];
    if (!self->up || !self->known[shard] || self->change_under_way[shard] || self->known[shard]->split.shard)
        return;
    describe_nodes(sim, self, nodes);
    struct gy_plan_world world = {.nodes = nodes, .node_count = sim->node_count};
    struct gy_shard_config next;
    if (gy_plan_move(self->known[shard], &world, names[from], names[to], &next, NULL) == GYRE_OK)
        commit(sim, endpoint, shard, &next, NULL);
}

/* ---- what comes in ---- */

static void on_report(struct gy_sim *sim, const struct gy_sim_message *message)
{
    struct gy_sim_coordinator *self = self_of(sim, message->to);
    uint8_t node = message->from;
    if (message->call <= self->report_number[node])
        return; /* a newer one overtook it */
    self->report_number[node] = message->call;
    gy_node_health_reported(&self->health[node], clock_ns(sim, self));
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++) {
        const struct gy_sim_status *status = &message->tail.statuses[s];
        struct gy_sim_said *said = &self->said[s][node];
        *said = (struct gy_sim_said){.heard = true, .held = status->held, .waiting = status->waiting, .lost = status->lost,
                                     .restoring = status->restoring, .serves = status->serves, .owned = status->owned,
                                     .member = status->member, .epoch = status->epoch,
                                     .log_seq = status->log_seq, .applied_seq = status->applied_seq, .told_ns = said->told_ns};
        const struct gy_shard_config *config = self->known[s];
        if (!config)
            continue;
        /* What a late member of the parent makes may have the number of a member on another node. */
        const struct gy_member *known = gy_config_member(config, status->member);
        if (status->held && status->member < config->next_member && (!known || gy_sim_node_named(known->node) != node)) {
            struct gy_sim_message *drop = gy_sim_message_new(GY_SIM_DROP, message->to, node, s, 0);
            drop->member = status->member;
            gy_sim_send(sim, drop, 0);
        }
        for (uint32_t i = 0; i < config->member_count; i++) {
            const struct gy_member *member = &config->members[i];
            if (gy_sim_node_named(member->node) != node || sim->now_ns - said->told_ns < gy_sim_ms(TELL_AGAIN_MS))
                continue;
            bool has = status->held && status->member == member->id;
            if ((has && status->epoch < config->epoch) || (!has && unmade(self, s, member)) ||
                (sim->plant == GY_PLANT_SAME_MEMBER && status->lost))
                tell(sim, message->to, s, member);
        }
    }
}

static bool hidden(const struct gy_sim *sim, const struct gy_sim_coordinator *self, uint32_t shard)
{
    return shard >= sim->family_count && self->known[sim->parents[shard]]->split.shard == shard;
}

static void on_change(struct gy_sim *sim, const struct gy_sim_message *message)
{
    struct gy_sim_coordinator *self = self_of(sim, message->to);
    const struct gy_shard_config *known = self->known[message->shard];
    struct gy_shard_config next;
    gyre_error err;
    uint32_t ids[GY_MEMBERS_MAX], count = message->change.count;
    memcpy(ids, message->change.ids, sizeof ids);
    if (known)
        count = leave_out_childless(self, message->shard, ids, count);
    if (known && gy_plan_change_in_sync(known, message->change.epoch, message->sender, ids, count, &next, &err) == GYRE_OK) {
        commit(sim, message->to, message->shard, &next, message);
        return;
    }
    struct gy_sim_message *reply = gy_sim_message_reply(GY_SIM_CHANGE_REPLY, message);
    reply->config = known && known->epoch >= message->change.epoch ? known : NULL;
    gy_sim_send(sim, reply, 0);
}

void gy_sim_coordinator_receive(struct gy_sim *sim, struct gy_sim_message *message)
{
    struct gy_sim_coordinator *self = self_of(sim, message->to);
    if (!self->up)
        return;
    if (message->kind == GY_SIM_REPORT) {
        on_report(sim, message);
    } else if (message->kind == GY_SIM_CHANGE) {
        on_change(sim, message);
    } else if (message->kind == GY_SIM_ROUTE) {
        struct gy_sim_message *reply = gy_sim_message_reply(GY_SIM_ROUTE_REPLY, message);
        for (uint32_t s = 0; s < sim->shard_count; s++)
            if (self->known[s] && !hidden(sim, self, s))
                reply->view[s] = self->known[s];
        reply->config = self->known[0];
        if (reply->config)
            gy_sim_check_view(sim, reply->view);
        gy_sim_send(sim, reply, 0);
    }
}

/* ---- life ---- */

void gy_sim_coordinator_start(struct gy_sim *sim, uint8_t endpoint)
{
    struct gy_sim_coordinator *self = self_of(sim, endpoint);
    if (self->up)
        return;
    *self = (struct gy_sim_coordinator){.up = true, .clock_jump_ns = self->clock_jump_ns};
    self->started_ns = clock_ns(sim, self);
    sim->life[endpoint]++;
    GY_SIM_TRACE(sim, "%s starts", gy_sim_endpoint_name(endpoint));
    read_catalog(sim, endpoint);
    gy_sim_after(sim, gy_sim_between(&sim->random, 0, gy_sim_ms(LOOK_MS)), endpoint, look, 0, 0, NULL);
}

void gy_sim_coordinator_crash(struct gy_sim *sim, uint8_t endpoint)
{
    GY_SIM_TRACE(sim, "%s is gone", gy_sim_endpoint_name(endpoint));
    self_of(sim, endpoint)->up = false;
    sim->life[endpoint]++;
    sim->frozen_until_ns[endpoint] = 0;
}

void gy_sim_coordinator_create(struct gy_sim *sim)
{
    struct gy_plan_node nodes[GY_SIM_KNOWN_NODES];
    for (uint32_t n = 0; n < sim->node_count; n++)
        nodes[n] = (struct gy_plan_node){.name = names[n], .zone = "", .up = true, .down_since_ns = GY_NEVER};
    struct gy_plan_world world = {.nodes = nodes, .node_count = sim->node_count};
    struct gy_shard_config configs[GY_SIM_SHARDS_MAX];
    gyre_error err;
    if (gy_plan_begin(&sim->wishes.shards[0], &world, sim->shard_count, configs, &err) != GYRE_OK)
        gy_sim_fail(sim, "begin", "%s", err.text);
    for (uint32_t s = 0; s < sim->shard_count; s++) {
        configs[s].range = (struct gy_hash_range){0, UINT64_MAX}; /* each is a collection of its own */
        gy_sim_catalog_change(sim, s, &configs[s]);
        const struct gy_shard_config *config = gy_sim_catalog_now(sim, s);
        for (uint32_t i = 0; i < config->member_count; i++)
            sim->nodes[gy_sim_node_named(config->members[i].node)].disks[s] =
                (struct gy_sim_disk){.exists = true, .member = config->members[i].id, .config = config, .config_durable = config};
    }
}
