/* Compaction: what deletes and overwrites leave behind goes away, and nothing else does. */
#include "points_model.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DIM = 24 };

static size_t rows_used(struct fixture *f, size_t *chunks)
{
    size_t rows = 0;
    *chunks = 0;
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++) {
        rows += gy_snapshot_chunk(snapshot, c).rows;
        *chunks += gy_snapshot_chunk(snapshot, c).rows != 0;
    }
    gy_snapshot_release(snapshot);
    return rows;
}

/* Numbers first, first + step, … below end. */
static void delete_numbers(struct fixture *f, uint64_t first, uint64_t end, uint64_t step)
{
    struct gy_operation operations[512];
    size_t count = 0;
    for (uint64_t n = first; n < end; n += step) {
        operations[count++] = (struct gy_operation){.id = gyre_point_id_from_number(n)};
        if (count == 512 || n + step >= end)
            fixture_apply(f, operations, count, NULL), count = 0;
    }
}

static gyre_status count_found(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    (void)i, (void)err;
    *(size_t *)self += view->found;
    return GYRE_OK;
}

static void what_is_mostly_holes_is_rewritten_and_small_neighbours_become_one(void **state)
{
    (void)state;
    enum { POINTS = 16 * GY_CHUNK_ROWS };
    gyre_error err;
    struct fixture f;
    uint64_t random = 4;
    size_t chunks;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, POINTS, 1000, &random);
    assert_int_equal(rows_used(&f, &chunks), POINTS);
    for (uint64_t n = 0; n < POINTS; n++) /* seven of eight go */
        if (n % 8 == 0)
            delete_numbers(&f, n + 1, n + 8, 1);
    model_wait_for_compaction(&f);
    assert_true(f.points->compacted >= 16);
    assert_true(rows_used(&f, &chunks) < POINTS / 4);
    assert_true(chunks <= 5);
    for (int reopened = 0; reopened < 2; reopened++) {
        gyre_point_id ids[POINTS];
        size_t found = 0, all_chunks;
        for (uint64_t n = 0; n < POINTS; n++)
            ids[n] = gyre_point_id_from_number(n);
        assert_ok(gy_points_read(f.points, ids, POINTS, true, false, count_found, &found, &err));
        assert_int_equal(found, POINTS / 8);
        assert_int_equal(gy_points_count(f.points), POINTS / 8);
        assert_true(rows_used(&f, &all_chunks) < POINTS / 4 && all_chunks == chunks);
        fixture_close(&f);
        fixture_open(&f);
    }
    fixture_fini(&f);
}

static void a_held_snapshot_outlives_the_compaction_of_its_chunks(void **state)
{
    (void)state;
    enum { POINTS = 4 * GY_CHUNK_ROWS };
    gyre_error err;
    struct fixture f;
    uint64_t random = 5;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, POINTS, 256, &random);
    float query[DIM], *before = malloc(POINTS * sizeof *before), *after = malloc(POINTS * sizeof *after);
    uint32_t slots[POINTS];
    fixture_vector(&random, query, DIM);
    for (uint32_t i = 0; i < POINTS; i++)
        slots[i] = i;
    gy_snapshot *held = gy_points_snapshot(f.points);
    assert_ok(gy_points_rank(f.points, held, query, slots, POINTS, before, &err));
    delete_numbers(&f, 0, POINTS, 2);
    fixture_fill(&f, POINTS, 700, 100, &random);
    delete_numbers(&f, 1, POINTS, 4);
    model_wait_for_compaction(&f);
    assert_true(f.points->compacted > 0);
    assert_ok(gy_points_rank(f.points, held, query, slots, POINTS, after, &err)); /* of the mirror: the deleted ones too */
    assert_memory_equal(before, after, POINTS * sizeof *before);
    assert_int_equal(gy_snapshot_count(held), POINTS);
    gy_snapshot_release(held);
    free(before);
    free(after);
    fixture_fini(&f);
}

/* ---- a sample is the same wherever the points lie ---- */
static void a_sample_depends_on_points_and_seed_alone(void **state)
{
    (void)state;
    enum { POINTS = 1500, DRAWN = 300 };
    gyre_error err;
    struct fixture f;
    uint64_t random = 6;
    size_t drawn, size = DRAWN * DIM * sizeof(float);
    float *first = malloc(size), *again = malloc(size), *all = malloc(2 * POINTS * DIM * sizeof *all);
    fixture_init(&f, GYRE_COSINE, DIM);
    assert_ok(gy_points_sample(f.points, DRAWN, 1, first, &drawn, &err));
    assert_int_equal(drawn, 0);
    fixture_fill(&f, 0, POINTS, 500, &random);
    assert_ok(gy_points_sample(f.points, DRAWN, 1, first, &drawn, &err));
    assert_int_equal(drawn, DRAWN);
    for (size_t i = 0; i < DRAWN; i++) {
        double norm = gyre_vector_norm(first + i * DIM, DIM);
        assert_true(norm > 0.999 && norm < 1.001);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(first + i * DIM, first + j * DIM, DIM * sizeof *first);
    }
    fixture_fill(&f, 5000, 1000, 500, &random); /* and away again: other slots, other chunks */
    gyre_codebook *codebook = fixture_partition(GYRE_COSINE, DIM, 2, 0, 40);
    assert_ok(gy_points_set_codebook(f.points, codebook, &err));
    gyre_codebook_free(codebook);
    while (gy_points_codebook_version(f.points) != 2)
        usleep(200);
    delete_numbers(&f, 5000, 6000, 1);
    model_wait_for_compaction(&f);
    assert_ok(gy_points_sample(f.points, DRAWN, 1, again, &drawn, &err));
    assert_int_equal(drawn, DRAWN);
    assert_memory_equal(first, again, size);
    assert_ok(gy_points_sample(f.points, DRAWN, 2, again, &drawn, &err));
    assert_memory_not_equal(first, again, size);
    assert_ok(gy_points_sample(f.points, 2 * POINTS, 1, all, &drawn, &err));
    assert_int_equal(drawn, POINTS);
    free(first);
    free(again);
    free(all);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_mostly_holes_is_rewritten_and_small_neighbours_become_one),
        cmocka_unit_test(a_held_snapshot_outlives_the_compaction_of_its_chunks),
        cmocka_unit_test(a_sample_depends_on_points_and_seed_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
