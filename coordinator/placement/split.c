/* A shard becomes two: what is asked for, and the steps that follow from what nodes report. Each is one change of the catalog,
 * which alone says where a split stands: a coordinator that starts or comes to lead goes on from there.
 *
 *   asked for → intent committed → parts of the child reported → the child is appended to the record, hidden → its members are
 *   told, it serves → the shard keeps the lower half, both are shown
 *
 * What a crash leaves: before the child is in the record, members hold parts that wait, and report them to whoever leads next;
 * after that, a member that was not told is one of an older epoch, which hears of it with its next report. */
#include "placement/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Members that are well but not in sync, those of codes only too, make their parts a moment later, and are waited for so long: a
 * part that comes too late is copied anew, over the network. */
#define STRAGGLERS_NS (3 * GY_SECOND_NS)
enum { CHILDLESS_REPORTS = 2 }; /* the list of one may be older than the narrowing that it tells of */

bool gy_split_under_way(const struct gy_collection_entry *entry)
{
    bool splits = entry->split_begins;
    for (uint32_t i = 0; i < entry->record.spec.shards; i++)
        splits |= entry->record.shards[i].split.shard != 0;
    return splits;
}

bool gy_split_has_child(const gy_collection_record *record, uint32_t shard)
{
    return record->shards[shard].split.shard && record->shards[shard].split.shard < record->spec.shards;
}

const struct gy_shard_config *gy_split_parent(const gy_collection_record *record, uint32_t child)
{
    for (uint32_t i = 0; child && i < record->spec.shards; i++)
        if (record->shards[i].split.shard == child)
            return &record->shards[i];
    return NULL;
}

/* ---- what members say ---- */

/* Whether the shard is being split and its child is not in the record yet. */
static bool makes_child(const struct gy_collection_entry *entry, uint32_t shard)
{
    return entry->record.shards[shard].split.shard >= entry->record.spec.shards;
}

static bool childless(const struct gy_member_entry *member) { return member->childless_reports >= CHILDLESS_REPORTS; }

void gy_split_heard(struct gy_collection_entry *entry, uint32_t shard, uint32_t at, const Gyre__Node__ReplicaStatus *said,
                    const Gyre__Node__ReplicaStatus *part)
{
    if (!makes_child(entry, shard))
        return;
    const struct gy_shard_config *config = &entry->record.shards[shard];
    struct gy_member_entry *member = &entry->shards[shard].members[at];
    uint64_t seq = part && part->waiting && part->member == config->members[at].id ? part->applied_seq : 0;
    struct gy_hash_range owned = {said ? said->hash_first : 0, said ? said->hash_last : 0};
    bool opens = part && part->restoring; /* its node has just started, and does not know yet what it has there */
    bool without = !seq && !opens && said && !said->restoring && gy_range_covers(gy_config_kept_range(config), owned);
    bool before = childless(member);
    uint32_t reports = member->childless_reports;
    member->childless_reports = !without ? 0 : reports < CHILDLESS_REPORTS ? reports + 1 : reports;
    entry->replan |= member->child_seq != seq || childless(member) != before;
    member->child_seq = seq;
}

/* A member that was built from another one's rows after the narrowing never makes a part. In sync it would count for the shard
 * and not for the child, so it waits until that is configured; but not where too few are in sync to acknowledge the narrowing, of
 * which nobody has told yet. */
bool gy_split_lets_join(const struct gy_collection_entry *entry, uint32_t shard, uint32_t at)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    const struct gy_member_entry *members = entry->shards[shard].members;
    if (!makes_child(entry, shard) || members[at].child_seq)
        return true;
    bool narrowed = false;
    for (uint32_t i = 0; i < config->member_count; i++)
        narrowed |= members[i].child_seq || members[i].childless_reports;
    return !narrowed && gy_config_in_sync_count(config) < config->min_copies;
}

/* ---- steps ---- */

/* Whether a member that made no part yet is at it, as far as anybody knows. */
static bool may_follow(const struct gy_member_entry *member)
{
    return gy_table_member_up(member) && !member->restoring && !childless(member) && !member->child_seq;
}

static bool child_step(struct gy_collection_entry *entry, uint32_t shard, int64_t now_ns, struct gy_config_change *out,
                       int64_t *due_ns)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    struct gy_shard_entry *known = &entry->shards[shard];
    bool made[GY_MEMBERS_MAX], straggles = false;
    uint64_t made_seq[GY_MEMBERS_MAX];
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member_entry *member = &known->members[i];
        made[i] = member->child_seq != 0;
        made_seq[i] = made[i] ? member->child_seq : childless(member) ? member->applied_seq : 0;
        straggles |= may_follow(member);
    }
    *out = (struct gy_config_change){.shard = config->split.shard, .reason = "members of the shard that is split have made it"};
    if (!gy_plan_split_child(config, made, made_seq, &out->config)) {
        known->child_due_ns = 0;
        return false;
    }
    if (!known->child_due_ns)
        known->child_due_ns = now_ns + STRAGGLERS_NS;
    if (!straggles || now_ns >= known->child_due_ns)
        return true;
    *due_ns = known->child_due_ns < *due_ns ? known->child_due_ns : *due_ns;
    return false;
}

static bool switch_step(const struct gy_collection_entry *entry, uint32_t shard, struct gy_config_change *out)
{
    const struct gy_shard_config *config = &entry->record.shards[shard], *child = &entry->record.shards[config->split.shard];
    const struct gy_member_entry *primary = gy_table_primary(entry, config->split.shard);
    bool serves = gy_table_member_up(primary) && primary->serves && primary->epoch == child->epoch;
    *out = (struct gy_config_change){.shard = shard, .reason = "the other half serves: the split is done"};
    return gy_plan_split_switch(config, child, serves, &out->config);
}

bool gy_split_step(struct gy_collection_entry *entry, uint32_t shard, int64_t now_ns, struct gy_config_change *out,
                   int64_t *due_ns)
{
    if (!entry->record.shards[shard].split.shard)
        return false;
    return makes_child(entry, shard) ? child_step(entry, shard, now_ns, out, due_ns) : switch_step(entry, shard, out);
}

void gy_split_note(gy_placement *placement, const struct gy_collection_entry *entry, const struct gy_config_change *change)
{
    const struct gy_shard_config *next = &change->config;
    uint32_t shards = entry->record.spec.shards;
    uint32_t into = change->shard < shards ? entry->record.shards[change->shard].split.shard : 0;
    if (into == next->split.shard && change->shard < shards)
        return;
    const char *event = change->shard == shards ? "split_child" : next->split.shard ? "split_begun" : "split_done";
    if (into)
        gy_counter_add(placement->splits, 1);
    char range[36]; /* two hashes of 16 digits */
    snprintf(range, sizeof range, "%016" PRIx64 "-%016" PRIx64, next->range.first, next->range.last);
    gy_log(GY_LOG_INFO, event, "collection=%s shard=%u epoch=%" PRIu64 " into=%u hashes=%s reason=%s", entry->record.spec.name,
           change->shard, next->epoch, into ? into : next->split.shard, range, change->reason);
}

/* ---- asked for ---- */

/* Why a member is not where and what it shall be; NULL: it is. */
static const char *unsettled(const gy_collection_record *record, const struct gy_member *configured,
                             const struct gy_member_entry *member)
{
    return configured->leaving                                            ? "is leaving"
           : member->node->health.state != GY_NODE_UP                     ? "is on a node that is down"
           : member->presence != GY_PRESENCE_HELD                         ? "is not there, as far as its node has said"
           : member->lost                                                 ? "is damaged"
           : member->troubled_since_ns                                    ? "cannot be opened"
           : member->restoring                                            ? "is being built from another one"
           : configured->kind == GY_MEMBER_FULL && !configured->in_sync   ? "is not in sync"
           : member->codebook_version < record->codebook_version          ? "has codes that are being made anew"
                                                                          : NULL;
}

static gyre_status check_settled(const gy_placement *placement, const struct gy_collection_entry *entry, uint32_t shard,
                                 gyre_error *err)
{
    const gy_collection_record *record = &entry->record;
    const struct gy_shard_config *config = &record->shards[shard];
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        const char *why = unsettled(record, member, &entry->shards[shard].members[i]);
        if (why)
            return gyre_fail(err, GYRE_PRECONDITION, "member %u on node %s %s", member->id, member->node, why);
    }
    struct gy_plan_node *nodes;
    struct gy_plan_world world;
    struct gy_plan_fact facts[GY_MEMBERS_MAX];
    struct gy_plan plan;
    struct gy_plan_wish wish = {record->spec.copies, record->spec.quantized, record->spec.min_copies};
    int64_t due_ns;
    GY_TRY(gy_table_world(placement, gy_now_ns(), &nodes, &world, &due_ns, err));
    gy_steer_facts(entry, shard, facts);
    gy_plan_shard(config, &wish, facts, &world, &plan);
    free(nodes);
    if (plan.reason)
        return gyre_fail(err, GYRE_PRECONDITION, "%s: %s", plan.change ? "its members are about to change" : "not as wished",
                         plan.reason);
    return GYRE_OK;
}

/* The configuration that begins the split. Under mu. */
static gyre_status plan(const gy_placement *placement, const struct gy_collection_entry *entry, uint32_t shard,
                        struct gy_config_change *change, gyre_error *err)
{
    const gy_collection_record *record = &entry->record;
    if (shard >= gy_collection_shown_shards(record))
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "it has %u", gy_collection_shown_shards(record));
    for (uint32_t i = 0; i < record->spec.shards; i++)
        if (record->shards[i].split.shard)
            return gyre_fail(err, GYRE_PRECONDITION, "shard %u is being split into shard %u; one at a time", i,
                             record->shards[i].split.shard);
    if (entry->split_begins)
        return gyre_fail(err, GYRE_PRECONDITION, "another split of the collection begins just now; one at a time");
    if (entry->training)
        return gyre_fail(err, GYRE_PRECONDITION, "the collection is being trained; split it when that is over");
    if (record->spec.shards >= GY_SHARDS_MAX)
        return gyre_fail(err, GYRE_PRECONDITION, "the collection has %u shards, and may have %d", record->spec.shards,
                         GY_SHARDS_MAX);
    GY_TRY(check_settled(placement, entry, shard, err));
    *change = (struct gy_config_change){.shard = shard, .reason = "a split was asked for"};
    return gy_plan_split_begin(&record->shards[shard], record->spec.shards, &change->config, err);
}

gyre_status gy_placement_split(gy_placement *placement, const char *collection, uint32_t shard, uint64_t *epoch,
                               uint32_t *new_shard, gyre_error *err)
{
    struct gy_config_change change = {0};
    struct gy_collection_entry *entry;
    uint64_t id = 0;
    size_t done;
    pthread_mutex_lock(&placement->mu);
    gyre_status status =
        gy_leads(placement) ? gy_table_active(placement, collection, &entry, err) : gy_not_leading(placement, err);
    if (status == GYRE_OK) {
        id = entry->record.id;
        status = plan(placement, entry, shard, &change, err);
        entry->split_begins |= status == GYRE_OK; /* no training begins meanwhile */
        if (status != GYRE_OK)
            gyre_wrap(err, status, "shard %u of '%s'", shard, collection);
    }
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    status = gy_steer_commit(placement, id, &change, 1, &done, err);
    pthread_mutex_lock(&placement->mu);
    entry = gy_table_collection_of(placement, id);
    if (entry)
        entry->split_begins = false;
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    GY_TRY(status);
    if (!done)
        return gyre_fail(err, GYRE_ABORTED, "shard %u of '%s' was changed meanwhile; try again", shard, collection);
    *epoch = change.config.epoch;
    *new_shard = change.config.split.shard;
    return GYRE_OK;
}
