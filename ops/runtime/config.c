/* config: collects each option's text from the weakest source to the strongest, then turns all texts into values, then fills
 * the program's struct: a failure at any point leaves the struct as it was.
 *
 * The file is read whole, within a limit, and handed to libinih line by line by our own reader, because libinih cuts a long
 * line in two and reads its rest as another option, and because the reader knows the line's number. */
#include "config_internal.h"

#include "gyre/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 64 };

/* One file may configure the whole house: a program reads its own section and leaves these to the others. */
static const char *const house_sections[] = {"coordinator", "shard", "gyre"};

static const struct gy_option *find_option(const struct gy_program *program, const char *name, size_t *index)
{
    for (size_t i = 0; i < program->option_count; i++) {
        if (strcmp(program->options[i].name, name) == 0) {
            *index = i;
            return &program->options[i];
        }
    }
    return NULL;
}

/* Keeps a copy of text as the option's value; what was there came from a weaker source. */
static gyre_status give(struct gy_given *given, const char *text, const char *source, gyre_error *err)
{
    char *copy = strdup(text);
    if (!copy)
        return gyre_fail(err, GYRE_NO_MEMORY, "%s: a value of %zu bytes", source, strlen(text));
    free(given->text);
    given->text = copy;
    snprintf(given->source, sizeof given->source, "%s", source);
    return GYRE_OK;
}

static gyre_status unknown_option(const struct gy_program *program, const char *name, const char *source, gyre_error *err)
{
    const char *nearest = gy_config_nearest(program, name);
    return gyre_fail(err, GYRE_INVALID, "%s: unknown option '%.*s'%s%s%s", source, NAME_BYTES_MAX, name, nearest ? "; did you mean '" : "",
                     nearest ? nearest : "", nearest ? "'?" : "");
}

/* ---- the file ---- */

struct ini_source {
    const struct gy_program *program;
    struct gy_given *given;
    const char *file_name, *at, *end;
    unsigned line;
    bool seen[GY_CONFIG_OPTIONS_MAX];
    gyre_status status; /* the first failure; later lines are then not read */
    gyre_error *err;
};

/* fgets for libinih over memory: one whole line, or a failure. */
static char *next_line(char *out, int capacity, void *stream)
{
    struct ini_source *source = stream;
    if (source->status != GYRE_OK || source->at == source->end)
        return NULL;
    source->line++;
    size_t left = (size_t)(source->end - source->at);
    const char *newline = memchr(source->at, '\n', left);
    size_t bytes = newline ? (size_t)(newline - source->at) + 1 : left;
    if (bytes >= (size_t)capacity) {
        source->status = gyre_fail(source->err, GYRE_INVALID, "%s:%u: a line of %zu bytes; %d is the limit", source->file_name,
                                   source->line, bytes, capacity - 1);
        return NULL;
    }
    if (memchr(source->at, 0, bytes)) {
        source->status = gyre_fail(source->err, GYRE_INVALID, "%s:%u: a zero byte; this is no text file", source->file_name, source->line);
        return NULL;
    }
    memcpy(out, source->at, bytes);
    out[bytes] = 0;
    source->at += bytes;
    return out;
}

static gyre_status take_pair(struct ini_source *source, const char *section, const char *name, const char *value)
{
    const char *own = gy_config_section(source->program);
    char where[GY_CONFIG_SOURCE_BYTES];
    snprintf(where, sizeof where, "%.120s:%u", source->file_name, source->line);
    if (strcmp(section, own) != 0) {
        for (size_t i = 0; i < sizeof house_sections / sizeof *house_sections; i++) {
            if (strcmp(section, house_sections[i]) == 0)
                return GYRE_OK;
        }
        return gyre_fail(source->err, GYRE_INVALID, "%s: '%.*s' stands in section [%.*s]; %s reads [%s]", where, NAME_BYTES_MAX, name,
                         NAME_BYTES_MAX, section, source->program->name, own);
    }
    size_t index;
    const struct gy_option *option = find_option(source->program, name, &index);
    if (!option)
        return unknown_option(source->program, name, where, source->err);
    if (source->seen[index])
        return gyre_fail(source->err, GYRE_INVALID, "%s: '%s' is set a second time, or its value goes on over a second line", where, name);
    source->seen[index] = true;
    /* Checked here, not only if it wins, so that a mistake in the file shows at once. */
    struct gy_option_value checked = {0};
    GY_TRY(gy_option_parse(option, value, where, &checked, source->err));
    free(checked.text);
    return give(&source->given[index], value, where, source->err);
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct ini_source *source = user;
    if (source->status == GYRE_OK)
        source->status = take_pair(source, section, name, value);
    return source->status == GYRE_OK;
}

gyre_status gy_config_read_text(const struct gy_program *program, struct gy_given *given, const char *file_name, const char *text,
                                size_t bytes, gyre_error *err)
{
    if (program->option_count > GY_CONFIG_OPTIONS_MAX)
        return gyre_fail(err, GYRE_INTERNAL, "%s has %zu options; %d is the limit", program->name, program->option_count, GY_CONFIG_OPTIONS_MAX);
    struct ini_source source = {.program = program, .given = given, .file_name = file_name, .at = text, .end = text + bytes, .err = err};
    int line = ini_parse_stream(next_line, &source, on_pair, &source);
    /* libinih goes on after a line it cannot read: what was wrong first is what is told. */
    bool unreadable_first = line > 0 && (source.status == GYRE_OK || (unsigned)line < source.line);
    if (unreadable_first)
        return gyre_fail(err, GYRE_INVALID, "%s:%d: neither [section] nor 'name = value'", file_name, line);
    GY_TRY(source.status);
    if (line < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "%s: no memory to read a line", file_name);
    return GYRE_OK;
}

/* Reads a whole file of at most the limit; the caller frees. */
static gyre_status read_file(const char *path, char **out, size_t *out_bytes, gyre_error *err)
{
    /* O_NONBLOCK: a pipe in the file's place must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return gyre_fail(err, errno == ENOENT ? GYRE_NOT_FOUND : GYRE_UNAVAILABLE, "config file %s: %s", path, strerror(errno));
    struct stat info;
    FILE *file = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? fdopen(fd, "r") : NULL;
    if (!file) {
        close(fd);
        return gyre_fail(err, GYRE_INVALID, "config file %s: not a regular file", path);
    }
    char *text = malloc(GY_CONFIG_FILE_BYTES_MAX + 1);
    size_t bytes = text ? fread(text, 1, GY_CONFIG_FILE_BYTES_MAX + 1, file) : 0;
    bool failed = ferror(file) != 0;
    fclose(file);
    gyre_status status = GYRE_OK;
    if (!text)
        status = gyre_fail(err, GYRE_NO_MEMORY, "config file %s", path);
    else if (failed)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "config file %s: reading failed", path);
    else if (bytes > GY_CONFIG_FILE_BYTES_MAX)
        status = gyre_fail(err, GYRE_INVALID, "config file %s: longer than %d bytes", path, GY_CONFIG_FILE_BYTES_MAX);
    if (status != GYRE_OK) {
        free(text);
        return status;
    }
    *out = text;
    *out_bytes = bytes;
    return GYRE_OK;
}

static gyre_status take_file(const struct gy_program *program, struct gy_given *given, const char *path, gyre_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    GY_TRY(read_file(path, &text, &bytes, err));
    gyre_status status = gy_config_read_text(program, given, path, text, bytes, err);
    free(text);
    return status;
}

/* ---- flags ---- */

struct flags {
    struct gy_given *given; /* [option_count] */
    const char *config_path;
    bool help, version, print;
};

/* One flag at argv[*at], which is moved past its value. */
static gyre_status take_flag(const struct gy_program *program, int argc, char **argv, int *at, struct flags *flags, gyre_error *err)
{
    const char *word = argv[*at];
    if (strcmp(word, "-h") == 0) {
        flags->help = true;
        return GYRE_OK;
    }
    if (strncmp(word, "--", 2) != 0 || word[2] == 0)
        return gyre_fail(err, GYRE_INVALID, "unexpected argument '%.*s'; options are given as --name value, see --help", NAME_BYTES_MAX, word);
    char name[NAME_BYTES_MAX];
    const char *equals = strchr(word, '='), *value = equals ? equals + 1 : NULL;
    size_t name_bytes = equals ? (size_t)(equals - word - 2) : strlen(word) - 2;
    if (name_bytes >= sizeof name)
        return gyre_fail(err, GYRE_INVALID, "command line: unknown option '%.*s'", NAME_BYTES_MAX, word + 2);
    memcpy(name, word + 2, name_bytes);
    name[name_bytes] = 0;

    bool *const built_in = strcmp(name, "help") == 0           ? &flags->help
                           : strcmp(name, "version") == 0      ? &flags->version
                           : strcmp(name, "print-config") == 0 ? &flags->print
                                                               : NULL;
    if (built_in) {
        if (value)
            return gyre_fail(err, GYRE_INVALID, "--%s takes no value", name);
        *built_in = true;
        return GYRE_OK;
    }
    size_t index = 0;
    bool is_config = strcmp(name, "config") == 0;
    const struct gy_option *option = is_config ? NULL : find_option(program, name, &index);
    if (!option && !is_config)
        return unknown_option(program, name, "command line", err);
    if (!value && option && option->kind == GY_OPTION_SWITCH)
        value = "on";
    if (!value) {
        if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0)
            return gyre_fail(err, GYRE_INVALID, "--%s needs a value (one that begins with -- is given as --%s=VALUE)", name, name);
        value = argv[++*at];
    }
    if (is_config) {
        flags->config_path = value;
        return GYRE_OK;
    }
    char source[GY_CONFIG_SOURCE_BYTES];
    snprintf(source, sizeof source, "--%s", name);
    return give(&flags->given[index], value, source, err);
}

/* ---- all of it ---- */

/* An empty variable counts as not set: service managers and containers pass them so. */
static const char *environment(const struct gy_program *program, const char *option, char *name, size_t name_bytes)
{
    gy_config_env_name(program, option, name, name_bytes);
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Gives each option the text of its strongest source. */
static gyre_status collect(const struct gy_program *program, const struct flags *flags, struct gy_given *given, gyre_error *err)
{
    char name[GY_CONFIG_SOURCE_BYTES];
    for (size_t i = 0; i < program->option_count; i++) {
        if (program->options[i].fallback)
            GY_TRY(give(&given[i], program->options[i].fallback, "default", err));
    }
    const char *path = flags->config_path ? flags->config_path : environment(program, "config", name, sizeof name);
    if (path)
        GY_TRY(take_file(program, given, path, err));
    for (size_t i = 0; i < program->option_count; i++) {
        const char *value = environment(program, program->options[i].name, name, sizeof name);
        if (value)
            GY_TRY(give(&given[i], value, name, err));
        if (flags->given[i].text)
            GY_TRY(give(&given[i], flags->given[i].text, flags->given[i].source, err));
        if (!given[i].text) {
            gy_config_env_name(program, program->options[i].name, name, sizeof name);
            return gyre_fail(err, GYRE_INVALID, "%s must be given: by --%s, by %s, or by '%s = ...' under [%s] of the file of --config",
                             program->options[i].name, program->options[i].name, name, program->options[i].name, gy_config_section(program));
        }
    }
    return GYRE_OK;
}

static void put_value(const struct gy_option *option, struct gy_option_value *value, void *target)
{
    void *field = (char *)target + option->offset;
    if (option->kind == GY_OPTION_TEXT) {
        *(char **)field = value->text;
        value->text = NULL;
    } else if (option->kind == GY_OPTION_SWITCH) {
        *(bool *)field = value->on;
    } else {
        *(uint64_t *)field = value->number;
    }
}

static gyre_status read_all(const struct gy_program *program, int argc, char **argv, struct flags *flags, struct gy_given *given,
                            struct gy_option_value *values, void *target, bool *stop, gyre_error *err)
{
    for (int at = 1; at < argc; at++)
        GY_TRY(take_flag(program, argc, argv, &at, flags, err));
    if (flags->help || flags->version) {
        if (flags->help)
            gy_config_print_help(program);
        else
            printf("%s %s\n", program->name, gy_version());
        *stop = true;
        return GYRE_OK;
    }
    GY_TRY(collect(program, flags, given, err));
    for (size_t i = 0; i < program->option_count; i++)
        GY_TRY(gy_option_parse(&program->options[i], given[i].text, given[i].source, &values[i], err));
    if (flags->print) {
        gy_config_print_values(program, given);
        *stop = true;
        return GYRE_OK;
    }
    for (size_t i = 0; i < program->option_count; i++)
        put_value(&program->options[i], &values[i], target);
    *stop = false;
    return GYRE_OK;
}

gyre_status gy_config_read(const struct gy_program *program, int argc, char **argv, void *target, bool *stop, gyre_error *err)
{
    size_t count = program->option_count ? program->option_count : 1;
    struct gy_given *given = calloc(count, sizeof *given);
    struct gy_option_value *values = calloc(count, sizeof *values);
    struct flags flags = {.given = calloc(count, sizeof *flags.given)};
    gyre_status status = given && values && flags.given
                             ? read_all(program, argc, argv, &flags, given, values, target, stop, err)
                             : gyre_fail(err, GYRE_NO_MEMORY, "configuration of %zu options", count);
    for (size_t i = 0; i < count; i++) {
        if (given)
            free(given[i].text);
        if (values)
            free(values[i].text);
        if (flags.given)
            free(flags.given[i].text);
    }
    free(given);
    free(values);
    free(flags.given);
    return status;
}

void gy_config_free(const struct gy_program *program, void *target)
{
    for (size_t i = 0; i < program->option_count; i++) {
        if (program->options[i].kind != GY_OPTION_TEXT)
            continue;
        char **field = (char **)(void *)((char *)target + program->options[i].offset);
        free(*field);
        *field = NULL;
    }
}
