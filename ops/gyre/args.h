/* args: the words after a command become its options and operands.
 *
 * A command declares one table; the same table reads the words, checks their limits and prints --help. Options may stand
 * before, between and after operands: --name VALUE, --name=VALUE, -k VALUE; after "--" everything is an operand. */
#ifndef GY_ARGS_H
#define GY_ARGS_H

#include "cli.h"

enum arg_kind {
    ARG_TEXT,   /* const char *      points into argv */
    ARG_LIST,   /* struct arg_list   may be given many times */
    ARG_COUNT,  /* uint64_t          low…high, both checked */
    ARG_REAL,   /* double            low…high, both checked */
    ARG_SWITCH, /* bool              true when given */
};

struct arg_list {
    const char **items; /* point into argv; free(items) */
    size_t count;
};

struct arg {
    const char *name; /* "batch" */
    char letter;      /* 'k', or 0 */
    enum arg_kind kind;
    void *target;     /* keeps its value when the option is not given */
    long double low, high; /* wide enough for every uint64_t and every double */
    const char *value; /* word for --help: "N" */
    const char *help;
};

struct usage {
    const char *command;  /* "import" */
    const char *operands; /* "NAME FILE" */
    size_t operands_min, operands_max;
    const char *summary;  /* a sentence */
    const char *examples; /* lines; shown after the options */
};

/* What every command takes besides its own: --address, --dir, --timeout, --help. */
enum { ARGS_READ = -1 };

/* Reads argv[0…*argc-1]; on ARGS_READ the operands are left in argv[0…*argc-1]. Otherwise returns the exit code to end with:
 * CLI_DONE after --help (on stdout), CLI_MISUSED after a sentence on stderr that names the option and what is allowed. */
int args_read(const struct usage *usage, const struct arg *args, size_t count, struct cli *cli, int *argc, char **argv);

/* Reads common options only, up to the first word that is none; returns how many words it took, or -1 with a sentence in err. */
int args_read_common(struct cli *cli, int argc, char **argv, gyre_error *err);

/* The core of args_read, without printing: GYRE_INVALID with the sentence. *help: --help was among the words. */
GYRE_CHECKED gyre_status args_parse(const struct usage *usage, const struct arg *args, size_t count, struct cli *cli, int *argc,
                                    char **argv, bool *help, gyre_error *err);

/* Says what was wrong with the words and where help is; returns CLI_MISUSED. For checks args_read cannot make. */
int args_misused(const struct usage *usage, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
