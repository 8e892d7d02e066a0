/* digest: what a replica holds in three sums of 128 bits, so that two replicas, or a replica and its own disk, can be compared.
 *
 * Of each point three things are hashed and added mod 2^128: (id, version, payload), (id, list, code row), (id, vector). Addition
 * has no order and can be undone, so an apply takes away what it replaces and adds what it brings, and where a point lies does not
 * matter. Points and vectors are the same on every replica at one seq; codes on those of one codebook version.
 * The hash is XXH3-128: it finds what went wrong, not who meant it to.
 * Threads  no state */
#ifndef GY_DIGEST_H
#define GY_DIGEST_H

#include "store/store.h"

void gy_sum_add(struct gy_sum *sum, struct gy_sum term);
void gy_sum_subtract(struct gy_sum *sum, struct gy_sum term);
static inline bool gy_sum_equal(struct gy_sum a, struct gy_sum b)
{
    return a.low == b.low && a.high == b.high;
}

struct gy_sum gy_point_sum(const gyre_point_id *id, uint64_t version, const void *payload, size_t payload_bytes);
struct gy_sum gy_code_sum(const gyre_point_id *id, uint32_t list, const uint8_t *row, size_t row_bytes);
struct gy_sum gy_vector_sum(const gyre_point_id *id, const float *vector, uint32_t dim);

#endif
