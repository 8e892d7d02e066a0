/* fuzz_quantizer: u8 dim, then the stored form of a quantizer: as it is, and again with the fingerprint of the codebook at
 * hand and a good checksum (which random bytes would never have). What decodes must encode to the same bytes and then work. */
#include "gyre/query.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIM_MAX = 64, FINGERPRINT_AT = 16, LEAST_BYTES = 52 };

static void demand(bool holds)
{
    if (!holds)
        abort();
}

/* A learned state may hold any finite numbers: rows still pass their own check, and nothing leaves the range of a float. */
static void use(const gyre_quantizer *quantizer, uint32_t dim)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    float vector[DIM_MAX], decoded[DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        vector[i] = (float)((int)(i * 7 % 11) - 5);
    vector[0] = 3; /* at dim 1 too, a direction */
    uint8_t *row = malloc(gyre_codec_row_bytes(codec, dim));
    demand(row);
    demand(gyre_quantizer_encode(quantizer, vector, 1, 0, row, NULL) == GYRE_OK);
    demand(gyre_codec_row_check(codec, dim, row, NULL) == GYRE_OK);
    gyre_quantizer_decode(quantizer, row, decoded);
    for (uint32_t i = 0; i < dim; i++)
        demand(isfinite(decoded[i]));
    GY_AUTO(gyre_query) *query = NULL;
    gyre_estimate estimate;
    demand(gyre_query_new(&query, quantizer, vector, NULL, &(gyre_query_options){.epsilon = 2, .bound = GYRE_BOUND_CERTAIN},
                          NULL) == GYRE_OK);
    gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
    demand(isfinite(estimate.distance) && estimate.low <= estimate.high);
    free(row);
}

static void read_back(const gyre_codebook *codebook, const uint8_t *data, size_t bytes)
{
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    gyre_error err;
    if (gyre_quantizer_decode_header(&quantizer, codebook, data, bytes, &err) != GYRE_OK)
        return;
    uint8_t *again = malloc(bytes);
    demand(again && gyre_quantizer_encoded_bytes(quantizer) == bytes);
    gyre_quantizer_encode_header(quantizer, again);
    demand(memcmp(data, again, bytes) == 0);
    free(again);
    use(quantizer, gyre_codebook_dim(codebook));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 18)
        return 0;
    uint32_t dim = 1 + data[0] % DIM_MAX;
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    GY_AUTO(gyre_codebook) *codebook = NULL;
    demand(gyre_codebook_new(&codebook, GYRE_L2, dim, 1, seed, NULL, NULL) == GYRE_OK);
    read_back(codebook, data + 1, size - 1);
    if (size - 1 < LEAST_BYTES)
        return 0;
    uint8_t *sealed = malloc(size - 1), digest[32];
    demand(sealed);
    memcpy(sealed, data + 1, size - 1);
    gy_store_u64(sealed + FINGERPRINT_AT, gyre_codebook_fingerprint(codebook));
    crypto_generichash(digest, sizeof digest, sealed, size - 1 - 8, NULL, 0);
    memcpy(sealed + size - 1 - 8, digest, 8);
    read_back(codebook, sealed, size - 1);
    free(sealed);
    return 0;
}
