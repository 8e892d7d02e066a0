/* conn: one connection that carries frames both ways, over an nng stream; conn.c and door.c alone use nng.
 *
 * Why streams and not nng's REQ/REP sockets: in libnng 1.5.2 a REQ/REP connection that is closed between the head and the
 * body of a message is never reaped (its tcp transport starts the second read on a stopped aio, which ends silently), and
 * the one thread that reaps for the whole process waits for it for ever. A node frozen for a second hit this every time. On
 * a stream the two aios are ours: none is stopped while it may be used, none started after the stream is closed.
 *
 * Threads  one frame at a time is handed to on_frame, on an nng thread; no lock is held during an event. */
#ifndef GYRE_BUS_CONN_H
#define GYRE_BUS_CONN_H

#include "frame.h"

struct nng_stream; /* what door.h gives */

typedef struct gy_conn gy_conn;

/* A frame to send: born with its length, filled at data, then given to gy_conn_send. */
struct gy_out {
    struct gy_out *next;
    size_t bytes;
    bool answers; /* ends one frame that on_frame took on */
    uint8_t data[];
};
struct gy_out *gy_out_new(size_t bytes); /* NULL: no memory. Free with free. */

struct gy_conn_events {
    /* A frame has come whole; data may be changed and is valid during the call. If whole is not NULL the frame is alone in
     * its malloc block, which the event may keep by setting *whole to NULL. True: the frame will be answered by a gy_out that
     * answers (or by gy_conn_answered_not); with pending_max of them open the connection reads no further. */
    bool (*on_frame)(void *owner, const struct gy_frame *frame, uint8_t *data, uint8_t **whole);
    /* What came is no frame (frame->version is set if it is another version's); nothing is read after it, and the
     * connection closes when what was sent is written. */
    void (*on_bad_frame)(void *owner, const struct gy_frame *frame, gyre_status status, const gyre_error *err);
    /* count frames that were taken on are answered: written or, on a closed connection, dropped. */
    void (*on_answered)(void *owner, size_t count);
    /* The last event (but for on_answered of frames still held): the connection is closed and quiet. */
    void (*on_closed)(void *owner);
};

/* On success takes stream over; on failure frees it too. bytes_max limits frames; start small and raise it when the other
 * side is known. The caller holds a reference. */
GYRE_CHECKED gyre_status gy_conn_new(gy_conn **out, struct nng_stream *stream, const struct gy_conn_events *events, void *owner,
                                     uint16_t version, size_t pending_max, size_t bytes_max, gyre_error *err);
void gy_conn_start(gy_conn *conn); /* events come from here on */
void gy_conn_raise(gy_conn *conn, size_t bytes_max); /* only within on_frame */
/* Takes out over. On a closed connection it is dropped. */
void gy_conn_send(gy_conn *conn, struct gy_out *out);
/* A frame taken on will not be answered. */
void gy_conn_answered_not(gy_conn *conn);
/* Closes once everything sent so far is written; takes no more. */
void gy_conn_finish(gy_conn *conn);
void gy_conn_close(gy_conn *conn); /* at once; as often as you like */
/* When the write under way began; GY_NEVER if there is none. */
int64_t gy_conn_writing_since_ns(gy_conn *conn);
gy_conn *gy_conn_ref(gy_conn *conn);
void gy_conn_unref(gy_conn *conn); /* NULL is fine */

#endif
