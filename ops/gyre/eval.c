/* eval: how good and how fast the answers are.
 *
 * The truth comes from an .ivecs file (row numbers, which are the ids that import gives) or from the cluster itself, by exact
 * search. Then each query is asked by itself, or some in a call, from some threads at once, and timed from the request's packing
 * to the reply's unpacking: a query takes as long as its call. The first WARM_UP queries are asked once before, unmeasured:
 * connections are made and pages come in only once in a cluster's life. With several recalls all of this but the truth is done for
 * each, and each is a row. */
#include "eval_report.h"
#include "output.h"
#include "progress.h"
#include "search_words.h"

#include "ivecs.h"
#include "vectors.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    THREADS_MAX = 256, CALL_SECONDS = 60, TRUTH_SECONDS = 600, TRUTH_BATCH = 16, WARM_UP = 16, BATCH_MAX = 1024 /* the server's */,
    QUERY_BYTES_MAX = 1 << 30, ROUNDS_MAX = 1000000, ASKED_MAX = 50000000, /* a time of 8 bytes is kept of each */
};

GY_AUTO_DEFINE(gy_vectors, gy_vectors_close)

struct eval {
    const struct cli *cli;
    gyre_client *client;
    const char *collection;
    Gyre__V1__SearchOptions options;
    size_t k;
    float *queries;       /* [count][dim] */
    size_t count, dim;
    uint64_t rounds;      /* how often the queries are asked */
    size_t batch;         /* queries in a call */
    uint64_t *truth;      /* [count][k] */
    size_t truth_k;       /* neighbours known of each query: k, or fewer in a collection smaller than k */

    pthread_mutex_t mu;   /* guards the rest */
    pthread_cond_t changed;
    size_t working;
    uint64_t next, total; /* queries handed out, of all rounds */
    uint64_t done;
    gyre_error failure;
};

static gyre_status read_queries(struct eval *eval, const char *path, uint64_t limit, gyre_error *err)
{
    GY_AUTO(gy_vectors) *vectors = NULL;
    GY_TRY(gy_vectors_open(&vectors, path, err));
    uint64_t count = gy_vectors_count(vectors);
    eval->dim = gy_vectors_dim(vectors);
    if (limit && limit < count)
        count = limit;
    if (!count)
        return gyre_fail(err, GYRE_INVALID, "%s holds no query", path);
    if (count > QUERY_BYTES_MAX / (eval->dim * sizeof(float)))
        return gyre_fail(err, GYRE_INVALID, "%s holds %" PRIu64 " queries of %zu floats; at most %d bytes are taken: see --limit", path,
                         count, eval->dim, QUERY_BYTES_MAX);
    eval->queries = cli_alloc((size_t)count, eval->dim * sizeof(float));
    GY_TRY(gy_vectors_read(vectors, eval->queries, (size_t)count, &eval->count, err));
    if (eval->count != count)
        return gyre_fail(err, GYRE_CORRUPT, "%s ends after %zu of %" PRIu64 " queries", path, eval->count, count);
    return GYRE_OK;
}

static gyre_status load_truth(struct eval *eval, const char *path, gyre_error *err)
{
    size_t rows, width;
    int32_t *data;
    GY_TRY(gy_ivecs_load(path, &rows, &width, &data, err));
    gyre_status status = GYRE_OK;
    if (rows < eval->count)
        status = gyre_fail(err, GYRE_INVALID, "%s has the neighbours of %zu queries; there are %zu queries", path, rows, eval->count);
    else if (width < eval->k)
        status = gyre_fail(err, GYRE_INVALID, "-k %zu: %s has %zu neighbours of each query", eval->k, path, width);
    eval->truth_k = eval->k;
    for (size_t q = 0; q < eval->count && status == GYRE_OK; q++)
        for (size_t i = 0; i < eval->k && status == GYRE_OK; i++) {
            int32_t row = data[q * width + i];
            if (row < 0)
                status = gyre_fail(err, GYRE_INVALID, "%s: row %zu: neighbour %zu is %d; -k must be smaller than that", path, q, i, row);
            eval->truth[q * eval->k + i] = (uint64_t)row;
        }
    free(data);
    return status;
}

/* Keeps the ids of one exact answer. Only numbers can be compared with what a search finds. */
static gyre_status keep_truth(struct eval *eval, size_t query, const Gyre__V1__SearchReply *reply, gyre_error *err)
{
    if (query == 0)
        eval->truth_k = reply->n_hits < eval->k ? reply->n_hits : eval->k;
    if (reply->n_hits < eval->truth_k)
        return gyre_fail(err, GYRE_ABORTED, "the collection lost points during the evaluation");
    for (size_t i = 0; i < eval->truth_k; i++) {
        const Gyre__V1__PointId *id = reply->hits[i]->id;
        if (!id || id->id_case != GYRE__V1__POINT_ID__ID_NUM)
            return gyre_fail(err, GYRE_UNIMPLEMENTED, "points with UUIDs cannot be evaluated; ids must be numbers");
        eval->truth[query * eval->k + i] = id->num;
    }
    return GYRE_OK;
}

/* Asks so many queries in one call, from one of the file on; behind the last comes the first. */
static gyre_status ask_batch(const struct eval *eval, const Gyre__V1__SearchOptions *options, size_t first, size_t count,
                             int timeout_s, Gyre__V1__SearchBatchReply **reply, gyre_error *err)
{
    Gyre__V1__SearchQuery *queries = cli_alloc(count, sizeof *queries);
    Gyre__V1__SearchQuery **pointers = cli_alloc(count, sizeof(Gyre__V1__SearchQuery *));
    Gyre__V1__SearchBatchRequest request = GYRE__V1__SEARCH_BATCH_REQUEST__INIT;
    for (size_t i = 0; i < count; i++) {
        gyre__v1__search_query__init(&queries[i]);
        queries[i].vector = eval->queries + (first + i) % eval->count * eval->dim;
        queries[i].n_vector = eval->dim;
        pointers[i] = &queries[i];
    }
    request.collection = (char *)eval->collection;
    request.queries = pointers;
    request.n_queries = count;
    request.options = (Gyre__V1__SearchOptions *)(uintptr_t)options;
    gyre_status status =
        gyre_client_call(eval->client, "/gyre.v1.Points/SearchBatch", &request.base, &gyre__v1__search_batch_reply__descriptor, reply,
                         cli_deadline_ns(eval->cli, timeout_s), err);
    free(queries);
    free(pointers);
    if (status == GYRE_OK && (*reply)->n_replies != count)
        return gyre_fail(err, GYRE_INTERNAL, "%zu queries were asked and %zu answered", count, (*reply)->n_replies);
    return status;
}

static gyre_status ask_truth(struct eval *eval, bool quiet, gyre_error *err)
{
    struct progress progress;
    progress_init(&progress, stderr, quiet, "searched exactly", "queries", eval->count);
    Gyre__V1__SearchOptions options = eval->options;
    options.exact = true;
    options.approximate = false;
    options.nprobe = 0;
    options.allow_partial = false; /* what a shard that is away holds belongs to the truth */
    gyre_status status = GYRE_OK;
    for (size_t first = 0; first < eval->count && status == GYRE_OK; first += TRUTH_BATCH) {
        size_t rows = eval->count - first < TRUTH_BATCH ? eval->count - first : TRUTH_BATCH;
        Gyre__V1__SearchBatchReply *reply = NULL;
        status = ask_batch(eval, &options, first, rows, TRUTH_SECONDS, &reply, err);
        for (size_t i = 0; i < rows && status == GYRE_OK; i++)
            status = keep_truth(eval, first + i, reply->replies[i], err);
        gy_wire_free(reply);
        progress_show(&progress, first + rows);
    }
    progress_end(&progress);
    return status;
}

static gyre_status ask(const struct eval *eval, size_t query, Gyre__V1__SearchReply **reply, gyre_error *err)
{
    Gyre__V1__SearchQuery asked = GYRE__V1__SEARCH_QUERY__INIT;
    Gyre__V1__SearchRequest request = GYRE__V1__SEARCH_REQUEST__INIT;
    asked.vector = eval->queries + query * eval->dim;
    asked.n_vector = eval->dim;
    request.collection = (char *)eval->collection;
    request.query = &asked;
    request.options = (Gyre__V1__SearchOptions *)&eval->options;
    return gyre_client_call(eval->client, "/gyre.v1.Points/Search", &request.base, &gyre__v1__search_reply__descriptor, reply,
                            cli_deadline_ns(eval->cli, CALL_SECONDS), err);
}

static void count_answer(const struct eval *eval, struct tally *tally, size_t query, const Gyre__V1__SearchReply *reply,
                         int64_t time_ns)
{
    tally_add(tally, reply, eval->truth + query * eval->k, eval->truth_k, time_ns);
}

/* Asks the queries of one call and counts their answers; tally NULL: only asks. */
static gyre_status ask_call(const struct eval *eval, size_t first, size_t count, struct tally *tally, gyre_error *err)
{
    Gyre__V1__SearchReply *one = NULL;
    Gyre__V1__SearchBatchReply *many = NULL;
    int64_t start_ns = gy_now_ns();
    gyre_status status = eval->batch == 1 ? ask(eval, first, &one, err)
                                          : ask_batch(eval, &eval->options, first, count, CALL_SECONDS, &many, err);
    int64_t time_ns = gy_now_ns() - start_ns;
    if (status == GYRE_OK && tally && one)
        count_answer(eval, tally, first, one, time_ns);
    for (size_t i = 0; status == GYRE_OK && tally && many && i < count; i++)
        count_answer(eval, tally, (first + i) % eval->count, many->replies[i], time_ns);
    gy_wire_free(one);
    gy_wire_free(many);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "query %zu", first);
}

static gyre_status warm_up(const struct eval *eval, gyre_error *err)
{
    for (size_t q = 0; q < eval->count && q < WARM_UP; q += eval->batch)
        GY_TRY(ask_call(eval, q, eval->batch, NULL, err));
    return GYRE_OK;
}

struct asker {
    struct eval *eval;
    pthread_t thread;
    struct tally tally;
};

static void *ask_all(void *arg)
{
    struct asker *asker = arg;
    struct eval *eval = asker->eval;
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&eval->mu);
    while (eval->next < eval->total && eval->failure.status == GYRE_OK) {
        uint64_t left = eval->total - eval->next;
        size_t first = (size_t)(eval->next % eval->count), count = left < eval->batch ? (size_t)left : eval->batch;
        eval->next += count;
        pthread_mutex_unlock(&eval->mu);
        status = ask_call(eval, first, count, &asker->tally, &err);
        pthread_mutex_lock(&eval->mu);
        if (status != GYRE_OK && eval->failure.status == GYRE_OK)
            eval->failure = err;
        eval->done += status == GYRE_OK ? count : 0;
    }
    eval->working--;
    pthread_cond_broadcast(&eval->changed);
    pthread_mutex_unlock(&eval->mu);
    return NULL;
}

/* Asks every query of every round from threads at once; *seconds is the time that took. */
static gyre_status measure(struct eval *eval, size_t threads, bool quiet, struct tally *tally, double *seconds, gyre_error *err)
{
    struct progress progress;
    struct asker *askers = cli_alloc(threads, sizeof *askers);
    size_t started = 0;
    eval->next = eval->done = 0;
    eval->total = eval->count * eval->rounds;
    progress_init(&progress, stderr, quiet, "searched", "queries", eval->total);
    int64_t start_ns = gy_now_ns();
    for (; started < threads; started++) {
        askers[started].eval = eval;
        pthread_mutex_lock(&eval->mu);
        eval->working++;
        pthread_mutex_unlock(&eval->mu);
        if (pthread_create(&askers[started].thread, NULL, ask_all, &askers[started]) != 0) {
            pthread_mutex_lock(&eval->mu);
            eval->working--;
            /* Fewer threads than were asked for would be another measurement. */
            if (eval->failure.status == GYRE_OK)
                GY_IGNORE(gyre_fail(&eval->failure, GYRE_EXHAUSTED, "--concurrency %zu: only %zu threads could be started", threads, started));
            pthread_mutex_unlock(&eval->mu);
            break;
        }
    }
    pthread_mutex_lock(&eval->mu);
    while (eval->working) {
        int64_t until_ns = gy_now_ns() + progress_interval_ns(&progress);
        struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
        pthread_cond_timedwait(&eval->changed, &eval->mu, &until);
        uint64_t done = eval->done;
        pthread_mutex_unlock(&eval->mu);
        progress_show(&progress, done);
        pthread_mutex_lock(&eval->mu);
    }
    pthread_mutex_unlock(&eval->mu);
    *seconds = (double)(gy_now_ns() - start_ns) / (double)GY_SECOND_NS;
    for (size_t i = 0; i < started; i++) {
        pthread_join(askers[i].thread, NULL);
        tally_merge(tally, &askers[i].tally);
        tally_fini(&askers[i].tally);
    }
    free(askers);
    progress_end(&progress);
    if (eval->failure.status != GYRE_OK)
        *err = eval->failure;
    return eval->failure.status;
}

/* The command's words that only a run needs. */
struct eval_words {
    const char *queries, *truth; /* files; truth NULL: by exact search */
    uint64_t limit, threads;
    double recalls[SEARCH_RECALLS_MAX];
    size_t recall_count;
    bool quiet, json;
};

/* Measures with one recall; says so at once, or with more to come in a row of the table. */
static gyre_status measure_one(struct eval *eval, const struct eval_words *words, double recall, struct table *table,
                               gyre_error *err)
{
    struct tally tally = {0};
    struct eval_asked asked = {
        .k = eval->k, .threads = (size_t)words->threads, .batch = eval->batch, .nprobe = eval->options.nprobe};
    asked.recall_target = recall;
    eval->options.recall_target = recall;
    GY_TRY(warm_up(eval, err));
    gyre_status status = measure(eval, asked.threads, words->quiet, &tally, &asked.seconds, err);
    if (status == GYRE_OK && words->json && words->recall_count == 1)
        json_write(eval_json(&asked, &tally), stdout);
    else if (status == GYRE_OK && words->json)
        json_write_line(eval_json(&asked, &tally), stdout);
    else if (status == GYRE_OK && words->recall_count == 1)
        eval_print(&asked, &tally, stdout);
    else if (status == GYRE_OK)
        eval_table_add(table, &asked, &tally);
    tally_fini(&tally);
    return status;
}

static gyre_status run(struct eval *eval, const struct eval_words *words, gyre_error *err)
{
    GY_TRY(read_queries(eval, words->queries, words->limit, err));
    if (eval->count > ASKED_MAX / eval->rounds)
        return gyre_fail(err, GYRE_INVALID, "--rounds %" PRIu64 " of %zu queries: at most %d searches are measured", eval->rounds, eval->count,
                         ASKED_MAX);
    eval->truth = cli_alloc(eval->count, eval->k * sizeof *eval->truth);
    GY_TRY(words->truth ? load_truth(eval, words->truth, err) : ask_truth(eval, words->quiet, err));
    struct table table = eval_table();
    gyre_status status = GYRE_OK;
    for (size_t i = 0; i < words->recall_count && status == GYRE_OK; i++)
        status = measure_one(eval, words, words->recalls[i], &table, err);
    table_print(&table, stdout); /* also what was measured before a failure */
    return status;
}

int command_eval(struct cli *cli, int argc, char **argv)
{
    struct eval_words run_words = {.threads = 1};
    struct search_words words = {.k = SEARCH_K_DEFAULT};
    uint64_t rounds = 1, batch = 1;
    const struct arg args[] = {
        {"queries", 0, ARG_TEXT, &run_words.queries, 0, 0, "FILE", "vectors to search with (needed)"},
        {"truth", 0, ARG_TEXT, &run_words.truth, 0, 0, "FILE", ".ivecs: ids of the true neighbours (else: exact search)"},
        {"concurrency", 'c', ARG_COUNT, &run_words.threads, 1, THREADS_MAX, "N", "calls under way at once (1)"},
        {"batch", 0, ARG_COUNT, &batch, 1, BATCH_MAX, "N", "queries in a call (1)"},
        {"limit", 0, ARG_COUNT, &run_words.limit, 1, UINT32_MAX, "N", "only the first queries of the file"},
        {"rounds", 0, ARG_COUNT, &rounds, 1, ROUNDS_MAX, "N", "how often the queries are asked (1)"},
        SEARCH_WORDS_ARGS(&words),
        {"recall", 0, ARG_TEXT, &words.recall, 0, 0, "R[,R…]", "look into as many lists as find this share of them (0.99)"},
        {"quiet", 'q', ARG_SWITCH, &run_words.quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &run_words.json, 0, 0, NULL, "print JSON; with several recalls an object a line"},
    };
    const struct usage usage = {"eval", "NAME", 1, 1, "Measures recall, throughput and latency of searches.",
                                "  gyre eval words --queries q.npy --truth truth.ivecs -k 10\n"
                                "  gyre eval words --queries q.npy --concurrency 8 --rounds 20 --json\n"
                                "  gyre eval words --queries q.npy --recall 0.9,0.95,0.99\n"
                                "  gyre eval words --queries q.npy --batch 64 --concurrency 4\n"
                                "  gyre eval words --queries q.npy --approximate --nprobe 16\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!run_words.queries)
        return args_misused(&usage, "--queries is needed: a file of vectors");
    gyre_error err;
    struct eval eval = {.cli = cli, .collection = argv[0], .k = (size_t)words.k, .rounds = rounds, .batch = (size_t)batch};
    if (search_words_options(&words, &eval.options, &err) != GYRE_OK ||
        search_words_recalls(&words, SEARCH_RECALLS_MAX, run_words.recalls, &run_words.recall_count, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    GY_AUTO(gyre_client) *client = NULL;
    if (cli_connect(cli, &client, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    eval.client = client;
    pthread_mutex_init(&eval.mu, NULL);
    cli_cond_init(&eval.changed);
    gyre_status status = run(&eval, &run_words, &err);
    pthread_cond_destroy(&eval.changed);
    pthread_mutex_destroy(&eval.mu);
    free(eval.queries);
    free(eval.truth);
    return status == GYRE_OK ? CLI_DONE : cli_fail(usage.command, &err);
}
