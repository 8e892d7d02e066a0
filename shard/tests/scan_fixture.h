/* Shared by the tests of scans: a replica of any codec and partition beside plain arrays of what it holds, and answers found the slow
 * way: every distance computed, every bound taken block by block through no threshold. */
#ifndef GY_SCAN_FIXTURE_H
#define GY_SCAN_FIXTURE_H

#include "points_fixture.h"

#include "gyre/partition.h"
#include "scan/scan.h"

#include <math.h>

enum { WORLD_QUERIES_MAX = 40 };

struct world {
    struct fixture f;
    gyre_metric metric;
    uint32_t dim, lists, version;
    size_t ids, held_count;
    bool *held;
    float *vectors; /* [ids][dim] as given */
    uint64_t random;
};

/* Near one of a few centres, so that lists mean something. */
static inline void world_vector(struct world *world, float *out)
{
    uint64_t centre = 1000 + fixture_below(&world->random, 12);
    for (uint32_t i = 0; i < world->dim; i++)
        out[i] = (float)((double)(int64_t)fixture_random(&centre) * 0x1p-63) +
                 0.4f * (float)((double)(int64_t)fixture_random(&world->random) * 0x1p-63) + 0.1f;
}

static inline void world_query(struct world *world, float *out)
{
    world_vector(world, out);
    gyre_vector_normalize(world->metric, out, out, world->dim);
}

/* A codebook of lists centroids: vectors drawn like the points. */
static inline gyre_codebook *world_codebook(struct world *world, uint32_t version)
{
    gyre_error err;
    gyre_codebook *codebook = NULL;
    uint8_t seed[GYRE_SEED_BYTES] = {7, 1, 9};
    float *mean = calloc(world->dim, sizeof *mean), *centroids = calloc(world->lists * world->dim, sizeof *centroids);
    for (uint32_t list = 0; list < world->lists; list++)
        world_query(world, centroids + list * world->dim);
    for (size_t i = 0; i < world->lists * world->dim; i++)
        mean[i % world->dim] += centroids[i] / (float)world->lists;
    if (world->lists > 1)
        assert_ok(gyre_codebook_new_partitioned(&codebook, world->metric, world->dim, version, seed, mean, centroids, world->lists, &err));
    else
        assert_ok(gyre_codebook_new(&codebook, world->metric, world->dim, version, seed, mean, &err));
    free(mean);
    free(centroids);
    return codebook;
}

static inline void world_init(struct world *world, gyre_metric metric, uint32_t dim, const char *codec, uint32_t lists, size_t ids, uint64_t random)
{
    gyre_error err;
    *world = (struct world){.metric = metric, .dim = dim, .lists = lists, .version = 1, .ids = ids, .random = random};
    world->held = calloc(ids, 1);
    world->vectors = calloc(ids * dim, sizeof *world->vectors);
    struct fixture *f = &world->f;
    f->directory = fixture_directory();
    snprintf(f->path, sizeof f->path, "%s/replica", f->directory);
    assert_ok(gy_store_env_new(&f->env, 64 << 20, &err));
    gyre_codebook *codebook = world_codebook(world, 1);
    const struct gy_shard_config config = fixture_config(1);
    assert_ok(gy_store_create(&f->store, f->env, f->path, &fixture_identity, 1, &config, codec, codebook, &err));
    gyre_codebook_free(codebook);
    gy_store_close(f->store);
    fixture_open(f);
}

static inline void world_fini(struct world *world)
{
    fixture_fini(&world->f);
    free(world->held);
    free(world->vectors);
}

/* Inserts, overwrites or deletes count points from first on, in one batch. */
static inline void world_put(struct world *world, size_t first, size_t count, bool put)
{
    struct gy_operation *operations = calloc(count, sizeof *operations);
    for (size_t i = 0; i < count; i++) {
        size_t n = first + i;
        operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(n)};
        world->held_count += (size_t)put - (size_t)world->held[n];
        world->held[n] = put;
        if (!put)
            continue;
        world_vector(world, world->vectors + n * world->dim);
        operations[i].vector = world->vectors + n * world->dim;
        operations[i].payload = "";
    }
    fixture_apply(&world->f, operations, count, NULL);
    free(operations);
}

static inline void world_fill(struct world *world)
{
    for (size_t n = 0; n < world->ids; n += 1000)
        world_put(world, n, world->ids - n < 1000 ? world->ids - n : 1000, true);
}

static inline void world_retrain(struct world *world)
{
    gyre_error err;
    gyre_codebook *codebook = world_codebook(world, ++world->version);
    assert_ok(gy_points_set_codebook(world->f.points, codebook, &err));
    gyre_codebook_free(codebook);
    while (gy_points_codebook_version(world->f.points) != world->version) { /* the switch is the event */
        char trouble[GYRE_ERROR_TEXT_BYTES];
        gy_points_trouble(world->f.points, trouble, sizeof trouble);
        assert_string_equal(trouble, "");
        usleep(200);
    }
}

/* ---- answers ---- */

struct answer {
    struct gy_candidates out[WORLD_QUERIES_MAX];
    uint32_t version;
    uint64_t seq;
    size_t queries;
};

static inline void world_scan(struct world *world, gy_pool *pool, const struct gy_scan_request *request, struct answer *answer)
{
    gyre_error err;
    answer->queries = request->query_count;
    assert_ok(gy_scan_run(world->f.points, NULL, pool, request, answer->out, &answer->version, &answer->seq, &err));
}

static inline void answer_free(struct answer *answer) { gy_candidates_free(answer->out, answer->queries); }

static inline void assert_same_candidates(const struct gy_candidates *a, const struct gy_candidates *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(&a->cutoff, &b->cutoff, sizeof a->cutoff);
    assert_int_equal(a->scanned, b->scanned);
    assert_int_equal(a->lists_probed, b->lists_probed);
    for (size_t i = 0; i < a->count; i++) {
        assert_memory_equal(&a->items[i].id, &b->items[i].id, sizeof a->items[i].id);
        assert_memory_equal(&a->items[i].estimate, &b->items[i].estimate, sizeof(float));
        assert_memory_equal(&a->items[i].half_width, &b->items[i].half_width, sizeof(float));
    }
}

static inline float bound_of(const struct gy_candidate *item) { return item->estimate - item->half_width; }

static inline int by_bound(const void *a, const void *b)
{
    const struct gy_candidate *x = a, *y = b;
    float p = bound_of(x), q = bound_of(y);
    return p < q ? -1 : p > q ? 1 : gyre_point_id_compare(&x->id, &y->id);
}

/* What brute force says: every point that is held (and allowed), nearest first. */
static inline struct gy_candidate *world_nearest(struct world *world, const float *query, const bool *allowed, size_t *count)
{
    struct gy_candidate *all = malloc((world->ids + 1) * sizeof *all);
    *count = 0;
    for (size_t n = 0; n < world->ids; n++)
        if (world->held[n] && (!allowed || allowed[n]))
            all[(*count)++] = (struct gy_candidate){gyre_point_id_from_number(n),
                                                    gyre_distance(world->metric, world->vectors + n * world->dim, query, world->dim), 0};
    qsort(all, *count, sizeof *all, by_bound);
    return all;
}

struct slow_row {
    struct gy_candidate item; /* half_width from the lower bound */
    struct gy_candidate hit;  /* of the first plane */
    uint32_t list, slot;
    float upper;
};

/* Every row of the replica with the bounds of both planes. */
static inline struct slow_row *world_rows(struct world *world, gy_snapshot *snapshot, const float *query, const gyre_query_options *options,
                                          size_t *count)
{
    gyre_error err;
    gyre_query *prepared = NULL;
    gyre_hit hits[GYRE_BLOCK_ROWS];
    size_t block_bytes = gyre_block_bytes(gyre_codec_scan_code_bytes(gy_points_codec(world->f.points), world->dim));
    size_t refine_bytes = gyre_codec_list_refine_row_bytes(gy_points_codec(world->f.points), world->dim);
    struct slow_row *rows = malloc((gy_snapshot_count(snapshot) + 1) * sizeof *rows);
    assert_ok(gyre_query_new(&prepared, gy_snapshot_quantizer(snapshot), query, NULL, options, &err));
    *count = 0;
    for (size_t c = 0; c < gy_snapshot_chunk_count(snapshot); c++) {
        struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, c);
        if (chunk.rows)
            gyre_query_move(prepared, gyre_codebook_centroid(gy_snapshot_codebook(snapshot), chunk.list));
        for (uint32_t b = 0; b * GYRE_BLOCK_ROWS < chunk.rows; b++) {
            const uint8_t *block = chunk.blocks + b * block_bytes;
            size_t n = gyre_query_scan(prepared, block, 1, INFINITY, hits);
            for (size_t i = 0; i < n; i++) {
                uint32_t place = b * GYRE_BLOCK_ROWS + hits[i].row;
                float low = hits[i].estimate - hits[i].half_width, high = hits[i].estimate + hits[i].half_width, estimate = hits[i].estimate;
                if (chunk.refine) {
                    gyre_estimate refined;
                    gyre_query_refine(prepared, block, chunk.refine + b * GYRE_BLOCK_ROWS * refine_bytes, &hits[i], 1, &refined);
                    high = refined.high < low ? high : refined.high; /* the first plane's only where they contradict each other */
                    estimate = refined.low < low ? low + (high - low) / 2 : refined.distance;
                    low = fmaxf(low, refined.low);
                }
                rows[(*count)++] = (struct slow_row){{chunk.ids[place], estimate, estimate - low},
                                                      {chunk.ids[place], hits[i].estimate, hits[i].half_width},
                                                      chunk.list,
                                                      (uint32_t)c * GY_CHUNK_ROWS + place,
                                                      high};
            }
        }
    }
    gyre_query_free(prepared);
    assert_int_equal(*count, gy_snapshot_count(snapshot));
    return rows;
}

static inline float low_of(const struct slow_row *row) { return row->item.estimate - row->item.half_width; }

#endif
