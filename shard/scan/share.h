/* share: work cut into parts that a caller does together with whatever threads of a pool come to help.
 *
 * The caller and its helpers take parts from one counter until none is left. The caller waits only for parts that somebody has begun,
 * never for a helper that is still queued: one that comes late finds nothing to do. So a full pool, or a caller on a pool thread,
 * costs time and never an answer.
 * Threads  run is called on several at once, with a worker number of its own each */
#ifndef GY_SCAN_SHARE_H
#define GY_SCAN_SHARE_H

#include "gyre/base.h"
#include "gyre/pool.h"

enum { GY_SHARE_WORKERS_MAX = 32 };

/* One part. self is only used before gy_share_run returns; of one worker number no two calls overlap. */
typedef gyre_status gy_share_part(void *self, size_t worker, size_t part, gyre_error *err);

/* Runs every part once, until one fails: then the rest is skipped and its status and sentence are returned. pool may be NULL. */
GYRE_CHECKED gyre_status gy_share_run(gy_pool *pool, size_t part_count, gy_share_part *run, void *self, gyre_error *err);

#endif
