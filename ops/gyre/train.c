/* train: a collection's partition and codes follow its points, now.
 *
 * One call does all of it and answers at its end. Meanwhile this asks, over and over, what the collection looks like, and shows
 * that: the phases of the training until a codebook is published, then shard after shard re-encodes. It decides nothing. */
#include "args.h"
#include "collection.h"
#include "output.h"
#include "progress.h"

#include "gyre/kmeans.h"

#include <pthread.h>
#include <stdlib.h>

enum { TRAIN_SECONDS = 3600, LOOK_SECONDS = 5, LOOK_INTERVAL_MS = 500 };

static const char TRAIN[] = "/gyre.v1.Collections/Train";

struct training {
    const struct cli *cli;
    gyre_client *client;
    Gyre__V1__TrainCollectionRequest request;

    pthread_mutex_t mu;   /* guards the rest */
    pthread_cond_t ended_changed;
    bool ended;
    Gyre__V1__Collection *trained; /* when status is GYRE_OK */
    gyre_status status;
    gyre_error err;
};

static void *train(void *arg)
{
    struct training *training = arg;
    Gyre__V1__Collection *trained = NULL;
    gyre_error err;
    gyre_status status = gyre_client_call(training->client, TRAIN, &training->request.base, &gyre__v1__collection__descriptor,
                                          &trained, cli_deadline_ns(training->cli, TRAIN_SECONDS), &err);
    pthread_mutex_lock(&training->mu);
    training->ended = true;
    training->trained = trained;
    training->status = status;
    if (status != GYRE_OK)
        training->err = err;
    pthread_cond_signal(&training->ended_changed);
    pthread_mutex_unlock(&training->mu);
    return NULL;
}

char *training_text(const Gyre__V1__Collection *now, uint32_t version_before, double seconds, char out[PROGRESS_TEXT_BYTES])
{
    char lists[NUMBER_TEXT_BYTES], time[NUMBER_TEXT_BYTES];
    size_t done = 0;
    duration_text(seconds, time);
    if (now->training) {
        snprintf(out, PROGRESS_TEXT_BYTES, "training: %.32s %.0f%%, %s", now->training->phase, now->training->done * 100, time);
        return text_harmless(out);
    }
    if (now->codebook_version <= version_before) { /* asked for, not begun */
        snprintf(out, PROGRESS_TEXT_BYTES, "training, %s", time);
        return out;
    }
    for (size_t i = 0; i < now->n_shards; i++)
        done += now->shards[i]->codebook_version >= now->codebook_version;
    snprintf(out, PROGRESS_TEXT_BYTES, "codebook %u of %s list%s: %zu of %zu shards re-encoded, %s", now->codebook_version,
             number_text(now->lists, lists), now->lists == 1 ? "" : "s", done, now->n_shards, time);
    return out;
}

/* Shows how far the training is until it has ended. The lock is held on entry and on return. */
static void watch(struct training *training, uint32_t version_before, struct progress *progress)
{
    while (!training->ended) {
        int64_t until_ns = gy_now_ns() + LOOK_INTERVAL_MS * GY_MILLISECOND_NS;
        struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
        pthread_cond_timedwait(&training->ended_changed, &training->mu, &until);
        if (training->ended || progress->quiet)
            continue;
        pthread_mutex_unlock(&training->mu);
        Gyre__V1__Collection *now = NULL;
        struct cli look = *training->cli;
        look.timeout_s = LOOK_SECONDS;
        char text[PROGRESS_TEXT_BYTES];
        if (collection_get(&look, training->client, training->request.name, &now, NULL) == GYRE_OK)
            progress_say(progress, training_text(now, version_before, (double)(gy_now_ns() - progress->started_ns) / 1e9, text));
        gy_wire_free(now);
        pthread_mutex_lock(&training->mu);
    }
}

/* Trains while showing how far it is; on GYRE_OK *out is the caller's. */
static gyre_status run(struct training *training, bool quiet, Gyre__V1__Collection **out, gyre_error *err)
{
    Gyre__V1__Collection *before = NULL;
    struct progress progress;
    pthread_t thread;
    GY_TRY(collection_get(training->cli, training->client, training->request.name, &before, err));
    uint32_t version_before = before->codebook_version;
    gy_wire_free(before);
    progress_init(&progress, stderr, quiet, "", "", 0);
    if (pthread_create(&thread, NULL, train, training) != 0)
        return gyre_fail(err, GYRE_EXHAUSTED, "no thread could be started");
    pthread_mutex_lock(&training->mu);
    watch(training, version_before, &progress);
    pthread_mutex_unlock(&training->mu);
    pthread_join(thread, NULL);
    progress_end(&progress);
    if (training->status != GYRE_OK)
        *err = training->err;
    *out = training->trained;
    return training->status;
}

int command_collection_train(struct cli *cli, int argc, char **argv)
{
    uint64_t lists = 0;
    bool wait = false, quiet = false, json = false;
    const struct arg args[] = {
        {"lists", 0, ARG_COUNT, &lists, 1, GYRE_LISTS_MAX, "N", "of the partition; 1: none (else: by the number of points)"},
        {"wait", 0, ARG_SWITCH, &wait, 0, 0, NULL, "return when every shard's codes are in the new codebook"},
        {"quiet", 'q', ARG_SWITCH, &quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "collection train", "NAME", 1, 1,
        "Partitions a collection into lists of near points, publishes that as a codebook, measures what a recall costs, and\n"
        "re-encodes the codes. Runs by itself as a collection grows; this asks for it now. Searches go on meanwhile.",
        "  gyre collection train words --wait\n"
        "  gyre collection train words --lists 4096 --wait\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    GY_AUTO(gyre_client) *client = NULL;
    if (cli_connect(cli, &client, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    struct training training = {.cli = cli, .client = client};
    gyre__v1__train_collection_request__init(&training.request);
    training.request.name = argv[0];
    training.request.lists = (uint32_t)lists;
    training.request.wait = wait;
    pthread_mutex_init(&training.mu, NULL);
    cli_cond_init(&training.ended_changed);
    Gyre__V1__Collection *collection = NULL;
    gyre_status status = run(&training, quiet, &collection, &err);
    pthread_cond_destroy(&training.ended_changed);
    pthread_mutex_destroy(&training.mu);
    if (status != GYRE_OK)
        return cli_fail(usage.command, &err);
    char text[NUMBER_TEXT_BYTES];
    if (json)
        json_write(collection_json(collection), stdout);
    else
        printf("%s: codebook %u of %s list%s %s\n", argv[0], collection->codebook_version, number_text(collection->lists, text),
               collection->lists == 1 ? "" : "s", wait ? "in use on every shard" : "published");
    gy_wire_free(collection);
    return CLI_DONE;
}
