/* What a primary writes by itself, once its shard was split (README.md, "Splitting"): the narrowing that its configuration wants,
 * then deletes of the points that are not the shard's any more. They go through the log as a client's do, one at a time; what a
 * crash or another primary leaves undone is found again in what is owned, and written again. */
#include "replica/state.h"

#include "replica/check.h"
#include "store/split.h"

#include "gyre/log.h"
#include "gyre/wire.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- writing ---- */

/* Only what surely will be accepted: every change of these is an event on this thread, after which it is looked at again. */
static bool may_write(const gy_replica *replica)
{
    const gy_replica_core *core = &replica->core;
    return core->state == GY_REPLICA_SERVING && gy_replica_core_primary(core) && !core->outdated && !core->disk_low &&
           core->applied >= core->takeover && core->count < GY_CORE_WRITES_MAX &&
           gy_config_in_sync_count(&core->config) >= core->config.min_copies;
}

static void on_written(void *arg, gyre_status status, const gyre_error *err, uint64_t seq, uint64_t deleted)
{
    gy_replica *replica = arg;
    (void)seq, (void)deleted;
    replica->own_under_way = false;
    if (status == GYRE_OK)
        return;
    replica->own_retry_ns = gy_now_ns() + GY_RETRY_NS;
    gy_log(GY_LOG_DEBUG, "own_write_refused", "path=%s error=%s", replica->path, err->text);
}

/* Hands the core a copy, which is the job's. */
static gyre_status hand_in(gy_replica *replica, Gyre__Node__Write *lent, gyre_error *err)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    gy_bytes body;
    Gyre__Node__Write *write;
    struct gy_job *job;
    lent->collection_id = identity->collection_id, lent->shard = identity->shard;
    lent->epoch = replica->core.config.epoch;
    GY_TRY(gy_wire_pack(&body, &lent->base, SIZE_MAX, err));
    gyre_status status = gy_wire_unpack(&write, &gyre__node__write__descriptor, body.data, body.size, err);
    gy_bytes_free(&body);
    GY_TRY(status);
    GY_TRY(gy_job_new(&job, write, SIZE_MAX, err));
    job->deadline_ns = GY_NEVER;
    job->on_done = on_written;
    job->arg = replica;
    replica->own_under_way = true;
    gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_WRITE,
                                                        .token = (uint64_t)(uintptr_t)job,
                                                        .epoch = write->epoch,
                                                        .bytes = job->body.size});
    return GYRE_OK;
}

static gyre_status write_narrowing(gy_replica *replica, struct gy_hash_range range, gyre_error *err)
{
    struct gy_shard_config *config = &replica->core.config;
    Gyre__Node__Write write = GYRE__NODE__WRITE__INIT;
    Gyre__Node__Narrow narrow = GYRE__NODE__NARROW__INIT;
    narrow.hash_first = range.first, narrow.hash_last = range.last;
    narrow.shard = config->split.shard;
    narrow.hash_key = (ProtobufCBinaryData){sizeof config->hash_key, config->hash_key};
    write.narrow = &narrow;
    return hand_in(replica, &write, err);
}

struct forgetting {
    gyre_point_id ids[GY_FORGET_OPERATIONS_MAX];
    Gyre__Node__Operation operations[GY_FORGET_OPERATIONS_MAX];
    Gyre__Node__Operation *list[GY_FORGET_OPERATIONS_MAX];
};

static gyre_status write_forgetting_of(gy_replica *replica, struct forgetting *forgetting, gyre_error *err)
{
    Gyre__Node__Write write = GYRE__NODE__WRITE__INIT;
    size_t count;
    GY_TRY(gy_points_foreign(replica->points, forgetting->ids, GY_FORGET_OPERATIONS_MAX, &count, err));
    for (size_t i = 0; i < count; i++) {
        forgetting->list[i] = &forgetting->operations[i];
        gyre__node__operation__init(forgetting->list[i]);
        forgetting->list[i]->id = (ProtobufCBinaryData){GYRE_ID_BYTES, forgetting->ids[i].bytes};
    }
    write.forget = true;
    write.operations = forgetting->list, write.n_operations = count;
    return hand_in(replica, &write, err);
}

static gyre_status write_forgetting(gy_replica *replica, gyre_error *err)
{
    struct forgetting *forgetting = malloc(sizeof *forgetting);
    if (!forgetting)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %d points to forget", GY_FORGET_OPERATIONS_MAX);
    gyre_status status = write_forgetting_of(replica, forgetting, err);
    free(forgetting);
    return status;
}

static gyre_status write_what_is_due(gy_replica *replica, gyre_error *err)
{
    const struct gy_ownership ownership = gy_points_ownership(replica->points);
    const struct gy_hash_range target = gy_config_kept_range(&replica->core.config);
    if (!gy_range_covers(target, ownership.owned))
        return write_narrowing(replica, target, err);
    /* Also with nothing to delete: what the replica has not been written to for must not be asked of it. */
    if ((ownership.foreign || !gy_range_covers(ownership.owned, ownership.content)) && !replica->core.config.split.shard)
        return write_forgetting(replica, err);
    return GYRE_OK;
}

void gy_replica_write_own(gy_replica *replica)
{
    if (replica->own_retry_ns > gy_now_ns())
        return;
    replica->own_retry_ns = 0;
    if (replica->own_under_way || !may_write(replica))
        return;
    gyre_error err;
    gyre_status status = write_what_is_due(replica, &err);
    if (status == GYRE_OK)
        return;
    replica->own_retry_ns = gy_now_ns() + GY_RETRY_NS;
    if (status == GYRE_NO_MEMORY)
        return;
    replica->failure = err;
    gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_IO_FAILED});
}

/* ---- applying ---- */

static void tell_change(gy_replica *replica)
{
    const struct gy_replica_transport *transport = replica->limits.transport;
    if (transport && transport->changed)
        transport->changed(transport->self, replica);
}

/* The upper part of what the configuration gives the shard becomes another one, on this node too: where that is what it says, and
 * not what was narrowed before. What the replica owns may be more than the configuration says. */
static gyre_status make_child(gy_replica *replica, const Gyre__Node__Narrow *narrow, struct gy_hash_range owned, uint64_t epoch,
                              uint64_t seq)
{
    const struct gy_replica_transport *transport = replica->limits.transport;
    struct gy_hash_range whole = replica->core.config.range;
    struct gy_replica_child child = {
        .shard = narrow->shard,
        .range = {narrow->hash_last + 1, gy_range_is_all(whole) ? UINT64_MAX : whole.last},
        .epoch = epoch,
        .seq = seq,
    };
    if (!transport || !transport->split || narrow->shard == 0 || replica->core.config.split.shard != narrow->shard ||
        !gy_config_member(&replica->core.config, replica->member) || narrow->hash_last >= child.range.last ||
        !gy_range_covers(owned, child.range))
        return GYRE_OK;
    memcpy(child.hash_key, narrow->hash_key.data, sizeof child.hash_key);
    return transport->split(transport->self, replica, &child, &replica->failure);
}

static gyre_status apply_narrowing(gy_replica *replica, const Gyre__Node__Narrow *narrow, uint64_t epoch, uint64_t seq)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    struct gy_hash_range range = {narrow->hash_first, narrow->hash_last}, owned = gy_points_ownership(replica->points).owned;
    bool narrower = !gy_range_covers(range, owned);
    if (narrower)
        GY_TRY(make_child(replica, narrow, owned, epoch, seq));
    gyre_status status = gy_points_narrow(replica->points, range, narrow->hash_key.data, seq, &replica->failure);
    if (status == GYRE_INVALID) /* no fault of the disk: no primary writes such a one */
        return gyre_wrap(&replica->failure, GYRE_CORRUPT, "log entry %" PRIu64 ": narrow", seq);
    GY_TRY(status);
    if (!narrower)
        return GYRE_OK;
    gy_log(GY_LOG_INFO, "shard_narrowed",
           "collection_id=%" PRIu64 " shard=%u seq=%" PRIu64 " hash_first=%016" PRIx64 " hash_last=%016" PRIx64,
           identity->collection_id, identity->shard, seq, range.first, range.last);
    tell_change(replica);
    return GYRE_OK;
}

static gyre_status apply_forgetting(gy_replica *replica, const Gyre__Node__Write *write, uint64_t seq)
{
    struct gy_ownership before = gy_points_ownership(replica->points);
    gyre_point_id *ids = malloc((write->n_operations + 1) * sizeof *ids);
    if (!ids)
        return gyre_fail(&replica->failure, GYRE_NO_MEMORY, "no memory to forget %zu points", write->n_operations);
    for (size_t i = 0; i < write->n_operations; i++)
        memcpy(ids[i].bytes, write->operations[i]->id.data, GYRE_ID_BYTES);
    gyre_status status = gy_points_forget(replica->points, ids, write->n_operations, seq, &replica->failure);
    free(ids);
    GY_TRY(status);
    if (before.foreign && !gy_points_ownership(replica->points).foreign) /* on the way there the report's interval will do */
        tell_change(replica);
    return GYRE_OK;
}

gyre_status gy_replica_apply_own(gy_replica *replica, const Gyre__Node__Write *write, uint64_t epoch, uint64_t seq)
{
    return write->narrow ? apply_narrowing(replica, write->narrow, epoch, seq) : apply_forgetting(replica, write, seq);
}

gyre_status gy_replica_make_child(gy_replica *replica, const char *path, const struct gy_replica_child *child, gyre_error *err)
{
    struct gy_store_identity identity = *gy_store_identity(replica->store);
    struct gy_shard_config config = replica->core.config;
    identity.shard = child->shard;
    config.range = child->range;
    config.split.shard = 0, config.split.first = 0;
    return gy_store_split(replica->store, path, &identity, &config, child->range, child->hash_key, child->epoch, child->seq, err);
}
