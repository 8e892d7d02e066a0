#include "support.h"

static void fail_writes_status_and_sentence(void **state)
{
    (void)state;
    gyre_error err;
    assert_int_equal(gyre_fail(&err, GYRE_NOT_FOUND, "collection '%s'", "words"), GYRE_NOT_FOUND);
    assert_int_equal(err.status, GYRE_NOT_FOUND);
    assert_string_equal(err.text, "collection 'words'");
    assert_int_equal(gyre_fail(NULL, GYRE_ABORTED, "nobody listens"), GYRE_ABORTED);
    assert_int_equal(gyre_wrap(NULL, GYRE_ABORTED, "nobody listens"), GYRE_ABORTED);
}

static void wrap_puts_the_context_in_front(void **state)
{
    (void)state;
    gyre_error err;
    GY_IGNORE(gyre_fail(&err, GYRE_CORRUPT, "ends after %d bytes", 17)); /* the sentence is what is tested */
    assert_int_equal(gyre_wrap(&err, GYRE_INTERNAL, "codebook %d", 3), GYRE_INTERNAL);
    assert_int_equal(err.status, GYRE_INTERNAL);
    assert_string_equal(err.text, "codebook 3: ends after 17 bytes");
}

static void a_sentence_too_long_is_cut_and_terminated(void **state)
{
    (void)state;
    char text[2 * GYRE_ERROR_TEXT_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    gyre_error err;
    GY_IGNORE(gyre_fail(&err, GYRE_INVALID, "%s", text)); /* the sentence is what is tested */
    assert_int_equal(strlen(err.text), GYRE_ERROR_TEXT_BYTES - 1);
    GY_IGNORE(gyre_wrap(&err, GYRE_INVALID, "outer")); /* the sentence is what is tested */
    assert_int_equal(strlen(err.text), GYRE_ERROR_TEXT_BYTES - 1);
    assert_memory_equal(err.text, "outer: xxx", 10);
    GY_IGNORE(gyre_wrap(&err, GYRE_INVALID, "%s", text)); /* the sentence is what is tested */
    assert_int_equal(strlen(err.text), GYRE_ERROR_TEXT_BYTES - 1);
}

static void every_status_has_the_name_that_grpc_gives_it(void **state)
{
    (void)state;
    static const char *const names[] = {
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_string_equal(gyre_status_name((gyre_status)i), names[i]);
    assert_string_equal(gyre_status_name((gyre_status)17), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_writes_status_and_sentence),
        cmocka_unit_test(wrap_puts_the_context_in_front),
        cmocka_unit_test(a_sentence_too_long_is_cut_and_terminated),
        cmocka_unit_test(every_status_has_the_name_that_grpc_gives_it),
    };
    return cmocka_run_group_tests_name("codec.status", tests, NULL, NULL);
}
