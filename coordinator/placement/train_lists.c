/* k-means in the background: on threads of its own, which step behind everything else on the machine. */
#include "placement/train.h"

#include "gyre/kmeans.h"
#include "gyre/lifecycle.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    THREADS_MAX = 64,
    /* Lists are chosen by recall, not by the last percent of the objective: most of it is gained in few iterations. */
    ITERATIONS_MAX = 12,
};

/* Threads that take the parts of one piece of work after another. */
struct crew {
    struct gy_trainer *trainer;
    gy_pool *pool;
    size_t threads;
    pthread_mutex_t mu;
    pthread_cond_t idle;
    size_t working; /* guarded by mu */
};

/* One piece of work; on the stack of whoever waits for it. */
struct shift {
    struct crew *crew;
    void (*part)(void *work, size_t i);
    void *work;
    size_t parts;
    atomic_size_t next;
};

static void take_parts(struct shift *shift)
{
    for (size_t i; (i = atomic_fetch_add_explicit(&shift->next, 1, memory_order_relaxed)) < shift->parts;)
        shift->part(shift->work, i);
}

static void help(void *arg)
{
    struct shift *shift = arg;
    struct crew *crew = shift->crew;
    take_parts(shift);
    pthread_mutex_lock(&crew->mu);
    if (--crew->working == 0)
        pthread_cond_signal(&crew->idle);
    pthread_mutex_unlock(&crew->mu);
}

/* gyre_kmeans_options.run: the caller only waits, since its thread is not one of those that step behind. */
static void crew_run(void *context, size_t parts, void (*part)(void *work, size_t i), void *work)
{
    struct crew *crew = context;
    struct shift shift = {.crew = crew, .part = part, .work = work, .parts = parts};
    size_t helpers = parts < crew->threads ? parts : crew->threads, sent = 0;
    pthread_mutex_lock(&crew->mu);
    gyre_error err;
    while (sent < helpers && gy_pool_submit(crew->pool, help, &shift, &err) == GYRE_OK)
        sent++;
    crew->working = sent;
    while (crew->working > 0)
        pthread_cond_wait(&crew->idle, &crew->mu);
    pthread_mutex_unlock(&crew->mu);
    if (sent == 0)
        take_parts(&shift);
}

static bool progress(void *context, const gyre_kmeans_progress *reached)
{
    struct crew *crew = context;
    double done = (reached->iteration + reached->done) / (ITERATIONS_MAX + 1);
    gy_trainer_says(crew->trainer, "lists", done < 1 ? done : 1);
    return gy_trainer_wanted(crew->trainer, "its lists", NULL) == GYRE_OK;
}

static size_t cpu_count(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > THREADS_MAX ? THREADS_MAX : (size_t)online;
}

gyre_status gy_train_lists(struct gy_trainer *trainer, const struct gy_train_sample *sample, uint32_t dim, uint32_t lists,
                           float *centroids, gyre_error *err)
{
    gy_trainer_says(trainer, "lists", 0);
    if (sample->count < lists)
        return gyre_fail(err, GYRE_PRECONDITION, "%u lists of a sample of %zu vectors; ask for fewer", lists, sample->count);
    struct crew crew = {.trainer = trainer, .threads = cpu_count()};
    GY_TRY(gy_pool_new_behind(&crew.pool, "kmeans", crew.threads, crew.threads, GY_BACKGROUND_STANDS_BACK, err));
    pthread_mutex_init(&crew.mu, NULL);
    pthread_cond_init(&crew.idle, NULL);
    gyre_kmeans_options options = {.sample_per_list = GY_SAMPLE_PER_LIST, .iterations_max = ITERATIONS_MAX, .progress = progress,
                                   .run = crew_run, .context = &crew};
    gy_store_u64(options.seed, trainer->collection_id); /* the same collection and points give the same lists */
    gyre_kmeans_progress result = {0};
    int64_t began_ns = gy_now_ns();
    gyre_status status = gyre_kmeans_train(&options, sample->vectors, sample->count, dim, lists, centroids, &result, err);
    gy_pool_free(crew.pool);
    pthread_cond_destroy(&crew.idle);
    pthread_mutex_destroy(&crew.mu);
    if (status == GYRE_CANCELLED)
        GY_TRY(gy_trainer_wanted(trainer, "its lists", err)); /* says why */
    GY_TRY(status);
    gy_log(GY_LOG_INFO, "training_lists_made",
           "collection=%s lists=%u sample=%zu iterations=%u objective=%.6g largest=%zu empty=%zu ms=%lld", trainer->name, lists,
           result.sample, result.iteration, result.objective, result.largest_list, result.empty_lists,
           (long long)((gy_now_ns() - began_ns) / GY_MILLISECOND_NS));
    return GYRE_OK;
}
