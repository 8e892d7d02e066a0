/* A shard becomes two, from outside: nodes that a test plays narrow themselves, make parts of the child, die and lose them. */
#include "world.h"

#include "gyre/shard_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { SEQ = 50, POINTS = 300 };
#define HALF (UINT64_C(1) << 63)

/* ---- "words" of one shard ---- */

static void make_words(struct world *world, uint32_t copies, uint32_t quantized)
{
    world_create_shard(world, copies, quantized);
    for (size_t i = 0; i < world->node_count; i++) {
        fake_node_fill(&world->nodes[i], POINTS);
        world->nodes[i].replicas[0].restoring = false;
        world_report(&world->nodes[i]);
    }
}

static gyre_status split(struct world *world, uint32_t shard, uint64_t *epoch, gyre_error *err)
{
    uint32_t child = 0;
    gyre_status status = gy_placement_split(world->placement, "words", shard, epoch, &child, err);
    assert_true(status != GYRE_OK || child > 0);
    return status;
}

static void begin(struct world *world)
{
    uint64_t epoch;
    gyre_error err = {0};
    MUST(split(world, 0, &epoch, &err));
}

static size_t shown_now(struct world *world)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    size_t shards = found->n_shards;
    assert_int_equal(found->spec->shards, shards);
    gy_wire_free(found);
    return shards;
}

/* Every node has reported. */
static size_t shown(struct world *world)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    assert_int_equal(found->points, POINTS); /* at every moment */
    gy_wire_free(found);
    return shown_now(world);
}

static size_t primary_index(struct world *world, uint32_t shard)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    size_t index = (size_t)(found->shards[shard]->primary[1] - '1');
    gy_wire_free(found);
    return index;
}

/* Nodes that do nothing of their part, or make none. */
static bool idle[NODES_MAX], partless[NODES_MAX];

static void narrow(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (!idle[i])
            fake_node_narrow(&world->nodes[i], 0, SEQ, !partless[i]);
}

/* Every replica that is being built is complete, and whoever is primary and up asks for all full members that are up. */
static void join(struct world *world, const bool *silent)
{
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        for (size_t r = 0; r < world->nodes[i].count; r++)
            if (world->nodes[i].replicas[r].restoring) { /* as another is */
                world->nodes[i].replicas[r].restoring = false;
                world->nodes[i].replicas[r].points = world->nodes[i].replicas[r].shard ? POINTS - POINTS / 2 : POINTS / 2;
            }
        pthread_mutex_unlock(&world->nodes[i].mu);
    }
    for (size_t i = 0; i < world->node_count; i++)
        for (uint32_t shard = 0; shard < 2; shard++) {
            struct fake_replica own = fake_node_look(&world->nodes[i], shard);
            if (!own.member || own.waiting || own.config.primary != own.member || (silent && silent[i]))
                continue;
            uint32_t in_sync[GY_MEMBERS_MAX];
            size_t count = 0, differs = 0;
            for (uint32_t m = 0; m < own.config.member_count; m++) {
                const struct gy_member *member = &own.config.members[m];
                size_t on = (size_t)(member->node[1] - '1');
                bool there = (!silent || !silent[on]) && fake_node_look(&world->nodes[on], shard).member == member->id;
                if (member->kind == GY_MEMBER_FULL && there)
                    in_sync[count++] = member->id;
                differs += member->kind == GY_MEMBER_FULL && there != member->in_sync;
            }
            struct gy_shard_config now;
            if (differs)
                GY_IGNORE(fake_node_ask(&world->nodes[i], shard, in_sync, count, &now, NULL)); /* an older epoch's is refused */
        }
}

/* Every member is told both configurations that hold, and each shard has its half. */
static void check_halves(struct world *world, uint32_t members)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    assert_int_equal(found->n_shards, 2);
    assert_string_equal(found->shards[0]->hash_first, "0000000000000000");
    assert_string_equal(found->shards[0]->hash_last, "7fffffffffffffff");
    assert_string_equal(found->shards[1]->hash_first, "8000000000000000");
    assert_string_equal(found->shards[1]->hash_last, "ffffffffffffffff");
    for (size_t s = 0; s < 2; s++) {
        assert_int_equal(found->shards[s]->splitting_into, 0);
        assert_int_equal(found->shards[s]->n_members, members);
        assert_string_equal(found->shards[s]->obstacle, "");
    }
    assert_int_equal(found->shards[0]->points, POINTS / 2);
    assert_int_equal(found->shards[0]->foreign_points, POINTS - POINTS / 2);
    gy_wire_free(found);
}

static bool is_split(struct world *world)
{
    narrow(world);
    return shown(world) == 2;
}

static bool all_told(struct world *world)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    bool told = true;
    for (uint32_t s = 0; s < found->n_shards; s++)
        for (size_t m = 0; m < found->shards[s]->n_members; m++) {
            size_t on = (size_t)(found->shards[s]->members[m]->node[1] - '1');
            struct fake_replica replica = fake_node_look(&world->nodes[on], s);
            told &= replica.member == found->shards[s]->members[m]->id && !replica.waiting &&
                    replica.epoch == found->shards[s]->epoch;
        }
    gy_wire_free(found);
    return told;
}

/* Whether some node was told to take its part. */
static bool child_is_told(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++) {
        struct fake_replica part = fake_node_look(&world->nodes[i], 1);
        if (part.member && !part.waiting)
            return true;
    }
    return false;
}

/* ---- the tests ---- */

static void a_shard_becomes_two(void **state)
{
    struct world *world = *state;
    make_words(world, 2, 1);
    uint64_t epoch;
    gyre_error err = {0};
    MUST(split(world, 0, &epoch, &err));
    assert_int_equal(epoch, 2);
    Gyre__V1__Collection *found = NULL;
    MUST(world_get(world, "words", &found, &err));
    assert_int_equal(found->n_shards, 1);
    assert_int_equal(found->shards[0]->splitting_into, 1);
    assert_string_equal(found->shards[0]->hash_last, "ffffffffffffffff");
    gy_wire_free(found);
    size_t primary = primary_index(world, 0);
    fake_node_await(&world->nodes[primary], fake_was_told_epoch, 2, "the intent");
    struct fake_replica whole = fake_node_look(&world->nodes[primary], 0);
    assert_int_equal(whole.config.split.shard, 1);
    assert_true(whole.config.split.first == HALF && whole.config.range.first == 0 && whole.config.range.last == UINT64_MAX);
    static const uint8_t no_key[GY_HASH_KEY_BYTES];
    assert_memory_not_equal(whole.config.hash_key, no_key, sizeof no_key);
    world_await(world, NULL, all_told, "all to hear of it");
    fake_node_narrow(&world->nodes[primary], 0, SEQ, true);
    for (int i = 0; i < 3; i++)
        for (size_t n = 0; n < world->node_count; n++)
            world_report(&world->nodes[n]);
    assert_false(child_is_told(world)); /* another in sync has not made its part */
    assert_int_equal(shown(world), 1);
    world_await(world, NULL, is_split, "two shards");
    world_await(world, NULL, all_told, "all to hear of it");
    check_halves(world, 3);
    for (size_t i = 0; i < world->node_count; i++) {
        struct fake_replica lower = fake_node_look(&world->nodes[i], 0), upper = fake_node_look(&world->nodes[i], 1);
        assert_int_equal(lower.member, upper.member);
        if (!lower.member)
            continue;
        assert_true(lower.config.range.last == HALF - 1 && lower.config.split.shard == 0);
        assert_true(upper.config.range.first == HALF && upper.config.range.last == UINT64_MAX && upper.config.split.shard == 0);
        assert_memory_equal(upper.config.hash_key, whole.config.hash_key, sizeof whole.config.hash_key);
        assert_int_equal(upper.config.primary, lower.config.primary);
        assert_int_equal(gy_config_in_sync_count(&upper.config), 2);
        assert_int_equal(world->nodes[i].asked[GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA], 0);
    }
    MUST(split(world, 1, &epoch, &err)); /* and again */
}

static bool is_refused(const fake_node *node, uint64_t count)
{
    return node->asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] > count;
}

static void a_split_goes_on_when_the_coordinator_restarts_at_any_step(void **state)
{
    struct world *world = *state;
    make_words(world, 2, 0);
    begin(world);
    world_restart(world);
    for (size_t i = 0; i < world->node_count; i++)
        world_report(&world->nodes[i]);
    size_t primary = primary_index(world, 0);
    world_await(world, NULL, all_told, "the intent");
    narrow(world);
    world_restart(world); /* nobody has heard of their parts */
    unsigned asked[NODES_MAX];
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        world->nodes[i].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE;
        asked[i] = world->nodes[i].asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA];
        pthread_mutex_unlock(&world->nodes[i].mu);
        world_report(&world->nodes[i]);
    }
    for (size_t i = 0; i < world->node_count; i++)
        world_report(&world->nodes[i]);
    fake_node_await(&world->nodes[primary], is_refused, asked[primary], "it to be told of the child");
    world_restart(world); /* the child is in the record, and nobody was told */
    assert_int_equal(shown_now(world), 1);
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        world->nodes[i].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_OK;
        pthread_mutex_unlock(&world->nodes[i].mu);
        world_report(&world->nodes[i]);
    }
    world_await(world, NULL, is_split, "two shards");
    world_restart(world);
    for (size_t i = 0; i < world->node_count; i++)
        world_report(&world->nodes[i]);
    world_await(world, NULL, all_told, "all to hear of it");
    check_halves(world, 2);
}

static bool silent[NODES_MAX];

static bool is_split_by_the_others(struct world *world)
{
    join(world, silent);
    narrow(world);
    return shown(world) == 2;
}

static void a_primary_that_dies_with_its_part_is_gone_without(void **state)
{
    struct world *world = *state;
    make_words(world, 3, 0);
    begin(world);
    size_t dead = primary_index(world, 0);
    world_await(world, NULL, all_told, "the intent");
    fake_node_narrow(&world->nodes[dead], 0, SEQ, true);
    silent[dead] = idle[dead] = true; /* it did not report it */
    world_await(world, silent, is_split_by_the_others, "two shards");
    assert_int_not_equal(primary_index(world, 0), dead);
    assert_int_not_equal(primary_index(world, 1), dead);
}

static void a_primary_of_the_child_that_dies_is_followed(void **state)
{
    struct world *world = *state;
    make_words(world, 3, 0);
    begin(world);
    size_t dead = primary_index(world, 0);
    world_await(world, NULL, all_told, "the intent");
    pthread_mutex_lock(&world->nodes[dead].mu);
    world->nodes[dead].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE; /* it never opens its part */
    pthread_mutex_unlock(&world->nodes[dead].mu);
    narrow(world);
    world_await(world, NULL, child_is_told, "the child");
    assert_int_equal(shown(world), 1);
    silent[dead] = true;
    world_await(world, silent, is_split_by_the_others, "two shards");
    assert_int_not_equal(primary_index(world, 1), dead);
}

static void a_part_that_is_lost_is_made_anew_as_another_member(void **state)
{
    struct world *world = *state;
    make_words(world, 3, 0);
    begin(world);
    size_t loser = primary_index(world, 0);
    world_await(world, NULL, all_told, "the intent");
    pthread_mutex_lock(&world->nodes[loser].mu);
    world->nodes[loser].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE;
    pthread_mutex_unlock(&world->nodes[loser].mu);
    narrow(world);
    world_await(world, NULL, child_is_told, "the child");
    fake_node_lose(&world->nodes[loser], 1);
    pthread_mutex_lock(&world->nodes[loser].mu);
    world->nodes[loser].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_OK;
    pthread_mutex_unlock(&world->nodes[loser].mu);
    world_await(world, NULL, is_split_by_the_others, "two shards");
    assert_int_equal(primary_index(world, 0), loser);
    assert_int_not_equal(primary_index(world, 1), loser);
}

static void a_member_that_came_too_late_to_make_a_part_is_gone_without(void **state)
{
    struct world *world = *state;
    make_words(world, 3, 0);
    begin(world);
    size_t late = primary_index(world, 0);
    world_await(world, NULL, all_told, "the intent");
    partless[late] = true; /* as one that was built anew, joined and was promoted before anybody reported */
    world_await(world, NULL, is_split_by_the_others, "two shards");
    assert_int_equal(primary_index(world, 0), late);
    assert_int_not_equal(primary_index(world, 1), late);
}

/* The primary asks for those; what holds then. */
static struct gy_shard_config ask(struct world *world, size_t primary, const uint32_t *in_sync, size_t count)
{
    struct gy_shard_config now;
    gyre_error err = {0};
    world_await(world, NULL, all_told, "the newest epoch");
    MUST(fake_node_ask(&world->nodes[primary], 0, in_sync, count, &now, &err));
    return now;
}

static void a_member_joins_the_in_sync_set_with_its_part(void **state)
{
    struct world *world = *state;
    make_words(world, 3, 0);
    begin(world);
    size_t primary = primary_index(world, 0), joiner = primary == 0 ? 1 : 0;
    while (!fake_node_look(&world->nodes[joiner], 0).member || joiner == primary)
        joiner++;
    const struct fake_replica own = fake_node_look(&world->nodes[primary], 0);
    uint32_t joins = fake_node_look(&world->nodes[joiner], 0).member, without[2], all[] = {1, 2, 3};
    for (uint32_t id = 1, n = 0; id <= 3; id++)
        if (id != joins)
            without[n++] = id;
    assert_true(own.member != joins);
    assert_int_equal(ask(world, primary, without, 2).epoch, 3);
    struct gy_shard_config granted = ask(world, primary, all, 3); /* enough are in sync, and it may have missed the narrowing: */
    assert_int_equal(granted.epoch, 4); /* a primary that has just started goes on, without it */
    assert_false(gy_config_member(&granted, joins)->in_sync);
    fake_node_narrow(&world->nodes[joiner], 0, SEQ, true);
    world_report(&world->nodes[joiner]);
    granted = ask(world, primary, all, 3);
    assert_int_equal(granted.epoch, 5);
    assert_true(gy_config_member(&granted, joins)->in_sync);
    fake_node_narrow(&world->nodes[primary], 0, SEQ, true);
    world_await(world, NULL, is_split, "two shards");
    check_halves(world, 3);
}

static size_t straggler;

static bool late_part_is_dropped(struct world *world)
{
    return !fake_node_look(&world->nodes[straggler], 1).member;
}

static void a_part_that_comes_too_late_is_dropped(void **state)
{
    struct world *world = *state;
    make_words(world, 2, 1);
    begin(world);
    world_await(world, NULL, all_told, "the intent");
    for (size_t i = 0; i < world->node_count; i++) {
        struct fake_replica own = fake_node_look(&world->nodes[i], 0);
        const struct gy_member *member = gy_config_member(&own.config, own.member);
        if (member && member->kind == GY_MEMBER_QUANTIZED)
            straggler = i;
    }
    idle[straggler] = true;
    pthread_mutex_lock(&world->nodes[straggler].mu);
    world->nodes[straggler].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE; /* it hears of nothing more */
    pthread_mutex_unlock(&world->nodes[straggler].mu);
    int64_t began_ns = gy_now_ns();
    world_await(world, NULL, is_split, "two shards");
    assert_true(gy_now_ns() - began_ns > GY_SECOND_NS); /* it was waited for, and not for ever */
    fake_node_narrow(&world->nodes[straggler], 0, SEQ, true);
    assert_true(fake_node_look(&world->nodes[straggler], 1).waiting);
    world_await(world, NULL, late_part_is_dropped, "it to be dropped");
}

/* Leaves a part of the child on a node. */
static void plant(struct world *world, size_t on, uint32_t member)
{
    struct fake_replica part = fake_node_look(&world->nodes[primary_index(world, 0)], 0);
    part = (struct fake_replica){.collection_id = part.collection_id, .shard = 1, .member = member, .log_seq = SEQ,
                                 .waiting = true, .owned = {HALF, UINT64_MAX}};
    pthread_mutex_lock(&world->nodes[on].mu);
    world->nodes[on].replicas[world->nodes[on].count++] = part;
    pthread_mutex_unlock(&world->nodes[on].mu);
}

static size_t spares[2];

static bool strange_part_is_dropped(struct world *world)
{
    return !fake_node_look(&world->nodes[spares[0]], 1).member;
}

static void a_part_that_is_nobodys_is_dropped(void **state)
{
    struct world *world = *state;
    make_words(world, 2, 0);
    begin(world);
    world_await(world, NULL, all_told, "the intent");
    for (size_t i = 0, found = 0; i < world->node_count; i++)
        if (!fake_node_look(&world->nodes[i], 0).member)
            spares[found++] = i;
    plant(world, spares[0], 1); /* that member is on another node */
    plant(world, spares[1], 9); /* that number was not given yet, as far as anybody knows */
    world_await(world, NULL, strange_part_is_dropped, "it to be dropped");
    for (int n = 0; n < 3; n++)
        world_report(&world->nodes[spares[1]]);
    assert_int_equal(fake_node_look(&world->nodes[spares[1]], 1).member, 9);
    assert_int_equal(world->nodes[spares[1]].asked[GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA], 0);
    world_await(world, NULL, is_split, "two shards"); /* both meanwhile know better than to wait for them */
    check_halves(world, 2);
}

static void what_stands_in_the_way_of_a_split_is_said(void **state)
{
    struct world *world = *state;
    uint64_t epoch;
    uint32_t child;
    gyre_error err = {0};
    make_words(world, 3, 0);
    assert_int_equal(gy_placement_split(world->placement, "wards", 0, &epoch, &child, &err), GYRE_NOT_FOUND);
    assert_int_equal(split(world, 1, &epoch, &err), GYRE_OUT_OF_RANGE);
    assert_says(&err, "shard 1 of 'words': it has 1");
    size_t primary = primary_index(world, 0);
    pthread_mutex_lock(&world->nodes[primary].mu);
    world->nodes[primary].replicas[0].codebook_version = 0;
    pthread_mutex_unlock(&world->nodes[primary].mu);
    world_report(&world->nodes[primary]);
    assert_int_equal(split(world, 0, &epoch, &err), GYRE_PRECONDITION);
    assert_says(&err, "has codes that are being made anew");
    pthread_mutex_lock(&world->nodes[primary].mu);
    world->nodes[primary].replicas[0].codebook_version = 1;
    pthread_mutex_unlock(&world->nodes[primary].mu);
    fake_node_lose(&world->nodes[primary], 0);
    world_report(&world->nodes[primary]);
    assert_int_equal(split(world, 0, &epoch, &err), GYRE_PRECONDITION);
    assert_says(&err, "is not there, as far as its node has said");
}

static bool train_cancelled(void *arg) { return (*(int *)arg)++ > 1; }

static void nothing_else_happens_to_a_shard_that_is_split(void **state)
{
    struct world *world = *state;
    uint64_t epoch;
    gyre_error err = {0};
    make_words(world, 2, 0);
    begin(world);
    assert_int_equal(split(world, 0, &epoch, &err), GYRE_PRECONDITION);
    assert_says(&err, "shard 0 is being split into shard 1; one at a time");
    int turns = 0;
    struct gy_train_options options = {
        .lists = 1, .deadline_ns = GY_NEVER, .cancelled = train_cancelled, .cancelled_arg = &turns};
    Gyre__V1__Collection *trained = NULL;
    assert_int_equal(gy_placement_train(world->placement, "words", &options, &trained, &err), GYRE_CANCELLED);
    assert_says(&err, "while waiting for a split to end");
    size_t from = primary_index(world, 0), to = 0;
    while (fake_node_look(&world->nodes[to], 0).member)
        to++;
    struct gy_placement_move move = {"words", world->nodes[from].name, world->nodes[to].name, 0};
    assert_int_equal(gy_placement_move(world->placement, &move, &epoch, &err), GYRE_PRECONDITION);
    assert_says(&err, "being split into shard 1");
    world_await(world, NULL, all_told, "the intent");
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        world->nodes[i].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE;
        pthread_mutex_unlock(&world->nodes[i].mu);
    }
    unsigned asked = world->nodes[from].asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA];
    narrow(world);
    for (size_t n = 0; n < 2 * world->node_count; n++)
        world_report(&world->nodes[n % world->node_count]);
    fake_node_await(&world->nodes[from], is_refused, asked, "it to be told of the child");
    struct gy_placement_recovery recovery = {"words", 0, 0, true};
    struct gy_placement_recovered recovered;
    assert_int_equal(gy_placement_recover(world->placement, &recovery, &recovered, &err), GYRE_PRECONDITION);
    assert_says(&err, "shard 1 has its upper half already");
}

static bool training_begins(struct world *world)
{
    bool begins = false;
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        begins |= fake_swallowed(&world->nodes[i], 1);
        pthread_mutex_unlock(&world->nodes[i].mu);
    }
    return begins;
}

static void a_collection_that_is_trained_is_not_split(void **state)
{
    struct world *world = *state;
    uint64_t epoch;
    gyre_error err = {0};
    make_words(world, 2, 0);
    for (size_t i = 0; i < world->node_count; i++) {
        world->nodes[i].swallows = GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS;
        fake_node_fill(&world->nodes[i], 1000);
    }
    world_await(world, NULL, training_begins, "a training");
    assert_int_equal(split(world, 0, &epoch, &err), GYRE_PRECONDITION);
    assert_says(&err, "being trained");
}

static int make(void **state)
{
    memset(idle, 0, sizeof idle), memset(partless, 0, sizeof partless), memset(silent, 0, sizeof silent);
    return world_make_mortal(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, world_free)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_shard_becomes_two),
        TEST(a_split_goes_on_when_the_coordinator_restarts_at_any_step),
        TEST(a_primary_that_dies_with_its_part_is_gone_without),
        TEST(a_primary_of_the_child_that_dies_is_followed),
        TEST(a_part_that_is_lost_is_made_anew_as_another_member),
        TEST(a_member_that_came_too_late_to_make_a_part_is_gone_without),
        TEST(a_member_joins_the_in_sync_set_with_its_part),
        TEST(a_part_that_comes_too_late_is_dropped),
        TEST(a_part_that_is_nobodys_is_dropped),
        TEST(what_stands_in_the_way_of_a_split_is_said),
        TEST(nothing_else_happens_to_a_shard_that_is_split),
        TEST(a_collection_that_is_trained_is_not_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
