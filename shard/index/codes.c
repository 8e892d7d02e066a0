/* The list is a record of its own, written with the first of a chunk's others: rows then need not repeat it. */
#include "index/codes.h"

#include <stdlib.h>

gyre_status gy_codes_init(struct gy_codes *codes, gy_store *store, gy_batch *batch, const struct gy_shared_codebook *codebook,
                          gyre_error *err)
{
    *codes = (struct gy_codes){store, batch, &codebook->layout, gyre_codebook_version(codebook->codebook), NULL};
    codes->scratch = malloc(gy_packed_bytes(&codebook->layout, GY_CHUNK_ROWS));
    return codes->scratch ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "packed chunk");
}

void gy_codes_fini(struct gy_codes *codes)
{
    free(codes->scratch);
    codes->scratch = NULL;
}

static void put(struct gy_codes *codes, enum gy_code_kind kind, uint32_t number, const void *value, size_t bytes)
{
    uint8_t key[GY_CODE_KEY_BYTES];
    gy_code_key(key, codes->version, kind, number);
    gy_batch_put(codes->batch, codes->store, GY_FAMILY_CODES, (struct gy_slice){key, sizeof key},
                 (struct gy_slice){value, bytes});
}

static void delete(struct gy_codes *codes, enum gy_code_kind kind, uint32_t number)
{
    uint8_t key[GY_CODE_KEY_BYTES];
    gy_code_key(key, codes->version, kind, number);
    gy_batch_delete(codes->batch, codes->store, GY_FAMILY_CODES, (struct gy_slice){key, sizeof key});
}

static void delete_rows(struct gy_codes *codes, const struct gy_chunk *chunk, uint32_t number)
{
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    if (!chunk->outstanding)
        return;
    gy_code_key(first, codes->version, GY_CODE_ROW, number * GY_CHUNK_ROWS);
    gy_code_key(behind, codes->version, GY_CODE_ROW, (number + 1) * GY_CHUNK_ROWS);
    gy_batch_delete_range(codes->batch, codes->store, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first},
                          (struct gy_slice){behind, sizeof behind});
}

static void put_list_once(struct gy_codes *codes, const struct gy_chunk *chunk, uint32_t number)
{
    uint8_t list[GY_LIST_BYTES];
    if (chunk->packed_seq || chunk->outstanding)
        return;
    gy_store_u32(list, chunk->list);
    put(codes, GY_CODE_LIST, number, list, sizeof list);
}

void gy_codes_pack(struct gy_codes *codes, struct gy_chunk *chunk, uint32_t number, uint64_t seq)
{
    put_list_once(codes, chunk, number);
    gy_packed_encode(codes->scratch, codes->layout, chunk, codes->version, seq);
    put(codes, GY_CODE_PACKED, number, codes->scratch, gy_packed_bytes(codes->layout, chunk->rows));
    delete_rows(codes, chunk, number);
    chunk->packed_seq = seq;
    chunk->outstanding = 0;
}

void gy_codes_row(struct gy_codes *codes, struct gy_chunk *chunk, uint32_t slot, uint64_t seq)
{
    uint8_t row[GY_ROW_BYTES_MAX], record[GY_ROW_BYTES_MAX + 64];
    size_t place = slot % GY_CHUNK_ROWS;
    const gyre_point_id *id = gy_chunk_holds(codes->layout, chunk, place) ? &chunk->ids[place] : NULL;
    if (id)
        gy_chunk_row(codes->layout, chunk, place, row);
    put_list_once(codes, chunk, slot / GY_CHUNK_ROWS);
    put(codes, GY_CODE_ROW, slot, record, gy_row_record_encode(record, codes->layout, seq, id, row));
    chunk->outstanding++;
}

void gy_codes_delete(struct gy_codes *codes, const struct gy_chunk *chunk, uint32_t number)
{
    if (chunk->packed_seq)
        delete(codes, GY_CODE_PACKED, number);
    delete_rows(codes, chunk, number);
    delete(codes, GY_CODE_LIST, number);
}

void gy_codes_delete_all(struct gy_codes *codes)
{
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    gy_code_key(first, codes->version, 0, 0);
    gy_code_key(behind, codes->version, UINT8_MAX, UINT32_MAX);
    gy_batch_delete_range(codes->batch, codes->store, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first},
                          (struct gy_slice){behind, sizeof behind});
}
