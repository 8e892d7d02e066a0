/* pack: entries of the log as another member is sent them: as they are, or, for a quantized one, with codes for vectors.
 * Threads  any; reads the log */
#ifndef GY_REPLICA_PACK_H
#define GY_REPLICA_PACK_H

#include "index/points.h"

#include "gyre/node/node.pb-c.h"

enum { GY_SEND_BYTES_MAX = 8 << 20, GY_SEND_ENTRIES_MAX = 4096 };

struct gy_packed {
    Gyre__Node__LogEntry **entries; /* [count] */
    size_t count, room, bytes;
    uint32_t codebook_version;      /* that the codes are in, or of the points, if there are none; 0 without points */
};

/* Entries from … upto, or as many of the first of them as GY_SEND_BYTES_MAX and GY_SEND_ENTRIES_MAX allow, at least one; none if from
 * is above upto. points: encode what they hold of vectors in the codebook of now; NULL: as they are. Filled in also on failure. */
GYRE_CHECKED gyre_status gy_pack(gy_store *store, gy_points *points, uint64_t from, uint64_t upto, struct gy_packed *out,
                                 gyre_error *err);
void gy_packed_fini(struct gy_packed *packed);

#endif
