/* pool: a fixed set of threads and a bounded queue in front of them. */
#ifndef GYRE_POOL_H
#define GYRE_POOL_H

#include "gyre/base.h"

typedef struct gy_pool gy_pool;

/* name: for thread names, at most 10 characters. GYRE_INVALID for zero threads or places. */
GYRE_CHECKED gyre_status gy_pool_new(gy_pool **out, const char *name, size_t threads, size_t queue_places, gyre_error *err);
/* Queues run(arg). GYRE_EXHAUSTED when the queue is full: run will then not be called. */
GYRE_CHECKED gyre_status gy_pool_submit(gy_pool *pool, void (*run)(void *arg), void *arg, gyre_error *err);
/* Runs everything that is queued, then stops the threads. NULL is fine. */
void gy_pool_free(gy_pool *pool);
size_t gy_pool_queued(gy_pool *pool);

#endif
