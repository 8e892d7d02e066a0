/* Views are counted. The table maps a name to its newest view and holds it once; a request holds it between gy_route_hold and
 * gy_route_release. Publishing swaps the table's view under the mutex and releases the older one outside of it, because the
 * last release closes connections. */
#include "routing/publish.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

typedef struct counted_route {
    gy_route view; /* first: a view is its route */
    atomic_size_t holders;
    UT_hash_handle hh; /* in routing->routes, by name */
    char name[GY_NAME_BYTES_MAX + 1];
    gy_codebook *codebook;
    struct gy_probe_cost probe_costs[GY_PROBE_COSTS_MAX];
    struct gy_route_shard *shards;
    struct gy_route_start *starts;
    struct gy_shard_config *configs; /* own the nodes' names */
    struct gy_route_member *members; /* of every shard, one behind the other */
    gy_link **links;                 /* [member_count] theirs */
    struct gy_member_seen *member_seen; /* [member_count] */
    struct gy_shard_seen *shard_seen;   /* [shard_count] */
    size_t member_count;
} counted_route;

struct gy_routing {
    uint8_t placement_key[GY_PLACEMENT_KEY_BYTES];
    gy_pace *pace;
    pthread_mutex_t mu;
    pthread_cond_t changed; /* a view came or went */
    counted_route *routes;  /* guarded by mu */
};

static void route_release(counted_route *self)
{
    if (!self || atomic_fetch_sub_explicit(&self->holders, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; self->links && i < self->member_count; i++)
        gy_link_release(self->links[i]);
    gy_codebook_release(self->codebook);
    free(self->links);
    free(self->member_seen);
    free(self->shard_seen);
    free(self->members);
    free(self->configs);
    free(self->starts);
    free(self->shards);
    free(self);
}
GY_AUTO_DEFINE(counted_route, route_release)

/* Puts a shard of so many into the view, with its members from members[first] on. */
static void add_shard(counted_route *made, uint32_t shard, uint32_t shards, const struct gy_routing_member *sources, size_t first)
{
    const struct gy_shard_config *config = &made->configs[shard];
    struct gy_route_shard *view = &made->shards[shard];
    *view = (struct gy_route_shard){.epoch = config->epoch,
                                    .primary = config->primary,
                                    .members = made->members + first,
                                    .member_count = config->member_count,
                                    .seen = &made->shard_seen[shard],
                                    .range = config->range.last ? config->range : gy_range_of_shard(shard, shards)};
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        gy_link *link = made->links[first + i] = gy_link_hold(sources[i].link);
        gy_peer *peer = link ? gy_link_peer(link) : NULL;
        made->members[first + i] =
            (struct gy_route_member){member->id, member->node, member->kind, member->in_sync, sources[i].up, peer,
                                     link ? gy_link_load(link) : NULL, &made->member_seen[first + i]};
        gy_seen_seq(&made->member_seen[first + i], sources[i].applied_seq);
        if (member->id == config->primary)
            view->node = member->node, view->peer = peer;
    }
}

static int start_order(const void *left, const void *right)
{
    const struct gy_route_start *a = left, *b = right;
    return (a->first > b->first) - (a->first < b->first);
}

/* Sorts the starts of the shards' ranges, each of which must begin where the one before ends. */
static gyre_status sort_starts(counted_route *made, uint32_t count, gyre_error *err)
{
    for (uint32_t s = 0; s < count; s++)
        made->starts[s] = (struct gy_route_start){made->shards[s].range.first, s};
    qsort(made->starts, count, sizeof *made->starts, start_order);
    uint64_t next = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct gy_hash_range range = made->shards[made->starts[i].shard].range;
        bool follows = range.first == next && range.last >= range.first;
        next = range.last + 1; /* 0: no hash is left */
        if (!follows || (next == 0) != (i + 1 == count))
            return gyre_fail(err, GYRE_CORRUPT, "shard %u of '%s' has the hashes %016" PRIx64 " to %016" PRIx64
                             ", which do not go together with the other shards'", made->starts[i].shard, made->name, range.first,
                             range.last);
    }
    return GYRE_OK;
}

static gyre_status route_new(counted_route **out, const gy_routing *routing, const gy_collection_record *record,
                             const struct gy_routing_member (*members)[GY_MEMBERS_MAX], gyre_error *err)
{
    uint32_t count = gy_collection_shown_shards(record);
    GY_AUTO(counted_route) *made = calloc(1, sizeof *made);
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "route of '%s'", record->spec.name);
    atomic_init(&made->holders, 1);
    snprintf(made->name, sizeof made->name, "%s", record->spec.name);
    for (uint32_t i = 0; i < count; i++)
        made->member_count += record->shards[i].member_count;
    made->shards = calloc(count, sizeof *made->shards);
    made->starts = calloc(count, sizeof *made->starts);
    made->configs = calloc(count, sizeof *made->configs);
    made->members = calloc(made->member_count, sizeof *made->members);
    made->links = calloc(made->member_count, sizeof(gy_link *));
    made->member_seen = calloc(made->member_count, sizeof *made->member_seen);
    made->shard_seen = calloc(count, sizeof *made->shard_seen);
    if (!made->shards || !made->starts || !made->configs || !made->members || !made->links || !made->member_seen || !made->shard_seen)
        return gyre_fail(err, GYRE_NO_MEMORY, "route of '%s' over %u shards", made->name, count);
    made->codebook = gy_codebook_hold(record->codebook);
    memcpy(made->probe_costs, record->probe_costs, sizeof made->probe_costs);
    memcpy(made->configs, record->shards, count * sizeof *made->configs);
    size_t first = 0;
    for (uint32_t i = 0; i < count; first += made->configs[i++].member_count)
        add_shard(made, i, count, members[i], first);
    GY_TRY(sort_starts(made, count, err));
    made->view = (gy_route){
        .collection_id = record->id,
        .collection = made->name,
        .metric = record->spec.metric,
        .dim = record->spec.dim,
        .shard_count = count,
        .shards = made->shards,
        .starts = made->starts,
        .codebook = gy_codebook_decoded(made->codebook),
        .probe_costs = made->probe_costs,
        .probe_cost_count = record->probe_cost_count,
        .allow_approximate = record->spec.allow_approximate,
        .pace = routing->pace,
    };
    memcpy(made->view.placement_key, routing->placement_key, GY_PLACEMENT_KEY_BYTES);
    *out = GY_TAKE(made);
    return GYRE_OK;
}

gyre_status gy_routing_new(gy_routing **out, const uint8_t placement_key[GY_PLACEMENT_KEY_BYTES], gyre_error *err)
{
    gy_routing *routing = calloc(1, sizeof *routing);
    if (!routing)
        return gyre_fail(err, GYRE_NO_MEMORY, "routing");
    memcpy(routing->placement_key, placement_key, GY_PLACEMENT_KEY_BYTES);
    gyre_status status = gy_pace_new(&routing->pace, err);
    if (status != GYRE_OK) {
        free(routing);
        return status;
    }
    pthread_mutex_init(&routing->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&routing->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *out = routing;
    return GYRE_OK;
}

void gy_routing_free(gy_routing *routing)
{
    if (!routing)
        return;
    gy_routing_withdraw_all(routing);
    pthread_cond_destroy(&routing->changed);
    pthread_mutex_destroy(&routing->mu);
    gy_pace_free(routing->pace);
    free(routing);
}

/* Takes over how far shards have shown to be, not what failed: the view is new because something is known anew. A shard that a
 * split made has shown nothing yet: its log goes on from where its parent's was, and falls behind. */
static void inherit(counted_route *made, const counted_route *older)
{
    if (made->view.collection_id != older->view.collection_id)
        return;
    for (uint32_t s = 0; s < made->view.shard_count && s < older->view.shard_count; s++)
        gy_shard_seen_copy(made->shards[s].seen, older->shards[s].seen);
}

gyre_status gy_routing_publish(gy_routing *routing, const gy_collection_record *record,
                               const struct gy_routing_member (*members)[GY_MEMBERS_MAX], gyre_error *err)
{
    counted_route *made = NULL, *older;
    GY_TRY(route_new(&made, routing, record, members, err));
    pthread_mutex_lock(&routing->mu);
    HASH_FIND_STR(routing->routes, made->name, older);
    if (older) {
        inherit(made, older);
        HASH_DEL(routing->routes, older);
    }
    HASH_ADD_STR(routing->routes, name, made);
    pthread_cond_broadcast(&routing->changed);
    pthread_mutex_unlock(&routing->mu);
    route_release(older);
    return GYRE_OK;
}

void gy_routing_withdraw(gy_routing *routing, const char *collection)
{
    counted_route *found;
    pthread_mutex_lock(&routing->mu);
    HASH_FIND_STR(routing->routes, collection, found);
    if (found)
        HASH_DEL(routing->routes, found);
    pthread_cond_broadcast(&routing->changed);
    pthread_mutex_unlock(&routing->mu);
    route_release(found);
}

void gy_routing_withdraw_all(gy_routing *routing)
{
    for (;;) {
        pthread_mutex_lock(&routing->mu);
        counted_route *first = routing->routes;
        if (first)
            HASH_DEL(routing->routes, first);
        pthread_cond_broadcast(&routing->changed);
        pthread_mutex_unlock(&routing->mu);
        if (!first)
            return;
        route_release(first);
    }
}

gyre_status gy_route_hold(gy_routing *routing, const char *collection, const gy_route **out, gyre_error *err)
{
    GY_TRY(gy_collection_name_check(collection, err));
    counted_route *found;
    pthread_mutex_lock(&routing->mu);
    HASH_FIND_STR(routing->routes, collection, found);
    if (found)
        atomic_fetch_add_explicit(&found->holders, 1, memory_order_relaxed);
    pthread_mutex_unlock(&routing->mu);
    if (!found)
        return gyre_fail(err, GYRE_NOT_FOUND, "collection '%s' does not exist", collection);
    *out = &found->view;
    return GYRE_OK;
}

const gy_route *gy_route_again(const gy_route *view)
{
    atomic_fetch_add_explicit(&((counted_route *)(uintptr_t)view)->holders, 1, memory_order_relaxed);
    return view;
}

bool gy_route_await(gy_routing *routing, const gy_route **route, int64_t until_ns)
{
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int code = 0;
    counted_route *found = NULL;
    pthread_mutex_lock(&routing->mu);
    for (;;) {
        HASH_FIND_STR(routing->routes, (*route)->collection, found);
        bool there = found && found->view.collection_id == (*route)->collection_id;
        if (!there || &found->view == *route)
            found = NULL;
        if (found || !there || code == ETIMEDOUT)
            break;
        code = pthread_cond_timedwait(&routing->changed, &routing->mu, &until);
    }
    if (found)
        atomic_fetch_add_explicit(&found->holders, 1, memory_order_relaxed);
    pthread_mutex_unlock(&routing->mu);
    if (!found)
        return false;
    gy_route_release(*route);
    *route = &found->view;
    return true;
}

void gy_routing_show(gy_routing *routing, gy_metrics *metrics) { gy_pace_show(routing->pace, metrics); }

void gy_routing_member_said(gy_routing *routing, const char *collection, uint32_t shard, uint32_t member, uint64_t applied_seq)
{
    counted_route *found;
    pthread_mutex_lock(&routing->mu);
    HASH_FIND_STR(routing->routes, collection, found);
    if (found && shard < found->view.shard_count) {
        const struct gy_route_shard *view = &found->shards[shard];
        for (uint32_t i = 0; i < view->member_count; i++)
            if (view->members[i].id == member) {
                gy_seen_said(view->members[i].seen, applied_seq);
                if (view->members[i].in_sync)
                    gy_shard_seen_seq(view->seen, applied_seq, gy_now_ns());
                if (member == view->primary)
                    gy_shard_seen_primary(view->seen, applied_seq, gy_now_ns());
            }
    }
    pthread_mutex_unlock(&routing->mu);
}

void gy_route_release(const gy_route *view) { route_release((counted_route *)(uintptr_t)view); }

uint32_t gy_route_shard_of(const gy_route *route, const gyre_point_id *id)
{
    uint64_t hash = gy_point_hash(route->placement_key, id);
    uint32_t at = 0; /* the last that begins at hash or before: the first does */
    for (uint32_t beyond = route->shard_count; beyond - at > 1;) {
        uint32_t middle = at + (beyond - at) / 2;
        if (route->starts[middle].first <= hash)
            at = middle;
        else
            beyond = middle;
    }
    return route->starts[at].shard;
}

uint64_t *gy_route_ends(const gy_route *route, const uint32_t *shards, size_t count)
{
    uint64_t *ends = malloc((2 * count + 1) * sizeof *ends);
    for (size_t i = 0; ends && i < count; i++)
        ends[i] = route->shards[shards[i]].range.first, ends[count + i] = route->shards[shards[i]].range.last;
    return ends;
}

gyre_status gy_route_peer(const gy_route *route, uint32_t shard, gy_peer **out, gyre_error *err)
{
    if (shard >= route->shard_count)
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "shard %u of '%s': it has %u", shard, route->collection, route->shard_count);
    if (!route->shards[shard].peer)
        return gyre_fail(err, GYRE_UNAVAILABLE, "it has not reported since this coordinator started");
    *out = route->shards[shard].peer;
    return GYRE_OK;
}
