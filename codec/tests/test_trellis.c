/* The trellis codes: tables are what their hashes say, codes are read as FORMAT.md says, every table of kernels gives the same
 * whole numbers, and estimates with a rounded query are exact in them. */
#include "each_codec.h"
#include "trellis/tables.h"
#include "trellis_shapes.h"

#include <sodium.h>

static const char *const names[] = {"trellis-l6b1",   "trellis-l8b1",   "trellis-l8b2",
                                    "signtrellis-b2", "signtrellis-b3", "signtrellis-b4"};
enum { NAMES = sizeof names / sizeof *names };

static void tables_are_what_their_hashes_say(void **state)
{
    (void)state;
    assert_int_equal(gy_trellis_table_count, NAMES);
    for (size_t t = 0; t < gy_trellis_table_count; t++) {
        const struct gy_trellis_table *table = &gy_trellis_tables[t];
        uint8_t bytes[4 + 2 * GY_TRELLIS_STATES_MAX] = {table->kind, table->window, table->fresh, table->scale}, digest[32];
        size_t count = (size_t)1 << table->window;
        for (size_t s = 0; s < count; s++) {
            bool magnitudes = table->kind == GYRE_SIGNTRELLIS;
            assert_in_range(table->values[s] + (magnitudes ? 0 : 128), 0, 255);
            gy_store_u16(bytes + 4 + 2 * s, (uint16_t)table->values[s]);
        }
        crypto_generichash(digest, sizeof digest, bytes, 4 + 2 * count, NULL, 0);
        if (gy_load_u64(digest) != table->hash)
            fail_msg("table %zu: the hash of its values is 0x%016llx", t, (unsigned long long)gy_load_u64(digest));
    }
}

static void codes_take_a_few_bits_more_than_their_dimensions(void **state)
{
    (void)state;
    static const size_t bytes[NAMES][4] = {/* dim 1, 3, 128, 768: ceil((k·dim + L - k)/8) */
                                           {1, 1, 17, 97}, {1, 2, 17, 97},  {1, 2, 33, 193},
                                           {1, 2, 17, 97}, {1, 2, 33, 193}, {1, 2, 49, 289}};
    for (size_t n = 0; n < NAMES; n++)
        for (size_t d = 0; d < 4; d++) {
            const gyre_codec *codec = codec_named(names[n]);
            uint32_t dim = ((const uint32_t[]){1, 3, 128, 768})[d];
            assert_int_equal(bytes[n][d], gyre_codec_has_refinement(codec) ? gyre_codec_refine_code_bytes(codec, dim)
                                                                           : gyre_codec_scan_code_bytes(codec, dim));
        }
}

static void padding_that_is_not_zero_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < NAMES; n++)
        for (uint32_t dim = 1; dim < 20; dim++) {
            const gyre_codec *codec = codec_named(names[n]);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(names[n], codebook);
            float x[20];
            random_vector(x, dim, 1);
            uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, dim));
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            must(gyre_codec_row_check(codec, dim, row, &err));
            uint32_t k = codec->kind == GYRE_TRELLIS ? codec->bits : codec->bits - 1u, bits = k * dim + codec->block - k;
            uint8_t *code = row + (gyre_codec_has_refinement(codec) ? gyre_codec_scan_row_bytes(codec, dim) : 0);
            for (uint32_t bit = bits; bit < (bits + 7) / 8 * 8; bit++) {
                code[bit / 8] ^= (uint8_t)(1u << bit % 8);
                must_fail(gyre_codec_row_check(codec, dim, row, &err), GYRE_CORRUPT, codec->name);
                code[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
            free(row);
        }
}

static const uint32_t dims[] = {1,  2,  3,  7,  8,   9,   15,  16,  17,  31,  32,  33,
                                63, 64, 65, 100, 127, 128, 129, 131, 192, 300, 768, 4096};
enum { DIMS = sizeof dims / sizeof *dims };

static uint8_t *random_signs(uint32_t dim)
{
    uint8_t *signs = malloc((dim + 7) / 8);
    assert_non_null(signs);
    for (size_t j = 0; j < (dim + 7) / 8; j++)
        signs[j] = (uint8_t)random_u64();
    return signs;
}

static void every_window_of_any_code_is_read_by_every_table(void **state)
{
    (void)state;
    for (size_t h = 0; h < SHAPES; h++)
        for (size_t d = 0; d < DIMS; d++) {
            struct gy_trellis trellis;
            uint32_t dim = dims[d];
            random_trellis(&trellis, &shapes[h], false);
            uint8_t *code = random_code(&trellis, dim), *signs = shapes[h].magnitudes ? random_signs(dim) : NULL;
            int8_t *levels = must_alloc(dim + GY_TRELLIS_LANES);
            float *decoded = malloc(dim * sizeof *decoded);
            assert_non_null(decoded);
            memset(levels, 0, dim + GY_TRELLIS_LANES);
            int32_t sum = 0;
            for (uint32_t i = 0; i < dim; i++) {
                levels[i] = (int8_t)((int)(random_u64() % 255) - 127);
                int32_t value = trellis.value[window_at(&trellis, code, dim, i)] * levels[i];
                sum += signs && !(signs[i / 8] >> i % 8 & 1) ? -value : value;
            }
            for (size_t t = 0; gy_kernels_all[t]; t++) {
                if (!gy_kernels_all[t]->runs_here())
                    continue;
                const gy_trellis_kernels *kernels = gy_kernels_all[t]->trellis;
                if (kernels->dot(&trellis, signs, code, dim, levels) != sum)
                    fail_msg("%s: dot, shape %zu, dim %u", gy_kernels_all[t]->name, h, dim);
                kernels->decode(&trellis, signs, code, dim, decoded);
                for (uint32_t i = 0; i < dim; i++) {
                    int32_t value = trellis.value[window_at(&trellis, code, dim, i)] - trellis.lift;
                    float wanted = (float)(signs && !(signs[i / 8] >> i % 8 & 1) ? -value : value);
                    if (memcmp(&decoded[i], &wanted, sizeof wanted) != 0)
                        fail_msg("%s: shape %zu, dim %u, coordinate %u decodes to %g, not %g", gy_kernels_all[t]->name, h, dim, i,
                                 (double)decoded[i], (double)wanted);
                }
            }
            free(code), free(signs), free(levels), free(decoded);
        }
}

static void every_table_finds_the_same_path(void **state)
{
    (void)state;
    uint64_t(*choices)[2] = must_alloc(GYRE_DIM_MAX * sizeof *choices), (*wanted)[2] = must_alloc(GYRE_DIM_MAX * sizeof *wanted);
    int32_t *costs = must_alloc(GY_TRELLIS_STATES_MAX * sizeof *costs);
    int32_t *least = must_alloc(GY_TRELLIS_STATES_MAX * sizeof *least);
    int16_t v[GYRE_DIM_MAX];
    for (size_t h = 0; h < SHAPES; h++)
        for (size_t d = 0; d < DIMS; d++) {
            struct gy_trellis trellis;
            uint32_t dim = dims[d];
            random_trellis(&trellis, &shapes[h], random_u64() % 2);
            bool wide = dim == 4096; /* nothing but the largest samples: the largest costs */
            int32_t most = wide || random_u64() % 2 ? GY_TRELLIS_SAMPLE_MAX : 200, shift = trellis.lift - GY_TRELLIS_MIDDLE;
            for (uint32_t i = 0; i < dim; i++) {
                int32_t sample = wide ? most : (int32_t)(random_u64() % (2 * (uint64_t)most + 1)) - most;
                v[i] = (int16_t)((trellis.lift ? sample : abs(sample)) + shift);
            }
            gy_trellis_ref.forward(&trellis, v, dim, wanted, least);
            for (size_t t = 1; gy_kernels_all[t]; t++) {
                if (!gy_kernels_all[t]->runs_here())
                    continue;
                gy_kernels_all[t]->trellis->forward(&trellis, v, dim, choices, costs);
                if (memcmp(costs, least, sizeof(int32_t) << trellis.window) != 0)
                    fail_msg("%s: costs, shape %zu, dim %u", gy_kernels_all[t]->name, h, dim);
                if (dim > 1 && memcmp(choices + 1, wanted + 1, (dim - 1) * sizeof *choices) != 0)
                    fail_msg("%s: choices, shape %zu, dim %u", gy_kernels_all[t]->name, h, dim);
            }
        }
    free(choices), free(wanted), free(costs), free(least);
}

static void samples_round_halves_to_even_and_stop_at_their_limit(void **state)
{
    (void)state;
    assert_int_equal(gy_trellis_sample(0.5f), 0);
    assert_int_equal(gy_trellis_sample(1.5f), 2);
    assert_int_equal(gy_trellis_sample(-0.5f), 0);
    assert_int_equal(gy_trellis_sample(-2.5f), -2);
    assert_int_equal(gy_trellis_sample(0x1.fffffep-2f), 0); /* the float below a half */
    assert_int_equal(gy_trellis_sample(-1.00001f), -1);
    assert_int_equal(gy_trellis_sample(1022.75f), 1023);
    assert_int_equal(gy_trellis_sample(1e30f), 1023);
    assert_int_equal(gy_trellis_sample(-INFINITY), -1023);
}

/* With a rounded query an estimate is the exact product of whole numbers, times the step of the query. */
static void products_with_a_rounded_query_are_exact(void **state)
{
    (void)state;
    static const uint32_t some[] = {1, 2, 3, 64, 131, 768};
    for (size_t n = 0; n < NAMES; n++)
        for (size_t d = 0; d < sizeof some / sizeof *some; d++) {
            uint32_t dim = some[d];
            const gyre_codec *codec = codec_named(names[n]);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(names[n], codebook);
            float x[768], y[768], zb[768];
            int8_t levels[768];
            random_vector(x, dim, 1), random_vector(y, dim, 1);
            uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, dim));
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            struct plane plane = row_plane(quantizer, row, plane_count(codec) - 1);
            plane_decode(quantizer, &plane, zb);
            for (uint32_t bits = 4; bits <= 8; bits += 2) {
                void *prepared = must_alloc(plane.coder->query_bytes(quantizer, bits));
                double step, wanted = gy_query_round(y, dim, bits, levels);
                plane.coder->query_prepare(quantizer, plane.state, y, bits, prepared, &step);
                assert_true(step == wanted);
                int64_t product = 0;
                for (uint32_t i = 0; i < dim; i++)
                    product += (int64_t)zb[i] * levels[i];
                assert_true(plane.coder->dot(quantizer, plane.state, prepared, &plane.code) == step * (double)product);
                free(prepared);
            }
            free(row);
        }
}

/* SignTrellis keeps the signs of the first plane, and both err less with the trellis than without. */
static void magnitudes_take_their_signs_from_the_first_plane(void **state)
{
    (void)state;
    enum { DIM = 131 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    for (size_t n = 3; n < NAMES; n++) {
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(names[n], codebook);
        float x[DIM], signs[DIM], zb[DIM];
        random_vector(x, DIM, 1);
        uint8_t row[256];
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        struct plane first = row_plane(quantizer, row, 0), second = row_plane(quantizer, row, 1);
        plane_decode(quantizer, &first, signs);
        plane_decode(quantizer, &second, zb);
        for (size_t i = 0; i < DIM; i++)
            assert_true(signs[i] * zb[i] >= 0);
        assert_true(second.e < first.e);
    }
}

static void a_zero_vector_has_a_code_and_no_length(void **state)
{
    (void)state;
    for (size_t n = 0; n < NAMES; n++)
        for (size_t d = 0; d < DIMS; d++) {
            uint32_t dim = dims[d];
            const gyre_codec *codec = codec_named(names[n]);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(names[n], codebook);
            float zero[GYRE_DIM_MAX] = {0}, back[GYRE_DIM_MAX];
            uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, dim));
            must(gyre_quantizer_encode(quantizer, zero, 1, 0, row, &err));
            must(gyre_codec_row_check(codec, dim, row, &err));
            struct plane plane = row_plane(quantizer, row, plane_count(codec) - 1);
            assert_true(plane.s == 0 && plane.e == 0);
            gyre_quantizer_decode(quantizer, row, back);
            for (uint32_t i = 0; i < dim; i++)
                assert_true(back[i] == 0);
            free(row);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_what_their_hashes_say),
        cmocka_unit_test(codes_take_a_few_bits_more_than_their_dimensions),
        cmocka_unit_test(padding_that_is_not_zero_is_refused),
        cmocka_unit_test(every_window_of_any_code_is_read_by_every_table),
        cmocka_unit_test(every_table_finds_the_same_path),
        cmocka_unit_test(samples_round_halves_to_even_and_stop_at_their_limit),
        cmocka_unit_test(products_with_a_rounded_query_are_exact),
        cmocka_unit_test(magnitudes_take_their_signs_from_the_first_plane),
        cmocka_unit_test(a_zero_vector_has_a_code_and_no_length),
    };
    return cmocka_run_group_tests_name("codec.trellis", tests, NULL, NULL);
}
