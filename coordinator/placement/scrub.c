/* Members of a shard at one seq, in one codebook, hold the same; their reports carry digests of it. Two that differ cannot both be
 * right, and which of them is wrong only its own disk tells: both are asked to check themselves, and the damaged one is lost from
 * then on. The same check on request. */
#include "placement/state.h"
#include "routing/ask.h"

#include <inttypes.h>
#include <stdlib.h>

enum { TOGETHER_MAX = 128 }; /* requests under way; a node has room for more and does one at a time */
#define SUSPECT_DEADLINE_NS (3600 * GY_SECOND_NS)
#define SUSPECT_AGAIN_NS (600 * GY_SECOND_NS)

/* ---- members that differ ---- */

static bool comparable(const struct gy_member_entry *member)
{
    return member->presence == GY_PRESENCE_HELD && !member->lost && !member->restoring && !member->waiting &&
           member->codebook_version;
}

static bool differ(const struct gy_member_entry *a, const struct gy_member_entry *b, bool vectors)
{
    return a->applied_seq == b->applied_seq && a->codebook_version == b->codebook_version &&
           (a->digests[0] != b->digests[0] || a->digests[1] != b->digests[1] || (vectors && a->digests[2] != b->digests[2]));
}

struct suspect {
    uint64_t collection_id;
    uint32_t shard, member;
    char node[GY_MEMBER_NODE_BYTES_MAX + 1];
};

static void on_checked(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct suspect *suspect = arg;
    gyre_error why = {0};
    Gyre__Node__ScrubReply *reply = NULL;
    if (status == GYRE_OK)
        status = gy_wire_unpack(&reply, &gyre__node__scrub_reply__descriptor, body, bytes, &why);
    else
        why = *err;
    if (status != GYRE_OK)
        gy_log(GY_LOG_WARN, "suspect_not_checked", "collection_id=%" PRIu64 " shard=%u member=%u node=%s error=%s",
               suspect->collection_id, suspect->shard, suspect->member, suspect->node, why.text);
    else
        gy_log(reply->damaged ? GY_LOG_ERROR : GY_LOG_WARN, "suspect_checked",
               "collection_id=%" PRIu64 " shard=%u member=%u node=%s damaged=%" PRIu64 " first=%s", suspect->collection_id,
               suspect->shard, suspect->member, suspect->node, reply->damaged, reply->damaged ? reply->first : "nothing");
    gy_wire_free(reply);
    free(suspect);
}

static void ask_suspect(const struct gy_collection_entry *entry, uint32_t shard, uint32_t index, int64_t now_ns)
{
    struct gy_member_entry *member = &entry->shards[shard].members[index];
    const struct gy_member *configured = &entry->record.shards[shard].members[index];
    Gyre__Node__Scrub request = GYRE__NODE__SCRUB__INIT;
    gy_bytes packed = {0};
    if (!member->node->link || (member->suspected_ns && now_ns - member->suspected_ns < SUSPECT_AGAIN_NS))
        return;
    struct suspect *suspect = malloc(sizeof *suspect);
    request.collection_id = entry->record.id, request.shard = shard, request.member = configured->id;
    if (!suspect || gy_wire_pack(&packed, &request.base, GY_BUS_MESSAGE_BYTES_MAX, NULL) != GYRE_OK) {
        free(suspect); /* with the next report */
        return;
    }
    *suspect = (struct suspect){.collection_id = entry->record.id, .shard = shard, .member = configured->id};
    memcpy(suspect->node, configured->node, sizeof suspect->node);
    member->suspected_ns = now_ns;
    gy_log(GY_LOG_ERROR, "replica_suspected", "collection=%s shard=%u member=%u node=%s applied_seq=%" PRIu64
           " action=checks_itself", entry->record.spec.name, shard, configured->id, configured->node, member->applied_seq);
    gy_peer_call(gy_link_peer(member->node->link), GYRE__NODE__MESSAGE_TYPE__SCRUB, packed.data, packed.size,
                 now_ns + SUSPECT_DEADLINE_NS, on_checked, suspect);
    gy_bytes_free(&packed);
}

void gy_compare_members(gy_placement *placement, const struct gy_collection_entry *entry, uint32_t shard, int64_t now_ns)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    for (uint32_t a = 0; a < config->member_count; a++)
        for (uint32_t b = a + 1; b < config->member_count; b++) {
            const struct gy_member_entry *x = &entry->shards[shard].members[a], *y = &entry->shards[shard].members[b];
            bool vectors = config->members[a].kind == GY_MEMBER_FULL && config->members[b].kind == GY_MEMBER_FULL;
            if (!comparable(x) || !comparable(y) || !differ(x, y, vectors))
                continue;
            gy_counter_add(placement->differing, 1);
            ask_suspect(entry, shard, a, now_ns);
            ask_suspect(entry, shard, b, now_ns);
        }
}

/* ---- on request ---- */

struct checks {
    Gyre__V1__ScrubCollectionReply *reply;
    Gyre__Node__Scrub *requests;  /* [count], as are the next two: of the members that are asked */
    struct gy_gather_call *calls;
    gy_link **links;              /* held */
    size_t *places;               /* in the reply */
    size_t count;
};

static void checks_fini(struct checks *checks)
{
    for (size_t i = 0; i < checks->count; i++) {
        gy_wire_free(checks->calls[i].reply);
        gy_link_release(checks->links[i]);
    }
    free(checks->requests);
    free(checks->calls);
    free(checks->links);
    free(checks->places);
    gy_wire_free(checks->reply);
}

static gyre_status checks_init(struct checks *checks, size_t room, gyre_error *err)
{
    *checks = (struct checks){.requests = calloc(room, sizeof *checks->requests),
                              .calls = calloc(room, sizeof *checks->calls),
                              .links = calloc(room, sizeof(gy_link *)),
                              .places = calloc(room, sizeof *checks->places),
                              .reply = malloc(sizeof *checks->reply)};
    if (checks->reply)
        gyre__v1__scrub_collection_reply__init(checks->reply);
    if (checks->reply)
        checks->reply->members = calloc(room, sizeof(Gyre__V1__ScrubbedMember *));
    return checks->requests && checks->calls && checks->links && checks->places && checks->reply && checks->reply->members
               ? GYRE_OK
               : gyre_fail(err, GYRE_NO_MEMORY, "checks of %zu replicas", room);
}

static gyre_status say(Gyre__V1__ScrubbedMember *member, Gyre__V1__ScrubVerdict verdict, const char *what, gyre_error *err)
{
    member->verdict = verdict;
    member->what = strdup(what);
    return member->what ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "check of a replica");
}

/* One member: to be asked, or what is known of it. Under mu. */
static gyre_status add_member(struct checks *checks, const struct gy_collection_entry *entry, uint32_t shard, uint32_t index,
                              gyre_error *err)
{
    const struct gy_shard_config *config = &entry->record.shards[shard];
    const struct gy_member *configured = &config->members[index];
    const struct gy_member_entry *member = &entry->shards[shard].members[index];
    Gyre__V1__ScrubbedMember *sent = malloc(sizeof *sent);
    if (!sent)
        return gyre_fail(err, GYRE_NO_MEMORY, "check of a replica");
    gyre__v1__scrubbed_member__init(sent);
    checks->reply->members[checks->reply->n_members++] = sent;
    sent->shard = shard, sent->member = configured->id;
    sent->primary = configured->id == config->primary, sent->quantized = configured->kind == GY_MEMBER_QUANTIZED;
    sent->node = strdup(configured->node);
    if (!sent->node)
        return gyre_fail(err, GYRE_NO_MEMORY, "check of a replica");
    if (member->lost)
        return say(sent, GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_DAMAGED, "it was found damaged before and does not serve", err);
    if (!member->node->link || member->node->health.state != GY_NODE_UP || member->presence != GY_PRESENCE_HELD)
        return say(sent, GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_NOT_CHECKED, "its node is away, or has no such replica yet", err);
    size_t i = checks->count++;
    gyre__node__scrub__init(&checks->requests[i]);
    checks->requests[i].collection_id = entry->record.id, checks->requests[i].shard = shard;
    checks->requests[i].member = configured->id;
    checks->links[i] = gy_link_hold(member->node->link);
    checks->places[i] = checks->reply->n_members - 1;
    checks->calls[i] = (struct gy_gather_call){.peer = gy_link_peer(checks->links[i]),
                                               .type = GYRE__NODE__MESSAGE_TYPE__SCRUB,
                                               .request = &checks->requests[i].base,
                                               .reply_type = &gyre__node__scrub_reply__descriptor};
    return GYRE_OK;
}

/* Under mu. */
static gyre_status add_members(gy_placement *placement, struct checks *checks, const struct gy_scrub_wish *wish, gyre_error *err)
{
    struct gy_collection_entry *entry;
    GY_TRY(gy_table_active(placement, wish->collection, &entry, err));
    if (wish->shard && *wish->shard >= entry->record.spec.shards)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "shard %u of '%s': it has %u", *wish->shard, wish->collection,
                         entry->record.spec.shards);
    uint32_t first = wish->shard ? *wish->shard : 0, behind = wish->shard ? first + 1 : entry->record.spec.shards;
    GY_TRY(checks_init(checks, (size_t)(behind - first) * GY_MEMBERS_MAX, err));
    for (uint32_t shard = first; shard < behind; shard++)
        for (uint32_t i = 0; i < entry->record.shards[shard].member_count; i++)
            GY_TRY(add_member(checks, entry, shard, i, err));
    return GYRE_OK;
}

static gyre_status take_answer(struct checks *checks, size_t i, gyre_error *err)
{
    Gyre__V1__ScrubbedMember *member = checks->reply->members[checks->places[i]];
    const struct gy_gather_call *call = &checks->calls[i];
    const Gyre__Node__ScrubReply *said = call->reply;
    if (call->status != GYRE_OK)
        return say(member, GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_NOT_CHECKED, call->err.text, err);
    member->points = said->points, member->bytes = said->bytes, member->took_ms = said->took_ms;
    member->findings = said->damaged;
    return say(member, said->damaged ? GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_DAMAGED : GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_WHOLE,
               said->first, err);
}

gyre_status gy_placement_scrub(gy_placement *placement, const struct gy_scrub_wish *wish, Gyre__V1__ScrubCollectionReply **out,
                               gyre_error *err)
{
    struct checks checks = {0};
    pthread_mutex_lock(&placement->mu);
    gyre_status status = add_members(placement, &checks, wish, err);
    pthread_mutex_unlock(&placement->mu);
    for (size_t i = 0; i < checks.count && status == GYRE_OK; i += TOGETHER_MAX) {
        size_t left = checks.count - i;
        gy_ask(checks.calls + i, left < TOGETHER_MAX ? left : TOGETHER_MAX,
               gy_placement_deadline(wish->deadline_ns, SUSPECT_DEADLINE_NS), wish->cancelled, wish->cancelled_arg);
    }
    for (size_t i = 0; i < checks.count && status == GYRE_OK; i++)
        status = take_answer(&checks, i, err);
    if (status == GYRE_OK)
        *out = GY_TAKE(checks.reply);
    checks_fini(&checks);
    return status;
}
