/* launch: see launch.h. */
#include "launch.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_BYTES = 1024, TAIL_BYTES = 4096, TAIL_LINES = 12, WORDS_MAX = 128, PORTS_PER_NODE = 10 };

struct launch {
    struct local_daemon *daemon;
    int ready_fd;
    char line[READY_BYTES];
    size_t line_bytes;
    char log_path[PATH_MAX];
    off_t log_start; /* where this run's log begins */
    bool serves;
};

static bool is_coordinator(const local_cluster *cluster, const struct local_daemon *daemon)
{
    return daemon == &cluster->coordinator;
}

/* "--name=127.0.0.1:port"; a daemon of a cluster on any ports that must come back where its peers know it keeps its address. */
static char *listen_word(const char *option, const char *kept, uint64_t port)
{
    char *word;
    int length = *kept ? asprintf(&word, "--%s=%s", option, kept) : asprintf(&word, "--%s=127.0.0.1:%llu", option, (unsigned long long)port);
    return length < 0 ? NULL : word;
}

static char *word_of(const char *option, const char *value)
{
    char *word;
    return asprintf(&word, "--%s=%s", option, value) < 0 ? NULL : word;
}

static void free_words(char **words)
{
    for (size_t i = 0; words[i]; i++)
        free(words[i]);
}

/* The daemon's argv, allocated; words has WORDS_MAX places. */
static gyre_status build_words(const local_cluster *cluster, const struct local_daemon *daemon, int ready_fd, char **words, gyre_error *err)
{
    bool coordinator = is_coordinator(cluster, daemon);
    const json_t *extra = coordinator ? cluster->coordinator_args : cluster->shard_args;
    char self[PATH_MAX], text[PATH_MAX + 32];
    ssize_t self_bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    if (self_bytes <= 0)
        return gyre_fail(err, GYRE_INTERNAL, "/proc/self/exe: %s", strerror(errno));
    self[self_bytes] = '\0';
    *strrchr(self, '/') = '\0';
    if (json_array_size(extra) > WORDS_MAX - 16)
        return gyre_fail(err, GYRE_INVALID, "%zu arguments for a daemon; at most %d are taken", json_array_size(extra), WORDS_MAX - 16);

    uint64_t number = coordinator ? 0 : (uint64_t)(daemon - cluster->nodes) + 1;
    uint64_t base = cluster->port ? cluster->port + number * PORTS_PER_NODE : 0;
    size_t n = 0;
    snprintf(text, sizeof text, "%s/%s", self, coordinator ? "gyre-coordinator" : "gyre-shard");
    words[n++] = strdup(text);
    snprintf(text, sizeof text, "%s/%s", cluster->dir, daemon->name);
    words[n++] = word_of("data-dir", text);
    snprintf(text, sizeof text, "%s/cluster.key", cluster->dir);
    words[n++] = word_of("cluster-key-file", text);
    if (coordinator) {
        words[n++] = listen_word("listen", daemon->address, base);
        words[n++] = listen_word("bus-listen", daemon->bus, base ? base + 1 : 0);
        words[n++] = listen_word("http-listen", daemon->http, base ? base + 2 : 0);
    } else {
        words[n++] = word_of("node", daemon->name);
        words[n++] = word_of("coordinators", cluster->coordinator.bus);
        words[n++] = listen_word("listen", "", base);
        words[n++] = listen_word("http-listen", "", base ? base + 1 : 0);
    }
    snprintf(text, sizeof text, "%d", ready_fd);
    words[n++] = word_of("ready-fd", text);
    for (size_t i = 0; i < json_array_size(extra); i++)
        words[n++] = strdup(json_string_value(json_array_get(extra, i)));
    words[n] = NULL;
    return GYRE_OK;
}

/* In the child: only what is safe between fork and exec. */
static _Noreturn void become(char **words, int log_fd, int ready_fd)
{
    static const char sentence[] = "the program could not be started\n";
    setpgid(0, 0);
    int null_fd = open("/dev/null", O_RDWR);
    if (null_fd >= 0)
        dup2(null_fd, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    fcntl(ready_fd, F_SETFD, 0);
    signal(SIGPIPE, SIG_DFL);
    execv(words[0], words);
    GY_IGNORE(write(STDERR_FILENO, words[0], strlen(words[0])) < 0 ? GYRE_UNKNOWN : GYRE_OK); /* nobody is left to tell */
    GY_IGNORE(write(STDERR_FILENO, ": ", 2) < 0 ? GYRE_UNKNOWN : GYRE_OK);
    GY_IGNORE(write(STDERR_FILENO, sentence, sizeof sentence - 1) < 0 ? GYRE_UNKNOWN : GYRE_OK);
    _exit(127);
}

static gyre_status spawn(local_cluster *cluster, struct launch *launch, gyre_error *err)
{
    struct local_daemon *daemon = launch->daemon;
    int ends[2];
    snprintf(launch->log_path, sizeof launch->log_path, "%s/logs/%s.log", cluster->dir, daemon->name);
    int log_fd = open(launch->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        return gyre_fail(err, GYRE_PRECONDITION, "%s: %s", launch->log_path, strerror(errno));
    struct stat facts;
    launch->log_start = fstat(log_fd, &facts) == 0 ? facts.st_size : 0;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        close(log_fd);
        return gyre_fail(err, GYRE_EXHAUSTED, "%s: pipe: %s", daemon->name, strerror(errno));
    }
    char *words[WORDS_MAX] = {0};
    gyre_status status = build_words(cluster, daemon, ends[1], words, err);
    pid_t pid = -1;
    if (status == GYRE_OK) {
        pid = fork();
        if (pid == 0)
            become(words, log_fd, ends[1]);
        if (pid < 0)
            status = gyre_fail(err, GYRE_EXHAUSTED, "%s: fork: %s", daemon->name, strerror(errno));
    }
    free_words(words);
    close(log_fd);
    close(ends[1]);
    if (status != GYRE_OK) {
        close(ends[0]);
        return status;
    }
    launch->ready_fd = ends[0];
    daemon->pid = pid;
    if (!process_identity(pid, daemon->process))
        daemon->process[0] = '\0'; /* it has ended already; its pipe says so */
    return GYRE_OK;
}

/* Prints the last lines this run wrote. */
static void print_tail(const struct launch *launch)
{
    FILE *log = fopen(launch->log_path, "re");
    if (!log)
        return;
    char tail[TAIL_BYTES + 1];
    off_t from = launch->log_start;
    struct stat facts;
    if (fstat(fileno(log), &facts) == 0 && facts.st_size - from > TAIL_BYTES)
        from = facts.st_size - TAIL_BYTES;
    size_t bytes = fseeko(log, from, SEEK_SET) == 0 ? fread(tail, 1, TAIL_BYTES, log) : 0;
    fclose(log);
    tail[bytes] = '\0';
    const char *start = tail + bytes;
    for (int lines = 0; start > tail; start--)
        if (start[-1] == '\n' && start < tail + bytes && ++lines == TAIL_LINES)
            break;
    fprintf(stderr, "--- the end of %s:\n%s", launch->log_path, start);
    if (bytes && tail[bytes - 1] != '\n')
        fputc('\n', stderr);
    fprintf(stderr, "---\n");
}

static void copy_address(const json_t *object, const char *key, char out[LOCAL_ADDRESS_BYTES])
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, LOCAL_ADDRESS_BYTES, "%s", text ? text : "");
}

static gyre_status read_ready_line(struct launch *launch, bool coordinator, gyre_error *err)
{
    json_t *object = json_loadb(launch->line, launch->line_bytes, 0, NULL);
    struct local_daemon *daemon = launch->daemon;
    if (coordinator)
        copy_address(object, "grpc", daemon->address);
    copy_address(object, "bus", daemon->bus);
    copy_address(object, "http", daemon->http);
    json_decref(object);
    if ((coordinator && !*daemon->address) || !*daemon->bus)
        return gyre_fail(err, GYRE_INTERNAL, "%s said it is ready without its addresses: %.*s", daemon->name,
                         (int)launch->line_bytes, launch->line);
    launch->serves = true;
    return GYRE_OK;
}

/* The pipe can be read: a line, a part of one, or its end. */
static gyre_status hear(struct launch *launch, bool coordinator, gyre_error *err)
{
    struct local_daemon *daemon = launch->daemon;
    ssize_t bytes = read(launch->ready_fd, launch->line + launch->line_bytes, READY_BYTES - launch->line_bytes);
    if (bytes < 0 && errno == EINTR)
        return GYRE_OK;
    if (bytes > 0) {
        launch->line_bytes += (size_t)bytes;
        if (memchr(launch->line, '\n', launch->line_bytes))
            return read_ready_line(launch, coordinator, err);
        if (launch->line_bytes < READY_BYTES)
            return GYRE_OK;
        return gyre_fail(err, GYRE_INTERNAL, "%s: its ready line is longer than %d bytes", daemon->name, READY_BYTES);
    }
    int code = 0;
    /* It closed the pipe; a daemon that did so without a line and goes on would be a fault of ours: end it rather than wait. */
    kill(daemon->pid, SIGKILL);
    waitpid(daemon->pid, &code, 0);
    daemon->pid = 0;
    print_tail(launch);
    if (WIFEXITED(code))
        return gyre_fail(err, GYRE_UNAVAILABLE, "%s ended at once with exit code %d", daemon->name, WEXITSTATUS(code));
    return gyre_fail(err, GYRE_UNAVAILABLE, "%s ended at once by signal %d", daemon->name, WTERMSIG(code));
}

static gyre_status await(local_cluster *cluster, struct launch *launches, size_t count, int64_t deadline_ns, gyre_error *err)
{
    struct pollfd fds[LOCAL_NODES_MAX + 1];
    for (;;) {
        const struct launch *waiting = NULL;
        for (size_t i = 0; i < count; i++) {
            fds[i] = (struct pollfd){.fd = launches[i].serves ? -1 : launches[i].ready_fd, .events = POLLIN};
            if (!launches[i].serves)
                waiting = &launches[i];
        }
        if (!waiting)
            return GYRE_OK;
        int64_t left_ms = (deadline_ns - gy_now_ns()) / GY_MILLISECOND_NS;
        if (left_ms <= 0) {
            print_tail(waiting);
            kill(waiting->daemon->pid, SIGKILL);
            waitpid(waiting->daemon->pid, NULL, 0);
            waiting->daemon->pid = 0;
            return gyre_fail(err, GYRE_DEADLINE, "%s did not say it is ready in time", waiting->daemon->name);
        }
        if (poll(fds, (nfds_t)count, left_ms > INT_MAX ? INT_MAX : (int)left_ms) < 0 && errno != EINTR)
            return gyre_fail(err, GYRE_INTERNAL, "poll: %s", strerror(errno));
        for (size_t i = 0; i < count; i++)
            if (fds[i].fd >= 0 && fds[i].revents)
                GY_TRY(hear(&launches[i], is_coordinator(cluster, launches[i].daemon), err));
    }
}

/* Waits for the end of every process; closes and forgets those that ended. Returns how many are left. */
static size_t await_ends(struct pollfd *fds, size_t count, int64_t deadline_ns)
{
    for (;;) {
        size_t left = 0;
        for (size_t i = 0; i < count; i++)
            left += fds[i].fd >= 0;
        int64_t left_ms = (deadline_ns - gy_now_ns()) / GY_MILLISECOND_NS;
        if (!left || left_ms <= 0)
            return left;
        if (poll(fds, (nfds_t)count, left_ms > INT_MAX ? INT_MAX : (int)left_ms) < 0 && errno != EINTR)
            return left;
        for (size_t i = 0; i < count; i++)
            if (fds[i].fd >= 0 && fds[i].revents) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
    }
}

/* What was killed a moment ago lets go of its directory only when its last thread has ended. */
static gyre_status await_ending(struct local_daemon *const *daemons, size_t count, int64_t deadline_ns, gyre_error *err)
{
    struct pollfd fds[LOCAL_NODES_MAX + 1];
    for (size_t i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = local_daemon_is_ending(daemons[i]) ? pidfd_open(daemons[i]->pid, 0) : -1, .events = POLLIN};
    gyre_status status = GYRE_OK;
    if (await_ends(fds, count, deadline_ns))
        for (size_t i = 0; i < count; i++)
            if (fds[i].fd >= 0) {
                close(fds[i].fd);
                status = gyre_fail(err, GYRE_DEADLINE, "%s (pid %d) was killed and has not ended yet", daemons[i]->name,
                                   (int)daemons[i]->pid);
            }
    return status;
}

gyre_status launch_daemons(local_cluster *cluster, struct local_daemon *const *daemons, size_t count, int64_t deadline_ns, gyre_error *err)
{
    char logs[PATH_MAX];
    snprintf(logs, sizeof logs, "%s/logs", cluster->dir);
    if (mkdir(logs, 0700) != 0 && errno != EEXIST)
        return gyre_fail(err, GYRE_PRECONDITION, "%s: %s", logs, strerror(errno));
    GY_TRY(await_ending(daemons, count, deadline_ns, err));
    struct launch *launches = cli_alloc(count, sizeof *launches);
    size_t started = 0;
    gyre_status status = GYRE_OK;
    for (; started < count && status == GYRE_OK; started++) {
        launches[started].daemon = daemons[started];
        launches[started].ready_fd = -1;
        status = spawn(cluster, &launches[started], err);
    }
    /* The pids are on disk before anything can take long, so that `gyre down` finds them also when this command is killed. */
    if (status == GYRE_OK)
        status = local_cluster_write(cluster, err);
    if (status == GYRE_OK)
        status = await(cluster, launches, count, deadline_ns, err);
    for (size_t i = 0; i < started; i++)
        if (launches[i].ready_fd >= 0)
            close(launches[i].ready_fd);
    free(launches);
    gyre_error ignored;
    gyre_status saved = local_cluster_write(cluster, status == GYRE_OK ? err : &ignored);
    return status == GYRE_OK ? saved : status;
}

/* A descriptor of the daemon's process, or -1 if it does not run. The descriptor is taken first and the process looked at second,
 * so the signal cannot reach one that took over the pid in between. */
static int open_process(const struct local_daemon *daemon)
{
    if (daemon->pid <= 0)
        return -1;
    int fd = pidfd_open(daemon->pid, 0);
    if (fd >= 0 && !local_daemon_runs(daemon)) {
        close(fd);
        return -1;
    }
    return fd;
}

static gyre_status signal_all(struct local_daemon *const *daemons, const struct pollfd *fds, size_t count, int number, gyre_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i].fd >= 0 && pidfd_send_signal(fds[i].fd, number, NULL, 0) != 0 && errno != ESRCH)
            return gyre_fail(err, GYRE_DENIED, "%s (pid %d) cannot be stopped: %s", daemons[i]->name, (int)daemons[i]->pid, strerror(errno));
    return GYRE_OK;
}

gyre_status stop_daemons(struct local_daemon *const *daemons, size_t count, int64_t deadline_ns, bool force, size_t *left, gyre_error *err)
{
    enum { KILL_SECONDS = 10 };
    struct pollfd *fds = cli_alloc(count, sizeof *fds);
    for (size_t i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = open_process(daemons[i]), .events = POLLIN};
    gyre_status status = signal_all(daemons, fds, count, SIGTERM, err);
    *left = 0;
    if (status == GYRE_OK)
        *left = await_ends(fds, count, deadline_ns);
    if (status == GYRE_OK && *left && force) {
        status = signal_all(daemons, fds, count, SIGKILL, err);
        *left = await_ends(fds, count, gy_now_ns() + KILL_SECONDS * GY_SECOND_NS);
    }
    for (size_t i = 0; i < count; i++) {
        if (fds[i].fd >= 0) {
            fprintf(stderr, "%s (pid %d) still runs\n", daemons[i]->name, (int)daemons[i]->pid);
            close(fds[i].fd);
        } else {
            daemons[i]->pid = 0;
        }
    }
    free(fds);
    return status;
}
