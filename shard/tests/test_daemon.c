/* gyre-shard as a process: its ready line, its exit codes, its lock, its door for operators, and kill -9 under load through the bus. */
#include "replica_fixture.h"

#include "gyre/bus.h"
#include "gyre/lifecycle.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { ARGUMENTS_MAX = 24 };

struct daemon {
    pid_t pid;
    int ready_fd;
    char bus[64], http[64], node[80];
};

struct world {
    char *directory, *key_path, *data_path;
    uint8_t key[32];
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    world->directory = fixture_directory();
    if (asprintf(&world->key_path, "%s/key", world->directory) < 0 || asprintf(&world->data_path, "%s/data", world->directory) < 0)
        return -1;
    assert_int_equal(gy_key_file_create(world->key_path, NULL), GYRE_OK);
    assert_int_equal(gy_key_file_read(world->key_path, world->key, NULL), GYRE_OK);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    fixture_directory_free(world->directory);
    free(world->key_path);
    free(world->data_path);
    free(world);
    return 0;
}

/* Starts gyre-shard with the usual arguments and up to two more. */
static void start(const struct world *world, struct daemon *daemon, const char *more, const char *value)
{
    int ends[2];
    char ready[16];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    snprintf(ready, sizeof ready, "%d", ends[1]);
    const char *arguments[ARGUMENTS_MAX] = {"gyre-shard",  "--data-dir",    world->data_path, "--cluster-key-file", world->key_path, "--listen",
                                            "127.0.0.1:0", "--http-listen", "127.0.0.1:0",    "--ready-fd",         ready,           "--log-level",
                                            "error",       more,            value,            NULL};
    daemon->pid = fork();
    if (daemon->pid == 0) {
        fcntl(ends[1], F_SETFD, 0);
        execv(GYRE_SHARD_BINARY, (char **)(uintptr_t)arguments);
        _exit(127);
    }
    assert_true(daemon->pid > 0);
    close(ends[1]);
    daemon->ready_fd = ends[0];
}

static bool await_ready(struct daemon *daemon)
{
    char line[512] = "";
    size_t bytes = 0;
    ssize_t got;
    while (bytes < sizeof line - 1 && (got = read(daemon->ready_fd, line + bytes, sizeof line - 1 - bytes)) > 0)
        bytes += (size_t)got;
    close(daemon->ready_fd);
    line[bytes] = '\0';
    int pid;
    return sscanf(line, "{\"node\":\"%79[^\"]\",\"bus\":\"%63[^\"]\",\"http\":\"%63[^\"]\",\"pid\":%d}", daemon->node, daemon->bus, daemon->http, &pid) == 4 &&
           pid == daemon->pid;
}

/* The exit code, or minus the signal. */
static int await_end(const struct daemon *daemon)
{
    int how;
    assert_int_equal(waitpid(daemon->pid, &how, 0), daemon->pid);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
}

static size_t http_get(const char *address, const char *path, char *out, size_t room)
{
    char host[64], request[128];
    struct sockaddr_in to = {.sin_family = AF_INET};
    snprintf(host, sizeof host, "%s", address);
    char *colon = strrchr(host, ':');
    *colon = '\0';
    to.sin_port = htons((uint16_t)atoi(colon + 1));
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    assert_int_equal(write(fd, request, (size_t)length), length);
    size_t bytes = 0;
    ssize_t got;
    while (bytes < room - 1 && (got = read(fd, out + bytes, room - 1 - bytes)) > 0)
        bytes += (size_t)got;
    out[bytes] = '\0';
    close(fd);
    return bytes;
}

static void it_says_when_it_serves_and_ends_with_zero_when_asked(void **state)
{
    struct world *world = *state;
    struct daemon daemon = {0};
    static char page[1 << 20];
    start(world, &daemon, "--node", "n1");
    assert_true(await_ready(&daemon));
    assert_string_equal(daemon.node, "n1");
    http_get(daemon.http, "/healthz", page, sizeof page);
    assert_non_null(strstr(page, "200"));
    http_get(daemon.http, "/metrics", page, sizeof page);
    assert_non_null(strstr(page, "gyre_shard_requests_total{type=\"scan\"} 0"));
    assert_non_null(strstr(page, "gyre_shard_disk_free_bytes "));
    kill(daemon.pid, SIGTERM);
    assert_int_equal(await_end(&daemon), 0);
}

/* The number behind "name " in a page of metrics. */
static double metric(const char *page, const char *name)
{
    char wanted[128];
    snprintf(wanted, sizeof wanted, "\n%s ", name);
    const char *at = strstr(page, wanted);
    if (!at)
        fail_msg("no metric %s", name);
    return strtod(at + strlen(wanted), NULL);
}

static void the_memory_budget_is_a_size_or_a_share_and_shown(void **state)
{
    struct world *world = *state;
    struct daemon daemon = {0};
    static char page[1 << 20];
    static const struct {
        const char *value;
        double share;
    } cases[] = {{"64M", 0}, {"50%", 0.5}, {NULL, 0.85}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double expected = cases[i].share > 0 ? cases[i].share * (double)gy_memory_limit("") : 64 << 20;
        start(world, &daemon, cases[i].value ? "--memory-budget" : NULL, cases[i].value);
        assert_true(await_ready(&daemon));
        http_get(daemon.http, "/metrics", page, sizeof page);
        double shown = metric(page, "gyre_shard_memory_budget_bytes");
        assert_true(shown <= expected && shown > expected - 100); /* whole percents of whole bytes */
        assert_true(metric(page, "gyre_shard_memory_budget_used_bytes") <= 0);
        assert_true(metric(page, "gyre_shard_codes_bytes") <= 0);
        kill(daemon.pid, SIGTERM);
        assert_int_equal(await_end(&daemon), 0);
    }
    static const char *const wrong[] = {"0", "0%", "200%", "much"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        start(world, &daemon, "--memory-budget", wrong[i]);
        assert_false(await_ready(&daemon));
        assert_int_equal(await_end(&daemon), 2);
    }
}

static void a_second_process_on_the_same_data_is_refused(void **state)
{
    struct world *world = *state;
    struct daemon first = {0}, second = {0};
    start(world, &first, NULL, NULL);
    assert_true(await_ready(&first));
    start(world, &second, NULL, NULL);
    assert_false(await_ready(&second));
    assert_int_equal(await_end(&second), 1);
    kill(first.pid, SIGTERM);
    assert_int_equal(await_end(&first), 0);
    start(world, &second, "--node", "another");
    assert_false(await_ready(&second));
    assert_int_equal(await_end(&second), 1);
}

static void wrong_arguments_end_with_two(void **state)
{
    struct world *world = *state;
    struct daemon daemon = {0};
    start(world, &daemon, "--scan-queue", "0");
    assert_false(await_ready(&daemon));
    assert_int_equal(await_end(&daemon), 2);
    start(world, &daemon, "--log-level", "loud");
    assert_false(await_ready(&daemon));
    assert_int_equal(await_end(&daemon), 2);
}

/* ---- kill -9 ---- */

static gyre_status ask(gy_peer *peer, uint16_t type, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply_type, void *reply,
                       gyre_error *err)
{
    return gy_call(peer, type, request, reply_type, reply, gy_now_ns() + 60 * GY_SECOND_NS, err);
}

static void create_replica(gy_peer *peer)
{
    Gyre__Node__EnsureReplica request = GYRE__NODE__ENSURE_REPLICA__INIT;
    Gyre__Node__ReplicaStatus *reply;
    uint8_t bytes[8192];
    gyre_error err = {0};
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    request.codebook = (ProtobufCBinaryData){gyre_codebook_encoded_bytes(codebook), bytes};
    gyre_codebook_encode(codebook, bytes);
    gyre_codebook_free(codebook);
    request.collection_id = 7;
    request.collection = (char *)(uintptr_t)"words";
    request.shard = 3;
    struct gy_shard_config config = fixture_config(4);
    struct gy_config_message message;
    fixture_tell(&request, &message, &config);
    if (ask(peer, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, &gyre__node__replica_status__descriptor, &reply, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    gy_wire_free(reply);
}

/* Writes point after point until the daemon dies; returns how many were acknowledged, as does *total. */
static size_t write_until_cut(gy_peer *peer, uint64_t first, atomic_size_t *total)
{
    for (size_t i = 0;; i++) {
        Gyre__Node__Write *write = fixture_write(4, first + i, 1, 0, FIXTURE_DIM);
        Gyre__Node__WriteReply *reply;
        gyre_error err = {0};
        gyre_status status = ask(peer, GYRE__NODE__MESSAGE_TYPE__WRITE, &write->base, &gyre__node__write_reply__descriptor, &reply, &err);
        gy_wire_free(write);
        if (status != GYRE_OK) {
            assert_int_equal(status, GYRE_UNAVAILABLE);
            return i;
        }
        atomic_fetch_add(total, 1);
        gy_wire_free(reply);
    }
}

struct killer {
    pthread_t thread;
    pid_t pid;
    int after_ms;
    bool patient; /* until something was acknowledged in all, however slow the machine */
    atomic_size_t *total;
};

static void *kill_later(void *arg)
{
    const struct killer *killer = arg;
    struct timespec wait = {.tv_nsec = killer->after_ms * 1000000L}; /* the moment of the kill is what is random here */
    do
        nanosleep(&wait, NULL);
    while (killer->patient && atomic_load(killer->total) == 0);
    kill(killer->pid, SIGKILL);
    return NULL;
}

static void assert_points(gy_peer *peer, uint64_t first, size_t count)
{
    if (count == 0)
        return;
    Gyre__Node__Read request = GYRE__NODE__READ__INIT;
    Gyre__Node__ReadReply *reply;
    gyre_error err = {0};
    gyre_point_id *ids = malloc(count * sizeof *ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = gyre_point_id_from_number(first + i);
    request.collection_id = 7;
    request.shard = 3;
    request.ids = (ProtobufCBinaryData){count * sizeof *ids, (uint8_t *)ids};
    request.with_vector = request.with_payload = true;
    if (ask(peer, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &gyre__node__read_reply__descriptor, &reply, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(reply->n_points, count);
    for (size_t i = 0; i < count; i++) {
        float vector[FIXTURE_DIM];
        char payload[64];
        fixture_vector(vector, FIXTURE_DIM, first + i, 0);
        fixture_payload(payload, first + i, 0);
        assert_true(reply->points[i]->found);
        assert_int_equal(reply->points[i]->vector.len, sizeof vector);
        assert_memory_equal(reply->points[i]->vector.data, vector, sizeof vector);
        assert_string_equal(reply->points[i]->payload, payload);
    }
    gy_wire_free(reply);
    free(ids);
}

static void what_was_acknowledged_over_the_bus_survives_kill_9(void **state)
{
    struct world *world = *state;
    enum { KILLS = 6, APART = 1000000 };
    gy_bus *bus;
    gyre_error err = {0};
    size_t acknowledged[KILLS];
    atomic_size_t total = 0;
    struct gy_bus_options options = {.cluster_key = world->key, .node = "tester"};
    assert_int_equal(gy_bus_open(&bus, &options, &err), GYRE_OK);
    for (uint64_t round = 0; round <= KILLS; round++) {
        struct daemon daemon = {0};
        gy_peer *peer;
        start(world, &daemon, NULL, NULL);
        assert_true(await_ready(&daemon));
        assert_int_equal(gy_peer_new(&peer, bus, daemon.bus, NULL, NULL, &err), GYRE_OK);
        if (round == 0)
            create_replica(peer);
        for (uint64_t before = 0; before < round; before++)
            assert_points(peer, before * APART, acknowledged[before]);
        if (round < KILLS) {
            struct killer killer = {
                .pid = daemon.pid, .after_ms = 20 + (int)round * 37, .patient = round == KILLS - 1, .total = &total};
            assert_int_equal(pthread_create(&killer.thread, NULL, kill_later, &killer), 0);
            acknowledged[round] = write_until_cut(peer, round * APART, &total);
            pthread_join(killer.thread, NULL);
            assert_int_equal(await_end(&daemon), -SIGKILL);
        } else {
            kill(daemon.pid, SIGTERM);
            assert_int_equal(await_end(&daemon), 0);
        }
        gy_peer_free(peer);
    }
    gy_bus_close(bus);
    print_message("%d kills, %zu acknowledged writes\n", KILLS, atomic_load(&total));
    assert_true(atomic_load(&total) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_says_when_it_serves_and_ends_with_zero_when_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_memory_budget_is_a_size_or_a_share_and_shown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_process_on_the_same_data_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_arguments_end_with_two, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_acknowledged_over_the_bus_survives_kill_9, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
