/* What a training asks the shards for: sums and samples. Shards are taken in their order, so the same replies give the same bits.
 */
#include "placement/train.h"
#include "routing/ask.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    SAMPLE_BYTES_MAX = 512 << 20, /* of vectors held here while lists are made */
    PART_BYTES_MAX = 64 << 20,    /* of one reply: a quarter of what a message may be */
    ROUND_BYTES_MAX = 512 << 20,  /* of the replies of a round */
    HELD_BACK_SHARE = 8,          /* at most one of so many vectors is held back */
};

/* Reading every full vector of a shard: 3 GB at the pace of a slow disk. */
#define SHARD_DEADLINE_NS (60 * GY_SECOND_NS)

/* The same question to every shard. */
struct round {
    union request {
        Gyre__Node__SumVectors sums;
        Gyre__Node__Sample sample;
    } *requests;      /* [count] */
    struct gy_gather_call *calls;
    gy_link **links;  /* held */
    uint32_t count;
};

static void round_fini(struct round *self)
{
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->calls)
            gy_wire_free(self->calls[i].reply);
        if (self->links)
            gy_link_release(self->links[i]);
    }
    free(self->requests), free(self->calls), free(self->links);
    *self = (struct round){0};
}

/* The links of a collection's primaries, in order of shards. Under mu. */
static gyre_status round_links(struct round *self, const struct gy_collection_entry *entry, gyre_error *err)
{
    self->count = entry->record.spec.shards;
    self->requests = calloc(self->count, sizeof *self->requests);
    self->calls = calloc(self->count, sizeof *self->calls);
    self->links = calloc(self->count, sizeof(gy_link *));
    if (!self->requests || !self->calls || !self->links)
        return gyre_fail(err, GYRE_NO_MEMORY, "questions to %u shards", self->count);
    for (uint32_t i = 0; i < self->count; i++) {
        const struct gy_node_entry *node = gy_table_primary(entry, i)->node;
        if (!node->link)
            return gyre_fail(err, GYRE_UNAVAILABLE, "shard %u: node %s has not reported yet", i, node->name);
        self->links[i] = gy_link_hold(node->link);
    }
    return GYRE_OK;
}

/* The questions are left to the caller; *dim may be NULL. */
static gyre_status round_init(struct round *self, struct gy_trainer *trainer, uint32_t *dim, gyre_error *err)
{
    gy_placement *placement = trainer->placement;
    *self = (struct round){0};
    pthread_mutex_lock(&placement->mu);
    const struct gy_collection_entry *entry = gy_table_collection_of(placement, trainer->collection_id);
    bool there = entry && entry->record.state == GY_COLLECTION_ACTIVE;
    gyre_status status =
        there ? round_links(self, entry, err) : gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    if (there && dim)
        *dim = entry->record.spec.dim;
    pthread_mutex_unlock(&placement->mu);
    return status;
}

static gyre_status round_ask(struct round *self, uint32_t count, struct gy_trainer *trainer, const char *what, gyre_error *err)
{
    gy_ask(self->calls, count, gy_trainer_deadline(trainer, SHARD_DEADLINE_NS), gy_trainer_unwanted, trainer);
    return gy_trainer_wanted(trainer, what, err);
}

/* ---- sums ---- */

static double load_f64(const uint8_t *p)
{
    uint64_t bits = gy_load_u64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static gyre_status mean_of(const struct round *round, struct gy_train_sums *out, gyre_error *err)
{
    double *total = calloc(out->dim, sizeof *total);
    gyre_status status = total ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "mean of dim %u", out->dim);
    for (uint32_t i = 0; status == GYRE_OK && i < round->count; i++) {
        const Gyre__Node__SumVectorsReply *reply = round->calls[i].reply;
        if (round->calls[i].status != GYRE_OK)
            status = gyre_fail(err, round->calls[i].status, "shard %u: %s", i, round->calls[i].err.text);
        else if (reply->count && reply->sums.len != 8 * (size_t)out->dim)
            status = gyre_fail(err, GYRE_CORRUPT, "shard %u: sums of %zu bytes for dim %u", i, reply->sums.len, out->dim);
        for (uint32_t d = 0; status == GYRE_OK && reply->count && d < out->dim; d++)
            total[d] += load_f64(reply->sums.data + 8 * (size_t)d);
        if (status == GYRE_OK)
            out->points += out->shard_points[i] = reply->count;
    }
    if (status == GYRE_OK && out->points == 0)
        status = gyre_fail(err, GYRE_PRECONDITION, "it has no points to train on");
    for (uint32_t d = 0; status == GYRE_OK && d < out->dim; d++)
        out->mean[d] = (float)(total[d] / (double)out->points);
    free(total);
    return status;
}

gyre_status gy_train_sums(struct gy_trainer *trainer, struct gy_train_sums *out, gyre_error *err)
{
    *out = (struct gy_train_sums){0};
    gy_trainer_says(trainer, "sums", 0);
    struct round round;
    gyre_status status = round_init(&round, trainer, &out->dim, err);
    for (uint32_t i = 0; status == GYRE_OK && i < round.count; i++) {
        Gyre__Node__SumVectors *request = &round.requests[i].sums;
        gyre__node__sum_vectors__init(request);
        request->collection_id = trainer->collection_id, request->shard = i;
        round.calls[i] = (struct gy_gather_call){.peer = gy_link_peer(round.links[i]),
                                                 .type = GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS,
                                                 .request = &request->base,
                                                 .reply_type = &gyre__node__sum_vectors_reply__descriptor};
    }
    if (status == GYRE_OK)
        status = round_ask(&round, round.count, trainer, "the sums of the shards", err);
    if (status == GYRE_OK) {
        out->shards = round.count;
        out->mean = calloc(out->dim, sizeof *out->mean);
        out->shard_points = calloc(out->shards, sizeof *out->shard_points);
        status = out->mean && out->shard_points ? mean_of(&round, out, err)
                                                : gyre_fail(err, GYRE_NO_MEMORY, "mean of dim %u", out->dim);
    }
    round_fini(&round);
    return status;
}

void gy_train_sums_fini(struct gy_train_sums *sums)
{
    free(sums->mean), free(sums->shard_points);
    *sums = (struct gy_train_sums){0};
}

/* ---- samples ---- */

/* How many vectors of each shard are still to come; all of a shard's where it has fewer. */
static size_t wanted_of(const struct gy_train_sums *sums, uint32_t lists, size_t *left)
{
    size_t most = SAMPLE_BYTES_MAX / (sums->dim * sizeof(float)), wanted = (size_t)lists * GY_SAMPLE_PER_LIST + GY_HELD_BACK_MAX,
           total = 0;
    wanted = wanted < most ? wanted : most;
    double share = (double)wanted / (double)sums->points;
    for (uint32_t i = 0; i < sums->shards; i++) {
        uint64_t points = sums->shard_points[i];
        left[i] = share >= 1 ? (size_t)points : (size_t)((double)points * share);
        total += left[i];
    }
    return total;
}

/* Takes one shard's reply behind what there is. */
static gyre_status take_part(const struct gy_gather_call *call, uint32_t dim, size_t *left, size_t asked,
                             struct gy_train_sample *out, gyre_error *err)
{
    if (call->status != GYRE_OK)
        return gyre_fail(err, call->status, "%s", call->err.text);
    const Gyre__Node__SampleReply *reply = call->reply;
    size_t row_bytes = dim * sizeof(float), rows = reply->vectors.len / row_bytes;
    if (reply->vectors.len % row_bytes || rows > asked)
        return gyre_fail(err, GYRE_CORRUPT, "a sample of %zu bytes for %zu vectors of dim %u", reply->vectors.len, asked, dim);
    if (rows)
        memcpy(out->vectors + out->count * dim, reply->vectors.data, reply->vectors.len);
    for (size_t i = 0; i < rows; i++) {
        gyre_error why = {0};
        if (gyre_vector_check(GYRE_L2, out->vectors + (out->count + i) * dim, dim, i, &why) != GYRE_OK)
            return gyre_fail(err, GYRE_CORRUPT, "its sample: %s", why.text);
    }
    out->count += rows;
    *left = rows < asked ? 0 : *left - rows; /* it has no more */
    return GYRE_OK;
}

/* Asks the shards that still owe vectors for their next part, as many shards as fit a round. */
static gyre_status sample_round(struct gy_trainer *trainer, uint32_t dim, uint64_t seed, size_t *left,
                                struct gy_train_sample *out, gyre_error *err)
{
    struct round round;
    size_t part_max = PART_BYTES_MAX / (dim * sizeof(float)), bytes = 0;
    uint32_t calls = 0;
    gyre_status status = round_init(&round, trainer, NULL, err);
    for (uint32_t i = 0; status == GYRE_OK && i < round.count && bytes < ROUND_BYTES_MAX; i++) {
        if (!left[i])
            continue;
        Gyre__Node__Sample *request = &round.requests[calls].sample;
        gyre__node__sample__init(request);
        request->collection_id = trainer->collection_id, request->shard = i, request->seed = seed;
        request->count = (uint32_t)(left[i] < part_max ? left[i] : part_max);
        bytes += request->count * dim * sizeof(float);
        round.calls[calls++] = (struct gy_gather_call){.peer = gy_link_peer(round.links[i]),
                                                       .type = GYRE__NODE__MESSAGE_TYPE__SAMPLE,
                                                       .request = &request->base,
                                                       .reply_type = &gyre__node__sample_reply__descriptor};
    }
    if (status == GYRE_OK)
        status = round_ask(&round, calls, trainer, "the samples of the shards", err);
    for (uint32_t c = 0; status == GYRE_OK && c < calls; c++) {
        const Gyre__Node__Sample *request = &round.requests[c].sample;
        status = take_part(&round.calls[c], dim, &left[request->shard], request->count, out, err);
        if (status != GYRE_OK)
            gyre_wrap(err, status, "shard %u", request->shard);
    }
    round_fini(&round);
    return status;
}

/* Moves every so-manieth vector behind the others: evenly over the shards, and over whatever order they sent them in. */
static gyre_status hold_back(struct gy_train_sample *sample, uint32_t dim, gyre_error *err)
{
    size_t queries = sample->count / HELD_BACK_SHARE < GY_HELD_BACK_MAX ? sample->count / HELD_BACK_SHARE : GY_HELD_BACK_MAX;
    float *held = malloc((queries + 1) * dim * sizeof *held);
    if (!held)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu queries", queries);
    size_t kept = 0, taken = 0;
    for (size_t i = 0; i < sample->count; i++) {
        const float *row = sample->vectors + i * dim;
        if (taken < queries && i == taken * (sample->count / queries))
            memcpy(held + taken++ * dim, row, dim * sizeof *row);
        else
            memmove(sample->vectors + kept++ * dim, row, dim * sizeof *row);
    }
    memcpy(sample->vectors + kept * dim, held, taken * dim * sizeof *held);
    free(held);
    sample->count = kept, sample->query_count = taken;
    sample->queries = sample->vectors + kept * dim;
    return GYRE_OK;
}

gyre_status gy_train_sample(struct gy_trainer *trainer, const struct gy_train_sums *sums, uint32_t lists,
                            struct gy_train_sample *out, gyre_error *err)
{
    *out = (struct gy_train_sample){0};
    gy_trainer_says(trainer, "sample", 0);
    size_t *left = calloc(sums->shards, sizeof *left);
    size_t total = left ? wanted_of(sums, lists, left) : 0;
    out->vectors = malloc((total + 1) * sums->dim * sizeof *out->vectors);
    gyre_status status = left && out->vectors ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "a sample of %zu vectors", total);
    bool owed = true;
    for (uint64_t seed = 1; status == GYRE_OK && owed; seed++) {
        status = sample_round(trainer, sums->dim, seed, left, out, err);
        gy_trainer_says(trainer, "sample", total ? (double)out->count / (double)total : 1);
        owed = false;
        for (uint32_t i = 0; i < sums->shards; i++)
            owed |= left[i] > 0;
    }
    free(left);
    if (status == GYRE_OK)
        status = hold_back(out, sums->dim, err);
    if (status == GYRE_OK)
        gy_log(GY_LOG_INFO, "training_sampled", "collection=%s vectors=%zu held_back=%zu points=%" PRIu64, trainer->name,
               out->count, out->query_count, sums->points);
    return status;
}

void gy_train_sample_fini(struct gy_train_sample *sample)
{
    free(sample->vectors);
    *sample = (struct gy_train_sample){0};
}
