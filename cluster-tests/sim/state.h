/* state: what a shard's log means: the applied state of a replica, as a map of a few keys and the requests it remembers.
 *
 * A key keeps who wrote it last, also when it was deleted: so every state of a key is unique, and a history of its reads can be
 * checked fast. The digest is kept from entry to entry; the deep check makes it anew. */
#ifndef GY_SIM_STATE_H
#define GY_SIM_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum { GY_SIM_KEYS = 6, GY_SIM_CLIENTS_MAX = 8, GY_SIM_WINDOW = 64 };

struct gy_sim_entry {
    uint64_t epoch;
    uint32_t request;
    uint8_t client, key;
    bool deletes;
};

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
};

struct gy_sim_state {
    uint64_t seq, digest;
    struct gy_sim_cell cells[GY_SIM_KEYS];
    struct gy_sim_result results[GY_SIM_CLIENTS_MAX][GY_SIM_WINDOW]; /* by request modulo the window */
};

struct gy_sim_result gy_sim_state_apply(struct gy_sim_state *state, const struct gy_sim_entry *entry, bool forget_requests);
/* The digest, made anew from what is there. */
uint64_t gy_sim_state_digest(const struct gy_sim_state *state);

#endif
