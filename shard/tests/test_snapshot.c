/* Snapshots and places: what is shared stays as it was for whoever holds it; what is counted is what is there. */
#include "points_fixture.h"

#include "index/places.h"

enum { DIM = 8, LISTS = 100 };

static struct gy_shared_codebook *shared(void)
{
    gyre_error err;
    const gyre_codec *codec = NULL;
    struct gy_shared_codebook *codebook = NULL;
    assert_ok(gyre_codec_find(&codec, "rabitq4-fast", &err));
    assert_ok(gy_shared_codebook_new(&codebook, codec, fixture_partition(GYRE_L2, DIM, 1, 0, LISTS), &err));
    return codebook;
}

static void put(struct gy_places *places, gy_snapshot *snapshot, uint32_t list, uint64_t number)
{
    gyre_error err;
    uint8_t row[GY_ROW_BYTES_MAX] = {0};
    gyre_point_id id = gyre_point_id_from_number(number);
    uint32_t slot;
    assert_ok(gy_places_reserve(places, snapshot, 1, &err));
    assert_ok(gy_places_put(places, snapshot, list, &id, row, &slot, &err));
}

static size_t chunks_of(const gy_snapshot *snapshot, uint32_t list, const uint32_t **numbers, uint64_t *points)
{
    size_t count = gy_snapshot_list(snapshot, list, numbers, points);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(gy_snapshot_chunk(snapshot, (*numbers)[i]).list, list);
    return count;
}

static void a_snapshot_that_is_given_up_leaves_no_trace(void **state)
{
    (void)state;
    struct gy_shared_codebook *codebook = shared();
    struct gy_places places;
    gy_places_init(&places, NULL);
    gy_snapshot *first = gy_snapshot_new(codebook);
    for (uint64_t n = 0; n < 5 * GY_CHUNK_ROWS; n++) /* their list of numbers has room for two more */
        put(&places, first, 7, n);
    const uint32_t *numbers;
    uint64_t points;
    struct gy_chunk *lost = gy_chunk_new(&codebook->layout, 7, 1), *kept = gy_chunk_new(&codebook->layout, 7, 1);
    gy_snapshot *failed = gy_snapshot_copy(first);
    assert_true(gy_snapshot_add(failed, 50, lost));
    gy_snapshot_release(failed);
    gy_snapshot *second = gy_snapshot_copy(first);
    assert_true(gy_snapshot_add(second, 70, kept));
    assert_int_equal(chunks_of(second, 7, &numbers, &points), 6);
    assert_int_equal(numbers[5], 70);
    assert_int_equal(chunks_of(first, 7, &numbers, &points), 5);
    assert_int_equal(points, 5 * GY_CHUNK_ROWS);
    assert_null(gy_snapshot_at(second, 50));
    gy_snapshot_release(second);
    gy_snapshot_release(first);
    gy_places_fini(&places);
    gy_shared_codebook_release(codebook);
}

static void the_chunk_to_append_to_is_the_last_of_its_list(void **state)
{
    (void)state;
    struct gy_shared_codebook *codebook = shared();
    gy_snapshot *snapshot = gy_snapshot_new(codebook);
    static const uint16_t rows[] = {100, 256, 30, 31, 200};
    static const uint32_t last[] = {0, 0, 2, 2, 2};
    for (uint32_t n = 0; n < 5; n++) {
        struct gy_chunk *chunk = gy_chunk_new(&codebook->layout, 3, GY_CHUNK_ROWS);
        chunk->rows = rows[n];
        assert_true(gy_snapshot_add(snapshot, n, chunk));
        assert_int_equal(gy_snapshot_last(snapshot, 3), last[n]);
    }
    assert_true(gy_snapshot_drop(snapshot, 2));
    const uint32_t *numbers;
    uint64_t points;
    assert_int_equal(chunks_of(snapshot, 3, &numbers, &points), 4);
    assert_int_equal(gy_snapshot_last(snapshot, 4), UINT32_MAX);
    gy_snapshot_release(snapshot);
    gy_shared_codebook_release(codebook);
}

/* Random puts and removals, on one snapshot after another, some of them held: none of these changes. The bytes counted are those
 * of the chunks, and little more. */
static void held_snapshots_stay_as_they_were_through_random_changes(void **state)
{
    (void)state;
    enum { IDS = 3000, ROUNDS = 60, HELD = 6 };
    gyre_error err;
    uint64_t random = fixture_seed();
    struct gy_shared_codebook *codebook = shared();
    struct gy_places places;
    gy_places_init(&places, NULL);
    static bool there[IDS];
    memset(there, 0, sizeof there);
    gy_snapshot *current = gy_snapshot_new(codebook), *held[HELD] = {0};
    uint64_t counts[HELD] = {0}, count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        gy_snapshot *next = gy_snapshot_copy(current);
        for (int i = 0; i < 200; i++) {
            uint64_t n = fixture_below(&random, IDS);
            gyre_point_id id = gyre_point_id_from_number(n);
            uint32_t slot;
            assert_int_equal(gy_places_find(&places, next, &id, &slot), there[n]);
            if (there[n]) {
                assert_ok(gy_places_remove(&places, next, &id, slot, &err));
                if (!gy_snapshot_at(next, slot / GY_CHUNK_ROWS)->held)
                    assert_ok(gy_places_drop(&places, next, slot / GY_CHUNK_ROWS, &err));
            } else {
                put(&places, next, (uint32_t)fixture_below(&random, round % 2 ? LISTS : 3), n);
            }
            count = there[n] ? count - 1 : count + 1;
            there[n] = !there[n];
        }
        gy_snapshot_release(current);
        current = next;
        size_t h = (size_t)round % HELD;
        gy_snapshot_release(held[h]);
        held[h] = gy_snapshot_hold(current), counts[h] = count;
        for (h = 0; h < HELD && held[h]; h++) {
            uint64_t seen = 0, said = 0;
            for (uint32_t list = 0; list < LISTS; list++) {
                const uint32_t *numbers;
                uint64_t points;
                size_t chunks = chunks_of(held[h], list, &numbers, &points);
                said += points;
                for (size_t c = 0; c < chunks; c++)
                    seen += gy_snapshot_at(held[h], numbers[c])->held;
            }
            assert_int_equal(seen, counts[h]);
            assert_int_equal(said, counts[h]);
            assert_int_equal(gy_snapshot_count(held[h]), counts[h]);
        }
    }
    uint64_t chunk_bytes = 0;
    for (size_t c = 0; c < current->count; c++)
        if (gy_snapshot_at(current, c))
            chunk_bytes += gy_chunk_bytes(&codebook->layout, gy_snapshot_at(current, c)->capacity) + gy_segment_bytes();
    assert_true(current->bytes > chunk_bytes && current->bytes < chunk_bytes + 100000);
    for (size_t h = 0; h < HELD; h++)
        gy_snapshot_release(held[h]);
    gy_snapshot_release(current);
    gy_places_fini(&places);
    gy_shared_codebook_release(codebook);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_that_is_given_up_leaves_no_trace),
        cmocka_unit_test(the_chunk_to_append_to_is_the_last_of_its_list),
        cmocka_unit_test(held_snapshots_stay_as_they_were_through_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
