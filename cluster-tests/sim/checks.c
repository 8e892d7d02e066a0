#include "checks.h"

#include "replica.h"
#include "world.h"

#include <stdlib.h>

typedef unsigned long long ull;

/* ---- the reference ---- */

static void extend(struct gy_sim_reference *reference, const struct gy_sim_entry *entry, gy_sim_plant plant)
{
    uint64_t seq = reference->state.seq - reference->base;
    if (seq == reference->room) {
        reference->room = seq ? seq * 2 : 256;
        reference->entries = realloc(reference->entries, reference->room * sizeof *reference->entries);
        reference->digests = realloc(reference->digests, reference->room * sizeof *reference->digests);
        if (!reference->entries || !reference->digests)
            abort();
    }
    gy_sim_state_apply(&reference->state, entry, plant);
    reference->entries[seq] = *entry;
    reference->digests[seq] = reference->state.digest;
}

static const struct gy_sim_entry *entry_at(const struct gy_sim_reference *reference, uint64_t seq)
{
    return &reference->entries[seq - reference->base - 1];
}

/* After the entry of seq; base <= seq <= state.seq. */
static uint64_t digest_at(const struct gy_sim_reference *reference, uint64_t seq)
{
    return seq == reference->base ? reference->base_digest : reference->digests[seq - reference->base - 1];
}

static bool same_entry(const struct gy_sim_entry *a, const struct gy_sim_entry *b)
{
    return a->epoch == b->epoch && a->request == b->request && a->client == b->client && a->key == b->key &&
           a->deletes == b->deletes && a->kind == b->kind && a->range.first == b->range.first && a->range.last == b->range.last;
}

/* Whether the disk would bring the reference's entries from … upto back after a crash; if not, *missing is the first. */
static bool has(const struct gy_sim_reference *reference, const struct gy_sim_disk *disk, uint64_t from, uint64_t upto,
                uint64_t *missing)
{
    if (disk->flushed.seq < reference->base && upto >= reference->base) {
        *missing = reference->base;
        return false;
    }
    for (uint64_t seq = from > disk->flushed.seq + 1 ? from : disk->flushed.seq + 1; seq <= upto; seq++)
        if (seq <= disk->base || seq > disk->durable || !same_entry(gy_sim_disk_at(disk, seq), entry_at(reference, seq))) {
            *missing = seq;
            return false;
        }
    return true;
}

/* An in-sync member has on disk what was committed from `from` on. */
static void demand(struct gy_sim *sim, uint32_t shard, const struct gy_member *member, uint64_t from, const char *when)
{
    const struct gy_sim_reference *reference = &sim->checks.shards[shard];
    const struct gy_sim_disk *disk = &sim->nodes[gy_sim_node_named(member->node)].disks[shard];
    uint64_t missing;
    bool its = disk->exists && disk->member == member->id; /* or of nobody, or of another that came to an empty disk */
    if (its ? disk->damaged : disk->wiped >> member->id % 64 & 1)
        return;
    if (!disk->exists || disk->member != member->id)
        gy_sim_fail(sim, "in-sync", "shard %u: member %u is in sync in epoch %llu, and %s has no replica of it (%s)", shard,
                    member->id, (ull)gy_sim_catalog_now(sim, shard)->epoch, member->node, when);
    if (!has(reference, disk, from, reference->state.seq, &missing))
        gy_sim_fail(sim, "in-sync",
                    "shard %u: member %u on %s is in sync in epoch %llu and does not have entry %llu, which was committed; its "
                    "log on disk ends at %llu (%s)",
                    shard, member->id, member->node, (ull)gy_sim_catalog_now(sim, shard)->epoch, (ull)missing,
                    (ull)disk->durable, when);
}

static void demand_of_all(struct gy_sim *sim, uint32_t shard, uint64_t from, const char *when)
{
    const struct gy_shard_config *config = gy_sim_catalog_now(sim, shard);
    for (uint32_t i = 0; i < config->member_count; i++)
        if (config->members[i].in_sync)
            demand(sim, shard, &config->members[i], from, when);
}

/* ---- after steps ---- */

/* While one primary commits no other may believe that nobody can: it would serve reads that are out of date. What the other has
 * applied itself may be committed again, late, by one that was primary before. */
static void demand_no_other_lease(struct gy_sim *sim, const struct gy_sim_replica *committer)
{
    for (uint8_t n = 0; n < sim->node_count; n++) {
        const struct gy_sim_replica *other = sim->nodes[n].replicas[committer->shard];
        if (!other || other == committer || other->core.applied >= committer->core.committed ||
             other->core.config.primary != other->core.self)
            continue;
        int64_t lease_ns = gy_replica_core_lease_ns(&other->core), now_ns = gy_sim_node_now_ns(sim, n);
        if (lease_ns > now_ns)
            gy_sim_fail(sim, "lease",
                        "shard %u: member %u commits in epoch %llu while member %u has a lease of epoch %llu for %.3f s",
                        committer->shard, committer->core.self, (ull)committer->core.config.epoch, other->core.self,
                        (ull)other->core.config.epoch, (double)(lease_ns - now_ns) / 1e9);
    }
}

void gy_sim_check_step(struct gy_sim *sim, const struct gy_sim_replica *replica, uint64_t committed_before)
{
    const gy_replica_core *core = &replica->core;
    const char *why;
    if (!gy_replica_core_check(core, &why))
        gy_sim_fail(sim, "core", "n%u shard %u: %s", replica->node, replica->shard, why);
    if (core->committed == committed_before || !gy_replica_core_primary(core))
        return;
    demand_no_other_lease(sim, replica);
    struct gy_sim_reference *reference = &sim->checks.shards[replica->shard];
    uint64_t epoch = core->config.epoch;
    if (epoch >= reference->epoch_room) {
        uint64_t room = epoch * 2 + 16;
        reference->committers = realloc(reference->committers, room * sizeof *reference->committers);
        if (!reference->committers)
            abort();
        memset(reference->committers + reference->epoch_room, 0,
               (room - reference->epoch_room) * sizeof *reference->committers);
        reference->epoch_room = room;
    }
    if (reference->committers[epoch] && reference->committers[epoch] != core->self)
        gy_sim_fail(sim, "one-primary", "shard %u: members %u and %u both commit in epoch %llu", replica->shard,
                    reference->committers[epoch], core->self, (ull)epoch);
    reference->committers[epoch] = core->self;
}

void gy_sim_check_tick(struct gy_sim *sim, struct gy_sim_replica *replica)
{
    enum { TICKS_MAX = 1000 };
    if (sim->now_ns - replica->ticks_since_ns > GY_SECOND_NS) {
        replica->ticks_since_ns = sim->now_ns;
        replica->ticks = 0;
    }
    if (++replica->ticks > TICKS_MAX && !sim->plant)
        gy_sim_fail(sim, "ticks", "n%u shard %u wants to be ticked more than %d times within a second", replica->node,
                    replica->shard, TICKS_MAX);
}

void gy_sim_check_applied(struct gy_sim *sim, uint8_t node, uint32_t shard, const struct gy_sim_entry *entry,
                          const struct gy_sim_state *state)
{
    struct gy_sim_reference *reference = &sim->checks.shards[shard];
    if (state->seq == reference->state.seq + 1) {
        extend(reference, entry, sim->plant);
        demand_of_all(sim, shard, state->seq, "when it was applied first");
    }
    if (state->seq > reference->state.seq)
        gy_sim_fail(sim, "same-entry", "n%u shard %u applies entry %llu, and nobody applied %llu", node, shard, (ull)state->seq,
                    (ull)reference->state.seq + 1);
    const struct gy_sim_entry *first = entry_at(reference, state->seq);
    if (!same_entry(first, entry))
        gy_sim_fail(sim, "same-entry",
                    "n%u shard %u applies at seq %llu request %u of client %u (epoch %llu); another applied request %u of "
                    "client %u (epoch %llu)",
                    node, shard, (ull)state->seq, entry->request, entry->client, (ull)entry->epoch, first->request,
                    first->client, (ull)first->epoch);
    if (state->digest != digest_at(reference, state->seq))
        gy_sim_fail(sim, "same-state", "n%u shard %u: the state at seq %llu is not what others have", node, shard,
                    (ull)state->seq);
}

void gy_sim_check_restored(struct gy_sim *sim, uint8_t node, uint32_t shard, const struct gy_sim_state *state)
{
    const struct gy_sim_reference *reference = &sim->checks.shards[shard];
    if (state->seq < reference->base || state->seq > reference->state.seq || state->digest != digest_at(reference, state->seq))
        gy_sim_fail(sim, "same-state", "n%u shard %u: the state restored at seq %llu is not what others have", node, shard,
                    (ull)state->seq);
}

void gy_sim_check_child(struct gy_sim *sim, uint8_t node, uint32_t child, const struct gy_sim_state *state)
{
    struct gy_sim_reference *reference = &sim->checks.shards[child];
    if (!reference->begun) {
        reference->begun = true;
        reference->base = state->seq;
        reference->base_digest = state->digest;
        reference->state = *state;
    }
    if (state->seq != reference->base || state->digest != reference->base_digest)
        gy_sim_fail(sim, "same-state", "n%u makes shard %u as of seq %llu; another made it as of %llu, %s", node, child,
                    (ull)state->seq, (ull)reference->base, state->seq == reference->base ? "and it differs" : "which differs");
}

/* Whether the entry of the shard stands before the narrowing that made the shard, or the one that this comes from. */
static bool before_split(const struct gy_sim *sim, uint32_t shard, uint64_t seq, uint32_t made)
{
    while (made >= sim->family_count && sim->parents[made] != shard)
        made = sim->parents[made];
    return made >= sim->family_count && seq < sim->checks.shards[made].base;
}

/* The shard that acknowledges a write of the key is the only one that does, or would answer what was written: the one that did so
 * before, or what was split from it. A primary that stood still may come late with what was written before the split. */
static void demand_owner(struct gy_sim *sim, const struct gy_sim_replica *replica, uint64_t seq, uint32_t key)
{
    uint32_t family = sim->families[replica->shard], *owner = &sim->checks.owners[family][key], s = replica->shard;
    if (before_split(sim, s, seq, *owner))
        return;
    while (s != *owner && s >= sim->family_count)
        s = sim->parents[s];
    if (s != *owner)
        gy_sim_fail(sim, "one-owner", "shard %u acknowledges a write of key %u, which is of shard %u", replica->shard, key,
                    *owner);
    *owner = replica->shard;
    for (s = 0; s < sim->shard_count; s++)
        for (uint8_t n = 0; s != replica->shard && sim->families[s] == family && n < sim->node_count; n++) {
            const struct gy_sim_replica *other = sim->nodes[n].replicas[s];
            if (other && other->opened && gy_sim_replica_reads(sim, other, key) && !before_split(sim, replica->shard, seq, s))
                gy_sim_fail(sim, "one-owner",
                            "shard %u acknowledges a write of key %u, which n%u, by its lease of shard %u, would answer for",
                            replica->shard, key, n, s);
        }
}

void gy_sim_check_view(struct gy_sim *sim, const struct gy_shard_config *const *view)
{
    for (uint32_t family = 0; family < sim->family_count; family++)
        for (uint32_t key = 0; key < GY_SIM_KEYS; key++) {
            uint32_t owners = 0;
            for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++)
                owners += view[s] && sim->families[s] == family && gy_range_has(view[s]->range, gy_sim_key_hash(key));
            if (owners != 1)
                gy_sim_fail(sim, "one-owner", "key %u is of %u shards in what a client is told", key, owners);
        }
}

void gy_sim_check_acknowledged(struct gy_sim *sim, const struct gy_sim_replica *replica, const struct gy_sim_entry *entry,
                               uint64_t seq, const struct gy_sim_result *result)
{
    struct gy_sim_reference *reference = &sim->checks.shards[replica->shard];
    if (seq == 0 || seq > reference->state.seq || result->seq == 0 || result->seq > seq)
        gy_sim_fail(sim, "acknowledged", "n%u shard %u acknowledges entry %llu (first applied at %u), which nobody applied",
                    replica->node, replica->shard, (ull)seq, result->seq);
    const struct gy_sim_reference *then = reference;
    for (uint32_t s = replica->shard; result->seq <= then->base; then = &sim->checks.shards[s])
        s = sim->parents[s]; /* it was done before the shard was made */
    const struct gy_sim_entry *first = entry_at(then, result->seq);
    if (result->seq == seq)
        demand_owner(sim, replica, seq, entry->key);
    if (first->client != entry->client || first->request != entry->request || first->key != entry->key)
        gy_sim_fail(sim, "acknowledged", "n%u shard %u acknowledges request %u of client %u as entry %u, which is another",
                    replica->node, replica->shard, entry->request, entry->client, result->seq);
    reference->acknowledged = seq > reference->acknowledged ? seq : reference->acknowledged;
    reference->acknowledged_ns = sim->now_ns;
}

void gy_sim_check_member(struct gy_sim *sim, uint8_t node, uint32_t shard)
{
    const struct gy_sim_disk *disk = &sim->nodes[node].disks[shard];
    const struct gy_member *member = gy_config_member(gy_sim_catalog_now(sim, shard), disk->member);
    if (member && member->in_sync)
        demand(sim, shard, member, 1, "after its disk changed");
}

void gy_sim_check_config(struct gy_sim *sim, uint32_t shard)
{
    const struct gy_shard_config *config = gy_sim_catalog_now(sim, shard);
    gyre_error err;
    if (gy_config_check(config, &err) != GYRE_OK)
        gy_sim_fail(sim, "config", "shard %u: %s", shard, err.text);
    if (config->epoch == sim->catalog.shards[shard].first) {
        if (shard >= sim->family_count)
            demand_of_all(sim, shard, 1, "when the split had made it");
        return;
    }
    const struct gy_shard_config *before = gy_sim_catalog_of(sim, shard, config->epoch - 1);
    const struct gy_member *primary = gy_config_member(before, config->primary);
    if (!primary || !primary->in_sync)
        gy_sim_fail(sim, "in-sync", "shard %u: epoch %llu makes member %u primary, which was not in sync", shard,
                    (ull)config->epoch, config->primary);
    demand_of_all(sim, shard, 1, "when the configuration changed");
}

/* ---- all of it ---- */

void gy_sim_check_all(struct gy_sim *sim)
{
    for (uint32_t s = 0; s < sim->shard_count; s++) {
        const struct gy_sim_reference *reference = &sim->checks.shards[s];
        demand_of_all(sim, s, 1, "at a full check");
        for (uint8_t n = 0; n < sim->node_count; n++) {
            const struct gy_sim_replica *replica = sim->nodes[n].replicas[s];
            const struct gy_sim_disk *disk = &sim->nodes[n].disks[s];
            if (replica && replica->state.digest != gy_sim_state_digest(&replica->state))
                gy_sim_fail(sim, "same-state", "n%u shard %u: the digest was not kept", n, s);
            if (disk->exists && !disk->damaged && disk->flushed.seq > reference->state.seq)
                gy_sim_fail(sim, "same-state", "n%u shard %u: flushed at seq %llu, which nobody applied", n, s,
                            (ull)disk->flushed.seq);
        }
    }
}

bool gy_sim_check_dead(const struct gy_sim *sim, uint32_t shard)
{
    const struct gy_shard_config *config = gy_sim_catalog_now(sim, shard);
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_sim_disk *disk = &sim->nodes[gy_sim_node_named(config->members[i].node)].disks[shard];
        if (config->members[i].in_sync && disk->exists && disk->member == config->members[i].id && !disk->damaged)
            return false;
    }
    return true;
}

bool gy_sim_check_settled(struct gy_sim *sim, uint32_t shard, const char **why)
{
    const struct gy_shard_config *config = gy_sim_catalog_now(sim, shard);
    const struct gy_sim_reference *reference = &sim->checks.shards[shard];
    uint32_t kinds[2] = {0};
    *why = NULL;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        uint8_t node = gy_sim_node_named(member->node);
        const struct gy_sim_replica *replica = sim->nodes[node].replicas[shard];
        kinds[member->kind]++;
        if (config->split.shard)
            *why = "it is still being split";
        else if (member->leaving)
            *why = "a member is still leaving";
        else if (member->kind == GY_MEMBER_FULL && !member->in_sync)
            *why = "a full member is not in sync";
        else if (!replica || !replica->opened || sim->nodes[node].disks[shard].member != member->id)
            *why = "a member does not run";
        else if (replica->core.restoring)
            *why = "a member is still being restored";
        else if (replica->core.config.epoch != config->epoch)
            *why = "a member does not know the configuration";
        else if (gy_sim_state_foreign(&replica->state) < GY_SIM_KEYS)
            *why = "a member still has keys that are not of the shard";
        else if (sim->quiet && (replica->state.seq != reference->state.seq || replica->core.last != reference->state.seq))
            *why = "a member did not come to the end of the log";
        else if (sim->quiet && replica->state.digest != reference->state.digest)
            *why = "a member's state differs";
        if (*why)
            return false;
    }
    const struct gy_plan_wish *wish = &sim->wishes.shards[shard];
    if (kinds[GY_MEMBER_FULL] != wish->copies || kinds[GY_MEMBER_QUANTIZED] != wish->quantized)
        *why = "there are more or fewer members than wished";
    else if (!sim->quiet && reference->acknowledged_ns <= sim->heal_ns) /* a shard may come about when nobody writes any more */
        *why = "no write was acknowledged since everything was healed";
    return *why == NULL;
}

void gy_sim_check_histories(struct gy_sim *sim)
{
    for (uint32_t family = 0; family < sim->family_count; family++)
        for (uint32_t key = 0; key < GY_SIM_KEYS; key++)
            gy_sim_history_check(sim, family, key);
}

void gy_sim_checks_fini(struct gy_sim *sim)
{
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++) {
        free(sim->checks.shards[s].entries);
        free(sim->checks.shards[s].digests);
        free(sim->checks.shards[s].committers);
    }
    for (uint32_t family = 0; family < GY_SIM_FAMILIES_MAX; family++)
        for (uint32_t key = 0; key < GY_SIM_KEYS; key++)
            free(sim->checks.histories[family][key].operations);
}
