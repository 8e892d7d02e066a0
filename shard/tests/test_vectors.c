/* The mirror of full vectors: the same bits as the store gives, whoever writes them and however often; never in the way. */
#include "points_fixture.h"

#include "index/rank.h"
#include "index/vectors.h"

#include <math.h>
#include <pthread.h>

enum { DIM = 33, POINTS = 3000 };

static gy_vectors *mirror(const char *directory, gyre_metric metric)
{
    gyre_error err;
    gy_vectors *vectors = NULL;
    assert_ok(gy_vectors_new(&vectors, directory, metric, DIM, &err));
    return vectors;
}

static void a_row_is_there_once_it_was_put_and_stays_as_the_first_put_it(void **state)
{
    (void)state;
    char *directory = fixture_directory();
    for (int m = GYRE_L2; m <= GYRE_COSINE; m++) {
        gy_vectors *vectors = mirror(directory, (gyre_metric)m);
        gy_segment *segment = gy_segment_new(vectors);
        uint64_t random = 3;
        float rows[GY_CHUNK_ROWS][DIM], query[DIM], other[DIM] = {9};
        fixture_vector(&random, query, DIM);
        gyre_vector_normalize((gyre_metric)m, query, query, DIM);
        for (size_t i = 0; i < GY_CHUNK_ROWS; i++) {
            fixture_vector(&random, rows[i], DIM);
            assert_null(gy_segment_row(segment, i));
            gy_segment_put(segment, i, rows[i]);
            gy_segment_put(segment, i, other);
        }
        gy_segment *copy = gy_segment_new(vectors);
        for (size_t i = 0; i < GY_CHUNK_ROWS; i++) {
            const float *row = gy_segment_row(segment, i);
            float wanted = gyre_distance((gyre_metric)m, rows[i], query, DIM), got = gy_vectors_distance(vectors, row, query);
            assert_memory_equal(row, rows[i], sizeof rows[i]);
            assert_memory_equal(&wanted, &got, sizeof got);
            gy_segment_copy(copy, GY_CHUNK_ROWS - 1 - i, segment, i);
        }
        gy_segment_copy(copy, 0, NULL, 0);
        gy_segment_release(segment);
        for (size_t i = 0; i < GY_CHUNK_ROWS; i++) {
            float wanted = gyre_distance((gyre_metric)m, rows[i], query, DIM);
            float got = gy_vectors_distance(vectors, gy_segment_row(copy, GY_CHUNK_ROWS - 1 - i), query);
            assert_memory_equal(&wanted, &got, sizeof got);
        }
        gy_segment_release(copy);
        gy_vectors_free(vectors);
    }
    fixture_directory_free(directory);
}

static void freed_segments_are_used_again_and_most_of_them_go_back_to_the_disk(void **state)
{
    (void)state;
    enum { SEGMENTS = 200 };
    char *directory = fixture_directory();
    gy_vectors *vectors = mirror(directory, GYRE_L2);
    gy_segment *segments[SEGMENTS];
    float row[DIM] = {1, 2, 3};
    uint64_t all = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < SEGMENTS; i++) {
            segments[i] = gy_segment_new(vectors);
            assert_false(gy_segment_has_room(segments[i]));
            row[3] = (float)i;
            gy_segment_put(segments[i], 7, row);
            assert_null(gy_segment_row(segments[i], 6));
        }
        if (round == 0)
            all = gy_vectors_disk_bytes(vectors);
        assert_int_equal(gy_vectors_disk_bytes(vectors), all);
        for (size_t i = 0; i < SEGMENTS; i++) {
            assert_true(gy_segment_row(segments[i], 7)[3] == (float)i);
            gy_segment_release(segments[i]);
        }
        assert_true(gy_vectors_disk_bytes(vectors) < all / 3);
    }
    gy_vectors_free(vectors);
    fixture_directory_free(directory);
}

static void without_room_nothing_is_mirrored_and_room_is_found_when_there_is_some(void **state)
{
    (void)state;
    char *directory = fixture_directory();
    gy_vectors *vectors = mirror(directory, GYRE_L2), *nowhere = mirror("/nonexistent", GYRE_L2);
    gy_segment *segment = gy_segment_new(vectors), *lost = gy_segment_new(nowhere);
    float row[DIM] = {1};
    gy_vectors_limit_disk(vectors, UINT64_MAX);
    gy_segment_put(segment, 0, row);
    gy_segment_put(lost, 0, row);
    gy_segment_put(NULL, 0, row);
    assert_null(gy_segment_row(segment, 0));
    assert_null(gy_segment_row(lost, 0));
    assert_null(gy_segment_row(NULL, 0));
    assert_int_equal(gy_vectors_disk_bytes(vectors), 0);
    gy_vectors_limit_disk(vectors, 0);
    gy_segment_put(segment, 0, row);
    assert_non_null(gy_segment_row(segment, 0));
    gy_segment_release(segment);
    gy_segment_release(lost);
    gy_vectors_free(vectors);
    gy_vectors_free(nowhere);
    fixture_directory_free(directory);
}

/* ---- in a replica ---- */
static size_t mirrored_of(gy_snapshot *snapshot)
{
    size_t mirrored = 0;
    for (size_t c = 0; c < snapshot->count; c++)
        for (size_t place = 0; place < GY_CHUNK_ROWS; place++)
            mirrored += gy_snapshot_at(snapshot, c) && gy_segment_row(gy_snapshot_at(snapshot, c)->mirror, place);
    return mirrored;
}

struct ranker {
    gy_points *points;
    gy_snapshot *snapshot;
    const float *query, *wanted; /* by number */
};

static void *rank_all(void *arg)
{
    struct ranker *ranker = arg;
    gyre_error err;
    const struct gy_layout *layout = &ranker->snapshot->codebook->layout;
    static _Thread_local uint32_t slots[POINTS];
    static _Thread_local float out[POINTS];
    size_t count = 0;
    for (uint32_t c = 0; c < ranker->snapshot->count; c++)
        for (uint32_t place = 0; place < GY_CHUNK_ROWS; place++)
            if (gy_chunk_holds(layout, gy_snapshot_at(ranker->snapshot, c), place))
                slots[count++] = c * GY_CHUNK_ROWS + place;
    assert_int_equal(count, POINTS);
    assert_ok(gy_points_rank(ranker->points, ranker->snapshot, ranker->query, slots, count, out, &err));
    for (size_t i = 0; i < count; i++) {
        const gyre_point_id *id = &gy_snapshot_at(ranker->snapshot, slots[i] / GY_CHUNK_ROWS)->ids[slots[i] % GY_CHUNK_ROWS];
        assert_memory_equal(&out[i], &ranker->wanted[gyre_point_id_number(id)], sizeof out[i]);
    }
    return NULL;
}

/* Readers, and the background pass, fill what a reopened replica lacks; all of them at once. */
static void a_reopened_replica_is_mirrored_again_by_whoever_comes_first(void **state)
{
    (void)state;
    enum { RANKERS = 3 };
    gyre_error err;
    struct fixture f;
    uint64_t random = 11;
    fixture_init_with(&f, "rabitq1", fixture_partition(GYRE_COSINE, DIM, 1, 0, 20));
    fixture_fill(&f, 0, POINTS, 500, &random);
    gy_snapshot *written = gy_points_snapshot(f.points);
    assert_int_equal(mirrored_of(written), POINTS); /* by the writer, before anybody could see them */
    gy_snapshot_release(written);
    float query[DIM], *wanted = malloc(POINTS * sizeof *wanted);
    gyre_point_id *ids = malloc(POINTS * sizeof *ids);
    fixture_vector(&random, query, DIM);
    gyre_vector_normalize(GYRE_COSINE, query, query, DIM);
    for (size_t i = 0; i < POINTS; i++)
        ids[i] = gyre_point_id_from_number(i);
    for (int round = 0; round < 4; round++) {
        fixture_close(&f);
        fixture_open(&f);
        assert_ok(gy_points_distances_stored(f.points, query, ids, POINTS, wanted, &err));
        struct ranker ranker = {f.points, gy_points_snapshot(f.points), query, wanted};
        pthread_t threads[RANKERS];
        for (int i = 0; i < RANKERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, rank_all, &ranker), 0);
        for (int i = 0; i < RANKERS; i++)
            pthread_join(threads[i], NULL);
        while (!atomic_load(&f.points->is_warm))
            usleep(200);
        assert_int_equal(mirrored_of(ranker.snapshot), POINTS);
        rank_all(&ranker);
        gy_snapshot_release(ranker.snapshot);
    }
    free(wanted);
    free(ids);
    fixture_fini(&f);
}

/* From the mirror, and, while somebody holds the table of places, from RocksDB. */
static void distances_by_id_are_those_of_the_stored_vectors(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 12;
    enum { IDS = 1000 }; /* every third is not there, some were deleted */
    float query[DIM], wanted[IDS], out[IDS];
    gyre_point_id ids[IDS];
    fixture_init_with(&f, "rabitq1", fixture_partition(GYRE_COSINE, DIM, 1, 0, 20));
    fixture_fill(&f, 0, POINTS, 500, &random);
    struct gy_operation delete = {.id = gyre_point_id_from_number(3)};
    fixture_apply(&f, &delete, 1, NULL);
    fixture_vector(&random, query, DIM);
    gyre_vector_normalize(GYRE_COSINE, query, query, DIM);
    for (size_t i = 0; i < IDS; i++)
        ids[i] = gyre_point_id_from_number(i % 3 ? (i * 7) % POINTS : POINTS + i);
    ids[500] = gyre_point_id_from_number(3);
    assert_ok(gy_points_distances_stored(f.points, query, ids, IDS, wanted, &err));
    assert_true(isinf(wanted[0]) && isinf(wanted[500]) && isfinite(wanted[1]));
    for (int busy = 0; busy < 2; busy++) {
        memset(out, 0, sizeof out);
        if (busy)
            pthread_mutex_lock(&f.points->apply_mu);
        assert_ok(gy_points_distances(f.points, query, ids, IDS, out, &err));
        if (busy)
            pthread_mutex_unlock(&f.points->apply_mu);
        assert_memory_equal(out, wanted, sizeof out);
    }
    fixture_fini(&f);
}

static void a_row_of_an_old_snapshot_keeps_its_vector_or_is_infinitely_far(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    fixture_init(&f, GYRE_L2, DIM);
    float a[DIM] = {1}, query[DIM] = {0}, distance;
    struct gy_operation insert = {.id = gyre_point_id_from_number(1), .vector = a, .payload = ""},
                        delete = {.id = gyre_point_id_from_number(1)};
    uint32_t slot = 0;
    for (int has_room = 0; has_room < 2; has_room++) {
        gy_vectors_limit_disk(f.points->vectors, has_room ? 0 : UINT64_MAX);
        fixture_apply(&f, &insert, 1, NULL);
        gy_snapshot *held = gy_points_snapshot(f.points);
        fixture_apply(&f, &delete, 1, NULL);
        assert_ok(gy_points_rank(f.points, held, query, &slot, 1, &distance, &err));
        assert_true(has_room ? distance == 1 : isinf(distance));
        gy_snapshot_release(held);
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_there_once_it_was_put_and_stays_as_the_first_put_it),
        cmocka_unit_test(freed_segments_are_used_again_and_most_of_them_go_back_to_the_disk),
        cmocka_unit_test(without_room_nothing_is_mirrored_and_room_is_found_when_there_is_some),
        cmocka_unit_test(a_reopened_replica_is_mirrored_again_by_whoever_comes_first),
        cmocka_unit_test(distances_by_id_are_those_of_the_stored_vectors),
        cmocka_unit_test(a_row_of_an_old_snapshot_keeps_its_vector_or_is_infinitely_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
