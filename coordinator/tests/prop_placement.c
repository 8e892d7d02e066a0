/* Random clusters and histories against what placement promises; a failure prints the seed: GYRE_SEED=0x… runs it again. */
#include "placement/core.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { ROUNDS = 3000, NODES_MAX = 40, SHARDS_MAX = 200, STEPS = 200 };

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

struct cluster {
    char names[NODES_MAX][24];
    struct gy_placement_node nodes[NODES_MAX];
    size_t count;
};

static void random_cluster(struct cluster *cluster, uint64_t *random)
{
    cluster->count = 1 + below(random, NODES_MAX);
    uint64_t replicas_max = below(random, 3) == 0 ? 1 : 50;
    for (size_t i = 0; i < cluster->count; i++) {
        snprintf(cluster->names[i], sizeof cluster->names[i], "n%zu", i);
        cluster->nodes[i] = (struct gy_placement_node){cluster->names[i], below(random, 4) != 0, below(random, replicas_max)};
    }
    cluster->nodes[below(random, cluster->count)].up = true;
}

/* Every shard is on a node that is up; whoever got a shard has at most one more than any other that is up. */
static void check_balance(const struct cluster *cluster, const size_t *chosen, uint32_t shards)
{
    uint64_t after[NODES_MAX];
    bool got[NODES_MAX] = {0};
    for (size_t i = 0; i < cluster->count; i++)
        after[i] = cluster->nodes[i].replicas;
    for (uint32_t s = 0; s < shards; s++) {
        REQUIRE(chosen[s] < cluster->count && cluster->nodes[chosen[s]].up);
        after[chosen[s]]++;
        got[chosen[s]] = true;
    }
    for (size_t i = 0; i < cluster->count; i++)
        for (size_t j = 0; got[i] && j < cluster->count; j++)
            REQUIRE(!cluster->nodes[j].up || after[i] <= after[j] + 1);
}

static void shards_are_spread_evenly_whatever_the_cluster(void **state)
{
    (void)state;
    uint64_t random = seed;
    for (int round = 0; round < ROUNDS; round++) {
        struct cluster cluster;
        random_cluster(&cluster, &random);
        uint32_t shards = 1 + (uint32_t)below(&random, SHARDS_MAX);
        size_t chosen[SHARDS_MAX];
        gyre_error err;
        REQUIRE(gy_placement_assign(cluster.nodes, cluster.count, shards, chosen, &err) == GYRE_OK);
        check_balance(&cluster, chosen, shards);

        struct gy_placement_node shuffled[NODES_MAX]; /* the same nodes in another order give the same placement */
        memcpy(shuffled, cluster.nodes, sizeof shuffled);
        for (size_t i = cluster.count; i-- > 1;) {
            size_t j = below(&random, i + 1);
            struct gy_placement_node moved = shuffled[i];
            shuffled[i] = shuffled[j];
            shuffled[j] = moved;
        }
        size_t chosen_again[SHARDS_MAX];
        REQUIRE(gy_placement_assign(shuffled, cluster.count, shards, chosen_again, &err) == GYRE_OK);
        for (uint32_t s = 0; s < shards; s++)
            REQUIRE(shuffled[chosen_again[s]].name == cluster.nodes[chosen[s]].name);
    }
}

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
        cmocka_unit_test(shards_are_spread_evenly_whatever_the_cluster),
        cmocka_unit_test(health_follows_the_reports),
        cmocka_unit_test(training_keeps_up_with_growth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
