/* Rows of a file with their ids and payloads, in runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 10, DIM = 3 };

struct files {
    char dir[64], vectors[96], ids[96], payload[96];
};

static FILE *open_new(const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    return file;
}

/* ROWS rows: vector (row, row, row), id row * 100 (of row 3: a UUID), payload {"r": row}. */
static int make_files(void **state)
{
    struct files *f = calloc(1, sizeof *f);
    *state = f;
    snprintf(f->dir, sizeof f->dir, "/tmp/gyre-source-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->vectors, sizeof f->vectors, "%s/v.fvecs", f->dir);
    snprintf(f->ids, sizeof f->ids, "%s/ids", f->dir);
    snprintf(f->payload, sizeof f->payload, "%s/p.jsonl", f->dir);
    FILE *vectors = open_new(f->vectors), *ids = open_new(f->ids), *payload = open_new(f->payload);
    for (int32_t row = 0; row < ROWS; row++) {
        int32_t dim = DIM;
        float values[DIM] = {(float)row, (float)row, (float)row};
        fwrite(&dim, sizeof dim, 1, vectors);
        fwrite(values, sizeof values, 1, vectors);
        if (row == 3)
            fprintf(ids, "6ba7b810-9dad-41d1-80b4-00c04fd430c8\n");
        else
            fprintf(ids, "%d\n", row * 100);
        fprintf(payload, "{\"r\": %d}\n", row);
    }
    return fclose(vectors) + fclose(ids) + fclose(payload);
}

static int remove_files(void **state)
{
    struct files *f = *state;
    unlink(f->vectors), unlink(f->ids), unlink(f->payload);
    int failed = rmdir(f->dir);
    free(f);
    return failed;
}

static struct source_options options_of(const struct files *f)
{
    return (struct source_options){.vectors_path = f->vectors, .run_rows_max = 4, .run_bytes_max = 1 << 20};
}

static void ids_default_to_row_numbers(void **state)
{
    struct source_options options = options_of(*state);
    gyre_error err;
    GY_AUTO(row_source) *source = NULL;
    assert_int_equal(source_open(&source, &options, &err), GYRE_OK);
    assert_int_equal(source_dim(source), DIM);
    assert_int_equal(source_count(source), ROWS);
    GY_AUTO(source_run) *run = source_run_new(source);
    uint64_t row = 0;
    for (;;) {
        assert_int_equal(source_next(source, run, &err), GYRE_OK);
        if (!run->rows)
            break;
        assert_true(run->first_row == row && run->rows <= 4);
        for (size_t i = 0; i < run->rows; i++, row++) {
            assert_true(run->points[i]->id->num == row);
            assert_true(run->points[i]->n_vector == DIM && run->points[i]->vector[2] == (float)row);
            assert_string_equal(run->points[i]->payload, "");
        }
    }
    assert_int_equal(row, ROWS);
    assert_int_equal(source_next_row(source), ROWS);
}

static void ids_and_payloads_stay_with_their_rows_from_any_start(void **state)
{
    const struct files *f = *state;
    struct source_options options = options_of(f);
    gyre_error err;
    options.ids_path = f->ids;
    options.payload_path = f->payload;
    for (uint64_t start = 0; start <= ROWS; start++) {
        options.start = start;
        GY_AUTO(row_source) *source = NULL;
        assert_int_equal(source_open(&source, &options, &err), GYRE_OK);
        GY_AUTO(source_run) *run = source_run_new(source);
        uint64_t row = start;
        do {
            assert_int_equal(source_next(source, run, &err), GYRE_OK);
            for (size_t i = 0; i < run->rows; i++, row++) {
                char payload[32];
                snprintf(payload, sizeof payload, "{\"r\": %d}", (int)row);
                assert_string_equal(run->points[i]->payload, payload);
                assert_true(run->points[i]->vector[0] == (float)row);
                if (row == 3)
                    assert_string_equal(run->points[i]->id->uuid, "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
                else
                    assert_true(run->points[i]->id->num == row * 100 && run->points[i]->id->id_case == GYRE__V1__POINT_ID__ID_NUM);
            }
        } while (run->rows);
        assert_int_equal(row, ROWS);
    }
}

static void a_run_is_bounded_by_bytes_too(void **state)
{
    struct source_options options = options_of(*state);
    gyre_error err;
    GY_AUTO(row_source) *source = NULL;
    options.run_bytes_max = 2 * DIM * sizeof(float);
    assert_int_equal(source_open(&source, &options, &err), GYRE_OK);
    GY_AUTO(source_run) *run = source_run_new(source);
    assert_int_equal(source_next(source, run, &err), GYRE_OK);
    assert_int_equal(run->rows, 2);
}

static void a_start_beyond_the_end_is_refused(void **state)
{
    struct source_options options = options_of(*state);
    gyre_error err;
    row_source *source = NULL;
    options.start = ROWS + 1;
    assert_int_equal(source_open(&source, &options, &err), GYRE_OUT_OF_RANGE);
    assert_non_null(strstr(err.text, "--start 11"));
}

static void payloads_of_another_file_are_found_out_before_the_first_row(void **state)
{
    const struct files *f = *state;
    struct source_options options = options_of(f);
    gyre_error err;
    row_source *source = NULL;
    FILE *payload = open_new(f->payload);
    fputs("{}\n", payload);
    fclose(payload);
    options.payload_path = f->payload;
    assert_int_equal(source_open(&source, &options, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, f->payload));
}

static void a_line_that_is_no_id_is_named(void **state)
{
    const struct files *f = *state;
    struct source_options options = options_of(f);
    gyre_error err;
    FILE *ids = open_new(f->ids);
    for (int i = 0; i < ROWS; i++)
        fputs(i == 2 ? "king\n" : "5\n", ids);
    fclose(ids);
    options.ids_path = f->ids;
    GY_AUTO(row_source) *source = NULL;
    assert_int_equal(source_open(&source, &options, &err), GYRE_OK);
    GY_AUTO(source_run) *run = source_run_new(source);
    assert_int_equal(source_next(source, run, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "line 3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_default_to_row_numbers, make_files, remove_files),
        cmocka_unit_test_setup_teardown(ids_and_payloads_stay_with_their_rows_from_any_start, make_files, remove_files),
        cmocka_unit_test_setup_teardown(a_run_is_bounded_by_bytes_too, make_files, remove_files),
        cmocka_unit_test_setup_teardown(a_start_beyond_the_end_is_refused, make_files, remove_files),
        cmocka_unit_test_setup_teardown(payloads_of_another_file_are_found_out_before_the_first_row, make_files, remove_files),
        cmocka_unit_test_setup_teardown(a_line_that_is_no_id_is_named, make_files, remove_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
