/* What an operator asks of a living cluster: other wishes for a collection, a replica moved. Each is one change of the catalog;
 * plans do the rest in the background. */
#include "placement/state.h"

#include <stdlib.h>

gyre_status gy_placement_update(gy_placement *placement, const char *name, const struct gy_placement_wishes *wishes,
                                Gyre__V1__Collection **out, gyre_error *err)
{
    pthread_mutex_lock(&placement->catalog_mu);
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry;
    gyre_status status = gy_table_active(placement, name, &entry, err);
    pthread_mutex_unlock(&placement->mu);
    gy_collection_record changed = {0};
    if (status == GYRE_OK) {
        changed = entry->record; /* borrows; nobody else changes it under catalog_mu */
        struct gy_collection_spec *spec = &changed.spec;
        spec->copies = wishes->copies ? *wishes->copies : spec->copies;
        spec->quantized = wishes->quantized ? *wishes->quantized : spec->quantized;
        spec->min_copies = wishes->min_copies ? *wishes->min_copies : spec->min_copies;
        spec->allow_approximate = wishes->allow_approximate ? *wishes->allow_approximate : spec->allow_approximate;
        status = gy_collection_spec_check(spec, err);
    }
    uint64_t revision;
    if (status == GYRE_OK) {
        struct gy_table_change change = {.name = changed.spec.name, .revision = entry->revision, .record = &changed};
        status = gy_table_commit(placement, &change, &revision, err);
    }
    if (status == GYRE_OK) {
        pthread_mutex_lock(&placement->mu);
        struct gy_collection_spec *spec = &entry->record.spec;
        spec->copies = changed.spec.copies, spec->quantized = changed.spec.quantized;
        spec->min_copies = changed.spec.min_copies, spec->allow_approximate = changed.spec.allow_approximate;
        entry->revision = revision;
        entry->replan = true;
        pthread_cond_broadcast(&placement->changed);
        status = gy_table_publish(placement, entry, err);
        if (status == GYRE_OK)
            status = gy_describe_collection(entry, out, err);
        pthread_mutex_unlock(&placement->mu);
        gy_log(GY_LOG_INFO, "collection_updated", "collection=%s copies=%u quantized=%u min_copies=%u allow_approximate=%d", name,
               changed.spec.copies, changed.spec.quantized, changed.spec.min_copies, changed.spec.allow_approximate);
    }
    pthread_mutex_unlock(&placement->catalog_mu);
    return status;
}

/* The configuration that begins the move. Under mu. */
static gyre_status plan_move(gy_placement *placement, const struct gy_placement_move *move, uint64_t *id,
                             struct gy_config_change *change, gyre_error *err)
{
    struct gy_collection_entry *entry;
    struct gy_plan_node *nodes;
    struct gy_plan_world world;
    int64_t due_ns;
    GY_TRY(gy_table_active(placement, move->collection, &entry, err));
    if (move->shard >= entry->record.spec.shards)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "shard %u of '%s': it has %u", move->shard, move->collection,
                         entry->record.spec.shards);
    GY_TRY(gy_table_world(placement, gy_now_ns(), &nodes, &world, &due_ns, err));
    *id = entry->record.id;
    *change = (struct gy_config_change){.shard = move->shard, .reason = "a move was asked for"};
    gyre_status status =
        gy_plan_move(&entry->record.shards[move->shard], &world, move->from, move->to, &change->config, err);
    free(nodes);
    return status;
}

gyre_status gy_placement_move(gy_placement *placement, const struct gy_placement_move *move, uint64_t *epoch, gyre_error *err)
{
    uint64_t id = 0;
    size_t done;
    struct gy_config_change change;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = plan_move(placement, move, &id, &change, err);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    GY_TRY(gy_steer_commit(placement, id, &change, 1, &done, err));
    if (!done)
        return gyre_fail(err, GYRE_ABORTED, "shard %u of '%s' was changed meanwhile; try again", move->shard, move->collection);
    *epoch = change.config.epoch;
    return GYRE_OK;
}
