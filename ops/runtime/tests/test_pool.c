#include "gyre/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* A door at which jobs wait, so that a test decides when they run. */
struct door {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool open;
    int arrived, passed;
    char thread_name[16];
};

static void door_init(struct door *door)
{
    *door = (struct door){.open = false};
    pthread_mutex_init(&door->mu, NULL);
    pthread_cond_init(&door->changed, NULL);
}

static void pass(void *self)
{
    struct door *door = self;
    pthread_mutex_lock(&door->mu);
    pthread_getname_np(pthread_self(), door->thread_name, sizeof door->thread_name);
    door->arrived++;
    pthread_cond_broadcast(&door->changed);
    while (!door->open)
        pthread_cond_wait(&door->changed, &door->mu);
    door->passed++;
    pthread_mutex_unlock(&door->mu);
}

static void await_arrivals(struct door *door, int count)
{
    pthread_mutex_lock(&door->mu);
    while (door->arrived < count)
        pthread_cond_wait(&door->changed, &door->mu);
    pthread_mutex_unlock(&door->mu);
}

static void open_door(struct door *door)
{
    pthread_mutex_lock(&door->mu);
    door->open = true;
    pthread_cond_broadcast(&door->changed);
    pthread_mutex_unlock(&door->mu);
}

static void a_pool_needs_threads_places_and_a_short_name(void **state)
{
    (void)state;
    gy_pool *pool = NULL;
    gyre_error err;
    assert_int_equal(gy_pool_new(&pool, "scan", 0, 1, &err), GYRE_INVALID);
    assert_int_equal(gy_pool_new(&pool, "scan", 1, 0, &err), GYRE_INVALID);
    assert_int_equal(gy_pool_new(&pool, "scan", SIZE_MAX, 1, &err), GYRE_INVALID);
    assert_int_equal(gy_pool_new(&pool, "scan", 1, SIZE_MAX, &err), GYRE_INVALID);
    assert_int_equal(gy_pool_new(&pool, "elevenchars", 1, 1, &err), GYRE_INVALID);
    assert_null(pool);
    gy_pool_free(NULL);
}

static void a_full_queue_refuses_and_a_freed_pool_has_run_the_rest(void **state)
{
    (void)state;
    enum { THREADS = 2, PLACES = 3 };
    struct door door;
    gy_pool *pool;
    gyre_error err;
    door_init(&door);
    assert_int_equal(gy_pool_new(&pool, "scan", THREADS, PLACES, &err), GYRE_OK);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(gy_pool_submit(pool, pass, &door, &err), GYRE_OK);
        await_arrivals(&door, i + 1);
    }
    assert_memory_equal(door.thread_name, "scan/", 5);
    for (int i = 0; i < PLACES; i++)
        assert_int_equal(gy_pool_submit(pool, pass, &door, &err), GYRE_OK);
    assert_int_equal(gy_pool_queued(pool), PLACES);
    assert_int_equal(gy_pool_submit(pool, pass, &door, &err), GYRE_EXHAUSTED);
    assert_non_null(strstr(err.text, "3 places"));
    open_door(&door);
    gy_pool_free(pool);
    assert_int_equal(door.passed, THREADS + PLACES);
}

struct order {
    int next;
    bool kept;
};
static struct order order;
static int numbers[1000];

static void check_order(void *self)
{
    int number = *(int *)self;
    order.kept &= number == order.next++;
}

static void one_thread_runs_jobs_in_the_order_they_came(void **state)
{
    (void)state;
    gy_pool *pool;
    order = (struct order){0, true};
    assert_int_equal(gy_pool_new(&pool, "one", 1, 1000, NULL), GYRE_OK);
    for (int i = 0; i < 1000; i++) {
        numbers[i] = i;
        assert_int_equal(gy_pool_submit(pool, check_order, &numbers[i], NULL), GYRE_OK);
    }
    gy_pool_free(pool);
    assert_true(order.kept);
    assert_int_equal(order.next, 1000);
}

struct resubmit {
    gy_pool *pool;
    struct door *door;
    gyre_status status;
};

static void submit_from_a_job(void *self)
{
    struct resubmit *resubmit = self;
    pass(resubmit->door);
    do
        resubmit->status = gy_pool_submit(resubmit->pool, pass, resubmit->door, NULL);
    while (resubmit->status == GYRE_OK || resubmit->status == GYRE_EXHAUSTED);
}

static void a_stopping_pool_takes_no_more_work(void **state)
{
    (void)state;
    struct door door;
    door_init(&door);
    struct resubmit resubmit = {.door = &door};
    assert_int_equal(gy_pool_new(&resubmit.pool, "stop", 1, 4, NULL), GYRE_OK);
    assert_int_equal(gy_pool_submit(resubmit.pool, submit_from_a_job, &resubmit, NULL), GYRE_OK);
    await_arrivals(&door, 1);
    open_door(&door);
    gy_pool_free(resubmit.pool); /* returns only because the job was refused */
    assert_int_equal(resubmit.status, GYRE_UNAVAILABLE);
}

static void offers_wait_in_line_and_take_no_place_from_jobs(void **state)
{
    (void)state;
    enum { THREADS = 2, PLACES = 3 };
    struct door door;
    gy_pool *pool;
    door_init(&door);
    assert_int_equal(gy_pool_new(&pool, "offers", THREADS, PLACES, NULL), GYRE_OK);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(gy_pool_submit(pool, pass, &door, NULL), GYRE_OK);
        await_arrivals(&door, i + 1);
    }
    for (int i = 0; i < THREADS; i++)
        assert_true(gy_pool_offer(pool, pass, &door));
    assert_false(gy_pool_offer(pool, pass, &door));
    for (int i = 0; i < PLACES; i++)
        assert_int_equal(gy_pool_submit(pool, pass, &door, NULL), GYRE_OK);
    assert_int_equal(gy_pool_submit(pool, pass, &door, NULL), GYRE_EXHAUSTED);
    assert_int_equal(gy_pool_queued(pool), THREADS + PLACES);
    open_door(&door);
    await_arrivals(&door, THREADS + THREADS + PLACES);
    assert_true(gy_pool_offer(pool, pass, &door)); /* those that were taken are out of the line */
    gy_pool_free(pool);
    assert_int_equal(door.passed, THREADS + THREADS + PLACES + 1);
}

static atomic_int ran;

static void count_up(void *self)
{
    (void)self;
    atomic_fetch_add(&ran, 1);
}

enum { SUBMITTERS = 4, JOBS = 5000 };

static void *submit_many(void *pool)
{
    for (int i = 0; i < JOBS;) {
        if (gy_pool_submit(pool, count_up, NULL, NULL) == GYRE_OK)
            i++;
    }
    return NULL;
}

static void every_accepted_job_runs_once_under_contention(void **state)
{
    (void)state;
    gy_pool *pool;
    pthread_t threads[SUBMITTERS];
    atomic_store(&ran, 0);
    assert_int_equal(gy_pool_new(&pool, "many", 3, 8, NULL), GYRE_OK);
    for (size_t i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, pool), 0);
    for (size_t i = 0; i < SUBMITTERS; i++)
        pthread_join(threads[i], NULL);
    gy_pool_free(pool);
    assert_int_equal(atomic_load(&ran), SUBMITTERS * JOBS);
}

static void read_niceness(void *niceness)
{
    *(int *)niceness = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void the_threads_of_a_pool_stand_back_if_they_are_told_to(void **state)
{
    (void)state;
    gy_pool *pool;
    int there = -1, own = getpriority(PRIO_PROCESS, (id_t)gettid());
    assert_int_equal(gy_pool_new_behind(&pool, "behind", 1, 1, 19, NULL), GYRE_OK);
    assert_int_equal(gy_pool_submit(pool, read_niceness, &there, NULL), GYRE_OK);
    gy_pool_free(pool);
    assert_int_equal(there, 19);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)gettid()), own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_needs_threads_places_and_a_short_name),
        cmocka_unit_test(a_full_queue_refuses_and_a_freed_pool_has_run_the_rest),
        cmocka_unit_test(one_thread_runs_jobs_in_the_order_they_came),
        cmocka_unit_test(a_stopping_pool_takes_no_more_work),
        cmocka_unit_test(offers_wait_in_line_and_take_no_place_from_jobs),
        cmocka_unit_test(the_threads_of_a_pool_stand_back_if_they_are_told_to),
        cmocka_unit_test(every_accepted_job_runs_once_under_contention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
