/* fan: one job in parts, done by whichever threads come first.
 *
 * The caller works too and waits for nobody; help is offered to the pool's threads, never to more of them than given, and takes
 * no place from other jobs. Whoever finishes the last part finishes the job. So a fan makes progress on the calling thread alone,
 * also on a thread of that same pool.
 * Threads  any */
#ifndef GY_SERVER_FAN_H
#define GY_SERVER_FAN_H

#include "gyre/pool.h"

/* Runs part(self, i) for i in 0…count-1 (count at least 1), then done(self) exactly once, on one of the threads; it may run
 * after this returns. self must live until done. helpers_max: offers made at most; more than the pool has threads help nobody. */
void gy_fan_run(gy_pool *pool, size_t helpers_max, size_t count, void (*part)(void *self, size_t i), void (*done)(void *self),
                void *self);

#endif
