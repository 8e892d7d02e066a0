/* The table of codecs: names, what is said of each, sizes, and rows that no encoder wrote. */
#include "each_codec.h"

static void a_codec_is_found_by_its_name(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count), *found = NULL;
    assert_ptr_equal(gyre_codec_list(NULL), codecs);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        must(gyre_codec_find(&found, codecs[i].name, &err));
        assert_ptr_equal(found, &codecs[i]);
        assert_true(strlen(codecs[i].about) > 10);
        assert_true(i == 0 || codecs[i].kind >= codecs[i - 1].kind); /* by kind and bits */
    }
}

static void a_name_that_is_none_is_told_those_that_exist(void **state)
{
    (void)state;
    const gyre_codec *found = NULL;
    must_fail(gyre_codec_find(&found, "rabitq9", &err), GYRE_INVALID, "there is no codec \"rabitq9\"; of each kind one: rabitq1");
    must_fail(gyre_codec_find(&found, "", &err), GYRE_INVALID, "there is no codec \"\"");
    must_fail(gyre_codec_find(&found, "RABITQ1", &err), GYRE_INVALID, "rabitq1");
    must_fail(gyre_codec_find(&found, "rabitq1 ", &err), GYRE_INVALID, "rabitq1");
    char endless[5000];
    memset(endless, 'x', sizeof endless - 1), endless[sizeof endless - 1] = '\0';
    must_fail(gyre_codec_find(&found, endless, &err), GYRE_INVALID, "rabitq1");
    assert_null(found);
}

static void the_sizes_of_rows_add_up(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t i = 0; i < count; i++)
        for (uint32_t dim = 1; dim <= GYRE_DIM_MAX; dim = dim < 200 ? dim + 1 : dim * 2) {
            if (!codec_serves(&codecs[i], dim))
                continue;
            size_t scan = gyre_codec_scan_row_bytes(&codecs[i], dim), refine = gyre_codec_refine_row_bytes(&codecs[i], dim);
            assert_int_equal(gyre_codec_row_bytes(&codecs[i], dim), scan + refine);
            assert_int_equal(scan, gyre_codec_scan_code_bytes(&codecs[i], dim) + 14);
            assert_int_equal(refine,
                             gyre_codec_has_refinement(&codecs[i]) ? gyre_codec_refine_code_bytes(&codecs[i], dim) + 6 : 0);
            if (gyre_codec_has_refinement(&codecs[i])) /* the first plane of two is always that of signs */
                assert_int_equal(gyre_codec_scan_code_bytes(&codecs[i], dim), (dim + 7) / 8);
        }
}

/* bits counts the code, not the factors, and not what a trellis or a last block takes to round up: two bytes at dim 768. */
static void bits_are_those_of_the_code(void **state)
{
    (void)state;
    enum { DIM = 768 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t i = 0; i < count; i++) {
        size_t bytes = gyre_codec_scan_code_bytes(&codecs[i], DIM) + gyre_codec_refine_code_bytes(&codecs[i], DIM);
        assert_true(bytes > 0 && codecs[i].bits > 0);
        if (bytes > (size_t)codecs[i].bits * DIM / 8 + 2 + DIM / 16 || bytes + 2 + DIM / 16 < (size_t)codecs[i].bits * DIM / 8)
            fail_msg("%s: %zu bytes at dim %d", codecs[i].name, bytes, DIM);
    }
}

static void factors_beyond_their_limits_are_refused_in_every_plane(void **state)
{
    (void)state;
    enum { DIM = 48 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    float vector[DIM];
    random_vector(vector, DIM, 1);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    for (size_t i = 0; i < count; i++) {
        const gyre_codec *codec = &codecs[i];
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(codec, codebook);
        size_t bytes = gyre_codec_row_bytes(codec, DIM);
        uint8_t *good = must_alloc(bytes), *bad = must_alloc(bytes);
        must(gyre_quantizer_encode(quantizer, vector, 1, 0, good, &err));
        must(gyre_codec_row_check(codec, DIM, good, &err));
        size_t scan = gyre_codec_scan_code_bytes(codec, DIM), refine = scan + 14 + gyre_codec_refine_code_bytes(codec, DIM);
#define BAD(change, words)                                                     \
    memcpy(bad, good, bytes), (change);                                        \
    must_fail(gyre_codec_row_check(codec, DIM, bad, &err), GYRE_CORRUPT, words)
        BAD(gy_store_f32(bad + scan, NAN), "factor s is");
        BAD(gy_store_f32(bad + scan, -1), "factor s is -1");
        BAD(gy_store_f32(bad + scan, 4e16f), "factor s is 4e+16");
        BAD(gy_store_f32(bad + scan + 4, -INFINITY), "factor add is -inf");
        BAD(gy_store_f32(bad + scan + 4, 6e32f), "factor add is 6e+32");
        BAD(gy_store_f32(bad + scan + 8, -1), "factor r2 is -1");
        BAD(gy_store_u16(bad + scan + 12, 0x7fc0), "factor e is");
        BAD(gy_store_u16(bad + scan + 12, 0xbf80), "factor e is -1");
        if (gyre_codec_has_refinement(codec)) {
            BAD(gy_store_f32(bad + refine, INFINITY), "factor s of the second plane is inf");
            BAD(gy_store_u16(bad + refine + 4, 0xffff), "factor e of the second plane is");
        }
#undef BAD
        free(good), free(bad);
    }
}

/* Factors that are as far as they go, or that no encoder would put together. */
static void extreme_factors(const gyre_codec *codec, uint32_t dim, size_t n, uint8_t *row)
{
    static const float scales[] = {1, 0, 3e16f, 1e-30f}, adds[] = {1, -5e32f, 5e32f}, squares[] = {1, 0, 5e32f};
    static const uint16_t errors[] = {0x3f80, 0, 0x5ad5}; /* 1, 0, 3e16 */
    uint8_t *scan = row + gyre_codec_scan_code_bytes(codec, dim), *refine = row + gyre_codec_row_bytes(codec, dim) - 6;
    gy_store_f32(scan, scales[n % 4]);
    gy_store_f32(scan + 4, adds[n / 4 % 3]);
    gy_store_f32(scan + 8, squares[n / 12 % 3]);
    gy_store_u16(scan + 12, errors[n / 36 % 3]);
    if (gyre_codec_has_refinement(codec)) {
        gy_store_f32(refine, scales[n % 4]);
        gy_store_u16(refine + 4, errors[n / 36 % 3]);
    }
}

/* What _row_check lets through decodes without leaving memory or the range of a float: codes with any bits flipped, any
 * factors in their limits. */
static void any_row_that_passes_the_check_decodes_to_finite_numbers(void **state)
{
    (void)state;
    enum { DIM = 37 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    float mean[DIM], vector[DIM], decoded[DIM], asked[DIM];
    random_vector(mean, DIM, 1e15), random_vector(asked, DIM, 1e15);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, mean);
    for (size_t i = 0; i < count; i++) {
        const gyre_codec *codec = &codecs[i];
        if (!codec_serves(codec, DIM))
            continue;
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(codec, codebook);
        GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 1e4f);
        size_t bytes = gyre_codec_row_bytes(codec, DIM);
        uint8_t *row = must_alloc(bytes);
        for (size_t n = 0; n < 108 * 4; n++) {
            random_vector(vector, DIM, 1);
            must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
            for (size_t flips = n / 108 * n / 108 * 3; flips > 0; flips--)
                row[random_u64() % bytes] ^= (uint8_t)(1u << random_u64() % 8);
            extreme_factors(codec, DIM, n, row);
            if (gyre_codec_row_check(codec, DIM, row, NULL) != GYRE_OK) {
                assert_true(n >= 108); /* nothing flipped */
                continue;
            }
            gyre_quantizer_decode(quantizer, row, decoded);
            for (size_t j = 0; j < DIM; j++)
                if (!isfinite(decoded[j]))
                    fail_msg("%s: component %zu decodes to %g", codec->name, j, (double)decoded[j]);
            gyre_estimate estimate;
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
            if (!isfinite(estimate.distance) || !isfinite(estimate.low) || !isfinite(estimate.high))
                fail_msg("%s: estimated as %g in %g…%g", codec->name, (double)estimate.distance, (double)estimate.low,
                         (double)estimate.high);
        }
        free(row);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_codec_is_found_by_its_name),
        cmocka_unit_test(a_name_that_is_none_is_told_those_that_exist),
        cmocka_unit_test(the_sizes_of_rows_add_up),
        cmocka_unit_test(bits_are_those_of_the_code),
        cmocka_unit_test(factors_beyond_their_limits_are_refused_in_every_plane),
        cmocka_unit_test(any_row_that_passes_the_check_decodes_to_finite_numbers),
    };
    return cmocka_run_group_tests_name("codec.codec", tests, NULL, NULL);
}
