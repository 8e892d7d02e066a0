#include "lines.h"

#include "file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static gyre_error err;

static gy_lines *open_text(const char *text, size_t bytes, size_t line_bytes_max)
{
    gy_lines *lines = NULL;
    assert_int_equal(gy_lines_open(&lines, file_write("t.jsonl", text, bytes), line_bytes_max, &err), GYRE_OK);
    file_remove();
    return lines;
}

static void expect_line(gy_lines *lines, const char *want)
{
    const char *line = "unset";
    size_t bytes = 0;
    assert_int_equal(gy_lines_next(lines, &line, &bytes, &err), GYRE_OK);
    if (!want) {
        assert_null(line);
        return;
    }
    assert_non_null(line);
    assert_string_equal(line, want);
    assert_int_equal(bytes, strlen(want));
}

static void lines_end_with_or_without_a_carriage_return_and_the_last_with_nothing(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb\xbf{\"a\":1}\n\r\nthird\r\n\n  last";
    gy_lines *lines = open_text(text, sizeof text - 1, 100);
    assert_int_equal(gy_lines_number(lines), 0);
    expect_line(lines, "{\"a\":1}");
    expect_line(lines, "");
    expect_line(lines, "third");
    expect_line(lines, "");
    expect_line(lines, "  last");
    assert_int_equal(gy_lines_number(lines), 5);
    expect_line(lines, NULL);
    expect_line(lines, NULL);
    gy_lines_close(lines);
    lines = open_text("", 0, 100);
    expect_line(lines, NULL);
    gy_lines_close(lines);
    gy_lines_close(NULL);
}

static void a_line_at_the_limit_passes_and_one_byte_more_is_refused_by_number(void **state)
{
    (void)state;
    static const size_t limits[] = {1, 10, 65535, 65536, 65537, 1 << 20};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        size_t limit = limits[i], bytes = 3 + limit + 2 + limit + 1;
        char *text = malloc(bytes + 1);
        const char *line;
        size_t line_bytes;
        memset(text, 'x', bytes);
        memcpy(text, "a\r\n", 3);
        memcpy(text + 3 + limit, "\r\n", 2);
        gy_lines *lines = open_text(text, bytes, limit);
        expect_line(lines, "a");
        assert_int_equal(gy_lines_next(lines, &line, &line_bytes, &err), GYRE_OK);
        assert_int_equal(line_bytes, limit);
        assert_int_equal(strlen(line), limit);
        assert_int_equal(gy_lines_next(lines, &line, &line_bytes, &err), GYRE_INVALID);
        assert_non_null(strstr(err.text, "t.jsonl:3: the line is longer than"));
        gy_lines_close(lines);
        free(text);
    }
}

static void a_zero_byte_is_refused(void **state)
{
    (void)state;
    gy_lines *lines = open_text("ab\na\0b\n", 7, 100);
    const char *line;
    size_t bytes;
    expect_line(lines, "ab");
    assert_int_equal(gy_lines_next(lines, &line, &bytes, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, ":2: a zero byte"));
    gy_lines_close(lines);
}

static void the_count_must_match_before_the_first_line_is_used(void **state)
{
    (void)state;
    gy_lines *lines = open_text("a\nb\nc", 5, 100);
    assert_int_equal(gy_lines_expect(lines, 3, &err), GYRE_OK);
    expect_line(lines, "a");
    assert_int_equal(gy_lines_expect(lines, 4, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "has 3 lines; there are 4 vectors"));
    assert_int_equal(gy_lines_expect(lines, 2, &err), GYRE_INVALID);
    assert_int_equal(gy_lines_expect(lines, 3, &err), GYRE_OK);
    assert_int_equal(gy_lines_skip(lines, 2, &err), GYRE_OK);
    expect_line(lines, "c");
    expect_line(lines, NULL);
    assert_int_equal(gy_lines_expect(lines, 3, &err), GYRE_OK);
    assert_int_equal(gy_lines_skip(lines, 4, &err), GYRE_OUT_OF_RANGE);
    gy_lines_close(lines);
}

static void ids_are_freed_of_blanks_and_empty_ones_refused(void **state)
{
    (void)state;
    static const char text[] = "42\n \t7f3b \r\nx y\n   \n";
    gy_lines *lines = open_text(text, sizeof text - 1, GY_LINES_ID_BYTES_MAX);
    static const char *const want[] = {"42", "7f3b", "x y"};
    const char *id;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(gy_lines_next_id(lines, &id, &err), GYRE_OK);
        assert_string_equal(id, want[i]);
    }
    assert_int_equal(gy_lines_next_id(lines, &id, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, ":4: the line is empty"));
    assert_int_equal(gy_lines_next_id(lines, &id, &err), GYRE_OK);
    assert_null(id);
    gy_lines_close(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_or_without_a_carriage_return_and_the_last_with_nothing),
        cmocka_unit_test(a_line_at_the_limit_passes_and_one_byte_more_is_refused_by_number),
        cmocka_unit_test(a_zero_byte_is_refused),
        cmocka_unit_test(the_count_must_match_before_the_first_line_is_used),
        cmocka_unit_test(ids_are_freed_of_blanks_and_empty_ones_refused),
    };
    return cmocka_run_group_tests(tests, file_setup, file_teardown);
}
