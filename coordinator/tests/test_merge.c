/* The contest of one query: whatever order candidates come in and however few are read a round, the k nearest win. */
#include "search/merge.h"

#include <math.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { SHARDS = 5, POINTS = 600 };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static float unit(uint64_t *state)
{
    return (float)(next_random(state) & 0xffffff) / (float)0x1000000;
}

/* Points whose true distances are known to the test, and candidates whose bounds hold. */
struct world {
    float distance[POINTS], estimate[POINTS], half_width[POINTS];
    uint32_t shard[POINTS];
};

static void world_make(struct world *world, uint64_t *state)
{
    for (size_t i = 0; i < POINTS; i++) {
        world->distance[i] = floorf(unit(state) * 200) / 16; /* many equals */
        world->half_width[i] = unit(state) + 0.01f;
        world->estimate[i] = world->distance[i] + (2 * unit(state) - 1) * world->half_width[i] * 0.99f;
        world->shard[i] = (uint32_t)(next_random(state) % SHARDS);
    }
}

static int nearest_order(const void *left, const void *right)
{
    const struct gy_search_hit *a = left, *b = right;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return gyre_point_id_compare(&a->id, &b->id);
}

/* Adds a shard's candidates, all of them, with every seventh already exact. */
static void add_shard(gy_merge *merge, const struct world *world, uint32_t shard)
{
    gyre_point_id ids[POINTS];
    float estimates[POINTS], half_widths[POINTS];
    size_t n = 0;
    for (size_t i = 0; i < POINTS; i++)
        if (world->shard[i] == shard) {
            ids[n] = gyre_point_id_from_number(i);
            bool exact = i % 7 == 0;
            estimates[n] = exact ? world->distance[i] : world->estimate[i];
            half_widths[n++] = exact ? 0 : world->half_width[i];
        }
    assert_int_equal(gy_merge_add(merge, shard, ids, estimates, half_widths, n, INFINITY, NULL), GYRE_OK);
}

static void run_out(gy_merge *merge, const struct world *world, size_t round)
{
    struct gy_contender *out = malloc(round * sizeof *out);
    for (size_t n; (n = gy_merge_next(merge, out, round)) > 0;)
        for (size_t i = 0; i < n; i++)
            assert_int_equal(gy_merge_offer(merge, out[i].shard, &out[i].id, world->distance[gyre_point_id_number(&out[i].id)], NULL), GYRE_OK);
    free(out);
}

static void assert_nearest(gy_merge *merge, const struct world *world, size_t k, uint32_t without)
{
    struct gy_search_hit all[POINTS], *hits;
    size_t n = 0, count;
    for (size_t i = 0; i < POINTS; i++)
        if (world->shard[i] != without)
            all[n++] = (struct gy_search_hit){.id = gyre_point_id_from_number(i), .distance = world->distance[i]};
    qsort(all, n, sizeof *all, nearest_order);
    assert_int_equal(gy_merge_hits(merge, false, &hits, &count, NULL), GYRE_OK);
    assert_int_equal(count, k < n ? k : n);
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(&hits[i].id, &all[i].id, sizeof hits[i].id);
        assert_true(hits[i].distance == all[i].distance);
    }
    free(hits);
}

static void the_k_nearest_win_in_any_order_and_any_round_size(void **unused)
{
    (void)unused;
    uint64_t state = 42;
    for (int trial = 0; trial < 60; trial++) {
        struct world world;
        world_make(&world, &state);
        size_t k = 1 + next_random(&state) % 700, round = 1 + next_random(&state) % 300;
        gy_merge merge;
        assert_int_equal(gy_merge_init(&merge, k, SHARDS, NULL), GYRE_OK);
        uint32_t first = (uint32_t)(next_random(&state) % SHARDS);
        for (uint32_t s = 0; s < SHARDS; s++) {
            add_shard(&merge, &world, (first + s * 2) % SHARDS);
            if (next_random(&state) % 2)
                run_out(&merge, &world, round);
        }
        run_out(&merge, &world, round);
        assert_nearest(&merge, &world, k, UINT32_MAX);
        gy_merge_fini(&merge);
    }
}

static void a_shard_that_scans_again_is_not_counted_twice(void **unused)
{
    (void)unused;
    uint64_t state = 7;
    struct world world;
    world_make(&world, &state);
    gy_merge merge;
    assert_int_equal(gy_merge_init(&merge, 50, SHARDS, NULL), GYRE_OK);
    for (int pass = 0; pass < 3; pass++) {
        for (uint32_t s = 0; s < SHARDS; s++)
            add_shard(&merge, &world, s);
        run_out(&merge, &world, 20);
    }
    assert_nearest(&merge, &world, 50, UINT32_MAX);
    gy_merge_fini(&merge);
}

static void a_lost_shard_takes_its_hits_along_and_others_step_in(void **unused)
{
    (void)unused;
    uint64_t state = 9;
    struct world world;
    world_make(&world, &state);
    gy_merge merge;
    assert_int_equal(gy_merge_init(&merge, 40, SHARDS, NULL), GYRE_OK);
    for (uint32_t s = 0; s < SHARDS; s++)
        add_shard(&merge, &world, s);
    run_out(&merge, &world, 64);
    gy_merge_forget(&merge, 2);
    run_out(&merge, &world, 64);
    assert_nearest(&merge, &world, 40, 2);
    gy_merge_fini(&merge);
}

static void few_vectors_are_read_when_bounds_are_tight(void **unused)
{
    (void)unused;
    uint64_t state = 11;
    struct world world;
    world_make(&world, &state);
    for (size_t i = 0; i < POINTS; i++) {
        world.distance[i] = (float)i;
        world.half_width[i] = 0.25f, world.estimate[i] = (float)i + 0.1f;
    }
    gy_merge merge;
    assert_int_equal(gy_merge_init(&merge, 10, SHARDS, NULL), GYRE_OK);
    for (uint32_t s = 0; s < SHARDS; s++)
        add_shard(&merge, &world, s);
    size_t seeds = merge.read_count;
    run_out(&merge, &world, 4);
    assert_true(merge.read_count - seeds <= 12);
    assert_nearest(&merge, &world, 10, UINT32_MAX);
    gy_merge_fini(&merge);
}

static void a_cutoff_below_the_kth_distance_asks_for_more(void **unused)
{
    (void)unused;
    gy_merge merge;
    assert_int_equal(gy_merge_init(&merge, 2, 2, NULL), GYRE_OK);
    gyre_point_id ids[2] = {gyre_point_id_from_number(1), gyre_point_id_from_number(2)};
    float estimates[2] = {1, 3}, widths[2] = {0, 0};
    assert_int_equal(gy_merge_add(&merge, 0, ids, estimates, widths, 1, 0.5f, NULL), GYRE_OK);
    assert_true(gy_merge_needs(&merge, 0));
    assert_int_equal(gy_merge_add(&merge, 1, ids + 1, estimates + 1, widths, 1, 3.0f, NULL), GYRE_OK);
    assert_true(gy_merge_needs(&merge, 0));
    assert_true(gy_merge_needs(&merge, 1)); /* a row at exactly the k-th distance could come first by id */
    assert_int_equal(gy_merge_add(&merge, 0, ids, estimates, widths, 0, 3.5f, NULL), GYRE_OK);
    assert_false(gy_merge_needs(&merge, 0));
    gy_merge_fini(&merge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_k_nearest_win_in_any_order_and_any_round_size),
        cmocka_unit_test(a_shard_that_scans_again_is_not_counted_twice),
        cmocka_unit_test(a_lost_shard_takes_its_hits_along_and_others_step_in),
        cmocka_unit_test(few_vectors_are_read_when_bounds_are_tight),
        cmocka_unit_test(a_cutoff_below_the_kth_distance_asks_for_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
