/* Unclean recovery: an operator gives up what only members that are away have. */
#include "placement/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The configuration that goes on without the members in sync. Under mu. */
static gyre_status plan(gy_placement *placement, const struct gy_placement_recovery *recovery, uint64_t *id,
                        struct gy_config_change *change, uint64_t *log_seq, gyre_error *err)
{
    struct gy_collection_entry *entry;
    struct gy_plan_node *nodes;
    struct gy_plan_world world;
    struct gy_plan_fact facts[GY_MEMBERS_MAX];
    int64_t due_ns;
    struct timespec now;
    GY_TRY(gy_table_active(placement, recovery->collection, &entry, err));
    if (recovery->shard >= entry->record.spec.shards)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "shard %u of '%s': it has %u", recovery->shard, recovery->collection,
                         entry->record.spec.shards);
    if (gy_split_has_child(&entry->record, recovery->shard)) /* it would not have what a member without the narrowing takes now */
        return gyre_fail(err, GYRE_PRECONDITION,
                         "shard %u of '%s' is being split, and shard %u has its upper half already: the split ends once that serves",
                         recovery->shard, recovery->collection, entry->record.shards[recovery->shard].split.shard);
    GY_TRY(gy_table_world(placement, gy_now_ns(), &nodes, &world, &due_ns, err));
    gy_steer_facts(entry, recovery->shard, facts);
    clock_gettime(CLOCK_REALTIME, &now);
    *id = entry->record.id;
    *change = (struct gy_config_change){.shard = recovery->shard, .reason = "an operator accepted that writes are lost"};
    gyre_status status = gy_plan_recover(&entry->record.shards[recovery->shard], facts, &world, recovery->member,
                                         recovery->accept_data_loss,
                                         (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, &change->config, err);
    free(nodes);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "shard %u of '%s'", recovery->shard, recovery->collection);
    *log_seq = entry->shards[recovery->shard].members[gy_table_member(entry, recovery->shard, change->config.primary)].log_seq;
    return GYRE_OK;
}

gyre_status gy_placement_recover(gy_placement *placement, const struct gy_placement_recovery *recovery,
                                 struct gy_placement_recovered *out, gyre_error *err)
{
    uint64_t id = 0, log_seq = 0;
    size_t done;
    struct gy_config_change change;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = plan(placement, recovery, &id, &change, &log_seq, err);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    GY_TRY(gy_steer_commit(placement, id, &change, 1, &done, err));
    if (!done)
        return gyre_fail(err, GYRE_ABORTED, "shard %u of '%s' was changed meanwhile; try again", recovery->shard,
                         recovery->collection);
    *out = (struct gy_placement_recovered){.epoch = change.config.epoch, .log_seq = log_seq, .member = change.config.primary};
    snprintf(out->node, sizeof out->node, "%s", gy_config_member(&change.config, change.config.primary)->node);
    gy_log(GY_LOG_WARN, "unclean_recovery",
           "collection=%s shard=%u epoch=%" PRIu64 " member=%u node=%s log_seq=%" PRIu64 " lost=%s",
           recovery->collection, recovery->shard, out->epoch, out->member, out->node, log_seq,
           "acknowledged writes that this member lacks");
    return GYRE_OK;
}
