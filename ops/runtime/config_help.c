/* config_help: what --help and --print-config print, and the hint for a mistyped name. */
#include "config_internal.h"

#include <ctype.h>
#include <stdio.h>

enum { NAME_CHARS_MAX = 64, NEAR_EDITS_MAX = 2 };

const char *gy_config_section(const struct gy_program *program)
{
    static const char house[] = "gyre-";
    return strncmp(program->name, house, sizeof house - 1) == 0 ? program->name + sizeof house - 1 : program->name;
}

void gy_config_env_name(const struct gy_program *program, const char *option, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s_%s", program->name, option);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

static void print_option(const struct gy_program *program, const char *name, const char *value, const char *help, const char *fallback)
{
    char head[2 * NAME_CHARS_MAX], env[2 * NAME_CHARS_MAX];
    gy_config_env_name(program, name, env, sizeof env);
    snprintf(head, sizeof head, "--%s%s%s", name, value ? " " : "", value ? value : "");
    printf("  %-34s %s\n", head, help);
    if (!fallback)
        printf("  %-34s must be given; or %s\n", "", env);
    else
        printf("  %-34s default: %s; or %s\n", "", *fallback ? fallback : "none", env);
}

void gy_config_print_help(const struct gy_program *program)
{
    printf("%s - %s\n\nUsage: %s [--option value | --option=value]...\n\nOptions, strongest first: flag, environment, file, default.\n",
           program->name, program->summary, program->name);
    for (size_t i = 0; i < program->option_count; i++) {
        const struct gy_option *option = &program->options[i];
        bool is_switch = option->kind == GY_OPTION_SWITCH;
        print_option(program, option->name, is_switch ? NULL : option->value ? option->value : "VALUE", option->help, option->fallback);
    }
    char help[128];
    snprintf(help, sizeof help, "INI file with these options under [%s]", gy_config_section(program));
    print_option(program, "config", "FILE", help, "");
    printf("  %-34s print what is in force, as such a file\n  %-34s print the version\n  %-34s print this\n", "--print-config", "--version",
           "--help, -h");
    if (program->examples && *program->examples)
        printf("\nExamples:\n%s\n", program->examples);
}

void gy_config_print_values(const struct gy_program *program, const struct gy_given *given)
{
    printf("[%s]\n", gy_config_section(program));
    for (size_t i = 0; i < program->option_count; i++)
        printf("; from %s\n%s = %s\n", given[i].source, program->options[i].name, given[i].text);
}

/* Levenshtein's distance by one row of its table. */
static size_t edits(const char *a, const char *b)
{
    size_t row[NAME_CHARS_MAX + 1], width = strlen(b);
    if (width > NAME_CHARS_MAX || strlen(a) > NAME_CHARS_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            size_t skipped = (row[j + 1] < row[j] ? row[j + 1] : row[j]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < skipped ? replaced : skipped;
        }
    }
    return row[width];
}

const char *gy_config_nearest(const struct gy_program *program, const char *name)
{
    static const char *const built_in[] = {"config", "help", "version", "print-config"};
    const char *nearest = NULL;
    size_t least = NEAR_EDITS_MAX + 1;
    for (size_t i = 0; i < program->option_count + sizeof built_in / sizeof *built_in; i++) {
        const char *known = i < program->option_count ? program->options[i].name : built_in[i - program->option_count];
        size_t distance = edits(name, known);
        if (distance < least && distance < strlen(known))
            nearest = known, least = distance;
    }
    return nearest;
}
