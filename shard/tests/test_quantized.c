/* A member that has codes and payloads only: built from a full one, kept up by what the full one encodes; what it cannot do. */
#include "store/copy.h"

#include "index/snapshot.h"
#include "points_fixture.h"

enum { DIM = 24, IDS = 400, LISTS = 4 };

static gyre_status copy_row(void *self, const struct gy_row *row, gyre_error *err)
{
    return gy_import_row(self, row, err);
}

/* A full replica of IDS points, and a quantized one built from it. */
struct pair {
    struct fixture full, quantized;
};

static void pair_init(struct pair *pair)
{
    gyre_error err;
    uint64_t random = 5;
    fixture_init_with(&pair->full, "rabitq1", fixture_partition(GYRE_COSINE, DIM, 1, 0, LISTS));
    fixture_fill(&pair->full, 0, IDS, 50, &random);
    pair->quantized = pair->full;
    snprintf(pair->quantized.path, sizeof pair->quantized.path, "%s/quantized", pair->full.directory);
    gy_export *export = NULL;
    gy_import *import = NULL;
    bool done = false;
    struct gy_shard_config config = fixture_config_quantized(2);
    assert_ok(gy_export_open(&export, pair->full.store, true, &err));
    struct gy_export_state state = gy_export_state(export);
    assert_ok(gy_import_open(&import, pair->full.env, pair->quantized.path, &fixture_identity, 2, &config, state.epoch, state.seq,
                             &err));
    assert_ok(gy_export_read(export, 0, NULL, 0, SIZE_MAX, copy_row, import, &done, &err));
    assert_ok(gy_import_finish(import, &pair->quantized.store, &err));
    gy_import_free(import);
    gy_export_free(export);
    assert_true(done);
    assert_true(gy_store_quantized(pair->quantized.store));
    assert_ok(gy_points_open(&pair->quantized.points, pair->quantized.store, &err));
}

static void pair_fini(struct pair *pair)
{
    fixture_close(&pair->quantized);
    fixture_fini(&pair->full);
}

static void assert_same_codes(gy_points *a, gy_points *b)
{
    const struct gy_sum none = {0, 0};
    struct gy_points_state of_a = gy_points_state(a), of_b = gy_points_state(b);
    assert_memory_equal(&of_a.digest.points, &of_b.digest.points, sizeof of_a.digest.points);
    assert_memory_equal(&of_a.digest.codes, &of_b.digest.codes, sizeof of_a.digest.codes);
    assert_memory_equal(&of_b.digest.vectors, &none, sizeof none);
    GY_AUTO(gy_snapshot) *x = gy_points_snapshot(a);
    GY_AUTO(gy_snapshot) *y = gy_points_snapshot(b);
    const struct gy_layout *layout = &x->codebook->layout;
    assert_int_equal(x->points, y->points);
    struct {
        uint32_t list;
        uint8_t row[64];
    } codes[2][IDS + 100];
    memset(codes, 0, sizeof codes);
    for (int which = 0; which < 2; which++) {
        gy_snapshot *snapshot = which ? y : x;
        for (size_t c = 0; c < snapshot->count; c++) {
            const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
            for (size_t place = 0; chunk && place < chunk->rows; place++)
                if (gy_chunk_holds(layout, chunk, place)) {
                    uint64_t number = gyre_point_id_number(&chunk->ids[place]);
                    codes[which][number].list = chunk->list + 1;
                    gy_chunk_row(layout, chunk, place, codes[which][number].row);
                }
        }
    }
    assert_memory_equal(codes[0], codes[1], sizeof codes[0]);
}

static gyre_status see_payload(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    (void)i, (void)err;
    if (view->found)
        assert_string_equal(view->payload, self), assert_null(view->vector);
    return view->found ? GYRE_OK : gyre_fail(err, GYRE_NOT_FOUND, "gone");
}

static void a_quantized_replica_follows_by_what_a_full_one_encodes(void **state)
{
    (void)state;
    gyre_error err;
    struct pair pair;
    pair_init(&pair);
    assert_same_codes(pair.full.points, pair.quantized.points);

    enum { WRITTEN = 150 };
    float vectors[WRITTEN][DIM];
    const float *addresses[WRITTEN];
    uint32_t lists[WRITTEN], version;
    size_t row_bytes = gy_points_row_bytes(pair.full.points);
    uint8_t *rows = malloc(WRITTEN * row_bytes);
    struct gy_operation operations[WRITTEN], coded[WRITTEN];
    uint64_t random = 9;
    size_t encoded = 0;
    for (size_t i = 0; i < WRITTEN; i++) {
        fixture_vector(&random, vectors[i], DIM);
        operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(i * 3 + 1)};
        if (i % 4)
            operations[i].vector = vectors[i], operations[i].payload = "{\"new\":1}", addresses[encoded++] = vectors[i];
    }
    assert_ok(gy_points_encode(pair.full.points, addresses, encoded, &version, lists, rows, &err));
    assert_int_equal(version, 1);
    for (size_t i = 0, e = 0; i < WRITTEN; i++) {
        coded[i] = operations[i];
        coded[i].vector = NULL;
        if (operations[i].vector)
            coded[i].row = rows + e * row_bytes, coded[i].list = lists[e++], coded[i].codebook_version = version;
    }
    bool deleted[2][WRITTEN];
    fixture_apply(&pair.full, operations, WRITTEN, deleted[0]);
    fixture_apply(&pair.quantized, coded, WRITTEN, deleted[1]);
    assert_memory_equal(deleted[0], deleted[1], sizeof deleted[0]);
    assert_same_codes(pair.full.points, pair.quantized.points);
    fixture_close(&pair.quantized);
    fixture_open(&pair.quantized);
    assert_same_codes(pair.full.points, pair.quantized.points);
    fixture_assert_whole(&pair.quantized);
    char payload[] = "{\"new\":1}", old[] = "{\"w\":1}";
    gyre_point_id id = gyre_point_id_from_number(4), before = gyre_point_id_from_number(0);
    assert_ok(gy_points_read(pair.quantized.points, &id, 1, false, true, see_payload, payload, &err));
    assert_ok(gy_points_read(pair.quantized.points, &before, 1, false, true, see_payload, old, &err));
    free(rows);
    pair_fini(&pair);
}

static gyre_status never(void *self, const gyre_point_id *id, const float *vector, gyre_error *err)
{
    (void)self, (void)id, (void)vector;
    return gyre_fail(err, GYRE_INTERNAL, "there are none");
}

static void what_needs_vectors_is_refused_with_the_reason(void **state)
{
    (void)state;
    gyre_error err;
    struct pair pair;
    pair_init(&pair);
    gy_points *points = pair.quantized.points;
    gyre_point_id id = gyre_point_id_from_number(3);
    float query[DIM] = {1}, out[1], vectors[2 * DIM];
    double sums[DIM];
    uint64_t count;
    size_t drawn;
    uint32_t slot = 0;
    char any[] = "";
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    const gyre_status got[] = {
        gy_points_read(points, &id, 1, true, true, see_payload, any, &err),
        gy_points_distances(points, query, &id, 1, out, &err),
        gy_points_rank(points, snapshot, query, &slot, 1, out, &err),
        gy_points_sum(points, INT64_MAX, sums, &count, &err),
        gy_points_sample(points, 2, 1, vectors, &drawn, &err),
        gy_points_each_vector(points, never, NULL, &err),
    };
    for (size_t i = 0; i < sizeof got / sizeof *got; i++)
        assert_int_equal(got[i], GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "quantized"));
    gy_export *export = NULL;
    assert_int_equal(gy_export_open(&export, pair.quantized.store, false, &err), GYRE_PRECONDITION);
    for (uint32_t version = 1; version <= 2; version++) {
        gyre_codebook *codebook = fixture_partition(GYRE_COSINE, DIM, version, 0, LISTS);
        assert_int_equal(gy_points_set_codebook(points, codebook, &err), version == 1 ? GYRE_OK : GYRE_PRECONDITION);
        gyre_codebook_free(codebook);
    }
    assert_non_null(strstr(err.text, "full member"));
    gy_snapshot_release(GY_TAKE(snapshot));
    pair_fini(&pair);
}

static void rows_that_are_none_change_nothing(void **state)
{
    (void)state;
    gyre_error err;
    struct pair pair;
    pair_init(&pair);
    uint64_t random = 4, version_of[1] = {pair.full.seq + 1};
    float vector[DIM];
    const float *address = vector;
    uint32_t list, version;
    uint8_t row[64], wrong[64];
    bool deleted[1];
    fixture_vector(&random, vector, DIM);
    assert_ok(gy_points_encode(pair.full.points, &address, 1, &version, &list, row, &err));
    memset(wrong, 0xff, sizeof wrong);
    struct gy_operation right = {.id = gyre_point_id_from_number(1), .payload = "", .row = row, .list = list,
                                 .codebook_version = version}, given = right;
    const struct {
        gyre_status status;
        const char *says;
    } cases[] = {{GYRE_PRECONDITION, "codebook 2"}, {GYRE_INVALID, "list 4"}, {GYRE_INVALID, "row"}, {GYRE_INVALID, "vector"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        given = right;
        if (i == 0)
            given.codebook_version++;
        else if (i == 1)
            given.list = LISTS;
        else if (i == 2)
            given.row = wrong;
        else
            given.row = NULL, given.vector = vector;
        assert_int_equal(gy_points_apply(pair.quantized.points, &given, version_of, 1, version_of[0], NULL, deleted, &err),
                         cases[i].status);
        assert_non_null(strstr(err.text, cases[i].says));
    }
    assert_int_equal(gy_points_apply(pair.full.points, &right, version_of, 1, version_of[0], NULL, deleted, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "full"));
    assert_same_codes(pair.full.points, pair.quantized.points);
    fixture_apply(&pair.quantized, &right, 1, NULL); /* nothing is broken by all that */
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quantized_replica_follows_by_what_a_full_one_encodes),
        cmocka_unit_test(what_needs_vectors_is_refused_with_the_reason),
        cmocka_unit_test(rows_that_are_none_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
