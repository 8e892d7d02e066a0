/* retire: nodes that go, for a while or for good, and shards whose nodes will not come back. The coordinator does the work in the
 * background; --remove waits for it. */
#include "args.h"
#include "output.h"
#include "progress.h"
#include "status.h"

#include <inttypes.h>
#include <time.h>

enum { CALL_SECONDS = 30, NOT_SAID = UINT32_MAX };
#define LOOK_NS 500000000 /* a heartbeat: nodes do not say more often what they hold */

static int remove_node(struct cli *cli, const char *command, char *name)
{
    Gyre__V1__RemoveNodeRequest request = GYRE__V1__REMOVE_NODE_REQUEST__INIT;
    Gyre__V1__RemoveNodeReply *reply = NULL;
    request.node = name;
    if (cli_call(cli, command, "/gyre.v1.Cluster/RemoveNode", &request.base, &gyre__v1__remove_node_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    gy_wire_free(reply);
    printf("%s: removed; its daemon joins as a new node if it is started again\n", name);
    return CLI_DONE;
}

/* How many replicas the node shall have, or, being up, still has. */
static int left(struct cli *cli, const char *command, const char *name, uint64_t *out)
{
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    if (cli_call(cli, command, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    *out = 0;
    for (size_t i = 0; i < reply->n_nodes; i++) {
        const Gyre__V1__NodeInfo *node = reply->nodes[i];
        uint64_t held = node->state == GYRE__V1__NODE_STATE__NODE_STATE_UP ? node->replicas : 0;
        if (strcmp(node->name, name) == 0)
            *out = node->members > held ? node->members : held;
    }
    gy_wire_free(reply);
    return CLI_DONE;
}

static int wait_and_remove(struct cli *cli, const char *command, char *name, uint64_t total)
{
    struct progress progress;
    uint64_t more = 0;
    int code;
    progress_init(&progress, stderr, false, "moved", "replicas", total);
    while ((code = left(cli, command, name, &more)) == CLI_DONE && more > 0) {
        progress_show(&progress, more < total ? total - more : 0);
        struct timespec pause = {0, LOOK_NS};
        nanosleep(&pause, NULL);
    }
    progress_end(&progress);
    return code == CLI_DONE ? remove_node(cli, command, name) : code;
}

/* heir "": none. */
static int drain(struct cli *cli, const char *command, char *name, const char *heir, bool undo, bool for_good)
{
    Gyre__V1__DrainRequest request = GYRE__V1__DRAIN_REQUEST__INIT;
    Gyre__V1__DrainReply *reply = NULL;
    request.node = name, request.undo = undo, request.for_good = for_good;
    request.heir = (char *)(uintptr_t)heir;
    if (cli_call(cli, command, "/gyre.v1.Cluster/Drain", &request.base, &gyre__v1__drain_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    uint32_t members = reply->members;
    gy_wire_free(reply);
    printf("%s: %s, %u replica%s", name, undo ? "no longer draining" : "draining", members, members == 1 ? "" : "s");
    printf(*heir ? ", to %s\n" : "%s\n", heir);
    fflush(stdout);
    return for_good ? wait_and_remove(cli, command, name, members) : CLI_DONE;
}

int command_drain(struct cli *cli, int argc, char **argv)
{
    bool undo = false, for_good = false;
    const struct arg args[] = {
        {"undo", 0, ARG_SWITCH, &undo, 0, 0, NULL, "let it have replicas again"},
        {"remove", 0, ARG_SWITCH, &for_good, 0, 0, NULL, "wait until it has none, then forget the node"},
    };
    const struct usage usage = {
        "drain", "NODE", 1, 1,
        "Moves every replica of a node to others, in the background, and gives it no new one. It may be stopped for good once\n"
        "`gyre status` shows that it has none. Replicas of a node that is down are made anew elsewhere.",
        "  gyre drain n3\n  gyre drain n3 --undo\n  gyre drain n3 --remove\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (undo && for_good)
        return args_misused(&usage, "--undo and --remove exclude each other");
    return drain(cli, usage.command, argv[0], "", undo, for_good);
}

int command_replace(struct cli *cli, int argc, char **argv)
{
    bool for_good = false;
    const char *heir = NULL;
    const struct arg args[] = {
        {"with", 0, ARG_TEXT, &heir, 0, 0, "NODE", "that takes its replicas (needed)"},
        {"remove", 0, ARG_SWITCH, &for_good, 0, 0, NULL, "wait until it has none, then forget the node"},
    };
    const struct usage usage = {
        "replace", "NODE", 1, 1,
        "Moves every replica of a node to another one, in the background; where that has one of the shard already, to the best\n"
        "place. The node may be up or down; it gets no new replica. Undone by `gyre drain NODE --undo`.",
        "  gyre replace n3 --with n7\n  gyre replace n3 --with n7 --remove\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!heir || !*heir)
        return args_misused(&usage, "--with is needed");
    return drain(cli, usage.command, argv[0], heir, false, for_good);
}

int command_recover(struct cli *cli, int argc, char **argv)
{
    uint64_t shard = NOT_SAID, member = 0;
    bool accepted = false;
    const struct arg args[] = {
        {"shard", 0, ARG_COUNT, &shard, 0, 1023, "N", "which one (needed)"},
        {"accept-data-loss", 0, ARG_SWITCH, &accepted, 0, 0, NULL, "do it; without this, only say what would be lost"},
        {"member", 0, ARG_COUNT, &member, 1, NOT_SAID - 1, "ID", "that goes on; default: the reachable one of the longest log"},
    };
    const struct usage usage = {
        "recover", "COLLECTION", 1, 1,
        "The last resort for a shard whose members in sync are all gone for good: goes on with a member that was not in sync.\n"
        "Acknowledged writes that it lacks are lost, and what is left of the others is deleted. First try to bring their nodes back.",
        "  gyre recover words --shard 2                     # says what would be lost\n"
        "  gyre recover words --shard 2 --accept-data-loss\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (shard == NOT_SAID)
        return args_misused(&usage, "--shard is needed");
    Gyre__V1__RecoverRequest request = GYRE__V1__RECOVER_REQUEST__INIT;
    Gyre__V1__RecoverReply *reply = NULL;
    request.collection = argv[0], request.shard = (uint32_t)shard, request.member = (uint32_t)member;
    request.accept_data_loss = accepted;
    if (cli_call(cli, usage.command, "/gyre.v1.Cluster/Recover", &request.base, &gyre__v1__recover_reply__descriptor, &reply,
                 CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    printf("shard %" PRIu64 " of %s: goes on with member %u on %s in epoch %" PRIu64 "; its log ended at %" PRIu64
           ", later writes are lost\n",
           shard, argv[0], reply->member, reply->node, reply->epoch, reply->log_seq);
    gy_wire_free(reply);
    return CLI_DONE;
}
