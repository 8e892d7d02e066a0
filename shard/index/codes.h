/* codes: chunks on disk: a packed value with the seq it covers, records of the rows written since, and the chunk's list.
 *
 * A chunk is packed anew when GY_PACK_ROWS rows were written since it was last: half a chunk, so a bulk load writes each code
 * about twice and a start reads at most half of the codes as single rows.
 * Threads  those of the batch */
#ifndef GY_CODES_H
#define GY_CODES_H

#include "index/record.h"

enum { GY_PACK_ROWS = GY_CHUNK_ROWS / 2 };

/* Where the codes of one codebook version are written. */
struct gy_codes {
    gy_store *store;
    gy_batch *batch;
    const struct gy_layout *layout;
    uint32_t version; /* of the codebook */
    uint8_t *scratch; /* [gy_packed_bytes of GY_CHUNK_ROWS] */
};

/* GYRE_NO_MEMORY; fini also after a failure. The batch is not the codes'. */
GYRE_CHECKED gyre_status gy_codes_init(struct gy_codes *codes, gy_store *store, gy_batch *batch,
                                       const struct gy_shared_codebook *codebook, gyre_error *err);
void gy_codes_fini(struct gy_codes *codes);

/* Writes a whole chunk, which is the caller's to change, as it is at seq. */
void gy_codes_pack(struct gy_codes *codes, struct gy_chunk *chunk, uint32_t number, uint64_t seq);
/* Writes one place of a chunk, which is the caller's to change, as it is at seq. */
void gy_codes_row(struct gy_codes *codes, struct gy_chunk *chunk, uint32_t slot, uint64_t seq);
/* Deletes all records of a chunk. */
void gy_codes_delete(struct gy_codes *codes, const struct gy_chunk *chunk, uint32_t number);
/* Deletes all codes of the version. */
void gy_codes_delete_all(struct gy_codes *codes);

#endif
