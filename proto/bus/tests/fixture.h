/* What the bus's tests share: a node that does simple things, a call that waits, and a watched peer state. */
#ifndef GYRE_BUS_FIXTURE_H
#define GYRE_BUS_FIXTURE_H

#include "bus_private.h"

#include <semaphore.h>

/* What the node does with a request of this type. */
enum {
    FX_ECHO = 1,  /* answers the body */
    FX_FAIL = 2,  /* body: u32 status, then the sentence to fail with */
    FX_BIG = 3,   /* body: u32; answers that many bytes of 'b' */
    FX_HOLD = 4,  /* answers (the body) when fx_node_release is called */
    FX_MARK = 5,  /* counts, answers nothing */
    FX_COUNT = 6, /* answers the u32 count of FX_MARK */
    FX_WHO = 7,   /* answers the sender's name */
};

enum { FX_HELD_MAX = GY_PEER_OUTSTANDING_MAX };

/* Patience with what must come: only a real failure waits it out. */
enum { FX_SOON_MS = 60000 };
#define FX_SOON_NS (FX_SOON_MS * GY_MILLISECOND_NS)

struct fx_node {
    gy_bus *bus;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    gy_bus_request *held[FX_HELD_MAX];
    size_t held_count;
    bool holds_nothing; /* FX_HOLD is FX_ECHO from now on */
    uint32_t marks;
};

/* options->listen, on_request and self are filled in; key is 32 times key_byte unless options has one. */
void fx_node_open(struct fx_node *node, const char *listen, const char *name, uint8_t key_byte, size_t message_bytes_max,
                  uint16_t version);
void fx_node_wait_held(struct fx_node *node, size_t count);
size_t fx_node_held(struct fx_node *node);
void fx_node_release(struct fx_node *node);
void fx_node_hold_nothing(struct fx_node *node); /* releases, now and as they come */
void fx_node_close(struct fx_node *node);

/* A bus that only calls. */
gy_bus *fx_caller_open(uint8_t key_byte, size_t message_bytes_max, uint16_t version);

struct fx_reply {
    sem_t done;
    gyre_status status;
    gyre_error err;
    uint8_t *body; /* malloc */
    size_t bytes;
    int64_t took_ns;
    int64_t started_ns;
};
void fx_start(struct fx_reply *reply, gy_peer *peer, uint16_t type, const void *body, size_t bytes, int64_t wait_ms);
void fx_wait(struct fx_reply *reply); /* for the answer */
void fx_call(struct fx_reply *reply, gy_peer *peer, uint16_t type, const void *body, size_t bytes, int64_t wait_ms);
void fx_reply_free(struct fx_reply *reply);

struct fx_state {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool up;
    unsigned changes;
};
void fx_state_init(struct fx_state *state);
void fx_on_state(void *state, bool up);
/* False if the state did not come within FX_SOON_NS. */
bool fx_wait_state(struct fx_state *state, bool up);

/* Writes a loopback address at which nobody listens and nobody else will, until the descriptor it returns is closed: a port that
 * a test gives up and wants again may have gone to another program meanwhile. Nodes of ours can listen there. */
int fx_reserve(char address[64]);

gy_peer *fx_peer(gy_bus *bus, const char *address, struct fx_state *state);

#endif
