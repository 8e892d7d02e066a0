/* What is under way belongs to the waiter and to every callback that is still to come: the last of them frees it, so that a
 * waiter may leave. Answers are unpacked without the lock, on the bus's threads. */
#include "routing/ask.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct asked {
    pthread_mutex_t mu;
    pthread_cond_t all_in;
    size_t waited_for; /* guarded by mu, as is all below: calls without an answer */
    size_t holders;
    bool left;         /* the waiter is gone, and its calls with it */
    struct part {
        struct asked *asked;
        struct gy_gather_call *call;
        gy_peer *peer; /* alive as long as a callback is to come */
        const ProtobufCMessageDescriptor *reply_type;
        bool answered;
    } parts[];
};

static struct asked *asked_new(struct gy_gather_call *calls, size_t count)
{
    struct asked *asked = calloc(1, sizeof *asked + count * sizeof *asked->parts);
    if (!asked)
        return NULL;
    pthread_mutex_init(&asked->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&asked->all_in, &monotonic);
    pthread_condattr_destroy(&monotonic);
    asked->waited_for = count;
    asked->holders = count + 1;
    for (size_t i = 0; i < count; i++)
        asked->parts[i] = (struct part){asked, &calls[i], calls[i].peer, calls[i].reply_type, false};
    return asked;
}

/* Unlocks, and frees what nobody holds any more. */
static void let_go(struct asked *asked)
{
    bool last = --asked->holders == 0;
    pthread_mutex_unlock(&asked->mu);
    if (!last)
        return;
    pthread_cond_destroy(&asked->all_in);
    pthread_mutex_destroy(&asked->mu);
    free(asked);
}

static void on_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct part *part = arg;
    struct asked *asked = part->asked;
    void *reply = NULL;
    gyre_error why = {0};
    if (status == GYRE_OK)
        status = gy_wire_unpack(&reply, part->reply_type, body, bytes, &why);
    else
        why = *err;
    const char *address = gy_peer_address(part->peer);
    if (status != GYRE_OK && !strstr(why.text, address))
        gyre_wrap(&why, status, "%s", address);
    pthread_mutex_lock(&asked->mu);
    if (!asked->left) {
        part->call->status = status;
        part->call->err = why;
        part->call->reply = reply;
        part->answered = true;
        reply = NULL;
        if (--asked->waited_for == 0)
            pthread_cond_signal(&asked->all_in);
    }
    let_go(asked);
    gy_wire_free(reply);
}

/* Packs and sends; what cannot be packed is answered here. */
static void send(struct part *part, int64_t deadline_ns)
{
    gy_bytes packed = {0};
    gyre_error err = {0};
    gyre_status status = gy_wire_pack(&packed, part->call->request, GY_BUS_MESSAGE_BYTES_MAX, &err);
    if (status == GYRE_OK)
        gy_peer_call(part->peer, part->call->type, packed.data, packed.size, deadline_ns, on_reply, part);
    else
        on_reply(part, status, &err, NULL, 0);
    gy_bytes_free(&packed);
}

/* Waits a turn at most; under mu. */
static void await_turn(struct asked *asked)
{
    int64_t until_ns = gy_now_ns() + GY_ASK_TURN_NS;
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    int code = 0;
    while (asked->waited_for > 0 && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&asked->all_in, &asked->mu, &until);
}

void gy_ask(struct gy_gather_call *calls, size_t count, int64_t deadline_ns, bool (*cancelled)(void *arg), void *arg)
{
    struct asked *asked = cancelled && count ? asked_new(calls, count) : NULL;
    if (!asked) { /* out of memory: rather answers that come late than none */
        gy_gather(calls, count, deadline_ns);
        return;
    }
    for (size_t i = 0; i < count; i++)
        send(&asked->parts[i], deadline_ns);
    bool over = false;
    pthread_mutex_lock(&asked->mu);
    while (asked->waited_for > 0 && !over) {
        await_turn(asked);
        pthread_mutex_unlock(&asked->mu);
        over = cancelled(arg);
        pthread_mutex_lock(&asked->mu);
    }
    asked->left = true;
    for (size_t i = 0; i < count; i++)
        if (!asked->parts[i].answered) {
            calls[i].reply = NULL;
            calls[i].status =
                gyre_fail(&calls[i].err, GYRE_CANCELLED, "cancelled before %s answered", gy_peer_address(calls[i].peer));
        }
    let_go(asked);
}
