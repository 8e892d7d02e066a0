/* Words on a command line, good and bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "args.h"

#include <stdio.h>
#include <stdlib.h>

static const struct usage usage = {"import", "NAME FILE", 2, 2, "", ""};

struct values {
    uint64_t batch;
    double share;
    const char *ids;
    bool json;
    struct arg_list more;
    struct cli cli;
    gyre_error err;
    bool help;
    int argc;
    char *argv[16];
};

/* Parses the words of a line split at blanks. */
static gyre_status parse(struct values *v, char *line)
{
    const struct arg args[] = {
        {"batch", 'b', ARG_COUNT, &v->batch, 1, 100, "N", ""},  {"share", 0, ARG_REAL, &v->share, 0, 1, "P", ""},
        {"ids", 0, ARG_TEXT, &v->ids, 0, 0, "FILE", ""},        {"json", 0, ARG_SWITCH, &v->json, 0, 0, NULL, ""},
        {"more", 0, ARG_LIST, &v->more, 0, 0, "ARG", ""},
    };
    *v = (struct values){.batch = 7};
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        v->argv[v->argc++] = word;
    return args_parse(&usage, args, sizeof args / sizeof *args, &v->cli, &v->argc, v->argv, &v->help, &v->err);
}

static void options_may_stand_anywhere(void **state)
{
    (void)state;
    struct values v;
    char line[] = "words --batch 9 --json file.npy --ids=x.txt --more a --more=b --address h:1";
    assert_int_equal(parse(&v, line), GYRE_OK);
    assert_int_equal(v.argc, 2);
    assert_string_equal(v.argv[0], "words");
    assert_string_equal(v.argv[1], "file.npy");
    assert_int_equal(v.batch, 9);
    assert_true(v.json);
    assert_string_equal(v.ids, "x.txt");
    assert_int_equal(v.more.count, 2);
    assert_string_equal(v.more.items[1], "b");
    assert_string_equal(v.cli.address, "h:1");
    free(v.more.items);
}

static void a_letter_takes_its_value_joined_or_apart(void **state)
{
    (void)state;
    struct values v;
    char joined[] = "a b -b12", apart[] = "a b -b 13";
    assert_int_equal(parse(&v, joined), GYRE_OK);
    assert_int_equal(v.batch, 12);
    assert_int_equal(parse(&v, apart), GYRE_OK);
    assert_int_equal(v.batch, 13);
}

static void what_is_not_given_keeps_its_value(void **state)
{
    (void)state;
    struct values v;
    char line[] = "a b";
    assert_int_equal(parse(&v, line), GYRE_OK);
    assert_int_equal(v.batch, 7);
    assert_false(v.json);
}

static void after_two_dashes_all_words_are_operands(void **state)
{
    (void)state;
    struct values v;
    char line[] = "-- --json -x";
    assert_int_equal(parse(&v, line), GYRE_OK);
    assert_string_equal(v.argv[0], "--json");
    assert_string_equal(v.argv[1], "-x");
    assert_false(v.json);
}

static void help_needs_no_operands(void **state)
{
    (void)state;
    struct values v;
    char line[] = "--help";
    assert_int_equal(parse(&v, line), GYRE_OK);
    assert_true(v.help);
}

static void a_mistake_names_the_option_and_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"a b --batch 0", "--batch '0': a whole number from 1 to 100"},
        {"a b --batch 101", "from 1 to 100"},
        {"a b --batch -1", "--batch '-1'"},
        {"a b --batch 1e1", "--batch '1e1'"},
        {"a b --batch 99999999999999999999999", "from 1 to 100"},
        {"a b --batch=", "--batch ''"},
        {"a b --batch", "--batch needs a value: N"},
        {"a b --share nan", "--share 'nan': a number from 0 to 1"},
        {"a b --share 1.5", "--share '1.5'"},
        {"a b --share 0x", "--share '0x'"},
        {"a b --ids=", "--ids needs a FILE that is not empty"},
        {"a b --json=yes", "--json takes no value"},
        {"a b --jso", "no option '--jso'"},
        {"a b --jsonx", "no option '--jsonx'"},
        {"a b -z", "no option '-z'"},
        {"a", "NAME FILE is needed"},
        {"a b c", "'c' is one word too many"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct values v;
        char line[96];
        snprintf(line, sizeof line, "%s", cases[i].line);
        assert_int_equal(parse(&v, line), GYRE_INVALID);
        if (!strstr(v.err.text, cases[i].says))
            fail_msg("'%s' says '%s', not '%s'", cases[i].line, v.err.text, cases[i].says);
    }
}

static void common_options_may_stand_before_the_command(void **state)
{
    (void)state;
    struct cli cli = {0};
    gyre_error err;
    char *argv[] = {"--address", "h:1", "--dir=d", "status", "--json"};
    assert_int_equal(args_read_common(&cli, 5, argv, &err), 3);
    assert_string_equal(cli.address, "h:1");
    assert_string_equal(cli.dir, "d");
    char *wrong[] = {"--json", "status"};
    assert_int_equal(args_read_common(&cli, 2, wrong, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_may_stand_anywhere),
        cmocka_unit_test(a_letter_takes_its_value_joined_or_apart),
        cmocka_unit_test(what_is_not_given_keeps_its_value),
        cmocka_unit_test(after_two_dashes_all_words_are_operands),
        cmocka_unit_test(help_needs_no_operands),
        cmocka_unit_test(a_mistake_names_the_option_and_what_is_allowed),
        cmocka_unit_test(common_options_may_stand_before_the_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
