/* backup: `gyre backup`: one more generation in a directory. take.c reads the shards; the manifest is written when all are
 * there. */
#include "backup/take.h"

#include "args.h"
#include "collection.h"
#include "output.h"

#include "gyre/lifecycle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CALL_SECONDS = 30, PARALLEL_DEFAULT = 4, PARALLEL_MAX = 16, GENERATION_MAX = 999999 };
static const char command[] = "backup";

static void now_text(char out[MANIFEST_NAME_BYTES])
{
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(out, MANIFEST_NAME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* Which cluster and collection it is, and how it is made. */
static gyre_status describe(const struct cli *cli, gyre_client *client, const char *name, struct backup_generation *out,
                            uint64_t *points, gyre_error *err)
{
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *cluster = NULL;
    Gyre__V1__Collection *collection = NULL;
    GY_TRY(gyre_client_call(client, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor,
                            &cluster, cli_deadline_ns(cli, CALL_SECONDS), err));
    gyre_status status = collection_get(cli, client, name, &collection, err);
    const Gyre__V1__CollectionSpec *spec = collection ? collection->spec : NULL;
    if (status == GYRE_OK && (!spec || !spec->dim || !spec->shards))
        status = gyre_fail(err, GYRE_INTERNAL, "the coordinator described collection '%s' without its spec", name);
    if (status == GYRE_OK) {
        *out = (struct backup_generation){
            .collection_id = collection->id, .dim = spec->dim, .metric = (uint32_t)spec->metric, .bits = spec->bits,
            .copies = spec->copies, .quantized = spec->quantized, .min_copies = spec->min_copies,
            .allow_approximate = spec->allow_approximate, .shard_count = collection_shards(collection)};
        snprintf(out->cluster, sizeof out->cluster, "%s", cluster->cluster);
        snprintf(out->codec, sizeof out->codec, "%s", spec->codec);
        now_text(out->time);
        *points = collection->points;
    }
    gy_wire_free(cluster);
    gy_wire_free(collection);
    return status;
}

/* Why the newest generation cannot be followed; NULL: it can. */
static const char *cannot_follow(const backup_manifest *manifest, const struct backup_generation *made, bool full)
{
    if (!manifest)
        return "it is the first";
    const struct backup_generation *base = &manifest->generations[manifest->count - 1];
    if (full)
        return "--full was asked for";
    if (strcmp(base->cluster, made->cluster) != 0)
        return "the earlier backup is of another cluster";
    if (base->collection_id != made->collection_id)
        return "the collection was made anew since the earlier backup";
    if (base->dim != made->dim || base->shard_count > made->shard_count)
        return "the collection has another dim or fewer shards";
    return NULL;
}

struct totals {
    uint64_t points, gone, files;
    uint32_t full;
};

static struct totals totals_of(const struct backup_generation *made)
{
    struct totals totals = {0};
    for (uint32_t s = 0; s < made->shard_count; s++) {
        totals.points += made->shards[s].points, totals.gone += made->shards[s].gone, totals.files += made->shards[s].file_count;
        totals.full += made->shards[s].full;
    }
    return totals;
}

static void report(const struct take *take, const struct take_result *result, const char *reason, bool json)
{
    const struct backup_generation *made = take->made;
    struct totals totals = totals_of(made);
    uint64_t count = generation_count(made);
    if (json) {
        json_t *reasons = json_array();
        for (uint32_t s = 0; s < made->shard_count; s++)
            if (result->reasons[s][0])
                json_array_append_new(reasons, json_pack("{sI ss}", "shard", (json_int_t)s, "reason", result->reasons[s]));
        json_write(json_pack("{ss sI sb ss? sI sI sI sI sI sI sI sI sI sf so}", "collection", take->collection, "generation",
                             (json_int_t)made->number, "incremental", (int)take->follow, "reason", reason, "count",
                             (json_int_t)count, "points_written", (json_int_t)totals.points, "gone", (json_int_t)totals.gone,
                             "files", (json_int_t)totals.files, "bytes", (json_int_t)result->bytes, "shards",
                             (json_int_t)made->shard_count, "shards_full", (json_int_t)totals.full, "shards_resumed",
                             (json_int_t)result->resumed, "retries", (json_int_t)result->retries, "seconds", result->seconds,
                             "full_again", reasons),
                   stdout);
        return;
    }
    char a[NUMBER_TEXT_BYTES], b[NUMBER_TEXT_BYTES], c[NUMBER_TEXT_BYTES], d[NUMBER_TEXT_BYTES];
    printf("generation %u of %s: %s points; wrote %s points and %s gone ids, %s in %.2f s\n", made->number, take->collection,
           number_text(count, a), number_text(totals.points, b), number_text(totals.gone, c), bytes_text(result->bytes, d),
           result->seconds);
}

static void say_why_full(const struct take *take, const struct take_result *result, const char *reason)
{
    if (reason)
        fprintf(stderr, "gyre backup: a full backup: %s\n", reason);
    for (uint32_t s = 0; s < take->made->shard_count; s++)
        if (result->reasons[s][0])
            fprintf(stderr, "gyre backup: shard %u in full: %s\n", s, result->reasons[s]);
}

/* Adds the generation to the manifest: from then on it is a backup. */
static gyre_status commit(const struct take *take, backup_manifest **manifest, gyre_error *err)
{
    if (!*manifest) {
        *manifest = cli_alloc(1, sizeof **manifest);
        snprintf((*manifest)->collection, sizeof (*manifest)->collection, "%s", take->collection);
    }
    backup_manifest *whole = *manifest;
    whole->generations = cli_resize(whole->generations, whole->count + 1, sizeof *whole->generations);
    whole->generations[whole->count++] = *take->made;
    GY_TRY(manifest_write(whole, take->dir, err));
    take_forget_notes(take);
    return GYRE_OK;
}

static int run(struct take *take, backup_manifest **manifest, const char *reason, bool json)
{
    struct take_result result;
    take_run(take, &result);
    say_why_full(take, &result, reason);
    int code = CLI_DONE;
    gyre_error err = result.failure;
    if (err.status != GYRE_OK)
        code = cli_fail(command, &err);
    else if (result.signal)
        code = CLI_FAILED, fprintf(stderr, "gyre backup: stopped by signal %d\n", result.signal);
    if (code != CLI_DONE)
        fprintf(stderr, "This is no backup yet. What is done is kept; the same command goes on with it.\n");
    else if (commit(take, manifest, &err) != GYRE_OK)
        code = cli_fail(command, &err);
    else
        report(take, &result, reason, json);
    free(result.reasons);
    return code;
}

int command_backup(struct cli *cli, int argc, char **argv)
{
    uint64_t parallel = PARALLEL_DEFAULT;
    bool full = false, quiet = false, json = false;
    const struct arg args[] = {
        {"full", 0, ARG_SWITCH, &full, 0, 0, NULL, "every point, though there is an earlier backup to follow"},
        {"parallel", 0, ARG_COUNT, &parallel, 1, PARALLEL_MAX, "N", "shards read at once (4)"},
        {"quiet", 'q', ARG_SWITCH, &quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print the figures as JSON"},
    };
    const struct usage usage = {
        command, "COLLECTION DIR", 2, 2,
        "Copies a collection into a directory while it is used: each shard as it is at one moment, shards at different ones. If DIR\n"
        "has a backup of the collection, only what changed since is written, as its next generation.",
        "  gyre backup words /backups/words\n"
        "  gyre backup words /backups/words --full\n"
        "  gyre backup verify /backups/words\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    int lock;
    uint64_t points = 0;
    struct backup_generation made = {0};
    GY_AUTO(gyre_client) *client = NULL;
    GY_AUTO(backup_manifest) *manifest = NULL;
    if (strlen(argv[1]) > MANIFEST_PATH_BYTES / 2)
        return args_misused(&usage, "DIR of %zu bytes; the limit is %d", strlen(argv[1]), MANIFEST_PATH_BYTES / 2);
    if (cli_connect(cli, &client, &err) != GYRE_OK || describe(cli, client, argv[0], &made, &points, &err) != GYRE_OK ||
        gy_dir_lock(argv[1], &lock, &err) != GYRE_OK)
        return cli_fail(command, &err);
    gyre_status status = manifest_read(&manifest, argv[1], &err);
    if (status == GYRE_NOT_FOUND)
        status = GYRE_OK;
    else if (status == GYRE_OK && strcmp(manifest->collection, argv[0]) != 0)
        status = gyre_fail(&err, GYRE_EXISTS, "%s has a backup of collection '%s'", argv[1], manifest->collection);
    else if (status == GYRE_OK && (manifest->count == MANIFEST_GENERATIONS_MAX ||
                                   manifest->generations[manifest->count - 1].number == GENERATION_MAX))
        status = gyre_fail(&err, GYRE_EXHAUSTED, "%s has %d generations; begin another directory", argv[1],
                           MANIFEST_GENERATIONS_MAX);
    if (status != GYRE_OK) {
        close(lock);
        return cli_fail(command, &err);
    }
    made.number = manifest ? manifest->generations[manifest->count - 1].number + 1 : 1;
    made.shards = cli_alloc(made.shard_count, sizeof *made.shards);
    const char *reason = cannot_follow(manifest, &made, full);
    struct take take = {.cli = cli,
                        .client = client,
                        .dir = argv[1],
                        .manifest = manifest,
                        .follow = !reason,
                        .collection = argv[0],
                        .points_expected = points,
                        .parallel = parallel,
                        .quiet = quiet,
                        .made = &made};
    size_t before = manifest ? manifest->count : 0;
    int code = run(&take, &manifest, reason, json);
    close(lock);
    if (manifest && manifest->count > before) /* its own now */
        return code;
    for (uint32_t s = 0; s < made.shard_count; s++)
        backup_shard_fini(&made.shards[s]);
    free(made.shards);
    return code;
}
