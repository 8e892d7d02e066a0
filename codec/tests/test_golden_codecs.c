/* The golden file of every codec: what it stores, byte for byte, and what that stands for. They never change;
 * `test_codec_golden_codecs --write DIR` writes the file of a codec that has none yet.
 *
 * A file is lines "name hex" in this order: codec (its name), codebook, header (the quantizer's), then per vector: vector,
 * row, zb (of each plane), decoded; and, of codecs that scan, block (all rows in places 0, 1, …; the rest empty).
 *
 * Files of rows of lists, for a codec of each sort: codec, codebook (of format 3), header, then per vector: vector, list (u32),
 * row. */
#include "each_codec.h"
#include "golden.h"

enum { DIM_MAX = 57, VECTORS = 4, SAMPLE = 300 };

/* Principal components are worth nothing among few dimensions. */
static uint32_t dim_of(const gyre_codec *codec) { return codec->kind == GYRE_SEGMENTS ? 57 : 21; }

static unsigned hex_digit(char digit) { return (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10); }

/* From the header in a file; NULL if there is no file. */
static gyre_quantizer *remembered(const char *path, const gyre_codebook *codebook)
{
    static char text[TEXT_BYTES];
    static uint8_t header[TEXT_BYTES / 2];
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    text[fread(text, 1, TEXT_BYTES - 1, file)] = '\0';
    fclose(file);
    const char *at = strstr(text, "\nheader ");
    assert_non_null(at);
    size_t bytes = 0;
    for (at += strlen("\nheader "); *at != '\n'; at += 2)
        header[bytes++] = (uint8_t)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
    gyre_quantizer *quantizer = NULL;
    must(gyre_quantizer_decode_header(&quantizer, codebook, header, bytes, &err));
    return quantizer;
}

/* What was learned is kept: the files bind what codes mean, not how one learns. Skewed vectors, as some codecs demand, by
 * powers of two. */
static gyre_quantizer *new_golden_quantizer(const gyre_codec *codec, const gyre_codebook *codebook, const char *path)
{
    static float sample[SAMPLE * DIM_MAX];
    uint32_t dim = gyre_codebook_dim(codebook);
    gyre_quantizer *old = gyre_codec_is_trained(codec) ? remembered(path, codebook) : NULL;
    if (old)
        return old;
    golden_floats(sample, SAMPLE * dim);
    for (size_t i = 0; i < SAMPLE * dim; i++)
        sample[i] /= (float)(1 << i % dim / 5);
    gyre_quantizer *quantizer = NULL;
    must(gyre_quantizer_train(&quantizer, codec, codebook, sample, gyre_codec_is_trained(codec) ? SAMPLE : 0, &err));
    return quantizer;
}

static void write_golden(const gyre_codec *codec, gyre_metric metric, const char *path, struct text *text)
{
    uint8_t seed[GYRE_SEED_BYTES], encoded[512];
    float mean[DIM_MAX], vector[DIM_MAX], out[DIM_MAX];
    uint32_t dim = dim_of(codec);
    random_state = 2000 + codec->kind;
    random_seed_bytes(seed);
    golden_floats(mean, dim);
    for (size_t i = 0; i < dim; i++)
        mean[i] /= 64;
    GY_AUTO(gyre_codebook) *codebook = NULL;
    must(gyre_codebook_new(&codebook, metric, dim, 1, seed, mean, &err));
    GY_AUTO(gyre_quantizer) *quantizer = new_golden_quantizer(codec, codebook, path);
    random_state = 3000 + codec->kind; /* whatever learning took */
    put(text, "codec", (const uint8_t *)codec->name, strlen(codec->name));
    assert_true(gyre_codebook_encoded_bytes(codebook) <= sizeof encoded);
    gyre_codebook_encode(codebook, encoded);
    put(text, "codebook", encoded, gyre_codebook_encoded_bytes(codebook));
    uint8_t *header = must_alloc(gyre_quantizer_encoded_bytes(quantizer));
    gyre_quantizer_encode_header(quantizer, header);
    put(text, "header", header, gyre_quantizer_encoded_bytes(quantizer));
    size_t row_bytes = gyre_codec_row_bytes(codec, dim), code_bytes = gyre_codec_scan_code_bytes(codec, dim);
    uint8_t *rows = must_alloc(VECTORS * row_bytes);
    for (size_t v = 0; v < VECTORS; v++) {
        golden_floats(vector, dim);
        if (v == 1) /* the second has no component but the last */
            memset(vector, 0, (dim - 1) * sizeof *vector), vector[dim - 1] = -1.5f;
        if (v == 3 && metric != GYRE_COSINE) /* the fourth is the reference point */
            memcpy(vector, mean, dim * sizeof *mean);
        put_floats(text, "vector", vector, dim);
        uint8_t *row = rows + v * row_bytes;
        must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
        must(gyre_codec_row_check(codec, dim, row, &err));
        put(text, "row", row, row_bytes);
        for (size_t p = 0; p < plane_count(codec); p++) {
            struct plane plane = row_plane(quantizer, row, p);
            plane_decode(quantizer, &plane, out);
            put_floats(text, "zb", out, dim);
        }
        gyre_quantizer_decode(quantizer, row, out);
        put_floats(text, "decoded", out, dim);
    }
    if (gyre_codec_scans(codec)) {
        uint8_t *block = new_blocks(codec, dim, rows, VECTORS);
        put(text, "block", block, gyre_block_bytes(code_bytes));
        free(block);
    }
    free(header), free(rows);
}

/* Rows of lists; every other vector belongs to the second. */
static void write_golden_lists(const gyre_codec *codec, gyre_metric metric, struct text *text)
{
    enum { DIM = 21, LISTS = 2 };
    uint8_t seed[GYRE_SEED_BYTES], encoded[512], header[64], row[128];
    float mean[DIM], centroids[LISTS * DIM], vector[DIM];
    random_state = 4000 + codec->kind;
    random_seed_bytes(seed);
    golden_floats(mean, DIM), golden_floats(centroids, LISTS * DIM);
    for (size_t i = 0; i < DIM; i++)
        mean[i] /= 64;
    GY_AUTO(gyre_codebook) *codebook = NULL;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    must(gyre_codebook_new_partitioned(&codebook, metric, DIM, 1, seed, mean, centroids, LISTS, &err));
    must(gyre_quantizer_new(&quantizer, codec, codebook, &err));
    put(text, "codec", (const uint8_t *)codec->name, strlen(codec->name));
    assert_true(gyre_codebook_encoded_bytes(codebook) <= sizeof encoded &&
                gyre_quantizer_encoded_bytes(quantizer) <= sizeof header);
    gyre_codebook_encode(codebook, encoded);
    put(text, "codebook", encoded, gyre_codebook_encoded_bytes(codebook));
    gyre_quantizer_encode_header(quantizer, header);
    put(text, "header", header, gyre_quantizer_encoded_bytes(quantizer));
    assert_true(gyre_codec_list_row_bytes(codec, DIM) <= sizeof row);
    for (uint32_t v = 0; v < VECTORS; v++) {
        const float *centroid = gyre_codebook_centroid(codebook, v % LISTS);
        golden_floats(vector, DIM);
        if (v == 3 && metric != GYRE_COSINE) /* the fourth is its centroid */
            memcpy(vector, centroid, sizeof vector);
        put_floats(text, "vector", vector, DIM);
        put_u32(text, "list", v % LISTS);
        must(gyre_quantizer_encode_list(quantizer, centroid, vector, 1, 0, row, &err));
        put(text, "row", row, gyre_codec_list_row_bytes(codec, DIM));
    }
}

static bool for_every_sort_of_list(const char *directory, bool (*use)(const char *path, const struct text *now))
{
    static const char *const names[] = {"rabitq1", "rabitq4", "signblock-p8b2", "signtrellis-b3", "eden2-biased", "dithered3"};
    bool good = true;
    for (size_t c = 0; c < sizeof names / sizeof *names; c++) {
        struct text now = {must_alloc(TEXT_BYTES), 0};
        char path[512];
        gyre_metric metric = (gyre_metric)(1 + c % 3);
        snprintf(path, sizeof path, "%s/list-%s-%s-21.txt", directory, names[c], gyre_metric_name(metric));
        write_golden_lists(codec_named(names[c]), metric, &now);
        good = use(path, &now) && good;
        free(now.at);
    }
    return good;
}

/* Calls for every codec with its path and text; false if any call was. */
static bool for_every_codec(const char *directory, bool (*use)(const char *path, const struct text *now))
{
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    bool good = true;
    for (size_t c = 0; c < count; c++) {
        struct text now = {must_alloc(TEXT_BYTES), 0};
        char path[512];
        gyre_metric metric = (gyre_metric)(1 + codecs[c].kind % 3);
        snprintf(path, sizeof path, "%s/codec-%s-%s-%u.txt", directory, codecs[c].name, gyre_metric_name(metric),
                 dim_of(&codecs[c]));
        write_golden(&codecs[c], metric, path, &now);
        good = use(path, &now) && good;
        free(now.at);
    }
    return good;
}

static void the_golden_bytes_of_every_codec_never_change(void **state)
{
    (void)state;
    for_every_codec(VECTORS_DIR, golden_compare);
}

static void the_golden_bytes_of_rows_of_lists_never_change(void **state)
{
    (void)state;
    for_every_sort_of_list(VECTORS_DIR, golden_compare);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return for_every_codec(argv[2], golden_create) && for_every_sort_of_list(argv[2], golden_create) ? 0 : 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_golden_bytes_of_every_codec_never_change),
        cmocka_unit_test(the_golden_bytes_of_rows_of_lists_never_change),
    };
    return cmocka_run_group_tests_name("codec.golden_codecs", tests, NULL, NULL);
}
