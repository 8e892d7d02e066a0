/* The stored form of a quantizer: what comes back, and what is refused. */
#include "each_codec.h"

#include <sodium.h>

enum { DIM = 48, STATE_AT = 44 };

static void seal(uint8_t *encoded, size_t bytes)
{
    uint8_t digest[32];
    crypto_generichash(digest, sizeof digest, encoded, bytes - 8, NULL, 0);
    memcpy(encoded + bytes - 8, digest, 8);
}

static uint8_t *new_encoded(const gyre_quantizer *quantizer, size_t *bytes)
{
    *bytes = gyre_quantizer_encoded_bytes(quantizer);
    uint8_t *encoded = must_alloc(*bytes);
    gyre_quantizer_encode_header(quantizer, encoded);
    return encoded;
}

static void every_codec_comes_back_and_writes_the_same_rows(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    float mean[DIM], vectors[20 * DIM];
    random_vector(mean, DIM, .1);
    random_vector(vectors, 20 * DIM, .2);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, mean);
    for (size_t i = 0; i < count; i++) {
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[i], codebook), *back = NULL;
        size_t bytes, row_bytes = gyre_codec_row_bytes(&codecs[i], DIM);
        uint8_t *encoded = new_encoded(quantizer, &bytes), *again = must_alloc(bytes);
        must(gyre_quantizer_decode_header(&back, codebook, encoded, bytes, &err));
        assert_ptr_equal(gyre_quantizer_codec(back), &codecs[i]);
        assert_int_equal(gyre_quantizer_encoded_bytes(back), bytes);
        gyre_quantizer_encode_header(back, again);
        assert_memory_equal(again, encoded, bytes);
        uint8_t *rows = must_alloc(20 * row_bytes), *other = must_alloc(20 * row_bytes);
        must(gyre_quantizer_encode(quantizer, vectors, 20, 0, rows, &err));
        must(gyre_quantizer_encode(back, vectors, 20, 0, other, &err));
        assert_memory_equal(rows, other, 20 * row_bytes);
        free(encoded), free(again), free(rows), free(other);
    }
}

static void every_truncation_and_every_flipped_bit_is_refused(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
    for (size_t i = 0; i < count; i++) {
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[i], codebook);
        size_t bytes, step;
        uint8_t *encoded = new_encoded(quantizer, &bytes);
        gyre_quantizer *back = NULL;
        step = bytes > 1000 ? bytes / 500 : 1; /* of a large state, some places */
        for (size_t n = 0; n < bytes; n += step)
            must_fail(gyre_quantizer_decode_header(&back, codebook, encoded, n, &err), GYRE_CORRUPT, "quantizer");
        for (size_t at = 0; at < bytes; at += at < STATE_AT ? 1 : step) {
            encoded[at] ^= (uint8_t)(1u << at % 8);
            assert_int_not_equal(gyre_quantizer_decode_header(&back, codebook, encoded, bytes, NULL), GYRE_OK);
            encoded[at] ^= (uint8_t)(1u << at % 8);
        }
        assert_null(back);
        free(encoded);
    }
}

static void lying_fields_are_refused_under_a_good_checksum(void **state)
{
    (void)state;
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL), *other = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    size_t bytes;
    uint8_t *good = new_encoded(quantizer, &bytes), *bad = must_alloc(bytes + 4);
    gyre_quantizer *back = NULL;
    assert_int_equal(bytes, STATE_AT + 8);
    must_fail(gyre_quantizer_decode_header(&back, other, good, bytes, &err), GYRE_PRECONDITION, "belongs to codebook");
#define LIE(change, status, words)                                                              \
    memcpy(bad, good, bytes), (change), seal(bad, bytes);                                        \
    must_fail(gyre_quantizer_decode_header(&back, codebook, bad, bytes, &err), (status), (words))
    LIE(bad[0] = 'X', GYRE_CORRUPT, "does not start with");
    LIE(gy_store_u16(bad + 4, 2), GYRE_UNIMPLEMENTED, "format version 2");
    LIE(gy_store_u16(bad + 4, 0), GYRE_CORRUPT, "format version 0");
    LIE(gy_store_u16(bad + 6, 999), GYRE_UNIMPLEMENTED, "no codec of kind 999");
    LIE(bad[10] = 77, GYRE_UNIMPLEMENTED, "variant 77");
    LIE(bad[11] = 1, GYRE_CORRUPT, "byte 11 is 1");
    LIE(gy_store_u32(bad + 12, DIM + 1), GYRE_PRECONDITION, "of dim 49");
    LIE(bad[24] ^= 1, GYRE_UNIMPLEMENTED, "plane 1 uses books");
    LIE(bad[32] ^= 1, GYRE_UNIMPLEMENTED, "plane 2 uses books");
    LIE(gy_store_u32(bad + 40, 1), GYRE_CORRUPT, "1 bytes of state");
#undef LIE
    memcpy(bad, good, STATE_AT), gy_store_u32(bad + 40, 4), seal(bad, bytes + 4);
    must_fail(gyre_quantizer_decode_header(&back, codebook, bad, bytes + 4, &err), GYRE_CORRUPT, "it learns nothing");
    assert_null(back);
    free(good), free(bad);
}

static void no_two_codecs_share_a_name_or_numbers(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(codecs[i].name, codecs[j].name);
            assert_false(codecs[i].kind == codecs[j].kind && codecs[i].bits == codecs[j].bits &&
                         codecs[i].block == codecs[j].block && codecs[i].variant == codecs[j].variant);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_codec_comes_back_and_writes_the_same_rows),
        cmocka_unit_test(every_truncation_and_every_flipped_bit_is_refused),
        cmocka_unit_test(lying_fields_are_refused_under_a_good_checksum),
        cmocka_unit_test(no_two_codecs_share_a_name_or_numbers),
    };
    return cmocka_run_group_tests_name("codec.header", tests, NULL, NULL);
}
