/* Two short hashes instead of a copy into one piece: of the bytes, then of kind, id, number and the first hash. */
#include "index/digest.h"

#define XXH_INLINE_ALL /* the head has a constant size: hashed in a few instructions */
#include <xxhash.h>

enum kind { POINT = 1, CODE = 2, VECTOR = 3 };
enum { HEAD_BYTES = 48 };

void gy_sum_add(struct gy_sum *sum, struct gy_sum term)
{
    sum->low += term.low;
    sum->high += term.high + (sum->low < term.low);
}

void gy_sum_subtract(struct gy_sum *sum, struct gy_sum term)
{
    sum->high -= term.high + (sum->low < term.low);
    sum->low -= term.low;
}

static struct gy_sum hash(enum kind kind, const gyre_point_id *id, uint64_t number, const void *data, size_t bytes)
{
    uint8_t head[HEAD_BYTES];
    XXH128_hash_t of_data = XXH3_128bits(data, bytes);
    gy_store_u64(head, kind);
    memcpy(head + 8, id->bytes, sizeof id->bytes);
    gy_store_u64(head + 24, number);
    gy_store_u64(head + 32, of_data.low64);
    gy_store_u64(head + 40, of_data.high64);
    XXH128_hash_t all = XXH3_128bits(head, sizeof head);
    return (struct gy_sum){all.low64, all.high64};
}

struct gy_sum gy_point_sum(const gyre_point_id *id, uint64_t version, const void *payload, size_t payload_bytes)
{
    return hash(POINT, id, version, payload, payload_bytes);
}

struct gy_sum gy_code_sum(const gyre_point_id *id, uint32_t list, const uint8_t *row, size_t row_bytes)
{
    return hash(CODE, id, list, row, row_bytes);
}

struct gy_sum gy_vector_sum(const gyre_point_id *id, const float *vector, uint32_t dim)
{
    return hash(VECTOR, id, 0, vector, dim * sizeof *vector);
}
