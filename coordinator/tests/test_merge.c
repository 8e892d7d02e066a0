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
            assert_int_equal(
                gy_merge_offer(merge, out[i].shard, &out[i].id, world->distance[gyre_point_id_number(&out[i].id)], NULL),
                GYRE_OK);
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

/* Spreads the points over so many shards, sends what each would send, and runs the contest as the search does: seeds, then
 * whoever can still win. Returns the vectors read. */
static size_t contest_reads(const struct world *world, size_t shards, size_t k, size_t *rounds)
{
    gy_merge merge;
    struct gy_contender out[POINTS];
    assert_int_equal(gy_merge_init(&merge, k, shards, NULL), GYRE_OK);
    for (uint32_t s = 0; s < shards; s++) {
        gyre_point_id ids[POINTS];
        float estimates[POINTS], half_widths[POINTS];
        size_t n = 0;
        for (size_t i = 0; i < POINTS; i++)
            if (i * 2654435761u / 7 % shards == s)
                ids[n] = gyre_point_id_from_number(i), estimates[n] = world->estimate[i], half_widths[n++] = world->half_width[i];
        assert_int_equal(gy_merge_add(&merge, s, ids, estimates, half_widths, n, INFINITY, NULL), GYRE_OK);
    }
    size_t n = gy_merge_seeds(&merge, out, POINTS);
    for (*rounds = 0; n > 0; n = gy_merge_next(&merge, out, POINTS), ++*rounds)
        for (size_t i = 0; i < n; i++)
            assert_int_equal(
                gy_merge_offer(&merge, out[i].shard, &out[i].id, world->distance[gyre_point_id_number(&out[i].id)], NULL),
                GYRE_OK);
    size_t reads = merge.read_count;
    assert_nearest(&merge, world, k, UINT32_MAX);
    gy_merge_fini(&merge);
    return reads;
}

static void what_is_read_does_not_depend_on_the_number_of_shards(void **unused)
{
    (void)unused;
    uint64_t state = 13;
    size_t all_reads = 0, all_least = 0;
    for (int trial = 0; trial < 20; trial++) {
        struct world world;
        world_make(&world, &state);
        size_t k = 1 + next_random(&state) % 40, rounds, least = 0;
        size_t reads = contest_reads(&world, 1, k, &rounds);
        assert_true(rounds <= 2);
        struct gy_search_hit all[POINTS];
        for (size_t i = 0; i < POINTS; i++)
            all[i] = (struct gy_search_hit){.id = gyre_point_id_from_number(i), .distance = world.distance[i]};
        qsort(all, POINTS, sizeof *all, nearest_order);
        for (size_t i = 0; i < POINTS; i++)
            least += world.estimate[i] - world.half_width[i] <= all[k - 1].distance;
        all_reads += reads, all_least += least;
        for (size_t shards = 2; shards <= 16; shards *= 2)
            assert_int_equal(contest_reads(&world, shards, k, &rounds), reads);
    }
    assert_in_range(all_reads * 100 / all_least, 100, 116); /* of what an oracle reads, which knows the k-th distance */
}

static void seeds_are_those_best_estimates_that_must_be_read_anyway(void **unused)
{
    (void)unused;
    gy_merge merge;
    assert_int_equal(gy_merge_init(&merge, 2, 1, NULL), GYRE_OK);
    gyre_point_id ids[6];
    float estimates[6] = {9, 1, 2, 5, 3, 4}, half_widths[6] = {7.5f, 1, 1.5f, 0.5f, 1.5f, 0.1f};
    for (size_t i = 0; i < 6; i++)
        ids[i] = gyre_point_id_from_number(i);
    assert_int_equal(gy_merge_add(&merge, 0, ids, estimates, half_widths, 6, INFINITY, NULL), GYRE_OK);
    struct gy_contender out[6];
    /* The second best estimate is 2, and four lower bounds are not above it: the mark is one on, 3, and the lower bounds of 1, 2,
     * 3 ± 1.5 and 9 ± 7.5 are not above that either. The best four estimates are the seeds. */
    assert_int_equal(gy_merge_seeds(&merge, out, 6), 4);
    bool seen[6] = {0};
    for (size_t i = 0; i < 4; i++)
        seen[gyre_point_id_number(&out[i].id)] = true;
    assert_true(seen[1] && seen[2] && seen[4] && seen[5]);
    assert_int_equal(gy_merge_seeds(&merge, out, 1), 1); /* no more than there is room for */
    assert_int_equal(gyre_point_id_number(&out[0].id), 3);
    gy_merge_fini(&merge);
}

static void tight_bounds_are_decided_by_the_seeds(void **unused)
{
    (void)unused;
    struct world world;
    for (size_t i = 0; i < POINTS; i++) {
        world.distance[i] = (float)i;
        world.half_width[i] = 0.25f, world.estimate[i] = (float)i + 0.1f;
    }
    size_t rounds;
    assert_true(contest_reads(&world, 4, 10, &rounds) <= 11);
    assert_int_equal(rounds, 1);
}

/* Hashes ids to shards and counts: a share must be missed by few queries, and one less by too many. */
static double part_missing(uint32_t k, uint32_t shards, uint32_t share)
{
    enum { QUERIES = 20000 };
    uint64_t state = 9;
    size_t missing = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        uint32_t has[64] = {0}, most = 0;
        for (uint32_t i = 0; i < k; i++) {
            uint32_t shard = (uint32_t)(next_random(&state) % shards);
            most = ++has[shard] > most ? has[shard] : most;
        }
        missing += most >= share;
    }
    return (double)missing / QUERIES;
}

static void hardly_a_shard_has_its_share_of_the_nearest(void **unused)
{
    (void)unused;
    for (uint32_t shards = 2; shards <= 64; shards *= 2)
        for (uint32_t k = 10; k <= 1000; k *= 10) {
            uint32_t share = gy_merge_share(k, shards);
            if (!share) {
                assert_true(part_missing(k, shards, k - 1) > 0.015);
                continue;
            }
            assert_true(share < k);
            assert_true(part_missing(k, shards, share) < 0.025);
            assert_true(part_missing(k, shards, share - 1) > 0.015);
        }
    assert_int_equal(gy_merge_share(10, 4), 7);
    assert_int_equal(gy_merge_share(10, 1), 0);
    assert_int_equal(gy_merge_share(1, 4), 0);
    assert_int_equal(gy_merge_share(100000, 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_k_nearest_win_in_any_order_and_any_round_size),
        cmocka_unit_test(a_shard_that_scans_again_is_not_counted_twice),
        cmocka_unit_test(a_lost_shard_takes_its_hits_along_and_others_step_in),
        cmocka_unit_test(few_vectors_are_read_when_bounds_are_tight),
        cmocka_unit_test(a_cutoff_below_the_kth_distance_asks_for_more),
        cmocka_unit_test(what_is_read_does_not_depend_on_the_number_of_shards),
        cmocka_unit_test(seeds_are_those_best_estimates_that_must_be_read_anyway),
        cmocka_unit_test(tight_bounds_are_decided_by_the_seeds),
        cmocka_unit_test(hardly_a_shard_has_its_share_of_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
