/* additive: a block of 8 coordinates becomes the nearest of the 256 sums A[i] + B[j] of two books of 16. Its byte is two
 * nibbles, so a scan by nibble tables adds the shares of i and of j: the bytes and the kernel of one sign bit a coordinate, at
 * less error than books of 4 coordinates.
 * Source  codec/MATH.md section 2.4 (own)
 * Bytes   FORMAT.md, "block codes": i in the low nibble. The last r = dim mod 8 coordinates are two plain blocks, of min(r, 4)
 *         and of what is left, their indices in that many bits each. */
#include "quantizers/blocks.h"

#include <stdlib.h>

enum { DIMS = 8, HALF = 16, HALF_DIMS = 4, INDEX_BITS = 8 };

static size_t code_bytes(const gyre_codec *codec, uint32_t dim)
{
    (void)codec;
    return gy_blocks_code_bytes(1, dim);
}

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    (void)codec;
    return gy_blocks_valid(1, dim, code);
}

static const struct gy_book *plain_book(uint32_t dims) { return gy_book_find(GY_BOOK_BLOCK, dims, 1); }

/* Every pair of rows of two books: the pair's vectors one behind the other. */
static void concatenate(const float *low, uint32_t low_dims, const float *high, uint32_t high_dims, float *out)
{
    uint32_t low_count = UINT32_C(1) << low_dims, count = low_count << high_dims;
    for (uint32_t k = 0; k < count; k++) {
        memcpy(out, low + (size_t)(k % low_count) * low_dims, low_dims * sizeof *out);
        memcpy(out + low_dims, high + (size_t)(k / low_count) * high_dims, high_dims * sizeof *out);
        out += low_dims + high_dims;
    }
}

static gyre_status open_books(const gyre_quantizer *quantizer, void **state, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer), whole = dim / DIMS, rest = dim % DIMS;
    uint32_t low_dims = rest < HALF_DIMS ? rest : HALF_DIMS, high_dims = rest - low_dims;
    struct gy_blocks *blocks;
    struct gy_blocks_room room;
    GY_TRY(gy_blocks_new(&blocks, dim, DIMS, INDEX_BITS, 2 * whole + (rest > 0) + (high_dims > 0),
                         2 * HALF * DIMS + 2 * HALF * HALF_DIMS, &room, err));
    float *a = room.extra, *b = a + HALF * DIMS, *low = b + HALF * DIMS, *high = low + HALF * HALF_DIMS;
    gy_book_expand(gy_book_find(GY_BOOK_ADDITIVE, DIMS, 1), a);
    for (uint32_t k = 0; k < HALF * HALF; k++)
        for (uint32_t j = 0; j < DIMS; j++)
            room.whole[k * DIMS + j] = a[k % HALF * DIMS + j] + b[k / HALF * DIMS + j];
    if (low_dims)
        gy_book_expand(plain_book(low_dims), low);
    if (high_dims)
        gy_book_expand(plain_book(high_dims), high);
    if (rest)
        concatenate(low, low_dims, high, high_dims, room.tail);
    gy_blocks_seal(blocks, &room);

    struct gy_nibble_words *nibble = blocks->nibbles;
    for (uint32_t m = 0; m < whole; m++) {
        *nibble++ = (struct gy_nibble_words){a, HALF, DIMS, m * DIMS};
        *nibble++ = (struct gy_nibble_words){b, HALF, DIMS, m * DIMS};
    }
    if (low_dims)
        *nibble++ = (struct gy_nibble_words){low, UINT32_C(1) << low_dims, low_dims, whole * DIMS};
    if (high_dims)
        *nibble++ = (struct gy_nibble_words){high, UINT32_C(1) << high_dims, high_dims, whole * DIMS + HALF_DIMS};
    *state = blocks;
    return GYRE_OK;
}

static uint64_t book_hash(const gyre_codec *codec)
{
    (void)codec;
    return gy_book_find(GY_BOOK_ADDITIVE, DIMS, 1)->hash ^ gy_blocks_book_hash(GY_BOOK_BLOCK, HALF_DIMS, 1);
}

const struct gy_coder gy_coder_additive = {
    .code_bytes = code_bytes,
    .open = open_books,
    .close = free,
    .book_hash = book_hash,
    .encode = gy_blocks_encode_residual,
    .valid = valid,
    .decode = gy_blocks_decode,
    .scale = GY_SCALE_UNBIASED,
    .nibbles = gy_blocks_nibbles,
    .dot = gy_blocks_dot,
};
