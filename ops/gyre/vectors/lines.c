/* lines: a window over the file that holds at least the line being read; it moves to the front of its buffer when more is
 * needed and the buffer doubles, up to the limit, when one line fills it. */
#include "lines.h"

#include "vectors_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { START_BYTES = 65536, END_BYTES = 2 /* \r\n */, MARK_BYTES = 3 };

struct gy_lines {
    FILE *file;
    char *path;                        /* for sentences */
    size_t line_bytes_max;
    char *buffer;                      /* [capacity + 1], for the terminator */
    size_t capacity, begin, end;       /* unread bytes: begin to end */
    size_t searched;                   /* of them, these hold no line end */
    uint64_t number;
    bool ended;                        /* the file has no more */
};

gyre_status gy_lines_open_stream(gy_lines **out, FILE *file, size_t line_bytes_max, gyre_error *err)
{
    gy_lines *lines = calloc(1, sizeof *lines);
    char *buffer = malloc(START_BYTES + 1);
    char *path = strdup("text");
    if (!lines || !buffer || !path) {
        free(lines);
        free(buffer);
        free(path);
        return gyre_fail(err, GYRE_NO_MEMORY, "a buffer of %d bytes", START_BYTES);
    }
    *lines = (gy_lines){.file = file, .path = path, .line_bytes_max = line_bytes_max, .buffer = buffer, .capacity = START_BYTES};
    *out = lines;
    return GYRE_OK;
}

gyre_status gy_lines_open(gy_lines **out, const char *path, size_t line_bytes_max, gyre_error *err)
{
    FILE *file;
    uint64_t bytes;
    GY_TRY(gy_open_regular(path, &file, &bytes, err));
    char *copy = strdup(path);
    gy_lines *lines = NULL;
    gyre_status status = copy ? gy_lines_open_stream(&lines, file, line_bytes_max, err) : gyre_fail(err, GYRE_NO_MEMORY, "a path");
    if (status != GYRE_OK) {
        free(copy);
        fclose(file);
        return gyre_wrap(err, status, "%s", path);
    }
    free(lines->path);
    lines->path = copy;
    *out = lines;
    return GYRE_OK;
}

static gyre_status grow(gy_lines *lines, gyre_error *err)
{
    size_t capacity = 2 * lines->capacity;
    char *buffer = realloc(lines->buffer, capacity + 1);
    if (!buffer)
        return gyre_fail(err, GYRE_NO_MEMORY, "%s:%" PRIu64 ": a line of over %zu bytes", lines->path, lines->number + 1, lines->capacity);
    lines->buffer = buffer;
    lines->capacity = capacity;
    return GYRE_OK;
}

/* Brings more of the file into the window. */
static gyre_status fill(gy_lines *lines, gyre_error *err)
{
    memmove(lines->buffer, lines->buffer + lines->begin, lines->end - lines->begin);
    lines->end -= lines->begin;
    lines->begin = 0;
    if (lines->end == lines->capacity)
        GY_TRY(grow(lines, err));
    size_t got = fread(lines->buffer + lines->end, 1, lines->capacity - lines->end, lines->file);
    if (got == 0 && ferror(lines->file))
        return gyre_fail(err, GYRE_UNAVAILABLE, "%s:%" PRIu64 ": reading failed: %s", lines->path, lines->number + 1, strerror(errno));
    lines->ended = got == 0;
    lines->end += got;
    return GYRE_OK;
}

/* Finds the end of the line that starts at begin: *bytes without its \n, *taken with it. */
static gyre_status find_end(gy_lines *lines, size_t *bytes, size_t *taken, gyre_error *err)
{
    for (;;) {
        size_t there = lines->end - lines->begin;
        const char *start = lines->buffer + lines->begin;
        const char *newline = there > lines->searched ? memchr(start + lines->searched, '\n', there - lines->searched) : NULL;
        if (newline || lines->ended) {
            *bytes = newline ? (size_t)(newline - start) : there;
            *taken = *bytes + (newline ? 1 : 0);
            return GYRE_OK;
        }
        lines->searched = there;
        if (there > lines->line_bytes_max + END_BYTES + MARK_BYTES)
            break;
        GY_TRY(fill(lines, err));
    }
    return gyre_fail(err, GYRE_INVALID, "%s:%" PRIu64 ": the line is longer than %zu bytes", lines->path, lines->number + 1, lines->line_bytes_max);
}

gyre_status gy_lines_next(gy_lines *lines, const char **line, size_t *bytes, gyre_error *err)
{
    size_t found = 0, taken = 0;
    GY_TRY(find_end(lines, &found, &taken, err));
    char *start = lines->buffer + lines->begin;
    if (taken == 0) {
        *line = NULL;
        *bytes = 0;
        return GYRE_OK;
    }
    size_t mark = lines->number == 0 && found >= MARK_BYTES && memcmp(start, "\xef\xbb\xbf", MARK_BYTES) == 0 ? MARK_BYTES : 0;
    start += mark;
    found -= mark;
    if (found > 0 && start[found - 1] == '\r')
        found--;
    if (found > lines->line_bytes_max)
        return gyre_fail(err, GYRE_INVALID, "%s:%" PRIu64 ": the line is longer than %zu bytes", lines->path, lines->number + 1, lines->line_bytes_max);
    if (memchr(start, 0, found))
        return gyre_fail(err, GYRE_CORRUPT, "%s:%" PRIu64 ": a zero byte; this is no text file", lines->path, lines->number + 1);
    start[found] = 0; /* on the line's end, or on the byte that the buffer has to spare */
    lines->begin += taken;
    lines->searched = 0;
    lines->number++;
    *line = start;
    *bytes = found;
    return GYRE_OK;
}

gyre_status gy_lines_next_id(gy_lines *lines, const char **id, gyre_error *err)
{
    const char *line;
    size_t bytes;
    GY_TRY(gy_lines_next(lines, &line, &bytes, err));
    if (line) {
        while (bytes > 0 && (line[bytes - 1] == ' ' || line[bytes - 1] == '\t'))
            bytes--;
        lines->buffer[(size_t)(line - lines->buffer) + bytes] = 0;
        line += strspn(line, " \t");
        if (*line == 0)
            return gyre_fail(err, GYRE_INVALID, "%s:%" PRIu64 ": the line is empty; an id is expected", lines->path, lines->number);
    }
    *id = line;
    return GYRE_OK;
}

static gyre_status rewind_lines(gy_lines *lines, gyre_error *err)
{
    if (fseeko(lines->file, 0, SEEK_SET) != 0)
        return gyre_fail(err, GYRE_UNAVAILABLE, "%s: going back to its start: %s", lines->path, strerror(errno));
    lines->begin = lines->end = lines->searched = 0;
    lines->number = 0;
    lines->ended = false;
    return GYRE_OK;
}

gyre_status gy_lines_expect(gy_lines *lines, uint64_t rows, gyre_error *err)
{
    const char *line;
    size_t bytes;
    GY_TRY(rewind_lines(lines, err));
    do
        GY_TRY(gy_lines_next(lines, &line, &bytes, err));
    while (line);
    if (lines->number != rows)
        return gyre_fail(err, GYRE_INVALID, "%s has %" PRIu64 " lines; there are %" PRIu64 " vectors", lines->path, lines->number, rows);
    return rewind_lines(lines, err);
}

gyre_status gy_lines_skip(gy_lines *lines, uint64_t count, gyre_error *err)
{
    for (uint64_t i = 0; i < count; i++) {
        const char *line;
        size_t bytes;
        GY_TRY(gy_lines_next(lines, &line, &bytes, err));
        if (!line)
            return gyre_fail(err, GYRE_OUT_OF_RANGE, "%s ends after %" PRIu64 " lines", lines->path, lines->number);
    }
    return GYRE_OK;
}

uint64_t gy_lines_number(const gy_lines *lines)
{
    return lines->number;
}

void gy_lines_close(gy_lines *lines)
{
    if (!lines)
        return;
    fclose(lines->file);
    free(lines->path);
    free(lines->buffer);
    free(lines);
}
