/* What a client asks of a search: defaults, and refusals that name the field. */
#include "api/search_options.h"

#include <math.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static Gyre__V1__SearchOptions plain(void)
{
    Gyre__V1__SearchOptions options = GYRE__V1__SEARCH_OPTIONS__INIT;
    options.k = 10;
    return options;
}

static void what_is_left_out_has_a_default(void **state)
{
    (void)state;
    Gyre__V1__SearchOptions sent = plain();
    struct gy_search_options read;
    assert_int_equal(gy_search_options_read(&sent, &read, NULL), GYRE_OK);
    assert_true(read.k == 10 && read.nprobe == 0 && read.recall_target == 0.99 && read.confidence == 0.98);
    assert_true(!read.exact && !read.approximate && !read.allow_partial && read.spare == 0);
    sent.nprobe = 7, sent.allow_partial = sent.approximate = true, sent.confidence = 0.999;
    assert_int_equal(gy_search_options_read(&sent, &read, NULL), GYRE_OK);
    assert_true(read.nprobe == 7 && read.allow_partial && read.approximate && read.confidence == 0.999);
    sent = plain(), sent.recall_target = 0.5;
    assert_int_equal(gy_search_options_read(&sent, &read, NULL), GYRE_OK);
    assert_true(read.recall_target == 0.5);
}

static void a_wrong_option_is_refused_by_name(void **state)
{
    (void)state;
#define WITH(...) ({ Gyre__V1__SearchOptions with_ = plain(); __VA_ARGS__; with_; })
    const struct {
        Gyre__V1__SearchOptions sent;
        const char *says;
    } cases[] = {
        {WITH(with_.k = 0), "options.k is 0; it must be 1 to 10000"},
        {WITH(with_.k = 10001), "options.k is 10001"},
        {WITH(with_.exact = with_.approximate = true), "options.exact and options.approximate exclude each other"},
        {WITH(with_.confidence = 0.5), "options.confidence is 0.5"},
        {WITH(with_.confidence = NAN), "options.confidence is"},
        {WITH(with_.recall_target = 0.49), "options.recall_target is 0.49; it must be 0.5 to 1, or 0 for 0.99"},
        {WITH(with_.recall_target = 1.01), "options.recall_target is 1.01"},
        {WITH(with_.recall_target = -1), "options.recall_target is -1"},
        {WITH(with_.recall_target = NAN), "options.recall_target is"},
        {WITH(with_.nprobe = UINT32_MAX), "options.nprobe is 4294967295; it must be 1 to 16777216"},
        {WITH(with_.nprobe = 3, with_.recall_target = 0.9), "options.nprobe and options.recall_target exclude each other"},
        {WITH(with_.exact = true, with_.nprobe = 3), "options.exact looks into every list; leave options.nprobe out"},
        {WITH(with_.exact = true, with_.recall_target = 0.9), "leave options.recall_target out"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gy_search_options read;
        gyre_error err = {0};
        assert_int_equal(gy_search_options_read(&cases[i].sent, &read, &err), GYRE_INVALID);
        if (!strstr(err.text, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].says);
    }
    struct gy_search_options read;
    gyre_error err = {0};
    assert_int_equal(gy_search_options_read(NULL, &read, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "options is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_a_default),
        cmocka_unit_test(a_wrong_option_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
