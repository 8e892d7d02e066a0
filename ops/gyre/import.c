/* import: a file of vectors becomes points, over several streams at once.
 *
 * Each worker takes a run of rows, sends it as one client stream of messages, and counts it when the stream's reply has come: then, and
 * only then, every point of it is written. A run that fails because a part of the cluster cannot be reached is sent again as a whole,
 * with growing pauses; points are written by id, so sending one twice changes nothing. So is one that met a full queue; but a full disk
 * and a limit answer with the same status, and they stay: when nothing of the whole import gets through for EXHAUSTED_SECONDS, it ends. The row to resume from is the first of the
 * earliest run that was not acknowledged. Several streams, because the coordinator writes a stream's messages one after the other: only
 * different streams keep every shard's disk busy. */
#include "args.h"
#include "collection.h"
#include "output.h"
#include "progress.h"
#include "source.h"

#include "gyre/metric.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    STREAMS_DEFAULT = 4, STREAMS_MAX = 64,
    BATCH_DEFAULT = 512, BATCH_MAX = 10000,
    MESSAGE_BYTES = 1 << 20,   /* a message ends when it is this long, whatever --batch */
    RUN_BYTES = 4 << 20,       /* vectors in a run: what a worker holds and may have to send again */
    RUN_MESSAGES = 8,
    STREAM_SECONDS = 120,
    EXHAUSTED_SECONDS = 10,
    ATTEMPTS_MAX = 10, BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 5000,
};

struct import {
    const struct cli *cli;
    gyre_client *client;
    row_source *source;
    const char *collection;
    size_t batch;
    bool quiet;

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
    struct import *import;
    pthread_t thread;
    uint64_t held_row; /* first row of the run in hand; UINT64_MAX if none; guarded by import->mu */
};

static atomic_int interrupted; /* the signal that asked us to stop */

static void on_signal(int number)
{
    atomic_store(&interrupted, number);
}

/* Sends one run as one stream; returns when every point of it is acknowledged, or fails. */
static gyre_status send_run(const struct import *import, const source_run *run, gyre_error *err)
{
    gyre_stream *stream = NULL;
    Gyre__V1__ImportReply *reply = NULL;
    gyre_status status = gyre_stream_open(&stream, import->client, "/gyre.v1.Points/Import", cli_deadline_ns(import->cli, STREAM_SECONDS), err);
    for (size_t at = 0; at < run->rows && status == GYRE_OK;) {
        Gyre__V1__ImportRequest request = GYRE__V1__IMPORT_REQUEST__INIT;
        request.collection = (char *)import->collection;
        request.points = run->points + at;
        for (size_t bytes = 0; at < run->rows && request.n_points < import->batch && (bytes == 0 || bytes + run->sizes[at] <= MESSAGE_BYTES);)
            bytes += run->sizes[at++], request.n_points++;
        status = gyre_stream_send(stream, &request.base, err);
    }
    if (status == GYRE_OK)
        status = gyre_stream_finish(stream, &gyre__v1__import_reply__descriptor, &reply, err);
    if (status == GYRE_OK && reply->imported != run->rows)
        status = gyre_fail(err, GYRE_INTERNAL, "the coordinator acknowledged %" PRIu64 " of %zu points", reply->imported, run->rows);
    gy_wire_free(reply);
    gyre_stream_close(stream);
    return status;
}

static bool may_pass(struct import *import, gyre_status status)
{
    if (status != GYRE_EXHAUSTED)
        return status == GYRE_UNAVAILABLE || status == GYRE_ABORTED || status == GYRE_DEADLINE;
    pthread_mutex_lock(&import->mu);
    bool moving = gy_now_ns() - import->progress_ns < EXHAUSTED_SECONDS * GY_SECOND_NS;
    pthread_mutex_unlock(&import->mu);
    return moving;
}

/* Waits before the next attempt, or until the import stops. */
static bool pause_before(struct import *import, unsigned attempt)
{
    int64_t wait_ms = (int64_t)BACKOFF_FIRST_MS << attempt;
    if (wait_ms > BACKOFF_MAX_MS)
        wait_ms = BACKOFF_MAX_MS;
    int64_t until_ns = gy_now_ns() + wait_ms * GY_MILLISECOND_NS;
    struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&import->mu);
    import->retries++;
    while (!import->stop && gy_now_ns() < until_ns)
        pthread_cond_timedwait(&import->changed, &import->mu, &until);
    bool go_on = !import->stop;
    pthread_mutex_unlock(&import->mu);
    return go_on;
}

static gyre_status send_run_surely(struct import *import, const source_run *run, gyre_error *err)
{
    for (unsigned attempt = 0;; attempt++) {
        gyre_status status = send_run(import, run, err);
        if (status == GYRE_OK || !may_pass(import, status))
            return status;
        if (attempt + 1 == ATTEMPTS_MAX || !pause_before(import, attempt))
            return gyre_wrap(err, status, "after %u attempts", attempt + 1);
    }
}

static bool take_run(struct worker *worker, source_run *run, gyre_error *err, gyre_status *status)
{
    struct import *import = worker->import;
    pthread_mutex_lock(&import->mu);
    /* The row is noted in the same hold of the lock in which the run is taken: resume_row must never see it in nobody's hands. */
    *status = import->stop ? GYRE_OK : source_next(import->source, run, err);
    bool taken = !import->stop && *status == GYRE_OK && run->rows > 0;
    if (taken)
        worker->held_row = run->first_row;
    pthread_mutex_unlock(&import->mu);
    return taken;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct import *import = worker->import;
    GY_AUTO(source_run) *run = source_run_new(import->source);
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    while (take_run(worker, run, &err, &status)) {
        status = send_run_surely(import, run, &err);
        if (status != GYRE_OK) {
            status = gyre_wrap(&err, status, "rows %" PRIu64 " to %" PRIu64, run->first_row, run->first_row + run->rows - 1);
            break;
        }
        pthread_mutex_lock(&import->mu);
        worker->held_row = UINT64_MAX;
        import->acknowledged += run->rows;
        import->progress_ns = gy_now_ns();
        pthread_cond_broadcast(&import->changed);
        pthread_mutex_unlock(&import->mu);
    }
    pthread_mutex_lock(&import->mu);
    if (status != GYRE_OK && import->failure.status == GYRE_OK)
        import->failure = err;
    import->stop |= status != GYRE_OK;
    import->working--;
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->mu);
    return NULL;
}

/* Shows progress until the last worker has ended. */
static void watch(struct import *import, struct progress *progress)
{
    pthread_mutex_lock(&import->mu);
    while (import->working) {
        int64_t until_ns = gy_now_ns() + 100 * GY_MILLISECOND_NS; /* also how soon an interrupt is seen */
        struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
        pthread_cond_timedwait(&import->changed, &import->mu, &until);
        import->stop |= atomic_load(&interrupted) != 0;
        uint64_t done = import->acknowledged;
        pthread_mutex_unlock(&import->mu);
        progress_show(progress, done);
        pthread_mutex_lock(&import->mu);
    }
    pthread_mutex_unlock(&import->mu);
}

static uint64_t resume_row(const struct worker *workers, size_t count, uint64_t next_row)
{
    uint64_t row = next_row;
    for (size_t i = 0; i < count; i++)
        if (workers[i].held_row < row)
            row = workers[i].held_row;
    return row;
}

static int import_run(struct import *import, size_t streams, uint64_t start, bool json)
{
    static const char command[] = "import";
    uint64_t rows = source_count(import->source) - start;
    struct progress progress;
    progress_init(&progress, stderr, import->quiet, "imported", "points", rows);
    import->progress_ns = progress.started_ns;
    cli_cond_init(&import->changed);
    pthread_mutex_init(&import->mu, NULL);

    struct sigaction on_stop = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* the second signal ends us at once */
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);

    struct worker *workers = cli_alloc(streams, sizeof *workers);
    size_t started = 0;
    for (; started < streams; started++) {
        workers[started] = (struct worker){.import = import, .held_row = UINT64_MAX};
        pthread_mutex_lock(&import->mu);
        import->working++;
        pthread_mutex_unlock(&import->mu);
        if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0) {
            pthread_mutex_lock(&import->mu);
            import->working--;
            pthread_mutex_unlock(&import->mu);
            break;
        }
    }
    if (!started) {
        free(workers);
        gyre_error err;
        GY_IGNORE(gyre_fail(&err, GYRE_EXHAUSTED, "no thread could be started")); /* the sentence is what is wanted */
        return cli_fail(command, &err);
    }
    watch(import, &progress);
    for (size_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    progress_end(&progress);

    double seconds = (double)(gy_now_ns() - progress.started_ns) / (double)GY_SECOND_NS;
    uint64_t resume = resume_row(workers, started, source_next_row(import->source));
    free(workers);
    pthread_mutex_destroy(&import->mu);
    pthread_cond_destroy(&import->changed);

    bool whole = import->failure.status == GYRE_OK && import->acknowledged == rows;
    char number[NUMBER_TEXT_BYTES], rate[NUMBER_TEXT_BYTES];
    double per_second = seconds > 0 ? (double)import->acknowledged / seconds : 0;
    if (json)
        json_write(json_pack("{sI sf sf sI sI sb}", "points", (json_int_t)import->acknowledged, "seconds", seconds, "points_per_second",
                             per_second, "retries", (json_int_t)import->retries, "resume_row", (json_int_t)resume, "complete", whole),
                   stdout);
    else
        printf("imported %s points in %.2f s: %s points/s\n", number_text(import->acknowledged, number), seconds,
               number_text((uint64_t)per_second, rate));
    if (whole)
        return CLI_DONE;
    if (import->failure.status != GYRE_OK)
        cli_fail(command, &import->failure);
    else
        fprintf(stderr, "gyre import: stopped by signal %d\n", atomic_load(&interrupted));
    fprintf(stderr, "Every row before %" PRIu64 " is written. To go on, give the same command with --start %" PRIu64 "\n", resume, resume);
    return CLI_FAILED;
}

/* Looks at the collection, or makes it, before anything is sent. */
static gyre_status check_collection(const struct import *import, bool create, Gyre__V1__Metric metric, gyre_error *err)
{
    Gyre__V1__Collection *collection = NULL;
    size_t dim = source_dim(import->source);
    gyre_status status = collection_get(import->cli, import->client, import->collection, &collection, err);
    if (status == GYRE_NOT_FOUND && create) {
        Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
        spec.name = (char *)import->collection;
        spec.dim = (uint32_t)dim;
        spec.metric = metric;
        status = collection_create(import->cli, import->client, &spec, &collection, err);
    }
    GY_TRY(status);
    if (!collection->spec)
        status = gyre_fail(err, GYRE_INTERNAL, "the coordinator described collection '%s' without its spec", import->collection);
    else if (collection->spec->dim != dim)
        status = gyre_fail(err, GYRE_INVALID, "the file's vectors have dim %zu, those of collection '%s' dim %u", dim,
                           import->collection, collection->spec->dim);
    gy_wire_free(collection);
    return status;
}

int command_import(struct cli *cli, int argc, char **argv)
{
    const char *ids = NULL, *payload = NULL, *metric = NULL;
    uint64_t batch = BATCH_DEFAULT, streams = STREAMS_DEFAULT, start = 0;
    bool create = false, quiet = false, json = false;
    const struct arg args[] = {
        {"ids", 0, ARG_TEXT, &ids, 0, 0, "FILE", "an id a line: a number or a UUID (else: row numbers)"},
        {"payload", 0, ARG_TEXT, &payload, 0, 0, "FILE", "a JSON object a line (.jsonl)"},
        {"create", 0, ARG_SWITCH, &create, 0, 0, NULL, "make the collection if it is not there; needs --metric"},
        {"metric", 0, ARG_TEXT, &metric, 0, 0, "NAME", "of a collection that is made: l2, ip or cosine"},
        {"start", 0, ARG_COUNT, &start, 0, INT64_MAX, "ROW", "the first row to import: to go on after a failure"},
        {"batch", 0, ARG_COUNT, &batch, 1, BATCH_MAX, "N", "points in a message, at most (512)"},
        {"streams", 0, ARG_COUNT, &streams, 1, STREAMS_MAX, "N", "sent at once (4); 1 keeps the file's order"},
        {"quiet", 'q', ARG_SWITCH, &quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print the figures as JSON"},
    };
    const struct usage usage = {
        "import", "NAME FILE", 2, 2,
        "Adds the vectors of a file (.npy .fvecs .bvecs .fbin .u8bin) to a collection. The file is streamed. A point that is there\n"
        "already is replaced; when an id stands in the file twice, --streams 1 makes the later row win.",
        "  gyre import words words.npy --payload words.jsonl\n"
        "  gyre import sift sift_base.fvecs --create --metric l2\n"
        "  gyre import docs docs.npy --ids docs.ids --start 1200000\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    Gyre__V1__Metric metric_number = GYRE__V1__METRIC__METRIC_UNSPECIFIED;
    if (metric && metric_read(metric, &metric_number, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    if (create && !metric)
        return args_misused(&usage, "--create needs --metric: l2, ip or cosine");

    GY_AUTO(gyre_client) *client = NULL;
    GY_AUTO(row_source) *source = NULL;
    struct source_options options = {.vectors_path = argv[1], .ids_path = ids, .payload_path = payload, .start = start};
    options.run_bytes_max = RUN_BYTES;
    options.run_rows_max = batch * RUN_MESSAGES;
    if (source_open(&source, &options, &err) != GYRE_OK || cli_connect(cli, &client, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    struct import import = {.cli = cli, .client = client, .source = source, .collection = argv[0], .batch = batch, .quiet = quiet};
    if (check_collection(&import, create, metric_number, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    return import_run(&import, streams, start, json);
}
