#include "server/fan.h"

#include <stdatomic.h>
#include <stdlib.h>

struct fan {
    void (*part)(void *self, size_t i);
    void (*done)(void *self);
    void *self;
    size_t count;
    atomic_size_t next;    /* part to take */
    atomic_size_t left;    /* parts not finished */
    atomic_size_t holders; /* threads that may still look at this */
};

static void work(void *arg)
{
    struct fan *fan = arg;
    size_t i;
    while ((i = atomic_fetch_add(&fan->next, 1)) < fan->count) {
        fan->part(fan->self, i);
        if (atomic_fetch_sub(&fan->left, 1) == 1)
            fan->done(fan->self);
    }
    if (atomic_fetch_sub(&fan->holders, 1) == 1)
        free(fan);
}

void gy_fan_run(gy_pool *pool, size_t helpers_max, size_t count, void (*part)(void *self, size_t i), void (*done)(void *self),
                void *self)
{
    size_t wanted = helpers_max < count - 1 ? helpers_max : count - 1, helpers = 0;
    struct fan *fan = wanted ? malloc(sizeof *fan) : NULL;
    if (!fan) { /* nobody to share with, or no memory for it */
        for (size_t i = 0; i < count; i++)
            part(self, i);
        done(self);
        return;
    }
    *fan = (struct fan){.part = part, .done = done, .self = self, .count = count};
    atomic_init(&fan->left, count);
    atomic_init(&fan->holders, 1 + wanted);
    while (helpers < wanted && gy_pool_offer(pool, work, fan))
        helpers++;
    /* Enough offers wait already: the missing helpers hold nothing. This thread still holds. */
    atomic_fetch_sub(&fan->holders, wanted - helpers);
    work(fan);
}
