/* Scans, one promise at a time: sorting every bound, splits, limits, seeds, cutoffs, probes, deadlines, cancellation. */
#include "scan_fixture.h"

#include <pthread.h>

enum { DIM = 33, QUERIES = 8 /* so many make several parts of 40,000 codes */ };

static struct answer scan(struct world *world, gy_pool *pool, const struct gy_scan_request *request)
{
    struct answer answer;
    world_scan(world, pool, request, &answer);
    return answer;
}

/* Every row of the replica as a candidate, sorted. For codecs of one plane. */
static struct gy_candidate *all_rows(struct world *world, const float *query, float epsilon, size_t *count)
{
    gy_snapshot *snapshot = gy_points_snapshot(world->f.points);
    struct slow_row *slow = world_rows(world, snapshot, query, &(gyre_query_options){.epsilon = epsilon}, count);
    struct gy_candidate *rows = malloc((*count + 1) * sizeof *rows);
    for (size_t i = 0; i < *count; i++)
        rows[i] = slow[i].hit;
    qsort(rows, *count, sizeof *rows, by_bound);
    free(slow);
    gy_snapshot_release(snapshot);
    return rows;
}

static void assert_same_items(const struct gy_candidate *a, const struct gy_candidate *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(&a[i].id, &b[i].id, sizeof a[i].id);
        assert_memory_equal(&a[i].estimate, &b[i].estimate, sizeof a[i].estimate);
        assert_memory_equal(&a[i].half_width, &b[i].half_width, sizeof a[i].half_width);
    }
}

static void delete_every(struct world *world, size_t every)
{
    for (size_t n = 0; n < world->ids; n += every)
        world_put(world, n, 1, false);
}

static void a_scan_keeps_what_sorting_every_bound_puts_first(void **state)
{
    (void)state;
    const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
    for (int m = 0; m < 3; m++) {
        struct world world;
        world_init(&world, metrics[m], DIM, "rabitq1", m == 1 ? 1 : 6, 3000, 11 + (uint64_t)m);
        world_fill(&world);
        delete_every(&world, 37);
        float queries[3 * DIM];
        for (int q = 0; q < 3; q++)
            world_query(&world, queries + q * DIM);
        const uint32_t keeps[] = {1, 10, 500, 6000};
        for (int k = 0; k < 4; k++) {
            struct gy_scan_request request = {.queries = queries, .query_count = 3, .epsilon = 2.5f, .keep = keeps[k], .deadline_ns = GY_NEVER};
            struct answer answer = scan(&world, NULL, &request);
            assert_int_equal(answer.version, 1);
            assert_int_equal(answer.seq, world.f.seq);
            for (size_t q = 0; q < 3; q++) {
                size_t count;
                struct gy_candidate *rows = all_rows(&world, queries + q * DIM, 2.5f, &count);
                size_t kept = count < keeps[k] ? count : keeps[k];
                assert_int_equal(answer.out[q].count, kept);
                assert_int_equal(answer.out[q].scanned, count);
                assert_same_items(answer.out[q].items, rows, kept);
                float cutoff = count > keeps[k] ? bound_of(&rows[kept - 1]) : INFINITY;
                assert_true(answer.out[q].cutoff == cutoff);
                free(rows);
            }
            answer_free(&answer);
        }
        world_fini(&world);
    }
}

static void equal_bounds_are_decided_by_id_wherever_they_lie(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, GYRE_L2, DIM, "rabitq1", 3, 2501, 12);
    float same[DIM] = {1, 2};
    struct gy_operation operations[2500];
    for (uint64_t i = 0; i < 2500; i++) /* descending ids: slots and ids run against each other */
        operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(2500 - i), .vector = same, .payload = ""};
    fixture_apply(&world.f, operations, 2500, NULL);
    float query[DIM] = {0};
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 2, .keep = 100, .deadline_ns = GY_NEVER};
    for (int mode = 0; mode < 3; mode++) {
        request.exact = mode == 1, request.alone = mode == 2;
        struct answer answer = scan(&world, NULL, &request);
        assert_int_equal(answer.out[0].count, 100);
        for (size_t i = 0; i < 100; i++)
            assert_int_equal(gyre_point_id_number(&answer.out[0].items[i].id), i + 1);
        answer_free(&answer);
    }
    world_fini(&world);
}

/* Enough codes for several parts. */
static void fill_many(struct world *world, size_t ids, uint32_t lists, uint64_t random)
{
    world_init(world, GYRE_L2, DIM, "rabitq1", lists, ids, random);
    world_fill(world);
}

static void every_split_gives_the_same_bytes(void **state)
{
    (void)state;
    gyre_error err;
    for (uint32_t lists = 1; lists <= 20; lists += 19) {
        struct world world;
        fill_many(&world, 40000, lists, 21);
        float queries[QUERIES * DIM];
        for (int q = 0; q < QUERIES; q++)
            world_query(&world, queries + q * DIM);
        for (int mode = 0; mode < 3; mode++) {
            struct gy_scan_request request = {.queries = queries, .query_count = QUERIES, .epsilon = 2, .keep = 100, .seed = 20, .deadline_ns = GY_NEVER};
            request.k = mode == 1 ? 10 : 0, request.alone = mode == 2;
            struct answer alone = scan(&world, NULL, &request);
            for (size_t threads = 1; threads <= 3; threads++) {
                gy_pool *pool = NULL;
                assert_ok(gy_pool_new(&pool, "scan", threads, threads == 2 ? 1 : 8, &err)); /* once too small a queue */
                for (int i = 0; i < 5; i++) {
                    struct answer split = scan(&world, pool, &request);
                    for (int q = 0; q < QUERIES; q++)
                        assert_same_candidates(&split.out[q], &alone.out[q]);
                    answer_free(&split);
                }
                gy_pool_free(pool);
            }
            answer_free(&alone);
        }
        world_fini(&world);
    }
}

struct nested {
    struct world *world;
    gy_pool *pool;
    const struct gy_scan_request *request;
    struct answer answer;
    pthread_mutex_t mu;
    pthread_cond_t done;
    bool finished;
};

static void scan_inside(void *arg)
{
    struct nested *nested = arg;
    nested->answer = scan(nested->world, nested->pool, nested->request);
    pthread_mutex_lock(&nested->mu);
    nested->finished = true;
    pthread_cond_signal(&nested->done);
    pthread_mutex_unlock(&nested->mu);
}

static void a_scan_on_the_only_thread_of_its_own_pool_ends(void **state)
{
    (void)state;
    gyre_error err;
    struct world world;
    fill_many(&world, 40000, 1, 22);
    float queries[QUERIES * DIM] = {1};
    struct gy_scan_request request = {.queries = queries, .query_count = QUERIES, .epsilon = 2, .keep = 10, .deadline_ns = GY_NEVER};
    struct nested nested = {.world = &world, .request = &request, .mu = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    assert_ok(gy_pool_new(&nested.pool, "scan", 1, 8, &err));
    assert_ok(gy_pool_submit(nested.pool, scan_inside, &nested, &err));
    pthread_mutex_lock(&nested.mu);
    while (!nested.finished)
        pthread_cond_wait(&nested.done, &nested.mu);
    pthread_mutex_unlock(&nested.mu);
    assert_int_equal(nested.answer.out[0].count, 10);
    answer_free(&nested.answer);
    gy_pool_free(nested.pool);
    world_fini(&world);
}

static void a_limit_cuts_rows_and_not_the_cutoff(void **state)
{
    (void)state;
    struct world world;
    fill_many(&world, 3000, 4, 23);
    float query[DIM];
    world_query(&world, query);
    size_t count;
    struct gy_candidate *rows = all_rows(&world, query, 2, &count);
    float limit = bound_of(&rows[99]);
    struct gy_scan_request request = {.queries = query, .limits = &limit, .query_count = 1, .epsilon = 2, .keep = 500, .deadline_ns = GY_NEVER};
    struct answer answer = scan(&world, NULL, &request);
    assert_int_equal(answer.out[0].count, 100); /* the row at the limit is within it */
    assert_true(answer.out[0].cutoff == INFINITY);
    answer_free(&answer);
    request.alone = true;
    answer = scan(&world, NULL, &request);
    assert_int_equal(answer.out[0].count, 100);
    answer_free(&answer);
    request.alone = false, request.keep = 40;
    answer = scan(&world, NULL, &request);
    assert_int_equal(answer.out[0].count, 40);
    assert_same_items(answer.out[0].items, rows, 40);
    assert_true(answer.out[0].cutoff == bound_of(&rows[39]));
    answer_free(&answer);
    limit = -INFINITY;
    for (int mode = 0; mode < 3; mode++) {
        request.exact = mode == 1, request.alone = mode == 2;
        answer = scan(&world, NULL, &request);
        assert_int_equal(answer.out[0].count, 0);
        answer_free(&answer);
    }
    free(rows);
    world_fini(&world);
}

static void seeds_are_the_best_estimates_made_exact(void **state)
{
    (void)state;
    enum { KEEP = 200, SEED = 30 };
    gyre_error err;
    struct world world;
    world_init(&world, GYRE_COSINE, DIM, "rabitq1", 5, 3000, 24);
    world_fill(&world);
    float query[DIM];
    world_query(&world, query);
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 3, .keep = KEEP, .deadline_ns = GY_NEVER};
    struct answer plain = scan(&world, NULL, &request);
    request.seed = SEED;
    struct answer seeded = scan(&world, NULL, &request);
    assert_int_equal(seeded.out[0].count, KEEP);
    assert_int_equal(seeded.out[0].seeds_read, SEED);
    assert_true(seeded.out[0].cutoff == plain.out[0].cutoff);
    size_t exact = 0;
    for (size_t i = 0; i < KEEP; i++) {
        const struct gy_candidate *item = &seeded.out[0].items[i], *before = NULL;
        for (size_t j = 0; j < KEEP; j++)
            if (gyre_point_id_compare(&plain.out[0].items[j].id, &item->id) == 0)
                before = &plain.out[0].items[j];
        assert_non_null(before);
        size_t better = 0; /* estimates better than this one's */
        for (size_t j = 0; j < KEEP; j++)
            better += plain.out[0].items[j].estimate < before->estimate;
        assert_int_equal(item->half_width == 0, better < SEED);
        if (i)
            assert_true(by_bound(item - 1, item) < 0);
        if (item->half_width != 0)
            continue;
        float distance;
        exact++;
        assert_ok(gy_points_distances(world.f.points, query, &item->id, 1, &distance, &err));
        assert_true(distance == item->estimate);
    }
    assert_int_equal(exact, SEED);
    answer_free(&plain);
    answer_free(&seeded);
    world_fini(&world);
}

static void requests_beyond_their_limits_are_refused_by_name(void **state)
{
    (void)state;
    struct world world;
    fill_many(&world, 10, 3, 25);
    const uint32_t twice[] = {1, 2, 1}, beyond[] = {3}, three = 3, one = 1, four = 4;
    static float queries[GY_SCAN_QUERIES_MAX * DIM];
    static struct gy_candidates out[GY_SCAN_QUERIES_MAX];
    float nan = NAN;
    const struct {
        struct gy_scan_request request;
        gyre_status status;
        const char *says;
    } cases[] = {
        {{.queries = queries, .query_count = 0, .epsilon = 1, .keep = 1}, GYRE_INVALID, "0 queries"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 0}, GYRE_INVALID, "keep is 0"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = GY_SCAN_KEEP_MAX + 1}, GYRE_INVALID, "65536"},
        {{.queries = queries, .query_count = GY_SCAN_QUERIES_MAX, .epsilon = 1, .keep = GY_SCAN_KEEP_MAX}, GYRE_INVALID, "4194304"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .seed = 6}, GYRE_INVALID, "seed is 6"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .limits = &nan}, GYRE_INVALID, "limit of query 0"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .k = 6}, GYRE_INVALID, "k is 6"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .scan_bits = 5}, GYRE_INVALID, "scan_bits is 5"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .scan_bits = 260}, GYRE_INVALID, "scan_bits is 260"},
        {{.queries = queries, .query_count = 1, .epsilon = 0, .keep = 5}, GYRE_INVALID, "query 0: epsilon is 0"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .probes = twice, .probe_counts = &three}, GYRE_INVALID, "list 1 twice"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .probes = beyond, .probe_counts = &one}, GYRE_INVALID, "there are 3"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .probes = twice, .probe_counts = &four}, GYRE_INVALID, "probes 4 lists"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .deadline_ns = 1}, GYRE_DEADLINE, "deadline"},
        {{.queries = queries, .query_count = 1, .epsilon = 1, .keep = 5, .deadline_ns = 1, .exact = true}, GYRE_DEADLINE, "deadline"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gyre_error err;
        uint32_t version;
        uint64_t seq;
        struct gy_scan_request request = cases[i].request;
        if (!request.deadline_ns)
            request.deadline_ns = GY_NEVER;
        assert_int_equal(gy_scan_run(world.f.points, NULL, NULL, &request, out, &version, &seq, &err), cases[i].status);
        if (!strstr(err.text, cases[i].says))
            fail_msg("case %zu: %s", i, err.text);
        gy_candidates_free(out, request.query_count);
    }
    world_fini(&world);
}

static void an_empty_replica_answers_with_nothing(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, GYRE_L2, DIM, "rabitq4-fast", 3, 1, 26);
    float query[DIM] = {0};
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 1, .keep = 5, .seed = 5, .deadline_ns = GY_NEVER};
    for (int mode = 0; mode < 3; mode++) {
        request.exact = mode == 1, request.alone = mode == 2;
        struct answer answer = scan(&world, NULL, &request);
        assert_int_equal(answer.out[0].count, 0);
        assert_int_equal(answer.out[0].scanned, 0);
        assert_true(answer.out[0].cutoff == INFINITY);
        answer_free(&answer);
    }
    world_fini(&world);
}

/* ---- what ends a scan ---- */

struct ending {
    size_t asked, after;
};

static bool cancelled_later(void *arg)
{
    struct ending *ending = arg;
    return ending->asked++ >= ending->after;
}

static void a_cancelled_scan_ends_wherever_it_is(void **state)
{
    (void)state;
    gyre_error err;
    struct world world;
    fill_many(&world, 20000, 5, 27);
    float queries[3 * DIM];
    for (int q = 0; q < 3; q++)
        world_query(&world, queries + q * DIM);
    for (int mode = 0; mode < 3; mode++)
        for (size_t after = 0;; after++) { /* the 1st, 2nd, … look says that it is */
            struct ending ending = {0, after};
            struct gy_scan_request request = {.queries = queries, .query_count = 3, .epsilon = 2, .keep = 10, .deadline_ns = GY_NEVER};
            request.exact = mode == 1, request.alone = mode == 2;
            request.cancelled = cancelled_later, request.cancelled_arg = &ending;
            struct answer answer = {.queries = 3};
            gyre_status status = gy_scan_run(world.f.points, NULL, NULL, &request, answer.out, &answer.version, &answer.seq, &err);
            answer_free(&answer);
            if (status == GYRE_OK) {
                assert_int_equal(ending.asked, after);
                assert_true(after > 10); /* it was looked at between chunks */
                break;
            }
            assert_int_equal(status, GYRE_CANCELLED);
            assert_int_equal(ending.asked, after + 1); /* and at once */
        }
    world_fini(&world);
}

/* ---- snapshots ---- */

static void a_held_snapshot_is_scanned_as_it_was(void **state)
{
    (void)state;
    gyre_error err;
    struct world world;
    fill_many(&world, 2000, 3, 28);
    float query[DIM];
    world_query(&world, query);
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 2, .keep = 50, .deadline_ns = GY_NEVER};
    struct answer before = scan(&world, NULL, &request), after = {.queries = 1};
    gy_snapshot *snapshot = gy_points_snapshot(world.f.points);
    for (size_t i = 0; i < before.out[0].count; i++) /* every one of them goes */
        world_put(&world, gyre_point_id_number(&before.out[0].items[i].id), 1, false);
    assert_ok(gy_scan_run(world.f.points, snapshot, NULL, &request, after.out, &after.version, &after.seq, &err));
    assert_int_equal(after.seq, before.seq);
    assert_same_candidates(&after.out[0], &before.out[0]);
    gy_candidates_free(after.out, 1);
    gy_snapshot_release(snapshot);
    answer_free(&before);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_keeps_what_sorting_every_bound_puts_first),
        cmocka_unit_test(equal_bounds_are_decided_by_id_wherever_they_lie),
        cmocka_unit_test(every_split_gives_the_same_bytes),
        cmocka_unit_test(a_scan_on_the_only_thread_of_its_own_pool_ends),
        cmocka_unit_test(a_limit_cuts_rows_and_not_the_cutoff),
        cmocka_unit_test(seeds_are_the_best_estimates_made_exact),
        cmocka_unit_test(requests_beyond_their_limits_are_refused_by_name),
        cmocka_unit_test(an_empty_replica_answers_with_nothing),
        cmocka_unit_test(a_cancelled_scan_ends_wherever_it_is),
        cmocka_unit_test(a_held_snapshot_is_scanned_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
