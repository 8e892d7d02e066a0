#include "server/node.h"

#include "server/hosted.h"

#include "gyre/log.h"
#include "store/disk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FENCES_WAITING_MAX = 65536 };

static bool wait_until(gy_node *node, int64_t until_ns)
{
    if (until_ns == GY_NEVER)
        return pthread_cond_wait(&node->changed, &node->mu) == 0;
    struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
    return pthread_cond_timedwait(&node->changed, &node->mu, &until) != ETIMEDOUT;
}

static gyre_status not_here(const gy_node *node, uint64_t collection_id, uint32_t shard, gyre_error *err)
{
    return gyre_fail(err, GYRE_NOT_FOUND, "node %s has no replica of collection %" PRIu64 " shard %u", node->name, collection_id,
                     shard);
}

static gyre_status in_trouble(const gy_hosted *hosted, gyre_error *err)
{
    return gyre_fail(err, GYRE_UNAVAILABLE, "node %s: replica of collection %" PRIu64 " shard %u %s: %.350s", hosted->node->name,
                     hosted->key.collection_id, (uint32_t)hosted->key.shard,
                     hosted->trouble.status == GYRE_CORRUPT ? "is damaged" : "does not serve", hosted->trouble.text);
}

static gyre_status make_directory(const char *path, gyre_error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return gyre_fail(err, GYRE_INTERNAL, "cannot create %s: %s", path, strerror(errno));
    return GYRE_OK;
}

/* ---- what replicas reach others by ---- */

static void call_node(void *self, const char *to, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns,
                      gy_on_reply *on_reply, void *arg)
{
    gy_links_call(((gy_node *)self)->links, to, type, message, deadline_ns, on_reply, arg);
}

static void ask_coordinator(void *self, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns,
                            gy_on_reply *on_reply, void *arg)
{
    gy_links_ask(((gy_node *)self)->links, type, message, deadline_ns, on_reply, arg);
}

static void restore_replica(void *self, gy_replica *replica, const char *primary_node, void (*on_end)(void *arg, bool restored),
                            void *arg)
{
    gy_restores_begin(((gy_node *)self)->restores, replica, primary_node, on_end, arg);
}

static void fence_replica(void *self, gy_replica *replica, const gyre_error *why);

static void replica_changed(void *self, gy_replica *replica)
{
    (void)replica;
    gy_node_touch(self);
}

gyre_status gy_node_open(gy_node **out, const struct gy_node_options *options, gyre_error *err)
{
    gy_node *node = calloc(1, sizeof *node);
    if (!node)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a node");
    pthread_mutex_init(&node->fenced_mu, NULL);
    pthread_mutex_init(&node->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    node->limits = options->limits;
    node->limits.budget = NULL;
    node->name = strdup(options->name);
    node->data_dir = strdup(options->data_dir);
    gyre_status status = GYRE_OK;
    if (!node->name || !node->data_dir || asprintf(&node->replicas_dir, "%s/replicas", options->data_dir) < 0) {
        node->replicas_dir = NULL;
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for a node");
    }
    if (status == GYRE_OK)
        status = gy_budget_new(&node->limits.budget, options->memory_budget, err);
    if (status == GYRE_OK)
        status = gy_links_new(&node->links, err);
    if (status == GYRE_OK)
        status = gy_restores_new(&node->restores, node, err);
    if (status == GYRE_OK)
        status = gy_pool_new(&node->fences, "fence", 1, FENCES_WAITING_MAX, err);
    node->transport = (struct gy_replica_transport){node,          call_node,     ask_coordinator, restore_replica,
                                                    fence_replica, gy_place_split, replica_changed};
    node->limits.transport = &node->transport;
    if (status == GYRE_OK)
        status = make_directory(node->replicas_dir, err);
    if (status == GYRE_OK)
        status = gy_store_env_new(&node->env, options->cache_bytes, err);
    if (status == GYRE_OK)
        status = gy_node_find_places(node, err);
    if (status == GYRE_OK)
        status = gy_node_open_places(node, err);
    if (status != GYRE_OK) {
        gy_node_close(node);
        return status;
    }
    *out = node;
    return GYRE_OK;
}

/* Replicas that still apply may split one off: a place more at the table's end, without a replica, which may go again. */
static void each_replica(gy_node *node, void (*visit)(gy_replica *replica))
{
    pthread_mutex_lock(&node->mu);
    for (gy_hosted *hosted = node->table; hosted; hosted = hosted->hh.next) {
        if (!hosted->replica)
            continue;
        pthread_mutex_unlock(&node->mu);
        visit(hosted->replica);
        pthread_mutex_lock(&node->mu);
    }
    pthread_mutex_unlock(&node->mu);
}

void gy_node_end_writes(gy_node *node)
{
    pthread_mutex_lock(&node->mu);
    node->ending = true;
    while (node->changing)
        pthread_cond_wait(&node->changed, &node->mu);
    gy_pool *fences = GY_TAKE(node->fences);
    pthread_mutex_unlock(&node->mu);
    gy_pool_free(fences);
    if (node->restores)
        gy_restores_stop(node->restores);
    each_replica(node, gy_replica_begin_close);
    each_replica(node, gy_replica_end_writes);
    gy_links_stop(node->links);
}

void gy_node_close(gy_node *node)
{
    if (!node)
        return;
    if (node->links)
        gy_node_end_writes(node);
    gy_hosted *hosted, *next;
    HASH_ITER(hh, node->table, hosted, next)
    {
        assert(hosted->holders == 0);
        gy_replica_close(hosted->replica);
        gy_place_remove(node, hosted);
    }
    gy_budget_free(node->limits.budget);
    gy_store_env_free(node->env);
    gy_restores_free(node->restores);
    gy_links_free(node->links);
    pthread_cond_destroy(&node->changed);
    pthread_mutex_destroy(&node->mu);
    pthread_mutex_destroy(&node->fenced_mu);
    free(node->replicas_dir);
    free(node->data_dir);
    free(node->name);
    free(node);
}

const char *gy_node_name(const gy_node *node)
{
    return node->name;
}

const char *gy_node_data_dir(const gy_node *node)
{
    return node->data_dir;
}

gy_budget *gy_node_budget(gy_node *node)
{
    return node->limits.budget;
}

gy_links *gy_node_links(gy_node *node)
{
    return node->links;
}

/* ---- holding ---- */

gyre_status gy_node_hold(gy_node *node, uint64_t collection_id, uint32_t shard, gy_hosted **out, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&node->mu);
    gy_hosted *hosted = gy_place_find(node, collection_id, shard);
    if (!hosted || hosted->state >= HOSTED_DROPPING) {
        status = not_here(node, collection_id, shard, err);
    } else if (hosted->state == HOSTED_OPENING) {
        status = gyre_fail(err, GYRE_UNAVAILABLE, "node %s is opening its replica of collection %" PRIu64 " shard %u", node->name,
                           collection_id, shard);
    } else if (hosted->state == HOSTED_TROUBLED || hosted->state == HOSTED_FENCING) {
        status = in_trouble(hosted, err);
    } else {
        hosted->holders++;
        *out = hosted;
    }
    pthread_mutex_unlock(&node->mu);
    return status;
}

void gy_node_release(gy_node *node, gy_hosted *hosted)
{
    pthread_mutex_lock(&node->mu);
    assert(hosted->holders > 0);
    if (--hosted->holders <= 1 && hosted->state != HOSTED_SERVING)
        pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mu);
}

gy_replica *gy_hosted_replica(const gy_hosted *hosted)
{
    return hosted->replica;
}

const char *gy_hosted_path(const gy_hosted *hosted)
{
    return hosted->path;
}

/* ---- damaged ---- */

/* On the thread of fences: the replica's own, or whoever reads, must not wait for themselves. */
static void close_fenced(void *arg)
{
    gy_hosted *hosted = arg;
    gy_node *node = hosted->node;
    gyre_error err;
    /* The state is FENCING until the end of this, so the place and its sentence stay as they are. */
    if (gy_store_mark_damaged(hosted->path, hosted->trouble.text, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "damage_not_marked", "path=%s error=%s", hosted->path, err.text);
    pthread_mutex_lock(&node->fenced_mu);
    if (node->on_fenced)
        node->on_fenced(node->on_fenced_self, hosted->key.collection_id, (uint32_t)hosted->key.shard);
    pthread_mutex_unlock(&node->fenced_mu);
    pthread_mutex_lock(&node->mu);
    while (hosted->holders)
        pthread_cond_wait(&node->changed, &node->mu);
    gy_replica *replica = GY_TAKE(hosted->replica);
    pthread_mutex_unlock(&node->mu);
    gy_replica_abandon(replica);
    pthread_mutex_lock(&node->mu);
    hosted->state = HOSTED_TROUBLED;
    gy_node_note_change(node);
    pthread_mutex_unlock(&node->mu);
}

/* Under mu. A replica that is on its way out already, or was fenced by another thread, is left alone, as is one of a node that
 * stops: it will be found again. */
static bool fence(gy_node *node, gy_hosted *hosted, const gyre_error *why)
{
    gyre_error err;
    if (hosted->state != HOSTED_SERVING || !node->fences || gy_pool_submit(node->fences, close_fenced, hosted, &err) != GYRE_OK)
        return false;
    hosted->state = HOSTED_FENCING;
    hosted->trouble = *why;
    node->fenced_count++;
    gy_node_note_change(node);
    return true;
}

static void log_fenced(const gy_hosted *hosted, uint32_t member, const gyre_error *why)
{
    gy_log(GY_LOG_ERROR, "replica_fenced", "collection_id=%" PRIu64 " shard=%u member=%u path=%s error=%s",
           hosted->key.collection_id, (uint32_t)hosted->key.shard, member, hosted->path, why->text);
}

gyre_status gy_node_judge(gy_node *node, gy_hosted *hosted, gyre_status status, gyre_error *err)
{
    if (status != GYRE_CORRUPT)
        return status;
    gyre_error why = *err;
    pthread_mutex_lock(&node->mu);
    if (fence(node, hosted, &why))
        log_fenced(hosted, hosted->member, &why);
    pthread_mutex_unlock(&node->mu);
    return gyre_fail(err, GYRE_UNAVAILABLE, "node %s: replica of collection %" PRIu64 " shard %u is damaged: %.350s", node->name,
                     hosted->key.collection_id, (uint32_t)hosted->key.shard, why.text);
}

/* The slot of gy_replica_transport: the replica's own thread found it. */
static void fence_replica(void *self, gy_replica *replica, const gyre_error *why)
{
    gy_node *node = self;
    const struct gy_store_identity *identity = gy_replica_identity(replica);
    pthread_mutex_lock(&node->mu);
    gy_hosted *hosted = gy_place_find(node, identity->collection_id, identity->shard);
    if (hosted && hosted->replica == replica && fence(node, hosted, why))
        log_fenced(hosted, hosted->member, why);
    pthread_mutex_unlock(&node->mu);
}

void gy_node_set_on_fenced(gy_node *node, gy_on_fenced *on_fenced, void *self)
{
    pthread_mutex_lock(&node->fenced_mu);
    node->on_fenced = on_fenced, node->on_fenced_self = self;
    pthread_mutex_unlock(&node->fenced_mu);
}

uint64_t gy_node_fenced_count(gy_node *node)
{
    pthread_mutex_lock(&node->mu);
    uint64_t count = node->fenced_count;
    pthread_mutex_unlock(&node->mu);
    return count;
}

/* ---- coming and going ---- */

static gyre_status needs_codebook(const struct gy_node_wish *wish, gyre_error *err)
{
    return gyre_fail(err, GYRE_PRECONDITION, "needs codebook %u, which was not sent along", wish->codebook_version);
}

/* Fills a new place. That it was opened, found instead of made, does not mean that it serves: gy_node_hold says. */
static gyre_status create(gy_node *node, gy_hosted *hosted, const struct gy_node_wish *wish, gyre_error *err)
{
    gy_replica *replica = NULL;
    gyre_status status = wish->codebook ? GYRE_OK : needs_codebook(wish, err);
    if (status == GYRE_OK)
        status = gy_disk_check(node->data_dir, node->limits.disk_free_min, "a new replica", err);
    if (status == GYRE_OK)
        status = gy_replica_create(&replica, node->env, hosted->path, wish->identity, wish->member, &wish->config, wish->codec,
                                   wish->codebook, &node->limits, err);
    if (status == GYRE_OK) {
        gy_log(GY_LOG_INFO, "replica_created",
               "collection=%s collection_id=%" PRIu64 " shard=%u member=%u epoch=%" PRIu64 " codec=%s",
               wish->identity->collection, wish->identity->collection_id, wish->identity->shard, wish->member,
               wish->config.epoch, wish->codec);
        gy_place_opened(hosted, replica, GYRE_OK, NULL);
        return GYRE_OK;
    }
    if (status == GYRE_EXISTS) { /* made by an earlier call, which then could not open it */
        gy_place_open(hosted);
        return GYRE_OK;
    }
    pthread_mutex_lock(&node->mu);
    gy_place_remove(node, hosted);
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mu);
    return status;
}

/* Whether its state will change by itself. */
static bool is_moving(const gy_hosted *hosted)
{
    return hosted->state == HOSTED_OPENING || hosted->state == HOSTED_FENCING || hosted->state == HOSTED_DROPPING ||
           hosted->state == HOSTED_SPLITTING;
}

enum claim { HELD, TO_MAKE, TO_REOPEN, TO_TAKE };

/* Holds the replica if it serves, or is damaged for good; else says what to do about its place, which is ours then: fill a new
 * one, open it, or take over what waits there. */
static gyre_status hold_or_claim(gy_node *node, const struct gy_node_wish *wish, int64_t deadline_ns, gy_hosted **out,
                                 enum claim *claim, gyre_error *err)
{
    const struct gy_store_identity *identity = wish->identity;
    gyre_status status = GYRE_OK;
    *claim = HELD;
    pthread_mutex_lock(&node->mu);
    gy_hosted *hosted;
    while ((hosted = gy_place_find(node, identity->collection_id, identity->shard)) &&
           is_moving(hosted) && status == GYRE_OK)
        if (!wait_until(node, deadline_ns))
            status = gyre_fail(err, GYRE_DEADLINE, "node %s is still %s collection %" PRIu64 " shard %u", node->name,
                               hosted->state == HOSTED_OPENING ? "opening" : "closing", identity->collection_id,
                               identity->shard);
    if (status == GYRE_OK && !hosted && !wish->create) {
        status = not_here(node, identity->collection_id, identity->shard, err);
    } else if (status == GYRE_OK && !hosted) {
        status = gy_place_add(node, identity->collection_id, identity->shard, false, &hosted, err);
        *claim = TO_MAKE;
    } else if (status == GYRE_OK && (hosted->state == HOSTED_WAITING ||
                                     (hosted->state == HOSTED_TROUBLED && hosted->trouble.status != GYRE_CORRUPT))) {
        hosted->state = HOSTED_OPENING;
        *claim = hosted->unclaimed ? TO_TAKE : TO_REOPEN;
    } else if (status == GYRE_OK) {
        hosted->holders++;
    }
    *out = hosted;
    pthread_mutex_unlock(&node->mu);
    return status;
}

static gyre_status check_codec(gy_replica *replica, const char *codec, gyre_error *err)
{
    const char *own = gy_points_codec(gy_replica_points(replica))->name;
    return strcmp(own, codec) == 0
               ? GYRE_OK
               : gyre_fail(err, GYRE_INVALID, "asked to be in codec '%s'; it was made with '%s', which is fixed", codec, own);
}

/* Whether a replica may go on without the codebook. One that holds codes only gets later ones from the primary. */
static gyre_status check_codebook(const struct gy_node_wish *wish, uint32_t version, gyre_error *err)
{
    bool full = gy_config_member(&wish->config, wish->member)->kind == GY_MEMBER_FULL;
    return full && version < wish->codebook_version ? needs_codebook(wish, err) : GYRE_OK;
}

static gyre_status drop(gy_node *node, uint64_t collection_id, uint32_t shard, uint32_t member, gyre_error *err)
{
    pthread_mutex_lock(&node->mu);
    gy_hosted *hosted;
    while ((hosted = gy_place_find(node, collection_id, shard)) && is_moving(hosted))
        pthread_cond_wait(&node->changed, &node->mu);
    if (!hosted || (member && (hosted->replica || hosted->state == HOSTED_WAITING) && hosted->member != member)) {
        pthread_mutex_unlock(&node->mu);
        return GYRE_OK;
    }
    hosted->state = HOSTED_DROPPING;
    while (hosted->holders)
        pthread_cond_wait(&node->changed, &node->mu);
    gy_replica *replica = GY_TAKE(hosted->replica);
    pthread_mutex_unlock(&node->mu);

    gy_replica_close(replica);
    gyre_error why;
    gyre_status status = gy_store_destroy(hosted->path, &why);
    if (status == GYRE_NOT_FOUND) /* an earlier drop got so far, or somebody else did */
        status = GYRE_OK;
    pthread_mutex_lock(&node->mu);
    if (status == GYRE_OK) {
        gy_place_remove(node, hosted);
    } else {
        hosted->state = HOSTED_TROUBLED;
        hosted->trouble = why;
        GY_IGNORE(gyre_fail(err, status, "%s", why.text)); /* returned below */
    }
    gy_node_note_change(node);
    pthread_mutex_unlock(&node->mu);
    if (status == GYRE_OK)
        gy_log(GY_LOG_INFO, "replica_dropped", "collection_id=%" PRIu64 " shard=%u", collection_id, shard);
    return status;
}

/* Whether what is here is of no use: another member, or damaged. Such a place is only made anew where create says so. */
static bool useless(gy_node *node, const struct gy_node_wish *wish)
{
    pthread_mutex_lock(&node->mu);
    const gy_hosted *hosted = gy_place_find(node, wish->identity->collection_id, wish->identity->shard);
    bool damaged = hosted && hosted->state == HOSTED_TROUBLED && hosted->trouble.status == GYRE_CORRUPT;
    bool other = hosted && hosted->state == HOSTED_SERVING && gy_replica_member(hosted->replica) != wish->member;
    pthread_mutex_unlock(&node->mu);
    return damaged || other;
}

/* One that waits is of no use to another member. */
static gyre_status drop_other_waiting(gy_node *node, const struct gy_node_wish *wish, gyre_error *err)
{
    uint64_t collection_id = wish->identity->collection_id;
    pthread_mutex_lock(&node->mu);
    const gy_hosted *hosted = gy_place_find(node, collection_id, wish->identity->shard);
    uint32_t other = hosted && hosted->state == HOSTED_WAITING && hosted->member != wish->member ? hosted->member : 0;
    pthread_mutex_unlock(&node->mu);
    return other ? drop(node, collection_id, wish->identity->shard, other, err) : GYRE_OK;
}

/* Makes what waits in a place the replica that is wished for, and opens it. If that fails it waits on, or is in trouble. */
static gyre_status take_over(gy_hosted *hosted, const struct gy_node_wish *wish, gyre_error *err)
{
    gy_node *node = hosted->node;
    gyre_error why;
    char *path = gy_place_path(node, hosted->key.collection_id, (uint32_t)hosted->key.shard, false);
    gyre_status status = path ? gy_waiting_take(node->env, hosted->path, path, wish->member, &wish->config, &why)
                              : gyre_fail(&why, GYRE_NO_MEMORY, "no memory for a path");
    if (status == GYRE_OK) {
        free(hosted->path);
        hosted->path = path;
        hosted->unclaimed = false;
        gy_log(GY_LOG_INFO, "replica_taken_over", "collection_id=%" PRIu64 " shard=%u member=%u epoch=%" PRIu64,
               hosted->key.collection_id, (uint32_t)hosted->key.shard, wish->member, wish->config.epoch);
        gy_place_open(hosted);
        return GYRE_OK;
    }
    free(path);
    bool older = status == GYRE_PRECONDITION && hosted->waiting.member;
    gy_place_looked_at(hosted, &hosted->waiting, older ? GYRE_OK : status, &why);
    return gyre_fail(err, older ? GYRE_ABORTED : status, "%s", why.text);
}

/* Finds or makes the replica, and holds it. */
static gyre_status obtain(gy_node *node, const struct gy_node_wish *wish, int64_t deadline_ns, gy_hosted **out, gyre_error *err)
{
    enum claim claim;
    const struct gy_store_identity *identity = wish->identity;
    GY_TRY(drop_other_waiting(node, wish, err));
    GY_TRY(hold_or_claim(node, wish, deadline_ns, out, &claim, err));
    if (claim == TO_MAKE)
        GY_TRY(create(node, *out, wish, err));
    else if (claim == TO_TAKE)
        GY_TRY(take_over(*out, wish, err));
    else if (claim == TO_REOPEN)
        gy_place_open(*out);
    if (!useless(node, wish))
        return claim != HELD ? gy_node_hold(node, identity->collection_id, identity->shard, out, err) : GYRE_OK;
    if (claim == HELD)
        gy_node_release(node, *out);
    return gyre_fail(err, GYRE_CORRUPT, "node %s: collection %" PRIu64 " shard %u: what is here is not member %u, or damaged",
                     node->name, identity->collection_id, identity->shard, wish->member);
}

static gyre_status begin_change(gy_node *node, gyre_error *err)
{
    pthread_mutex_lock(&node->mu);
    bool ending = node->ending;
    node->changing += !ending;
    pthread_mutex_unlock(&node->mu);
    return ending ? gyre_fail(err, GYRE_UNAVAILABLE, "node %s is stopping", node->name) : GYRE_OK;
}

static void end_change(gy_node *node)
{
    pthread_mutex_lock(&node->mu);
    node->changing--;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mu);
}

static gyre_status ensure(gy_node *node, const struct gy_node_wish *wish, int64_t deadline_ns, gy_hosted **out, gyre_error *err)
{
    gy_hosted *hosted;
    const struct gy_store_identity *identity = wish->identity;
    gyre_status status = obtain(node, wish, deadline_ns, &hosted, err);
    if (status == GYRE_CORRUPT && wish->create) {
        gy_log(GY_LOG_WARN, "replica_made_anew", "collection_id=%" PRIu64 " shard=%u member=%u", identity->collection_id,
               identity->shard, wish->member);
        GY_TRY(drop(node, identity->collection_id, identity->shard, 0, err));
        status = obtain(node, wish, deadline_ns, &hosted, err);
    }
    GY_TRY(status);
    Gyre__Node__ReplicaStatus before;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    gy_replica_status(hosted->replica, &before, trouble, sizeof trouble);
    status = check_codec(hosted->replica, wish->codec, err);
    if (status == GYRE_OK)
        status = gy_replica_set_config(hosted->replica, &wish->config, err);
    if (status == GYRE_OK && wish->codebook)
        status = gy_replica_set_codebook(hosted->replica, wish->codebook, err);
    else if (status == GYRE_OK)
        status = check_codebook(wish, before.codebook_version, err);
    if (status != GYRE_OK) {
        gy_node_release(node, hosted);
        return gyre_wrap(err, status, "collection %" PRIu64 " shard %u", identity->collection_id, identity->shard);
    }
    /* Only then: a coordinator that answers every report by this request must not cause the next report. */
    if (before.epoch != wish->config.epoch)
        gy_node_touch(node);
    *out = hosted;
    return GYRE_OK;
}

gyre_status gy_node_ensure(gy_node *node, const struct gy_node_wish *wish, int64_t deadline_ns, gy_hosted **out, gyre_error *err)
{
    GY_TRY(begin_change(node, err));
    gyre_status status = ensure(node, wish, deadline_ns, out, err);
    end_change(node);
    return status;
}

gyre_status gy_node_drop(gy_node *node, uint64_t collection_id, uint32_t shard, uint32_t member, gyre_error *err)
{
    GY_TRY(begin_change(node, err));
    gyre_status status = drop(node, collection_id, shard, member, err);
    end_change(node);
    return status;
}

/* ---- built anew ---- */

bool gy_node_keeps(gy_node *node, gy_hosted *hosted)
{
    pthread_mutex_lock(&node->mu);
    bool keeps = hosted->state == HOSTED_SERVING;
    pthread_mutex_unlock(&node->mu);
    return keeps;
}

gyre_status gy_node_import(gy_node *node, gy_hosted *hosted, const struct gy_shard_config *config, uint64_t epoch, uint64_t seq,
                           gy_import **out, gyre_error *err)
{
    GY_TRY(gy_disk_check(node->data_dir, node->limits.disk_free_min, "a replica built anew", err));
    return gy_import_open(out, node->env, hosted->path, gy_replica_identity(hosted->replica), gy_replica_member(hosted->replica),
                          config, epoch, seq, err);
}

/* The old one away, the new one in its place. */
static gyre_status put_in_place(gy_hosted *hosted, gy_replica *older, gy_import *import, gyre_error *err)
{
    struct gy_shard_config config;
    gy_store *store;
    gy_replica_config(older, &config);
    gy_replica_close(older);
    GY_TRY(gy_store_destroy(hosted->path, err));
    GY_TRY(gy_import_finish(import, &store, err));
    gyre_status status = gy_store_epoch(store) < config.epoch ? gy_store_set_config(store, &config, err) : GYRE_OK;
    gy_store_close(store);
    return status;
}

gyre_status gy_node_replace(gy_node *node, gy_hosted *hosted, gy_import *import, gyre_error *err)
{
    pthread_mutex_lock(&node->mu);
    bool keeps = hosted->state == HOSTED_SERVING;
    if (keeps) {
        hosted->state = HOSTED_OPENING; /* for whoever looks: it will serve, or be in trouble */
        while (hosted->holders > 1)
            pthread_cond_wait(&node->changed, &node->mu);
    }
    gy_replica *older = keeps ? GY_TAKE(hosted->replica) : NULL;
    pthread_mutex_unlock(&node->mu);
    if (!keeps)
        return gyre_fail(err, GYRE_ABORTED, "the replica is being dropped");
    gyre_error why = {0};
    if (put_in_place(hosted, older, import, &why) == GYRE_OK) {
        gy_place_open(hosted);
        return GYRE_OK;
    }
    /* Whatever it was, the old one may be gone already: as good as damaged. */
    gyre_status status = gyre_fail(err, GYRE_CORRUPT, "the new replica did not take the old one's place: %s", why.text);
    gy_place_opened(hosted, NULL, status, err);
    return status;
}

/* ---- looking ---- */

static int by_name(const void *a, const void *b)
{
    const Gyre__Node__ReplicaStatus *x = &((const struct gy_node_status *)a)->message,
                                    *y = &((const struct gy_node_status *)b)->message;
    if (x->collection_id != y->collection_id)
        return x->collection_id < y->collection_id ? -1 : 1;
    return x->shard < y->shard ? -1 : x->shard > y->shard;
}

static void describe_waiting(const struct gy_waiting *waiting, Gyre__Node__ReplicaStatus *message)
{
    message->waiting = true;
    message->applied_seq = message->log_seq = waiting->seq;
    message->hash_first = waiting->range.first, message->hash_last = waiting->range.last;
}

gyre_status gy_node_statuses(gy_node *node, struct gy_node_status **out, size_t *count, gyre_error *err)
{
    pthread_mutex_lock(&node->mu);
    size_t room = HASH_COUNT(node->table), used = 0;
    struct gy_node_status *statuses = calloc(room ? room : 1, sizeof *statuses);
    gy_hosted *hosted, *next, **held = calloc(room ? room : 1, sizeof(gy_hosted *));
    HASH_ITER(hh, node->table, hosted, next)
    {
        if (!statuses || !held || hosted->state == HOSTED_DROPPING || hosted->state == HOSTED_SPLITTING)
            continue;
        struct gy_node_status *status = &statuses[used];
        gyre__node__replica_status__init(&status->message);
        status->message.collection_id = hosted->key.collection_id;
        status->message.shard = (uint32_t)hosted->key.shard;
        if (hosted->state == HOSTED_SERVING)
            hosted->holders++, held[used] = hosted;
        else if (hosted->state == HOSTED_WAITING)
            describe_waiting(&hosted->waiting, &status->message);
        else
            snprintf(status->text, sizeof status->text, "%s",
                     hosted->state == HOSTED_OPENING ? "opening" : hosted->trouble.text);
        status->message.member = hosted->member;
        status->message.restoring = hosted->state == HOSTED_OPENING;
        status->message.lost = (hosted->state == HOSTED_TROUBLED || hosted->state == HOSTED_FENCING) &&
                               hosted->trouble.status == GYRE_CORRUPT;
        used++;
    }
    pthread_mutex_unlock(&node->mu);
    if (!statuses || !held) {
        free(statuses);
        free(held);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the state of %zu replicas", room);
    }
    for (size_t i = 0; i < used; i++) {
        if (held[i]) {
            gy_replica_status(held[i]->replica, &statuses[i].message, statuses[i].text, sizeof statuses[i].text);
            statuses[i].ram_bytes = gy_points_ram_bytes(gy_replica_points(held[i]->replica));
            gyre_error why;
            if (gy_node_judge(node, held[i], gy_points_damage(gy_replica_points(held[i]->replica), &why), &why) != GYRE_OK)
                snprintf(statuses[i].text, sizeof statuses[i].text, "%s", why.text), statuses[i].message.lost = true;
            gy_node_release(node, held[i]);
        }
    }
    free(held);
    qsort(statuses, used, sizeof *statuses, by_name);
    for (size_t i = 0; i < used; i++)
        statuses[i].message.trouble = statuses[i].text; /* sorting moved the text */
    *out = statuses;
    *count = used;
    return GYRE_OK;
}

void gy_node_statuses_free(struct gy_node_status *statuses)
{
    free(statuses);
}

bool gy_node_wait_change(gy_node *node, uint64_t *seen, int64_t until_ns)
{
    pthread_mutex_lock(&node->mu);
    bool in_time = true;
    while (node->change_count == *seen && in_time)
        in_time = wait_until(node, until_ns);
    bool changed = node->change_count != *seen;
    *seen = node->change_count;
    pthread_mutex_unlock(&node->mu);
    return changed;
}

void gy_node_touch(gy_node *node)
{
    pthread_mutex_lock(&node->mu);
    gy_node_note_change(node);
    pthread_mutex_unlock(&node->mu);
}
