/* The whole library gives the same bytes from every kernel table that runs here: rows of every codec, what is decoded from them, what
 * scans find and what estimates say; rotations too. `test_codec_tables --print` prints a line a codec and dim with the hash of each:
 * test_portable and test_neon compare these lines between compilers, optimisation levels and processors.
 *
 * Inputs are made without any library function, and so is all that is hashed: epsilon is a constant. */
#include "kernels/kernels.h"
#include "support.h"

#include <stdarg.h>

static const uint32_t dims[] = {1, 2, 3, 131, 768};
enum { DIMS = sizeof dims / sizeof *dims, VECTORS = 40, SAMPLE = 320, TEXT_BYTES = 1 << 16 };

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

/* One codec at one dim under one metric: hashes of rows, of decoded rows, of hits and of estimates. */
static void say_codec(struct text *text, const gyre_codec *codec, uint32_t dim, gyre_metric metric)
{
    random_state = 7919 * dim + metric;
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    float *vectors = must_alloc((size_t)SAMPLE * dim * sizeof *vectors), *out = must_alloc(dim * sizeof *out);
    exact_vectors(vectors, SAMPLE, dim);
    vectors[0] = 1; /* cosine refuses a zero vector */
    GY_AUTO(gyre_codebook) *codebook = NULL;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gyre_codebook_new(&codebook, metric, dim, 1, seed, vectors + 5 * dim, &err));
    gyre_error refusal = {0};
    if (gyre_quantizer_train(&quantizer, codec, codebook, vectors, SAMPLE, &refusal) != GYRE_OK) {
        say(text, "%s %u %s refused\n", codec->name, dim, gyre_metric_name(metric));
        free(vectors), free(out);
        return;
    }
    size_t row_bytes = gyre_codec_row_bytes(codec, dim);
    uint8_t *rows = must_alloc(VECTORS * row_bytes);
    const uint8_t *addresses[VECTORS];
    must(gyre_quantizer_encode(quantizer, vectors, VECTORS, 0, rows, &err));
    uint64_t coded = hash(1, rows, VECTORS * row_bytes), decoded = 1, hits = 1, estimates = 1;
    for (size_t i = 0; i < VECTORS; i++) {
        addresses[i] = rows + i * row_bytes;
        gyre_quantizer_decode(quantizer, addresses[i], out);
        decoded = hash_floats(decoded, out, dim);
    }
    uint8_t *blocks = gyre_codec_scans(codec) ? new_blocks(codec, dim, rows, VECTORS) : NULL;
    for (uint8_t bits = 4; bits <= 8; bits = (uint8_t)(bits + 2)) {
        gyre_query_options options = {.epsilon = 2.5f,
                                      .epsilon_is_measured = true, /* for codecs that have no law */
                                      .bound = (gyre_bound_kind)(bits / 2 - 1), /* plain, calibrated, certain */
                                      .scan_bits = bits,
                                      .refine_bits = bits == 4 ? GYRE_QUERY_BITS_FLOAT : bits};
        GY_AUTO(gyre_query) *query = NULL;
        gyre_vector_normalize(metric, vectors + (VECTORS + bits) * dim, out, dim);
        must(gyre_query_new(&query, quantizer, out, NULL, &options, &err));
        gyre_estimate known[VECTORS];
        gyre_query_estimate(query, addresses, VECTORS, known);
        for (size_t i = 0; i < VECTORS; i++)
            estimates = hash_floats(estimates, (float[]){known[i].distance, known[i].low, known[i].high}, 3);
        if (!blocks)
            continue;
        gyre_hit found[2 * GYRE_BLOCK_ROWS];
        size_t count = gyre_query_scan(query, blocks, 2, known[VECTORS / 2].distance, found);
        for (size_t i = 0; i < count; i++) {
            hits = hash(hits, (uint8_t[]){(uint8_t)found[i].row}, 1);
            hits = hash_floats(hits, (float[]){found[i].estimate, found[i].half_width}, 2);
        }
    }
    say(text, "%s %u %s rows %016llx decoded %016llx hits %016llx estimates %016llx\n", codec->name, dim, gyre_metric_name(metric),
        (unsigned long long)coded, (unsigned long long)decoded, (unsigned long long)hits, (unsigned long long)estimates);
    free(vectors), free(out), free(rows), free(blocks);
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

/* Everything, by one kernel table. */
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
            say_codec(text, &codecs[c], dims[d], (gyre_metric)(1 + (c + d) % 3));
    }
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
