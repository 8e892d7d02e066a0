/* How a member is built: pieces of the primary's state, by SNAPSHOT, into a hidden directory; then the old replica is closed and
 * deleted, and the new one put in its place with the newest configuration the old one had taken. */
#include "server/restore.h"

#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "gyre/pool.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { RESTORES_AT_ONCE = 2, RESTORES_WAITING_MAX = 4096 };
#define PIECE_DEADLINE_NS (10 * GY_SECOND_NS)

struct gy_restores {
    gy_node *node;
    atomic_bool stopping;
    pthread_mutex_t mu;
    gy_pool *pool; /* guarded by mu; NULL once stopped */
};

struct restore {
    gy_restores *restores;
    uint64_t collection_id;
    uint32_t shard, member;
    char primary[GY_MEMBER_NODE_BYTES_MAX + 1];
    void (*on_end)(void *arg, bool restored);
    void *arg;
    /* The place where the copy is. */
    uint64_t snapshot;
    uint32_t family;
    uint8_t *after;
    size_t after_bytes;
    uint64_t rows, bytes;
};

gyre_status gy_restores_new(gy_restores **out, gy_node *node, gyre_error *err)
{
    gy_restores *restores = calloc(1, sizeof *restores);
    if (!restores)
        return gyre_fail(err, GYRE_NO_MEMORY, "restores");
    restores->node = node;
    pthread_mutex_init(&restores->mu, NULL);
    gyre_status status =
        gy_pool_new_behind(&restores->pool, "restore", RESTORES_AT_ONCE, RESTORES_WAITING_MAX, GY_WRITES_STAND_BACK, err);
    if (status != GYRE_OK) {
        gy_restores_free(restores);
        return status;
    }
    *out = restores;
    return GYRE_OK;
}

void gy_restores_stop(gy_restores *restores)
{
    atomic_store(&restores->stopping, true);
    pthread_mutex_lock(&restores->mu);
    gy_pool *pool = restores->pool;
    restores->pool = NULL;
    pthread_mutex_unlock(&restores->mu);
    gy_pool_free(pool);
}

void gy_restores_free(gy_restores *restores)
{
    if (!restores)
        return;
    pthread_mutex_destroy(&restores->mu);
    free(restores);
}

/* Asks for the next piece, or to let go of the snapshot. */
static gyre_status ask(struct restore *restore, bool without_vectors, bool end, Gyre__Node__SnapshotReply **reply,
                       gyre_error *err)
{
    Gyre__Node__Snapshot request = GYRE__NODE__SNAPSHOT__INIT;
    request.collection_id = restore->collection_id, request.shard = restore->shard;
    request.id = restore->snapshot;
    request.family = restore->family;
    request.after = (ProtobufCBinaryData){restore->after_bytes, restore->after};
    request.without_vectors = without_vectors;
    request.end = end;
    return gy_links_call_wait(gy_node_links(restore->restores->node), restore->primary, GYRE__NODE__MESSAGE_TYPE__SNAPSHOT,
                              &request.base, &gyre__node__snapshot_reply__descriptor, reply, gy_now_ns() + PIECE_DEADLINE_NS,
                              err);
}

static gyre_status take_rows(struct restore *restore, gy_import *import, const Gyre__Node__SnapshotReply *piece, gyre_error *err)
{
    for (size_t i = 0; i < piece->n_rows; i++) {
        const Gyre__Node__SnapshotRow *sent = piece->rows[i];
        struct gy_row row = {sent->family, sent->key.data, sent->key.len, sent->value.data, sent->value.len};
        GY_TRY(gy_import_row(import, &row, err));
        restore->bytes += sent->key.len + sent->value.len;
    }
    restore->rows += piece->n_rows;
    if (piece->n_rows == 0)
        return piece->done ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "a piece without rows that is not the last");
    const Gyre__Node__SnapshotRow *last = piece->rows[piece->n_rows - 1];
    uint8_t *after = realloc(restore->after, last->key.len + 1);
    if (!after)
        return gyre_fail(err, GYRE_NO_MEMORY, "key of %zu bytes", last->key.len);
    if (last->key.len)
        memcpy(after, last->key.data, last->key.len);
    restore->after = after, restore->after_bytes = last->key.len;
    restore->family = last->family;
    return GYRE_OK;
}

/* Copies the whole state; *import is ready to be finished. */
static gyre_status copy(struct restore *restore, gy_hosted *hosted, gy_import **import, gyre_error *err)
{
    gy_replica *replica = gy_hosted_replica(hosted);
    struct gy_shard_config config;
    gy_replica_config(replica, &config);
    const struct gy_member *self = gy_config_member(&config, restore->member);
    if (!self)
        return gyre_fail(err, GYRE_ABORTED, "member %u is no longer one of the shard's", restore->member);
    bool done = false;
    while (!done) {
        Gyre__Node__SnapshotReply *piece;
        if (atomic_load(&restore->restores->stopping) || !gy_node_keeps(restore->restores->node, hosted))
            return gyre_fail(err, GYRE_CANCELLED, "the node stops, or the replica is dropped");
        GY_TRY(ask(restore, self->kind == GY_MEMBER_QUANTIZED, false, &piece, err));
        gyre_status status = GYRE_OK;
        if (!*import)
            status = gy_node_import(restore->restores->node, hosted, &config, piece->epoch, piece->seq, import, err);
        restore->snapshot = piece->id;
        if (status == GYRE_OK)
            status = take_rows(restore, *import, piece, err);
        done = piece->done;
        gy_wire_free(piece);
        GY_TRY(status);
    }
    return GYRE_OK;
}

static gyre_status run_held(struct restore *restore, gy_hosted *hosted, gyre_error *err)
{
    GY_AUTO(gy_import) *import = NULL;
    gyre_status status = copy(restore, hosted, &import, err);
    Gyre__Node__SnapshotReply *ended;
    if (restore->snapshot && ask(restore, false, true, &ended, NULL) == GYRE_OK) /* it forgets by itself, only later */
        gy_wire_free(ended);
    GY_TRY(status);
    restore->on_end(restore->arg, true);
    restore->on_end = NULL;
    return gy_node_replace(restore->restores->node, hosted, import, err);
}

static void run(void *arg)
{
    struct restore *restore = arg;
    gy_node *node = restore->restores->node;
    int64_t began_ns = gy_now_ns();
    gy_hosted *hosted = NULL;
    gyre_error err = {0};
    gyre_status status = gy_node_hold(node, restore->collection_id, restore->shard, &hosted, &err);
    if (status == GYRE_OK) {
        status = gy_replica_member(gy_hosted_replica(hosted)) == restore->member
                     ? run_held(restore, hosted, &err)
                     : gyre_fail(&err, GYRE_ABORTED, "the replica is another member now");
        gy_node_release(node, hosted);
    }
    if (restore->on_end)
        restore->on_end(restore->arg, false);
    if (status == GYRE_OK)
        gy_log(GY_LOG_INFO, "replica_restored",
               "collection_id=%" PRIu64 " shard=%u member=%u from=%s rows=%" PRIu64 " bytes=%" PRIu64 " took_ms=%" PRId64,
               restore->collection_id, restore->shard, restore->member, restore->primary, restore->rows, restore->bytes,
               (gy_now_ns() - began_ns) / GY_MILLISECOND_NS);
    else
        gy_log(GY_LOG_WARN, "replica_not_restored", "collection_id=%" PRIu64 " shard=%u member=%u from=%s error=%s",
               restore->collection_id, restore->shard, restore->member, restore->primary, err.text);
    free(restore->after);
    free(restore);
}

void gy_restores_begin(gy_restores *restores, gy_replica *replica, const char *primary_node,
                       void (*on_end)(void *arg, bool restored), void *arg)
{
    const struct gy_store_identity *identity = gy_replica_identity(replica);
    struct restore *restore = calloc(1, sizeof *restore);
    gyre_error err;
    gyre_status status = restore ? GYRE_OK : gyre_fail(&err, GYRE_NO_MEMORY, "restore");
    if (status == GYRE_OK) {
        *restore = (struct restore){.restores = restores,
                                    .collection_id = identity->collection_id,
                                    .shard = identity->shard,
                                    .member = gy_replica_member(replica),
                                    .on_end = on_end,
                                    .arg = arg};
        snprintf(restore->primary, sizeof restore->primary, "%s", primary_node);
        pthread_mutex_lock(&restores->mu);
        status = restores->pool ? gy_pool_submit(restores->pool, run, restore, &err)
                                : gyre_fail(&err, GYRE_UNAVAILABLE, "the node stops");
        pthread_mutex_unlock(&restores->mu);
    }
    if (status == GYRE_OK)
        return;
    gy_log(GY_LOG_WARN, "replica_not_restored", "shard=%u error=%s", identity->shard, err.text);
    free(restore);
    on_end(arg, false);
}
