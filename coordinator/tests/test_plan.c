#include "placement/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define GRACE_NS (300 * GY_SECOND_NS)
#define NOW_NS (1000 * GY_SECOND_NS)

enum { A, B, C, D, E, NODES };

/* Five nodes a…e that are up; a shard of three full copies on a, b, c: members 1, 2, 3, all in sync and held, 1 is primary. */
struct scene {
    struct gy_plan_node nodes[NODES];
    struct gy_plan_world world;
    struct gy_plan_wish wish;
    struct gy_shard_config config;
    struct gy_plan_fact facts[GY_MEMBERS_MAX];
    struct gy_plan plan;
};

static struct scene make_scene(void)
{
    struct scene s = {
        .nodes = {{"a", "", true, 0, false, 1, 0},
                  {"b", "", true, 0, false, 1, 0},
                  {"c", "", true, 0, false, 1, 0},
                  {"d", "", true, 0, false, 7, 0},
                  {"e", "", true, 0, false, 5, 0}},
        .world = {.node_count = NODES, .now_ns = NOW_NS, .replace_after_ns = GRACE_NS, .moves_left = 1},
        .wish = {.copies = 3},
        .config = {.epoch = 9, .primary = 1, .primary_since = 4, .min_copies = 2, .next_member = 4, .member_count = 3,
                   .members = {{1, GY_MEMBER_FULL, true, false, "a"},
                               {2, GY_MEMBER_FULL, true, false, "b"},
                               {3, GY_MEMBER_FULL, true, false, "c"}}},
        .facts = {{GY_PRESENCE_HELD, .log_seq = 50}, {GY_PRESENCE_HELD, .log_seq = 50}, {GY_PRESENCE_HELD, .log_seq = 51}},
    };
    return s;
}

static void plan(struct scene *s)
{
    s->world.nodes = s->nodes;
    gy_plan_shard(&s->config, &s->wish, s->facts, &s->world, &s->plan);
    gyre_error err = {0};
    if (s->plan.change && (gy_config_check(&s->plan.next, &err) != GYRE_OK || s->plan.next.epoch != s->config.epoch + 1))
        fail_msg("%s", err.text);
}

static void plan_nothing(struct scene *s)
{
    plan(s);
    assert_false(s->plan.change);
}

static const struct gy_member *next_member(struct scene *s, uint32_t id)
{
    plan(s);
    assert_true(s->plan.change);
    return gy_config_member(&s->plan.next, id);
}

static void falls_silent(struct scene *s, int node, int64_t ago_ns)
{
    s->nodes[node].up = false;
    s->nodes[node].down_since_ns = NOW_NS - ago_ns;
}

/* Adds member 4 on d. */
static void with_fourth(struct scene *s, gy_member_kind kind, bool in_sync)
{
    s->config.members[s->config.member_count++] = (struct gy_member){s->config.next_member++, kind, in_sync, false, "d"};
    s->facts[3] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD};
}

static void nothing_changes_while_all_is_as_wished(void **state)
{
    (void)state;
    struct scene s = make_scene();
    plan_nothing(&s);
    assert_null(s.plan.reason);
    assert_int_equal(s.plan.due_ns, GY_NEVER);
}

static void the_longest_log_of_the_in_sync_set_takes_over_from_a_dead_primary(void **state)
{
    (void)state;
    struct scene s = make_scene();
    falls_silent(&s, A, 0);
    assert_false(next_member(&s, 1)->in_sync);
    assert_int_equal(s.plan.next.primary, 3);
    assert_int_equal(s.plan.next.primary_since, 10);
    assert_int_equal(s.plan.next.member_count, 3);
    assert_true(gy_config_member(&s.plan.next, 2)->in_sync);
    s.facts[1].log_seq = 51; /* of equals the lower id */
    plan(&s);
    assert_int_equal(s.plan.next.primary, 2);
    s.config.members[1].leaving = true; /* one that stays is better than a longer log */
    s.facts[1].log_seq = 99;
    plan(&s);
    assert_int_equal(s.plan.next.primary, 3);
}

static void a_primary_whose_replica_is_absent_or_lost_is_replaced_at_once(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.facts[0].presence = GY_PRESENCE_ABSENT;
    assert_false(next_member(&s, 1)->in_sync);
    assert_int_equal(s.plan.next.primary, 3);
    s.facts[0] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD, .lost = true};
    assert_false(next_member(&s, 1)->in_sync);
    s.facts[0] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNHEARD};
    plan_nothing(&s);
}

static void nobody_outside_the_in_sync_set_is_promoted(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.config.members[1].in_sync = s.config.members[2].in_sync = false;
    s.facts[1].log_seq = 1000;
    falls_silent(&s, A, 2 * GRACE_NS);
    plan_nothing(&s);
    assert_non_null(strstr(s.plan.reason, "no other member in sync"));
    s.config.members[1].in_sync = true; /* but it is lost, absent, or not heard of */
    s.facts[1].lost = true;
    plan_nothing(&s);
    s.facts[1] = (struct gy_plan_fact){.presence = GY_PRESENCE_ABSENT};
    plan_nothing(&s);
    s.facts[1] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNHEARD};
    plan_nothing(&s);
    s.facts[1] = (struct gy_plan_fact){.presence = GY_PRESENCE_HELD};
    plan(&s);
    assert_int_equal(s.plan.next.primary, 2);
}

static void a_node_that_was_never_heard_of_is_not_down(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.nodes[A].up = false, s.nodes[A].down_since_ns = GY_NEVER;
    plan_nothing(&s);
    s.world.node_count = 0;
    plan_nothing(&s);
}

static void dead_members_leave_the_in_sync_set_with_the_promotion(void **state)
{
    (void)state;
    struct scene s = make_scene();
    falls_silent(&s, A, 0);
    falls_silent(&s, C, 0);
    assert_false(next_member(&s, 3)->in_sync);
    assert_int_equal(s.plan.next.primary, 2);
    assert_int_equal(gy_config_in_sync_count(&s.plan.next), 1);
}

static void a_lost_member_leaves_the_in_sync_set_and_is_then_another(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.facts[1].lost = true;
    assert_false(next_member(&s, 2)->in_sync);
    assert_int_equal(s.plan.next.member_count, 3);
    s.config = s.plan.next;
    assert_null(next_member(&s, 2));
    const struct gy_member *joins = gy_config_member(&s.plan.next, 4);
    assert_string_equal(joins->node, "b"); /* the fewest replicas, and its old member is no longer there */
    assert_false(joins->in_sync);
    assert_int_equal(s.plan.next.next_member, 5);
}

static void a_lost_member_stays_in_sync_until_the_primary_is_heard_of(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.facts[1].lost = true;
    s.facts[0] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNHEARD};
    plan_nothing(&s);
}

static void a_member_that_was_just_added_is_waited_for(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.config.members[2].in_sync = false;
    s.facts[2] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNMADE};
    plan_nothing(&s);
    s.facts[2].presence = GY_PRESENCE_ABSENT;
    assert_null(next_member(&s, 3));
}

static void a_member_on_a_dead_node_is_replaced_after_the_grace_time(void **state)
{
    (void)state;
    struct scene s = make_scene();
    falls_silent(&s, B, GRACE_NS - 1);
    plan_nothing(&s);
    assert_int_equal(s.plan.due_ns, NOW_NS + 1);
    s.world.now_ns++;
    assert_false(next_member(&s, 2)->in_sync);
    s.config = s.plan.next;
    assert_null(next_member(&s, 2));
    assert_string_equal(gy_config_member(&s.plan.next, 4)->node, "e"); /* five replicas; d has seven */
    falls_silent(&s, D, 0);
    falls_silent(&s, E, 0);
    plan_nothing(&s);
    assert_non_null(strstr(s.plan.reason, "no node can take another"));
}

static void a_primary_in_trouble_hands_over_when_another_serves(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.facts[0].troubled_since_ns = NOW_NS - GY_TROUBLED_NS_MAX + 1;
    plan_nothing(&s);
    assert_int_equal(s.plan.due_ns, NOW_NS + 1);
    s.world.now_ns++;
    s.facts[2].troubled_since_ns = NOW_NS; /* it does not serve either, however shortly */
    assert_false(next_member(&s, 1)->in_sync);
    assert_int_equal(s.plan.next.primary, 2);
    assert_false(gy_config_member(&s.plan.next, 3)->in_sync);
    assert_int_equal(s.plan.next.member_count, 3);
    s.facts[1].troubled_since_ns = NOW_NS;
    s.world.now_ns += 2 * GRACE_NS; /* never another than these three: one may be opened yet */
    plan_nothing(&s);
    assert_non_null(strstr(s.plan.reason, "no other member in sync"));
}

static void a_member_in_trouble_is_replaced_after_the_grace_time_elsewhere(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.facts[1].troubled_since_ns = NOW_NS - GRACE_NS + 1;
    plan_nothing(&s);
    assert_int_equal(s.plan.due_ns, NOW_NS + 1);
    s.world.now_ns++;
    assert_false(next_member(&s, 2)->in_sync);
    assert_int_equal(s.plan.next.member_count, 3);
    s.config = s.plan.next;
    s.nodes[B].replicas = 0; /* the best, were it not its own */
    assert_null(next_member(&s, 2));
    assert_string_equal(gy_config_member(&s.plan.next, 4)->node, "e");
    s.nodes[D].draining = s.nodes[E].draining = true;
    plan_nothing(&s);
    s = make_scene(); /* while it stays so does its data: the primary must serve */
    s.facts[1].troubled_since_ns = 1;
    s.facts[0] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNHEARD};
    plan_nothing(&s);
}

static void a_lost_quantized_member_is_replaced_in_one_step(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.wish.quantized = 1;
    with_fourth(&s, GY_MEMBER_QUANTIZED, false);
    plan_nothing(&s);
    s.facts[3].presence = GY_PRESENCE_ABSENT;
    assert_null(next_member(&s, 4));
    assert_int_equal(gy_config_member(&s.plan.next, 5)->kind, GY_MEMBER_QUANTIZED);
    s.wish.quantized = 0; /* nobody needs it */
    plan(&s);
    assert_int_equal(s.plan.next.member_count, 3);
}

static void missing_members_are_added_one_at_a_time(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.wish = (struct gy_plan_wish){.copies = 4, .quantized = 1, .min_copies = 2};
    assert_string_equal(next_member(&s, 4)->node, "e");
    assert_int_equal(gy_config_member(&s.plan.next, 4)->kind, GY_MEMBER_FULL);
    s.config = s.plan.next;
    s.facts[3] = (struct gy_plan_fact){.presence = GY_PRESENCE_UNMADE};
    assert_int_equal(next_member(&s, 5)->kind, GY_MEMBER_QUANTIZED);
    assert_string_equal(gy_config_member(&s.plan.next, 5)->node, "d");
    s.config = s.plan.next;
    s.wish.quantized = 2;
    plan_nothing(&s);
    assert_non_null(s.plan.reason);
}

static void zones_without_a_member_come_first(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.nodes[A].zone = s.nodes[B].zone = s.nodes[E].zone = "east";
    s.nodes[C].zone = s.nodes[D].zone = "west";
    s.wish.copies = 4;
    s.wish.min_copies = 2;
    assert_string_equal(next_member(&s, 4)->node, "d"); /* more replicas than e, but one member in west, two in east */
}

static void a_leaving_member_goes_when_enough_others_are_in_sync(void **state)
{
    (void)state;
    struct scene s = make_scene();
    with_fourth(&s, GY_MEMBER_FULL, false);
    s.config.members[1].leaving = true;
    plan_nothing(&s);
    s.config.members[3].in_sync = true;
    assert_null(next_member(&s, 2));
    falls_silent(&s, D, 0);
    plan_nothing(&s);
}

static void a_leaving_primary_hands_over_first(void **state)
{
    (void)state;
    struct scene s = make_scene();
    with_fourth(&s, GY_MEMBER_FULL, true);
    s.config.members[0].leaving = true;
    assert_true(next_member(&s, 1)->in_sync);
    assert_int_equal(s.plan.next.primary, 3);
    assert_int_equal(s.plan.next.primary_since, 10);
    s.config = s.plan.next;
    assert_null(next_member(&s, 1));
}

static void a_quantized_member_leaves_when_another_is_built(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.wish = (struct gy_plan_wish){.copies = 2, .quantized = 1};
    s.config.min_copies = 1;
    s.config.members[2] = (struct gy_member){3, GY_MEMBER_QUANTIZED, false, true, "c"};
    with_fourth(&s, GY_MEMBER_QUANTIZED, false);
    s.facts[3].restoring = true;
    plan_nothing(&s);
    s.facts[3].restoring = false;
    assert_null(next_member(&s, 3));
}

static void a_leaving_member_stays_when_nobody_can_take_its_place(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.config.members[1].leaving = true;
    falls_silent(&s, D, 0);
    falls_silent(&s, E, 0);
    assert_false(next_member(&s, 2)->leaving);
    s.nodes[B].draining = true;
    plan_nothing(&s);
    s.nodes[B].draining = false;
    with_fourth(&s, GY_MEMBER_FULL, false); /* the one that was to take its place died */
    falls_silent(&s, D, GRACE_NS);
    assert_null(next_member(&s, 4));
    assert_false(gy_config_member(&s.plan.next, 2)->leaving);
}

static void members_leave_a_draining_node_a_few_at_a_time(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.nodes[A].draining = true;
    s.world.moves_left = 0;
    plan_nothing(&s);
    assert_non_null(strstr(s.plan.reason, "other moves"));
    s.world.moves_left = 1;
    assert_true(next_member(&s, 1)->leaving);
    assert_true(s.plan.move);
    s.config = s.plan.next;
    assert_string_equal(next_member(&s, 4)->node, "e");
    assert_false(s.plan.move);
    s = make_scene();
    s.nodes[A].draining = s.nodes[D].draining = s.nodes[E].draining = true; /* nowhere to go */
    plan_nothing(&s);
    assert_non_null(strstr(s.plan.reason, "no other can take"));
}

static void a_member_too_many_leaves_the_one_least_missed(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.wish.copies = 2;
    s.config.min_copies = 1;
    assert_true(next_member(&s, 3)->leaving); /* never the primary if another will do */
    s.nodes[B].replicas++;
    assert_true(next_member(&s, 2)->leaving); /* its node has the most */
    s.nodes[B].replicas--;
    s.config.members[1].in_sync = false;
    assert_true(next_member(&s, 2)->leaving);
    s.config = s.plan.next;
    assert_null(next_member(&s, 2));
}

static void another_min_copies_takes_one_change(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.wish.min_copies = 3;
    plan(&s);
    assert_int_equal(s.plan.next.min_copies, 3);
    s.config = s.plan.next;
    plan_nothing(&s);
    assert_int_equal(gy_plan_min_copies(&(struct gy_plan_wish){.copies = 1}), 1);
    assert_int_equal(gy_plan_min_copies(&(struct gy_plan_wish){.copies = 2}), 1);
    assert_int_equal(gy_plan_min_copies(&(struct gy_plan_wish){.copies = 5}), 4);
}

static void the_in_sync_set_is_changed_by_the_primary_of_the_epoch_only(void **state)
{
    (void)state;
    struct scene s = make_scene();
    with_fourth(&s, GY_MEMBER_QUANTIZED, false);
    struct gy_shard_config next;
    gyre_error err;
    const uint32_t shrunk[] = {3, 1}, stranger[] = {1, 7}, codes[] = {1, 4}, twice[] = {1, 2, 2}, without[] = {2, 3},
                   same[] = {1, 2, 3};
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, shrunk, 2, &next, &err), GYRE_OK);
    assert_int_equal(next.epoch, 10);
    assert_int_equal(next.primary_since, 4);
    assert_true(next.members[0].in_sync && !next.members[1].in_sync && next.members[2].in_sync);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 8, 1, shrunk, 2, &next, &err), GYRE_ABORTED);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 2, shrunk, 2, &next, &err), GYRE_ABORTED);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, stranger, 2, &next, &err), GYRE_INVALID);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, codes, 2, &next, &err), GYRE_INVALID);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, twice, 3, &next, &err), GYRE_INVALID);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, without, 2, &next, &err), GYRE_INVALID);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, same, 3, &next, &err), GYRE_OK);
    assert_int_equal(next.epoch, 10);
    assert_int_equal(gy_plan_change_in_sync(&s.config, 9, 1, NULL, 0, &next, &err), GYRE_INVALID);
}

static void a_move_by_hand_is_checked(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.world.nodes = s.nodes;
    struct gy_shard_config next;
    gyre_error err;
    assert_int_equal(gy_plan_move(&s.config, &s.world, "b", "d", &next, &err), GYRE_OK);
    assert_true(next.members[1].leaving);
    assert_string_equal(next.members[3].node, "d");
    assert_int_equal(gy_config_check(&next, &err), GYRE_OK);
    assert_int_equal(gy_plan_move(&next, &s.world, "b", "e", &next, &err), GYRE_PRECONDITION);
    assert_int_equal(gy_plan_move(&s.config, &s.world, "b", "c", &next, &err), GYRE_PRECONDITION);
    assert_int_equal(gy_plan_move(&s.config, &s.world, "d", "e", &next, &err), GYRE_NOT_FOUND);
    assert_int_equal(gy_plan_move(&s.config, &s.world, "b", "x", &next, &err), GYRE_NOT_FOUND);
    s.nodes[D].draining = true;
    assert_int_equal(gy_plan_move(&s.config, &s.world, "b", "d", &next, &err), GYRE_PRECONDITION);
}

static void a_collection_that_needs_more_nodes_than_there_are_is_refused(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.world.nodes = s.nodes;
    s.nodes[E].draining = true;
    struct gy_shard_config configs[2];
    gyre_error err;
    struct gy_plan_wish wish = {.copies = 3, .quantized = 2};
    assert_int_equal(gy_plan_begin(&wish, &s.world, 2, configs, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "need 5 nodes that are up; there are 4"));
    wish.quantized = 1;
    assert_int_equal(gy_plan_begin(&wish, &s.world, 2, configs, &err), GYRE_OK);
    assert_int_equal(configs[1].member_count, 4);
    assert_int_equal(gy_config_in_sync_count(&configs[1]), 3);
}

static void load_moves_to_a_node_that_has_notably_less(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.world.nodes = s.nodes;
    s.nodes[D].replicas = s.nodes[E].replicas = 1;
    struct gy_plan_shard_view view = {&s.config, s.facts};
    struct gy_shard_config next;
    size_t shard;
    assert_false(gy_plan_balance(&view, 1, &s.world, &shard, &next));
    s.nodes[B].bytes = UINT64_C(1) << 30, s.nodes[B].replicas = 2;
    s.facts[0].bytes = s.facts[1].bytes = s.facts[2].bytes = UINT64_C(400) << 20;
    assert_true(gy_plan_balance(&view, 1, &s.world, &shard, &next));
    assert_true(next.members[1].leaving);
    assert_string_equal(next.members[3].node, "d");
    s.facts[1].bytes = UINT64_C(600) << 20; /* d would then have more than b */
    assert_false(gy_plan_balance(&view, 1, &s.world, &shard, &next));
    s.facts[1].bytes = 0, s.facts[2].restoring = true;
    assert_false(gy_plan_balance(&view, 1, &s.world, &shard, &next));
}

static void primaries_are_spread_over_members_in_sync(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.world.nodes = s.nodes;
    struct gy_shard_config other = s.config, next;
    struct gy_plan_shard_view views[] = {{&s.config, s.facts}, {&other, s.facts}};
    size_t shard;
    assert_false(gy_plan_hand_over(views, 1, &s.world, &shard, &next)); /* one more is as even as it gets */
    assert_true(gy_plan_hand_over(views, 2, &s.world, &shard, &next));
    assert_int_equal(shard, 0);
    assert_int_equal(next.primary, 2);
    assert_int_equal(next.primary_since, 10);
    s.nodes[B].draining = true;
    assert_true(gy_plan_hand_over(views, 2, &s.world, &shard, &next));
    assert_int_equal(next.primary, 3);
    other.members[2].leaving = s.config.members[2].leaving = true; /* neither shard is settled */
    assert_false(gy_plan_hand_over(views, 2, &s.world, &shard, &next));
}

static void members_of_a_node_with_an_heir_go_there(void **state)
{
    (void)state;
    struct scene s = make_scene();
    s.nodes[B].draining = true, s.nodes[B].heir = "d"; /* e has fewer */
    falls_silent(&s, B, 0);
    assert_true(next_member(&s, 2)->leaving); /* at once */
    s.config = s.plan.next;
    assert_string_equal(next_member(&s, 4)->node, "d");
    falls_silent(&s, D, 0);
    assert_string_equal(next_member(&s, 4)->node, "e");
    s = make_scene();
    s.nodes[B].draining = true, s.nodes[B].heir = "c"; /* has one already */
    plan(&s);
    s.config = s.plan.next;
    assert_string_equal(next_member(&s, 4)->node, "e");
    s = make_scene();
    s.nodes[B].heir = "d";
    s.config.members[1].in_sync = false, s.facts[1].lost = true;
    plan(&s);
    assert_string_equal(gy_config_member(&s.plan.next, 4)->node, "d");
}

/* Member 1 on a was the last in sync, and a is down; 2 on b has the longer log of the others, 4 on d holds codes. */
static struct scene make_bereft(void)
{
    struct scene s = make_scene();
    s.config.members[1].in_sync = s.config.members[2].in_sync = false;
    with_fourth(&s, GY_MEMBER_QUANTIZED, false);
    s.facts[1].log_seq = 49, s.facts[2].log_seq = 48, s.facts[3].log_seq = 99;
    falls_silent(&s, A, 0);
    return s;
}

static gyre_status recover(struct scene *s, uint32_t member, bool accepted, struct gy_shard_config *next, gyre_error *err)
{
    s->world.nodes = s->nodes;
    return gy_plan_recover(&s->config, s->facts, &s->world, member, accepted, 1234, next, err);
}

static void an_unclean_recovery_leaves_one_member_and_new_ones(void **state)
{
    (void)state;
    struct scene s = make_bereft();
    struct gy_shard_config next;
    gyre_error err = {0};
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_OK);
    assert_int_equal(gy_config_check(&next, &err), GYRE_OK);
    assert_int_equal(next.epoch, 10);
    assert_int_equal(next.primary, 2);
    assert_int_equal(next.primary_since, 10);
    assert_int_equal(next.unclean_epoch, 10);
    assert_int_equal(next.unclean_unix_ms, 1234);
    assert_int_equal(gy_config_in_sync_count(&next), 1);
    assert_int_equal(next.member_count, 4);
    assert_int_equal(next.next_member, 8);
    static const char *const nodes[] = {"b", "a", "c", "d"};
    for (uint32_t i = 0; i < 4; i++) {
        assert_string_equal(next.members[i].node, nodes[i]);
        assert_int_equal(next.members[i].id, i == 0 ? 2 : 4 + i);
    }
    assert_int_equal(next.members[3].kind, GY_MEMBER_QUANTIZED);
    assert_int_equal(recover(&s, 3, true, &next, &err), GYRE_OK);
    assert_int_equal(next.primary, 3);
}

static void an_unclean_recovery_is_refused_while_there_is_hope(void **state)
{
    (void)state;
    struct scene s = make_bereft();
    struct gy_shard_config next;
    gyre_error err = {0};
    assert_int_equal(recover(&s, 0, false, &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "first try to bring back node a"));
    assert_non_null(strstr(err.text, "member 2 on node b, whose log ends at 49"));
    assert_int_equal(recover(&s, 4, true, &next, &err), GYRE_PRECONDITION); /* codes only */
    assert_int_equal(recover(&s, 1, true, &next, &err), GYRE_PRECONDITION); /* away */
    assert_int_equal(recover(&s, 9, true, &next, &err), GYRE_NOT_FOUND);
    s.facts[1].restoring = true, s.facts[2].troubled_since_ns = 1;
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "no member with vectors answers"));
    s = make_bereft();
    s.config.members[2].in_sync = true;
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "member 3 on node c is in sync and up"));
    s.facts[2].presence = GY_PRESENCE_UNHEARD;
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "not heard of yet"));
    s.facts[2].presence = GY_PRESENCE_ABSENT;
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_OK);
    s.nodes[A].down_since_ns = GY_NEVER;
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_PRECONDITION);
}

/* ---- a shard becomes two ---- */

/* The scene's shard, with member 4 for codes on d, asked to be split into shard 7. */
static struct scene make_split(void)
{
    struct scene s = make_scene();
    gyre_error err = {0};
    with_fourth(&s, GY_MEMBER_QUANTIZED, false);
    s.wish.quantized = 1;
    s.config.range = (struct gy_hash_range){1000, 1999};
    assert_int_equal(gy_plan_split_begin(&s.config, 7, &s.config, &err), GYRE_OK);
    return s;
}

static void a_split_begins_in_the_middle(void **state)
{
    (void)state;
    struct scene s = make_split();
    struct gy_shard_config next;
    gyre_error err = {0};
    assert_int_equal(gy_config_check(&s.config, &err), GYRE_OK);
    assert_int_equal(s.config.epoch, 10);
    assert_int_equal(s.config.split.shard, 7);
    assert_int_equal(s.config.split.first, 1500);
    assert_int_equal(s.config.range.first, 1000);
    assert_int_equal(s.config.range.last, 1999);
    assert_int_equal(gy_plan_split_begin(&s.config, 8, &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "already, into shard 7"));
    s = make_scene(); /* of every hash */
    assert_int_equal(gy_plan_split_begin(&s.config, 1, &next, &err), GYRE_OK);
    assert_true(next.split.first == UINT64_C(1) << 63 && next.range.last == UINT64_MAX);
    assert_int_equal(gy_plan_split_begin(&s.config, 0, &next, &err), GYRE_INVALID);
    s.config.range = (struct gy_hash_range){0, 2};
    assert_int_equal(gy_plan_split_begin(&s.config, 1, &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "0000000000000000 to 0000000000000002 only"));
    s.config.range.last = 3;
    assert_int_equal(gy_plan_split_begin(&s.config, 1, &next, &err), GYRE_OK);
    assert_int_equal(gy_config_kept_range(&next).last, 1); /* {0, 0} would be every hash */
}

static void the_child_waits_for_every_member_in_sync(void **state)
{
    (void)state;
    struct scene s = make_split();
    struct gy_shard_config child;
    bool made[GY_MEMBERS_MAX] = {true, true, false, true};
    uint64_t seq[GY_MEMBERS_MAX] = {60, 60, 0, 60};
    gyre_error err = {0};
    assert_false(gy_plan_split_child(&s.config, made, seq, &child));
    made[2] = true, seq[2] = 61; /* no child has two beginnings */
    assert_false(gy_plan_split_child(&s.config, made, seq, &child));
    seq[2] = 60;
    assert_true(gy_plan_split_child(&s.config, made, seq, &child));
    assert_int_equal(gy_config_check(&child, &err), GYRE_OK);
    assert_int_equal(child.epoch, 10);
    assert_int_equal(child.primary_since, 10);
    assert_int_equal(child.primary, 1);
    assert_int_equal(child.range.first, 1500);
    assert_int_equal(child.range.last, 1999);
    assert_int_equal(child.split.shard, 0);
    assert_int_equal(child.member_count, 4);
    assert_int_equal(child.next_member, s.config.next_member);
    assert_memory_equal(child.members, s.config.members, sizeof child.members);
    made[3] = false, seq[3] = 0; /* nobody waits for codes alone */
    assert_true(gy_plan_split_child(&s.config, made, seq, &child));
    assert_int_equal(child.member_count, 3);
    s.config.members[1].in_sync = false, s.config.members[0].leaving = true;
    assert_true(gy_plan_split_child(&s.config, made, seq, &child)); /* it has all that was acknowledged before the split */
    assert_true(child.members[1].in_sync && !child.members[0].leaving);
    s.config.split.shard = 0;
    assert_false(gy_plan_split_child(&s.config, made, seq, &child));
}

static void the_child_comes_about_without_a_member_that_came_too_late_for_it(void **state)
{
    (void)state;
    struct scene s = make_split();
    struct gy_shard_config child;
    bool made[GY_MEMBERS_MAX] = {false, true, false};
    uint64_t seq[GY_MEMBERS_MAX] = {65, 60, 65};
    assert_true(gy_plan_split_child(&s.config, made, seq, &child));
    assert_int_equal(child.member_count, 1);
    assert_int_equal(child.primary, 2);
    made[1] = false;
    assert_false(gy_plan_split_child(&s.config, made, seq, &child)); /* somebody must have made it */
    made[3] = true, seq[3] = 60;
    assert_false(gy_plan_split_child(&s.config, made, seq, &child)); /* and not of codes only */
    made[1] = true, s.config.members[1].in_sync = false, made[0] = true, seq[0] = 62;
    assert_true(gy_plan_split_child(&s.config, made, seq, &child)); /* another history's is left out */
    assert_int_equal(child.member_count, 1);
    assert_int_equal(child.primary, 1);
}

static void the_switch_waits_for_the_child_to_serve(void **state)
{
    (void)state;
    struct scene s = make_split();
    struct gy_shard_config child, next;
    const bool made[GY_MEMBERS_MAX] = {true, true, true};
    const uint64_t seq[GY_MEMBERS_MAX] = {60, 60, 60};
    gyre_error err = {0};
    assert_true(gy_plan_split_child(&s.config, made, seq, &child));
    assert_false(gy_plan_split_switch(&s.config, &child, false, &next));
    child.members[1].in_sync = child.members[2].in_sync = false;
    assert_false(gy_plan_split_switch(&s.config, &child, true, &next)); /* it would refuse writes */
    child.members[1].in_sync = true;
    assert_true(gy_plan_split_switch(&s.config, &child, true, &next));
    assert_int_equal(gy_config_check(&next, &err), GYRE_OK);
    assert_int_equal(next.epoch, 11);
    assert_int_equal(next.split.shard, 0);
    assert_int_equal(next.range.first, 1000);
    assert_int_equal(next.range.last, 1499);
    assert_false(gy_plan_split_switch(&next, &child, true, &next));
}

static void a_shard_that_is_split_keeps_its_members(void **state)
{
    (void)state;
    struct scene s = make_split();
    struct gy_shard_config next;
    gyre_error err = {0};
    s.nodes[A].draining = true, s.wish.copies = s.wish.min_copies = 2, s.wish.quantized = 2; /* all of it later */
    plan_nothing(&s);
    s.world.nodes = s.nodes;
    assert_int_equal(gy_plan_move(&s.config, &s.world, "a", "e", &next, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "being split into shard 7"));
    struct gy_plan_shard_view view = {&s.config, s.facts};
    assert_false(gy_plan_settled(&view, &s.world));
    s = make_split();
    s.facts[2].lost = true;
    assert_false(next_member(&s, 3)->in_sync);
    s.config = s.plan.next;
    plan_nothing(&s); /* two are in sync, which is enough to go on */
    assert_string_equal(s.plan.reason, "a replica is lost, and the shard is being split first");
    s.facts[0].presence = GY_PRESENCE_ABSENT;
    plan(&s);
    assert_int_equal(s.plan.next.primary, 2);
    s.config = s.plan.next; /* one is not: it could not even be narrowed */
    plan(&s);
    assert_true(s.plan.change);
    assert_int_equal(s.plan.next.next_member, s.config.next_member + 1);
    assert_int_equal(s.plan.next.split.shard, 7);
}

static void a_member_too_many_makes_room_though_the_shard_is_split_where_too_few_are_in_sync(void **state)
{
    (void)state;
    struct scene s = make_split();
    s.world.node_count = 4;
    s.wish.copies = s.wish.min_copies = s.config.min_copies = 4, s.wish.quantized = 0;
    plan(&s); /* no node can take a fourth full one before that of codes has gone */
    assert_true(s.plan.change && s.plan.next.members[3].leaving);
    s.config = s.plan.next;
    s.wish.copies = s.wish.min_copies = s.config.min_copies = 3;
    plan_nothing(&s); /* enough are in sync again */
}

static void an_unclean_recovery_keeps_the_intent_of_a_split(void **state)
{
    (void)state;
    struct scene s = make_split();
    struct gy_shard_config next;
    gyre_error err = {0};
    s.config.members[1].in_sync = s.config.members[2].in_sync = false;
    falls_silent(&s, A, 0);
    assert_int_equal(recover(&s, 0, true, &next, &err), GYRE_OK);
    assert_int_equal(gy_config_check(&next, &err), GYRE_OK);
    assert_int_equal(next.split.shard, 7);
    assert_int_equal(next.split.first, 1500);
    assert_null(gy_config_member(&next, 1)); /* what it made of the child is nobody's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_while_all_is_as_wished),
        cmocka_unit_test(the_longest_log_of_the_in_sync_set_takes_over_from_a_dead_primary),
        cmocka_unit_test(a_primary_whose_replica_is_absent_or_lost_is_replaced_at_once),
        cmocka_unit_test(nobody_outside_the_in_sync_set_is_promoted),
        cmocka_unit_test(a_node_that_was_never_heard_of_is_not_down),
        cmocka_unit_test(dead_members_leave_the_in_sync_set_with_the_promotion),
        cmocka_unit_test(a_lost_member_leaves_the_in_sync_set_and_is_then_another),
        cmocka_unit_test(a_lost_member_stays_in_sync_until_the_primary_is_heard_of),
        cmocka_unit_test(a_member_that_was_just_added_is_waited_for),
        cmocka_unit_test(a_member_on_a_dead_node_is_replaced_after_the_grace_time),
        cmocka_unit_test(a_primary_in_trouble_hands_over_when_another_serves),
        cmocka_unit_test(a_member_in_trouble_is_replaced_after_the_grace_time_elsewhere),
        cmocka_unit_test(a_lost_quantized_member_is_replaced_in_one_step),
        cmocka_unit_test(missing_members_are_added_one_at_a_time),
        cmocka_unit_test(zones_without_a_member_come_first),
        cmocka_unit_test(a_leaving_member_goes_when_enough_others_are_in_sync),
        cmocka_unit_test(a_leaving_primary_hands_over_first),
        cmocka_unit_test(a_quantized_member_leaves_when_another_is_built),
        cmocka_unit_test(a_leaving_member_stays_when_nobody_can_take_its_place),
        cmocka_unit_test(members_leave_a_draining_node_a_few_at_a_time),
        cmocka_unit_test(a_member_too_many_leaves_the_one_least_missed),
        cmocka_unit_test(another_min_copies_takes_one_change),
        cmocka_unit_test(the_in_sync_set_is_changed_by_the_primary_of_the_epoch_only),
        cmocka_unit_test(a_move_by_hand_is_checked),
        cmocka_unit_test(a_collection_that_needs_more_nodes_than_there_are_is_refused),
        cmocka_unit_test(load_moves_to_a_node_that_has_notably_less),
        cmocka_unit_test(primaries_are_spread_over_members_in_sync),
        cmocka_unit_test(members_of_a_node_with_an_heir_go_there),
        cmocka_unit_test(an_unclean_recovery_leaves_one_member_and_new_ones),
        cmocka_unit_test(an_unclean_recovery_is_refused_while_there_is_hope),
        cmocka_unit_test(a_split_begins_in_the_middle),
        cmocka_unit_test(the_child_waits_for_every_member_in_sync),
        cmocka_unit_test(the_child_comes_about_without_a_member_that_came_too_late_for_it),
        cmocka_unit_test(the_switch_waits_for_the_child_to_serve),
        cmocka_unit_test(a_shard_that_is_split_keeps_its_members),
        cmocka_unit_test(a_member_too_many_makes_room_though_the_shard_is_split_where_too_few_are_in_sync),
        cmocka_unit_test(an_unclean_recovery_keeps_the_intent_of_a_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
