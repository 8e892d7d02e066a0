#include "catalog/codebook.h"

#include <stdatomic.h>
#include <stdlib.h>

struct gy_codebook {
    atomic_size_t holders;
    gyre_codebook *decoded;
    gy_bytes bytes;
};

static gyre_status make(gy_codebook **out, gyre_codebook *decoded, gy_bytes bytes, gyre_error *err)
{
    gy_codebook *made = malloc(sizeof *made);
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook");
    *made = (gy_codebook){.decoded = decoded, .bytes = bytes};
    atomic_init(&made->holders, 1);
    *out = made;
    return GYRE_OK;
}

gyre_status gy_codebook_new(gy_codebook **out, gyre_codebook *codebook, gyre_error *err)
{
    GY_AUTO(gyre_codebook) *taken = codebook;
    gy_bytes bytes = {.size = gyre_codebook_encoded_bytes(taken)};
    bytes.data = malloc(bytes.size);
    if (!bytes.data)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook of %zu bytes", bytes.size);
    gyre_codebook_encode(taken, bytes.data);
    gyre_status status = make(out, taken, bytes, err);
    if (status == GYRE_OK)
        taken = NULL;
    else
        gy_bytes_free(&bytes);
    return status;
}

gyre_status gy_codebook_decode(gy_codebook **out, gy_bytes *bytes, gyre_error *err)
{
    GY_AUTO(gyre_codebook) *decoded = NULL;
    GY_TRY(gyre_codebook_decode(&decoded, bytes->data, bytes->size, err));
    GY_TRY(make(out, decoded, *bytes, err));
    decoded = NULL;
    *bytes = (gy_bytes){0};
    return GYRE_OK;
}

gy_codebook *gy_codebook_hold(gy_codebook *codebook)
{
    if (codebook)
        atomic_fetch_add_explicit(&codebook->holders, 1, memory_order_relaxed);
    return codebook;
}

void gy_codebook_release(gy_codebook *codebook)
{
    if (!codebook || atomic_fetch_sub_explicit(&codebook->holders, 1, memory_order_acq_rel) != 1)
        return;
    gyre_codebook_free(codebook->decoded);
    gy_bytes_free(&codebook->bytes);
    free(codebook);
}

const gyre_codebook *gy_codebook_decoded(const gy_codebook *codebook) { return codebook->decoded; }
const gy_bytes *gy_codebook_bytes(const gy_codebook *codebook) { return &codebook->bytes; }
