/* What plans want and primaries ask for, brought about: catalog first, then routes, then the members are told. Only the placement
 * thread, so that one transaction carries all the changes of a collection; a move by hand comes from elsewhere and meets the same
 * compare-and-set. */
#include "placement/state.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ASKS_MAX = 4096 }; /* one a shard of a large cluster; more are refused and asked again */
/* After a catalog that refused, a full disk say. */
#define COMMIT_AGAIN_NS GY_SECOND_NS

/* ---- committing ---- */

/* Whether the configuration that it follows is the one that holds. A recovery (recover.c) comes too late once the child of a split
 * is in the record. */
static bool comes_in_time(const gy_collection_record *record, const struct gy_config_change *change)
{
    bool recovers = change->config.unclean_epoch == change->config.epoch;
    if (change->shard < record->spec.shards)
        return record->shards[change->shard].epoch + 1 == change->config.epoch &&
               !(recovers && gy_split_has_child(record, change->shard));
    const struct gy_shard_config *parent = gy_split_parent(record, change->shard);
    return change->shard == record->spec.shards && parent && parent->epoch == change->config.epoch;
}

/* Copies the record with its configurations changed, leaving out what comes too late; the entry gets room for a shard more. Under
 * mu and catalog_mu. */
static gyre_status changed_record(struct gy_collection_entry *entry, const struct gy_config_change *changes, size_t count,
                                  gy_collection_record *out, size_t *done, gyre_error *err)
{
    *done = 0;
    *out = entry->record; /* borrows all but the configurations */
    out->shards = calloc((size_t)out->spec.shards + 1, sizeof *out->shards);
    if (!out->shards)
        return gyre_fail(err, GYRE_NO_MEMORY, "configurations of '%s'", out->spec.name);
    memcpy(out->shards, entry->record.shards, out->spec.shards * sizeof *out->shards);
    for (size_t i = 0; i < count; i++) {
        bool adds = changes[i].shard == entry->record.spec.shards;
        if (!comes_in_time(out, &changes[i]))
            continue;
        if (adds)
            GY_TRY(gy_table_shard_reserve(entry, err));
        out->shards[changes[i].shard] = changes[i].config;
        out->spec.shards += adds;
        ++*done;
    }
    return GYRE_OK;
}

static void note(gy_placement *placement, const struct gy_collection_entry *entry, const struct gy_config_change *change)
{
    const struct gy_shard_config *config = &change->config;
    const struct gy_member *primary = gy_config_member(config, config->primary);
    gy_counter_add(placement->config_changes, 1);
    if (config->primary_since == config->epoch)
        gy_counter_add(placement->promotions, 1);
    gy_log(GY_LOG_INFO, "shard_configured", "collection=%s shard=%u epoch=%" PRIu64 " primary=%s members=%u in_sync=%u reason=%s",
           entry->record.spec.name, change->shard, config->epoch, primary->node, config->member_count,
           gy_config_in_sync_count(config), change->reason);
}

/* Puts what was committed into the table and tells. Under mu and catalog_mu. */
static void take_changes(gy_placement *placement, struct gy_collection_entry *entry, const struct gy_config_change *changes,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!comes_in_time(&entry->record, &changes[i]))
            continue;
        gy_split_note(placement, entry, &changes[i]);
        if (changes[i].shard == entry->record.spec.shards)
            gy_table_shard_add(placement, entry, &changes[i].config);
        else
            gy_table_config_set(placement, entry, changes[i].shard, &changes[i].config);
        note(placement, entry, &changes[i]);
    }
    gyre_error err;
    if (gy_table_publish(placement, entry, &err) != GYRE_OK)
        gy_log(GY_LOG_ERROR, "route_failed", "collection=%s error=%s", entry->record.spec.name, err.text);
    gy_tell_shards(placement, entry, changes, count);
    pthread_cond_broadcast(&placement->changed);
}

gyre_status gy_steer_commit(gy_placement *placement, uint64_t collection_id, const struct gy_config_change *changes, size_t count,
                            size_t *done, gyre_error *err)
{
    gy_collection_record changed = {0};
    *done = 0;
    pthread_mutex_lock(&placement->catalog_mu);
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry = gy_table_collection_of(placement, collection_id);
    bool there = entry && entry->record.state == GY_COLLECTION_ACTIVE;
    gyre_status status = there ? changed_record(entry, changes, count, &changed, done, err)
                               : gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    pthread_mutex_unlock(&placement->mu);
    uint64_t revision;
    if (status == GYRE_OK && *done) {
        struct gy_table_change change = {.name = changed.spec.name, .revision = entry->revision, .record = &changed};
        status = gy_table_commit(placement, &change, &revision, err);
    }
    if (status == GYRE_OK && *done) {
        pthread_mutex_lock(&placement->mu);
        entry->revision = revision;
        take_changes(placement, entry, changes, count);
        pthread_mutex_unlock(&placement->mu);
    }
    pthread_mutex_unlock(&placement->catalog_mu);
    free(changed.shards);
    if (status != GYRE_OK)
        *done = 0;
    return status;
}

/* ---- questions of primaries ---- */

gyre_status gy_steer_ask(gy_placement *placement, gy_bus_request *request, Gyre__Node__ChangeInSync *asked, gyre_error *err)
{
    struct gy_in_sync_ask *ask = malloc(sizeof *ask);
    if (!ask)
        return gyre_fail(err, GYRE_NO_MEMORY, "question for another in-sync set");
    pthread_mutex_lock(&placement->mu);
    gyre_status status = GYRE_OK;
    if (placement->stopping || !placement->running)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is %s", placement->stopping ? "stopping" : "starting");
    else if (!gy_leads(placement))
        status = gy_not_leading(placement, err);
    else if (placement->ask_count == ASKS_MAX)
        status = gyre_fail(err, GYRE_EXHAUSTED, "%d questions for in-sync sets wait already", ASKS_MAX);
    if (status == GYRE_OK) {
        *ask = (struct gy_in_sync_ask){request, asked, placement->asks};
        placement->asks = ask;
        placement->ask_count++;
        pthread_cond_broadcast(&placement->changed);
    }
    pthread_mutex_unlock(&placement->mu);
    if (status != GYRE_OK)
        free(ask);
    return status;
}

/* The collection that is asked about, NULL if it or the shard is not there. Under mu. */
static struct gy_collection_entry *asked_entry(gy_placement *placement, const Gyre__Node__ChangeInSync *asked)
{
    struct gy_collection_entry *entry = gy_table_collection_of(placement, asked->collection_id);
    return entry && asked->shard < entry->record.spec.shards ? entry : NULL;
}

/* Whether what is asked may be: the primary asks, from its own node, and nobody joins whose replica is known to be gone;
 * who has no part of a split yet joins later. Under mu. */
static bool grant(gy_placement *placement, const struct gy_in_sync_ask *ask, struct gy_config_change *out)
{
    const Gyre__Node__ChangeInSync *asked = ask->asked;
    const struct gy_collection_entry *entry = asked_entry(placement, asked);
    gyre_error err;
    if (!entry || entry->record.state != GY_COLLECTION_ACTIVE) /* while it is being made, what holds is the answer */
        return false;
    const struct gy_shard_config *config = &entry->record.shards[asked->shard];
    const struct gy_member *from = gy_config_member(config, asked->from);
    if (!from || strcmp(from->node, gy_bus_request_node(ask->request)) != 0)
        return false;
    *out = (struct gy_config_change){.shard = asked->shard, .reason = "the primary asked for another in-sync set"};
    if (gy_plan_change_in_sync(config, asked->epoch, asked->from, asked->in_sync, asked->n_in_sync, &out->config, &err) != GYRE_OK)
        return false;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member_entry *member = &entry->shards[asked->shard].members[i];
        if (!out->config.members[i].in_sync || config->members[i].in_sync)
            continue;
        if (member->presence == GY_PRESENCE_ABSENT || member->lost || member->troubled_since_ns)
            return false;
        /* The others are granted: a primary that has just started commits nothing before it has a new epoch. */
        if (!gy_split_lets_join(entry, asked->shard, i))
            out->config.members[i].in_sync = false;
    }
    return true;
}

/* Answers with the configuration that holds, whatever it is. */
static void answer_ask(gy_placement *placement, struct gy_in_sync_ask *ask)
{
    struct gy_shard_config config = {0};
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&placement->mu);
    const struct gy_collection_entry *entry = asked_entry(placement, ask->asked);
    if (entry)
        config = entry->record.shards[ask->asked->shard];
    else
        status = gyre_fail(&err, GYRE_NOT_FOUND, "shard %u of collection id %" PRIu64 " is not in the catalog", ask->asked->shard,
                           ask->asked->collection_id);
    pthread_mutex_unlock(&placement->mu);
    gy_bytes reply = {0};
    if (status == GYRE_OK) {
        struct gy_config_message message;
        gy_config_message_init(&message, &config);
        status = gy_wire_pack(&reply, &message.base.base, GY_BUS_MESSAGE_BYTES_MAX, &err);
    }
    gy_bus_answer(ask->request, status, &err, reply.data, reply.size);
    gy_bytes_free(&reply);
    gy_wire_free(ask->asked);
    free(ask);
}

/* Commits what is granted of the questions about one collection; of two about a shard one wins. Under mu, lets go of it. */
static void commit_asks(gy_placement *placement, const struct gy_in_sync_ask *asks, size_t ask_count, uint64_t collection_id)
{
    struct gy_config_change *changes = calloc(ask_count, sizeof *changes);
    size_t count = 0, done;
    for (const struct gy_in_sync_ask *ask = asks; changes && ask; ask = ask->next) {
        bool taken = ask->asked->collection_id != collection_id;
        for (size_t i = 0; i < count && !taken; i++)
            taken = changes[i].shard == ask->asked->shard;
        if (!taken && grant(placement, ask, &changes[count]))
            count++;
    }
    pthread_mutex_unlock(&placement->mu);
    gyre_error err;
    if (count && gy_steer_commit(placement, collection_id, changes, count, &done, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "in_sync_not_changed", "collection_id=%" PRIu64 " shards=%zu error=%s", collection_id, count,
               err.text);
    free(changes);
    pthread_mutex_lock(&placement->mu);
}

/* Under mu, lets go of it. */
static void answer_asks(gy_placement *placement)
{
    struct gy_in_sync_ask *asks = placement->asks;
    size_t count = placement->ask_count;
    placement->asks = NULL;
    placement->ask_count = 0;
    while (asks) {
        uint64_t collection_id = asks->asked->collection_id;
        commit_asks(placement, asks, count, collection_id);
        pthread_mutex_unlock(&placement->mu);
        struct gy_in_sync_ask **at = &asks;
        while (*at) {
            struct gy_in_sync_ask *ask = *at;
            if (ask->asked->collection_id == collection_id) {
                *at = ask->next;
                answer_ask(placement, ask);
            } else {
                at = &ask->next;
            }
        }
        pthread_mutex_lock(&placement->mu);
    }
}

void gy_steer_refuse(gy_placement *placement, gyre_status status, const char *why)
{
    while (placement->asks) {
        struct gy_in_sync_ask *ask = placement->asks;
        placement->asks = ask->next;
        placement->ask_count--;
        gyre_error err;
        gy_bus_answer(ask->request, gyre_fail(&err, status, "%s", why), &err, NULL, 0);
        gy_wire_free(ask->asked);
        free(ask);
    }
}

/* ---- plans ---- */

void gy_steer_facts(const struct gy_collection_entry *entry, uint32_t shard, struct gy_plan_fact facts[GY_MEMBERS_MAX])
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member_entry *member = &entry->shards[shard].members[i];
        facts[i] = (struct gy_plan_fact){.presence = member->presence,
                                         .lost = member->lost,
                                         .restoring = member->restoring,
                                         .troubled_since_ns = member->troubled_since_ns,
                                         .epoch = member->epoch,
                                         .log_seq = member->log_seq,
                                         .applied_seq = member->applied_seq,
                                         .bytes = gy_table_replica_bytes(entry, config->members[i].kind, member->points)};
    }
}

/* Counts the members that a change adds and takes away, so that the next shard's plan sees them. */
static void count_members(struct gy_plan_node *nodes, size_t node_count, const struct gy_shard_config *older,
                          const struct gy_shard_config *newer)
{
    for (uint32_t i = 0; i < newer->member_count; i++)
        for (size_t n = 0; n < node_count && !gy_config_member(older, newer->members[i].id); n++)
            nodes[n].replicas += strcmp(nodes[n].name, newer->members[i].node) == 0;
    for (uint32_t i = 0; i < older->member_count; i++)
        for (size_t n = 0; n < node_count && !gy_config_member(newer, older->members[i].id); n++)
            nodes[n].replicas -= strcmp(nodes[n].name, older->members[i].node) == 0;
}

/* Members that leave, of every collection. */
static uint32_t leaving_count(const gy_placement *placement)
{
    uint32_t leaving = 0;
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        for (uint32_t i = 0; i < entry->record.spec.shards; i++)
            for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++)
                leaving += entry->record.shards[i].members[m].leaving;
    return leaving;
}

/* Plans every shard of a collection. *count changes are wanted; none: entry->plan_due_ns says when to look again. Under mu. */
static gyre_status plan_collection(gy_placement *placement, struct gy_collection_entry *entry, int64_t now_ns,
                                   struct gy_config_change **changes, size_t *count, gyre_error *err)
{
    struct gy_plan_node *nodes;
    struct gy_plan_world world;
    const struct gy_collection_spec *spec = &entry->record.spec;
    struct gy_plan_wish wish = {spec->copies, spec->quantized, spec->min_copies};
    *count = 0;
    *changes = calloc(spec->shards, sizeof **changes);
    if (!*changes)
        return gyre_fail(err, GYRE_NO_MEMORY, "plans of '%s'", spec->name);
    GY_TRY(gy_table_world(placement, now_ns, &nodes, &world, &entry->plan_due_ns, err));
    uint32_t leaving = leaving_count(placement);
    world.moves_left = leaving < placement->moves_max ? placement->moves_max - leaving : 0;
    for (uint32_t i = 0; i < spec->shards; i++) {
        struct gy_plan_fact facts[GY_MEMBERS_MAX];
        struct gy_plan plan;
        gy_steer_facts(entry, i, facts);
        gy_plan_shard(&entry->record.shards[i], &wish, facts, &world, &plan);
        entry->plan_due_ns = plan.due_ns < entry->plan_due_ns ? plan.due_ns : entry->plan_due_ns;
        entry->shards[i].obstacle = plan.change ? NULL : plan.reason;
        if (!plan.change) {
            *count += gy_split_step(entry, i, now_ns, &(*changes)[*count], &entry->plan_due_ns);
            continue;
        }
        world.moves_left -= plan.move;
        count_members(nodes, world.node_count, &entry->record.shards[i], &plan.next);
        (*changes)[(*count)++] = (struct gy_config_change){i, plan.next, plan.reason};
    }
    free(nodes);
    return GYRE_OK;
}

/* Under mu, lets go of it. */
static void steer_collection(gy_placement *placement, struct gy_collection_entry *entry, int64_t now_ns)
{
    struct gy_config_change *changes = NULL;
    size_t count = 0, done = 0;
    uint64_t id = entry->record.id;
    gyre_error err;
    entry->replan = false;
    gyre_status status = plan_collection(placement, entry, now_ns, &changes, &count, &err);
    if (status == GYRE_OK && count) {
        pthread_mutex_unlock(&placement->mu);
        status = gy_steer_commit(placement, id, changes, count, &done, &err);
        pthread_mutex_lock(&placement->mu);
        entry = gy_table_collection_of(placement, id);
    }
    free(changes);
    if (status == GYRE_OK || !entry)
        return;
    gy_log(GY_LOG_WARN, "plan_failed", "collection=%s error=%s action=%s", entry->record.spec.name, err.text,
           "tried again");
    entry->plan_due_ns = now_ns + COMMIT_AGAIN_NS;
}

/* The next collection to look at; NULL if there is none, and *due_ns says until when. */
static struct gy_collection_entry *next_to_steer(gy_placement *placement, int64_t now_ns, int64_t *due_ns)
{
    *due_ns = GY_NEVER;
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) {
        if (entry->record.state != GY_COLLECTION_ACTIVE)
            continue;
        if (entry->replan || entry->plan_due_ns <= now_ns)
            return entry;
        *due_ns = entry->plan_due_ns < *due_ns ? entry->plan_due_ns : *due_ns;
    }
    return NULL;
}

bool gy_steer(gy_placement *placement, int64_t *due_ns)
{
    *due_ns = GY_NEVER;
    if (!gy_leads(placement)) {
        gyre_error err;
        gyre_status status = gy_not_leading(placement, &err);
        gy_steer_refuse(placement, status, err.text);
        return false;
    }
    if (placement->asks) {
        answer_asks(placement);
        return true;
    }
    int64_t now_ns = gy_now_ns();
    if (!gy_lead_heard(placement, now_ns, due_ns))
        return false;
    struct gy_collection_entry *entry = next_to_steer(placement, now_ns, due_ns), *next;
    if (!entry)
        return false;
    uint32_t leaving = leaving_count(placement);
    steer_collection(placement, entry, now_ns);
    bool moves_ended = leaving_count(placement) < leaving;
    HASH_ITER(hh, placement->collections, entry, next)
        entry->replan |= moves_ended;
    return true;
}
