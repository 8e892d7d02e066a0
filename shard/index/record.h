/* record: the bytes of points, vectors and codes on disk, and back. Believes nothing it reads.
 *
 *   codes key      codebook version be32 | kind u8 | number be32              number: of a chunk or of a slot
 *   packed chunk   format u32 | codebook version u32 | seq u64 | dim u32 | held u32 | blocks | ids | xxh3-64 of all before
 *   row            seq u64 | id | row of the codec                              the slot holds this point since seq
 *   cleared row    seq u64                                                      the slot is empty since seq
 *   point          version u64 | payload
 *   vector         f32 [dim]
 * Little-endian but for keys, which sort. Threads: no state. */
#ifndef GY_RECORD_H
#define GY_RECORD_H

#include "index/points.h"
#include "index/snapshot.h"
#include "store/rows.h"

enum gy_code_kind { GY_CODE_PACKED = 1, GY_CODE_ROW = 2 };
enum { GY_CODE_KEY_BYTES = 9, GY_POINT_HEADER_BYTES = 8 };

void gy_code_key(uint8_t key[GY_CODE_KEY_BYTES], uint32_t codebook_version, enum gy_code_kind kind, uint32_t number);
/* kind is one of the enum on success. */
GYRE_CHECKED gyre_status gy_code_key_decode(struct gy_slice key, uint32_t *codebook_version, enum gy_code_kind *kind, uint32_t *number,
                                            gyre_error *err);

size_t gy_packed_bytes(uint32_t dim);
/* out [gy_packed_bytes(dim)] */
void gy_packed_encode(uint8_t *out, const struct gy_chunk *chunk, uint32_t dim, uint32_t codebook_version, uint64_t seq);
/* Reads into a chunk as gy_chunk_new made it, and the seq it covers. GYRE_CORRUPT: size, checksum, version, a row that no
 * encoding gives, an id that is none, a wrong count; GYRE_UNIMPLEMENTED: a newer format. */
GYRE_CHECKED gyre_status gy_packed_decode(struct gy_slice value, uint32_t dim, uint32_t codebook_version, struct gy_chunk *chunk, uint64_t *seq,
                                          gyre_error *err);

/* Largest encoded row. */
size_t gy_row_record_bytes(uint32_t dim);
/* id NULL: cleared. Returns the bytes written to out [gy_row_record_bytes(dim)]. */
size_t gy_row_record_encode(uint8_t *out, uint64_t seq, const gyre_point_id *id, const uint8_t *row, uint32_t dim);
struct gy_row_record {
    uint64_t seq;
    bool held;
    gyre_point_id id;   /* if held */
    const uint8_t *row; /* if held; lent by the value */
};
GYRE_CHECKED gyre_status gy_row_record_decode(struct gy_slice value, uint32_t dim, struct gy_row_record *out, gyre_error *err);

/* The payload is lent by the value and not terminated. */
GYRE_CHECKED gyre_status gy_point_decode(struct gy_slice value, uint64_t *version, struct gy_slice *payload, gyre_error *err);
/* out [dim] */
GYRE_CHECKED gyre_status gy_vector_decode(struct gy_slice value, uint32_t dim, float *out, gyre_error *err);

#endif
