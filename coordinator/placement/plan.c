/* The rules of plan.h in their order, each a function that says whether it decided. */
#include "placement/plan_nodes.h"

#include <assert.h>

/* What the rules look at. */
struct shard {
    const struct gy_shard_config *config;
    const struct gy_plan_wish *wish;
    const struct gy_plan_fact *facts;
    const struct gy_plan_world *world;
};

/* The state of a member's node. */
struct host {
    bool up, down, draining; /* neither up nor down: not heard of */
    int64_t down_since_ns;
};

static struct host host_of(const struct shard *self, uint32_t i)
{
    const struct gy_plan_node *node = gy_plan_node_named(self->world, self->config->members[i].node);
    if (!node)
        return (struct host){0};
    return (struct host){.up = node->up,
                         .down = !node->up && node->down_since_ns != GY_NEVER,
                         .draining = node->draining,
                         .down_since_ns = node->down_since_ns};
}

/* Its node is up and serves it. */
static bool well(const struct shard *self, uint32_t i)
{
    const struct gy_plan_fact *fact = &self->facts[i];
    return host_of(self, i).up && fact->presence == GY_PRESENCE_HELD && !fact->lost && !fact->troubled_since_ns;
}

/* Its node is up and says that what it held is gone. */
static bool gone(const struct shard *self, uint32_t i)
{
    return host_of(self, i).up && (self->facts[i].presence == GY_PRESENCE_ABSENT ||
                                   (self->facts[i].presence == GY_PRESENCE_HELD && self->facts[i].lost));
}

/* Its node is up and has it, and cannot open it. */
static bool troubled(const struct shard *self, uint32_t i)
{
    const struct gy_plan_fact *fact = &self->facts[i];
    return host_of(self, i).up && fact->presence == GY_PRESENCE_HELD && !fact->lost && fact->troubled_since_ns;
}

/* Since when a member that may come back is missed; GY_NEVER: it is not. */
static int64_t missed_since_ns(const struct shard *self, uint32_t i)
{
    struct host host = host_of(self, i);
    return host.down ? host.down_since_ns : troubled(self, i) ? self->facts[i].troubled_since_ns : GY_NEVER;
}

static bool caught_up(const struct shard *self, uint32_t i)
{
    const struct gy_member *member = &self->config->members[i];
    return well(self, i) && (member->kind == GY_MEMBER_FULL ? member->in_sync : !self->facts[i].restoring);
}

static uint32_t primary_of(const struct shard *self)
{
    uint32_t i = 0;
    while (self->config->members[i].id != self->config->primary)
        i++;
    return i;
}

static uint32_t wished(const struct shard *self, gy_member_kind kind)
{
    return kind == GY_MEMBER_FULL ? self->wish->copies : self->wish->quantized;
}

/* Members of a kind that are not leaving, but for the one at `except`. */
static uint32_t staying(const struct shard *self, gy_member_kind kind, uint32_t except)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->config->member_count; i++)
        count += i != except && self->config->members[i].kind == kind && !self->config->members[i].leaving;
    return count;
}

static struct gy_shard_config *begin_change(const struct shard *self, struct gy_plan *out, const char *reason)
{
    out->change = true;
    out->reason = reason;
    out->next = *self->config;
    out->next.epoch++;
    return &out->next;
}

static void set_primary(struct gy_shard_config *config, uint32_t id)
{
    config->primary = id;
    config->primary_since = config->epoch;
}

/* Remembers what stands in the way, unless something before it does. */
static void obstacle(struct gy_plan *out, const char *reason)
{
    if (!out->reason)
        out->reason = reason;
}

/* Whether it is due_ns; if not, the plan is looked at again then. */
static bool is_due(const struct shard *self, int64_t due_ns, struct gy_plan *out)
{
    if (self->world->now_ns >= due_ns)
        return true;
    out->due_ns = due_ns < out->due_ns ? due_ns : out->due_ns;
    return false;
}

/* Whether members stay as they are, for each makes its part of a split. They would for ever if too few were left to acknowledge
 * the narrowing: members come and go then, and if they come too late for the child, that gets others once it is there. */
static bool frozen(const struct shard *self)
{
    return self->config->split.shard && gy_config_in_sync_count(self->config) >= self->config->min_copies;
}

/* ---- promote ---- */

/* The member that orders writes from now on; GY_MEMBERS_MAX if there is none. */
static uint32_t successor(const struct shard *self, bool staying_only)
{
    const struct gy_shard_config *config = self->config;
    uint32_t best = GY_MEMBERS_MAX;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        if (member->id == config->primary || !member->in_sync || !well(self, i) || (staying_only && member->leaving))
            continue;
        if (best == GY_MEMBERS_MAX || (config->members[best].leaving && !member->leaving) ||
            (config->members[best].leaving == member->leaving && self->facts[i].log_seq > self->facts[best].log_seq))
            best = i; /* by ascending id: of equals the first stays */
    }
    return best;
}

static bool promote(const struct shard *self, struct gy_plan *out)
{
    const struct gy_shard_config *config = self->config;
    uint32_t primary = primary_of(self);
    bool away = host_of(self, primary).down || gone(self, primary);
    if (!away && (!troubled(self, primary) || !is_due(self, missed_since_ns(self, primary) + GY_TROUBLED_NS_MAX, out)))
        return false;
    uint32_t chosen = successor(self, false);
    if (chosen == GY_MEMBERS_MAX) {
        obstacle(out, "the primary is away and no other member in sync is there");
        return true;
    }
    struct gy_shard_config *next = begin_change(self, out, "the primary is away: a member in sync takes over");
    set_primary(next, config->members[chosen].id);
    for (uint32_t i = 0; i < config->member_count; i++)
        if (gone(self, i) || missed_since_ns(self, i) != GY_NEVER)
            next->members[i].in_sync = false;
    return true;
}

/* ---- wish ---- */

static bool follow_wish(const struct shard *self, struct gy_plan *out)
{
    uint32_t min_copies = gy_plan_min_copies(self->wish);
    if (self->config->min_copies == min_copies)
        return false;
    begin_change(self, out, "another min_copies is wished")->min_copies = min_copies;
    return true;
}

/* ---- replace ---- */

/* A leaving member that may as well stay, for when no node can take a new one; GY_MEMBERS_MAX if there is none. */
static uint32_t returning(const struct shard *self, gy_member_kind kind)
{
    for (uint32_t i = 0; i < self->config->member_count; i++)
        if (self->config->members[i].kind == kind && self->config->members[i].leaving && well(self, i) &&
            !host_of(self, i).draining)
            return i;
    return GY_MEMBERS_MAX;
}

static bool replace_one(const struct shard *self, uint32_t i, struct gy_plan *out)
{
    const struct gy_member *member = &self->config->members[i];
    if (member->in_sync && !well(self, primary_of(self))) {
        obstacle(out, "a replica in sync is lost, and the primary does not serve yet");
        return false;
    }
    if (member->in_sync) { /* the primary, which stays, has every acknowledged write */
        gy_plan_member(begin_change(self, out, "a replica is lost: it is no longer in sync"), member->id)->in_sync = false;
        return true;
    }
    if (frozen(self)) {
        obstacle(out, "a replica is lost, and the shard is being split first");
        return false;
    }
    if (member->leaving || staying(self, member->kind, i) >= wished(self, member->kind)) {
        gy_plan_member_remove(begin_change(self, out, "a replica that is no longer needed is lost"), member->id);
        return true;
    }
    /* What is in trouble stays where it is until another place is found: it may be good after all. */
    size_t node = gy_plan_heir_of(self->config, self->world, i);
    if (node == GY_NO_NODE)
        node = gy_plan_best_node(self->config, self->world, troubled(self, i) ? 0 : member->id);
    uint32_t returns = returning(self, member->kind);
    if (node == GY_NO_NODE && returns != GY_MEMBERS_MAX) {
        struct gy_shard_config *next = begin_change(self, out, "a replica is lost: one that was leaving stays in its place");
        next->members[returns].leaving = false;
        gy_plan_member_remove(next, member->id);
        return true;
    }
    if (node == GY_NO_NODE) {
        obstacle(out, "a replica is lost and no node can take another");
        return false;
    }
    struct gy_shard_config *next = begin_change(self, out, "a replica is lost: a new member takes its place");
    gy_plan_member_remove(next, member->id);
    gy_plan_member_add(next, self->world->nodes[node].name, member->kind);
    return true;
}

static bool replace(const struct shard *self, struct gy_plan *out)
{
    for (uint32_t i = 0; i < self->config->member_count; i++) {
        int64_t since_ns = missed_since_ns(self, i);
        if (self->config->members[i].id == self->config->primary || (!gone(self, i) && since_ns == GY_NEVER))
            continue;
        if ((gone(self, i) || is_due(self, since_ns + self->world->replace_after_ns, out)) && replace_one(self, i, out))
            return true;
    }
    return false;
}

/* ---- add ---- */

/* Where a member of a kind is added: at the heir of a node that one leaves, or else at the best place. */
static size_t place_for(const struct shard *self, gy_member_kind kind)
{
    for (uint32_t i = 0; i < self->config->member_count; i++) {
        const struct gy_member *member = &self->config->members[i];
        size_t heir = member->kind == kind && member->leaving ? gy_plan_heir_of(self->config, self->world, i) : GY_NO_NODE;
        if (heir != GY_NO_NODE)
            return heir;
    }
    return gy_plan_best_node(self->config, self->world, 0);
}

static bool add(const struct shard *self, struct gy_plan *out)
{
    for (gy_member_kind kind = GY_MEMBER_FULL; kind <= GY_MEMBER_QUANTIZED; kind++) {
        if (staying(self, kind, GY_MEMBERS_MAX) >= wished(self, kind))
            continue;
        size_t node = place_for(self, kind);
        bool full = node == GY_NO_NODE || self->config->member_count == GY_MEMBERS_MAX;
        uint32_t returns = full ? returning(self, kind) : GY_MEMBERS_MAX;
        if (returns != GY_MEMBERS_MAX) {
            begin_change(self, out, "fewer members than wished: one that was leaving stays")->members[returns].leaving = false;
            return true;
        }
        if (full) {
            obstacle(out, node == GY_NO_NODE ? "members are missing and no node can take one"
                                             : "members are missing and others must go first");
            continue;
        }
        struct gy_shard_config *next = begin_change(self, out, "fewer members than wished: one is added");
        gy_plan_member_add(next, self->world->nodes[node].name, kind);
        return true;
    }
    return false;
}

/* ---- leave ---- */

/* Whether those that stay suffice without the leaving ones. */
static bool enough_without_leaving(const struct shard *self, gy_member_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->config->member_count; i++)
        count += self->config->members[i].kind == kind && !self->config->members[i].leaving && caught_up(self, i);
    return count >= wished(self, kind);
}

static bool leave(const struct shard *self, struct gy_plan *out)
{
    for (uint32_t i = 0; i < self->config->member_count; i++) {
        const struct gy_member *member = &self->config->members[i];
        if (!member->leaving || !enough_without_leaving(self, member->kind))
            continue;
        if (member->id != self->config->primary) {
            gy_plan_member_remove(begin_change(self, out, "a leaving member is no longer needed"), member->id);
            return true;
        }
        uint32_t chosen = successor(self, true);
        assert(chosen != GY_MEMBERS_MAX); /* at least one copy is wished, and it is in sync, up and stays */
        set_primary(begin_change(self, out, "the primary leaves: it hands over"), self->config->members[chosen].id);
        return true;
    }
    return false;
}

/* ---- drain, surplus ---- */

static bool drain(const struct shard *self, struct gy_plan *out)
{
    for (uint32_t i = 0; i < self->config->member_count; i++) {
        const struct gy_member *member = &self->config->members[i];
        if (member->leaving || !host_of(self, i).draining)
            continue;
        if (staying(self, member->kind, i) < wished(self, member->kind) &&
            (gy_plan_best_node(self->config, self->world, 0) == GY_NO_NODE || self->config->member_count == GY_MEMBERS_MAX)) {
            obstacle(out, "a node drains and no other can take its member");
            continue;
        }
        if (self->world->moves_left == 0) {
            obstacle(out, "a node drains, and other moves must end first");
            return false;
        }
        gy_plan_member(begin_change(self, out, "its node drains: a member shall leave"), member->id)->leaving = true;
        return out->move = true;
    }
    return false;
}

/* How little a member would be missed: those not caught up first, then on draining nodes, then not the primary. */
static uint32_t dispensable(const struct shard *self, uint32_t i)
{
    return (caught_up(self, i) ? 0u : 4u) + (host_of(self, i).draining ? 2u : 0u) +
           (self->config->members[i].id == self->config->primary ? 0u : 1u);
}

/* Whether the member at a rather than that at b shall leave: it is missed less, or its node has more to hold. */
static bool leaves_before(const struct shard *self, uint32_t a, uint32_t b)
{
    if (dispensable(self, a) != dispensable(self, b))
        return dispensable(self, a) > dispensable(self, b);
    const struct gy_plan_node *of_a = gy_plan_node_named(self->world, self->config->members[a].node),
                              *of_b = gy_plan_node_named(self->world, self->config->members[b].node);
    return of_a && of_b && gy_plan_node_before(of_b, of_a);
}

static bool surplus(const struct shard *self, struct gy_plan *out)
{
    for (gy_member_kind kind = GY_MEMBER_FULL; kind <= GY_MEMBER_QUANTIZED; kind++) {
        if (staying(self, kind, GY_MEMBERS_MAX) <= wished(self, kind))
            continue;
        uint32_t chosen = GY_MEMBERS_MAX;
        for (uint32_t i = 0; i < self->config->member_count; i++)
            if (self->config->members[i].kind == kind && !self->config->members[i].leaving &&
                (chosen == GY_MEMBERS_MAX || leaves_before(self, i, chosen)))
                chosen = i;
        begin_change(self, out, "more members than wished: one shall leave")->members[chosen].leaving = true;
        return true;
    }
    return false;
}

void gy_plan_shard(const struct gy_shard_config *config, const struct gy_plan_wish *wish, const struct gy_plan_fact *facts,
                   const struct gy_plan_world *world, struct gy_plan *out)
{
    static bool (*const rules[])(const struct shard *, struct gy_plan *) = {promote, follow_wish, replace, add,
                                                                            leave,   drain,       surplus};
    enum { FROZEN = 3 }; /* of them, up to replace */
    struct shard self = {config, wish, facts, world};
    *out = (struct gy_plan){.due_ns = GY_NEVER};
    size_t count = frozen(&self) ? FROZEN : sizeof rules / sizeof *rules;
    for (size_t i = 0; i < count; i++)
        if (rules[i](&self, out))
            return;
}
