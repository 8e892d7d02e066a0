/* Scatter and gather: many calls at once and one wait for all of them. Replies are unpacked where they arrive, on the bus's
 * threads, so that the waiting thread wakes once, to finished messages. */
#include "gyre/bus.h"

#include <semaphore.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct gather {
    atomic_size_t left;
    sem_t done;
};

struct part {
    struct gather *gather;
    struct gy_gather_call *call;
};

static void part_done(struct part *part)
{
    struct gather *gather = part->gather;
    if (atomic_fetch_sub(&gather->left, 1) == 1)
        sem_post(&gather->done); /* last touch: the waiter's stack frame may go */
}

/* Every sentence names the peer; those of the bus do already. */
static void name_peer(struct gy_gather_call *call)
{
    const char *address = gy_peer_address(call->peer);
    if (call->status != GYRE_OK && !strstr(call->err.text, address))
        gyre_wrap(&call->err, call->status, "%s", address);
}

static void on_part(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct part *part = arg;
    struct gy_gather_call *call = part->call;
    call->status = status;
    if (status == GYRE_OK)
        call->status = gy_wire_unpack(&call->reply, call->reply_type, body, bytes, &call->err);
    else
        call->err = *err;
    name_peer(call);
    part_done(part);
}

void gy_gather(struct gy_gather_call *calls, size_t count, int64_t deadline_ns)
{
    struct part few[16], *parts = count <= 16 ? few : calloc(count, sizeof *parts);
    struct gather gather;
    atomic_init(&gather.left, count + 1); /* one for us, so that it ends when all are sent */
    sem_init(&gather.done, 0, 0);
    for (size_t i = 0; i < count; i++) {
        struct gy_gather_call *call = &calls[i];
        gy_bytes packed = {0};
        call->reply = NULL;
        call->err.text[0] = '\0';
        call->status = parts ? gy_wire_pack(&packed, call->request, GY_BUS_MESSAGE_BYTES_MAX, &call->err)
                             : gyre_fail(&call->err, GYRE_NO_MEMORY, "gathering from %zu peers", count);
        if (call->status != GYRE_OK) {
            name_peer(call);
            atomic_fetch_sub(&gather.left, 1);
            continue;
        }
        parts[i] = (struct part){.gather = &gather, .call = call};
        gy_peer_call(call->peer, call->type, packed.data, packed.size, deadline_ns, on_part, &parts[i]);
        gy_bytes_free(&packed);
    }
    if (atomic_fetch_sub(&gather.left, 1) != 1)
        while (sem_wait(&gather.done) != 0 && errno == EINTR)
            ;
    sem_destroy(&gather.done);
    if (parts != few)
        free(parts);
}

gyre_status gy_call(gy_peer *peer, uint16_t type, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply_type,
                    void *reply, int64_t deadline_ns, gyre_error *err)
{
    struct gy_gather_call call = {.peer = peer, .type = type, .request = request, .reply_type = reply_type};
    gy_gather(&call, 1, deadline_ns);
    if (call.status == GYRE_OK)
        *(void **)reply = call.reply;
    else if (err)
        *err = call.err;
    return call.status;
}
