/* Opening and closing, and what any thread may call: writes and appends are checked here and queued for the replica's thread.
 *
 * A crash leaves the log with every acknowledged write and perhaps some more, and an applied state that is some prefix of it;
 * opening goes on from there. */
#include "replica/state.h"

#include "replica/check.h"

#include "gyre/log.h"
#include "gyre/wire.h"
#include "store/disk.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    GROUP_BYTES_MAX = 8 << 20, /* of one append: about 50 ms of this codec's work, far above one sync's cost */
    APPENDS_WAIT_MAX = 64,     /* of a primary, which has one under way: beyond, they are of a stranger */
};

/* ---- life cycle ---- */

struct gy_write_rules gy_replica_rules(gy_replica *replica)
{
    gy_snapshot *snapshot = gy_points_snapshot(replica->points);
    const gyre_codebook *codebook = gy_snapshot_codebook(snapshot);
    struct gy_write_rules rules = {
        .metric = gy_points_metric(replica->points),
        .dim = gy_points_dim(replica->points),
        .quantized = gy_store_quantized(replica->store),
        .codec = gy_points_codec(replica->points),
        .codebook_version = gyre_codebook_version(codebook),
        .lists = gyre_codebook_lists(codebook),
    };
    gy_snapshot_release(snapshot);
    return rules;
}

static gyre_status open_window(gy_replica *replica, gyre_error *err)
{
    uint64_t key;
    randombytes_buf(&key, sizeof key);
    GY_TRY(gy_window_new(&replica->window, key, err));
    replica->group.window = replica->window, replica->group.points = replica->points;
    return gy_window_load(replica->window, replica->store, err);
}

static gyre_status open_core(gy_replica *replica, gyre_error *err)
{
    struct gy_epoch_start starts[GY_EPOCH_STARTS_MAX];
    struct gy_shard_config config;
    size_t start_count;
    uint64_t log_epoch, log_seq, applied = gy_store_applied_seq(replica->store);
    gy_store_log_last(replica->store, &log_epoch, &log_seq);
    GY_TRY(gy_store_log_starts(replica->store, starts, GY_EPOCH_STARTS_MAX, &start_count, err));
    gy_store_config(replica->store, &config);
    if (applied > log_seq)
        return gyre_fail(err, GYRE_CORRUPT, "points are applied up to %" PRIu64 " but the log ends at %" PRIu64, applied,
                         log_seq);
    if (log_epoch > config.epoch)
        return gyre_fail(err, GYRE_CORRUPT, "the log has epoch %" PRIu64 " but the replica only epoch %" PRIu64, log_epoch,
                         config.epoch);
    replica->member = gy_store_member(replica->store);
    gy_replica_drive(replica, (struct gy_replica_event){.kind = GY_ON_OPENED,
                                                        .config = &config,
                                                        .self = replica->member,
                                                        .starts = starts,
                                                        .start_count = start_count,
                                                        .seq = log_seq,
                                                        .applied_seq = applied});
    replica->config = replica->core.config;
    replica->trim_seq = replica->core.applied;
    if (replica->core.state == GY_REPLICA_FAILED)
        return gyre_fail(err, replica->failure.status, "replay: %s", replica->failure.text);
    return GYRE_OK;
}

/* Starts the core and the thread. Takes store; replica is half-built and freed by the caller on failure. */
static gyre_status start(gy_replica *replica, gyre_error *err)
{
    GY_TRY(gy_points_open(&replica->points, replica->store, err));
    gy_points_limit_disk(replica->points, replica->limits.disk_free_min);
    replica->share.points = replica->points;
    if (replica->limits.budget)
        gy_budget_join(replica->limits.budget, &replica->share);
    GY_TRY(open_window(replica, err));
    GY_TRY(open_core(replica, err));
    char name[16];
    snprintf(name, sizeof name, "replica-%u", gy_store_identity(replica->store)->shard);
    replica->thread_runs = true;
    if (pthread_create(&replica->thread, NULL, gy_replica_run, replica) != 0) {
        replica->thread_runs = false;
        return gyre_fail(err, GYRE_EXHAUSTED, "cannot start a thread for the replica");
    }
    pthread_setname_np(replica->thread, name);
    return GYRE_OK;
}

/* Calls that were sent are answered by the transport, or it was stopped and has answered them. */
static void await_calls(gy_replica *replica)
{
    pthread_mutex_lock(&replica->mu);
    while (replica->under_way)
        pthread_cond_wait(&replica->changed, &replica->mu);
    pthread_mutex_unlock(&replica->mu);
}

/* Frees everything but does not wait for the thread. */
static void release(gy_replica *replica)
{
    gy_replica_refuse_inputs(replica);
    await_calls(replica);
    if (replica->share.points && replica->limits.budget)
        gy_budget_leave(replica->limits.budget, &replica->share);
    if (replica->points)
        gy_points_close(replica->points);
    gy_store_close(replica->store);
    gy_group_fini(&replica->group);
    gy_window_free(replica->window);
    pthread_cond_destroy(&replica->changed);
    pthread_mutex_destroy(&replica->mu);
    free(replica->path);
    free(replica);
}

/* Takes store, also on failure. */
static gyre_status replica_new(gy_replica **out, gy_store *store, const char *path, const struct gy_replica_limits *limits,
                               gyre_error *err)
{
    gy_replica *replica = calloc(1, sizeof *replica);
    char *copy = strdup(path);
    if (!replica || !copy) {
        gy_store_close(store);
        free(replica);
        free(copy);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a replica");
    }
    replica->store = store;
    replica->limits = *limits;
    replica->path = copy;
    replica->disk = (gy_disk_watch){.path = copy, .free_min = limits->disk_free_min};
    pthread_mutex_init(&replica->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&replica->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    gy_replica_core_init(&replica->core, GROUP_BYTES_MAX);
    gyre_status status = start(replica, err);
    if (status != GYRE_OK) {
        release(replica);
        return gyre_wrap(err, status, "%s", path);
    }
    *out = replica;
    return GYRE_OK;
}

gyre_status gy_replica_create(gy_replica **out, gy_store_env *env, const char *path, const struct gy_store_identity *identity,
                              uint32_t member, const struct gy_shard_config *config, const char *codec,
                              const gyre_codebook *codebook, const struct gy_replica_limits *limits, gyre_error *err)
{
    gy_store *store;
    GY_TRY(gy_store_create(&store, env, path, identity, member, config, codec, codebook, err));
    return replica_new(out, store, path, limits, err);
}

gyre_status gy_replica_open(gy_replica **out, gy_store_env *env, const char *path, const struct gy_replica_limits *limits,
                            gyre_error *err)
{
    gy_store *store;
    GY_TRY(gy_disk_check(path, GY_DISK_FLOOR_BYTES, "opening a replica", err));
    GY_TRY(gy_store_open(&store, env, path, err));
    return replica_new(out, store, path, limits, err);
}

void gy_replica_begin_close(gy_replica *replica)
{
    pthread_mutex_lock(&replica->mu);
    replica->closing = true;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
}

void gy_replica_end_writes(gy_replica *replica)
{
    gy_replica_begin_close(replica);
    if (replica->thread_runs)
        pthread_join(replica->thread, NULL);
    replica->thread_runs = false;
}

void gy_replica_close(gy_replica *replica)
{
    if (!replica)
        return;
    gy_replica_end_writes(replica);
    gyre_error err;
    /* A flush only spares the next start a replay: the log has everything. */
    if (replica->failure.status == GYRE_OK && gy_points_flush(replica->points, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "replica_flush_failed", "path=%s error=%s", replica->path, err.text);
    release(replica);
}

void gy_replica_abandon(gy_replica *replica)
{
    gy_replica_end_writes(replica);
    release(replica);
}

/* ---- for any thread ---- */

const struct gy_store_identity *gy_replica_identity(const gy_replica *replica)
{
    return gy_store_identity(replica->store);
}

uint32_t gy_replica_member(const gy_replica *replica)
{
    return replica->member;
}

void gy_replica_config(gy_replica *replica, struct gy_shard_config *out)
{
    pthread_mutex_lock(&replica->mu);
    *out = replica->config;
    pthread_mutex_unlock(&replica->mu);
}

gy_points *gy_replica_points(gy_replica *replica)
{
    return replica->points;
}

gyre_status gy_replica_export(gy_replica *replica, bool without_vectors, gy_export **out, gyre_error *err)
{
    return gy_export_open(out, replica->store, without_vectors, err);
}

gyre_status gy_replica_still(gy_replica *replica, char **path, gyre_error *err)
{
    return gy_store_still(replica->store, path, err);
}

gyre_status gy_replica_set_config(gy_replica *replica, const struct gy_shard_config *config, gyre_error *err)
{
    uint64_t own = atomic_load_explicit(&replica->epoch, memory_order_acquire);
    if (config->epoch == own)
        return GYRE_OK;
    /* A few bytes, so that a replica above the floor takes them below the watermark too; but synced, which a full disk may not
     * be. */
    if (config->epoch > own)
        GY_TRY(gy_disk_check(replica->path, GY_DISK_FLOOR_BYTES, "taking a new configuration", err));
    struct gy_input input = {.kind = GY_INPUT_CONFIG, .config = *config};
    pthread_mutex_lock(&replica->mu);
    if (replica->closing || replica->ended) {
        pthread_mutex_unlock(&replica->mu);
        return gyre_fail(err, GYRE_UNAVAILABLE, "the replica is closing");
    }
    gy_input_queue_push(&replica->inputs, &input);
    pthread_cond_broadcast(&replica->changed);
    while (!input.done)
        pthread_cond_wait(&replica->changed, &replica->mu);
    pthread_mutex_unlock(&replica->mu);
    if (input.why == GY_REPLY_DONE)
        return GYRE_OK;
    if (input.why == GY_REPLY_EPOCH)
        return gyre_fail(err, GYRE_ABORTED, "epoch %" PRIu64 " is older than the replica's, %" PRIu64, config->epoch,
                         (uint64_t)atomic_load_explicit(&replica->epoch, memory_order_acquire));
    return gyre_fail(err, GYRE_UNAVAILABLE, "the replica does not serve; epoch %" PRIu64 " was not taken", config->epoch);
}

gyre_status gy_replica_set_codebook(gy_replica *replica, const gyre_codebook *codebook, gyre_error *err)
{
    if (gy_store_quantized(replica->store))
        return GYRE_OK; /* it gets its codes from the primary, when that has switched (of_other_codebook) */
    gyre_error why = {0};
    gy_budget *budget = replica->limits.budget;
    gyre_status status = budget ? gy_budget_expect_reencoding(budget, &replica->share, gyre_codebook_version(codebook), &why)
                                : GYRE_OK;
    pthread_mutex_lock(&replica->mu);
    snprintf(replica->short_of_memory, sizeof replica->short_of_memory, "%s", status == GYRE_OK ? "" : why.text);
    pthread_mutex_unlock(&replica->mu);
    return status == GYRE_OK ? gy_points_set_codebook(replica->points, codebook, err) : GYRE_OK;
}

static uint64_t fold(struct gy_sum sum)
{
    return sum.low ^ sum.high;
}

void gy_replica_status(gy_replica *replica, Gyre__Node__ReplicaStatus *out, char *trouble, size_t trouble_bytes)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    gyre__node__replica_status__init(out);
    out->collection_id = identity->collection_id;
    out->shard = identity->shard;
    out->member = replica->member;
    out->epoch = atomic_load_explicit(&replica->epoch, memory_order_acquire);
    out->log_seq = atomic_load_explicit(&replica->log_seq, memory_order_acquire);
    out->primary = atomic_load_explicit(&replica->primary, memory_order_acquire);
    out->restoring = atomic_load_explicit(&replica->restoring, memory_order_acquire);
    const struct gy_points_state state = gy_points_state(replica->points);
    out->points = gy_points_count(replica->points);
    out->applied_seq = state.applied_seq;
    out->codebook_version = state.codebook_version;
    out->digest_points = fold(state.digest.points);
    out->digest_codes = fold(state.digest.codes);
    out->digest_vectors = fold(state.digest.vectors);
    const struct gy_ownership ownership = gy_points_ownership(replica->points);
    out->hash_first = ownership.owned.first, out->hash_last = ownership.owned.last;
    out->foreign = ownership.foreign;
    pthread_mutex_lock(&replica->mu);
    snprintf(trouble, trouble_bytes, "%s", *replica->trouble ? replica->trouble : replica->short_of_memory);
    pthread_mutex_unlock(&replica->mu);
    if (!*trouble)
        gy_points_trouble(replica->points, trouble, trouble_bytes);
    out->trouble = trouble;
}

gyre_status gy_replica_check_lease(gy_replica *replica, gyre_error *err)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    int64_t lease_ns = atomic_load_explicit(&replica->lease_ns, memory_order_acquire);
    if (gy_now_ns() < lease_ns)
        return GYRE_OK;
    if (!atomic_load_explicit(&replica->primary, memory_order_acquire))
        return gyre_fail(err, GYRE_ABORTED, "shard %u of collection %" PRIu64 ": this replica is not the primary",
                         identity->shard, identity->collection_id);
    return gyre_fail(err, GYRE_UNAVAILABLE,
                     "shard %u of collection %" PRIu64 ": the primary has not heard from every member in sync", identity->shard,
                     identity->collection_id);
}

gyre_status gy_replica_fail_foreign(const gy_replica *replica, gyre_error *err)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    return gyre_fail(err, GYRE_ABORTED, "shard %u of collection %" PRIu64 ": a point is no longer of this shard: it was split",
                     identity->shard, identity->collection_id);
}

/* Sets aside what the write's upserts may add. Deletes always pass. */
static gyre_status reserve(gy_replica *replica, struct gy_job *job, gyre_error *err)
{
    uint64_t upserts = 0;
    if (!replica->limits.budget)
        return GYRE_OK;
    for (size_t i = 0; i < job->write->n_operations; i++)
        upserts += job->write->operations[i]->vector.len > 0;
    uint64_t bytes = upserts * gy_budget_point_bytes(gy_points_codec(replica->points), gy_points_dim(replica->points));
    if (bytes == 0)
        return GYRE_OK;
    GY_TRY(gy_budget_reserve(replica->limits.budget, bytes, err));
    job->budget = replica->limits.budget;
    job->bytes_reserved = bytes;
    return GYRE_OK;
}

/* Queues a checked job, or says why not. */
static gyre_status enqueue(gy_replica *replica, struct gy_job *job, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&replica->mu);
    if (replica->closing)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "the replica is closing");
    else if (replica->incoming.bytes + job->body.size > replica->limits.queue_bytes_max)
        status = gyre_fail(err, GYRE_EXHAUSTED, "%zu writes of %zu bytes wait; the limit is %zu bytes", replica->incoming.count,
                           replica->incoming.bytes, replica->limits.queue_bytes_max);
    else
        gy_job_queue_push(&replica->incoming, job);
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    return status;
}

void gy_replica_write(gy_replica *replica, Gyre__Node__Write *write, int64_t deadline_ns, gy_on_written *on_done, void *arg)
{
    gyre_error err;
    struct gy_job *job;
    const struct gy_write_rules rules = gy_replica_rules(replica);
    gyre_status status = gy_write_check(write, &rules, &err);
    /* When it is applied it is asked again, and only that counts; what would come to nothing need not be logged, though. */
    if (status == GYRE_OK && gy_write_is_foreign(write, replica->points))
        status = gy_replica_fail_foreign(replica, &err);
    if (status != GYRE_OK)
        gy_wire_free(write);
    else
        status = gy_job_new(&job, write, replica->limits.queue_bytes_max, &err);
    if (status != GYRE_OK) {
        on_done(arg, status, &err, 0, 0);
        return;
    }
    job->deadline_ns = deadline_ns;
    job->on_done = on_done;
    job->arg = arg;
    status = reserve(replica, job, &err);
    if (status == GYRE_OK)
        status = enqueue(replica, job, &err);
    if (status != GYRE_OK)
        gy_job_finish(job, status, &err, 0);
}

/* What is logged is applied without a question, also a primary's. */
static gyre_status check_entries(const Gyre__Node__Append *message, const struct gy_write_rules *rules, gyre_error *err)
{
    for (size_t i = 0; i < message->n_entries; i++) {
        Gyre__Node__Write *write;
        gyre_status status = gy_wire_unpack(&write, &gyre__node__write__descriptor, message->entries[i]->body.data,
                                            message->entries[i]->body.len, err);
        if (status == GYRE_OK) {
            status = gy_write_check(write, rules, err);
            gy_wire_free(write);
        }
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "append: entries[%zu]", i);
    }
    return GYRE_OK;
}

/* Whether a quantized replica can do nothing with it: it has no vectors to make other codes of. Entries in an older codebook than
 * its own come from a primary that has not switched yet, after another one that had. */
static bool of_other_codebook(const Gyre__Node__Append *message, const struct gy_write_rules *rules)
{
    return rules->quantized && (message->codebook_version > rules->codebook_version ||
                                (message->n_entries && message->codebook_version != rules->codebook_version));
}

gyre_status gy_replica_append(gy_replica *replica, Gyre__Node__Append *message, gy_on_appended *on_answer, void *arg,
                              gyre_error *err)
{
    gyre_status status = GYRE_OK;
    if (message->to != replica->member)
        status = gyre_fail(err, GYRE_NOT_FOUND, "append for member %u; this replica is member %u", message->to,
                           replica->member);
    const struct gy_write_rules rules = gy_replica_rules(replica);
    if (status == GYRE_OK && !of_other_codebook(message, &rules))
        status = check_entries(message, &rules, err);
    if (status != GYRE_OK) {
        gy_wire_free(message);
        return status;
    }
    struct gy_input *input;
    bool needs_rebuilding = of_other_codebook(message, &rules);
    GY_TRY(gy_input_append_new(&input, message, on_answer, arg, err));
    if (needs_rebuilding) { /* as if what it needs were no longer in the primary's log */
        input->append.restore = true;
        input->append.count = 0;
        input->append.prev_epoch = input->append.epoch;
        input->append.prev_seq = UINT64_MAX / 2;
    }
    pthread_mutex_lock(&replica->mu);
    if (replica->closing || replica->ended)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "the replica is closing");
    else if (replica->inputs.count >= APPENDS_WAIT_MAX)
        status = gyre_fail(err, GYRE_EXHAUSTED, "%zu messages wait for the replica; that is the limit", replica->inputs.count);
    else
        gy_input_queue_push(&replica->inputs, input);
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    if (status != GYRE_OK)
        gy_input_free(input);
    return status;
}
