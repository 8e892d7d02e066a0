/* sessions: the sessions a node has opened to its callers: bounded, least recently used out first, forgotten when idle.
 *
 * A session waits apart until its first genuine request: replayed hellos, which anyone on the path can send, push out
 * only each other and never a session in use.
 * Threads  call from anywhere; one mutex, held for table work only (never while sealing) */
#ifndef GYRE_BUS_SESSIONS_H
#define GYRE_BUS_SESSIONS_H

#include "session.h"

enum {
    GY_REPLAY_COUNTERS = 4096,     /* a caller has 1024 calls under way at most; those sealed first may be sent late */
    GY_SESSIONS_MAX = 4096,        /* about 800 bytes each */
    GY_SESSIONS_UNPROVEN_MAX = 512,
    GY_SESSION_IDLE_S = 600,
};

/* Which counters have been let through: the highest, and a bit for each of the GY_REPLAY_COUNTERS up to it. Pure. */
struct gy_replay_window {
    uint64_t top;
    uint64_t bits[GY_REPLAY_COUNTERS / 64];
};
/* True once per counter; false for 0, for one seen before and for one too old to tell. */
GYRE_CHECKED bool gy_replay_accept(struct gy_replay_window *window, uint64_t counter);

typedef struct gy_sessions gy_sessions;

/* What a request needs of its session, copied out. Wipe the keys. */
struct gy_session {
    struct gy_session_keys keys;
    uint64_t message_bytes_max; /* what the caller accepts */
    char node[GY_NODE_NAME_BYTES_MAX + 1];
};

GYRE_CHECKED gyre_status gy_sessions_new(gy_sessions **out, gyre_error *err);
void gy_sessions_free(gy_sessions *sessions);
GYRE_CHECKED gyre_status gy_sessions_add(gy_sessions *sessions, uint64_t id, const struct gy_session *session,
                                         int64_t now_ns, gyre_error *err);
/* False if there is none, or it has been idle too long. */
GYRE_CHECKED bool gy_sessions_find(gy_sessions *sessions, uint64_t id, int64_t now_ns, struct gy_session *out);
/* Lets the counter of a request whose seal was right through, once; the session is proven and most recently used. */
GYRE_CHECKED bool gy_sessions_accept(gy_sessions *sessions, uint64_t id, uint64_t counter, int64_t now_ns);

#endif
