#include "scan/share.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct share {
    gy_share_part *run;
    void *self; /* lent by the caller: touched only by who holds a part */
    size_t part_count;
    atomic_size_t next_part, next_worker;
    atomic_bool stopped;      /* a part failed */
    atomic_size_t references; /* the caller and each queued or running helper */

    pthread_mutex_t mu;
    pthread_cond_t finished;
    size_t parts_done;        /* this and below guarded by mu */
    gyre_status status;
    gyre_error err;
};

static void share_release(struct share *share)
{
    if (atomic_fetch_sub(&share->references, 1) != 1)
        return;
    pthread_cond_destroy(&share->finished);
    pthread_mutex_destroy(&share->mu);
    free(share);
}

/* Takes parts until there are none. Nothing but the counter is touched before a part is won. */
static void work(struct share *share)
{
    size_t part = atomic_fetch_add(&share->next_part, 1);
    if (part >= share->part_count)
        return;
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    size_t worker = atomic_fetch_add(&share->next_worker, 1), done = 0;
    for (; part < share->part_count; part = atomic_fetch_add(&share->next_part, 1), done++) {
        if (status == GYRE_OK && !atomic_load_explicit(&share->stopped, memory_order_relaxed))
            status = share->run(share->self, worker, part, &err);
        if (status != GYRE_OK)
            atomic_store(&share->stopped, true);
    }
    pthread_mutex_lock(&share->mu);
    if (status != GYRE_OK && share->status == GYRE_OK)
        share->status = status, share->err = err;
    share->parts_done += done;
    if (share->parts_done == share->part_count)
        pthread_cond_signal(&share->finished);
    pthread_mutex_unlock(&share->mu);
}

static void help(void *arg)
{
    struct share *share = arg;
    work(share);
    share_release(share);
}

static gyre_status run_alone(size_t part_count, gy_share_part *run, void *self, gyre_error *err)
{
    for (size_t part = 0; part < part_count; part++)
        GY_TRY(run(self, 0, part, err));
    return GYRE_OK;
}

gyre_status gy_share_run(gy_pool *pool, size_t part_count, gy_share_part *run, void *self, gyre_error *err)
{
    if (!pool || part_count < 2)
        return run_alone(part_count, run, self, err);
    struct share *share = calloc(1, sizeof *share);
    if (!share)
        return gyre_fail(err, GYRE_NO_MEMORY, "scan");
    *share = (struct share){.run = run, .self = self, .part_count = part_count};
    atomic_init(&share->references, 1);
    pthread_mutex_init(&share->mu, NULL);
    pthread_cond_init(&share->finished, NULL);
    for (size_t i = 1; i < part_count && i < GY_SHARE_WORKERS_MAX; i++) {
        atomic_fetch_add(&share->references, 1);
        if (!gy_pool_offer(pool, help, share)) { /* enough wait already: we do more ourselves */
            atomic_fetch_sub(&share->references, 1);
            break;
        }
    }
    work(share);
    pthread_mutex_lock(&share->mu);
    while (share->parts_done < share->part_count)
        pthread_cond_wait(&share->finished, &share->mu);
    gyre_status status = share->status;
    if (status != GYRE_OK && err)
        *err = share->err;
    pthread_mutex_unlock(&share->mu);
    share_release(share);
    return status;
}
