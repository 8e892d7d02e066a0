/* Progress on a terminal, elsewhere, and silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "progress.h"

#include <stdlib.h>
#include <unistd.h>

/* Moves a moment so far ahead that it is still to come, wherever this process is held up. */
#define AGES_NS (3600 * GY_SECOND_NS)

struct page {
    FILE *out;
    char text[1024];
};

static void page_open(struct page *page)
{
    page->out = tmpfile();
    assert_non_null(page->out);
}

static const char *page_close(struct page *page)
{
    fflush(page->out);
    rewind(page->out);
    page->text[fread(page->text, 1, sizeof page->text - 1, page->out)] = '\0';
    fclose(page->out);
    return page->text;
}

static void a_file_gets_plain_lines_and_not_too_many(void **state)
{
    (void)state;
    struct page page = {0};
    struct progress progress;
    page_open(&page);
    progress_init(&progress, page.out, false, "imported", "points", 40000);
    assert_false(progress.terminal);
    progress.started_ns += AGES_NS;
    progress_show(&progress, 10); /* too early for a line */
    progress.started_ns -= AGES_NS + 4 * GY_SECOND_NS;
    progress_show(&progress, 20000);
    progress.shown_ns += AGES_NS;
    progress_show(&progress, 20001); /* too early for another */
    progress_end(&progress);
    const char *text = page_close(&page);
    assert_non_null(strstr(text, "imported 20,000 of 40,000 points (50%), "));
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\033'));
    assert_ptr_equal(strchr(text, '\n') + 1, text + strlen(text)); /* one line */
}

static void a_terminal_gets_one_line_that_redraws_itself(void **state)
{
    (void)state;
    struct page page = {0};
    struct progress progress;
    page_open(&page);
    progress_init(&progress, page.out, false, "imported", "points", 100);
    progress.terminal = true;
    progress.started_ns -= GY_SECOND_NS;
    progress_show(&progress, 50);
    progress_end(&progress);
    const char *text = page_close(&page);
    assert_non_null(strstr(text, "\r[############............] imported 50 of 100 points (50%)"));
    assert_null(strchr(text, '\n'));
    assert_string_equal(text + strlen(text) - 4, "\r\033[K");
}

static void a_sentence_is_shown_as_a_count_is(void **state)
{
    (void)state;
    struct page page = {0};
    struct progress progress;
    page_open(&page);
    progress_init(&progress, page.out, false, "", "", 0);
    progress.started_ns += AGES_NS;
    progress_say(&progress, "too early");
    progress.started_ns -= AGES_NS + 4 * GY_SECOND_NS;
    progress_say(&progress, "training, 0:04");
    progress.shown_ns += AGES_NS;
    progress_say(&progress, "too soon after that");
    progress.terminal = true;
    progress.shown_ns -= AGES_NS + GY_SECOND_NS;
    progress_say(&progress, "almost");
    assert_string_equal(page_close(&page), "training, 0:04\n\ralmost\033[K");
}

static void quiet_is_silent(void **state)
{
    (void)state;
    struct page page = {0};
    struct progress progress;
    page_open(&page);
    progress_init(&progress, page.out, true, "imported", "points", 100);
    progress.started_ns -= 60 * GY_SECOND_NS;
    progress_show(&progress, 50);
    progress_say(&progress, "at work");
    progress_end(&progress);
    assert_string_equal(page_close(&page), "");
}

static void the_line_tells_rate_and_time_left(void **state)
{
    (void)state;
    struct progress progress = {.verb = "imported", .unit = "points", .total = 40000, .started_ns = 0};
    char text[PROGRESS_TEXT_BYTES];
    assert_string_equal(progress_text(&progress, 10000, 10 * GY_SECOND_NS, text), "imported 10,000 of 40,000 points (25%), 1,000/s, 0:30 left");
    assert_string_equal(progress_text(&progress, 0, 10 * GY_SECOND_NS, text), "imported 0 of 40,000 points (0%)");
    assert_string_equal(progress_text(&progress, 0, 0, text), "imported 0 of 40,000 points (0%)");
    progress.total = 0;
    assert_string_equal(progress_text(&progress, 500, GY_SECOND_NS, text), "imported 500 points, 500/s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_gets_plain_lines_and_not_too_many),
        cmocka_unit_test(a_terminal_gets_one_line_that_redraws_itself),
        cmocka_unit_test(a_sentence_is_shown_as_a_count_is),
        cmocka_unit_test(quiet_is_silent),
        cmocka_unit_test(the_line_tells_rate_and_time_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
