/* scrub, fsck: whether data on disk is what was written: of a collection that serves, by its nodes; of a node that does not run, by
 * the shard daemon's own program, which knows the files. */
#include "args.h"
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

enum { SCRUB_SECONDS = 24 * 3600 };
#define EVERY_SHARD UINT64_MAX

static const char *verdict_text(Gyre__V1__ScrubVerdict verdict)
{
    switch (verdict) {
    case GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_WHOLE: return "whole";
    case GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_DAMAGED: return "DAMAGED";
    default: return "not checked";
    }
}

static const char *role_text(const Gyre__V1__ScrubbedMember *member)
{
    return member->primary ? "primary" : member->quantized ? "quantized" : "copy";
}

static void print_table(const Gyre__V1__ScrubCollectionReply *reply)
{
    static const struct column columns[] = {{"SHARD", true}, {"MEMBER", true}, {"NODE", false},   {"ROLE", false},   {"POINTS", true},
                                            {"READ", true},  {"TIME", true},   {"VERDICT", false}, {"", false}};
    struct table table = {columns, sizeof columns / sizeof *columns, NULL, 0};
    for (size_t i = 0; i < reply->n_members; i++) {
        const Gyre__V1__ScrubbedMember *member = reply->members[i];
        char points[NUMBER_TEXT_BYTES], bytes[NUMBER_TEXT_BYTES];
        table_add(&table, "%u", member->shard);
        table_add(&table, "%u", member->member);
        table_add(&table, "%s", member->node);
        table_add(&table, "%s", role_text(member));
        table_add(&table, "%s", number_text(member->points, points));
        table_add(&table, "%s", bytes_text(member->bytes, bytes));
        table_add(&table, "%.1f s", (double)member->took_ms / 1000);
        table_add(&table, "%s", verdict_text(member->verdict));
        table_add(&table, "%s", member->what);
    }
    table_print(&table, stdout);
}

static void print_json(const Gyre__V1__ScrubCollectionReply *reply)
{
    json_t *members = json_array();
    for (size_t i = 0; i < reply->n_members; i++) {
        const Gyre__V1__ScrubbedMember *member = reply->members[i];
        json_array_append_new(
            members, json_pack("{si si ss ss ss sI sI sI sI ss}", "shard", (int)member->shard, "member", (int)member->member, "node",
                               member->node, "role", role_text(member), "verdict", verdict_text(member->verdict), "points",
                               (json_int_t)member->points, "bytes", (json_int_t)member->bytes, "took_ms",
                               (json_int_t)member->took_ms, "findings", (json_int_t)member->findings, "what", member->what));
    }
    json_write(json_pack("{so}", "members", members), stdout);
}

/* What was not checked is not known to be whole: it counts as a failure, too. */
static int judge(const Gyre__V1__ScrubCollectionReply *reply)
{
    size_t damaged = 0, missed = 0;
    for (size_t i = 0; i < reply->n_members; i++) {
        damaged += reply->members[i]->verdict == GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_DAMAGED;
        missed += reply->members[i]->verdict != GYRE__V1__SCRUB_VERDICT__SCRUB_VERDICT_WHOLE;
    }
    missed -= damaged;
    if (damaged)
        fprintf(stderr, "%zu of %zu replicas damaged: each serves no longer and is made anew from another copy, if there is one\n",
                damaged, reply->n_members);
    if (missed)
        fprintf(stderr, "%zu of %zu replicas not checked\n", missed, reply->n_members);
    return damaged || missed ? CLI_FAILED : CLI_DONE;
}

int command_scrub(struct cli *cli, int argc, char **argv)
{
    uint64_t shard = EVERY_SHARD;
    bool json = false;
    const struct arg args[] = {
        {"shard", 0, ARG_COUNT, &shard, 0, 1023, "N", "only this one"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {
        "scrub", "COLLECTION", 1, 1,
        "Has every replica read all it has on disk and check it, in the background, one at a time on a node. Exit code 1 if one is\n"
        "damaged or could not be checked.",
        "  gyre scrub words\n  gyre scrub words --shard 2 --json\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__ScrubCollectionRequest request = GYRE__V1__SCRUB_COLLECTION_REQUEST__INIT;
    Gyre__V1__ScrubCollectionReply *reply = NULL;
    Gyre__V1__Number number = GYRE__V1__NUMBER__INIT;
    request.name = argv[0];
    number.value = (uint32_t)shard;
    request.shard = shard == EVERY_SHARD ? NULL : &number;
    if (cli_call(cli, usage.command, "/gyre.v1.Collections/Scrub", &request.base,
                 &gyre__v1__scrub_collection_reply__descriptor, &reply, SCRUB_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    if (json)
        print_json(reply);
    else
        print_table(reply);
    int code = judge(reply);
    gy_wire_free(reply);
    return code;
}

/* Becomes gyre-shard, which is beside this program. */
int command_fsck(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct arg args[] = {{"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"}};
    const struct usage usage = {
        "fsck", "DIRECTORY", 1, 1,
        "Checks every record of a shard daemon that does not run: its data directory, or that of one replica. Changes nothing. Exit\n"
        "code 0: whole, 1: something is damaged, 2: it could not be checked.",
        "  gyre fsck gyre-local/n2\n  gyre fsck /var/lib/gyre/replicas/1-0 --json\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    char program[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - sizeof "gyre-shard");
    char *name = bytes > 0 ? memrchr(program, '/', (size_t)bytes) : NULL;
    if (!name) {
        fprintf(stderr, "gyre fsck: /proc/self/exe: %s\n", strerror(errno));
        return CLI_MISUSED;
    }
    memcpy(name + 1, "gyre-shard", sizeof "gyre-shard");
    fflush(stdout);
    execl(program, "gyre-shard", "--fsck", argv[0], json ? "--json" : NULL, (char *)NULL);
    fprintf(stderr, "gyre fsck: %s: %s\n", program, strerror(errno));
    return CLI_MISUSED; /* 2: not checked */
}
