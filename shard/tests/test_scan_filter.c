/* Filters: only allowed rows come, never fewer than there are, and few of them are compared exactly. */
#include "scan_fixture.h"

enum { IDS = 20000, DIM = 32, LISTS = 10, QUERIES = 3 };

/* Slots of the allowed points that are held; and, to be passed over, places that hold nothing and numbers beyond every chunk. */
static roaring_bitmap_t *bitmap_of(struct world *world, gy_snapshot *snapshot, const bool *allowed)
{
    roaring_bitmap_t *bitmap = roaring_bitmap_create();
    size_t code_bytes = gyre_codec_scan_code_bytes(gy_points_codec(world->f.points), world->dim);
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++) {
        struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, c);
        for (uint32_t row = 0; row < chunk.rows; row++) {
            const uint8_t *block = chunk.blocks + row / GYRE_BLOCK_ROWS * gyre_block_bytes(code_bytes);
            bool held = gyre_block_holds(code_bytes, block, row % GYRE_BLOCK_ROWS);
            if (held ? allowed[gyre_point_id_number(&chunk.ids[row])] : row % 64 == 1)
                roaring_bitmap_add(bitmap, (uint32_t)(c * GY_CHUNK_ROWS + row));
        }
    }
    roaring_bitmap_add(bitmap, UINT32_MAX);
    return bitmap;
}

struct filtered {
    struct world world;
    gy_snapshot *snapshot;
    bool *allowed;
    size_t allowed_held;
    roaring_bitmap_t *bitmap;
    float queries[QUERIES * DIM];
    uint32_t probes[QUERIES], counts[QUERIES]; /* the nearest list of each */
};

/* Allows each point with probability share / 1000; in stretches of ids, or anywhere. */
static void filter(struct filtered *f, uint64_t share, bool stretches)
{
    f->allowed = calloc(IDS, 1);
    f->allowed_held = 0;
    bool value = false;
    for (size_t n = 0; n < IDS; n++) {
        if (!stretches || n % 700 == 0)
            value = fixture_below(&f->world.random, 1000) < share;
        f->allowed[n] = value;
        f->allowed_held += value && f->world.held[n];
    }
    f->bitmap = bitmap_of(&f->world, f->snapshot, f->allowed);
}

static void filter_end(struct filtered *f)
{
    roaring_bitmap_free(f->bitmap);
    free(f->allowed);
}

static void filtered_init(struct filtered *f, const char *codec, gyre_metric metric)
{
    gyre_error err;
    world_init(&f->world, metric, DIM, codec, LISTS, IDS, 31);
    world_fill(&f->world);
    for (size_t n = 0; n + 50 < IDS; n += 200)
        world_put(&f->world, n, 1 + n % 47, n % 400 == 0);
    f->snapshot = gy_points_snapshot(f->world.f.points);
    for (size_t q = 0; q < QUERIES; q++) {
        float *query = f->queries + q * DIM;
        world_query(&f->world, query);
        f->counts[q] = 1;
        assert_ok(gyre_partition_probe(gy_snapshot_codebook(f->snapshot), query, NULL, 1, &f->probes[q], &err));
    }
}

static void filtered_fini(struct filtered *f)
{
    gy_snapshot_release(f->snapshot);
    world_fini(&f->world);
}

static struct answer scan(struct filtered *f, struct gy_scan_request request)
{
    gyre_error err;
    struct answer answer = {.queries = request.query_count};
    request.allowed = f->bitmap, request.epsilon = 2.5f, request.deadline_ns = GY_NEVER;
    assert_ok(gy_scan_run(f->world.f.points, f->snapshot, NULL, &request, answer.out, &answer.version, &answer.seq, &err));
    for (size_t q = 0; q < request.query_count; q++)
        for (size_t i = 0; i < answer.out[q].count; i++)
            assert_true(f->allowed[gyre_point_id_number(&answer.out[q].items[i].id)]);
    return answer;
}

static struct gy_scan_request near_lists(struct filtered *f, uint32_t keep)
{
    return (struct gy_scan_request){.queries = f->queries, .query_count = QUERIES, .keep = keep, .probes = f->probes, .probe_counts = f->counts};
}

static void assert_nearest(struct filtered *f, const struct answer *answer, uint32_t keep)
{
    for (size_t q = 0; q < QUERIES; q++) {
        size_t count;
        struct gy_candidate *nearest = world_nearest(&f->world, f->queries + q * DIM, f->allowed, &count);
        assert_int_equal(count, f->allowed_held);
        assert_int_equal(answer->out[q].count, count < keep ? count : keep);
        for (size_t i = 0; i < answer->out[q].count; i++) {
            assert_memory_equal(&answer->out[q].items[i].id, &nearest[i].id, sizeof nearest[i].id);
            assert_true(answer->out[q].items[i].estimate == nearest[i].estimate && answer->out[q].items[i].half_width == 0);
        }
        assert_true(answer->out[q].cutoff == (count > keep ? nearest[keep - 1].estimate : INFINITY));
        free(nearest);
    }
}

static void few_allowed_rows_are_compared_exactly_in_every_list(void **state)
{
    (void)state;
    struct filtered f;
    filtered_init(&f, "rabitq1", GYRE_L2);
    const uint64_t shares[] = {0, 1, 20}; /* none, about 20, about 400 */
    for (int s = 0; s < 3; s++) {
        filter(&f, shares[s], false);
        for (int mode = 0; mode < 3; mode++) {
            struct gy_scan_request request = near_lists(&f, 10);
            request.alone = mode == 1, request.exact = mode == 2;
            struct answer answer = scan(&f, request);
            assert_nearest(&f, &answer, 10);
            assert_int_equal(answer.out[0].seeds_read + answer.out[0].scanned, f.allowed_held);
            answer_free(&answer);
        }
        filter_end(&f);
    }
    filtered_fini(&f);
}

static void a_filter_leaves_what_the_whole_search_says_of_allowed_rows(void **state)
{
    (void)state;
    struct filtered f;
    filtered_init(&f, "rabitq4-fast", GYRE_COSINE);
    for (int stretches = 0; stretches < 2; stretches++) {
        filter(&f, 400, stretches);
        assert_true(roaring_bitmap_get_cardinality(f.bitmap) > 2000);
        struct gy_scan_request certain = {.queries = f.queries, .query_count = QUERIES, .keep = 25, .alone = true, .certain = true}, exact = certain;
        exact.exact = true;
        struct answer answer = scan(&f, certain);
        assert_nearest(&f, &answer, 25);
        assert_int_equal(answer.out[0].scanned, f.allowed_held);
        answer_free(&answer);
        answer = scan(&f, exact);
        assert_nearest(&f, &answer, 25);
        answer_free(&answer);
        struct gy_scan_request all = {.queries = f.queries, .query_count = QUERIES, .keep = 5000}; /* bounds do not change with a filter */
        struct answer some = scan(&f, all);
        all.epsilon = 2.5f, all.deadline_ns = GY_NEVER, all.keep = IDS;
        struct answer whole;
        world_scan(&f.world, NULL, &all, &whole);
        for (size_t q = 0; q < QUERIES; q++) {
            size_t at = 0;
            for (size_t i = 0; i < whole.out[q].count && at < some.out[q].count; i++)
                if (f.allowed[gyre_point_id_number(&whole.out[q].items[i].id)])
                    assert_memory_equal(&whole.out[q].items[i], &some.out[q].items[at++], sizeof *some.out[q].items);
            assert_int_equal(at, some.out[q].count);
        }
        answer_free(&some);
        answer_free(&whole);
        filter_end(&f);
    }
    filtered_fini(&f);
}

/* One list holds some hundred allowed rows; more are wanted, and there. */
static void never_fewer_than_wanted_when_they_exist(void **state)
{
    (void)state;
    struct filtered f;
    filtered_init(&f, "rabitq1", GYRE_IP);
    filter(&f, 100, false);
    assert_true(roaring_bitmap_get_cardinality(f.bitmap) > 1500);
    const uint32_t keeps[] = {10, 400, 1200};
    for (int k = 0; k < 3; k++)
        for (int alone = 0; alone < 2; alone++) {
            struct gy_scan_request request = near_lists(&f, keeps[k]);
            request.alone = alone;
            struct answer together = scan(&f, request);
            for (size_t q = 0; q < QUERIES; q++) {
                assert_int_equal(together.out[q].count, keeps[k]);
                assert_true(k < 2 || together.out[q].lists_probed > 1);
                assert_true(together.out[q].scanned >= keeps[k]);
                struct gy_scan_request one = near_lists(&f, keeps[k]);
                one.alone = alone, one.queries = f.queries + q * DIM, one.query_count = 1, one.probes = &f.probes[q];
                struct answer single = scan(&f, one);
                assert_same_candidates(&single.out[0], &together.out[q]);
                answer_free(&single);
            }
            answer_free(&together);
        }
    filter_end(&f);
    filtered_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_allowed_rows_are_compared_exactly_in_every_list),
        cmocka_unit_test(a_filter_leaves_what_the_whole_search_says_of_allowed_rows),
        cmocka_unit_test(never_fewer_than_wanted_when_they_exist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
