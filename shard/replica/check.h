/* check: whether a write may be logged. What passes here is applied without a question, at once and at every replay.
 * Threads  no state; call from anywhere */
#ifndef GY_REPLICA_CHECK_H
#define GY_REPLICA_CHECK_H

#include "gyre/codec.h"
#include "gyre/metric.h"

#include "gyre/node/node.pb-c.h"

enum { GY_WRITE_OPERATIONS_MAX = 65536, GY_FORGET_OPERATIONS_MAX = 1024 };

/* What a replica takes. */
struct gy_write_rules {
    gyre_metric metric;
    uint32_t dim;
    bool quantized;            /* codes of this codebook instead of vectors: */
    const gyre_codec *codec;
    uint32_t codebook_version;
    uint32_t lists;
};

/* Whether it is one that only a primary makes (own.c): a narrowing or a forgetting. */
static inline bool gy_write_is_own(const Gyre__Node__Write *write) { return write->narrow || write->forget; }

/* Checks client and every operation: id, exactly dim finite floats or a code (or neither: a delete), payload; of a primary's own
 * write that it is nothing else. GYRE_INVALID names the operation or the field. */
GYRE_CHECKED gyre_status gy_write_check(const Gyre__Node__Write *write, const struct gy_write_rules *rules, gyre_error *err);

#endif
