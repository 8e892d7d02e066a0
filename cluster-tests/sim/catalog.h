/* catalog: every configuration a shard ever had; the last one holds. Changed by compare-and-set on the epoch, durable at once.
 *
 * A family is what one shard of the beginning has been split into: a collection. All of it is read at once. */
#ifndef GY_SIM_CATALOG_H
#define GY_SIM_CATALOG_H

#include "gyre/shard_config.h"

enum { GY_SIM_FAMILIES_MAX = 3, GY_SIM_SHARDS_MAX = 6 };
struct gy_sim;

struct gy_sim_catalog {
    struct {
        struct gy_shard_config **versions; /* [room], by epoch */
        uint64_t epoch, room, first; /* first: epoch of the first one; 0: there is none yet */
    } shards[GY_SIM_SHARDS_MAX];
    int64_t away_until_ns; /* it does not answer before */
};

const struct gy_shard_config *gy_sim_catalog_now(const struct gy_sim *sim, uint32_t shard);
/* What the catalog says of an epoch it had. */
const struct gy_shard_config *gy_sim_catalog_of(const struct gy_sim *sim, uint32_t shard, uint64_t epoch);
/* Whether the shard is being made by a split: then nobody but its nodes is told of it. */
bool gy_sim_catalog_hidden(const struct gy_sim *sim, uint32_t shard);
/* Sets it if the last one's epoch is next->epoch - 1. One that begins a split: if there is none, and its child is the next. */
bool gy_sim_catalog_change(struct gy_sim *sim, uint32_t shard, const struct gy_shard_config *next);
/* Adds the child that the parent, still of this epoch, is being split into. */
bool gy_sim_catalog_add(struct gy_sim *sim, uint32_t parent, uint64_t parent_epoch, const struct gy_shard_config *child);
void gy_sim_catalog_fini(struct gy_sim *sim);

#endif
