#include "catalog.h"

#include "world.h"

#include <stdlib.h>
#include <string.h>

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
    if (config->split.shard)
        used += (size_t)snprintf(text + used, sizeof text - used, "; is split into shard %u", config->split.shard);
    gy_sim_write_trace(sim, "catalog shard %u epoch %llu: primary %u since %llu, min %u;%s", shard,
                       (unsigned long long)config->epoch, config->primary, (unsigned long long)config->primary_since,
                       config->min_copies, text);
}

bool gy_sim_catalog_hidden(const struct gy_sim *sim, uint32_t shard)
{
    return shard >= sim->family_count && gy_sim_catalog_now(sim, sim->parents[shard])->split.shard == shard;
}

static bool may_split(const struct gy_sim *sim, const struct gy_shard_config *next)
{
    for (uint32_t s = 0; s < sim->shard_count; s++)
        if (gy_sim_catalog_now(sim, s)->split.shard)
            return false;
    return next->split.shard == sim->shard_count && sim->shard_count < GY_SIM_SHARDS_MAX;
}

static void set(struct gy_sim *sim, uint32_t shard, const struct gy_shard_config *next)
{
    uint64_t *room = &sim->catalog.shards[shard].room;
    if (next->epoch >= *room) {
        uint64_t before = *room;
        *room = next->epoch * 2 + 64;
        struct gy_shard_config ***versions = &sim->catalog.shards[shard].versions;
        *versions = realloc(*versions, *room * sizeof **versions);
        if (!*versions)
            abort();
        memset(*versions + before, 0, (*room - before) * sizeof **versions);
    }
    struct gy_shard_config *kept = malloc(sizeof *kept);
    if (!kept)
        abort();
    *kept = *next;
    if (!sim->catalog.shards[shard].first)
        sim->catalog.shards[shard].first = next->epoch;
    sim->catalog.shards[shard].epoch = next->epoch;
    sim->catalog.shards[shard].versions[next->epoch] = kept;
    sim->counts.configurations++;
    if (sim->trace)
        trace_change(sim, shard, kept);
}

bool gy_sim_catalog_add(struct gy_sim *sim, uint32_t parent, uint64_t parent_epoch, const struct gy_shard_config *child)
{
    const struct gy_shard_config *now = gy_sim_catalog_now(sim, parent);
    if (now->epoch != parent_epoch || now->split.shard != sim->shard_count)
        return false;
    sim->wishes.shards[sim->shard_count] = sim->wishes.shards[parent];
    set(sim, sim->shard_count++, child);
    gy_sim_check_config(sim, sim->shard_count - 1);
    return true;
}

bool gy_sim_catalog_change(struct gy_sim *sim, uint32_t shard, const struct gy_shard_config *next)
{
    uint64_t epoch = sim->catalog.shards[shard].epoch;
    if (next->epoch != epoch + 1)
        return false;
    const struct gy_shard_config *before = epoch ? gy_sim_catalog_now(sim, shard) : NULL;
    if (before && next->split.shard && !before->split.shard) {
        if (!may_split(sim, next))
            return false;
        sim->parents[next->split.shard] = shard;
        sim->families[next->split.shard] = sim->families[shard];
        sim->counts.splits++;
    }
    sim->counts.promotions += before && next->primary_since == next->epoch;
    sim->counts.switches += before && before->split.shard && !next->split.shard;
    set(sim, shard, next);
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
