#include "etcd_cluster.h"

#include "etcd/etcd.pb-c.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { UP_MS = 60000 };

static uint16_t free_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    close(fd);
    return ntohs(address.sin_port);
}

const char *etcd_member_address(const struct etcd_cluster *cluster, size_t member, char room[32])
{
    snprintf(room, 32, "127.0.0.1:%u", cluster->member[member].client_port);
    return room;
}

const char *etcd_cluster_path(const struct etcd_cluster *cluster, const char *name, char room[ETCD_TEXT_BYTES])
{
    snprintf(room, ETCD_TEXT_BYTES, "%s/%s", cluster->dir, name);
    return room;
}

static void run(const char *format, const char *dir)
{
    char command[4096];
    snprintf(command, sizeof command, format, dir);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/* An authority, another one, and certificates of the first for the members and for a client. */
static void make_certificates(const char *dir)
{
    run("cd %s && for a in ca other; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $a.key "
        "-out $a.pem -subj /CN=$a -days 2 2>/dev/null || exit 1; done && for n in member client; do "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $n.key -out $n.csr -subj /CN=$n 2>/dev/null && "
        "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > ext && "
        "openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $n.pem 2>/dev/null || exit 1; "
        "done",
        dir);
}

/* Where a member that starts says READY=1 once it serves, as it does to systemd: a socket, and the variable that names it. */
static int listen_to(const struct etcd_cluster *cluster, const char *member, char variable[ETCD_TEXT_BYTES])
{
    static const char name[] = "NOTIFY_SOCKET=";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%s.ready", cluster->dir, member);
    snprintf(variable, ETCD_TEXT_BYTES, "%s%s", name, address.sun_path);
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void etcd_member_start(struct etcd_cluster *cluster, size_t member)
{
    struct etcd_member *one = &cluster->member[member];
    char variable[ETCD_TEXT_BYTES];
    char name[16], data[128], peer[64], client[64], peers[ETCD_TEXT_BYTES] = "", path[ETCD_TEXT_BYTES];
    char ca[ETCD_TEXT_BYTES], cert[ETCD_TEXT_BYTES], key[ETCD_TEXT_BYTES];
    snprintf(name, sizeof name, "m%zu", member);
    snprintf(data, sizeof data, "%s/m%zu", cluster->dir, member);
    snprintf(peer, sizeof peer, "http://127.0.0.1:%u", one->peer_port);
    snprintf(client, sizeof client, "%s://127.0.0.1:%u", cluster->tls ? "https" : "http", one->client_port);
    for (size_t i = 0, used = 0; i < cluster->count; i++)
        used += (size_t)snprintf(peers + used, sizeof peers - used, "%sm%zu=http://127.0.0.1:%u", i ? "," : "", i,
                                 cluster->member[i].peer_port);
    const char *arguments[40] = {
        ETCD, "--name", name, "--data-dir", data, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--listen-client-urls", client, "--advertise-client-urls", client, "--initial-cluster", peers,
        "--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "warn", "--logger", "zap", "--log-outputs", "stderr", NULL};
    if (cluster->tls) {
        size_t n = 0;
        while (arguments[n])
            n++;
        const char *more[] = {"--client-cert-auth", "--trusted-ca-file", etcd_cluster_path(cluster, "ca.pem", ca),
                              "--cert-file", etcd_cluster_path(cluster, "member.pem", cert),
                              "--key-file", etcd_cluster_path(cluster, "member.key", key)};
        memcpy(arguments + n, more, sizeof more);
    }
    etcd_cluster_path(cluster, name, path);
    strcat(path, ".log");
    one->ready = listen_to(cluster, name, variable);
    size_t inherited = 0;
    while (environ[inherited])
        inherited++;
    char **environment = calloc(inherited + 2, sizeof *environment);
    assert_non_null(environment);
    memcpy(environment, environ, inherited * sizeof *environment);
    environment[inherited] = variable;
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (getppid() != parent || log < 0)
            _exit(127);
        dup2(log, 1);
        dup2(log, 2);
        execve(ETCD, (char *const *)(uintptr_t)arguments, environment);
        _exit(127);
    }
    free(environment);
    one->pid = pid;
}

/* Waits until a member that was started serves. */
static void await_ready(const struct etcd_cluster *cluster, struct etcd_member *member)
{
    if (member->ready < 0)
        return;
    struct pollfd either[] = {{.fd = member->ready, .events = POLLIN}, {.fd = pidfd_open(member->pid, 0), .events = POLLIN}};
    assert_true(either[1].fd >= 0);
    if (poll(either, 2, UP_MS) <= 0 || !either[0].revents)
        fail_msg("a member of etcd %s; see %s", either[1].revents ? "ended" : "does not get ready", cluster->dir);
    close(either[1].fd);
    close(member->ready);
    member->ready = -1;
}

void etcd_member_signal(struct etcd_cluster *cluster, size_t member, int number)
{
    assert_true(cluster->member[member].pid > 0);
    assert_int_equal(kill(cluster->member[member].pid, number), 0);
}

void etcd_member_kill(struct etcd_cluster *cluster, size_t member)
{
    etcd_member_signal(cluster, member, SIGKILL);
    assert_int_equal(waitpid(cluster->member[member].pid, NULL, 0), cluster->member[member].pid);
    cluster->member[member].pid = 0;
    if (cluster->member[member].ready >= 0)
        close(cluster->member[member].ready);
}

static bool read_file(const char *path, char *text, size_t room)
{
    FILE *file = fopen(path, "re");
    size_t bytes = file ? fread(text, 1, room - 1, file) : 0;
    text[bytes] = 0;
    if (file)
        fclose(file);
    return bytes > 0;
}

/* Whether a member knows a leader, for which it waits; who it is itself, and who leads. */
static bool ask(const struct etcd_cluster *cluster, size_t member, uint64_t *self, uint64_t *leader)
{
    char address[32], path[ETCD_TEXT_BYTES], ca[4096], cert[4096], key[4096];
    struct gyre_client_tls tls = {ca, cert, key};
    if (cluster->tls)
        assert_true(read_file(etcd_cluster_path(cluster, "ca.pem", path), ca, sizeof ca) &&
                    read_file(etcd_cluster_path(cluster, "client.pem", path), cert, sizeof cert) &&
                    read_file(etcd_cluster_path(cluster, "client.key", path), key, sizeof key));
    GY_AUTO(gyre_client) *client = NULL;
    if (gyre_client_open_tls(&client, etcd_member_address(cluster, member, address), cluster->tls ? &tls : NULL, NULL) != GYRE_OK)
        return false;
    /* Answered when a leader has confirmed it, refused when the leader changes. */
    Etcdserverpb__RangeRequest read = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse *found;
    read.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t)"?"};
    if (gyre_client_call(client, "/etcdserverpb.KV/Range", &read.base, &etcdserverpb__range_response__descriptor, &found,
                         gy_now_ns() + 10 * GY_SECOND_NS, NULL) != GYRE_OK)
        return false;
    gy_wire_free(found);
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    Etcdserverpb__StatusResponse *reply;
    if (gyre_client_call(client, "/etcdserverpb.Maintenance/Status", &request.base, &etcdserverpb__status_response__descriptor,
                         &reply, gy_now_ns() + GY_SECOND_NS, NULL) != GYRE_OK)
        return false;
    *self = reply->header ? reply->header->member_id : 0;
    *leader = reply->leader;
    gy_wire_free(reply);
    return *leader != 0;
}

/* The leader, if all running members agree; else ETCD_MEMBERS_MAX. */
static size_t agreed(const struct etcd_cluster *cluster)
{
    uint64_t self[ETCD_MEMBERS_MAX] = {0}, leader[ETCD_MEMBERS_MAX] = {0}, first = 0;
    for (size_t i = 0; i < cluster->count; i++) {
        if (!cluster->member[i].pid)
            continue;
        if (!ask(cluster, i, &self[i], &leader[i]) || (first && leader[i] != first))
            return ETCD_MEMBERS_MAX;
        first = leader[i];
    }
    for (size_t i = 0; i < cluster->count; i++)
        if (first && self[i] == first)
            return i;
    return ETCD_MEMBERS_MAX;
}

size_t etcd_cluster_leader(struct etcd_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->member[i].pid)
            await_ready(cluster, &cluster->member[i]);
    for (int64_t end_ns = gy_now_ns() + UP_MS * GY_MILLISECOND_NS; gy_now_ns() < end_ns;) {
        size_t leader = agreed(cluster);
        if (leader < ETCD_MEMBERS_MAX)
            return leader;
        for (size_t i = 0; i < cluster->count; i++)
            if (cluster->member[i].pid && waitpid(cluster->member[i].pid, NULL, WNOHANG) != 0)
                fail_msg("etcd member %zu ended; see %s", i, cluster->dir);
    }
    fail_msg("etcd has no leader; see %s", cluster->dir);
    return 0;
}

void etcd_cluster_start(struct etcd_cluster *cluster, size_t count, bool tls)
{
    *cluster = (struct etcd_cluster){.dir = "/tmp/gyre-etcd-XXXXXX", .count = count, .tls = tls};
    assert_non_null(mkdtemp(cluster->dir));
    if (tls)
        make_certificates(cluster->dir);
    for (size_t i = 0, used = 0; i < count; i++) {
        cluster->member[i].client_port = free_port();
        cluster->member[i].peer_port = free_port();
        used += (size_t)snprintf(cluster->endpoints + used, sizeof cluster->endpoints - used, "%s127.0.0.1:%u", i ? "," : "",
                                 cluster->member[i].client_port);
    }
    for (size_t i = 0; i < count; i++)
        etcd_member_start(cluster, i);
    etcd_cluster_leader(cluster);
}

void etcd_cluster_stop(struct etcd_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->member[i].pid)
            etcd_member_kill(cluster, i);
    run("rm -rf '%s'", cluster->dir);
}
