/* Rows of every codec, at random shapes: what the encoder meant is what the decoder reads, bit for bit, and the stored factors
 * are those of quantizers/coder.h, computed again in plain double arithmetic; the error never rounds down. */
#include "each_codec.h"

enum { DIM_MAX = 320, SAMPLES = 60 };

struct sample {
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    float x[DIM_MAX], z[DIM_MAX];
    double r2;
    uint8_t *row;
};

static void sample_init(struct sample *sample, const gyre_codec *codec, uint32_t dim)
{
    float mean[DIM_MAX];
    double size = pow(10, (double)(random_u64() % 21) - 10);
    random_vector(mean, dim, size * .3);
    random_vector(sample->x, dim, size);
    if (random_u64() % 8 == 0) /* sparse */
        memset(sample->x, 0, (dim - 1) * sizeof *sample->x);
    gyre_metric metric = (gyre_metric)(1 + random_u64() % 3);
    sample->codebook = new_codebook(metric, dim, mean);
    sample->quantizer = any_quantizer(codec, sample->codebook);
    sample->row = must_alloc(gyre_codec_row_bytes(codec, dim));
    must(gyre_quantizer_encode(sample->quantizer, sample->x, 1, 0, sample->row, &err));
    sample->r2 = rotated_residual(sample->quantizer, sample->x, sample->z);
}

static void sample_fini(struct sample *sample)
{
    free(sample->row);
    gyre_quantizer_free(sample->quantizer);
    gyre_codebook_free(sample->codebook);
}

typedef void check_function(const gyre_codec *codec, uint32_t dim, const struct sample *sample);

static void for_every_codec(check_function *check)
{
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++)
        for (int n = 0; n < SAMPLES; n++) {
            uint32_t dim = 1 + (uint32_t)(random_u64() % (n % 4 ? 160 : DIM_MAX));
            while (!codec_serves(&codecs[c], dim))
                dim++;
            assert_true(dim <= DIM_MAX);
            struct sample sample;
            sample_init(&sample, &codecs[c], dim);
            check(&codecs[c], dim, &sample);
            sample_fini(&sample);
        }
}

static void check_identity(const gyre_codec *codec, uint32_t dim, const struct sample *sample)
{
    must(gyre_codec_row_check(codec, dim, sample->row, &err));
    void *scratch = must_alloc(sample->quantizer->scratch_bytes + 1);
    struct gy_residual residual = {.z = sample->z, .r2 = sample->r2, .per_unit = (float)sqrt(dim / sample->r2)};
    for (size_t p = 0; p < plane_count(codec); p++) {
        struct plane plane = row_plane(sample->quantizer, sample->row, p);
        float meant[DIM_MAX], read[DIM_MAX];
        uint8_t *code = must_alloc(plane.code_bytes + 1);
        residual.signs = p ? sample->row : NULL;
        memset(code, 0, plane.code_bytes + 1);
        plane.coder->encode(sample->quantizer, plane.state, &residual, code, meant, scratch);
        if (memcmp(code, plane.code.code, plane.code_bytes) != 0)
            fail_msg("%s dim %u: plane %zu encodes to other bytes by itself", codec->name, dim, p);
        assert_int_equal(code[plane.code_bytes], 0);
        plane_decode(sample->quantizer, &plane, read);
        if (memcmp(read, meant, dim * sizeof *read) != 0)
            fail_msg("%s dim %u: plane %zu decodes to other numbers than were encoded", codec->name, dim, p);
        free(code);
    }
    free(scratch);
}

static void what_is_decoded_is_what_was_encoded(void **state)
{
    (void)state;
    for_every_codec(check_identity);
}

static void check_factors(const gyre_codec *codec, uint32_t dim, const struct sample *sample)
{
    for (size_t p = 0; p < plane_count(codec); p++) {
        struct plane plane = row_plane(sample->quantizer, sample->row, p);
        float zb[DIM_MAX];
        double rho = 0, nu2 = 0, left = 0, r2 = sample->r2, s;
        plane_decode(sample->quantizer, &plane, zb);
        for (uint32_t i = 0; i < dim; i++)
            rho += (double)sample->z[i] * (double)zb[i], nu2 += (double)zb[i] * (double)zb[i];
        bool unbiased = has_law(codec),
             shrunk = codec->variant == GYRE_VARIANT_BIASED; /* FORMAT.md, "row": others have their own */
        s = unbiased ? r2 / rho : shrunk ? rho / nu2 : sqrt(r2);
        for (uint32_t i = 0; i < dim; i++)
            left += pow((double)sample->z[i] - s * (double)zb[i], 2);
        double r = sqrt(r2), e = dim > 1 ? sqrt(left / (dim - 1)) : unbiased ? 0 : sqrt(left);
        if (fabs(plane.s - s) > 1e-6 * s || fabs(plane.r2 - r2) > 1e-6 * r2)
            fail_msg("%s dim %u plane %zu: s %g r2 %g, wanted %g and %g", codec->name, dim, p, plane.s, plane.r2, s, r2);
        /* z is P r to 1e-6 of R: what is that small need not be there. */
        double noise = 1e-6 * r;
        if (plane.e < e - noise || plane.e > e * (1 + 1 / 127.) + noise)
            fail_msg("%s dim %u plane %zu: e %g, wanted %g", codec->name, dim, p, plane.e, e);
    }
}

static void stored_factors_are_those_of_the_code(void **state)
{
    (void)state;
    for_every_codec(check_factors);
}

/* Batches give the rows of one by one, and a seed gives its own. */
static void rows_depend_on_vector_and_codebook_alone(void **state)
{
    (void)state;
    enum { N = 9, DIM = 96 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    float vectors[N * DIM], copy[N * DIM];
    random_vector(vectors, N * DIM, 1);
    memcpy(copy, vectors, sizeof copy);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_COSINE, DIM, NULL), *other = new_codebook(GYRE_COSINE, DIM, NULL);
    for (size_t c = 0; c < count; c++) {
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], codebook), *elsewhere = any_quantizer(&codecs[c], other);
        size_t bytes = gyre_codec_row_bytes(&codecs[c], DIM);
        uint8_t *rows = must_alloc(N * bytes), *row = must_alloc(bytes);
        must(gyre_quantizer_encode(quantizer, vectors, N, 0, rows, &err));
        assert_memory_equal(vectors, copy, sizeof copy);
        for (size_t i = N; i-- > 0;) {
            memset(row, 0xaa, bytes);
            must(gyre_quantizer_encode(quantizer, vectors + i * DIM, 1, i, row, &err));
            assert_memory_equal(row, rows + i * bytes, bytes);
        }
        must(gyre_quantizer_encode(elsewhere, vectors, 1, 0, row, &err));
        if (!quantizer->coder[0]->unrotated) /* whose codes no seed enters, but their training's */
            assert_memory_not_equal(row, rows, gyre_codec_scan_code_bytes(&codecs[c], DIM));
        free(rows), free(row);
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_decoded_is_what_was_encoded),
        cmocka_unit_test(stored_factors_are_those_of_the_code),
        cmocka_unit_test(rows_depend_on_vector_and_codebook_alone),
    };
    return cmocka_run_group_tests_name("codec.prop_rows", tests, NULL, NULL);
}
