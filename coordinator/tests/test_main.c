/* The program itself: what it refuses to start with, and that it starts, tells its addresses and stops. */
#include "gyre/lifecycle.h"

#include <jansson.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { TEXT_BYTES = 16384, READY_FD = 9 };

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/gyre-coordinator-XXXXXX"), path[TEXT_BYTES];
    gyre_error err;
    if (!dir || !mkdtemp(dir))
        return -1;
    *state = dir;
    snprintf(path, sizeof path, "%s/key", dir);
    return gy_key_file_create(path, &err) == GYRE_OK ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[TEXT_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    free(*state);
    return system(command);
}

/* Runs it with options (@ in them is the directory) to its end; its exit code, and what it wrote in text. */
static int run(void **state, const char *options, char text[TEXT_BYTES])
{
    char filled[TEXT_BYTES / 2], command[TEXT_BYTES];
    size_t n = 0;
    for (const char *at = options; *at; at++) {
        const char one[] = {*at, 0};
        n += (size_t)snprintf(filled + n, sizeof filled - n, "%s", *at == '@' ? (const char *)*state : one);
        assert_true(n < sizeof filled);
    }
    filled[n] = 0;
    snprintf(command, sizeof command, "timeout 20 " COORDINATOR " %s 2>&1", filled);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, TEXT_BYTES - 1, pipe)] = 0;
    return WEXITSTATUS(pclose(pipe));
}

static void assert_refused(void **state, const char *options, int code, const char *says)
{
    char text[TEXT_BYTES];
    int got = run(state, options, text);
    if (got != code || !strstr(text, says))
        fail_msg("%s: exit code %d, \"%s\"; expected %d and \"%s\"", options, got, text, code, says);
}

static void wrong_options_are_named_and_exit_with_2(void **state)
{
    assert_refused(state, "", 2, "data-dir");
    assert_refused(state, "--data-dir @/c", 2, "cluster-key-file");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --catalog zookeeper", 2, "embedded or etcd");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --catalog etcd", 2, "etcd-endpoints");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --migrate-to-etcd", 2, "etcd-endpoints");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --catalog etcd --etcd-endpoints nowhere", 1, "host:port");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --migrate-to-etcd --etcd-endpoints 127.0.0.1:1", 1,
                   "nothing to migrate");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --log-level loud", 2, "debug, info, warn or error");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --heartbeat-ms 1", 2, "heartbeat-ms");
}

static void leaving_loopback_must_be_said_in_plain_words(void **state)
{
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --listen 0.0.0.0:0", 2, "neither TLS nor API keys");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --listen 10.0.0.1:0", 2, "--allow-insecure-listen");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --listen 127.example.org:0", 2, "127.example.org:0");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --listen localhost.example.org:0", 2,
                   "localhost.example.org:0");
    /* these are loopback: what is refused is the key that is not there */
    assert_refused(state, "--data-dir @/c --cluster-key-file @/nokey --listen 127.3.2.1:0 --http-listen localhost:0", 1, "nokey");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/nokey --listen [::1]:0", 1, "nokey");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --http-listen [::]:0", 2, "http-listen is [::]:0");
}

static void what_cannot_be_opened_exits_with_1(void **state)
{
    assert_refused(state, "--data-dir @/no/such --cluster-key-file @/key", 1, "data-dir");
    assert_refused(state, "--data-dir @/c --cluster-key-file @/nokey --listen 127.0.0.1:0", 1, "nokey");
}

static void help_exits_with_0(void **state)
{
    assert_refused(state, "--help", 0, "--allow-insecure-listen");
    assert_refused(state, "--version", 0, gy_version());
}

/* Starts it; the read end of its ready pipe in *ready. */
static pid_t start(void **state, int *ready)
{
    char dir[TEXT_BYTES], key[TEXT_BYTES], fd[32];
    snprintf(dir, sizeof dir, "--data-dir=%s/c", (char *)*state);
    snprintf(key, sizeof key, "--cluster-key-file=%s/key", (char *)*state);
    snprintf(fd, sizeof fd, "--ready-fd=%d", READY_FD);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], READY_FD);
        close(ends[0]);
        close(ends[1]);
        execl(COORDINATOR, COORDINATOR, dir, key, "--listen=127.0.0.1:0", "--bus-listen=127.0.0.1:0", "--http-listen=127.0.0.1:0",
              fd, "--log-level=warn", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *ready = ends[0];
    return pid;
}

static void it_tells_its_addresses_and_stops_when_told(void **state)
{
    int ready;
    pid_t pid = start(state, &ready);
    char line[TEXT_BYTES];
    size_t bytes = 0;
    for (ssize_t n; (n = read(ready, line + bytes, sizeof line - bytes)) > 0;)
        bytes += (size_t)n;
    close(ready);
    json_error_t where;
    json_t *json = json_loadb(line, bytes, 0, &where);
    assert_non_null(json);
    assert_int_equal(json_integer_value(json_object_get(json, "pid")), pid);
    const char *const doors[] = {"grpc", "bus", "http"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(strncmp(json_string_value(json_object_get(json, doors[i])), "127.0.0.1:", 10), 0);
    json_decref(json);
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --listen 127.0.0.1:0", 1, "in use by another process");
    assert_int_equal(kill(pid, SIGTERM), 0);
    int code;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
}

static void a_catalog_that_cannot_be_read_stops_the_start(void **state)
{
    it_tells_its_addresses_and_stops_when_told(state);
    char command[TEXT_BYTES];
    snprintf(command, sizeof command, "rm %s/c/catalog/MANIFEST-*", (char *)*state);
    assert_int_equal(system(command), 0);
    assert_refused(state, "--data-dir @/c --cluster-key-file @/key --listen 127.0.0.1:0", 1, "catalog");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(wrong_options_are_named_and_exit_with_2),
        TEST(leaving_loopback_must_be_said_in_plain_words),
        TEST(what_cannot_be_opened_exits_with_1),
        TEST(help_exits_with_0),
        TEST(it_tells_its_addresses_and_stops_when_told),
        TEST(a_catalog_that_cannot_be_read_stops_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
