/* Places come from directories at start, from requests (node.c) and from splits. */
#include "server/hosted.h"

#include "gyre/log.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the table ---- */

gy_hosted *gy_place_find(gy_node *node, uint64_t collection_id, uint32_t shard)
{
    struct hosted_key key = {collection_id, shard};
    gy_hosted *hosted;
    HASH_FIND(hh, node->table, &key, sizeof key, hosted);
    return hosted;
}

char *gy_place_path(const gy_node *node, uint64_t collection_id, uint32_t shard, bool waiting)
{
    char *path;
    return asprintf(&path, "%s/%" PRIu64 "-%u%s", node->replicas_dir, collection_id, shard, waiting ? GY_WAITING_SUFFIX : "") < 0
               ? NULL
               : path;
}

gyre_status gy_place_add(gy_node *node, uint64_t collection_id, uint32_t shard, bool waiting, gy_hosted **out,
                         gyre_error *err)
{
    gy_hosted *hosted = calloc(1, sizeof *hosted);
    if (!hosted || !(hosted->path = gy_place_path(node, collection_id, shard, waiting))) {
        free(hosted);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a replica");
    }
    hosted->key = (struct hosted_key){collection_id, shard};
    hosted->node = node;
    hosted->state = HOSTED_OPENING;
    hosted->unclaimed = waiting;
    HASH_ADD(hh, node->table, key, sizeof hosted->key, hosted);
    *out = hosted;
    return GYRE_OK;
}

void gy_place_remove(gy_node *node, gy_hosted *hosted)
{
    HASH_DELETE(hh, node->table, hosted);
    free(hosted->path);
    free(hosted);
}

void gy_node_note_change(gy_node *node)
{
    node->change_count++;
    pthread_cond_broadcast(&node->changed);
}

/* ---- opening ---- */

void gy_place_opened(gy_hosted *hosted, gy_replica *replica, gyre_status status, const gyre_error *err)
{
    gy_node *node = hosted->node;
    pthread_mutex_lock(&node->mu);
    hosted->replica = replica;
    if (replica)
        hosted->member = gy_replica_member(replica);
    hosted->state = status == GYRE_OK ? HOSTED_SERVING : HOSTED_TROUBLED;
    if (status != GYRE_OK)
        hosted->trouble = *err;
    gy_node_note_change(node);
    pthread_mutex_unlock(&node->mu);
}

void gy_place_open(void *arg)
{
    gy_hosted *hosted = arg;
    gy_replica *replica = NULL;
    gyre_error err;
    int64_t started_ns = gy_now_ns();
    gyre_status status = gy_replica_open(&replica, hosted->node->env, hosted->path, &hosted->node->limits, &err);
    if (status == GYRE_OK) {
        const struct gy_store_identity *identity = gy_replica_identity(replica);
        if (identity->collection_id != hosted->key.collection_id || identity->shard != hosted->key.shard) {
            status = gyre_fail(&err, GYRE_CORRUPT, "%s holds collection %" PRIu64 " shard %u", hosted->path,
                               identity->collection_id, identity->shard);
            gy_replica_close(replica);
            replica = NULL;
        }
    }
    if (status == GYRE_OK)
        gy_log(GY_LOG_INFO, "replica_opened", "collection_id=%" PRIu64 " shard=%u points=%" PRIu64 " took_ms=%" PRId64,
               hosted->key.collection_id, (uint32_t)hosted->key.shard, gy_points_count(gy_replica_points(replica)),
               (gy_now_ns() - started_ns) / GY_MILLISECOND_NS);
    else
        gy_log(GY_LOG_ERROR, "replica_not_opened", "path=%s error=%s", hosted->path, err.text);
    gy_place_opened(hosted, replica, status, &err);
}

void gy_place_looked_at(gy_hosted *hosted, const struct gy_waiting *waiting, gyre_status status, const gyre_error *err)
{
    gy_node *node = hosted->node;
    pthread_mutex_lock(&node->mu);
    hosted->state = status == GYRE_OK ? HOSTED_WAITING : HOSTED_TROUBLED;
    if (status == GYRE_OK)
        hosted->waiting = *waiting, hosted->member = waiting->member;
    else
        hosted->trouble = *err;
    gy_node_note_change(node);
    pthread_mutex_unlock(&node->mu);
}

static void look_at_place(void *arg)
{
    gy_hosted *hosted = arg;
    struct gy_waiting waiting;
    gyre_error err;
    gyre_status status = gy_waiting_look(hosted->node->env, hosted->path, hosted->key.collection_id, (uint32_t)hosted->key.shard,
                                         &waiting, &err);
    if (status != GYRE_OK)
        gy_log(GY_LOG_ERROR, "replica_not_opened", "path=%s error=%s", hosted->path, err.text);
    gy_place_looked_at(hosted, &waiting, status, &err);
}

/* ---- found at start ---- */

/* Reads "<collection id>-<shard>", with the suffix of those that wait or without, nothing else. */
static bool parse_directory(const char *name, uint64_t *collection_id, uint32_t *shard, bool *waiting)
{
    char again[64];
    if (sscanf(name, "%" SCNu64 "-%" SCNu32, collection_id, shard) != 2)
        return false;
    size_t bytes = (size_t)snprintf(again, sizeof again, "%" PRIu64 "-%u", *collection_id, *shard);
    *waiting = strncmp(again, name, bytes) == 0 && strcmp(name + bytes, GY_WAITING_SUFFIX) == 0;
    return *waiting || strcmp(again, name) == 0;
}

/* A replica that is there makes one that waits to become it useless. */
static gyre_status find_directory(gy_node *node, const char *path, uint64_t collection_id, uint32_t shard, bool waiting,
                              gyre_error *err)
{
    gy_hosted *hosted = gy_place_find(node, collection_id, shard);
    if (hosted && waiting)
        return gy_store_destroy(path, err);
    if (hosted) {
        GY_TRY(gy_store_destroy(hosted->path, err));
        gy_place_remove(node, hosted);
    }
    return gy_place_add(node, collection_id, shard, waiting, &hosted, err);
}

/* Makes a place for every directory; what a crash left half made or half deleted (hidden names) is removed. */
gyre_status gy_node_find_places(gy_node *node, gyre_error *err)
{
    DIR *directory = opendir(node->replicas_dir);
    if (!directory)
        return gyre_fail(err, GYRE_INTERNAL, "%s: %s", node->replicas_dir, strerror(errno));
    gyre_status status = GYRE_OK;
    struct dirent *entry;
    while (status == GYRE_OK && (errno = 0, entry = readdir(directory))) {
        uint64_t collection_id;
        uint32_t shard;
        bool waiting;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path;
        if (asprintf(&path, "%s/%s", node->replicas_dir, entry->d_name) < 0) {
            status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for a path");
            break;
        }
        if (entry->d_name[0] == '.')
            status = gy_store_destroy(path, err);
        else if (parse_directory(entry->d_name, &collection_id, &shard, &waiting))
            status = find_directory(node, path, collection_id, shard, waiting, err);
        else
            gy_log(GY_LOG_WARN, "not_a_replica", "path=%s", path);
        free(path);
    }
    closedir(directory);
    return status;
}

/* The places of now: opening a replica may add one (gy_place_split). */
static gyre_status list_places(gy_node *node, gy_hosted ***out, size_t *count, gyre_error *err)
{
    pthread_mutex_lock(&node->mu);
    gy_hosted **places = calloc(HASH_COUNT(node->table) + 1, sizeof *places);
    *count = 0;
    for (gy_hosted *hosted = node->table; places && hosted; hosted = hosted->hh.next)
        places[(*count)++] = hosted;
    pthread_mutex_unlock(&node->mu);
    *out = places;
    return places ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "no memory for a list of replicas");
}

gyre_status gy_node_open_places(gy_node *node, gyre_error *err)
{
    size_t count;
    gy_hosted **places;
    GY_TRY(list_places(node, &places, &count, err));
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = cores > 1 ? (size_t)cores : 1;
    gy_pool *pool = NULL;
    gyre_status status = count ? gy_pool_new(&pool, "open", threads < count ? threads : count, count, err) : GYRE_OK;
    /* No lock: none is removed before this function returns. */
    for (size_t i = 0; i < count && status == GYRE_OK; i++)
        status = gy_pool_submit(pool, places[i]->unclaimed ? look_at_place : gy_place_open, places[i], err);
    gy_pool_free(pool);
    free(places);
    return status;
}

/* ---- split off ---- */

/* Where a narrowing's child is to be made; NULL with GYRE_OK: there is something already. */
static gyre_status begin_child(gy_node *node, uint64_t collection_id, uint32_t shard, gy_hosted **out, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    gy_hosted *hosted;
    *out = NULL;
    pthread_mutex_lock(&node->mu);
    while ((hosted = gy_place_find(node, collection_id, shard)) && hosted->state == HOSTED_DROPPING)
        pthread_cond_wait(&node->changed, &node->mu);
    if (!hosted) {
        status = gy_place_add(node, collection_id, shard, true, out, err);
        if (status == GYRE_OK)
            (*out)->state = HOSTED_SPLITTING;
    }
    pthread_mutex_unlock(&node->mu);
    return status;
}

/* On the replica's own thread, or on that of who opens it. What a crash leaves half made is hidden. */
gyre_status gy_place_split(void *self, gy_replica *replica, const struct gy_replica_child *child, gyre_error *err)
{
    gy_node *node = self;
    const struct gy_store_identity *identity = gy_replica_identity(replica);
    gy_hosted *hosted;
    GY_TRY(begin_child(node, identity->collection_id, child->shard, &hosted, err));
    if (!hosted)
        return GYRE_OK;
    gyre_status status = gy_replica_make_child(replica, hosted->path, child, err);
    if (status != GYRE_OK) {
        pthread_mutex_lock(&node->mu);
        gy_place_remove(node, hosted);
        pthread_cond_broadcast(&node->changed);
        pthread_mutex_unlock(&node->mu);
        return status;
    }
    gy_log(GY_LOG_INFO, "replica_split",
           "collection_id=%" PRIu64 " shard=%u into=%u member=%u seq=%" PRIu64 " hash_first=%016" PRIx64 " hash_last=%016" PRIx64,
           identity->collection_id, identity->shard, child->shard, gy_replica_member(replica), child->seq, child->range.first,
           child->range.last);
    gy_place_looked_at(hosted, &(struct gy_waiting){gy_replica_member(replica), child->seq, child->range}, GYRE_OK, NULL);
    return GYRE_OK;
}
