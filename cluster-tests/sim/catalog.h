/* catalog: every configuration a shard ever had; the last one holds. Changed by compare-and-set on the epoch, durable at once. */
#ifndef GY_SIM_CATALOG_H
#define GY_SIM_CATALOG_H

#include "gyre/shard_config.h"

enum { GY_SIM_SHARDS_MAX = 3 };
struct gy_sim;

struct gy_sim_catalog {
    struct {
        struct gy_shard_config **versions; /* [room], by epoch */
        uint64_t epoch, room;
    } shards[GY_SIM_SHARDS_MAX];
    int64_t away_until_ns; /* it does not answer before */
};

const struct gy_shard_config *gy_sim_catalog_now(const struct gy_sim *sim, uint32_t shard);
/* What the catalog says of an epoch it had. */
const struct gy_shard_config *gy_sim_catalog_of(const struct gy_sim *sim, uint32_t shard, uint64_t epoch);
/* Sets it if the last one's epoch is next->epoch - 1. */
bool gy_sim_catalog_change(struct gy_sim *sim, uint32_t shard, const struct gy_shard_config *next);
void gy_sim_catalog_fini(struct gy_sim *sim);

#endif
