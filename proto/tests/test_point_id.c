#include "gyre/point_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char uuid_text[] = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"; /* RFC 9562, section 4 */

static gyre_point_id parsed(const char *text)
{
    gyre_point_id id;
    gyre_error err = {0};
    if (gyre_point_id_parse(&id, text, &err) != GYRE_OK)
        fail_msg("%s: %s", text, err.text);
    return id;
}

static void assert_refused(const char *text, const char *because)
{
    gyre_point_id id;
    gyre_error err = {0};
    assert_int_equal(gyre_point_id_parse(&id, text, &err), GYRE_INVALID);
    if (!strstr(err.text, because))
        fail_msg("'%s' was refused with: %s", text, err.text);
}

static void numbers_and_uuids_come_back_as_they_were_typed(void **state)
{
    (void)state;
    static const char *const texts[] = {"0", "1", "42", "18446744073709551615", uuid_text, "00000000-0000-8000-8000-000000000000"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[GYRE_UUID_TEXT_BYTES];
        gyre_point_id id = parsed(texts[i]);
        assert_string_equal(gyre_point_id_format(&id, text), texts[i]);
        assert_int_equal(gyre_point_id_check(id.bytes, NULL), GYRE_OK);
    }
}

static void upper_case_uuids_are_the_same_points(void **state)
{
    (void)state;
    gyre_point_id lower = parsed(uuid_text);
    gyre_point_id upper = parsed("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6");
    assert_int_equal(gyre_point_id_compare(&lower, &upper), 0);
    assert_false(gyre_point_id_is_number(&lower));
    assert_int_equal(lower.bytes[0], 0xf8);
    assert_int_equal(lower.bytes[15], 0xf6);
}

static void numbers_sort_by_value_and_before_uuids(void **state)
{
    (void)state;
    static const char *const ascending[] = {
        "0", "9", "10", "255", "256", "18446744073709551615", "00000000-0000-1000-0000-000000000000", uuid_text};
    for (size_t i = 1; i < sizeof ascending / sizeof *ascending; i++) {
        gyre_point_id a = parsed(ascending[i - 1]);
        gyre_point_id b = parsed(ascending[i]);
        assert_true(gyre_point_id_compare(&a, &b) < 0);
    }
    gyre_point_id number = gyre_point_id_from_number(UINT64_MAX);
    assert_true(gyre_point_id_is_number(&number));
    assert_true(gyre_point_id_number(&number) == UINT64_MAX);
}

static void what_is_neither_is_refused_by_name(void **state)
{
    (void)state;
    assert_refused("", "empty");
    assert_refused("18446744073709551616", "larger than 18446744073709551615");
    assert_refused("99999999999999999999999999999999999999", "larger than");
    assert_refused("-1", "36 characters");
    assert_refused("12 ", "36 characters");
    assert_refused("f81d4fae-7dec-11d0-a765-00a0c91e6bf", "36 characters");
    assert_refused("f81d4fae-7dec-11d0-a765-00a0c91e6bf61", "36 characters");
    assert_refused("f81d4fae07dec-11d0-a765-00a0c91e6bf6", "no '-' at character 8");
    assert_refused("f81d4fae-7dec-11d0-a765-00a0c91e6bg6", "no hexadecimal digit at character 34");
    assert_refused("f81d4fae-7dec-01d0-a765-00a0c91e6bf6", "version 0");
    assert_refused("f81d4fae-7dec-91d0-a765-00a0c91e6bf6", "version 9");
    assert_refused("00000000-0000-0000-0000-000000000001", "version 0"); /* would be the number 1 */
}

static void bytes_of_no_version_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[GYRE_ID_BYTES] = {1};
    gyre_error err;
    assert_int_equal(gyre_point_id_check(bytes, &err), GYRE_INVALID);
    bytes[6] = 0x90;
    assert_int_equal(gyre_point_id_check(bytes, &err), GYRE_INVALID);
    bytes[6] = 0x40;
    assert_int_equal(gyre_point_id_check(bytes, &err), GYRE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_uuids_come_back_as_they_were_typed),
        cmocka_unit_test(upper_case_uuids_are_the_same_points),
        cmocka_unit_test(numbers_sort_by_value_and_before_uuids),
        cmocka_unit_test(what_is_neither_is_refused_by_name),
        cmocka_unit_test(bytes_of_no_version_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
