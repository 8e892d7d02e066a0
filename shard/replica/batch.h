/* batch: the operations of one or more writes as the points take them.
 * Borrows the writes: they must live until the batch was applied. Threads  one */
#ifndef GY_REPLICA_BATCH_H
#define GY_REPLICA_BATCH_H

#include "index/points.h"

#include "gyre/node/node.pb-c.h"

typedef struct gy_batch {
    struct gy_operation *operations; /* [count] */
    uint64_t *versions;              /* [count] */
    bool *deleted;                   /* [count], written by _apply */
    size_t count, room;
} gy_batch;

/* Adds a write that passed gy_write_check, as the log entry seq. */
GYRE_CHECKED gyre_status gy_batch_add(gy_batch *batch, const Gyre__Node__Write *write, uint64_t seq, gyre_error *err);
/* Applies everything added, with seq as the new applied seq. */
GYRE_CHECKED gyre_status gy_batch_apply(gy_batch *batch, gy_points *points, uint64_t seq, gyre_error *err);
/* Forgets the operations, keeps the memory. */
void gy_batch_clear(gy_batch *batch);
void gy_batch_fini(gy_batch *batch);

#endif
