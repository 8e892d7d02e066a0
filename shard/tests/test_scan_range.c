/* Scans of a replica that holds more than it is asked for: the same bytes as from one that holds nothing else, and brute
 * force's. */
#include "index/snapshot.h"
#include "scan_fixture.h"
#include "split_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IDS = 4000, QUERIES = 4, LISTS_MAX = 9, MODES = 9 };

static const struct gy_hash_range odd = {HALF - HALF / 3, HALF + HALF / 5}; /* of both halves */

struct asking {
    float queries[QUERIES * 64];
    uint32_t probes[QUERIES * LISTS_MAX], counts[QUERIES];
};

static void asking_init(struct asking *asking, struct world *world)
{
    gyre_error err;
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(world->f.points);
    uint32_t *at = asking->probes;
    for (size_t q = 0; q < QUERIES; q++) {
        float *query = asking->queries + q * world->dim;
        world_query(world, query);
        asking->counts[q] = 1 + (uint32_t)q * (world->lists - 1) / QUERIES;
        assert_ok(gyre_partition_probe(gy_snapshot_codebook(snapshot), query, NULL, asking->counts[q], at, &err));
        at += asking->counts[q];
    }
}

/* Each way to scan once. */
static struct gy_scan_request request_of(const struct asking *asking, int mode, struct gy_hash_range range)
{
    struct gy_scan_request request = {.queries = asking->queries, .query_count = QUERIES, .range = range, .epsilon = 2.5f,
                                      .keep = mode % 2 ? 300 : 20, .deadline_ns = GY_NEVER};
    request.exact = mode == 0;
    request.alone = mode == 1 || mode == 2 || mode == 3;
    request.certain = mode == 1;
    request.k = mode >= 6 ? 10 : 0;
    request.share = mode == 8 ? 3 : 0;
    request.seed = mode == 7 ? 15 : 0;
    if (mode >= 2 && mode != 5)
        request.probes = asking->probes, request.probe_counts = asking->counts;
    return request;
}

static void assert_brute_force(struct world *world, const struct asking *asking, const struct gy_scan_request *request,
                               const struct answer *answer)
{
    struct gy_hash_range range = request->range.last ? request->range : gy_points_ownership(world->f.points).owned;
    bool *in = calloc(IDS, 1);
    for (size_t n = 0; n < IDS; n++)
        in[n] = is_in(range, n);
    for (size_t q = 0; q < QUERIES; q++) {
        size_t count;
        struct gy_candidate *nearest = world_nearest(world, asking->queries + q * world->dim, in, &count);
        assert_int_equal(answer->out[q].count, count < request->keep ? count : request->keep);
        assert_int_equal(answer->out[q].scanned, count);
        for (size_t i = 0; i < answer->out[q].count; i++) {
            assert_memory_equal(&answer->out[q].items[i].id, &nearest[i].id, sizeof nearest[i].id);
            assert_true(answer->out[q].items[i].estimate == nearest[i].estimate);
        }
        free(nearest);
    }
    free(in);
}

/* world, asked for range, says what only says, which holds nothing else. */
static void assert_answers(struct world *world, struct world *only, const struct asking *asking, struct gy_hash_range range,
                           gy_pool *pool)
{
    for (int mode = 0; mode < MODES; mode++) {
        struct gy_scan_request request = request_of(asking, mode, range), all = request_of(asking, mode, GY_RANGE_OWNED);
        struct answer of_world, of_only;
        world_scan(world, mode % 2 ? pool : NULL, &request, &of_world);
        world_scan(only, NULL, &all, &of_only);
        for (size_t q = 0; q < QUERIES; q++) {
            assert_same_candidates(&of_world.out[q], &of_only.out[q]);
            assert_true(request.alone || of_world.out[q].seeds_read == of_only.out[q].seeds_read);
        }
        if (mode < 2)
            assert_brute_force(world, asking, &request, &of_world);
        answer_free(&of_world);
        answer_free(&of_only);
    }
}

static void assert_refuses(struct world *world, const struct asking *asking, struct gy_hash_range range, gyre_status expected)
{
    gyre_error err;
    struct gy_scan_request request = request_of(asking, 4, range);
    struct answer answer = {.queries = QUERIES};
    assert_int_equal(gy_scan_run(world->f.points, NULL, NULL, &request, answer.out, &answer.version, &answer.seq, &err),
                     expected);
    answer_free(&answer);
}

/* Some points written over and some gone, so that there are holes; and the configuration says by what key ids are hashed. */
static void split_world(struct world *world, gyre_metric metric, uint32_t dim, const char *codec, uint32_t lists)
{
    gyre_error err;
    world_init(world, metric, dim, codec, lists, IDS, 17);
    world_fill(world);
    for (size_t n = 0; n + 50 < IDS; n += 200)
        world_put(world, n, 1 + n % 47, n % 400 == 0);
    struct gy_shard_config config = fixture_config(2);
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    assert_ok(gy_store_set_config(world->f.store, &config, &err));
}

/* A replica of the same points that has forgotten all that are not in range. */
static void only_of(struct world *world, const char *name, struct gy_hash_range range, struct world *only)
{
    struct gy_shard_config config = fixture_config(2);
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    config.range = range;
    *only = *world;
    split_child(&world->f, name, 9, &config, range, &only->f);
    while (split_forget(&only->f, 700))
        ;
    assert_int_equal(gy_points_ownership(only->f.points).foreign, 0);
}

static void answers_are_of_the_range_asked_for(void **state)
{
    (void)state;
    gyre_error err;
    static const struct {
        gyre_metric metric;
        uint32_t dim, lists;
        const char *codec;
    } settings[] = {{GYRE_L2, 33, 1, "rabitq1"}, {GYRE_COSINE, 48, 9, "rabitq4-fast"}, {GYRE_IP, 40, 7, "signblock-p8b2"}};
    gy_pool *pool = NULL;
    assert_ok(gy_pool_new(&pool, "three", 3, 8, &err));
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        struct world world, low, high, middle, all;
        struct asking asking;
        split_world(&world, settings[s].metric, settings[s].dim, settings[s].codec, settings[s].lists);
        only_of(&world, "low", lower, &low);
        only_of(&world, "high", upper, &high);
        only_of(&world, "middle", odd, &middle);
        only_of(&world, "all", whole, &all);
        asking_init(&asking, &world);
        /* It owns all, and is asked for parts. */
        assert_answers(&world, &low, &asking, lower, pool);
        assert_answers(&world, &high, &asking, upper, pool);
        assert_answers(&world, &middle, &asking, odd, pool);
        assert_answers(&world, &all, &asking, GY_RANGE_OWNED, pool);
        /* It owns half. */
        split_narrow(&world.f, lower);
        assert_answers(&world, &low, &asking, GY_RANGE_OWNED, pool);
        assert_answers(&world, &low, &asking, lower, pool);
        assert_answers(&world, &high, &asking, upper, pool);
        assert_answers(&world, &middle, &asking, odd, pool);
        assert_answers(&world, &all, &asking, whole, pool);
        for (uint64_t part = 16; part < 22; part++) { /* more ranges than a chunk remembers */
            struct gy_hash_range range = {0, UINT64_MAX / part};
            struct gy_scan_request request = request_of(&asking, 0, range);
            struct answer answer;
            world_scan(&world, NULL, &request, &answer);
            assert_brute_force(&world, &asking, &request, &answer);
            answer_free(&answer);
        }
        assert_refuses(&low, &asking, whole, GYRE_ABORTED);
        assert_refuses(&low, &asking, odd, GYRE_ABORTED);
        assert_refuses(&world, &asking, (struct gy_hash_range){7, 3}, GYRE_INVALID);
        /* It forgets the other half, and gets a newer codebook between. */
        split_forget(&world.f, 600);
        assert_answers(&world, &low, &asking, GY_RANGE_OWNED, pool);
        assert_refuses(&world, &asking, upper, GYRE_ABORTED);
        low.random = world.random;
        world_retrain(&world);
        world_retrain(&low);
        assert_true(gy_points_ownership(world.f.points).foreign > 0);
        assert_answers(&world, &low, &asking, GY_RANGE_OWNED, pool);
        assert_answers(&world, &low, &asking, lower, pool);
        fixture_close(&world.f);
        fixture_open(&world.f);
        assert_answers(&world, &low, &asking, GY_RANGE_OWNED, pool);
        while (split_forget(&world.f, 700))
            ;
        assert_answers(&world, &low, &asking, GY_RANGE_OWNED, pool);
        fixture_close(&low.f);
        fixture_close(&high.f);
        fixture_close(&middle.f);
        fixture_close(&all.f);
        world_fini(&world);
    }
    gy_pool_free(pool);
}

/* ---- with a filter ---- */

static roaring_bitmap_t *bitmap_of(struct world *world, gy_snapshot *snapshot, uint64_t share)
{
    roaring_bitmap_t *bitmap = roaring_bitmap_create();
    size_t code_bytes = gyre_codec_scan_code_bytes(gy_points_codec(world->f.points), world->dim);
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++) {
        struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, c);
        for (uint32_t row = 0; row < chunk.rows; row++) {
            const uint8_t *block = chunk.blocks + row / GYRE_BLOCK_ROWS * gyre_block_bytes(code_bytes);
            uint64_t number = gyre_point_id_number(&chunk.ids[row]);
            if (gyre_block_holds(code_bytes, block, row % GYRE_BLOCK_ROWS) && fixture_below(&number, 1000) < share)
                roaring_bitmap_add(bitmap, (uint32_t)(c * GY_CHUNK_ROWS + row));
        }
    }
    roaring_bitmap_add(bitmap, UINT32_MAX);
    return bitmap;
}

static struct answer filtered(struct world *world, struct gy_scan_request request, uint64_t share)
{
    gyre_error err;
    struct answer answer = {.queries = QUERIES};
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(world->f.points);
    roaring_bitmap_t *bitmap = bitmap_of(world, snapshot, share);
    request.allowed = bitmap;
    assert_ok(gy_scan_run(world->f.points, snapshot, NULL, &request, answer.out, &answer.version, &answer.seq, &err));
    roaring_bitmap_free(bitmap);
    return answer;
}

/* 450 of 1000: more than are few, but not of one half. */
static void what_a_filter_allows_is_of_the_range_too(void **state)
{
    (void)state;
    struct world world, low;
    struct asking asking;
    split_world(&world, GYRE_L2, 33, "rabitq1", 9);
    only_of(&world, "low", lower, &low);
    asking_init(&asking, &world);
    split_narrow(&world.f, lower);
    const uint64_t shares[] = {0, 20, 450, 900};
    for (int s = 0; s < 4; s++)
        for (int mode = 0; mode < MODES; mode++) {
            struct gy_scan_request request = request_of(&asking, mode, GY_RANGE_OWNED);
            struct answer of_world = filtered(&world, request, shares[s]), of_low = filtered(&low, request, shares[s]);
            for (size_t q = 0; q < QUERIES; q++) {
                assert_same_candidates(&of_world.out[q], &of_low.out[q]);
                assert_true(s == 0 || of_world.out[q].count > 0);
            }
            answer_free(&of_world);
            answer_free(&of_low);
        }
    fixture_close(&low.f);
    world_fini(&world);
}

/* ---- while it forgets ---- */

struct searching {
    struct world *world;
    const struct asking *asking;
    gy_pool *pool;
    struct answer *low, *high; /* of each mode */
    atomic_bool stop;
    atomic_size_t answered;
};

static void search(struct searching *searching, int mode, struct gy_hash_range range, const struct answer *expected)
{
    gyre_error err;
    struct gy_scan_request request = request_of(searching->asking, mode, range);
    struct answer answer = {.queries = QUERIES};
    gyre_status status = gy_scan_run(searching->world->f.points, NULL, searching->pool, &request, answer.out, &answer.version,
                                     &answer.seq, &err);
    if (status != GYRE_ABORTED || range.first == 0) {
        assert_ok(status);
        for (size_t q = 0; q < QUERIES; q++)
            assert_same_candidates(&answer.out[q], &expected->out[q]);
        atomic_fetch_add(&searching->answered, 1);
    }
    answer_free(&answer);
}

static void *search_on(void *arg)
{
    struct searching *searching = arg;
    for (int mode = 0; !atomic_load(&searching->stop); mode = (mode + 1) % MODES) {
        search(searching, mode, lower, &searching->low[mode]);
        search(searching, mode, upper, &searching->high[mode]);
    }
    return NULL;
}

static void nothing_of_an_answer_changes_while_the_rest_is_forgotten(void **state)
{
    (void)state;
    gyre_error err;
    enum { THREADS = 3 };
    struct world world;
    struct asking asking;
    struct answer low[MODES], high[MODES];
    pthread_t threads[THREADS];
    gy_pool *pool = NULL;
    split_world(&world, GYRE_COSINE, 48, "rabitq4-fast", 9);
    asking_init(&asking, &world);
    for (int mode = 0; mode < MODES; mode++) {
        struct gy_scan_request of_low = request_of(&asking, mode, lower), of_high = request_of(&asking, mode, upper);
        world_scan(&world, NULL, &of_low, &low[mode]);
        world_scan(&world, NULL, &of_high, &high[mode]);
    }
    fixture_close(&world.f); /* and what was worked out with it */
    fixture_open(&world.f);
    assert_ok(gy_pool_new(&pool, "two", 2, 8, &err));
    struct searching searching = {.world = &world, .asking = &asking, .pool = pool, .low = low, .high = high};
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, search_on, &searching), 0);
    while (atomic_load(&searching.answered) < 4 * MODES)
        sched_yield();
    split_narrow(&world.f, lower);
    for (size_t before = atomic_load(&searching.answered); atomic_load(&searching.answered) < before + 2 * MODES;)
        sched_yield();
    while (split_forget(&world.f, 150))
        ;
    for (size_t before = atomic_load(&searching.answered); atomic_load(&searching.answered) < before + MODES;)
        sched_yield();
    atomic_store(&searching.stop, true);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (int mode = 0; mode < MODES; mode++) {
        answer_free(&low[mode]);
        answer_free(&high[mode]);
    }
    gy_pool_free(pool);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_of_the_range_asked_for),
        cmocka_unit_test(what_a_filter_allows_is_of_the_range_too),
        cmocka_unit_test(nothing_of_an_answer_changes_while_the_rest_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
