/* The memory budget of a node: writes are refused before they are logged, searches, reads and deletes go on, and what was given
 * back may be used again. */
#include "server_fixture.h"

#include <inttypes.h>
#include <sched.h>

enum { BATCH = 1000, POINTS_MAX = 100000 };

static int set_up_small(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    world->directory = fixture_directory();
    world->codebook = fixture_codebook(GYRE_L2, DIM, 1, NULL);
    world->memory_budget = 2 << 20;
    start(world);
    *state = world;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    return 0;
}

/* Writes until the budget refuses; how many points there are then. */
static uint64_t fill(struct world *world)
{
    uint64_t count = 0;
    gyre_status status = GYRE_OK;
    while (status == GYRE_OK && count < POINTS_MAX)
        if ((status = write_points(world, 0, count, BATCH, 0, DIM)) == GYRE_OK)
            count += BATCH;
    assert_refused(GYRE_EXHAUSTED, status, "this node's memory budget is 2.0 MiB (--memory-budget): codes take ");
    assert_non_null(strstr(last_error.text, "delete points or raise the budget"));
    return count;
}

static void assert_searchable(struct world *world, uint64_t count)
{
    struct scan scan;
    Gyre__Node__ScanReply *reply;
    make_scan(&scan, world->codebook, 1, 1);
    assert_ok(run_scan(world, &scan, &reply));
    assert_int_equal(reply->shards[0]->status, GYRE_OK);
    assert_int_equal(reply->shards[0]->queries[0]->scanned, count);
    gy_wire_free(reply);
}

static void upserts_beyond_the_budget_are_refused_and_everything_else_goes_on(void **state)
{
    struct world *world = *state;
    uint64_t count = fill(world);
    assert_true(count > 1000); /* 2 MiB are good for some ten thousand points of 24 dimensions */
    assert_true(gy_budget_used(gy_node_budget(world->node)) <= 2 << 20);
    assert_searchable(world, count); /* nothing of the refused write is there */
    assert_refused(GYRE_EXHAUSTED, write_points(world, 0, 0, BATCH, 1, DIM),
                   "memory budget"); /* an overwrite needs a new place first */
    assert_ok(write_points(world, 0, 0, BATCH, 0, 0));
    assert_searchable(world, count - BATCH);
}

static void what_is_deleted_can_be_written_anew(void **state)
{
    struct world *world = *state;
    uint64_t count = fill(world);
    for (uint64_t first = 0; first < count; first += BATCH)
        assert_ok(write_points(world, 0, first, BATCH, 0, 0));
    assert_searchable(world, 0);
    /* What is left of the chunks is given back in the background. */
    int64_t until_ns = gy_now_ns() + 60 * GY_SECOND_NS;
    while (gy_budget_used(gy_node_budget(world->node)) > 1 << 20 && gy_now_ns() < until_ns)
        sched_yield();
    print_message("%" PRIu64 " points; %" PRIu64 " bytes used when they were deleted\n", count,
                  gy_budget_used(gy_node_budget(world->node)));
    assert_true(fill(world) > count / 2);
    for (uint64_t first = 0; first < count; first += BATCH)
        assert_ok(write_points(world, 0, first, BATCH, 0, 0));
    stop(world);
    start(world);
    assert_int_equal(fill(world), count);
}

static void a_node_over_its_budget_opens_and_serves_what_it_has(void **state)
{
    struct world *world = *state;
    uint64_t count = fill(world);
    stop(world);
    world->memory_budget = 1 << 20;
    start(world);
    assert_searchable(world, count);
    assert_refused(GYRE_EXHAUSTED, write_points(world, 0, count, 1, 0, DIM), "this node's memory budget is 1.0 MiB");
    assert_ok(write_points(world, 0, 0, 1, 0, 0));
    stop(world);
    world->memory_budget = 8 << 20;
    start(world);
    assert_ok(write_points(world, 0, count, 1, 0, DIM));
}

/* What the replica says of itself; the trouble is copied. */
static uint32_t version_and_trouble(struct world *world, char *trouble, size_t bytes)
{
    struct gy_node_status *statuses;
    size_t count;
    assert_int_equal(gy_node_statuses(world->node, &statuses, &count, NULL), GYRE_OK);
    assert_int_equal(count, 1);
    uint32_t version = statuses[0].message.codebook_version;
    snprintf(trouble, bytes, "%s", statuses[0].message.trouble);
    gy_node_statuses_free(statuses);
    return version;
}

static void codes_that_do_not_fit_twice_are_not_encoded_anew(void **state)
{
    struct world *world = *state;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    float mean[DIM] = {0.5f};
    gyre_codebook *newer = fixture_codebook(GYRE_L2, DIM, 2, mean);
    uint64_t count = fill(world);
    assert_ok(ensure(world, 0, 4, newer, NULL));
    assert_int_equal(version_and_trouble(world, trouble, sizeof trouble), 1);
    if (!strstr(trouble, "codes in codebook 2 beside those in use need") || !strstr(trouble, "memory budget"))
        fail_msg("'%s'", trouble);
    assert_searchable(world, count);
    /* Asked again with room for it, it is done, and the trouble is over. */
    stop(world);
    world->memory_budget = 16 << 20;
    start(world);
    assert_ok(ensure(world, 0, 4, newer, NULL));
    int64_t until_ns = gy_now_ns() + 60 * GY_SECOND_NS;
    while (version_and_trouble(world, trouble, sizeof trouble) != 2 && gy_now_ns() < until_ns)
        sched_yield();
    assert_int_equal(version_and_trouble(world, trouble, sizeof trouble), 2);
    assert_string_equal(trouble, "");
    gyre_codebook_free(newer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(upserts_beyond_the_budget_are_refused_and_everything_else_goes_on, set_up_small,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_deleted_can_be_written_anew, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(a_node_over_its_budget_opens_and_serves_what_it_has, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(codes_that_do_not_fit_twice_are_not_encoded_anew, set_up_small, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
