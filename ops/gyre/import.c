/* import: a file of vectors becomes points. feed.c sends them. */
#include "args.h"
#include "collection.h"
#include "feed.h"
#include "output.h"

#include "gyre/metric.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    STREAMS_DEFAULT = 4, STREAMS_MAX = 64,
    BATCH_DEFAULT = 512, BATCH_MAX = 10000,
    RUN_BYTES = 4 << 20,       /* vectors in a run: what a worker holds and may have to send again */
    RUN_MESSAGES = 8,
};

static gyre_status next_run(void *self, source_run *run, gyre_error *err)
{
    return source_next(self, run, err);
}

static source_run *new_run(void *self)
{
    return source_run_new(self);
}

static uint64_t next_row(void *self)
{
    return source_next_row(self);
}

static int import_run(const struct feed *feed, bool json)
{
    static const char command[] = "import";
    struct feed_result done;
    feed_run(feed, &done);
    bool whole = done.failure.status == GYRE_OK && done.acknowledged == feed->rows;
    char number[NUMBER_TEXT_BYTES], rate[NUMBER_TEXT_BYTES];
    double per_second = done.seconds > 0 ? (double)done.acknowledged / done.seconds : 0;
    if (json)
        json_write(json_pack("{sI sf sf sI sI sb}", "points", (json_int_t)done.acknowledged, "seconds", done.seconds,
                             "points_per_second", per_second, "retries", (json_int_t)done.retries, "resume_row",
                             (json_int_t)done.resume_row, "complete", whole),
                   stdout);
    else
        printf("imported %s points in %.2f s: %s points/s\n", number_text(done.acknowledged, number), done.seconds,
               number_text((uint64_t)per_second, rate));
    if (whole)
        return CLI_DONE;
    if (done.failure.status != GYRE_OK)
        cli_fail(command, &done.failure);
    else
        fprintf(stderr, "gyre import: stopped by signal %d\n", done.signal);
    fprintf(stderr, "Every row before %" PRIu64 " is written. To go on, give the same command with --start %" PRIu64 "\n",
            done.resume_row, done.resume_row);
    return CLI_FAILED;
}

/* Looks at the collection, or makes it, before anything is sent. */
static gyre_status check_collection(const struct feed *feed, size_t dim, bool create, Gyre__V1__Metric metric, gyre_error *err)
{
    Gyre__V1__Collection *collection = NULL;
    gyre_status status = collection_get(feed->cli, feed->client, feed->collection, &collection, err);
    if (status == GYRE_NOT_FOUND && create) {
        Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
        spec.name = (char *)feed->collection;
        spec.dim = (uint32_t)dim;
        spec.metric = metric;
        status = collection_create(feed->cli, feed->client, &spec, &collection, err);
    }
    GY_TRY(status);
    if (!collection->spec)
        status = gyre_fail(err, GYRE_INTERNAL, "the coordinator described collection '%s' without its spec", feed->collection);
    else if (collection->spec->dim != dim)
        status = gyre_fail(err, GYRE_INVALID, "the file's vectors have dim %zu, those of collection '%s' dim %u", dim,
                           feed->collection, collection->spec->dim);
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
    const struct feed feed = {.cli = cli,
                              .client = client,
                              .collection = argv[0],
                              .batch = batch,
                              .streams = streams,
                              .quiet = quiet,
                              .verb = "imported",
                              .rows = source_count(source) - start,
                              .next = next_run,
                              .run_new = new_run,
                              .next_row = next_row,
                              .self = source};
    if (check_collection(&feed, source_dim(source), create, metric_number, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    return import_run(&feed, json);
}
