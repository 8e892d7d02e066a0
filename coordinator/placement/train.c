/* Training: when it begins, in which order its phases run (train.h), and what becomes of them.
 *
 *   sums of every shard → mean → [samples → k-means → probe costs] → record and codebook committed → primaries told →
 *   they re-encode
 *
 * Until the commit nothing has changed anywhere, so a training that fails or is interrupted leaves everything as it was; after
 * it, a primary that was not told is behind the catalog and hears of it with its next report. Searches go on throughout: a shard
 * switches to the new codes at once when they are all there, and until then answers from the old ones (search/README.md). Same
 * seed: the rotation serves every version. */
#include "placement/train.h"

#include <inttypes.h>
#include <stdlib.h>

/* A codebook of 64 MiB to a node on a slow network. */
#define TELL_DEADLINE_NS (60 * GY_SECOND_NS)

/* Why it should end, if it should. Under mu. */
static gyre_status check_wanted(const struct gy_trainer *trainer, const char *what, gyre_error *err)
{
    const struct gy_train_options *options = trainer->options;
    if (trainer->placement->stopping)
        return gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is stopping");
    if (!gy_leads(trainer->placement))
        return gy_not_leading(trainer->placement, err);
    if (options && options->cancelled && options->cancelled(options->cancelled_arg))
        return gyre_fail(err, GYRE_CANCELLED, "cancelled while waiting for %s", what);
    if (options && gy_now_ns() >= options->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "the deadline passed while waiting for %s", what);
    return GYRE_OK;
}

gyre_status gy_trainer_wanted(const struct gy_trainer *trainer, const char *what, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = check_wanted(trainer, what, err);
    const struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer->collection_id);
    if (status == GYRE_OK && (!entry || entry->record.state != GY_COLLECTION_ACTIVE))
        status = gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    pthread_mutex_unlock(&placement->mu);
    return status;
}

bool gy_trainer_unwanted(void *trainer) { return gy_trainer_wanted(trainer, "", NULL) != GYRE_OK; }

int64_t gy_trainer_deadline(const struct gy_trainer *trainer, int64_t own_ns)
{
    return gy_placement_deadline(trainer->options ? trainer->options->deadline_ns : GY_NEVER, own_ns);
}

void gy_trainer_says(struct gy_trainer *trainer, const char *phase, double done)
{
    gy_placement *placement = trainer->placement;
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer->collection_id);
    if (entry) {
        entry->training_phase = phase;
        entry->training_done = done;
    }
    pthread_mutex_unlock(&placement->mu);
    if (trainer->phase != phase)
        gy_log(GY_LOG_INFO, "training_phase", "collection=%s phase=%s", trainer->name, phase);
    trainer->phase = phase;
}

/* What a training has made, before it is anybody's. */
struct made {
    float *centroids; /* [lists][dim]; NULL without lists */
    uint32_t lists;
    gy_codebook *codebook;
    struct gy_probe_cost costs[GY_PROBE_COSTS_MAX];
    uint32_t cost_count;
    uint64_t points;
};

static void made_fini(struct made *made)
{
    free(made->centroids);
    gy_codebook_release(made->codebook);
}

/* The codebook of mean and centroids, one version on. */
static gyre_status make_codebook(const struct gy_trainer *trainer, const struct gy_train_sums *sums, struct made *made,
                                 gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    pthread_mutex_lock(&placement->mu);
    const struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer->collection_id);
    gyre_metric metric = entry ? entry->record.spec.metric : GYRE_L2;
    uint32_t version = entry ? entry->record.codebook_version + 1 : 0;
    pthread_mutex_unlock(&placement->mu);
    if (version == 0)
        return gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    const uint8_t *seed = placement->cluster.rotation_seed;
    gyre_codebook *codebook;
    if (made->centroids)
        GY_TRY(gyre_codebook_new_partitioned(&codebook, metric, sums->dim, version, seed, sums->mean, made->centroids,
                                             made->lists, err));
    else
        GY_TRY(gyre_codebook_new(&codebook, metric, sums->dim, version, seed, sums->mean, err));
    return gy_codebook_new(&made->codebook, codebook, err);
}

/* Centroids from a sample, and what they are worth. */
static gyre_status make_lists(struct gy_trainer *trainer, const struct gy_train_sums *sums, struct made *made, gyre_error *err)
{
    struct gy_train_sample sample;
    gyre_status status = gy_train_sample(trainer, sums, made->lists, &sample, err);
    made->centroids = malloc((size_t)made->lists * sums->dim * sizeof *made->centroids);
    if (status == GYRE_OK && !made->centroids)
        status = gyre_fail(err, GYRE_NO_MEMORY, "%u lists of dim %u", made->lists, sums->dim);
    if (status == GYRE_OK)
        status = gy_train_lists(trainer, &sample, sums->dim, made->lists, made->centroids, err);
    if (status == GYRE_OK)
        status = make_codebook(trainer, sums, made, err);
    if (status == GYRE_OK)
        status = gy_train_costs(trainer, gy_codebook_decoded(made->codebook), &sample, made->costs, &made->cost_count, err);
    gy_train_sample_fini(&sample);
    return status;
}

static gyre_status make(struct gy_trainer *trainer, struct made *made, gyre_error *err)
{
    struct gy_train_sums sums;
    gyre_status status = gy_train_sums(trainer, &sums, err);
    if (status == GYRE_OK)
        status = gy_training_lists(sums.points, sums.shards, sums.dim, trainer->options ? trainer->options->lists : 0,
                                   &made->lists, err);
    if (status == GYRE_OK)
        status = made->lists > 1 ? make_lists(trainer, &sums, made, err) : make_codebook(trainer, &sums, made, err);
    made->points = sums.points;
    gy_train_sums_fini(&sums);
    return status;
}

/* Commits and publishes what was made. Under catalog_mu. */
static gyre_status publish(const struct gy_trainer *trainer, const struct made *made, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer->collection_id);
    bool there = entry && entry->record.state == GY_COLLECTION_ACTIVE;
    pthread_mutex_unlock(&placement->mu);
    if (!there)
        return gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    struct gy_table_change change = gy_table_removal(entry); /* of the older codebook; the record stays */
    gy_collection_record changed = entry->record;            /* borrows all but the codebook */
    changed.codebook = NULL;
    GY_TRY(gy_collection_record_set_codebook(&changed, made->codebook, err));
    changed.trained_at_points = made->points;
    memcpy(changed.probe_costs, made->costs, sizeof changed.probe_costs);
    changed.probe_cost_count = made->cost_count;
    change.record = &changed, change.new_codebook = true;
    uint64_t revision;
    gyre_status status = gy_table_commit(placement, &change, &revision, err);
    if (status != GYRE_OK) {
        gy_codebook_release(changed.codebook);
        return status;
    }
    pthread_mutex_lock(&placement->mu);
    gy_codebook *older = entry->record.codebook;
    entry->record = changed;
    entry->revision = entry->codebook_revision = revision;
    for (uint32_t i = 0; i < changed.spec.shards; i++)
        for (uint32_t m = 0; m < changed.shards[i].member_count; m++)
            entry->shards[i].members[m].told_ns = 0;
    status = gy_table_publish(placement, entry, err);
    pthread_mutex_unlock(&placement->mu);
    gy_codebook_release(older);
    return status;
}

/* Lets go of the collection. */
static void end(struct gy_trainer *trainer, gyre_status status)
{
    gy_placement *placement = trainer->placement;
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer->collection_id);
    if (entry) {
        entry->training = false;
        entry->training_phase = NULL;
        entry->training_failures = status == GYRE_OK ? 0 : entry->training_failures + 1;
        entry->train_again_ns = gy_now_ns() + gy_training_backoff_ns(entry->training_failures);
    }
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    gy_counter_add(status == GYRE_OK ? placement->trainings : placement->training_failures, 1);
}

/* The whole of it, by whoever set entry->training. */
static gyre_status train(struct gy_trainer *trainer, uint32_t *version, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    int64_t began_ns = gy_now_ns();
    struct made made = {0};
    gyre_status status = make(trainer, &made, err);
    if (status == GYRE_OK) {
        gy_trainer_says(trainer, "publish", 0);
        *version = gyre_codebook_version(gy_codebook_decoded(made.codebook));
        pthread_mutex_lock(&placement->catalog_mu);
        status = publish(trainer, &made, err);
        pthread_mutex_unlock(&placement->catalog_mu);
    }
    made_fini(&made);
    gyre_error told;
    if (status == GYRE_OK &&
        gy_ensure_all(placement, trainer->collection_id, gy_now_ns() + TELL_DEADLINE_NS, gy_placement_idle, &told) != GYRE_OK)
        gy_log(GY_LOG_WARN, "codebook_not_told", "collection=%s version=%u error=%s action=%s", trainer->name, *version,
               told.text, "told when it reports");
    end(trainer, status);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "training of '%s'", trainer->name);
    gy_log(GY_LOG_INFO, "codebook_published", "collection=%s version=%u points=%" PRIu64 " lists=%u ms=%lld", trainer->name,
           *version, made.points, made.lists, (long long)((gy_now_ns() - began_ns) / GY_MILLISECOND_NS));
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
    struct gy_trainer trainer = {.placement = job->placement, .collection_id = job->collection_id, .name = job->name};
    if (!gy_placement_idle(job->placement) && train(&trainer, &version, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "training_failed", "collection=%s error=%s action=%s", job->name, err.text, "tried again later");
    free(job);
}

/* Whether every member of the shard that is there has its codes in that version. */
static bool encoded(const struct gy_collection_entry *entry, uint32_t shard, uint32_t version)
{
    for (uint32_t m = 0; m < entry->record.shards[shard].member_count; m++) {
        const struct gy_member_entry *member = &entry->shards[shard].members[m];
        if (gy_table_member_up(member) && !member->restoring && member->codebook_version < version)
            return false;
    }
    return true;
}

/* Due by its points, and every primary is there and in the newest version: a training on top of a running re-encoding would only
 * add to it. */
static bool due(const struct gy_collection_entry *entry)
{
    if (entry->record.state != GY_COLLECTION_ACTIVE || entry->training || gy_split_under_way(entry) ||
        !gy_training_due(entry->record.trained_at_points, gy_table_points(entry)))
        return false;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++) {
        if (!gy_table_member_up(gy_table_primary(entry, i)) || !encoded(entry, i, entry->record.codebook_version))
            return false;
    }
    return true;
}

int64_t gy_train_due(gy_placement *placement, int64_t now_ns)
{
    int64_t next_ns = GY_NEVER;
    struct gy_collection_entry *entry, *next;
    if (!gy_leads(placement))
        return GY_NEVER;
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

/* Waits under mu for the next change, a heartbeat at most: a client that leaves is no change. Says why the caller should stop
 * waiting. */
static gyre_status wait_change(const struct gy_trainer *trainer, const char *what, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    int64_t turn_ns = gy_now_ns() + placement->heartbeat_ms * GY_MILLISECOND_NS, deadline_ns = trainer->options->deadline_ns;
    GY_TRY(check_wanted(trainer, what, err));
    gy_placement_wait(placement, turn_ns < deadline_ns ? turn_ns : deadline_ns);
    return GYRE_OK;
}

/* Waits for a running training of the collection, or a split, and then claims it. */
static gyre_status claim(struct gy_trainer *trainer, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    struct gy_collection_entry *entry;
    GY_TRY(gy_table_active(placement, trainer->name, &entry, err));
    uint32_t lists_max = gy_training_lists_max(entry->record.spec.dim), unused;
    if (trainer->options->lists > lists_max) /* rather now than after the sums */
        return gy_training_lists(0, 1, entry->record.spec.dim, trainer->options->lists, &unused, err);
    while (entry->training || gy_split_under_way(entry)) {
        GY_TRY(wait_change(trainer, entry->training ? "the training that is running" : "a split to end", err));
        GY_TRY(gy_table_active(placement, trainer->name, &entry, err));
    }
    entry->training = true;
    trainer->collection_id = entry->record.id;
    return GYRE_OK;
}

static bool all_in(const struct gy_collection_entry *entry, uint32_t version)
{
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        if (gy_table_primary(entry, i)->presence != GY_PRESENCE_HELD || !encoded(entry, i, version))
            return false;
    return true;
}

gyre_status gy_placement_train(gy_placement *placement, const char *name, const struct gy_train_options *options,
                               Gyre__V1__Collection **out, gyre_error *err)
{
    struct gy_trainer trainer = {.placement = placement, .options = options, .name = name};
    uint32_t version = 0;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = claim(&trainer, err);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    GY_TRY(train(&trainer, &version, err));
    pthread_mutex_lock(&placement->mu);
    for (;;) {
        struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer.collection_id);
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
