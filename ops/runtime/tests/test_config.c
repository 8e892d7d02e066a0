#include "gyre/config.h"

#include "capture.h"
#include "config_internal.h"

#include "gyre/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

struct settings {
    char *listen, *data;
    uint64_t memory, threads, grace_ms;
    bool verbose;
};

static const struct gy_option options[] = {
    {"listen", GY_OPTION_TEXT, offsetof(struct settings, listen), "127.0.0.1:7701", 0, 0, "ADDRESS", "where it listens"},
    {"data", GY_OPTION_TEXT, offsetof(struct settings, data), NULL, 0, 0, "FOLDER", "where it stores"},
    {"memory", GY_OPTION_BYTES, offsetof(struct settings, memory), "64M", 1 << 20, 1ull << 40, "BYTES", "how much it may use"},
    {"threads", GY_OPTION_COUNT, offsetof(struct settings, threads), "2", 1, 64, "COUNT", "how many scan"},
    {"grace-ms", GY_OPTION_MILLIS, offsetof(struct settings, grace_ms), "3s", 0, 0, "TIME", "how long it drains"},
    {"verbose", GY_OPTION_SWITCH, offsetof(struct settings, verbose), "off", 0, 0, NULL, "say more"},
};

static const struct gy_program program = {"gyre-shard", "keeps codes", "  gyre-shard --data /var/lib/gyre", options, sizeof options / sizeof *options};

static char file_path[] = "/tmp/gyre_test_config_XXXXXX";
static gyre_error err;

static void write_file(const char *text)
{
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    memset(&err, 0, sizeof err);
    return 0;
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(file_path);
    close(fd);
    return fd < 0 ? -1 : 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file_path);
}

enum { ARGUMENTS_MAX = 16 };

/* gy_config_read with these flags, NULL at the end. */
static gyre_status read_with(struct settings *settings, bool *stop, ...)
{
    char *argv[ARGUMENTS_MAX] = {(char *)"gyre-shard"};
    int argc = 1;
    va_list list;
    va_start(list, stop);
    for (char *word; (word = va_arg(list, char *)) != NULL && argc < ARGUMENTS_MAX;)
        argv[argc++] = word;
    va_end(list);
    return gy_config_read(&program, argc, argv, settings, stop, &err);
}

#define READ(...) read_with(&settings, &stop, __VA_ARGS__, NULL)
/* Runs on a struct of its own and demands that it stays as it was. */
#define REFUSED_WITH(expected, sentence_part, ...)                                             \
    do {                                                                                       \
        struct settings target = {0}, untouched = {0};                                         \
        bool stopped = false;                                                                  \
        assert_int_equal(read_with(&target, &stopped, __VA_ARGS__, NULL), expected);           \
        if (!strstr(err.text, sentence_part))                                                  \
            fail_msg("'%s' is not in '%s'", sentence_part, err.text);                          \
        assert_memory_equal(&target, &untouched, sizeof target);                               \
    } while (0)
#define REFUSED(...) REFUSED_WITH(GYRE_INVALID, __VA_ARGS__)

static void defaults_fill_what_nobody_gave(void **state)
{
    (void)state;
    struct settings settings = {0};
    bool stop = true;
    assert_int_equal(READ("--data", "/d"), GYRE_OK);
    assert_false(stop);
    assert_string_equal(settings.listen, "127.0.0.1:7701");
    assert_string_equal(settings.data, "/d");
    assert_int_equal(settings.memory, 64 << 20);
    assert_int_equal(settings.threads, 2);
    assert_int_equal(settings.grace_ms, 3000);
    assert_false(settings.verbose);
    gy_config_free(&program, &settings);
    assert_null(settings.listen);
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    (void)state;
    struct settings settings = {0};
    bool stop;
    write_file("[coordinator]\nthreads = 9\nanything = goes\n[shard]\n; a comment\nlisten = file:1\ndata = file:2\nthreads = 3\nmemory = 1G\n");
    setenv("GYRE_SHARD_CONFIG", file_path, 1);
    setenv("GYRE_SHARD_DATA", "env:2", 1);
    setenv("GYRE_SHARD_THREADS", "4", 1);
    setenv("GYRE_SHARD_GRACE_MS", "", 1); /* empty is not given */
    gyre_status status = READ("--threads=5", "--verbose");
    unsetenv("GYRE_SHARD_CONFIG");
    unsetenv("GYRE_SHARD_DATA");
    unsetenv("GYRE_SHARD_THREADS");
    unsetenv("GYRE_SHARD_GRACE_MS");
    assert_int_equal(status, GYRE_OK);
    assert_string_equal(settings.listen, "file:1");
    assert_string_equal(settings.data, "env:2");
    assert_int_equal(settings.threads, 5);
    assert_int_equal(settings.memory, 1 << 30);
    assert_int_equal(settings.grace_ms, 3000);
    assert_true(settings.verbose);
    gy_config_free(&program, &settings);
}

static void numbers_take_their_units_and_nothing_else(void **state)
{
    (void)state;
    const struct {
        size_t option;
        const char *text;
        uint64_t number; /* 0: refused */
    } cases[] = {
        {2, "2M", 2 << 20}, {2, "2m", 2 << 20},    {2, "1024k", 1 << 20}, {2, "1048576", 1 << 20}, {2, "1048575", 0},
        {2, "2T", 0},       {2, "-1", 0},          {2, "", 0},            {2, "2 M", 0},           {2, "18446744073709551615G", 0},
        {2, "18446744073709551616", 0},            {3, "64", 64},         {3, "65", 0},            {3, "0", 0},
        {3, "1k", 0},       {3, "0x10", 0},        {4, "500", 500},       {4, "500ms", 500},       {4, "3s", 3000},
        {4, "2m", 120000},  {4, "1h", 3600000},    {4, "1.5s", 0},        {4, "s", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gy_option_value value = {0};
        gyre_status status = gy_option_parse(&options[cases[i].option], cases[i].text, "test", &value, &err);
        if (status != (cases[i].number ? GYRE_OK : GYRE_INVALID) || value.number != cases[i].number)
            fail_msg("%s: status %d, %llu", cases[i].text, (int)status, (unsigned long long)value.number);
    }
}

static void a_share_of_the_memory_is_as_good_as_a_size(void **state)
{
    (void)state;
    const struct gy_option option = {"budget", GY_OPTION_MEMORY, 0, "85%", 1 << 20, 1ull << 50, "BYTES|%", "what codes may take"};
    struct gy_option_value value = {0};
    assert_int_equal(gy_option_parse(&option, "64M", "test", &value, &err), GYRE_OK);
    assert_int_equal(value.number, 64 << 20);
    assert_int_equal(gy_option_parse(&option, "85%", "test", &value, &err), GYRE_OK);
    assert_int_equal(value.number, gy_memory_limit("") / 100 * 85);
    assert_true(value.number > 1 << 20);
    static const char *const wrong[] = {"0%", "101%", "1", "half", "%", "8.5%", "-1%", "85 %"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (gy_option_parse(&option, wrong[i], "test", &value, &err) != GYRE_INVALID || !strstr(err.text, "budget (test): "))
            fail_msg("%s: %s", wrong[i], err.text);
    }
}

static void a_mistyped_flag_is_met_with_a_hint(void **state)
{
    (void)state;
    REFUSED("unknown option 'thread'; did you mean 'threads'?", "--thread", "3");
    REFUSED("unknown option 'lisetn'; did you mean 'listen'?", "--lisetn=x");
    REFUSED("unknown option 'bananas'", "--bananas");
    assert_null(strstr(err.text, "did you mean"));
    REFUSED("unexpected argument 'start'", "start");
    REFUSED("unexpected argument '-x'", "-x");
    REFUSED("--threads needs a value", "--threads", "--verbose");
    REFUSED("--data needs a value", "--data");
    REFUSED("--help takes no value", "--help=me");
    REFUSED("unknown option", "--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
}

static void a_bad_value_names_option_source_and_limit(void **state)
{
    (void)state;
    REFUSED("threads (--threads): 65 is outside 1 to 64", "--data=d", "--threads", "65");
    REFUSED("memory (--memory): 'lots' is no size", "--data=d", "--memory=lots");
    REFUSED("verbose (--verbose): 'maybe' is neither on", "--data=d", "--verbose=maybe");
    setenv("GYRE_SHARD_THREADS", "none", 1);
    REFUSED("threads (GYRE_SHARD_THREADS): 'none' is no number", "--data=d");
    unsetenv("GYRE_SHARD_THREADS");
    REFUSED("data must be given: by --data, by GYRE_SHARD_DATA, or by 'data = ...' under [shard]", "--threads=1");
}

static void a_bad_file_is_refused_by_file_and_line(void **state)
{
    (void)state;
    const struct {
        const char *text, *sentence_part;
    } cases[] = {
        {"[shard]\n\nthread = 3\n", ":3: unknown option 'thread'; did you mean 'threads'?"},
        {"[shard]\nthreads = 99\n", ":2): 99 is outside 1 to 64"},
        {"[shrad]\nthreads = 3\n", ":2: 'threads' stands in section [shrad]; gyre-shard reads [shard]"},
        {"threads = 3\n", ":1: 'threads' stands in section []"},
        {"[shard]\nthreads\n", ":2: neither [section] nor 'name = value'"},
        {"[shard\nthreads = 3\n", ":1: neither [section]"},
        {"[shard]\nthreads = 3\nthreads = 4\n", ":3: 'threads' is set a second time"},
        {"[shard]\ndata = a\n  b\n", ":3: 'data' is set a second time, or its value goes on"},
        /* libinih would read the rest of a long line as a line of its own */
        {"[shard]\nlisten = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nthreads = 4\n", ":2: a line of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(cases[i].text);
        REFUSED(cases[i].sentence_part, "--config", file_path);
        assert_non_null(strstr(err.text, file_path));
    }
}

static void a_file_that_is_none_is_refused(void **state)
{
    (void)state;
    REFUSED_WITH(GYRE_NOT_FOUND, "/nonexistent/gyre.ini", "--config=/nonexistent/gyre.ini");
    REFUSED("not a regular file", "--config=/tmp");
    FILE *file = fopen(file_path, "w");
    for (int i = 0; i < (1 << 20) + 1; i++)
        fputc('\n', file);
    fclose(file);
    REFUSED("longer than 1048576 bytes", "--config", file_path);
    write_file("");
    file = fopen(file_path, "w");
    fwrite("[shard]\nda\0ta = 3\n", 1, 18, file);
    fclose(file);
    REFUSED(":2: a zero byte", "--config", file_path);
}

static void help_names_every_option_its_default_and_its_variable(void **state)
{
    (void)state;
    static struct capture capture;
    struct settings settings = {0};
    bool stop = false;
    capture_start(&capture, STDOUT_FILENO);
    gyre_status status = READ("--help");
    const char *text = capture_end(&capture);
    assert_int_equal(status, GYRE_OK);
    assert_true(stop);
    for (size_t i = 0; i < program.option_count; i++)
        assert_non_null(strstr(text, options[i].name));
    assert_non_null(strstr(text, "gyre-shard - keeps codes\n"));
    assert_non_null(strstr(text, "--memory BYTES"));
    assert_non_null(strstr(text, "default: 64M; or GYRE_SHARD_MEMORY"));
    assert_non_null(strstr(text, "must be given; or GYRE_SHARD_DATA"));
    assert_non_null(strstr(text, "gyre-shard --data /var/lib/gyre"));
    assert_non_null(strstr(text, "GYRE_SHARD_CONFIG"));

    stop = false;
    capture_start(&capture, STDOUT_FILENO);
    status = READ("--version");
    assert_non_null(strstr(capture_end(&capture), "gyre-shard 0."));
    assert_int_equal(status, GYRE_OK);
    assert_true(stop);
}

static void the_printed_configuration_reads_back_as_itself(void **state)
{
    (void)state;
    static struct capture capture;
    struct settings settings = {0};
    bool stop = false;
    capture_start(&capture, STDOUT_FILENO);
    gyre_status status = READ("--data=/d", "--verbose", "--threads=7", "--print-config");
    const char *text = capture_end(&capture);
    assert_int_equal(status, GYRE_OK);
    assert_true(stop);
    assert_null(settings.data);
    write_file(text);
    assert_int_equal(READ("--config", file_path), GYRE_OK);
    assert_string_equal(settings.data, "/d");
    assert_int_equal(settings.threads, 7);
    assert_true(settings.verbose);
    gy_config_free(&program, &settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_fill_what_nobody_gave, setup),
        cmocka_unit_test_setup(flag_beats_environment_beats_file_beats_default, setup),
        cmocka_unit_test_setup(numbers_take_their_units_and_nothing_else, setup),
        cmocka_unit_test_setup(a_share_of_the_memory_is_as_good_as_a_size, setup),
        cmocka_unit_test_setup(a_mistyped_flag_is_met_with_a_hint, setup),
        cmocka_unit_test_setup(a_bad_value_names_option_source_and_limit, setup),
        cmocka_unit_test_setup(a_bad_file_is_refused_by_file_and_line, setup),
        cmocka_unit_test_setup(a_file_that_is_none_is_refused, setup),
        cmocka_unit_test_setup(help_names_every_option_its_default_and_its_variable, setup),
        cmocka_unit_test_setup(the_printed_configuration_reads_back_as_itself, setup),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
