/* A model of a replica's points: random batches are applied to it and to the replica, then the two are compared: what is held,
 * with which bits, in which codes. */
#ifndef GY_POINTS_MODEL_H
#define GY_POINTS_MODEL_H

#include "points_fixture.h"

#include "gyre/partition.h"
#include "index/state.h"

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

/* A codebook of few lists or many; one in four has none. */
static inline gyre_codebook *model_codebook(gyre_metric metric, uint32_t dim, uint32_t version)
{
    static const uint32_t lists[] = {1, 5, 33, 130};
    float mean = 0.125f * (float)(version - 1);
    return version % 4 == 1 ? fixture_codebook(metric, dim, version, mean)
                            : fixture_partition(metric, dim, version, mean, lists[version % 4]);
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

/* Which point of the model an id is. */
static inline size_t model_number(const gyre_point_id *id)
{
    gyre_point_id number = *id;
    memset(number.bytes, 0, 8);
    size_t n = gyre_point_id_number(&number) / 7919;
    assert_true(n < IDS);
    gyre_point_id again = model_id(n);
    assert_memory_equal(&again, id, sizeof again);
    return n;
}

/* The row that a vector must have, [row_bytes], and its list. */
static inline uint32_t model_row(const gy_snapshot *snapshot, const float *vector, uint32_t dim, uint8_t *row)
{
    gyre_error err;
    const gyre_codebook *codebook = gy_snapshot_codebook(snapshot);
    float normal[DIM_MAX];
    uint32_t list;
    gyre_vector_normalize(gyre_codebook_metric(codebook), vector, normal, dim);
    assert_ok(gyre_partition_assign(codebook, normal, 1, 0, &list, &err));
    assert_ok(gyre_quantizer_encode_list(gy_snapshot_quantizer(snapshot), gyre_codebook_centroid(codebook, list), vector, 1, 0,
                                         row, &err));
    return list;
}

/* Every code in RAM is the one that encoding the model's vector gives, in the list it belongs to, and every point has one. The
 * slots of all of them through slots [IDS] and numbers [IDS], if not NULL. */
static inline void model_check_chunk(const gy_snapshot *snapshot, const struct gy_layout *layout, const struct model *model,
                                     uint32_t number, uint64_t *seen, uint32_t *slots, size_t *numbers)
{
    struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, number);
    uint8_t wanted[GY_ROW_BYTES_MAX], stored[GY_ROW_BYTES_MAX];
    for (uint32_t place = 0; place < chunk.rows; place++) {
        const uint8_t *block = chunk.blocks + place / GYRE_BLOCK_ROWS * layout->block_bytes;
        if (!gyre_block_holds(layout->code_bytes, block, place % GYRE_BLOCK_ROWS))
            continue;
        size_t n = model_number(&chunk.ids[place]);
        assert_true(model->held[n]);
        assert_int_equal(model_row(snapshot, model->vectors[n], model->dim, wanted), chunk.list);
        gyre_block_get(layout->code_bytes, block, place % GYRE_BLOCK_ROWS, stored);
        assert_memory_equal(wanted, stored, layout->scan_row_bytes);
        if (layout->refine_row_bytes)
            assert_memory_equal(wanted + layout->scan_row_bytes, chunk.refine + place * layout->refine_row_bytes,
                                layout->refine_row_bytes);
        assert_int_equal(chunk.refine != NULL, layout->refine_row_bytes != 0);
        if (slots)
            slots[*seen] = number * GY_CHUNK_ROWS + place, numbers[*seen] = n;
        ++*seen;
    }
}

static inline void model_check_codes(struct fixture *f, const struct model *model, uint64_t *random)
{
    gyre_error err;
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    const gyre_codebook *codebook = gy_snapshot_codebook(snapshot);
    struct gy_layout layout;
    gy_layout_init(&layout, gy_points_codec(f->points), model->dim);
    uint32_t *slots = malloc(IDS * sizeof *slots);
    size_t *numbers = malloc(IDS * sizeof *numbers);
    float *distances = malloc(IDS * sizeof *distances), query[DIM_MAX];
    uint64_t seen = 0, chunks = 0;
    for (uint32_t list = 0; list < gyre_codebook_lists(codebook); list++) {
        const uint32_t *of_list;
        uint64_t points, before = seen;
        size_t count = gy_snapshot_list(snapshot, list, &of_list, &points);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(gy_snapshot_chunk(snapshot, of_list[i]).list, list);
            model_check_chunk(snapshot, &layout, model, of_list[i], &seen, slots, numbers);
        }
        assert_int_equal(seen - before, points);
        chunks += count;
    }
    assert_int_equal(seen, model->count); /* ids are distinct, so seen counts points */
    assert_int_equal(gy_snapshot_count(snapshot), model->count);
    assert_int_equal(gyre_codebook_version(codebook), model->codebook_version);
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++)
        chunks -= gy_snapshot_chunk(snapshot, c).rows != 0;
    assert_int_equal(chunks, 0); /* each in the list it says */

    gyre_metric metric = gy_points_metric(f->points);
    fixture_vector(random, query, model->dim);
    gyre_vector_normalize(metric, query, query, model->dim);
    assert_ok(gy_points_rank(f->points, snapshot, query, slots, seen, distances, &err));
    for (size_t i = 0; i < seen; i++) {
        float wanted = gyre_distance(metric, model->vectors[numbers[i]], query, model->dim);
        assert_memory_equal(&wanted, &distances[i], sizeof wanted);
    }
    gy_snapshot_release(snapshot);
    free(slots);
    free(numbers);
    free(distances);
}

/* Compaction has looked at all that it was asked to look at; no chunk is left that is mostly holes and takes more blocks for it.
 * */
static inline void model_wait_for_compaction(struct fixture *f)
{
    size_t waiting = 1;
    while (waiting) {
        pthread_mutex_lock(&f->points->apply_mu);
        waiting = f->points->compaction.count;
        pthread_mutex_unlock(&f->points->apply_mu);
        if (waiting)
            usleep(200);
    }
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    for (size_t c = 0; c < snapshot->count; c++) {
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
        if (chunk && 2 * (chunk->rows - chunk->held) > chunk->rows)
            assert_int_equal((chunk->held + 31) / 32, (chunk->rows + 31) / 32);
    }
    gy_snapshot_release(snapshot);
}

#endif
