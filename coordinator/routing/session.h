/* session: what a client has written, as it carries it from its writes to its reads: a token.
 *
 * Bytes    little-endian: version u8 = 1, collection id u64, then, by ascending shard, shard u16 and seq u64 of the newest write
 * Threads  none: pure */
#ifndef GY_SESSION_H
#define GY_SESSION_H

#include "gyre/base.h"

/* The seqs of a token for a collection.
 *   seqs  [shard_count], written whole: 0 where the token says nothing; an empty token says nothing at all. Shards that came after
 *         the token was written need nothing: a split gave them all that their parent had
 * GYRE_INVALID, with a sentence that begins "token", for bytes that are none, or one of another collection; GYRE_OUT_OF_RANGE for
 * one that says something of more shards than shard_count, as a collection may have after splits. */
GYRE_CHECKED gyre_status gy_session_read(const uint8_t *token, size_t bytes, uint64_t collection_id, uint32_t shard_count,
                                         uint64_t *seqs, gyre_error *err);
/* How large a token of these seqs is, and the token: out has as many bytes. */
size_t gy_session_bytes(const uint64_t *seqs, uint32_t shard_count);
void gy_session_write(uint64_t collection_id, const uint64_t *seqs, uint32_t shard_count, uint8_t *out);

#endif
