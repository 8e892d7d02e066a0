/* Whatever lies on disk: no decoder of stored bytes reads beyond them, and what one accepts encodes to the same bytes again.
 *
 * The first byte picks the decoder; the checksum of a packed chunk is mended first, or nothing would come past it. */
#include "index/record.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

enum { DIM = 12, CODEBOOK = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void packed(const uint8_t *data, size_t size)
{
    size_t bytes = gy_packed_bytes(DIM);
    uint8_t *value = malloc(size ? size : 1);
    struct gy_chunk *chunk = gy_chunk_new(DIM);
    uint64_t seq;
    gyre_error err;
    assert(value && chunk);
    memcpy(value, data, size);
    if (size == bytes)
        gy_store_u64(value + size - 8, XXH3_64bits(value, size - 8));
    if (gy_packed_decode((struct gy_slice){value, size}, DIM, CODEBOOK, chunk, &seq, &err) == GYRE_OK) {
        uint8_t *again = malloc(bytes);
        assert(again);
        gy_packed_encode(again, chunk, DIM, CODEBOOK, seq);
        assert(size == bytes && memcmp(again, value, bytes) == 0);
        free(again);
    }
    gy_chunk_release(chunk);
    free(value);
}

static void row(struct gy_slice value)
{
    struct gy_row_record record;
    uint8_t again[256];
    gyre_error err;
    if (gy_row_record_decode(value, DIM, &record, &err) != GYRE_OK)
        return;
    size_t bytes = gy_row_record_encode(again, record.seq, record.held ? &record.id : NULL, record.row, DIM);
    assert(bytes == value.bytes && memcmp(again, value.data, bytes) == 0);
}

static void key(struct gy_slice value)
{
    uint32_t version, number;
    enum gy_code_kind kind;
    uint8_t again[GY_CODE_KEY_BYTES];
    gyre_error err;
    if (gy_code_key_decode(value, &version, &kind, &number, &err) != GYRE_OK)
        return;
    gy_code_key(again, version, kind, number);
    assert(memcmp(again, value.data, sizeof again) == 0);
}

static void point(struct gy_slice value)
{
    uint64_t version;
    struct gy_slice payload;
    gyre_error err;
    if (gy_point_decode(value, &version, &payload, &err) == GYRE_OK)
        assert(payload.bytes + GY_POINT_HEADER_BYTES == value.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct gy_slice value = {data + 1, size - 1};
    float vector[DIM];
    gyre_error err;
    switch (data[0] % 5) {
    case 0: packed(data + 1, size - 1); break;
    case 1: row(value); break;
    case 2: key(value); break;
    case 3: point(value); break;
    default: GY_IGNORE(gy_vector_decode(value, DIM, vector, &err)); /* any outcome is fine; reading beyond is not */
    }
    return 0;
}
