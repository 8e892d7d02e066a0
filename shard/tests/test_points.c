/* Points: operations in, reads out; what is on disk is what comes back. */
#include "points_fixture.h"

#include "gyre/clock.h"
#include "index/record.h"
#include "index/snapshot.h"

#include <math.h>

enum { DIM = 20 };

static gyre_point_id number(uint64_t n)
{
    return gyre_point_id_from_number(n);
}

struct got {
    struct gy_point_view views[8];
    float vectors[8][DIM];
    char payloads[8][64];
    size_t count;
};

static gyre_status get(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    (void)err;
    struct got *got = self;
    assert_int_equal(i, got->count++);
    got->views[i] = *view;
    if (view->vector)
        memcpy(got->vectors[i], view->vector, sizeof got->vectors[i]);
    if (view->payload)
        snprintf(got->payloads[i], sizeof got->payloads[i], "%s", view->payload);
    return GYRE_OK;
}

static void an_upserted_point_reads_back_and_a_missing_one_is_not_found(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    float a[DIM] = {1, 2, 3}, b[DIM] = {4, 5, 6};
    struct gy_operation operations[] = {{.id = number(5), .vector = a, .payload = "{\"x\":1}"},
                                        {.id = number(9), .vector = b, .payload = ""}};
    fixture_apply(&f, operations, 2, NULL);
    for (int reopened = 0; reopened < 2; reopened++) {
        gyre_point_id ids[] = {number(9), number(7), number(5)};
        struct got got = {0};
        assert_ok(gy_points_read(f.points, ids, 3, true, true, get, &got, &err));
        assert_int_equal(got.count, 3);
        assert_true(got.views[0].found && !got.views[1].found && got.views[2].found);
        assert_int_equal(got.views[2].version, 1);
        assert_memory_equal(got.vectors[0], b, sizeof b);
        assert_memory_equal(got.vectors[2], a, sizeof a);
        assert_string_equal(got.payloads[0], "");
        assert_string_equal(got.payloads[2], "{\"x\":1}");
        struct got bare = {0};
        assert_ok(gy_points_read(f.points, ids, 3, false, false, get, &bare, &err));
        assert_true(bare.views[2].found && !bare.views[2].vector && !bare.views[2].payload);
        assert_int_equal(gy_points_count(f.points), 2);
        assert_int_equal(gy_points_applied_seq(f.points), 1);
        fixture_close(&f);
        fixture_open(&f);
    }
    fixture_fini(&f);
}

static void later_operations_of_a_batch_win_and_deletes_say_what_was_there(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    float a[DIM] = {1}, b[DIM] = {2};
    bool deleted[8];
    struct gy_operation first[] = {
        {.id = number(1)},
        {.id = number(1), .vector = a, .payload = ""},
        {.id = number(1), .vector = b, .payload = "{}"},
        {.id = number(2), .vector = a, .payload = ""},
        {.id = number(2)},
        {.id = number(2)},
    };
    fixture_apply(&f, first, 6, deleted);
    const bool wanted[] = {false, false, false, false, true, false};
    for (int i = 0; i < 6; i++)
        assert_int_equal(deleted[i], wanted[i]);
    for (int reopened = 0; reopened < 2; reopened++) {
        gyre_point_id ids[] = {number(1), number(2)};
        struct got got = {0};
        assert_ok(gy_points_read(f.points, ids, 2, true, true, get, &got, &err));
        assert_true(got.views[0].found && !got.views[1].found);
        assert_memory_equal(got.vectors[0], b, sizeof b);
        assert_int_equal(gy_points_count(f.points), 1);
        fixture_close(&f);
        fixture_open(&f);
    }
    fixture_fini(&f);
}

static size_t chunks_used(struct fixture *f)
{
    size_t used = 0;
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++)
        used += gy_snapshot_chunk(snapshot, c).rows != 0;
    gy_snapshot_release(snapshot);
    return used;
}

static void the_number_of_an_emptied_chunk_is_used_again(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t random = 1;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 3 * GY_CHUNK_ROWS, 256, &random);
    for (int reopened = 0; reopened < 2; reopened++) {
        struct gy_operation deletes[GY_CHUNK_ROWS];
        for (uint64_t i = 0; i < GY_CHUNK_ROWS; i++)
            deletes[i] = (struct gy_operation){.id = number(GY_CHUNK_ROWS + i)};
        fixture_apply(&f, deletes, GY_CHUNK_ROWS, NULL);
        assert_int_equal(chunks_used(&f), 2);
        if (reopened) {
            fixture_close(&f); /* the free number is found again */
            fixture_open(&f);
            assert_int_equal(chunks_used(&f), 2);
        }
        fixture_fill(&f, GY_CHUNK_ROWS, GY_CHUNK_ROWS, 64, &random);
        gy_snapshot *snapshot = gy_points_snapshot(f.points);
        assert_int_equal(gy_snapshot_chunk_count(snapshot), 3);
        assert_int_equal(gy_snapshot_count(snapshot), 3 * GY_CHUNK_ROWS);
        gy_snapshot_release(snapshot);
    }
    fixture_fini(&f);
}

static void a_held_snapshot_does_not_change(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t random = 2;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 1500, 500, &random);
    gy_snapshot *held = gy_points_snapshot(f.points);
    struct gy_layout layout;
    gy_layout_init(&layout, gy_points_codec(f.points), DIM);
    size_t bytes = layout.block_bytes * GY_CHUNK_BLOCKS;
    uint8_t *before = malloc(2 * bytes);
    for (size_t c = 0; c < 2; c++)
        memcpy(before + c * bytes, gy_snapshot_chunk(held, c).blocks, bytes);
    fixture_fill(&f, 700, 3000, 100, &random); /* changes, and adds */
    for (size_t c = 0; c < 2; c++)
        assert_memory_equal(before + c * bytes, gy_snapshot_chunk(held, c).blocks, bytes);
    assert_int_equal(gy_snapshot_count(held), 1500);
    assert_int_equal(gy_snapshot_applied_seq(held), 3);
    assert_int_equal(gy_points_count(f.points), 3700);
    gy_snapshot_release(held);
    free(before);
    fixture_fini(&f);
}

static void distances_are_exact_and_infinite_for_what_is_not_there(void **state)
{
    (void)state;
    gyre_error err;
    const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
    for (int m = 0; m < 3; m++) {
        struct fixture f;
        uint64_t random = 3;
        fixture_init(&f, metrics[m], DIM);
        float vectors[200][DIM], query[DIM];
        struct gy_operation operations[200];
        gyre_point_id ids[300];
        float out[300];
        for (uint64_t i = 0; i < 200; i++) {
            fixture_vector(&random, vectors[i], DIM);
            operations[i] = (struct gy_operation){.id = number(i * 3), .vector = vectors[i], .payload = ""};
        }
        fixture_apply(&f, operations, 200, NULL);
        fixture_vector(&random, query, DIM);
        gyre_vector_normalize(metrics[m], query, query, DIM);
        for (uint64_t i = 0; i < 300; i++)
            ids[i] = number(299 - i);
        assert_ok(gy_points_distances(f.points, query, ids, 300, out, &err));
        for (uint64_t i = 0; i < 300; i++) {
            uint64_t n = 299 - i;
            float wanted = n % 3 ? INFINITY : gyre_distance(metrics[m], vectors[n / 3], query, DIM);
            assert_memory_equal(&out[i], &wanted, sizeof wanted);
        }
        fixture_fini(&f);
    }
}

static void the_sum_is_that_of_the_normalised_vectors(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    fixture_init(&f, GYRE_COSINE, 2);
    float a[] = {3, 4}, b[] = {0, 2};
    struct gy_operation operations[] = {{.id = number(2), .vector = a, .payload = ""},
                                        {.id = number(1), .vector = b, .payload = ""}};
    fixture_apply(&f, operations, 2, NULL);
    double sums[2];
    uint64_t count;
    assert_ok(gy_points_sum(f.points, GY_NEVER, sums, &count, &err));
    assert_int_equal(count, 2);
    assert_true(fabs(sums[0] - 0.6) < 1e-6 && fabs(sums[1] - 1.8) < 1e-6);
    assert_int_equal(gy_points_sum(f.points, gy_now_ns(), sums, &count, &err), GYRE_DEADLINE);
    assert_string_equal(err.text, "sum: the deadline passed after 0 vectors");
    fixture_fini(&f);
}

/* ---- codebooks ---- */
static bool wait_for_version(struct fixture *f, uint32_t version)
{
    for (int i = 0; i < 60000 && gy_points_codebook_version(f->points) != version; i++)
        usleep(1000); /* the condition is the points' own business */
    return gy_points_codebook_version(f->points) == version;
}

static void a_codebook_of_another_kind_is_refused_and_an_old_one_changes_nothing(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    gyre_codebook *dim = fixture_codebook(GYRE_L2, DIM + 1, 2, 0), *metric = fixture_codebook(GYRE_IP, DIM, 2, 0);
    gyre_codebook *same = fixture_codebook(GYRE_L2, DIM, 1, 1), *seed = NULL;
    const uint8_t other[GYRE_SEED_BYTES] = {8};
    assert_ok(gyre_codebook_new(&seed, GYRE_L2, DIM, 2, other, NULL, &err));
    assert_int_equal(gy_points_set_codebook(f.points, dim, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "dim"));
    assert_int_equal(gy_points_set_codebook(f.points, metric, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "metric"));
    assert_int_equal(gy_points_set_codebook(f.points, seed, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "seed"));
    assert_ok(gy_points_set_codebook(f.points, same, &err));
    assert_int_equal(gy_points_codebook_version(f.points), 1);
    gyre_codebook_free(dim), gyre_codebook_free(metric), gyre_codebook_free(same), gyre_codebook_free(seed);
    fixture_fini(&f);
}

static void the_last_codebook_asked_for_is_the_one_that_comes(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 4;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 3000, 1000, &random);
    for (uint32_t version = 2; version <= 6; version++) {
        gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, version, (float)version);
        assert_ok(gy_points_set_codebook(f.points, codebook, &err));
        gyre_codebook_free(codebook);
    }
    assert_true(wait_for_version(&f, 6));
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(gy_points_codebook_version(f.points), 6);
    assert_int_equal(gy_points_count(f.points), 3000);
    fixture_fini(&f);
}

static void a_reencoding_gives_up_before_the_disk_is_full_and_can_be_asked_for_again(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 6;
    char trouble[GYRE_ERROR_TEXT_BYTES] = "";
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 3000, 1000, &random);
    gy_points_limit_disk(f.points, UINT64_MAX);
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, 2, 1);
    assert_ok(gy_points_set_codebook(f.points, codebook, &err));
    for (int i = 0; i < 60000 && !*trouble; i++) {
        usleep(1000); /* as above */
        gy_points_trouble(f.points, trouble, sizeof trouble);
    }
    assert_non_null(strstr(trouble, "codebook 2: disk of "));
    assert_non_null(strstr(trouble, "re-encoding needs"));
    assert_int_equal(gy_points_codebook_version(f.points), 1);
    gy_points_limit_disk(f.points, 1 << 20);
    assert_ok(gy_points_set_codebook(f.points, codebook, &err));
    gyre_codebook_free(codebook);
    assert_true(wait_for_version(&f, 2));
    fixture_fini(&f);
}

static void a_missing_vector_stops_a_reencoding_and_is_said(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 5;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 100, 100, &random);
    gy_points_trouble(f.points, trouble, sizeof trouble);
    assert_string_equal(trouble, "");
    gyre_point_id id = number(50);
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    gy_batch_delete(batch, f.store, GY_FAMILY_VECTORS, (struct gy_slice){&id, sizeof id});
    assert_ok(gy_store_commit(f.store, batch, &err));
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, 2, 1);
    assert_ok(gy_points_set_codebook(f.points, codebook, &err));
    for (int i = 0; i < 60000 && !*trouble; i++, usleep(1000))
        gy_points_trouble(f.points, trouble, sizeof trouble);
    assert_non_null(strstr(trouble, "codebook 2: 99 of 100 points"));
    assert_int_equal(gy_points_codebook_version(f.points), 1);
    fixture_fill(&f, 50, 1, 1, &random); /* mended */
    assert_ok(gy_points_set_codebook(f.points, codebook, &err));
    assert_true(wait_for_version(&f, 2));
    for (int i = 0; i < 60000 && *trouble; i++, usleep(1000))
        gy_points_trouble(f.points, trouble, sizeof trouble);
    assert_string_equal(trouble, "");
    gyre_codebook_free(codebook);
    fixture_fini(&f);
}

/* ---- damage ---- */
struct copied {
    uint8_t key[GY_CODE_KEY_BYTES], *value;
    size_t bytes;
    uint8_t kind;
};

static gyre_status copy_first(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct copied *copied = self;
    const uint8_t *bytes = key.data;
    if (bytes[4] != copied->kind)
        return GYRE_OK;
    memcpy(copied->key, key.data, sizeof copied->key);
    copied->value = malloc(value.bytes);
    memcpy(copied->value, value.data, copied->bytes = value.bytes);
    return gyre_fail(err, GYRE_CANCELLED, "found");
}

/* Fills a replica, lets damage change its first record of a kind, and opens it again. */
static gyre_status open_damaged(uint8_t kind, void (*damage)(struct copied *copied), gyre_error *why)
{
    gyre_error err;
    struct fixture f;
    uint64_t random = 6;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 600, 600, &random); /* two packed chunks, and one of 88 rows */
    struct copied copied = {.kind = kind};
    assert_int_equal(gy_store_walk(f.store, GY_FAMILY_CODES, (struct gy_slice){0}, (struct gy_slice){0}, copy_first, &copied,
                                   &err), GYRE_CANCELLED);
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    gy_batch_delete(batch, f.store, GY_FAMILY_CODES, (struct gy_slice){copied.key, sizeof copied.key});
    damage(&copied);
    if (copied.bytes)
        gy_batch_put(batch, f.store, GY_FAMILY_CODES, (struct gy_slice){copied.key, sizeof copied.key},
                     (struct gy_slice){copied.value, copied.bytes});
    assert_ok(gy_store_commit(f.store, batch, &err));
    free(copied.value);
    gy_points_close(f.points);
    f.points = NULL;
    gyre_status status = gy_points_open(&f.points, f.store, why);
    fixture_fini(&f);
    return status;
}

static void nothing(struct copied *copied) { (void)copied; }
static void flip_one_bit(struct copied *copied) { copied->value[copied->bytes / 2] ^= 4; }
static void cut_short(struct copied *copied) { copied->bytes -= 1; }
static void lose(struct copied *copied) { copied->bytes = 0; }
static void claim_newer_format(struct copied *copied) { copied->value[0] = 9; }
static void move_far(struct copied *copied) { copied->key[5] = 0x7f; }
static void be_of_no_kind(struct copied *copied) { copied->key[4] = 0; }
static void break_id(struct copied *copied) { copied->value[8] = 1, copied->value[14] = 0xf0; }
static void break_factor(struct copied *copied) { memset(copied->value + copied->bytes - 14, 0xff, 14); }

static void damaged_codes_do_not_load_and_the_sentence_says_which(void **state)
{
    (void)state;
    static const struct {
        uint8_t kind;
        void (*damage)(struct copied *);
        gyre_status status;
        const char *says;
    } cases[] = {
        {GY_CODE_PACKED, nothing, GYRE_OK, ""},
        {GY_CODE_PACKED, flip_one_bit, GYRE_CORRUPT, "chunk 0: packed chunk has a wrong checksum"},
        {GY_CODE_PACKED, cut_short, GYRE_CORRUPT, "packed chunk of"},
        {GY_CODE_PACKED, lose, GYRE_CORRUPT, "chunk 0: chunk of list 0 has no rows"},
        {GY_CODE_PACKED, claim_newer_format, GYRE_UNIMPLEMENTED, "format 9"},
        {GY_CODE_PACKED, move_far, GYRE_CORRUPT, "chunk number"},
        {GY_CODE_PACKED, be_of_no_kind, GYRE_CORRUPT, "kind 0"},
        {GY_CODE_ROW, nothing, GYRE_OK, ""},
        {GY_CODE_ROW, cut_short, GYRE_CORRUPT, "slot 512: row of"},
        {GY_CODE_ROW, lose, GYRE_CORRUPT, "codes of 599 points; the replica holds 600"},
        {GY_CODE_ROW, break_id, GYRE_CORRUPT, "slot 512"},
        {GY_CODE_ROW, break_factor, GYRE_CORRUPT, "factor"},
        {GY_CODE_LIST, nothing, GYRE_OK, ""},
        {GY_CODE_LIST, cut_short, GYRE_CORRUPT, "chunk 0: list of 3 bytes"},
        {GY_CODE_LIST, flip_one_bit, GYRE_CORRUPT, "chunk 0: list 262144; the codebook has 1"},
        {GY_CODE_LIST, lose, GYRE_CORRUPT, "the list of chunk 0 is missing"},
        {GY_CODE_LIST, move_far, GYRE_CORRUPT, "has no rows"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gyre_error err = {0};
        gyre_status status = open_damaged(cases[i].kind, cases[i].damage, &err);
        if (status != cases[i].status || (status != GYRE_OK && !strstr(err.text, cases[i].says)))
            fail_msg("case %zu: %s: %s", i, gyre_status_name(status), err.text);
    }
}

static void codes_of_other_codebooks_are_deleted_at_opening(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 7;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 10, 10, &random);
    const uint32_t versions[] = {0, 2, UINT32_MAX};
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    for (int i = 0; i < 3; i++) {
        uint8_t key[GY_CODE_KEY_BYTES];
        gy_code_key(key, versions[i], GY_CODE_PACKED, UINT32_MAX);
        gy_batch_put(batch, f.store, GY_FAMILY_CODES, (struct gy_slice){key, sizeof key}, (struct gy_slice){"left over", 9});
    }
    assert_ok(gy_store_commit(f.store, batch, &err));
    for (int i = 0; i < 2; i++) {
        fixture_close(&f);
        fixture_open(&f);
        struct copied copied = {.kind = GY_CODE_PACKED};
        assert_ok(gy_store_walk(f.store, GY_FAMILY_CODES, (struct gy_slice){0}, (struct gy_slice){0}, copy_first, &copied, &err));
        assert_int_equal(gy_points_count(f.points), 10);
    }
    fixture_fini(&f);
}

static void a_batch_with_a_bad_vector_changes_nothing(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    float good[DIM] = {1}, bad[DIM] = {NAN};
    struct gy_operation operations[] = {{.id = number(1), .vector = good, .payload = ""},
                                        {.id = number(2), .vector = bad, .payload = ""}};
    uint64_t versions[] = {1, 1};
    bool deleted[2];
    assert_int_equal(gy_points_apply(f.points, operations, versions, 2, 1, NULL, deleted, &err), GYRE_INVALID);
    assert_int_equal(gy_points_count(f.points), 0);
    assert_int_equal(gy_points_applied_seq(f.points), 0);
    fixture_apply(&f, operations, 1, NULL);
    assert_int_equal(gy_points_count(f.points), 1);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upserted_point_reads_back_and_a_missing_one_is_not_found),
        cmocka_unit_test(later_operations_of_a_batch_win_and_deletes_say_what_was_there),
        cmocka_unit_test(the_number_of_an_emptied_chunk_is_used_again),
        cmocka_unit_test(a_held_snapshot_does_not_change),
        cmocka_unit_test(distances_are_exact_and_infinite_for_what_is_not_there),
        cmocka_unit_test(the_sum_is_that_of_the_normalised_vectors),
        cmocka_unit_test(a_codebook_of_another_kind_is_refused_and_an_old_one_changes_nothing),
        cmocka_unit_test(the_last_codebook_asked_for_is_the_one_that_comes),
        cmocka_unit_test(a_reencoding_gives_up_before_the_disk_is_full_and_can_be_asked_for_again),
        cmocka_unit_test(a_missing_vector_stops_a_reencoding_and_is_said),
        cmocka_unit_test(damaged_codes_do_not_load_and_the_sentence_says_which),
        cmocka_unit_test(codes_of_other_codebooks_are_deleted_at_opening),
        cmocka_unit_test(a_batch_with_a_bad_vector_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
