/* What is recommended, and why. */
#include "compare/compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct compare_wish wish = {.recall = 0.99, .fetches = 100};

static struct compare_result result(const char *name, size_t bytes, double fetches, double recall)
{
    struct compare_result made = {.row_bytes = bytes, .fetches = fetches, .fetched_recall = recall};
    assert_int_equal(gyre_codec_find(&made.codec, name, NULL), GYRE_OK);
    return made;
}

static void the_fewest_bytes_that_fulfil_the_wish_win(void **state)
{
    (void)state;
    const struct compare_result results[] = {
        result("rabitq1", 30, 400, 0.999),
        result("rabitq1", 60, 90, 0.995),
        result("rabitq1", 50, 95, 0.991),
        result("rabitq1", 50, 99, 0.999),
        result("rabitq1", 40, 50, 0.98),
    };
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_ptr_equal(compare_recommend(results, 5, &wish, why), &results[2]);
    assert_non_null(strstr(why, "fewest bytes a vector (50)"));
}

static void where_none_fulfils_it_the_best_recall_wins_then_the_fewest_reads(void **state)
{
    (void)state;
    const struct compare_result results[] = {
        result("rabitq1", 30, 10, 0.98),
        result("rabitq1", 60, 300, 0.995),
        result("rabitq1", 90, 200, 0.999),
    };
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_ptr_equal(compare_recommend(results, 3, &wish, why), &results[2]);
    assert_non_null(strstr(why, "no codec with a block scan reaches"));
}

static void what_refused_is_never_recommended(void **state)
{
    (void)state;
    struct compare_result refused = result("rabitq1", 1, 1, 1);
    snprintf(refused.refusal, sizeof refused.refusal, "no");
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_null(compare_recommend(&refused, 1, &wish, why));
    assert_non_null(strstr(why, "no codec"));
}

static void what_has_no_block_scan_is_never_recommended(void **state)
{
    (void)state;
    const struct compare_result results[] = {result("hamming", 1, 1, 1), result("rabitq1", 30, 400, 0.999)};
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_ptr_equal(compare_recommend(results, 2, &wish, why), &results[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fewest_bytes_that_fulfil_the_wish_win),
        cmocka_unit_test(where_none_fulfils_it_the_best_recall_wins_then_the_fewest_reads),
        cmocka_unit_test(what_refused_is_never_recommended),
        cmocka_unit_test(what_has_no_block_scan_is_never_recommended),
    };
    return cmocka_run_group_tests_name("gyre.compare", tests, NULL, NULL);
}
