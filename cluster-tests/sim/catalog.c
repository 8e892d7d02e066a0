#include "catalog.h"

#include "world.h"

#include <stdlib.h>

const struct gy_shard_config *gy_sim_catalog_now(const struct gy_sim *sim, uint32_t shard)
{
    return sim->catalog.shards[shard].versions[sim->catalog.shards[shard].epoch];
}

const struct gy_shard_config *gy_sim_catalog_of(const struct gy_sim *sim, uint32_t shard, uint64_t epoch)
{
    return sim->catalog.shards[shard].versions[epoch];
}

static void trace_change(struct gy_sim *sim, uint32_t shard, const struct gy_shard_config *config)
{
    char text[256];
    size_t used = 0;
    for (uint32_t i = 0; i < config->member_count && used + 40 < sizeof text; i++) {
        const struct gy_member *member = &config->members[i];
        used += (size_t)snprintf(text + used, sizeof text - used, " %u@%s%s%s%s", member->id, member->node,
                                 member->in_sync ? "*" : "", member->kind == GY_MEMBER_QUANTIZED ? "q" : "",
                                 member->leaving ? "-" : "");
    }
    gy_sim_write_trace(sim, "catalog shard %u epoch %llu: primary %u since %llu, min %u;%s", shard,
                       (unsigned long long)config->epoch, config->primary, (unsigned long long)config->primary_since,
                       config->min_copies, text);
}

bool gy_sim_catalog_change(struct gy_sim *sim, uint32_t shard, const struct gy_shard_config *next)
{
    uint64_t *epoch = &sim->catalog.shards[shard].epoch, *room = &sim->catalog.shards[shard].room;
    if (next->epoch != *epoch + 1)
        return false;
    if (next->epoch >= *room) {
        *room = *room ? *room * 2 : 64;
        struct gy_shard_config ***versions = &sim->catalog.shards[shard].versions;
        *versions = realloc(*versions, *room * sizeof **versions);
        if (!*versions)
            abort();
    }
    struct gy_shard_config *kept = malloc(sizeof *kept);
    if (!kept)
        abort();
    *kept = *next;
    sim->counts.configurations++;
    sim->counts.promotions += next->epoch > 1 && next->primary_since == next->epoch;
    *epoch = next->epoch;
    sim->catalog.shards[shard].versions[next->epoch] = kept;
    if (sim->trace)
        trace_change(sim, shard, kept);
    gy_sim_check_config(sim, shard);
    return true;
}

void gy_sim_catalog_fini(struct gy_sim *sim)
{
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++) {
        for (uint64_t epoch = 1; epoch <= sim->catalog.shards[s].epoch; epoch++)
            free(sim->catalog.shards[s].versions[epoch]);
        free(sim->catalog.shards[s].versions);
    }
    sim->catalog = (struct gy_sim_catalog){0};
}
