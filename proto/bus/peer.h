/* peer: one node we call, its calls, and the link (socket, connection, session) they travel on. Private to the bus.
 *
 * Locks, in this order: bus->mu, peer->mu, lane->mu, then nng's own. nng never calls us back from inside a function we call,
 * so starting an operation under a lane's mutex is safe. No lock is held while on_reply or on_state runs. */
#ifndef GYRE_BUS_PEER_H
#define GYRE_BUS_PEER_H

#include "bus_private.h"

#include <stdatomic.h>

typedef struct gy_link gy_link;

/* One request until on_reply has run. Belongs to one thread at a time: the caller, the waiting list, a lane's callback. */
struct gy_bus_call {
    gy_peer *peer;
    nng_msg *msg; /* room for the head, inner head, then the body in plain; NULL once nng has it */
    uint64_t id;
    uint16_t type;
    bool resent; /* a session that the peer did not know has been replaced once already */
    int64_t started_ns, deadline_ns;
    gy_on_reply *on_reply;
    void *arg;
    struct gy_session_keys keys; /* of the session it was sealed for */
    uint64_t session, counter;
    struct gy_bus_call *prev, *next; /* in peer->waiting */
};

/* A context and its aio: carries one call, or the handshake, at a time. */
struct gy_lane {
    gy_link *link;
    nng_ctx ctx;
    nng_aio *aio;
    pthread_mutex_t mu;
    bool stopped;                                        /* guarded by mu: no operation may start any more */
    bool sending;                                        /* guarded by mu: a send is with nng */
    struct gy_bus_call *call;                            /* of whoever holds the lane */
    struct gy_lane *next_free, *next;                    /* guarded by peer->mu */
};

/* One socket with its dialer. A peer has one; the watchdog replaces it whole. Everything but lanes' insides and `connected`
 * (also read under lane->mu) is guarded by peer->mu. */
struct gy_link {
    gy_peer *peer;
    nng_socket socket;
    bool closing;
    int pipe_id, removed_pipe_id; /* of the connection; 0 is none */
    atomic_bool connected;
    size_t lanes_out;             /* lanes taken, the handshake's included */
    struct gy_lane *lanes, *lanes_free;

    enum { GY_LINK_STRANGER, GY_LINK_GREETING, GY_LINK_KNOWN } acquaintance;
    bool greet_again;             /* the connection changed while greeting */
    struct gy_lane hello;
    struct gy_handshake handshake; /* of whoever greets */
    struct gy_session_keys keys;   /* when known, as what follows */
    uint64_t session, counter;
    uint64_t message_bytes_max;
    /* Our clock plus this is the peer's: the largest (its clock when it answered - ours on arrival) of this minute and the
     * one before. So a deadline reaches the peer early by the way back at most, and follows clocks that drift apart. */
    int64_t offset_ns, offset_before_ns, offset_since_ns;
};

struct gy_peer {
    gy_bus *bus;
    char *address;
    void (*on_state)(void *self, bool up);
    void *self;
    gy_peer *prev, *next; /* guarded by bus->mu */
    bool kept;            /* guarded by bus->mu: the keeper is at work here */

    pthread_mutex_t mu;
    pthread_cond_t cond; /* lanes_out, outstanding or telling went down */
    gy_link *link;       /* guarded by mu, as is what follows */
    struct gy_bus_call *waiting; /* for a connection and a session; oldest first */
    size_t outstanding;          /* calls whose on_reply has not returned */
    uint64_t call_count;
    uint32_t timeouts; /* in a row */
    bool redial, closed, up, told_up, telling;
    int64_t down_ns; /* since when there is no connection */
    uint64_t redials;
};

/* link.c */
GYRE_CHECKED gyre_status gy_link_open(gy_link **out, gy_peer *peer, gyre_error *err);
/* Ends every operation (their calls fail), waits for their callbacks, closes the socket, frees. Blocks: never on an nng
 * thread, never under a lock. */
void gy_link_close(gy_link *link);
/* A lane, or NULL if there is no memory or the link is closing. Under peer->mu. */
struct gy_lane *gy_lane_take(gy_link *link);
/* Gives it back; its callback must not touch it afterwards. Under peer->mu. */
void gy_lane_give(struct gy_lane *lane);
/* Start an operation; false if the lane was stopped or (sending) the connection is gone: msg is then still the caller's. */
GYRE_CHECKED bool gy_lane_send(struct gy_lane *lane, nng_msg *msg, int64_t deadline_ns);
GYRE_CHECKED bool gy_lane_receive(struct gy_lane *lane, int64_t deadline_ns);
/* Marks the link as greeting; the caller then calls gy_link_greet without the lock. Under peer->mu. */
void gy_link_greeting(gy_link *link);
void gy_link_greet(gy_link *link);
void gy_link_note_clock(gy_link *link, int64_t their_clock_ns, int64_t now_ns); /* under peer->mu */
int64_t gy_link_deadline_there(const gy_link *link, int64_t deadline_ns);       /* under peer->mu */

/* peer.c */
void gy_call_on_lane(void *lane); /* the aio callback of every lane but the handshake's */
void gy_peer_connected(gy_link *link);    /* the session is there: waiting calls go. Not under a lock */
void gy_peer_disconnected(gy_link *link); /* the connection is gone */
/* The handshake failed: with hard, waiting calls fail with err now; else they go on waiting. */
void gy_peer_greet_failed(gy_link *link, bool hard, bool timed_out, const gyre_error *err);

#endif
