/* bus_private: what the files of the bus share. The house's only folder that knows nng. */
#ifndef GYRE_BUS_PRIVATE_H
#define GYRE_BUS_PRIVATE_H

#include "gyre/bus.h"
#include "session.h"

#include <nng/nng.h>
#include <pthread.h>

enum {
    GY_PEER_OUTSTANDING_MAX = 1024,
    GY_BUS_OVERHEAD_BYTES = 1024, /* of a frame beyond its body, nng's header included */
};

typedef struct gy_server gy_server;

struct gy_bus {
    struct gy_bus_keys keys;
    struct gy_self self;
    char node[GY_NODE_NAME_BYTES_MAX + 1];
    size_t message_bytes_max;
    gy_server *server; /* NULL: only calls others */

    pthread_t keeper; /* expires waiting calls and dials peers anew; both may block, which no callback may */
    pthread_mutex_t mu;
    pthread_cond_t cond;
    gy_peer *peers; /* guarded by mu, as are their prev, next and kept */
    bool poked;     /* guarded by mu */
    bool closing;   /* guarded by mu */
};

/* gy_bus_open with another protocol version than GY_BUS_VERSION: lets a test be a node of the future. */
GYRE_CHECKED gyre_status gy_bus_open_version(gy_bus **out, const struct gy_bus_options *options, uint16_t version,
                                             gyre_error *err);

/* Makes the keeper look at every peer again, soon. Takes bus->mu. */
void gy_bus_poke(gy_bus *bus);

/* True if the peer needs the keeper now; else lowers *next_ns to when it will. Takes the peer's mutex. */
bool gy_peer_needs_care(gy_peer *peer, int64_t now_ns, int64_t *next_ns);
/* Expires calls that wait for a connection, dials anew if the watchdog asked for it. On the keeper. */
void gy_peer_care(gy_peer *peer);
/* How often the watchdog dialled this peer anew. */
uint64_t gy_peer_redials(gy_peer *peer);

GYRE_CHECKED gyre_status gy_server_open(gy_server **out, gy_bus *bus, const struct gy_bus_options *options, gyre_error *err);
void gy_server_close(gy_server *server); /* NULL is fine */
const char *gy_server_address(const gy_server *server);

/* "tcp://" and a host:port into url. GYRE_INVALID if it is none. */
enum { GY_BUS_URL_BYTES = 300 };
GYRE_CHECKED gyre_status gy_bus_url(char url[GY_BUS_URL_BYTES], const char *address, gyre_error *err);

/* An nng failure as ours: "what: reason". */
gyre_status gy_bus_fail(gyre_error *err, int rv, const char *what);

/* Milliseconds until a deadline for nng: at least 1, rounded up, infinite for GY_NEVER. */
nng_duration gy_bus_wait_ms(int64_t deadline_ns, int64_t now_ns);

#endif
