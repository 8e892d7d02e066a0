/* inspect: a replica's files from one end to the other: what index/inspect.h says, and log, window of requests and configuration.
 * Threads  one an inspection */
#ifndef GY_REPLICA_INSPECT_H
#define GY_REPLICA_INSPECT_H

#include "index/inspect.h"

/* Who the files are of; known once they could be opened. */
struct gy_inspected {
    bool opened;
    struct gy_store_identity identity;
    uint32_t member;
    bool quantized;
    uint64_t epoch, applied_seq, log_seq;
};

/* Inspects the replica at path, which nobody may have open. Writes nothing. GYRE_OK whatever is found; GYRE_NOT_FOUND if there is
 * none, or pace's failure. */
GYRE_CHECKED gyre_status gy_replica_inspect(const char *path, struct gy_inspection *inspection, struct gy_inspected *out,
                                            gyre_error *err);

#endif
