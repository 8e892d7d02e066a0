/* search: the points nearest to a point, or to the vectors of a file. */
#include "answer.h"
#include "output.h"
#include "search_words.h"
#include "vectors.h"

#include <inttypes.h>
#include <stdlib.h>

enum { CALL_SECONDS = 60, BATCH = 64 };

GY_AUTO_DEFINE(gy_vectors, gy_vectors_close)

struct search {
    const struct cli *cli;
    gyre_client *client;
    const char *collection;
    Gyre__V1__SearchOptions options;
    bool json;
};

static gyre_status search_one(const struct search *search, Gyre__V1__SearchQuery *query, gyre_error *err)
{
    Gyre__V1__SearchRequest request = GYRE__V1__SEARCH_REQUEST__INIT;
    Gyre__V1__SearchReply *reply = NULL;
    request.collection = (char *)search->collection;
    request.query = query;
    request.options = (Gyre__V1__SearchOptions *)&search->options;
    GY_TRY(gyre_client_call(search->client, "/gyre.v1.Points/Search", &request.base, &gyre__v1__search_reply__descriptor, &reply,
                            cli_deadline_ns(search->cli, CALL_SECONDS), err));
    if (search->json)
        json_write(answer_json(reply), stdout);
    else
        answer_print(reply, search->options.with_payload, stdout);
    gy_wire_free(reply);
    return GYRE_OK;
}

static gyre_status search_row(const struct search *search, gy_vectors *vectors, uint64_t row, gyre_error *err)
{
    Gyre__V1__SearchQuery query = GYRE__V1__SEARCH_QUERY__INIT;
    size_t rows = 0;
    if (row >= gy_vectors_count(vectors))
        return gyre_fail(err, GYRE_OUT_OF_RANGE, "--row %" PRIu64 ": the file has %" PRIu64 " rows", row, gy_vectors_count(vectors));
    query.n_vector = gy_vectors_dim(vectors);
    query.vector = cli_alloc(query.n_vector, sizeof *query.vector);
    gyre_status status = gy_vectors_seek(vectors, row, err);
    if (status == GYRE_OK)
        status = gy_vectors_read(vectors, query.vector, 1, &rows, err);
    if (status == GYRE_OK)
        status = search_one(search, &query, err);
    free(query.vector);
    return status;
}

static void show_batch(const struct search *search, const Gyre__V1__SearchBatchReply *reply, uint64_t first_row)
{
    for (size_t i = 0; i < reply->n_replies; i++) {
        uint64_t row = first_row + i;
        if (search->json) {
            json_t *object = answer_json(reply->replies[i]);
            json_object_set_new(object, "row", json_integer((json_int_t)row));
            json_write_line(object, stdout);
        } else {
            printf("%srow %" PRIu64 "\n", row ? "\n" : "", row);
            answer_print(reply->replies[i], search->options.with_payload, stdout);
        }
    }
}

/* Every row of the file, BATCH at a time: neither the file nor the answers are held whole. JSON is a line a row. */
static gyre_status search_all(const struct search *search, gy_vectors *vectors, gyre_error *err)
{
    size_t dim = gy_vectors_dim(vectors);
    float *buffer = cli_alloc((size_t)BATCH * dim, sizeof *buffer);
    gyre_status status = GYRE_OK;
    for (uint64_t row = 0; row < gy_vectors_count(vectors) && status == GYRE_OK;) {
        Gyre__V1__SearchQuery queries[BATCH], *pointers[BATCH];
        Gyre__V1__SearchBatchRequest request = GYRE__V1__SEARCH_BATCH_REQUEST__INIT;
        Gyre__V1__SearchBatchReply *reply = NULL;
        size_t rows = 0;
        status = gy_vectors_read(vectors, buffer, BATCH, &rows, err);
        if (status != GYRE_OK || !rows)
            break;
        for (size_t i = 0; i < rows; i++) {
            gyre__v1__search_query__init(&queries[i]);
            queries[i].vector = buffer + i * dim;
            queries[i].n_vector = dim;
            pointers[i] = &queries[i];
        }
        request.collection = (char *)search->collection;
        request.queries = pointers;
        request.n_queries = rows;
        request.options = (Gyre__V1__SearchOptions *)&search->options;
        status = gyre_client_call(search->client, "/gyre.v1.Points/SearchBatch", &request.base, &gyre__v1__search_batch_reply__descriptor,
                                  &reply, cli_deadline_ns(search->cli, CALL_SECONDS), err);
        if (status == GYRE_OK)
            show_batch(search, reply, row);
        else
            status = gyre_wrap(err, status, "rows %" PRIu64 " to %" PRIu64, row, row + rows - 1);
        gy_wire_free(reply);
        row += rows;
    }
    free(buffer);
    return status;
}

static gyre_status search_file(const struct search *search, const char *path, const char *row, gyre_error *err)
{
    GY_AUTO(gy_vectors) *vectors = NULL;
    GY_TRY(gy_vectors_open(&vectors, path, err));
    if (strcmp(row, "all") == 0)
        return search_all(search, vectors, err);
    return search_row(search, vectors, strtoull(row, NULL, 10), err);
}

static bool is_row(const char *text)
{
    return strcmp(text, "all") == 0 || (*text && strlen(text) <= 18 && strspn(text, "0123456789") == strlen(text));
}

int command_search(struct cli *cli, int argc, char **argv)
{
    const char *like = NULL, *path = NULL, *row = "0";
    struct search_words words = {.k = SEARCH_K_DEFAULT};
    bool json = false, no_payload = false;
    const struct arg args[] = {
        {"like-id", 0, ARG_TEXT, &like, 0, 0, "ID", "nearest to this point, itself left out"},
        {"vectors", 0, ARG_TEXT, &path, 0, 0, "FILE", "nearest to the vectors of a file"},
        {"row", 0, ARG_TEXT, &row, 0, 0, "N|all", "which row of that file (0)"},
        SEARCH_WORDS_ARGS(&words),
        {"recall", 0, ARG_TEXT, &words.recall, 0, 0, "R", "look into as many lists as find this share of the neighbours (0.99)"},
        {"no-payload", 0, ARG_SWITCH, &no_payload, 0, 0, NULL, "ids and distances only"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON; with --row all an object a line"},
    };
    const struct usage usage = {"search", "NAME", 1, 1, "Finds the nearest points and says what the answer rests on.",
                                "  gyre search words --like-id 42 -k 10\n"
                                "  gyre search words --vectors queries.fvecs --row 7 --json\n"
                                "  gyre search words --like-id 42 --recall 0.9\n"
                                "  gyre search words --vectors queries.npy --row all --exact\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!like == !path)
        return args_misused(&usage, "one of --like-id and --vectors is needed");
    if (!is_row(row))
        return args_misused(&usage, "--row '%s': a row number or 'all' is needed", row);
    gyre_error err;
    struct search search = {.cli = cli, .collection = argv[0], .json = json};
    size_t recalls;
    double recall;
    if (search_words_options(&words, &search.options, &err) != GYRE_OK ||
        search_words_recalls(&words, 1, &recall, &recalls, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    search.options.recall_target = recall;
    search.options.with_payload = !no_payload;
    Gyre__V1__PointId id;
    char uuid[GYRE_UUID_TEXT_BYTES];
    if (like && point_id_read(&id, uuid, like, &err) != GYRE_OK)
        return args_misused(&usage, "--like-id: %s", err.text);

    GY_AUTO(gyre_client) *client = NULL;
    if (cli_connect(cli, &client, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    search.client = client;
    gyre_status status;
    if (like) {
        Gyre__V1__SearchQuery query = GYRE__V1__SEARCH_QUERY__INIT;
        query.like_id = &id;
        status = search_one(&search, &query, &err);
    } else {
        status = search_file(&search, path, row, &err);
    }
    return status == GYRE_OK ? CLI_DONE : cli_fail(usage.command, &err);
}
