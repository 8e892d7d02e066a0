/* state: what a shard's log means: the applied state of a replica, as a map of a few keys, the requests it remembers, and the
 * hashes it owns.
 *
 * A key keeps who wrote it last, also when it was deleted: so every state of a key is unique, and a history of its reads can be
 * checked fast. The digest is kept from entry to entry; the deep check makes it anew. */
#ifndef GY_SIM_STATE_H
#define GY_SIM_STATE_H

#include "plant.h"

#include "gyre/shard_config.h"

#include <stdbool.h>
#include <stdint.h>

enum { GY_SIM_KEYS = 6, GY_SIM_CLIENTS_MAX = 8, GY_SIM_WINDOW = 64 };

typedef enum gy_sim_entry_kind {
    GY_SIM_ENTRY_WRITE,
    GY_SIM_ENTRY_NARROW, /* owned becomes owned ∩ range; what is cut off becomes shard `child` */
    GY_SIM_ENTRY_FORGET, /* takes the key out, if it is not owned; GY_SIM_KEYS: none. Content becomes owned */
} gy_sim_entry_kind;

struct gy_sim_entry {
    uint64_t epoch;
    union {
        uint32_t request, child;
    };
    uint8_t client, key;
    bool deletes;
    uint8_t kind;
    struct gy_hash_range range;
};

/* Hashes of keys stand evenly: a shard of several is split between them. */
static inline uint64_t gy_sim_key_hash(uint32_t key) { return UINT64_MAX / GY_SIM_KEYS * key + UINT64_MAX / GY_SIM_KEYS / 2; }

/* Names a write: unique among all of a run. */
static inline uint64_t gy_sim_value(uint8_t client, uint32_t request) { return (uint64_t)(client + 1) << 32 | request; }

struct gy_sim_cell {
    uint64_t value; /* of the last write; 0: never written */
    uint64_t seq;
    bool present;
};

/* What a request was answered when it was applied first. */
struct gy_sim_result {
    uint32_t request;
    uint32_t seq;
    bool existed; /* the key was there before */
    bool aborted; /* it had no effect: the key was not owned */
};

struct gy_sim_state {
    uint64_t seq, digest;
    struct gy_hash_range owned, content; /* content: what is there whole */
    struct gy_sim_cell cells[GY_SIM_KEYS];
    struct gy_sim_result results[GY_SIM_CLIENTS_MAX][GY_SIM_WINDOW]; /* by request modulo the window */
};

struct gy_sim_result gy_sim_state_apply(struct gy_sim_state *state, const struct gy_sim_entry *entry, gy_sim_plant plant);
/* What a member makes of its own state before the next entry, a narrowing, is applied: the shard of what it cuts off. */
void gy_sim_state_split(struct gy_sim_state *child, const struct gy_sim_state *state, const struct gy_sim_entry *narrowing,
                        gy_sim_plant plant);
static inline bool gy_sim_state_owns(const struct gy_sim_state *state, uint32_t key)
{
    return gy_range_has(state->owned, gy_sim_key_hash(key));
}
/* A key that is there and not owned; GY_SIM_KEYS: none. */
uint32_t gy_sim_state_foreign(const struct gy_sim_state *state);
/* The digest, made anew from what is there. */
uint64_t gy_sim_state_digest(const struct gy_sim_state *state);

#endif
