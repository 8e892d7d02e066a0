/* lines: text files that go along with vectors, a line per row, as a stream: ids (one a line) and payloads (JSON lines).
 *
 * A line ends with \n or \r\n; the last one's end may be missing. A byte order mark is skipped. A line over the limit and a
 * zero byte are refused with the line's number. Memory grows with the longest line, up to the limit. One thread a reader. */
#ifndef GY_LINES_H
#define GY_LINES_H

#include "gyre/base.h"

enum {
    GY_LINES_PAYLOAD_BYTES_MAX = 1 << 20,
    GY_LINES_ID_BYTES_MAX = 64,           /* a UUID has 36, a number 20 */
};

typedef struct gy_lines gy_lines;

GYRE_CHECKED gyre_status gy_lines_open(gy_lines **out, const char *path, size_t line_bytes_max, gyre_error *err);
/* Reads the whole file once and goes back to its start: GYRE_INVALID unless it has exactly rows lines, so that a payload
 * file of another data set is found out before the first write. */
GYRE_CHECKED gyre_status gy_lines_expect(gy_lines *lines, uint64_t rows, gyre_error *err);
/* The next line, without its end, terminated; valid until the next call. *line is NULL after the last one. */
GYRE_CHECKED gyre_status gy_lines_next(gy_lines *lines, const char **line, size_t *bytes, gyre_error *err);
/* The next line as an id: blanks around it are cut off; GYRE_INVALID if nothing is left. Whether it is an id is up to the
 * caller. *id is NULL after the last one. */
GYRE_CHECKED gyre_status gy_lines_next_id(gy_lines *lines, const char **id, gyre_error *err);
/* Goes over count lines, for an import that is resumed. GYRE_OUT_OF_RANGE if there are fewer. */
GYRE_CHECKED gyre_status gy_lines_skip(gy_lines *lines, uint64_t count, gyre_error *err);
/* The number of the line read last, from 1; 0 before the first. */
uint64_t gy_lines_number(const gy_lines *lines);
void gy_lines_close(gy_lines *lines);

#endif
