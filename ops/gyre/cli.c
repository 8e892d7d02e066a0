/* cli: where the cluster is, and how a command ends. */
#include "cli.h"

#include "local.h"

#include <stdio.h>
#include <stdlib.h>

enum { REACH_SECONDS = 2 }; /* for one of several coordinators */

const char *cli_dir(const struct cli *cli)
{
    if (cli->dir)
        return cli->dir;
    const char *dir = getenv("GYRE_DIR");
    return dir && *dir ? dir : "gyre-local";
}

/* Of several coordinators, the first that can be reached; if none can, the last: its call says why. */
static gyre_status connect_any(const char *addresses, gyre_client **out, gyre_error *err)
{
    if (!strchr(addresses, ','))
        return gyre_client_open(out, addresses, err);
    char *list = strdup(addresses), *rest = NULL;
    gyre_client *client = NULL;
    gyre_status status = list ? gyre_fail(err, GYRE_INVALID, "address '%s' names nobody", addresses)
                              : gyre_fail(err, GYRE_NO_MEMORY, "no memory for the addresses");
    for (char *address = list ? strtok_r(list, ", ", &rest) : NULL; address; address = strtok_r(NULL, ", ", &rest)) {
        gyre_client_close(client);
        client = NULL;
        status = gyre_client_open(&client, address, err);
        if (status != GYRE_OK || gyre_client_await_ready(client, gy_now_ns() + REACH_SECONDS * GY_SECOND_NS))
            break;
    }
    free(list);
    GY_TRY(status);
    *out = client;
    return GYRE_OK;
}

gyre_status cli_connect(const struct cli *cli, gyre_client **out, gyre_error *err)
{
    const char *address = cli->address;
    if (!address && !cli->dir)
        address = getenv("GYRE_ADDRESS");
    if (address && *address)
        return connect_any(address, out, err);
    GY_AUTO(local_cluster) *local = NULL;
    gyre_status status = local_cluster_read(&local, cli_dir(cli), err);
    if (status == GYRE_OK && !local_daemon_runs(&local->coordinator))
        return gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator of the local cluster in %s does not run; start it: gyre up", local->dir);
    if (status == GYRE_OK)
        return gyre_client_open(out, local->coordinator.address, err);
    /* A --dir that was asked for and a state file that cannot be read are mistakes to report; a missing one is not. */
    if (status != GYRE_NOT_FOUND || cli->dir)
        return status;
    return gyre_client_open(out, CLI_ADDRESS_DEFAULT, err);
}

int64_t cli_deadline_ns(const struct cli *cli, double fallback_s)
{
    double seconds = cli->timeout_s > 0 ? cli->timeout_s : fallback_s;
    return gy_now_ns() + (int64_t)(seconds * (double)GY_SECOND_NS);
}

int cli_fail(const char *command, const gyre_error *err)
{
    fprintf(stderr, "gyre %s: %s (%s)\n", command, err->text, gyre_status_name(err->status));
    if (err->status == GYRE_UNAVAILABLE && strstr(err->text, CLI_ADDRESS_DEFAULT ": "))
        fprintf(stderr, "Is a cluster running? `gyre up` starts one on this machine; --address names another.\n");
    return CLI_FAILED;
}

int cli_call(const struct cli *cli, const char *command, const char *path, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *reply_type, void *reply, double seconds)
{
    GY_AUTO(gyre_client) *client = NULL;
    gyre_error err;
    gyre_status status = cli_connect(cli, &client, &err);
    if (status == GYRE_OK)
        status = gyre_client_call(client, path, request, reply_type, reply, cli_deadline_ns(cli, seconds), &err);
    return status == GYRE_OK ? CLI_DONE : cli_fail(command, &err);
}

void cli_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void *cli_alloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "gyre: no memory for %zu things of %zu bytes\n", count, size);
        exit(CLI_FAILED);
    }
    return memory;
}

void *cli_resize(void *old, size_t count, size_t size)
{
    void *memory = reallocarray(old, count ? count : 1, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "gyre: no memory for %zu things of %zu bytes\n", count, size);
        exit(CLI_FAILED);
    }
    return memory;
}
