/* pool: a fixed set of threads and a bounded queue in front of them. */
#ifndef GYRE_POOL_H
#define GYRE_POOL_H

#include "gyre/base.h"

typedef struct gy_pool gy_pool;

/* name: for thread names, at most 10 characters. GYRE_INVALID for zero threads or places. */
GYRE_CHECKED gyre_status gy_pool_new(gy_pool **out, const char *name, size_t threads, size_t queue_places, gyre_error *err);
/* The same with threads that stand back (gy_thread_stand_back) by so many steps: for work that others must not feel. */
GYRE_CHECKED gyre_status gy_pool_new_behind(gy_pool **out, const char *name, size_t threads, size_t queue_places, int steps,
                                            gyre_error *err);
/* Queues run(arg). GYRE_EXHAUSTED when the queue is full: run will then not be called. */
GYRE_CHECKED gyre_status gy_pool_submit(gy_pool *pool, void (*run)(void *arg), void *arg, gyre_error *err);
/* Queues run(arg) as a help that its own thread can do without: it stands in line like a job but takes no job's place. False if
 * as many offers wait already as there are threads, or the pool stops: run will then not be called. Where it is called it may
 * come late, when nothing is left to do. */
bool gy_pool_offer(gy_pool *pool, void (*run)(void *arg), void *arg);
/* Runs everything that is queued, then stops the threads. NULL is fine. */
void gy_pool_free(gy_pool *pool);
/* Jobs and offers that wait. */
size_t gy_pool_queued(gy_pool *pool);

#endif
