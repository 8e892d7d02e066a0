/* Reading: one aio reads into a buffer of BUFFER_BYTES; frames are handed out where they lie. A frame larger than the buffer
 * is read straight into a block of its own, allocated only after its length has been checked.
 * Writing: frames queue up. Whoever queues one writes up to IOV_MAX_FRAMES of them at once, with an aio that has no callback and is
 * cancelled if the socket has no room at the moment: nearly every write is over then, without another thread. What the socket has no
 * room for is written by an aio with a callback; frames that come meanwhile leave together.
 *
 * Rules that keep nng 1.5's streams safe: an operation starts only under conn->mu and only if the stream is not closed; the
 * first operation that fails closes the stream, which ends the other; aios are reaped, never freed, because this may be
 * their callback. */
#include "conn.h"

#include "gyre/clock.h"

#include <assert.h>
#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    BUFFER_BYTES = 64 << 10,
    BUFFER_BYTES_FIRST = 1 << 10, /* until the other side is known */
    IOV_MAX_FRAMES = 8,           /* nng takes no more */
};

struct gy_conn {
    atomic_uint refs;
    nng_stream *stream;
    nng_aio *rx, *tx;
    nng_aio *tx_now; /* without a callback: used and over under mu */
    const struct gy_conn_events *events;
    void *owner;
    uint16_t version;
    size_t pending_max;

    /* Of the reading thread: whoever runs `read_on`, one at a time. */
    size_t bytes_max;
    uint8_t *buffer;
    size_t buffer_bytes, from, to; /* what was read and not yet handed out */
    uint8_t *large;                /* the frame being read that does not fit the buffer */
    size_t large_at;
    struct gy_frame large_frame;

    pthread_mutex_t mu;
    /* guarded by mu: */
    bool closed, finishing;
    bool reading; /* a read is under way or its bytes are being handed out, or reading is paused */
    bool paused;
    bool writing;
    bool told;        /* on_closed has been or is being called */
    unsigned telling; /* on_answered is being called */
    int64_t pending; /* may be -1 for a moment: answered before hand_out has counted it */
    struct gy_out *out_head, *out_tail;
    size_t out_at; /* bytes of out_head that are written */
    int64_t writing_since_ns;
};

struct gy_out *gy_out_new(size_t bytes)
{
    struct gy_out *out = malloc(sizeof *out + bytes);
    if (out)
        *out = (struct gy_out){.bytes = bytes};
    return out;
}

gy_conn *gy_conn_ref(gy_conn *conn)
{
    atomic_fetch_add(&conn->refs, 1);
    return conn;
}

void gy_conn_unref(gy_conn *conn)
{
    if (!conn || atomic_fetch_sub(&conn->refs, 1) != 1)
        return;
    nng_aio_reap(conn->rx);
    nng_aio_reap(conn->tx);
    nng_aio_reap(conn->tx_now);
    nng_stream_free(conn->stream);
    free(conn->buffer);
    free(conn->large);
    pthread_mutex_destroy(&conn->mu);
    free(conn);
}

/* Cuts the queue off; returns it. Under mu, not while writing. */
static struct gy_out *drop_queue(gy_conn *conn)
{
    struct gy_out *head = conn->out_head;
    conn->out_head = conn->out_tail = NULL;
    conn->out_at = 0;
    return head;
}

static void free_outs(struct gy_out *out)
{
    for (struct gy_out *next; out; out = next) {
        next = out->next;
        free(out);
    }
}

/* What a section under mu leaves to be done after it. */
struct after {
    struct gy_out *gone; /* frames that were written or dropped */
    size_t answered;     /* frames taken on that are over, besides those in gone */
};

static void read_on(gy_conn *conn);

/* True once, when nothing more will happen. Under mu. */
static bool is_over(gy_conn *conn)
{
    bool over = conn->closed && !conn->reading && !conn->writing && conn->telling == 0 && !conn->told;
    conn->told |= over;
    return over;
}

/* Ends a section under mu: settles what follows from the state, unlocks, and tells. */
static void leave(gy_conn *conn, struct after after)
{
    if (conn->closed && !conn->writing && conn->out_head) {
        struct gy_out **last = &after.gone;
        while (*last)
            last = &(*last)->next;
        *last = drop_queue(conn);
    }
    for (struct gy_out *out = after.gone; out; out = out->next)
        after.answered += out->answers;
    conn->pending -= (int64_t)after.answered;
    bool resume = false;
    if (conn->paused && (conn->closed || conn->pending < (int64_t)conn->pending_max)) {
        conn->paused = false;
        conn->reading = resume = !conn->closed;
    }
    bool answered = after.answered > 0;
    conn->telling += answered; /* on_closed comes after on_answered has returned */
    bool over = is_over(conn);
    pthread_mutex_unlock(&conn->mu);
    free_outs(after.gone);
    if (answered) {
        conn->events->on_answered(conn->owner, after.answered);
        pthread_mutex_lock(&conn->mu);
        conn->telling--;
        over |= is_over(conn);
        pthread_mutex_unlock(&conn->mu);
    }
    if (resume)
        read_on(conn);
    if (over)
        conn->events->on_closed(conn->owner);
}

static void close_stream(gy_conn *conn) /* under mu */
{
    if (!conn->closed) {
        conn->closed = true;
        nng_stream_close(conn->stream);
    }
}

/* Hands the head of the queue to an aio and starts it. Under mu. */
static void write_with(gy_conn *conn, nng_aio *aio)
{
    nng_iov iov[IOV_MAX_FRAMES];
    unsigned count = 0;
    for (struct gy_out *out = conn->out_head; out && count < IOV_MAX_FRAMES; out = out->next, count++) {
        size_t at = count == 0 ? conn->out_at : 0;
        iov[count] = (nng_iov){.iov_buf = out->data + at, .iov_len = out->bytes - at};
    }
    int rv = nng_aio_set_iov(aio, count, iov);
    assert(rv == 0);
    nng_stream_send(conn->stream, aio);
}

/* Takes what was written off the queue. Under mu. */
static void written(gy_conn *conn, size_t bytes, struct after *after)
{
    conn->out_at += bytes;
    while (conn->out_head && conn->out_at >= conn->out_head->bytes) {
        struct gy_out *out = conn->out_head;
        conn->out_at -= out->bytes;
        conn->out_head = out->next;
        out->next = after->gone;
        after->gone = out;
    }
    if (!conn->out_head)
        conn->out_tail = NULL;
}

/* Writes what the socket takes now, and starts a write of the rest. Under mu; only if not writing and not closed. */
static void write_on(gy_conn *conn, struct after *after)
{
    while (conn->out_head) {
        write_with(conn, conn->tx_now);
        nng_aio_abort(conn->tx_now, NNG_EAGAIN); /* does nothing to a write that is over */
        nng_aio_wait(conn->tx_now);
        int rv = nng_aio_result(conn->tx_now);
        if (rv == NNG_EAGAIN) {
            conn->writing = true;
            conn->writing_since_ns = gy_now_ns();
            write_with(conn, conn->tx);
            return;
        }
        if (rv != 0) {
            close_stream(conn);
            return;
        }
        written(conn, nng_aio_count(conn->tx_now), after);
    }
    if (conn->finishing)
        close_stream(conn);
}

static void on_written(void *arg)
{
    gy_conn *conn = gy_conn_ref(arg); /* on_closed may drop the owner's */
    struct after after = {0};
    pthread_mutex_lock(&conn->mu);
    conn->writing = false;
    if (nng_aio_result(conn->tx) != 0)
        close_stream(conn);
    else
        written(conn, nng_aio_count(conn->tx), &after);
    if (!conn->closed)
        write_on(conn, &after);
    leave(conn, after);
    gy_conn_unref(conn);
}

void gy_conn_send(gy_conn *conn, struct gy_out *out)
{
    struct after after = {0};
    pthread_mutex_lock(&conn->mu);
    if (conn->closed || conn->finishing) {
        after.gone = out;
    } else {
        if (conn->out_tail)
            conn->out_tail->next = out;
        else
            conn->out_head = out;
        conn->out_tail = out;
        if (!conn->writing)
            write_on(conn, &after);
    }
    leave(conn, after);
}

void gy_conn_answered_not(gy_conn *conn)
{
    pthread_mutex_lock(&conn->mu);
    leave(conn, (struct after){.answered = 1});
}

void gy_conn_finish(gy_conn *conn)
{
    pthread_mutex_lock(&conn->mu);
    conn->finishing = true;
    if (!conn->writing)
        close_stream(conn);
    leave(conn, (struct after){0});
}

void gy_conn_close(gy_conn *conn)
{
    pthread_mutex_lock(&conn->mu);
    close_stream(conn);
    leave(conn, (struct after){0});
}

int64_t gy_conn_writing_since_ns(gy_conn *conn)
{
    pthread_mutex_lock(&conn->mu);
    int64_t since_ns = conn->writing ? conn->writing_since_ns : GY_NEVER;
    pthread_mutex_unlock(&conn->mu);
    return since_ns;
}

enum next { READ_MORE, STOP_FULL, STOP_BAD };

/* Hands one frame out. */
static enum next hand_out(gy_conn *conn, const struct gy_frame *frame, uint8_t *data, uint8_t **whole)
{
    bool taken = conn->events->on_frame(conn->owner, frame, data, whole);
    pthread_mutex_lock(&conn->mu);
    conn->pending += taken;
    bool full = conn->closed || conn->finishing || (taken && conn->pending >= (int64_t)conn->pending_max);
    pthread_mutex_unlock(&conn->mu);
    return full ? STOP_FULL : READ_MORE;
}

static enum next bad_frame(gy_conn *conn, const struct gy_frame *frame, gyre_status status, const gyre_error *err)
{
    conn->events->on_bad_frame(conn->owner, frame, status, err);
    return STOP_BAD;
}

/* Hands out every frame that has come whole, unless told to stop. */
static enum next hand_out_all(gy_conn *conn)
{
    enum next next = READ_MORE;
    if (conn->large) {
        if (conn->large_at < conn->large_frame.bytes)
            return READ_MORE;
        uint8_t *large = conn->large;
        conn->large = NULL;
        next = hand_out(conn, &conn->large_frame, large, &large);
        free(large);
    }
    while (next == READ_MORE && conn->to - conn->from >= GY_FRAME_HEAD_BYTES) {
        struct gy_frame frame = {0};
        gyre_error err;
        uint8_t *data = conn->buffer + conn->from;
        gyre_status status = gy_frame_decode(&frame, data, conn->version, conn->bytes_max, &err);
        if (status != GYRE_OK)
            return bad_frame(conn, &frame, status, &err);
        size_t have = conn->to - conn->from;
        if (have < frame.bytes && frame.bytes > conn->buffer_bytes) {
            conn->large = malloc(frame.bytes);
            if (!conn->large) {
                status = gyre_fail(&err, GYRE_NO_MEMORY, "frame of %u bytes", frame.bytes);
                return bad_frame(conn, &frame, status, &err);
            }
            memcpy(conn->large, data, have);
            conn->large_at = have;
            conn->large_frame = frame;
            conn->from = conn->to = 0;
        }
        if (have < frame.bytes)
            break;
        conn->from += frame.bytes; /* first: a pause resumes behind it */
        next = hand_out(conn, &frame, data, NULL);
    }
    if (next == READ_MORE && conn->from > 0) {
        memmove(conn->buffer, conn->buffer + conn->from, conn->to - conn->from);
        conn->to -= conn->from;
        conn->from = 0;
    }
    return next;
}

/* A buffer that fits what may come now. False if there is no memory for it. */
static bool grow_buffer(gy_conn *conn)
{
    if (conn->buffer_bytes >= BUFFER_BYTES || conn->bytes_max <= conn->buffer_bytes)
        return true;
    uint8_t *grown = realloc(conn->buffer, BUFFER_BYTES);
    if (!grown)
        return false;
    conn->buffer = grown;
    conn->buffer_bytes = BUFFER_BYTES;
    return true;
}

/* Hands out what has come and starts the next read, or stops reading. Runs on one thread at a time: conn->reading. */
static void read_on(gy_conn *conn)
{
    enum next next;
    bool again;
    do {
        next = hand_out_all(conn);
        if (next == READ_MORE && !grow_buffer(conn))
            next = STOP_BAD;
        pthread_mutex_lock(&conn->mu);
        again = next == STOP_FULL && !conn->closed && !conn->finishing && conn->pending < (int64_t)conn->pending_max;
        if (again) /* answered meanwhile */
            pthread_mutex_unlock(&conn->mu);
    } while (again);
    if (next == STOP_BAD) {
        conn->finishing = true;
        if (!conn->writing)
            close_stream(conn);
    }
    if (conn->closed || conn->finishing) {
        conn->reading = false;
    } else if (next == STOP_FULL) {
        conn->paused = true;
    } else {
        nng_iov iov = {.iov_buf = conn->buffer + conn->to, .iov_len = conn->buffer_bytes - conn->to};
        if (conn->large)
            iov = (nng_iov){.iov_buf = conn->large + conn->large_at, .iov_len = conn->large_frame.bytes - conn->large_at};
        int rv = nng_aio_set_iov(conn->rx, 1, &iov);
        assert(rv == 0);
        nng_stream_recv(conn->stream, conn->rx);
    }
    leave(conn, (struct after){0});
}

static void on_read(void *arg)
{
    gy_conn *conn = gy_conn_ref(arg);
    if (nng_aio_result(conn->rx) == 0) {
        size_t count = nng_aio_count(conn->rx);
        if (conn->large)
            conn->large_at += count;
        else
            conn->to += count;
        read_on(conn);
    } else {
        pthread_mutex_lock(&conn->mu);
        close_stream(conn);
        conn->reading = false;
        leave(conn, (struct after){0});
    }
    gy_conn_unref(conn);
}

gyre_status gy_conn_new(gy_conn **out, struct nng_stream *stream, const struct gy_conn_events *events, void *owner, uint16_t version,
                        size_t pending_max, size_t bytes_max, gyre_error *err)
{
    gy_conn *conn = calloc(1, sizeof *conn);
    uint8_t *buffer = malloc(BUFFER_BYTES_FIRST);
    if (conn && buffer && nng_aio_alloc(&conn->rx, on_read, conn) == 0 && nng_aio_alloc(&conn->tx, on_written, conn) == 0 &&
        nng_aio_alloc(&conn->tx_now, NULL, NULL) == 0) {
        atomic_init(&conn->refs, 1);
        conn->stream = stream;
        conn->events = events;
        conn->owner = owner;
        conn->version = version;
        conn->pending_max = pending_max;
        conn->bytes_max = bytes_max;
        conn->buffer = buffer;
        conn->buffer_bytes = BUFFER_BYTES_FIRST;
        pthread_mutex_init(&conn->mu, NULL);
        *out = conn;
        return GYRE_OK;
    }
    if (conn) {
        nng_aio_free(conn->rx);
        nng_aio_free(conn->tx);
    }
    free(buffer);
    free(conn);
    nng_stream_free(stream);
    return gyre_fail(err, GYRE_NO_MEMORY, "connection");
}

void gy_conn_start(gy_conn *conn)
{
    gy_conn_ref(conn);
    pthread_mutex_lock(&conn->mu);
    bool start = !conn->closed;
    conn->reading = start;
    pthread_mutex_unlock(&conn->mu);
    if (start)
        read_on(conn);
    gy_conn_unref(conn);
}

void gy_conn_raise(gy_conn *conn, size_t bytes_max)
{
    conn->bytes_max = bytes_max;
}
