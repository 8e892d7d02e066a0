/* Opening and closing, the current snapshot, and what there is to know of a replica. */
#include "index/state.h"
#include "store/disk.h"

#include <stdlib.h>

gyre_status gy_points_open(gy_points **out, gy_store *store, gyre_error *err)
{
    const gyre_codebook *codebook = gy_store_codebook(store);
    gy_points *points = calloc(1, sizeof *points);
    if (!points)
        return gyre_fail(err, GYRE_NO_MEMORY, "points");
    points->store = store;
    points->dim = gyre_codebook_dim(codebook);
    points->metric = gyre_codebook_metric(codebook);
    points->quantized = gy_store_quantized(store);
    points->is_warm = points->quantized; /* there is nothing to mirror */
    points->target_version = gyre_codebook_version(codebook);
    points->disk_free_min = GY_DISK_FLOOR_BYTES;
    pthread_mutex_init(&points->apply_mu, NULL);
    pthread_mutex_init(&points->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&points->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    gyre_status status = GYRE_OK;
    if (!points->quantized)
        status = gy_vectors_new(&points->vectors, gy_store_path(store), points->metric, points->dim, err);
    gy_places_init(&points->places, points->vectors);
    if (status == GYRE_OK)
        status = gy_points_load(points, err);
    if (status == GYRE_OK && pthread_create(&points->background, NULL, gy_points_background, points) != 0)
        status = gyre_fail(err, GYRE_EXHAUSTED, "background thread cannot be started");
    if (status != GYRE_OK) {
        points->closing = true; /* no thread to wait for */
        gy_points_close(points);
        return status;
    }
    *out = points;
    return GYRE_OK;
}

void gy_points_close(gy_points *points)
{
    if (!points)
        return;
    pthread_mutex_lock(&points->mu);
    bool running = !points->closing;
    points->closing = true;
    pthread_cond_signal(&points->wake);
    pthread_mutex_unlock(&points->mu);
    if (running)
        pthread_join(points->background, NULL);
    if (points->vectors)
        gy_vectors_retire(points->vectors);
    gy_snapshot_release(points->current);
    gyre_codebook_free(points->target);
    gy_places_fini(&points->places);
    gy_vectors_free(points->vectors);
    free(points->dirty.ids);
    free(points->compaction.numbers);
    pthread_cond_destroy(&points->wake);
    pthread_mutex_destroy(&points->mu);
    pthread_mutex_destroy(&points->apply_mu);
    free(points);
}

gyre_status gy_points_need_vectors(const gy_points *points, const char *what, gyre_error *err)
{
    return points->quantized ? gyre_fail(err, GYRE_PRECONDITION, "%s: the replica is quantized and holds no vectors", what)
                             : GYRE_OK;
}

void gy_points_publish(gy_points *points, gy_snapshot *snapshot)
{
    pthread_mutex_lock(&points->mu);
    gy_snapshot *old = points->current;
    points->current = snapshot;
    pthread_mutex_unlock(&points->mu);
    gy_snapshot_release(old); /* may free many chunks: not under the lock */
}

gy_snapshot *gy_points_snapshot(gy_points *points)
{
    pthread_mutex_lock(&points->mu);
    gy_snapshot *snapshot = gy_snapshot_hold(points->current);
    pthread_mutex_unlock(&points->mu);
    return snapshot;
}

gyre_status gy_dirty_reserve(struct gy_dirty *dirty, size_t more, gyre_error *err)
{
    if (dirty->count + more <= dirty->room)
        return GYRE_OK;
    size_t room = (dirty->count + more) * 2;
    gyre_point_id *ids = realloc(dirty->ids, room * sizeof *ids);
    if (!ids)
        return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu changed points", room);
    dirty->ids = ids;
    dirty->room = room;
    return GYRE_OK;
}

gyre_status gy_points_flush(gy_points *points, gyre_error *err)
{
    return gy_store_flush(points->store, err);
}

/* ---- facts ---- */
uint64_t gy_points_count(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return gy_snapshot_count(snapshot);
}

uint64_t gy_points_applied_seq(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return snapshot->applied_seq;
}

uint32_t gy_points_codebook_version(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return gyre_codebook_version(snapshot->codebook->codebook);
}

uint64_t gy_points_ram_bytes(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return snapshot->bytes + atomic_load(&points->table_bytes) + atomic_load(&points->side_bytes);
}

void gy_points_progress(gy_points *points, uint64_t *done, uint64_t *total)
{
    *done = atomic_load(&points->progress);
    *total = atomic_load(&points->goal);
}

const gyre_codec *gy_points_codec(const gy_points *points)
{
    return gy_store_codec(points->store);
}

uint32_t gy_points_dim(gy_points *points)
{
    return points->dim;
}

size_t gy_points_row_bytes(const gy_points *points)
{
    return gyre_codec_list_row_bytes(gy_store_codec(points->store), points->dim);
}

gyre_metric gy_points_metric(gy_points *points)
{
    return points->metric;
}
