/* local: see local.h. */
#include "local.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void daemon_named(struct local_daemon *daemon, size_t number)
{
    *daemon = (struct local_daemon){0};
    if (number)
        snprintf(daemon->name, sizeof daemon->name, "n%zu", number);
    else
        snprintf(daemon->name, sizeof daemon->name, "coordinator");
}

void local_cluster_grow(local_cluster *cluster, size_t node_count)
{
    for (; cluster->node_count < node_count && cluster->node_count < LOCAL_NODES_MAX; cluster->node_count++)
        daemon_named(&cluster->nodes[cluster->node_count], cluster->node_count + 1);
}

gyre_status local_cluster_new(local_cluster **out, const char *dir, size_t node_count, uint64_t port, gyre_error *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return gyre_fail(err, GYRE_PRECONDITION, "directory %s cannot be made: %s", dir, strerror(errno));
    char *whole = realpath(dir, NULL);
    if (!whole)
        return gyre_fail(err, GYRE_PRECONDITION, "directory %s: %s", dir, strerror(errno));
    local_cluster *cluster = cli_alloc(1, sizeof *cluster);
    cluster->dir = whole;
    cluster->port = port;
    cluster->coordinator_args = json_array();
    cluster->shard_args = json_array();
    daemon_named(&cluster->coordinator, 0);
    local_cluster_grow(cluster, node_count);
    *out = cluster;
    return GYRE_OK;
}

void local_cluster_free(local_cluster *cluster)
{
    if (!cluster)
        return;
    free(cluster->dir);
    json_decref(cluster->coordinator_args);
    json_decref(cluster->shard_args);
    free(cluster);
}

static bool copy_text(char *out, size_t bytes, const char *text)
{
    int length = snprintf(out, bytes, "%s", text ? text : "");
    return length >= 0 && (size_t)length < bytes;
}

/* Only the name is never empty: a daemon that was not started has no addresses yet. */
static bool read_daemon(const json_t *object, struct local_daemon *out)
{
    *out = (struct local_daemon){0};
    json_int_t pid = json_integer_value(json_object_get(object, "pid"));
    out->pid = pid > 1 && pid <= INT_MAX ? (pid_t)pid : 0;
    return copy_text(out->name, sizeof out->name, json_string_value(json_object_get(object, "name"))) && *out->name &&
           copy_text(out->address, sizeof out->address, json_string_value(json_object_get(object, "address"))) &&
           copy_text(out->bus, sizeof out->bus, json_string_value(json_object_get(object, "bus"))) &&
           copy_text(out->http, sizeof out->http, json_string_value(json_object_get(object, "http"))) &&
           copy_text(out->process, sizeof out->process, json_string_value(json_object_get(object, "process")));
}

static json_t *read_args(const json_t *root, const char *key)
{
    json_t *list = json_array();
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, key), i, item)
        if (json_is_string(item))
            json_array_append(list, item);
    return list;
}

gyre_status local_cluster_read(local_cluster **out, const char *dir, gyre_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/cluster.json", dir);
    if (access(path, F_OK) != 0)
        return gyre_fail(err, GYRE_NOT_FOUND, "there is no local cluster in %s; make one: gyre up", dir);
    json_error_t why;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return gyre_fail(err, GYRE_CORRUPT, "%s: line %d: %s", path, why.line, why.text);
    const json_t *nodes = json_object_get(root, "nodes");
    json_int_t port = json_integer_value(json_object_get(root, "port"));
    size_t count = json_array_size(nodes);
    GY_AUTO(local_cluster) *cluster = NULL;
    gyre_status status = GYRE_OK;
    if (count < 1 || count > LOCAL_NODES_MAX || port < 0 || port > UINT16_MAX)
        status = gyre_fail(err, GYRE_CORRUPT, "%s: 1 to %d nodes and a port up to 65535 are needed", path, LOCAL_NODES_MAX);
    if (status == GYRE_OK)
        status = local_cluster_new(&cluster, dir, count, (uint64_t)port, err);
    if (status == GYRE_OK) {
        json_decref(cluster->coordinator_args);
        json_decref(cluster->shard_args);
        cluster->coordinator_args = read_args(root, "coordinator_args");
        cluster->shard_args = read_args(root, "shard_args");
        bool whole = read_daemon(json_object_get(root, "coordinator"), &cluster->coordinator);
        for (size_t i = 0; i < count; i++)
            whole = whole && read_daemon(json_array_get(nodes, i), &cluster->nodes[i]);
        if (!whole)
            status = gyre_fail(err, GYRE_CORRUPT, "%s: a daemon's name, addresses or process are missing or too long", path);
    }
    json_decref(root);
    GY_TRY(status);
    *out = GY_TAKE(cluster);
    return GYRE_OK;
}

static json_t *daemon_json(const struct local_daemon *daemon)
{
    return json_pack("{ss ss ss ss sI ss}", "name", daemon->name, "address", daemon->address, "bus", daemon->bus, "http", daemon->http,
                     "pid", (json_int_t)daemon->pid, "process", daemon->process);
}

gyre_status local_cluster_write(const local_cluster *cluster, gyre_error *err)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    snprintf(path, sizeof path, "%s/cluster.json", cluster->dir);
    snprintf(fresh, sizeof fresh, "%s/cluster.json.new", cluster->dir);
    json_t *nodes = json_array();
    for (size_t i = 0; i < cluster->node_count; i++)
        json_array_append_new(nodes, daemon_json(&cluster->nodes[i]));
    json_t *root = json_pack("{sI so so sO sO}", "port", (json_int_t)cluster->port, "coordinator", daemon_json(&cluster->coordinator),
                             "nodes", nodes, "coordinator_args", cluster->coordinator_args, "shard_args", cluster->shard_args);
    bool written = root && json_dump_file(root, fresh, JSON_INDENT(2)) == 0 && rename(fresh, path) == 0;
    json_decref(root);
    if (!written)
        return gyre_fail(err, GYRE_PRECONDITION, "%s cannot be written: %s", path, strerror(errno));
    return GYRE_OK;
}

/* Reads a small file of /proc whole; false when it is not there. */
static bool read_proc(const char *path, char *out, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, out, bytes - 1);
    close(fd);
    if (size <= 0)
        return false;
    out[size] = '\0';
    return true;
}

/* *ending: its first thread has ended, whatever others do. */
static bool read_identity(pid_t pid, char out[LOCAL_PROCESS_BYTES], bool *ending)
{
    char path[64], stat[1024], boot[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_proc(path, stat, sizeof stat) || !read_proc("/proc/sys/kernel/random/boot_id", boot, sizeof boot))
        return false;
    /* The name in parentheses may hold anything, also ") Z"; the fields are counted from its last parenthesis. */
    const char *at = strrchr(stat, ')');
    char state;
    unsigned long long start_ticks;
    if (!at || sscanf(at + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &state, &start_ticks) != 2)
        return false;
    *ending = state == 'Z' || state == 'X';
    boot[strcspn(boot, "\n")] = '\0';
    snprintf(out, LOCAL_PROCESS_BYTES, "%.40s:%llu", boot, start_ticks);
    return true;
}

bool process_identity(pid_t pid, char out[LOCAL_PROCESS_BYTES])
{
    bool ending;
    return read_identity(pid, out, &ending) && !ending;
}

static bool is_there(const struct local_daemon *daemon, bool *ending)
{
    char now[LOCAL_PROCESS_BYTES];
    return daemon->pid > 0 && read_identity(daemon->pid, now, ending) && strcmp(now, daemon->process) == 0;
}

bool local_daemon_runs(const struct local_daemon *daemon)
{
    bool ending;
    return is_there(daemon, &ending) && !ending;
}

bool local_daemon_is_ending(const struct local_daemon *daemon)
{
    bool ending;
    return is_there(daemon, &ending) && ending;
}
