/* What goes to the other members and to the coordinator, and what comes back. A call's answer arrives on a thread of the bus and
 * becomes an input of the replica's thread. */
#include "replica/pack.h"
#include "replica/state.h"

#include "gyre/log.h"
#include "gyre/wire.h"

#include <inttypes.h>
#include <stdlib.h>

#define SEND_DEADLINE_NS (1 * GY_SECOND_NS)
#define ASK_DEADLINE_NS (2 * GY_SECOND_NS)

/* ---- calls ---- */

/* The input its answer becomes is there from the start, so that no answer is lost for want of memory. */
struct call {
    struct gy_input input; /* first: freed as one */
    gy_replica *replica;
};

static struct call *call_begin(gy_replica *replica, enum gy_input_kind kind, uint32_t member)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        replica->unsent = true;
        return NULL;
    }
    *call = (struct call){.input = {.kind = kind, .member = member, .failed = true}, .replica = replica};
    pthread_mutex_lock(&replica->mu);
    replica->under_way++;
    pthread_mutex_unlock(&replica->mu);
    return call;
}

/* The replica may be gone as soon as its last call has ended. */
static void call_end(struct call *call)
{
    gy_replica *replica = call->replica;
    pthread_mutex_lock(&replica->mu);
    bool ended = replica->ended;
    if (!ended)
        gy_input_queue_push(&replica->inputs, &call->input);
    replica->under_way--;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    if (ended)
        gy_input_free(&call->input);
}

static gyre_status read_append_reply(struct gy_append_reply *out, const uint8_t *body, size_t bytes, gyre_error *err)
{
    Gyre__Node__AppendReply *message;
    GY_TRY(gy_wire_unpack(&message, &gyre__node__append_reply__descriptor, body, bytes, err));
    gyre_status status = GYRE_OK;
    if (message->result < GY_APPEND_OK || message->result > GY_APPEND_AHEAD)
        status = gyre_fail(err, GYRE_INVALID, "append reply: result is %u", message->result);
    else
        *out = (struct gy_append_reply){
            .result = (gy_append_result)message->result,
            .epoch = message->epoch,
            .synced = message->synced,
            .last_epoch = message->last_epoch,
            .last_seq = message->last_seq,
            .committed = message->committed,
            .sent_ns = message->sent_ns,
        };
    gy_wire_free(message);
    return status;
}

static void on_append_reply(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct call *call = arg;
    gyre_error why;
    if (status == GYRE_OK)
        status = read_append_reply(&call->input.reply, body, bytes, &why);
    else
        why = *err;
    call->input.failed = status != GYRE_OK;
    if (status != GYRE_OK)
        gy_log(GY_LOG_DEBUG, "append_not_answered", "path=%s member=%u error=%s", call->replica->path, call->input.member,
               why.text);
    call_end(call);
}

static gyre_status read_asked(struct gy_shard_config *out, const uint8_t *body, size_t bytes, gyre_error *err)
{
    Gyre__Node__ShardConfig *message;
    GY_TRY(gy_wire_unpack(&message, &gyre__node__shard_config__descriptor, body, bytes, err));
    gyre_status status = gy_shard_config_read(out, message, err);
    gy_wire_free(message);
    return status;
}

static void on_asked(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct call *call = arg;
    gyre_error why;
    if (status == GYRE_OK)
        status = read_asked(&call->input.config, body, bytes, &why);
    else
        why = *err;
    call->input.failed = status != GYRE_OK;
    if (status != GYRE_OK)
        gy_log(GY_LOG_WARN, "in_sync_not_changed", "path=%s error=%s", call->replica->path, why.text);
    call_end(call);
}

/* The replica is about to be replaced, or goes on as it is. */
static void call_end_restore(void *arg, bool restored)
{
    struct call *call = arg;
    if (!restored) {
        call_end(call);
        return;
    }
    gy_replica *replica = call->replica;
    pthread_mutex_lock(&replica->mu);
    replica->under_way--;
    pthread_cond_broadcast(&replica->changed);
    pthread_mutex_unlock(&replica->mu);
    gy_input_free(&call->input);
}

/* ---- appends ---- */

void gy_replica_send(gy_replica *replica, const struct gy_replica_action *action)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    const struct gy_member *to = gy_config_member(&replica->core.config, action->member);
    const struct gy_append *append = &action->append;
    Gyre__Node__Append message = GYRE__NODE__APPEND__INIT;
    struct gy_config_message config;
    struct gy_packed packed;
    struct call *call = call_begin(replica, GY_INPUT_APPEND_REPLY, action->member);
    if (!call)
        return;
    gyre_error err = {0};
    bool codes = to->kind == GY_MEMBER_QUANTIZED;
    gyre_status status =
        gy_pack(replica->store, codes ? replica->points : NULL, append->prev_seq + 1, action->upto, &packed, &err);
    message.collection_id = identity->collection_id, message.shard = identity->shard;
    message.epoch = append->epoch, message.from = append->from, message.to = action->member;
    message.prev_epoch = append->prev_epoch, message.prev_seq = append->prev_seq;
    message.committed = append->committed, message.last = append->last;
    message.sent_ns = append->sent_ns, message.restore = append->restore;
    message.entries = packed.entries, message.n_entries = packed.count;
    message.codebook_version = packed.codebook_version;
    if (action->with_config) {
        gy_config_message_init(&config, &replica->core.config);
        message.config = &config.base;
    }
    const struct gy_replica_transport *transport = replica->limits.transport;
    if (status == GYRE_OK && !transport)
        status = gyre_fail(&err, GYRE_UNAVAILABLE, "this node reaches no other");
    if (status == GYRE_OK)
        transport->call(transport->self, to->node, GYRE__NODE__MESSAGE_TYPE__APPEND, &message.base,
                        gy_now_ns() + SEND_DEADLINE_NS, on_append_reply, call);
    else
        on_append_reply(call, status, &err, NULL, 0);
    gy_packed_fini(&packed);
}

void gy_replica_ask(gy_replica *replica, const struct gy_replica_action *action)
{
    const struct gy_store_identity *identity = gy_store_identity(replica->store);
    const struct gy_replica_transport *transport = replica->limits.transport;
    Gyre__Node__ChangeInSync message = GYRE__NODE__CHANGE_IN_SYNC__INIT;
    message.collection_id = identity->collection_id, message.shard = identity->shard;
    message.epoch = action->epoch, message.from = replica->member;
    message.in_sync = (uint32_t *)(uintptr_t)action->in_sync.ids, message.n_in_sync = action->in_sync.count;
    struct call *call = call_begin(replica, GY_INPUT_ASKED, 0);
    if (!call)
        return;
    gyre_error err;
    if (transport)
        transport->ask(transport->self, GYRE__NODE__MESSAGE_TYPE__CHANGE_IN_SYNC, &message.base, gy_now_ns() + ASK_DEADLINE_NS,
                       on_asked, call);
    else
        on_asked(call, gyre_fail(&err, GYRE_UNAVAILABLE, "this node reaches no coordinator"), &err, NULL, 0);
}

void gy_replica_restore(gy_replica *replica)
{
    const struct gy_replica_transport *transport = replica->limits.transport;
    const struct gy_member *primary = gy_config_member(&replica->core.config, replica->core.config.primary);
    struct call *call = call_begin(replica, GY_INPUT_NOT_RESTORED, 0);
    if (!call)
        return;
    atomic_store(&replica->restoring, true);
    if (transport)
        transport->restore(transport->self, replica, primary->node, call_end_restore, call);
    else
        call_end_restore(call, false);
}
