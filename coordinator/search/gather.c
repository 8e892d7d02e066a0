/* The first of a group leads it: its thread runs the contest, the others wait. A group belongs to all who are in it and is freed
 * by the last of them; the leader's view of the collection is the group's, for it stays until the contest is over. */
#include "search/gather.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* How often a member that waits looks whether its client has left. */
#define TURN_NS (200 * GY_MILLISECOND_NS)
enum { K_MAX = 1000 /* a contest of more is large by itself */ };

struct group {
    gy_search_gather *gather;
    struct group *next;               /* in gather->groups, until it is done */
    const gy_route *route;
    struct gy_search_options options; /* the leader's; the deadline is the last of all */
    size_t count, waiting;            /* members; members that still want their answer, without the leader */
    size_t holders;
    bool started, done;
    pthread_cond_t changed;           /* with gather->mu: done */
    gyre_status status;
    gyre_error err;
    struct gy_search_answer answers[GY_GATHER_QUERIES_MAX];
    float queries[];                  /* [GY_GATHER_QUERIES_MAX][dim] */
};

struct gy_search_gather {
    uint32_t running_max;
    int64_t window_ns;
    pthread_mutex_t mu;
    pthread_cond_t ended; /* a contest ended */
    struct group *groups; /* guarded by mu, as is all in them but what a contest works on */
};

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

gyre_status gy_search_gather_new(gy_search_gather **out, uint32_t running_max, int64_t window_ns, gyre_error *err)
{
    gy_search_gather *gather = calloc(1, sizeof *gather);
    if (!gather)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to gather searches");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    gather->running_max = running_max ? running_max : cpus > 3 ? (uint32_t)cpus / 2 : 1;
    gather->window_ns = window_ns ? window_ns : GY_GATHER_NS_MAX;
    pthread_mutex_init(&gather->mu, NULL);
    cond_init(&gather->ended);
    *out = gather;
    return GYRE_OK;
}

void gy_search_gather_free(gy_search_gather *gather)
{
    if (!gather)
        return;
    pthread_cond_destroy(&gather->ended);
    pthread_mutex_destroy(&gather->mu);
    free(gather);
}

size_t gy_search_gather_forming(gy_search_gather *gather)
{
    size_t count = 0;
    pthread_mutex_lock(&gather->mu);
    for (const struct group *group = gather->groups; group; group = group->next)
        count += group->started ? 0 : group->count;
    pthread_mutex_unlock(&gather->mu);
    return count;
}

/* Under mu. */
static void group_release(struct group *group)
{
    if (--group->holders > 0)
        return;
    gy_search_answers_free(group->answers, group->count); /* of those who left */
    pthread_cond_destroy(&group->changed);
    free(group);
}

static bool same_question(const struct group *group, const gy_route *route, const struct gy_search_options *options)
{
    const struct gy_search_options *o = &group->options;
    return group->route == route && o->k == options->k && o->spare == options->spare && o->nprobe == options->nprobe &&
           o->recall_target == options->recall_target && o->approximate == options->approximate &&
           o->confidence == options->confidence;
}

/* A group of the same question that has not begun and has room. */
static struct group *find_forming(gy_search_gather *gather, const gy_route *route, const struct gy_search_options *options)
{
    struct group *group = gather->groups;
    while (group && (group->started || group->count == GY_GATHER_QUERIES_MAX || !same_question(group, route, options)))
        group = group->next;
    return group;
}

/* How many contests of a group's question run. */
static uint32_t count_running(const struct group *like)
{
    uint32_t running = 0;
    for (const struct group *group = like->gather->groups; group; group = group->next)
        running += group->started && same_question(group, like->route, &like->options);
    return running;
}

static size_t group_join(struct group *group, const float *query, const struct gy_search_options *options)
{
    uint32_t dim = group->route->dim;
    memcpy(group->queries + group->count * dim, query, dim * sizeof *query);
    if (options->deadline_ns > group->options.deadline_ns)
        group->options.deadline_ns = options->deadline_ns;
    group->holders++;
    return group->count++;
}

static struct group *group_new(gy_search_gather *gather, const gy_route *route, const struct gy_search_options *options)
{
    struct group *group = calloc(1, sizeof *group + GY_GATHER_QUERIES_MAX * route->dim * sizeof(float));
    if (!group)
        return NULL;
    group->gather = gather, group->route = route, group->options = *options;
    cond_init(&group->changed);
    group->next = gather->groups;
    gather->groups = group;
    return group;
}

static void group_unlink(struct group *group)
{
    struct group **at = &group->gather->groups;
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
}

/* A `cancelled`: whether everybody has left. */
static bool nobody_waits(void *arg)
{
    struct group *group = arg;
    pthread_mutex_lock(&group->gather->mu);
    bool nobody = group->waiting == 0;
    pthread_mutex_unlock(&group->gather->mu);
    return nobody && group->options.cancelled && group->options.cancelled(group->options.cancelled_arg);
}

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *mu, int64_t until_ns)
{
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    return pthread_cond_timedwait(cond, mu, &until);
}

/* Waits for a contest to end while too many run, then runs the group's. Under mu. */
static void group_lead(struct group *group)
{
    gy_search_gather *gather = group->gather;
    int64_t until_ns = gy_now_ns() + gather->window_ns;
    while (group->count < GY_GATHER_QUERIES_MAX && count_running(group) >= gather->running_max &&
           wait_until(&gather->ended, &gather->mu, until_ns) != ETIMEDOUT)
        ;
    group->started = true;
    struct gy_search_options options = group->options;
    options.cancelled = nobody_waits, options.cancelled_arg = group;
    size_t count = group->count;
    pthread_mutex_unlock(&gather->mu);
    gyre_error err = {0};
    gyre_status status = gy_search_run(group->route, group->queries, count, &options, group->answers, &err);
    pthread_mutex_lock(&gather->mu);
    group->status = status, group->err = err, group->done = true;
    group_unlink(group);
    pthread_cond_broadcast(&group->changed);
    pthread_cond_broadcast(&gather->ended); /* leaders of several questions may wait */
}

/* Waits for the leader, no longer than this member's client does. Under mu. */
static gyre_status group_await(struct group *group, const struct gy_search_options *options, gyre_error *err)
{
    pthread_mutex_t *mu = &group->gather->mu;
    gyre_status status = GYRE_OK;
    group->waiting++;
    while (!group->done && status == GYRE_OK) {
        int64_t turn_ns = gy_now_ns() + TURN_NS;
        wait_until(&group->changed, mu, turn_ns < options->deadline_ns ? turn_ns : options->deadline_ns);
        if (group->done)
            break;
        pthread_mutex_unlock(mu);
        if (options->cancelled && options->cancelled(options->cancelled_arg))
            status = gyre_fail(err, GYRE_CANCELLED, "the client cancelled the search");
        else if (gy_now_ns() > options->deadline_ns)
            status = gyre_fail(err, GYRE_DEADLINE, "the deadline passed before the shards answered");
        pthread_mutex_lock(mu);
    }
    group->waiting--;
    return status;
}

gyre_status gy_search_gathered(gy_search_gather *gather, const gy_route *route, const float *query,
                               const struct gy_search_options *options, struct gy_search_answer *answer, gyre_error *err)
{
    if (options->exact || options->allow_partial || options->k > K_MAX)
        return gy_search_run(route, query, 1, options, answer, err);
    *answer = (struct gy_search_answer){0};
    pthread_mutex_lock(&gather->mu);
    struct group *group = find_forming(gather, route, options);
    bool leads = !group;
    if (leads)
        group = group_new(gather, route, options);
    if (!group) {
        pthread_mutex_unlock(&gather->mu);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to gather searches");
    }
    size_t place = group_join(group, query, options);
    gyre_status status = GYRE_OK;
    if (leads)
        group_lead(group);
    else
        status = group_await(group, options, err);
    if (status == GYRE_OK && group->status != GYRE_OK) {
        status = group->status;
        if (err)
            *err = group->err;
    } else if (status == GYRE_OK) {
        *answer = group->answers[place];
        group->answers[place] = (struct gy_search_answer){0};
    }
    group_release(group);
    pthread_mutex_unlock(&gather->mu);
    return status;
}
