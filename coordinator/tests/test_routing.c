/* Routes: the hash that decides where points live, and views that outlive what replaced them. */
#include "routing/publish.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { POINTS = 200000, SHARDS = 16 };

static const uint8_t key[GY_PLACEMENT_KEY_BYTES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static const uint8_t seed[GYRE_SEED_BYTES];

struct world {
    gy_bus *bus;
    gy_link *link;
    gy_routing *routing;
    gy_collection_record record;
};

static int make_world(void **state)
{
    static const uint8_t cluster_key[GY_BUS_KEY_BYTES];
    struct world *world = calloc(1, sizeof *world);
    gyre_error err;
    struct gy_bus_options options = {.cluster_key = cluster_key, .node = "test"};
    if (!world || gy_bus_open(&world->bus, &options, &err) != GYRE_OK ||
        gy_link_new(&world->link, world->bus, "127.0.0.1:1", &err) != GYRE_OK ||
        gy_routing_new(&world->routing, key, &err) != GYRE_OK)
        return -1;
    world->record = (gy_collection_record){
        .spec = {.name = "words", .dim = 3, .metric = GYRE_L2, .codec = "rabitq", .bits = 1, .shards = 2, .copies = 1},
        .id = 42, .state = GY_COLLECTION_ACTIVE, .shards = calloc(2, sizeof *world->record.shards),
    };
    world->record.shards[0] = (struct gy_shard_config){.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1,
                                                       .next_member = 2, .member_count = 1,
                                                       .members = {{1, GY_MEMBER_FULL, true, false, "n1"}}};
    world->record.shards[1] = (struct gy_shard_config){.epoch = 7, .primary = 3, .primary_since = 2, .min_copies = 1,
                                                       .next_member = 5, .member_count = 2,
                                                       .members = {{3, GY_MEMBER_FULL, true, false, "n2"},
                                                                   {4, GY_MEMBER_QUANTIZED, false, false, "n1"}}};
    *state = world;
    gyre_codebook *made;
    gy_codebook *codebook;
    if (gyre_codebook_new(&made, GYRE_L2, 3, 1, seed, NULL, &err) != GYRE_OK ||
        gy_codebook_new(&codebook, made, &err) != GYRE_OK ||
        gy_collection_record_set_codebook(&world->record, codebook, &err) != GYRE_OK)
        return -1;
    gy_codebook_release(codebook);
    return 0;
}

static int free_world(void **state)
{
    struct world *world = *state;
    gy_routing_free(world->routing);
    gy_link_release(world->link);
    gy_bus_close(world->bus);
    gy_collection_record_fini(&world->record);
    free(world);
    return 0;
}

static void publish(struct world *world, gy_link *first)
{
    gyre_error err = {0};
    const struct gy_routing_member members[2][GY_MEMBERS_MAX] = {{{first, true, 0}}, {{NULL, false, 0}, {first, true, 8}}};
    if (gy_routing_publish(world->routing, &world->record, members, &err) != GYRE_OK)
        fail_msg("%s", err.text);
}

/* Where a point of a collection of equal ranges lives. */
static uint32_t shard_of(const uint8_t *placement_key, uint32_t shards, const gyre_point_id *id)
{
    uint64_t hash = gy_point_hash(placement_key, id);
    uint32_t shard = (uint32_t)((unsigned __int128)hash * shards >> 64);
    assert_true(gy_range_has(gy_range_of_shard(shard, shards), hash));
    return shard;
}

/* Stored points depend on these: they never change. The first hash is SipHash-2-4's own published vector for the 16 bytes
 * 00 … 0f, 0x3f2acc7f57c29bdb; the others come from a second implementation. */
static void the_shard_of_an_id_never_changes(void **state)
{
    (void)state;
    gyre_point_id counting;
    for (uint8_t i = 0; i < GYRE_ID_BYTES; i++)
        counting.bytes[i] = i;
    assert_int_equal(shard_of(key, 1u << 31, &counting), 0x3f2acc7f57c29bdbu >> 33);
    const struct {
        uint64_t id;
        uint32_t shards, shard;
    } golden[] = {
        {UINT64_C(0), 4, 2}, {UINT64_C(1), 4, 3}, {UINT64_C(42), 4, 1}, {UINT64_C(42), 1024, 392}, {UINT64_C(40000), 7, 0},
        {UINT64_MAX, 1024, 60}, {UINT64_C(123456789), 3, 1},
    };
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        gyre_point_id id = gyre_point_id_from_number(golden[i].id);
        assert_int_equal(shard_of(key, golden[i].shards, &id), golden[i].shard);
    }
}

/* Each shard's count is binomial with mean n/s; six standard deviations are passed once in a billion keys. */
static void ids_in_a_row_are_spread_evenly(void **state)
{
    (void)state;
    size_t counts[SHARDS] = {0};
    for (uint64_t i = 0; i < POINTS; i++) {
        gyre_point_id id = gyre_point_id_from_number(i);
        uint32_t shard = shard_of(key, SHARDS, &id);
        assert_true(shard < SHARDS);
        counts[shard]++;
    }
    const double mean = (double)POINTS / SHARDS, deviation = 108.3; /* sqrt(n/s · (1 - 1/s)) */
    for (size_t i = 0; i < SHARDS; i++)
        assert_true((double)counts[i] > mean - 6 * deviation && (double)counts[i] < mean + 6 * deviation);
}

/* Doubling the shards halves each range: shard s becomes 2s and 2s + 1. */
static void twice_the_shards_split_each_range(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        gyre_point_id id = gyre_point_id_from_number(i * 7919);
        assert_int_equal(shard_of(key, 10, &id), shard_of(key, 20, &id) / 2);
    }
}

static void a_route_says_what_the_record_says(void **state)
{
    struct world *world = *state;
    publish(world, world->link);
    const gy_route *route;
    gyre_error err = {0};
    assert_int_equal(gy_route_hold(world->routing, "words", &route, &err), GYRE_OK);
    assert_int_equal(route->collection_id, 42);
    assert_int_equal(route->shard_count, 2);
    assert_int_equal(route->dim, 3);
    assert_int_equal(route->shards[1].epoch, 7);
    assert_string_equal(route->shards[1].node, "n2");
    assert_int_equal(route->shards[1].primary, 3);
    assert_int_equal(route->shards[1].member_count, 2);
    const struct gy_route_member *members = route->shards[1].members;
    assert_true(members[0].id == 3 && members[0].in_sync && !members[0].up && !members[0].peer);
    assert_true(members[1].id == 4 && members[1].kind == GY_MEMBER_QUANTIZED && members[1].up);
    assert_ptr_equal(members[1].peer, route->shards[0].peer);
    assert_int_equal(gyre_codebook_version(route->codebook), 1);
    gyre_point_id id = gyre_point_id_from_number(5);
    assert_int_equal(gy_route_shard_of(route, &id), shard_of(key, 2, &id));
    gy_route_release(route);
}

static void a_shard_without_a_connection_is_named(void **state)
{
    struct world *world = *state;
    publish(world, world->link);
    const gy_route *route;
    gyre_error err = {0};
    gy_peer *peer = NULL;
    assert_int_equal(gy_route_hold(world->routing, "words", &route, &err), GYRE_OK);
    assert_int_equal(gy_route_peer(route, 0, &peer, &err), GYRE_OK);
    assert_ptr_equal(peer, gy_link_peer(world->link));
    assert_int_equal(gy_route_peer(route, 1, &peer, &err), GYRE_UNAVAILABLE);
    assert_string_equal(err.text, "it has not reported since this coordinator started");
    assert_int_equal(gy_route_peer(route, 2, &peer, &err), GYRE_OUT_OF_RANGE);
    gy_route_release(route);
}

static void a_name_that_is_none_is_told_from_one_that_is_not_there(void **state)
{
    struct world *world = *state;
    const gy_route *route;
    gyre_error err = {0};
    assert_int_equal(gy_route_hold(world->routing, "Words", &route, &err), GYRE_INVALID);
    assert_int_equal(gy_route_hold(world->routing, "words", &route, &err), GYRE_NOT_FOUND);
    assert_string_equal(err.text, "collection 'words' does not exist");
}

static void a_held_route_stays_as_it_was_while_newer_ones_come_and_go(void **state)
{
    struct world *world = *state;
    publish(world, world->link);
    const gy_route *held, *newer;
    gyre_error err = {0};
    assert_int_equal(gy_route_hold(world->routing, "words", &held, &err), GYRE_OK);
    world->record.shards[0].epoch = 2;
    publish(world, NULL);
    assert_int_equal(gy_route_hold(world->routing, "words", &newer, &err), GYRE_OK);
    assert_int_equal(newer->shards[0].epoch, 2);
    assert_null(newer->shards[0].peer);
    gy_link_release(world->link); /* the node came back elsewhere: only the held route still has the old connection */
    world->link = NULL;
    gy_routing_withdraw(world->routing, "words");
    assert_int_equal(gy_route_hold(world->routing, "words", &newer, &err), GYRE_NOT_FOUND);
    assert_int_equal(held->shards[0].epoch, 1);
    assert_false(gy_peer_up(held->shards[0].peer));
    gy_route_release(held);
    gy_route_release(newer);
}

static void a_route_keeps_its_codebook_and_probe_costs_while_the_record_moves_on(void **state)
{
    struct world *world = *state;
    world->record.probe_costs[0] = (struct gy_probe_cost){0.9, 1};
    world->record.probe_cost_count = 1;
    publish(world, NULL);
    const gy_route *route;
    gyre_error err = {0};
    assert_int_equal(gy_route_hold(world->routing, "words", &route, &err), GYRE_OK);
    gyre_codebook *made;
    gy_codebook *next;
    assert_int_equal(gyre_codebook_new(&made, GYRE_L2, 3, 2, seed, NULL, &err), GYRE_OK);
    assert_int_equal(gy_codebook_new(&next, made, &err), GYRE_OK);
    assert_int_equal(gy_collection_record_set_codebook(&world->record, next, &err), GYRE_OK);
    gy_codebook_release(next);
    assert_int_equal(world->record.probe_cost_count, 0); /* those were of the older codebook */
    publish(world, NULL);
    assert_int_equal(gyre_codebook_version(route->codebook), 1);
    assert_int_equal(route->probe_cost_count, 1);
    assert_true(route->probe_costs[0].recall == 0.9);
    gy_route_release(route);
}

static const gy_route *hold(struct world *world)
{
    const gy_route *route;
    gyre_error err = {0};
    assert_int_equal(gy_route_hold(world->routing, "words", &route, &err), GYRE_OK);
    return route;
}

/* The record with so many shards, all on a node that has not reported. */
static void set_shards(struct world *world, uint32_t shards)
{
    struct gy_shard_config *configs = calloc(shards, sizeof *configs);
    for (uint32_t s = 0; s < shards; s++)
        configs[s] = world->record.shards[0], configs[s].range = (struct gy_hash_range){0, 0};
    free(world->record.shards);
    world->record.shards = configs;
    world->record.spec.shards = shards;
}

static gyre_status publish_all(struct world *world, gyre_error *err)
{
    struct gy_routing_member(*members)[GY_MEMBERS_MAX] = calloc(world->record.spec.shards, sizeof *members);
    gyre_status status = gy_routing_publish(world->routing, &world->record, members, err);
    free(members);
    return status;
}

/* As it was before shards had ranges: configurations without one, or with the one that says the same. */
static void equal_ranges_are_where_points_have_always_lived(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    for (uint32_t shards = 1; shards <= 20; shards++)
        for (int ranged = 0; ranged < 2; ranged++) {
            set_shards(world, shards);
            for (uint32_t s = 0; ranged && s < shards; s++)
                world->record.shards[s].range = gy_range_of_shard(s, shards);
            assert_int_equal(publish_all(world, &err), GYRE_OK);
            const gy_route *route = hold(world);
            for (uint64_t i = 0; i < 1000; i++) {
                gyre_point_id id = gyre_point_id_from_number(i * 7919);
                assert_int_equal(gy_route_shard_of(route, &id), shard_of(key, shards, &id));
            }
            for (uint32_t s = 0; s < shards; s++)
                assert_true(route->shards[s].range.last != 0);
            gy_route_release(route);
        }
}

static void a_shard_that_is_being_made_is_not_shown_and_then_has_its_half(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    set_shards(world, 3);
    struct gy_shard_config *configs = world->record.shards;
    configs[0].range = gy_range_of_shard(0, 2), configs[1].range = gy_range_of_shard(1, 2);
    configs[0].split.shard = 2, configs[0].split.first = configs[0].range.last / 2;
    configs[2].range = (struct gy_hash_range){configs[0].split.first, configs[0].range.last};
    assert_int_equal(publish_all(world, &err), GYRE_OK);
    const gy_route *before = hold(world);
    assert_int_equal(before->shard_count, 2);
    gy_routing_member_said(world->routing, "words", 0, 1, 77);
    gy_routing_member_said(world->routing, "words", 2, 1, 99); /* nobody asks it yet */
    configs[0].range = gy_config_kept_range(&configs[0]), configs[0].split.shard = 0, configs[0].split.first = 0;
    assert_int_equal(publish_all(world, &err), GYRE_OK);
    const gy_route *after = hold(world);
    assert_int_equal(after->shard_count, 3);
    size_t moved = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        gyre_point_id id = gyre_point_id_from_number(i);
        uint32_t was = gy_route_shard_of(before, &id), is = gy_route_shard_of(after, &id);
        assert_true(is == was || (was == 0 && is == 2));
        assert_true(gy_range_has(after->shards[is].range, gy_point_hash(key, &id)));
        moved += is != was;
    }
    assert_true(moved > 150 && moved < 350);
    assert_int_equal(gy_shard_seen_floor(after->shards[0].seen), 77);
    assert_int_equal(gy_shard_seen_floor(after->shards[2].seen), 0); /* its log begins where the other's was once */
    gy_route_release(before), gy_route_release(after);
}

static void ranges_that_are_no_partition_are_refused(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    set_shards(world, 3);
    const struct gy_hash_range third[3] = {gy_range_of_shard(0, 3), gy_range_of_shard(1, 3), gy_range_of_shard(2, 3)},
                               all = {0, UINT64_MAX}, one = {5, 5};
    const struct gy_hash_range wrong[][3] = {
        {third[0], third[1], third[1]}, {third[1], third[1], third[2]}, {third[0], third[2], third[2]}, {all, all, all},
        {third[0], third[1], one}, {all, third[1], third[2]}, {third[0], third[1], {third[2].first + 1, UINT64_MAX}},
        {third[0], third[1], {third[2].first, UINT64_MAX - 1}}, {one, one, one}, {{9, 3}, third[1], third[2]},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        for (uint32_t s = 0; s < 3; s++)
            world->record.shards[s].range = wrong[i][s];
        assert_int_equal(publish_all(world, &err), GYRE_CORRUPT);
        assert_non_null(strstr(err.text, "do not go together"));
    }
    for (uint32_t s = 0; s < 3; s++)
        world->record.shards[s].range = third[(s + 1) % 3]; /* in any order */
    assert_int_equal(publish_all(world, &err), GYRE_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, free_world)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shard_of_an_id_never_changes),
        cmocka_unit_test(ids_in_a_row_are_spread_evenly),
        cmocka_unit_test(twice_the_shards_split_each_range),
        TEST(a_route_says_what_the_record_says),
        TEST(a_shard_without_a_connection_is_named),
        TEST(a_name_that_is_none_is_told_from_one_that_is_not_there),
        TEST(a_held_route_stays_as_it_was_while_newer_ones_come_and_go),
        TEST(a_route_keeps_its_codebook_and_probe_costs_while_the_record_moves_on),
        TEST(equal_ranges_are_where_points_have_always_lived),
        TEST(a_shard_that_is_being_made_is_not_shown_and_then_has_its_half),
        TEST(ranges_that_are_no_partition_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
