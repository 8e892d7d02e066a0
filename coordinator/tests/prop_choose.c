/* Choices among random members of random shards: what holds of every choice. */
#include "routing/choose.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { NODES_MAX = 9, SHARDS_MAX = 20, MEMBERS_MAX = 7, STORIES = 20000 };

struct story {
    int64_t expected_ns[NODES_MAX];
    size_t node_count, shard_count;
    struct gy_choice_member members[SHARDS_MAX][MEMBERS_MAX];
    struct gy_choice_shard shards[SHARDS_MAX];
    uint64_t turn;
};

static uint64_t next(uint64_t *random)
{
    *random += 0x9e3779b97f4a7c15u;
    uint64_t z = (*random ^ *random >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(uint64_t *random, uint64_t limit) { return next(random) % limit; }

static void make(struct story *story, uint64_t *random)
{
    story->node_count = 1 + below(random, NODES_MAX);
    story->shard_count = 1 + below(random, SHARDS_MAX);
    story->turn = next(random);
    for (size_t n = 0; n < story->node_count; n++)
        story->expected_ns[n] = below(random, 3) ? (int64_t)below(random, 20000000) : 0;
    for (size_t s = 0; s < story->shard_count; s++) {
        size_t most = story->node_count < MEMBERS_MAX ? story->node_count : MEMBERS_MAX, first = below(random, story->node_count);
        story->shards[s] = (struct gy_choice_shard){story->members[s], 1 + below(random, most), 0};
        for (size_t m = 0; m < story->shards[s].count; m++)
            story->members[s][m] =
                (struct gy_choice_member){(uint32_t)((first + m) % story->node_count), (uint32_t)below(random, 3)};
    }
}

static void choose(struct story *story)
{
    gy_choose(story->expected_ns, story->node_count, story->shards, story->shard_count, story->turn);
}

static const struct gy_choice_member *chosen(const struct story *story, size_t s)
{
    assert_true(story->shards[s].chosen < story->shards[s].count);
    return &story->members[s][story->shards[s].chosen];
}

/* The least expected time among the members of the best rank, and that rank. */
static int64_t best_of(const struct story *story, size_t s, uint32_t *rank)
{
    int64_t best_ns = INT64_MAX;
    *rank = UINT32_MAX;
    for (size_t m = 0; m < story->shards[s].count; m++)
        *rank = story->members[s][m].rank < *rank ? story->members[s][m].rank : *rank;
    for (size_t m = 0; m < story->shards[s].count; m++) {
        const struct gy_choice_member *member = &story->members[s][m];
        if (member->rank == *rank && story->expected_ns[member->node] < best_ns)
            best_ns = story->expected_ns[member->node];
    }
    return best_ns;
}

static size_t count_nodes(const struct story *story)
{
    bool used[NODES_MAX] = {0};
    size_t count = 0;
    for (size_t s = 0; s < story->shard_count; s++) {
        uint32_t node = chosen(story, s)->node;
        count += !used[node];
        used[node] = true;
    }
    return count;
}

static void check(struct story *story)
{
    choose(story);
    for (size_t s = 0; s < story->shard_count; s++) {
        uint32_t rank;
        int64_t best_ns = best_of(story, s, &rank);
        assert_int_equal(chosen(story, s)->rank, rank);
        assert_true(story->expected_ns[chosen(story, s)->node] <= best_ns + best_ns / 2 + GY_ALIKE_NS);
    }
    struct story again = *story;
    for (size_t s = 0; s < again.shard_count; s++)
        again.shards[s].members = again.members[s], again.shards[s].chosen = 0;
    choose(&again);
    for (size_t s = 0; s < story->shard_count; s++)
        assert_int_equal(again.shards[s].chosen, story->shards[s].chosen);
    /* One node that could serve all of them alone serves all of them. */
    for (size_t n = 0; n < story->node_count; n++) {
        size_t could = 0;
        for (size_t s = 0; s < story->shard_count; s++) {
            uint32_t rank;
            int64_t best_ns = best_of(story, s, &rank);
            for (size_t m = 0; m < story->shards[s].count; m++)
                could += story->members[s][m].node == n && story->members[s][m].rank == rank &&
                         story->expected_ns[n] <= best_ns + best_ns / 2 + GY_ALIKE_NS;
        }
        if (could == story->shard_count)
            assert_int_equal(count_nodes(story), 1);
    }
}

static uint64_t seed; /* of the story that is being checked */

static int tell_seed(void **state)
{
    (void)state;
    printf("last story: GYRE_SEED=0x%llx\n", (unsigned long long)seed);
    return 0;
}

static void every_choice_is_of_the_best_rank_about_the_quickest_and_the_same_again(void **state)
{
    (void)state;
    const char *given = getenv("GYRE_SEED");
    seed = given ? strtoull(given, NULL, 0) : 0;
    for (uint64_t i = 0; i < (given ? 1 : STORIES); i++) {
        if (!given)
            seed = i * 7919 + 17;
        uint64_t random = seed;
        struct story story;
        make(&story, &random);
        check(&story);
    }
}

static void equals_take_turns(void **state)
{
    (void)state;
    struct story story = {.node_count = 3, .shard_count = 4};
    size_t served[3] = {0};
    for (size_t s = 0; s < 4; s++) {
        story.shards[s] = (struct gy_choice_shard){story.members[s], 3, 0};
        for (uint32_t m = 0; m < 3; m++)
            story.members[s][m] = (struct gy_choice_member){m, 1};
    }
    for (story.turn = 0; story.turn < 300; story.turn++) {
        choose(&story);
        assert_int_equal(count_nodes(&story), 1);
        served[chosen(&story, 0)->node]++;
    }
    for (size_t n = 0; n < 3; n++)
        assert_int_equal(served[n], 100);
}

static void a_busy_node_is_left_for_one_that_is_not(void **state)
{
    (void)state;
    struct story story = {.node_count = 2, .shard_count = 1, .expected_ns = {30000000, 10000000}};
    story.shards[0] = (struct gy_choice_shard){story.members[0], 2, 0};
    story.members[0][0] = (struct gy_choice_member){0, 1}, story.members[0][1] = (struct gy_choice_member){1, 1};
    choose(&story);
    assert_int_equal(chosen(&story, 0)->node, 1);
    story.members[0][1].rank = 2; /* the quick one is known to be bad */
    choose(&story);
    assert_int_equal(chosen(&story, 0)->node, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_choice_is_of_the_best_rank_about_the_quickest_and_the_same_again, tell_seed),
        cmocka_unit_test(equals_take_turns),
        cmocka_unit_test(a_busy_node_is_left_for_one_that_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
