/* What was typed about recall and lists, and what becomes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "search_words.h"

static gyre_status recalls(const char *text, size_t max, double *out, size_t *count)
{
    const struct search_words words = {.recall = text};
    return search_words_recalls(&words, max, out, count, NULL);
}

static void no_recall_is_the_servers_default(void **state)
{
    (void)state;
    double out[2] = {9, 9};
    size_t count = 0;
    assert_int_equal(recalls(NULL, 2, out, &count), GYRE_OK);
    assert_int_equal(count, 1);
    assert_true(out[0] == 0);
}

static void recalls_are_read_in_their_order(void **state)
{
    (void)state;
    double out[3];
    size_t count = 0;
    assert_int_equal(recalls("0.9", 1, out, &count), GYRE_OK);
    assert_int_equal(count, 1);
    assert_true(out[0] == 0.9);
    assert_int_equal(recalls("1,0.5,0.95", 3, out, &count), GYRE_OK);
    assert_int_equal(count, 3);
    assert_true(out[0] == 1 && out[1] == 0.5 && out[2] == 0.95);
}

static void what_is_no_recall_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", ",", "0.9,", ",0.9", "0.9,,1", "0.4999", "1.0001", "nan", "inf", "0x1p-1",
                                        "+0.9", " 0.9", "-1", "0.9 ", "0.9.1", "0.9;1", "king", "0.9,0.9,0.9,0.9"};
    double out[3];
    size_t count;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(recalls(wrong[i], 3, out, &count), GYRE_INVALID);
    assert_int_equal(recalls("0.9,1", 1, out, &count), GYRE_INVALID);
}

static gyre_status options(bool exact, bool approximate, uint64_t nprobe, const char *recall, Gyre__V1__SearchOptions *out)
{
    const struct search_words words = {.k = 5, .exact = exact, .approximate = approximate, .nprobe = nprobe, .recall = recall};
    return search_words_options(&words, out, NULL);
}

static void lists_are_chosen_in_one_way(void **state)
{
    (void)state;
    Gyre__V1__SearchOptions out;
    assert_int_equal(options(false, false, 16, NULL, &out), GYRE_OK);
    assert_int_equal(out.nprobe, 16);
    assert_int_equal(options(false, true, 16, NULL, &out), GYRE_OK); /* codes alone, of some lists */
    assert_int_equal(options(false, true, 0, "0.9", &out), GYRE_OK);
    assert_int_equal(options(true, false, 0, NULL, &out), GYRE_OK);
    assert_int_equal(options(false, false, 16, "0.9", &out), GYRE_INVALID);
    assert_int_equal(options(true, false, 16, NULL, &out), GYRE_INVALID);
    assert_int_equal(options(true, false, 0, "1", &out), GYRE_INVALID);
    assert_int_equal(options(true, true, 0, NULL, &out), GYRE_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_recall_is_the_servers_default),
        cmocka_unit_test(recalls_are_read_in_their_order),
        cmocka_unit_test(what_is_no_recall_is_refused),
        cmocka_unit_test(lists_are_chosen_in_one_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
