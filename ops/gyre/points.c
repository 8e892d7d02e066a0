/* points: get, delete, count. */
#include "args.h"
#include "output.h"

#include <inttypes.h>
#include <stdlib.h>

enum { CALL_SECONDS = 30, IDS_MAX = 10000, VECTOR_SHOWN = 6 };

/* The ids a person typed, as a message holds them. */
typedef struct typed_ids {
    Gyre__V1__PointId *ids;
    Gyre__V1__PointId **pointers;
    char (*uuids)[GYRE_UUID_TEXT_BYTES];
} typed_ids;

static void typed_ids_free(typed_ids *ids)
{
    if (!ids)
        return;
    free(ids->ids);
    free(ids->pointers);
    free(ids->uuids);
    free(ids);
}
GY_AUTO_DEFINE(typed_ids, typed_ids_free)

static gyre_status typed_ids_read(typed_ids **out, char **words, size_t count, gyre_error *err)
{
    GY_AUTO(typed_ids) *list = cli_alloc(1, sizeof *list);
    list->ids = cli_alloc(count, sizeof *list->ids);
    list->pointers = cli_alloc(count, sizeof *list->pointers);
    list->uuids = cli_alloc(count, sizeof *list->uuids);
    for (size_t i = 0; i < count; i++) {
        GY_TRY(point_id_read(&list->ids[i], list->uuids[i], words[i], err));
        list->pointers[i] = &list->ids[i];
    }
    *out = GY_TAKE(list);
    return GYRE_OK;
}

static void print_points(const Gyre__V1__GetReply *reply, bool whole_vector)
{
    char id[ID_TEXT_BYTES];
    for (size_t i = 0; i < reply->n_points; i++) {
        Gyre__V1__Point *point = reply->points[i];
        printf("%s  version %" PRIu64 "\n", point_id_text(point->id, id), point->version);
        if (point->payload && *point->payload)
            printf("  payload  %s\n", text_harmless(point->payload));
        size_t shown = whole_vector || point->n_vector <= VECTOR_SHOWN ? point->n_vector : VECTOR_SHOWN;
        printf("  vector   [");
        for (size_t d = 0; d < shown; d++)
            printf("%s%.9g", d ? ", " : "", (double)point->vector[d]);
        printf("%s]  %zu floats\n", shown < point->n_vector ? ", …" : "", point->n_vector);
    }
    for (size_t i = 0; i < reply->n_missing; i++)
        fprintf(stderr, "gyre get: there is no point %s\n", point_id_text(reply->missing[i], id));
}

static json_t *points_json(const Gyre__V1__GetReply *reply)
{
    json_t *points = json_array(), *missing = json_array();
    for (size_t i = 0; i < reply->n_points; i++) {
        const Gyre__V1__Point *point = reply->points[i];
        json_array_append_new(points, json_pack("{so sI so so}", "id", json_point_id(point->id), "version", (json_int_t)point->version,
                                                "payload", json_payload(point->payload), "vector",
                                                json_vector(point->vector, point->n_vector)));
    }
    for (size_t i = 0; i < reply->n_missing; i++)
        json_array_append_new(missing, json_point_id(reply->missing[i]));
    return json_pack("{so so}", "points", points, "missing", missing);
}

int command_get(struct cli *cli, int argc, char **argv)
{
    bool json = false, whole = false;
    const struct arg args[] = {
        {"whole-vector", 0, ARG_SWITCH, &whole, 0, 0, NULL, "print all floats, not the first few"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON, with whole vectors"},
    };
    const struct usage usage = {"get", "NAME ID…", 2, 1 + IDS_MAX, "Shows points by id. Fails if one is missing.",
                                "  gyre get words 42\n  gyre get docs 7 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --json\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    GY_AUTO(typed_ids) *list = NULL;
    if (typed_ids_read(&list, argv + 1, (size_t)argc - 1, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    Gyre__V1__GetRequest request = GYRE__V1__GET_REQUEST__INIT;
    Gyre__V1__GetReply *reply = NULL;
    request.collection = argv[0];
    request.ids = list->pointers;
    request.n_ids = (size_t)argc - 1;
    if (cli_call(cli, usage.command, "/gyre.v1.Points/Get", &request.base, &gyre__v1__get_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    if (json)
        json_write(points_json(reply), stdout);
    else
        print_points(reply, whole);
    int code = reply->n_missing ? CLI_FAILED : CLI_DONE;
    gy_wire_free(reply);
    return code;
}

int command_delete(struct cli *cli, int argc, char **argv)
{
    const struct usage usage = {"delete", "NAME ID…", 2, 1 + IDS_MAX, "Deletes points by id and says how many were there.",
                                "  gyre delete words 42\n  gyre delete words 1 2 3\n"};
    int stop = args_read(&usage, NULL, 0, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    GY_AUTO(typed_ids) *list = NULL;
    if (typed_ids_read(&list, argv + 1, (size_t)argc - 1, &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    Gyre__V1__DeleteRequest request = GYRE__V1__DELETE_REQUEST__INIT;
    Gyre__V1__DeleteReply *reply = NULL;
    request.collection = argv[0];
    request.ids = list->pointers;
    request.n_ids = (size_t)argc - 1;
    if (cli_call(cli, usage.command, "/gyre.v1.Points/Delete", &request.base, &gyre__v1__delete_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    printf("deleted %" PRIu64 " of %d\n", reply->deleted, argc - 1);
    gy_wire_free(reply);
    return CLI_DONE;
}

int command_count(struct cli *cli, int argc, char **argv)
{
    bool partial = false, json = false;
    const struct arg args[] = {
        {"allow-partial", 0, ARG_SWITCH, &partial, 0, 0, NULL, "count what can be reached, and say so"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {"count", "NAME", 1, 1, "Counts the points of a collection now.",
                                "  gyre count words\n  gyre count words --allow-partial --json\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__CountRequest request = GYRE__V1__COUNT_REQUEST__INIT;
    Gyre__V1__CountReply *reply = NULL;
    request.collection = argv[0];
    request.allow_partial = partial;
    if (cli_call(cli, usage.command, "/gyre.v1.Points/Count", &request.base, &gyre__v1__count_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    if (json)
        json_write(json_pack("{sI si si}", "points", (json_int_t)reply->points, "shards_answered", (int)reply->shards_answered,
                             "shards_total", (int)reply->shards_total),
                   stdout);
    else
        printf("%" PRIu64 "\n", reply->points);
    if (!json && reply->shards_answered != reply->shards_total)
        fprintf(stderr, "gyre count: partial: %u of %u shards answered\n", reply->shards_answered, reply->shards_total);
    gy_wire_free(reply);
    return CLI_DONE;
}
