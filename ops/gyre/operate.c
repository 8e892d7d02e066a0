/* operate: other wishes for a collection, a replica moved. The coordinator does the work in the background. */
#include "args.h"
#include "collection.h"
#include "output.h"

#include <inttypes.h>
#include <stdlib.h>

enum { CALL_SECONDS = 30, NOT_SAID = UINT32_MAX };

/* A field that is sent only if it was said. */
static Gyre__V1__Number *said(uint64_t value, Gyre__V1__Number *room)
{
    gyre__v1__number__init(room);
    room->value = (uint32_t)value;
    return value == NOT_SAID ? NULL : room;
}

int command_collection_update(struct cli *cli, int argc, char **argv)
{
    uint64_t copies = NOT_SAID, quantized = NOT_SAID, min_copies = NOT_SAID;
    bool json = false;
    const struct arg args[] = {
        {"copies", 0, ARG_COUNT, &copies, 1, NOT_SAID - 1, "N", "full copies of each shard"},
        {"quantized", 0, ARG_COUNT, &quantized, 0, NOT_SAID - 1, "N", "more copies that hold codes only"},
        {"min-copies", 0, ARG_COUNT, &min_copies, 0, NOT_SAID - 1, "N",
         "writes are refused while fewer full copies are in sync; 0: one less than copies"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "collection update", "NAME", 1, 1,
        "Changes how many copies a collection has. They are made and removed in the background.",
        "  gyre collection update words --copies 3\n"
        "  gyre collection update words --quantized 2 --min-copies 1\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__Number rooms[3];
    Gyre__V1__UpdateCollectionRequest request = GYRE__V1__UPDATE_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.name = argv[0];
    request.copies = said(copies, &rooms[0]);
    request.quantized = said(quantized, &rooms[1]);
    request.min_copies = said(min_copies, &rooms[2]);
    if (!request.copies && !request.quantized && !request.min_copies)
        return args_misused(&usage, "say what changes: --copies, --quantized or --min-copies");
    if (cli_call(cli, usage.command, "/gyre.v1.Collections/Update", &request.base, &gyre__v1__collection__descriptor, &collection,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    collection_print(collection, json, stdout);
    gy_wire_free(collection);
    return CLI_DONE;
}

int command_move(struct cli *cli, int argc, char **argv)
{
    uint64_t shard = NOT_SAID;
    const char *from = NULL, *to = NULL;
    const struct arg args[] = {
        {"shard", 0, ARG_COUNT, &shard, 0, 1023, "N", "which one (needed)"},
        {"from", 0, ARG_TEXT, &from, 0, 0, "NODE", "that has a replica of it (needed)"},
        {"to", 0, ARG_TEXT, &to, 0, 0, "NODE", "that has none (needed)"},
    };
    const struct usage usage = {"move", "COLLECTION", 1, 1,
                                "Moves a replica of a shard from one node to another, in the background. The old one goes when the new\n"
                                "one has everything.",
                                "  gyre move words --shard 2 --from n1 --to n4\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (shard == NOT_SAID || !from || !to)
        return args_misused(&usage, "--shard, --from and --to are needed");
    Gyre__V1__MoveRequest request = GYRE__V1__MOVE_REQUEST__INIT;
    Gyre__V1__MoveReply *reply = NULL;
    request.collection = argv[0], request.shard = (uint32_t)shard;
    request.from = (char *)(uintptr_t)from, request.to = (char *)(uintptr_t)to;
    if (cli_call(cli, usage.command, "/gyre.v1.Cluster/Move", &request.base, &gyre__v1__move_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    printf("shard %" PRIu64 " of %s: moving from %s to %s, epoch %" PRIu64 "\n", shard, argv[0], from, to, reply->epoch);
    gy_wire_free(reply);
    return CLI_DONE;
}
