/* operate: other wishes for a collection, a replica moved, a shard split. The coordinator does the work in the background. */
#include "args.h"
#include "collection.h"
#include "output.h"
#include "progress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

enum { CALL_SECONDS = 30, SHARD_MAX = 1023, NOT_SAID = UINT32_MAX };
#define LOOK_NS 500000000 /* a heartbeat: nodes do not say more often what they hold */

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
    const char *approximate = NULL;
    bool json = false;
    const struct arg args[] = {
        {"copies", 0, ARG_COUNT, &copies, 1, NOT_SAID - 1, "N", "full copies of each shard"},
        {"quantized", 0, ARG_COUNT, &quantized, 0, NOT_SAID - 1, "N", "more copies that hold codes only"},
        {"min-copies", 0, ARG_COUNT, &min_copies, 0, NOT_SAID - 1, "N",
         "writes are refused while fewer full copies are in sync; 0: one less than copies"},
        {"allow-approximate", 0, ARG_TEXT, &approximate, 0, 0, "yes|no",
         "whether codes may answer searches of a shard none of whose full copies can be reached"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "collection update", "NAME", 1, 1,
        "Changes how many copies a collection has, which are made and removed in the background, and what may answer for them.",
        "  gyre collection update words --copies 3\n"
        "  gyre collection update words --quantized 2 --min-copies 1\n"
        "  gyre collection update words --allow-approximate yes\n"};
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
    Gyre__V1__Flag flag = GYRE__V1__FLAG__INIT;
    if (approximate) {
        flag.value = strcmp(approximate, "yes") == 0;
        if (!flag.value && strcmp(approximate, "no") != 0)
            return args_misused(&usage, "--allow-approximate '%.32s': yes or no is needed", approximate);
        request.allow_approximate = &flag;
    }
    if (!request.copies && !request.quantized && !request.min_copies && !request.allow_approximate)
        return args_misused(&usage, "say what changes: --copies, --quantized, --min-copies or --allow-approximate");
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
        {"shard", 0, ARG_COUNT, &shard, 0, SHARD_MAX, "N", "which one (needed)"},
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

/* What is left to do of a split: the new shard is not shown yet, or so many points are still where they are not of. */
struct split_left {
    bool shown;
    uint64_t foreign;
};

static struct split_left split_left(const Gyre__V1__Collection *collection, uint32_t shard, uint32_t new_shard)
{
    struct split_left left = {0};
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *info = collection->shards[i];
        left.shown |= info->shard == new_shard;
        left.foreign += info->shard == shard || info->shard == new_shard ? info->foreign_points : 0;
    }
    return left;
}

/* One look at how far it is. */
static int look(struct cli *cli, const char *command, const char *name, uint32_t shard, uint32_t new_shard,
                struct split_left *left)
{
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *collection = NULL;
    request.name = (char *)(uintptr_t)name;
    int code = cli_call(cli, command, "/gyre.v1.Collections/Get", &request.base, &gyre__v1__collection__descriptor, &collection,
                        CALL_SECONDS);
    if (code != CLI_DONE)
        return code;
    *left = split_left(collection, shard, new_shard);
    gy_wire_free(collection);
    return CLI_DONE;
}

/* Until the new shard serves, and then until neither holds what is the other's. */
static int follow_split(struct cli *cli, const char *command, const char *name, const Gyre__V1__SplitReply *begun, uint32_t shard,
                        bool quiet)
{
    struct progress progress;
    struct split_left left = {0};
    int code;
    progress_init(&progress, stderr, quiet, "deleted", "points of the other half", 0);
    while ((code = look(cli, command, name, shard, begun->new_shard, &left)) == CLI_DONE && (!left.shown || left.foreign)) {
        char text[PROGRESS_TEXT_BYTES], time[NUMBER_TEXT_BYTES];
        if (left.shown && !progress.total)
            progress_init(&progress, stderr, quiet, progress.verb, progress.unit, left.foreign);
        if (left.shown) {
            progress_show(&progress, left.foreign < progress.total ? progress.total - left.foreign : 0);
        } else {
            snprintf(text, sizeof text, "shard %u is being made, %s", begun->new_shard,
                     duration_text((double)(gy_now_ns() - progress.started_ns) / 1e9, time));
            progress_say(&progress, text);
        }
        struct timespec pause = {0, LOOK_NS};
        nanosleep(&pause, NULL);
    }
    progress_end(&progress);
    if (code != CLI_DONE)
        fprintf(stderr, "The split goes on by itself; `gyre collection info %s` shows how far it is.\n", name);
    return code;
}

static bool shard_read(const char *text, uint32_t *out)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    *out = (uint32_t)number;
    return *text >= '0' && *text <= '9' && !*end && number <= SHARD_MAX;
}

int command_split(struct cli *cli, int argc, char **argv)
{
    bool wait = false, quiet = false, json = false;
    const struct arg args[] = {
        {"wait", 0, ARG_SWITCH, &wait, 0, 0, NULL, "return when the new shard serves and neither holds points of the other"},
        {"quiet", 'q', ARG_SWITCH, &quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "split", "COLLECTION SHARD", 2, 2,
        "Halves the hash range of a shard, in the background: the points of its upper half become a new shard, the collection's\n"
        "last, on the same nodes. Nothing is sent over the network. Searches and writes go on. There is no way back.",
        "  gyre split words 2\n"
        "  gyre split words 2 --wait\n"
        "  gyre move words --shard 4 --from n1 --to n5   # then, to spread the load\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__SplitRequest request = GYRE__V1__SPLIT_REQUEST__INIT;
    Gyre__V1__SplitReply *begun = NULL;
    request.collection = argv[0];
    if (!shard_read(argv[1], &request.shard))
        return args_misused(&usage, "SHARD '%s': a whole number from 0 to %d is needed", argv[1], SHARD_MAX);
    if (cli_call(cli, usage.command, "/gyre.v1.Cluster/Split", &request.base, &gyre__v1__split_reply__descriptor, &begun,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    int code = wait ? follow_split(cli, usage.command, argv[0], begun, request.shard, quiet) : CLI_DONE;
    if (code == CLI_DONE && json)
        json_write(json_pack("{ss si si sI sb}", "collection", argv[0], "shard", (int)request.shard, "new_shard",
                             (int)begun->new_shard, "epoch", (json_int_t)begun->epoch, "done", (int)wait),
                   stdout);
    else if (code == CLI_DONE)
        printf(wait ? "shard %u of %s: split; its upper half is shard %u\n"
                    : "shard %u of %s: being split; its upper half becomes shard %u\n",
               request.shard, argv[0], begun->new_shard);
    gy_wire_free(begun);
    return code;
}
