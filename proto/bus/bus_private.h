/* bus_private: what the files of the bus share.
 *
 * Locks, in this order: bus->mu, then peer->mu or server->mu, then a connection's own, then nng's. nng never calls back from
 * inside a function we call. No lock is held while on_request, on_reply or on_state runs. */
#ifndef GYRE_BUS_PRIVATE_H
#define GYRE_BUS_PRIVATE_H

#include "gyre/bus.h"
#include "session.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    GY_PEER_OUTSTANDING_MAX = 1024,
    GY_BUS_CALLERS_MAX = 1024, /* connections a node accepts */
};

typedef struct gy_server gy_server;

struct gy_bus {
    struct gy_bus_keys keys;
    struct gy_self self;
    char node[GY_NODE_NAME_BYTES_MAX + 1];
    size_t message_bytes_max;
    gy_server *server; /* NULL: only calls others */

    pthread_t keeper; /* everything that happens because time has passed: expiry, redialling, giving up */
    pthread_mutex_t mu;
    pthread_cond_t cond;
    gy_peer *peers; /* guarded by mu, as are their prev, next and kept */
    bool poked;     /* guarded by mu */
    bool closing;   /* guarded by mu */
    _Atomic int64_t wakes_ns; /* when the keeper looks again; GY_NEVER while it is looking */
};

/* gy_bus_open with another protocol version than GY_BUS_VERSION: lets a test be a node of the future. */
GYRE_CHECKED gyre_status gy_bus_open_version(gy_bus **out, const struct gy_bus_options *options, uint16_t version,
                                             gyre_error *err);

/* Something will be due at at_ns: the keeper looks at everything by then. Takes bus->mu only if it would sleep longer. */
void gy_bus_due(gy_bus *bus, int64_t at_ns);

/* The longest frame with a body of message_bytes, or with a sentence. */
size_t gy_bus_frame_bytes_max(uint64_t message_bytes);

/* True if something is due at now_ns; else lowers *next_ns to when it will be. Then gy_peer_care does it, on the keeper. */
bool gy_peer_is_due(gy_peer *peer, int64_t now_ns, int64_t *next_ns);
void gy_peer_care(gy_peer *peer);
gy_peer *gy_peer_next(gy_peer *peer);        /* under bus->mu */
void gy_peer_keep(gy_peer *peer, bool kept); /* under bus->mu: gy_peer_free waits while it is */
/* How often the watchdog dialled this peer anew. */
uint64_t gy_peer_redials(gy_peer *peer);

GYRE_CHECKED gyre_status gy_server_open(gy_server **out, gy_bus *bus, const struct gy_bus_options *options, gyre_error *err);
/* Closes connections that never said who they are or stopped reading; lowers *next_ns to when to look again. */
void gy_server_care(gy_server *server, int64_t now_ns, int64_t *next_ns);
/* Answers new requests GYRE_UNAVAILABLE and waits until those taken are answered and written. NULL is fine, as below. */
void gy_server_drain(gy_server *server);
void gy_server_close(gy_server *server);
const char *gy_server_address(const gy_server *server);

#endif
