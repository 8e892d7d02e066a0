/* What decides, and only that. One thing at a time is on its way to the disk, since the driver has one thread: a group that is
 * closed later carries more writes through the same sync. What is sent to followers does not wait for them.
 *
 * What a failure leaves behind: an append that failed may be on disk or not, so its writes are answered "unknown", nothing more
 * is accepted or acknowledged, and the process ends. The log decides at the next start. */
#include "replica/core.h"

#include <assert.h>
#include <string.h>

/* allowed[from][to] */
static const bool allowed[GY_REPLICA_FAILED + 1][GY_REPLICA_FAILED + 1] = {
    [GY_REPLICA_OPENING] = {[GY_REPLICA_SERVING] = true, [GY_REPLICA_CLOSED] = true},
    [GY_REPLICA_SERVING] = {[GY_REPLICA_CLOSING] = true, [GY_REPLICA_FAILED] = true},
    [GY_REPLICA_CLOSING] = {[GY_REPLICA_CLOSED] = true, [GY_REPLICA_FAILED] = true},
    [GY_REPLICA_FAILED] = {[GY_REPLICA_CLOSED] = true},
};

static void move(gy_replica_core *core, gy_replica_state to)
{
    assert(allowed[core->state][to]);
    core->state = to;
}

static struct gy_replica_action *act(struct gy_replica_actions *actions, gy_replica_action_kind kind)
{
    assert(actions->count < sizeof actions->items / sizeof *actions->items);
    struct gy_replica_action *action = &actions->items[actions->count++];
    *action = (struct gy_replica_action){.kind = kind};
    return action;
}

static bool working(const gy_replica_core *core)
{
    return core->state == GY_REPLICA_SERVING || core->state == GY_REPLICA_CLOSING;
}

bool gy_replica_core_idle(const gy_replica_core *core)
{
    return !core->appending && !core->applying && !core->storing;
}

bool gy_replica_core_primary(const gy_replica_core *core)
{
    return working(core) && core->config.primary == core->self;
}

/* ---- the log's epochs ---- */

uint64_t gy_replica_core_epoch_at(const gy_replica_core *core, uint64_t seq)
{
    if (seq > core->last)
        return 0;
    for (size_t i = core->start_count; i-- > 0;)
        if (core->starts[i].first <= seq)
            return core->starts[i].epoch;
    return 0;
}

/* The last entry at or below seq whose epoch is not above `epoch`. */
static uint64_t last_not_above(const gy_replica_core *core, uint64_t epoch, uint64_t seq)
{
    seq = seq < core->last ? seq : core->last;
    for (size_t i = core->start_count; i-- > 0 && seq > 0;)
        if (core->starts[i].first <= seq && core->starts[i].epoch > epoch)
            seq = core->starts[i].first - 1;
    return seq;
}

/* An entry of this epoch is the log's last from now on. */
static void extend(gy_replica_core *core, uint64_t epoch, uint64_t seq)
{
    core->last = seq;
    if (seq == 1 && core->start_count == 0) /* nothing is trimmed: the log begins behind entry 0 */
        core->starts[core->start_count++] = (struct gy_epoch_start){0, 0};
    if (core->start_count && core->starts[core->start_count - 1].epoch == epoch)
        return;
    if (core->start_count == GY_EPOCH_STARTS_MAX) /* the oldest is forgotten: what is below is not known any more */
        memmove(core->starts, core->starts + 1, --core->start_count * sizeof *core->starts);
    core->starts[core->start_count++] = (struct gy_epoch_start){epoch, seq};
}

/* Entries from seq on are no longer in the log. */
static void cut(gy_replica_core *core, uint64_t seq)
{
    core->last = seq - 1;
    while (core->start_count && core->starts[core->start_count - 1].first >= seq)
        core->start_count--;
}

/* ---- answers to writers ---- */

static void reply(struct gy_replica_actions *actions, uint64_t token, gy_reply_why why, uint64_t seq)
{
    struct gy_replica_action *action = act(actions, GY_DO_REPLY);
    action->token = token;
    action->why = why;
    action->seq = seq;
}

static struct gy_core_write *write_at(gy_replica_core *core, size_t i)
{
    return &core->writes[(core->head + i) % GY_CORE_WRITES_MAX];
}

static struct gy_core_write pop_oldest(gy_replica_core *core)
{
    struct gy_core_write write = *write_at(core, 0);
    core->head = (core->head + 1) % GY_CORE_WRITES_MAX;
    core->count--;
    return write;
}

/* Answers every write that has no seq yet; those keep nothing behind. */
static void refuse_waiting(gy_replica_core *core, struct gy_replica_actions *actions, gy_reply_why why)
{
    for (size_t i = core->logged; i < core->count; i++)
        reply(actions, write_at(core, i)->token, why, 0);
    core->count = core->logged;
}

/* Answers those that have one: whether they will be committed is not known here. */
static void give_up_logged(gy_replica_core *core, struct gy_replica_actions *actions)
{
    while (core->logged) {
        reply(actions, pop_oldest(core).token, GY_REPLY_UNKNOWN, 0);
        core->logged--;
    }
}

static void fail(gy_replica_core *core, gy_replica_action_kind end, struct gy_replica_actions *actions)
{
    refuse_waiting(core, actions, GY_REPLY_NOT_SERVING);
    give_up_logged(core, actions);
    if (core->storing && core->config_token)
        reply(actions, core->config_token, GY_REPLY_UNKNOWN, 0);
    if (core->answering) {
        struct gy_replica_action *action = act(actions, GY_DO_ANSWER);
        action->token = core->answer_token;
        action->reply = core->answer;
        action->reply.result = GY_APPEND_BUSY;
    }
    core->appending = core->applying = core->storing = core->answering = false;
    /* What is not synced is not in the log as far as anybody may assume. */
    cut(core, core->synced + 1);
    move(core, GY_REPLICA_FAILED);
    act(actions, end);
}

static void finish_if_drained(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (core->state != GY_REPLICA_CLOSING || core->count || !gy_replica_core_idle(core))
        return;
    move(core, GY_REPLICA_CLOSED);
    act(actions, GY_DO_FINISH);
}

/* ---- members ---- */

static bool in_sync(const gy_replica_core *core, uint32_t id)
{
    const struct gy_member *member = gy_config_member(&core->config, id);
    return member && member->in_sync;
}

static bool asked_to_join(const gy_replica_core *core, uint32_t id)
{
    for (size_t i = 0; i < core->asked_count; i++)
        if (core->asked[i] == id)
            return true;
    return false;
}

static struct gy_core_peer *peer_of(gy_replica_core *core, uint32_t id)
{
    for (size_t i = 0; i < core->peer_count; i++)
        if (core->peers[i].id == id)
            return &core->peers[i];
    return NULL;
}

/* Whether nothing is committed without this member. */
static bool needed(const gy_replica_core *core, const struct gy_core_peer *peer)
{
    return peer->joining || in_sync(core, peer->id) || asked_to_join(core, peer->id);
}

/* A row for every other member. A primary that stays keeps what it knows of those that stay. */
static void make_peers(gy_replica_core *core, bool keep, int64_t now_ns)
{
    struct gy_core_peer older[GY_MEMBERS_MAX];
    size_t older_count = keep ? core->peer_count : 0;
    memcpy(older, core->peers, sizeof older);
    core->peer_count = 0;
    for (uint32_t i = 0; i < core->config.member_count; i++) {
        uint32_t id = core->config.members[i].id;
        if (id == core->self)
            continue;
        struct gy_core_peer *peer = &core->peers[core->peer_count++];
        /* One in sync was at the end; of another nobody knows. */
        *peer = (struct gy_core_peer){.id = id, .next = core->synced + 1, .acked_ns = INT64_MIN,
                                      .caught_up_ns = core->config.members[i].in_sync ? now_ns : now_ns - GY_LAG_NS};
        for (size_t k = 0; k < older_count; k++)
            if (older[k].id == id)
                *peer = older[k];
    }
}

/* ---- committing and applying ---- */

static void apply_committed(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (!gy_replica_core_idle(core) || core->applied == core->committed || !working(core))
        return;
    core->applying = true;
    struct gy_replica_action *action = act(actions, GY_DO_APPLY);
    action->seq = core->applied + 1;
    action->upto = core->committed;
}

/* The highest seq that every member whom a commit needs has on disk. */
static uint64_t commit_rule(const gy_replica_core *core)
{
    uint64_t all_have = core->synced;
    for (size_t i = 0; i < core->peer_count; i++)
        if (needed(core, &core->peers[i]) && core->peers[i].matched < all_have)
            all_have = core->peers[i].matched;
    return all_have;
}

static void commit(gy_replica_core *core, int64_t now_ns)
{
    if (!gy_replica_core_primary(core) || core->outdated || now_ns < core->gate_ns)
        return;
    uint64_t all_have = commit_rule(core);
    if (all_have > core->committed)
        core->committed = all_have;
}

/* ---- primary: sending ---- */

static void send(gy_replica_core *core, struct gy_core_peer *peer, uint64_t upto, int64_t now_ns,
                 struct gy_replica_actions *actions)
{
    uint64_t prev_seq = peer->restore ? core->starts[0].first : peer->next - 1;
    struct gy_replica_action *action = act(actions, GY_DO_SEND);
    action->member = peer->id;
    action->upto = peer->restore ? prev_seq : upto;
    action->with_config = peer->epoch < core->config.epoch;
    action->append = (struct gy_append){.epoch = core->config.epoch,
                                        .from = core->self,
                                        .prev_epoch = gy_replica_core_epoch_at(core, prev_seq),
                                        .prev_seq = prev_seq,
                                        .committed = core->committed,
                                        .last = core->synced,
                                        .sent_ns = now_ns,
                                        .restore = peer->restore};
    peer->under_way = true;
    peer->sent_ns = now_ns;
    peer->sent_last = action->upto == core->synced ? action->upto : UINT64_MAX;
    peer->told = core->committed;
}

/* What may be sent: quantized members cannot take an entry back, so they get none before it is committed. */
static uint64_t send_limit(const gy_replica_core *core, const struct gy_core_peer *peer)
{
    const struct gy_member *member = gy_config_member(&core->config, peer->id);
    return member && member->kind == GY_MEMBER_FULL ? core->synced : core->committed;
}

static void send_what_is_due(gy_replica_core *core, int64_t now_ns, struct gy_replica_actions *actions)
{
    for (size_t i = 0; i < core->peer_count && gy_replica_core_primary(core); i++) {
        struct gy_core_peer *peer = &core->peers[i];
        uint64_t limit = send_limit(core, peer);
        peer->restore = core->start_count && peer->next <= core->starts[0].first;
        bool news = peer->known && !peer->restore && (peer->next <= limit || peer->told < core->committed);
        if (!peer->under_way && now_ns >= peer->retry_ns &&
            (news || !peer->known || now_ns - peer->sent_ns >= GY_PING_NS))
            send(core, peer, peer->known && !peer->restore && peer->next <= limit ? limit : peer->next - 1, now_ns, actions);
    }
}

/* ---- primary: who is in sync ---- */

/* Whether it may be asked in when it has what is committed. */
static bool may_join(const gy_replica_core *core, const struct gy_core_peer *peer)
{
    const struct gy_member *member = gy_config_member(&core->config, peer->id);
    return member && member->kind == GY_MEMBER_FULL && !member->in_sync && !member->leaving && core->state == GY_REPLICA_SERVING;
}

/* A member that was at the end when it was last sent to is waited for until it has that too: with writes coming all the time,
 * and nobody else to wait for, more would be committed by each of its answers, and it would be behind for ever. */
static void wait_for_joiners(gy_replica_core *core, int64_t now_ns)
{
    for (size_t i = 0; i < core->peer_count; i++) {
        struct gy_core_peer *peer = &core->peers[i];
        peer->joining = peer->known && now_ns - peer->caught_up_ns < GY_LAG_NS && may_join(core, peer);
    }
}

/* Up to the takeover too: what an earlier primary acknowledged may lie between `committed`, as far as it is known here, and
 * there. */
static bool caught_up(const gy_replica_core *core, const struct gy_core_peer *peer, int64_t now_ns)
{
    return peer->known && peer->matched >= core->committed && peer->matched >= core->takeover &&
           now_ns - peer->caught_up_ns < GY_LAG_NS;
}

/* While it closes it takes no configuration, so it asks for none. */
static bool may_ask(const gy_replica_core *core)
{
    return gy_replica_core_primary(core) && core->state == GY_REPLICA_SERVING && !core->ask_under_way && !core->storing;
}

/* Asks for the set as it should be, if that is not the set as it is, or for the configuration if somebody knows a newer one. */
static void ask(gy_replica_core *core, int64_t now_ns, struct gy_replica_actions *actions)
{
    if (!may_ask(core) || now_ns < core->ask_retry_ns)
        return;
    struct gy_replica_action wish = {.kind = GY_DO_ASK, .epoch = core->config.epoch};
    bool differs = core->asking || core->outdated;
    for (uint32_t i = 0; i < core->config.member_count; i++) {
        const struct gy_member *member = &core->config.members[i];
        const struct gy_core_peer *peer = peer_of(core, member->id);
        bool wanted = member->in_sync;
        if (peer && member->in_sync)
            wanted = now_ns - peer->caught_up_ns < GY_LAG_NS;
        else if (peer && may_join(core, peer))
            wanted = caught_up(core, peer, now_ns);
        differs |= wanted != member->in_sync;
        if (wanted)
            wish.in_sync.ids[wish.in_sync.count++] = member->id;
        if (wanted && !member->in_sync && !asked_to_join(core, member->id))
            core->asked[core->asked_count++] = member->id;
    }
    if (!differs)
        return;
    core->asking = core->ask_under_way = true;
    *act(actions, GY_DO_ASK) = wish;
}

/* What is sent does not wait for the disk, though its turn came later in the step. */
static void put_io_last(struct gy_replica_actions *actions)
{
    for (size_t i = 0; i + 1 < actions->count; i++) {
        if (actions->items[i].kind < GY_DO_APPEND)
            continue;
        struct gy_replica_action io = actions->items[i];
        memmove(&actions->items[i], &actions->items[i + 1], (actions->count - i - 1) * sizeof io);
        actions->items[actions->count - 1] = io;
        return;
    }
}

/* All a primary may have to do after whatever happened. */
static void go_on(gy_replica_core *core, int64_t now_ns, struct gy_replica_actions *actions)
{
    if (working(core)) {
        wait_for_joiners(core, now_ns);
        commit(core, now_ns);
        send_what_is_due(core, now_ns, actions);
        ask(core, now_ns, actions);
        apply_committed(core, actions);
        if (core->giving_up && gy_replica_core_idle(core)) {
            refuse_waiting(core, actions, GY_REPLY_NOT_SERVING);
            give_up_logged(core, actions);
        }
    }
    finish_if_drained(core, actions);
    put_io_last(actions);
}

/* ---- configurations ---- */

static void take_over(gy_replica_core *core, int64_t now_ns)
{
    core->takeover = core->last;
    core->gate_ns = core->promised_until_ns;
    core->gate_member = core->promised_to;
    make_peers(core, false, now_ns);
}

static void adopt(gy_replica_core *core, const struct gy_shard_config *config, int64_t now_ns, struct gy_replica_actions *actions)
{
    bool was_primary = gy_replica_core_primary(core);
    /* One that joined has been in sync since now, whatever is known of it here: an earlier process may have asked it in. One that
     * left is not waited for before it was at the end again. */
    for (size_t i = 0; i < core->peer_count; i++) {
        const struct gy_member *member = gy_config_member(config, core->peers[i].id);
        if (member && member->in_sync != in_sync(core, member->id))
            core->peers[i].caught_up_ns = member->in_sync ? now_ns : now_ns - GY_LAG_NS;
    }
    bool stays = was_primary && config->primary == core->self && config->primary_since <= core->config.epoch;
    core->config = *config;
    /* What was asked was to replace an older epoch: it is this configuration, or it will never be. */
    core->asking = core->ask_under_way = core->outdated = false;
    core->asked_count = 0;
    if (was_primary && !stays) {
        refuse_waiting(core, actions, GY_REPLY_EPOCH);
        give_up_logged(core, actions);
        core->peer_count = 0;
    }
    if (!gy_replica_core_primary(core))
        return;
    if (stays)
        make_peers(core, true, now_ns);
    if (stays && gy_config_in_sync_count(&core->config) < core->config.min_copies)
        refuse_waiting(core, actions, GY_REPLY_FEW);
    if (!stays)
        take_over(core, now_ns);
}

static void on_opened(gy_replica_core *core, const struct gy_replica_event *event)
{
    assert(core->state == GY_REPLICA_OPENING && event->applied_seq <= event->seq && event->start_count <= GY_EPOCH_STARTS_MAX);
    core->self = event->self;
    core->config = *event->config;
    core->start_count = event->start_count;
    if (event->start_count)
        memcpy(core->starts, event->starts, event->start_count * sizeof *core->starts);
    core->last = core->synced = event->seq;
    core->applied = core->committed = event->applied_seq;
    move(core, GY_REPLICA_SERVING);
    /* What was promised before is not known; nobody was promised anything if there never was another primary. */
    core->promised_until_ns = core->config.primary_since == 1 && core->config.primary == core->self
                                  ? INT64_MIN
                                  : event->now_ns + GY_PROMISE_NS;
    if (gy_replica_core_primary(core))
        take_over(core, event->now_ns);
    /* Neither is whether the process before asked for a member to join: until the coordinator has made a new epoch, nothing is
     * committed. With nobody to ask for, there is no such question. */
    core->outdated = core->peer_count > 0;
}

static void on_config(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(gy_replica_core_idle(core));
    gy_reply_why why = GY_REPLY_DONE;
    if (event->token == 0) { /* may be the answer to what was asked */
        core->ask_under_way = false;
        core->ask_retry_ns = event->now_ns + GY_RETRY_NS;
    }
    if (core->state != GY_REPLICA_SERVING)
        why = GY_REPLY_NOT_SERVING;
    else if (event->config->epoch < core->config.epoch)
        why = GY_REPLY_EPOCH;
    else if (event->config->epoch > core->config.epoch) {
        core->storing = true;
        core->next_config = *event->config;
        core->config_token = event->token;
        act(actions, GY_DO_STORE_CONFIG);
        return;
    }
    if (event->token)
        reply(actions, event->token, why, 0);
}

static void on_config_stored(gy_replica_core *core, int64_t now_ns, struct gy_replica_actions *actions)
{
    assert(core->storing);
    core->storing = false;
    adopt(core, &core->next_config, now_ns, actions);
    if (core->config_token)
        reply(actions, core->config_token, GY_REPLY_DONE, 0);
}

/* ---- writes ---- */

static void on_write(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    gy_reply_why why = GY_REPLY_DONE;
    if (core->state != GY_REPLICA_SERVING)
        why = GY_REPLY_NOT_SERVING;
    else if (!gy_replica_core_primary(core) || core->outdated || event->epoch < core->config.primary_since ||
             event->epoch > core->config.epoch)
        why = GY_REPLY_EPOCH;
    else if (gy_config_in_sync_count(&core->config) < core->config.min_copies)
        why = GY_REPLY_FEW;
    else if (core->disk_low)
        why = GY_REPLY_DISK;
    else if (core->count == GY_CORE_WRITES_MAX)
        why = GY_REPLY_FULL;
    if (why == GY_REPLY_DONE)
        *write_at(core, core->count++) = (struct gy_core_write){event->token, event->bytes};
    else
        reply(actions, event->token, why, 0);
}

static void on_gathered(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (!gy_replica_core_idle(core) || core->count == core->logged || !gy_replica_core_primary(core))
        return;
    size_t group = 0, bytes = 0;
    for (size_t i = core->logged; i < core->count; i++) {
        bytes += write_at(core, i)->bytes;
        if (group && bytes > core->group_bytes_max)
            break;
        group++;
    }
    struct gy_replica_action *action = act(actions, GY_DO_APPEND);
    action->epoch = core->config.epoch;
    action->seq = core->last + 1;
    action->count = group;
    core->appending = true;
    core->logged += group;
    extend(core, core->config.epoch, core->last + 1);
    core->last += group - 1;
}

static void on_synced(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(core->appending && event->seq == core->last);
    core->appending = false;
    core->synced = event->seq;
    if (!core->answering)
        return;
    core->answering = false;
    if (core->answer_committed > core->committed)
        core->committed = core->answer_committed;
    struct gy_replica_action *action = act(actions, GY_DO_ANSWER);
    action->token = core->answer_token;
    action->reply = core->answer;
}

static void on_applied(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(core->applying && event->seq > core->applied && event->seq <= core->committed);
    core->applying = false;
    bool few = gy_config_in_sync_count(&core->config) < core->config.min_copies;
    while (core->applied < event->seq) {
        uint64_t seq = ++core->applied;
        /* For others nobody waits: their writers spoke to an earlier process or another primary. */
        if (seq + core->logged > core->last) {
            reply(actions, pop_oldest(core).token, few ? GY_REPLY_UNKNOWN : GY_REPLY_DONE, seq);
            core->logged--;
        }
    }
}

/* ---- follower ---- */

static void answer(const gy_replica_core *core, const struct gy_replica_event *event, gy_append_result result,
                   struct gy_replica_actions *actions)
{
    const struct gy_append *append = event->append;
    uint64_t hint = result == GY_APPEND_AHEAD ? core->last
                    : append->prev_epoch     ? last_not_above(core, append->prev_epoch, append->prev_seq)
                                             : core->committed;
    struct gy_replica_action *action = act(actions, GY_DO_ANSWER);
    action->token = event->token;
    action->reply = (struct gy_append_reply){.result = result,
                                             .epoch = core->config.epoch,
                                             .last_epoch = gy_replica_core_epoch_at(core, hint),
                                             .last_seq = hint,
                                             .committed = core->committed,
                                             .synced = result == GY_APPEND_OK ? append->prev_seq + append->count : 0,
                                             .sent_ns = append->sent_ns};
}

/* How many of the append's entries the log has already. */
static size_t entries_alike(const gy_replica_core *core, const struct gy_append *append)
{
    size_t alike = 0;
    while (alike < append->count) {
        uint64_t seq = append->prev_seq + 1 + alike;
        if (seq > core->committed && gy_replica_core_epoch_at(core, seq) != append->epochs[alike])
            break;
        alike++;
    }
    return alike;
}

/* Begins to write the entries behind the first `alike`; they are answered when they are synced. */
static void take_entries(gy_replica_core *core, const struct gy_replica_event *event, size_t alike,
                         struct gy_replica_actions *actions)
{
    const struct gy_append *append = event->append;
    uint64_t first = append->prev_seq + 1 + alike, end = append->prev_seq + append->count;
    bool differs = first <= core->last;
    if (differs) {
        cut(core, first);
        core->synced = core->last;
    }
    for (size_t i = alike; i < append->count; i++)
        extend(core, append->epochs[i], append->prev_seq + 1 + i);
    core->appending = core->answering = true;
    core->answer_token = event->token;
    core->answer = (struct gy_append_reply){
        .result = GY_APPEND_OK, .epoch = core->config.epoch, .synced = end, .committed = core->committed,
        .sent_ns = append->sent_ns};
    core->answer_committed = append->committed < end ? append->committed : end;
    struct gy_replica_action *action = act(actions, GY_DO_APPEND_TAKEN);
    action->token = event->token;
    action->seq = first;
    action->count = append->count - alike;
    action->cut = differs;
}

static void on_append(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    assert(gy_replica_core_idle(core));
    const struct gy_append *append = event->append;
    if (core->state != GY_REPLICA_SERVING) {
        answer(core, event, GY_APPEND_BUSY, actions);
        return;
    }
    if (append->epoch > core->config.epoch) {
        answer(core, event, GY_APPEND_NEW_EPOCH, actions);
        return;
    }
    if (append->epoch < core->config.epoch || append->from != core->config.primary || core->self == core->config.primary) {
        answer(core, event, GY_APPEND_OLD_EPOCH, actions);
        return;
    }
    if (core->last > append->last && gy_replica_core_epoch_at(core, core->last) >= core->config.primary_since) {
        answer(core, event, GY_APPEND_AHEAD, actions);
        return;
    }
    bool matches = append->prev_seq <= core->committed ||
                   (append->prev_seq <= core->last && append->prev_epoch != 0 &&
                    gy_replica_core_epoch_at(core, append->prev_seq) == append->prev_epoch);
    /* Built anew is only what lacks the entry that the primary's log begins behind: a message that was long on its way must not
     * cost what was acknowledged since. A member in sync may hold what the primary does not know to be committed: it is first
     * asked out of the set. */
    if (append->restore && !matches && !core->restoring && !in_sync(core, core->self)) {
        core->restoring = true;
        act(actions, GY_DO_RESTORE);
    }
    if (core->restoring || (append->restore && !matches)) {
        answer(core, event, GY_APPEND_BUSY, actions);
        return;
    }
    size_t alike = matches ? entries_alike(core, append) : 0;
    if (matches && alike < append->count && core->disk_low) {
        answer(core, event, GY_APPEND_BUSY, actions);
        return;
    }
    core->promised_to = event->now_ns >= core->promised_until_ns || core->promised_to == append->from ? append->from : 0;
    if (event->now_ns + GY_PROMISE_NS > core->promised_until_ns)
        core->promised_until_ns = event->now_ns + GY_PROMISE_NS;
    if (!matches) {
        answer(core, event, GY_APPEND_MISMATCH, actions);
        return;
    }
    if (alike < append->count) {
        take_entries(core, event, alike, actions);
        return;
    }
    uint64_t end = append->prev_seq + append->count, committed = append->committed < end ? append->committed : end;
    if (committed > core->committed)
        core->committed = committed;
    answer(core, event, GY_APPEND_OK, actions);
}

/* ---- primary: what followers answer ---- */

static void matched_up_to(struct gy_core_peer *peer, const struct gy_append_reply *reply)
{
    peer->known = true;
    if (reply->synced > peer->matched)
        peer->matched = reply->synced;
    peer->next = peer->matched + 1;
    if (reply->sent_ns == peer->sent_ns && peer->sent_last <= reply->synced)
        peer->caught_up_ns = peer->sent_ns;
}

/* Where the logs may be alike: at the entry the follower names, or further down where our own epochs allow it. What it has
 * committed is alike in any case. Every mismatch leads further down, and there are as many steps as epochs differ. */
static void go_back(gy_replica_core *core, struct gy_core_peer *peer, const struct gy_append_reply *reply)
{
    uint64_t at = last_not_above(core, reply->last_epoch, reply->last_seq < core->synced ? reply->last_seq : core->synced);
    uint64_t surely = reply->committed < core->synced ? reply->committed : core->synced;
    if (reply->last_seq < peer->matched) /* it has less than it had: its disk was lost, or the answer is an old one */
        peer->matched = 0;
    peer->known = at <= surely || gy_replica_core_epoch_at(core, at) == reply->last_epoch;
    peer->next = (at > surely ? at : surely) + 1;
}

static void on_append_reply(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    struct gy_core_peer *peer = peer_of(core, event->member);
    const struct gy_append_reply *reply = event->reply;
    if (!gy_replica_core_primary(core) || !peer)
        return;
    peer->under_way = false;
    peer->heard_ns = event->now_ns;
    if (reply->epoch > core->config.epoch) {
        core->outdated = true;
        peer->retry_ns = event->now_ns + GY_RETRY_NS;
        return;
    }
    switch (reply->result) {
    case GY_APPEND_OK:
    case GY_APPEND_MISMATCH:
        if (reply->epoch != core->config.epoch && reply->epoch < core->config.primary_since)
            return; /* to an earlier primary, or an earlier self */
        if (reply->epoch > peer->epoch)
            peer->epoch = reply->epoch;
        if (event->member == core->gate_member && reply->epoch == core->config.epoch)
            core->gate_ns = INT64_MIN;
        if (reply->sent_ns > peer->acked_ns && reply->sent_ns <= peer->sent_ns)
            peer->acked_ns = reply->sent_ns;
        if (reply->result == GY_APPEND_OK && reply->synced <= core->synced)
            matched_up_to(peer, reply);
        else if (reply->result == GY_APPEND_MISMATCH)
            go_back(core, peer, reply);
        break;
    case GY_APPEND_NEW_EPOCH:
        peer->epoch = 0;
        peer->retry_ns = event->now_ns + GY_RETRY_NS;
        break;
    case GY_APPEND_OLD_EPOCH:
    case GY_APPEND_BUSY:
        peer->retry_ns = event->now_ns + GY_RETRY_NS;
        break;
    case GY_APPEND_AHEAD: /* our log only grows while we live: an answer to an old append is told by that */
        peer->retry_ns = event->now_ns + GY_RETRY_NS;
        if (reply->last_seq > core->last && reply->last_epoch >= core->config.primary_since &&
            reply->last_epoch <= core->config.epoch && gy_replica_core_idle(core))
            fail(core, GY_DO_FENCE, actions);
        break;
    }
}

static void on_send_failed(gy_replica_core *core, const struct gy_replica_event *event)
{
    struct gy_core_peer *peer = peer_of(core, event->member);
    if (!peer)
        return;
    peer->under_way = false;
    peer->retry_ns = event->now_ns + GY_RETRY_NS;
}

/* ---- the rest ---- */

/* What was asked may still come about: only a newer configuration decides. */
static void on_ask_failed(gy_replica_core *core, const struct gy_replica_event *event)
{
    core->ask_under_way = false;
    core->ask_retry_ns = event->now_ns + GY_RETRY_NS;
}

/* Longer than between two steps of a primary that is told the time when it wants to be (gy_replica_core_due_ns). */
#define STANDSTILL_NS (GY_LAG_NS / 2)

/* A process that stood still has not heard anybody meanwhile: that says nothing about them. */
static void excuse_standstill(gy_replica_core *core, int64_t now_ns)
{
    int64_t still_ns = now_ns - core->stepped_ns;
    if (core->stepped_ns && still_ns > STANDSTILL_NS)
        for (size_t i = 0; i < core->peer_count; i++)
            core->peers[i].caught_up_ns += still_ns;
    core->stepped_ns = now_ns;
}

static void on_trimmed(gy_replica_core *core, const struct gy_replica_event *event)
{
    assert(event->seq <= core->applied);
    uint64_t epoch = gy_replica_core_epoch_at(core, event->seq);
    size_t below = 0;
    while (below < core->start_count && core->starts[below].first <= event->seq)
        below++;
    if (below == 0)
        return;
    /* The last one below becomes the start of the last entry trimmed. */
    memmove(core->starts, core->starts + below - 1, (core->start_count - below + 1) * sizeof *core->starts);
    core->start_count -= below - 1;
    core->starts[0] = (struct gy_epoch_start){epoch, event->seq};
}

static void on_close(gy_replica_core *core, struct gy_replica_actions *actions)
{
    if (core->state == GY_REPLICA_OPENING || core->state == GY_REPLICA_FAILED) {
        move(core, GY_REPLICA_CLOSED);
        act(actions, GY_DO_FINISH);
    } else if (core->state == GY_REPLICA_SERVING) {
        move(core, GY_REPLICA_CLOSING);
    } else if (core->state == GY_REPLICA_CLOSING) {
        core->giving_up = true;
    }
}

void gy_replica_core_init(gy_replica_core *core, size_t group_bytes_max)
{
    *core = (gy_replica_core){.state = GY_REPLICA_OPENING, .group_bytes_max = group_bytes_max};
}

void gy_replica_step(gy_replica_core *core, const struct gy_replica_event *event, struct gy_replica_actions *actions)
{
    actions->count = 0;
    excuse_standstill(core, event->now_ns);
    switch (event->kind) {
    case GY_ON_OPENED:
        on_opened(core, event);
        break;
    case GY_ON_WRITE:
        on_write(core, event, actions);
        return; /* a group starts when all are handed in */
    case GY_ON_GATHERED:
        on_gathered(core, actions);
        break;
    case GY_ON_SYNCED:
        on_synced(core, event, actions);
        break;
    case GY_ON_APPLIED:
        on_applied(core, event, actions);
        break;
    case GY_ON_CONFIG:
        on_config(core, event, actions);
        break;
    case GY_ON_CONFIG_STORED:
        on_config_stored(core, event->now_ns, actions);
        break;
    case GY_ON_APPEND:
        on_append(core, event, actions);
        break;
    case GY_ON_APPEND_REPLY:
        on_append_reply(core, event, actions);
        break;
    case GY_ON_SEND_FAILED:
        on_send_failed(core, event);
        break;
    case GY_ON_ASK_FAILED:
        on_ask_failed(core, event);
        break;
    case GY_ON_RESTORE_FAILED:
        core->restoring = false;
        break;
    case GY_ON_TICK:
        break;
    case GY_ON_TRIMMED:
        on_trimmed(core, event);
        break;
    case GY_ON_IO_FAILED:
        fail(core, GY_DO_STOP, actions);
        return;
    case GY_ON_DISK_LOW:
        core->disk_low = true;
        refuse_waiting(core, actions, GY_REPLY_DISK);
        break;
    case GY_ON_DISK_OK:
        core->disk_low = false;
        break;
    case GY_ON_CLOSE:
        on_close(core, actions);
        break;
    }
    go_on(core, event->now_ns, actions);
}

const struct gy_shard_config *gy_replica_core_next_config(const gy_replica_core *core)
{
    assert(core->storing);
    return &core->next_config;
}

int64_t gy_replica_core_lease_ns(const gy_replica_core *core)
{
    if (!gy_replica_core_primary(core) || core->applied < core->takeover || core->outdated)
        return INT64_MIN;
    int64_t until_ns = GY_NEVER;
    for (size_t i = 0; i < core->peer_count; i++) {
        const struct gy_core_peer *peer = &core->peers[i];
        if (!needed(core, peer))
            continue;
        int64_t its_ns = peer->acked_ns == INT64_MIN ? INT64_MIN : peer->acked_ns + GY_LEASE_NS;
        until_ns = its_ns < until_ns ? its_ns : until_ns;
    }
    return until_ns;
}

static int64_t later(int64_t a_ns, int64_t b_ns)
{
    return a_ns > b_ns ? a_ns : b_ns;
}

/* When there is something to send to a member, or to say about it. */
static int64_t peer_due_ns(const gy_replica_core *core, const struct gy_core_peer *peer)
{
    int64_t send_ns = peer->sent_ns + GY_PING_NS, lag_ns = GY_NEVER;
    if (peer->retry_ns > send_ns || !peer->known)
        send_ns = peer->retry_ns;
    if (in_sync(core, peer->id) && !core->asking && may_ask(core))
        lag_ns = later(peer->caught_up_ns + GY_LAG_NS, core->ask_retry_ns);
    if (peer->under_way)
        return lag_ns;
    return send_ns < lag_ns ? send_ns : lag_ns;
}

int64_t gy_replica_core_due_ns(const gy_replica_core *core)
{
    if (!gy_replica_core_primary(core))
        return GY_NEVER;
    int64_t due_ns = core->committed < commit_rule(core) && !core->outdated ? core->gate_ns : GY_NEVER;
    for (size_t i = 0; i < core->peer_count; i++) {
        int64_t its_ns = peer_due_ns(core, &core->peers[i]);
        due_ns = its_ns < due_ns ? its_ns : due_ns;
    }
    /* Or a wait for members that do not answer would look like a standstill of this process. */
    if (core->peer_count && core->stepped_ns + STANDSTILL_NS / 2 < due_ns)
        due_ns = core->stepped_ns + STANDSTILL_NS / 2;
    if ((core->asking || core->outdated) && may_ask(core) && core->ask_retry_ns < due_ns)
        due_ns = core->ask_retry_ns;
    return due_ns;
}

bool gy_replica_core_awaited(const gy_replica_core *core, int64_t now_ns)
{
    for (size_t i = 0; i < core->peer_count && gy_replica_core_primary(core); i++) {
        const struct gy_core_peer *peer = &core->peers[i];
        if (peer->heard_ns && now_ns - peer->heard_ns < GY_LAG_NS && now_ns - peer->caught_up_ns >= GY_LAG_NS)
            return true;
    }
    return false;
}

uint64_t gy_replica_core_token(const gy_replica_core *core, uint64_t seq)
{
    assert(seq <= core->last && seq + core->logged > core->last);
    return core->writes[(core->head + core->logged - 1 - (core->last - seq)) % GY_CORE_WRITES_MAX].token;
}

size_t gy_replica_core_waiting(const gy_replica_core *core)
{
    return core->count - core->logged;
}

bool gy_replica_core_check(const gy_replica_core *core, const char **why)
{
    *why = NULL;
    if (core->applied > core->committed || core->committed > core->synced || core->synced > core->last)
        *why = "not applied <= committed <= synced <= last";
    else if (core->logged > core->count || core->count > GY_CORE_WRITES_MAX)
        *why = "more writes logged than there are";
    else if (working(core) && core->logged > core->last - core->applied)
        *why = "a write that is applied is not answered";
    else if (core->count && !gy_replica_core_primary(core))
        *why = "a follower has writes of clients";
    else if (core->appending + core->applying + core->storing > 1)
        *why = "two things are on their way to the disk";
    else if (core->state == GY_REPLICA_CLOSED && core->count)
        *why = "closed with unanswered writes";
    return *why == NULL;
}
