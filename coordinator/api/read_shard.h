/* read_shard: Collections/ReadShard: one shard's points at one seq, piece by piece, for a backup.
 *
 * Threads  any; blocks until a node has answered */
#ifndef GY_API_READ_SHARD_H
#define GY_API_READ_SHARD_H

#include "routing/routing.h"

#include "gyre/v1/gyre.pb-c.h"

typedef struct gy_read_shard {
    gy_routing *routing;
    const char *cluster; /* its id */
} gy_read_shard;

/* Packs the reply. GYRE_INVALID for a token that this cluster did not make, or for another shard; GYRE_ABORTED if the state that
 * it goes on with is gone; GYRE_UNAVAILABLE if no in-sync member answers. */
GYRE_CHECKED gyre_status gy_read_shard_run(const gy_read_shard *read, const Gyre__V1__ReadShardRequest *asked,
                                           int64_t deadline_ns, gy_bytes *reply, gyre_error *err);

#endif
