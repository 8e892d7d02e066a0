/* waiting: a replica that a split made on this node's disk, of one that is here, and that serves only once the coordinator says
 * what it is. It lies at DIR/replicas/<collection id>-<shard>.waiting, whole, and is not open.
 * Threads  any; whoever has the place in the node  */
#ifndef GY_SERVER_WAITING_H
#define GY_SERVER_WAITING_H

#include "store/store.h"

#define GY_WAITING_SUFFIX ".waiting"

/* What is reported of one. */
struct gy_waiting {
    uint32_t member;
    uint64_t seq; /* applied */
    struct gy_hash_range range;
};

/* Opens the one at path to see what it is. GYRE_CORRUPT if it is damaged, or of another collection or shard. */
GYRE_CHECKED gyre_status gy_waiting_look(gy_store_env *env, const char *path, uint64_t collection_id, uint32_t shard,
                                         struct gy_waiting *out, gyre_error *err);
/* Makes it the replica at path `to`, in this configuration: it has that before it has its new name, under which it would follow
 * whatever it has. A failure to sync leaves it at either path after a crash. GYRE_CORRUPT if it is damaged or another member,
 * GYRE_PRECONDITION for an older epoch than it was made in. */
GYRE_CHECKED gyre_status gy_waiting_take(gy_store_env *env, const char *path, const char *to, uint32_t member,
                                         const struct gy_shard_config *config, gyre_error *err);

#endif
