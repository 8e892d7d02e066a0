/* From where true neighbours lie to how many lists a recall takes. */
#include "placement/costs.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { LISTS = 100, QUERIES = 50, NEIGHBOURS = 10 };

/* Every query's order is the lists from its own number on; a list has as many points as is said. */
struct world {
    uint32_t found[QUERIES], ranks[QUERIES * NEIGHBOURS], orders[QUERIES * LISTS];
    uint64_t list_points[LISTS];
    struct gy_cost_sample sample;
};

static struct world *make(uint32_t (*rank)(size_t query, size_t neighbour))
{
    struct world *world = calloc(1, sizeof *world);
    for (size_t q = 0; q < QUERIES; q++) {
        world->found[q] = NEIGHBOURS;
        for (size_t i = 0; i < NEIGHBOURS; i++)
            world->ranks[q * NEIGHBOURS + i] = rank(q, i);
        for (uint32_t l = 0; l < LISTS; l++)
            world->orders[q * LISTS + l] = (uint32_t)(q + l) % LISTS;
    }
    for (size_t l = 0; l < LISTS; l++)
        world->list_points[l] = 10;
    world->sample = (struct gy_cost_sample){.lists = LISTS, .queries = QUERIES, .neighbours = NEIGHBOURS, .found = world->found,
                                            .ranks = world->ranks, .orders = world->orders, .list_points = world->list_points};
    return world;
}

static uint32_t lists_for(const struct world *world, double recall)
{
    struct gy_probe_cost costs[GY_PROBE_COSTS_MAX];
    uint32_t count = 0;
    assert_int_equal(gy_costs_measure(&world->sample, costs, &count, NULL), GYRE_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(i == 0 || (costs[i].recall > costs[i - 1].recall && costs[i].lists >= costs[i - 1].lists));
        if (costs[i].recall == recall)
            return costs[i].lists;
    }
    return 0;
}

/* Of every query's ten, nine in its first list and one in its seventh. */
static uint32_t nine_of_ten(size_t query, size_t neighbour)
{
    (void)query;
    return neighbour < 9 ? 0 : 6;
}

static void a_recall_takes_the_lists_that_hold_it(void **state)
{
    (void)state;
    struct world *world = make(nine_of_ten);
    assert_int_equal(lists_for(world, 0.8), 1);
    assert_int_equal(lists_for(world, 0.9), 1);
    assert_int_equal(lists_for(world, 0.95), 7);
    assert_int_equal(lists_for(world, 0.999), 7);
    assert_int_equal(lists_for(world, 1), LISTS);
    free(world);
}

/* Every third query finds one in its first list, the others nine: on average 6.3. After the third list, all. */
static uint32_t uneven(size_t query, size_t neighbour)
{
    return neighbour < (query % 3 ? 9u : 1u) ? 0 : neighbour == 9 ? 20 : 2;
}

static void an_uncertain_recall_is_not_taken_for_reached(void **state)
{
    (void)state;
    struct world *world = make(uneven);
    assert_int_equal(lists_for(world, 0.8), 3);
    assert_int_equal(lists_for(world, 0.9), 3); /* the same for all queries, so there is no doubt */
    for (size_t q = 0; q < 2; q++) /* two queries of fifty lose all: 0.864 on average, 0.02 less to be sure */
        for (size_t i = 0; i < NEIGHBOURS; i++)
            world->ranks[q * NEIGHBOURS + i] = 20;
    assert_int_equal(lists_for(world, 0.8), 3);
    for (size_t q = 0; q < QUERIES; q++) /* at the limit on average, and below it for half of them */
        for (size_t i = 0; i < NEIGHBOURS; i++)
            world->ranks[q * NEIGHBOURS + i] = i < (q % 2 ? 10u : 6u) ? 0 : 4;
    assert_int_equal(lists_for(world, 0.8), 5);
    free(world);
}

static uint32_t far_away(size_t query, size_t neighbour)
{
    (void)query;
    return neighbour < 9 ? 3 : 60;
}

static void lists_lose_where_more_than_half_of_the_points_would_be_scanned(void **state)
{
    (void)state;
    struct world *world = make(far_away);
    assert_int_equal(lists_for(world, 0.9), 4);
    assert_int_equal(lists_for(world, 0.95), LISTS);
    for (size_t l = 0; l < LISTS; l++) /* it is points that count, not lists: the first 64 are nearly empty */
        world->list_points[l] = l < 64 ? 1 : 100;
    for (size_t q = 0; q < QUERIES; q++)
        for (uint32_t l = 0; l < LISTS; l++)
            world->orders[q * LISTS + l] = l;
    assert_int_equal(lists_for(world, 0.95), 61);
    free(world);
}

static void queries_without_neighbours_do_not_count(void **state)
{
    (void)state;
    struct world *world = make(nine_of_ten);
    for (size_t q = 1; q < QUERIES; q += 2)
        world->found[q] = 0;
    world->found[0] = 3; /* all in its first list */
    assert_int_equal(lists_for(world, 0.9), 1);
    assert_int_equal(lists_for(world, 0.99), 7);
    for (size_t q = 0; q < QUERIES; q++)
        world->found[q] = 0;
    struct gy_probe_cost costs[GY_PROBE_COSTS_MAX];
    uint32_t count = 7;
    assert_int_equal(gy_costs_measure(&world->sample, costs, &count, NULL), GYRE_OK);
    assert_int_equal(count, 0);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recall_takes_the_lists_that_hold_it),
        cmocka_unit_test(an_uncertain_recall_is_not_taken_for_reached),
        cmocka_unit_test(lists_lose_where_more_than_half_of_the_points_would_be_scanned),
        cmocka_unit_test(queries_without_neighbours_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
