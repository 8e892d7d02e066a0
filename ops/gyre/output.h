/* output: how results look: tables for people, JSON for programs. */
#ifndef GY_OUTPUT_H
#define GY_OUTPUT_H

#include "cli.h"

#include <jansson.h>
#include <stdio.h>

/* A table that is printed once it is full, so that columns fit. */
struct column {
    const char *name;
    bool right; /* numbers */
};
struct table {
    const struct column *columns;
    size_t column_count;
    char **cells; /* row by row */
    size_t cell_count;
};
/* Adds the next cell, left to right. Control characters in it are shown as '?', so that stored text cannot move the cursor. */
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints header and rows, columns two spaces apart, no space at line ends; frees the cells. A table without rows prints nothing. */
void table_print(struct table *table, FILE *out);

/* Text of numbers; each returns out. */
enum { NUMBER_TEXT_BYTES = 32 };
char *number_text(uint64_t number, char out[NUMBER_TEXT_BYTES]);   /* 1,234,567 */
char *bytes_text(uint64_t bytes, char out[NUMBER_TEXT_BYTES]);     /* 1.5 GiB */
char *duration_text(double seconds, char out[NUMBER_TEXT_BYTES]);  /* 0:07, 1:02:03 */

/* Replaces control characters (also the two-byte ones of UTF-8) by '?', in place; returns text. */
char *text_harmless(char *text);

/* Writes value as JSON and a newline and releases it. Reals have 9 digits: a float survives. */
void json_write(json_t *value, FILE *out);
/* The same in one line. */
void json_write_line(json_t *value, FILE *out);
/* A number id as an integer (above 2^63-1: a string of digits, which JSON readers keep whole), a UUID as a string. */
json_t *json_point_id(const Gyre__V1__PointId *id);
/* The payload as the object it is; null when empty, a string when it cannot be read. */
json_t *json_payload(const char *payload);
json_t *json_vector(const float *vector, size_t dim);

/* Text of an id from a reply; returns out. A message without an id gives "?". */
enum { ID_TEXT_BYTES = 64 };
char *point_id_text(const Gyre__V1__PointId *id, char out[ID_TEXT_BYTES]);
/* Fills a message from what a person typed; uuid must outlive it. */
GYRE_CHECKED gyre_status point_id_read(Gyre__V1__PointId *out, char uuid[GYRE_UUID_TEXT_BYTES], const char *text, gyre_error *err);

#endif
