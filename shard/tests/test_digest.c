/* Equal digests of equal states, however they came about, and what is found with them of damage on disk and in memory. */
#include "index/digest.h"

#include "index/record.h"
#include "index/snapshot.h"
#include "points_fixture.h"

#include <sched.h>

enum { DIM = 20, IDS = 300, LISTS = 3, OPERATIONS = 30 };

struct drawn {
    struct gy_operation operations[OPERATIONS];
    float vectors[OPERATIONS][DIM];
    char payloads[OPERATIONS][24];
};

/* Overwrites and deletes of what is there, of what is not, and of the same point twice in an entry. */
static void draw(struct drawn *drawn, uint64_t seq)
{
    uint64_t random = seq * 31;
    for (size_t i = 0; i < OPERATIONS; i++) {
        bool deletes = fixture_below(&random, 4) == 0;
        fixture_vector(&random, drawn->vectors[i], DIM);
        snprintf(drawn->payloads[i], sizeof drawn->payloads[i], "{\"s\":%u}", (unsigned)(seq % 7));
        drawn->operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(fixture_below(&random, IDS))};
        if (!deletes)
            drawn->operations[i].vector = drawn->vectors[i], drawn->operations[i].payload = drawn->payloads[i];
    }
}

/* Applies the entries up to seq, so many in a batch. */
static void write_up_to(struct fixture *f, uint64_t seq, size_t together)
{
    enum { TOGETHER_MAX = 8 };
    gyre_error err;
    static struct drawn drawn[TOGETHER_MAX];
    struct gy_operation operations[TOGETHER_MAX * OPERATIONS];
    uint64_t versions[TOGETHER_MAX * OPERATIONS];
    bool deleted[TOGETHER_MAX * OPERATIONS];
    while (f->seq < seq) {
        size_t count = 0;
        for (size_t e = 0; e < together && f->seq < seq; e++) {
            struct gy_log_entry entry = {1, ++f->seq, NULL, 0};
            assert_ok(gy_store_log_append(f->store, &entry, 1, false, &err));
            draw(&drawn[e], f->seq);
            for (size_t i = 0; i < OPERATIONS; i++, count++)
                operations[count] = drawn[e].operations[i], versions[count] = f->seq;
        }
        assert_ok(gy_points_apply(f->points, operations, versions, count, f->seq, NULL, deleted, &err));
    }
}

static void make(struct fixture *f)
{
    fixture_init_with(f, "rabitq1", fixture_partition(GYRE_COSINE, DIM, 1, 0, LISTS));
}

static void to_codebook(struct fixture *f, uint32_t version)
{
    gyre_error err;
    gyre_codebook *codebook = fixture_partition(GYRE_COSINE, DIM, version, 0, LISTS + 1);
    assert_ok(gy_points_set_codebook(f->points, codebook, &err));
    gyre_codebook_free(codebook);
    while (gy_points_codebook_version(f->points) != version)
        sched_yield();
}

static void assert_clean(struct fixture *f)
{
    struct gy_inspection inspection = fixture_assert_whole(f);
    assert_int_equal(inspection.vectors, inspection.points);
    assert_true(inspection.chunks > 0);
}

static void assert_same_digest(struct fixture *a, struct fixture *b)
{
    struct gy_points_state of_a = gy_points_state(a->points), of_b = gy_points_state(b->points);
    assert_int_equal(of_a.applied_seq, of_b.applied_seq), assert_int_equal(of_a.points, of_b.points);
    assert_int_equal(of_a.codebook_version, of_b.codebook_version);
    assert_memory_equal(&of_a.digest, &of_b.digest, sizeof of_a.digest);
}

static void sums_can_be_added_and_taken_away_in_any_order(void **state)
{
    (void)state;
    struct gy_sum sum = {0, 0}, all = {UINT64_MAX, 3}, one = {1, 0}, large = {5, UINT64_MAX};
    gy_sum_add(&sum, all), gy_sum_add(&sum, one);
    assert_int_equal(sum.low, 0), assert_int_equal(sum.high, 4);
    gy_sum_add(&sum, large);
    gy_sum_subtract(&sum, all), gy_sum_subtract(&sum, one), gy_sum_subtract(&sum, large);
    assert_true(gy_sum_equal(sum, (struct gy_sum){0, 0}));
}

static void equal_states_have_equal_digests_however_they_came_about(void **state)
{
    (void)state;
    struct fixture a, b;
    make(&a), make(&b);
    write_up_to(&a, 60, 1);
    write_up_to(&b, 20, 8);
    fixture_close(&b); /* rows that are not mirrored, another layout of chunks */
    fixture_open(&b);
    write_up_to(&b, 60, 5);
    assert_same_digest(&a, &b);
    assert_clean(&a), assert_clean(&b);
    to_codebook(&a, 2);
    struct gy_points_state of_a = gy_points_state(a.points), of_b = gy_points_state(b.points);
    assert_memory_equal(&of_a.digest.points, &of_b.digest.points, sizeof of_a.digest.points);
    assert_memory_equal(&of_a.digest.vectors, &of_b.digest.vectors, sizeof of_a.digest.vectors);
    assert_false(gy_sum_equal(of_a.digest.codes, of_b.digest.codes));
    write_up_to(&a, 80, 3);
    write_up_to(&b, 80, 3);
    to_codebook(&b, 2);
    assert_same_digest(&a, &b);
    fixture_close(&a);
    fixture_open(&a);
    assert_same_digest(&a, &b);
    assert_clean(&a), assert_clean(&b);
    fixture_fini(&a);
    fixture_fini(&b);
}

static void what_is_gone_leaves_nothing_in_the_digest(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    write_up_to(&f, 30, 4);
    struct gy_operation deletes[IDS];
    for (size_t i = 0; i < IDS; i++)
        deletes[i] = (struct gy_operation){.id = gyre_point_id_from_number(i)};
    fixture_apply(&f, deletes, IDS, NULL);
    const struct gy_digest nothing = {0};
    struct gy_points_state all_gone = gy_points_state(f.points);
    assert_int_equal(all_gone.points, 0);
    assert_memory_equal(&all_gone.digest, &nothing, sizeof nothing);
    fixture_fini(&f);
}

/* ---- damage ---- */
static void put(struct fixture *f, enum gy_family family, const void *key, size_t key_bytes, const void *value, size_t bytes)
{
    gyre_error err;
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    if (value)
        gy_batch_put(batch, f->store, family, (struct gy_slice){key, key_bytes}, (struct gy_slice){value, bytes});
    else
        gy_batch_delete(batch, f->store, family, (struct gy_slice){key, key_bytes});
    assert_ok(gy_store_commit(f->store, batch, &err));
}

struct record {
    uint8_t key[16], value[70000];
    size_t key_bytes, bytes;
    int wanted; /* kind of code; 0: any */
};

static gyre_status keep_first(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    (void)err;
    struct record *record = self;
    if (record->wanted && ((const uint8_t *)key.data)[4] != record->wanted)
        return GYRE_OK;
    memcpy(record->key, key.data, record->key_bytes = key.bytes);
    memcpy(record->value, value.data, record->bytes = value.bytes);
    return GYRE_CANCELLED;
}

/* Chunks without holes, for compaction would write what was damaged anew, from RAM; packed, and with rows written since. */
static void make_full(struct fixture *f)
{
    uint64_t random = 5;
    make(f);
    fixture_fill(f, 0, IDS, IDS, &random);
    fixture_fill(f, IDS, 10, 1, &random);
}

static void an_inspection_finds_what_is_damaged_and_says_what(void **state)
{
    (void)state;
    gyre_error err;
    static const struct {
        enum gy_family family;
        int kind;
        size_t at;    /* byte that is changed; SIZE_MAX: the record is taken away */
        uint8_t bits; /* of it */
        const char *says;
    } cases[] = {
        {GY_FAMILY_POINTS, 0, 0, 1, "points: 310 of 310 are there, and their digest is not"},
        {GY_FAMILY_POINTS, 0, 7, 1, "points: point 0: its version is"},
        {GY_FAMILY_POINTS, 0, 10, 1, "points: 310 of 310 are there, and their digest is not"},
        {GY_FAMILY_POINTS, 0, SIZE_MAX, 0, "points: 309 of 310"},
        {GY_FAMILY_VECTORS, 0, 1, 1, "vectors: 310 of 310 are there, and their digest is not"},
        {GY_FAMILY_VECTORS, 0, SIZE_MAX, 0, "vectors: 309 of 310"},
        {GY_FAMILY_CODES, GY_CODE_ROW, 25, 1, "codes: 310 of 310 are there, and their digest is not"},
        {GY_FAMILY_CODES, GY_CODE_ROW, SIZE_MAX, 0, "codes: 309 of 310"},
        {GY_FAMILY_CODES, GY_CODE_PACKED, 60, 1, "codes: chunk 0: packed chunk has a wrong checksum"},
        {GY_FAMILY_CODES, GY_CODE_PACKED, SIZE_MAX, 0, "codes: 155 of 310"},
        {GY_FAMILY_CODES, GY_CODE_LIST, 0, 1, "codes: chunk 0: list 3; the codebook has 3"},
        {GY_FAMILY_CODES, GY_CODE_LIST, 0, 2, "codes: 310 of 310 are there, and their digest is not"},
        {GY_FAMILY_CODES, GY_CODE_LIST, SIZE_MAX, 0, "codes: chunk 0: its list is missing"},
    };
    struct fixture f;
    make_full(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct record record;
        size_t at = cases[i].at;
        assert_clean(&f);
        record = (struct record){.wanted = cases[i].kind};
        assert_int_equal(gy_store_walk(f.store, cases[i].family, (struct gy_slice){0}, (struct gy_slice){0}, keep_first, &record,
                                       &err), GYRE_CANCELLED);
        assert_true(at == SIZE_MAX || at < record.bytes);
        if (at != SIZE_MAX)
            record.value[at] ^= cases[i].bits;
        put(&f, cases[i].family, record.key, record.key_bytes, at == SIZE_MAX ? NULL : record.value, record.bytes);
        struct gy_inspection found = fixture_inspect(&f);
        if (!found.damaged || !strstr(found.first, cases[i].says))
            fail_msg("case %zu: '%s'", i, found.first);
        if (at != SIZE_MAX)
            record.value[at] ^= cases[i].bits;
        put(&f, cases[i].family, record.key, record.key_bytes, record.value, record.bytes);
    }
    assert_clean(&f);
    fixture_fini(&f);
}

static void a_look_at_memory_finds_a_code_an_id_and_a_list_that_changed(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    make_full(&f);
    gy_snapshot *snapshot = gy_points_snapshot(f.points);
    struct gy_chunk *chunk = gy_snapshot_at(snapshot, 0);
    uint8_t *const bytes[] = {gy_chunk_blocks(chunk), chunk->ids[0].bytes, (uint8_t *)&chunk->list};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        *bytes[i] ^= 1;
        assert_int_equal(gy_points_memory_check(f.points, &err), GYRE_CORRUPT);
        assert_non_null(strstr(err.text, "codes in memory: 310 of 310, and their digest is not the replica's"));
        *bytes[i] ^= 1;
        assert_ok(gy_points_memory_check(f.points, &err));
    }
    gy_snapshot_release(snapshot);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_can_be_added_and_taken_away_in_any_order),
        cmocka_unit_test(equal_states_have_equal_digests_however_they_came_about),
        cmocka_unit_test(what_is_gone_leaves_nothing_in_the_digest),
        cmocka_unit_test(an_inspection_finds_what_is_damaged_and_says_what),
        cmocka_unit_test(a_look_at_memory_finds_a_code_an_id_and_a_list_that_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
