/* Block codes: BlockQuant, the additive book, SignBlock. Their books are what their hashes say; codes are the nearest
 * codewords, laid out as FORMAT.md says; every kernel table agrees to the bit. */
#include "books/books.h"
#include "each_codec.h"
#include "kernels/kernels.h"
#include "quantizers/blocks.h"

#include <sodium.h>

enum { DIM_MAX = 200 };

static const char *const names[] = {"blockquant-p4b1", "blockquant-p8b1", "blockquant-p2b2", "blockquant-p4b2", "blockquant-p4b3",
                                    "blockquant-p2b4", "additive-p8b1",   "signblock-p8b2",  "signblock-p4b3",  "signblock-p2b4"};
enum { NAMES = sizeof names / sizeof *names };

static const uint32_t dims[] = {1, 2, 3, 5, 7, 16, 17, 100, 128, 131};
enum { DIMS = sizeof dims / sizeof *dims };

static void check_book(const struct gy_book *book)
{
    size_t count = (size_t)book->count * book->dims;
    uint8_t *bytes = must_alloc(3 + 2 * count), hash[32];
    bytes[0] = book->kind, bytes[1] = book->dims, bytes[2] = book->bits;
    for (size_t i = 0; i < count; i++)
        gy_store_u16(bytes + 3 + 2 * i, (uint16_t)book->values[i]);
    crypto_generichash(hash, sizeof hash, bytes, 3 + 2 * count, NULL, 0);
    free(bytes);
    if (gy_load_u64(hash) != book->hash)
        fail_msg("book %u p=%u b=%u has hash %016llx, not %016llx", book->kind, book->dims, book->bits,
                 (unsigned long long)gy_load_u64(hash), (unsigned long long)book->hash);
    assert_ptr_equal(gy_book_find((enum gy_book_kind)book->kind, book->dims, book->bits), book);
    for (size_t i = 0; i < count; i++) { /* sums of two stay below 16, where their squares add up exactly */
        assert_true(abs(book->values[i]) < 8 * GY_BOOK_UNIT);
        assert_true(book->kind != GY_BOOK_SIGN || book->values[i] >= 0);
    }
}

static void books_are_those_of_their_hashes(void **state)
{
    (void)state;
    for (size_t i = 0; i < gy_books_block_count; i++) {
        check_book(&gy_books_block[i]);
        assert_int_equal(gy_books_block[i].count, 1 << gy_books_block[i].bits * gy_books_block[i].dims);
    }
    for (size_t i = 0; i < gy_books_sign_count; i++) {
        check_book(&gy_books_sign[i]);
        assert_int_equal(gy_books_sign[i].count, 1 << (gy_books_sign[i].bits - 1) * gy_books_sign[i].dims);
    }
    for (size_t i = 0; i < gy_books_additive_count; i++) {
        check_book(&gy_books_additive[i]);
        assert_int_equal(gy_books_additive[i].count, 32);
    }
    assert_null(gy_book_find(GY_BOOK_BLOCK, 8, 2));
}

/* A store of a codec's codes refers to its books: other books, other hash. */
static void codecs_of_different_books_have_different_hashes(void **state)
{
    (void)state;
    for (size_t a = 0; a < NAMES; a++)
        for (size_t b = 0; b <= a; b++) {
            const gyre_codec *codec[] = {codec_named(names[a]), codec_named(names[b])};
            uint64_t hash[2];
            for (size_t i = 0; i < 2; i++) {
                const struct gy_coder *second = gy_coder_second(codec[i]);
                hash[i] = second ? second->book_hash(codec[i]) : gy_coder_first(codec[i])->book_hash(codec[i]);
                assert_true(hash[i] != 0);
            }
            assert_true((hash[0] == hash[1]) == (a == b));
        }
}

/* Bits from to from + count of a string of bits, read one by one. */
static uint32_t bits_at(const uint8_t *code, size_t from, size_t count)
{
    uint32_t value = 0;
    for (size_t i = 0; i < count; i++)
        value |= (uint32_t)(code[(from + i) / 8] >> (from + i) % 8 & 1) << i;
    return value;
}

static double squared_distance(const struct gy_book *book, uint32_t k, const float *v)
{
    double sum = 0;
    for (uint32_t j = 0; j < book->dims; j++) {
        double off = (double)v[j] - (double)book->values[k * book->dims + j] / GY_BOOK_UNIT;
        sum += off * off;
    }
    return sum;
}

/* A block against its book, straight from the constants: the index has no better, and zb is its codeword. */
static void check_block(const char *name, const struct gy_book *book, uint32_t index, const float *v, const float *zb)
{
    assert_true(index < book->count);
    double chosen = squared_distance(book, index, v), norm = 1;
    for (uint32_t j = 0; j < book->dims; j++) {
        assert_float_equal(zb[j], (float)book->values[index * book->dims + j] / GY_BOOK_UNIT, 0);
        norm += (double)v[j] * (double)v[j];
    }
    for (uint32_t k = 0; k < book->count; k++)
        if (squared_distance(book, k, v) < chosen - 4e-6 * norm) /* what floats cannot tell apart */
            fail_msg("%s: codeword %u at %g is taken, %u is at %g", name, index, chosen, k, squared_distance(book, k, v));
}

/* The pair of nibbles of an additive block: no other sum is nearer. */
static void check_sum(uint32_t index, const float *v, const float *zb)
{
    const struct gy_book *book = gy_book_find(GY_BOOK_ADDITIVE, 8, 1);
    double chosen = 0, best = INFINITY, norm = 1;
    for (uint32_t k = 0; k < 256; k++) {
        double sum = 0;
        for (uint32_t j = 0; j < 8; j++) {
            int word = book->values[(k & 15) * 8 + j] + book->values[(16 + (k >> 4)) * 8 + j];
            double off = (double)v[j] - (double)word / GY_BOOK_UNIT;
            sum += off * off;
            if (k == index)
                assert_float_equal(zb[j], (float)word / GY_BOOK_UNIT, 0);
            norm += (double)v[j] * (double)v[j] / 256;
        }
        if (k == index)
            chosen = sum;
        best = fmin(best, sum);
    }
    assert_true(chosen <= best + 4e-6 * norm);
}

static void check_code(const gyre_codec *codec, uint32_t dim)
{
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(codec->name, codebook);
    size_t plane_index = plane_count(codec) - 1;
    bool signs = plane_index == 1, additive = codec->kind == GYRE_ADDITIVE;
    uint32_t p = codec->block, each = codec->bits - (signs ? 1u : 0u);
    enum gy_book_kind kind = signs ? GY_BOOK_SIGN : GY_BOOK_BLOCK;
    float x[DIM_MAX], z[DIM_MAX], zb[DIM_MAX];
    uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, dim));
    random_vector(x, dim, 3);
    must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
    must(gyre_codec_row_check(codec, dim, row, &err));
    struct plane plane = row_plane(quantizer, row, plane_index);
    assert_int_equal(plane.code_bytes, (each * dim + 7) / 8);
    float unit = (float)sqrt(dim / rotated_residual(quantizer, x, z));
    plane_decode(quantizer, &plane, zb);
    for (uint32_t i = 0; i < dim; i++) {
        z[i] *= unit;
        if (signs) { /* the book is of magnitudes */
            assert_true(zb[i] == 0 || (zb[i] > 0) == (z[i] >= 0));
            zb[i] = fabsf(zb[i]), z[i] = fabsf(z[i]);
        }
    }
    for (uint32_t at = 0; at < dim; at += p) {
        uint32_t size = dim - at < p ? dim - at : p;
        for (uint32_t part = 0; part < size;) {
            /* The end of an additive code is two plain blocks. */
            uint32_t length = additive && size < p && size - part > 4 ? 4 : size - part;
            uint32_t index = bits_at(plane.code.code, (size_t)each * (at + part), (size_t)each * length);
            if (additive && size == p)
                check_sum(index, z + at, zb + at);
            else
                check_block(codec->name, gy_book_find(kind, length, codec->bits), index, z + at + part, zb + at + part);
            part += length;
        }
    }
    /* What is behind the last index is 0, and anything else is refused. */
    for (size_t bit = each * dim; bit < 8 * plane.code_bytes; bit++) {
        uint8_t *byte = (uint8_t *)(uintptr_t)plane.code.code + bit / 8;
        assert_int_equal(*byte >> bit % 8 & 1, 0);
        *byte = (uint8_t)(*byte | 1 << bit % 8);
        must_fail(gyre_codec_row_check(codec, dim, row, &err), GYRE_CORRUPT, "bytes");
        *byte = (uint8_t)(*byte & ~(1 << bit % 8));
    }
    free(row);
}

static void every_block_has_its_nearest_codeword_where_the_format_says(void **state)
{
    (void)state;
    for (size_t c = 0; c < NAMES; c++)
        for (size_t d = 0; d < DIMS; d++)
            check_code(codec_named(names[c]), dims[d]);
}

/* Sixteen copies of one row: the first of them is nearest, whatever the lane. */
static void ties_go_to_the_lowest_index(void **state)
{
    (void)state;
    float rows[64 * 4], half_norms[64], v[40 * 4];
    for (uint32_t k = 0; k < 64; k++) {
        for (uint32_t j = 0; j < 4; j++)
            rows[4 * k + j] = (float)(k / 16 + j) / 4;
        half_norms[k] = 0;
        for (uint32_t j = 0; j < 4; j++)
            half_norms[k] += rows[4 * k + j] * rows[4 * k + j] / 2;
    }
    const struct gy_codewords book = {rows, half_norms, 64, 4};
    for (size_t t = 0; gy_kernels_all[t]; t++) {
        if (!gy_kernels_all[t]->runs_here())
            continue;
        uint16_t index[40];
        for (size_t b = 0; b < 40; b++)
            memcpy(v + 4 * b, rows + 4 * (16 * (b % 4) + b % 16), 4 * sizeof *v);
        gy_kernels_all[t]->book->nearest(&book, v, 40, index);
        for (size_t b = 0; b < 40; b++)
            assert_int_equal(index[b], 16 * (b % 4));
        const float halfway[] = {1.5f / 4, 2.5f / 4, 3.5f / 4, 4.5f / 4}; /* between the second and the third group */
        gy_kernels_all[t]->book->nearest(&book, halfway, 1, index);
        assert_int_equal(index[0], 16);
    }
}

static float odd_float(void)
{
    switch (random_u64() % 12) {
    case 0:
        return random_u64() % 2 ? 0.0f : -0.0f;
    case 1:
        return (float)(random_normal() * 1e-42); /* denormal */
    case 2:
        return (float)(random_normal() * 64);
    default:
        return (float)random_normal();
    }
}

static void searches_are_equal_in_every_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < gy_books_block_count + gy_books_sign_count; i++) {
        const struct gy_book *source = i < gy_books_block_count ? &gy_books_block[i] : &gy_books_sign[i - gy_books_block_count];
        size_t values = (size_t)source->count * source->dims;
        float *rows = must_alloc(values * sizeof *rows), *half_norms = must_alloc(source->count * sizeof *half_norms);
        gy_book_expand(source, rows);
        for (uint32_t k = 0; k < source->count; k++) {
            half_norms[k] = 0;
            for (uint32_t j = 0; j < source->dims; j++)
                half_norms[k] += rows[k * source->dims + j] * rows[k * source->dims + j] / 2;
        }
        const struct gy_codewords book = {rows, half_norms, source->count, source->dims};
        for (size_t count = 0; count <= 35; count += count == 17 ? 14 : 1) { /* 0…17, 31…35 */
            float v[1 + 35 * GY_BLOCK_DIMS_MAX];
            uint16_t wanted[36], index[36];
            for (size_t j = 0; j < 1 + count * source->dims; j++)
                v[j] = odd_float();
            memset(wanted, 0xee, sizeof wanted);
            gy_kernels_all[0]->book->nearest(&book, v + count % 2, count, wanted);
            for (size_t t = 1; gy_kernels_all[t]; t++) {
                memset(index, 0xee, sizeof index);
                if (!gy_kernels_all[t]->runs_here())
                    continue;
                gy_kernels_all[t]->book->nearest(&book, v + count % 2, count, index);
                if (memcmp(index, wanted, sizeof index) != 0) /* nor is anything written behind them */
                    fail_msg("%s differs at p=%u b=%u, %zu blocks", gy_kernels_all[t]->name, source->dims, source->bits, count);
            }
        }
        free(rows), free(half_norms);
    }
}

/* Any bytes of a code, at any address. */
static void products_are_those_of_the_decoded_code_in_every_table(void **state)
{
    (void)state;
    for (size_t c = 0; c < NAMES; c++)
        for (uint32_t dim = 1; dim <= DIM_MAX; dim += dim < 70 ? 1 : 13) {
            const gyre_codec *codec = codec_named(names[c]);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(codec->name, codebook);
            size_t plane = plane_count(codec) - 1, bits = codec->bits - plane;
            const struct gy_blocks *blocks = quantizer->state[plane];
            uint8_t memory[4 * DIM_MAX], signs[DIM_MAX / 8 + 2];
            float y[DIM_MAX], zb[DIM_MAX];
            uint8_t *code = memory + dim % 5;
            for (size_t j = 0; j < sizeof memory; j++)
                memory[j] = (uint8_t)random_u64();
            for (size_t j = 0; j < sizeof signs; j++)
                signs[j] = (uint8_t)random_u64();
            if (bits * dim % 8)
                code[bits * dim / 8] &= (uint8_t)((1u << bits * dim % 8) - 1);
            for (uint32_t i = 0; i < dim; i++)
                y[i] = odd_float();
            const struct gy_code stored = {plane ? signs + dim % 2 : NULL, code};
            quantizer->coder[plane]->decode(quantizer, blocks, &stored, zb);
            float wanted = gy_kernels_all[0]->vector->dot(y, zb, dim);
            for (size_t t = 0; gy_kernels_all[t]; t++) {
                if (!gy_kernels_all[t]->runs_here())
                    continue;
                float got = gy_kernels_all[t]->book->dot(&blocks->code, y, stored.code, stored.signs);
                if (memcmp(&got, &wanted, sizeof got) != 0)
                    fail_msg("%s: %s at dim %u: %g, not %g", codec->name, gy_kernels_all[t]->name, dim, (double)got,
                             (double)wanted);
            }
        }
}

/* Entries of a byte and sums of 16 bits hold also where a scan has the most tables. */
static void the_widest_code_keeps_its_sums_in_16_bits(void **state)
{
    (void)state;
    static const char *const scanned[] = {"blockquant-p4b1", "blockquant-p2b2", "additive-p8b1"};
    enum { DIM = GYRE_DIM_MAX, TABLES = GYRE_DIM_MAX / 2 };
    for (size_t c = 0; c < 3; c++)
        for (uint32_t bits = 4; bits <= 8; bits += 2) {
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(scanned[c], codebook);
            float y[DIM];
            static uint8_t low[TABLES][16], high[TABLES][16];
            memset(low, 0, sizeof low), memset(high, 0, sizeof high);
            for (size_t i = 0; i < DIM; i++)
                y[i] = i % 2 ? 1 : -1; /* every table as wide as the widest */
            struct gy_nibbles nibbles = {.low = low, .high = high};
            quantizer->coder[0]->nibbles(quantizer, quantizer->state[0], y, bits, &nibbles);
            uint32_t sums[2] = {0}, largest[2] = {0};
            for (size_t n = 0; n < 2 * gyre_codec_scan_code_bytes(codec_named(scanned[c]), DIM); n++) {
                uint32_t most[2] = {0};
                for (size_t k = 0; k < 16; k++) {
                    most[0] = low[n][k] > most[0] ? low[n][k] : most[0];
                    most[1] = high[n][k] > most[1] ? high[n][k] : most[1];
                }
                for (size_t t = 0; t < 2; t++) {
                    sums[t] += most[t];
                    largest[t] = most[t] > largest[t] ? most[t] : largest[t];
                }
            }
            assert_true(sums[0] <= 65535 && sums[1] <= 65535);
            assert_true(largest[0] <= 63 && largest[1] <= 63);
            assert_true(largest[bits > 4] >= (bits == 6 ? 15 : 31)); /* and they use the room */
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(books_are_those_of_their_hashes),
        cmocka_unit_test(codecs_of_different_books_have_different_hashes),
        cmocka_unit_test(every_block_has_its_nearest_codeword_where_the_format_says),
        cmocka_unit_test(ties_go_to_the_lowest_index),
        cmocka_unit_test(searches_are_equal_in_every_table),
        cmocka_unit_test(products_are_those_of_the_decoded_code_in_every_table),
        cmocka_unit_test(the_widest_code_keeps_its_sums_in_16_bits),
    };
    return cmocka_run_group_tests_name("codec.blocks", tests, NULL, NULL);
}
