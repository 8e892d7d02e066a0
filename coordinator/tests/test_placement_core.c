#include "placement/core.h"

#include <math.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void a_node_is_down_after_three_silent_seconds(void **state)
{
    (void)state;
    gy_node_health health = {0};
    int64_t heartbeat_ns = 500 * GY_MILLISECOND_NS;
    assert_int_equal(gy_node_health_due_ns(&health, heartbeat_ns), GY_NEVER);
    assert_false(gy_node_health_tick(&health, 100 * GY_SECOND_NS, heartbeat_ns)); /* never heard of: not news */
    assert_true(gy_node_health_reported(&health, 10 * GY_SECOND_NS));
    assert_false(gy_node_health_reported(&health, 11 * GY_SECOND_NS));
    assert_int_equal(gy_node_health_due_ns(&health, heartbeat_ns), 14 * GY_SECOND_NS);
    assert_false(gy_node_health_tick(&health, 14 * GY_SECOND_NS - 1, heartbeat_ns));
    assert_true(gy_node_health_tick(&health, 14 * GY_SECOND_NS, heartbeat_ns));
    assert_int_equal(health.state, GY_NODE_DOWN);
    assert_false(gy_node_health_tick(&health, 15 * GY_SECOND_NS, heartbeat_ns)); /* told once */
    assert_true(gy_node_health_reported(&health, 16 * GY_SECOND_NS));
    assert_int_equal(health.state, GY_NODE_UP);
}

static void a_short_heartbeat_does_not_make_a_busy_machine_look_dead(void **state)
{
    (void)state;
    gy_node_health health = {0};
    gy_node_health_reported(&health, GY_SECOND_NS);
    assert_int_equal(gy_node_health_due_ns(&health, 50 * GY_MILLISECOND_NS), 4 * GY_SECOND_NS);
    assert_int_equal(gy_node_health_due_ns(&health, 2 * GY_SECOND_NS), 13 * GY_SECOND_NS);
}

static void time_that_steps_back_is_no_report_in_the_past(void **state)
{
    (void)state;
    gy_node_health health = {0};
    gy_node_health_reported(&health, 10 * GY_SECOND_NS);
    gy_node_health_reported(&health, 5 * GY_SECOND_NS);
    assert_int_equal(health.reported_ns, 10 * GY_SECOND_NS);
}

static void a_replica_is_told_what_it_lacks_and_not_at_every_report(void **state)
{
    (void)state;
    struct gy_wanted_replica wanted = {.collection_id = 1, .epoch = 3, .codebook_version = 2};
    struct gy_held_replica held = {.collection_id = 1, .epoch = 3, .codebook_version = 2};
    int64_t now_ns = 100 * GY_SECOND_NS;
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_GOOD);
    assert_int_equal(gy_replica_judge(&wanted, NULL, now_ns), GY_REPLICA_ENSURE);
    held.codebook_version = 1;
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_ENSURE);
    wanted.told_ns = now_ns - 1;
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_WAIT);
    assert_int_equal(gy_replica_judge(&wanted, NULL, now_ns), GY_REPLICA_WAIT);
    wanted.told_ns = now_ns - GY_ENSURE_AGAIN_NS;
    assert_int_equal(gy_replica_judge(&wanted, NULL, now_ns), GY_REPLICA_ENSURE);
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_WAIT); /* it re-encodes: that takes longer */
    wanted.told_ns = now_ns - GY_REENCODE_AGAIN_NS;
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_ENSURE);
    wanted.told_ns = now_ns - GY_ENSURE_AGAIN_NS;
    held = (struct gy_held_replica){.collection_id = 1, .epoch = 2, .codebook_version = 2};
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_ENSURE);
    held = (struct gy_held_replica){.collection_id = 1, .epoch = 4, .codebook_version = 3};
    assert_int_equal(gy_replica_judge(&wanted, &held, now_ns), GY_REPLICA_GOOD); /* newer: never told to go back */
}

static void only_replicas_of_collections_this_catalog_made_are_orphans(void **state)
{
    (void)state;
    assert_true(gy_replica_orphaned(6, false, 5, 7));
    assert_false(gy_replica_orphaned(6, true, 5, 7));
    assert_false(gy_replica_orphaned(4, false, 5, 7));
    assert_false(gy_replica_orphaned(7, false, 5, 7)); /* not given yet: another catalog's */
}

static void training_is_due_at_a_thousand_points_for_the_first_lists_and_at_ten_times_more(void **state)
{
    (void)state;
    assert_false(gy_training_due(0, 999));
    assert_true(gy_training_due(0, 1000));
    assert_false(gy_training_due(1000, 9999));
    assert_true(gy_training_due(1000, 10000));
    assert_false(gy_training_due(10000, 19999));
    assert_true(gy_training_due(10000, 20000));
    assert_false(gy_training_due(20000, 199999));
    assert_true(gy_training_due(20000, 200000));
    assert_false(gy_training_due(UINT64_MAX / 2, UINT64_MAX));
    assert_true(gy_training_due(1, UINT64_MAX));
}

static uint32_t lists_of(uint64_t points, uint32_t shards, uint32_t dim)
{
    uint32_t lists = 0;
    gyre_error err = {0};
    if (gy_training_lists(points, shards, dim, 0, &lists, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return lists;
}

static void lists_are_about_twice_the_root_of_the_points(void **state)
{
    (void)state;
    assert_int_equal(lists_of(19999, 1, 100), 1);
    assert_int_equal(lists_of(20000, 1, 100), 256);
    assert_int_equal(lists_of(340000, 4, 100), 1024);
    assert_int_equal(lists_of(1000000, 4, 768), 2048);
    assert_int_equal(lists_of(100000000, 16, 128), 16384);
    for (uint64_t points = 20000; points < 1000000000; points += points / 3) {
        double ratio = lists_of(points, 1, 16) / (2 * sqrt((double)points));
        assert_true(ratio > 0.7071 && ratio < 1.4143);
    }
}

static void lists_stay_long_enough_for_every_shard_and_fit_a_message(void **state)
{
    (void)state;
    assert_int_equal(lists_of(1000000, 16, 768), 1024); /* 61 points a list and shard; twice as many lists would leave 30 */
    assert_int_equal(lists_of(20000, 1024, 8), 1);
    for (uint64_t points = 20000; points < 10000000000; points *= 3)
        for (uint32_t shards = 1; shards <= 1024; shards *= 4)
            for (uint32_t dim = 1; dim <= 4096; dim *= 8) {
                uint32_t lists = lists_of(points, shards, dim);
                assert_true(lists == 1 || (uint64_t)lists * shards * 32 <= points);
                assert_true((uint64_t)lists * dim * sizeof(float) <= 64 << 20 && lists <= gy_training_lists_max(dim));
            }
}

static void lists_that_are_asked_for_are_checked(void **state)
{
    (void)state;
    uint32_t lists = 0;
    gyre_error err = {0};
    assert_int_equal(gy_training_lists(100, 4, 100, 7, &lists, &err), GYRE_OK);
    assert_int_equal(lists, 7);
    assert_int_equal(gy_training_lists(1000000, 4, 100, 1, &lists, &err), GYRE_OK);
    assert_int_equal(lists, 1);
    assert_int_equal(gy_training_lists(6, 4, 100, 7, &lists, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "7 lists of 6 points"));
    assert_int_equal(gy_training_lists(1000000, 4, 4096, 4096, &lists, &err), GYRE_OK);
    assert_int_equal(gy_training_lists(1000000, 4, 4096, 4097, &lists, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "1 to 4096"));
    assert_int_equal(gy_training_lists(UINT64_MAX, 1, 1, 65537, &lists, &err), GYRE_INVALID);
}

static void a_training_that_fails_is_tried_again_later_and_later(void **state)
{
    (void)state;
    assert_int_equal(gy_training_backoff_ns(0), 0);
    assert_int_equal(gy_training_backoff_ns(1), GY_SECOND_NS);
    assert_int_equal(gy_training_backoff_ns(4), 8 * GY_SECOND_NS);
    assert_int_equal(gy_training_backoff_ns(7), 64 * GY_SECOND_NS);
    assert_int_equal(gy_training_backoff_ns(UINT32_MAX), 64 * GY_SECOND_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_down_after_three_silent_seconds),
        cmocka_unit_test(a_short_heartbeat_does_not_make_a_busy_machine_look_dead),
        cmocka_unit_test(time_that_steps_back_is_no_report_in_the_past),
        cmocka_unit_test(a_replica_is_told_what_it_lacks_and_not_at_every_report),
        cmocka_unit_test(only_replicas_of_collections_this_catalog_made_are_orphans),
        cmocka_unit_test(training_is_due_at_a_thousand_points_for_the_first_lists_and_at_ten_times_more),
        cmocka_unit_test(lists_are_about_twice_the_root_of_the_points),
        cmocka_unit_test(lists_stay_long_enough_for_every_shard_and_fit_a_message),
        cmocka_unit_test(lists_that_are_asked_for_are_checked),
        cmocka_unit_test(a_training_that_fails_is_tried_again_later_and_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
