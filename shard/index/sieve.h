/* sieve: the rows of a snapshot whose ids' hashes are in a range. After a split a replica holds rows that are another shard's,
 * until they are deleted; whoever answers for a range looks through a sieve.
 *
 * Which rows of a chunk pass is worked out once and kept with the chunk, which does not change. Where nothing but what is asked
 * for can be there, no hash is ever looked at.
 * Threads  any; a sieve itself is not changed once it is made */
#ifndef GY_SIEVE_H
#define GY_SIEVE_H

#include "index/snapshot.h"

struct gy_sieve {
    const gy_snapshot *snapshot; /* borrowed */
    struct gy_hash_range range;
    uint8_t key[GY_HASH_KEY_BYTES];
    bool passes_all;
};

/* range {0, 0}: what is owned. GYRE_ABORTED if the replica no longer has all of range. A replica that was never told the key of
 * hashes holds what was always its own: everything passes. */
GYRE_CHECKED gyre_status gy_sieve_init(struct gy_sieve *sieve, const gy_points *points, const gy_snapshot *snapshot,
                                       struct gy_hash_range range, gyre_error *err);
bool gy_sieve_passes(const struct gy_sieve *sieve, const gyre_point_id *id);
/* The rows of a chunk that hold a point and pass; how many there are. For a sieve that does not let everything pass. */
uint32_t gy_sieve_mask(const struct gy_sieve *sieve, size_t chunk, struct gy_mask *mask);
/* Points that pass. */
uint64_t gy_sieve_count(const struct gy_sieve *sieve);

/* Whether hashes of range are all in the snapshot's content. */
bool gy_snapshot_has(const gy_snapshot *snapshot, struct gy_hash_range range);
bool gy_snapshot_owns(const gy_snapshot *snapshot, const gyre_point_id *id);
/* Counts anew, hashing every id, what an unpublished snapshot holds beyond what its record says. */
void gy_snapshot_count_foreign(gy_snapshot *snapshot);

#endif
