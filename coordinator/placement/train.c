/* Training: the mean of a collection's (normalised) vectors becomes the reference point of a new codebook version.
 *
 *   sums of every shard → mean, in the fixed order of shards → record with the new version → primaries told → they re-encode
 *
 * Until the record is committed nothing has changed anywhere; after it, a primary that was not told is behind the catalog and
 * hears of it with its next report. Same seed: the rotation serves every version. */
#include "placement/state.h"
#include "routing/ask.h"

#include <inttypes.h>
#include <stdlib.h>

/* Reading every full vector of a shard: 3 GB at the pace of a slow disk. */
#define SUM_DEADLINE_NS (60 * GY_SECOND_NS)
#define TELL_DEADLINE_NS (10 * GY_SECOND_NS)

struct sums {
    Gyre__Node__SumVectors *requests; /* [count] */
    struct gy_gather_call *calls;
    gy_link **links;                  /* held */
    uint32_t count, dim;
};

static void sums_fini(struct sums *self)
{
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->calls)
            gy_wire_free(self->calls[i].reply);
        if (self->links)
            gy_link_release(self->links[i]);
    }
    free(self->requests);
    free(self->calls);
    free(self->links);
}

/* Under mu. */
static gyre_status sums_init(struct sums *self, gy_placement *placement, uint64_t collection_id, gyre_error *err)
{
    const struct gy_collection_entry *entry = gy_table_collection_of(placement, collection_id);
    if (!entry || entry->record.state != GY_COLLECTION_ACTIVE)
        return gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    self->count = entry->record.spec.shards;
    self->dim = entry->record.spec.dim;
    self->requests = calloc(self->count, sizeof *self->requests);
    self->calls = calloc(self->count, sizeof *self->calls);
    self->links = calloc(self->count, sizeof(gy_link *));
    if (!self->requests || !self->calls || !self->links)
        return gyre_fail(err, GYRE_NO_MEMORY, "sums of %u shards", self->count);
    for (uint32_t i = 0; i < self->count; i++) {
        if (!entry->shards[i].node->link)
            return gyre_fail(err, GYRE_UNAVAILABLE, "shard %u: node %s has not reported yet", i, entry->shards[i].node->name);
        self->links[i] = gy_link_hold(entry->shards[i].node->link);
        gyre__node__sum_vectors__init(&self->requests[i]);
        self->requests[i].collection_id = collection_id;
        self->requests[i].shard = i;
        self->calls[i] = (struct gy_gather_call){
            .peer = gy_link_peer(self->links[i]),
            .type = GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS,
            .request = &self->requests[i].base,
            .reply_type = &gyre__node__sum_vectors_reply__descriptor,
        };
    }
    return GYRE_OK;
}

static double load_f64(const uint8_t *p)
{
    uint64_t bits = gy_load_u64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* mean [dim] and the number of points behind it. Shards are added in their order, so the same replies give the same bits. */
static gyre_status mean_of(const struct sums *self, float *mean, uint64_t *points, gyre_error *err)
{
    double *total = calloc(self->dim, sizeof *total);
    if (!total)
        return gyre_fail(err, GYRE_NO_MEMORY, "mean of dim %u", self->dim);
    gyre_status status = GYRE_OK;
    *points = 0;
    for (uint32_t i = 0; status == GYRE_OK && i < self->count; i++) {
        const Gyre__Node__SumVectorsReply *reply = self->calls[i].reply;
        if (self->calls[i].status != GYRE_OK)
            status = gyre_fail(err, self->calls[i].status, "shard %u: %s", i, self->calls[i].err.text);
        else if (reply->count && reply->sums.len != 8 * (size_t)self->dim)
            status = gyre_fail(err, GYRE_CORRUPT, "shard %u: sums of %zu bytes for dim %u", i, reply->sums.len, self->dim);
        for (uint32_t d = 0; status == GYRE_OK && reply->count && d < self->dim; d++)
            total[d] += load_f64(reply->sums.data + 8 * (size_t)d);
        if (status == GYRE_OK)
            *points += reply->count;
    }
    if (status == GYRE_OK && *points == 0)
        status = gyre_fail(err, GYRE_PRECONDITION, "it has no points to train on");
    for (uint32_t d = 0; status == GYRE_OK && d < self->dim; d++)
        mean[d] = (float)(total[d] / (double)*points);
    free(total);
    return status;
}

/* Whose training it is. */
struct trainer {
    gy_placement *placement;
    const struct gy_train_options *options; /* NULL: nobody's */
};

/* Why it should end, if it should. Under mu. */
static gyre_status check_wanted(const struct trainer *trainer, const char *what, gyre_error *err)
{
    const struct gy_train_options *options = trainer->options;
    if (trainer->placement->stopping)
        return gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is stopping");
    if (options && options->cancelled && options->cancelled(options->cancelled_arg))
        return gyre_fail(err, GYRE_CANCELLED, "cancelled while waiting for %s", what);
    return GYRE_OK;
}

static gyre_status still_wanted(const struct trainer *trainer, const char *what, gyre_error *err)
{
    pthread_mutex_lock(&trainer->placement->mu);
    gyre_status status = check_wanted(trainer, what, err);
    pthread_mutex_unlock(&trainer->placement->mu);
    return status;
}

static bool unwanted(void *trainer) { return still_wanted(trainer, "", NULL) != GYRE_OK; }

static gyre_status measure(struct trainer *trainer, uint64_t collection_id, float **mean, uint64_t *points, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    int64_t deadline_ns = gy_placement_deadline(trainer->options ? trainer->options->deadline_ns : GY_NEVER, SUM_DEADLINE_NS);
    struct sums sums = {0};
    pthread_mutex_lock(&placement->mu);
    gyre_status status = sums_init(&sums, placement, collection_id, err);
    pthread_mutex_unlock(&placement->mu);
    float *made = NULL;
    if (status == GYRE_OK) {
        gy_ask(sums.calls, sums.count, deadline_ns, unwanted, trainer);
        status = still_wanted(trainer, "the sums of the shards", err);
    }
    if (status == GYRE_OK) {
        made = calloc(sums.dim, sizeof *made);
        status = made ? mean_of(&sums, made, points, err) : gyre_fail(err, GYRE_NO_MEMORY, "mean of dim %u", sums.dim);
    }
    sums_fini(&sums);
    if (status != GYRE_OK) {
        free(made);
        return status;
    }
    *mean = made;
    return GYRE_OK;
}

/* Commits and publishes the new version. Under catalog_mu. */
static gyre_status publish(gy_placement *placement, uint64_t collection_id, const float *mean, uint64_t points, uint32_t *version, gyre_error *err)
{
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, collection_id);
    bool there = entry && entry->record.state == GY_COLLECTION_ACTIVE;
    pthread_mutex_unlock(&placement->mu);
    if (!there)
        return gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    gy_collection_record changed = entry->record; /* borrows all but the codebook */
    changed.codebook = (gy_bytes){0};
    changed.trained_at_points = points;
    GY_TRY(gy_collection_record_set_codebook(&changed, entry->record.codebook_version + 1, placement->cluster.rotation_seed, mean, err));
    uint64_t revision;
    gyre_status status = gy_table_commit(placement, changed.spec.name, entry->revision, &changed, NULL, &revision, err);
    if (status != GYRE_OK) {
        gy_bytes_free(&changed.codebook);
        return status;
    }
    pthread_mutex_lock(&placement->mu);
    gy_bytes_free(&entry->record.codebook);
    entry->record = changed;
    entry->revision = revision;
    for (uint32_t i = 0; i < changed.spec.shards; i++)
        entry->shards[i].told_ns = 0;
    *version = changed.codebook_version;
    status = gy_table_publish(placement, entry, err);
    pthread_mutex_unlock(&placement->mu);
    return status;
}

/* The whole of it, by whoever set entry->training. */
static gyre_status train(struct trainer *trainer, uint64_t collection_id, const char *name, uint32_t *version, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    float *mean = NULL;
    uint64_t points = 0;
    gyre_status status = measure(trainer, collection_id, &mean, &points, err);
    if (status == GYRE_OK) {
        pthread_mutex_lock(&placement->catalog_mu);
        status = publish(placement, collection_id, mean, points, version, err);
        pthread_mutex_unlock(&placement->catalog_mu);
    }
    free(mean);
    gyre_error told;
    if (status == GYRE_OK && gy_ensure_all(placement, collection_id, gy_now_ns() + TELL_DEADLINE_NS, gy_placement_stopping, &told) != GYRE_OK)
        gy_log(GY_LOG_WARN, "codebook_not_told", "collection=%s version=%u error=%s action=%s", name, *version, told.text,
               "told when it reports");
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, collection_id);
    if (entry) {
        entry->training = false;
        entry->training_failures = status == GYRE_OK ? 0 : entry->training_failures + 1;
        entry->train_again_ns = gy_now_ns() + gy_training_backoff_ns(entry->training_failures);
    }
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    gy_counter_add(status == GYRE_OK ? placement->trainings : placement->training_failures, 1);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "training of '%s'", name);
    gy_log(GY_LOG_INFO, "codebook_published", "collection=%s version=%u points=%" PRIu64, name, *version, points);
    return GYRE_OK;
}

/* ---- by itself ---- */

struct train_job {
    gy_placement *placement;
    uint64_t collection_id;
    char name[GY_NAME_BYTES_MAX + 1];
};

static void run(void *arg)
{
    struct train_job *job = arg;
    uint32_t version;
    gyre_error err;
    struct trainer trainer = {.placement = job->placement};
    if (!gy_placement_stopping(job->placement) && train(&trainer, job->collection_id, job->name, &version, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "training_failed", "collection=%s error=%s action=%s", job->name, err.text, "tried again later");
    free(job);
}

/* Due by its points, and every primary is there and in the newest version: a training on top of a running re-encoding would only
 * add to it. */
static bool due(const struct gy_collection_entry *entry)
{
    if (entry->record.state != GY_COLLECTION_ACTIVE || entry->training || !gy_training_due(entry->record.trained_at_points, gy_table_points(entry)))
        return false;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++) {
        const struct gy_shard_entry *shard = &entry->shards[i];
        if (!shard->held || shard->node->health.state != GY_NODE_UP || shard->codebook_version < entry->record.codebook_version)
            return false;
    }
    return true;
}

int64_t gy_train_due(gy_placement *placement, int64_t now_ns)
{
    int64_t next_ns = GY_NEVER;
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) {
        if (!due(entry))
            continue;
        struct train_job *job = entry->train_again_ns <= now_ns ? malloc(sizeof *job) : NULL;
        if (job) {
            *job = (struct train_job){.placement = placement, .collection_id = entry->record.id};
            memcpy(job->name, entry->record.spec.name, sizeof job->name);
            gyre_error err;
            if (gy_pool_submit(placement->training, run, job, &err) == GYRE_OK) {
                entry->training = true;
                continue;
            }
            free(job);
            entry->train_again_ns = now_ns + gy_training_backoff_ns(1);
        }
        next_ns = entry->train_again_ns < next_ns ? entry->train_again_ns : next_ns;
    }
    return next_ns;
}

/* ---- asked for ---- */

/* Waits under mu for the next change, a heartbeat at most: a client that leaves is no change. Says why the caller should stop waiting. */
static gyre_status wait_change(const struct trainer *trainer, const char *what, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    int64_t now_ns = gy_now_ns(), turn_ns = now_ns + placement->heartbeat_ms * GY_MILLISECOND_NS, deadline_ns = trainer->options->deadline_ns;
    GY_TRY(check_wanted(trainer, what, err));
    if (now_ns >= deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "the deadline passed while waiting for %s", what);
    gy_placement_wait(placement, turn_ns < deadline_ns ? turn_ns : deadline_ns);
    return GYRE_OK;
}

/* Waits for a running training of the collection and then claims it. */
static gyre_status claim(const struct trainer *trainer, const char *name, uint64_t *id, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    struct gy_collection_entry *entry;
    GY_TRY(gy_table_active(placement, name, &entry, err));
    while (entry->training) {
        GY_TRY(wait_change(trainer, "the training that is running", err));
        GY_TRY(gy_table_active(placement, name, &entry, err));
    }
    entry->training = true;
    *id = entry->record.id;
    return GYRE_OK;
}

static bool all_in(const struct gy_collection_entry *entry, uint32_t version)
{
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        if (!entry->shards[i].held || entry->shards[i].codebook_version < version)
            return false;
    return true;
}

gyre_status gy_placement_train(gy_placement *placement, const char *name, const struct gy_train_options *options, Gyre__V1__Collection **out,
                               gyre_error *err)
{
    struct trainer trainer = {placement, options};
    uint64_t id;
    uint32_t version = 0;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = claim(&trainer, name, &id, err);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    GY_TRY(train(&trainer, id, name, &version, err));
    pthread_mutex_lock(&placement->mu);
    for (;;) {
        struct gy_collection_entry *entry = gy_table_collection_of(placement, id);
        if (!entry)
            status = gyre_fail(err, GYRE_NOT_FOUND, "collection '%s' was dropped meanwhile", name);
        else if (!options->wait || all_in(entry, version))
            status = gy_describe_collection(entry, out, err);
        else if ((status = wait_change(&trainer, "the shards to re-encode", err)) == GYRE_OK)
            continue;
        break;
    }
    pthread_mutex_unlock(&placement->mu);
    return status;
}
