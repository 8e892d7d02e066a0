/* What nodes are told: by a report's comparison with the catalog (a job in the background, one a node at a time), at once when a
 * shard's configuration has changed, or to every member of a collection (creation, training, dropping). */
#include "placement/state.h"
#include "routing/ask.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    TOLD_AT_ONCE_MAX = 256, /* messages of one job; the next report brings the rest */
    TROUBLED_REPORTS = 4,
    /* Of messages under way at a time: a codebook with its centroids is up to 64 MiB, and a message that brings it is a copy. */
    UNDER_WAY_BYTES_MAX = 256 << 20,
};
#define TELL_DEADLINE_NS (10 * GY_SECOND_NS)

/* One thing a node is told. */
struct telling {
    uint64_t collection_id;
    uint32_t shard, member;
    union {
        Gyre__Node__EnsureReplica ensure; /* borrows codec, codebook and config */
        Gyre__Node__DropReplica drop;
    } message;
    struct gy_shard_config config;
    struct gy_config_message config_message; /* borrows config */
    char collection[GY_NAME_BYTES_MAX + 1];
    gy_codebook *codebook; /* held if the message brings it; else NULL */
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
static struct telling *add(struct tellings *self, uint64_t collection_id, uint32_t shard, uint32_t member, gy_link *link,
                           bool ensures)
{
    struct telling *told = &self->items[self->count];
    *told =
        (struct telling){.collection_id = collection_id, .shard = shard, .member = member, .link = gy_link_hold(link)};
    self->calls[self->count++] = (struct gy_gather_call){
        .peer = gy_link_peer(link),
        .type = ensures ? GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA : GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA,
        .request = ensures ? &told->message.ensure.base : &told->message.drop.base,
        .reply_type = ensures ? &gyre__node__replica_status__descriptor : &gyre__node__empty__descriptor,
    };
    return told;
}

/* Whether the member must be sent the codebook: it is to be made, or says that its codes are in an older one. One that holds codes
 * only gets later ones with the codes, from the primary. */
static bool needs_codebook(const gy_collection_record *record, const struct gy_member *configured,
                           const struct gy_member_entry *member)
{
    return member->presence == GY_PRESENCE_UNMADE || !member->codebook_version ||
           (configured->kind == GY_MEMBER_FULL && member->codebook_version < record->codebook_version);
}

/* Tells the member at `at` of the shard its configuration. */
static gyre_status add_ensure(struct tellings *self, const struct gy_collection_entry *entry, uint32_t shard, uint32_t at,
                              gyre_error *err)
{
    const gy_collection_record *record = &entry->record;
    struct gy_member_entry *member = &entry->shards[shard].members[at];
    const gyre_codec *codec;
    GY_TRY(gy_collection_codec(record->spec.codec, record->spec.bits, &codec, err));
    uint32_t id = record->shards[shard].members[at].id;
    struct telling *told = add(self, record->id, shard, id, member->node->link, true);
    Gyre__Node__EnsureReplica *message = &told->message.ensure;
    gyre__node__ensure_replica__init(message);
    memcpy(told->collection, record->spec.name, sizeof told->collection);
    told->config = record->shards[shard];
    gy_config_message_init(&told->config_message, &told->config);
    message->collection_id = record->id, message->collection = told->collection, message->shard = shard;
    message->config = &told->config_message.base;
    message->member = id;
    message->create = member->presence == GY_PRESENCE_UNMADE;
    message->codebook_version = record->codebook_version;
    if (needs_codebook(record, &record->shards[shard].members[at], member)) {
        told->codebook = gy_codebook_hold(record->codebook);
        const gy_bytes *codebook = gy_codebook_bytes(record->codebook);
        message->codebook = (ProtobufCBinaryData){codebook->size, codebook->data};
    }
    message->codec = (char *)(uintptr_t)codec->name;
    if (message->create || member->waiting)
        member->making_until_ns = gy_now_ns() + 2 * TELL_DEADLINE_NS;
    if (message->create) /* once, whatever comes of it: made twice, the second one empty, it would pass for the first */
        member->presence = GY_PRESENCE_UNHEARD;
    return GYRE_OK;
}

/* member 0: whichever the node has. */
static void add_drop(struct tellings *self, uint64_t collection_id, uint32_t shard, uint32_t member, gy_link *link)
{
    Gyre__Node__DropReplica *message = &add(self, collection_id, shard, member, link, false)->message.drop;
    gyre__node__drop_replica__init(message);
    message->collection_id = collection_id;
    message->shard = shard;
    message->member = member;
}

/* Whether an answer is from before what a report has said meanwhile: none of these numbers ever falls while a replica lives. */
static bool outdated(const struct gy_member_entry *member, const Gyre__Node__ReplicaStatus *answer)
{
    return member->presence == GY_PRESENCE_HELD &&
           (answer->epoch < member->epoch || answer->codebook_version < member->codebook_version ||
            answer->applied_seq < member->applied_seq);
}

/* Takes over what came of telling a member, if it is one still. Under mu. */
static void take_answer(struct gy_collection_entry *entry, const struct telling *told, const struct gy_gather_call *call)
{
    uint32_t at = gy_table_member(entry, told->shard, told->member);
    if (at == GY_MEMBERS_MAX)
        return;
    struct gy_member_entry *member = &entry->shards[told->shard].members[at];
    const Gyre__Node__ReplicaStatus *answer = call->reply;
    member->making_until_ns = 0;
    if (call->status == GYRE_PRECONDITION && !told->codebook) /* its codes are in an older one: at once again, with it */
        member->told_ns = 0, member->codebook_version = 0;
    else if (call->status != GYRE_OK && !member->troubled_since_ns) /* it did not hear: soon again, whatever it is about */
        member->told_ns = gy_now_ns() - GY_REENCODE_AGAIN_NS + GY_ENSURE_AGAIN_NS;
    else if (call->status != GYRE_OK) /* it tried to open the replica: as soon again as was planned */
        return;
    else if (answer->member == told->member && !outdated(member, answer))
        gy_table_member_said(entry, member, answer);
}

/* Where an older replica was dropped another may have waited for its place: it is told with the next report. Under mu. */
static void forget_told(struct gy_collection_entry *entry, const struct telling *dropped)
{
    if (dropped->shard >= entry->record.spec.shards)
        return;
    for (uint32_t m = 0; m < entry->record.shards[dropped->shard].member_count; m++)
        if (entry->shards[dropped->shard].members[m].node->link == dropped->link)
            entry->shards[dropped->shard].members[m].told_ns = 0;
}

/* New routes where a member came up or went down since the newest. Under mu. */
static void reroute(gy_placement *placement, struct gy_collection_entry *entry)
{
    bool differs = false;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++)
            differs |= gy_table_member_up(&entry->shards[i].members[m]) != entry->shards[i].members[m].routed_up;
    gyre_error err;
    if (differs && entry->record.state == GY_COLLECTION_ACTIVE && gy_table_publish(placement, entry, &err) != GYRE_OK)
        gy_log(GY_LOG_ERROR, "route_failed", "collection=%s error=%s", entry->record.spec.name, err.text);
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
    struct gy_collection_entry *entry = NULL;
    for (size_t i = 0; i < self->count; i++) {
        const struct telling *told = &self->items[i];
        bool ensured = self->calls[i].type == GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA;
        gy_counter_add(ensured ? placement->ensures : placement->drops, 1);
        gy_counter_add(placement->codebooks_sent, told->codebook != NULL);
        struct gy_collection_entry *before = entry;
        entry = gy_table_collection_of(placement, told->collection_id);
        if (before && before != entry)
            reroute(placement, before);
        if (ensured && entry)
            take_answer(entry, told, &self->calls[i]);
        else if (entry && self->calls[i].status == GYRE_OK)
            forget_told(entry, told);
    }
    if (entry)
        reroute(placement, entry);
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
}

/* ---- a node against the catalog ---- */

struct converge_job {
    gy_placement *placement;
    struct gy_node_entry *node; /* NULL: members on several */
    struct tellings tellings;
};

static void converge(void *arg)
{
    struct converge_job *job = arg;
    struct tellings *tellings = &job->tellings;
    tell(job->placement, tellings, gy_now_ns() + TELL_DEADLINE_NS, gy_placement_idle);
    size_t failed = 0;
    const gyre_error *first = NULL;
    for (size_t i = 0; i < tellings->count; i++)
        if (tellings->calls[i].status != GYRE_OK && failed++ == 0)
            first = &tellings->calls[i].err;
    const char *node = job->node ? job->node->name : "several";
    if (failed)
        gy_log(GY_LOG_WARN, "node_not_converged", "node=%s told=%zu failed=%zu first=%s", node, tellings->count, failed,
               first->text);
    else
        gy_log(GY_LOG_INFO, "node_told", "node=%s replicas=%zu", node, tellings->count);
    tellings_fini(tellings);
    pthread_mutex_lock(&job->placement->mu);
    if (job->node)
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

/* Takes over what is said of one member; whether its node must be told about it now. */
static bool judge(struct gy_collection_entry *entry, uint32_t shard, uint32_t at, const Gyre__Node__ReplicaStatus *said,
                  int64_t now_ns)
{
    struct gy_member_entry *member = &entry->shards[shard].members[at];
    if (said) {
        gy_table_member_said(entry, member, said);
    } else if (member->presence != GY_PRESENCE_UNMADE && now_ns >= member->making_until_ns) {
        /* the report may have been on its way while the replica was made: the next one was not */
        entry->replan |= member->missed && member->presence != GY_PRESENCE_ABSENT;
        member->presence = member->missed ? GY_PRESENCE_ABSENT : GY_PRESENCE_UNHEARD;
        member->missed = true;
    }
    if (!said && member->presence != GY_PRESENCE_UNMADE) /* it cannot come back: a plan puts another in its place */
        return false;
    struct gy_wanted_replica wanted = {entry->record.id, shard, entry->record.shards[shard].epoch,
                                       entry->record.codebook_version, member->told_ns};
    struct gy_held_replica held = {entry->record.id, shard, member->epoch, member->codebook_version};
    return gy_replica_judge(&wanted, said ? &held : NULL, now_ns) == GY_REPLICA_ENSURE;
}

/* Whether a node that cannot open what may be the member shall try again; takes over that it cannot. */
static bool judge_troubled(struct gy_collection_entry *entry, struct gy_member_entry *member, int64_t now_ns)
{
    if (member->presence != GY_PRESENCE_UNMADE) /* else an older member's, which makes room for it */
        gy_table_member_troubled(entry, member, now_ns);
    return !member->told_ns || now_ns - member->told_ns >= GY_ENSURE_AGAIN_NS;
}

/* Whether a node has what may be the member, and cannot open it. One that was never open since the node's start does not say which
 * member it is: this one, as far as anybody knows. One that was open once says it, but no epoch. */
static bool is_closed(const Gyre__Node__ReplicaStatus *there, uint32_t id, const struct gy_member_entry *member)
{
    if (!there || there->waiting || (there->lost && member->presence != GY_PRESENCE_UNMADE))
        return false;
    return !there->member || (there->member == id && !there->epoch && !there->restoring && there->trouble[0]);
}

/* A replica that opens or replays says so for a moment; one that says it report after report is worth a line. */
static void note_trouble(const struct gy_collection_entry *entry, struct gy_member_entry *member,
                         const Gyre__Node__ReplicaStatus *said)
{
    member->troubled_reports = said->trouble[0] ? member->troubled_reports + 1 : 0;
    if (member->troubled_reports == TROUBLED_REPORTS)
        gy_log(GY_LOG_WARN, "replica_trouble", "node=%s collection=%s shard=%u trouble=%s", member->node->name,
               entry->record.spec.name, said->shard, said->trouble);
}

/* Takes over what the node says of the members of one collection, and collects what it must be told about them. */
static void collect_of_collection(struct gy_collection_entry *entry, struct gy_node_entry *node, const Gyre__Node__Report *report,
                                  int64_t now_ns, struct tellings *out)
{
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++) {
            struct gy_member_entry *member = &entry->shards[i].members[m];
            if (member->node != node)
                continue;
            const struct gy_member *configured = &entry->record.shards[i].members[m];
            const Gyre__Node__ReplicaStatus *there = find_held(report, entry->record.id, i), *said = there;
            if (there && there->member != configured->id) /* an older member's: it must go before this one can be made */
                said = NULL;
            bool closed = is_closed(there, configured->id, member);
            if (closed)
                said = NULL;
            if (said || closed)
                note_trouble(entry, member, there);
            gy_split_heard(entry, i, m, said, find_held(report, entry->record.id, entry->record.shards[i].split.shard));
            bool behind = closed ? judge_troubled(entry, member, now_ns) : judge(entry, i, m, said, now_ns);
            node->bytes += gy_table_replica_bytes(entry, configured->kind, said ? said->points : 0);
            gyre_error err;
            if (behind && (there == said || closed) && entry->record.state == GY_COLLECTION_ACTIVE && out->count < out->room &&
                add_ensure(out, entry, i, m, &err) == GYRE_OK)
                member->told_ns = now_ns;
        }
}

/* How far the node's replicas are, for whoever chooses among members. */
static void show_seqs(gy_placement *placement, const struct gy_collection_entry *entry, const struct gy_node_entry *node)
{
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++) {
            const struct gy_member_entry *member = &entry->shards[i].members[m];
            if (member->node == node && member->presence == GY_PRESENCE_HELD)
                gy_routing_member_said(placement->routing, entry->record.spec.name, i, entry->record.shards[i].members[m].id,
                                       member->applied_seq);
        }
}

/* Whether a replica is one that the catalog gave and took away again: its collection is gone, or its shard is there and the member is
 * no longer of it (a part of a split's child: of the shard that is split). One that does not know which member it is goes only where
 * the node has no member. */
static bool is_rubbish(const gy_placement *placement, const struct gy_collection_entry *entry, const struct gy_node_entry *node,
                       const Gyre__Node__ReplicaStatus *said)
{
    if (!entry)
        return gy_replica_orphaned(said->collection_id, false, placement->cluster.first_collection_id,
                                   placement->cluster.next_collection_id);
    if (entry->record.state != GY_COLLECTION_ACTIVE)
        return false;
    const struct gy_shard_config *config =
        said->shard < entry->record.spec.shards ? &entry->record.shards[said->shard]
        : said->waiting                         ? gy_split_parent(&entry->record, said->shard) /* whose members make it */
                                                : NULL;
    if (!config)
        return false;
    const struct gy_member *member = gy_config_member(config, said->member);
    if (said->waiting && member && strcmp(member->node, node->name) != 0) /* too late, by the parent's member of that number */
        return true;
    if (said->member)
        return said->member < config->next_member && !member;
    for (uint32_t i = 0; i < config->member_count; i++)
        if (strcmp(config->members[i].node, node->name) == 0)
            return false;
    return true;
}

static void collect_rubbish(gy_placement *placement, struct gy_node_entry *node, const Gyre__Node__Report *report,
                            struct tellings *out)
{
    node->points = 0;
    for (size_t i = 0; i < report->n_replicas; i++) {
        const Gyre__Node__ReplicaStatus *said = report->replicas[i];
        node->points += said->points;
        if (is_rubbish(placement, gy_table_collection_of(placement, said->collection_id), node, said) && out->count < out->room)
            add_drop(out, said->collection_id, said->shard, said->member, node->link);
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
    if (job && !node->converging && gy_leads(placement)) {
        *job = (struct converge_job){.placement = placement, .node = node};
        GY_IGNORE(
            tellings_init(&job->tellings, TOLD_AT_ONCE_MAX, &err)); /* then there is room for none: the next report asks again */
    }
    struct tellings *tellings = job ? &job->tellings : &nothing;
    struct gy_collection_entry *entry, *next;
    node->bytes = 0;
    HASH_ITER(hh, placement->collections, entry, next) {
        collect_of_collection(entry, node, report, now_ns, tellings);
        reroute(placement, entry);
        show_seqs(placement, entry, node);
    }
    collect_rubbish(placement, node, report, tellings);
    if (tellings->count) {
        node->converging = true;
        if (gy_pool_submit(placement->telling, converge, job, &err) == GYRE_OK)
            return;
        node->converging = false;
    }
    tellings_fini(tellings);
    free(job);
}

/* ---- changed shards ---- */

void gy_tell_shards(gy_placement *placement, struct gy_collection_entry *entry, const struct gy_config_change *changes,
                    size_t count)
{
    struct converge_job *job = placement->stopping || !gy_leads(placement) ? NULL : calloc(1, sizeof *job);
    gyre_error err = {0};
    size_t members = 0;
    for (size_t i = 0; i < count; i++)
        members += entry->record.shards[changes[i].shard].member_count;
    if (!job || tellings_init(&job->tellings, members, &err) != GYRE_OK) {
        free(job); /* they hear of it when they report */
        return;
    }
    job->placement = placement;
    int64_t now_ns = gy_now_ns();
    for (size_t i = 0; i < count; i++)
        for (uint32_t m = 0; m < entry->record.shards[changes[i].shard].member_count; m++) {
            struct gy_member_entry *member = &entry->shards[changes[i].shard].members[m];
            bool hears = member->node->link && member->node->health.state == GY_NODE_UP;
            if (hears && (member->presence == GY_PRESENCE_HELD || member->presence == GY_PRESENCE_UNMADE) &&
                add_ensure(&job->tellings, entry, changes[i].shard, m, &err) == GYRE_OK)
                member->told_ns = now_ns;
        }
    if (job->tellings.count && gy_pool_submit(placement->telling, converge, job, &err) == GYRE_OK)
        return;
    tellings_fini(&job->tellings);
    free(job);
}

/* ---- every member of a collection ---- */

/* Fills out with a message for every member that shall hear of it: all while the collection is being made, and then a node that
 * never reported gives GYRE_UNAVAILABLE; later those that are there; to drop, those that ever reported. */
static gyre_status collect_all(gy_placement *placement, uint64_t collection_id, bool drop, struct tellings *out, gyre_error *err)
{
    struct gy_collection_entry *entry = gy_table_collection_of(placement, collection_id);
    if (!entry)
        return gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    size_t members = 0;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        members += entry->record.shards[i].member_count;
    GY_TRY(tellings_init(out, members, err));
    int64_t now_ns = gy_now_ns();
    bool all = entry->record.state == GY_COLLECTION_CREATING;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++) {
            struct gy_member_entry *member = &entry->shards[i].members[m];
            if (!member->node->link && all && !drop)
                return gyre_fail(err, GYRE_UNAVAILABLE, "shard %u: node %s has not reported yet", i, member->node->name);
            if (!member->node->link || (!all && !drop && !gy_table_member_up(member)))
                continue;
            if (drop) {
                add_drop(out, collection_id, i, 0, member->node->link);
                continue;
            }
            GY_TRY(add_ensure(out, entry, i, m, err));
            member->told_ns = now_ns;
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
