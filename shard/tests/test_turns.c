/* Whose turn it is: fairness between lines, who has to go when all places are taken, and random stories against the invariant. */
#include "server/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ITEMS = 400 };

static struct gy_turn items[ITEMS];
static size_t used;

static struct gy_turn *item(uint64_t key, uint32_t cost)
{
    assert_true(used < ITEMS);
    struct gy_turn *made = &items[used++];
    *made = (struct gy_turn){.key = key, .cost = cost};
    return made;
}

static void assert_sound(const struct gy_turns *turns)
{
    const char *why = "";
    if (!gy_turns_check(turns, &why))
        fail_msg("%s", why);
}

static struct gy_turns new_turns(size_t places)
{
    struct gy_turns turns;
    used = 0;
    gy_turns_init(&turns, places);
    return turns;
}

/* The keys in the order of their turns, as letters: "AAB". */
static const char *order(struct gy_turns *turns, size_t count)
{
    static char text[ITEMS + 1];
    size_t i = 0;
    for (; i < count; i++) {
        struct gy_turn *next = gy_turns_pop(turns);
        assert_sound(turns);
        if (!next)
            break;
        text[i] = (char)next->key;
    }
    text[i] = '\0';
    return text;
}

static void one_line_is_first_in_first_out(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(100);
    assert_null(gy_turns_pop(&turns));
    for (size_t i = 0; i < 100; i++)
        assert_null(gy_turns_push(&turns, item('A', 1 + (uint32_t)i % GY_TURN_COST_MAX)));
    for (size_t i = 0; i < 100; i++)
        assert_ptr_equal(gy_turns_pop(&turns), &items[i]);
    assert_null(gy_turns_pop(&turns));
}

static void a_flood_of_one_key_lets_another_pass(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(ITEMS);
    for (size_t i = 0; i < 200; i++)
        gy_turns_push(&turns, item('A', 8));
    assert_string_equal(order(&turns, 2), "AA");
    gy_turns_push(&turns, item('B', 8));
    gy_turns_push(&turns, item('C', 1));
    assert_string_equal(order(&turns, 5), "BCAAA");
}

static void costs_are_shared_alike_not_items(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(ITEMS);
    for (size_t i = 0; i < 300; i++)
        gy_turns_push(&turns, item(i % 3 ? 'A' : 'B', i % 3 ? 2 : 8));
    size_t dear = 0, cheap = 0;
    for (const char *next = order(&turns, 50); *next; next++)
        *(*next == 'B' ? &dear : &cheap) += 1;
    assert_int_equal(dear, 10); /* 10 turns each: 10 · 8 = 40 · 2 */
    assert_int_equal(cheap, 40);
}

static void the_dearest_item_comes_within_a_few_rounds(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(ITEMS);
    gy_turns_push(&turns, item('A', GY_TURN_COST_MAX));
    for (size_t i = 0; i < 20; i++)
        gy_turns_push(&turns, item('B', GY_TURN_EARNS));
    assert_string_equal(order(&turns, 10), "BBBBBBBABB");
}

static bool is_even(void *self, const struct gy_turn *candidate)
{
    (void)self;
    return (candidate - items) % 2 == 0;
}

static void what_is_gathered_leaves_its_line_and_is_paid_for(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(ITEMS);
    struct gy_turn *gathered[4];
    for (size_t i = 0; i < 21; i++)
        gy_turns_push(&turns, item('A', 4));
    for (size_t i = 0; i < 10; i++)
        gy_turns_push(&turns, item('B', 8));
    assert_ptr_equal(gy_turns_pop(&turns), &items[0]);
    assert_int_equal(gy_turns_gather(&turns, 'A', is_even, NULL, gathered, 4, 100), 4);
    assert_sound(&turns);
    for (size_t i = 0; i < 4; i++)
        assert_ptr_equal(gathered[i], &items[2 * i + 2]);
    /* A's turn was worth 8 and cost 20: it misses one, and the next is worth 4. */
    assert_string_equal(order(&turns, 6), "BBABAA");
    assert_int_equal(gy_turns_gather(&turns, 'A', is_even, NULL, gathered, 4, 0), 0);
    assert_int_equal(gy_turns_gather(&turns, 'C', is_even, NULL, gathered, 4, 100), 0);
    assert_sound(&turns);
}

static bool always(void *self, const struct gy_turn *candidate)
{
    (void)self, (void)candidate;
    return true;
}

static void gathering_a_whole_line_ends_its_turn(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(ITEMS);
    struct gy_turn *gathered[8];
    for (size_t i = 0; i < 3; i++)
        gy_turns_push(&turns, item('A', 1));
    gy_turns_push(&turns, item('B', 1));
    gy_turns_pop(&turns);
    assert_int_equal(gy_turns_gather(&turns, 'A', always, NULL, gathered, 8, 100), 2);
    assert_sound(&turns);
    assert_string_equal(order(&turns, 5), "B");
}

static void when_full_the_longest_line_gives_way_to_shorter_ones_only(void **state)
{
    (void)state;
    struct gy_turns turns = new_turns(10);
    for (size_t i = 0; i < 10; i++)
        assert_null(gy_turns_push(&turns, item('A', 1)));
    struct gy_turn *more = item('A', 1);
    assert_ptr_equal(gy_turns_push(&turns, more), more); /* the flood itself is refused */
    for (size_t i = 0; i < 4; i++) {
        assert_ptr_equal(gy_turns_push(&turns, item('B', 1)), &items[9 - i]); /* its last one, for another's */
        assert_sound(&turns);
    }
    struct gy_turn *fifth = item('B', 1);
    assert_ptr_equal(gy_turns_push(&turns, fifth), &items[5]);
    struct gy_turn *sixth = item('B', 1); /* 5 and 5: nobody is longer by two */
    assert_ptr_equal(gy_turns_push(&turns, sixth), sixth);
    assert_int_equal(turns.count, 10);
}

static void random_stories_keep_the_invariant_and_starve_nobody(void **state)
{
    (void)state;
    const char *given = getenv("GYRE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
    for (uint64_t last = given ? seed : 100; seed <= last; seed++) {
        uint64_t random = seed * 0x9e3779b97f4a7c15u;
        struct gy_turns turns = new_turns(1 + seed % 40);
        bool waits[ITEMS] = {false};
        size_t passed_over[8] = {0}, free_items[ITEMS], free_count = ITEMS;
        memset(items, 0, sizeof items);
        for (size_t i = 0; i < ITEMS; i++)
            free_items[i] = i;
        for (size_t step = 0; step < 2000; step++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            struct gy_turn *out[8] = {NULL};
            size_t count = 0;
            if (random % 8 < 4) {
                size_t at = free_items[--free_count];
                /* Key 0 floods. */
                items[at] = (struct gy_turn){.key = random >> 8 & 1 ? 0 : random >> 16 & 7,
                                             .cost = 1 + (uint32_t)(random >> 24) % GY_TURN_COST_MAX};
                waits[at] = true;
                out[0] = gy_turns_push(&turns, &items[at]);
                count = out[0] != NULL;
            } else if (random % 8 < 7) {
                out[0] = gy_turns_pop(&turns);
                count = out[0] != NULL;
                bool here[8] = {false};
                for (size_t i = 0; i < ITEMS; i++)
                    here[items[i].key] |= waits[i];
                for (size_t key = 0; key < 8; key++)
                    passed_over[key] = !here[key] || (count && out[0]->key == key) ? 0 : passed_over[key] + 1;
                for (size_t key = 0; key < 8;
                     key++) /* 8 lines, at most 8 turns for the dearest and 15 of debt, 8 cheap ones a turn */
                    if (passed_over[key] > 8 * 8 * 23)
                        fail_msg("GYRE_SEED=%llu: key %zu starves at step %zu", (unsigned long long)seed, key, step);
            } else {
                count = gy_turns_gather(&turns, random >> 8 & 7, is_even, NULL, out, 1 + (random >> 16) % 8,
                                        1 + (random >> 24) % 32);
            }
            for (size_t i = 0; i < count; i++) {
                assert_true(waits[out[i] - items]);
                waits[out[i] - items] = false;
                free_items[free_count++] = (size_t)(out[i] - items);
            }
            const char *why = "";
            if (!gy_turns_check(&turns, &why))
                fail_msg("GYRE_SEED=%llu: step %zu: %s", (unsigned long long)seed, step, why);
            size_t waiting = 0;
            for (size_t i = 0; i < ITEMS; i++)
                waiting += waits[i];
            assert_int_equal(waiting, turns.count);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_is_first_in_first_out),
        cmocka_unit_test(a_flood_of_one_key_lets_another_pass),
        cmocka_unit_test(costs_are_shared_alike_not_items),
        cmocka_unit_test(the_dearest_item_comes_within_a_few_rounds),
        cmocka_unit_test(what_is_gathered_leaves_its_line_and_is_paid_for),
        cmocka_unit_test(gathering_a_whole_line_ends_its_turn),
        cmocka_unit_test(when_full_the_longest_line_gives_way_to_shorter_ones_only),
        cmocka_unit_test(random_stories_keep_the_invariant_and_starve_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
