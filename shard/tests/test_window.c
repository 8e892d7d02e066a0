/* Which requests are recognised when they are sent again: against a model that keeps everything, and after every opening. */
#include "replica/window.h"

#include "points_fixture.h"

enum { DIM = 8 };

static void name(uint8_t client[GY_CLIENT_BYTES], uint64_t number)
{
    memset(client, 0, GY_CLIENT_BYTES);
    gy_store_u64(client + 4, number);
}

static gy_window *window_new(void)
{
    gyre_error err;
    gy_window *window = NULL;
    assert_ok(gy_window_new(&window, 99, &err));
    return window;
}

static bool finds(const gy_window *window, uint64_t client, uint64_t request, uint64_t *seq, uint64_t *deleted)
{
    uint8_t bytes[GY_CLIENT_BYTES];
    name(bytes, client);
    return gy_window_find(window, bytes, request, seq, deleted);
}

static void note(gy_window *window, uint64_t client, uint64_t request, uint64_t seq, struct gy_request_changes *changes)
{
    gyre_error err;
    uint8_t bytes[GY_CLIENT_BYTES];
    name(bytes, client);
    assert_ok(gy_window_note(window, bytes, request, seq, changes, &err));
}

static void a_request_is_known_by_its_client_and_number(void **state)
{
    (void)state;
    uint64_t seq, deleted;
    GY_AUTO(gy_window) *window = window_new();
    struct gy_request_changes changes = {0};
    note(window, 1, 7, 100, &changes);
    note(window, 2, 7, 101, &changes);
    assert_int_equal(changes.noted_count, 2);
    assert_int_equal(changes.forgotten_count, 0);
    changes.noted[0].deleted = 5;
    gy_window_applied(window, &changes);
    assert_int_equal(changes.noted_count, 0);
    assert_true(finds(window, 1, 7, &seq, &deleted));
    assert_int_equal(seq, 100), assert_int_equal(deleted, 5);
    assert_true(finds(window, 2, 7, &seq, &deleted));
    assert_int_equal(seq, 101), assert_int_equal(deleted, 0);
    assert_false(finds(window, 1, 8, &seq, &deleted));
    assert_false(finds(window, 3, 7, &seq, &deleted));
    gy_request_changes_fini(&changes);
}

static void the_oldest_request_of_a_client_and_the_most_silent_client_go_first(void **state)
{
    (void)state;
    uint64_t seq = 0, found, deleted;
    GY_AUTO(gy_window) *window = window_new();
    struct gy_request_changes changes = {0};
    for (uint64_t r = 0; r < GY_WINDOW_REQUESTS + 1; r++)
        note(window, 1, r, ++seq, &changes);
    assert_int_equal(changes.forgotten_count, 1);
    assert_int_equal(changes.forgotten[0], 1);
    assert_false(finds(window, 1, 0, &found, &deleted));
    for (uint64_t r = 1; r <= GY_WINDOW_REQUESTS; r++)
        assert_true(finds(window, 1, r, &found, &deleted));
    gy_window_applied(window, &changes);
    for (uint64_t c = 2; c <= GY_WINDOW_CLIENTS; c++)
        note(window, c, 1, ++seq, &changes);
    assert_int_equal(changes.forgotten_count, 0);
    note(window, 2, 2, ++seq, &changes); /* no longer the second most silent */
    gy_window_applied(window, &changes);
    note(window, 70000, 1, ++seq, &changes);
    assert_int_equal(changes.forgotten_count, GY_WINDOW_REQUESTS); /* all of client 1 */
    note(window, 70001, 1, ++seq, &changes);
    assert_false(finds(window, 1, 64, &found, &deleted));
    assert_false(finds(window, 3, 1, &found, &deleted));
    assert_true(finds(window, 2, 1, &found, &deleted));
    for (uint64_t c = 4; c <= GY_WINDOW_CLIENTS; c++)
        assert_true(finds(window, c, 1, &found, &deleted));
    gy_request_changes_fini(&changes);
}

/* ---- with a store: the rows there are always what the window holds ---- */
struct rows {
    struct gy_request *requests;
    size_t count, room;
};

static gyre_status keep(void *self, const struct gy_request *request, gyre_error *err)
{
    (void)err;
    struct rows *rows = self;
    if (rows->count == rows->room)
        rows->requests = realloc(rows->requests, (rows->room = rows->room * 2 + 64) * sizeof *rows->requests);
    rows->requests[rows->count++] = *request;
    return GYRE_OK;
}

static void what_is_kept_comes_back_and_is_the_same_however_it_was_applied(void **state)
{
    (void)state;
    gyre_error err;
    enum { CLIENTS = GY_WINDOW_CLIENTS + 900, ENTRIES = 60000 };
    uint64_t random = fixture_seed();
    struct fixture f[2];
    gy_window *windows[2];
    struct gy_request_changes changes[2] = {0};
    for (int i = 0; i < 2; i++) {
        fixture_init(&f[i], GYRE_L2, DIM);
        windows[i] = window_new();
    }
    uint64_t next[CLIENTS] = {0};
    bool deleted[1];
    for (uint64_t seq = 1; seq <= ENTRIES; seq++) {
        uint64_t client = fixture_below(&random, fixture_below(&random, 3) ? 60 : CLIENTS), request = ++next[client];
        for (int i = 0; i < 2; i++) {
            note(windows[i], client, request, seq, &changes[i]);
            if (seq != ENTRIES && seq % (i ? 700 : 90) != 0) /* batches of unequal size */
                continue;
            struct gy_log_entry entries[700];
            size_t count = 0;
            while (f[i].seq < seq)
                entries[count++] = (struct gy_log_entry){1, ++f[i].seq, NULL, 0};
            assert_ok(gy_store_log_append(f[i].store, entries, count, false, &err));
            struct gy_operation nothing[1] = {{.id = gyre_point_id_from_number(1)}};
            assert_ok(gy_points_apply(f[i].points, nothing, &seq, 1, seq, &changes[i], deleted, &err));
            gy_window_applied(windows[i], &changes[i]);
            if (fixture_below(&random, 40) == 0) {
                fixture_close(&f[i]);
                fixture_open(&f[i]);
                gy_window_free(windows[i]);
                windows[i] = window_new();
                assert_ok(gy_window_load(windows[i], f[i].store, &err));
            }
        }
    }
    struct rows rows[2] = {0};
    for (int i = 0; i < 2; i++)
        assert_ok(gy_store_requests(f[i].store, keep, &rows[i], &err));
    assert_int_equal(rows[0].count, rows[1].count);
    assert_memory_equal(rows[0].requests, rows[1].requests, rows[0].count * sizeof *rows[0].requests);
    assert_in_range(rows[0].count, GY_WINDOW_CLIENTS, GY_WINDOW_CLIENTS * GY_WINDOW_REQUESTS);
    for (size_t r = 0; r < rows[0].count; r++) {
        uint64_t seq, gone;
        assert_true(gy_window_find(windows[1], rows[0].requests[r].client, rows[0].requests[r].request, &seq, &gone));
        assert_int_equal(seq, rows[0].requests[r].seq);
    }
    for (int i = 0; i < 2; i++) {
        free(rows[i].requests);
        gy_request_changes_fini(&changes[i]);
        gy_window_free(windows[i]);
        fixture_fini(&f[i]);
    }
}

static void how_much_a_request_deleted_is_kept_with_it(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = 1, found, gone;
    fixture_init(&f, GYRE_L2, DIM);
    fixture_fill(&f, 0, 20, 20, &random);
    gy_window *window = window_new();
    struct gy_request_changes changes = {0};
    struct gy_operation operations[9] = {0};
    uint64_t versions[9];
    bool deleted[9];
    for (size_t i = 0; i < 9; i++) {
        operations[i].id = gyre_point_id_from_number(i < 3 ? i : i + 11); /* 14 … 19 are there */
        versions[i] = i < 3 ? f.seq + 1 : i < 8 ? f.seq + 2 : f.seq + 3;
    }
    operations[7].id = operations[0].id; /* gone by then */
    for (uint64_t i = 0; i < 3; i++) {
        assert_ok(gy_store_log_append(f.store, &(struct gy_log_entry){1, f.seq + 1 + i, NULL, 0}, 1, false, &err));
        if (i != 1)
            note(window, 5, i, f.seq + 1 + i, &changes);
    }
    assert_ok(gy_points_apply(f.points, operations, versions, 9, f.seq + 3, &changes, deleted, &err));
    gy_window_applied(window, &changes);
    for (int i = 0; i < 2; i++) {
        assert_true(finds(window, 5, 0, &found, &gone));
        assert_int_equal(found, f.seq + 1 - (i ? 3 : 0)), assert_int_equal(gone, 3);
        assert_true(finds(window, 5, 2, &found, &gone));
        assert_int_equal(gone, 1);
        gy_window_free(window);
        fixture_close(&f);
        fixture_open(&f);
        window = window_new();
        assert_ok(gy_window_load(window, f.store, &err));
    }
    gy_window_free(window);
    gy_request_changes_fini(&changes);
    fixture_fini(&f);
}

static void put_request(struct fixture *f, uint64_t seq, uint64_t client, uint64_t request, size_t bytes)
{
    gyre_error err;
    uint8_t key[8], value[33] = {0};
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    gy_store_u64_be(key, seq);
    name(value, client);
    gy_store_u64(value + GY_CLIENT_BYTES, request);
    gy_batch_put(batch, f->store, GY_FAMILY_REQUESTS, (struct gy_slice){key, 8}, (struct gy_slice){value, bytes});
    assert_ok(gy_store_commit(f->store, batch, &err));
}

static void records_that_no_window_leaves_are_corruption(void **state)
{
    (void)state;
    gyre_error err;
    for (int kind = 0; kind < 4; kind++) {
        struct fixture f;
        uint64_t random = 1;
        fixture_init(&f, GYRE_L2, DIM);
        fixture_fill(&f, 0, 100, 1, &random);
        GY_AUTO(gy_window) *window = window_new();
        put_request(&f, 3, 1, 1, 32);
        if (kind == 0)
            put_request(&f, 4, 1, 2, 31);
        else if (kind == 1)
            put_request(&f, 101, 1, 2, 32); /* above what is applied */
        else if (kind == 2)
            put_request(&f, 4, 1, 1, 32);
        for (uint64_t r = 2; kind == 3 && r <= GY_WINDOW_REQUESTS + 1; r++)
            put_request(&f, 3 + r, 1, r, 32);
        assert_int_equal(gy_window_load(window, f.store, &err), GYRE_CORRUPT);
        assert_non_null(strstr(err.text, "request"));
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_known_by_its_client_and_number),
        cmocka_unit_test(the_oldest_request_of_a_client_and_the_most_silent_client_go_first),
        cmocka_unit_test(what_is_kept_comes_back_and_is_the_same_however_it_was_applied),
        cmocka_unit_test(how_much_a_request_deleted_is_kept_with_it),
        cmocka_unit_test(records_that_no_window_leaves_are_corruption),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
