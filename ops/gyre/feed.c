/* feed: see feed.h.
 *
 * Each worker takes a run of rows, sends it as one client stream of messages, and counts it when the stream's reply has come:
 * then, and only then, every point of it is written. A run that fails because a part of the cluster cannot be reached is sent
 * again as a whole, with growing pauses; points are written by id, so sending one twice changes nothing. So is one that met a
 * full queue; but a full disk and a limit answer with the same status, and they stay: when nothing of the whole gets through for
 * EXHAUSTED_SECONDS, it ends. The row to resume from is the first of the earliest run that was not acknowledged. Several
 * streams, because the coordinator writes a stream's messages one after the other: only different streams keep every shard's
 * disk busy. */
#include "feed.h"

#include "progress.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    MESSAGE_BYTES = 1 << 20,   /* a message ends when it is this long, whatever the batch */
    STREAM_SECONDS = 120,
    EXHAUSTED_SECONDS = 10,
    ATTEMPTS_MAX = 10, BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 5000,
};

struct feeding {
    const struct feed *feed;
    pthread_mutex_t mu;      /* guards the source and the rest */
    pthread_cond_t changed;  /* acknowledged, failed or a worker ended */
    uint64_t acknowledged;   /* points */
    int64_t progress_ns;     /* when the last of them were, or the start */
    uint64_t retries;
    size_t working;          /* workers that have not ended */
    bool stop;               /* no new run is begun */
    gyre_error failure;      /* the first; status GYRE_OK if none */
};

struct worker {
    struct feeding *feeding;
    pthread_t thread;
    uint64_t held_row; /* first row of the run in hand; UINT64_MAX if none; guarded by feeding->mu */
};

static atomic_int interrupted; /* the signal that asked us to stop */

static void on_signal(int number)
{
    atomic_store(&interrupted, number);
}

/* Sends one run as one stream; returns when every point of it is acknowledged, or fails. */
static gyre_status send_run(const struct feed *feed, const source_run *run, gyre_error *err)
{
    gyre_stream *stream = NULL;
    Gyre__V1__ImportReply *reply = NULL;
    gyre_status status = gyre_stream_open(&stream, feed->client, "/gyre.v1.Points/Import",
                                          cli_deadline_ns(feed->cli, STREAM_SECONDS), err);
    for (size_t at = 0; at < run->rows && status == GYRE_OK;) {
        Gyre__V1__ImportRequest request = GYRE__V1__IMPORT_REQUEST__INIT;
        request.collection = (char *)feed->collection;
        request.points = run->points + at;
        for (size_t bytes = 0; at < run->rows && request.n_points < feed->batch &&
                               (bytes == 0 || bytes + run->sizes[at] <= MESSAGE_BYTES);)
            bytes += run->sizes[at++], request.n_points++;
        status = gyre_stream_send(stream, &request.base, err);
    }
    if (status == GYRE_OK)
        status = gyre_stream_finish(stream, &gyre__v1__import_reply__descriptor, &reply, err);
    if (status == GYRE_OK && reply->imported != run->rows)
        status =
            gyre_fail(err, GYRE_INTERNAL, "the coordinator acknowledged %" PRIu64 " of %zu points", reply->imported, run->rows);
    gy_wire_free(reply);
    gyre_stream_close(stream);
    return status;
}

static bool may_pass(struct feeding *feeding, gyre_status status)
{
    if (status != GYRE_EXHAUSTED)
        return status == GYRE_UNAVAILABLE || status == GYRE_ABORTED || status == GYRE_DEADLINE;
    pthread_mutex_lock(&feeding->mu);
    bool moving = gy_now_ns() - feeding->progress_ns < EXHAUSTED_SECONDS * GY_SECOND_NS;
    pthread_mutex_unlock(&feeding->mu);
    return moving;
}

/* Waits before the next attempt, or until the import stops. */
static bool pause_before(struct feeding *feeding, unsigned attempt)
{
    int64_t wait_ms = (int64_t)BACKOFF_FIRST_MS << attempt;
    if (wait_ms > BACKOFF_MAX_MS)
        wait_ms = BACKOFF_MAX_MS;
    int64_t until_ns = gy_now_ns() + wait_ms * GY_MILLISECOND_NS;
    struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&feeding->mu);
    feeding->retries++;
    while (!feeding->stop && gy_now_ns() < until_ns)
        pthread_cond_timedwait(&feeding->changed, &feeding->mu, &until);
    bool go_on = !feeding->stop;
    pthread_mutex_unlock(&feeding->mu);
    return go_on;
}

static gyre_status send_run_surely(struct feeding *feeding, const source_run *run, gyre_error *err)
{
    for (unsigned attempt = 0;; attempt++) {
        gyre_status status = send_run(feeding->feed, run, err);
        if (status == GYRE_OK || !may_pass(feeding, status))
            return status;
        if (attempt + 1 == ATTEMPTS_MAX || !pause_before(feeding, attempt))
            return gyre_wrap(err, status, "after %u attempts", attempt + 1);
    }
}

static bool take_run(struct worker *worker, source_run *run, gyre_error *err, gyre_status *status)
{
    struct feeding *feeding = worker->feeding;
    pthread_mutex_lock(&feeding->mu);
    /* The row is noted in the same hold of the lock in which the run is taken: resume_row must never see it in nobody's hands. */
    *status = feeding->stop ? GYRE_OK : feeding->feed->next(feeding->feed->self, run, err);
    bool taken = !feeding->stop && *status == GYRE_OK && run->rows > 0;
    if (taken)
        worker->held_row = run->first_row;
    pthread_mutex_unlock(&feeding->mu);
    return taken;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct feeding *feeding = worker->feeding;
    GY_AUTO(source_run) *run = feeding->feed->run_new(feeding->feed->self);
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    while (take_run(worker, run, &err, &status)) {
        status = send_run_surely(feeding, run, &err);
        if (status != GYRE_OK) {
            status = gyre_wrap(&err, status, "rows %" PRIu64 " to %" PRIu64, run->first_row, run->first_row + run->rows - 1);
            break;
        }
        pthread_mutex_lock(&feeding->mu);
        worker->held_row = UINT64_MAX;
        feeding->acknowledged += run->rows;
        feeding->progress_ns = gy_now_ns();
        pthread_cond_broadcast(&feeding->changed);
        pthread_mutex_unlock(&feeding->mu);
    }
    pthread_mutex_lock(&feeding->mu);
    if (status != GYRE_OK && feeding->failure.status == GYRE_OK)
        feeding->failure = err;
    feeding->stop |= status != GYRE_OK;
    feeding->working--;
    pthread_cond_broadcast(&feeding->changed);
    pthread_mutex_unlock(&feeding->mu);
    return NULL;
}

/* Shows progress until the last worker has ended. */
static void watch(struct feeding *feeding, struct progress *progress)
{
    pthread_mutex_lock(&feeding->mu);
    while (feeding->working) {
        int64_t until_ns = gy_now_ns() + 100 * GY_MILLISECOND_NS; /* also how soon an interrupt is seen */
        struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
        pthread_cond_timedwait(&feeding->changed, &feeding->mu, &until);
        feeding->stop |= atomic_load(&interrupted) != 0;
        uint64_t done = feeding->acknowledged;
        pthread_mutex_unlock(&feeding->mu);
        progress_show(progress, done);
        pthread_mutex_lock(&feeding->mu);
    }
    pthread_mutex_unlock(&feeding->mu);
}

static uint64_t resume_row(const struct worker *workers, size_t count, uint64_t next_row)
{
    uint64_t row = next_row;
    for (size_t i = 0; i < count; i++)
        if (workers[i].held_row < row)
            row = workers[i].held_row;
    return row;
}

void feed_run(const struct feed *feed, struct feed_result *result)
{
    struct feeding feeding = {.feed = feed};
    struct progress progress;
    progress_init(&progress, stderr, feed->quiet, feed->verb, "points", feed->rows);
    feeding.progress_ns = progress.started_ns;
    cli_cond_init(&feeding.changed);
    pthread_mutex_init(&feeding.mu, NULL);

    struct sigaction on_stop = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* the second signal ends us at once */
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);

    struct worker *workers = cli_alloc(feed->streams, sizeof *workers);
    size_t started = 0;
    for (; started < feed->streams; started++) {
        workers[started] = (struct worker){.feeding = &feeding, .held_row = UINT64_MAX};
        pthread_mutex_lock(&feeding.mu);
        feeding.working++;
        pthread_mutex_unlock(&feeding.mu);
        if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0) {
            pthread_mutex_lock(&feeding.mu);
            feeding.working--;
            pthread_mutex_unlock(&feeding.mu);
            break;
        }
    }
    if (!started)
        GY_IGNORE(gyre_fail(&feeding.failure, GYRE_EXHAUSTED, "no thread could be started")); /* the sentence is what is wanted */
    watch(&feeding, &progress);
    for (size_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    progress_end(&progress);
    *result = (struct feed_result){
        .acknowledged = feeding.acknowledged,
        .retries = feeding.retries,
        .resume_row = resume_row(workers, started, feed->next_row(feed->self)),
        .seconds = (double)(gy_now_ns() - progress.started_ns) / (double)GY_SECOND_NS,
        .signal = atomic_load(&interrupted),
        .failure = feeding.failure,
    };
    free(workers);
    pthread_mutex_destroy(&feeding.mu);
    pthread_cond_destroy(&feeding.changed);
}
