#include "routing/session.h"

#include "catalog/spec.h"

#include <inttypes.h>
#include <string.h>

enum { VERSION = 1, HEAD_BYTES = 9, ENTRY_BYTES = 10 };

gyre_status gy_session_read(const uint8_t *token, size_t bytes, uint64_t collection_id, uint32_t shard_count, uint64_t *seqs,
                            gyre_error *err)
{
    memset(seqs, 0, shard_count * sizeof *seqs);
    if (bytes == 0)
        return GYRE_OK;
    if (token[0] != VERSION)
        return gyre_fail(err, GYRE_INVALID, "token: version %u; this coordinator knows %d", token[0], VERSION);
    if (bytes < HEAD_BYTES || (bytes - HEAD_BYTES) % ENTRY_BYTES)
        return gyre_fail(err, GYRE_INVALID, "token: %zu bytes; it has %d and %d for each of its shards", bytes, HEAD_BYTES,
                         ENTRY_BYTES);
    if (gy_load_u64(token + 1) != collection_id)
        return gyre_fail(err, GYRE_INVALID, "token: it is of collection %" PRIu64 ", this is %" PRIu64, gy_load_u64(token + 1),
                         collection_id);
    int64_t last = -1;
    for (const uint8_t *entry = token + HEAD_BYTES; entry < token + bytes; entry += ENTRY_BYTES) {
        uint32_t shard = (uint32_t)entry[0] | (uint32_t)entry[1] << 8;
        if (shard >= GY_SHARDS_MAX || shard <= last)
            return gyre_fail(err, GYRE_INVALID, "token: shard %u; they ascend and are below %d", shard, GY_SHARDS_MAX);
        if (shard < shard_count)
            seqs[shard] = gy_load_u64(entry + 2);
        last = shard;
    }
    if (last >= shard_count)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "token: it is of %" PRId64 " shards at least; %u are known here", last + 1,
                         shard_count);
    return GYRE_OK;
}

size_t gy_session_bytes(const uint64_t *seqs, uint32_t shard_count)
{
    size_t bytes = HEAD_BYTES;
    for (uint32_t s = 0; s < shard_count; s++)
        bytes += seqs[s] ? ENTRY_BYTES : 0;
    return bytes;
}

void gy_session_write(uint64_t collection_id, const uint64_t *seqs, uint32_t shard_count, uint8_t *out)
{
    out[0] = VERSION;
    gy_store_u64(out + 1, collection_id);
    out += HEAD_BYTES;
    for (uint32_t s = 0; s < shard_count; s++) {
        if (!seqs[s])
            continue;
        out[0] = (uint8_t)s, out[1] = (uint8_t)(s >> 8);
        gy_store_u64(out + 2, seqs[s]);
        out += ENTRY_BYTES;
    }
}
