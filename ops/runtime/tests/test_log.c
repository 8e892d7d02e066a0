#include "gyre/log.h"

#include "capture.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct capture capture;

/* What follows the time stamp of the one line that was written. */
static const char *line_end(void)
{
    const char *text = capture_end(&capture);
    assert_non_null(strchr(text, '\n'));
    assert_string_equal(strchr(text, '\n'), "\n"); /* one line, whole */
    const char *level = strstr(text, " level=");
    assert_non_null(level);
    return level + 1;
}

#define LOGGED(expected, ...)                    \
    do {                                         \
        capture_start(&capture, STDERR_FILENO);  \
        gy_log(__VA_ARGS__);                     \
        assert_string_equal(line_end(), expected "\n"); \
    } while (0)

static void a_line_has_time_level_event_and_pairs(void **state)
{
    (void)state;
    capture_start(&capture, STDERR_FILENO);
    gy_log(GY_LOG_WARN, "node_down", "node=%s since_ms=%d", "n2", 3000);
    const char *text = capture_end(&capture);
    int year, month, day, hour, minute, second, milli, parsed = 0;
    assert_int_equal(sscanf(text, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute, &second, &milli, &parsed), 7);
    assert_int_equal(parsed, (int)strlen("ts=2026-01-02T03:04:05.678Z "));
    assert_string_equal(text + parsed, "level=warn event=node_down node=n2 since_ms=3000\n");
}

static void every_allowed_conversion_is_printed(void **state)
{
    (void)state;
    LOGGED("level=info event=e d=-1 u=2 ld=-3 lu=4 lld=-5 llu=6 zu=7 f=1.500000 f2=0.13 u64=18446744073709551615 i64=-9", GY_LOG_INFO, "e",
           "d=%d u=%u ld=%ld lu=%lu lld=%lld llu=%llu zu=%zu f=%f f2=%.2f u64=%" PRIu64 " i64=%" PRId64, -1, 2u, -3L, 4UL, -5LL, 6ULL,
           (size_t)7, 1.5, 0.125001, UINT64_MAX, (int64_t)-9);
    LOGGED("level=info event=e address=127.0.0.1:80 share=50% part=abc", GY_LOG_INFO, "e", "address=%s:%d share=%d%% part=%.3s",
           "127.0.0.1", 80, 50, "abcdef");
    const char *volatile missing = NULL; /* kept from the compiler, which would warn */
    LOGGED("level=info event=e s=(null) empty=\"\"", GY_LOG_INFO, "e", "s=%s empty=%s", missing, "");
}

static void a_hostile_string_cannot_forge_a_line_or_a_pair(void **state)
{
    (void)state;
    LOGGED("level=info event=e name=\"x\\nts=2026 level=error event=forged\"", GY_LOG_INFO, "e", "name=%s", "x\nts=2026 level=error event=forged");
    LOGGED("level=info event=e name=\"a b=c\" next=1", GY_LOG_INFO, "e", "name=%s next=%d", "a b=c", 1);
    LOGGED("level=info event=e name=\"\\\" admin=true \\\\\" next=1", GY_LOG_INFO, "e", "name=%s next=%d", "\" admin=true \\", 1);
    LOGGED("level=info event=e name=\"\\u000d\\u001b[2J\"", GY_LOG_INFO, "e", "name=%s", "\r\x1b[2J");
}

static void control_bidi_and_broken_characters_are_escaped(void **state)
{
    (void)state;
    LOGGED("level=info event=e v=\"\\u009b\\u2028\\u202e\\ufeff\\u007f\"", GY_LOG_INFO, "e", "v=%s", "\xc2\x9b\xe2\x80\xa8\xe2\x80\xae\xef\xbb\xbf\x7f");
    LOGGED("level=info event=e v=\"\\xff\\xc0\\xaf\\xed\\xa0\\x80\"", GY_LOG_INFO, "e", "v=%s", "\xff\xc0\xaf\xed\xa0\x80");
    LOGGED("level=info event=e v=\"caf\xc3\xa9 \xf0\x9f\x98\x80\"", GY_LOG_INFO, "e", "v=%s", "caf\xc3\xa9 \xf0\x9f\x98\x80");
    LOGGED("level=info event=e v=\"\\xe2\\x82\"", GY_LOG_INFO, "e", "v=%s", "\xe2\x82"); /* cut in its middle */
}

static void a_long_value_is_cut_and_still_closed(void **state)
{
    (void)state;
    static char longest[100000];
    memset(longest, '\n', sizeof longest - 1);
    capture_start(&capture, STDERR_FILENO);
    gy_log(GY_LOG_INFO, "e", "v=%s after=%d", longest, 7);
    const char *text = line_end();
    assert_true(strlen(text) < 4096);
    assert_non_null(strstr(text, "\\n...\" after=7\n"));
}

static void a_line_that_is_too_long_says_so(void **state)
{
    (void)state;
    static char longest[1024];
    memset(longest, '\x01', sizeof longest - 1);
    capture_start(&capture, STDERR_FILENO);
    gy_log(GY_LOG_INFO, "e", "v=%s w=%s after=%d", longest, longest, 7);
    const char *text = line_end();
    assert_true(strlen(text) <= 4096);
    assert_non_null(strstr(text, "\" cut=line\n"));
    assert_null(strstr(text, "after"));
}

static void an_unknown_conversion_ends_the_pairs_instead_of_the_process(void **state)
{
    (void)state;
    const char *volatile format = "a=%d b=%n c=%s"; /* kept from the compiler, which would refuse it */
    int n = 0;
    capture_start(&capture, STDERR_FILENO);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    gy_log(GY_LOG_INFO, "e", format, 1, &n, "never");
#pragma GCC diagnostic pop
    assert_null(strstr(line_end(), "never"));
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    gy_log_level level = GY_LOG_INFO;
    assert_true(gy_log_parse_level("error", &level));
    assert_int_equal(level, GY_LOG_ERROR);
    assert_false(gy_log_parse_level("loud", &level));
    gy_log_set_level(GY_LOG_WARN);
    capture_start(&capture, STDERR_FILENO);
    gy_log(GY_LOG_INFO, "quiet", "a=%d", 1);
    assert_string_equal(capture_end(&capture), "");
    gy_log_set_level(GY_LOG_DEBUG);
    LOGGED("level=debug event=quiet a=1", GY_LOG_DEBUG, "quiet", "a=%d", 1);
    gy_log_set_level(GY_LOG_INFO);
}

static void errno_is_left_as_it_was(void **state)
{
    (void)state;
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = ENOSPC;
    gy_log(GY_LOG_INFO, "nobody_listens", "a=%d", 1);
    int after = errno;
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(after, ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_event_and_pairs),
        cmocka_unit_test(every_allowed_conversion_is_printed),
        cmocka_unit_test(a_hostile_string_cannot_forge_a_line_or_a_pair),
        cmocka_unit_test(control_bidi_and_broken_characters_are_escaped),
        cmocka_unit_test(a_long_value_is_cut_and_still_closed),
        cmocka_unit_test(a_line_that_is_too_long_says_so),
        cmocka_unit_test(an_unknown_conversion_ends_the_pairs_instead_of_the_process),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(errno_is_left_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
