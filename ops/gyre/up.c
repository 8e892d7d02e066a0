/* up and down: the cluster on this machine. */
#include "args.h"
#include "launch.h"
#include "status.h"

#include "gyre/lifecycle.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UP_SECONDS = 60, DOWN_SECONDS = 30, PORT_DEFAULT = 7700, NODES_DEFAULT = 3, POLL_MS = 20, STATUS_SECONDS = 5,
       DAEMONS_MAX = LOCAL_NODES_MAX + 1 };

struct up {
    uint64_t nodes; /* 0: as it was, or NODES_DEFAULT */
    uint64_t port;  /* UINT64_MAX: as it was, or PORT_DEFAULT */
    struct arg_list shard_args, coordinator_args;
};

static void replace_args(json_t *to, const struct arg_list *from)
{
    if (!from->count)
        return;
    json_array_clear(to);
    for (size_t i = 0; i < from->count; i++)
        if (*from->items[i]) /* an empty one takes back what was passed on before */
            json_array_append_new(to, json_string(from->items[i]));
}

/* The cluster as it was left, or a new one, with what was asked for now. */
static gyre_status prepare(const struct up *up, const char *dir, local_cluster **out, gyre_error *err)
{
    GY_AUTO(local_cluster) *cluster = NULL;
    gyre_status status = local_cluster_read(&cluster, dir, err);
    if (status == GYRE_NOT_FOUND)
        status = local_cluster_new(&cluster, dir, up->nodes ? up->nodes : NODES_DEFAULT, up->port == UINT64_MAX ? PORT_DEFAULT : up->port, err);
    GY_TRY(status);
    if (up->nodes && up->nodes < cluster->node_count)
        return gyre_fail(err, GYRE_PRECONDITION,
                         "--nodes %" PRIu64 ": the cluster in %s has %zu nodes, and taking one away would lose what only it holds", up->nodes,
                         dir, cluster->node_count);
    local_cluster_grow(cluster, up->nodes);
    if (up->port != UINT64_MAX)
        cluster->port = up->port;
    if (cluster->port && cluster->port + (cluster->node_count + 1) * 10 > UINT16_MAX)
        return gyre_fail(err, GYRE_INVALID, "--port %" PRIu64 ": %zu nodes need the ports up to %zu above it", cluster->port,
                         cluster->node_count, (cluster->node_count + 1) * 10);
    replace_args(cluster->shard_args, &up->shard_args);
    replace_args(cluster->coordinator_args, &up->coordinator_args);
    *out = GY_TAKE(cluster);
    return GYRE_OK;
}

static gyre_status make_key(const local_cluster *cluster, gyre_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/cluster.key", cluster->dir);
    gyre_status status = gy_key_file_create(path, err);
    return status == GYRE_EXISTS ? GYRE_OK : status;
}

/* Starts what does not run. started[0…*started_count-1]: the daemons that were begun, also on failure. */
static gyre_status start_missing(local_cluster *cluster, int64_t deadline_ns, struct local_daemon *started[DAEMONS_MAX], size_t *started_count,
                                 gyre_error *err)
{
    struct local_daemon *missing[LOCAL_NODES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < cluster->node_count; i++)
        if (!local_daemon_runs(&cluster->nodes[i]))
            missing[count++] = &cluster->nodes[i];
    if (!local_daemon_runs(&cluster->coordinator)) {
        /* Nodes that run know the coordinator by its address; without any, it may be wherever there is room. */
        if (count == cluster->node_count)
            cluster->coordinator.address[0] = cluster->coordinator.bus[0] = cluster->coordinator.http[0] = '\0';
        started[*started_count] = &cluster->coordinator;
        GY_TRY(launch_daemons(cluster, &started[(*started_count)++], 1, deadline_ns, err));
    }
    if (!count)
        return GYRE_OK;
    memcpy(started + *started_count, missing, count * sizeof *missing);
    *started_count += count;
    return launch_daemons(cluster, missing, count, deadline_ns, err);
}

static size_t nodes_up(const Gyre__V1__ClusterStatusReply *reply)
{
    size_t up = 0;
    for (size_t i = 0; i < reply->n_nodes; i++)
        up += reply->nodes[i]->state == GYRE__V1__NODE_STATE__NODE_STATE_UP;
    return up;
}

/* Waits until the coordinator counts every node as up. It has no call that waits for that, so it is asked again and again. */
static gyre_status await_nodes(const local_cluster *cluster, int64_t deadline_ns, Gyre__V1__ClusterStatusReply **out, gyre_error *err)
{
    GY_AUTO(gyre_client) *client = NULL;
    GY_TRY(gyre_client_open(&client, cluster->coordinator.address, err));
    for (;;) {
        Gyre__V1__ClusterStatusReply *reply = NULL;
        int64_t call_deadline_ns = gy_now_ns() + STATUS_SECONDS * GY_SECOND_NS;
        gyre_status status = cluster_status(client, call_deadline_ns, &reply, err);
        if (status == GYRE_OK && nodes_up(reply) >= cluster->node_count) {
            *out = reply;
            return GYRE_OK;
        }
        size_t up = status == GYRE_OK ? nodes_up(reply) : 0;
        gy_wire_free(reply);
        if (gy_now_ns() >= deadline_ns)
            return status != GYRE_OK
                       ? status
                       : gyre_fail(err, GYRE_DEADLINE, "%zu of %zu nodes have joined the coordinator in time; see %s/logs", up,
                                   cluster->node_count, cluster->dir);
        poll(NULL, 0, POLL_MS);
    }
}

/* A failed `up` leaves nothing running that did not run before. */
static void stop_started(local_cluster *cluster, struct local_daemon *const *started, size_t count)
{
    gyre_error err = {0};
    size_t left;
    gyre_status status = stop_daemons(started, count, gy_now_ns() + DOWN_SECONDS * GY_SECOND_NS, true, &left, &err);
    if (status == GYRE_OK)
        status = local_cluster_write(cluster, &err);
    if (status != GYRE_OK)
        fprintf(stderr, "gyre up: what was started could not be stopped again: %s\n", err.text);
}

static gyre_status run_up(const struct cli *cli, const struct up *up, gyre_error *err)
{
    const char *dir = cli_dir(cli);
    int lock_fd;
    GY_TRY(gy_dir_lock(dir, &lock_fd, err));
    GY_AUTO(local_cluster) *cluster = NULL;
    struct local_daemon *started[DAEMONS_MAX];
    size_t started_count = 0;
    int64_t deadline_ns = cli_deadline_ns(cli, UP_SECONDS);
    gyre_status status = prepare(up, dir, &cluster, err);
    if (status == GYRE_OK)
        status = make_key(cluster, err);
    if (status == GYRE_OK)
        status = start_missing(cluster, deadline_ns, started, &started_count, err);
    Gyre__V1__ClusterStatusReply *reply = NULL;
    if (status == GYRE_OK)
        status = await_nodes(cluster, deadline_ns, &reply, err);
    if (status != GYRE_OK && started_count)
        stop_started(cluster, started, started_count);
    close(lock_fd);
    GY_TRY(status);
    if (started_count)
        printf("%zu of %zu daemons started; data and logs in %s\n", started_count, cluster->node_count + 1, cluster->dir);
    else
        printf("already running: %zu nodes; data and logs in %s\n", cluster->node_count, cluster->dir);
    cluster_print(reply, stdout);
    gy_wire_free(reply);
    return GYRE_OK;
}

static int exit_code_of(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return CLI_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_FAILED;
}

/* Runs in a child that leads a new session: no terminal ends what it starts. All daemons of a cluster are in one session, as the
 * kernel may share processors out between sessions first (autogroups): what stands back in one daemon would not behind the
 * searches of another. */
static int run_up_in_session(const struct cli *cli, struct up *up, const char *command)
{
    gyre_error err;
    pid_t parent = getpid();
    fflush(NULL);
    pid_t child = fork();
    if (child > 0)
        return exit_code_of(child);
    if (child < 0) {
        GY_IGNORE(gyre_fail(&err, GYRE_EXHAUSTED, "fork: %s", strerror(errno)));
        return cli_fail(command, &err);
    }
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* who interrupts the command means all of it */
    if (getppid() != parent)
        _exit(CLI_FAILED);
    return run_up(cli, up, &err) == GYRE_OK ? CLI_DONE : cli_fail(command, &err);
}

int command_up(struct cli *cli, int argc, char **argv)
{
    struct up up = {.port = UINT64_MAX};
    const struct arg args[] = {
        {"nodes", 'n', ARG_COUNT, &up.nodes, 1, LOCAL_NODES_MAX, "N", "shard daemons (3, or as many as there were)"},
        {"port", 'p', ARG_COUNT, &up.port, 0, UINT16_MAX, "N", "first of the ports used (7700); 0: any that are free"},
        {"shard-arg", 0, ARG_LIST, &up.shard_args, 0, 0, "ARG", "passed on to gyre-shard, also later; '' for none again"},
        {"coordinator-arg", 0, ARG_LIST, &up.coordinator_args, 0, 0, "ARG", "passed on to gyre-coordinator"},
    };
    const struct usage usage = {
        "up", "", 0, 0,
        "Starts a cluster on this machine: one coordinator and some shard daemons, on loopback. What runs already is left as it is;\n"
        "a daemon that died is started again with its data.",
        "  gyre up --nodes 3\n"
        "  gyre up --dir /tmp/try --port 0\n"
        "  gyre up --nodes 5 --shard-arg=--log-level=debug\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop == ARGS_READ)
        stop = run_up_in_session(cli, &up, usage.command);
    free(up.shard_args.items);
    free(up.coordinator_args.items);
    return stop;
}

static gyre_status run_down(const struct cli *cli, bool force, size_t *left, gyre_error *err)
{
    const char *dir = cli_dir(cli);
    GY_AUTO(local_cluster) *cluster = NULL;
    GY_TRY(local_cluster_read(&cluster, dir, err));
    int lock_fd;
    GY_TRY(gy_dir_lock(dir, &lock_fd, err));
    local_cluster_free(cluster);
    cluster = NULL;
    gyre_status status = local_cluster_read(&cluster, dir, err); /* again: it may have changed before the lock was held */
    size_t running = 0, coordinators_left = 0, nodes_left = 0;
    if (status == GYRE_OK) {
        struct local_daemon *nodes[LOCAL_NODES_MAX];
        struct local_daemon *coordinator = &cluster->coordinator;
        running += local_daemon_runs(coordinator);
        for (size_t i = 0; i < cluster->node_count; i++) {
            nodes[i] = &cluster->nodes[i];
            running += local_daemon_runs(nodes[i]);
        }
        /* The coordinator first: its running requests need the nodes. */
        int64_t deadline_ns = cli_deadline_ns(cli, DOWN_SECONDS);
        status = stop_daemons(&coordinator, 1, deadline_ns, force, &coordinators_left, err);
        if (status == GYRE_OK)
            status = stop_daemons(nodes, cluster->node_count, cli_deadline_ns(cli, DOWN_SECONDS), force, &nodes_left, err);
        if (status == GYRE_OK)
            status = local_cluster_write(cluster, err);
    }
    close(lock_fd);
    GY_TRY(status);
    *left = coordinators_left + nodes_left;
    if (!running)
        printf("nothing was running in %s\n", cluster->dir);
    else
        printf("%zu of %zu daemons stopped; the data stays in %s\n", running - *left, running, cluster->dir);
    return GYRE_OK;
}

int command_down(struct cli *cli, int argc, char **argv)
{
    bool force = false;
    const struct arg args[] = {{"force", 0, ARG_SWITCH, &force, 0, 0, NULL, "kill what has not stopped after --timeout (30) seconds"}};
    const struct usage usage = {"down", "", 0, 0, "Stops the cluster on this machine. Its data stays: `gyre up` brings it back.",
                                "  gyre down\n  gyre down --dir /tmp/try --timeout 5 --force\n"};
    int stop = args_read(&usage, args, 1, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    size_t left = 0;
    if (run_down(cli, force, &left, &err) != GYRE_OK)
        return cli_fail(usage.command, &err);
    if (left)
        fprintf(stderr, "gyre down: %zu daemons did not stop in time; --force kills them\n", left);
    return left ? CLI_FAILED : CLI_DONE;
}
