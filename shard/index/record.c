/* The packed chunk keeps the codec's blocks verbatim, so loading is a few copies and a check of each row; the checksum covers
 * what RocksDB's own cannot: a value that was wrong before it was written. */
#include "index/record.h"

#include <stdlib.h>
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored vectors are copied as they lie in memory");

enum { FORMAT = 2, HEADER_BYTES = 28, CHECKSUM_BYTES = 8, SEQ_BYTES = 8 };

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

gyre_status gy_code_key_decode(struct gy_slice key, uint32_t *codebook_version, enum gy_code_kind *kind, uint32_t *number,
                               gyre_error *err)
{
    const uint8_t *bytes = key.data;
    if (key.bytes != GY_CODE_KEY_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "key of a code has %zu bytes, not %d", key.bytes, GY_CODE_KEY_BYTES);
    if (bytes[4] < GY_CODE_PACKED || bytes[4] > GY_CODE_LIST)
        return gyre_fail(err, GYRE_CORRUPT, "key of a code has kind %u", bytes[4]);
    *codebook_version = get_u32_be(bytes);
    *kind = (enum gy_code_kind)bytes[4];
    *number = get_u32_be(bytes + 5);
    return GYRE_OK;
}

static size_t blocks_of(size_t rows)
{
    return (rows + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
}

size_t gy_packed_bytes(const struct gy_layout *layout, size_t rows)
{
    size_t blocks = blocks_of(rows), places = blocks * GYRE_BLOCK_ROWS;
    size_t place_bytes = sizeof(gyre_point_id) + layout->refine_row_bytes;
    return HEADER_BYTES + CHECKSUM_BYTES + blocks * layout->block_bytes + places * place_bytes;
}

void gy_packed_encode(uint8_t *out, const struct gy_layout *layout, const struct gy_chunk *chunk, uint32_t codebook_version,
                      uint64_t seq)
{
    size_t blocks = blocks_of(chunk->rows), places = blocks * GYRE_BLOCK_ROWS;
    gy_store_u32(out, FORMAT);
    gy_store_u32(out + 4, codebook_version);
    gy_store_u64(out + 8, seq);
    gy_store_u32(out + 16, layout->dim);
    gy_store_u32(out + 20, chunk->rows);
    gy_store_u32(out + 24, chunk->held);
    uint8_t *at = out + HEADER_BYTES;
    memcpy(at, gy_chunk_blocks(chunk), blocks * layout->block_bytes);
    at += blocks * layout->block_bytes;
    memcpy(at, chunk->ids, places * sizeof *chunk->ids);
    at += places * sizeof *chunk->ids;
    memcpy(at, chunk->refine, places * layout->refine_row_bytes);
    at += places * layout->refine_row_bytes;
    gy_store_u64(at, XXH3_64bits(out, (size_t)(at - out)));
}

/* Checks that the chunk is exactly what its rows give when they are put into an empty one: nothing in it is no row's. */
static gyre_status check_rows(const struct gy_layout *layout, const struct gy_chunk *chunk, struct gy_chunk *rebuilt,
                              gyre_error *err)
{
    uint8_t row[GY_ROW_BYTES_MAX];
    for (size_t place = 0; place < chunk->rows; place++) {
        if (!gy_chunk_holds(layout, chunk, place))
            continue;
        gy_chunk_row(layout, chunk, place, row);
        gyre_status status = gyre_codec_list_row_check(layout->codec, layout->dim, row, err);
        if (status == GYRE_OK)
            status = gyre_point_id_check(chunk->ids[place].bytes, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, GYRE_CORRUPT, "packed chunk, place %zu", place);
        gy_chunk_set(layout, rebuilt, place, &chunk->ids[place], row);
    }
    size_t blocks = blocks_of(chunk->rows), places = blocks * GYRE_BLOCK_ROWS;
    if (memcmp(gy_chunk_blocks(rebuilt), gy_chunk_blocks(chunk), blocks * layout->block_bytes) != 0 ||
        memcmp(rebuilt->ids, chunk->ids, places * sizeof *chunk->ids) != 0 ||
        memcmp(rebuilt->refine, chunk->refine, places * layout->refine_row_bytes) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk holds bytes that no row gives");
    return GYRE_OK;
}

/* Fills chunk, which has room for rows, from the bytes after the header. */
static gyre_status decode_rows(const struct gy_layout *layout, const uint8_t *bytes, size_t rows, struct gy_chunk *chunk,
                               gyre_error *err)
{
    size_t blocks = blocks_of(rows), places = blocks * GYRE_BLOCK_ROWS;
    memcpy(gy_chunk_blocks(chunk), bytes, blocks * layout->block_bytes);
    bytes += blocks * layout->block_bytes;
    memcpy(chunk->ids, bytes, places * sizeof *chunk->ids);
    bytes += places * sizeof *chunk->ids;
    memcpy(chunk->refine, bytes, places * layout->refine_row_bytes);
    chunk->rows = (uint16_t)rows;
    struct gy_chunk *rebuilt = gy_chunk_new(layout, 0, rows);
    if (!rebuilt)
        return gyre_fail(err, GYRE_NO_MEMORY, "packed chunk");
    gyre_status status = check_rows(layout, chunk, rebuilt, err);
    chunk->held = rebuilt->held;
    gy_chunk_release(rebuilt);
    return status;
}

gyre_status gy_packed_decode(struct gy_chunk **out, struct gy_slice value, const struct gy_layout *layout,
                             uint32_t codebook_version, gyre_error *err)
{
    const uint8_t *bytes = value.data;
    if (value.bytes < HEADER_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk of %zu bytes; the header alone is %d", value.bytes, HEADER_BYTES);
    if (gy_load_u32(bytes) > FORMAT)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "packed chunk in format %u; this program reads up to %d", gy_load_u32(bytes),
                         FORMAT);
    uint32_t dim = gy_load_u32(bytes + 16), rows = gy_load_u32(bytes + 20);
    if (gy_load_u32(bytes) != FORMAT || dim != layout->dim || rows < 1 || rows > GY_CHUNK_ROWS ||
        value.bytes != gy_packed_bytes(layout, rows))
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk of %zu bytes, format %u, dim %u, %u rows; the replica has dim %u",
                         value.bytes, gy_load_u32(bytes), dim, rows, layout->dim);
    size_t covered = value.bytes - CHECKSUM_BYTES;
    if (gy_load_u64(bytes + covered) != XXH3_64bits(bytes, covered))
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk has a wrong checksum");
    if (gy_load_u32(bytes + 4) != codebook_version)
        return gyre_fail(err, GYRE_CORRUPT, "packed chunk of codebook %u under the key of %u", gy_load_u32(bytes + 4),
                         codebook_version);

    struct gy_chunk *chunk = gy_chunk_new(layout, 0, rows);
    if (!chunk)
        return gyre_fail(err, GYRE_NO_MEMORY, "packed chunk");
    gyre_status status = decode_rows(layout, bytes + HEADER_BYTES, rows, chunk, err);
    if (status == GYRE_OK && chunk->held != gy_load_u32(bytes + 24))
        status = gyre_fail(err, GYRE_CORRUPT, "packed chunk holds %u points; its header says %u", chunk->held,
                           gy_load_u32(bytes + 24));
    if (status != GYRE_OK) {
        gy_chunk_release(chunk);
        return status;
    }
    chunk->packed_seq = gy_load_u64(bytes + 8);
    *out = chunk;
    return GYRE_OK;
}

size_t gy_row_record_bytes(const struct gy_layout *layout)
{
    return SEQ_BYTES + sizeof(gyre_point_id) + layout->row_bytes;
}

size_t gy_row_record_encode(uint8_t *out, const struct gy_layout *layout, uint64_t seq, const gyre_point_id *id,
                            const uint8_t *row)
{
    gy_store_u64(out, seq);
    if (!id)
        return SEQ_BYTES;
    memcpy(out + SEQ_BYTES, id, sizeof *id);
    memcpy(out + SEQ_BYTES + sizeof *id, row, layout->row_bytes);
    return gy_row_record_bytes(layout);
}

gyre_status gy_row_record_decode(struct gy_slice value, const struct gy_layout *layout, struct gy_row_record *out,
                                 gyre_error *err)
{
    const uint8_t *bytes = value.data;
    if (value.bytes != SEQ_BYTES && value.bytes != gy_row_record_bytes(layout))
        return gyre_fail(err, GYRE_CORRUPT, "row of %zu bytes; one has %zu, a cleared one %d", value.bytes,
                         gy_row_record_bytes(layout), SEQ_BYTES);
    out->seq = gy_load_u64(bytes);
    out->held = value.bytes != SEQ_BYTES;
    if (!out->held)
        return GYRE_OK;
    memcpy(&out->id, bytes + SEQ_BYTES, sizeof out->id);
    out->row = bytes + SEQ_BYTES + sizeof out->id;
    if (gyre_point_id_check(out->id.bytes, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "row");
    return gyre_codec_list_row_check(layout->codec, layout->dim, out->row, err);
}

gyre_status gy_list_decode(struct gy_slice value, uint32_t lists, uint32_t *list, gyre_error *err)
{
    if (value.bytes != GY_LIST_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "list of %zu bytes; one has %d", value.bytes, GY_LIST_BYTES);
    uint32_t number = gy_load_u32(value.data);
    if (number >= lists)
        return gyre_fail(err, GYRE_CORRUPT, "list %u; the codebook has %u", number, lists);
    *list = number;
    return GYRE_OK;
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

gyre_status gy_vector_key_decode(struct gy_slice key, gyre_point_id *id, gyre_error *err)
{
    if (key.bytes != sizeof *id)
        return gyre_fail(err, GYRE_CORRUPT, "key of a vector has %zu bytes, not %zu", key.bytes, sizeof *id);
    if (gyre_point_id_check(key.data, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "key of a vector");
    memcpy(id, key.data, sizeof *id);
    return GYRE_OK;
}
