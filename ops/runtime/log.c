/* log: a line is built whole in one buffer and written by one write(2), so that lines of threads and of processes that share
 * stderr do not mix.
 *
 * The format is walked, not handed to vsnprintf: each pair's value is expanded alone, so that it can be quoted as one value
 * whatever a %s brought in. What a value may hold unquoted is a short list; everything else is quoted, and what could end a
 * line, move a terminal's cursor or turn the reading direction is escaped. */
#include "gyre/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_BYTES = 4096,      /* PIPE_BUF: a write of this size to a pipe is not mixed with others */
    VALUE_BYTES_MAX = 1024, /* before escaping; a longer value is cut and marked */
    SPEC_BYTES = 16,        /* "%-08.3llu" and the like */
};

/* What is built; bytes beyond the end are dropped and remembered. */
struct text {
    char *data;
    size_t bytes, capacity;
    bool cut;
};

static _Atomic gy_log_level lowest = GY_LOG_INFO;
static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

static void put(struct text *text, const char *data, size_t bytes);
static void put_value(struct text *line, const char *value, size_t bytes, bool cut);
static const char *put_conversion(struct text *value, const char *format, va_list *arguments);
static void write_whole(const char *data, size_t bytes);

void gy_log_set_level(gy_log_level level)
{
    atomic_store(&lowest, level);
}

bool gy_log_parse_level(const char *name, gy_log_level *out)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (gy_log_level)i;
            return true;
        }
    }
    return false;
}

static void put_head(struct text *line, gy_log_level level, const char *event)
{
    struct timespec now;
    struct tm utc;
    char stamp[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t bytes = strftime(stamp, sizeof stamp, "ts=%Y-%m-%dT%H:%M:%S", &utc);
    bytes += (size_t)snprintf(stamp + bytes, sizeof stamp - bytes, ".%03dZ level=", (int)(now.tv_nsec / 1000000));
    put(line, stamp, bytes);
    const char *name = level_names[level <= GY_LOG_ERROR ? level : GY_LOG_ERROR];
    put(line, name, strlen(name));
    put(line, " event=", 7);
    put_value(line, event, strlen(event), false);
}

/* Adds " key=value" for each pair of the format. */
static void put_pairs(struct text *line, const char *format, va_list *arguments)
{
    while (*format) {
        if (*format == ' ') {
            format++;
            continue;
        }
        size_t key_bytes = strcspn(format, "= ");
        put(line, " ", 1);
        put(line, format, key_bytes);
        format += key_bytes;
        if (*format != '=')
            continue;
        put(line, "=", 1);
        format++;
        char data[VALUE_BYTES_MAX];
        struct text value = {.data = data, .capacity = sizeof data};
        while (*format && *format != ' ') {
            if (*format == '%') {
                format = put_conversion(&value, format, arguments);
                if (!format)
                    return;
            } else {
                put(&value, format++, 1);
            }
        }
        put_value(line, value.data, value.bytes, value.cut);
    }
}

void gy_log(gy_log_level level, const char *event, const char *format, ...)
{
    if (level < atomic_load_explicit(&lowest, memory_order_relaxed))
        return;
    int saved_errno = errno; /* a log line must not change what its caller looks at next */
    char data[LINE_BYTES];
    struct text line = {.data = data, .capacity = sizeof data - sizeof " cut=line\n"};
    va_list arguments;
    va_start(arguments, format);
    put_head(&line, level, event);
    put_pairs(&line, format, &arguments);
    va_end(arguments);
    const char *end = line.cut ? " cut=line\n" : "\n";
    memcpy(data + line.bytes, end, strlen(end));
    write_whole(data, line.bytes + strlen(end));
    errno = saved_errno;
}

/* All or nothing: half an escape or half a character would be worse than none. */
static void put(struct text *text, const char *data, size_t bytes)
{
    if (text->cut || bytes > text->capacity - text->bytes) {
        text->cut = true;
        return;
    }
    memcpy(text->data + text->bytes, data, bytes);
    text->bytes += bytes;
}

/* Adds as much of a long %s as there is room for. */
static void put_some(struct text *text, const char *data, size_t bytes)
{
    size_t room = text->capacity - text->bytes;
    if (text->cut || bytes <= room) {
        put(text, data, bytes);
        return;
    }
    put(text, data, room);
    text->cut = true;
}

_Static_assert(sizeof(long) == sizeof(long long) && sizeof(size_t) == sizeof(long long), "put_conversion reads every long kind alike");

/* One conversion of printf, whose argument is taken from the list. Returns where the format goes on; NULL if it is none that
 * is known, for then the rest of the arguments cannot be found. */
static const char *put_conversion(struct text *value, const char *format, va_list *arguments)
{
    char spec[SPEC_BYTES] = "%", out[512];
    size_t bytes = 1;
    const char *at = format + 1;
    int precision = -1, longs = 0;
    bool size = false;
    for (; *at && strchr("-+ #0123456789.*hljzt", *at) && bytes < sizeof spec - 2; at++) {
        if (*at == '*') {
            precision = va_arg(*arguments, int);
            continue;
        }
        if (*at == 'l')
            longs++;
        size |= *at == 'z' || *at == 'j' || *at == 't';
        spec[bytes++] = *at;
    }
    int written = -1;
    switch (*at) {
    case '%':
        put(value, "%", 1);
        return at + 1;
    case 's': {
        const char *string = va_arg(*arguments, const char *);
        const char *dot = strchr(spec, '.');
        if (!string)
            string = "(null)";
        if (dot && precision < 0 && dot[1])
            precision = atoi(dot + 1);
        put_some(value, string, precision >= 0 ? strnlen(string, (size_t)precision) : strnlen(string, VALUE_BYTES_MAX + 1));
        return at + 1;
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
        spec[bytes] = *at;
        /* Every length but int is 64 bits wide, so the argument is read and printed as one. */
        if (longs || size) {
            bool is_signed = *at == 'd' || *at == 'i';
            long long number = va_arg(*arguments, long long);
            written = is_signed    ? snprintf(out, sizeof out, "%lld", number)
                      : *at == 'u' ? snprintf(out, sizeof out, "%llu", (unsigned long long)number)
                                   : snprintf(out, sizeof out, "%llx", (unsigned long long)number);
        } else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            written = snprintf(out, sizeof out, spec, va_arg(*arguments, int));
        }
        break;
    case 'f':
    case 'g':
    case 'e':
        spec[bytes] = *at;
        written = snprintf(out, sizeof out, spec, va_arg(*arguments, double));
#pragma GCC diagnostic pop
        break;
    default:
        put(value, "(bad format)", 12);
        return NULL;
    }
    if (written > 0)
        put_some(value, out, (size_t)written < sizeof out ? (size_t)written : sizeof out - 1);
    return at + 1;
}

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-_.:/,+@%*[](){}<>#!?^~;&|", c));
}

/* Bytes of the UTF-8 character at p, 0 if there is none; *out is its number. */
static size_t read_character(const unsigned char *p, size_t bytes, uint32_t *out)
{
    static const uint32_t lowest_of[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t wide = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (wide == 0 || wide > bytes)
        return 0;
    uint32_t character = wide == 1 ? p[0] : p[0] & (0x7fu >> wide);
    for (size_t i = 1; i < wide; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | (p[i] & 0x3f);
    }
    if (character < lowest_of[wide] || character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
        return 0;
    *out = character;
    return wide;
}

/* Characters that end a line, steer a terminal, or make a line read in another order than it was written. */
static bool must_be_escaped(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void put_value(struct text *line, const char *value, size_t bytes, bool cut)
{
    const unsigned char *p = (const unsigned char *)value;
    bool plain = bytes > 0 && !cut;
    for (size_t i = 0; i < bytes && plain; i++)
        plain = is_plain(p[i]);
    if (plain) {
        put(line, value, bytes);
        return;
    }
    /* The closing quote must fit even where the value is cut. */
    line->capacity -= 1;
    put(line, "\"", 1);
    for (size_t i = 0; i < bytes;) {
        uint32_t character = 0;
        char escape[8];
        size_t wide = read_character(p + i, bytes - i, &character);
        if (wide == 0)
            put(line, escape, (size_t)snprintf(escape, sizeof escape, "\\x%02x", p[i]));
        else if (character == '"' || character == '\\')
            put(line, (char[]){'\\', (char)character}, 2);
        else if (character == '\n')
            put(line, "\\n", 2);
        else if (must_be_escaped(character))
            put(line, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)character));
        else
            put(line, value + i, wide);
        i += wide ? wide : 1;
    }
    if (cut)
        put(line, "...", 3);
    line->capacity += 1;
    bool line_is_cut = line->cut;
    line->cut = false;
    put(line, "\"", 1);
    line->cut = line_is_cut;
}

static void write_whole(const char *data, size_t bytes)
{
    pthread_mutex_lock(&write_lock);
    while (bytes > 0) {
        ssize_t written = write(STDERR_FILENO, data, bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break; /* nobody is left to tell */
        data += written;
        bytes -= (size_t)written;
    }
    pthread_mutex_unlock(&write_lock);
}
