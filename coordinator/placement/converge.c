/* What nodes are told: by a report's comparison with the catalog (a job in the background, one a node at a time), or at once for
 * every primary of a collection (creation, training, dropping). */
#include "placement/state.h"
#include "routing/ask.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    TOLD_AT_ONCE_MAX = 256, /* messages of one job; the next report brings the rest */
    TROUBLED_REPORTS = 4,
    /* Of messages under way at a time: a codebook with its centroids is up to 64 MiB, and each message is a copy of it. */
    UNDER_WAY_BYTES_MAX = 256 << 20,
};
#define TELL_DEADLINE_NS (10 * GY_SECOND_NS)

/* One thing a node is told. */
struct telling {
    uint64_t collection_id;
    uint32_t shard;
    union {
        Gyre__Node__EnsureReplica ensure; /* borrows codec and codebook */
        Gyre__Node__DropReplica drop;
    } message;
    char collection[GY_NAME_BYTES_MAX + 1];
    gy_codebook *codebook; /* held; NULL to drop */
    gy_link *link;         /* held */
};

struct tellings {
    struct telling *items; /* [count] */
    struct gy_gather_call *calls;
    size_t count, room;
};

static void tellings_fini(struct tellings *self)
{
    for (size_t i = 0; i < self->count; i++) {
        gy_wire_free(self->calls[i].reply);
        gy_codebook_release(self->items[i].codebook);
        gy_link_release(self->items[i].link);
    }
    free(self->items);
    free(self->calls);
    *self = (struct tellings){0};
}

static gyre_status tellings_init(struct tellings *self, size_t room, gyre_error *err)
{
    *self =
        (struct tellings){.items = calloc(room, sizeof *self->items), .calls = calloc(room, sizeof *self->calls), .room = room};
    if (self->items && self->calls)
        return GYRE_OK;
    tellings_fini(self);
    return gyre_fail(err, GYRE_NO_MEMORY, "%zu messages to nodes", room);
}

/* The next place, and the call that will bring its message. */
static struct telling *add(struct tellings *self, uint64_t collection_id, uint32_t shard, gy_link *link, bool ensures)
{
    struct telling *told = &self->items[self->count];
    *told = (struct telling){.collection_id = collection_id, .shard = shard, .link = gy_link_hold(link)};
    self->calls[self->count++] = (struct gy_gather_call){
        .peer = gy_link_peer(link),
        .type = ensures ? GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA : GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA,
        .request = ensures ? &told->message.ensure.base : &told->message.drop.base,
        .reply_type = ensures ? &gyre__node__replica_status__descriptor : &gyre__node__empty__descriptor,
    };
    return told;
}

static gyre_status add_ensure(struct tellings *self, const struct gy_collection_entry *entry, uint32_t shard, gyre_error *err)
{
    const gy_collection_record *record = &entry->record;
    const gyre_codec *codec;
    GY_TRY(gy_collection_codec(record->spec.codec, record->spec.bits, &codec, err));
    struct telling *told = add(self, record->id, shard, entry->shards[shard].node->link, true);
    Gyre__Node__EnsureReplica *message = &told->message.ensure;
    gyre__node__ensure_replica__init(message);
    memcpy(told->collection, record->spec.name, sizeof told->collection);
    told->codebook = gy_codebook_hold(record->codebook);
    const gy_bytes *codebook = gy_codebook_bytes(record->codebook);
    message->collection_id = record->id, message->collection = told->collection, message->shard = shard;
    message->epoch = record->shards[shard].epoch;
    message->codebook = (ProtobufCBinaryData){codebook->size, codebook->data};
    message->codec = (char *)(uintptr_t)codec->name;
    return GYRE_OK;
}

static void add_drop(struct tellings *self, uint64_t collection_id, uint32_t shard, gy_link *link)
{
    Gyre__Node__DropReplica *message = &add(self, collection_id, shard, link, false)->message.drop;
    gyre__node__drop_replica__init(message);
    message->collection_id = collection_id;
    message->shard = shard;
}

/* Whether an answer is from before what a report has said meanwhile: none of these numbers ever falls while a replica lives. */
static bool outdated(const struct gy_shard_entry *shard, const Gyre__Node__ReplicaStatus *answer)
{
    return shard->held && (answer->epoch < shard->epoch || answer->codebook_version < shard->codebook_version ||
                           answer->applied_seq < shard->applied_seq);
}

/* Sends, waits (not longer than cancelled says), counts, and takes over what the nodes answered about their replicas. */
static void tell(gy_placement *placement, struct tellings *self, int64_t deadline_ns, bool (*cancelled)(void *placement))
{
    for (size_t first = 0, next; first < self->count; first = next) {
        size_t bytes = 0;
        for (next = first; next < self->count && (next == first || bytes < UNDER_WAY_BYTES_MAX); next++)
            bytes += self->items[next].codebook ? gy_codebook_bytes(self->items[next].codebook)->size : 0;
        gy_ask(self->calls + first, next - first, deadline_ns, cancelled, placement);
    }
    pthread_mutex_lock(&placement->mu);
    for (size_t i = 0; i < self->count; i++) {
        const struct telling *told = &self->items[i];
        bool ensured = self->calls[i].type == GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA;
        gy_counter_add(ensured ? placement->ensures : placement->drops, 1);
        struct gy_collection_entry *entry = gy_table_collection_of(placement, told->collection_id);
        if (ensured && self->calls[i].status == GYRE_OK && entry && !outdated(&entry->shards[told->shard], self->calls[i].reply))
            gy_table_shard_said(&entry->shards[told->shard], self->calls[i].reply);
        else if (ensured && self->calls[i].status != GYRE_OK && entry) /* it did not hear: soon again, whatever it is about */
            entry->shards[told->shard].told_ns = gy_now_ns() - GY_REENCODE_AGAIN_NS + GY_ENSURE_AGAIN_NS;
    }
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
}

/* ---- a node against the catalog ---- */

struct converge_job {
    gy_placement *placement;
    struct gy_node_entry *node;
    struct tellings tellings;
};

static void converge(void *arg)
{
    struct converge_job *job = arg;
    struct tellings *tellings = &job->tellings;
    tell(job->placement, tellings, gy_now_ns() + TELL_DEADLINE_NS, gy_placement_stopping);
    size_t failed = 0;
    const gyre_error *first = NULL;
    for (size_t i = 0; i < tellings->count; i++)
        if (tellings->calls[i].status != GYRE_OK && failed++ == 0)
            first = &tellings->calls[i].err;
    if (failed)
        gy_log(GY_LOG_WARN, "node_not_converged", "node=%s told=%zu failed=%zu first=%s", job->node->name, tellings->count,
               failed, first->text);
    else
        gy_log(GY_LOG_INFO, "node_told", "node=%s replicas=%zu", job->node->name, tellings->count);
    tellings_fini(tellings);
    pthread_mutex_lock(&job->placement->mu);
    job->node->converging = false;
    pthread_mutex_unlock(&job->placement->mu);
    free(job);
}

static int compare_held(const void *a, const void *b)
{
    const Gyre__Node__ReplicaStatus *x = *(Gyre__Node__ReplicaStatus *const *)a, *y = *(Gyre__Node__ReplicaStatus *const *)b;
    if (x->collection_id != y->collection_id)
        return x->collection_id < y->collection_id ? -1 : 1;
    return x->shard < y->shard ? -1 : x->shard > y->shard;
}

static const Gyre__Node__ReplicaStatus *find_held(const Gyre__Node__Report *report, uint64_t collection_id, uint32_t shard)
{
    Gyre__Node__ReplicaStatus key = {.collection_id = collection_id, .shard = shard}, *wanted = &key;
    if (!report->n_replicas)
        return NULL;
    Gyre__Node__ReplicaStatus **found =
        bsearch(&wanted, report->replicas, report->n_replicas, sizeof *report->replicas, compare_held);
    return found ? *found : NULL;
}

/* Takes over what is said of one shard; whether the node must be told about it now. */
static bool judge(struct gy_collection_entry *entry, uint32_t index, const Gyre__Node__ReplicaStatus *said, int64_t now_ns)
{
    struct gy_shard_entry *shard = &entry->shards[index];
    if (said)
        gy_table_shard_said(shard, said);
    else
        shard->held = false;
    struct gy_wanted_replica wanted = {entry->record.id, index, entry->record.shards[index].epoch, entry->record.codebook_version,
                                       shard->told_ns};
    struct gy_held_replica held = {entry->record.id, index, shard->epoch, shard->codebook_version};
    return gy_replica_judge(&wanted, said ? &held : NULL, now_ns) == GY_REPLICA_ENSURE;
}

/* A replica that opens or replays says so for a moment; one that says it report after report is worth a line. */
static void note_trouble(const struct gy_collection_entry *entry, const Gyre__Node__ReplicaStatus *said, const char *node)
{
    struct gy_shard_entry *shard = &entry->shards[said->shard];
    shard->troubled_reports = said->trouble[0] ? shard->troubled_reports + 1 : 0;
    if (shard->troubled_reports == TROUBLED_REPORTS)
        gy_log(GY_LOG_WARN, "replica_trouble", "node=%s collection=%s shard=%u trouble=%s", node, entry->record.spec.name,
               said->shard, said->trouble);
}

static void collect_wanted(gy_placement *placement, struct gy_node_entry *node, const Gyre__Node__Report *report, int64_t now_ns,
                           struct tellings *out)
{
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        for (uint32_t i = 0; i < entry->record.spec.shards; i++) {
            if (entry->shards[i].node != node)
                continue;
            const Gyre__Node__ReplicaStatus *said = find_held(report, entry->record.id, i);
            if (said)
                note_trouble(entry, said, node->name);
            bool behind = judge(entry, i, said, now_ns);
            gyre_error err;
            if (behind && entry->record.state == GY_COLLECTION_ACTIVE && out->count < out->room &&
                add_ensure(out, entry, i, &err) == GYRE_OK)
                entry->shards[i].told_ns = now_ns;
        }
}

static void collect_orphans(gy_placement *placement, struct gy_node_entry *node, const Gyre__Node__Report *report,
                            struct tellings *out)
{
    node->points = 0;
    for (size_t i = 0; i < report->n_replicas; i++) {
        const Gyre__Node__ReplicaStatus *said = report->replicas[i];
        node->points += said->points;
        bool exists = gy_table_collection_of(placement, said->collection_id) != NULL;
        if (gy_replica_orphaned(said->collection_id, exists, placement->cluster.first_collection_id,
                                placement->cluster.next_collection_id) &&
            out->count < out->room)
            add_drop(out, said->collection_id, said->shard, node->link);
    }
}

void gy_converge(gy_placement *placement, struct gy_node_entry *node, const Gyre__Node__Report *report, int64_t now_ns)
{
    if (report->n_replicas) /* sorts the caller's array of pointers: a search then costs its logarithm */
        qsort(report->replicas, report->n_replicas, sizeof *report->replicas, compare_held);
    node->held_count = report->n_replicas;
    struct converge_job *job = calloc(1, sizeof *job);
    gyre_error err;
    struct tellings nothing = {0};
    if (job && !node->converging) {
        *job = (struct converge_job){.placement = placement, .node = node};
        GY_IGNORE(
            tellings_init(&job->tellings, TOLD_AT_ONCE_MAX, &err)); /* then there is room for none: the next report asks again */
    }
    struct tellings *tellings = job ? &job->tellings : &nothing;
    collect_wanted(placement, node, report, now_ns, tellings);
    collect_orphans(placement, node, report, tellings);
    if (tellings->count) {
        node->converging = true;
        if (gy_pool_submit(placement->telling, converge, job, &err) == GYRE_OK)
            return;
        node->converging = false;
    }
    tellings_fini(tellings);
    free(job);
}

/* ---- every primary of a collection ---- */

/* Fills out with a message for every shard. A node that never reported gives GYRE_UNAVAILABLE; to drop, it is left out. */
static gyre_status collect_all(gy_placement *placement, uint64_t collection_id, bool drop, struct tellings *out, gyre_error *err)
{
    struct gy_collection_entry *entry = gy_table_collection_of(placement, collection_id);
    if (!entry)
        return gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    GY_TRY(tellings_init(out, entry->record.spec.shards, err));
    int64_t now_ns = gy_now_ns();
    for (uint32_t i = 0; i < entry->record.spec.shards; i++) {
        gy_link *link = entry->shards[i].node->link;
        if (!link && drop)
            continue;
        if (!link)
            return gyre_fail(err, GYRE_UNAVAILABLE, "shard %u: node %s has not reported yet", i, entry->shards[i].node->name);
        if (drop) {
            add_drop(out, collection_id, i, link);
            continue;
        }
        GY_TRY(add_ensure(out, entry, i, err));
        entry->shards[i].told_ns = now_ns;
    }
    return GYRE_OK;
}

gyre_status gy_ensure_all(gy_placement *placement, uint64_t collection_id, int64_t deadline_ns,
                          bool (*cancelled)(void *placement), gyre_error *err)
{
    struct tellings all = {0};
    pthread_mutex_lock(&placement->mu);
    gyre_status status = collect_all(placement, collection_id, false, &all, err);
    pthread_mutex_unlock(&placement->mu);
    if (status == GYRE_OK)
        tell(placement, &all, deadline_ns, cancelled);
    for (size_t i = 0; status == GYRE_OK && i < all.count; i++)
        if (all.calls[i].status != GYRE_OK)
            status = gyre_fail(err, all.calls[i].status, "shard %u: %s", all.items[i].shard, all.calls[i].err.text);
    tellings_fini(&all);
    return status;
}

void gy_drop_all(gy_placement *placement, uint64_t collection_id, int64_t deadline_ns)
{
    struct tellings all = {0};
    gyre_error err;
    pthread_mutex_lock(&placement->mu);
    gyre_status status = collect_all(placement, collection_id, true, &all, &err);
    pthread_mutex_unlock(&placement->mu);
    if (status == GYRE_OK)
        tell(placement, &all, deadline_ns, NULL);
    size_t failed = 0;
    for (size_t i = 0; status == GYRE_OK && i < all.count; i++)
        if (all.calls[i].status != GYRE_OK && failed++ == 0)
            err = all.calls[i].err;
    if (failed)
        gy_log(GY_LOG_WARN, "replicas_not_dropped", "collection_id=%" PRIu64 " failed=%zu first=%s action=%s", collection_id,
               failed, err.text, "dropped when their nodes report");
    tellings_fini(&all);
}
