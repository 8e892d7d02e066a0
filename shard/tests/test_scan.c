/* Scans: equal to sorting every bound, whatever the split; limits, seeds, cutoffs and deadlines. */
#include "points_fixture.h"

#include "scan/scan.h"

#include <math.h>
#include <pthread.h>

enum { DIM = 33 };

struct answer {
    struct gy_candidates out[4];
    uint32_t version;
    uint64_t seq;
    size_t queries;
};

static struct answer scan(struct fixture *f, gy_pool *pool, const struct gy_scan_request *request)
{
    gyre_error err;
    struct answer answer = {.queries = request->query_count};
    assert_ok(gy_scan_run(f->points, pool, request, answer.out, &answer.version, &answer.seq, &err));
    return answer;
}

static void answer_free(struct answer *answer)
{
    gy_candidates_free(answer->out, answer->queries);
}

static int by_bound(const void *a, const void *b)
{
    const struct gy_candidate *x = a, *y = b;
    float p = x->estimate - x->half_width, q = y->estimate - y->half_width;
    return p < q ? -1 : p > q ? 1 : gyre_point_id_compare(&x->id, &y->id);
}

/* Every row of the replica with its estimate, sorted: block by block, through no threshold. */
static struct gy_candidate *all_rows(struct fixture *f, const float *query, float epsilon, size_t *count)
{
    gyre_error err;
    gyre_query *prepared = NULL;
    gyre_hit hits[GYRE_BLOCK_ROWS];
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    struct gy_candidate *rows = malloc((gy_snapshot_count(snapshot) + 1) * sizeof *rows);
    assert_ok(gyre_query_new(&prepared, gy_snapshot_quantizer(snapshot), query, NULL, &(gyre_query_options){.epsilon = epsilon}, &err));
    *count = 0;
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++)
        for (size_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS; b++) {
            struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, c);
            const uint8_t *block = chunk.blocks + b * gyre_block_bytes(gy_replica_code_bytes(DIM));
            size_t n = gyre_query_scan(prepared, block, 1, INFINITY, hits);
            for (size_t i = 0; i < n; i++)
                rows[(*count)++] = (struct gy_candidate){chunk.ids[b * GYRE_BLOCK_ROWS + hits[i].row], hits[i].estimate, hits[i].half_width};
        }
    assert_int_equal(*count, gy_snapshot_count(snapshot));
    qsort(rows, *count, sizeof *rows, by_bound);
    gyre_query_free(prepared);
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

static void delete_some(struct fixture *f, uint64_t below, uint64_t every)
{
    for (uint64_t n = 0; n < below; n += every) {
        struct gy_operation operation = {.id = gyre_point_id_from_number(n)};
        fixture_apply(f, &operation, 1, NULL);
    }
}

static void a_scan_keeps_what_sorting_every_bound_puts_first(void **state)
{
    (void)state;
    const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
    for (int m = 0; m < 3; m++) {
        struct fixture f;
        uint64_t random = 11 + (uint64_t)m;
        fixture_init(&f, metrics[m], DIM);
        fixture_fill(&f, 0, 5000, 900, &random);
        delete_some(&f, 5000, 37);
        float queries[3 * DIM];
        for (int q = 0; q < 3; q++) {
            fixture_vector(&random, queries + q * DIM, DIM);
            gyre_vector_normalize(metrics[m], queries + q * DIM, queries + q * DIM, DIM);
        }
        const uint32_t keeps[] = {1, 10, 500, 6000};
        for (int k = 0; k < 4; k++) {
            struct gy_scan_request request = {.queries = queries, .query_count = 3, .epsilon = 2.5f, .keep = keeps[k], .deadline_ns = GY_NEVER};
            struct answer answer = scan(&f, NULL, &request);
            assert_int_equal(answer.version, 1);
            assert_int_equal(answer.seq, f.seq);
            for (size_t q = 0; q < 3; q++) {
                size_t count;
                struct gy_candidate *rows = all_rows(&f, queries + q * DIM, 2.5f, &count);
                size_t kept = count < keeps[k] ? count : keeps[k];
                assert_int_equal(answer.out[q].count, kept);
                assert_int_equal(answer.out[q].scanned, count);
                assert_same_items(answer.out[q].items, rows, kept);
                float cutoff = count > keeps[k] ? rows[kept - 1].estimate - rows[kept - 1].half_width : INFINITY;
                assert_true(answer.out[q].cutoff == cutoff);
                free(rows);
            }
            answer_free(&answer);
        }
        fixture_fini(&f);
    }
}

static void equal_bounds_are_decided_by_id_wherever_they_lie(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    float same[DIM] = {1, 2};
    struct gy_operation operations[2500];
    for (uint64_t i = 0; i < 2500; i++) /* descending ids: slots and ids run against each other */
        operations[i] = (struct gy_operation){gyre_point_id_from_number(2500 - i), same, ""};
    fixture_apply(&f, operations, 2500, NULL);
    float query[DIM] = {0};
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 2, .keep = 100, .deadline_ns = GY_NEVER};
    for (int exact = 0; exact < 2; exact++) {
        request.exact = exact;
        struct answer answer = scan(&f, NULL, &request);
        assert_int_equal(answer.out[0].count, 100);
        for (size_t i = 0; i < 100; i++)
            assert_int_equal(gyre_point_id_number(&answer.out[0].items[i].id), i + 1);
        answer_free(&answer);
    }
    fixture_fini(&f);
}

static void every_split_gives_the_same_bytes(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 21;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 200000, 20000, &random); /* four parts */
    float queries[2 * DIM];
    for (int q = 0; q < 2; q++)
        fixture_vector(&random, queries + q * DIM, DIM);
    struct gy_scan_request request = {.queries = queries, .query_count = 2, .epsilon = 2, .keep = 300, .seed = 20, .deadline_ns = GY_NEVER};
    struct answer alone = scan(&f, NULL, &request);
    for (size_t threads = 1; threads <= 3; threads++) {
        gy_pool *pool = NULL;
        assert_ok(gy_pool_new(&pool, "scan", threads, threads == 2 ? 1 : 8, &err)); /* once too small a queue */
        for (int i = 0; i < 10; i++) {
            struct answer split = scan(&f, pool, &request);
            for (int q = 0; q < 2; q++) {
                assert_int_equal(split.out[q].count, alone.out[q].count);
                assert_same_items(split.out[q].items, alone.out[q].items, alone.out[q].count);
                assert_true(split.out[q].cutoff == alone.out[q].cutoff);
            }
            answer_free(&split);
        }
        gy_pool_free(pool);
    }
    answer_free(&alone);
    fixture_fini(&f);
}

struct nested {
    struct fixture *f;
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
    nested->answer = scan(nested->f, nested->pool, nested->request);
    pthread_mutex_lock(&nested->mu);
    nested->finished = true;
    pthread_cond_signal(&nested->done);
    pthread_mutex_unlock(&nested->mu);
}

static void a_scan_on_the_only_thread_of_its_own_pool_ends(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 22;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 140000, 20000, &random);
    float query[DIM] = {1};
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 2, .keep = 10, .deadline_ns = GY_NEVER};
    struct nested nested = {.f = &f, .request = &request, .mu = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    assert_ok(gy_pool_new(&nested.pool, "scan", 1, 8, &err));
    assert_ok(gy_pool_submit(nested.pool, scan_inside, &nested, &err));
    pthread_mutex_lock(&nested.mu);
    while (!nested.finished)
        pthread_cond_wait(&nested.done, &nested.mu);
    pthread_mutex_unlock(&nested.mu);
    assert_int_equal(nested.answer.out[0].count, 10);
    answer_free(&nested.answer);
    gy_pool_free(nested.pool);
    fixture_fini(&f);
}

static void a_limit_cuts_rows_and_not_the_cutoff(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t random = 23;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 3000, 1000, &random);
    float query[DIM];
    fixture_vector(&random, query, DIM);
    size_t count;
    struct gy_candidate *rows = all_rows(&f, query, 2, &count);
    float limit = rows[99].estimate - rows[99].half_width;
    struct gy_scan_request request = {.queries = query, .limits = &limit, .query_count = 1, .epsilon = 2, .keep = 500, .deadline_ns = GY_NEVER};
    struct answer answer = scan(&f, NULL, &request);
    assert_int_equal(answer.out[0].count, 100); /* the row at the limit is within it */
    assert_true(answer.out[0].cutoff == INFINITY);
    answer_free(&answer);
    request.keep = 40;
    answer = scan(&f, NULL, &request);
    assert_int_equal(answer.out[0].count, 40);
    assert_same_items(answer.out[0].items, rows, 40);
    assert_true(answer.out[0].cutoff == rows[39].estimate - rows[39].half_width);
    answer_free(&answer);
    limit = -INFINITY;
    answer = scan(&f, NULL, &request);
    assert_int_equal(answer.out[0].count, 0);
    answer_free(&answer);
    request.exact = true, limit = 0;
    answer = scan(&f, NULL, &request);
    assert_int_equal(answer.out[0].count, 0);
    answer_free(&answer);
    free(rows);
    fixture_fini(&f);
}

static void seeds_are_the_best_estimates_made_exact(void **state)
{
    (void)state;
    enum { KEEP = 200, SEED = 30 };
    gyre_error err;
    struct fixture f;
    uint64_t random = 24;
    fixture_init(&f, GYRE_COSINE, DIM);
    fixture_fill(&f, 0, 3000, 1000, &random);
    float query[DIM];
    fixture_vector(&random, query, DIM);
    gyre_vector_normalize(GYRE_COSINE, query, query, DIM);
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 3, .keep = KEEP, .deadline_ns = GY_NEVER};
    struct answer plain = scan(&f, NULL, &request);
    request.seed = SEED;
    struct answer seeded = scan(&f, NULL, &request);
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
        assert_ok(gy_points_distances(f.points, query, &item->id, 1, &distance, &err));
        assert_true(distance == item->estimate);
    }
    assert_int_equal(exact, SEED);
    answer_free(&plain);
    answer_free(&seeded);
    fixture_fini(&f);
}

static void requests_beyond_their_limits_are_refused_by_name(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t random = 25;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 10, 10, &random);
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
        assert_int_equal(gy_scan_run(f.points, NULL, &request, out, &version, &seq, &err), cases[i].status);
        if (!strstr(err.text, cases[i].says))
            fail_msg("case %zu: %s", i, err.text);
        gy_candidates_free(out, request.query_count);
    }
    fixture_fini(&f);
}

static void an_empty_replica_answers_with_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    float query[DIM] = {0};
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 1, .keep = 5, .seed = 5, .deadline_ns = GY_NEVER};
    for (int exact = 0; exact < 2; exact++) {
        request.exact = exact;
        struct answer answer = scan(&f, NULL, &request);
        assert_int_equal(answer.out[0].count, 0);
        assert_int_equal(answer.out[0].scanned, 0);
        assert_true(answer.out[0].cutoff == INFINITY);
        answer_free(&answer);
    }
    fixture_fini(&f);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
