/* Random clusters, random trouble: plans never lose a write, never reuse an id, and reach the wish when trouble ends. A failure
 * prints the seed: GYRE_SEED=0x… runs it again. */
#include "placement/plan.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { ROUNDS = 400, STEPS = 120, NODES_MAX = 24, SHARDS_MAX = 64, IDS_MAX = 4096, CHANGES_MAX = 200 };
enum { WISHED_COPIES_MAX = 4, WISHED_QUANTIZED_MAX = 2, WISHED_MAX = WISHED_COPIES_MAX + WISHED_QUANTIZED_MAX };
#define REPLACE_AFTER_NS (300 * GY_SECOND_NS)

static uint64_t seed;

static uint64_t next_random(uint64_t *state) /* splitmix64, public domain constants */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t limit) { return next_random(state) % limit; }

#define REQUIRE(condition)                                                                   \
    do {                                                                                     \
        if (!(condition))                                                                    \
            fail_msg("%s; run again with GYRE_SEED=0x%llx", #condition, (unsigned long long)seed); \
    } while (0)

/* One shard in a cluster. */
struct trial {
    char names[NODES_MAX][24], zones[NODES_MAX][8];
    struct gy_plan_node nodes[NODES_MAX];
    struct gy_plan_world world;
    struct gy_plan_wish wish;
    struct gy_shard_config config;
    struct gy_plan_fact facts[GY_MEMBERS_MAX]; /* in the order of config's members */
    bool given[IDS_MAX];
    uint64_t random;
    bool narrowed, child_there;             /* of a split */
    enum part { NONE, MADE, NEVER } parts[IDS_MAX]; /* of the child: by member */
};

static void random_wish(struct trial *t)
{
    t->wish.copies = 1 + (uint32_t)below(&t->random, WISHED_COPIES_MAX);
    t->wish.quantized = (uint32_t)below(&t->random, WISHED_QUANTIZED_MAX + 1);
    t->wish.min_copies = (uint32_t)below(&t->random, t->wish.copies + 1);
}

static void random_cluster(struct trial *t, size_t nodes_min)
{
    size_t count = nodes_min + below(&t->random, NODES_MAX - nodes_min + 1), zones = below(&t->random, 4);
    for (size_t i = 0; i < count; i++) {
        snprintf(t->names[i], sizeof t->names[i], "n%zu", i);
        if (zones)
            snprintf(t->zones[i], sizeof t->zones[i], "z%d", (int)below(&t->random, zones));
        t->nodes[i] = (struct gy_plan_node){
            .name = t->names[i], .zone = t->zones[i], .up = true, .replicas = below(&t->random, 9)};
        t->nodes[i].bytes = below(&t->random, 99);
    }
    t->world = (struct gy_plan_world){
        .nodes = t->nodes, .node_count = count, .now_ns = 1, .replace_after_ns = REPLACE_AFTER_NS, .moves_left = 1};
}

static void begin(struct trial *t)
{
    random_wish(t);
    random_cluster(t, WISHED_MAX + 1);
    gyre_error err;
    REQUIRE(gy_plan_begin(&t->wish, &t->world, 1, &t->config, &err) == GYRE_OK);
    REQUIRE(gy_config_check(&t->config, &err) == GYRE_OK);
    for (uint32_t i = 0; i < t->config.member_count; i++) {
        t->given[t->config.members[i].id] = true;
        t->facts[i] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD, .epoch = 1};
    }
}

static struct gy_plan_node *node_of(struct trial *t, uint32_t member)
{
    for (size_t i = 0; i < t->world.node_count; i++)
        if (strcmp(t->nodes[i].name, t->config.members[member].node) == 0)
            return &t->nodes[i];
    return NULL;
}

static bool is_well(struct trial *t, uint32_t member)
{
    const struct gy_plan_fact *fact = &t->facts[member];
    return node_of(t, member)->up && fact->presence == GY_PRESENCE_HELD && !fact->lost && !fact->troubled_since_ns;
}

/* What every change must keep. */
static void check_change(struct trial *t, const struct gy_shard_config *next)
{
    const struct gy_shard_config *now = &t->config;
    gyre_error err;
    REQUIRE(gy_config_check(next, &err) == GYRE_OK);
    REQUIRE(next->epoch == now->epoch + 1 && next->next_member >= now->next_member);
    for (uint32_t i = 0; i < next->member_count; i++) {
        const struct gy_member *member = &next->members[i], *older = gy_config_member(now, member->id);
        for (uint32_t j = 0; j < i; j++)
            REQUIRE(strcmp(member->node, next->members[j].node) != 0);
        if (older) {
            REQUIRE(strcmp(member->node, older->node) == 0 && member->kind == older->kind);
            REQUIRE(!member->in_sync || older->in_sync); /* only a primary can ask for that */
        } else {
            REQUIRE(member->id < IDS_MAX && !t->given[member->id] && !member->in_sync && !member->leaving);
            t->given[member->id] = true;
        }
    }
    if (next->primary == now->primary) {
        REQUIRE(next->primary_since == now->primary_since);
        return;
    }
    REQUIRE(next->primary_since == next->epoch);
    for (uint32_t i = 0; i < now->member_count; i++)
        if (now->members[i].id == next->primary)
            REQUIRE(now->members[i].in_sync && is_well(t, i));
}

static void take_change(struct trial *t, const struct gy_shard_config *next)
{
    struct gy_plan_fact facts[GY_MEMBERS_MAX];
    for (uint32_t i = 0; i < next->member_count; i++) {
        facts[i] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNMADE};
        for (uint32_t j = 0; j < t->config.member_count; j++)
            if (t->config.members[j].id == next->members[i].id)
                facts[i] = t->facts[j];
    }
    memcpy(t->facts, facts, sizeof facts);
    t->config = *next;
}

/* The same world with its nodes in another order gives the same plan. */
static void check_order(struct trial *t, const struct gy_plan *plan)
{
    struct gy_plan_node shuffled[NODES_MAX];
    memcpy(shuffled, t->nodes, sizeof shuffled);
    for (size_t i = t->world.node_count; i-- > 1;) {
        size_t j = below(&t->random, i + 1);
        struct gy_plan_node moved = shuffled[i];
        shuffled[i] = shuffled[j], shuffled[j] = moved;
    }
    struct gy_plan_world world = t->world;
    world.nodes = shuffled;
    struct gy_plan again;
    gy_plan_shard(&t->config, &t->wish, t->facts, &world, &again);
    REQUIRE(again.change == plan->change && again.move == plan->move && again.reason == plan->reason);
    REQUIRE(again.due_ns == plan->due_ns);
    REQUIRE(memcmp(&again.next, &plan->next, sizeof again.next) == 0);
}

static bool plan_once(struct trial *t)
{
    struct gy_plan plan;
    gy_plan_shard(&t->config, &t->wish, t->facts, &t->world, &plan);
    check_order(t, &plan);
    REQUIRE(plan.due_ns > t->world.now_ns);
    REQUIRE(!plan.change || plan.reason);
    if (!plan.change)
        return false;
    check_change(t, &plan.next);
    take_change(t, &plan.next);
    return true;
}

/* While the shard is split: its primary narrows it once all that are in sync can acknowledge that; who then applies it makes a
 * part, and who is only built then may have come too late. */
static void members_split(struct trial *t, bool all)
{
    bool acknowledged = gy_config_in_sync_count(&t->config) >= t->config.min_copies;
    for (uint32_t i = 0; i < t->config.member_count; i++)
        acknowledged &= !t->config.members[i].in_sync || is_well(t, i);
    t->narrowed |= t->config.split.shard && acknowledged && (all || below(&t->random, 2));
    for (uint32_t i = 0; t->narrowed && i < t->config.member_count; i++) {
        enum part *part = &t->parts[t->config.members[i].id];
        if (t->facts[i].presence == GY_PRESENCE_UNMADE || t->facts[i].restoring)
            *part = below(&t->random, 2) ? NEVER : NONE;
        else if (*part == NONE && is_well(t, i) && (all || below(&t->random, 2)))
            *part = MADE;
    }
}

/* See gy_split_lets_join. */
static bool may_join(struct trial *t, uint32_t i)
{
    if (!t->config.split.shard || t->child_there || t->parts[t->config.members[i].id] == MADE)
        return true;
    return !t->narrowed && gy_config_in_sync_count(&t->config) < t->config.min_copies;
}

/* Nodes make what they were given; a primary that is well takes in what has caught up, and lets go of what is away. */
static void members_do_their_part(struct trial *t, bool all)
{
    uint32_t in_sync[GY_MEMBERS_MAX];
    size_t count = 0;
    bool primary_well = false;
    members_split(t, all);
    for (uint32_t i = 0; i < t->config.member_count; i++)
        primary_well |= t->config.members[i].id == t->config.primary && is_well(t, i);
    for (uint32_t i = 0; i < t->config.member_count; i++) {
        const struct gy_member *member = &t->config.members[i];
        struct gy_plan_fact *fact = &t->facts[i];
        if (node_of(t, i)->up && fact->presence == GY_PRESENCE_UNMADE && (all || below(&t->random, 2)))
            *fact = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD, .restoring = true};
        else if (fact->restoring && is_well(t, i) && primary_well)
            fact->restoring = false;
        fact->log_seq += below(&t->random, 5);
        bool joins = is_well(t, i) && !fact->restoring &&
                     (member->in_sync || (may_join(t, i) && (all || below(&t->random, 2))));
        if (member->kind == GY_MEMBER_FULL && (member->id == t->config.primary || joins))
            in_sync[count++] = member->id;
    }
    struct gy_shard_config next;
    gyre_error err;
    if (primary_well &&
        gy_plan_change_in_sync(&t->config, t->config.epoch, t->config.primary, in_sync, count, &next, &err) == GYRE_OK)
        take_change(t, &next);
}

static void trouble(struct trial *t)
{
    struct gy_plan_node *node = &t->nodes[below(&t->random, t->world.node_count)];
    uint32_t member = (uint32_t)below(&t->random, t->config.member_count);
    switch (below(&t->random, 9)) {
    case 0:
        node->up = false, node->down_since_ns = below(&t->random, 4) ? t->world.now_ns : GY_NEVER;
        break;
    case 1:
    case 2: node->up = true; break;
    case 3: node->draining = !node->draining; break;
    case 4:
        if (t->facts[member].presence == GY_PRESENCE_HELD)
            t->facts[member].lost = true;
        break;
    case 5:
        if (t->facts[member].presence == GY_PRESENCE_HELD)
            t->facts[member] = (struct gy_plan_fact){.presence = GY_PRESENCE_ABSENT};
        break;
    case 6:
        if (below(&t->random, 4) == 0)
            random_wish(t);
        break;
    case 7: /* opened again, or not any more */
        if (t->facts[member].presence == GY_PRESENCE_HELD && !t->facts[member].lost)
            t->facts[member].troubled_since_ns = t->facts[member].troubled_since_ns ? 0 : t->world.now_ns;
        break;
    default: t->world.now_ns += (int64_t)below(&t->random, (uint64_t)REPLACE_AFTER_NS); break;
    }
}

static bool has_survivor(struct trial *t)
{
    for (uint32_t i = 0; i < t->config.member_count; i++)
        if (t->config.members[i].in_sync && is_well(t, i))
            return true;
    return false;
}

/* Every wish holds: so many members, in sync and caught up, on nodes that stay, nobody leaving. */
static void check_wish(struct trial *t)
{
    uint32_t full = 0, quantized = 0;
    for (uint32_t i = 0; i < t->config.member_count; i++) {
        const struct gy_member *member = &t->config.members[i];
        full += member->kind == GY_MEMBER_FULL, quantized += member->kind == GY_MEMBER_QUANTIZED;
        REQUIRE(!member->leaving && is_well(t, i) && !node_of(t, i)->draining);
        REQUIRE(member->in_sync == (member->kind == GY_MEMBER_FULL));
    }
    REQUIRE(full == t->wish.copies && quantized == t->wish.quantized);
    REQUIRE(t->config.min_copies == gy_plan_min_copies(&t->wish));
}

static void converge(struct trial *t)
{
    for (size_t i = 0; i < t->world.node_count; i++) {
        t->nodes[i].up = true;
        t->nodes[i].draining = i > WISHED_MAX && t->nodes[i].draining; /* there are nodes enough */
    }
    t->world.now_ns += REPLACE_AFTER_NS;
    if (!has_survivor(t)) { /* nothing but the wish for min_copies and for removals may change: nobody is promoted */
        uint32_t primary = t->config.primary;
        for (int i = 0; i < CHANGES_MAX && plan_once(t); i++) {
        }
        REQUIRE(t->config.primary == primary);
        return;
    }
    int quiet = 0;
    for (int i = 0; quiet < 3; i++) {
        REQUIRE(i < CHANGES_MAX);
        quiet = plan_once(t) ? 0 : quiet + 1;
        members_do_their_part(t, true);
        if (quiet == 3)
            check_wish(t);
    }
}

static void no_write_is_lost_no_id_reused_and_the_wish_is_reached(void **state)
{
    (void)state;
    struct trial *t = malloc(sizeof *t);
    for (int round = 0; round < ROUNDS; round++) {
        memset(t, 0, sizeof *t);
        t->random = seed + (uint64_t)round;
        begin(t);
        for (int step = 0; step < STEPS; step++) {
            switch (below(&t->random, 3)) {
            case 0: trouble(t); break;
            case 1: plan_once(t); break;
            default: members_do_their_part(t, false); break;
            }
        }
        converge(t);
    }
    free(t);
}

/* ---- a shard becomes two ---- */

/* What the catalog's steps do with a trial and its child, which is there once `child` has an epoch. */
static bool split_once(struct trial *t, struct trial *child)
{
    bool made[GY_MEMBERS_MAX];
    uint64_t made_seq[GY_MEMBERS_MAX];
    struct gy_shard_config next;
    gyre_error err;
    for (uint32_t i = 0; i < t->config.member_count; i++) {
        enum part part = t->facts[i].presence == GY_PRESENCE_HELD ? t->parts[t->config.members[i].id] : NONE;
        made[i] = part == MADE, made_seq[i] = part == NONE ? 0 : 77;
    }
    if (!t->child_there && gy_plan_split_child(&t->config, made, made_seq, &next)) {
        REQUIRE(gy_config_check(&next, &err) == GYRE_OK && t->narrowed);
        REQUIRE(next.range.first == t->config.split.first && next.range.last == t->config.range.last && !next.split.shard);
        child->config = next;
        for (uint32_t i = 0; i < next.member_count; i++) {
            REQUIRE(t->parts[next.members[i].id] == MADE);
            child->facts[i] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD};
        }
        memcpy(child->given, t->given, sizeof child->given);
        return t->child_there = true;
    }
    if (!t->child_there)
        return false;
    bool serves = false;
    for (uint32_t i = 0; i < child->config.member_count; i++)
        serves |= child->config.members[i].id == child->config.primary && is_well(child, i);
    if (!gy_plan_split_switch(&t->config, &child->config, serves, &next))
        return false;
    check_change(t, &next);
    struct gy_hash_range before = t->config.range;
    take_change(t, &next);
    REQUIRE(!next.split.shard && next.range.first == before.first && next.range.last + 1 == child->config.range.first);
    REQUIRE(child->config.range.last == before.last);
    return true;
}

static void share_world(const struct trial *t, struct trial *child)
{
    memcpy(child->names, t->names, sizeof t->names);
    memcpy(child->zones, t->zones, sizeof t->zones);
    memcpy(child->nodes, t->nodes, sizeof t->nodes);
    for (size_t i = 0; i < t->world.node_count; i++)
        child->nodes[i].name = child->names[i], child->nodes[i].zone = child->zones[i];
    child->world = t->world, child->world.nodes = child->nodes;
    child->wish = t->wish;
}

/* Whatever happens to its members on the way, as long as one in sync survives: the whole range, and then its halves. */
static void a_split_comes_about(void **state)
{
    enum { QUIET = 9 }; /* members build, narrow, make their parts, join */
    (void)state;
    struct trial *t = malloc(sizeof *t), *child = malloc(sizeof *child);
    int done = 0, through_trouble = 0;
    for (int round = 0; round < ROUNDS; round++) {
        memset(t, 0, sizeof *t), memset(child, 0, sizeof *child);
        t->random = child->random = seed + (uint64_t)round;
        begin(t);
        struct gy_shard_config next;
        gyre_error err;
        REQUIRE(gy_plan_split_begin(&t->config, 1, &next, &err) == GYRE_OK);
        check_change(t, &next);
        take_change(t, &next);
        uint32_t first_primary = t->config.primary;
        for (int step = 0; step < STEPS / 4; step++) {
            struct trial *which = t->child_there && below(&t->random, 2) ? child : t;
            share_world(t, child);
            switch (below(&t->random, 4)) {
            case 0: trouble(which); break;
            case 1: plan_once(which); break;
            case 2: split_once(t, child); break;
            default: members_do_their_part(which, false); break;
            }
            if (which == child) { /* its trouble may have been a node's */
                uint64_t random = t->random;
                for (size_t i = 0; i < t->world.node_count; i++) {
                    t->nodes[i] = child->nodes[i];
                    t->nodes[i].name = t->names[i], t->nodes[i].zone = t->zones[i];
                }
                t->wish = child->wish, t->world.now_ns = child->world.now_ns, t->random = random;
            }
        }
        for (size_t i = 0; i < t->world.node_count; i++)
            t->nodes[i].up = true, t->nodes[i].draining = i > WISHED_MAX && t->nodes[i].draining;
        t->world.now_ns += REPLACE_AFTER_NS;
        share_world(t, child);
        if (!has_survivor(t) || (t->child_there && !has_survivor(child)))
            continue;
        for (int quiet = 0, i = 0; quiet < QUIET; i++) {
            REQUIRE(i < 2 * CHANGES_MAX);
            bool changed = plan_once(t) || split_once(t, child);
            share_world(t, child);
            if (t->child_there)
                changed |= plan_once(child);
            quiet = changed ? 0 : quiet + 1;
            members_do_their_part(t, true);
            if (t->child_there)
                members_do_their_part(child, true);
        }
        REQUIRE(t->child_there && !t->config.split.shard);
        check_wish(t);
        check_wish(child);
        done++;
        through_trouble += t->config.primary != first_primary;
    }
    REQUIRE(done > ROUNDS / 2 && through_trouble > ROUNDS / 20);
    free(t), free(child);
}

/* Shards of a collection split again and again: every hash stays of one. */
static void ranges_stay_a_partition(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        static struct gy_shard_config shards[SHARDS_MAX];
        uint64_t random = seed + (uint64_t)round;
        uint32_t count = 1 + (uint32_t)below(&random, SHARDS_MAX / 2);
        struct gy_shard_config one = {.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1, .next_member = 2,
                                      .member_count = 1, .members = {{1, GY_MEMBER_FULL, true, false, "n"}}};
        for (uint32_t i = 0; i < count; i++) {
            shards[i] = one;
            shards[i].range = gy_range_of_shard(i, count);
        }
        for (uint32_t again = 0; count < SHARDS_MAX && again < 4 * SHARDS_MAX; again++) {
            uint32_t s = below(&random, 2) ? (uint32_t)below(&random, count) : 0; /* one of them down to its last hashes */
            struct gy_shard_config begun, child, switched;
            gyre_error err;
            const bool made = true;
            const uint64_t seq = 1 + again;
            if (gy_plan_split_begin(&shards[s], count, &begun, &err) != GYRE_OK) {
                REQUIRE(shards[s].range.last - shards[s].range.first < 3);
                continue;
            }
            REQUIRE(gy_config_check(&begun, &err) == GYRE_OK);
            REQUIRE(gy_plan_split_child(&begun, &made, &seq, &child));
            REQUIRE(gy_plan_split_switch(&begun, &child, true, &switched));
            REQUIRE(gy_config_check(&child, &err) == GYRE_OK && gy_config_check(&switched, &err) == GYRE_OK);
            REQUIRE(!gy_range_is_all(child.range) && !gy_range_is_all(switched.range));
            shards[s] = switched, shards[count++] = child;
        }
        for (int probe = 0; probe < 100; probe++) {
            uint64_t hash = next_random(&random) >> below(&random, 64);
            uint32_t owners = 0;
            for (uint32_t i = 0; i < count; i++)
                owners += gy_range_has(shards[i].range, hash);
            REQUIRE(owners == 1);
        }
    }
}

/* Every shard on nodes of its own; whoever got a member has at most one more than any other, and primaries are spread, too. */
static void a_new_collection_is_spread_evenly(void **state)
{
    (void)state;
    struct trial *t = malloc(sizeof *t);
    for (int round = 0; round < ROUNDS; round++) {
        memset(t, 0, sizeof *t);
        t->random = seed + (uint64_t)round;
        random_wish(t);
        uint32_t members = t->wish.copies + t->wish.quantized, shards = 1 + (uint32_t)below(&t->random, SHARDS_MAX);
        random_cluster(t, members);
        bool unzoned = t->zones[0][0] == 0, even = below(&t->random, 2) == 0;
        for (size_t i = 0; even && i < t->world.node_count; i++)
            t->nodes[i].replicas = t->nodes[i].bytes = 0;
        struct gy_shard_config configs[SHARDS_MAX];
        gyre_error err;
        REQUIRE(gy_plan_begin(&t->wish, &t->world, shards, configs, &err) == GYRE_OK);
        uint64_t after[NODES_MAX], got[NODES_MAX] = {0}, primaries[NODES_MAX] = {0};
        for (size_t i = 0; i < t->world.node_count; i++)
            after[i] = t->nodes[i].replicas;
        for (uint32_t s = 0; s < shards; s++) {
            REQUIRE(gy_config_check(&configs[s], &err) == GYRE_OK && configs[s].member_count == members);
            REQUIRE(configs[s].epoch == 1 && gy_config_in_sync_count(&configs[s]) == t->wish.copies);
            for (uint32_t m = 0; m < members; m++)
                for (size_t i = 0; i < t->world.node_count; i++)
                    if (strcmp(configs[s].members[m].node, t->nodes[i].name) == 0) {
                        after[i]++, got[i]++;
                        primaries[i] += configs[s].members[m].id == configs[s].primary;
                    }
        }
        for (size_t i = 0; i < t->world.node_count; i++)
            for (size_t j = 0; j < t->world.node_count; j++) {
                /* a node that is in every shard cannot have more */
                REQUIRE(!unzoned || !got[i] || after[i] <= after[j] + 1 || got[j] == shards);
                REQUIRE(!unzoned || !even || primaries[i] <= primaries[j] + 2);
            }
    }
    free(t);
}

/* Balancing ends, each move makes the fullest pair of nodes evener, and no plan contradicts it. */
static void balancing_ends(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct trial t = {.random = seed + (uint64_t)round};
        random_wish(&t);
        uint32_t members = t.wish.copies + t.wish.quantized, shards = 1 + (uint32_t)below(&t.random, SHARDS_MAX / 2);
        random_cluster(&t, members + 1);
        size_t all = t.world.node_count;
        for (size_t i = 0; i < all; i++)
            t.nodes[i].replicas = t.nodes[i].bytes = 0;
        t.world.node_count = members; /* crowded on few nodes; then the others join */
        struct gy_shard_config configs[SHARDS_MAX];
        static struct gy_plan_fact facts[SHARDS_MAX][GY_MEMBERS_MAX];
        struct gy_plan_shard_view views[SHARDS_MAX];
        gyre_error err;
        REQUIRE(gy_plan_begin(&t.wish, &t.world, shards, configs, &err) == GYRE_OK);
        t.world.node_count = all;
        for (uint32_t s = 0; s < shards; s++) {
            uint64_t bytes = below(&t.random, UINT64_C(1) << 28);
            for (uint32_t m = 0; m < members; m++) {
                facts[s][m] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD, .bytes = bytes};
                t.nodes[m].bytes += bytes, t.nodes[m].replicas++; /* it has one of each */
            }
            views[s] = (struct gy_plan_shard_view){&configs[s], facts[s]};
        }
        size_t shard;
        struct gy_shard_config next;
        for (uint32_t moves = 0; gy_plan_balance(views, shards, &t.world, &shard, &next); moves++) {
            REQUIRE(moves < shards * members * 4);
            REQUIRE(gy_config_check(&next, &err) == GYRE_OK && next.epoch == configs[shard].epoch + 1);
            uint32_t leaving = 0;
            while (!next.members[leaving].leaving)
                leaving++;
            const struct gy_member *joins = &next.members[next.member_count - 1];
            uint64_t bytes = facts[shard][0].bytes;
            for (size_t i = 0; i < all; i++) {
                bool from = strcmp(t.nodes[i].name, next.members[leaving].node) == 0;
                bool to = strcmp(t.nodes[i].name, joins->node) == 0;
                t.nodes[i].bytes += to ? bytes : 0, t.nodes[i].replicas += to;
                t.nodes[i].bytes -= from ? bytes : 0, t.nodes[i].replicas -= from;
            }
            /* as it is when the move is over */
            if (next.primary == next.members[leaving].id)
                next.primary = joins->id, next.primary_since = next.epoch;
            next.members[next.member_count - 1].in_sync = joins->kind == GY_MEMBER_FULL;
            memmove(&next.members[leaving], &next.members[leaving + 1],
                    (next.member_count - leaving - 1) * sizeof next.members[0]);
            next.member_count--;
            REQUIRE(gy_config_check(&next, &err) == GYRE_OK);
            configs[shard] = next;
        }
    }
}

/* Handing over ends, each time from a node with at least two primaries more, and then no node could give another one its own. */
static void handing_over_ends(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct trial t = {.random = seed + (uint64_t)round};
        random_wish(&t);
        uint32_t members = t.wish.copies + t.wish.quantized, shards = 1 + (uint32_t)below(&t.random, SHARDS_MAX);
        random_cluster(&t, members);
        struct gy_shard_config configs[SHARDS_MAX];
        static struct gy_plan_fact facts[GY_MEMBERS_MAX];
        struct gy_plan_shard_view views[SHARDS_MAX];
        size_t primaries[NODES_MAX] = {0};
        gyre_error err;
        REQUIRE(gy_plan_begin(&t.wish, &t.world, shards, configs, &err) == GYRE_OK);
        for (uint32_t m = 0; m < GY_MEMBERS_MAX; m++)
            facts[m] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD};
        for (uint32_t s = 0; s < shards; s++) { /* as after failovers: the first of the members in sync by the node's name */
            const struct gy_member *first = NULL;
            for (uint32_t m = 0; m < members; m++)
                if (configs[s].members[m].in_sync && (!first || strcmp(configs[s].members[m].node, first->node) < 0))
                    first = &configs[s].members[m];
            configs[s].primary = first->id;
            views[s] = (struct gy_plan_shard_view){&configs[s], facts};
            for (size_t i = 0; i < t.world.node_count; i++)
                primaries[i] += strcmp(t.nodes[i].name, first->node) == 0;
        }
        size_t shard;
        struct gy_shard_config next;
        for (uint32_t steps = 0; gy_plan_hand_over(views, shards, &t.world, &shard, &next); steps++) {
            REQUIRE(steps < shards * shards);
            REQUIRE(gy_config_check(&next, &err) == GYRE_OK && next.epoch == configs[shard].epoch + 1);
            REQUIRE(next.primary_since == next.epoch && next.primary != configs[shard].primary);
            const char *from = gy_config_member(&configs[shard], configs[shard].primary)->node,
                       *to = gy_config_member(&next, next.primary)->node;
            size_t from_before = 0, to_before = 0;
            for (size_t i = 0; i < t.world.node_count; i++) {
                if (strcmp(t.nodes[i].name, from) == 0)
                    from_before = primaries[i]--;
                if (strcmp(t.nodes[i].name, to) == 0)
                    to_before = primaries[i]++;
            }
            REQUIRE(from_before >= to_before + 2);
            configs[shard] = next;
        }
        for (uint32_t s = 0; s < shards; s++)
            for (uint32_t m = 0; m < members; m++) {
                size_t from = 0, to = 0;
                for (size_t i = 0; i < t.world.node_count; i++) {
                    if (strcmp(t.nodes[i].name, gy_config_member(&configs[s], configs[s].primary)->node) == 0)
                        from = primaries[i];
                    if (strcmp(t.nodes[i].name, configs[s].members[m].node) == 0)
                        to = primaries[i];
                }
                REQUIRE(!configs[s].members[m].in_sync || from < to + 2);
            }
    }
}

int main(void)
{
    const char *given = getenv("GYRE_SEED");
    seed = given ? strtoull(given, NULL, 0) : 0x67797265;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_write_is_lost_no_id_reused_and_the_wish_is_reached),
        cmocka_unit_test(a_split_comes_about),
        cmocka_unit_test(ranges_stay_a_partition),
        cmocka_unit_test(a_new_collection_is_spread_evenly),
        cmocka_unit_test(balancing_ends),
        cmocka_unit_test(handing_over_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
