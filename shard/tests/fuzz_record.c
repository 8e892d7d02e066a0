/* Whatever lies on disk: no decoder of stored bytes reads beyond them, and what one accepts encodes to the same bytes again.
 *
 * The first byte picks the decoder; the checksum of a packed chunk is mended first, or nothing would come past it. */
#include "index/record.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

enum { DIM = 12, CODEBOOK = 3, LISTS = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const gyre_codec *codec(const char *name)
{
    const gyre_codec *found = NULL;
    gyre_status status = gyre_codec_find(&found, name, NULL);
    assert(status == GYRE_OK);
    return found;
}

static void packed(const struct gy_layout *layout, const uint8_t *data, size_t size)
{
    uint8_t *value = malloc(size ? size : 1);
    struct gy_chunk *chunk;
    gyre_error err;
    assert(value);
    memcpy(value, data, size);
    if (size >= 8)
        gy_store_u64(value + size - 8, XXH3_64bits(value, size - 8));
    if (gy_packed_decode(&chunk, (struct gy_slice){value, size}, layout, CODEBOOK, &err) == GYRE_OK) {
        size_t bytes = gy_packed_bytes(layout, chunk->rows);
        uint8_t *again = malloc(bytes);
        assert(again);
        gy_packed_encode(again, layout, chunk, CODEBOOK, chunk->packed_seq);
        assert(size == bytes && memcmp(again, value, bytes) == 0);
        free(again);
        gy_chunk_release(chunk);
    }
    free(value);
}

static void row(const struct gy_layout *layout, struct gy_slice value)
{
    struct gy_row_record record;
    uint8_t again[256];
    gyre_error err;
    if (gy_row_record_decode(value, layout, &record, &err) != GYRE_OK)
        return;
    size_t bytes = gy_row_record_encode(again, layout, record.seq, record.held ? &record.id : NULL, record.row);
    assert(bytes == value.bytes && memcmp(again, value.data, bytes) == 0);
}

static void list(struct gy_slice value)
{
    uint32_t number;
    gyre_error err;
    if (gy_list_decode(value, LISTS, &number, &err) == GYRE_OK)
        assert(number < LISTS);
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
    struct gy_layout one, two;
    float vector[DIM];
    gyre_error err;
    gy_layout_init(&one, codec("rabitq1"), DIM);
    gy_layout_init(&two, codec("rabitq4-fast"), DIM);
    switch (data[0] % 8) {
    case 0: packed(&one, data + 1, size - 1); break;
    case 1: row(&one, value); break;
    case 2: key(value); break;
    case 3: point(value); break;
    case 4: GY_IGNORE(gy_vector_decode(value, DIM, vector, &err)); break; /* any outcome is fine; reading beyond is not */
    case 5: packed(&two, data + 1, size - 1); break;
    case 6: row(&two, value); break;
    default: list(value);
    }
    return 0;
}
