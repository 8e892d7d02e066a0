/* What a unary call costs on loopback: a request of 4 KB, a reply of 200 bytes, our client and our server in one process.
 * The first row is the ceiling: the same bytes over a bare TCP connection.
 *
 *   proto_bench_rpc [calls]        default 20000 per row */
#include "gyre/rpc.h"

#include "gyre/v1/gyre.pb-c.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_BYTES = 4096, REPLY_BYTES = 200, FLOATS = REQUEST_BYTES / 4, WARM_UP = 500, CALLERS_MAX = 8 };

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *name, int64_t *took_ns, size_t count, int64_t all_ns)
{
    qsort(took_ns, count, sizeof *took_ns, compare_ns);
    printf("%-34s %8.1f %8.1f %8.1f %10.0f\n", name, (double)took_ns[count / 2] / 1e3, (double)took_ns[count * 95 / 100] / 1e3,
           (double)took_ns[count * 99 / 100] / 1e3, (double)count * 1e9 / (double)all_ns);
}

static void die(const char *what)
{
    fprintf(stderr, "proto_bench_rpc: %s\n", what);
    exit(1);
}

/* ---- bare TCP ---- */

static bool transfer(int fd, char *buffer, size_t bytes, bool sending)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = sending ? send(fd, buffer + done, bytes - done, MSG_NOSIGNAL) : recv(fd, buffer + done, bytes - done, 0);
        if (n <= 0)
            return false; /* the other side is done */
        done += (size_t)n;
    }
    return true;
}

static void *tcp_serve(void *arg)
{
    char buffer[REQUEST_BYTES] = {0};
    int fd = accept(*(int *)arg, NULL, NULL);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (transfer(fd, buffer, REQUEST_BYTES, false) && transfer(fd, buffer, REPLY_BYTES, true)) {
    }
    close(fd);
    return NULL;
}

static void bench_tcp(int64_t *took_ns, size_t calls)
{
    char buffer[REQUEST_BYTES] = {0};
    int on = 1;
    int door = socket(AF_INET, SOCK_STREAM, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    pthread_t thread;
    if (bind(door, (struct sockaddr *)&address, bytes) != 0 || listen(door, 1) != 0 ||
        getsockname(door, (struct sockaddr *)&address, &bytes) != 0 || pthread_create(&thread, NULL, tcp_serve, &door) != 0 ||
        connect(fd, (struct sockaddr *)&address, bytes) != 0)
        die("no TCP connection on loopback");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int64_t begin_ns = 0;
    for (size_t i = 0; i < calls + WARM_UP; i++) {
        int64_t before_ns = gy_now_ns();
        if (i == WARM_UP)
            begin_ns = before_ns;
        if (!transfer(fd, buffer, REQUEST_BYTES, true) || !transfer(fd, buffer, REPLY_BYTES, false))
            die("the TCP connection broke");
        if (i >= WARM_UP)
            took_ns[i - WARM_UP] = gy_now_ns() - before_ns;
    }
    print_row("bare TCP, 1 in flight", took_ns, calls, gy_now_ns() - begin_ns);
    close(fd);
    pthread_join(thread, NULL);
    close(door);
}

/* ---- gRPC ---- */

static gy_bytes reply; /* packed once: the server's own work is not what is measured */

static void on_search(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    (void)self, (void)bytes, (void)size;
    gy_rpc_finish(call, GYRE_OK, NULL, reply.data, reply.size);
}

struct caller {
    gyre_client *client;
    size_t calls;
    int64_t *took_ns;
};

static void *call_often(void *arg)
{
    struct caller *caller = arg;
    static float vector[FLOATS]; /* read only */
    Gyre__V1__SearchQuery query = GYRE__V1__SEARCH_QUERY__INIT;
    Gyre__V1__SearchRequest request = GYRE__V1__SEARCH_REQUEST__INIT;
    query.vector = vector;
    query.n_vector = FLOATS;
    request.query = &query;
    for (size_t i = 0; i < caller->calls; i++) {
        gyre_error err;
        Gyre__V1__SearchReply *answer = NULL;
        int64_t before_ns = gy_now_ns();
        if (gyre_client_call(caller->client, "/gyre.v1.Points/Search", &request.base, &gyre__v1__search_reply__descriptor, &answer,
                             before_ns + 10 * GY_SECOND_NS, &err) != GYRE_OK)
            die(err.text);
        caller->took_ns[i] = gy_now_ns() - before_ns;
        gy_wire_free(answer);
    }
    return NULL;
}

static void bench_grpc(gyre_client *client, size_t callers, int64_t *took_ns, size_t calls)
{
    pthread_t threads[CALLERS_MAX];
    struct caller shares[CALLERS_MAX];
    char name[64];
    int64_t begin_ns = gy_now_ns();
    for (size_t i = 0; i < callers; i++) {
        shares[i] = (struct caller){client, calls / callers, took_ns + i * (calls / callers)};
        if (pthread_create(&threads[i], NULL, call_often, &shares[i]) != 0)
            die("no thread");
    }
    for (size_t i = 0; i < callers; i++)
        pthread_join(threads[i], NULL);
    snprintf(name, sizeof name, "gyre_client_call, %zu in flight", callers);
    print_row(name, took_ns, calls / callers * callers, gy_now_ns() - begin_ns);
}

int main(int argc, char **argv)
{
    size_t calls = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    int64_t *took_ns = calloc(calls + WARM_UP, sizeof *took_ns);
    gyre_error err;
    if (calls < CALLERS_MAX || !took_ns)
        die("usage: proto_bench_rpc [calls]");
    char payload[REPLY_BYTES] = "";
    memset(payload, 'a', REPLY_BYTES - 10);
    Gyre__V1__Hit hit = GYRE__V1__HIT__INIT;
    Gyre__V1__Hit *hits[] = {&hit};
    Gyre__V1__SearchReply answer = GYRE__V1__SEARCH_REPLY__INIT;
    hit.payload = payload;
    answer.hits = hits;
    answer.n_hits = 1;
    const struct gy_rpc_method methods[] = {{.path = "/gyre.v1.Points/Search", .on_message = on_search}};
    const struct gy_rpc_server_options options = {.listen = "127.0.0.1:0", .methods = methods, .method_count = 1};
    gy_rpc_server *server = NULL;
    gyre_client *client = NULL;
    if (gy_wire_pack(&reply, &answer.base, 1000, &err) != GYRE_OK || gy_rpc_server_open(&server, &options, &err) != GYRE_OK ||
        gyre_client_open(&client, gy_rpc_server_address(server), &err) != GYRE_OK)
        die(err.text);
    printf("%d bytes -> %zu bytes, %zu calls per row\n", REQUEST_BYTES, reply.size, calls);
    printf("%-34s %8s %8s %8s %10s\n", "", "p50 us", "p95 us", "p99 us", "calls/s");
    bench_tcp(took_ns, calls);
    struct caller warm_up = {client, WARM_UP, took_ns};
    call_often(&warm_up);
    bench_grpc(client, 1, took_ns, calls);
    bench_grpc(client, CALLERS_MAX, took_ns, calls);
    gyre_client_close(client);
    gy_rpc_server_close(server, GY_SECOND_NS);
    gy_bytes_free(&reply);
    free(took_ns);
    return 0;
}
