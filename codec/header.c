/* header: a quantizer as stored and sent (FORMAT.md, "quantizer"), all little-endian:
 *   0  magic "GYQZ"   4  u16 format version = 1   6  u16 kind   8  u8 bits   9  u8 block   10  u8 variant   11  u8 0
 *   12 u32 dim   16  u64 fingerprint of the codebook   24  u64 hash of the books of plane 1   32  u64 of plane 2
 *   40 u32 bytes of trained state   44  state   then  u64 checksum of everything before it
 * The checksum is that of a codebook: the first 8 bytes of BLAKE2b-256, keyed by nothing.
 *
 * Codes mean nothing without the books they index, and books are constants of the build: their hash says whether this build has
 * the same ones. A reader that does not must refuse the rows rather than decode them into something else. */
#include "gyre/quantizer.h"

#include "quantizer_internal.h"

#include <sodium.h>

enum {
    FORMAT_AT = 4,
    KIND_AT = 6,
    BITS_AT = 8,
    BLOCK_AT = 9,
    VARIANT_AT = 10,
    ZERO_AT = 11,
    DIM_AT = 12,
    FINGERPRINT_AT = 16,
    BOOKS_AT = 24,
    STATE_BYTES_AT = BOOKS_AT + 8 * GY_PLANES,
    STATE_AT = STATE_BYTES_AT + 4,
    CHECKSUM_BYTES = 8,
    FORMAT_VERSION = 1,
};
static const char magic[4] = {'G', 'Y', 'Q', 'Z'};

static uint64_t checksum(const uint8_t *data, size_t bytes)
{
    uint8_t digest[crypto_generichash_BYTES];
    crypto_generichash(digest, sizeof digest, data, bytes, NULL, 0);
    return gy_load_u64(digest);
}

static uint64_t book_hash(const struct gy_coder *coder, const gyre_codec *codec)
{
    return coder && coder->book_hash ? coder->book_hash(codec) : 0;
}

static size_t state_bytes(const gyre_quantizer *quantizer)
{
    const struct gy_coder *coder = quantizer->coder[0];
    return coder->state_bytes ? coder->state_bytes(quantizer, quantizer->state[0]) : 0;
}

size_t gyre_quantizer_encoded_bytes(const gyre_quantizer *quantizer)
{
    return STATE_AT + state_bytes(quantizer) + CHECKSUM_BYTES;
}

void gyre_quantizer_encode_header(const gyre_quantizer *quantizer, uint8_t *out)
{
    const gyre_codec *codec = quantizer->codec;
    size_t learned = state_bytes(quantizer);
    memcpy(out, magic, sizeof magic);
    gy_store_u16(out + FORMAT_AT, FORMAT_VERSION);
    gy_store_u16(out + KIND_AT, codec->kind);
    out[BITS_AT] = codec->bits;
    out[BLOCK_AT] = codec->block;
    out[VARIANT_AT] = codec->variant;
    out[ZERO_AT] = 0;
    gy_store_u32(out + DIM_AT, gy_quantizer_dim(quantizer));
    gy_store_u64(out + FINGERPRINT_AT, gyre_codebook_fingerprint(quantizer->codebook));
    for (size_t plane = 0; plane < GY_PLANES; plane++)
        gy_store_u64(out + BOOKS_AT + 8 * plane, book_hash(quantizer->coder[plane], codec));
    gy_store_u32(out + STATE_BYTES_AT, (uint32_t)learned);
    if (learned)
        quantizer->coder[0]->state_encode(quantizer, quantizer->state[0], out + STATE_AT);
    gy_store_u64(out + STATE_AT + learned, checksum(out, STATE_AT + learned));
}

/* The codec that has these numbers, or NULL. */
static const gyre_codec *codec_of(const uint8_t *data)
{
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t i = 0; i < count; i++)
        if (codecs[i].kind == gy_load_u16(data + KIND_AT) && codecs[i].bits == data[BITS_AT] &&
            codecs[i].block == data[BLOCK_AT] && codecs[i].variant == data[VARIANT_AT])
            return &codecs[i];
    return NULL;
}

/* Everything but the state; the codec on success. */
static gyre_status check_fields(const gyre_codec **out, const gyre_codebook *codebook, const uint8_t *data, size_t bytes,
                                gyre_error *err)
{
    if (bytes < STATE_AT + CHECKSUM_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "quantizer of %zu bytes; header and checksum alone are %d", bytes,
                         STATE_AT + CHECKSUM_BYTES);
    if (memcmp(data, magic, sizeof magic) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "quantizer does not start with \"GYQZ\"");
    uint16_t format = gy_load_u16(data + FORMAT_AT);
    if (format > FORMAT_VERSION)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "quantizer of format version %u; this build reads up to %d", format,
                         FORMAT_VERSION);
    size_t learned = gy_load_u32(data + STATE_BYTES_AT);
    if (format != FORMAT_VERSION || learned != bytes - STATE_AT - CHECKSUM_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "quantizer of %zu bytes claims format version %u and %zu bytes of state", bytes,
                         format, learned);
    if (gy_load_u64(data + STATE_AT + learned) != checksum(data, STATE_AT + learned))
        return gyre_fail(err, GYRE_CORRUPT, "quantizer: checksum differs");
    const gyre_codec *codec = codec_of(data);
    if (!codec)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "quantizer: this build has no codec of kind %u, %u bits, block %u, variant %u",
                         gy_load_u16(data + KIND_AT), data[BITS_AT], data[BLOCK_AT], data[VARIANT_AT]);
    uint32_t dim = gy_load_u32(data + DIM_AT);
    if (gy_load_u64(data + FINGERPRINT_AT) != gyre_codebook_fingerprint(codebook) || dim != gyre_codebook_dim(codebook))
        return gyre_fail(err, GYRE_PRECONDITION, "quantizer %s of dim %u belongs to codebook %016llx, not to %016llx",
                         codec->name, dim, (unsigned long long)gy_load_u64(data + FINGERPRINT_AT),
                         (unsigned long long)gyre_codebook_fingerprint(codebook));
    if (data[ZERO_AT] != 0)
        return gyre_fail(err, GYRE_CORRUPT, "quantizer %s: byte %d is %u, not 0", codec->name, ZERO_AT, data[ZERO_AT]);
    if (learned && !gyre_codec_is_trained(codec))
        return gyre_fail(err, GYRE_CORRUPT, "quantizer %s: %zu bytes of state, and it learns nothing", codec->name, learned);
    const uint64_t books[GY_PLANES] = {book_hash(gy_coder_first(codec), codec), book_hash(gy_coder_second(codec), codec)};
    for (size_t plane = 0; plane < GY_PLANES; plane++)
        if (gy_load_u64(data + BOOKS_AT + 8 * plane) != books[plane])
            return gyre_fail(err, GYRE_UNIMPLEMENTED, "quantizer %s: plane %zu uses books %016llx; this build has %016llx",
                             codec->name, plane + 1, (unsigned long long)gy_load_u64(data + BOOKS_AT + 8 * plane),
                             (unsigned long long)books[plane]);
    *out = codec;
    return GYRE_OK;
}

gyre_status gyre_quantizer_decode_header(gyre_quantizer **out, const gyre_codebook *codebook, const uint8_t *data, size_t bytes,
                                         gyre_error *err)
{
    const gyre_codec *codec = NULL;
    GY_TRY(check_fields(&codec, codebook, data, bytes, err));
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    gyre_status status = gy_quantizer_new_bare(&quantizer, codec, codebook, err);
    if (status == GYRE_OK && gyre_codec_is_trained(codec))
        status = quantizer->coder[0]->state_decode(quantizer, data + STATE_AT, bytes - STATE_AT - CHECKSUM_BYTES,
                                                   &quantizer->state[0], err);
    if (status == GYRE_OK)
        status = gy_quantizer_open_states(quantizer, err);
    if (status != GYRE_OK) /* what is invalid when it is asked for is, in stored bytes, corruption */
        return gyre_wrap(err, status == GYRE_INVALID ? GYRE_CORRUPT : status, "quantizer");
    *out = GY_TAKE(quantizer);
    return GYRE_OK;
}
