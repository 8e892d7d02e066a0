#include "ivecs.h"

#include "file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static gyre_error err;

static void a_file_becomes_a_table(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {2, 0, 0, 0, 5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0, 0, 7, 0, 0, 0};
    static const int32_t want[] = {5, -1, 256, 7};
    size_t rows, width;
    int32_t *data;
    assert_int_equal(gy_ivecs_load(file_write("t.ivecs", bytes, sizeof bytes), &rows, &width, &data, &err), GYRE_OK);
    assert_int_equal(rows, 2);
    assert_int_equal(width, 2);
    assert_memory_equal(data, want, sizeof want);
    free(data);
    file_remove();
}

static void a_row_wider_than_the_read_buffer_arrives_whole(void **state)
{
    (void)state;
    enum { WIDTH = 2500 };
    static uint8_t bytes[4 + WIDTH * 4] = {WIDTH & 0xff, WIDTH >> 8};
    for (size_t i = 0; i < WIDTH; i++) {
        bytes[4 + 4 * i] = (uint8_t)i;
        bytes[5 + 4 * i] = (uint8_t)(i >> 8);
    }
    size_t rows, width;
    int32_t *data;
    assert_int_equal(gy_ivecs_load(file_write("t.ivecs", bytes, sizeof bytes), &rows, &width, &data, &err), GYRE_OK);
    assert_int_equal(width, WIDTH);
    for (int i = 0; i < WIDTH; i++)
        assert_int_equal(data[i], i);
    free(data);
    file_remove();
}

static void lying_and_truncated_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
        gyre_status status;
        const char *part;
    } bad[] = {
        {"", 0, GYRE_CORRUPT, "truncated"},
        {"\1\0\0", 3, GYRE_CORRUPT, "truncated"},
        {"\0\0\0\0", 4, GYRE_INVALID, "width 0 is outside 1 to 65536"},
        {"\xff\xff\xff\xff", 4, GYRE_INVALID, "width -1 is outside"},
        {"\1\0\1\0", 4, GYRE_INVALID, "width 65537 is outside"},
        {"\1\0\0\0\5\0\0\0\1", 9, GYRE_CORRUPT, "the last has 1"},
        {"\1\0\0\0\5\0\0\0\2\0\0\0\5\0\0\0", 16, GYRE_CORRUPT, "row 1 says width 2, row 0 said 1"},
    };
    size_t rows = 77, width = 77;
    int32_t *data = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gyre_status status = gy_ivecs_load(file_write("t.ivecs", bad[i].bytes, bad[i].count), &rows, &width, &data, &err);
        if (status != bad[i].status || !strstr(err.text, bad[i].part))
            fail_msg("case %zu: %s", i, err.text);
    }
    assert_null(data);
    assert_int_equal(rows, 77);
    file_remove();
    assert_int_equal(gy_ivecs_load("/nonexistent", &rows, &width, &data, &err), GYRE_NOT_FOUND);
}

static void a_file_over_the_limit_is_refused_unread(void **state)
{
    (void)state;
    size_t rows, width;
    int32_t *data = NULL;
    file_write("t.ivecs", "\1\0\0\0", 4);
    assert_int_equal(truncate(file_path, (off_t)GY_IVECS_BYTES_MAX + 8), 0); /* a hole: takes no disk */
    assert_int_equal(gy_ivecs_load(file_path, &rows, &width, &data, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "1073741824 is the limit"));
    file_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_becomes_a_table),
        cmocka_unit_test(a_row_wider_than_the_read_buffer_arrives_whole),
        cmocka_unit_test(lying_and_truncated_files_are_refused),
        cmocka_unit_test(a_file_over_the_limit_is_refused_unread),
    };
    return cmocka_run_group_tests(tests, file_setup, file_teardown);
}
