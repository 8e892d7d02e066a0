/* The whole library gives the same bytes from every kernel table that runs here: rows of every codec, what is decoded from them,
 * what scans find and what estimates say, of lists too; rotations, what is learned from data, and the coarse partition.
 * `test_codec_tables --print` prints a line a codec and dim with the hash of each: test_portable and test_neon compare these lines
 * between compilers, optimisation levels and processors.
 *
 * Inputs are made without any library function, and so is all that is hashed: epsilon is a constant. */
#include "gyre/kmeans.h"
#include "gyre/learn.h"
#include "gyre/partition.h"
#include "kernels/kernels.h"
#include "support.h"

#include <stdarg.h>

static const uint32_t dims[] = {1, 2, 3, 131, 768};
enum { DIMS = sizeof dims / sizeof *dims, VECTORS = 40, QUERIES = 3, SAMPLE = 320, TEXT_BYTES = 1 << 16 };

struct text {
    char at[TEXT_BYTES];
    size_t used;
};

static __attribute__((format(printf, 2, 3))) void say(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text->used += (size_t)vsnprintf(text->at + text->used, TEXT_BYTES - text->used, format, arguments);
    va_end(arguments);
    assert_true(text->used < TEXT_BYTES);
}

/* FNV-1a: any change of a byte changes it. */
static uint64_t hash(uint64_t seed, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < count; i++)
        seed = (seed ^ at[i]) * UINT64_C(0x100000001b3);
    return seed;
}

static uint64_t hash_floats(uint64_t seed, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[4];
        gy_store_f32(bytes, values[i]);
        seed = hash(seed, bytes, sizeof bytes);
    }
    return seed;
}

/* Multiples of 2^-10 and of powers of two near it; every eighth vector has one component only, the first none. */
static void exact_vectors(float *out, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        float unit = (float)(1u << random_u64() % 4) * 0x1p-12f;
        for (size_t j = 0; j < dim; j++)
            out[i * dim + j] = (float)((int)(random_u64() % 8192) - 4096) * unit;
        if (i % 8 == 0) {
            memset(out + i * dim, 0, dim * sizeof *out);
            out[i * dim + random_u64() % dim] = i ? unit : 0;
        }
    }
}

static uint64_t hash_hits(uint64_t seed, const gyre_hit *hits, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        seed = hash(seed, (uint8_t[]){(uint8_t)hits[i].row}, 1);
        seed = hash_floats(seed, (float[]){hits[i].estimate, hits[i].half_width}, 2);
    }
    return seed;
}

/* Hits of all queries in one pass over the blocks, and what the second plane says of them. */
static void hash_scans(const gyre_query *const *queries, const uint8_t *blocks, const uint8_t *refine_rows,
                       const float *thresholds, uint64_t *hits, uint64_t *estimates)
{
    gyre_hit found[QUERIES][2 * GYRE_BLOCK_ROWS];
    gyre_hit *const places[QUERIES] = {found[0], found[1], found[2]};
    size_t counts[QUERIES];
    gyre_query_scan_many(queries, QUERIES, blocks, 2, thresholds, places, counts);
    for (size_t q = 0; q < QUERIES; q++) {
        gyre_estimate known[2 * GYRE_BLOCK_ROWS];
        *hits = hash_hits(*hits, found[q], counts[q]);
        if (!refine_rows)
            continue;
        gyre_query_refine(queries[q], blocks, refine_rows, found[q], counts[q], known);
        for (size_t i = 0; i < counts[q]; i++)
            *estimates = hash_floats(*estimates, (float[]){known[i].distance, known[i].low, known[i].high}, 3);
    }
}

/* Queries of 4, 6 and 8 bits with each of the bounds: all rows estimated, then all scanned at thresholds that some pass. */
static void hash_queries(const gyre_quantizer *quantizer, const float *queries, const uint8_t *rows, uint64_t *hits,
                         uint64_t *estimates)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    const gyre_codebook *codebook = gyre_quantizer_codebook(quantizer);
    uint32_t dim = gyre_codebook_dim(codebook);
    size_t row_bytes = gyre_codec_row_bytes(codec, dim), refine_bytes = gyre_codec_refine_row_bytes(codec, dim);
    uint8_t *blocks = gyre_codec_scans(codec) ? new_blocks(codec, dim, rows, VECTORS) : NULL;
    uint8_t *refine_rows = refine_bytes ? must_alloc(2 * GYRE_BLOCK_ROWS * refine_bytes) : NULL;
    const uint8_t *addresses[VECTORS];
    for (size_t i = 0; i < VECTORS; i++) {
        addresses[i] = rows + i * row_bytes;
        if (refine_rows)
            memcpy(refine_rows + i * refine_bytes, addresses[i] + gyre_codec_scan_row_bytes(codec, dim), refine_bytes);
    }
    float *asked = must_alloc(dim * sizeof *asked);
    for (uint8_t bits = 4; bits <= 8; bits = (uint8_t)(bits + 2)) {
        gyre_query_options options = {.epsilon = 2.5f,
                                      .bound = (gyre_bound_kind)(bits / 2 - 1), /* plain, calibrated, certain */
                                      .scan_bits = bits,
                                      .refine_bits = bits == 4 ? GYRE_QUERY_BITS_FLOAT : bits,
                                      .epsilon_is_measured = true}; /* for codecs without a law */
        gyre_query *made[QUERIES] = {NULL};
        float thresholds[QUERIES];
        for (size_t q = 0; q < QUERIES; q++) {
            gyre_vector_normalize(gyre_codebook_metric(codebook), queries + q * dim, asked, dim);
            must(gyre_query_new(&made[q], quantizer, asked, NULL, &options, &err));
            gyre_estimate known[VECTORS];
            gyre_query_estimate(made[q], addresses, VECTORS, known);
            for (size_t i = 0; i < VECTORS; i++)
                *estimates = hash_floats(*estimates, (float[]){known[i].distance, known[i].low, known[i].high}, 3);
            thresholds[q] = known[VECTORS / 2].distance;
        }
        if (blocks)
            hash_scans((const gyre_query *const *)made, blocks, refine_rows, thresholds, hits, estimates);
        for (size_t q = 0; q < QUERIES; q++) {
            gyre_hit found[VECTORS];
            if (gyre_codec_has_signs(codec))
                *hits = hash_hits(*hits, found, gyre_query_scan_rows(made[q], rows, row_bytes, VECTORS, thresholds[q], found));
            gyre_query_free(made[q]);
        }
    }
    free(asked), free(blocks), free(refine_rows);
}

/* One codec at one dim under one metric: hashes of rows, of decoded rows, of hits and of estimates. */
static void say_codec(struct text *text, const gyre_codec *codec, uint32_t dim, gyre_metric metric)
{
    random_state = 7919 * dim + metric;
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    float *vectors = must_alloc((size_t)SAMPLE * dim * sizeof *vectors), *out = must_alloc(dim * sizeof *out);
    exact_vectors(vectors, SAMPLE, dim);
    vectors[0] = 1; /* cosine refuses a zero vector */
    for (size_t i = 0; i < SAMPLE * dim && codec->kind == GYRE_SEGMENTS; i++)
        vectors[i] /= (float)(1u << i % dim * 10 / dim); /* they serve skewed data only */
    GY_AUTO(gyre_codebook) *codebook = NULL;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gyre_codebook_new(&codebook, metric, dim, 1, seed, vectors + 5 * dim, &err));
    gyre_error refusal = {0};
    if (gyre_quantizer_train(&quantizer, codec, codebook, vectors, SAMPLE, &refusal) == GYRE_OK) {
        size_t row_bytes = gyre_codec_row_bytes(codec, dim);
        uint8_t *rows = must_alloc(VECTORS * row_bytes);
        must(gyre_quantizer_encode(quantizer, vectors, VECTORS, 0, rows, &err));
        uint64_t coded = hash(1, rows, VECTORS * row_bytes), decoded = 1, hits = 1, estimates = 1;
        for (size_t i = 0; i < VECTORS; i++) {
            gyre_quantizer_decode(quantizer, rows + i * row_bytes, out);
            decoded = hash_floats(decoded, out, dim);
        }
        hash_queries(quantizer, vectors + VECTORS * dim, rows, &hits, &estimates);
        say(text, "%s %u %s rows %016llx decoded %016llx hits %016llx estimates %016llx\n", codec->name, dim,
            gyre_metric_name(metric), (unsigned long long)coded, (unsigned long long)decoded, (unsigned long long)hits,
            (unsigned long long)estimates);
        free(rows);
    } else
        say(text, "%s %u %s refused\n", codec->name, dim, gyre_metric_name(metric));
    free(vectors), free(out);
}

static void say_rotation(struct text *text, uint32_t dim)
{
    random_state = dim;
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    GY_AUTO(gyre_rotation) *rotation = NULL;
    must(gyre_rotation_new(&rotation, dim, seed, &err));
    float vector[GYRE_DIM_MAX], out[GYRE_DIM_MAX];
    uint64_t there = 1, back = 1;
    for (size_t i = 0; i < VECTORS; i++) {
        exact_vectors(vector, 1, dim);
        vector[dim / 2] += 1;
        gyre_rotation_apply(rotation, vector, out);
        there = hash_floats(there, out, dim);
        gyre_rotation_invert(rotation, out, out);
        back = hash_floats(back, out, dim);
    }
    say(text, "rotation %u there %016llx back %016llx\n", dim, (unsigned long long)there, (unsigned long long)back);
}

/* Rotations that learners find, and k-means with its lists. */
static void say_learned(struct text *text)
{
    enum { DIM = 24, LISTS = 9 };
    random_state = 24;
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    static float vectors[SAMPLE * DIM], matrix[DIM * DIM], centroids[LISTS * DIM];
    exact_vectors(vectors, SAMPLE, DIM);
    GY_AUTO(gyre_codebook) *codebook = NULL;
    must(gyre_codebook_new(&codebook, GYRE_L2, DIM, 1, seed, NULL, &err));
    const gyre_learn_options few = {.iterations = 3};
    must(gyre_learn_itq(codebook, vectors, SAMPLE, &few, matrix, &err));
    uint64_t itq = hash_floats(1, matrix, DIM * DIM);
    must(gyre_learn_cayley(codebook, codec_named("rabitq1"), vectors, SAMPLE, &few, matrix, &err));
    uint64_t cayley = hash_floats(1, matrix, DIM * DIM);

    gyre_kmeans_options options = {.iterations_max = 5};
    memcpy(options.seed, seed, sizeof seed);
    must(gyre_kmeans_train(&options, vectors, SAMPLE, DIM, LISTS, centroids, NULL, &err));
    GY_AUTO(gyre_centroids) *made = NULL;
    must(gyre_centroids_new(&made, centroids, LISTS, DIM, &err));
    uint32_t lists[SAMPLE];
    float distances[SAMPLE];
    must(gyre_kmeans_assign(made, vectors, SAMPLE, 0, lists, distances, &err));
    uint64_t assigned = hash_floats(1, distances, SAMPLE);
    for (size_t i = 0; i < SAMPLE; i++)
        assigned = hash(assigned, (uint8_t[]){(uint8_t)lists[i]}, 1);
    say(text, "learned itq %016llx cayley %016llx kmeans %016llx lists %016llx\n", (unsigned long long)itq,
        (unsigned long long)cayley, (unsigned long long)hash_floats(1, centroids, LISTS * DIM), (unsigned long long)assigned);
}

/* A partition: lists of vectors, lists to probe (at the largest dim by codes), rows of a list and what queries moved to it
 * find. */
static void say_lists(struct text *text, const char *name, uint32_t dim, gyre_metric metric)
{
    enum { LISTS = 400, PROBED = 30 };
    random_state = 104729 * dim + metric;
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    float *vectors = must_alloc((size_t)(LISTS + VECTORS) * dim * sizeof *vectors), *queries = vectors + (size_t)LISTS * dim;
    exact_vectors(vectors, LISTS + VECTORS, dim);
    vectors[0] = queries[0] = 1;
    GY_AUTO(gyre_codebook) *codebook = NULL;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gyre_codebook_new_partitioned(&codebook, metric, dim, 1, seed, vectors + 5 * dim, vectors, LISTS, &err));
    must(gyre_quantizer_new(&quantizer, codec_named(name), codebook, &err));
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    size_t row_bytes = gyre_codec_list_row_bytes(codec, dim);
    uint8_t *rows = must_alloc(VECTORS * row_bytes);
    uint32_t lists[VECTORS];
    must(gyre_partition_assign(codebook, queries, VECTORS, 0, lists, &err));
    uint64_t assigned = hash(1, lists, sizeof lists), probed = 1, coded = 1, hits = 1, estimates = 1;
    for (size_t q = 0; q < QUERIES; q++) {
        GY_AUTO(gyre_query) *query = NULL;
        gyre_vector_normalize(metric, queries + q * dim, queries + q * dim, dim);
        must(gyre_partition_probe(codebook, queries + q * dim, NULL, PROBED, lists, &err));
        probed = hash(probed, lists, PROBED * sizeof *lists);
        must(gyre_query_new(&query, quantizer, queries + q * dim, NULL, &(gyre_query_options){.epsilon = 2.5f}, &err));
        for (size_t l = 0; l < PROBED; l += 10) {
            const float *centroid = gyre_codebook_centroid(codebook, lists[l]);
            must(gyre_quantizer_encode_list(quantizer, centroid, queries, VECTORS, 0, rows, &err));
            coded = hash(coded, rows, VECTORS * row_bytes);
            gyre_query_move(query, centroid);
            gyre_hit found[VECTORS];
            hits = hash_hits(hits, found, gyre_query_scan_rows(query, rows, row_bytes, VECTORS, INFINITY, found));
            for (size_t i = 0; i < VECTORS; i++) {
                gyre_estimate known;
                gyre_query_estimate(query, &(const uint8_t *){rows + i * row_bytes}, 1, &known);
                estimates = hash_floats(estimates, (float[]){known.distance, known.low, known.high}, 3);
            }
        }
    }
    say(text, "lists %s %u %s assigned %016llx probed %016llx rows %016llx hits %016llx estimates %016llx\n", name, dim,
        gyre_metric_name(metric), (unsigned long long)assigned, (unsigned long long)probed, (unsigned long long)coded,
        (unsigned long long)hits, (unsigned long long)estimates);
    free(vectors), free(rows);
}

/* Everything, by one kernel table. Training is left out at the largest dim: seconds a table. */
static struct text *all_lines(const char *table)
{
    struct text *text = must_alloc(sizeof *text);
    text->used = 0;
    must(gyre_simd_select(table, &err));
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t d = 0; d < DIMS; d++) {
        say_rotation(text, dims[d]);
        for (size_t c = 0; c < count; c++)
            if (dims[d] < 768 || !gyre_codec_is_trained(&codecs[c]))
                say_codec(text, &codecs[c], dims[d], (gyre_metric)(1 + (codecs[c].kind + codecs[c].bits + d) % 3));
    }
    say_learned(text);
    for (size_t d = 2; d < DIMS; d++)
        say_lists(text, d % 2 ? "rabitq4" : "signblock-p8b2", dims[d], (gyre_metric)(1 + d % 3));
    must(gyre_simd_select(NULL, &err));
    return text;
}

static void every_table_gives_the_same_bytes(void **state)
{
    (void)state;
    struct text *wanted = all_lines("ref");
    for (size_t k = 1; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        struct text *given = all_lines(gy_kernels_all[k]->name);
        size_t line = 0; /* where the line of the first difference starts */
        for (size_t i = 0; i < wanted->used && i < given->used && wanted->at[i] == given->at[i]; i++)
            if (wanted->at[i] == '\n')
                line = i + 1;
        if (strcmp(wanted->at, given->at) != 0)
            fail_msg("ref: %.*s\n%s: %.*s", (int)strcspn(wanted->at + line, "\n"), wanted->at + line, gy_kernels_all[k]->name,
                     (int)strcspn(given->at + line, "\n"), given->at + line);
        free(given);
    }
    free(wanted);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        struct text *text = all_lines(NULL);
        fputs(text->at, stdout);
        free(text);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_gives_the_same_bytes),
    };
    return cmocka_run_group_tests_name("codec.tables", tests, NULL, NULL);
}
