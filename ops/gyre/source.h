/* source: the rows of a vector file with their ids and payloads, handed out in runs that fit in memory.
 *
 * A run's arrays are ready to be sent: messages point into them, nothing is copied again. Threads: one at a time per source; a run
 * belongs to whoever holds it. */
#ifndef GY_SOURCE_H
#define GY_SOURCE_H

#include "cli.h"

struct source_options {
    const char *vectors_path;
    const char *ids_path;      /* NULL: ids are row numbers */
    const char *payload_path;  /* NULL: no payloads */
    uint64_t start;            /* the first row to hand out */
    size_t run_rows_max;
    size_t run_bytes_max;      /* of vectors; a run has at least one row */
};

/* Rows first_row … first_row + rows - 1. */
typedef struct source_run {
    uint64_t first_row;
    size_t rows;
    size_t rows_max;
    Gyre__V1__Point **points; /* [rows], ready to be sent; everything in them belongs to the run */
    size_t *sizes;            /* [rows]: about how many bytes each is on the wire */
    /* what points point into */
    Gyre__V1__Point *bodies;
    Gyre__V1__PointId *ids;
    char (*uuids)[GYRE_UUID_TEXT_BYTES];
    float *vectors;
    char *text;               /* payloads, one after the other */
    size_t text_bytes, text_bytes_max;
    size_t *text_at;          /* [rows]: where each row's payload is */
} source_run;

typedef struct row_source row_source;

/* Opens the files, checks that ids and payloads have as many lines as there are vectors, and goes to the start row.
 * GYRE_OUT_OF_RANGE if that is beyond the end. */
GYRE_CHECKED gyre_status source_open(row_source **out, const struct source_options *options, gyre_error *err);
void source_close(row_source *source);
GY_AUTO_DEFINE(row_source, source_close)

size_t source_dim(const row_source *source);
uint64_t source_count(const row_source *source); /* rows of the file, also those before start */

/* The first row that was not handed out yet. */
uint64_t source_next_row(const row_source *source);

/* A run with room for run_rows_max rows, or as many as run_bytes_max hold. */
source_run *source_run_new(const row_source *source);
void source_run_free(source_run *run);
GY_AUTO_DEFINE(source_run, source_run_free)

/* Fills run with the next rows: at most rows_max, and no more payload than SOURCE_RUN_TEXT_BYTES if one row has less. rows is
 * 0 after the last. A failure names the file and the row; the source is of no more use then. */
enum { SOURCE_RUN_TEXT_BYTES = 4 << 20 };
GYRE_CHECKED gyre_status source_next(row_source *source, source_run *run, gyre_error *err);

#endif
