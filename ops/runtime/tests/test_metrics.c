#include "gyre/metrics.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int setup(void **state)
{
    return gy_metrics_new((gy_metrics **)state, NULL) == GYRE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    gy_metrics_free(*state);
    return 0;
}

/* The value of the series exactly as a scraper finds it: the line that starts with it and a space. */
static double value_of(const char *text, const char *series)
{
    size_t chars = strlen(series);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        if (strncmp(line, series, chars) == 0 && line[chars] == ' ')
            return strtod(line + chars + 1, NULL);
    }
    fail_msg("series %s is not in:\n%s", series, text);
    return 0;
}

/* Every line of the format: a HELP or TYPE comment of the family that follows, or "name[{labels}] number". Families come
 * once. */
static void check_format(const char *text)
{
    char family[200] = "", seen[20000] = "\n";
    const char *line = text;
    while (*line) {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        char copy[2000], name[200], type[50];
        assert_true(end - line < (ptrdiff_t)sizeof copy);
        memcpy(copy, line, (size_t)(end - line));
        copy[end - line] = 0;
        if (sscanf(copy, "# TYPE %199s %49s", name, type) == 2) {
            char once[202];
            snprintf(once, sizeof once, "\n%s\n", name);
            assert_null(strstr(seen, once));
            strcat(seen, once + 1);
            strcpy(family, name);
        } else if (copy[0] != '#') {
            assert_memory_equal(copy, family, strlen(family));
            char *number = strrchr(copy, ' '), *rest;
            assert_non_null(number);
            strtod(number + 1, &rest);
            assert_string_equal(rest, "");
        }
        line = end + 1;
    }
}

static double answer(void *self)
{
    return *(double *)self;
}

static void the_text_reads_back_as_what_was_counted(void **state)
{
    gy_metrics *metrics = *state;
    double asked = 0.1;
    gy_metric *scans = gy_counter_new(metrics, "gyre_shard_scans_total", "shard=\"3\",kind=\"full\"", "Scans \\ run\nso far.");
    gy_metric *other = gy_counter_new(metrics, "gyre_shard_scans_total", "shard=\"4\",kind=\"full\"", "Scans \\ run\nso far.");
    gy_metric *depth = gy_gauge_new(metrics, "gyre_queue_depth", NULL, "Jobs waiting.");
    gy_gauge_of(metrics, "gyre_asked", NULL, "Asked for.", answer, &asked);
    gy_counter_add(scans, 2);
    gy_counter_add(scans, UINT64_C(10000000000));
    gy_counter_add(other, 7);
    gy_gauge_set(depth, -1.5);
    char *text = gy_metrics_text(metrics);
    check_format(text);
    assert_true(value_of(text, "gyre_shard_scans_total{shard=\"3\",kind=\"full\"}") == 10000000002.0);
    assert_true(value_of(text, "gyre_shard_scans_total{shard=\"4\",kind=\"full\"}") == 7);
    assert_true(value_of(text, "gyre_queue_depth") == -1.5);
    assert_true(value_of(text, "gyre_asked") == 0.1);
    assert_non_null(strstr(text, "gyre_asked 0.1\n")); /* the shortest form, not 0.10000000000000001 */
    assert_non_null(strstr(text, "# HELP gyre_shard_scans_total Scans \\\\ run\\nso far.\n"));
    free(text);
}

static void numbers_without_digits_have_prometheus_names(void **state)
{
    gy_metric *gauge = gy_gauge_new(*state, "gyre_g", NULL, "");
    const struct {
        double value;
        const char *line;
    } cases[] = {{(double)NAN, "\ngyre_g NaN\n"}, {(double)INFINITY, "\ngyre_g +Inf\n"}, {-(double)INFINITY, "\ngyre_g -Inf\n"}};
    for (size_t i = 0; i < 3; i++) {
        gy_gauge_set(gauge, cases[i].value);
        char *text = gy_metrics_text(*state);
        assert_non_null(strstr(text, cases[i].line));
        free(text);
    }
}

static void a_histogram_is_cumulative_and_its_count_is_its_last_bucket(void **state)
{
    gy_metric *scan = gy_histogram_new(*state, "gyre_scan_seconds", "shard=\"1\"", "Scan.");
    gy_histogram_observe_ns(scan, 10000);            /* on the first edge: inside */
    gy_histogram_observe_ns(scan, 10001);            /* just above it */
    gy_histogram_observe_ns(scan, -5);               /* a clock set back: as 0 */
    gy_histogram_observe_ns(scan, 60000000000);      /* above all edges */
    char *text = gy_metrics_text(*state);
    check_format(text);
    assert_true(value_of(text, "gyre_scan_seconds_bucket{shard=\"1\",le=\"1e-05\"}") == 2);
    assert_true(value_of(text, "gyre_scan_seconds_bucket{shard=\"1\",le=\"2e-05\"}") == 3);
    assert_true(value_of(text, "gyre_scan_seconds_bucket{shard=\"1\",le=\"10\"}") == 3);
    assert_true(value_of(text, "gyre_scan_seconds_bucket{shard=\"1\",le=\"+Inf\"}") == 4);
    assert_true(value_of(text, "gyre_scan_seconds_count{shard=\"1\"}") == 4);
    assert_true(fabs(value_of(text, "gyre_scan_seconds_sum{shard=\"1\"}") - 60.000020001) < 1e-9);
    free(text);
}

static void what_cannot_be_shown_still_counts_and_is_named(void **state)
{
    static const char *const bad_labels[] = {"shard=3", "shard=\"3", "shard=\"3\",", "=\"3\"", "s=\"a\nb\"", "s=\"\\q\"", "3s=\"1\"", "a=\"1\" b=\"2\""};
    gy_metric *bad = gy_counter_new(*state, "scans total", NULL, "");
    gy_counter_add(bad, 1);
    for (size_t i = 0; i < sizeof bad_labels / sizeof *bad_labels; i++)
        gy_counter_add(gy_counter_new(*state, "gyre_bad", bad_labels[i], ""), 1);
    gy_metric *first = gy_counter_new(*state, "gyre_twice", NULL, "");
    gy_metric *again = gy_counter_new(*state, "gyre_twice", NULL, "");
    gy_histogram_observe_ns(gy_histogram_new(*state, "gyre_twice", "a=\"1\"", ""), 1); /* one name, two kinds */
    gy_counter_add(first, 1);
    gy_counter_add(again, 41);
    char *text = gy_metrics_text(*state);
    check_format(text);
    assert_null(strstr(text, "gyre_bad"));
    assert_true(value_of(text, "gyre_twice") == 1);
    assert_non_null(strstr(text, "no memory): 11, first: scans?total\n"));
    free(text);
}

enum { THREADS = 4, ADDS = 20000 };

static void *add_many(void *self)
{
    for (int i = 0; i < ADDS; i++)
        gy_counter_add(self, 1);
    return NULL;
}

static void threads_add_while_others_make_metrics_and_read(void **state)
{
    gy_metric *counter = gy_counter_new(*state, "gyre_total", NULL, "");
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, counter), 0);
    for (int i = 0; i < 50; i++) {
        char labels[20];
        snprintf(labels, sizeof labels, "n=\"%d\"", i);
        gy_counter_new(*state, "gyre_n", labels, "");
        char *text = gy_metrics_text(*state);
        assert_non_null(strstr(text, labels));
        free(text);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    char *text = gy_metrics_text(*state);
    check_format(text);
    assert_true(value_of(text, "gyre_total") == THREADS * ADDS);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_text_reads_back_as_what_was_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_without_digits_have_prometheus_names, setup, teardown),
        cmocka_unit_test_setup_teardown(a_histogram_is_cumulative_and_its_count_is_its_last_bucket, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_shown_still_counts_and_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_add_while_others_make_metrics_and_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
