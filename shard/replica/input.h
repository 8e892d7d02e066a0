/* input: what reaches a replica's thread besides writes: appends of a primary, answers of followers and of the coordinator,
 * configurations.
 * Threads  whoever holds one; the queue is not locked */
#ifndef GY_REPLICA_INPUT_H
#define GY_REPLICA_INPUT_H

#include "replica/core.h"

enum gy_input_kind {
    GY_INPUT_APPEND,       /* message, on_answer, arg */
    GY_INPUT_APPEND_REPLY, /* member, failed or reply */
    GY_INPUT_ASKED,        /* failed or config */
    GY_INPUT_CONFIG,       /* config; lent: done and why are for who waits */
    GY_INPUT_NOT_RESTORED, /* being built anew has failed */
};

/* on_answer runs once, on the replica's thread or inside the call that brought the append. */
typedef void gy_on_appended(void *arg, const struct gy_append_reply *reply);

struct gy_input {
    struct gy_input *next;
    enum gy_input_kind kind;
    Gyre__Node__Append *message; /* owned */
    struct gy_append append;
    uint64_t *epochs;            /* [append.count], owned */
    gy_on_appended *on_answer;
    void *arg;
    uint32_t member;
    bool failed;
    struct gy_append_reply reply;
    struct gy_shard_config config;
    bool has_config;
    bool done;
    gy_reply_why why;
};

struct gy_input_queue {
    struct gy_input *first, *last;
    size_t count;
};
void gy_input_queue_push(struct gy_input_queue *queue, struct gy_input *input);
struct gy_input *gy_input_queue_pop(struct gy_input_queue *queue);

/* Takes message, also when it fails; checks that epochs ascend and none is above the message's. GYRE_INVALID names the entry. */
GYRE_CHECKED gyre_status gy_input_append_new(struct gy_input **out, Gyre__Node__Append *message, gy_on_appended *on_answer,
                                             void *arg, gyre_error *err);
/* Answers an append and frees its input. */
void gy_input_answer(struct gy_input *input, const struct gy_append_reply *reply);
void gy_input_free(struct gy_input *input);

#endif
