/* blockquant: every block of p coordinates becomes the nearest of 2^(bits·p) codewords of one book that serves all data: after a
 * random rotation blocks look like Gaussian ones.
 * Source  Ann, Lee & Oh, "BlockQuant", 2026; books, scan tables and bounds: codec/MATH.md sections 2.4 and 0
 * Bytes   FORMAT.md, "block codes"
 *
 * Where an index is a nibble (p = 4 at 1 bit, p = 2 at 2 bits) the scan of the sign bits serves, with other tables. Longer
 * indices are estimated row by row: the codeword is loaded and multiplied. */
#include "quantizers/blocks.h"

#include <stdlib.h>

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return gy_blocks_code_bytes(codec->bits, dim); }

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code) { return gy_blocks_valid(codec->bits, dim, code); }

static gyre_status open_books(const gyre_quantizer *quantizer, void **state, gyre_error *err)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    struct gy_blocks *blocks;
    GY_TRY(gy_blocks_open(&blocks, GY_BOOK_BLOCK, gy_quantizer_dim(quantizer), codec->block, codec->bits,
                          (uint32_t)codec->bits * codec->block, err));
    *state = blocks;
    return GYRE_OK;
}

static uint64_t book_hash(const gyre_codec *codec) { return gy_blocks_book_hash(GY_BOOK_BLOCK, codec->block, codec->bits); }

const struct gy_coder gy_coder_blockquant = {
    .code_bytes = code_bytes,
    .open = open_books,
    .close = free,
    .book_hash = book_hash,
    .encode = gy_blocks_encode_residual,
    .valid = valid,
    .decode = gy_blocks_decode,
    .scale = GY_SCALE_UNBIASED,
    .dot = gy_blocks_dot,
};

const struct gy_coder gy_coder_blockquant_nibble = {
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
