/* server: what a node answers: requests come in, are handed to the pool that fits them, and are answered once.
 *
 * Four pools, so that slow work never holds up other work: admin (create, drop, sum, sample), write (decode and check; the
 * replica's own thread does the rest), read (points by id, exact distances), scan. Each has a bounded queue: a full one answers
 * GYRE_EXHAUSTED at once. Scans wait in a line a collection, which take turns (turns.h).
 * Threads  any */
#ifndef GY_SERVER_SERVER_H
#define GY_SERVER_SERVER_H

#include "server/node.h"

#include "gyre/bus.h"
#include "gyre/metrics.h"

typedef struct gy_server gy_server;

struct gy_server_options {
    gy_node *node;             /* borrowed */
    gy_metrics *metrics;       /* borrowed */
    size_t scan_threads;       /* 1… */
    size_t scan_queue;         /* scans that may wait, 1… */
    size_t message_bytes_max;  /* of a reply */
    struct gy_scrubs *scrubs;  /* borrowed (scrub.h); NULL: a request for one is refused */
};

GYRE_CHECKED gyre_status gy_server_new(gy_server **out, const struct gy_server_options *options, gyre_error *err);
/* Every request must have been answered (gy_bus_close waits for that). NULL is fine. */
void gy_server_free(gy_server *server);

/* The bus's on_request, with the server as self. */
void gy_server_on_request(void *server, gy_bus_request *request);

/* The same for a request that came some other way: a test, a fuzzer. body is copied. answer runs exactly once, on any thread. */
typedef void gy_on_answer(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes);
void gy_server_submit(gy_server *server, uint16_t type, const uint8_t *body, size_t bytes, int64_t deadline_ns,
                      gy_on_answer *answer, void *arg);

#endif
