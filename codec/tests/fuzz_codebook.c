/* fuzz_codebook: any bytes, as they are and again under a good checksum (which random bytes would never have). */
#include "gyre/codebook.h"

#include <sodium.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_back(const uint8_t *data, size_t bytes)
{
    GY_AUTO(gyre_codebook) *codebook = NULL;
    gyre_error err;
    if (gyre_codebook_decode(&codebook, data, bytes, &err) != GYRE_OK)
        return;
    uint8_t *again = malloc(bytes);
    if (!again || gyre_codebook_encoded_bytes(codebook) != bytes)
        abort();
    gyre_codebook_encode(codebook, again);
    if (memcmp(data, again, bytes) != 0)
        abort();
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_back(data, size);
    if (size < 8 || size > 1 << 16)
        return 0;
    uint8_t *sealed = malloc(size), digest[32];
    if (!sealed)
        abort();
    memcpy(sealed, data, size - 8);
    crypto_generichash(digest, sizeof digest, sealed, size - 8, NULL, 0);
    memcpy(sealed + size - 8, digest, 8);
    read_back(sealed, size);
    free(sealed);
    return 0;
}
