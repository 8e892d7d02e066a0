/* The state of a local cluster between two commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "launch.h"
#include "local.h"

#include "gyre/clock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/gyre-local-XXXXXX");
    *state = dir;
    return dir && mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char path[128];
    snprintf(path, sizeof path, "%s/cluster.json", (char *)*state);
    unlink(path);
    int failed = rmdir(*state);
    free(*state);
    return failed;
}

static void write_state(const char *dir, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/cluster.json", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A child that waits to be killed. */
static pid_t start_child(bool stubborn)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (stubborn)
            signal(SIGTERM, SIG_IGN);
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void what_was_written_is_read_back(void **state)
{
    gyre_error err;
    local_cluster *cluster = NULL, *again = NULL;
    assert_int_equal(local_cluster_new(&cluster, *state, 2, 7700, &err), GYRE_OK);
    snprintf(cluster->coordinator.address, LOCAL_ADDRESS_BYTES, "127.0.0.1:7700");
    cluster->nodes[1].pid = 4242;
    snprintf(cluster->nodes[1].process, LOCAL_PROCESS_BYTES, "boot:17");
    json_array_append_new(cluster->shard_args, json_string("--log-level=debug"));
    assert_int_equal(local_cluster_write(cluster, &err), GYRE_OK);
    assert_int_equal(local_cluster_read(&again, *state, &err), GYRE_OK);
    assert_int_equal(again->node_count, 2);
    assert_int_equal(again->port, 7700);
    assert_string_equal(again->coordinator.address, "127.0.0.1:7700");
    assert_string_equal(again->nodes[0].name, "n1");
    assert_int_equal(again->nodes[1].pid, 4242);
    assert_string_equal(again->nodes[1].process, "boot:17");
    assert_int_equal(json_array_size(again->shard_args), 1);
    local_cluster_free(cluster);
    local_cluster_free(again);
}

static void a_directory_without_a_cluster_says_so(void **state)
{
    gyre_error err;
    local_cluster *cluster = NULL;
    assert_int_equal(local_cluster_read(&cluster, *state, &err), GYRE_NOT_FOUND);
    assert_non_null(strstr(err.text, *state));
}

static void a_damaged_state_file_is_refused(void **state)
{
    static const char *const texts[] = {
        "", "{", "[]", "{\"nodes\": []}", "{\"nodes\": [{}], \"coordinator\": {\"name\": \"c\"}}",
        "{\"port\": -1, \"nodes\": [{\"name\": \"n1\"}], \"coordinator\": {\"name\": \"c\"}}",
        "{\"nodes\": [{\"name\": \"a name that is longer than any we gave\"}], \"coordinator\": {\"name\": \"c\"}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gyre_error err;
        local_cluster *cluster = NULL;
        write_state(*state, texts[i]);
        if (local_cluster_read(&cluster, *state, &err) != GYRE_CORRUPT)
            fail_msg("accepted: %s", texts[i]);
    }
}

static void a_process_is_known_until_it_ends(void **state)
{
    (void)state;
    struct local_daemon daemon = {.name = "n1", .pid = start_child(false)};
    assert_true(process_identity(daemon.pid, daemon.process));
    assert_true(local_daemon_runs(&daemon));
    kill(daemon.pid, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)daemon.pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(local_daemon_runs(&daemon)); /* a zombie runs no more */
    waitpid(daemon.pid, NULL, 0);
    assert_false(local_daemon_runs(&daemon));
}

/* Keeps its process after the first thread has ended, until the pipe is closed. */
static void *outlive_the_first(void *pipe_end)
{
    char byte;
    while (read(*(int *)pipe_end, &byte, 1) > 0)
        ;
    _exit(0);
}

static void a_process_whose_first_thread_alone_has_ended_is_ending(void **state)
{
    (void)state;
    int hold[2];
    pthread_t thread;
    assert_int_equal(pipe(hold), 0);
    struct local_daemon daemon = {.name = "n1", .pid = fork()};
    assert_true(daemon.pid >= 0);
    if (daemon.pid == 0) {
        close(hold[1]);
        if (raise(SIGSTOP) != 0 || pthread_create(&thread, NULL, outlive_the_first, &hold[0]) != 0)
            _exit(1);
        pthread_exit(NULL);
    }
    close(hold[0]);
    assert_int_equal(waitpid(daemon.pid, NULL, WUNTRACED), daemon.pid);
    assert_true(process_identity(daemon.pid, daemon.process));
    assert_false(local_daemon_is_ending(&daemon));
    kill(daemon.pid, SIGCONT);
    int64_t until_ns = gy_now_ns() + 60 * GY_SECOND_NS;
    while (!local_daemon_is_ending(&daemon) && gy_now_ns() < until_ns) /* no event tells that only a first thread has ended */
        sched_yield();
    assert_true(local_daemon_is_ending(&daemon));
    assert_false(local_daemon_runs(&daemon));
    assert_int_equal(waitpid(daemon.pid, NULL, WNOHANG), 0); /* not yet */
    close(hold[1]);
    assert_int_equal(waitpid(daemon.pid, NULL, 0), daemon.pid);
    assert_false(local_daemon_is_ending(&daemon));
}

static void another_process_with_the_same_pid_is_left_alone(void **state)
{
    (void)state;
    gyre_error err;
    struct local_daemon daemon = {.name = "n1", .pid = start_child(false)}, *daemons[] = {&daemon};
    pid_t pid = daemon.pid;
    snprintf(daemon.process, sizeof daemon.process, "another-boot:1");
    size_t left = 7;
    assert_int_equal(stop_daemons(daemons, 1, gy_now_ns() + GY_SECOND_NS, true, &left, &err), GYRE_OK);
    assert_int_equal(left, 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it lives */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void a_daemon_that_ignores_the_request_is_named_and_force_ends_it(void **state)
{
    (void)state;
    gyre_error err;
    struct local_daemon daemon = {.name = "n1", .pid = start_child(true)}, *daemons[] = {&daemon};
    pid_t pid = daemon.pid;
    int code;
    size_t left = 0;
    assert_true(process_identity(pid, daemon.process));
    assert_int_equal(stop_daemons(daemons, 1, gy_now_ns() + 50 * GY_MILLISECOND_NS, false, &left, &err), GYRE_OK);
    assert_int_equal(left, 1);
    assert_int_equal(daemon.pid, pid);
    assert_int_equal(stop_daemons(daemons, 1, gy_now_ns() + 50 * GY_MILLISECOND_NS, true, &left, &err), GYRE_OK);
    assert_int_equal(left, 0);
    assert_int_equal(daemon.pid, 0);
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_read_back, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_directory_without_a_cluster_says_so, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_damaged_state_file_is_refused, make_dir, remove_dir),
        cmocka_unit_test(a_process_is_known_until_it_ends),
        cmocka_unit_test(a_process_whose_first_thread_alone_has_ended_is_ending),
        cmocka_unit_test(another_process_with_the_same_pid_is_left_alone),
        cmocka_unit_test(a_daemon_that_ignores_the_request_is_named_and_force_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
