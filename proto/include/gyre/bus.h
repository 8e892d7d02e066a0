/* bus: request and reply between the nodes of one cluster, many outstanding, each with a deadline, sealed.
 *
 * One nng tcp stream per peer, never a blind resend. Every frame is authenticated and encrypted: a handshake (ephemeral
 * crypto_kx keys, both hellos authenticated by the cluster key) gives each connection its own session keys, then
 * XChaCha20-Poly1305 with a counter nonce and a replay window. A peer with another cluster key or protocol version is
 * refused with a sentence that says so.
 * Deadlines travel as the receiver's own monotonic time (the handshake measures the offset), so wall clocks may differ;
 * a request that is late when it arrives is answered GYRE_DEADLINE without being worked on.
 * Bytes    proto/bus/README.md          Threads  every function may be called from any thread */
#ifndef GYRE_BUS_H
#define GYRE_BUS_H

#include "gyre/clock.h"
#include "gyre/wire.h"

enum { GY_BUS_KEY_BYTES = 32, GY_BUS_MESSAGE_BYTES_MAX = 256 << 20 };

typedef struct gy_bus gy_bus;
typedef struct gy_peer gy_peer;
typedef struct gy_bus_request gy_bus_request; /* one that arrived, until it is answered */

struct gy_bus_options {
    const char *listen;                    /* "127.0.0.1:7701", port 0 for any; NULL: only call others */
    const uint8_t *cluster_key;            /* [GY_BUS_KEY_BYTES], copied */
    const char *node;                      /* this node's name, told to peers; at most 64 bytes */
    size_t message_bytes_max;              /* both ways; 0 means GY_BUS_MESSAGE_BYTES_MAX */
    uint32_t requests_max;                 /* taken from one connection and not answered yet; 0 means 256 */
    /* Called for each request on an nng thread: must hand over and return at once. Answer exactly once, from any thread,
     * with gy_bus_answer. May be NULL when listen is NULL. */
    void (*on_request)(void *self, gy_bus_request *request);
    void *self;
};

GYRE_CHECKED gyre_status gy_bus_open(gy_bus **out, const struct gy_bus_options *options, gyre_error *err);
/* Answers new requests GYRE_UNAVAILABLE, waits until every request that was handed over is answered and the answer written
 * (or its caller gone), then stops listening, closes every connection and frees. Every peer must have been freed before, so no
 * call of ours is outstanding. Never from a callback. NULL is fine. */
void gy_bus_close(gy_bus *bus);
/* "127.0.0.1:41234": where it listens, with the port the system chose; "" if it does not listen. */
const char *gy_bus_address(const gy_bus *bus);

uint16_t gy_bus_request_type(const gy_bus_request *request);
const uint8_t *gy_bus_request_body(const gy_bus_request *request, size_t *bytes); /* valid until answered */
int64_t gy_bus_request_deadline_ns(const gy_bus_request *request);                /* this process's monotonic clock */
const char *gy_bus_request_node(const gy_bus_request *request);                   /* the sender's name, authenticated */
/* Whether the connection it came by is closed, so that nobody waits for the answer: work may be left undone. It is still to be answered. */
bool gy_bus_request_abandoned(const gy_bus_request *request);
/* Answers and frees the request. With GYRE_OK body is sent (copied before return), else status and err->text. */
void gy_bus_answer(gy_bus_request *request, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes);

/* A peer by address. Dialling goes on in the background until freed; a peer whose last GY_PEER_TIMEOUTS_MAX calls all timed
 * out is dialled anew. on_state (may be NULL) runs on a bus thread on every connect and disconnect and must not block. */
enum { GY_PEER_TIMEOUTS_MAX = 8 };
GYRE_CHECKED gyre_status gy_peer_new(gy_peer **out, gy_bus *bus, const char *address, void (*on_state)(void *self, bool up),
                                     void *self, gyre_error *err);
/* Fails outstanding calls with GYRE_UNAVAILABLE, waits for their callbacks (so never from one). NULL is fine. */
void gy_peer_free(gy_peer *peer);
bool gy_peer_up(const gy_peer *peer);
const char *gy_peer_address(const gy_peer *peer);

/* Sends a request. on_reply runs exactly once, on a bus thread or (when it fails at once) inside this call: with GYRE_OK and
 * the reply's bytes (valid during the callback), with the status the peer answered, GYRE_DEADLINE, GYRE_UNAVAILABLE (no
 * connection within the deadline or cut while waiting: the work may have been done), GYRE_UNAUTHENTICATED (keys differ) or
 * GYRE_PRECONDITION (protocol versions differ). A peer that is known to be down fails after at most GY_PEER_DOWN_WAIT_NS, not
 * at the deadline; a new one is known to be down when its first dial or greeting has failed. body is copied before return. */
#define GY_PEER_DOWN_WAIT_NS (500 * GY_MILLISECOND_NS)
typedef void gy_on_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes);
void gy_peer_call(gy_peer *peer, uint16_t type, const uint8_t *body, size_t bytes, int64_t deadline_ns, gy_on_reply *on_reply,
                  void *arg);

/* Sends many requests and waits for all of them: the scatter-gather of a coordinator. */
struct gy_gather_call {
    gy_peer *peer;
    uint16_t type;
    const ProtobufCMessage *request;               /* packed here */
    const ProtobufCMessageDescriptor *reply_type;
    gyre_status status;                            /* out */
    gyre_error err;                                /* out, names the peer's address */
    void *reply;                                   /* out: a message of reply_type if status is GYRE_OK; gy_wire_free it */
};
void gy_gather(struct gy_gather_call *calls, size_t count, int64_t deadline_ns);
/* The same for one: returns its status and fills err. */
GYRE_CHECKED gyre_status gy_call(gy_peer *peer, uint16_t type, const ProtobufCMessage *request,
                                 const ProtobufCMessageDescriptor *reply_type, void *reply /* T ** */, int64_t deadline_ns,
                                 gyre_error *err);

#endif
