/* local: the cluster on this machine that `gyre up` made: what is known of it between two commands.
 *
 * DIR/cluster.json      addresses, pids, and the arguments it was started with
 * DIR/cluster.key       what its daemons prove themselves with, mode 0600
 * DIR/coordinator/, DIR/n1/, DIR/n2/ …   data
 * DIR/logs/NAME.log     what a daemon wrote on stderr, appended
 * DIR/lock              held (gy_dir_lock) while a command changes any of it */
#ifndef GY_LOCAL_H
#define GY_LOCAL_H

#include "gyre/base.h"

#include <jansson.h>
#include <sys/types.h>

enum { LOCAL_NODES_MAX = 64, LOCAL_ADDRESS_BYTES = 80, LOCAL_PROCESS_BYTES = 80 };

struct local_daemon {
    char name[16];                      /* "coordinator", "n1" … */
    char address[LOCAL_ADDRESS_BYTES];  /* gRPC; the coordinator's only */
    char bus[LOCAL_ADDRESS_BYTES];
    char http[LOCAL_ADDRESS_BYTES];
    pid_t pid;                          /* 0: stopped by us, or never started */
    char process[LOCAL_PROCESS_BYTES];  /* see process_identity */
};

typedef struct local_cluster {
    char *dir;                   /* absolute */
    uint64_t port;               /* base; 0: any ports */
    struct local_daemon coordinator;
    struct local_daemon nodes[LOCAL_NODES_MAX];
    size_t node_count;
    json_t *coordinator_args;    /* arrays of strings: passed on to the daemons at every start */
    json_t *shard_args;
} local_cluster;

/* Makes the directory (0700) if it is not there. node_count nodes, none started. */
GYRE_CHECKED gyre_status local_cluster_new(local_cluster **out, const char *dir, size_t node_count, uint64_t port, gyre_error *err);
/* GYRE_NOT_FOUND if there is no cluster in dir, GYRE_CORRUPT if its state file is not one. */
GYRE_CHECKED gyre_status local_cluster_read(local_cluster **out, const char *dir, gyre_error *err);
/* Replaces the state file in one step. */
GYRE_CHECKED gyre_status local_cluster_write(const local_cluster *cluster, gyre_error *err);
void local_cluster_free(local_cluster *cluster);
GY_AUTO_DEFINE(local_cluster, local_cluster_free)

/* Adds nodes up to node_count; their names go on where the others end. */
void local_cluster_grow(local_cluster *cluster, size_t node_count);

/* Writes what tells a process from every other that had or will have its pid: the boot and its start time. False when there is no such
 * process, or only its exit status is left. */
bool process_identity(pid_t pid, char out[LOCAL_PROCESS_BYTES]);
/* Whether the process that was started for daemon still runs. */
bool local_daemon_runs(const struct local_daemon *daemon);
/* Whether that process has ended but for its exit status or, killed, for threads that still take its memory apart: until the last of
 * them is done it holds its directory's lock. */
bool local_daemon_is_ending(const struct local_daemon *daemon);

#endif
