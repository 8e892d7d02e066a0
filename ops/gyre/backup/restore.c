/* restore: `gyre restore`: a collection from a generation of a backup. Its points are read and checked as `backup verify` does
 * while they are sent; then what the shards say they have is compared with what the backup's had said. */
#include "backup/rows.h"

#include "args.h"
#include "collection.h"
#include "feed.h"
#include "output.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    CALL_SECONDS = 30, STREAMS_DEFAULT = 4, STREAMS_MAX = 64, BATCH = 512, RUN_MESSAGES = 8, NOT_SAID = UINT32_MAX,
    COMPARED_AT_ONCE = 32, /* so that even the longest payloads fit into a reply */
};
static const char command[] = "restore";

struct restore {
    const struct cli *cli;
    gyre_client *client;
    const char *dir, *name;
    const struct backup_generation *from;
    Gyre__V1__CollectionSpec spec;
    bool into_existing; /* others' points may be in it */
    uint64_t start;
};

/* ---- before ---- */

/* The collection as the backup has it, or as was asked. */
static gyre_status prepare(const struct restore *restore, gyre_error *err)
{
    Gyre__V1__Collection *collection = NULL;
    gyre_status status = collection_get(restore->cli, restore->client, restore->name, &collection, err);
    if (status == GYRE_NOT_FOUND && !restore->start) {
        GY_TRY(collection_create(restore->cli, restore->client, &restore->spec, &collection, err));
        gy_wire_free(collection);
        return GYRE_OK;
    }
    GY_TRY(status);
    const Gyre__V1__CollectionSpec *spec = collection->spec;
    if (!restore->into_existing && !restore->start)
        status =
            gyre_fail(err, GYRE_EXISTS,
                      "collection '%s' is there already; say --as NAME, or --into-existing to put the backup's points into it",
                      restore->name);
    else if (!spec || spec->dim != restore->from->dim || (uint32_t)spec->metric != restore->from->metric)
        status =
            gyre_fail(err, GYRE_PRECONDITION, "collection '%s' has dim %u and metric %s; the backup has dim %u and metric %s",
                      restore->name, spec ? spec->dim : 0, spec ? metric_text(spec->metric) : "none", restore->from->dim,
                      metric_text((Gyre__V1__Metric)restore->from->metric));
    gy_wire_free(collection);
    return status;
}

/* ---- after ---- */

/* Begins to read a shard, for what it says of all its points, and lets it go. */
static gyre_status ask_shard(const struct restore *restore, uint32_t shard, uint64_t *count, uint64_t *vector_sum,
                             gyre_error *err)
{
    static const char path[] = "/gyre.v1.Collections/ReadShard";
    Gyre__V1__ReadShardRequest request = GYRE__V1__READ_SHARD_REQUEST__INIT;
    Gyre__V1__ReadShardReply *reply = NULL, *ended = NULL;
    request.collection = (char *)restore->name;
    request.shard = shard;
    request.since = UINT64_MAX; /* ids alone: what is wanted is in every reply */
    GY_TRY(gyre_client_call(restore->client, path, &request.base, &gyre__v1__read_shard_reply__descriptor, &reply,
                            cli_deadline_ns(restore->cli, CALL_SECONDS), err));
    *count += reply->count;
    *vector_sum += reply->vector_sum;
    request.token = reply->token;
    request.end = true;
    if (!reply->done && gyre_client_call(restore->client, path, &request.base, &gyre__v1__read_shard_reply__descriptor, &ended,
                                         cli_deadline_ns(restore->cli, CALL_SECONDS), NULL) == GYRE_OK)
        gy_wire_free(ended); /* if not, it is let go of by itself, only later */
    gy_wire_free(reply);
    return GYRE_OK;
}

/* As many points with the same ids and vectors: sums do not ask in how many shards they are. Versions are new, so sums of
 * payloads cannot be compared: the sample stands for these. */
static gyre_status compare_sums(const struct restore *restore, gyre_error *err)
{
    Gyre__V1__Collection *collection = NULL;
    uint64_t count = 0, vector_sum = 0, wanted_sum = 0, wanted = generation_count(restore->from);
    GY_TRY(collection_get(restore->cli, restore->client, restore->name, &collection, err));
    uint32_t shards = collection_shards(collection);
    gy_wire_free(collection);
    for (uint32_t s = 0; s < restore->from->shard_count; s++)
        wanted_sum += restore->from->shards[s].sums.vector;
    for (uint32_t s = 0; s < shards; s++)
        GY_TRY(ask_shard(restore, s, &count, &vector_sum, err));
    if (count != wanted || vector_sum != wanted_sum)
        return gyre_fail(err, GYRE_CORRUPT,
                         "'%s' has %" PRIu64 " points%s; the backup has %" PRIu64 ". Was it written to meanwhile?", restore->name,
                         count, count == wanted ? " with other ids or vectors" : "", wanted);
    return GYRE_OK;
}

static bool same(const struct sampled *wanted, const Gyre__V1__Point *found, size_t dim)
{
    return found->n_vector == dim && memcmp(found->vector, wanted->vector, dim * sizeof(float)) == 0 &&
           strcmp(found->payload, wanted->payload) == 0;
}

/* Some points by id; they come in the order asked, so the first that is missing or another shows. */
static gyre_status compare_points(const struct restore *restore, const struct sampled *wanted, size_t count, gyre_error *err)
{
    char texts[COMPARED_AT_ONCE][GYRE_UUID_TEXT_BYTES];
    Gyre__V1__PointId bodies[COMPARED_AT_ONCE], *ids[COMPARED_AT_ONCE];
    Gyre__V1__GetRequest request = GYRE__V1__GET_REQUEST__INIT;
    Gyre__V1__GetReply *reply = NULL;
    for (size_t i = 0; i < count; i++)
        point_id_message(&wanted[i].id, ids[i] = &bodies[i], texts[i]);
    request.collection = (char *)restore->name;
    request.ids = ids, request.n_ids = count;
    GY_TRY(gyre_client_call(restore->client, "/gyre.v1.Points/Get", &request.base, &gyre__v1__get_reply__descriptor, &reply,
                            cli_deadline_ns(restore->cli, CALL_SECONDS), err));
    size_t equal = 0;
    while (equal < count && equal < reply->n_points && same(&wanted[equal], reply->points[equal], restore->from->dim))
        equal++;
    gy_wire_free(reply);
    if (equal == count)
        return GYRE_OK;
    return gyre_fail(err, GYRE_CORRUPT, "point %s of '%s' is not what the backup has. Was it written to meanwhile?",
                     gyre_point_id_format(&wanted[equal].id, texts[0]), restore->name);
}

static gyre_status compare(const struct restore *restore, const backup_rows *rows, uint64_t *sampled, gyre_error *err)
{
    size_t count;
    const struct sampled *sample = backup_rows_sample(rows, &count);
    if (!restore->into_existing)
        GY_TRY(compare_sums(restore, err));
    for (size_t i = 0; i < count; i += COMPARED_AT_ONCE)
        GY_TRY(compare_points(restore, sample + i, count - i < COMPARED_AT_ONCE ? count - i : COMPARED_AT_ONCE, err));
    *sampled = count;
    return GYRE_OK;
}

/* ---- the command ---- */

static void report(const struct restore *restore, const struct feed_result *done, uint64_t sampled, bool whole, bool json)
{
    char number[NUMBER_TEXT_BYTES], rate[NUMBER_TEXT_BYTES];
    double per_second = done->seconds > 0 ? (double)done->acknowledged / done->seconds : 0;
    if (json)
        json_write(json_pack("{ss sI sI sI sf sI sI sI sb}", "collection", restore->name, "generation",
                             (json_int_t)restore->from->number, "count", (json_int_t)generation_count(restore->from), "points",
                             (json_int_t)done->acknowledged, "seconds", done->seconds, "retries", (json_int_t)done->retries,
                             "resume_point", (json_int_t)done->resume_row, "compared", (json_int_t)sampled, "complete", whole),
                   stdout);
    else
        printf("restored %s points of generation %u (%s) into %s in %.2f s: %s points/s%s\n",
               number_text(done->acknowledged, number), restore->from->number, restore->from->time, restore->name,
               done->seconds, number_text((uint64_t)per_second, rate), whole ? "; compared: the same" : "");
}

static int run(const struct restore *restore, const backup_manifest *manifest, size_t streams, bool quiet, bool json)
{
    GY_AUTO(backup_rows) *rows =
        backup_rows_new(restore->dir, manifest, (size_t)(restore->from - manifest->generations), restore->start,
                        (size_t)BATCH * RUN_MESSAGES);
    const struct feed feed = {
        .cli = restore->cli, .client = restore->client, .collection = restore->name, .batch = BATCH, .streams = streams,
        .quiet = quiet, .verb = "restored", .rows = generation_count(restore->from) - restore->start, .next = backup_rows_next,
        .run_new = backup_rows_run_new, .next_row = backup_rows_next_row, .self = rows};
    struct feed_result done;
    feed_run(&feed, &done);
    bool whole = done.failure.status == GYRE_OK && done.acknowledged == feed.rows;
    uint64_t sampled = 0;
    gyre_error err;
    if (!whole) {
        report(restore, &done, 0, false, json);
        if (done.failure.status != GYRE_OK)
            cli_fail(command, &done.failure);
        else
            fprintf(stderr, "gyre restore: stopped by signal %d\n", done.signal);
        fprintf(stderr, "The first %" PRIu64 " points are written. To go on, give the same command with --start %" PRIu64 "\n",
                done.resume_row, done.resume_row);
        return CLI_FAILED;
    }
    if (compare(restore, rows, &sampled, &err) != GYRE_OK) {
        report(restore, &done, 0, false, json);
        return cli_fail(command, &err);
    }
    report(restore, &done, sampled, true, json);
    return CLI_DONE;
}

static const struct backup_generation *find(const backup_manifest *manifest, uint64_t number)
{
    for (size_t i = 0; i < manifest->count; i++)
        if (manifest->generations[i].number == number || (!number && i + 1 == manifest->count))
            return &manifest->generations[i];
    return NULL;
}

/* Bits go with the name rabitq only: the others say theirs. */
static void take_spec(const struct backup_generation *from, Gyre__V1__CollectionSpec *spec)
{
    gyre__v1__collection_spec__init(spec);
    spec->dim = from->dim, spec->metric = (Gyre__V1__Metric)from->metric, spec->shards = from->shard_count;
    spec->codec = (char *)from->codec;
    spec->bits = strcmp(from->codec, "rabitq") == 0 ? from->bits : 0;
    spec->copies = from->copies, spec->quantized = from->quantized, spec->min_copies = from->min_copies;
    spec->allow_approximate = from->allow_approximate;
}

int command_restore(struct cli *cli, int argc, char **argv)
{
    const char *name = NULL, *codec = NULL;
    uint64_t shards = 0, copies = 0, quantized = NOT_SAID, min_copies = NOT_SAID, bits = 0, generation = 0, start = 0;
    uint64_t streams = STREAMS_DEFAULT;
    bool into_existing = false, quiet = false, json = false;
    const struct arg args[] = {
        {"as", 0, ARG_TEXT, &name, 0, 0, "NAME", "of the collection (as in the backup)"},
        {"generation", 0, ARG_COUNT, &generation, 1, UINT32_MAX, "N", "the state of this backup (the newest)"},
        {"shards", 0, ARG_COUNT, &shards, 1, 1024, "N", "as in the backup unless said, as are all below"},
        {"copies", 0, ARG_COUNT, &copies, 1, UINT32_MAX - 1, "N", "full copies of each shard"},
        {"quantized", 0, ARG_COUNT, &quantized, 0, UINT32_MAX - 1, "N", "more copies that hold codes only"},
        {"min-copies", 0, ARG_COUNT, &min_copies, 0, UINT32_MAX - 1, "N",
         "writes are refused while fewer full copies are in sync"},
        {"codec", 0, ARG_TEXT, &codec, 0, 0, "NAME", "rabitq, or a name marked in `gyre codec list`"},
        {"bits", 0, ARG_COUNT, &bits, 1, 8, "N", "of code per float with --codec rabitq"},
        {"into-existing", 0, ARG_SWITCH, &into_existing, 0, 0, NULL, "put the points into a collection that is there"},
        {"start", 0, ARG_COUNT, &start, 0, INT64_MAX, "POINT", "the first to restore: to go on after a failure"},
        {"streams", 0, ARG_COUNT, &streams, 1, STREAMS_MAX, "N", "sent at once (4)"},
        {"quiet", 'q', ARG_SWITCH, &quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print the figures as JSON"},
    };
    const struct usage usage = {
        command, "DIR", 1, 1,
        "Makes a collection from a backup, in this cluster or another, and compares the two. Ids, vectors and payloads are those of\n"
        "the backup; versions are new, and codes are trained anew as the collection grows.",
        "  gyre restore /backups/words\n"
        "  gyre restore /backups/words --as words_old --generation 3\n"
        "  gyre restore /backups/words --shards 16 --copies 3 --address other:7700\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    GY_AUTO(gyre_client) *client = NULL;
    GY_AUTO(backup_manifest) *manifest = NULL;
    if (strlen(argv[0]) > MANIFEST_PATH_BYTES / 2)
        return args_misused(&usage, "DIR of %zu bytes; the limit is %d", strlen(argv[0]), MANIFEST_PATH_BYTES / 2);
    if (bits && !codec)
        return args_misused(&usage, "--bits goes with --codec rabitq");
    struct restore restore = {.cli = cli, .dir = argv[0], .into_existing = into_existing, .start = start};
    Gyre__V1__CollectionSpec wished = GYRE__V1__COLLECTION_SPEC__INIT;
    if (codec && codec_read(codec, bits, &wished, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    if (manifest_read(&manifest, argv[0], &err) != GYRE_OK)
        return cli_fail(command, &err);
    restore.from = find(manifest, generation);
    if (!restore.from)
        return args_misused(&usage, "--generation %" PRIu64 ": %s has 1 to %u", generation, argv[0],
                            manifest->generations[manifest->count - 1].number);
    if (start > generation_count(restore.from))
        return args_misused(&usage, "--start %" PRIu64 ": the backup has %" PRIu64 " points", start,
                            generation_count(restore.from));
    restore.name = name ? name : manifest->collection;
    take_spec(restore.from, &restore.spec);
    restore.spec.name = (char *)restore.name;
    if (shards)
        restore.spec.shards = (uint32_t)shards;
    if (copies)
        restore.spec.copies = (uint32_t)copies, restore.spec.min_copies = 0; /* of other copies: the default, unless said */
    if (quantized != NOT_SAID)
        restore.spec.quantized = (uint32_t)quantized;
    if (min_copies != NOT_SAID)
        restore.spec.min_copies = (uint32_t)min_copies;
    if (codec)
        restore.spec.codec = wished.codec, restore.spec.bits = wished.bits;
    if (cli_connect(cli, &client, &err) != GYRE_OK)
        return cli_fail(command, &err);
    restore.client = client;
    if (prepare(&restore, &err) != GYRE_OK)
        return cli_fail(command, &err);
    return run(&restore, manifest, streams, quiet, json);
}
