/* config_internal: what config.c (sources and their order), config_values.c (text to values) and config_help.c (what is
 * printed) share. */
#ifndef GY_CONFIG_INTERNAL_H
#define GY_CONFIG_INTERNAL_H

#include "gyre/config.h"

enum {
    GY_CONFIG_FILE_BYTES_MAX = 1 << 20,
    GY_CONFIG_SOURCE_BYTES = 160,
    GY_CONFIG_OPTIONS_MAX = 256,
};

/* One option as given: the text, and where it came from, for messages. */
struct gy_given {
    char *text; /* owned; NULL: not given */
    char source[GY_CONFIG_SOURCE_BYTES];
};

/* An option's value before it is put into the program's struct. */
struct gy_option_value {
    char *text; /* of GY_OPTION_TEXT; owned */
    uint64_t number;
    bool on;
};

/* Reads an INI text of exactly bytes bytes into given[program->option_count]; entries that are given already are replaced.
 * GYRE_INVALID names file and line. Never reads past the end: this is what the fuzzer calls. */
GYRE_CHECKED gyre_status gy_config_read_text(const struct gy_program *program, struct gy_given *given, const char *file_name,
                                             const char *text, size_t bytes, gyre_error *err);
/* Turns a text into a value of the option's kind, within its limits. source is named in the sentence. */
GYRE_CHECKED gyre_status gy_option_parse(const struct gy_option *option, const char *text, const char *source,
                                         struct gy_option_value *out, gyre_error *err);

/* "GYRE_SHARD_" + NAME, and the INI section "shard", of program "gyre-shard" ("GYRE_" and "gyre" of "gyre"). */
void gy_config_env_name(const struct gy_program *program, const char *option, char *out, size_t bytes);
const char *gy_config_section(const struct gy_program *program);

void gy_config_print_help(const struct gy_program *program);
/* An INI text that, read back, gives the same configuration; INI cannot say blanks at a value's ends, nor " ;" in it. */
void gy_config_print_values(const struct gy_program *program, const struct gy_given *given);
/* The option whose name is nearest to a mistyped one, NULL if none is near. */
const char *gy_config_nearest(const struct gy_program *program, const char *name);

#endif
