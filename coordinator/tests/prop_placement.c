/* Random clusters and histories against what placement promises; a failure prints the seed: GYRE_SEED=0x… runs it again. */
#include "placement/core.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { ROUNDS = 3000, STEPS = 200 };

static uint64_t seed;

static uint64_t next_random(uint64_t *state) /* splitmix64, public domain constants */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t limit) { return next_random(state) % limit; }

#define REQUIRE(condition)                                                                   \
    do {                                                                                     \
        if (!(condition))                                                                    \
            fail_msg("%s; run again with GYRE_SEED=0x%llx", #condition, (unsigned long long)seed); \
    } while (0)

/* Against the plain definition: up from a report until the silence is over. */
static void health_follows_the_reports(void **state)
{
    (void)state;
    uint64_t random = seed;
    for (int round = 0; round < ROUNDS / 10; round++) {
        int64_t heartbeat_ns = (50 + (int64_t)below(&random, 2000)) * GY_MILLISECOND_NS;
        int64_t silent_ns = GY_HEARTBEATS_MISSED_MAX * heartbeat_ns > GY_NODE_SILENT_NS_MIN
                                ? GY_HEARTBEATS_MISSED_MAX * heartbeat_ns
                                : GY_NODE_SILENT_NS_MIN;
        gy_node_health health = {0};
        int64_t now_ns = GY_SECOND_NS, reported_ns = -1;
        bool was_up = false;
        for (int step = 0; step < STEPS; step++) {
            now_ns += (int64_t)below(&random, (uint64_t)silent_ns);
            bool due = gy_node_health_due_ns(&health, heartbeat_ns) <= now_ns, changed;
            if (below(&random, 2)) {
                reported_ns = now_ns;
                changed = gy_node_health_reported(&health, now_ns);
            } else {
                changed = gy_node_health_tick(&health, now_ns, heartbeat_ns);
                REQUIRE(changed == due); /* sleeping until the due time misses nothing */
            }
            bool up = reported_ns == now_ns || (was_up && now_ns - reported_ns < silent_ns);
            REQUIRE((health.state == GY_NODE_UP) == up);
            REQUIRE(changed == (up != was_up));
            was_up = up;
        }
    }
}

/* However a collection grows, it is trained a bounded number of times, and never later than ten times its last training. */
static void training_keeps_up_with_growth(void **state)
{
    (void)state;
    uint64_t random = seed;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t points = 0, trained_at = 0, trainings = 0;
        while (points < UINT64_C(1) << 40) {
            points += 1 + below(&random, 1 + points * 2);
            if (gy_training_due(trained_at, points)) {
                trained_at = points;
                trainings++;
            }
            REQUIRE(points < GY_TRAIN_POINTS_MIN || trained_at > 0);
            REQUIRE(trained_at == 0 || points < trained_at * GY_TRAIN_GROWTH);
        }
        REQUIRE(trainings <= 12); /* 10^3 … 10^12 are ten powers */
    }
}

int main(void)
{
    const char *given = getenv("GYRE_SEED");
    seed = given ? strtoull(given, NULL, 0) : 0x67797265;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_follows_the_reports),
        cmocka_unit_test(training_keeps_up_with_growth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
