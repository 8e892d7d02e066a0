/* Scans of several threads, on a shared pool, beside a writer that inserts, overwrites, deletes and retrains: every answer is right for
 * the snapshot it says it is of. Meant for the thread sanitizer. */
#include "scan_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IDS = 12000, DIM = 24, SCANNERS = 2, BATCHES = 60, QUERIES = 3 };

struct shared {
    struct world world;
    gy_pool *pool;
    atomic_bool finished;
    atomic_size_t scans;
};

/* Of one snapshot: alone by the certain bound, by its bytes again with other threads, and what candidates promise. */
static void scan_once(struct shared *shared, uint64_t *random)
{
    gyre_error err;
    struct gy_points *points = shared->world.f.points;
    struct world mine = {.metric = GYRE_COSINE, .dim = DIM, .random = fixture_random(random)};
    float queries[QUERIES * DIM];
    for (size_t q = 0; q < QUERIES; q++)
        world_query(&mine, queries + q * DIM);
    gy_snapshot *snapshot = gy_points_snapshot(points);
    uint64_t held = gy_snapshot_count(snapshot);
    for (int mode = 0; mode < 3; mode++) {
        struct gy_scan_request request = {.queries = queries, .query_count = QUERIES, .epsilon = 2.5f, .keep = 20, .deadline_ns = GY_NEVER};
        request.alone = mode > 0, request.certain = mode == 1, request.k = mode ? 0 : 10;
        struct answer split = {.queries = QUERIES}, alone = {.queries = QUERIES};
        assert_int_equal(gy_scan_run(points, snapshot, shared->pool, &request, split.out, &split.version, &split.seq, &err), GYRE_OK);
        assert_int_equal(gy_scan_run(points, snapshot, NULL, &request, alone.out, &alone.version, &alone.seq, &err), GYRE_OK);
        assert_int_equal(split.seq, gy_snapshot_applied_seq(snapshot));
        for (size_t q = 0; q < QUERIES; q++) {
            assert_int_equal(split.out[q].scanned, held);
            if (mode == 0) /* no full vector enters, so nothing that was deleted since can show */
                assert_same_candidates(&split.out[q], &alone.out[q]);
            for (size_t i = 1; i < split.out[q].count; i++)
                assert_true(by_bound(&split.out[q].items[i - 1], &split.out[q].items[i]) < 0);
        }
        answer_free(&split);
        answer_free(&alone);
    }
    gy_snapshot_release(snapshot);
    atomic_fetch_add(&shared->scans, 1);
}

static void *scanner(void *arg)
{
    struct shared *shared = arg;
    uint64_t random = (uint64_t)(uintptr_t)&random;
    do
        scan_once(shared, &random);
    while (!atomic_load(&shared->finished));
    return NULL;
}

static void scans_beside_a_writer_see_whole_snapshots(void **state)
{
    (void)state;
    gyre_error err;
    static struct shared shared;
    pthread_t threads[SCANNERS];
    world_init(&shared.world, GYRE_COSINE, DIM, "rabitq4-fast", 6, IDS, fixture_seed());
    world_fill(&shared.world);
    assert_ok(gy_pool_new(&shared.pool, "scan", 2, 8, &err));
    for (int i = 0; i < SCANNERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, scanner, &shared), 0);
    for (int i = 0; i < BATCHES; i++) {
        size_t first = fixture_below(&shared.world.random, IDS - 400);
        world_put(&shared.world, first, 1 + fixture_below(&shared.world.random, 400), i % 4 != 0);
        if (i % 25 == 24)
            world_retrain(&shared.world);
    }
    atomic_store(&shared.finished, true);
    for (int i = 0; i < SCANNERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&shared.scans) >= SCANNERS);
    gy_pool_free(shared.pool);
    float query[DIM]; /* and afterwards the last snapshot is the model's */
    world_query(&shared.world, query);
    struct gy_scan_request request = {.queries = query, .query_count = 1, .keep = 30, .alone = true, .certain = true, .deadline_ns = GY_NEVER};
    struct answer answer;
    world_scan(&shared.world, NULL, &request, &answer);
    size_t count;
    struct gy_candidate *nearest = world_nearest(&shared.world, query, NULL, &count);
    for (size_t i = 0; i < 30; i++)
        assert_memory_equal(&answer.out[0].items[i].id, &nearest[i].id, sizeof nearest[i].id);
    free(nearest);
    answer_free(&answer);
    world_fini(&shared.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scans_beside_a_writer_see_whole_snapshots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
