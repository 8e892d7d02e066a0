/* One thread, the caller's, decides; callbacks only store what came and wake it. What is under way belongs to the caller and
 * to every callback that is still to come: the last of them frees it, so that answers that nobody waits for any more (of a
 * hedge that lost, of a caller that left) find a place to go. */
#include "routing/consult.h"

#include "routing/ask.h"
#include "routing/choose.h"
#include "routing/failure.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

_Static_assert(GY_MEMBERS_MAX <= 32, "members asked are bits of a number");

/* One message, from its sending to its answer. */
struct call {
    struct call *next; /* in consultation->calls, newest first */
    gy_consultation *consultation;
    gy_peer *peer;     /* alive as long as the callback is to come, as is the load of its node */
    struct gy_load *load;
    gy_read_kind kind;
    const ProtobufCMessageDescriptor *reply_type;
    int64_t sent_ns;
    bool hedge;        /* the shards are being asked of somebody else too, who was first */
    bool hedged;       /* somebody else is being asked too, later */
    bool taken;        /* the caller has seen the answer */
    /* guarded by mu: */
    gyre_status status;
    gyre_error err;
    void *reply;
    bool answered; /* not beside the three above: the compiler reads those as one word */
    /* not: */
    int64_t took_ns;
    size_t count;
    const struct gy_route_member **members; /* [count] */
    uint32_t shards[];                      /* [count] */
};

struct shard {
    uint32_t asked;     /* bit m: members[m] */
    int64_t asked_ns;   /* when it was first */
    int64_t again_ns;   /* all are asked anew then; 0: they are not to be */
    uint32_t under_way; /* calls */
    uint32_t lagging;   /* bit m: members[m] was asked for more than it had shown then */
    bool behind;        /* a member in sync that was asked has what is wanted, only not applied yet */
    bool wanted;
};

/* A member in sync applies within milliseconds what another one has shown; if that was the primary and is away, once it has
 * taken over. */
static const int64_t catch_up_ns = 5 * GY_MILLISECOND_NS;
static const int64_t catch_up_max_ns = 5 * GY_SECOND_NS;

struct gy_consultation {
    pthread_mutex_t mu;
    pthread_cond_t moved;
    size_t holders;  /* guarded by mu, as are the next two */
    size_t arrived;  /* answers that the caller has not seen */
    bool left;       /* the caller is gone */
    /* the caller's: */
    const struct gy_consult *consult;
    struct call *calls;
    size_t undecided;
    const struct gy_consulted *split; /* a shard that the route is too old for; NULL: none */
    struct shard *shards;
    struct gy_consulted *results;
    struct gy_choice_shard *choices;
    struct gy_choice_member *options;
    uint32_t *choosing;   /* shards that a choice is made for */
    size_t node_count;
    gy_peer **nodes;      /* [node_count] the peers of the route's members, each once */
    int64_t *expected_ns; /* [node_count] */
    uint64_t turn;
};

static void free_all(gy_consultation *self)
{
    while (self->calls) {
        struct call *call = self->calls;
        self->calls = call->next;
        gy_wire_free(call->reply);
        free(call->members);
        free(call);
    }
    pthread_cond_destroy(&self->moved);
    pthread_mutex_destroy(&self->mu);
    free(self->shards), free(self->results), free(self->choices), free(self->options), free(self->choosing), free(self->nodes),
        free(self->expected_ns);
    free(self);
}

/* Unlocks, and frees what nobody holds any more. */
static void let_go(gy_consultation *self)
{
    bool last = --self->holders == 0;
    pthread_mutex_unlock(&self->mu);
    if (last)
        free_all(self);
}

void gy_consultation_free(gy_consultation *self)
{
    if (!self)
        return;
    pthread_mutex_lock(&self->mu);
    self->left = true;
    let_go(self);
}

const struct gy_consulted *gy_consultation_shards(const gy_consultation *self) { return self->results; }

/* ---- sending ---- */

static void on_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct call *call = arg;
    gy_consultation *self = call->consultation;
    int64_t now_ns = gy_now_ns();
    void *reply = NULL;
    gyre_error why = {0};
    /* Cut off and out of time, the bus says without the node. A node that refuses with the same words is none the worse for
     * it. */
    gy_load_end(call->load, call->kind, now_ns - call->sent_ns, status != GYRE_UNAVAILABLE && status != GYRE_DEADLINE, now_ns);
    if (status == GYRE_OK)
        status = gy_wire_unpack(&reply, call->reply_type, body, bytes, &why);
    else
        why = *err;
    const char *address = gy_peer_address(call->peer);
    if (status != GYRE_OK && !strstr(why.text, address))
        gyre_wrap(&why, status, "%s", address);
    pthread_mutex_lock(&self->mu);
    bool left = self->left;
    if (!left) {
        call->answered = true;
        call->status = status, call->err = why, call->reply = reply, call->took_ns = now_ns - call->sent_ns;
        self->arrived++;
        pthread_cond_signal(&self->moved);
    }
    let_go(self);
    if (left)
        gy_wire_free(reply);
}

static uint64_t seq_needed(const struct gy_consult *consult, uint32_t shard)
{
    uint64_t floor = gy_shard_seen_floor(consult->route->shards[shard].seen);
    uint64_t asked = consult->min_seqs ? consult->min_seqs[shard] : 0;
    return asked > floor ? asked : floor;
}

static void send(struct call *call, const struct gy_consult *consult, const uint64_t *seqs)
{
    gy_consultation *self = call->consultation;
    gyre_error err = {0};
    gy_bytes packed = {0};
    gyre_status status = consult->pack(consult->self, call->shards, seqs, call->count, &packed, &err);
    pthread_mutex_lock(&self->mu);
    self->holders++;
    pthread_mutex_unlock(&self->mu);
    call->sent_ns = gy_now_ns();
    for (size_t i = 0; i < call->count; i++)
        if (!self->shards[call->shards[i]].asked_ns)
            self->shards[call->shards[i]].asked_ns = call->sent_ns;
    gy_load_begin(call->load, call->sent_ns);
    if (status == GYRE_OK)
        gy_peer_call(call->peer, consult->type, packed.data, packed.size, consult->deadline_ns, on_reply, call);
    else
        on_reply(call, status, &err, NULL, 0);
    gy_bytes_free(&packed);
}

/* Sends one message to a node for the shards choosing[0…count-1] that chose it, of which those done have chosen = SIZE_MAX. */
static gyre_status send_to(gy_consultation *self, size_t first, size_t count, bool hedge, gyre_error *err)
{
    const struct gy_consult *consult = self->consult;
    uint32_t node = self->choices[first].members[self->choices[first].chosen].node;
    struct call *call = calloc(1, sizeof *call + count * sizeof *call->shards);
    uint64_t *seqs = calloc(count, sizeof *seqs);
    if (call)
        call->members = calloc(count, sizeof(const struct gy_route_member *));
    if (!call || !seqs || !call->members) {
        if (call)
            free(call->members);
        free(call), free(seqs);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %zu shards", count);
    }
    for (size_t i = first; i < count && (!consult->apart || call->count == 0); i++) {
        struct gy_choice_shard *choice = &self->choices[i];
        if (choice->chosen == SIZE_MAX || choice->members[choice->chosen].node != node)
            continue;
        uint32_t s = self->choosing[i];
        const struct gy_route_shard *shard = &consult->route->shards[s];
        for (uint32_t m = 0; m < shard->member_count; m++)
            if (shard->members[m].peer == self->nodes[node]) {
                call->members[call->count] = &shard->members[m];
                self->shards[s].asked |= UINT32_C(1) << m;
                if (atomic_load(&shard->members[m].seen->applied_seq) < seq_needed(consult, s))
                    self->shards[s].lagging |= UINT32_C(1) << m;
                break;
            }
        self->shards[s].under_way++;
        seqs[call->count] = seq_needed(consult, s);
        call->shards[call->count++] = s;
        choice->chosen = SIZE_MAX;
    }
    call->consultation = self, call->kind = consult->kind, call->reply_type = consult->reply_type, call->hedge = hedge;
    call->peer = self->nodes[node], call->load = call->members[0]->load;
    call->next = self->calls;
    self->calls = call;
    if (hedge)
        gy_pace_hedged(consult->route->pace);
    else
        gy_pace_asked(consult->route->pace);
    send(call, consult, seqs);
    free(seqs);
    return GYRE_OK;
}

/* ---- choosing ---- */

enum rank { RANK_PREFERRED, RANK_WELL, RANK_DOUBTFUL, RANK_BAD };

static uint32_t rank_of(const struct gy_consult *consult, uint32_t s, const struct gy_route_member *member, int64_t now_ns)
{
    const struct gy_route_shard *shard = &consult->route->shards[s];
    bool primary = member->id == shard->primary;
    if (!member->up || !gy_peer_up(member->peer) || atomic_load(&member->seen->avoid_ns) > now_ns)
        return RANK_BAD;
    if (consult->primary_first)
        return primary ? RANK_PREFERRED : RANK_WELL;
    if (consult->prefer && consult->prefer[s])
        return consult->prefer[s] == member->id ? RANK_PREFERRED : RANK_WELL;
    /* A session's own writes may not have come to everybody; who is not in sync may lag by any number. */
    uint64_t shown = atomic_load(&member->seen->applied_seq), asked = consult->min_seqs ? consult->min_seqs[s] : 0;
    if ((!primary && shown < asked) || (!member->in_sync && shown < seq_needed(consult, s)))
        return RANK_DOUBTFUL;
    return RANK_WELL;
}

static uint32_t node_of(const gy_consultation *self, const gy_peer *peer)
{
    uint32_t node = 0;
    while (self->nodes[node] != peer)
        node++;
    return node;
}

/* Lists who may still be asked about a shard; false: nobody. */
static bool list_options(gy_consultation *self, uint32_t s, uint32_t rank_max, struct gy_choice_shard *choice,
                         struct gy_choice_member *room, int64_t now_ns)
{
    const struct gy_route_shard *shard = &self->consult->route->shards[s];
    choice->members = room, choice->count = 0;
    for (uint32_t m = 0; m < shard->member_count; m++) {
        const struct gy_route_member *member = &shard->members[m];
        if (!member->peer || (self->shards[s].asked >> m & 1) ||
            (member->kind == GY_MEMBER_QUANTIZED && self->consult->full))
            continue;
        if (!member->in_sync && atomic_load(&member->seen->applied_seq) == 0)
            continue; /* it may have been made a moment ago and be empty */
        uint32_t rank = rank_of(self->consult, s, member, now_ns);
        if (rank <= rank_max)
            room[choice->count++] = (struct gy_choice_member){node_of(self, member->peer), rank};
    }
    return choice->count > 0;
}

static void decide(gy_consultation *self, uint32_t s)
{
    self->results[s].decided = true;
    self->undecided--;
}

/* Whether somebody who was asked will do better in a moment: then all are asked anew. */
static bool may_catch_up(gy_consultation *self, uint32_t s, int64_t now_ns)
{
    struct shard *shard = &self->shards[s];
    if (!shard->behind || now_ns - shard->asked_ns >= catch_up_max_ns)
        return false;
    shard->asked = shard->lagging = 0, shard->behind = false;
    shard->again_ns = now_ns + catch_up_ns;
    return true;
}

/* A shard that nobody is left to ask about. */
static void give_up(gy_consultation *self, uint32_t s)
{
    struct gy_consulted *result = &self->results[s];
    const struct gy_route_shard *shard = &self->consult->route->shards[s];
    if (result->status == GYRE_OK)
        result->status = gyre_fail(&result->err, GYRE_UNAVAILABLE, "it has not reported since this coordinator started");
    result->no_full = self->consult->full && shard->member_count > 0;
    decide(self, s);
}

/* Asks about the shards in choosing[0…count-1], as few nodes as is good. Those that nobody can be asked about are given up,
 * unless they are being asked about already. */
static gyre_status ask_about(gy_consultation *self, size_t count, bool hedge, gyre_error *err)
{
    const struct gy_consult *consult = self->consult;
    int64_t now_ns = gy_now_ns();
    for (size_t n = 0; n < self->node_count; n++)
        self->expected_ns[n] = 0;
    size_t kept = 0, used = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t s = self->choosing[i];
        /* Company is not worth asking those that are badly off. */
        if (list_options(self, s, hedge ? RANK_DOUBTFUL : RANK_BAD, &self->choices[kept], self->options + used, now_ns)) {
            used += self->choices[kept].count;
            self->choosing[kept++] = s;
        } else if (!hedge && !may_catch_up(self, s, now_ns)) {
            give_up(self, s);
        }
    }
    for (uint32_t s = 0; s < consult->route->shard_count; s++)
        for (uint32_t m = 0; m < consult->route->shards[s].member_count; m++) {
            const struct gy_route_member *member = &consult->route->shards[s].members[m];
            if (member->peer)
                self->expected_ns[node_of(self, member->peer)] = gy_load_expected_ns(member->load, consult->kind, now_ns);
        }
    if (kept)
        gy_choose(self->expected_ns, self->node_count, self->choices, kept, self->turn);
    for (size_t i = 0; i < kept; i++)
        if (self->choices[i].chosen != SIZE_MAX)
            GY_TRY(send_to(self, i, kept, hedge, err));
    return GYRE_OK;
}

/* ---- answers ---- */

/* Whether another replica could do better. What is wrong with the request is so everywhere. */
static bool may_differ(gyre_status status)
{
    return status != GYRE_INVALID && status != GYRE_OUT_OF_RANGE && status != GYRE_CANCELLED;
}

static void take_shard(gy_consultation *self, struct call *call, size_t i, int64_t now_ns)
{
    const struct gy_consult *consult = self->consult;
    uint32_t s = call->shards[i];
    struct gy_consulted *result = &self->results[s];
    const struct gy_route_member *member = call->members[i];
    self->shards[s].under_way--;
    gyre_status status = call->status;
    gyre_error err = call->err;
    uint64_t applied_seq = 0;
    if (status == GYRE_OK)
        status = consult->check(consult->self, call->reply, call->shards, call->count, i, &applied_seq, &err);
    gy_seen_seq(member->seen, applied_seq);
    if (status == GYRE_OK && member->in_sync)
        gy_shard_seen_seq(consult->route->shards[s].seen, applied_seq, now_ns);
    if (result->decided)
        return;
    result->status = status;
    result->member = member;
    if (status == GYRE_OK) {
        result->reply = call->reply, result->shards = call->shards, result->count = call->count, result->place = i;
        decide(self, s);
        return;
    }
    result->err = err;
    if (status == GYRE_ABORTED) { /* the others of the shard are asked in vain, too, and nothing is wrong with any */
        self->split = result;
        return;
    }
    if (!may_differ(status)) {
        decide(self, s);
        return;
    }
    /* Who may only be behind is well, and asked again by whoever wants less. */
    uint32_t m = (uint32_t)(member - consult->route->shards[s].members);
    bool behind = status == GYRE_UNAVAILABLE && gy_peer_up(member->peer) &&
                  (self->shards[s].lagging >> m & 1 || atomic_load(&member->seen->applied_seq) < seq_needed(consult, s));
    if (!behind)
        atomic_store(&member->seen->avoid_ns, now_ns + GY_AVOID_NS);
    self->shards[s].behind |= behind && member->in_sync;
}

/* Company that failed: whoever is silent still may get some other. */
static void forget_hedges(gy_consultation *self)
{
    for (struct call *call = self->calls; call; call = call->next)
        call->hedged = false;
}

/* Takes what has arrived; shards that failed and are not being asked about elsewhere are put into choosing. */
static size_t take_arrived(gy_consultation *self)
{
    size_t again = 0;
    int64_t now_ns = gy_now_ns();
    for (struct call *call = self->calls; call; call = call->next) {
        pthread_mutex_lock(&self->mu);
        bool fresh = call->answered && !call->taken;
        self->arrived -= fresh;
        pthread_mutex_unlock(&self->mu);
        if (!fresh)
            continue;
        call->taken = true;
        bool won = false, missed = false;
        for (size_t i = 0; i < call->count; i++) {
            uint32_t s = call->shards[i];
            bool before = self->results[s].decided;
            take_shard(self, call, i, now_ns);
            won |= !before && self->results[s].decided && self->results[s].status == GYRE_OK;
            missed |= !self->results[s].decided;
            if (!self->results[s].decided && self->shards[s].under_way == 0)
                self->choosing[again++] = s;
        }
        if (missed && call->hedge)
            forget_hedges(self);
        /* A hedge took as long as its shards have been asked for: if only the quick counted, ever more would seem slow. */
        if (call->status == GYRE_OK)
            gy_pace_took(self->consult->route->pace, call->kind, self->consult->work * call->count,
                         call->hedge ? now_ns - self->shards[call->shards[0]].asked_ns : call->took_ns);
        if (won && call->hedge)
            gy_pace_won(self->consult->route->pace);
    }
    return again;
}

/* ---- waiting ---- */

/* Puts the shards of calls that have been silent for too long into choosing; *next_ns: when to look again. */
static size_t find_silent(gy_consultation *self, int64_t *next_ns)
{
    gy_pace *pace = self->consult->route->pace;
    size_t count = 0;
    int64_t now_ns = gy_now_ns();
    for (struct call *call = self->calls; call; call = call->next) {
        if (call->taken || call->hedge || call->hedged)
            continue;
        struct gy_patience patience = gy_pace_patience(pace, call->kind, self->consult->work * call->count);
        int64_t waited_ns = now_ns - call->sent_ns;
        bool due = waited_ns >= patience.silence_ns || (waited_ns >= patience.hedge_ns && gy_pace_take_hedge(pace));
        if (!due) {
            int64_t then_ns = call->sent_ns + (waited_ns < patience.hedge_ns ? patience.hedge_ns : patience.silence_ns);
            *next_ns = then_ns < *next_ns ? then_ns : *next_ns;
            continue;
        }
        call->hedged = true;
        for (size_t i = 0; i < call->count; i++)
            if (!self->results[call->shards[i]].decided && self->shards[call->shards[i]].under_way == 1)
                self->choosing[count++] = call->shards[i];
    }
    return count;
}

/* Puts the shards that are to be asked anew into choosing; *next_ns: when to look again. */
static size_t find_due(gy_consultation *self, int64_t *next_ns)
{
    size_t count = 0;
    int64_t now_ns = gy_now_ns();
    for (uint32_t s = 0; s < self->consult->route->shard_count; s++) {
        struct shard *shard = &self->shards[s];
        if (!shard->again_ns)
            continue;
        if (now_ns < shard->again_ns) {
            *next_ns = shard->again_ns < *next_ns ? shard->again_ns : *next_ns;
            continue;
        }
        shard->again_ns = 0;
        self->choosing[count++] = s;
    }
    return count;
}

static void await(gy_consultation *self, int64_t until_ns)
{
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int code = 0;
    pthread_mutex_lock(&self->mu);
    while (self->arrived == 0 && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&self->moved, &self->mu, &until);
    pthread_mutex_unlock(&self->mu);
}

static void leave(gy_consultation *self, gyre_status status, const char *sentence)
{
    for (uint32_t s = 0; s < self->consult->route->shard_count; s++)
        if (self->shards[s].wanted && !self->results[s].decided) {
            self->results[s].status = gyre_fail(&self->results[s].err, status, "%s", sentence);
            decide(self, s);
        }
}

static gyre_status run(gy_consultation *self, gyre_error *err)
{
    const struct gy_consult *consult = self->consult;
    size_t count = 0;
    for (uint32_t s = 0; s < consult->route->shard_count; s++)
        if (self->shards[s].wanted)
            self->choosing[count++] = s;
    self->undecided = count;
    GY_TRY(ask_about(self, count, false, err));
    while (self->undecided > 0) {
        int64_t now_ns = gy_now_ns(), next_ns = consult->deadline_ns;
        count = find_silent(self, &next_ns);
        if (count)
            GY_TRY(ask_about(self, count, true, err));
        count = find_due(self, &next_ns);
        if (count) {
            GY_TRY(ask_about(self, count, false, err));
            continue;
        }
        if (consult->cancelled && next_ns > now_ns + GY_ASK_TURN_NS)
            next_ns = now_ns + GY_ASK_TURN_NS;
        await(self, next_ns);
        count = take_arrived(self);
        if (self->split)
            return gy_shard_failure(consult->route, (uint32_t)(self->split - self->results), self->split->member->node,
                                    GYRE_ABORTED, &self->split->err, err);
        if (consult->cancelled && consult->cancelled(consult->cancelled_arg)) {
            leave(self, GYRE_CANCELLED, "cancelled before it answered");
            return GYRE_OK;
        }
        if (gy_now_ns() >= consult->deadline_ns) {
            leave(self, GYRE_DEADLINE, "it did not answer in time");
            return GYRE_OK;
        }
        for (size_t i = 0; i < count; i++)
            gy_pace_replaced(consult->route->pace);
        if (count)
            GY_TRY(ask_about(self, count, false, err));
    }
    return GYRE_OK;
}

static gyre_status consultation_new(gy_consultation **out, const struct gy_consult *consult, gyre_error *err)
{
    const gy_route *route = consult->route;
    size_t members = 0;
    for (uint32_t s = 0; s < route->shard_count; s++)
        members += route->shards[s].member_count;
    gy_consultation *self = calloc(1, sizeof *self);
    if (!self)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %u shards", route->shard_count);
    pthread_mutex_init(&self->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->holders = 1;
    self->consult = consult;
    self->shards = calloc(route->shard_count, sizeof *self->shards);
    self->results = calloc(route->shard_count, sizeof *self->results);
    self->choices = calloc(route->shard_count, sizeof *self->choices);
    self->options = calloc(members + 1, sizeof *self->options);
    self->choosing = calloc(route->shard_count, sizeof *self->choosing);
    self->nodes = calloc(members + 1, sizeof(gy_peer *));
    self->expected_ns = calloc(members + 1, sizeof *self->expected_ns);
    if (!self->shards || !self->results || !self->choices || !self->options || !self->choosing || !self->nodes ||
        !self->expected_ns) {
        free_all(self);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %u shards", route->shard_count);
    }
    for (uint32_t s = 0; s < route->shard_count; s++)
        for (uint32_t m = 0; m < route->shards[s].member_count; m++) {
            gy_peer *peer = route->shards[s].members[m].peer;
            size_t node = 0;
            while (node < self->node_count && self->nodes[node] != peer)
                node++;
            if (peer && node == self->node_count)
                self->nodes[self->node_count++] = peer;
        }
    self->turn = gy_pace_turn(route->pace);
    *out = self;
    return GYRE_OK;
}

gyre_status gy_consult_run(const struct gy_consult *consult, const bool *wanted, gy_consultation **out, gyre_error *err)
{
    gy_consultation *self = NULL;
    GY_TRY(consultation_new(&self, consult, err));
    for (uint32_t s = 0; s < consult->route->shard_count; s++)
        self->shards[s].wanted = !wanted || wanted[s];
    gyre_status status = run(self, err);
    if (status != GYRE_OK) {
        gy_consultation_free(self);
        return status;
    }
    *out = self;
    return GYRE_OK;
}
