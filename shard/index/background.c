/* What a replica does when nobody asks: a newer codebook first, then compaction, then warming the mirror: rows that were there at
 * opening are read from RocksDB, chunk by chunk. All but the first is done in small steps, with rests between them, so that
 * whoever shares the processor and the disk sees little of it. */
#include "gyre/clock.h"
#include "gyre/lifecycle.h"
#include "index/rank.h"

#define WARM_REST 3                       /* times as long as the step took */
#define COMPACTION_REST 1
#define ROOM_WAIT_NS INT64_C(5000000000) /* until the mirror is tried again when there was no room */

struct background {
    gy_points *points;
    size_t warm_next; /* chunk number */
};

/* Under mu: waits at most that long, or until there is something to do before what there is a rest from. */
static void rest(gy_points *points, int64_t ns, bool from_compaction)
{
    int64_t until = gy_now_ns() + ns;
    struct timespec at = {until / 1000000000, until % 1000000000};
    while (!points->closing && !points->target && (from_compaction || !points->compaction_wanted) &&
           pthread_cond_timedwait(&points->wake, &points->mu, &at) == 0)
        ;
}

/* Remembers damage, if it is the first. */
static void note_damage(gy_points *points, gyre_status status, const gyre_error *err)
{
    if (status != GYRE_CORRUPT)
        return;
    pthread_mutex_lock(&points->mu);
    if (points->damage.status == GYRE_OK)
        points->damage = *err;
    pthread_mutex_unlock(&points->mu);
}

gyre_status gy_points_damage(gy_points *points, gyre_error *err)
{
    pthread_mutex_lock(&points->mu);
    gyre_error damage = points->damage;
    pthread_mutex_unlock(&points->mu);
    return damage.status == GYRE_OK ? GYRE_OK : gyre_fail(err, damage.status, "%s", damage.text);
}

/* One chunk; how long to rest after it through rest_ns. A read that failed otherwise is left to whoever asks for the row. */
static void warm(struct background *background, int64_t *rest_ns)
{
    gy_points *points = background->points;
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    int64_t start = gy_now_ns();
    size_t read = 0;
    *rest_ns = 0;
    while (background->warm_next < snapshot->count && !read) {
        gyre_error err;
        note_damage(points, gy_points_mirror_chunk(points, snapshot, background->warm_next, &read, &err), &err);
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, background->warm_next);
        if (read && !gy_segment_has_room(chunk->mirror)) {
            *rest_ns = ROOM_WAIT_NS;
            return;
        }
        background->warm_next++;
    }
    if (read)
        *rest_ns = WARM_REST * (gy_now_ns() - start);
    else
        atomic_store(&points->is_warm, true);
}

void *gy_points_background(void *arg)
{
    gy_points *points = arg;
    struct background background = {points, 0};
    pthread_setname_np(pthread_self(), "background");
    gy_thread_stand_back(GY_BACKGROUND_STANDS_BACK);
    pthread_mutex_lock(&points->mu);
    while (!points->closing) {
        gyre_codebook *target = GY_TAKE(points->target);
        bool compact = !target && points->compaction_wanted, more = false;
        if (compact)
            points->compaction_wanted = false;
        int64_t rest_ns = 0;
        if (!target && !compact && atomic_load(&points->is_warm)) {
            pthread_cond_wait(&points->wake, &points->mu);
            continue;
        }
        pthread_mutex_unlock(&points->mu);
        if (target) {
            gy_points_reencode(points, target);
        } else if (compact) {
            int64_t start = gy_now_ns();
            more = gy_compaction_step(points);
            rest_ns = COMPACTION_REST * (gy_now_ns() - start);
        } else {
            warm(&background, &rest_ns);
        }
        pthread_mutex_lock(&points->mu);
        points->compaction_wanted |= more;
        if (rest_ns)
            rest(points, rest_ns, compact);
    }
    pthread_mutex_unlock(&points->mu);
    return NULL;
}
