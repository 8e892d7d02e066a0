/* What a call costs over loopback tcp: latency with one in flight, rate with 8 and 64. First row of each block is the
 * ceiling: the same exchange through nng alone, without frames, seals or our bookkeeping.
 *     proto_bench_bus [seconds per row] */
#include "fixture.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include <stdio.h>
#include <stdlib.h>

#include <gnu/libc-version.h>

enum { REQUEST_BYTES = 4096, SAMPLES_MAX = 1 << 20, LANES = 64 };

static size_t answer_bytes;
static const uint8_t *answer;
static int64_t *samples;
static atomic_size_t sample_count;
static atomic_bool stop;
static atomic_int running;
static sem_t done;

static void record(int64_t started_ns)
{
    size_t i = atomic_fetch_add(&sample_count, 1);
    if (i < SAMPLES_MAX)
        samples[i] = gy_now_ns() - started_ns;
}

static void ended(void)
{
    if (atomic_fetch_sub(&running, 1) == 1)
        sem_post(&done);
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench: %s\n", what);
        exit(1);
    }
}

/* The bus: each lane starts its next call from the reply of the one before. */
static uint8_t request_body[REQUEST_BYTES];
struct bus_lane {
    gy_peer *peer;
    int64_t started_ns;
};

static void on_request(void *self, gy_bus_request *request)
{
    (void)self;
    gy_bus_answer(request, GYRE_OK, NULL, answer, answer_bytes);
}

static void on_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    (void)body;
    struct bus_lane *lane = arg;
    must(status == GYRE_OK && bytes == answer_bytes, err ? err->text : "short answer");
    if (lane->started_ns)
        record(lane->started_ns);
    if (atomic_load(&stop)) {
        ended();
        return;
    }
    lane->started_ns = gy_now_ns();
    gy_peer_call(lane->peer, 1, request_body, REQUEST_BYTES, lane->started_ns + 60 * GY_SECOND_NS, on_reply, lane);
}

/* nng alone, the same way. */
struct raw_lane {
    nng_ctx ctx;
    nng_aio *aio;
    bool sending, server;
    int64_t started_ns;
};

static nng_msg *raw_message(const uint8_t *bytes, size_t count)
{
    nng_msg *msg;
    must(nng_msg_alloc(&msg, count) == 0, "no memory");
    memcpy(nng_msg_body(msg), bytes, count);
    return msg;
}

static void raw_send(struct raw_lane *lane, const uint8_t *bytes, size_t count)
{
    lane->sending = true;
    nng_aio_set_msg(lane->aio, raw_message(bytes, count));
    nng_ctx_send(lane->ctx, lane->aio);
}

static void on_raw(void *arg)
{
    struct raw_lane *lane = arg;
    if (nng_aio_result(lane->aio) != 0)
        return; /* closed */
    if (lane->sending) {
        lane->sending = false;
        nng_ctx_recv(lane->ctx, lane->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(lane->aio));
    nng_aio_set_msg(lane->aio, NULL);
    if (lane->server) {
        raw_send(lane, answer, answer_bytes);
        return;
    }
    record(lane->started_ns);
    if (atomic_load(&stop)) {
        ended();
        return;
    }
    lane->started_ns = gy_now_ns();
    raw_send(lane, request_body, REQUEST_BYTES);
}

static void raw_lane_open(struct raw_lane *lane, nng_socket socket, bool server)
{
    *lane = (struct raw_lane){.server = server};
    must(nng_ctx_open(&lane->ctx, socket) == 0 && nng_aio_alloc(&lane->aio, on_raw, lane) == 0, "cannot open a context");
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(const char *what, int in_flight, int64_t took_ns)
{
    size_t count = atomic_load(&sample_count), kept = count < SAMPLES_MAX ? count : SAMPLES_MAX;
    qsort(samples, kept, sizeof *samples, by_value);
    printf("  %-28s %3d in flight  p50 %7.1f us  p99 %8.1f us  %8.0f /s\n", what, in_flight, (double)samples[kept / 2] / 1e3,
           (double)samples[kept * 99 / 100] / 1e3, (double)count / ((double)took_ns / 1e9));
    fflush(stdout);
}

/* Lets what was started run for a while, then waits until every lane has ended. */
static void run(const char *what, int in_flight, int64_t seconds, void (*start)(int lane))
{
    atomic_store(&sample_count, 0);
    atomic_store(&stop, false);
    atomic_store(&running, in_flight);
    int64_t started_ns = gy_now_ns();
    for (int i = 0; i < in_flight; i++)
        start(i);
    struct timespec left = {.tv_sec = seconds};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
    atomic_store(&stop, true);
    sem_wait(&done);
    report(what, in_flight, gy_now_ns() - started_ns);
}

/* One thread that sends and waits, as gy_call does. */
static void on_waited(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    (void)body;
    must(status == GYRE_OK && bytes == answer_bytes, err ? err->text : "short answer");
    sem_post(arg);
}

static void run_waiting(gy_peer *peer, int64_t seconds)
{
    sem_t came;
    sem_init(&came, 0, 0);
    atomic_store(&sample_count, 0);
    int64_t started_ns = gy_now_ns(), now_ns = started_ns;
    while (now_ns - started_ns < seconds * GY_SECOND_NS) {
        gy_peer_call(peer, 1, request_body, REQUEST_BYTES, now_ns + 60 * GY_SECOND_NS, on_waited, &came);
        while (sem_wait(&came) != 0 && errno == EINTR)
            ;
        record(now_ns);
        now_ns = gy_now_ns();
    }
    report("bus, sealed, a thread waits", 1, now_ns - started_ns);
    sem_destroy(&came);
}

static struct bus_lane bus_lanes[LANES];
static struct raw_lane raw_lanes[LANES];

static void bus_start(int i)
{
    bus_lanes[i].started_ns = 0;
    gy_peer_call(bus_lanes[i].peer, 1, request_body, REQUEST_BYTES, gy_now_ns() + 60 * GY_SECOND_NS, on_reply, &bus_lanes[i]);
}

static void raw_start(int i)
{
    raw_lanes[i].started_ns = gy_now_ns();
    raw_send(&raw_lanes[i], request_body, REQUEST_BYTES);
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoll(argv[1]) : 3;
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    uint8_t *bytes = calloc(1, 40960), key[GY_BUS_KEY_BYTES] = "bench";
    must(samples && bytes && seconds > 0, "usage: proto_bench_bus [seconds per row]");
    answer = bytes;
    sem_init(&done, 0, 0);

    nng_socket rep, req;
    nng_listener listener;
    int port;
    char url[64];
    must(nng_rep0_open(&rep) == 0 && nng_listen(rep, "tcp://127.0.0.1:0", &listener, 0) == 0 &&
             nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0 && nng_req0_open(&req) == 0,
         "cannot listen");
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    must(nng_dial(req, url, NULL, 0) == 0, "cannot dial");
    static struct raw_lane servers[LANES];
    for (int i = 0; i < LANES; i++) {
        raw_lane_open(&servers[i], rep, true);
        raw_lane_open(&raw_lanes[i], req, false);
        nng_ctx_recv(servers[i].ctx, servers[i].aio);
    }

    gy_bus *bus;
    gyre_error err;
    struct gy_bus_options options = {.listen = "127.0.0.1:0", .cluster_key = key, .node = "bench", .on_request = on_request};
    gy_peer *peer;
    must(gy_bus_open(&bus, &options, &err) == GYRE_OK && gy_peer_new(&peer, bus, gy_bus_address(bus), NULL, NULL, &err) == GYRE_OK,
         "cannot open the bus");
    for (int i = 0; i < LANES; i++)
        bus_lanes[i].peer = peer;

    printf("compiler %s, glibc %s, one process, loopback tcp\n", __VERSION__, gnu_get_libc_version());
    static const size_t SIZES[] = {200, 40960};
    static const int DEPTHS[] = {1, 8, 64};
    for (size_t s = 0; s < 2; s++) {
        answer_bytes = SIZES[s];
        printf("%d B -> %zu B\n", REQUEST_BYTES, answer_bytes);
        for (size_t d = 0; d < 3; d++) {
            run("nng alone (ceiling)", DEPTHS[d], seconds, raw_start);
            run("bus, sealed", DEPTHS[d], seconds, bus_start);
            if (DEPTHS[d] == 1)
                run_waiting(peer, seconds);
        }
    }
    gy_peer_free(peer);
    gy_bus_close(bus);
    nng_close(req);
    nng_close(rep);
    free(samples);
    free(bytes);
    return 0;
}
