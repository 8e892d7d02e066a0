/* check: whether a write may be logged. What passes here is applied without a question, at once and at every replay.
 * Threads  no state; call from anywhere */
#ifndef GY_REPLICA_CHECK_H
#define GY_REPLICA_CHECK_H

#include "gyre/metric.h"

#include "gyre/node/node.pb-c.h"

enum { GY_WRITE_OPERATIONS_MAX = 65536 };

/* Checks every operation: id, exactly dim finite floats (or none: a delete), payload. GYRE_INVALID names the operation. */
GYRE_CHECKED gyre_status gy_write_check(const Gyre__Node__Write *write, gyre_metric metric, uint32_t dim, gyre_error *err);

#endif
