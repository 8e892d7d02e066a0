/* split: a second replica made of one on the same disk: linked to its files, so nothing is read or copied and every code stays
 * what it is. It has the points of both halves; what it owns says which are its own.
 * Threads  the one that applies what the store's log says */
#ifndef GY_STORE_SPLIT_H
#define GY_STORE_SPLIT_H

#include "store/store.h"

/* Makes at path, where there is nothing, a closed replica with all that store has applied, up to seq - 1: with this identity and
 * configuration, of which it is the same member, as of the entry (epoch, seq), behind which its empty log begins. It owns range,
 * by hashes of hash_key [GY_HASH_KEY_BYTES], and has the rest of the points as foreign ones. When it returns the replica is on
 * disk; a crash leaves it whole or not there. GYRE_EXISTS if something is at path, GYRE_PRECONDITION if another seq is applied,
 * GYRE_INVALID for what can be no replica or a range that the store has not, GYRE_EXHAUSTED when the disk is nearly full. */
GYRE_CHECKED gyre_status gy_store_split(gy_store *store, const char *path, const struct gy_store_identity *child,
                                        const struct gy_shard_config *config, struct gy_hash_range range, const uint8_t *hash_key,
                                        uint64_t epoch, uint64_t seq, gyre_error *err);

#endif
