/* Scans give the bits of ref from every table that runs here, for one query or eight, from blocks or from rows; and ref gives the
 * sums that its tables say. Equality, never tolerance. */
#include "query_internal.h"
#include "support.h"

static const uint32_t large_dims[] = {100, 127, 128, 131, 768, 784, 960, 1536, 4096};
enum { SMALL_DIMS = 40, DIMS = SMALL_DIMS + sizeof large_dims / sizeof *large_dims };
enum { BLOCKS = 5, ROWS = BLOCKS * GYRE_BLOCK_ROWS, QUERIES = GYRE_SCAN_QUERIES_MAX, ROW_BYTES_MAX = GYRE_DIM_MAX / 8 + 16 };

static uint32_t nth_dim(size_t i) { return i < SMALL_DIMS ? (uint32_t)i + 1 : large_dims[i - SMALL_DIMS]; }

/* Any bytes that gyre_codec_row_check lets through, not only likely ones. */
static void random_row(uint32_t dim, uint8_t *row)
{
    size_t code_bytes = rabitq1_code_bytes(dim);
    for (size_t j = 0; j < code_bytes; j++)
        row[j] = (uint8_t)random_u64();
    if (dim % 8)
        row[code_bytes - 1] &= (uint8_t)((1u << dim % 8) - 1);
    double scale = random_u64() % 16 ? 1 : pow(10, (double)(random_u64() % 60) - 45);
    gy_store_f32(row + code_bytes + GY_ROW_S, random_u64() % 16 ? (float)(scale * fabs(random_normal())) : 0);
    gy_store_f32(row + code_bytes + GY_ROW_ADD, (float)(scale * random_normal()));
    gy_store_f32(row + code_bytes + GY_ROW_R2, (float)(scale * fabs(random_normal())));
    float e = random_u64() % 16 ? (float)(scale * fabs(0.1 * random_normal())) : 0;
    uint32_t bits;
    memcpy(&bits, &e, sizeof bits);
    gy_store_u16(row + code_bytes + GY_ROW_E, (uint16_t)(bits >> 16));
    must(gyre_codec_row_check(codec_named("rabitq1"), dim, row, &err));
}

/* Rows in blocks, and queries rounded to so many bits: usual ones, the reference point itself, one of denormal distances. */
struct scene {
    uint32_t dim;
    uint8_t bits;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    gyre_query *queries[QUERIES];
    uint8_t *blocks; /* [BLOCKS]: a full one, three ragged ones, an empty one */
};

static void scene_open(struct scene *scene, uint32_t dim, gyre_metric metric, uint8_t bits)
{
    *scene = (struct scene){.dim = dim, .bits = bits, .codebook = new_codebook(metric, dim, NULL)};
    scene->quantizer = new_quantizer("rabitq1", scene->codebook);
    const gyre_query_options options = {.epsilon = 1.9f, .scan_bits = bits};
    for (size_t q = 0; q < QUERIES; q++) {
        float vector[GYRE_DIM_MAX] = {0};
        if (q != 2)
            random_vector(vector, dim, q == 3 ? 1e-20 : 1);
        must(gyre_query_new(&scene->queries[q], scene->quantizer, vector, NULL, &options, &err));
    }
    size_t block_bytes = rabitq1_block_bytes(dim);
    scene->blocks = must_alloc(BLOCKS * block_bytes);
    uint8_t row[ROW_BYTES_MAX];
    for (size_t b = 0; b < BLOCKS; b++) {
        gyre_block_init(rabitq1_code_bytes(dim), scene->blocks + b * block_bytes);
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
            if (b == 0 || (b < 4 && random_u64() % 3)) {
                random_row(dim, row);
                gyre_block_set(rabitq1_code_bytes(dim), scene->blocks + b * block_bytes, v, row);
            }
    }
}

static void scene_close(struct scene *scene)
{
    for (size_t q = 0; q < QUERIES; q++)
        gyre_query_free(scene->queries[q]);
    free(scene->blocks);
    gyre_quantizer_free(scene->quantizer);
    gyre_codebook_free(scene->codebook);
}

/* Everything, nothing, nothing by NaN, exactly the bound of a row, one step below it, and just any. */
static float nth_threshold(size_t i, const gyre_hit *all, size_t count)
{
    const gyre_hit *hit = count ? &all[random_u64() % count] : &(gyre_hit){0, 0, 0};
    switch (i) {
    case 0: return INFINITY;
    case 1: return -INFINITY;
    case 2: return NAN;
    case 3: return hit->estimate;
    default: return i % 2 ? hit->estimate - hit->half_width : nextafterf(hit->estimate - hit->half_width, -INFINITY);
    }
}

static void demand_hits(const gy_kernels *kernels, const struct scene *scene, const gyre_hit *wanted, size_t wanted_count,
                        const gyre_hit *given, size_t count, const char *what)
{
    if (count != wanted_count || memcmp(given, wanted, count * sizeof *given) != 0)
        fail_msg("%s: %s differs at dim %u, %d bits: %zu hits for %zu", kernels->name, what, scene->dim, scene->bits, count,
                 wanted_count);
}

static void compare_one(const struct scene *scene, const gyre_query *query, size_t block_count, float threshold)
{
    gyre_hit wanted[ROWS], given[ROWS];
    size_t count = gy_query_scan_with(gy_kernels_all[0], query, scene->blocks, block_count, threshold, wanted);
    for (size_t k = 1; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here())
            demand_hits(gy_kernels_all[k], scene, wanted, count, given,
                        gy_query_scan_with(gy_kernels_all[k], query, scene->blocks, block_count, threshold, given), "scan");
}

/* 1…QUERIES of the queries with thresholds of their own, in arrays that end where the hits may end. */
static void compare_many(const struct scene *scene, size_t count, size_t block_count)
{
    float thresholds[QUERIES];
    gyre_hit *wanted[QUERIES], *given[QUERIES], all[ROWS];
    size_t wanted_count[QUERIES], found[QUERIES];
    for (size_t q = 0; q < count; q++) {
        size_t bytes = block_count * GYRE_BLOCK_ROWS * sizeof(gyre_hit);
        wanted[q] = malloc(bytes + 1), given[q] = malloc(bytes + 1);
        assert_true(wanted[q] && given[q]);
        size_t all_count = gy_query_scan_with(gy_kernels_all[0], scene->queries[q], scene->blocks, BLOCKS, INFINITY, all);
        thresholds[q] = nth_threshold(random_u64() % 8, all, all_count);
        wanted_count[q] = gy_query_scan_with(gy_kernels_all[0], scene->queries[q], scene->blocks, block_count, thresholds[q],
                                             wanted[q]);
    }
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        gy_query_scan_many_with(gy_kernels_all[k], (const gyre_query *const *)scene->queries, count, scene->blocks, block_count,
                                thresholds, given, found);
        for (size_t q = 0; q < count; q++)
            demand_hits(gy_kernels_all[k], scene, wanted[q], wanted_count[q], given[q], found[q], "scan_many");
    }
    for (size_t q = 0; q < count; q++)
        free(wanted[q]), free(given[q]);
}

/* The rows of the blocks one after the other, from a place that is not aligned, in an array that ends where the last row ends. */
static void compare_rows(const struct scene *scene, size_t gap)
{
    size_t code_bytes = rabitq1_code_bytes(scene->dim), row_bytes = code_bytes + GY_ROW_FACTOR_BYTES, stride = row_bytes + gap;
    uint32_t place[ROWS];
    size_t n = 0;
    uint8_t *rows = malloc(1 + ROWS * stride);
    assert_non_null(rows);
    for (size_t i = 0; i < ROWS; i++) {
        const uint8_t *block = scene->blocks + i / GYRE_BLOCK_ROWS * rabitq1_block_bytes(scene->dim);
        if (gyre_block_holds(code_bytes, block, i % GYRE_BLOCK_ROWS)) {
            gyre_block_get(code_bytes, block, i % GYRE_BLOCK_ROWS, rows + 1 + n * stride);
            place[n++] = (uint32_t)i;
        }
    }
    uint8_t *end = realloc(rows, 1 + (n - 1) * stride + row_bytes);
    assert_non_null(end);
    rows = end;
    for (size_t q = 0; q < QUERIES; q++) {
        gyre_hit wanted[ROWS], given[ROWS];
        size_t all_count = gy_query_scan_with(gy_kernels_all[0], scene->queries[q], scene->blocks, BLOCKS, INFINITY, wanted);
        float threshold = nth_threshold(q, wanted, all_count);
        size_t count = gy_query_scan_with(gy_kernels_all[0], scene->queries[q], scene->blocks, BLOCKS, threshold, wanted);
        for (size_t k = 0; gy_kernels_all[k]; k++) {
            if (!gy_kernels_all[k]->runs_here())
                continue;
            size_t found = gy_query_scan_rows_with(gy_kernels_all[k], scene->queries[q], rows + 1, stride, n, threshold, given);
            for (size_t h = 0; h < found; h++)
                given[h].row = place[given[h].row];
            demand_hits(gy_kernels_all[k], scene, wanted, count, given, found, "scan_rows");
        }
    }
    free(rows);
}

static void scans_are_equal_at_every_dim_threshold_and_filling(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIMS; i++)
        for (uint8_t bits = 4; bits <= 8; bits = (uint8_t)(bits + 2)) {
            struct scene scene;
            scene_open(&scene, nth_dim(i), (gyre_metric)(1 + (i + bits / 2) % 3), bits);
            for (size_t q = 0; q < 4; q++) {
                gyre_hit all[ROWS];
                size_t count = gy_query_scan_with(gy_kernels_all[0], scene.queries[q], scene.blocks, BLOCKS, INFINITY, all);
                for (size_t n = 0; n <= BLOCKS; n++)
                    compare_one(&scene, scene.queries[q], n, INFINITY);
                for (size_t t = 1; t < 16; t++)
                    compare_one(&scene, scene.queries[q], BLOCKS, nth_threshold(t, all, count));
            }
            scene_close(&scene);
        }
}

static void many_queries_find_what_each_finds_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIMS; i++)
        for (uint8_t bits = 4; bits <= 8; bits = (uint8_t)(bits + 2)) {
            struct scene scene;
            scene_open(&scene, nth_dim(i), (gyre_metric)(1 + i % 3), bits);
            for (size_t count = 1; count <= QUERIES; count++)
                compare_many(&scene, count, (i + count) % 4 ? BLOCKS : random_u64() % BLOCKS);
            scene_close(&scene);
        }
}

static void rows_are_scanned_as_if_they_were_in_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIMS; i++)
        for (uint8_t bits = 4; bits <= 8; bits = (uint8_t)(bits + 2)) {
            struct scene scene;
            scene_open(&scene, nth_dim(i), (gyre_metric)(1 + i % 3), bits);
            compare_rows(&scene, 0);
            compare_rows(&scene, i % 7);
            scene_close(&scene);
        }
}

enum { PAIRS_MAX = 700, TABLE_QUERIES = 3 };

/* A query whose tables have entries of any size, or all the largest, and that leaves H as it is: with s = 1 the estimate is
 * 2H - levels.
 *   lookups  two tables, written */
static struct gy_scan table_query(size_t pairs, size_t lookup_count, bool largest, uint8_t *lookups)
{
    size_t table_bytes = pairs * GY_LOOKUP_PAIR_BYTES;
    for (size_t b = 0; b < 2 * table_bytes; b++) {
        uint64_t entry = largest ? GY_LOOKUP_ENTRY_MAX : random_u64() % (GY_LOOKUP_ENTRY_MAX + 1);
        lookups[b] = b / 16 % 2 ? lookups[b - 16] : (uint8_t)entry; /* 16 entries twice */
    }
    return (struct gy_scan){
        .lookup = {lookups, lookups + table_bytes},
        .lookup_count = lookup_count,
        .pair_count = pairs,
        .block_bytes = gy_block_bytes(2 * pairs),
        .levels = (int32_t)(random_u64() % 1000),
        .step = 1,
    };
}

static float table_estimate(const struct gy_scan *scan, const uint8_t *code)
{
    int64_t sum = 0;
    for (size_t t = 0; t < scan->lookup_count; t++)
        for (size_t j = 0; j < 2 * scan->pair_count; j++) {
            const uint8_t *table = scan->lookup[t] + j / 2 * GY_LOOKUP_PAIR_BYTES + j % 2 * 32;
            sum += (int64_t)(table[code[j] % 16] + table[64 + code[j] / 16]) << 4 * t;
        }
    return (float)(2 * sum - scan->levels);
}

static void compare_sums(size_t pairs, size_t lookup_count, bool largest, uint8_t *lookups)
{
    size_t code_bytes = 2 * pairs;
    struct gy_scan scans[TABLE_QUERIES];
    for (size_t q = 0; q < TABLE_QUERIES; q++)
        scans[q] = table_query(pairs, lookup_count, largest, lookups + q * 2 * pairs * GY_LOOKUP_PAIR_BYTES);
    uint8_t *block = must_alloc(gy_block_bytes(code_bytes)), row[2 * PAIRS_MAX + GY_ROW_FACTOR_BYTES] = {0};
    float wanted[TABLE_QUERIES][GYRE_BLOCK_ROWS];
    gyre_block_init(code_bytes, block);
    gy_store_f32(row + code_bytes + GY_ROW_S, 1);
    for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++) {
        for (size_t j = 0; j < code_bytes; j++)
            row[j] = (uint8_t)random_u64();
        gyre_block_set(code_bytes, block, v, row);
        for (size_t q = 0; q < TABLE_QUERIES; q++)
            wanted[q][v] = table_estimate(&scans[q], row);
    }
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        gyre_hit given[TABLE_QUERIES][GYRE_BLOCK_ROWS];
        size_t found[TABLE_QUERIES];
        gy_kernels_all[k]->scan->scan(&(struct gy_scan_job){
            .scans = (const struct gy_scan *const[TABLE_QUERIES]){&scans[0], &scans[1], &scans[2]},
            .count = TABLE_QUERIES,
            .blocks = block,
            .block_count = 1,
            .thresholds = (const float[TABLE_QUERIES]){INFINITY, INFINITY, INFINITY},
            .hits = (gyre_hit *const[TABLE_QUERIES]){given[0], given[1], given[2]},
            .found = found,
        });
        for (size_t q = 0; q < TABLE_QUERIES; q++) {
            assert_int_equal(found[q], GYRE_BLOCK_ROWS);
            for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
                if (given[q][v].row != v || given[q][v].estimate != wanted[q][v])
                    fail_msg("%s: %zu pairs, %zu lookups: row %zu of query %zu is %.0f, not %.0f", gy_kernels_all[k]->name, pairs,
                             lookup_count, v, q, (double)given[q][v].estimate, (double)wanted[q][v]);
        }
    }
    free(block);
}

static void sums_are_exact_for_tables_of_any_entries(void **state)
{
    (void)state;
    static const size_t pair_counts[] = {1, 2, 3, 7, 16, 48, 129, 255, 256, 257, 512, 513, PAIRS_MAX};
    uint8_t *lookups = must_alloc(TABLE_QUERIES * 2 * PAIRS_MAX * GY_LOOKUP_PAIR_BYTES);
    for (size_t i = 0; i < sizeof pair_counts / sizeof *pair_counts; i++)
        for (size_t lookup_count = 1; lookup_count <= 2; lookup_count++) {
            compare_sums(pair_counts[i], lookup_count, false, lookups);
            compare_sums(pair_counts[i], lookup_count, true, lookups);
        }
    free(lookups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_are_equal_at_every_dim_threshold_and_filling),
        cmocka_unit_test(many_queries_find_what_each_finds_alone),
        cmocka_unit_test(rows_are_scanned_as_if_they_were_in_blocks),
        cmocka_unit_test(sums_are_exact_for_tables_of_any_entries),
    };
    return cmocka_run_group_tests_name("codec.scan_kernels", tests, NULL, NULL);
}
