/* clock: deadlines are CLOCK_MONOTONIC nanoseconds everywhere inside a process; GY_NEVER is none. */
#ifndef GYRE_CLOCK_H
#define GYRE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define GY_NEVER INT64_MAX
#define GY_SECOND_NS INT64_C(1000000000)
#define GY_MILLISECOND_NS INT64_C(1000000)

static inline int64_t gy_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * GY_SECOND_NS + now.tv_nsec;
}

#endif
