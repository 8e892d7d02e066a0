/* lifecycle: signals are read from a signalfd, requests to stop from an eventfd, so one poll waits for both.
 *
 * Once gy_stop_wait has returned, the signals get a handler that ends the process and are unblocked in the waiting thread:
 * whoever presses Ctrl-C during a slow drain is obeyed. Before that no handler runs at all, so no code here needs to be
 * async-signal-safe but that handler. */
#include "gyre/lifecycle.h"

#include "gyre/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int signal_fd = -1, request_fd = -1; /* set once by gy_stop_init, before other threads exist */
static atomic_bool requested;
static atomic_int exit_code;

static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

static void end_at_once(int signal_number)
{
    (void)signal_number;
    static const char line[] = "level=error event=stopped_by_second_signal\n";
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) {
        /* stderr is gone; the exit code still tells */
    }
    _exit(1);
}

gyre_status gy_stop_init(gyre_error *err)
{
    if (signal_fd >= 0)
        return GYRE_OK;
    sigset_t set;
    stop_signals(&set);
    signal(SIGPIPE, SIG_IGN);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error)
        return gyre_fail(err, GYRE_INTERNAL, "blocking signals: %s", strerror(error));
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    int requests = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signals < 0 || requests < 0) {
        error = errno;
        if (signals >= 0)
            close(signals);
        if (requests >= 0)
            close(requests);
        return gyre_fail(err, GYRE_EXHAUSTED, "descriptors to wait for signals: %s", strerror(error));
    }
    signal_fd = signals;
    request_fd = requests;
    return GYRE_OK;
}

int gy_stop_wait(void)
{
    assert(signal_fd >= 0); /* gy_stop_init comes first: nothing else could wake the poll */
    int arrived = 0;
    while (!arrived && !atomic_load(&requested)) {
        struct pollfd fds[] = {{.fd = signal_fd, .events = POLLIN}, {.fd = request_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            continue; /* EINTR: by a debugger or a stop and continue */
        struct signalfd_siginfo info;
        if ((fds[0].revents & POLLIN) && read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
            arrived = (int)info.ssi_signo;
    }
    struct sigaction action = {.sa_handler = end_at_once};
    sigset_t set;
    stop_signals(&set);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return arrived;
}

void gy_stop_request(const char *reason, int code)
{
    /* The first request decides the exit code: what follows is usually its consequence. */
    if (atomic_exchange(&requested, true)) {
        gy_log(GY_LOG_WARN, "stop_requested_again", "reason=%s", reason);
        return;
    }
    atomic_store(&exit_code, code);
    gy_log(code ? GY_LOG_ERROR : GY_LOG_INFO, "stop_requested", "reason=%s exit_code=%d", reason, code);
    if (request_fd >= 0 && eventfd_write(request_fd, 1) < 0)
        gy_log(GY_LOG_WARN, "stop_request_unseen", "error=%s", strerror(errno));
}

int gy_stop_exit_code(void)
{
    return atomic_load(&exit_code);
}

void gy_ready_tell(int fd, const char *line)
{
    if (fd < 0)
        return;
    const char *parts[] = {line, "\n"};
    for (size_t i = 0; i < 2; i++) {
        const char *at = parts[i];
        size_t left = strlen(at);
        while (left > 0) {
            ssize_t written = write(fd, at, left);
            if (written < 0 && errno == EINTR)
                continue;
            if (written <= 0) {
                gy_log(GY_LOG_WARN, "ready_untold", "fd=%d error=%s", fd, strerror(errno));
                close(fd);
                return;
            }
            at += written;
            left -= (size_t)written;
        }
    }
    close(fd);
}

void gy_thread_stand_back(int steps)
{
    /* Linux: of one thread; beyond the last step is the last. To be nicer needs no right, so it cannot fail but for a wrong
     * number. */
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, (id_t)gettid()) + steps) != 0)
        gy_log(GY_LOG_WARN, "not_standing_back", "steps=%d error=%s", steps, strerror(errno));
}

gyre_status gy_disk_free(const char *path, uint64_t *free_bytes, uint64_t *total_bytes, gyre_error *err)
{
    struct statvfs info;
    int result;
    do
        result = statvfs(path, &info);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return gyre_fail(err, errno == ENOENT ? GYRE_NOT_FOUND : GYRE_UNAVAILABLE, "file system of %s: %s", path, strerror(errno));
    *free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    *total_bytes = (uint64_t)info.f_blocks * info.f_frsize;
    return GYRE_OK;
}

const char *gy_version(void)
{
    return GYRE_VERSION;
}
