#include "replica/input.h"

#include "gyre/wire.h"

#include <inttypes.h>
#include <stdlib.h>

void gy_input_queue_push(struct gy_input_queue *queue, struct gy_input *input)
{
    input->next = NULL;
    if (queue->last)
        queue->last->next = input;
    else
        queue->first = input;
    queue->last = input;
    queue->count++;
}

struct gy_input *gy_input_queue_pop(struct gy_input_queue *queue)
{
    struct gy_input *input = queue->first;
    if (!input)
        return NULL;
    queue->first = input->next;
    if (!queue->first)
        queue->last = NULL;
    queue->count--;
    return input;
}

void gy_input_free(struct gy_input *input)
{
    if (!input)
        return;
    gy_wire_free(input->message);
    free(input->epochs);
    free(input);
}

static gyre_status read_append(struct gy_input *input, gyre_error *err)
{
    const Gyre__Node__Append *message = input->message;
    input->append = (struct gy_append){
        .epoch = message->epoch,
        .from = message->from,
        .prev_epoch = message->prev_epoch,
        .prev_seq = message->prev_seq,
        .committed = message->committed,
        .last = message->last,
        .sent_ns = message->sent_ns,
        .restore = message->restore,
        .count = message->n_entries,
    };
    if (message->prev_seq > UINT64_MAX / 2)
        return gyre_fail(err, GYRE_INVALID, "append: prev_seq is %" PRIu64, message->prev_seq);
    if (message->config) {
        GY_TRY(gy_shard_config_read(&input->config, message->config, err));
        input->has_config = true;
    }
    input->epochs = malloc((message->n_entries + 1) * sizeof *input->epochs);
    if (!input->epochs)
        return gyre_fail(err, GYRE_NO_MEMORY, "append of %zu entries", message->n_entries);
    uint64_t before = message->prev_epoch;
    for (size_t i = 0; i < message->n_entries; i++) {
        uint64_t epoch = message->entries[i]->epoch;
        if (epoch == 0 || epoch < before || epoch > message->epoch)
            return gyre_fail(err, GYRE_INVALID, "append: entries[%zu].epoch is %" PRIu64 "; the one before has %" PRIu64
                             ", the append %" PRIu64, i, epoch, before, message->epoch);
        input->epochs[i] = before = epoch;
    }
    input->append.epochs = input->epochs;
    return GYRE_OK;
}

gyre_status gy_input_append_new(struct gy_input **out, Gyre__Node__Append *message, gy_on_appended *on_answer, void *arg,
                                gyre_error *err)
{
    struct gy_input *input = calloc(1, sizeof *input);
    if (!input) {
        gyre_status status = gyre_fail(err, GYRE_NO_MEMORY, "append of %zu entries", message->n_entries);
        gy_wire_free(message);
        return status;
    }
    input->kind = GY_INPUT_APPEND;
    input->message = message;
    input->on_answer = on_answer;
    input->arg = arg;
    gyre_status status = read_append(input, err);
    if (status != GYRE_OK) {
        gy_input_free(input);
        return status;
    }
    *out = input;
    return GYRE_OK;
}

void gy_input_answer(struct gy_input *input, const struct gy_append_reply *reply)
{
    input->on_answer(input->arg, reply);
    gy_input_free(input);
}
