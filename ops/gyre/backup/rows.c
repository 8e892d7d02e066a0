/* rows: see rows.h. */
#include "backup/rows.h"

#include <stdlib.h>

enum { RUN_BYTES = 4 << 20, POINT_OVERHEAD_BYTES = 56 /* of id, version and field headers on the wire */ };

struct backup_rows {
    const char *dir;
    const backup_manifest *manifest;
    size_t generation;
    const struct backup_generation *made;
    size_t run_rows;
    uint64_t start;      /* points before it are passed over */
    uint32_t shard;      /* that is read */
    backup_chain *chain; /* NULL: not begun */
    uint64_t row;        /* points read */
    uint64_t every;      /* so-manieth point is sampled */
    struct sampled sample[ROWS_SAMPLE];
    size_t sampled;
};

backup_rows *backup_rows_new(const char *dir, const backup_manifest *manifest, size_t generation, uint64_t start, size_t run_rows)
{
    backup_rows *rows = cli_alloc(1, sizeof *rows);
    const struct backup_generation *made = &manifest->generations[generation];
    *rows = (backup_rows){.dir = dir, .manifest = manifest, .generation = generation, .made = made, .run_rows = run_rows,
                          .start = start, .every = generation_count(made) / ROWS_SAMPLE + 1};
    return rows;
}

void backup_rows_free(backup_rows *rows)
{
    if (!rows)
        return;
    chain_close(rows->chain);
    for (size_t i = 0; i < rows->sampled; i++)
        free(rows->sample[i].vector), free(rows->sample[i].payload);
    free(rows);
}

source_run *backup_rows_run_new(void *self)
{
    const backup_rows *rows = self;
    size_t dim = rows->made->dim, fit = RUN_BYTES / (dim * sizeof(float)), count = rows->run_rows < fit ? rows->run_rows : fit;
    source_run *run = cli_alloc(1, sizeof *run);
    run->rows_max = count;
    run->points = cli_alloc(count, sizeof *run->points);
    run->sizes = cli_alloc(count, sizeof *run->sizes);
    run->bodies = cli_alloc(count, sizeof *run->bodies);
    run->ids = cli_alloc(count, sizeof *run->ids);
    run->uuids = cli_alloc(count, sizeof *run->uuids);
    run->vectors = cli_alloc(count, dim * sizeof(float));
    run->text_at = cli_alloc(count, sizeof *run->text_at);
    for (size_t i = 0; i < count; i++) {
        gyre__v1__point__init(&run->bodies[i]);
        run->bodies[i].id = &run->ids[i];
        run->bodies[i].vector = run->vectors + i * dim;
        run->bodies[i].n_vector = dim;
        run->points[i] = &run->bodies[i];
    }
    return run;
}

/* The next point of any shard; *more false after the last. */
static gyre_status next_record(backup_rows *rows, struct record *record, bool *more, gyre_error *err)
{
    for (; rows->shard < rows->made->shard_count; rows->shard++) {
        if (!rows->chain)
            chain_open(&rows->chain, rows->dir, rows->manifest, rows->generation, rows->shard, false);
        GY_TRY(chain_next(rows->chain, record, more, err));
        if (*more)
            return GYRE_OK;
        chain_close(rows->chain);
        rows->chain = NULL;
    }
    *more = false;
    return GYRE_OK;
}

static char *text_of(const struct record *record)
{
    char *text = cli_alloc(record->payload_bytes + 1, 1);
    memcpy(text, record->payload, record->payload_bytes);
    return text;
}

static void sample(backup_rows *rows, const struct record *record)
{
    if (rows->row % rows->every != 0 || rows->sampled == ROWS_SAMPLE)
        return;
    struct sampled *sampled = &rows->sample[rows->sampled++];
    sampled->id = record->id;
    sampled->vector = cli_alloc(rows->made->dim, sizeof(float));
    memcpy(sampled->vector, record->vector, rows->made->dim * sizeof(float));
    sampled->payload = text_of(record);
}

void point_id_message(const gyre_point_id *id, Gyre__V1__PointId *out, char uuid[GYRE_UUID_TEXT_BYTES])
{
    gyre__v1__point_id__init(out);
    if (gyre_point_id_is_number(id)) {
        out->id_case = GYRE__V1__POINT_ID__ID_NUM;
        out->num = gyre_point_id_number(id);
    } else {
        out->id_case = GYRE__V1__POINT_ID__ID_UUID;
        out->uuid = gyre_point_id_format(id, uuid);
    }
}

static void add(const backup_rows *rows, source_run *run, const struct record *record)
{
    size_t i = run->rows++, bytes = record->payload_bytes;
    point_id_message(&record->id, &run->ids[i], run->uuids[i]);
    memcpy(run->bodies[i].vector, record->vector, rows->made->dim * sizeof(float));
    if (run->text_bytes_max - run->text_bytes < bytes + 1) {
        run->text_bytes_max = (run->text_bytes + bytes + 1) * 2; /* at most twice SOURCE_RUN_TEXT_BYTES and two payloads */
        run->text = cli_resize(run->text, run->text_bytes_max, 1);
    }
    memcpy(run->text + run->text_bytes, record->payload, bytes);
    run->text[run->text_bytes + bytes] = 0;
    run->text_at[i] = run->text_bytes;
    run->text_bytes += bytes + 1;
    run->sizes[i] = bytes + rows->made->dim * sizeof(float) + POINT_OVERHEAD_BYTES;
}

gyre_status backup_rows_next(void *self, source_run *run, gyre_error *err)
{
    backup_rows *rows = self;
    struct record record;
    bool more = true;
    run->rows = run->text_bytes = 0;
    run->first_row = rows->row > rows->start ? rows->row : rows->start;
    while (run->rows < run->rows_max && run->text_bytes < SOURCE_RUN_TEXT_BYTES) {
        GY_TRY(next_record(rows, &record, &more, err));
        if (!more)
            break;
        sample(rows, &record);
        if (rows->row++ >= rows->start)
            add(rows, run, &record);
    }
    for (size_t i = 0; i < run->rows; i++) /* now that the text stays where it is */
        run->bodies[i].payload = run->text + run->text_at[i];
    return GYRE_OK;
}

uint64_t backup_rows_next_row(void *self)
{
    const backup_rows *rows = self;
    return rows->row > rows->start ? rows->row : rows->start;
}

const struct sampled *backup_rows_sample(const backup_rows *rows, size_t *count)
{
    *count = rows->sampled;
    return rows->sample;
}
