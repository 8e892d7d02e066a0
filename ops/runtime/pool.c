/* pool: a ring of jobs under one mutex; threads wait on one condition.
 *
 * Offers stand in the same ring, in the order they came, but are counted apart and have room of their own (one a thread): they
 * can neither take the places of jobs nor be passed over for ever, and under load few of them wait for threads that come too
 * late. */
#include "gyre/pool.h"

#include "gyre/lifecycle.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS_MAX = 1024, PLACES_MAX = 1 << 20, NAME_CHARS_MAX = 10, THREAD_NAME_BYTES = 16 /* Linux' limit */ };

struct job {
    void (*run)(void *arg);
    void *arg;
    bool offered;
};

struct gy_pool {
    pthread_mutex_t mu;
    pthread_cond_t work;    /* a job came, or the pool stops */
    struct job *ring;       /* [room]; guarded by mu, as all below but the constants */
    size_t places, room;    /* constant: of jobs; of jobs and offers */
    size_t first, queued;   /* queued: both */
    size_t offers;          /* of the queued */
    bool stopping;
    int steps;              /* constant: that the threads stand back */
    size_t thread_count;    /* threads that were started; fixed once gy_pool_new returned */
    pthread_t threads[];
};

static void *serve(void *self)
{
    struct gy_pool *pool = self;
    if (pool->steps)
        gy_thread_stand_back(pool->steps);
    pthread_mutex_lock(&pool->mu);
    for (;;) {
        while (pool->queued == 0 && !pool->stopping)
            pthread_cond_wait(&pool->work, &pool->mu);
        if (pool->queued == 0)
            break;
        struct job job = pool->ring[pool->first];
        pool->first = (pool->first + 1) % pool->room;
        pool->queued--;
        pool->offers -= job.offered;
        pthread_mutex_unlock(&pool->mu);
        job.run(job.arg);
        pthread_mutex_lock(&pool->mu);
    }
    pthread_mutex_unlock(&pool->mu);
    return NULL;
}

GY_AUTO_DEFINE(gy_pool, gy_pool_free)

gyre_status gy_pool_new(gy_pool **out, const char *name, size_t threads, size_t queue_places, gyre_error *err)
{
    return gy_pool_new_behind(out, name, threads, queue_places, 0, err);
}

gyre_status gy_pool_new_behind(gy_pool **out, const char *name, size_t threads, size_t queue_places, int steps, gyre_error *err)
{
    if (threads == 0 || threads > THREADS_MAX)
        return gyre_fail(err, GYRE_INVALID, "pool '%s': %zu threads; 1 to %d are possible", name, threads, THREADS_MAX);
    if (queue_places == 0 || queue_places > PLACES_MAX)
        return gyre_fail(err, GYRE_INVALID, "pool '%s': %zu queue places; 1 to %d are possible", name, queue_places, PLACES_MAX);
    if (strlen(name) > NAME_CHARS_MAX)
        return gyre_fail(err, GYRE_INVALID, "pool '%s': the name is longer than %d characters", name, NAME_CHARS_MAX);
    struct gy_pool *made = calloc(1, sizeof *made + threads * sizeof *made->threads);
    struct job *ring = calloc(queue_places + threads, sizeof *ring);
    if (!made || !ring) {
        free(made);
        free(ring);
        return gyre_fail(err, GYRE_NO_MEMORY, "pool '%s' of %zu places", name, queue_places);
    }
    pthread_mutex_init(&made->mu, NULL);
    pthread_cond_init(&made->work, NULL);
    made->ring = ring;
    made->steps = steps;
    made->places = queue_places;
    made->room = queue_places + threads;
    GY_AUTO(gy_pool) *pool = made;
    for (size_t i = 0; i < threads; i++) {
        int error = pthread_create(&pool->threads[i], NULL, serve, pool);
        if (error)
            return gyre_fail(err, GYRE_EXHAUSTED, "pool '%s': thread %zu of %zu: %s", name, i + 1, threads, strerror(error));
        pool->thread_count++;
        char thread_name[THREAD_NAME_BYTES];
        snprintf(thread_name, sizeof thread_name, "%s/%u", name, (unsigned)i);
        pthread_setname_np(pool->threads[i], thread_name);
    }
    *out = GY_TAKE(pool);
    return GYRE_OK;
}

/* Called with mu held and room for it. */
static void append(gy_pool *pool, struct job job)
{
    pool->ring[(pool->first + pool->queued) % pool->room] = job;
    pool->queued++;
    pthread_cond_signal(&pool->work);
}

gyre_status gy_pool_submit(gy_pool *pool, void (*run)(void *arg), void *arg, gyre_error *err)
{
    pthread_mutex_lock(&pool->mu);
    bool stopping = pool->stopping, full = pool->queued - pool->offers == pool->places;
    if (!stopping && !full)
        append(pool, (struct job){run, arg, false});
    pthread_mutex_unlock(&pool->mu);
    if (stopping)
        return gyre_fail(err, GYRE_UNAVAILABLE, "the pool is stopping and takes no more work");
    if (full)
        return gyre_fail(err, GYRE_EXHAUSTED, "all %zu places of the work queue are taken", pool->places);
    return GYRE_OK;
}

bool gy_pool_offer(gy_pool *pool, void (*run)(void *arg), void *arg)
{
    pthread_mutex_lock(&pool->mu);
    bool taken = !pool->stopping && pool->offers < pool->thread_count;
    if (taken) {
        append(pool, (struct job){run, arg, true});
        pool->offers++;
    }
    pthread_mutex_unlock(&pool->mu);
    return taken;
}

size_t gy_pool_queued(gy_pool *pool)
{
    pthread_mutex_lock(&pool->mu);
    size_t queued = pool->queued;
    pthread_mutex_unlock(&pool->mu);
    return queued;
}

void gy_pool_free(gy_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mu);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mu);
    for (size_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mu);
    free(pool->ring);
    free(pool);
}
