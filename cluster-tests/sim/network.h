/* network: messages between endpoints: late, lost, doubled, out of order; whole directions cut. */
#ifndef GY_SIM_NETWORK_H
#define GY_SIM_NETWORK_H

#include "node.h"
#include "state.h"

#include "replica/core.h"

typedef enum gy_sim_kind {
    GY_SIM_APPEND,
    GY_SIM_APPEND_REPLY,
    GY_SIM_SNAPSHOT,
    GY_SIM_SNAPSHOT_REPLY,
    GY_SIM_REPORT,
    GY_SIM_ENSURE,
    GY_SIM_DROP,
    GY_SIM_CHANGE, /* of the in-sync set */
    GY_SIM_CHANGE_REPLY,
    GY_SIM_ROUTE,  /* a client asks for the shards there are */
    GY_SIM_ROUTE_REPLY,
    GY_SIM_WRITE,
    GY_SIM_WRITE_REPLY,
    GY_SIM_READ,
    GY_SIM_READ_REPLY,
    GY_SIM_CALL_FAILED, /* the other side cannot take the call */
} gy_sim_kind;

/* What a node says of a replica. */
struct gy_sim_status {
    bool held, waiting, lost, restoring, serves;
    uint32_t member;
    uint64_t epoch, log_seq, applied_seq;
    struct gy_hash_range owned;
};

struct gy_sim_message {
    gy_sim_kind kind;
    uint8_t from, to;
    uint32_t shard;
    uint64_t call;                         /* of the asking side; comes back */
    uint32_t member;                       /* of the receiver's side when asked */
    uint32_t sender;                       /* member */
    const struct gy_shard_config *config;  /* NULL, or of the catalog's history */
    union {
        struct gy_append append;
        struct gy_append_reply append_reply;
        struct {
            uint64_t epoch;
            uint32_t ids[GY_MEMBERS_MAX];
            uint32_t count;
        } change;
        struct {
            uint64_t epoch; /* of the sender's view */
            int64_t until_ns; /* the sender waits no longer: it must not be logged any more */
            struct gy_sim_entry entry;
        } write;
        struct {
            gy_reply_why why;
            uint64_t seq; /* of the entry in the log */
            bool aborted; /* the key is not of this shard any more */
            struct gy_sim_result result;
        } write_reply;
        struct {
            uint8_t key;
            bool linearizable;
            uint64_t seq_min;
            struct gy_hash_range range; /* of the shard in the sender's view */
        } read;
        struct {
            bool ok;
            uint64_t seq; /* of the state */
            struct gy_sim_cell cell;
        } read_reply;
        struct {
            uint64_t epoch; /* of the entry it ends with */
        } snapshot;
        const struct gy_shard_config *view[GY_SIM_SHARDS_MAX]; /* NULL: is not shown */
        bool create;
    };
    size_t count;
    union { /* in the block behind the message */
        struct gy_sim_entry entries[1];
        struct gy_sim_state state[1];
        struct gy_sim_status statuses[1]; /* [count] by shard */
    } tail;
};

/* A message with room for so many entries, zeroed but for its tail. */
struct gy_sim_message *gy_sim_message_new(gy_sim_kind kind, uint8_t from, uint8_t to, uint32_t shard, size_t entries);
/* One with room for what a node says of so many shards. */
struct gy_sim_message *gy_sim_message_with_statuses(uint8_t from, uint8_t to, size_t statuses);
/* One with room for a state. */
struct gy_sim_message *gy_sim_message_with_state(gy_sim_kind kind, uint8_t from, uint8_t to, uint32_t shard);
/* An answer to a message. */
struct gy_sim_message *gy_sim_message_reply(gy_sim_kind kind, const struct gy_sim_message *to);
/* Hands it to the network; takes it. extra_ns: what the transfer takes besides. */
void gy_sim_send(struct gy_sim *sim, struct gy_sim_message *message, int64_t extra_ns);

#endif
