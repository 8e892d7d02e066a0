/* config_values: the text of an option, wherever it came from, to its value. */
#include "config_internal.h"

#include "gyre/lifecycle.h"

#include <stdlib.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit byte_units[] = {{"", 1},         {"k", 1u << 10}, {"K", 1u << 10}, {"m", 1u << 20}, {"M", 1u << 20},
                                         {"g", 1u << 30}, {"G", 1u << 30}, {NULL, 0}};
static const struct unit time_units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const char *const on_words[] = {"on", "true", "yes", "1", NULL};
static const char *const off_words[] = {"off", "false", "no", "0", NULL};

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(text, *words) == 0)
            return true;
    }
    return false;
}

/* Digits and a unit; false if it is anything else or does not fit 64 bits. */
static bool parse_number(const char *text, const struct unit *units, uint64_t *out)
{
    uint64_t number = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(number, 10u, &number) || __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
            return false;
    }
    for (; units->suffix; units++) {
        if (strcmp(text, units->suffix) == 0)
            return !__builtin_mul_overflow(number, units->factor, out);
    }
    return false;
}

static gyre_status parse_limited(const struct gy_option *option, const char *text, const char *source, const struct unit *units,
                                 const char *form, uint64_t *out, gyre_error *err)
{
    uint64_t number;
    if (!parse_number(text, units, &number))
        return gyre_fail(err, GYRE_INVALID, "%s (%s): '%.60s' is no %s", option->name, source, text, form);
    if ((option->low || option->high) && (number < option->low || number > option->high))
        return gyre_fail(err, GYRE_INVALID, "%s (%s): %.60s is outside %llu to %llu", option->name, source, text,
                         (unsigned long long)option->low, (unsigned long long)option->high);
    *out = number;
    return GYRE_OK;
}

/* A share of the memory there is, or a size. */
static gyre_status parse_memory(const struct gy_option *option, const char *text, const char *source, uint64_t *out,
                                gyre_error *err)
{
    static const struct unit percent[] = {{"%", 1}, {NULL, 0}};
    uint64_t share, limit;
    if (!parse_number(text, percent, &share))
        return parse_limited(option, text, source, byte_units, "size; examples: 64M, 2G, 85%", out, err);
    if (share < 1 || share > 100)
        return gyre_fail(err, GYRE_INVALID, "%s (%s): %.60s is outside 1%% to 100%%", option->name, source, text);
    limit = gy_memory_limit("");
    if (limit == 0)
        return gyre_fail(err, GYRE_INVALID, "%s (%s): %.60s of a memory whose size the system does not tell; say a size: 64M, 2G",
                         option->name, source, text);
    *out = limit / 100 * share;
    return GYRE_OK;
}

gyre_status gy_option_parse(const struct gy_option *option, const char *text, const char *source, struct gy_option_value *out,
                            gyre_error *err)
{
    switch (option->kind) {
    case GY_OPTION_TEXT:
        out->text = strdup(text);
        return out->text ? GYRE_OK
                         : gyre_fail(err, GYRE_NO_MEMORY, "%s (%s): a text of %zu bytes", option->name, source, strlen(text));
    case GY_OPTION_BYTES:
        return parse_limited(option, text, source, byte_units, "size; examples: 64, 64k, 64M, 2G", &out->number, err);
    case GY_OPTION_MEMORY:
        return parse_memory(option, text, source, &out->number, err);
    case GY_OPTION_COUNT:
        return parse_limited(option, text, source, no_units, "number; digits are expected", &out->number, err);
    case GY_OPTION_MILLIS:
        return parse_limited(option, text, source, time_units, "time; examples: 500ms, 3s, 2m", &out->number, err);
    case GY_OPTION_SWITCH:
        if (!is_one_of(text, on_words) && !is_one_of(text, off_words))
            return gyre_fail(err, GYRE_INVALID, "%s (%s): '%.60s' is neither on, true, yes nor off, false, no", option->name,
                             source, text);
        out->on = is_one_of(text, on_words);
        return GYRE_OK;
    }
    return gyre_fail(err, GYRE_INTERNAL, "%s: an option of unknown kind %d", option->name, (int)option->kind);
}
