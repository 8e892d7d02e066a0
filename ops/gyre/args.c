/* args: see args.h. getopt_long prints its own sentences and cannot check limits, so the table is walked here. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { COMMON_COUNT = 3 };

static void common_args(struct cli *cli, struct arg out[COMMON_COUNT])
{
    out[0] = (struct arg){"address", 0, ARG_TEXT, &cli->address, 0, 0, "HOST:PORT,…",
                          "the coordinator, or several: the first that is reached (else $GYRE_ADDRESS, the local cluster, " CLI_ADDRESS_DEFAULT ")"};
    out[1] = (struct arg){"dir", 0, ARG_TEXT, &cli->dir, 0, 0, "DIR", "of the local cluster (else $GYRE_DIR or ./gyre-local)"};
    out[2] = (struct arg){"timeout", 0, ARG_REAL, &cli->timeout_s, 0, 86400, "SECONDS", "how long one call may take"};
}

static const struct arg *find(const struct arg *args, size_t count, const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(args[i].name) == name_bytes && memcmp(args[i].name, name, name_bytes) == 0)
            return &args[i];
    return NULL;
}

static const struct arg *find_letter(const struct arg *args, size_t count, char letter)
{
    for (size_t i = 0; i < count; i++)
        if (args[i].letter && args[i].letter == letter)
            return &args[i];
    return NULL;
}

static gyre_status store(const struct arg *arg, const char *text, gyre_error *err)
{
    char *end = NULL;
    switch (arg->kind) {
    case ARG_TEXT:
        if (!*text)
            return gyre_fail(err, GYRE_INVALID, "--%s needs a %s that is not empty", arg->name, arg->value);
        *(const char **)arg->target = text;
        return GYRE_OK;
    case ARG_LIST: {
        struct arg_list *list = arg->target;
        list->items = cli_resize(list->items, list->count + 1, sizeof *list->items);
        list->items[list->count++] = text;
        return GYRE_OK;
    }
    case ARG_COUNT: {
        errno = 0;
        unsigned long long number = strtoull(text, &end, 10);
        /* strtoull takes signs and spaces, and turns -1 into a large number */
        if (*text < '0' || *text > '9' || *end || errno || (long double)number < arg->low || (long double)number > arg->high)
            return gyre_fail(err, GYRE_INVALID, "--%s '%s': a whole number from %llu to %llu is needed", arg->name, text,
                             (unsigned long long)arg->low, (unsigned long long)arg->high);
        *(uint64_t *)arg->target = number;
        return GYRE_OK;
    }
    case ARG_REAL: {
        double number = strtod(text, &end);
        if (end == text || *end || !isfinite(number) || number < arg->low || number > arg->high)
            return gyre_fail(err, GYRE_INVALID, "--%s '%s': a number from %.10Lg to %.10Lg is needed", arg->name, text, arg->low,
                             arg->high);
        *(double *)arg->target = number;
        return GYRE_OK;
    }
    case ARG_SWITCH:
        *(bool *)arg->target = true;
        return GYRE_OK;
    }
    return GYRE_OK;
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0';
}

/* Reads the option at argv[*at] and its value; moves *at behind them. */
static gyre_status read_option(const struct arg *args, size_t count, const struct arg *common, int argc, char **argv, int *at,
                               gyre_error *err)
{
    const char *word = argv[*at];
    const char *value = NULL;
    const struct arg *arg;
    if (word[1] == '-') {
        const char *name = word + 2;
        const char *equals = strchr(name, '=');
        size_t name_bytes = equals ? (size_t)(equals - name) : strlen(name);
        value = equals ? equals + 1 : NULL;
        arg = find(args, count, name, name_bytes);
        if (!arg)
            arg = find(common, COMMON_COUNT, name, name_bytes);
    } else {
        arg = find_letter(args, count, word[1]);
        value = arg && word[2] ? word + 2 : NULL;
    }
    if (!arg)
        return gyre_fail(err, GYRE_INVALID, "there is no option '%s'", word);
    ++*at;
    if (arg->kind == ARG_SWITCH) {
        if (value)
            return gyre_fail(err, GYRE_INVALID, "--%s takes no value, and '%s' gives one", arg->name, word);
        return store(arg, "", err);
    }
    if (!value) {
        if (*at >= argc)
            return gyre_fail(err, GYRE_INVALID, "--%s needs a value: %s", arg->name, arg->value);
        value = argv[(*at)++];
    }
    return store(arg, value, err);
}

gyre_status args_parse(const struct usage *usage, const struct arg *args, size_t count, struct cli *cli, int *argc, char **argv,
                       bool *help, gyre_error *err)
{
    struct arg common[COMMON_COUNT];
    common_args(cli, common);
    size_t operands = 0;
    *help = false;
    bool options = true;
    for (int at = 0; at < *argc;) {
        if (options && strcmp(argv[at], "--") == 0) {
            options = false;
            at++;
        } else if (options && (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)) {
            *help = true;
            return GYRE_OK;
        } else if (options && is_option(argv[at])) {
            GY_TRY(read_option(args, count, common, *argc, argv, &at, err));
        } else {
            argv[operands++] = argv[at++]; /* never ahead of the word being read */
        }
    }
    if (operands < usage->operands_min)
        return gyre_fail(err, GYRE_INVALID, "%s is needed, and %zu of them were given", usage->operands, operands);
    if (operands > usage->operands_max)
        return gyre_fail(err, GYRE_INVALID, "'%s' is one word too many: %s", argv[usage->operands_max],
                         *usage->operands ? usage->operands : "no operands are taken");
    *argc = (int)operands;
    return GYRE_OK;
}

int args_read_common(struct cli *cli, int argc, char **argv, gyre_error *err)
{
    struct arg common[COMMON_COUNT];
    common_args(cli, common);
    int at = 0;
    while (at < argc && is_option(argv[at]) && strcmp(argv[at], "--help") != 0 && strcmp(argv[at], "-h") != 0 &&
           strcmp(argv[at], "--version") != 0)
        if (read_option(NULL, 0, common, argc, argv, &at, err) != GYRE_OK)
            return -1;
    return at;
}

static void print_options(const struct arg *args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char left[64];
        char letter[8] = "";
        if (args[i].letter)
            snprintf(letter, sizeof letter, "-%c, ", args[i].letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, args[i].name, args[i].value ? " " : "", args[i].value ? args[i].value : "");
        printf("  %-24s  %s\n", left, args[i].help);
    }
}

static void print_help(const struct usage *usage, const struct arg *args, size_t count, struct cli *cli)
{
    struct arg common[COMMON_COUNT];
    common_args(cli, common);
    printf("%s\n\nUsage: gyre %s%s%s [options]\n\n", usage->summary, usage->command, *usage->operands ? " " : "", usage->operands);
    if (count) {
        printf("Options:\n");
        print_options(args, count);
        printf("\n");
    }
    printf("For every command:\n");
    print_options(common, COMMON_COUNT);
    printf("\nExamples:\n%s", usage->examples);
}

int args_read(const struct usage *usage, const struct arg *args, size_t count, struct cli *cli, int *argc, char **argv)
{
    bool help;
    gyre_error err;
    if (args_parse(usage, args, count, cli, argc, argv, &help, &err) != GYRE_OK)
        return args_misused(usage, "%s", err.text);
    if (!help)
        return ARGS_READ;
    print_help(usage, args, count, cli);
    return CLI_DONE;
}

int args_misused(const struct usage *usage, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "gyre %s: ", usage->command);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\nSee: gyre %s --help\n", usage->command);
    va_end(list);
    return CLI_MISUSED;
}
