/* record: the bytes of points, vectors and codes on disk, and back. Believes nothing it reads.
 *
 *   codes key      codebook version be32 | kind u8 | number be32              number: of a chunk or of a slot
 *   packed chunk   format u32 | codebook version u32 | seq u64 | dim u32 | rows u32 | held u32 | blocks | ids | refine rows
 *                  | xxh3-64 of all before                                      of rows places, of whole blocks
 *   row            seq u64 | id | row of a list                                 the slot holds this point since seq
 *   cleared row    seq u64                                                      the slot is empty since seq
 *   list           list u32                                                     the chunk's, from its first row on
 *   point          version u64 | payload
 *   vector         f32 [dim]
 * Little-endian but for keys, which sort. Threads: no state. */
#ifndef GY_RECORD_H
#define GY_RECORD_H

#include "index/snapshot.h"
#include "store/rows.h"

enum gy_code_kind { GY_CODE_PACKED = 1, GY_CODE_ROW = 2, GY_CODE_LIST = 3 };
enum { GY_CODE_KEY_BYTES = 9, GY_LIST_BYTES = 4, GY_POINT_HEADER_BYTES = 8 };

void gy_code_key(uint8_t key[GY_CODE_KEY_BYTES], uint32_t codebook_version, enum gy_code_kind kind, uint32_t number);
/* kind is one of the enum on success. */
GYRE_CHECKED gyre_status gy_code_key_decode(struct gy_slice key, uint32_t *codebook_version, enum gy_code_kind *kind,
                                            uint32_t *number, gyre_error *err);

size_t gy_packed_bytes(const struct gy_layout *layout, size_t rows);
/* out [gy_packed_bytes of chunk->rows] */
void gy_packed_encode(uint8_t *out, const struct gy_layout *layout, const struct gy_chunk *chunk, uint32_t codebook_version,
                      uint64_t seq);
/* Makes the chunk, packed_seq set, its list not: that is another record. GYRE_CORRUPT: size, checksum, version, a row that no
 * encoding gives, an id that is none, a wrong count; GYRE_UNIMPLEMENTED: a newer format. */
GYRE_CHECKED gyre_status gy_packed_decode(struct gy_chunk **out, struct gy_slice value, const struct gy_layout *layout,
                                          uint32_t codebook_version, gyre_error *err);

/* Largest encoded row. */
size_t gy_row_record_bytes(const struct gy_layout *layout);
/* id NULL: cleared. Returns the bytes written to out [gy_row_record_bytes]. */
size_t gy_row_record_encode(uint8_t *out, const struct gy_layout *layout, uint64_t seq, const gyre_point_id *id,
                            const uint8_t *row);
struct gy_row_record {
    uint64_t seq;
    bool held;
    gyre_point_id id;   /* if held */
    const uint8_t *row; /* if held; lent by the value */
};
GYRE_CHECKED gyre_status gy_row_record_decode(struct gy_slice value, const struct gy_layout *layout, struct gy_row_record *out,
                                              gyre_error *err);

/* The list of a chunk: below lists. */
GYRE_CHECKED gyre_status gy_list_decode(struct gy_slice value, uint32_t lists, uint32_t *list, gyre_error *err);

/* The payload is lent by the value and not terminated. */
GYRE_CHECKED gyre_status gy_point_decode(struct gy_slice value, uint64_t *version, struct gy_slice *payload, gyre_error *err);
/* The id that is the key of a point and of its vector. */
GYRE_CHECKED gyre_status gy_vector_key_decode(struct gy_slice key, gyre_point_id *id, gyre_error *err);
/* out [dim] */
GYRE_CHECKED gyre_status gy_vector_decode(struct gy_slice value, uint32_t dim, float *out, gyre_error *err);

#endif
