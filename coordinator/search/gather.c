/* The first of a group leads it: its thread waits for company, runs the contest, and tells the others. A group belongs to its
 * leader's call; nobody joins once it has started. */
#include "search/gather.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { K_MAX = 1000 /* a contest of more is large by itself */ };

struct member {
    gy_search_done *done;
    void *arg;
    bool (*cancelled)(void *arg);
    void *cancelled_arg;
};

struct group {
    struct group *next;               /* in gather->groups, until it is over */
    const gy_route *route;            /* the leader's, whose call lasts longest */
    struct gy_search_options options; /* the leader's; the deadline is the last of all */
    bool started;
    size_t count;
    struct member members[GY_GATHER_QUERIES_MAX];
    struct gy_search_answer answers[GY_GATHER_QUERIES_MAX];
    float queries[];                  /* [GY_GATHER_QUERIES_MAX][dim] */
};

struct gy_search_gather {
    uint32_t running_max;
    int64_t window_ns;
    pthread_mutex_t mu;
    pthread_cond_t moved; /* a contest ended, or a group is full */
    struct group *groups; /* guarded by mu, as is all in them until they start */
};

gyre_status gy_search_gather_new(gy_search_gather **out, uint32_t running_max, int64_t window_ns, gyre_error *err)
{
    gy_search_gather *gather = calloc(1, sizeof *gather);
    if (!gather)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to gather searches");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    gather->running_max = running_max ? running_max : cpus > 3 ? (uint32_t)cpus / 2 : 1;
    gather->window_ns = window_ns ? window_ns : GY_GATHER_NS_MAX;
    pthread_mutex_init(&gather->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&gather->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *out = gather;
    return GYRE_OK;
}

void gy_search_gather_free(gy_search_gather *gather)
{
    if (!gather)
        return;
    pthread_cond_destroy(&gather->moved);
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

static bool same_question(const struct group *group, const gy_route *route, const struct gy_search_options *options)
{
    const struct gy_search_options *o = &group->options;
    return group->route == route && o->k == options->k && o->spare == options->spare && o->nprobe == options->nprobe &&
           o->recall_target == options->recall_target && o->approximate == options->approximate &&
           o->confidence == options->confidence && o->allow_approximate == options->allow_approximate;
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
static uint32_t count_running(const gy_search_gather *gather, const struct group *like)
{
    uint32_t running = 0;
    for (const struct group *group = gather->groups; group; group = group->next)
        running += group->started && same_question(group, like->route, &like->options);
    return running;
}

static void group_join(struct group *group, const float *query, const struct gy_search_options *options, struct member member)
{
    uint32_t dim = group->route->dim;
    memcpy(group->queries + group->count * dim, query, dim * sizeof *query);
    if (options->deadline_ns > group->options.deadline_ns)
        group->options.deadline_ns = options->deadline_ns;
    group->members[group->count++] = member;
}

static struct group *group_new(gy_search_gather *gather, const gy_route *route, const struct gy_search_options *options)
{
    struct group *group = calloc(1, sizeof *group + GY_GATHER_QUERIES_MAX * route->dim * sizeof(float));
    if (!group)
        return NULL;
    group->route = route, group->options = *options;
    group->next = gather->groups;
    gather->groups = group;
    return group;
}

static void group_unlink(gy_search_gather *gather, struct group *group)
{
    struct group **at = &gather->groups;
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
}

/* A `cancelled`: whether everybody has left. */
static bool nobody_waits(void *arg)
{
    const struct group *group = arg;
    for (size_t i = 0; i < group->count; i++)
        if (!group->members[i].cancelled || !group->members[i].cancelled(group->members[i].cancelled_arg))
            return false;
    return true;
}

/* Waits for a contest to end while too many run. Under mu. */
static void await_start(gy_search_gather *gather, struct group *group)
{
    int64_t until_ns = gy_now_ns() + gather->window_ns;
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int code = 0;
    while (group->count < GY_GATHER_QUERIES_MAX && count_running(gather, group) >= gather->running_max && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&gather->moved, &gather->mu, &until);
    group->started = true;
}

/* Runs the group's contest and tells everybody; frees it. */
static void group_run(gy_search_gather *gather, struct group *group)
{
    struct gy_search_options options = group->options;
    options.cancelled = nobody_waits, options.cancelled_arg = group;
    gyre_error err = {0};
    gyre_status status = gy_search_run(group->route, group->queries, group->count, &options, group->answers, &err);
    if (status != GYRE_OK)
        gy_search_answers_free(group->answers, group->count);
    pthread_mutex_lock(&gather->mu);
    group_unlink(gather, group);
    pthread_cond_broadcast(&gather->moved); /* leaders of several questions may wait */
    pthread_mutex_unlock(&gather->mu);
    /* The leader last: the others need its view of the collection no more. */
    for (size_t i = group->count; i-- > 0;)
        group->members[i].done(group->members[i].arg, status, &err, &group->answers[i]);
    free(group);
}

static void run_alone(const gy_route *route, const float *query, const struct gy_search_options *options, struct member member)
{
    gyre_error err = {0};
    struct gy_search_answer answer = {0};
    gyre_status status = gy_search_run(route, query, 1, options, &answer, &err);
    if (status != GYRE_OK)
        gy_search_answers_free(&answer, 1);
    member.done(member.arg, status, &err, &answer);
}

void gy_search_gathered(gy_search_gather *gather, const gy_route *route, const float *query, const struct gy_search_options *options,
                        gy_search_done *done, void *arg)
{
    struct member member = {done, arg, options->cancelled, options->cancelled_arg};
    if (options->exact || options->allow_partial || options->min_seqs || options->k > K_MAX) {
        run_alone(route, query, options, member);
        return;
    }
    pthread_mutex_lock(&gather->mu);
    struct group *joined = find_forming(gather, route, options), *led = joined ? NULL : group_new(gather, route, options);
    if (joined) {
        group_join(joined, query, options, member);
        if (joined->count == GY_GATHER_QUERIES_MAX)
            pthread_cond_broadcast(&gather->moved);
    } else if (led) {
        group_join(led, query, options, member);
        await_start(gather, led);
    }
    pthread_mutex_unlock(&gather->mu);
    if (led)
        group_run(gather, led);
    else if (!joined) /* no memory to gather: it may still be enough for one */
        run_alone(route, query, options, member);
}
