#include "gyre/lifecycle.h"

#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char folder[] = "/tmp/gyre_test_lifecycle_XXXXXX";
static char path[128];
static gyre_error err;

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/cluster.key", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails if a file was left beside the key */
}

static void write_key_file(const char *text, mode_t mode)
{
    unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static const char good[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1B1C1D1E1F\n";

static void a_key_file_is_read(void **state)
{
    (void)state;
    uint8_t key[32];
    write_key_file(good, 0600);
    assert_int_equal(gy_key_file_read(path, key, &err), GYRE_OK);
    for (uint8_t i = 0; i < 32; i++)
        assert_int_equal(key[i], i);
    write_key_file(good, 0400);
    assert_int_equal(gy_key_file_read(path, key, &err), GYRE_OK);
}

static void a_key_file_that_others_can_reach_is_denied(void **state)
{
    (void)state;
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0666};
    uint8_t key[32] = {7};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        write_key_file(good, modes[i]);
        assert_int_equal(gy_key_file_read(path, key, &err), GYRE_DENIED);
        assert_non_null(strstr(err.text, "chmod 600"));
        assert_int_equal(key[0], 7);
    }
}

static void what_is_no_key_is_refused_and_not_repeated(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "\n", "0001", "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                                      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00",
                                      "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f"};
    uint8_t key[32];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_key_file(bad[i], 0600);
        assert_int_equal(gy_key_file_read(path, key, &err), GYRE_INVALID);
        assert_non_null(strstr(err.text, "64 hex digits"));
        assert_null(strstr(err.text, "0102")); /* a secret, even a broken one */
    }
    unlink(path);
    assert_int_equal(gy_key_file_read(path, key, &err), GYRE_NOT_FOUND);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    assert_int_equal(gy_key_file_read(path, key, &err), GYRE_INVALID);
    unlink(path);
}

static void a_new_key_is_private_random_and_never_overwritten(void **state)
{
    (void)state;
    uint8_t first[32], second[32];
    struct stat info;
    unlink(path);
    mode_t mask = umask(0);
    assert_int_equal(gy_key_file_create(path, &err), GYRE_OK);
    umask(mask);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(gy_key_file_read(path, first, &err), GYRE_OK);
    assert_int_equal(gy_key_file_create(path, &err), GYRE_EXISTS);
    assert_int_equal(gy_key_file_read(path, second, &err), GYRE_OK);
    assert_memory_equal(first, second, 32);
    unlink(path);
    assert_int_equal(gy_key_file_create(path, &err), GYRE_OK);
    assert_int_equal(gy_key_file_read(path, second, &err), GYRE_OK);
    assert_memory_not_equal(first, second, 32);
    assert_int_equal(gy_key_file_create("/nonexistent/folder/key", &err), GYRE_UNAVAILABLE);
}

/* A child that stops on request and tells its steps on a pipe. Returns the pipe's reading end. */
static int start_child(pid_t *child, void (*body)(int tell))
{
    int ends[2];
    fflush(NULL);
    assert_int_equal(pipe(ends), 0);
    *child = fork();
    assert_true(*child >= 0);
    if (*child == 0) {
        close(ends[0]);
        body(ends[1]);
        _exit(gy_stop_exit_code());
    }
    close(ends[1]);
    return ends[0];
}

static void expect_step(int fd, char step)
{
    char got = 0;
    assert_int_equal(read(fd, &got, 1), 1);
    assert_int_equal(got, step);
}

static int wait_for(pid_t child, int fd)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(fd);
    return status;
}

static void tell_step(int fd, char step)
{
    if (write(fd, &step, 1) != 1)
        _exit(99);
}

static void stop_on_signal(int tell)
{
    if (gy_stop_init(NULL) != GYRE_OK)
        _exit(98);
    tell_step(tell, 'r');
    int signal_number = gy_stop_wait();
    tell_step(tell, signal_number == SIGTERM ? 't' : signal_number == SIGINT ? 'i' : '?');
}

static void drain_for_ever(int tell)
{
    stop_on_signal(tell);
    for (;;)
        pause();
}

static void stop_on_request(int tell)
{
    if (gy_stop_init(NULL) != GYRE_OK)
        _exit(98);
    close(STDERR_FILENO); /* the log lines are not this test's */
    gy_stop_request("the disk failed", 3);
    gy_stop_request("a consequence", 4);
    tell_step(tell, gy_stop_wait() == 0 ? 'q' : '?');
}

static void write_to_a_closed_pipe(int tell)
{
    int ends[2];
    if (gy_stop_init(NULL) != GYRE_OK || pipe(ends) != 0)
        _exit(98);
    close(ends[0]);
    tell_step(tell, write(ends[1], "x", 1) < 0 && errno == EPIPE ? 'e' : '?');
}

static void a_signal_ends_the_wait(void **state)
{
    (void)state;
    const struct {
        int signal_number;
        char step;
    } cases[] = {{SIGTERM, 't'}, {SIGINT, 'i'}};
    for (size_t i = 0; i < 2; i++) {
        pid_t child;
        int fd = start_child(&child, stop_on_signal);
        expect_step(fd, 'r');
        kill(child, cases[i].signal_number);
        expect_step(fd, cases[i].step);
        assert_int_equal(wait_for(child, fd), 0);
    }
}

static void a_second_signal_ends_a_slow_drain_with_exit_code_1(void **state)
{
    (void)state;
    pid_t child;
    int fd = start_child(&child, drain_for_ever);
    expect_step(fd, 'r');
    kill(child, SIGTERM);
    expect_step(fd, 't');
    kill(child, SIGINT);
    int status = wait_for(child, fd);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void a_request_ends_the_wait_and_the_first_one_sets_the_exit_code(void **state)
{
    (void)state;
    pid_t child;
    int fd = start_child(&child, stop_on_request);
    expect_step(fd, 'q');
    int status = wait_for(child, fd);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
}

static void a_closed_pipe_is_an_error_and_no_signal(void **state)
{
    (void)state;
    pid_t child;
    int fd = start_child(&child, write_to_a_closed_pipe);
    expect_step(fd, 'e');
    assert_int_equal(wait_for(child, fd), 0);
}

static void readiness_is_one_line_and_then_the_end(void **state)
{
    (void)state;
    int ends[2];
    char text[64] = "";
    assert_int_equal(pipe(ends), 0);
    gy_ready_tell(ends[1], "{\"http\":\"127.0.0.1:1\"}");
    gy_ready_tell(-1, "nobody asked");
    assert_int_equal(read(ends[0], text, sizeof text - 1), 23);
    assert_string_equal(text, "{\"http\":\"127.0.0.1:1\"}\n");
    assert_int_equal(read(ends[0], text, 1), 0);
    close(ends[0]);
}

static void the_process_knows_its_memory_its_disk_and_its_version(void **state)
{
    (void)state;
    uint64_t free_bytes = 0, total_bytes = 0;
    uint64_t before = gy_resident_bytes();
    assert_true(before > 100000);
    volatile char *block = malloc(32 << 20);
    for (size_t i = 0; i < 32 << 20; i += 4096)
        block[i] = 1;
    assert_true(gy_resident_bytes() > before + (30 << 20));
    free((void *)block);
    assert_int_equal(gy_disk_free("/tmp", &free_bytes, &total_bytes, &err), GYRE_OK);
    assert_true(free_bytes <= total_bytes && total_bytes > 0);
    assert_int_equal(gy_disk_free("/nonexistent", &free_bytes, &total_bytes, &err), GYRE_NOT_FOUND);
    assert_non_null(strchr(gy_version(), '.'));
}

static void a_directory_is_made_and_held_by_one_at_a_time(void **state)
{
    (void)state;
    char dir[160], below[192];
    int first, second = -1;
    snprintf(dir, sizeof dir, "%s/held", folder);
    assert_int_equal(gy_dir_lock(dir, &first, &err), GYRE_OK);
    assert_int_equal(gy_dir_lock(dir, &second, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "in use by another process"));
    assert_non_null(strstr(err.text, dir));
    assert_int_equal(second, -1);
    close(first);
    assert_int_equal(gy_dir_lock(dir, &second, &err), GYRE_OK);
    assert_true(fcntl(second, F_GETFD) & FD_CLOEXEC); /* a child must not hold it on */
    close(second);
    snprintf(below, sizeof below, "%s/lock", dir);
    assert_int_equal(gy_dir_lock(below, &first, &err), GYRE_PRECONDITION); /* a file is in the way */
    assert_non_null(strstr(err.text, below));
    assert_int_equal(unlink(below), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void *stand_back(void *niceness)
{
    gy_thread_stand_back(7);
    *(int *)niceness = getpriority(PRIO_PROCESS, (id_t)gettid());
    return NULL;
}

static void one_thread_stands_back_and_the_others_do_not(void **state)
{
    (void)state;
    pthread_t thread;
    int own = getpriority(PRIO_PROCESS, (id_t)gettid()), other = 0;
    assert_int_equal(pthread_create(&thread, NULL, stand_back, &other), 0);
    pthread_join(thread, NULL);
    assert_int_equal(other, own + 7 < 19 ? own + 7 : 19);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)gettid()), own);
}

/* A file under a root of our own, as /proc and /sys show it. */
static void put_file(const char *root, const char *name, const char *text)
{
    char file_path[512];
    snprintf(file_path, sizeof file_path, "%s%s", root, name);
    for (char *slash = file_path + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(file_path, 0700);
    }
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int remove_entry(const char *entry, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found, (void)kind, (void)walk;
    return remove(entry);
}

static void the_smallest_limit_on_memory_counts(void **state)
{
    (void)state;
    char root[160];
    snprintf(root, sizeof root, "%s/root", folder);
    mkdir(root, 0700);
    assert_int_equal(gy_memory_limit(root), 0);
    put_file(root, "/proc/meminfo", "Something: 1 kB\nMemTotal:        8388608 kB\nMemFree: 5 kB\n");
    assert_int_equal(gy_memory_limit(root), 8ull << 30);
    /* Version 2: any group on the way to the root binds, "max" does not. */
    put_file(root, "/proc/self/cgroup", "0::/system.slice/gyre.service\n");
    put_file(root, "/sys/fs/cgroup/system.slice/gyre.service/memory.max", "max\n");
    assert_int_equal(gy_memory_limit(root), 8ull << 30);
    put_file(root, "/sys/fs/cgroup/system.slice/memory.max", "4294967296\n");
    assert_int_equal(gy_memory_limit(root), 4ull << 30);
    put_file(root, "/sys/fs/cgroup/memory.max", "1073741824\n");
    assert_int_equal(gy_memory_limit(root), 1ull << 30);
    /* Version 1: a number above the machine's means none. */
    put_file(root, "/proc/self/cgroup", "4:cpu:/x\n7:memory:/box\nnonsense\n");
    put_file(root, "/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(gy_memory_limit(root), 8ull << 30);
    put_file(root, "/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "536870912\n");
    assert_int_equal(gy_memory_limit(root), 512ull << 20);
    assert_true(gy_memory_limit("") > 0);
    nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_file_is_read),
        cmocka_unit_test(a_key_file_that_others_can_reach_is_denied),
        cmocka_unit_test(what_is_no_key_is_refused_and_not_repeated),
        cmocka_unit_test(a_new_key_is_private_random_and_never_overwritten),
        cmocka_unit_test(a_signal_ends_the_wait),
        cmocka_unit_test(a_second_signal_ends_a_slow_drain_with_exit_code_1),
        cmocka_unit_test(a_request_ends_the_wait_and_the_first_one_sets_the_exit_code),
        cmocka_unit_test(a_closed_pipe_is_an_error_and_no_signal),
        cmocka_unit_test(readiness_is_one_line_and_then_the_end),
        cmocka_unit_test(a_directory_is_made_and_held_by_one_at_a_time),
        cmocka_unit_test(one_thread_stands_back_and_the_others_do_not),
        cmocka_unit_test(the_smallest_limit_on_memory_counts),
        cmocka_unit_test(the_process_knows_its_memory_its_disk_and_its_version),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
