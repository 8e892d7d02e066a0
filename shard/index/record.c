/* The packed chunk keeps the codec's blocks verbatim, so loading is one copy and a check of each row; the checksum covers what
 * RocksDB's own cannot: a value that was wrong before it was written. */
#include "index/record.h"

#include <stdlib.h>
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored vectors are copied as they lie in memory");

enum { FORMAT = 1, HEADER_BYTES = 24, CHECKSUM_BYTES = 8, SEQ_BYTES = 8 };

static void put_u32_be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v;
}

static uint32_t get_u32_be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void gy_code_key(uint8_t key[GY_CODE_KEY_BYTES], uint32_t codebook_version, enum gy_code_kind kind, uint32_t number)
{
    put_u32_be(key, codebook_version);
    key[4] = (uint8_t)kind;
    put_u32_be(key + 5, number);
}

gyre_status gy_code_key_decode(struct gy_slice key, uint32_t *codebook_version, enum gy_code_kind *kind, uint32_t *number, gyre_error *err)
{
    const uint8_t *bytes = key.data;
    if (key.bytes != GY_CODE_KEY_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "key of a code has %zu bytes, not %d", key.bytes, GY_CODE_KEY_BYTES);
    if (bytes[4] != GY_CODE_PACKED && bytes[4] != GY_CODE_ROW)
        return gyre_fail(err, GYRE_CORRUPT, "key of a code has kind %u", bytes[4]);
    *codebook_version = get_u32_be(bytes);
    *kind = (enum gy_code_kind)bytes[4];
    *number = get_u32_be(bytes + 5);
    return GYRE_OK;
}

static size_t blocks_bytes(uint32_t dim)
{
    return gyre_block_bytes(gy_replica_code_bytes(dim)) * (GY_CHUNK_ROWS / GYRE_BLOCK_ROWS);
}

size_t gy_packed_bytes(uint32_t dim)
{
    return HEADER_BYTES + blocks_bytes(dim) + sizeof(gyre_point_id) * GY_CHUNK_ROWS + CHECKSUM_BYTES;
}

void gy_packed_encode(uint8_t *out, const struct gy_chunk *chunk, uint32_t dim, uint32_t codebook_version, uint64_t seq)
{
    gy_store_u32(out, FORMAT);
    gy_store_u32(out + 4, codebook_version);
    gy_store_u64(out + 8, seq);
    gy_store_u32(out + 16, dim);
    gy_store_u32(out + 20, chunk->held);
    memcpy(out + HEADER_BYTES, chunk->blocks, blocks_bytes(dim));
    memcpy(out + HEADER_BYTES + blocks_bytes(dim), chunk->ids, sizeof(gyre_point_id) * GY_CHUNK_ROWS);
    size_t covered = gy_packed_bytes(dim) - CHECKSUM_BYTES;
    gy_store_u64(out + covered, XXH3_64bits(out, covered));
}

/* Checks that each block is exactly what its rows give when they are set into an empty one: nothing in it that no row put there. */
static gyre_status check_block(struct gy_chunk *chunk, size_t b, uint32_t dim, uint8_t *rebuilt, gyre_error *err)
{
    uint8_t row[GY_ROW_BYTES_MAX];
    const uint8_t *block = chunk->blocks + b * gyre_block_bytes(gy_replica_code_bytes(dim));
    gyre_block_init(gy_replica_code_bytes(dim), rebuilt);
    for (size_t place = 0; place < GYRE_BLOCK_ROWS; place++) {
        if (!gyre_block_holds(gy_replica_code_bytes(dim), block, place))
            continue;
        size_t slot = b * GYRE_BLOCK_ROWS + place;
        gyre_block_get(gy_replica_code_bytes(dim), block, place, row);
        gyre_status status = gyre_codec_row_check(gy_replica_codec(), dim, row, err);
        if (status == GYRE_OK)
            status = gyre_point_id_check(chunk->ids[slot].bytes, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, GYRE_CORRUPT, "packed chunk, place %zu", slot);
        gyre_block_set(gy_replica_code_bytes(dim), rebuilt, place, row);
        chunk->held++;
    }
    if (memcmp(rebuilt, block, gyre_block_bytes(gy_replica_code_bytes(dim))) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "block %zu holds bytes that no row gives", b);
    return GYRE_OK;
}

gyre_status gy_packed_decode(struct gy_slice value, uint32_t dim, uint32_t codebook_version, struct gy_chunk *chunk, uint64_t *seq,
                             gyre_error *err)
{
    const uint8_t *bytes = value.data;
    if (value.bytes < HEADER_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk of %zu bytes; the header alone is %d", value.bytes, HEADER_BYTES);
    if (gy_load_u32(bytes) > FORMAT)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "packed chunk in format %u; this program reads up to %d", gy_load_u32(bytes), FORMAT);
    if (gy_load_u32(bytes) != FORMAT || gy_load_u32(bytes + 16) != dim || value.bytes != gy_packed_bytes(dim))
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk of %zu bytes, format %u, dim %u; dim %u has %zu", value.bytes, gy_load_u32(bytes),
                         gy_load_u32(bytes + 16), dim, gy_packed_bytes(dim));
    size_t covered = value.bytes - CHECKSUM_BYTES;
    if (gy_load_u64(bytes + covered) != XXH3_64bits(bytes, covered))
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk has a wrong checksum");
    if (gy_load_u32(bytes + 4) != codebook_version)
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk of codebook %u under the key of %u", gy_load_u32(bytes + 4), codebook_version);

    memcpy(chunk->blocks, bytes + HEADER_BYTES, blocks_bytes(dim));
    memcpy(chunk->ids, bytes + HEADER_BYTES + blocks_bytes(dim), sizeof(gyre_point_id) * GY_CHUNK_ROWS);
    uint8_t *rebuilt = gy_aligned_alloc(gyre_block_bytes(gy_replica_code_bytes(dim)));
    if (!rebuilt)
        return gyre_fail(err, GYRE_NO_MEMORY, "packed chunk");
    gyre_status status = GYRE_OK;
    chunk->held = 0;
    for (size_t b = 0; b < GY_CHUNK_ROWS / GYRE_BLOCK_ROWS && status == GYRE_OK; b++)
        status = check_block(chunk, b, dim, rebuilt, err);
    free(rebuilt);
    GY_TRY(status);
    if (chunk->held != gy_load_u32(bytes + 20))
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk holds %u points; its header says %u", chunk->held, gy_load_u32(bytes + 20));
    *seq = gy_load_u64(bytes + 8);
    return GYRE_OK;
}

size_t gy_row_record_bytes(uint32_t dim)
{
    return SEQ_BYTES + sizeof(gyre_point_id) + gy_replica_row_bytes(dim);
}

size_t gy_row_record_encode(uint8_t *out, uint64_t seq, const gyre_point_id *id, const uint8_t *row, uint32_t dim)
{
    gy_store_u64(out, seq);
    if (!id)
        return SEQ_BYTES;
    memcpy(out + SEQ_BYTES, id, sizeof *id);
    memcpy(out + SEQ_BYTES + sizeof *id, row, gy_replica_row_bytes(dim));
    return gy_row_record_bytes(dim);
}

gyre_status gy_row_record_decode(struct gy_slice value, uint32_t dim, struct gy_row_record *out, gyre_error *err)
{
    const uint8_t *bytes = value.data;
    if (value.bytes != SEQ_BYTES && value.bytes != gy_row_record_bytes(dim))
        return gyre_fail(err, GYRE_CORRUPT, "row of %zu bytes; one has %zu, a cleared one %d", value.bytes, gy_row_record_bytes(dim), SEQ_BYTES);
    out->seq = gy_load_u64(bytes);
    out->held = value.bytes != SEQ_BYTES;
    if (!out->held)
        return GYRE_OK;
    memcpy(&out->id, bytes + SEQ_BYTES, sizeof out->id);
    out->row = bytes + SEQ_BYTES + sizeof out->id;
    if (gyre_point_id_check(out->id.bytes, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "row");
    return gyre_codec_row_check(gy_replica_codec(), dim, out->row, err);
}

gyre_status gy_point_decode(struct gy_slice value, uint64_t *version, struct gy_slice *payload, gyre_error *err)
{
    if (value.bytes < GY_POINT_HEADER_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "point of %zu bytes; its version alone has %d", value.bytes, GY_POINT_HEADER_BYTES);
    *version = gy_load_u64(value.data);
    *payload = (struct gy_slice){(const uint8_t *)value.data + GY_POINT_HEADER_BYTES, value.bytes - GY_POINT_HEADER_BYTES};
    return GYRE_OK;
}

gyre_status gy_vector_decode(struct gy_slice value, uint32_t dim, float *out, gyre_error *err)
{
    if (value.bytes != dim * sizeof(float))
        return gyre_fail(err, GYRE_CORRUPT, "vector of %zu bytes; dim %u has %zu", value.bytes, dim, dim * sizeof(float));
    memcpy(out, value.data, value.bytes);
    return GYRE_OK;
}
