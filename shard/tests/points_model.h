/* A model of a replica's points: random batches are applied to it and to the replica, then the two are compared: what is held,
 * with which bits, in which codes. */
#ifndef GY_POINTS_MODEL_H
#define GY_POINTS_MODEL_H

#include "points_fixture.h"

enum { IDS = 2600, DIM_MAX = 70, BATCH_MAX = 300 };

/* What a replica must hold, as plain arrays. */
struct model {
    uint32_t dim, codebook_version;
    bool held[IDS];
    uint64_t version[IDS];
    float (*vectors)[DIM_MAX];
    uint64_t count;
};

static inline gyre_point_id model_id(size_t n)
{
    gyre_point_id id = gyre_point_id_from_number(n * 7919);
    if (n % 5 == 0) /* some are UUIDs */
        id.bytes[0] = (uint8_t)(n >> 8 | 0x80), id.bytes[1] = (uint8_t)n, id.bytes[6] = 0x41;
    return id;
}

static inline struct model *model_new(uint32_t dim)
{
    struct model *model = calloc(1, sizeof *model);
    model->dim = dim;
    model->codebook_version = 1;
    model->vectors = calloc(IDS, sizeof *model->vectors);
    return model;
}

static inline void model_free(struct model *model)
{
    free(model->vectors);
    free(model);
}

static inline gyre_codebook *model_codebook(gyre_metric metric, uint32_t dim, uint32_t version)
{
    return fixture_codebook(metric, dim, version, 0.125f * (float)(version - 1));
}

/* Room for the operations of one batch. */
struct drawn {
    struct gy_operation operations[BATCH_MAX];
    float vectors[BATCH_MAX][DIM_MAX];
    char payloads[BATCH_MAX][24];
    bool deletes_held[BATCH_MAX]; /* what apply must say of each */
    size_t count;
};

/* Draws a batch and applies it to the model. A batch works on a stretch of ids, so that chunks fill, drain and fill again. */
static inline void model_draw(struct model *model, struct drawn *drawn, uint64_t seq, uint64_t *random)
{
    size_t start = fixture_below(random, IDS);
    unsigned deletes = (unsigned)fixture_below(random, 100);
    drawn->count = 1 + fixture_below(random, BATCH_MAX);
    for (size_t i = 0; i < drawn->count; i++) {
        size_t n = (start + fixture_below(random, 400)) % IDS;
        drawn->deletes_held[i] = false;
        drawn->operations[i] = (struct gy_operation){.id = model_id(n)};
        if (fixture_below(random, 100) < deletes) {
            drawn->deletes_held[i] = model->held[n];
            model->count -= model->held[n];
            model->held[n] = false;
            continue;
        }
        fixture_vector(random, drawn->vectors[i], model->dim);
        snprintf(drawn->payloads[i], sizeof drawn->payloads[i], "{\"n\":%zu}", n);
        drawn->operations[i].vector = drawn->vectors[i];
        drawn->operations[i].payload = drawn->payloads[i];
        memcpy(model->vectors[n], drawn->vectors[i], sizeof drawn->vectors[i]);
        model->version[n] = seq;
        model->count += !model->held[n];
        model->held[n] = true;
    }
}

struct model_checking {
    const struct model *model;
    size_t count;
};

static inline gyre_status model_check_point(void *self, size_t n, const struct gy_point_view *view, gyre_error *err)
{
    (void)err;
    struct model_checking *checking = self;
    const struct model *model = checking->model;
    char payload[24];
    assert_int_equal(n, checking->count++);
    assert_int_equal(view->found, model->held[n]);
    if (!view->found)
        return GYRE_OK;
    snprintf(payload, sizeof payload, "{\"n\":%zu}", n);
    assert_int_equal(view->version, model->version[n]);
    assert_memory_equal(view->vector, model->vectors[n], model->dim * sizeof(float));
    assert_string_equal(view->payload, payload);
    return GYRE_OK;
}

static inline void model_check_reads(struct fixture *f, const struct model *model)
{
    gyre_error err;
    gyre_point_id *ids = malloc(IDS * sizeof *ids);
    for (size_t n = 0; n < IDS; n++)
        ids[n] = model_id(n);
    struct model_checking checking = {model, 0};
    assert_ok(gy_points_read(f->points, ids, IDS, true, true, model_check_point, &checking, &err));
    assert_int_equal(checking.count, IDS);
    free(ids);
    assert_int_equal(gy_points_count(f->points), model->count);
    assert_int_equal(gy_points_applied_seq(f->points), f->seq);
}

/* Every code in RAM is the one that encoding the model's vector gives, and every point has one. */
static inline void model_check_codes(struct fixture *f, const struct model *model)
{
    gyre_error err;
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    const gyre_codebook *codebook = gy_snapshot_codebook(snapshot);
    uint64_t seen = 0;
    uint8_t *wanted = malloc(gy_replica_row_bytes(model->dim)), *stored = malloc(gy_replica_row_bytes(model->dim));
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++) {
        struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, c);
        for (size_t row = 0; row < GY_CHUNK_ROWS; row++) {
            const uint8_t *block = chunk.blocks + row / GYRE_BLOCK_ROWS * gyre_block_bytes(gy_replica_code_bytes(model->dim));
            if (!gyre_block_holds(gy_replica_code_bytes(model->dim), block, row % GYRE_BLOCK_ROWS))
                continue;
            gyre_point_id id = chunk.ids[row], number = id;
            memset(number.bytes, 0, 8);
            size_t n = gyre_point_id_number(&number) / 7919;
            assert_true(n < IDS && model->held[n]);
            gyre_point_id again = model_id(n);
            assert_memory_equal(&again, &id, sizeof id);
            assert_ok(gyre_quantizer_encode(gy_snapshot_quantizer(snapshot), model->vectors[n], 1, 0, wanted, &err));
            gyre_block_get(gy_replica_code_bytes(model->dim), block, row % GYRE_BLOCK_ROWS, stored);
            assert_memory_equal(wanted, stored, gy_replica_row_bytes(model->dim));
            seen++;
        }
    }
    assert_int_equal(seen, model->count); /* ids are distinct, so seen counts points */
    assert_int_equal(gy_snapshot_count(snapshot), model->count);
    assert_int_equal(gyre_codebook_version(codebook), model->codebook_version);
    gy_snapshot_release(snapshot);
    free(wanted);
    free(stored);
}

#endif
