/* collection: create, list, info, drop. */
#include "collection.h"

#include "args.h"
#include "output.h"

#include "gyre/codec.h"
#include "gyre/metric.h"

#include <stdlib.h>
#include <unistd.h>

enum { CALL_SECONDS = 30, BITS_MAX = 8, CODEC_NAMES_BYTES = 448 };

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

uint32_t collection_shards(const Gyre__V1__Collection *collection)
{
    uint32_t shards = collection->spec ? collection->spec->shards : 0;
    for (size_t s = 0; s < collection->n_shards; s++)
        if (shards > 1 && collection->shards[s]->splitting_into == shards - 1)
            return shards - 1;
    return shards;
}

gyre_status metric_read(const char *text, Gyre__V1__Metric *out, gyre_error *err)
{
    gyre_metric metric = gyre_metric_parse(text);
    if (!metric)
        return gyre_fail(err, GYRE_INVALID, "--metric '%s': l2, ip or cosine is needed", text);
    *out = (Gyre__V1__Metric)metric; /* the schema and metric.h share their numbers */
    return GYRE_OK;
}

/* "rabitq1, rabitq2, …": the codecs that say their bits themselves and that shards can scan and bound. */
static void codec_names(char out[CODEC_NAMES_BYTES])
{
    size_t count, used = 0;
    const gyre_codec *codecs = gyre_codec_list(&count);
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (!gyre_codec_has_signs(&codecs[i]) || used >= CODEC_NAMES_BYTES)
            continue;
        int printed = snprintf(out + used, CODEC_NAMES_BYTES - used, "%s%s", used ? ", " : "", codecs[i].name);
        used += printed > 0 ? (size_t)printed : 0;
    }
}

gyre_status codec_read(const char *name, uint64_t bits, Gyre__V1__CollectionSpec *out, gyre_error *err)
{
    const gyre_codec *codec;
    char names[CODEC_NAMES_BYTES];
    out->codec = (char *)name;
    out->bits = (uint32_t)bits;
    if (strcmp(name, "rabitq") == 0)
        return GYRE_OK;
    if (gyre_codec_find(&codec, name, NULL) != GYRE_OK || !gyre_codec_has_signs(codec)) {
        codec_names(names);
        return gyre_fail(err, GYRE_INVALID, "--codec '%.32s': rabitq (with --bits) or one of these is needed: %s", name, names);
    }
    if (bits)
        return gyre_fail(err, GYRE_INVALID, "--bits goes with --codec rabitq; the name '%s' says its bits", name);
    return GYRE_OK;
}

int command_collection_create(struct cli *cli, int argc, char **argv)
{
    uint64_t dim = 0, bits = 0, shards = 4, copies = 1, quantized = 0, min_copies = 0;
    const char *metric = "l2", *codec = "rabitq";
    bool json = false, allow_approximate = false;
    const struct arg args[] = {
        {"dim", 0, ARG_COUNT, &dim, 1, GYRE_DIM_MAX, "N", "floats in a vector (needed)"},
        {"metric", 0, ARG_TEXT, &metric, 0, 0, "NAME", "l2 (the default), ip or cosine"},
        {"codec", 0, ARG_TEXT, &codec, 0, 0, "NAME", "rabitq (the default), or a name marked in `gyre codec list`"},
        {"bits", 0, ARG_COUNT, &bits, 1, BITS_MAX, "N", "of code per float with rabitq: 1 to 8 (1); the other names say theirs"},
        {"shards", 0, ARG_COUNT, &shards, 1, 1024, "N", "parts the points are spread over (4)"},
        {"copies", 0, ARG_COUNT, &copies, 1, UINT32_MAX, "N", "full copies of each shard, 1 to 7 (1)"},
        {"quantized", 0, ARG_COUNT, &quantized, 0, UINT32_MAX, "N", "more copies that hold codes only, 0 to 7 (0)"},
        {"min-copies", 0, ARG_COUNT, &min_copies, 0, UINT32_MAX, "N",
         "writes are refused while fewer full copies are in sync (one less than copies)"},
        {"allow-approximate", 0, ARG_SWITCH, &allow_approximate, 0, 0, NULL,
         "where no full copy of a shard can be reached its codes may answer searches"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "collection create", "NAME", 1, 1, "Makes a collection: a named set of vectors of one dimension under one metric.",
        "  gyre collection create words --dim 100 --metric cosine\n"
        "  gyre collection create texts --dim 768 --metric ip --bits 4 --shards 16\n"
        "  gyre collection create names --dim 64 --copies 3 --quantized 2\n"
        "  gyre collection create photos --dim 128 --codec signblock-p4b3\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!dim)
        return args_misused(&usage, "--dim is needed: how many floats a vector has");
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    gyre_error err;
    if (metric_read(metric, &spec.metric, &err) != GYRE_OK || codec_read(codec, bits, &spec, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    spec.name = argv[0];
    spec.dim = (uint32_t)dim;
    spec.shards = (uint32_t)shards;
    spec.copies = (uint32_t)copies;
    spec.quantized = (uint32_t)quantized;
    spec.min_copies = (uint32_t)min_copies;
    spec.allow_approximate = allow_approximate;
    Gyre__V1__CreateCollectionRequest request = GYRE__V1__CREATE_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.spec = &spec;
    if (cli_call(cli, usage.command, CREATE, &request.base, &gyre__v1__collection__descriptor, &collection, CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    collection_print(collection, json, stdout);
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
    const struct usage usage = {"collection info", "NAME", 1, 1, "Shows one collection: its shards, and what a recall costs.",
                                "  gyre collection info words\n  gyre collection info words --json\n"};
    int stop = args_read(&usage, args, 1, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.name = argv[0];
    if (cli_call(cli, usage.command, GET, &request.base, &gyre__v1__collection__descriptor, &collection, CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    collection_print(collection, json, stdout);
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
