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
    must_fail(gyre_codec_find(&found, "rabitq9", &err), GYRE_INVALID, "codec is \"rabitq9\"; there are rabitq1");
    must_fail(gyre_codec_find(&found, "", &err), GYRE_INVALID, "codec is \"\"");
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
            assert_int_equal(refine, gyre_codec_has_refinement(&codecs[i]) ? gyre_codec_refine_code_bytes(&codecs[i], dim) + 6 : 0);
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

/* What _row_check lets through decodes without leaving memory or the range of a float: any code, any factors in their limits. */
static void any_row_that_passes_the_check_decodes_to_finite_numbers(void **state)
{
    (void)state;
    enum { DIM = 37 };
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    float mean[DIM], decoded[DIM], asked[DIM];
    random_vector(mean, DIM, 1e15), random_vector(asked, DIM, 1e15);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, mean);
    for (size_t i = 0; i < count; i++) {
        const gyre_codec *codec = &codecs[i];
        if (!codec_serves(codec, DIM))
            continue;
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(codec, codebook);
        GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 1e4f);
        size_t bytes = gyre_codec_row_bytes(codec, DIM), scan = gyre_codec_scan_code_bytes(codec, DIM), passed = 0;
        size_t refine = scan + 14 + gyre_codec_refine_code_bytes(codec, DIM);
        uint8_t *row = must_alloc(bytes);
        for (size_t n = 0; n < 3000; n++) {
            for (size_t j = 0; j < bytes; j++)
                row[j] = (uint8_t)random_u64();
            if (n % 4) { /* padding zero and factors likely */
                row[scan - 1] = (uint8_t)(row[scan - 1] & ((1u << DIM % 8) - 1));
                gy_store_f32(row + scan, n % 8 == 1 ? 0 : n % 8 == 2 ? 3e16f : n % 8 == 3 ? 1e-30f : 1);
                gy_store_f32(row + scan + 4, n % 16 == 5 ? -5e32f : 1);
                gy_store_f32(row + scan + 8, n % 8 == 5 ? 5e32f : n % 8 == 3 ? 5e32f : 1);
                gy_store_u16(row + scan + 12, n % 8 == 6 ? 0x5ad5 : 0x3f80);
                if (gyre_codec_has_refinement(codec)) {
                    row[refine - 1] = n % 3 ? (uint8_t)0 : row[refine - 1];
                    gy_store_f32(row + refine, n % 8 == 1 ? 0 : n % 8 == 2 ? 3e16f : n % 8 == 3 ? 1e-30f : 1);
                    gy_store_u16(row + refine + 4, n % 8 == 6 ? 0x5ad5 : 0x3f80);
                }
            }
            if (gyre_codec_row_check(codec, DIM, row, NULL) != GYRE_OK)
                continue;
            passed++;
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
        if (passed < 100)
            fail_msg("%s: only %zu rows passed the check", codec->name, passed);
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
