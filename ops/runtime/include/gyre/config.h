/* config: one table of options per program; each may come from a flag, the environment, an INI file, or its default, in that
 * order of strength. The same table prints --help and --print-config.
 *
 * Option "listen" of program "gyre-shard" is --listen, GYRE_SHARD_LISTEN, and `listen = …` under [shard] of the file that
 * --config (or GYRE_SHARD_CONFIG) names. An unknown key in the file is an error that names file and line. */
#ifndef GYRE_CONFIG_H
#define GYRE_CONFIG_H

#include "gyre/base.h"

typedef enum gy_option_kind {
    GY_OPTION_TEXT,   /* char *          (allocated, owned by the struct; gy_config_free frees) */
    GY_OPTION_BYTES,  /* uint64_t        "64", "64k", "64M", "2G" (powers of 1024) */
    GY_OPTION_MEMORY, /* uint64_t        as BYTES, or "85%" of gy_memory_limit */
    GY_OPTION_COUNT,  /* uint64_t        digits */
    GY_OPTION_MILLIS, /* uint64_t        "500", "500ms", "3s", "2m" */
    GY_OPTION_SWITCH, /* bool            on/off, true/false, yes/no; as a flag without value: on */
} gy_option_kind;

struct gy_option {
    const char *name;     /* "message-bytes-max" */
    gy_option_kind kind;
    size_t offset;        /* of the field in the program's struct */
    const char *fallback; /* default as text; NULL: must be given */
    uint64_t low, high;   /* limits of numbers, checked; both 0: none */
    const char *value;    /* word for --help: "ADDRESS" */
    const char *help;
};

struct gy_program {
    const char *name;     /* "gyre-shard" */
    const char *summary;  /* one line */
    const char *examples; /* lines for the end of --help */
    const struct gy_option *options;
    size_t option_count;
};

/* Fills target (zeroed by the caller) from argv, environ and file. --help and --version print to stdout and set *stop; the
 * program then exits 0. GYRE_INVALID names the option, where it came from, and what is allowed. */
GYRE_CHECKED gyre_status gy_config_read(const struct gy_program *program, int argc, char **argv, void *target, bool *stop, gyre_error *err);
void gy_config_free(const struct gy_program *program, void *target);

#endif
