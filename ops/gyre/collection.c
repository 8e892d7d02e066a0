/* collection: create, list, info, drop, train. */
#include "collection.h"

#include "args.h"
#include "output.h"

#include "gyre/metric.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum { CALL_SECONDS = 30, TRAIN_SECONDS = 3600 };

static const char GET[] = "/gyre.v1.Collections/Get", CREATE[] = "/gyre.v1.Collections/Create";

gyre_status collection_get(const struct cli *cli, gyre_client *client, const char *name, Gyre__V1__Collection **out, gyre_error *err)
{
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    request.name = (char *)name;
    return gyre_client_call(client, GET, &request.base, &gyre__v1__collection__descriptor, out,
                            cli_deadline_ns(cli, CALL_SECONDS), err);
}

gyre_status collection_create(const struct cli *cli, gyre_client *client, const Gyre__V1__CollectionSpec *spec,
                              Gyre__V1__Collection **out, gyre_error *err)
{
    Gyre__V1__CreateCollectionRequest request = GYRE__V1__CREATE_COLLECTION_REQUEST__INIT;
    request.spec = (Gyre__V1__CollectionSpec *)spec;
    return gyre_client_call(client, CREATE, &request.base, &gyre__v1__collection__descriptor, out,
                            cli_deadline_ns(cli, CALL_SECONDS), err);
}

gyre_status metric_read(const char *text, Gyre__V1__Metric *out, gyre_error *err)
{
    gyre_metric metric = gyre_metric_parse(text);
    if (!metric)
        return gyre_fail(err, GYRE_INVALID, "--metric '%s': l2, ip or cosine is needed", text);
    *out = (Gyre__V1__Metric)metric; /* the schema and metric.h share their numbers */
    return GYRE_OK;
}

const char *metric_text(Gyre__V1__Metric metric)
{
    const char *name = gyre_metric_name((gyre_metric)metric);
    return name ? name : "?";
}

json_t *collection_json(const Gyre__V1__Collection *collection)
{
    const Gyre__V1__CollectionSpec *spec = collection->spec;
    json_t *shards = json_array();
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        json_array_append_new(shards, json_pack("{si sI ss sb sI sI si}", "shard", (int)shard->shard, "epoch", (json_int_t)shard->epoch,
                                                "primary", shard->primary, "reachable", shard->reachable, "points",
                                                (json_int_t)shard->points, "applied_seq", (json_int_t)shard->applied_seq,
                                                "codebook_version", (int)shard->codebook_version));
    }
    json_t *object = json_pack("{sI sI si so}", "id", (json_int_t)collection->id, "points", (json_int_t)collection->points,
                               "codebook_version", (int)collection->codebook_version, "shards", shards);
    if (spec)
        json_object_set_new(object, "spec",
                            json_pack("{ss si ss ss si si si si}", "name", spec->name, "dim", (int)spec->dim, "metric",
                                      metric_text(spec->metric), "codec", spec->codec, "bits", (int)spec->bits, "shards",
                                      (int)spec->shards, "copies", (int)spec->copies, "quantized", (int)spec->quantized));
    return object;
}

void collections_print(Gyre__V1__Collection *const *collections, size_t count, FILE *out)
{
    static const struct column columns[] = {{"collection", false}, {"dim", true},      {"metric", false}, {"codec", false},
                                            {"points", true},      {"shards", true},   {"copies", true},  {"codebook", true},
                                            {"reachable", true}};
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    static const Gyre__V1__CollectionSpec nothing = GYRE__V1__COLLECTION_SPEC__INIT;
    for (size_t i = 0; i < count; i++) {
        const Gyre__V1__Collection *collection = collections[i];
        const Gyre__V1__CollectionSpec *spec = collection->spec ? collection->spec : &nothing;
        char number[NUMBER_TEXT_BYTES];
        size_t reachable = 0;
        for (size_t s = 0; s < collection->n_shards; s++)
            reachable += collection->shards[s]->reachable ? 1 : 0;
        table_add(&table, "%s", spec->name);
        table_add(&table, "%u", spec->dim);
        table_add(&table, "%s", metric_text(spec->metric));
        table_add(&table, "%s %u bit", spec->codec, spec->bits);
        table_add(&table, "%s", number_text(collection->points, number));
        table_add(&table, "%u", spec->shards);
        if (spec->quantized)
            table_add(&table, "%u + %u codes", spec->copies, spec->quantized);
        else
            table_add(&table, "%u", spec->copies);
        table_add(&table, "%u", collection->codebook_version);
        table_add(&table, "%zu of %zu", reachable, collection->n_shards);
    }
    table_print(&table, out);
}

static void print_shards(const Gyre__V1__Collection *collection)
{
    static const struct column columns[] = {{"shard", true}, {"primary", false},     {"reachable", false}, {"points", true},
                                            {"epoch", true}, {"applied seq", true}, {"codebook", true}};
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        char number[NUMBER_TEXT_BYTES];
        table_add(&table, "%u", shard->shard);
        table_add(&table, "%s", shard->primary);
        table_add(&table, "%s", shard->reachable ? "yes" : "no");
        table_add(&table, "%s", number_text(shard->points, number));
        table_add(&table, "%" PRIu64, shard->epoch);
        table_add(&table, "%" PRIu64, shard->applied_seq);
        table_add(&table, "%u", shard->codebook_version);
    }
    table_print(&table, stdout);
}

static void print_one(const Gyre__V1__Collection *collection, bool json)
{
    if (json) {
        json_write(collection_json(collection), stdout);
        return;
    }
    Gyre__V1__Collection *one[] = {(Gyre__V1__Collection *)collection};
    collections_print(one, 1, stdout);
    printf("\n");
    print_shards(collection);
}

int command_collection_create(struct cli *cli, int argc, char **argv)
{
    uint64_t dim = 0, bits = 1, shards = 4, copies = 1, quantized = 0;
    const char *metric = "l2", *codec = "rabitq";
    bool json = false;
    const struct arg args[] = {
        {"dim", 0, ARG_COUNT, &dim, 1, GYRE_DIM_MAX, "N", "floats in a vector (needed)"},
        {"metric", 0, ARG_TEXT, &metric, 0, 0, "NAME", "l2 (the default), ip or cosine"},
        {"codec", 0, ARG_TEXT, &codec, 0, 0, "NAME", "rabitq (the default)"},
        {"bits", 0, ARG_COUNT, &bits, 1, UINT32_MAX, "N", "of code per float (1; this version has no other)"},
        {"shards", 0, ARG_COUNT, &shards, 1, 1024, "N", "parts the points are spread over (4)"},
        {"copies", 0, ARG_COUNT, &copies, 1, UINT32_MAX, "N", "full copies of each shard (1; this version has no other)"},
        {"quantized", 0, ARG_COUNT, &quantized, 0, UINT32_MAX, "N", "more copies that hold codes only (0; this version has no other)"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "collection create", "NAME", 1, 1, "Makes a collection: a named set of vectors of one dimension under one metric.",
        "  gyre collection create words --dim 100 --metric cosine\n"
        "  gyre collection create photos --dim 768 --metric ip --shards 16\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!dim)
        return args_misused(&usage, "--dim is needed: how many floats a vector has");
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    gyre_error err;
    if (metric_read(metric, &spec.metric, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    spec.name = argv[0];
    spec.dim = (uint32_t)dim;
    spec.codec = (char *)codec;
    spec.bits = (uint32_t)bits;
    spec.shards = (uint32_t)shards;
    spec.copies = (uint32_t)copies;
    spec.quantized = (uint32_t)quantized;
    Gyre__V1__CreateCollectionRequest request = GYRE__V1__CREATE_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.spec = &spec;
    if (cli_call(cli, usage.command, CREATE, &request.base, &gyre__v1__collection__descriptor, &collection, CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    print_one(collection, json);
    gy_wire_free(collection);
    return CLI_DONE;
}

int collection_list(const struct cli *cli, const char *command, Gyre__V1__ListCollectionsReply **out)
{
    Gyre__V1__ListCollectionsRequest request = GYRE__V1__LIST_COLLECTIONS_REQUEST__INIT;
    return cli_call(cli, command, "/gyre.v1.Collections/List", &request.base, &gyre__v1__list_collections_reply__descriptor, out,
                    CALL_SECONDS);
}

int command_collection_list(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct arg args[] = {{"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"}};
    const struct usage usage = {"collection list", "", 0, 0, "Lists the collections.",
                                "  gyre collection list\n  gyre collection list --json | jq -r '.[].spec.name'\n"};
    int stop = args_read(&usage, args, 1, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__ListCollectionsReply *reply = NULL;
    if (collection_list(cli, usage.command, &reply) != CLI_DONE)
        return CLI_FAILED;
    if (json) {
        json_t *list = json_array();
        for (size_t i = 0; i < reply->n_collections; i++)
            json_array_append_new(list, collection_json(reply->collections[i]));
        json_write(list, stdout);
    } else if (reply->n_collections) {
        collections_print(reply->collections, reply->n_collections, stdout);
    } else {
        printf("no collections; make one: gyre collection create NAME --dim N\n");
    }
    gy_wire_free(reply);
    return CLI_DONE;
}

int command_collection_info(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct arg args[] = {{"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"}};
    const struct usage usage = {"collection info", "NAME", 1, 1, "Shows one collection, shard by shard.",
                                "  gyre collection info words\n  gyre collection info words --json\n"};
    int stop = args_read(&usage, args, 1, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.name = argv[0];
    if (cli_call(cli, usage.command, GET, &request.base, &gyre__v1__collection__descriptor, &collection, CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    print_one(collection, json);
    gy_wire_free(collection);
    return CLI_DONE;
}

/* Asks on the terminal; without one the answer is no. */
static bool confirmed(const char *name)
{
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "gyre collection drop: this deletes '%s' and its points; say --yes\n", name);
        return false;
    }
    char line[8];
    fprintf(stderr, "Delete collection '%s' and all its points? [y/N] ", name);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

int command_collection_drop(struct cli *cli, int argc, char **argv)
{
    bool yes = false;
    const struct arg args[] = {{"yes", 'y', ARG_SWITCH, &yes, 0, 0, NULL, "do not ask"}};
    const struct usage usage = {"collection drop", "NAME", 1, 1, "Deletes a collection and all its points. Asks first.",
                                "  gyre collection drop words\n  gyre collection drop words --yes\n"};
    int stop = args_read(&usage, args, 1, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!yes && !confirmed(argv[0]))
        return CLI_FAILED;
    Gyre__V1__DropCollectionRequest request = GYRE__V1__DROP_COLLECTION_REQUEST__INIT;
    Gyre__V1__DropCollectionReply *reply = NULL;
    request.name = argv[0];
    if (cli_call(cli, usage.command, "/gyre.v1.Collections/Drop", &request.base, &gyre__v1__drop_collection_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    gy_wire_free(reply);
    printf("dropped %s\n", argv[0]);
    return CLI_DONE;
}

int command_collection_train(struct cli *cli, int argc, char **argv)
{
    bool wait = false, json = false;
    const struct arg args[] = {
        {"wait", 0, ARG_SWITCH, &wait, 0, 0, NULL, "return when every shard's codes are in the new codebook"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "collection train", "NAME", 1, 1,
        "Publishes a codebook centred on the collection's mean and re-encodes its codes. Runs by itself as a collection grows;\n"
        "this asks for it now.",
        "  gyre collection train words\n  gyre collection train words --wait\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__TrainCollectionRequest request = GYRE__V1__TRAIN_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.name = argv[0];
    request.wait = wait;
    if (cli_call(cli, usage.command, "/gyre.v1.Collections/Train", &request.base, &gyre__v1__collection__descriptor, &collection,
                 TRAIN_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    if (json)
        json_write(collection_json(collection), stdout);
    else
        printf("%s: codebook %u %s\n", argv[0], collection->codebook_version, wait ? "in use on every shard" : "published");
    gy_wire_free(collection);
    return CLI_DONE;
}
