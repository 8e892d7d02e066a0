/* The simulator's own parts: a run is a function of its seed, and histories are judged as a search of all orders would. */
#include "world.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- runs ---- */

static char *trace_of(struct gy_sim *sim, uint64_t seed)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *trace = open_memstream(&text, &bytes);
    assert_non_null(trace);
    assert_true(gy_sim_run_seed(sim, seed, GY_PLANT_NONE, trace));
    gy_sim_fini(sim);
    fclose(trace);
    return text;
}

static void a_seed_always_gives_the_same_run(void **state)
{
    (void)state;
    static struct gy_sim sim;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        char *first = trace_of(&sim, seed), *second = trace_of(&sim, seed), *other = trace_of(&sim, seed + 1000);
        assert_string_equal(first, second);
        assert_string_not_equal(first, other);
        free(first), free(second), free(other);
    }
}

/* ---- histories ---- */

enum { OPERATIONS_MAX = 7, HISTORIES = 20000 };

/* Whether some order of the operations left explains them all, when the register holds `value`: every operation that ended
 * before another began comes before it. Wing & Gong, "Testing and verifying concurrent objects", 1993. */
static bool explained(const struct gy_sim_operation *operations, size_t count, uint32_t left, uint64_t value)
{
    int64_t first_end_ns = INT64_MAX;
    bool must = false; /* one of those left certainly happened */
    for (size_t i = 0; i < count; i++)
        if (left >> i & 1) {
            must |= operations[i].outcome == GY_SIM_DONE;
            first_end_ns = operations[i].ended_ns < first_end_ns ? operations[i].ended_ns : first_end_ns;
        }
    if (!must)
        return true;
    for (size_t i = 0; i < count; i++) {
        const struct gy_sim_operation *operation = &operations[i];
        if (!(left >> i & 1) || operation->began_ns > first_end_ns || operation->outcome == GY_SIM_REFUSED ||
            (operation->reads && operation->value != value))
            continue;
        if (explained(operations, count, left & ~(UINT32_C(1) << i), operation->value))
            return true;
    }
    return false;
}

static bool judged_good(struct gy_sim *sim, const struct gy_sim_operation *operations, size_t count)
{
    memset(sim, 0, sizeof *sim);
    struct gy_sim_history *history = &sim->checks.histories[0][0];
    history->operations = malloc(count * sizeof *operations);
    assert_non_null(history->operations);
    memcpy(history->operations, operations, count * sizeof *operations);
    history->count = history->room = count;
    if (setjmp(sim->out) == 0)
        gy_sim_history_check(sim, 0, 0);
    bool good = !sim->failed;
    gy_sim_fini(sim);
    return good;
}

static size_t random_history(uint64_t *random, struct gy_sim_operation *operations)
{
    size_t count = 1 + (size_t)gy_sim_below(random, OPERATIONS_MAX);
    uint64_t writes = 0;
    int64_t times[2 * OPERATIONS_MAX]; /* all different */
    for (int i = 0; i < 2 * OPERATIONS_MAX; i++)
        times[i] = i;
    for (size_t i = 2 * OPERATIONS_MAX; i-- > 1;) {
        size_t j = (size_t)gy_sim_below(random, i + 1);
        int64_t moved = times[i];
        times[i] = times[j], times[j] = moved;
    }
    for (size_t i = 0; i < count; i++) {
        struct gy_sim_operation *operation = &operations[i];
        int64_t a = times[2 * i], b = times[2 * i + 1];
        *operation = (struct gy_sim_operation){.began_ns = a < b ? a : b, .ended_ns = a < b ? b : a,
                                               .reads = gy_sim_chance(random, 500)};
        if (operation->reads)
            continue;
        operation->value = ++writes;
        uint64_t fate = gy_sim_below(random, 10);
        operation->outcome = fate < 7 ? GY_SIM_DONE : fate < 9 ? GY_SIM_UNKNOWN : GY_SIM_REFUSED;
        if (operation->outcome != GY_SIM_DONE)
            operation->ended_ns = INT64_MAX;
    }
    for (size_t i = 0; i < count; i++)
        if (operations[i].reads)
            operations[i].value = gy_sim_below(random, writes + 1);
    return count;
}

static void histories_are_judged_as_a_search_of_all_orders_judges_them(void **state)
{
    (void)state;
    static struct gy_sim sim;
    uint64_t random = 1, good = 0;
    for (int i = 0; i < HISTORIES; i++) {
        struct gy_sim_operation operations[OPERATIONS_MAX];
        size_t count = random_history(&random, operations);
        bool expected = explained(operations, count, (UINT32_C(1) << count) - 1, 0);
        if (judged_good(&sim, operations, count) != expected)
            fail_msg("history %d is %slinearizable", i, expected ? "" : "not ");
        good += expected;
    }
    assert_true(good > HISTORIES / 10 && good < HISTORIES / 10 * 9); /* both kinds were there */
}

/* ---- states ---- */

static void a_state_keeps_its_digest_and_applies_a_request_once(void **state)
{
    (void)state;
    static struct gy_sim_state self, other;
    uint64_t random = 2;
    for (uint32_t i = 0; i < 1000; i++) {
        struct gy_sim_entry entry = {.request = 1 + i, .client = (uint8_t)gy_sim_below(&random, GY_SIM_CLIENTS_MAX),
                                     .key = (uint8_t)gy_sim_below(&random, GY_SIM_KEYS), .deletes = gy_sim_chance(&random, 300)};
        struct gy_sim_result first = gy_sim_state_apply(&self, &entry, GY_PLANT_NONE);
        uint64_t digest = self.digest;
        struct gy_sim_result again = gy_sim_state_apply(&self, &entry, GY_PLANT_NONE);
        assert_true(first.seq == again.seq && first.existed == again.existed && self.digest == digest);
        assert_true(gy_sim_state_digest(&self) == digest && digest != other.digest);
        other = self;
    }
}

static struct gy_sim_result write_key(struct gy_sim_state *state, uint32_t request, uint8_t key)
{
    return gy_sim_state_apply(state, &(struct gy_sim_entry){.request = request, .key = key}, GY_PLANT_NONE);
}

static void a_state_is_split_into_two_that_own_each_key_once_and_remember_what_was_asked(void **state)
{
    (void)state;
    static struct gy_sim_state self, child;
    for (uint8_t key = 0; key < GY_SIM_KEYS; key++)
        write_key(&self, key + 1u, key);
    struct gy_sim_entry narrowing = {.kind = GY_SIM_ENTRY_NARROW, .child = 1, .range = {0, UINT64_MAX / 2}};
    gy_sim_state_split(&child, &self, &narrowing, GY_PLANT_NONE);
    gy_sim_state_apply(&self, &narrowing, GY_PLANT_NONE);
    assert_true(child.seq == self.seq && gy_range_is_all(self.content) && !gy_range_is_all(child.content));
    for (uint32_t key = 0; key < GY_SIM_KEYS; key++)
        assert_true(gy_sim_state_owns(&self, key) != gy_sim_state_owns(&child, key));
    /* What was done before the split is known to both; what is not owned any more has no effect. */
    assert_int_equal(write_key(&child, GY_SIM_KEYS, GY_SIM_KEYS - 1).seq, GY_SIM_KEYS);
    uint64_t digest = self.digest;
    assert_true(write_key(&self, GY_SIM_KEYS + 1, GY_SIM_KEYS - 1).aborted && self.digest == digest);
    for (uint32_t key; (key = gy_sim_state_foreign(&self)) < GY_SIM_KEYS;)
        gy_sim_state_apply(&self, &(struct gy_sim_entry){.kind = GY_SIM_ENTRY_FORGET, .key = (uint8_t)key}, GY_PLANT_NONE);
    assert_true(!gy_range_is_all(self.content) && self.cells[0].value && !self.cells[GY_SIM_KEYS - 1].value);
    /* One that is owned is passed over. */
    gy_sim_state_apply(&self, &(struct gy_sim_entry){.kind = GY_SIM_ENTRY_FORGET, .key = 0}, GY_PLANT_NONE);
    assert_true(self.cells[0].value && gy_sim_state_digest(&self) == self.digest && gy_sim_state_digest(&child) == child.digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_always_gives_the_same_run),
        cmocka_unit_test(histories_are_judged_as_a_search_of_all_orders_judges_them),
        cmocka_unit_test(a_state_keeps_its_digest_and_applies_a_request_once),
        cmocka_unit_test(a_state_is_split_into_two_that_own_each_key_once_and_remember_what_was_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
