/* source: see source.h. */
#include "source.h"

#include "lines.h"
#include "output.h"
#include "vectors.h"

#include <inttypes.h>
#include <stdlib.h>

struct row_source {
    struct source_options options;
    gy_vectors *vectors;
    gy_lines *ids, *payloads; /* NULL: none */
    size_t dim;
    uint64_t count;
    uint64_t next_row;
};

enum { POINT_OVERHEAD_BYTES = 48 }; /* of id, version and field headers on the wire */

/* Opens a file that has a line for each row, and goes to the first that is wanted. */
static gyre_status open_lines(const row_source *source, const char *path, size_t line_bytes_max, gy_lines **out, gyre_error *err)
{
    if (!path)
        return GYRE_OK;
    GY_TRY(gy_lines_open(out, path, line_bytes_max, err));
    GY_TRY(gy_lines_expect(*out, source->count, err));
    return gy_lines_skip(*out, source->options.start, err);
}

gyre_status source_open(row_source **out, const struct source_options *options, gyre_error *err)
{
    GY_AUTO(row_source) *opened = cli_alloc(1, sizeof *opened);
    opened->options = *options;
    opened->next_row = options->start;
    GY_TRY(gy_vectors_open(&opened->vectors, options->vectors_path, err));
    opened->dim = gy_vectors_dim(opened->vectors);
    opened->count = gy_vectors_count(opened->vectors);
    if (options->start > opened->count)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "--start %" PRIu64 ": %s has %" PRIu64 " rows", options->start, options->vectors_path,
                         opened->count);
    GY_TRY(gy_vectors_seek(opened->vectors, options->start, err));
    GY_TRY(open_lines(opened, options->ids_path, GY_LINES_ID_BYTES_MAX, &opened->ids, err));
    GY_TRY(open_lines(opened, options->payload_path, GY_LINES_PAYLOAD_BYTES_MAX, &opened->payloads, err));
    *out = GY_TAKE(opened);
    return GYRE_OK;
}

void source_close(row_source *source)
{
    if (!source)
        return;
    gy_vectors_close(source->vectors);
    gy_lines_close(source->ids);
    gy_lines_close(source->payloads);
    free(source);
}

size_t source_dim(const row_source *source)
{
    return source->dim;
}

uint64_t source_count(const row_source *source)
{
    return source->count;
}

uint64_t source_next_row(const row_source *source)
{
    return source->next_row;
}

source_run *source_run_new(const row_source *source)
{
    size_t rows = source->options.run_rows_max, fit = source->options.run_bytes_max / (source->dim * sizeof(float));
    if (fit < rows)
        rows = fit ? fit : 1;
    source_run *run = cli_alloc(1, sizeof *run);
    run->rows_max = rows;
    run->points = cli_alloc(rows, sizeof *run->points);
    run->sizes = cli_alloc(rows, sizeof *run->sizes);
    run->bodies = cli_alloc(rows, sizeof *run->bodies);
    run->ids = cli_alloc(rows, sizeof *run->ids);
    run->vectors = cli_alloc(rows, source->dim * sizeof(float));
    if (source->ids)
        run->uuids = cli_alloc(rows, sizeof *run->uuids);
    if (source->payloads)
        run->text_at = cli_alloc(rows, sizeof *run->text_at);
    /* What never changes between two uses of a run is set once. */
    for (size_t i = 0; i < rows; i++) {
        gyre__v1__point__init(&run->bodies[i]);
        gyre__v1__point_id__init(&run->ids[i]);
        run->ids[i].id_case = GYRE__V1__POINT_ID__ID_NUM;
        run->bodies[i].id = &run->ids[i];
        run->bodies[i].vector = run->vectors + i * source->dim;
        run->bodies[i].n_vector = source->dim;
        run->points[i] = &run->bodies[i];
    }
    return run;
}

void source_run_free(source_run *run)
{
    if (!run)
        return;
    free(run->points);
    free(run->sizes);
    free(run->bodies);
    free(run->ids);
    free(run->vectors);
    free(run->uuids);
    free(run->text);
    free(run->text_at);
    free(run);
}

static void keep_text(source_run *run, const char *line, size_t bytes)
{
    if (run->text_bytes_max - run->text_bytes < bytes + 1) {
        run->text_bytes_max = (run->text_bytes + bytes + 1) * 2; /* at most twice SOURCE_RUN_TEXT_BYTES and two lines */
        run->text = cli_resize(run->text, run->text_bytes_max, 1);
    }
    memcpy(run->text + run->text_bytes, line, bytes + 1);
    run->text_bytes += bytes + 1;
}

static gyre_status missing_line(const row_source *source, const char *path, uint64_t row, gyre_error *err)
{
    return gyre_fail(err, GYRE_CORRUPT, "%s ends before the line of row %" PRIu64 "; %s has %" PRIu64 " rows", path, row,
                     source->options.vectors_path, source->count);
}

/* Reads payloads for at most rows_max rows; sets run->rows. */
static gyre_status read_payloads(row_source *source, source_run *run, size_t rows_max, gyre_error *err)
{
    run->text_bytes = 0;
    for (run->rows = 0; run->rows < rows_max && run->text_bytes < SOURCE_RUN_TEXT_BYTES; run->rows++) {
        const char *line;
        size_t bytes;
        GY_TRY(gy_lines_next(source->payloads, &line, &bytes, err));
        if (!line)
            return missing_line(source, source->options.payload_path, run->first_row + run->rows, err);
        run->text_at[run->rows] = run->text_bytes;
        run->sizes[run->rows] = bytes;
        keep_text(run, line, bytes);
    }
    for (size_t i = 0; i < run->rows; i++) /* now that the text stays where it is */
        run->bodies[i].payload = run->text + run->text_at[i];
    return GYRE_OK;
}

static gyre_status read_ids(row_source *source, source_run *run, gyre_error *err)
{
    for (size_t i = 0; i < run->rows; i++) {
        const char *text;
        GY_TRY(gy_lines_next_id(source->ids, &text, err));
        if (!text)
            return missing_line(source, source->options.ids_path, run->first_row + i, err);
        gyre_status status = point_id_read(&run->ids[i], run->uuids[i], text, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "%s: line %" PRIu64, source->options.ids_path, gy_lines_number(source->ids));
    }
    return GYRE_OK;
}

gyre_status source_next(row_source *source, source_run *run, gyre_error *err)
{
    run->first_row = source->next_row;
    uint64_t left = source->count - source->next_row;
    size_t rows_max = left < run->rows_max ? (size_t)left : run->rows_max;
    run->rows = rows_max;
    memset(run->sizes, 0, rows_max * sizeof *run->sizes);
    if (source->payloads)
        GY_TRY(read_payloads(source, run, rows_max, err));
    if (source->ids)
        GY_TRY(read_ids(source, run, err));
    else
        for (size_t i = 0; i < run->rows; i++)
            run->ids[i].num = run->first_row + i;
    size_t read = 0;
    gyre_status status = run->rows ? gy_vectors_read(source->vectors, run->vectors, run->rows, &read, err) : GYRE_OK;
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "%s", source->options.vectors_path);
    if (read != run->rows)
        return gyre_fail(err, GYRE_CORRUPT, "%s ends at row %" PRIu64 " of %" PRIu64, source->options.vectors_path, run->first_row + read,
                         source->count);
    for (size_t i = 0; i < run->rows; i++)
        run->sizes[i] += source->dim * sizeof(float) + POINT_OVERHEAD_BYTES;
    source->next_row += run->rows;
    return GYRE_OK;
}
