#include "gyre/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_accepted(const char *text)
{
    gyre_error err = {0};
    if (gy_payload_check(text, &err) != GYRE_OK)
        fail_msg("%.60s: %s", text, err.text);
}

static void assert_refused(const char *text, const char *because)
{
    gyre_error err = {0};
    assert_int_equal(gy_payload_check(text, &err), GYRE_INVALID);
    if (!strstr(err.text, because))
        fail_msg("%.60s was refused with: %s", text, err.text);
}

/* {"a":{"a":… depth times …}}; free it. */
static char *nested(size_t depth)
{
    char *text = calloc(depth, 6);
    assert_non_null(text);
    for (size_t i = 0; i + 1 < depth; i++)
        strcat(text, "{\"a\":");
    strcat(text, "{");
    for (size_t i = 0; i < depth; i++)
        strcat(text, "}");
    return text;
}

static void objects_and_nothing_are_accepted(void **state)
{
    (void)state;
    assert_accepted("");
    assert_accepted("{}");
    assert_accepted(" {\"word\": \"g\\u00e4nse\", \"n\": [1, 2.5, null, true, {}]} ");
    assert_accepted("{\"beyond 64 bits\": 123456789012345678901234567890}");
}

static void brackets_inside_strings_are_no_depth(void **state)
{
    (void)state;
    char text[256] = "{\"a\": \"\\\"";
    for (int i = 0; i < 3 * GY_PAYLOAD_DEPTH_MAX; i++)
        strcat(text, "[");
    strcat(text, "\"}");
    assert_accepted(text);
}

static void depth_is_accepted_to_the_limit_and_refused_above(void **state)
{
    (void)state;
    char *text = nested(GY_PAYLOAD_DEPTH_MAX);
    assert_accepted(text);
    free(text);
    text = nested(GY_PAYLOAD_DEPTH_MAX + 1);
    assert_refused(text, "nested deeper than 32 at byte 160");
    free(text);
    text = malloc(GY_PAYLOAD_BYTES_MAX + 1);
    assert_non_null(text);
    memset(text, '[', GY_PAYLOAD_BYTES_MAX);
    text[GY_PAYLOAD_BYTES_MAX] = '\0';
    assert_refused(text, "nested deeper than 32");
    free(text);
}

static void a_payload_over_the_limit_is_refused_unread(void **state)
{
    (void)state;
    char *text = malloc(GY_PAYLOAD_BYTES_MAX + 2);
    assert_non_null(text);
    memset(text, ' ', GY_PAYLOAD_BYTES_MAX + 1);
    memcpy(text, "{}", 2);
    text[GY_PAYLOAD_BYTES_MAX + 1] = '\0';
    assert_refused(text, "longer than 1048576 bytes");
    text[GY_PAYLOAD_BYTES_MAX] = '\0';
    assert_accepted(text);
    free(text);
}

static void what_is_no_object_is_refused_with_its_place(void **state)
{
    (void)state;
    assert_refused("[1]", "array");
    assert_refused("7", "no JSON object");
    assert_refused("{\"a\": }", "byte 7");
    assert_refused("{\"a\": 1", "no JSON object");
    assert_refused("{\"a\": 1} {}", "no JSON object");
    assert_refused("{\"a\": 1, \"a\": 2}", "duplicate");
    assert_refused("{\"a\": \"\xff\"}", "byte 0xff");
    assert_refused("{\"a\": \"\\u0000\"}", "no JSON object");
    assert_refused("}", "no JSON object");
    assert_refused("\"\\", "no JSON object"); /* ends inside an escape */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_and_nothing_are_accepted),
        cmocka_unit_test(brackets_inside_strings_are_no_depth),
        cmocka_unit_test(depth_is_accepted_to_the_limit_and_refused_above),
        cmocka_unit_test(a_payload_over_the_limit_is_refused_unread),
        cmocka_unit_test(what_is_no_object_is_refused_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
