/* The golden files: seed, mean and vectors with the bytes they have always given. They never change; a new format gets new
 * files. `test_codec_golden --write DIR` writes the files of a format that has none yet.
 *
 * A file is lines "name hex" in this order: metric dim version (u32le each), seed, mean, codebook, fingerprint (u64le), then
 * per vector: vector, rotated (of the normalised vector), row; then block (all rows in places 0, 1, …; the rest empty). */
#include "golden.h"

static const struct golden {
    const char *name;
    gyre_metric metric;
    uint32_t dim;
    size_t vectors;
    bool learned; /* a codebook of format 2 */
} goldens[] = {
    {"ip-1", GYRE_IP, 1, 2, false},
    {"l2-3", GYRE_L2, 3, 3, false},
    {"cosine-20", GYRE_COSINE, 20, 4, false},
    {"l2-100", GYRE_L2, 100, 4, false},
    {"ip-128", GYRE_IP, 128, 3, false},
    {"cosine-131", GYRE_COSINE, 131, 3, false},
    {"l2-768", GYRE_L2, 768, 2, false},
    {"learned-l2-3", GYRE_L2, 3, 3, true},
    {"learned-cosine-21", GYRE_COSINE, 21, 4, true},
};
enum { GOLDENS = sizeof goldens / sizeof *goldens };

/* A rotation of planes (3/5, 4/5), each coordinate with its next ones: without any library function, the same everywhere. */
static void golden_matrix(float *matrix, uint32_t dim)
{
    double rows[32][32] = {{0}};
    for (uint32_t i = 0; i < dim; i++)
        rows[i][i] = i % 3 ? 1 : -1;
    for (uint32_t step = 1; step < 4; step++)
        for (uint32_t i = 0; i + step < dim; i++)
            for (uint32_t j = 0; j < dim; j++) {
                double a = rows[i][j], b = rows[i + step][j];
                rows[i][j] = 0.6 * a - 0.8 * b;
                rows[i + step][j] = 0.8 * a + 0.6 * b;
            }
    for (uint32_t i = 0; i < dim; i++)
        for (uint32_t j = 0; j < dim; j++)
            matrix[i * dim + j] = (float)rows[i][j];
}

static void write_golden(const struct golden *golden, struct text *text)
{
    uint32_t dim = golden->dim;
    random_state = 1000 + dim;
    uint8_t seed[GYRE_SEED_BYTES], encoded[4 * 1024], row[256], word[8];
    random_seed_bytes(seed);
    float mean[1024], vector[1024], rotated[1024];
    golden_floats(mean, dim);
    for (uint32_t i = 0; i < dim; i++)
        mean[i] /= 64;
    GY_AUTO(gyre_codebook) *codebook = NULL;
    if (golden->learned) {
        float matrix[32 * 32];
        golden_matrix(matrix, dim);
        must(gyre_codebook_new_learned(&codebook, golden->metric, dim, 3, seed, mean, matrix, &err));
    } else
        must(gyre_codebook_new(&codebook, golden->metric, dim, 3, seed, mean, &err));
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    size_t code_bytes = gyre_codec_scan_code_bytes(gyre_quantizer_codec(quantizer), dim);
    put_u32(text, "metric", golden->metric);
    put_u32(text, "dim", dim);
    put_u32(text, "version", 3);
    put(text, "seed", seed, sizeof seed);
    put_floats(text, "mean", mean, dim);
    gyre_codebook_encode(codebook, encoded);
    put(text, "codebook", encoded, gyre_codebook_encoded_bytes(codebook));
    gy_store_u64(word, gyre_codebook_fingerprint(codebook));
    put(text, "fingerprint", word, sizeof word);
    uint8_t *block = must_alloc(gyre_block_bytes(code_bytes));
    gyre_block_init(code_bytes, block);
    for (size_t v = 0; v < golden->vectors; v++) {
        golden_floats(vector, dim);
        if (v == 1) /* the second is one-hot: no component but the last */
            memset(vector, 0, (dim - 1) * sizeof *vector), vector[dim - 1] = -1.5f;
        put_floats(text, "vector", vector, dim);
        must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
        gyre_vector_normalize(golden->metric, vector, vector, dim);
        gyre_rotation_apply(gyre_codebook_rotation(codebook), vector, rotated);
        put_floats(text, "rotated", rotated, dim);
        put(text, "row", row, gyre_codec_row_bytes(gyre_quantizer_codec(quantizer), dim));
        gyre_block_set(code_bytes, block, v, row);
    }
    put(text, "block", block, gyre_block_bytes(code_bytes));
    free(block);
}

static char *golden_path(char path[512], const char *directory, const struct golden *golden)
{
    snprintf(path, 512, "%s/rabitq1-%s.txt", directory, golden->name);
    return path;
}

static bool for_every_golden(const char *directory, bool (*use)(const char *path, const struct text *now))
{
    bool good = true;
    for (size_t g = 0; g < GOLDENS; g++) {
        struct text now = {must_alloc(TEXT_BYTES), 0};
        char path[512];
        write_golden(&goldens[g], &now);
        good = use(golden_path(path, directory, &goldens[g]), &now) && good;
        free(now.at);
    }
    return good;
}

static void the_golden_bytes_never_change(void **state)
{
    (void)state;
    for_every_golden(VECTORS_DIR, golden_compare);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return for_every_golden(argv[2], golden_create) ? 0 : 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_golden_bytes_never_change),
    };
    return cmocka_run_group_tests_name("codec.golden", tests, NULL, NULL);
}
