/* How a shard becomes two: the intent, the child that its members have made, the switch. Nothing of it is ever undone. */
#include "placement/plan.h"

#include <inttypes.h>

enum { HASHES_MIN = 4 }; /* that a shard which is split has: {0, 0} would be every hash, not the first */

/* Range {0, 0} written out. */
static struct gy_hash_range whole(struct gy_hash_range range)
{
    return gy_range_is_all(range) ? (struct gy_hash_range){0, UINT64_MAX} : range;
}

gyre_status gy_plan_split_begin(const struct gy_shard_config *config, uint32_t new_shard, struct gy_shard_config *out,
                                gyre_error *err)
{
    struct gy_hash_range range = whole(config->range);
    if (config->split.shard)
        return gyre_fail(err, GYRE_PRECONDITION, "it is being split already, into shard %u", config->split.shard);
    if (range.last - range.first < HASHES_MIN - 1)
        return gyre_fail(err, GYRE_PRECONDITION, "it has the hashes %016" PRIx64 " to %016" PRIx64 " only; a shard is split that "
                         "has %d at least", range.first, range.last, HASHES_MIN);
    if (new_shard == 0)
        return gyre_fail(err, GYRE_INVALID, "shard 0 is never made by a split");
    *out = *config;
    out->epoch++;
    out->range = range;
    out->split.shard = new_shard;
    out->split.first = range.first + (range.last - range.first) / 2 + 1;
    return GYRE_OK;
}

/* The seq at which the child was made, 0: none was. What in-sync members say comes first: another may be from a history that was
 * cut off. */
static uint64_t child_seq(const struct gy_shard_config *config, const bool *made, const uint64_t *made_seq)
{
    uint64_t seq = 0;
    for (uint32_t i = 0; i < config->member_count; i++)
        if (made[i] && config->members[i].kind == GY_MEMBER_FULL && (!seq || config->members[i].in_sync))
            seq = made_seq[i];
    return seq;
}

bool gy_plan_split_child(const struct gy_shard_config *config, const bool *made, const uint64_t *made_seq,
                         struct gy_shard_config *child)
{
    uint64_t seq = config->split.shard ? child_seq(config, made, made_seq) : 0;
    struct gy_shard_config next = *config;
    memset(next.members, 0, sizeof next.members);
    next.member_count = 0, next.primary = 0, next.primary_since = next.epoch;
    for (uint32_t i = 0; seq && i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        if (member->in_sync && (made[i] ? made_seq[i] != seq : !made_seq[i]))
            return false;
        if (!made[i] || made_seq[i] != seq)
            continue;
        struct gy_member *copy = &next.members[next.member_count++];
        *copy = *member;
        copy->in_sync = member->kind == GY_MEMBER_FULL, copy->leaving = false;
        if (copy->in_sync && (!next.primary || member->id == config->primary))
            next.primary = member->id;
    }
    if (!next.primary)
        return false;
    next.range = (struct gy_hash_range){config->split.first, whole(config->range).last};
    next.split.shard = 0, next.split.first = 0;
    *child = next;
    return true;
}

bool gy_plan_split_switch(const struct gy_shard_config *config, const struct gy_shard_config *child, bool child_serves,
                          struct gy_shard_config *out)
{
    if (!config->split.shard || !child_serves || gy_config_in_sync_count(child) < child->min_copies)
        return false;
    *out = *config;
    out->epoch++;
    out->range = gy_config_kept_range(config);
    out->split.shard = 0, out->split.first = 0;
    return true;
}
